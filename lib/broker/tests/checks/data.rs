//! Data that is not taken, and topics that are not there.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    DeleteTopicsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceResponse,
};
use uuid::Uuid;

use super::*;

const CORRUPT_MESSAGE: i16 = 2;
const INVALID_REQUIRED_ACKS: i16 = 21;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn produce_with(wire: &mut Wire, topic: &str, acks: i16, records: &[u8]) -> i16 {
    let partition = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(Bytes::copy_from_slice(records)));
    let data = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data]);
    let answer: ProduceResponse = wire.ask(9, &request);
    answer.responses[0].partition_responses[0].error_code
}

pub fn spoilt(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "spoilt", 1, &[]);
    let sound = batch(&[(None, b"one"), (None, b"two")], now_ms(), NOBODY);
    let mut send = |spoil: fn(&mut Vec<u8>)| {
        let mut raw = sound.to_vec();
        spoil(&mut raw);
        produce_with(wire, &name, -1, &raw)
    };
    assert_eq!(
        send(|raw| raw[70] ^= 1),
        CORRUPT_MESSAGE,
        "the checksum is wrong"
    );
    assert_eq!(send(|raw| raw[17] ^= 1), CORRUPT_MESSAGE);
    let twice = [&sound[..], &sound[..]].concat();
    assert_eq!(
        produce_with(wire, &name, -1, &twice),
        INVALID_RECORD,
        "two batches"
    );
    assert_eq!(produce_with(wire, &name, 2, &sound), INVALID_REQUIRED_ACKS);
    assert_eq!(list_offset(wire, &name, 0, -1).0, NONE);
    assert_eq!(produce_with(wire, &name, 1, &sound), NONE);
}

pub fn nowhere(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = fresh("nowhere");
    let sound = batch(&[(None, b"x")], now_ms(), NOBODY);
    assert_eq!(produce(wire, &name, &sound).0, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(fetch(wire, &name, 0).0, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(
        list_offset(wire, &name, 0, -1).0,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(&name)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![wanted]))
        .with_allow_auto_topic_creation(false);
    assert_eq!(
        wire.ask(12, &request).topics[0].error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    let stranger = Uuid::from_u128(7);
    let wanted = MetadataRequestTopic::default()
        .with_name(None)
        .with_topic_id(stranger);
    let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
    assert_eq!(
        wire.ask(12, &request).topics[0].error_code,
        UNKNOWN_TOPIC_ID
    );
    let mut delete = |wanted: DeleteTopicState| {
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(30_000);
        wire.ask(6, &request).responses[0].error_code
    };
    let by_name = DeleteTopicState::default().with_name(Some(topic_name(&name)));
    assert_eq!(delete(by_name), UNKNOWN_TOPIC_OR_PARTITION);
    let by_id = DeleteTopicState::default()
        .with_name(None)
        .with_topic_id(stranger);
    assert_eq!(delete(by_id), UNKNOWN_TOPIC_ID);
}

pub fn come_and_go(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "gone", 1, &[]);
    let sound = batch(&[(None, b"x")], now_ms(), NOBODY);
    assert_eq!(produce(wire, &name, &sound), (NONE, 0));
    let named = DeleteTopicState::default().with_name(Some(topic_name(&name)));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![named])
        .with_timeout_ms(30_000);
    assert_eq!(wire.ask(6, &request).responses[0].error_code, NONE);
    let deadline = Instant::now() + PATIENCE;
    while list_offset(wire, &name, 0, -1).0 != UNKNOWN_TOPIC_OR_PARTITION {
        assert!(Instant::now() < deadline, "the topic is still there");
    }
    assert_eq!(create(wire, &name, 1, &[], false), NONE);
    let (code, end) = when_ready(|| list_offset(wire, &name, 0, -1));
    assert_eq!(
        (code, end),
        (NONE, 0),
        "a topic of the same name begins anew"
    );
}

pub fn epochs(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "led", 1, &[]);
    let three = batch(&[(None, &b"x"[..]); 3], now_ms(), NOBODY);
    assert_eq!(produce(wire, &name, &three), (NONE, 0));
    let mut ask = |epoch: i32| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(-1)
            .with_leader_epoch(epoch);
        let wanted = OffsetForLeaderTopic::default()
            .with_topic(topic_name(&name))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![wanted]);
        let answer = wire.ask(4, &request);
        let told = &answer.topics[0].partitions[0];
        (told.error_code, told.leader_epoch, told.end_offset)
    };
    assert_eq!(ask(0), (NONE, 0, 3));
    assert_eq!(ask(5), (NONE, -1, -1));
}
