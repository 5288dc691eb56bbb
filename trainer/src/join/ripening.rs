//! When events without a label are taken for no: after so long in the time of the labels.
//!
//! The clock of a partition of labels is the latest of its labels that met, in time, an event that waited; so neither
//! a label of a year to come nor one that is ahead of its event moves it. What counts is the clock that is furthest
//! behind. All of it follows from what was taken in which order, and nothing from when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use schemas::Partition;

use super::slots::Slots;

/// Entries that may be stale beyond as many as there are events.
const STALE_MAX: usize = 1024;

/// Events by when they happened, and how late it is.
#[derive(Debug)]
pub(super) struct Ripening {
    /// From an event to when it is taken for no, in microseconds.
    pub after: i64,
    /// Time, number and slot of events; stale where the slot has another number by now.
    by_time: BinaryHeap<Reverse<(i64, u64, u32)>>,
    clocks: BTreeMap<Partition, i64>,
}

impl Ripening {
    pub fn new(after: i64) -> Ripening {
        Ripening {
            after,
            by_time: BinaryHeap::new(),
            clocks: BTreeMap::new(),
        }
    }

    /// Takes an event that begins to wait.
    pub fn wait(&mut self, time: i64, slot: u32, slots: &Slots) {
        if 2 * slots.len() + STALE_MAX < self.by_time.len() {
            let held =
                |Reverse((_, stamp, slot)): &Reverse<(i64, u64, u32)>| slots.stamp(*slot) == *stamp;
            self.by_time.retain(held);
        }
        self.by_time.push(Reverse((time, slots.stamp(slot), slot)));
    }

    /// Takes the time of a label that met its event.
    pub fn pass(&mut self, partition: Partition, time: i64) {
        let clock = self.clocks.entry(partition).or_insert(time);
        *clock = time.max(*clock);
    }

    /// Returns the slot of the oldest event that is ripe.
    pub fn ripe(&mut self, slots: &Slots) -> Option<u32> {
        let now = self.clocks.values().min()?;
        while let Some(Reverse((time, stamp, slot))) = self.by_time.peek().copied() {
            let stale = slots.stamp(slot) != stamp;
            if !stale && now.saturating_sub(time) < self.after {
                return None;
            }
            self.by_time.pop();
            if !stale {
                return Some(slot);
            }
        }
        None
    }

    /// Returns the clocks.
    pub fn clocks(&self) -> impl Iterator<Item = (Partition, i64)> {
        self.clocks
            .iter()
            .map(|(partition, time)| (*partition, *time))
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_time.len()
    }
}
