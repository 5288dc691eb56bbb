//! What an ingest that was replaced writes late: a scorer that begins there knows what came before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use arrow_array::RecordBatch;
use schemas::clean::{CleanEncoder, CleanHeader};
use schemas::{Columns, Contract, Offset, Partition};
use scorer::{ScoreStage, ScorerError};
use telemetry::{Instruments, Traces};
use worker::{Broker, Outgoing, Simulated, Stage, Store, TopicPartition};

const CONTRACT: &str = r#"
[stream]
name = "s"
[event]
id = "id"
time = "at"
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
name = "city"
type = "string"
[[features]]
kind = "category"
of = "city"
"#;

/// Writes clean messages that cover these raw offsets, all of dead events, and lets a scorer begin at one of them.
async fn check(covered: &[(i64, i64)], begins_at: i64, missing: Option<(i64, i64)>) {
    let contract = Contract::parse("s.toml", CONTRACT).unwrap();
    let broker = Simulated::default();
    for topic in ["s.raw", "s.clean", "s.scores", "s.model"] {
        broker.create(topic, 1);
    }
    let topic_id = broker.topic("s.raw").await.unwrap().id;
    let clean: TopicPartition = ("s.clean", Partition(0)).into();
    let empty = RecordBatch::new_empty(Columns::of(&contract).schema().clone());
    let mut value = Vec::new();
    CleanEncoder::default().encode(&empty, &mut value).unwrap();
    for (first, last) in covered {
        let header = CleanHeader {
            topic_id,
            partition: Partition(0),
            first: Offset(*first),
            last: Offset(*last),
            contract: contract.digest(),
            ingest_state: Vec::new(),
        };
        let headers = header.to_headers();
        let headers: Vec<_> = headers.iter().map(|(name, of)| (*name, &**of)).collect();
        let record = Outgoing {
            value: &value,
            headers: &headers,
            ..Outgoing::default()
        };
        broker.append(&clean, record).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().display().to_string()).unwrap();
    let (nowhere, traces) = (Instruments::nowhere(), Traces::nowhere());
    let built = ScoreStage::build(&contract, broker.clone(), &store, &nowhere, traces).await;
    let mut stage = built.unwrap();
    stage.assign(&clean).await.unwrap();
    let messages = broker.records(&clean, Offset(begins_at), usize::MAX);
    let found = match stage.handle(messages.unwrap()).await {
        Err(ScorerError::Gap { first, last, .. }) => Some((first.0, last.0)),
        done => {
            done.unwrap();
            None
        }
    };
    assert_eq!(found, missing, "{covered:?} from {begins_at}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_late_message_is_no_beginning() {
    check(&[(0, 4), (0, 1), (5, 9)], 1, None).await;
    check(&[(0, 4), (5, 9), (0, 1), (2, 3), (10, 11)], 2, None).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_gap_is_seen_wherever_a_scorer_begins() {
    let covered = [(0, 4), (0, 1), (7, 9)];
    for begins_at in 0..3 {
        check(&covered, begins_at, Some((5, 6))).await;
    }
}
