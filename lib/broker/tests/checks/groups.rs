//! Groups: dynamic and static members, what operators see, who may commit, what may be deleted.

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};

use super::*;

/// A group as one of its members sees it.
struct Member<'a> {
    group: &'a str,
    topic: &'a str,
    id: StrBytes,
    instance: Option<&'a str>,
    generation: i32,
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Makes a group's name and waits until somebody coordinates it.
fn group(wire: &mut Wire) -> String {
    let name = fresh("group");
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&name)]);
    let (code, ()) = when_ready(|| (wire.ask(4, &request).coordinators[0].error_code, ()));
    assert_eq!(code, NONE);
    // It may be found before it has loaded what it knows.
    when_ready(|| (describe(wire, &name).error_code, ()));
    name
}

impl<'a> Member<'a> {
    fn new(group: &'a str, topic: &'a str, instance: Option<&'a str>) -> Self {
        Self {
            group,
            topic,
            id: StrBytes::default(),
            instance,
            generation: -1,
        }
    }

    fn join_request(&self) -> JoinGroupRequest {
        // A consumer's subscription: version 1, one topic, no data, nothing owned.
        let mut subscription = BytesMut::new();
        subscription.put_i16(1);
        subscription.put_i32(1);
        subscription.put_i16(self.topic.len() as i16);
        subscription.put_slice(self.topic.as_bytes());
        subscription.put_i32(-1);
        subscription.put_i32(0);
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("cooperative-sticky"))
            .with_metadata(subscription.freeze());
        JoinGroupRequest::default()
            .with_group_id(group_id(self.group))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(20_000)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.map(text))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    }

    /// Joins, with the id that it is given first if it is dynamic, and leads or follows.
    fn join(&mut self, wire: &mut Wire, version: i16) -> JoinGroupResponse {
        let mut answer = wire.ask(version, &self.join_request());
        if answer.error_code == MEMBER_ID_REQUIRED {
            assert!(self.instance.is_none() && !answer.member_id.is_empty());
            self.id = answer.member_id;
            answer = wire.ask(version, &self.join_request());
        }
        assert_eq!(answer.error_code, NONE);
        self.id = answer.member_id.clone();
        self.generation = answer.generation_id;
        answer
    }

    fn sync(&self, wire: &mut Wire, assignments: &[(&StrBytes, &'static str)]) -> (i16, Bytes) {
        let assignments = assignments.iter().map(|(id, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id((*id).clone())
                .with_assignment(Bytes::from_static(assignment.as_bytes()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.map(text))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("cooperative-sticky")))
            .with_assignments(assignments.collect());
        let answer = wire.ask(5, &request);
        (answer.error_code, answer.assignment)
    }

    fn heartbeat(&self, wire: &mut Wire) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.map(text));
        wire.ask(4, &request).error_code
    }

    fn commit(&self, wire: &mut Wire, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(self.topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.map(text))
            .with_topics(vec![topic]);
        wire.ask(8, &request).topics[0].partitions[0].error_code
    }

    fn leave(&self, wire: &mut Wire) -> i16 {
        leave(wire, self.group, self.id.clone(), self.instance)
    }
}

fn leave(wire: &mut Wire, group: &str, id: StrBytes, instance: Option<&str>) -> i16 {
    let member = MemberIdentity::default()
        .with_member_id(id)
        .with_group_instance_id(instance.map(text));
    let request = LeaveGroupRequest::default()
        .with_group_id(group_id(group))
        .with_members(vec![member]);
    let answer = wire.ask(5, &request);
    assert_eq!(answer.error_code, NONE);
    answer.members[0].error_code
}

fn describe(wire: &mut Wire, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    wire.ask(5, &request).groups.remove(0)
}

fn delete(wire: &mut Wire, group: &str) -> i16 {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    wire.ask(2, &request).results[0].error_code
}

fn committed(wire: &mut Wire, group: &str, topic: &str) -> i64 {
    let wanted = OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(group))
        .with_topics(Some(vec![wanted]));
    wire.ask(7, &request).topics[0].partitions[0].committed_offset
}

fn state(wire: &mut Wire, group: &str) -> String {
    describe(wire, group).group_state.to_string()
}

pub fn life(address: &str) {
    let wire = &mut Wire::connect(address);
    let topic = topic(wire, "read", 1, &[]);
    let group = group(wire);
    assert_eq!(state(wire, &group), "Dead");
    assert_eq!(delete(wire, &group), GROUP_ID_NOT_FOUND);
    let mut first = Member::new(&group, &topic, None);
    let joined = first.join(wire, 9);
    assert_eq!(
        (joined.leader.clone(), joined.members.len()),
        (first.id.clone(), 1)
    );
    assert_eq!(joined.protocol_type, Some(text("consumer")));
    assert_eq!(joined.protocol_name, Some(text("cooperative-sticky")));
    assert_eq!(state(wire, &group), "CompletingRebalance");
    assert_eq!(first.commit(wire, 3), REBALANCE_IN_PROGRESS);
    let synced = first.sync(wire, &[(&first.id, "all")]);
    assert_eq!(synced, (NONE, Bytes::from_static(b"all")));
    let told = describe(wire, &group);
    assert_eq!(told.group_state, text("Stable"));
    assert_eq!(told.protocol_type, text("consumer"));
    assert_eq!(told.protocol_data, text("cooperative-sticky"));
    let member = &told.members[0];
    assert_eq!(member.member_id, first.id);
    assert_eq!(member.client_id, text("checks"));
    assert_eq!(member.member_assignment, Bytes::from_static(b"all"));
    assert_eq!(first.heartbeat(wire), NONE);
    assert_eq!(first.commit(wire, 3), NONE);
    listed(wire, &group);
    assert_eq!(delete(wire, &group), NON_EMPTY_GROUP);
    shared(address, wire, &mut first);
    assert_eq!(first.leave(wire), NONE);
    assert_eq!(state(wire, &group), "Empty");
    assert_eq!(committed(wire, &group, &topic), 4);
    assert_eq!(delete(wire, &group), NONE);
    assert_eq!(state(wire, &group), "Dead");
    assert_eq!(committed(wire, &group, &topic), -1);
}

/// A second member comes and goes; the first keeps committing under its generation until it joins again.
fn shared(address: &str, wire: &mut Wire, first: &mut Member<'_>) {
    let other = &mut Wire::connect(address);
    let mut second = Member::new(first.group, first.topic, None);
    let given = other.ask(9, &second.join_request());
    assert_eq!(given.error_code, MEMBER_ID_REQUIRED);
    second.id = given.member_id;
    other.send(9, &second.join_request());
    let deadline = Instant::now() + PATIENCE;
    while first.heartbeat(wire) != REBALANCE_IN_PROGRESS {
        assert!(Instant::now() < deadline, "no rebalance began");
    }
    assert_eq!(first.commit(wire, 4), NONE);
    let rejoined = first.join(wire, 9);
    second.generation = other.receive::<JoinGroupRequest>(9).generation_id;
    assert_eq!(
        (rejoined.members.len(), second.generation),
        (2, first.generation)
    );
    other.send(
        4,
        &HeartbeatRequest::default().with_group_id(group_id(first.group)),
    );
    assert_eq!(
        other.receive::<HeartbeatRequest>(4).error_code,
        UNKNOWN_MEMBER_ID
    );
    assert_eq!(
        first
            .sync(wire, &[(&first.id, "one"), (&second.id, "two")])
            .0,
        NONE
    );
    assert_eq!(second.sync(other, &[]), (NONE, Bytes::from_static(b"two")));
    assert_eq!(second.leave(other), NONE);
    assert_eq!(second.leave(other), UNKNOWN_MEMBER_ID);
}

fn listed(wire: &mut Wire, group: &str) {
    let mut list = |states: &[&str], types: &[&str]| {
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|name| text(name)).collect())
            .with_types_filter(types.iter().map(|name| text(name)).collect());
        let answer = wire.ask(5, &request);
        assert_eq!(answer.error_code, NONE);
        let found = answer
            .groups
            .into_iter()
            .find(|listed| *listed.group_id == *group);
        found.map(|found| (found.protocol_type, found.group_state, found.group_type))
    };
    let expected = Some((text("consumer"), text("Stable"), text("classic")));
    assert_eq!(list(&[], &[]), expected);
    assert_eq!(list(&["Stable"], &["classic"]), expected);
    assert_eq!(list(&["Empty"], &[]), None);
}

pub fn strangers(address: &str) {
    let wire = &mut Wire::connect(address);
    let topic = topic(wire, "read", 1, &[]);
    let group = group(wire);
    let mut stranger = Member::new(&group, &topic, None);
    assert_eq!(
        stranger.commit(wire, 1),
        NONE,
        "nobody is in: assigned by hand"
    );
    stranger.id = text("stranger");
    stranger.generation = 1;
    assert_eq!(stranger.heartbeat(wire), UNKNOWN_MEMBER_ID);
    assert_eq!(
        wire.ask(9, &stranger.join_request()).error_code,
        UNKNOWN_MEMBER_ID
    );
    let mut member = Member::new(&group, &topic, None);
    member.join(wire, 5);
    assert_eq!(member.sync(wire, &[]).0, NONE);
    stranger.generation = member.generation;
    assert_eq!(stranger.commit(wire, 2), UNKNOWN_MEMBER_ID);
    assert_eq!(
        Member::new(&group, &topic, None).commit(wire, 2),
        UNKNOWN_MEMBER_ID
    );
    member.generation += 1;
    assert_eq!(member.commit(wire, 2), ILLEGAL_GENERATION);
    assert_eq!(member.heartbeat(wire), ILLEGAL_GENERATION);
    assert_eq!(member.sync(wire, &[]).0, ILLEGAL_GENERATION);
    let mut other = Member::new(&group, &topic, Some("other")).join_request();
    other.protocols[0].name = text("another");
    let refused = wire.ask(9, &other).error_code;
    assert_eq!(refused, INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(committed(wire, &group, &topic), 1);
    assert_eq!(member.leave(wire), NONE);
}

pub fn comes_back(address: &str) {
    let wire = &mut Wire::connect(address);
    let topic = topic(wire, "read", 1, &[]);
    // One that knows of skipping the assignment leads on; an older one is told that another leads.
    for (version, skips) in [(9, true), (8, false)] {
        let group = group(wire);
        let mut first = Member::new(&group, &topic, Some("place"));
        let joined = first.join(wire, version);
        assert_eq!(joined.leader, first.id, "without being given an id first");
        assert_eq!(joined.members[0].group_instance_id, Some(text("place")));
        assert_eq!(first.sync(wire, &[(&first.id, "all")]).0, NONE);
        assert_eq!(first.heartbeat(wire), NONE);
        let mut second = Member::new(&group, &topic, Some("place"));
        let joined = second.join(wire, version);
        assert_ne!(second.id, first.id);
        assert_eq!(second.generation, first.generation, "no rebalance");
        assert_eq!(joined.skip_assignment, skips);
        let leader = if skips { &second.id } else { &first.id };
        assert_eq!(joined.leader, *leader);
        assert_eq!(second.sync(wire, &[]), (NONE, Bytes::from_static(b"all")));
        assert_eq!(second.heartbeat(wire), NONE);
        assert_eq!(second.commit(wire, 5), NONE);
        // Whoever held the place before is fenced, whatever it tries.
        assert_eq!(first.heartbeat(wire), FENCED_INSTANCE_ID);
        assert_eq!(first.commit(wire, 6), FENCED_INSTANCE_ID);
        assert_eq!(first.sync(wire, &[]).0, FENCED_INSTANCE_ID);
        assert_eq!(
            wire.ask(version, &first.join_request()).error_code,
            FENCED_INSTANCE_ID
        );
        assert_eq!(first.leave(wire), FENCED_INSTANCE_ID);
        assert_eq!(committed(wire, &group, &topic), 5);
        let told = describe(wire, &group);
        assert_eq!(told.members.len(), 1);
        assert_eq!(told.members[0].group_instance_id, Some(text("place")));
        assert_eq!(second.leave(wire), NONE);
    }
}

pub fn told_to_leave(address: &str) {
    let wire = &mut Wire::connect(address);
    let topic = topic(wire, "read", 1, &[]);
    let group = group(wire);
    let mut member = Member::new(&group, &topic, Some("place"));
    member.join(wire, 9);
    assert_eq!(member.sync(wire, &[(&member.id, "all")]).0, NONE);
    assert_eq!(member.commit(wire, 1), NONE);
    let nobody = StrBytes::default;
    assert_eq!(
        leave(wire, &group, nobody(), Some("another")),
        UNKNOWN_MEMBER_ID
    );
    assert_eq!(leave(wire, &group, nobody(), Some("place")), NONE);
    assert_eq!(member.heartbeat(wire), UNKNOWN_MEMBER_ID);
    assert_eq!(state(wire, &group), "Empty");
}

pub fn forgotten(address: &str) {
    let wire = &mut Wire::connect(address);
    let (read, unread) = (topic(wire, "read", 1, &[]), topic(wire, "unread", 1, &[]));
    let group = group(wire);
    let forget = |wire: &mut Wire, topic: &str| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let wanted = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default()
            .with_group_id(group_id(&group))
            .with_topics(vec![wanted]);
        let answer = wire.ask(0, &request);
        let topic = answer.topics.first();
        (
            answer.error_code,
            topic.map_or(NONE, |topic| topic.partitions[0].error_code),
        )
    };
    assert_eq!(forget(wire, &read).0, GROUP_ID_NOT_FOUND);
    assert_eq!(Member::new(&group, &unread, None).commit(wire, 7), NONE);
    let mut member = Member::new(&group, &read, None);
    member.join(wire, 9);
    assert_eq!(member.sync(wire, &[]).0, NONE);
    assert_eq!(member.commit(wire, 8), NONE);
    assert_eq!(forget(wire, &read), (NONE, GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(forget(wire, &unread), (NONE, NONE));
    assert_eq!(committed(wire, &group, &unread), -1);
    assert_eq!(committed(wire, &group, &read), 8);
    assert_eq!(member.leave(wire), NONE);
    assert_eq!(forget(wire, &read), (NONE, NONE));
    assert_eq!(committed(wire, &group, &read), -1);
}
