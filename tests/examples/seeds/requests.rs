//! Requests as clients send them.

use bytes::BytesMut;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};

use super::{records, save};

/// Encodes a request as a frame.
fn frame<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(text("c")));
    let mut out = BytesMut::from(&[0; 4][..]);
    header
        .encode(&mut out, R::header_version(version))
        .expect("it can be encoded");
    request
        .encode(&mut out, version)
        .expect("it can be encoded");
    let bytes = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&bytes.to_be_bytes());
    out.to_vec()
}

const fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Saves each request, and all of a kind on one connection.
pub fn save_all() {
    save("requests", "data", &data().concat());
    save("requests", "groups", &groups().concat());
    save("requests", "operators", &operators().concat());
    for (at, request) in data()
        .iter()
        .chain(&groups())
        .chain(&operators())
        .enumerate()
    {
        save("requests", &format!("{at:02}"), request);
    }
}

fn data() -> Vec<Vec<u8>> {
    let topic = || TopicName(text("t"));
    let produced =
        produce_request::PartitionProduceData::default().with_records(Some(records(0).into()));
    let produced = produce_request::TopicProduceData::default()
        .with_name(topic())
        .with_partition_data(vec![produced]);
    let produced = ProduceRequest::default()
        .with_acks(1)
        .with_topic_data(vec![produced]);
    let fetched = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
    let fetched = fetch_request::FetchTopic::default()
        .with_topic(topic())
        .with_partitions(vec![fetched]);
    let fetched = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_topics(vec![fetched]);
    let listed = list_offsets_request::ListOffsetsPartition::default().with_timestamp(0);
    let listed = list_offsets_request::ListOffsetsTopic::default()
        .with_name(topic())
        .with_partitions(vec![listed]);
    let listed = ListOffsetsRequest::default().with_topics(vec![listed]);
    vec![
        frame(3, &ApiVersionsRequest::default()),
        frame(12, &MetadataRequest::default()),
        frame(4, &InitProducerIdRequest::default()),
        frame(9, &produced),
        frame(12, &fetched),
        frame(7, &listed),
    ]
}

fn groups() -> Vec<Vec<u8>> {
    let group = || GroupId(text("g"));
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let joined = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(6_000)
        .with_group_instance_id(Some(text("place")))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let committed = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_committed_offset(1)
        .with_committed_metadata(Some(text("note")));
    let committed = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![committed]);
    let committed = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![committed]);
    let fetched = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group());
    let fetched = OffsetFetchRequest::default().with_groups(vec![fetched.with_topics(None)]);
    let left = leave_group_request::MemberIdentity::default();
    let left = left.with_group_instance_id(Some(text("place")));
    let left = LeaveGroupRequest::default()
        .with_group_id(group())
        .with_members(vec![left]);
    vec![
        frame(8, &committed),
        frame(9, &fetched),
        frame(9, &joined),
        frame(4, &HeartbeatRequest::default().with_group_id(group())),
        frame(5, &SyncGroupRequest::default().with_group_id(group())),
        frame(5, &left),
        frame(
            6,
            &DescribeGroupsRequest::default().with_groups(vec![group()]),
        ),
        frame(5, &ListGroupsRequest::default()),
        frame(
            2,
            &DeleteGroupsRequest::default().with_groups_names(vec![group()]),
        ),
    ]
}

fn operators() -> Vec<Vec<u8>> {
    let topic = || TopicName(text("t"));
    let described = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"));
    let described = DescribeConfigsRequest::default().with_resources(vec![described]);
    let change = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text("cleanup.policy"))
        .with_value(Some(text("compact")));
    let changed = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![change]);
    let changed = IncrementalAlterConfigsRequest::default().with_resources(vec![changed]);
    let grown = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic())
        .with_count(3);
    let grown = CreatePartitionsRequest::default().with_topics(vec![grown]);
    let cut = delete_records_request::DeleteRecordsPartition::default().with_offset(-1);
    let cut = delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic())
        .with_partitions(vec![cut]);
    let cut = DeleteRecordsRequest::default().with_topics(vec![cut]);
    let made = create_topics_request::CreatableTopic::default()
        .with_name(TopicName(text("u")))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let made = CreateTopicsRequest::default().with_topics(vec![made]);
    let gone = delete_topics_request::DeleteTopicState::default().with_name(Some(topic()));
    let gone = DeleteTopicsRequest::default().with_topics(vec![gone]);
    vec![
        frame(4, &described),
        frame(1, &changed),
        frame(3, &grown),
        frame(2, &cut),
        frame(7, &made),
        frame(6, &gone),
        frame(2, &DescribeClusterRequest::default()),
    ]
}
