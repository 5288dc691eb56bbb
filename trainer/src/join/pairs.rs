//! What comes out of the join: rows with their labels.

use learn::features::{Layout, Row, Rows};
use learn::learners::{Label, Opinions};
use learn::metrics::Mark;
use linfa::DatasetBase;

/// Rows with labels, in the order in which they are to be learned.
#[derive(Debug)]
pub struct Pairs {
    /// Rows and labels.
    pub dataset: DatasetBase<Rows, Vec<Label>>,
    /// When each label became known, in microseconds.
    pub known: Vec<i64>,
    /// From each event to its label, in microseconds; nobody waited for one that never came.
    pub waited: Vec<i64>,
    /// Which slices each event is in.
    pub marks: Vec<Mark>,
}

impl Pairs {
    /// Makes an empty set.
    pub fn new(layout: Layout) -> Pairs {
        Pairs {
            dataset: DatasetBase::new(Rows::new(layout), Vec::new()),
            known: Vec::new(),
            waited: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Removes all pairs and keeps the memory.
    pub fn clear(&mut self) {
        self.dataset.records.clear();
        self.dataset.targets.clear();
        self.known.clear();
        self.waited.clear();
        self.marks.clear();
    }

    pub(super) fn push(
        &mut self,
        row: Row<'_>,
        event_time: i64,
        mark: Mark,
        label: KnownLabel,
        foreseen: Option<Opinions>,
    ) {
        self.dataset.records.push(row);
        self.dataset.targets.push(Label {
            foreseen,
            ..Label::new(label.outcome)
        });
        self.marks.push(mark);
        self.known.push(label.time);
        self.waited.push(label.time.saturating_sub(event_time));
    }
}

/// A label, and when it became known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownLabel {
    /// 1 for yes, 0 for no; or the number.
    pub outcome: f64,
    /// Microseconds since 1970.
    pub time: i64,
}
