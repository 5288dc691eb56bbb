//! Consumer groups with librdkafka: joining, rebalancing, dying, committing and coming back.

#![allow(clippy::unwrap_used)] // helpers of tests fail as they do

mod support;

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use support::{Clients, PATIENCE, Process, Sandbox, ask, payloads, take, until};

const GROUP: &str = "g";
const TOPIC: &str = "t";

const OPTIONS: [(&str, &str); 5] = [
    ("group.id", GROUP),
    ("auto.offset.reset", "earliest"),
    ("enable.auto.commit", "false"),
    ("heartbeat.interval.ms", "100"),
    ("session.timeout.ms", "6000"),
];

/// Commits during every revoke, and remembers what came of it.
#[derive(Default)]
struct Committing {
    commits: Mutex<Vec<KafkaResult<()>>>,
}

impl ClientContext for Committing {}

impl ConsumerContext for Committing {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(revoked) = rebalance {
            let mut offsets = (*revoked).clone();
            offsets.set_all_offsets(Offset::Offset(7)).unwrap();
            let result = consumer.commit(&offsets, CommitMode::Sync);
            self.commits.lock().unwrap().push(result);
        }
    }
}

type Member = BaseConsumer<Committing>;

fn member(clients: &Clients, options: &[(&str, &str)]) -> Member {
    let mut config = clients.config(&OPTIONS);
    for (key, value) in options {
        config.set(*key, *value);
    }
    let member: Member = config.create_with_context(Committing::default()).unwrap();
    member.subscribe(&[TOPIC]).unwrap();
    member
}

fn partitions(member: &Member) -> BTreeSet<i32> {
    member
        .assignment()
        .unwrap()
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect()
}

/// Polls all members until they share the partitions like this, the luckiest first.
fn settle(members: &[&Member], expected: &[usize]) {
    until("the assignment", || {
        for member in members {
            let _ = member.poll(Duration::from_millis(10));
        }
        let mut counts: Vec<usize> = members
            .iter()
            .map(|member| partitions(member).len())
            .collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts == expected
    });
    let all: BTreeSet<i32> = members
        .iter()
        .flat_map(|member| partitions(member))
        .collect();
    assert_eq!(all.len(), expected.iter().sum::<usize>());
}

/// Takes a member out of its group before it is dropped.
///
/// Dropping a consumer that still has partitions can hang in librdkafka: the rebalance callback asks a thread that has
/// ended already which protocol it uses (`rd_kafka_rebalance_protocol`).
fn leave(member: Member) {
    member.unsubscribe();
    until("the revoke", || {
        let _ = member.poll(Duration::from_millis(10));
        partitions(&member).is_empty()
    });
}

fn committed(clients: &Clients, group: &str, partition: i32) -> Offset {
    let consumer: BaseConsumer = clients.config(&[("group.id", group)]).create().unwrap();
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition(TOPIC, partition);
    let found = consumer.committed_offsets(wanted, PATIENCE).unwrap();
    found.elements()[0].offset()
}

#[test]
fn members_share_the_partitions_and_commits_in_a_revoke_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create(TOPIC, 4);
    let first = member(&clients, &[]);
    settle(&[&first], &[4]);
    let second = member(&clients, &[]);
    settle(&[&first, &second], &[2, 2]);
    {
        let commits = first.context().commits.lock().unwrap();
        assert!(
            !commits.is_empty() && commits.iter().all(Result::is_ok),
            "{commits:?}"
        );
    }
    for partition in 0..4 {
        assert_eq!(committed(&clients, GROUP, partition), Offset::Offset(7));
    }
    let third = member(&clients, &[]);
    settle(&[&first, &second, &third], &[2, 1, 1]);
    leave(second);
    until("the rest to take over", || {
        let _ = first.poll(Duration::from_millis(10));
        let _ = third.poll(Duration::from_millis(10));
        partitions(&first).len() + partitions(&third).len() == 4
    });
    leave(first);
    leave(third);
}

#[test]
fn every_assignor_of_librdkafka_works() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create(TOPIC, 4);
    for assignor in ["range", "roundrobin", "cooperative-sticky"] {
        let options = [
            ("group.id", assignor),
            ("partition.assignment.strategy", assignor),
        ];
        let first = member(&clients, &options);
        settle(&[&first], &[4]);
        let second = member(&clients, &options);
        settle(&[&first, &second], &[2, 2]);
        leave(first);
        leave(second);
    }
}

/// Joins a group by hand, with a session of 1.5 s, and returns the connection for what comes next.
fn join_by_hand(sandbox: &Sandbox) -> TcpStream {
    let mut stream = TcpStream::connect(sandbox.address).unwrap();
    let join =
        b"\0\x0b\0\0\0\0\0\x01\0\x01c\0\x01g\0\0\x05\xdc\0\0\0\x08consumer\0\0\0\x01\0\x05range\
        \0\0\0\x0d\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
    let answer = ask(&mut stream, join);
    assert_eq!(
        answer[..10],
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 1],
        "no error, generation 1"
    );
    // After the protocol and the leader, the member's own id.
    let after = |at: usize| at + 2 + usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
    let member = &answer[after(after(10))..after(after(after(10)))];
    let sync = [
        b"\0\x0e\0\0\0\0\0\x02\0\x01c\0\x01g\0\0\0\x01",
        member,
        b"\0\0\0\0",
    ]
    .concat();
    assert_eq!(ask(&mut stream, &sync)[..6], [0, 0, 0, 2, 0, 0]);
    stream
}

#[test]
fn a_silent_member_is_dropped_after_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create(TOPIC, 2);
    let _silent = join_by_hand(&sandbox); // connected, but without a word
    let joined = Instant::now();
    let survivor = member(&clients, &[]);
    settle(&[&survivor], &[2]);
    assert!(
        Duration::from_millis(1_400) < joined.elapsed(),
        "dropped too early: {:?}",
        joined.elapsed()
    );
    leave(survivor);
}

#[test]
fn commits_survive_kill_9_and_manual_ones_work_too() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path());
    let clients = process.clients();
    clients.create(TOPIC, 1);
    let sender = clients.sender(&[]);
    for n in 0..20_u8 {
        sender.value(TOPIC, &[n]).unwrap();
    }
    let consumer: BaseConsumer = clients.config(&OPTIONS).create().unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    let messages = take(&consumer, 10);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(TOPIC, 0, Offset::Offset(messages[9].offset() + 1))
        .unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    // Somebody without a group's ways: assigned by hand, committing all the same.
    let loner = clients.reader(TOPIC, 0, Offset::Beginning, &[("group.id", "loner")]);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(TOPIC, 0, Offset::Offset(3))
        .unwrap();
    loner.commit(&offsets, CommitMode::Sync).unwrap();
    process.kill();
    drop((consumer, loner));
    let process = Process::start(folder.path());
    let clients = process.clients();
    assert_eq!(committed(&clients, GROUP, 0), Offset::Offset(10));
    assert_eq!(committed(&clients, "loner", 0), Offset::Offset(3));
    assert_eq!(committed(&clients, "stranger", 0), Offset::Invalid);
    let consumer: BaseConsumer = clients.config(&OPTIONS).create().unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    let expected: Vec<Vec<u8>> = (10..20).map(|n| vec![n]).collect();
    assert_eq!(payloads(&take(&consumer, 10)), expected);
}

#[test]
fn what_was_committed_for_a_deleted_topic_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    let clients = sandbox.clients();
    clients.create(TOPIC, 1);
    let loner = clients.reader(TOPIC, 0, Offset::Beginning, &[("group.id", GROUP)]);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(TOPIC, 0, Offset::Offset(3))
        .unwrap();
    loner.commit(&offsets, CommitMode::Sync).unwrap();
    assert_eq!(committed(&clients, GROUP, 0), Offset::Offset(3));
    clients.delete(TOPIC).unwrap();
    clients.create(TOPIC, 1);
    assert_eq!(committed(&clients, GROUP, 0), Offset::Invalid);
}
