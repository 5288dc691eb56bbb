//! What Apache Kafka and the embedded broker must answer alike: the same requests, the same error codes, offsets and
//! group behaviour.
//!
//! Each check is given a broker's address, makes topics and groups with names of its own, and panics where the answer is
//! not what Kafka's would be. Nothing in here knows which of the two brokers it talks to.

#![allow(dead_code)] // each of the two test programs that share this uses what it needs
#![allow(clippy::unwrap_used)] // a check fails as a test does

mod configs;
mod data;
mod groups;
mod logs;
mod wire;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, ListOffsetsRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

pub use wire::Wire;

/// How long a check waits for something that should happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const NONE: i16 = 0;
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const MESSAGE_TOO_LARGE: i16 = 10;
pub const ILLEGAL_GENERATION: i16 = 22;
pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
pub const UNKNOWN_MEMBER_ID: i16 = 25;
pub const INVALID_TOPIC_EXCEPTION: i16 = 17;
pub const REBALANCE_IN_PROGRESS: i16 = 27;
pub const INVALID_TIMESTAMP: i16 = 32;
pub const TOPIC_ALREADY_EXISTS: i16 = 36;
pub const INVALID_PARTITIONS: i16 = 37;
pub const INVALID_CONFIG: i16 = 40;
pub const INVALID_REQUEST: i16 = 42;
pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
pub const NON_EMPTY_GROUP: i16 = 68;
pub const GROUP_ID_NOT_FOUND: i16 = 69;
pub const MEMBER_ID_REQUIRED: i16 = 79;
pub const FENCED_INSTANCE_ID: i16 = 82;
pub const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
pub const INVALID_RECORD: i16 = 87;

/// What a broker answers for a moment while a topic or a coordinator is being made.
const NOT_READY: [i16; 6] = [3, 5, 6, 14, 15, 16];

/// One check: its name and what it does to the broker at an address.
pub type Check = (&'static str, fn(&str));

/// All checks.
pub const CHECKS: &[Check] = &[
    (
        "topics are created with configs or not at all",
        configs::creation,
    ),
    ("configs are changed one by one", configs::incremental),
    ("configs are replaced as a whole", configs::replaced),
    ("configs of what is not there", configs::of_nothing),
    (
        "large messages are refused by the topic's own limit",
        configs::message_bytes,
    ),
    ("a compacted topic wants keys", configs::keys),
    ("times in the future are refused", configs::times),
    ("spoilt batches are refused", data::spoilt),
    ("what is not there is unknown", data::nowhere),
    ("topics come and go with their data", data::come_and_go),
    ("an epoch ends where the next begins", data::epochs),
    ("partitions are added", logs::partitions),
    ("records are deleted up to an offset", logs::deleted_records),
    (
        "an idempotent producer is held to its sequence",
        logs::sequences,
    ),
    ("offsets are found by time", logs::times),
    ("the cluster is what the metadata say", logs::cluster),
    ("a group is joined, described and deleted", groups::life),
    (
        "strangers and old generations may not commit",
        groups::strangers,
    ),
    (
        "a static member comes back without a rebalance",
        groups::comes_back,
    ),
    (
        "a static member leaves when it is told to",
        groups::told_to_leave,
    ),
    (
        "committed offsets are taken back unless they are used",
        groups::forgotten,
    ),
];

/// Runs all checks and names each that fails.
pub fn run_all(address: &str) {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        check(address);
    }
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Returns a name that nobody else has.
pub fn fresh(stem: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{}-{n}", std::process::id())
}

/// Asks again for as long as the broker says that it is not ready.
pub fn when_ready<T>(mut ask: impl FnMut() -> (i16, T)) -> (i16, T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, answer) = ask();
        if !NOT_READY.contains(&code) {
            return (code, answer);
        }
        assert!(Instant::now() < deadline, "the broker is not ready: {code}");
        std::thread::yield_now();
    }
}

/// Asks for a topic and returns the error code.
pub fn create(
    wire: &mut Wire,
    name: &str,
    partitions: i32,
    configs: &[(&str, Option<&str>)],
    only_check: bool,
) -> i16 {
    let configs = configs.iter().map(|(key, value)| {
        CreatableTopicConfig::default()
            .with_name(text(key))
            .with_value(value.map(text))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000)
        .with_validate_only(only_check);
    wire.ask(7, &request).topics[0].error_code
}

/// Makes a topic and waits until it can be written to.
pub fn topic(wire: &mut Wire, stem: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
    let name = fresh(stem);
    let configs: Vec<_> = configs
        .iter()
        .map(|(key, value)| (*key, Some(*value)))
        .collect();
    assert_eq!(create(wire, &name, partitions, &configs, false), NONE);
    for partition in 0..partitions {
        let (code, _) = when_ready(|| list_offset(wire, &name, partition, -1));
        assert_eq!(code, NONE);
    }
    name
}

/// Who wrote a batch: id, epoch and first sequence number.
pub type Producer = (i64, i16, i32);

pub const NOBODY: Producer = (-1, -1, -1);

fn put_varint(out: &mut BytesMut, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while 0x7f < rest {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Builds a batch of records of one time.
pub fn batch(records: &[(Option<&str>, &[u8])], timestamp: i64, producer: Producer) -> Bytes {
    let mut body = BytesMut::new();
    for (n, (key, value)) in records.iter().enumerate() {
        let mut record = BytesMut::new();
        record.put_u8(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, n as i64);
        match key {
            Some(key) => {
                put_varint(&mut record, key.len() as i64);
                record.put_slice(key.as_bytes());
            }
            None => put_varint(&mut record, -1),
        }
        put_varint(&mut record, value.len() as i64);
        record.put_slice(value);
        record.put_u8(0);
        put_varint(&mut body, record.len() as i64);
        body.put_slice(&record);
    }
    let mut sealed = BytesMut::new();
    sealed.put_i16(0);
    sealed.put_i32(records.len() as i32 - 1);
    sealed.put_i64(timestamp);
    sealed.put_i64(timestamp);
    sealed.put_i64(producer.0);
    sealed.put_i16(producer.1);
    sealed.put_i32(producer.2);
    sealed.put_i32(records.len() as i32);
    sealed.put_slice(&body);
    let mut raw = BytesMut::new();
    raw.put_i64(0);
    raw.put_i32(sealed.len() as i32 + 9);
    raw.put_i32(-1);
    raw.put_i8(2);
    raw.put_u32(crc32c::crc32c(&sealed));
    raw.put_slice(&sealed);
    raw.freeze()
}

/// Sends a batch to partition 0 and returns the error code and the offset.
pub fn produce(wire: &mut Wire, topic: &str, records: &Bytes) -> (i16, i64) {
    let partition = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(records.clone()));
    let data = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data]);
    let answer = wire.ask(9, &request);
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// Reads from partition 0 and returns the error code and where the log begins and ends.
pub fn fetch(wire: &mut Wire, topic: &str, offset: i64) -> (i16, i64, i64) {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1_000_000);
    let wanted = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_bytes(1_000_000)
        .with_session_epoch(-1)
        .with_topics(vec![wanted]);
    let answer = wire.ask(12, &request);
    let partition = &answer.responses[0].partitions[0];
    (
        partition.error_code,
        partition.log_start_offset,
        partition.high_watermark,
    )
}

/// Looks an offset up by time, or by -1 for the end and -2 for the start.
pub fn list_offset(wire: &mut Wire, topic: &str, partition: i32, time: i64) -> (i16, i64) {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_timestamp(time);
    let wanted = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![wanted]);
    let answer = wire.ask(7, &request);
    let partition = &answer.topics[0].partitions[0];
    (partition.error_code, partition.offset)
}

pub fn now_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    since_1970.as_millis() as i64
}
