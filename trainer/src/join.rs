//! The join: rows wait for their labels, labels for their events, by event id.
//!
//! Events and labels go in, in the order in which they were taken; out come pairs to learn, each event at most
//! once, unless the contract wants revised labels learned. The feature vector waits, not the event.
//!
//! Whether a label came too late is a matter of its own time and the event's. Nothing leaves by the clock: how far
//! partitions are apart in stream time is an accident of reading, and in a catch-up such a rule would lose labels.
//! What has waited longest leaves when its room is needed. If the contract says so, what waited long in the labels'
//! own time is taken for no (`ripening.rs`).

mod index;
mod pairs;
mod ripening;
mod settled;
mod slots;

use learn::features::{Layout, Row, Rows};
use learn::learners::Opinions;
use learn::metrics::Mark;
use schemas::Partition;

use self::index::{Index, Place, SLOT_MAX};
pub use self::pairs::{KnownLabel, Pairs};
use self::ripening::Ripening;
pub use self::settled::Past;
use self::settled::{Again, Settled};
use self::slots::Slots;

/// XXH3-128 of an event's id: it is on disk in every checkpoint, and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(pub u128);

impl EventId {
    /// Hashes the text of an id.
    pub fn of(text: &[u8]) -> EventId {
        EventId(xxhash_rust::xxh3::xxh3_128(text))
    }
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events that wait for their label.
    pub events_max: usize,
    /// Labels that wait for their event.
    pub labels_max: usize,
    /// From an event to its label, in microseconds.
    pub wait_micros_max: i64,
    /// Whether an event is learned again whose label comes with another value.
    pub learns_revised: bool,
    /// From an event without a label to when it is taken for no, in microseconds; `None` is never.
    pub negative_after: Option<i64>,
}

/// What became of what was taken: counts since [`Join::take_tally`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Events taken.
    pub events: u64,
    /// Labels that met the event waiting for them.
    pub joined: u64,
    /// Labels that came before their event.
    pub early: u64,
    /// Labels of events that had the same one.
    pub duplicate: u64,
    /// Labels of events that had another one.
    pub revised: u64,
    /// Events without a label that were taken for no.
    pub negative: u64,
    /// Pairs apart longer than is allowed.
    pub late: u64,
    /// Events whose room was needed before their label came.
    pub crowded_out: u64,
    /// Labels whose room was needed before their event came.
    pub unknown: u64,
    /// Pairs made.
    pub learned: u64,
}

/// A label that says something else than the one that its event had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Revision {
    slot: u32,
    /// What was learned.
    pub before: f64,
}

/// An event that has just begun to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting(u32);

/// Everything that waits.
#[derive(Debug)]
pub struct Join {
    limits: Limits,
    index: Index,
    events: Slots,
    rows: Rows,
    /// Time and slices of each, side by side for the cache.
    times: Vec<(i64, Mark)>,
    /// What the learner's experts said of each when it came.
    foreseen: Vec<Option<Opinions>>,
    early: Slots,
    labels: Vec<KnownLabel>,
    /// The last events that had their label, as many as may wait.
    settled: Settled,
    /// Events without a label by time, if they are taken for no.
    ripening: Option<Ripening>,
    tally: Tally,
}

impl Join {
    /// Makes an empty join.
    pub fn new(limits: Limits, layout: Layout) -> Join {
        let within = |max: usize| max.clamp(1, SLOT_MAX);
        let limits = Limits {
            events_max: within(limits.events_max),
            labels_max: within(limits.labels_max),
            ..limits
        };
        Join {
            limits,
            index: Index::new(),
            events: Slots::new(limits.events_max),
            rows: Rows::new(layout),
            times: Vec::new(),
            foreseen: Vec::new(),
            early: Slots::new(limits.labels_max),
            labels: Vec::new(),
            settled: Settled::new(limits.events_max, layout, limits.learns_revised),
            ripening: limits.negative_after.map(Ripening::new),
            tally: Tally::default(),
        }
    }

    /// Says that an event or label will be taken soon.
    #[inline]
    pub fn fetch(&self, id: EventId) {
        self.index.fetch(id);
    }

    /// Takes an event: it meets the label that waits for it, or waits itself, and is then returned.
    pub fn event(
        &mut self,
        id: EventId,
        time: i64,
        row: Row<'_>,
        mark: Mark,
        pairs: &mut Pairs,
    ) -> Option<Waiting> {
        self.tally.events += 1;
        match self.find(id) {
            Some(Place::Label(slot)) => {
                let label = self.labels[slot as usize];
                let outcome = self.in_time(time, label);
                if !outcome.is_nan() {
                    pairs.push(row, time, mark, label, None);
                }
                let foreseen = None;
                let past = Past {
                    time,
                    row,
                    foreseen,
                };
                let past = self.settled.keeps().then_some(past);
                let (place, forgotten, next) = self.settled.add(id, outcome, past);
                self.settle(
                    id,
                    Place::Label(slot),
                    Place::Settled(place),
                    forgotten,
                    next,
                );
                self.early.remove(slot);
                None
            }
            // A second event of this id, which got past the window of `ingest`.
            Some(Place::Event(_) | Place::Settled(_)) => None,
            None => Some(self.wait(id, time, row, mark)),
        }
    }

    /// Keeps what the learner's experts say of an event that now waits, for when its label comes.
    pub fn foresee(&mut self, event: Waiting, opinions: Option<Opinions>) {
        self.foreseen[event.0 as usize] = opinions;
    }

    /// Takes a label: it meets the event that waits for it, or waits itself; or it revises what was learned.
    pub fn label(&mut self, id: EventId, label: KnownLabel, pairs: &mut Pairs) -> Option<Revision> {
        match self.find(id) {
            Some(Place::Event(slot)) => {
                self.tally.joined += 1;
                self.meet(id, slot, label, pairs);
            }
            Some(Place::Settled(slot)) => {
                let again = self.settled.again(slot, label, self.limits.wait_micros_max);
                match again {
                    Again::Same => self.tally.duplicate += 1,
                    Again::Other => self.tally.revised += 1,
                    Again::Late => self.tally.late += 1,
                    Again::Revises(before) => {
                        self.tally.revised += 1;
                        self.tally.learned += 1;
                        return Some(Revision { slot, before });
                    }
                }
            }
            Some(Place::Label(slot)) => self.early_again(slot, label),
            None => {
                self.tally.early += 1;
                self.wait_for_event(id, label);
            }
        }
        None
    }

    /// Returns the event that a revision is of.
    pub fn revised(&self, revision: Revision) -> Option<Past<'_>> {
        self.settled.past(revision.slot)
    }

    /// Says that a label of this partition and time met, in time, an event that waited.
    pub fn pass(&mut self, partition: Partition, time: i64) {
        if let Some(ripening) = &mut self.ripening {
            ripening.pass(partition, time);
        }
    }

    /// Takes the next event for no that has waited so long for its label; says whether there was one.
    pub fn ripen(&mut self, pairs: &mut Pairs) -> bool {
        let ripe = self.ripening.as_mut().and_then(|ripening| {
            let slot = ripening.ripe(&self.events)?;
            Some((slot, ripening.after))
        });
        let Some((slot, after)) = ripe else {
            return false;
        };
        let time = self.times[slot as usize].0.saturating_add(after);
        let label = KnownLabel { outcome: 0.0, time };
        self.tally.negative += 1;
        self.meet(self.events.id(slot), slot, label, pairs);
        // Nobody waited for a label that never came.
        pairs.waited.pop();
        true
    }

    /// Says whether labels that come again are learned, for which settled events are kept.
    pub fn learns_revised(&self) -> bool {
        self.limits.learns_revised
    }

    /// Returns how many events wait.
    pub fn events_waiting(&self) -> usize {
        self.events.len()
    }

    /// Says whether the next event would take the room of one that a label of this time may still be in time for.
    pub fn is_crowded(&mut self, label_time: i64) -> bool {
        let next = self.events.next_to_leave();
        next.is_some_and(|slot| {
            label_time.saturating_sub(self.times[slot].0) <= self.limits.wait_micros_max
        })
    }

    /// Returns how many labels wait.
    pub fn labels_waiting(&self) -> usize {
        self.early.len()
    }

    /// Returns the counts since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Returns the events that wait, the oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = (EventId, Past<'_>, Mark)> {
        self.events.iter().map(|(id, slot)| {
            let (time, mark) = self.times[slot];
            let past = Past {
                time,
                row: self.rows.row(slot),
                foreseen: self.foreseen[slot],
            };
            (id, past, mark)
        })
    }

    /// Returns the labels that wait, the oldest first.
    pub fn early(&self) -> impl Iterator<Item = (EventId, KnownLabel)> {
        self.early.iter().map(|(id, slot)| (id, self.labels[slot]))
    }

    /// Returns the last events that had their label, the oldest first, with what was learned of each (no number if
    /// nothing was) and, if revised labels are learned, what it takes.
    pub fn settled(&self) -> impl Iterator<Item = (EventId, f64, Option<Past<'_>>)> {
        self.settled.iter()
    }

    /// Returns how late it is for events without a label, by partition of the labels.
    pub fn clocks(&self) -> impl Iterator<Item = (Partition, i64)> {
        self.ripening.iter().flat_map(Ripening::clocks)
    }

    /// Lets an event wait that [`Join::waiting`] returned.
    pub fn restore_event(&mut self, id: EventId, past: Past<'_>, mark: Mark) {
        if self.find(id).is_none() {
            let waiting = self.wait(id, past.time, past.row, mark);
            self.foresee(waiting, past.foreseen);
        }
    }

    /// Lets a label wait that [`Join::early`] returned.
    pub fn restore_label(&mut self, id: EventId, label: KnownLabel) {
        if self.find(id).is_none() {
            self.wait_for_event(id, label);
        }
    }

    /// Remembers an event that [`Join::settled`] returned.
    pub fn restore_settled(&mut self, id: EventId, outcome: f64, past: Option<Past<'_>>) {
        if self.find(id).is_none() {
            let (place, forgotten, _) = self.settled.add(id, outcome, past);
            let place = Place::Settled(place);
            if let Some(forgotten) = forgotten {
                self.index.remove(forgotten, place);
            }
            self.index.insert(id, place);
        }
    }

    /// Returns what is learned of a pair: no number if the label came too late.
    fn in_time(&mut self, event_time: i64, label: KnownLabel) -> f64 {
        if label.time.saturating_sub(event_time) <= self.limits.wait_micros_max {
            self.tally.learned += 1;
            return label.outcome;
        }
        self.tally.late += 1;
        f64::NAN
    }

    /// Lets an event that waits have its label.
    fn meet(&mut self, id: EventId, slot: u32, label: KnownLabel, pairs: &mut Pairs) {
        let at = slot as usize;
        let (time, mark) = self.times[at];
        let outcome = self.in_time(time, label);
        let (row, foreseen) = (self.rows.row(at), self.foreseen[at]);
        if !outcome.is_nan() {
            pairs.push(row, time, mark, label, foreseen);
        }
        let past = Past {
            time,
            row,
            foreseen,
        };
        let past = self.settled.keeps().then_some(past);
        let (place, forgotten, next) = self.settled.add(id, outcome, past);
        self.settle(
            id,
            Place::Event(slot),
            Place::Settled(place),
            forgotten,
            next,
        );
        self.events.remove(slot);
    }

    /// Takes a second label of an event that has not come.
    fn early_again(&mut self, slot: u32, label: KnownLabel) {
        let held = &mut self.labels[slot as usize];
        if held.outcome == label.outcome {
            self.tally.duplicate += 1;
            return;
        }
        self.tally.revised += 1;
        if self.limits.learns_revised {
            *held = label;
        }
    }

    fn wait(&mut self, id: EventId, time: i64, row: Row<'_>, mark: Mark) -> Waiting {
        let (slot, oldest) = self.events.insert(id);
        if let Some(oldest) = oldest {
            self.index.remove(oldest, Place::Event(slot));
            self.tally.crowded_out += 1;
        }
        if slot as usize == self.times.len() {
            self.rows.push(row);
            self.times.push((time, mark));
            self.foreseen.push(None);
        } else {
            self.rows.replace(slot as usize, row);
            self.times[slot as usize] = (time, mark);
            self.foreseen[slot as usize] = None;
        }
        self.index.insert(id, Place::Event(slot));
        if let Some(ripening) = &mut self.ripening {
            ripening.wait(time, slot, &self.events);
        }
        Waiting(slot)
    }

    fn wait_for_event(&mut self, id: EventId, label: KnownLabel) {
        let (slot, oldest) = self.early.insert(id);
        if let Some(oldest) = oldest {
            self.index.remove(oldest, Place::Label(slot));
            self.tally.unknown += 1;
        }
        if slot as usize == self.labels.len() {
            self.labels.push(label);
        } else {
            self.labels[slot as usize] = label;
        }
        self.index.insert(id, Place::Label(slot));
    }

    /// Notes that an event has had its label, and that the oldest that had is forgotten for it.
    fn settle(
        &mut self,
        id: EventId,
        waited: Place,
        place: Place,
        forgotten: Option<EventId>,
        next: Option<EventId>,
    ) {
        if let Some(forgotten) = forgotten {
            self.index.remove(forgotten, place);
        }
        if let Some(next) = next {
            self.index.fetch(next);
        }
        self.index.replace(id, waited, place);
    }

    #[inline]
    fn find(&self, id: EventId) -> Option<Place> {
        self.index.find(id, |place| match place {
            Place::Event(slot) => self.events.id(slot) == id,
            Place::Label(slot) => self.early.id(slot) == id,
            Place::Settled(slot) => self.settled.id(slot) == id,
        })
    }
}

#[cfg(test)]
mod tests;
