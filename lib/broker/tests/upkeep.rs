//! Configs, retention, compaction and deleted records with librdkafka, across restarts and `kill -9`.

#![allow(clippy::unwrap_used)] // helpers of tests fail as they do

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::Config;
use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, ResourceSpecifier,
};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use support::{Clients, PATIENCE, Process, Sandbox, payloads, take, until, wait};

const TOPIC: &str = "t";

/// A broker whose segments are small and whose housekeeping never rests for long.
fn tidy(folder: &Path) -> Sandbox {
    let mut config = Config::new(folder, "127.0.0.1:0".parse().unwrap());
    config.upkeep_every = Duration::from_millis(20);
    config.limits.segment_bytes = 20_000;
    Sandbox::start_with(config)
}

/// Returns what is set for a topic itself.
fn configs(clients: &Clients) -> BTreeMap<String, String> {
    let wanted = [ResourceSpecifier::Topic(TOPIC)];
    let told = wait(
        clients
            .admin()
            .describe_configs(&wanted, &AdminOptions::new()),
    )
    .unwrap();
    let resource: &ConfigResource = told[0].as_ref().unwrap();
    let set = resource
        .entries
        .iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopic);
    set.map(|entry| (entry.name.clone(), entry.value.clone().unwrap()))
        .collect()
}

fn watermarks(clients: &Clients) -> (i64, i64) {
    let consumer: BaseConsumer = clients.config(&[]).create().unwrap();
    consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap()
}

/// Sends values of 1,000 bytes, each of its own batch.
fn fill(clients: &Clients, count: usize, timestamp: i64) {
    let sender = clients.sender(&[("batch.num.messages", "1"), ("linger.ms", "0")]);
    let value = [b'x'; 1_000];
    for _ in 0..count {
        let record = BaseRecord::<[u8], [u8]>::to(TOPIC)
            .partition(0)
            .timestamp(timestamp)
            .payload(&value);
        sender
            .producer
            .send(record)
            .map_err(|(error, _)| error)
            .unwrap();
    }
    sender.flush();
}

#[test]
fn configs_partitions_and_starts_outlive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path());
    let clients = process.clients();
    clients
        .create_with(TOPIC, 1, &[("retention.ms", "5000000000")])
        .unwrap();
    let sender = clients.sender(&[]);
    for n in 0..10 {
        sender.value(TOPIC, &[n]).unwrap();
    }
    let admin = clients.admin();
    let options = AdminOptions::new();
    let change = AlterConfig::new(ResourceSpecifier::Topic(TOPIC)).set("max.message.bytes", "5000");
    let changed = wait(admin.alter_configs([&change], &options)).unwrap();
    assert!(changed[0].is_ok(), "{changed:?}");
    let more = NewPartitions::new(TOPIC, 3);
    let grown = wait(admin.create_partitions([&more], &options)).unwrap();
    assert_eq!(grown, [Ok(TOPIC.to_owned())]);
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset(TOPIC, 0, Offset::Offset(4))
        .unwrap();
    wait(admin.delete_records(&upto, &options)).unwrap();
    process.kill();
    let process = Process::start(folder.path());
    let clients = process.clients();
    let expected = BTreeMap::from([("max.message.bytes".to_owned(), "5000".to_owned())]);
    assert_eq!(configs(&clients), expected);
    assert_eq!(watermarks(&clients), (4, 10));
    let expected: Vec<Vec<u8>> = (4..10).map(|n| vec![n]).collect();
    assert_eq!(payloads(&clients.read(TOPIC, 0, 6)), expected);
    let sender = clients.sender(&[("message.max.bytes", "1000000")]);
    let refused = sender.value(TOPIC, &[b'x'; 6_000]).unwrap_err();
    assert_eq!(
        refused.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge)
    );
    let record = BaseRecord::<[u8], [u8]>::to(TOPIC)
        .partition(2)
        .payload(b"x");
    assert_eq!(sender.send(record).unwrap(), 0);
}

#[test]
fn old_records_go_and_whoever_reads_them_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = tidy(folder.path());
    let clients = sandbox.clients();
    clients.create_with(TOPIC, 1, &[]).unwrap();
    fill(&clients, 100, 1_000); // of 1970
    assert_eq!(
        watermarks(&clients),
        (0, 100),
        "kept for ever unless told otherwise"
    );
    let change = AlterConfig::new(ResourceSpecifier::Topic(TOPIC)).set("retention.ms", "3600000");
    wait(
        clients
            .admin()
            .alter_configs([&change], &AdminOptions::new()),
    )
    .unwrap();
    until("retention", || watermarks(&clients) == (100, 100));
    let sender = clients.sender(&[]);
    assert_eq!(sender.value(TOPIC, b"fresh").unwrap(), 100);
    // A consumer that comes back to what is gone is told, and goes where it was told to.
    let options = [("auto.offset.reset", "error")];
    let strict = clients.reader(TOPIC, 0, Offset::Offset(50), &options);
    let mut told = None;
    until("the error", || {
        told = strict.poll(Duration::from_millis(100));
        told.is_some()
    });
    assert!(
        matches!(
            &told,
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset
            )))
        ),
        "{told:?}"
    );
    let options = [("auto.offset.reset", "earliest")];
    let lenient = clients.reader(TOPIC, 0, Offset::Offset(50), &options);
    let messages = take(&lenient, 1);
    assert_eq!(
        (messages[0].offset(), messages[0].payload()),
        (100, Some(&b"fresh"[..]))
    );
}

#[test]
fn a_partition_stays_below_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = tidy(folder.path());
    let clients = sandbox.clients();
    clients
        .create_with(TOPIC, 1, &[("retention.bytes", "50000")])
        .unwrap();
    fill(&clients, 300, -1);
    until("retention", || 230 <= watermarks(&clients).0);
    let (start, end) = watermarks(&clients);
    assert_eq!(end, 300);
    assert!(start <= 300 - 45, "{start}");
    let count = (end - start) as usize;
    assert_eq!(clients.read(TOPIC, 0, count)[0].offset(), start);
}

#[test]
fn of_each_key_the_last_stays_while_the_topic_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = tidy(folder.path());
    let clients = sandbox.clients();
    let options = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    clients.create_with(TOPIC, 1, &options).unwrap();
    let mut expected = BTreeMap::new();
    for (round, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        let sender = clients.sender(&[("compression.codec", codec), ("linger.ms", "1")]);
        for n in 0..2_000 {
            let key = format!("{:03}", n * 7 % 100 + round * 10);
            let value = format!("{round}-{n}-{key}");
            let record = BaseRecord::<[u8], [u8]>::to(TOPIC)
                .partition(0)
                .key(key.as_bytes())
                .payload(value.as_bytes());
            sender
                .producer
                .send(record)
                .map_err(|(error, _)| error)
                .unwrap();
            expected.insert(key, value);
        }
        sender.flush();
    }
    let partition = folder.path().join("topics/t/0");
    let bytes = || -> u64 {
        let logs = std::fs::read_dir(&partition).unwrap().flatten();
        let logs = logs.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log"));
        logs.filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .sum()
    };
    until("compaction", || {
        partition.join("cleaned").exists() && bytes() < 60_000
    });
    let check = |clients: &Clients| {
        let options = [("enable.partition.eof", "true"), ("check.crcs", "true")];
        let reader = clients.reader(TOPIC, 0, Offset::Beginning, &options);
        let (mut found, mut last, mut ended) = (BTreeMap::new(), -1, false);
        until("the end", || {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    assert!(last < message.offset());
                    last = message.offset();
                    let text =
                        |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                    found.insert(text(message.key()), text(message.payload()));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ended = true,
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
            ended
        });
        assert_eq!(found, expected);
        assert_eq!(last, 9_999);
    };
    check(&clients);
    sandbox.stop();
    check(&tidy(folder.path()).clients());
}

/// Counts the rebalances that a member goes through.
#[derive(Default)]
struct Counting(AtomicUsize);

impl ClientContext for Counting {}

impl ConsumerContext for Counting {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_static_member_that_restarts_gets_its_partitions_back_without_a_rebalance() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create(TOPIC, 4);
    let member = |place: &str| -> BaseConsumer<Counting> {
        let options = [
            ("group.id", "g"),
            ("group.instance.id", place),
            ("session.timeout.ms", "30000"),
            ("heartbeat.interval.ms", "100"),
            ("partition.assignment.strategy", "cooperative-sticky"),
        ];
        let config = clients.config(&options);
        let member: BaseConsumer<Counting> =
            config.create_with_context(Counting::default()).unwrap();
        member.subscribe(&[TOPIC]).unwrap();
        member
    };
    let partitions = |member: &BaseConsumer<Counting>| {
        let _ = member.poll(Duration::from_millis(10));
        let assignment = member.assignment().unwrap();
        let mut partitions: Vec<i32> = assignment
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect();
        partitions.sort_unstable();
        partitions
    };
    let (first, second) = (member("one"), member("two"));
    until("the assignment", || {
        // Both are polled each time: a member that is not polled holds the other up.
        let counts = [partitions(&first).len(), partitions(&second).len()];
        counts == [2, 2]
    });
    let (of_first, of_second) = (partitions(&first), partitions(&second));
    let rebalances = |member: &BaseConsumer<Counting>| member.context().0.load(Ordering::Relaxed);
    let before = rebalances(&first);
    assert!(0 < before);
    // It closes without leaving, as static members do, and its place is kept.
    drop(second);
    let second = member("two");
    until("the same assignment", || {
        let _ = first.poll(Duration::ZERO);
        partitions(&second) == of_second
    });
    assert_eq!(partitions(&first), of_first);
    assert_eq!(rebalances(&first), before);
}
