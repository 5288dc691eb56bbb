//! Crashes: whatever moment a trainer dies at, no version that was published changes, and each event is learned once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "catching up needs more of it")]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use schemas::dead::{About, DeadHeader, Reason};
use schemas::model::{ModelMessage, Update};
use schemas::{Offset, Partition};
use support::{
    MemoryBroker, Run, archive, contract, everything, fill, inputs, learned, model, push_clean,
};
use trainer::TrainerError;
use worker::{Fault, Next, Stage};

const EVENTS: i64 = 120;

async fn uncrashed(folder: &Path, each: i64, batch: usize) -> MemoryBroker {
    let broker = MemoryBroker::new(batch);
    fill(&broker, &contract(), EVENTS, each);
    let mut run = Run::start(&broker, folder).await.unwrap();
    run.take(&broker, batch).await.unwrap();
    run.drain().await.unwrap();
    broker
}

fn check_whole(updates: &[Update]) {
    let root = contract().digest();
    let mut parent = root;
    for (at, update) in updates.iter().enumerate() {
        assert_eq!((update.version.0, update.parent), (at as u64 + 1, parent));
        parent = update.digest();
    }
    let labels = updates.last().map(|update| update.prequential.labels());
    assert_eq!(labels, Some(learned(EVENTS)));
}

/// Copies the checkpoints that were announced in the first messages of the model topic.
fn copy_announced(broker: &MemoryBroker, from: &Path, to: &Path) {
    for batch in broker.batches(&model(), everything(), 1) {
        let record = batch.records().next().unwrap();
        if let Ok(ModelMessage::Snapshot(found)) = ModelMessage::parse(record.value().unwrap()) {
            let target = to.join(&found.object);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(from.join(archive(&found.object)), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_crash_after_any_message_changes_no_version() {
    let folder = tempfile::tempdir().unwrap();
    let whole = uncrashed(folder.path(), 7, 5).await;
    let (versions, messages) = (whole.updates(), whole.len(&model()));
    check_whole(&versions);
    assert!(
        10 < versions.len() && versions.len() + 1 < messages,
        "checkpoints lie between"
    );
    for survived in 0..=messages {
        let broker = whole.fork();
        broker.truncate(&model(), survived);
        let known = broker.updates();
        let place = tempfile::tempdir().unwrap();
        copy_announced(&broker, folder.path(), place.path());
        let mut run = Run::start(&broker, place.path()).await.unwrap();
        assert_eq!(broker.updates(), known, "a replay publishes nothing");
        run.take(&broker, 3).await.unwrap();
        run.drain().await.unwrap();
        let after = broker.updates();
        assert_eq!(after[..known.len()], versions[..known.len()]);
        check_whole(&after);
    }
}

/// The labels that have a letter: partition and offset of each, in the order of the letters.
fn letters(broker: &MemoryBroker) -> Vec<(i32, i64)> {
    let mut found = Vec::new();
    for partition in 0..support::PARTITIONS {
        let dead = ("s.dead", Partition(partition)).into();
        for batch in broker.batches(&dead, everything(), 1) {
            let record = batch.records().next().unwrap();
            let header = DeadHeader::from_headers(record.headers()).unwrap();
            assert_eq!(
                (header.about, header.reason),
                (About::Label(1), Reason::Malformed)
            );
            assert_eq!(record.value(), Some(&b""[..]), "nobody knows what is in it");
            found.push((header.source.partition.0, header.source.offset.0));
        }
    }
    found
}

#[tokio::test]
async fn a_label_that_cannot_be_read_has_one_letter_whatever_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let whole = uncrashed(folder.path(), 7, 5).await;
    let all = letters(&whole);
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), 2 * EVENTS as usize / 10);
    assert_eq!(distinct.len(), all.len());
    for (survived, kept) in [(0, 0), (0, 5), (0, 12), (12, 12), (20, 12)] {
        let broker = whole.fork();
        broker.truncate(&model(), survived);
        if survived == 0 {
            broker.truncate(&("s.dead", Partition(0)).into(), kept);
        }
        let place = tempfile::tempdir().unwrap();
        copy_announced(&broker, folder.path(), place.path());
        let mut run = Run::start(&broker, place.path()).await.unwrap();
        run.take(&broker, 3).await.unwrap();
        run.drain().await.unwrap();
        assert_eq!(letters(&broker), all, "{survived} {kept}");
    }
}

#[tokio::test]
async fn edges_of_batches_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = uncrashed(folder.path(), 7, 5).await;
    for (each, batch) in [(1, 1), (13, 100), (EVENTS, 2)] {
        let broker = MemoryBroker::new(batch);
        fill(&broker, &contract(), EVENTS, each);
        for message in whole.batches(&model(), everything(), 1) {
            let record = message.records().next().unwrap();
            broker.push(&model(), record.value().unwrap(), &[]);
        }
        let place = tempfile::tempdir().unwrap();
        // Every version is made anew from the root, and compared by digest.
        let mut run = Run::start(&broker, place.path()).await.unwrap();
        run.take(&broker, 4).await.unwrap();
        run.drain().await.unwrap();
        check_whole(&broker.updates());
    }
}

#[tokio::test]
async fn a_torn_update_is_sent_again_whole() {
    let folder = tempfile::tempdir().unwrap();
    let broker = uncrashed(folder.path(), 7, 5).await;
    let versions = broker.updates();
    let last = versions.last().unwrap();
    let large = Update {
        version: schemas::ModelVersion(last.version.0 + 1),
        parent: last.digest(),
        weights: vec![(0, 0.0); 100_000],
        ..last.clone()
    };
    broker.push(&model(), &large.to_messages()[0], &[]);
    for partition in 0..support::PARTITIONS {
        push_clean(&broker, &contract(), partition, EVENTS, EVENTS + 9);
    }
    let mut run = Run::start(&broker, folder.path()).await.unwrap();
    run.take(&broker, 3).await.unwrap();
    run.drain().await.unwrap();
    assert_eq!(broker.updates().len(), versions.len() + 1);
}

#[tokio::test]
async fn a_checkpoint_that_is_torn_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let broker = uncrashed(folder.path(), 7, 5).await;
    let stream = folder.path().join("s");
    let mut files: Vec<_> = std::fs::read_dir(&stream)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "the newest few are kept");
    let newest = std::fs::read(&files[2]).unwrap();
    std::fs::write(&files[2], &newest[..newest.len() / 2]).unwrap();
    let known = broker.updates();
    let mut run = Run::start(&broker, folder.path()).await.unwrap();
    run.take(&broker, 3).await.unwrap();
    run.drain().await.unwrap();
    assert_eq!(broker.updates(), known);
}

#[tokio::test]
async fn offsets_are_durable_with_a_checkpoint_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let broker = MemoryBroker::new(5);
    fill(&broker, &contract(), 10, 5);
    let mut run = Run::start(&broker, folder.path()).await.unwrap();
    run.take(&broker, 5).await.unwrap();
    assert_eq!(run.trainer.durable().unwrap(), []);
    run.drain().await.unwrap();
    let durable = run.trainer.durable().unwrap();
    let expected: Vec<_> = inputs()
        .into_iter()
        .map(|of| {
            let end = broker.len(&of) as i64;
            (of, Offset(end))
        })
        .collect();
    assert_eq!(durable, expected);
}

#[tokio::test]
async fn what_a_zombie_repeats_is_dropped_and_a_gap_stops() {
    let folder = tempfile::tempdir().unwrap();
    let broker = MemoryBroker::new(5);
    fill(&broker, &contract(), EVENTS, 7);
    push_clean(&broker, &contract(), 0, EVENTS - 10, EVENTS - 1);
    push_clean(&broker, &contract(), 0, EVENTS - 5, EVENTS + 4);
    let mut run = Run::start(&broker, folder.path()).await.unwrap();
    run.take(&broker, 5).await.unwrap();
    run.drain().await.unwrap();
    check_whole(&broker.updates());
    push_clean(&broker, &contract(), 0, EVENTS + 6, EVENTS + 9);
    let stopped = run.take(&broker, 5).await.unwrap_err();
    assert!(matches!(stopped, TrainerError::Fit { .. }), "{stopped}");
    assert_eq!(stopped.next(), Next::Stop);
}

#[tokio::test]
async fn another_trainer_is_noticed_before_the_next_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let broker = uncrashed(folder.path(), 7, 5).await;
    let mut zombie = Run::start(&broker, folder.path()).await.unwrap();
    let mut successor = Run::start(&broker, folder.path()).await.unwrap();
    push_clean(&broker, &contract(), 0, EVENTS, EVENTS + 9);
    successor.take(&broker, 5).await.unwrap();
    successor.drain().await.unwrap();
    let published = broker.updates();
    push_clean(&broker, &contract(), 0, EVENTS + 10, EVENTS + 19);
    zombie.take(&broker, 5).await.unwrap();
    let overtaken = zombie.drain().await.unwrap_err();
    assert!(
        matches!(overtaken, TrainerError::Overtaken { .. }),
        "{overtaken}"
    );
    assert_eq!(overtaken.next(), Next::Restart);
    // What the zombie wrote does not count: whoever comes next goes on from what came first.
    let mut next = Run::start(&broker, folder.path()).await.unwrap();
    next.take(&broker, 5).await.unwrap();
    next.drain().await.unwrap();
    let after = broker.updates();
    assert_eq!(after[..published.len()], published);
    assert_eq!(
        after.last().unwrap().parent,
        published.last().unwrap().digest()
    );
}

#[tokio::test]
async fn a_tampered_log_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let whole = uncrashed(folder.path(), 7, 5).await;
    let broker = whole.fork();
    let labels = ("s.labels", Partition(0)).into();
    broker.truncate(&labels, 0);
    for batch in whole.batches(&labels, everything(), 1) {
        let record = batch.records().next().unwrap();
        let text = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        let text = if record.offset() == Offset(4) {
            text.replace("true", "0").replace("false", "1")
        } else {
            text
        };
        broker.push(&labels, text.as_bytes(), &[]);
    }
    let place = tempfile::tempdir().unwrap();
    let stopped = Run::start(&broker, place.path()).await.err().unwrap();
    assert!(matches!(stopped, TrainerError::Replay { .. }), "{stopped}");
    assert_eq!(stopped.next(), Next::Stop);
}
