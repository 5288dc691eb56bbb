//! Groups: who has which partitions, and how far they have committed. Pure but for waking members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::Offset;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Client, Dice, Story};
use crate::batch::TopicPartition;

/// How long a rebalance waits for members that have partitions to give up.
const REBALANCE_MAX: Duration = Duration::from_millis(1_500);

/// A consumer group.
#[derive(Default)]
pub(super) struct Group {
    generation: u64,
    members: BTreeMap<u64, Seat>,
    /// Until when a rebalance under way waits.
    deadline: Option<Instant>,
    committed: BTreeMap<TopicPartition, Offset>,
    handed: BTreeMap<TopicPartition, (u64, Offset)>,
}

struct Seat {
    client: Arc<Client>,
    bell: Arc<Notify>,
    /// Whether it holds nothing and waits for the next generation.
    waits: bool,
    partitions: Vec<TopicPartition>,
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
    /// Takes a member in, which brings a rebalance.
    pub(super) fn join(&mut self, id: u64, client: &Arc<Client>, bell: &Arc<Notify>) {
        let seat = Seat {
            client: client.clone(),
            bell: bell.clone(),
            waits: true,
            partitions: Vec::new(),
        };
        self.members.insert(id, seat);
        self.begin_rebalance();
    }

    /// Lets a member go.
    pub(super) fn leave(&mut self, id: u64) {
        if self.members.remove(&id).is_some() {
            self.begin_rebalance();
        }
    }

    /// Throws the members of a process out.
    pub(super) fn expel(&mut self, client: &Arc<Client>, story: &Story) {
        let before = self.members.len();
        self.members
            .retain(|_, seat| !Arc::ptr_eq(&seat.client, client));
        if self.members.len() < before {
            story.tell(format_args!("{} is thrown out of its group", client.name));
            self.begin_rebalance();
        }
    }

    pub(super) fn begin_rebalance(&mut self) {
        self.deadline.get_or_insert(Instant::now() + REBALANCE_MAX);
        self.ring();
    }

    /// Says that a member holds nothing any more, and waits for what it gets.
    pub(super) fn wait(&mut self, id: u64) {
        if let Some(seat) = self.members.get_mut(&id) {
            seat.waits = true;
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
            return Standing::Has(self.generation, seat.partitions.clone());
        };
        let ready = self.members.values().all(|seat| seat.waits);
        if !ready && Instant::now() < deadline {
            return Standing::Rebalancing(deadline);
        }
        self.members.retain(|_, seat| {
            if !seat.waits {
                let name = &seat.client.name;
                story.tell(format_args!("{name} is too late for the rebalance"));
            }
            seat.waits
        });
        self.give_out(all, dice);
        for (id, seat) in &self.members {
            let (generation, name) = (self.generation, &seat.client.name);
            let list: Vec<String> = seat.partitions.iter().map(ToString::to_string).collect();
            let list = list.join(" ");
            story.tell(format_args!(
                "generation {generation}: {name} ({id}) gets [{list}]"
            ));
        }
        self.ring();
        self.standing(id, all, dice, story)
    }

    fn give_out(&mut self, all: &[TopicPartition], dice: Option<&Dice>) {
        self.generation += 1;
        self.deadline = None;
        for seat in self.members.values_mut() {
            seat.waits = false;
            seat.partitions.clear();
        }
        let count = self.members.len();
        for (at, partition) in all.iter().enumerate() {
            let to = dice.map_or(at, |dice| dice.any() as usize) % count.max(1);
            if let Some(seat) = self.members.values_mut().nth(to) {
                seat.partitions.push(partition.clone());
            }
        }
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
