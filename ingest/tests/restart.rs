//! A worker that crashes and comes back says the same as one that never did, wherever its batches end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use schemas::clean::{CleanDecoder, CleanHeader};
use schemas::dead::DeadHeader;
use schemas::{Columns, Contract, Offset, Partition};
use seal::{Keyring, MemoryKeyStore, StreamId, StreamKeys};
use telemetry::{Instruments, Traces};
use worker::{Broker, Lane, Outgoing, Simulated, Stage, Start, TopicPartition};

const EVENTS: usize = 3000;

/// A contract with a short window and a rule on outliers, so that both have to be restored.
fn contract() -> Arc<Contract> {
    let text = r#"
        [stream]
        name = "s"
        [event]
        id = "id"
        time = "at"
        subject = "who"
        duplicates_window = 300
        [[fields]]
        id = 1
        name = "id"
        type = "string"
        presence = "required"
        [[fields]]
        id = 2
        name = "at"
        type = "timestamp"
        presence = "required"
        [[fields]]
        id = 3
        name = "who"
        type = "string"
        privacy = ["seal", "token"]
        [[fields]]
        id = 4
        name = "x"
        type = "float64"
        outlier = { deviations = 3.0, action = "reject" }
    "#;
    Arc::new(Contract::parse("test", text).unwrap())
}

fn keys() -> StreamKeys {
    let store = Arc::new(MemoryKeyStore::new());
    StreamKeys::open_or_create(
        StreamId::new("t", "s").unwrap(),
        Arc::new(Keyring::of([7; 32])),
        store,
    )
    .unwrap()
}

fn partition(topic: &str) -> TopicPartition {
    (topic, Partition(0)).into()
}

/// Appends events with duplicates near and far, outliers and garbage among them.
fn broker() -> Simulated {
    let broker = Simulated::default();
    for topic in ["s.raw", "s.clean", "s.dead"] {
        broker.create(topic, 1);
    }
    for at in 0..EVENTS {
        let id = if at % 7 == 3 { at - 100 % (at + 1) } else { at };
        let x = if at % 50 == 49 {
            1000.0
        } else {
            (at % 13) as f64
        };
        let json = match at % 40 {
            39 => "{\"id\":".to_owned(),
            _ => format!(r#"{{"id":"e{id}","at":{at},"who":"p{}","x":{x}}}"#, at % 17),
        };
        broker
            .append(
                &partition("s.raw"),
                Outgoing {
                    value: json.as_bytes(),
                    ..Outgoing::default()
                },
            )
            .unwrap();
    }
    broker
}

async fn stage(broker: &Simulated, keys: &StreamKeys) -> ingest::Ingester<Simulated> {
    let (nowhere, traces) = (Instruments::nowhere(), Traces::nowhere());
    let built = ingest::Ingester::build(contract(), broker.clone(), keys.clone(), &nowhere, traces);
    built.await.unwrap()
}

/// Runs stages one after another; each takes batches of one size and then crashes, the last one finishes.
async fn run(broker: &Simulated, keys: &StreamKeys, crashes: &[(usize, usize)]) {
    let lives = crashes.iter().copied().chain([(500, usize::MAX)]);
    for (size, batches) in lives {
        let mut stage = stage(broker, keys).await;
        let mut next = match stage.assign(&partition("s.raw")).await.unwrap() {
            Start::At(offset) => offset,
            Start::Committed => Offset(0),
        };
        for _ in 0..batches {
            let Some(batch) = broker.records(&partition("s.raw"), next, size) else {
                break;
            };
            next = batch.last().unwrap().next();
            stage.handle(batch).await.unwrap();
        }
        stage.drain(&[partition("s.raw")]).await.unwrap();
    }
}

/// What readers see: the rows of clean batches by raw offset, and the letters.
async fn seen(broker: &Simulated) -> (BTreeMap<i64, String>, Vec<(i64, String)>) {
    let decoder = CleanDecoder::new(Columns::of(&contract()).schema().clone());
    let mut rows = BTreeMap::new();
    let mut next = 0;
    let clean = broker
        .records(&partition("s.clean"), Offset(0), usize::MAX)
        .unwrap();
    for record in clean.records() {
        let header = CleanHeader::from_headers(record.headers()).unwrap();
        assert_eq!(
            header.first.0, next,
            "batches cover offsets without gap or overlap"
        );
        next = header.last.0 + 1;
        let batch = decoder.decode(record.value().unwrap()).unwrap();
        for row in 0..batch.num_rows() {
            let row = batch.slice(row, 1);
            let offset = row.column(0).as_primitive::<Int64Type>().value(0);
            assert!(
                rows.insert(offset, format!("{row:?}")).is_none(),
                "{offset} is clean twice"
            );
        }
    }
    assert_eq!(next, EVENTS as i64);
    let dead = broker
        .records(&partition("s.dead"), Offset(0), usize::MAX)
        .unwrap();
    let letter = |header: DeadHeader| (header.source.offset.0, header.reason.to_string());
    (
        rows,
        dead.records()
            .map(|record| letter(DeadHeader::from_headers(record.headers()).unwrap()))
            .collect(),
    )
}

#[tokio::test]
async fn crashes_and_batch_edges_change_no_decision() {
    let keys = keys();
    let calm = broker();
    run(&calm, &keys, &[]).await;
    let expected = seen(&calm).await;
    assert_eq!(expected.0.len() + expected.1.len(), EVENTS);
    for reason in ["malformed", "duplicate", "outlier"] {
        assert!(
            expected.1.iter().any(|(_, found)| found == reason),
            "there are letters for {reason}"
        );
    }
    for crashes in [
        vec![(1, 1); 5],
        vec![(7, 30), (64, 3), (333, 2)],
        vec![(1, 700), (1000, 1)],
        vec![(13, 10); 12],
    ] {
        let broken = broker();
        run(&broken, &keys, &crashes).await;
        assert!(
            seen(&broken).await == expected,
            "{crashes:?} changed something"
        );
    }
}

#[tokio::test]
async fn a_crash_between_letters_and_batch_doubles_no_letter() {
    let keys = keys();
    let whole = broker();
    run(&whole, &keys, &[]).await;
    let expected = seen(&whole).await;
    // The letters of the first thousand events were written, and no clean batch.
    let torn = broker();
    let lane = torn.lane(&partition("s.dead")).unwrap();
    let letters = whole
        .records(&partition("s.dead"), Offset(0), usize::MAX)
        .unwrap();
    for letter in letters.records() {
        let header = DeadHeader::from_headers(letter.headers()).unwrap();
        if header.source.offset.0 < 1000 {
            let headers: Vec<(&str, &[u8])> = letter.headers().collect();
            lane.send(Outgoing {
                key: letter.key(),
                value: letter.value().unwrap(),
                headers: &headers,
            })
            .await
            .unwrap();
        }
    }
    run(&torn, &keys, &[]).await;
    assert!(seen(&torn).await == expected);
}
