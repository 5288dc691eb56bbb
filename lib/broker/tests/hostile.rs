//! Bytes that are no requests: the connection ends or gets an error, the broker goes on.

#![allow(clippy::unwrap_used)] // helpers of tests fail as they do

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::Config;
use bytes::BytesMut;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    CreatePartitionsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, GroupId, IncrementalAlterConfigsRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use support::{PATIENCE, Sandbox, frame, payloads};

/// Sends raw bytes and returns whatever comes back until the broker closes or has nothing more to say.
fn exchange(sandbox: &Sandbox, raw: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(sandbox.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker may have closed already, which is what most of this is about.
    let _ = stream.write_all(raw);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// A request as a client sends it.
fn encoded<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("c")));
    let mut out = BytesMut::new();
    header.encode(&mut out, R::header_version(version)).unwrap();
    request.encode(&mut out, version).unwrap();
    out.to_vec()
}

/// What operators ask, in the oldest version of each and the newest.
fn operators_samples() -> Vec<Vec<u8>> {
    let text = StrBytes::from_static_str;
    let topic = TopicName(text("t"));
    let described = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"));
    let described = DescribeConfigsRequest::default().with_resources(vec![described]);
    let change = AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("5")));
    let changed = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![change]);
    let changed = IncrementalAlterConfigsRequest::default().with_resources(vec![changed]);
    let grown = CreatePartitionsTopic::default()
        .with_name(topic.clone())
        .with_count(3);
    let grown = CreatePartitionsRequest::default().with_topics(vec![grown]);
    let cut = DeleteRecordsPartition::default().with_offset(-1);
    let cut = DeleteRecordsTopic::default()
        .with_name(topic.clone())
        .with_partitions(vec![cut]);
    let cut = DeleteRecordsRequest::default().with_topics(vec![cut]);
    let group = GroupId(text("g"));
    let told = DescribeGroupsRequest::default().with_groups(vec![group.clone()]);
    let gone = DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]);
    let left = MemberIdentity::default().with_group_instance_id(Some(text("place")));
    let left = LeaveGroupRequest::default()
        .with_group_id(group.clone())
        .with_members(vec![left]);
    let joined = JoinGroupRequest::default()
        .with_group_id(group)
        .with_session_timeout_ms(6_000)
        .with_group_instance_id(Some(text("place")))
        .with_protocol_type(text("consumer"));
    vec![
        encoded(1, &described),
        encoded(4, &described),
        encoded(0, &changed),
        encoded(1, &changed),
        encoded(0, &grown),
        encoded(3, &grown),
        encoded(0, &cut),
        encoded(2, &cut),
        encoded(0, &told),
        encoded(6, &told),
        encoded(0, &ListGroupsRequest::default()),
        encoded(5, &ListGroupsRequest::default()),
        encoded(0, &gone),
        encoded(2, &gone),
        encoded(3, &left),
        encoded(5, &left),
        encoded(5, &joined),
        encoded(9, &joined),
        encoded(0, &DescribeClusterRequest::default()),
        encoded(2, &DescribeClusterRequest::default()),
    ]
}

/// Requests as clients send them, with the header's key and version first.
fn samples() -> Vec<Vec<u8>> {
    let header = |key: i16, version: i16| {
        [
            &key.to_be_bytes()[..],
            &version.to_be_bytes(),
            b"\0\0\0\x07\0\x01c",
        ]
        .concat()
    };
    let with = |key, version, body: &[u8]| [&header(key, version)[..], body].concat();
    vec![
        with(18, 0, b""),
        with(3, 1, b"\0\0\0\x01\0\x01t"),
        with(3, 12, b"\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02t\0\0\0\0"),
        with(2, 1, b"\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
        with(1, 4, b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\0\x10\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0"),
        with(0, 3, b"\xff\xff\0\x01\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\x04abcd"),
        with(10, 0, b"\0\x01g"),
        with(11, 0, b"\0\x01g\0\0\x17\x70\0\0\0\x08consumer\0\0\0\x01\0\x05range\0\0\0\x02ab"),
        with(8, 2, b"\0\x01g\xff\xff\xff\xff\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x05\0\0"),
        with(9, 1, b"\0\x01g\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0"),
        with(22, 0, b"\xff\xff\0\0\0\0"),
        with(19, 2, b"\0\0\0\x01\0\x01u\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\x03\xe8\0"),
    ]
}

#[test]
fn sound_samples_are_answered_with_their_id() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    sandbox.clients().create("t", 1);
    for sample in samples().into_iter().chain(operators_samples()) {
        let answer = exchange(&sandbox, &frame(&sample));
        assert!(8 <= answer.len(), "no answer to {sample:?}");
        assert_eq!(answer[4..8], [0, 0, 0, 7], "{sample:?}");
    }
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create("t", 1);
    assert!(exchange(&sandbox, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_empty());
    assert!(exchange(&sandbox, &[0xff; 1_000]).is_empty());
    assert!(exchange(&sandbox, &[0; 1_000]).is_empty());
    assert!(exchange(&sandbox, &i32::MAX.to_be_bytes()).is_empty());
    assert!(exchange(&sandbox, &frame(b"\0\x18\0\0\0\0\0\x07\xff\xff")).is_empty()); // AddPartitionsToTxn
    // An array that claims two thousand million elements.
    assert!(
        exchange(
            &sandbox,
            &frame(b"\0\x03\0\x01\0\0\0\x07\xff\xff\x7f\xff\xff\xff")
        )
        .is_empty()
    );
    clients.sender(&[]).value("t", b"still here").unwrap();
    assert_eq!(payloads(&clients.read("t", 0, 1)), [b"still here"]);
}

#[test]
fn a_client_that_is_too_new_is_told_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let answer = exchange(&sandbox, &frame(b"\0\x12\0\x63\0\0\0\x07\xff\xff"));
    assert_eq!(answer[4..10], [0, 0, 0, 7, 0, 35]);
    let count = u32::from_be_bytes(answer[10..14].try_into().unwrap());
    assert_eq!(answer.len(), 14 + 6 * count as usize);
    let keys: Vec<u8> = answer[14..].chunks(6).map(|entry| entry[1]).collect();
    for transactional in [24, 25, 26, 28] {
        assert!(!keys.contains(&transactional));
    }
}

#[test]
fn no_mutation_of_a_request_harms_the_broker() {
    // A task that panics takes only its connection along, so it would go unnoticed otherwise.
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        print(panic);
    }));
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path(), "127.0.0.1:0".parse().unwrap());
    config.limits.partitions_max = 50;
    let sandbox = Sandbox::start_with(config);
    let clients = sandbox.clients();
    clients.create("t", 1);
    // A small generator of its own: the same mutations in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for sample in samples().into_iter().chain(operators_samples()) {
        for _ in 0..400 {
            let mut raw = sample.clone();
            for _ in 0..=random(3) {
                // Versions too, but not the key: that stays in the sample's own code.
                let at = 3 + random(raw.len() - 3);
                raw[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
            }
            raw.truncate(raw.len() - random(4).saturating_sub(2));
            let mut stream = TcpStream::connect(sandbox.address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let _ = stream.write_all(&frame(&raw));
            let _ = stream.read(&mut [0; 64]);
        }
    }
    let sender = clients.sender(&[]);
    let offset = sender.value("t", b"still here").unwrap();
    let reader = clients.reader("t", 0, rdkafka::Offset::Offset(offset), &[]);
    assert_eq!(payloads(&support::take(&reader, 1)), [b"still here"]);
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

#[test]
fn connections_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path(), "127.0.0.1:0".parse().unwrap());
    config.limits.connections_max = 3;
    let sandbox = Sandbox::start_with(config);
    let versions = frame(b"\0\x12\0\0\0\0\0\x07\xff\xff");
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut length = [0; 4];
        stream
            .write_all(&versions)
            .and_then(|()| stream.read_exact(&mut length))
            .is_ok()
    };
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(sandbox.address).unwrap();
        assert!(ask(&mut stream));
        open.push(stream);
    }
    assert!(!ask(&mut TcpStream::connect(sandbox.address).unwrap()));
    open.pop();
    support::until("room for another connection", || {
        ask(&mut TcpStream::connect(sandbox.address).unwrap())
    });
}
