//! Partitions and their logs: added, cut off, numbered, looked up.

use std::collections::BTreeSet;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, DeleteRecordsRequest, DescribeClusterRequest, InitProducerIdRequest,
    MetadataRequest,
};

use super::*;

pub fn partitions(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "wider", 2, &[]);
    let grow = |wire: &mut Wire, name: &str, count: i32, only_check: bool| {
        let wanted = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(30_000)
            .with_validate_only(only_check);
        wire.ask(3, &request).results[0].error_code
    };
    assert_eq!(grow(wire, &name, 1, false), INVALID_PARTITIONS);
    assert_eq!(grow(wire, &name, 2, false), INVALID_PARTITIONS);
    assert_eq!(
        grow(wire, &fresh("nothing"), 3, false),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(grow(wire, &name, 5, true), NONE);
    let count = |wire: &mut Wire| {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(&name)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
        wire.ask(12, &request).topics[0].partitions.len()
    };
    assert_eq!(count(wire), 2, "only checked");
    assert_eq!(grow(wire, &name, 5, false), NONE);
    let (code, end) = when_ready(|| list_offset(wire, &name, 4, -1));
    assert_eq!((code, end), (NONE, 0));
    assert_eq!(count(wire), 5);
}

fn delete_before(wire: &mut Wire, topic: &str, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(0)
        .with_offset(offset);
    let wanted = DeleteRecordsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(10_000);
    let answer = wire.ask(2, &request);
    let partition = &answer.topics[0].partitions[0];
    (partition.error_code, partition.low_watermark)
}

pub fn deleted_records(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "cut", 1, &[]);
    for n in 0..4 {
        let ten: Vec<_> = (0..10).map(|_| (None, &b"x"[..])).collect();
        assert_eq!(
            produce(wire, &name, &batch(&ten, 1_000 + n, NOBODY)),
            (NONE, n * 10)
        );
    }
    assert_eq!(delete_before(wire, &name, 41).0, OFFSET_OUT_OF_RANGE);
    assert_eq!(delete_before(wire, &name, 15), (NONE, 15));
    assert_eq!(delete_before(wire, &name, 5), (NONE, 15));
    assert_eq!(list_offset(wire, &name, 0, -2), (NONE, 15));
    assert_eq!(fetch(wire, &name, 14).0, OFFSET_OUT_OF_RANGE);
    assert_eq!(fetch(wire, &name, 15), (NONE, 15, 40));
    assert_eq!(fetch(wire, &name, 41).0, OFFSET_OUT_OF_RANGE);
    assert_eq!(list_offset(wire, &name, 0, 1_000), (NONE, 15));
    assert_eq!(delete_before(wire, &name, -1), (NONE, 40));
    assert_eq!(fetch(wire, &name, 40), (NONE, 40, 40));
    assert_eq!(
        produce(wire, &name, &batch(&[(None, b"x")], 2_000, NOBODY)),
        (NONE, 40)
    );
    let nothing = fresh("nothing");
    assert_eq!(
        delete_before(wire, &nothing, 0).0,
        UNKNOWN_TOPIC_OR_PARTITION
    );
}

pub fn sequences(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "numbered", 1, &[]);
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let (code, given) = when_ready(|| {
        let answer = wire.ask(4, &request);
        (answer.error_code, answer)
    });
    assert_eq!((code, given.producer_epoch), (NONE, 0));
    let id = given.producer_id.0;
    let three = [(None, &b"x"[..]); 3];
    let mut send = |epoch: i16, sequence: i32| {
        produce(wire, &name, &batch(&three, 1_000, (id, epoch, sequence)))
    };
    for n in 0..6 {
        assert_eq!(send(0, n * 3), (NONE, i64::from(n) * 3));
    }
    assert_eq!(send(0, 15), (NONE, 15), "a repeat keeps its offset");
    assert_eq!(send(0, 6), (NONE, 6), "the fifth last too");
    assert_eq!(send(0, 21).0, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(1, 5).0, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(1, 0), (NONE, 18));
    assert_eq!(list_offset(wire, &name, 0, -1), (NONE, 21));
}

pub fn times(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "timed", 1, &[]);
    for n in 0..10 {
        let two = [(None, &b"x"[..]); 2];
        produce(wire, &name, &batch(&two, 1_000 + n * 100, NOBODY));
    }
    assert_eq!(list_offset(wire, &name, 0, 0), (NONE, 0));
    assert_eq!(list_offset(wire, &name, 0, 1_050), (NONE, 2));
    assert_eq!(list_offset(wire, &name, 0, 1_100), (NONE, 2));
    assert_eq!(list_offset(wire, &name, 0, 1_900), (NONE, 18));
    assert_eq!(list_offset(wire, &name, 0, 1_901), (NONE, -1));
    assert_eq!(list_offset(wire, &name, 0, -3), (NONE, 18), "the newest");
    assert_eq!(
        list_offset(wire, &name, 7, -1).0,
        UNKNOWN_TOPIC_OR_PARTITION
    );
}

pub fn cluster(address: &str) {
    let wire = &mut Wire::connect(address);
    let described = wire.ask(1, &DescribeClusterRequest::default().with_endpoint_type(1));
    let metadata = wire.ask(
        12,
        &MetadataRequest::default().with_topics(Some(Vec::new())),
    );
    assert_eq!(described.error_code, NONE);
    assert_eq!(metadata.cluster_id.unwrap(), described.cluster_id);
    let told: BTreeSet<_> = described
        .brokers
        .iter()
        .map(|broker| (broker.broker_id.0, broker.host.to_string(), broker.port))
        .collect();
    let known: BTreeSet<_> = metadata
        .brokers
        .iter()
        .map(|broker| (broker.node_id.0, broker.host.to_string(), broker.port))
        .collect();
    assert_eq!(told, known);
    assert!(
        known
            .iter()
            .any(|(id, ..)| *id == described.controller_id.0)
    );
}
