//! What waits for its label in a room that is small, by a plain model: the journal says in which order events and labels
//! were taken, and from that alone follows what was learned, what still waits, and what left for want of room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use learn::model::Snapshot;
use schemas::Offset;
use schemas::contract::Label;
use schemas::label::LabelEvent;
use schemas::model::{Input, Segment};
use trainer::join::EventId;
use trainer::journal::Published;
use worker::{Batch, Simulated};

use super::accounts::Clean;
use super::plan::PARTITIONS;
use super::world::partition;

/// Ids of one input's partitions, by offset.
type Ids = Vec<BTreeMap<i64, u128>>;

/// The backlog, and what became of every clean event.
#[derive(Debug, Default)]
pub struct Backlog {
    room: usize,
    /// Events that wait, the oldest first.
    waiting: VecDeque<u128>,
    /// Events that had their label lately, the oldest first.
    settled: VecDeque<u128>,
    /// Labels that wait for their event.
    early: BTreeSet<u128>,
    taken: u64,
    learned: u64,
    crowded_out: u64,
    /// Events of an id that was known already.
    repeated: u64,
}

impl Backlog {
    /// Takes what versions were made of.
    pub fn of(versions: &[Published], all: &[Clean], broker: &Simulated, label: &Label) -> Backlog {
        let id = |text: &String| EventId::of(text.as_bytes()).0;
        let events = all.iter().map(|clean| {
            let ids = clean.ids.iter().map(|(offset, text)| (*offset, id(text)));
            ids.collect()
        });
        let (events, labels): (Ids, Ids) = (events.collect(), labels(broker, label));
        let mut backlog = Backlog {
            room: label.pending_max,
            ..Backlog::default()
        };
        for segment in versions.iter().flat_map(|version| &version.segments) {
            match segment.input {
                Input::Clean => of(&events, segment).for_each(|id| backlog.event(id)),
                Input::Labels => of(&labels, segment).for_each(|id| backlog.label(id)),
            }
        }
        backlog
    }

    fn event(&mut self, id: u128) {
        self.taken += 1;
        if self.early.remove(&id) {
            return self.learn(id);
        }
        if self.waiting.contains(&id) || self.settled.contains(&id) {
            self.repeated += 1;
            return;
        }
        if self.waiting.len() == self.room {
            self.waiting.pop_front();
            self.crowded_out += 1;
        }
        self.waiting.push_back(id);
    }

    fn label(&mut self, id: u128) {
        match self.waiting.iter().position(|waits| *waits == id) {
            Some(at) => {
                self.waiting.remove(at);
                self.learn(id);
            }
            None if self.settled.contains(&id) => {}
            None => {
                self.early.insert(id);
            }
        }
    }

    fn learn(&mut self, id: u128) {
        self.learned += 1;
        if self.settled.len() == self.room {
            self.settled.pop_front();
        }
        self.settled.push_back(id);
    }

    /// Holds the newest checkpoint against it: `waiting` and `settled` are its ids.
    ///
    /// # Errors
    /// What differs.
    pub fn check(
        &self,
        all: &[Clean],
        snapshot: &Snapshot,
        waiting: &BTreeSet<u128>,
        settled: &BTreeSet<u128>,
    ) -> Result<(), String> {
        let of_model = |ids: &VecDeque<u128>| ids.iter().copied().collect::<BTreeSet<u128>>();
        let (rows, examples) = (
            all.iter().map(|clean| clean.ids.len() as u64).sum::<u64>(),
            snapshot.learner.examples(),
        );
        let ended = self.learned + self.waiting.len() as u64 + self.crowded_out + self.repeated;
        let sound = self.taken == rows
            && ended == rows
            && examples == self.learned
            && *waiting == of_model(&self.waiting)
            && *settled == of_model(&self.settled);
        match sound {
            true => Ok(()),
            false => Err(format!(
                "every clean event is learned, waits or was crowded out: of {rows}, {examples} are learned, {} wait and \
                 {} had their label lately; by the journal it is {self:?}",
                waiting.len(),
                settled.len()
            )),
        }
    }

    /// Returns how many events left before their label came.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out
    }
}

fn of<'a>(ids: &'a Ids, segment: &Segment) -> impl Iterator<Item = u128> + use<'a> {
    let range = segment.first.0..=segment.last.0;
    ids[segment.partition.0 as usize]
        .range(range)
        .map(|(_, id)| *id)
}

fn labels(broker: &Simulated, label: &Label) -> Ids {
    let of = |at| {
        let log = broker.records(&partition("s.labels", at), Offset(0), usize::MAX);
        let records = log.iter().flat_map(Batch::records);
        let ids = records.filter_map(|record| {
            let read = LabelEvent::parse(label, record.value().unwrap_or_default()).ok()?;
            Some((record.offset().0, EventId::of(read.event_id.as_bytes()).0))
        });
        ids.collect()
    };
    (0..PARTITIONS).map(of).collect()
}
