//! Catching up: what waits in the topics comes as fast as it is read, and every label is learned all the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "crashes need more of it")]
mod support;

use std::collections::{HashMap, VecDeque};

use schemas::Offset;
use support::{MemoryBroker, Run, contract, everything, fill, inputs, learned};
use worker::{Batch, Stage, TopicPartition, Watermarks};

/// Many times what may wait: the contract lets 4,096 events wait for their labels.
const EVENTS: i64 = 120_000;

/// Events of a clean message, and labels of a batch.
const EACH: i64 = 500;

/// Trainers that may follow each other.
const STOPS_MAX: usize = 50;

/// Hands everything over, of some partitions first whenever they are not held back, to trainers of which each stops
/// after so many batches; returns how many labels were learned.
async fn rush(first: &str, batches_each: usize) -> u64 {
    let (broker, folder) = (MemoryBroker::new(1), tempfile::tempdir().unwrap());
    fill(&broker, &contract(), EVENTS, EACH);
    let ends = |of: &TopicPartition| Offset(broker.len(of) as i64);
    for _ in 0..STOPS_MAX {
        let mut run = Run::start(&broker, folder.path()).await.unwrap();
        hand_over(&broker, &mut run, first, batches_each).await;
        run.drain().await.unwrap();
        let durable = run.trainer.durable().unwrap();
        if durable.len() == inputs().len() && durable.iter().all(|(of, at)| *at == ends(of)) {
            return broker.updates().last().unwrap().prequential.labels();
        }
    }
    panic!("{STOPS_MAX} trainers did not come to the end");
}

async fn hand_over(broker: &MemoryBroker, run: &mut Run, first: &str, most: usize) {
    let mut queues: HashMap<TopicPartition, VecDeque<Batch>> = HashMap::new();
    for of in inputs() {
        let each = if &*of.topic == "s.clean" {
            1
        } else {
            EACH as usize
        };
        let left = Watermarks {
            low: run.starts(&of),
            ..everything()
        };
        queues.insert(of.clone(), broker.batches(&of, left, each).into());
    }
    let mut order = inputs();
    order.sort_by_key(|of| &*of.topic != first);
    let (mut handed, mut idle) = (0, 0);
    while handed < most && queues.values().any(|queue| !queue.is_empty()) {
        let held = run.trainer.held();
        let mut flowing = order.iter().filter(|of| !held.contains(of));
        match flowing.find_map(|of| queues.get_mut(of)?.pop_front()) {
            Some(batch) => {
                handed += 1;
                run.trainer.handle(batch).await.unwrap();
            }
            None => idle += 1,
        }
        assert!(idle < 1000, "all that is left is held back for ever");
        run.trainer.tick(worker::now()).await.unwrap();
    }
}

#[tokio::test]
async fn events_that_come_first_wait_for_their_labels() {
    assert_eq!(rush("s.clean", usize::MAX).await, learned(EVENTS));
}

#[tokio::test]
async fn labels_that_come_first_wait_for_their_events() {
    assert_eq!(rush("s.labels", usize::MAX).await, learned(EVENTS));
}

#[tokio::test]
async fn a_trainer_that_stops_leaves_to_the_next_what_has_no_room_yet() {
    // All of the clean events come before the first labels.
    assert_eq!(rush("s.clean", 700).await, learned(EVENTS));
}
