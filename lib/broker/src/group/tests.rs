//! What a group promises its members, without a clock or a network.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::state::Group;
use super::{Client, Effect, Join, Joined, Protocol};

pub const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// A group and a clock that only this moves.
pub struct World {
    pub group: Group,
    pub now: Instant,
}

pub fn join_with(protocols: &[&str]) -> Join {
    let protocol = |&name: &&str| Protocol {
        name: name.to_owned(),
        metadata: Bytes::from(name.to_owned()),
    };
    Join {
        session: SESSION,
        rebalance: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: protocols.iter().map(protocol).collect(),
        instance: None,
        may_skip: true,
        client: Client::default(),
    }
}

impl World {
    pub fn new() -> Self {
        Self {
            group: Group::new(3),
            now: Instant::now(),
        }
    }

    /// A group in which these have joined and got their assignments.
    fn settled(members: &[&str]) -> Self {
        let mut world = Self::new();
        for member in members {
            world.join(member).unwrap();
        }
        for member in members {
            world.join(member).unwrap();
        }
        let generation = world.generation(members[0]);
        world.sync_all(members, generation);
        world
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub fn join(&mut self, member: &str) -> Result<Vec<Effect>, ResponseError> {
        self.group
            .join(self.now, member, true, join_with(&["range"]))
    }

    pub fn sync(
        &mut self,
        member: &str,
        generation: i32,
        assigned: &[&str],
    ) -> Result<Vec<Effect>, ResponseError> {
        let assignments = assigned
            .iter()
            .map(|id| ((*id).to_owned(), Bytes::from((*id).to_owned())));
        self.group.sync(
            self.now,
            member,
            generation,
            assignments.collect::<HashMap<_, _>>(),
        )
    }

    pub fn sync_all(&mut self, members: &[&str], generation: i32) {
        for member in members {
            self.sync(member, generation, members).unwrap();
        }
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), ResponseError> {
        self.group.heartbeat(self.now, member, generation)
    }

    fn commit(&mut self, member: &str, generation: i32) -> Result<(), ResponseError> {
        self.group.may_commit(self.now, member, generation)
    }

    /// Finds the generation by what a heartbeat accepts.
    fn generation(&mut self, member: &str) -> i32 {
        let accepts = |group: &mut Group, generation| {
            group.heartbeat(self.now, member, generation) != Err(ResponseError::IllegalGeneration)
        };
        (0..100)
            .find(|&generation| accepts(&mut self.group, generation))
            .unwrap()
    }
}

pub fn joined(effects: &[Effect]) -> Vec<(&str, &Joined)> {
    let accepted = |effect| match effect {
        &Effect::Joined(ref member, Ok(ref joined)) => Some((member.as_str(), joined)),
        _ => None,
    };
    effects.iter().filter_map(accepted).collect()
}

#[test]
fn the_first_member_leads_at_once_and_the_second_starts_a_rebalance() {
    let mut world = World::new();
    let effects = world.join("a").unwrap();
    let [("a", answer)] = joined(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (
            answer.generation,
            answer.leader.as_str(),
            answer.protocol.as_str()
        ),
        (1, "a", "range")
    );
    let effects = world.sync("a", 1, &["a"]).unwrap();
    assert_eq!(
        effects,
        [Effect::Synced("a".to_owned(), Ok(Bytes::from("a")))]
    );
    assert_eq!(world.join("b").unwrap(), []);
    assert_eq!(
        world.heartbeat("a", 1),
        Err(ResponseError::RebalanceInProgress)
    );
    let effects = world.join("a").unwrap();
    let answers = joined(&effects);
    assert_eq!(answers.len(), 2);
    for (member, answer) in answers {
        assert_eq!((answer.generation, answer.leader.as_str()), (2, "a"));
        assert_eq!(answer.members.len(), if member == "a" { 2 } else { 0 });
    }
}

#[test]
fn a_follower_waits_for_the_leaders_assignment() {
    let mut world = World::new();
    world.join("a").unwrap();
    world.join("b").unwrap();
    world.join("a").unwrap();
    assert_eq!(world.sync("b", 2, &[]).unwrap(), []);
    let effects = world.sync("a", 2, &["a", "b"]).unwrap();
    let expected = ["a", "b"].map(|id| Effect::Synced(id.to_owned(), Ok(Bytes::from(id))));
    assert_eq!(effects, expected);
    // Asking again gives the same.
    assert_eq!(world.sync("b", 2, &[]).unwrap(), expected[1..]);
}

#[test]
fn commits_are_taken_while_members_give_up_their_partitions() {
    let mut world = World::settled(&["a", "b"]);
    let generation = world.generation("a");
    world.join("c").unwrap(); // the rebalance begins, the generation stays
    assert_eq!(world.commit("a", generation), Ok(()));
    assert_eq!(
        world.commit("a", generation + 1),
        Err(ResponseError::IllegalGeneration)
    );
    assert_eq!(
        world.commit("x", generation),
        Err(ResponseError::UnknownMemberId)
    );
    world.join("a").unwrap();
    assert_eq!(world.commit("b", generation), Ok(()));
    world.join("b").unwrap(); // all have come: the next generation
    assert_eq!(
        world.commit("a", generation),
        Err(ResponseError::IllegalGeneration)
    );
    assert_eq!(
        world.commit("a", generation + 1),
        Err(ResponseError::RebalanceInProgress)
    );
    world.sync_all(&["a", "b", "c"], generation + 1);
    assert_eq!(world.commit("a", generation + 1), Ok(()));
}

#[test]
fn anybody_may_commit_by_hand_where_nobody_is_a_member() {
    let mut world = World::new();
    assert_eq!(world.commit("", -1), Ok(()));
    world.join("a").unwrap();
    assert_eq!(world.commit("", -1), Err(ResponseError::UnknownMemberId));
}

#[test]
fn who_is_silent_for_too_long_is_dropped() {
    let mut world = World::settled(&["a", "b"]);
    let generation = world.generation("a");
    world.wait(SESSION / 2);
    world.heartbeat("a", generation).unwrap();
    assert_eq!(world.group.tick(world.now), []);
    world.wait(SESSION / 2);
    assert_eq!(world.group.next_deadline(), Some(world.now));
    world.group.tick(world.now);
    assert_eq!(
        world.heartbeat("b", generation),
        Err(ResponseError::UnknownMemberId)
    );
    assert_eq!(
        world.heartbeat("a", generation),
        Err(ResponseError::RebalanceInProgress)
    );
    let effects = world.join("a").unwrap();
    assert_eq!(joined(&effects)[0].1.members.len(), 1);
}

#[test]
fn a_rebalance_does_not_wait_for_ever() {
    let mut world = World::settled(&["a", "b"]);
    let generation = world.generation("a");
    world.join("a").unwrap();
    // The other one is alive but does not come.
    for _ in 0..7 {
        world.wait(SESSION - Duration::from_secs(1));
        let _ = world.heartbeat("b", generation);
        let effects = world.group.tick(world.now);
        if let [("a", answer)] = joined(&effects)[..] {
            assert_eq!(
                (answer.generation, answer.members.len()),
                (generation + 1, 1)
            );
            assert_eq!(
                world.heartbeat("b", generation),
                Err(ResponseError::UnknownMemberId)
            );
            return;
        }
    }
    panic!("the rebalance never ended");
}

#[test]
fn a_leader_that_never_assigns_is_dropped() {
    let mut world = World::new();
    world.join("a").unwrap();
    world.join("b").unwrap();
    world.join("a").unwrap();
    assert_eq!(world.sync("b", 2, &[]).unwrap(), []);
    world.wait(SESSION);
    let effects = world.group.tick(world.now);
    assert_eq!(
        effects,
        [Effect::Synced(
            "b".to_owned(),
            Err(ResponseError::RebalanceInProgress)
        )]
    );
    let effects = world.join("b").unwrap();
    assert_eq!(joined(&effects)[0].1.leader, "b");
}

#[test]
fn who_leaves_is_out_and_the_last_one_empties_the_group() {
    let mut world = World::settled(&["a", "b"]);
    let generation = world.generation("a");
    world.group.leave(world.now, "a").unwrap();
    assert_eq!(
        world.group.leave(world.now, "a"),
        Err(ResponseError::UnknownMemberId)
    );
    assert_eq!(
        world.heartbeat("b", generation),
        Err(ResponseError::RebalanceInProgress)
    );
    world.group.leave(world.now, "b").unwrap();
    assert!(world.group.is_vacant());
    assert_eq!(world.group.next_deadline(), None);
}

#[test]
fn a_follower_that_asks_again_starts_no_rebalance_but_the_leader_does() {
    let mut world = World::settled(&["a", "b"]);
    let generation = world.generation("a");
    let effects = world.join("b").unwrap();
    assert_eq!(joined(&effects)[0].1.generation, generation);
    assert_eq!(world.heartbeat("a", generation), Ok(()));
    assert_eq!(world.join("a").unwrap(), []);
    assert_eq!(
        world.heartbeat("b", generation),
        Err(ResponseError::RebalanceInProgress)
    );
}

#[test]
fn all_must_have_a_protocol_in_common_and_the_favourite_wins() {
    let mut world = World::new();
    let mut join =
        |id: &str, protocols: &[&str]| world.group.join(world.now, id, true, join_with(protocols));
    join("a", &["range", "sticky"]).unwrap();
    assert_eq!(
        join("b", &["other"]),
        Err(ResponseError::InconsistentGroupProtocol)
    );
    assert_eq!(
        join("b", &[]),
        Err(ResponseError::InconsistentGroupProtocol)
    );
    join("b", &["sticky", "other"]).unwrap();
    let effects = join("a", &["range", "sticky"]).unwrap();
    assert!(
        joined(&effects)
            .iter()
            .all(|(_, answer)| answer.protocol == "sticky")
    );
}

#[test]
fn strangers_and_crowds_are_refused() {
    let mut world = World::new();
    let stranger = world
        .group
        .join(world.now, "x", false, join_with(&["range"]));
    assert_eq!(stranger, Err(ResponseError::UnknownMemberId));
    for id in ["a", "b", "c"] {
        world
            .group
            .expect(world.now, id.to_owned(), SESSION)
            .unwrap();
    }
    assert_eq!(
        world.group.expect(world.now, "d".to_owned(), SESSION),
        Err(ResponseError::GroupMaxSizeReached)
    );
    world
        .group
        .join(world.now, "a", false, join_with(&["range"]))
        .unwrap();
    world.wait(SESSION);
    world.group.tick(world.now);
    let late = world
        .group
        .join(world.now, "b", false, join_with(&["range"]));
    assert_eq!(late, Err(ResponseError::UnknownMemberId));
}

#[test]
fn no_order_of_events_breaks_a_group() {
    for seed in 1..200_u64 {
        let mut world = World::new();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..300 {
            let member = ["a", "b", "c", "d"][random(4) as usize];
            let generation = random(6) as i32;
            match random(7) {
                0 | 1 => drop(world.join(member)),
                2 => drop(world.sync(member, generation, &["a", "b", "c"])),
                3 => drop(world.heartbeat(member, generation)),
                4 => drop(world.group.leave(world.now, member)),
                5 => drop(world.commit(member, generation)),
                _ => world.wait(Duration::from_secs(random(20))),
            }
            world.group.tick(world.now);
            // After a tick nothing is due, or else the alarm would ring without end.
            assert!(
                world
                    .group
                    .next_deadline()
                    .is_none_or(|deadline| world.now < deadline)
            );
        }
        // Left alone, every group ends empty.
        while let Some(deadline) = world.group.next_deadline() {
            world.now = deadline;
            world.group.tick(deadline);
        }
        assert!(world.group.is_vacant(), "seed {seed}");
    }
}
