//! The last events that had their label, and what it was: a label that comes again is known for what it is.

use learn::features::{Layout, Row, Rows};
use learn::learners::Opinions;

use super::{EventId, KnownLabel};

/// Settled events ahead of the one to be forgotten whose entries are fetched into the cache.
const AHEAD: usize = 8;

/// As many settled events as may wait; the oldest is forgotten for the next.
#[derive(Debug)]
pub(super) struct Settled {
    max: usize,
    ids: Vec<EventId>,
    /// What was learned of each; no number if that is nothing.
    outcomes: Vec<f64>,
    /// Where the oldest is, once there are so many.
    first: usize,
    /// What it takes to learn them again, if revised labels are learned.
    kept: Option<Kept>,
}

/// Events that can be learned again.
#[derive(Debug)]
struct Kept {
    rows: Rows,
    times: Vec<i64>,
    foreseen: Vec<Option<Opinions>>,
}

/// An event that had its label.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// When it happened, in microseconds.
    pub time: i64,
    /// Its features.
    pub row: Row<'a>,
    /// What the learner's experts said of it when it came.
    pub foreseen: Option<Opinions>,
}

/// What a label is that comes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Again {
    /// It says the same, or of an event whose first label came too late.
    Same,
    /// It says something else, which is not learned.
    Other,
    /// It says something else, and came too late.
    Late,
    /// It says something else than this, which was learned.
    Revises(f64),
}

impl Settled {
    pub fn new(max: usize, layout: Layout, keeps: bool) -> Settled {
        Settled {
            max,
            ids: Vec::new(),
            outcomes: Vec::new(),
            first: 0,
            kept: keeps.then(|| Kept {
                rows: Rows::new(layout),
                times: Vec::new(),
                foreseen: Vec::new(),
            }),
        }
    }

    #[inline]
    pub fn id(&self, slot: u32) -> EventId {
        self.ids[slot as usize]
    }

    pub fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Remembers an event; returns its slot, whose event before is forgotten, and an event that will be soon.
    pub fn add(
        &mut self,
        id: EventId,
        outcome: f64,
        past: Option<Past<'_>>,
    ) -> (u32, Option<EventId>, Option<EventId>) {
        let (slot, forgotten) = if self.ids.len() < self.max {
            self.ids.push(id);
            self.outcomes.push(outcome);
            (self.ids.len() - 1, None)
        } else {
            let slot = self.first;
            self.first = (slot + 1) % self.ids.len();
            self.outcomes[slot] = outcome;
            (slot, Some(std::mem::replace(&mut self.ids[slot], id)))
        };
        if let (Some(kept), Some(past)) = (&mut self.kept, past) {
            kept.put(slot, past);
        }
        let next = forgotten.and_then(|_| self.ids.get(slot + AHEAD).copied());
        (slot as u32, forgotten, next)
    }

    /// Takes a label of an event that had one.
    pub fn again(&mut self, slot: u32, label: KnownLabel, wait_micros_max: i64) -> Again {
        let slot = slot as usize;
        let before = self.outcomes[slot];
        if before.is_nan() || before == label.outcome {
            return Again::Same;
        }
        let Some(kept) = &self.kept else {
            return Again::Other;
        };
        if wait_micros_max < label.time.saturating_sub(kept.times[slot]) {
            return Again::Late;
        }
        self.outcomes[slot] = label.outcome;
        Again::Revises(before)
    }

    /// Returns an event that can be learned again.
    pub fn past(&self, slot: u32) -> Option<Past<'_>> {
        let (kept, slot) = (self.kept.as_ref()?, slot as usize);
        Some(Past {
            time: kept.times[slot],
            row: kept.rows.row(slot),
            foreseen: kept.foreseen[slot],
        })
    }

    /// Returns all, the oldest first, each with its outcome and what is kept of it.
    pub fn iter(&self) -> impl Iterator<Item = (EventId, f64, Option<Past<'_>>)> {
        let order = (self.first..self.ids.len()).chain(0..self.first);
        order.map(|slot| {
            let past = self.past(slot as u32);
            (self.ids[slot], self.outcomes[slot], past)
        })
    }
}

impl Kept {
    fn put(&mut self, slot: usize, past: Past<'_>) {
        if slot == self.times.len() {
            self.rows.push(past.row);
            self.times.push(past.time);
            self.foreseen.push(past.foreseen);
        } else {
            self.rows.replace(slot, past.row);
            self.times[slot] = past.time;
            self.foreseen[slot] = past.foreseen;
        }
    }
}
