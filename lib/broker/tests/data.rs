//! Producing and consuming with librdkafka: what goes in comes out, in order, once, in time and within limits.

#![allow(clippy::unwrap_used)] // helpers of tests fail as they do

mod support;

use std::time::{Duration, Instant};

use broker::Config;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Timestamp, TopicPartitionList};
use support::{PATIENCE, Sandbox, payloads, take, until};

fn code(error: KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}

#[test]
fn every_codec_passes_with_keys_headers_and_times() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        clients.create(codec, 1);
        let sender = clients.sender(&[("compression.codec", codec), ("linger.ms", "50")]);
        let values: Vec<Vec<u8>> = (0..500)
            .map(|n| format!("{n}-{}", "x".repeat(300)).into_bytes())
            .collect();
        for (n, value) in values.iter().enumerate() {
            let key = n.to_string();
            let header = Header {
                key: "traceparent",
                value: Some(&key),
            };
            let record = BaseRecord::<[u8], [u8]>::to(codec)
                .partition(0)
                .key(key.as_bytes())
                .payload(value)
                .timestamp(1_000 + n as i64)
                .headers(OwnedHeaders::new().insert(header));
            sender
                .producer
                .send(record)
                .map_err(|(error, _)| error)
                .unwrap();
        }
        sender.flush();
        let messages = clients.read(codec, 0, 500);
        assert_eq!(payloads(&messages), values, "{codec}");
        for (n, message) in messages.iter().enumerate() {
            let key = n.to_string();
            assert_eq!(message.offset(), n as i64);
            assert_eq!(message.key(), Some(key.as_bytes()));
            assert_eq!(message.timestamp(), Timestamp::CreateTime(1_000 + n as i64));
            let header = message.headers().unwrap().get(0);
            assert_eq!(
                (header.key, header.value),
                ("traceparent", Some(key.as_bytes()))
            );
        }
    }
}

#[test]
fn an_idempotent_producer_and_every_kind_of_acks_work() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("t", 1);
    let mut expected = Vec::new();
    for (n, options) in [
        &[("enable.idempotence", "true")][..],
        &[("acks", "all")],
        &[("acks", "1")],
        &[("acks", "0")],
        &[("enable.idempotence", "true"), ("compression.codec", "lz4")],
    ]
    .iter()
    .enumerate()
    {
        let sender = clients.sender(options);
        for m in 0..100 {
            let value = format!("{n}-{m}").into_bytes();
            let record = BaseRecord::<[u8], [u8]>::to("t")
                .partition(0)
                .payload(&value);
            sender
                .producer
                .send(record)
                .map_err(|(error, _)| error)
                .unwrap();
            expected.push(value);
        }
        sender.flush();
        let reader = clients.reader("t", 0, Offset::Beginning, &[]);
        assert_eq!(payloads(&take(&reader, expected.len())), expected);
    }
}

#[test]
fn transactions_are_refused_at_once() {
    use rdkafka::producer::BaseProducer;
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let producer: BaseProducer = sandbox
        .clients()
        .config(&[("transactional.id", "t")])
        .create()
        .unwrap();
    let started = Instant::now();
    let error = producer.init_transactions(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("no transactions"), "{error}");
    assert!(started.elapsed() < PATIENCE / 2);
}

#[test]
fn a_waiting_consumer_is_woken_by_data_not_by_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("t", 1);
    let sender = clients.sender(&[("linger.ms", "0")]);
    sender.value("t", b"first").unwrap();
    let options = [
        ("fetch.wait.max.ms", "20000"),
        ("socket.timeout.ms", "60000"),
    ];
    let reader = clients.reader("t", 0, Offset::Beginning, &options);
    take(&reader, 1);
    let mut latencies: Vec<Duration> = (0..200)
        .map(|_| {
            let sent = Instant::now();
            let record = BaseRecord::<[u8], [u8]>::to("t").partition(0).payload(b"x");
            sender
                .producer
                .send(record)
                .map_err(|(error, _)| error)
                .unwrap();
            take(&reader, 1);
            sent.elapsed()
        })
        .collect();
    latencies.sort();
    assert!(
        latencies[100] < Duration::from_millis(100),
        "median {:?}",
        latencies[100]
    );
    assert!(
        latencies[199] < Duration::from_secs(5),
        "slowest {:?}",
        latencies[199]
    );
}

#[test]
fn a_fetch_waits_for_the_bytes_that_it_wants() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("t", 1);
    let sender = clients.sender(&[("linger.ms", "0")]);
    let options = [
        ("fetch.wait.max.ms", "1500"),
        ("fetch.min.bytes", "100000"),
        ("fetch.message.max.bytes", "1000000"),
    ];
    let reader = clients.reader("t", 0, Offset::Beginning, &options);
    // Little is held back until the time is up, much comes at once.
    let started = Instant::now();
    sender.value("t", b"little").unwrap();
    take(&reader, 1);
    let waited = started.elapsed();
    assert!(
        Duration::from_millis(500) < waited && waited < Duration::from_secs(10),
        "{waited:?}"
    );
    sender.value("t", &vec![b'x'; 150_000]).unwrap();
    take(&reader, 1);
}

#[test]
fn a_large_backlog_comes_in_bounded_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path(), "127.0.0.1:0".parse().unwrap());
    config.limits.segment_bytes = 1_000_000;
    let sandbox = Sandbox::start_with(config);
    let clients = sandbox.clients();
    clients.create("t", 3);
    let sender = clients.sender(&[("linger.ms", "5")]);
    let value = vec![b'x'; 1_000];
    for n in 0..30_000 {
        let record = || {
            BaseRecord::<[u8], [u8]>::to("t")
                .partition(n % 3)
                .payload(&value)
        };
        until("room in the queue", || {
            sender.producer.poll(Duration::ZERO);
            sender.producer.send(record()).is_ok()
        });
    }
    sender.flush();
    // Limits far below the size of a batch still give progress, one batch at a time.
    let tiny = [
        ("fetch.max.bytes", "2000"),
        ("fetch.message.max.bytes", "1000"),
        ("message.max.bytes", "1500"),
    ];
    for options in [&[][..], &tiny] {
        let mut config =
            clients.config(&[("group.id", "backlog"), ("auto.offset.reset", "earliest")]);
        for (key, value) in options {
            config.set(*key, *value);
        }
        let consumer: BaseConsumer = config.create().unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..3 {
            assignment
                .add_partition_offset("t", partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let mut next = [0; 3];
        for message in take(&consumer, 30_000) {
            let expected = &mut next[message.partition() as usize];
            assert_eq!(message.offset(), *expected);
            *expected += 1;
        }
    }
}

#[test]
fn large_messages_pass_where_the_topic_allows_them() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("small", 1);
    clients
        .create_with("large", 1, &[("max.message.bytes", "3000000")])
        .unwrap();
    let refused = clients.create_with("odd", 1, &[("max.message.bytes", "many")]);
    assert_eq!(refused, Err(RDKafkaErrorCode::InvalidConfig));
    let sender = clients.sender(&[("message.max.bytes", "10000000")]);
    let value: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let refused = sender.value("small", &value).map_err(code);
    assert_eq!(refused, Err(Some(RDKafkaErrorCode::MessageSizeTooLarge)));
    assert_eq!(sender.value("large", &value).map_err(code), Ok(0));
    assert_eq!(sender.value("small", b"after").map_err(code), Ok(0));
    assert_eq!(payloads(&clients.read("large", 0, 1)), [value]);
}

#[test]
fn offsets_are_found_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("t", 2);
    let sender = clients.sender(&[]);
    for n in 0..1_000 {
        let record = BaseRecord::<[u8], [u8]>::to("t")
            .partition(0)
            .payload(b"x")
            .timestamp(10_000 + n * 10);
        sender
            .producer
            .send(record)
            .map_err(|(error, _)| error)
            .unwrap();
    }
    sender.flush();
    let consumer = clients.reader("t", 0, Offset::Beginning, &[]);
    assert_eq!(
        consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(),
        (0, 1_000)
    );
    assert_eq!(consumer.fetch_watermarks("t", 1, PATIENCE).unwrap(), (0, 0));
    for (time, expected) in [
        (0, Offset::Offset(0)),
        (10_000, Offset::Offset(0)),
        (12_341, Offset::Offset(235)),
        (19_990, Offset::Offset(999)),
        (19_991, Offset::End),
    ] {
        let mut wanted = TopicPartitionList::new();
        wanted
            .add_partition_offset("t", 0, Offset::Offset(time))
            .unwrap();
        let found = consumer.offsets_for_times(wanted, PATIENCE).unwrap();
        assert_eq!(found.elements()[0].offset(), expected, "{time}");
    }
}

#[test]
fn the_broker_stamps_times_where_the_topic_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients
        .create_with("t", 1, &[("message.timestamp.type", "LogAppendTime")])
        .unwrap();
    let sender = clients.sender(&[]);
    let record = BaseRecord::<[u8], [u8]>::to("t")
        .partition(0)
        .payload(b"x")
        .timestamp(5);
    sender.send(record).unwrap();
    let options = [("check.crcs", "true")];
    let messages = take(&clients.reader("t", 0, Offset::Beginning, &options), 1);
    assert!(
        matches!(messages[0].timestamp(), Timestamp::LogAppendTime(time) if 1_000_000_000_000 < time)
    );
}

#[test]
fn topics_come_and_go_with_their_data() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("t", 2);
    assert_eq!(
        clients.create_with("t", 2, &[]),
        Err(RDKafkaErrorCode::TopicAlreadyExists)
    );
    assert_eq!(
        clients.create_with("a b", 2, &[]),
        Err(RDKafkaErrorCode::InvalidTopic)
    );
    assert_eq!(
        clients.create_with("none", 0, &[]),
        Err(RDKafkaErrorCode::InvalidPartitions)
    );
    clients.sender(&[]).value("t", b"old").unwrap();
    assert_eq!(clients.delete("t"), Ok(()));
    assert_eq!(
        clients.delete("t"),
        Err(RDKafkaErrorCode::UnknownTopicOrPartition)
    );
    assert!(!folder.path().join("topics/t").exists());
    clients.create("t", 1);
    clients.sender(&[]).value("t", b"new").unwrap();
    assert_eq!(payloads(&clients.read("t", 0, 1)), [b"new"]);
}

#[test]
fn unknown_topics_and_partitions_are_errors_not_silence() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("t", 1);
    let sender = clients.sender(&[("topic.metadata.propagation.max.ms", "100")]);
    let refused = sender.value("nope", b"x").map_err(code);
    assert_eq!(
        refused,
        Err(Some(RDKafkaErrorCode::UnknownTopicOrPartition))
    );
    let record = BaseRecord::<[u8], [u8]>::to("t").partition(7).payload(b"x");
    let refused = sender.send(record).map_err(code);
    assert_eq!(refused, Err(Some(RDKafkaErrorCode::UnknownPartition)));
    let metadata = sender
        .producer
        .client()
        .fetch_metadata(None, PATIENCE)
        .unwrap();
    assert_eq!(
        metadata
            .topics()
            .iter()
            .map(|topic| topic.name())
            .collect::<Vec<_>>(),
        ["t"]
    );
}

#[test]
fn topics_are_created_on_demand_if_configured() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path(), "127.0.0.1:0".parse().unwrap());
    config.auto_create_partitions = Some(3);
    let sandbox = Sandbox::start_with(config);
    let clients = sandbox.clients();
    clients.sender(&[]).value("fresh", b"x").unwrap();
    let consumer = clients.reader("fresh", 0, Offset::Beginning, &[]);
    let metadata = consumer.fetch_metadata(Some("fresh"), PATIENCE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
}
