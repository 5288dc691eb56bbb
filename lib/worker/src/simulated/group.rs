//! Groups: who has which partitions, and how far they have committed. Pure but for waking members.
//!
//! They are cooperative, as those of Kafka: members go on with what they have while they join, and what moves is
//! first given up by the one, and then, in a rebalance of its own, given to the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::Offset;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Client, Dice, Story};
use crate::batch::TopicPartition;

/// How long a rebalance waits for members to join.
const REBALANCE_MAX: Duration = Duration::from_millis(1_500);

/// Partitions of a thousand that stay where they are when all are given out anew.
const STAY: u64 = 500;

/// A consumer group.
#[derive(Default)]
pub(super) struct Group {
    generation: u64,
    members: BTreeMap<u64, Seat>,
    /// Until when a rebalance under way waits.
    deadline: Option<Instant>,
    /// Who gets what, once it is free.
    wanted: BTreeMap<TopicPartition, u64>,
    /// Whether that is to be decided anew.
    anew: bool,
    committed: BTreeMap<TopicPartition, Offset>,
    handed: BTreeMap<TopicPartition, (u64, Offset)>,
}

struct Seat {
    client: Arc<Client>,
    bell: Arc<Notify>,
    /// Whether it has joined the rebalance under way.
    joined: bool,
    /// What it had when it joined.
    owned: Vec<TopicPartition>,
    /// What it has in this generation.
    assigned: Vec<TopicPartition>,
}

/// What a member is to its group now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has these partitions, of the generation.
    Has(u64, Vec<TopicPartition>),
    /// A rebalance is under way, until then at most.
    Rebalancing(Instant),
    /// It was thrown out.
    Out,
}

impl Group {
    /// Takes a member in that has nothing, which brings a rebalance.
    pub(super) fn join(&mut self, id: u64, client: &Arc<Client>, bell: &Arc<Notify>) {
        let seat = Seat {
            client: client.clone(),
            bell: bell.clone(),
            joined: true,
            owned: Vec::new(),
            assigned: Vec::new(),
        };
        self.members.insert(id, seat);
        self.give_out_anew();
    }

    /// Lets a member go.
    pub(super) fn leave(&mut self, id: u64) {
        if self.members.remove(&id).is_some() {
            self.give_out_anew();
        }
    }

    /// Throws the members of a process out.
    pub(super) fn expel(&mut self, client: &Arc<Client>, story: &Story) {
        let before = self.members.len();
        self.members
            .retain(|_, seat| !Arc::ptr_eq(&seat.client, client));
        if self.members.len() < before {
            story.tell(format_args!("{} is thrown out of its group", client.name));
            self.give_out_anew();
        }
    }

    /// Begins a rebalance in which partitions move.
    pub(super) fn give_out_anew(&mut self) {
        self.anew = true;
        self.begin_rebalance();
    }

    /// Begins a rebalance, for instance to give out what a member has just given up.
    pub(super) fn begin_rebalance(&mut self) {
        self.deadline.get_or_insert(Instant::now() + REBALANCE_MAX);
        self.ring();
    }

    /// Lets a member join the rebalance under way with what it has.
    pub(super) fn rejoin(&mut self, id: u64, owned: Vec<TopicPartition>) {
        if let Some(seat) = self.members.get_mut(&id) {
            seat.joined = true;
            seat.owned = owned;
        }
    }

    /// Returns what a member is now; ends a rebalance for which nothing is left to wait.
    pub(super) fn standing(
        &mut self,
        id: u64,
        all: &[TopicPartition],
        dice: Option<&Dice>,
        story: &Story,
    ) -> Standing {
        if !self.members.contains_key(&id) {
            return Standing::Out;
        }
        let Some(deadline) = self.deadline else {
            let seat = &self.members[&id];
            return Standing::Has(self.generation, seat.assigned.clone());
        };
        let all_joined = self.members.values().all(|seat| seat.joined);
        if !all_joined && Instant::now() < deadline {
            return Standing::Rebalancing(deadline);
        }
        self.members.retain(|_, seat| {
            if !seat.joined {
                let name = &seat.client.name;
                story.tell(format_args!("{name} is too late for the rebalance"));
            }
            seat.joined
        });
        if self.members.is_empty() {
            // Nobody was in time: whoever comes back begins the next one.
            self.deadline = None;
            return Standing::Out;
        }
        self.give_out(all, dice);
        for (id, seat) in &self.members {
            let (generation, name) = (self.generation, &seat.client.name);
            let list: Vec<String> = seat.assigned.iter().map(ToString::to_string).collect();
            let list = list.join(" ");
            story.tell(format_args!(
                "generation {generation}: {name} ({id}) has [{list}]"
            ));
        }
        self.ring();
        self.standing(id, all, dice, story)
    }

    fn give_out(&mut self, all: &[TopicPartition], dice: Option<&Dice>) {
        self.generation += 1;
        self.deadline = None;
        for seat in self.members.values_mut() {
            seat.joined = false;
            seat.assigned.clear();
        }
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for (at, partition) in all.iter().enumerate() {
            let owner = self.owner(partition);
            let wanted = self.wanted.get(partition).copied();
            let wanted = match wanted.filter(|id| !self.anew && self.members.contains_key(id)) {
                Some(wanted) => wanted,
                None => match (owner, dice) {
                    (Some(owner), Some(dice)) if dice.happens(STAY) => owner,
                    (_, Some(dice)) => ids[dice.any() as usize % ids.len()],
                    (_, None) => ids[at % ids.len()],
                },
            };
            self.wanted.insert(partition.clone(), wanted);
            // What another one still has is given out once that one has given it up.
            if owner.is_none_or(|owner| owner == wanted)
                && let Some(seat) = self.members.get_mut(&wanted)
            {
                seat.assigned.push(partition.clone());
            }
        }
        self.anew = false;
    }

    fn owner(&self, of: &TopicPartition) -> Option<u64> {
        let mut members = self.members.iter();
        let (id, _) = members.find(|(_, seat)| seat.owned.contains(of))?;
        Some(*id)
    }

    /// Commits offsets of a member; says whether it may, and which offset would have gone back.
    pub(super) fn commit(
        &mut self,
        id: u64,
        generation: u64,
        offsets: &[(TopicPartition, Offset)],
    ) -> (bool, Option<(TopicPartition, Offset, Offset)>) {
        if generation != self.generation || !self.members.contains_key(&id) {
            return (false, None);
        }
        let mut back = None;
        for (partition, offset) in offsets {
            let before = self.committed.insert(partition.clone(), *offset);
            if let Some(before) = before.filter(|before| offset < before) {
                back = Some((partition.clone(), before, *offset));
            }
        }
        (true, back)
    }

    pub(super) fn committed(&self, of: &TopicPartition) -> Option<Offset> {
        self.committed.get(of).copied()
    }

    /// Notes up to where the owner of a partition got records.
    pub(super) fn hand(&mut self, generation: u64, of: &TopicPartition, next: Offset) {
        let handed = self.handed.entry(of.clone()).or_insert((0, next));
        if handed.0 <= generation {
            *handed = (generation, next);
        }
    }

    pub(super) fn handed(&self, of: &TopicPartition) -> Option<Offset> {
        self.handed.get(of).map(|(_, next)| *next)
    }

    fn ring(&self) {
        for seat in self.members.values() {
            seat.bell.notify_one();
        }
    }
}
