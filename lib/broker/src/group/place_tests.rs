//! What a group promises its static members: their places.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::state::Phase;
use super::tests::{SESSION, World, join_with, joined};
use super::{Effect, Join};

fn static_join(instance: &str, may_skip: bool) -> Join {
    Join {
        instance: Some(instance.to_owned()),
        may_skip,
        ..join_with(&["range"])
    }
}

#[test]
fn a_place_is_taken_over_without_a_rebalance_and_its_holder_fenced() {
    for may_skip in [true, false] {
        let mut world = World::new();
        let place = || static_join("place", may_skip);
        world.group.join(world.now, "a", true, place()).unwrap();
        world.sync("a", 1, &["a"]).unwrap();
        let effects = world.group.join(world.now, "b", true, place()).unwrap();
        let [("b", answer)] = joined(&effects)[..] else {
            panic!("{effects:?}")
        };
        assert_eq!((answer.generation, answer.skip_assignment), (1, may_skip));
        assert_eq!(answer.leader, if may_skip { "b" } else { "a" });
        let effects = world.sync("b", 1, &[]).unwrap();
        assert_eq!(
            effects,
            [Effect::Synced("b".to_owned(), Ok(Bytes::from("a")))]
        );
        let fenced = Err(ResponseError::FencedInstanceId);
        assert_eq!(world.group.identify("a", Some("place")), fenced);
        assert_eq!(world.group.identify("b", Some("place")), Ok(()));
        let again = world.group.join(world.now, "a", false, place());
        assert_eq!(again, Err(ResponseError::FencedInstanceId));
    }
}

#[test]
fn a_place_is_kept_through_a_rebalance_until_its_session_ends() {
    let mut world = World::new();
    world
        .group
        .join(world.now, "s", true, static_join("place", true))
        .unwrap();
    world.sync("s", 1, &["s"]).unwrap();
    assert_eq!(world.join("a").unwrap(), []);
    // The static member is silent, and the rebalance ends without it only because its session does.
    world.wait(SESSION - Duration::from_millis(1));
    assert_eq!(world.group.tick(world.now), []);
    let effects = world
        .group
        .join(world.now, "t", true, static_join("place", true))
        .unwrap();
    assert_eq!(
        joined(&effects).len(),
        2,
        "its successor came in time: {effects:?}"
    );
    assert_eq!(world.group.members.len(), 2);
    world.sync_all(&["a", "t"], 2);
    world.wait(SESSION);
    world.group.tick(world.now);
    assert!(world.group.is_vacant() && world.group.instances.is_empty());
}

#[test]
fn no_order_of_events_breaks_a_group_with_places() {
    for seed in 1..200_u64 {
        let mut world = World::new();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut ids: Vec<String> = Vec::new();
        for n in 0..300 {
            let place = ["one", "two"][random(2) as usize];
            let known = ids.get(random(8).min(ids.len() as u64) as usize).cloned();
            let id = known.unwrap_or_else(|| format!("m{n}"));
            let generation = random(6) as i32;
            let join = static_join(place, random(2) == 0);
            match random(8) {
                0..=2 => {
                    let fresh = format!("m{n}");
                    if world.group.join(world.now, &fresh, true, join).is_ok() {
                        ids.insert(0, fresh);
                    }
                }
                3 => drop(world.group.join(world.now, &id, false, join)),
                4 => drop(world.sync(&id, generation, &[&id])),
                5 => drop(world.group.leave_place(world.now, "", Some(place))),
                6 => drop(world.join(["a", "b"][random(2) as usize])),
                _ => world.wait(Duration::from_secs(random(20))),
            }
            world.group.tick(world.now);
            let due = world.group.next_deadline();
            assert!(
                due.is_none_or(|deadline| world.now < deadline),
                "seed {seed}"
            );
            let group = &world.group;
            for (place, holder) in &group.instances {
                let held = group
                    .members
                    .get(holder)
                    .and_then(|member| member.join.instance.as_ref());
                assert_eq!(held, Some(place), "seed {seed}");
            }
            let settled = matches!(group.phase, Phase::Stable | Phase::Assigning { .. });
            let led = group
                .leader
                .as_ref()
                .is_some_and(|id| group.members.contains_key(id));
            assert!(!settled || led, "seed {seed}");
        }
        while let Some(deadline) = world.group.next_deadline() {
            world.now = deadline;
            world.group.tick(deadline);
        }
        assert!(
            world.group.is_vacant() && world.group.instances.is_empty(),
            "seed {seed}"
        );
    }
}
