//! Plays files onto librdkafka's mock cluster, and looks at what arrives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use schemas::Contract;
use thalweg::produce::{
    Ack, DirtKind, Layout, OnAck, Options, Played, Progress, SendOptions, Sender, Sent, Source,
    Speed, play,
};

const CONTRACT: &str = r#"
version = 1
[stream]
name = "s"
tenant = "t"
encoding = "json"
[event]
id = "id"
time = "at"
duplicates_window = 1000
[[fields]]
id = 1
name = "id"
type = "string"
presence = "required"
bytes_max = 40
[[fields]]
id = 2
name = "at"
type = "timestamp"
presence = "required"
[[fields]]
id = 3
name = "n"
type = "float64"
min = 0
max = 100
on_violation = "null"
[[features]]
kind = "number"
of = "n"
[label]
name = "late"
type = "bool"
event = "id"
time = "arrival"
wait_max = "48h"
pending_max = 1000
[learner]
loss = "logistic"
update = "ftrl"
bits = 10
rate = 0.1
[decision]
threshold = 0.5
[lake]
partition = "day"
file_bytes_max = "1MiB"
record_age_max = "10s"
[monitors]
window = 1000
"#;

struct Arrived {
    key: String,
    payload: Vec<u8>,
    partition: i32,
    trace: bool,
}

fn layout() -> Layout {
    Layout {
        id: "id".into(),
        time: "at".into(),
        label: Some("late".into()),
        label_type: schemas::contract::LabelType::Bool,
        label_time: Some("arrival".into()),
        label_time_required: true,
        send_labels: true,
        number_rows: false,
    }
}

/// What was played, its acknowledgements, and what arrived on the raw and on the labels topic.
type Outcome = (Played, Vec<Ack>, Vec<Arrived>, Vec<Arrived>);

fn played(name: &str, file: &str, options: &Options) -> Outcome {
    let acks = Arc::new(Mutex::new(Vec::new()));
    let seen = acks.clone();
    let on_ack = Box::new(move |ack| seen.lock().unwrap().push(ack));
    let (played, raw, labels) = played_with(name, file, options, &Progress::default(), on_ack);
    let acks = acks.lock().unwrap().clone();
    (played, acks, raw, labels)
}

fn played_with(
    name: &str,
    file: &str,
    options: &Options,
    progress: &Progress,
    on_ack: OnAck,
) -> (Played, Vec<Arrived>, Vec<Arrived>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, file).unwrap();
    let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
    for topic in ["s.raw", "s.labels"] {
        cluster.create_topic(topic, 4, 1).unwrap();
    }
    let brokers = cluster.bootstrap_servers();
    let contract = Arc::new(Contract::parse("s.toml", CONTRACT).unwrap());
    let send = SendOptions {
        brokers: brokers.clone(),
        properties: Vec::new(),
    };
    let sender = Sender::connect(&send, "s.raw", "s.labels", on_ack).unwrap();
    let mut source = Source::open(&path, contract.clone(), layout()).unwrap();
    let played = play(&mut source, &contract, &sender, options, progress).unwrap();
    let raw = consume(&brokers, "s.raw", played.raw);
    let labels = consume(&brokers, "s.labels", played.labels);
    (played, raw, labels)
}

fn consume(brokers: &str, topic: &str, count: u64) -> Vec<Arrived> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..4 {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut arrived = Vec::new();
    while (arrived.len() as u64) < count && Instant::now() < deadline {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        arrived.push(Arrived {
            key: String::from_utf8(message.key().unwrap().to_vec()).unwrap(),
            payload: message.payload().unwrap().to_vec(),
            partition: message.partition(),
            trace: message
                .headers()
                .is_some_and(|headers| headers.iter().any(|h| h.key == "traceparent")),
        });
    }
    assert_eq!(arrived.len() as u64, count, "messages on {topic}");
    arrived
}

fn options() -> Options {
    Options {
        speed: Speed::Max,
        dirt: 0.0,
        seed: 1,
        trace_sample: 0,
        events_max: u64::MAX,
    }
}

/// A thousand events, one a second; every third never gets a label.
fn lines(count: u64) -> String {
    let line = |n: u64| {
        let arrival = if n % 3 == 2 {
            "null".to_owned()
        } else {
            format!("{}", 1000 * n + 7_500)
        };
        let late = if n % 3 == 2 {
            "null"
        } else if n.is_multiple_of(2) {
            "true"
        } else {
            "false"
        };
        format!(
            "{{\"id\":\"e{n}\",\"at\":{},\"n\":{n}.5,\"late\":{late},\"arrival\":{arrival}}}\n",
            1000 * n
        )
    };
    (0..count).map(line).collect()
}

#[test]
fn events_and_their_labels_meet_in_one_partition() {
    let (played, acks, raw, labels) = played(
        "e.jsonl",
        &lines(1000),
        &Options {
            trace_sample: 100,
            ..options()
        },
    );
    assert_eq!(
        (played.events, played.raw, played.labels),
        (1000, 1000, 667)
    );
    let partitions: HashMap<&str, i32> =
        raw.iter().map(|m| (m.key.as_str(), m.partition)).collect();
    assert_eq!(partitions.len(), 1000);
    assert!(
        labels
            .iter()
            .all(|label| partitions[label.key.as_str()] == label.partition)
    );
    assert_eq!(raw.iter().filter(|m| m.trace).count(), 10);
    assert_eq!(
        acks.iter()
            .filter(|ack| matches!(ack.sent, Sent::Event(_)))
            .count(),
        1000
    );
    assert_eq!(
        acks.iter()
            .filter(|ack| matches!(ack.sent, Sent::Label(_)))
            .count(),
        667
    );
    let event = raw.iter().find(|m| m.key == "e4").unwrap();
    assert_eq!(event.payload, br#"{"id":"e4","at":4000,"n":4.5}"#);
    let label = labels.iter().find(|m| m.key == "e4").unwrap();
    assert_eq!(
        label.payload,
        br#"{"id":"e4","late":true,"arrival":"1970-01-01T00:00:11.500Z"}"#
    );
}

#[test]
fn csv_plays_like_json() {
    let csv = "id,at,n,late,arrival\ne1,1970-01-01T00:00:00Z,1.5,1,9000\ne2,5000,,0,\n\"e,3\",6000,far,,\n";
    let (played, _, raw, labels) = played("e.csv", csv, &options());
    assert_eq!((played.events, played.labels), (3, 1));
    let mut payloads: Vec<&str> = raw
        .iter()
        .map(|m| std::str::from_utf8(&m.payload).unwrap())
        .collect();
    payloads.sort_unstable();
    let expected = [
        r#"{"id":"e,3","at":6000,"n":"far"}"#,
        r#"{"id":"e1","at":"1970-01-01T00:00:00Z","n":1.5}"#,
        r#"{"id":"e2","at":5000,"n":null}"#,
    ];
    assert_eq!(payloads, expected);
    assert_eq!(labels[0].key, "e1");
}

#[test]
fn dirt_is_counted_to_the_message() {
    let dirty = Options {
        dirt: 0.2,
        ..options()
    };
    let (played, _, raw, _) = played("e.jsonl", &lines(500), &dirty);
    let refused = [
        DirtKind::Truncated,
        DirtKind::WrongType,
        DirtKind::Impossible,
        DirtKind::Duplicate,
        DirtKind::Garbage,
    ];
    let added: u64 = refused.iter().map(|kind| played.dirt(*kind)).sum();
    assert_eq!(played.raw, 500 + added);
    assert!((60..140).contains(&played.dirt.iter().sum::<u64>()));
    let truncated = raw
        .iter()
        .filter(|m| serde_json::from_slice::<serde_json::Value>(&m.payload).is_err());
    let broken = played.dirt(DirtKind::Truncated) + played.dirt(DirtKind::Garbage);
    assert_eq!(truncated.count() as u64, broken);
    let noted = raw
        .iter()
        .filter(|m| m.payload.windows(10).any(|window| window == b"debug_note"));
    assert_eq!(noted.count() as u64, played.dirt(DirtKind::UnknownField));
}

#[test]
fn real_time_is_kept_and_a_stop_is_obeyed() {
    let started = Instant::now();
    let fast = Options {
        speed: Speed::Times(100.0),
        events_max: 20,
        ..options()
    };
    let (first, ..) = played("e.jsonl", &lines(40), &fast);
    assert_eq!((first.events, first.stopped), (20, false));
    assert!(
        Duration::from_millis(190) <= started.elapsed(),
        "19 s at 100 times"
    );

    // At real time these events take a quarter of an hour; the first acknowledgement stops them.
    let progress = Arc::new(Progress::default());
    let seen = progress.clone();
    let stop = Box::new(move |_: Ack| seen.stop.store(true, Ordering::Relaxed));
    let slow = Options {
        speed: Speed::Times(1.0),
        ..options()
    };
    let (stopped, ..) = played_with("e.jsonl", &lines(1000), &slow, &progress, stop);
    assert!(stopped.stopped && stopped.events < 1000);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let contract = Arc::new(Contract::parse("s.toml", CONTRACT).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut source = Source::open(&path, contract.clone(), layout())
            .map_err(|error| format!("{error:#}"))?;
        source
            .next_rows()
            .map_err(|error| format!("{error:#}"))
            .map(|rows| rows.unwrap())
    };
    let check = |name: &str, text: &str, parts: &[&str]| {
        let error = open(name, text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    check(
        "a.csv",
        "id,when\n1,2\n",
        &["a.csv", "no column `at`", "id, when"],
    );
    check(
        "b.jsonl",
        "{\"id\":1}\n\n{\n",
        &["b.jsonl, row 2", "not a JSON object"],
    );
    check("c.parquet", "PAR2", &["c.parquet is not a Parquet file"]);
    check("d.xls", "", &["d.xls", ".parquet, .csv"]);
    check("e.csv", "id,at,arrival\n1,2\n", &["e.csv", "line 2"]);
    let rows = open("f.csv", "id,at,arrival\n1,2,3\n,soon,\n").unwrap();
    assert_eq!(rows.time(0), Ok(2000));
    assert!(
        rows.time(1)
            .unwrap_err()
            .to_string()
            .contains("f.csv, row 2: column `at`")
    );
}
