//! Labels that wait until they become known.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::label_value::LabelValue;

/// Labels that wait at most; beyond that the earliest is sent early and counted, so memory stays bounded.
pub const WAITING_MAX: usize = 4_000_000;

/// A label and when it becomes known.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// When it becomes known, in microseconds since 1970.
    pub micros: i64,
    /// Number of the row that it is about.
    pub row: u64,
    /// The event's id.
    pub id: Box<str>,
    /// The label.
    pub label: LabelValue,
}

impl Waiting {
    /// Rows have numbers of their own, so no two of these are the same.
    fn place(&self) -> (i64, u64) {
        (self.micros, self.row)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// Labels in the order in which they become known; those of one moment in the order of their events.
#[derive(Debug, Default)]
pub struct LabelQueue {
    waiting: BinaryHeap<Reverse<Waiting>>,
}

impl LabelQueue {
    /// Adds a label; returns the earliest if the queue is full.
    pub fn push(&mut self, label: Waiting) -> Option<Waiting> {
        self.waiting.push(Reverse(label));
        if WAITING_MAX < self.waiting.len() {
            self.pop()
        } else {
            None
        }
    }

    /// Takes the next label that is known by a time.
    pub fn known_by(&mut self, micros: i64) -> Option<Waiting> {
        let Reverse(next) = self.waiting.peek()?;
        if next.micros <= micros {
            self.pop()
        } else {
            None
        }
    }

    /// Takes the next label, whenever it becomes known.
    pub fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop().map(|Reverse(label)| label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_out_in_the_order_of_time() {
        let mut queue = LabelQueue::default();
        for (row, micros) in [(0, 30), (1, 10), (2, 20), (3, 10)] {
            let label = Waiting {
                micros,
                row,
                id: "x".into(),
                label: LabelValue::YesOrNo(row == 2),
            };
            assert_eq!(queue.push(label), None);
        }
        let mut known = |micros| queue.known_by(micros).map(|label| label.row);
        assert_eq!(
            [known(9), known(10), known(10), known(10)],
            [None, Some(1), Some(3), None]
        );
        assert_eq!([known(25), known(25)], [Some(2), None]);
        assert_eq!(queue.pop().map(|label| label.row), Some(0));
        assert_eq!(queue.pop(), None);
    }
}
