//! What was looked at for each promise, and what breaks it: the first offset of each partition.

use std::collections::BTreeMap;

/// What Thalweg promises about topics and lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Every raw record is clean or dead, and not both.
    Conservation,
    /// Clean batches cover the raw offsets without a gap.
    Coverage,
    /// The lake has every clean row once, and no other.
    Lake,
    /// The lake has what its commits claim.
    Commits,
    /// Every clean event is scored, and nothing else.
    Scores,
    /// Each model update continues the one before.
    Model,
    /// Checkpoints have their checksums, and are of the published model.
    Checkpoints,
}

impl Promise {
    /// Every promise.
    pub const ALL: [Promise; 7] = [
        Promise::Conservation,
        Promise::Coverage,
        Promise::Lake,
        Promise::Commits,
        Promise::Scores,
        Promise::Model,
        Promise::Checkpoints,
    ];

    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Promise::Conservation => "conservation",
            Promise::Coverage => "coverage",
            Promise::Lake => "lake",
            Promise::Commits => "commits",
            Promise::Scores => "scores",
            Promise::Model => "model",
            Promise::Checkpoints => "checkpoints",
        }
    }

    /// Returns what is counted for it.
    pub fn unit(self) -> &'static str {
        match self {
            Promise::Conservation => "raw records",
            Promise::Coverage => "clean batches",
            Promise::Lake => "rows",
            Promise::Commits => "files",
            Promise::Scores => "scores",
            Promise::Model => "updates",
            Promise::Checkpoints => "checkpoints",
        }
    }
}

/// Where a promise is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The promise.
    pub promise: Promise,
    /// Partition of the raw topic; of the model topic for the model; none for what has no partition.
    pub partition: Option<i32>,
    /// Offset of the raw record; of the model topic's message for the model; none for what has none.
    pub offset: Option<i64>,
    /// What is wrong there.
    pub what: String,
}

/// What was looked at for one promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Things that were looked at.
    pub looked_at: u64,
    /// Repeats that say the same, as workers write after a crash.
    pub repeated: u64,
    /// What is still to come.
    pub pending: u64,
    /// What cannot be held against its source any more, which retention or a change of contract has taken.
    pub expired: u64,
}

/// Tallies and findings.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    tallies: [Tally; Promise::ALL.len()],
    /// The first finding of each promise and partition, and how many there are.
    findings: BTreeMap<(Promise, Option<i32>), (Finding, u64)>,
}

impl Ledger {
    /// Returns the tally of a promise.
    pub fn tally(&self, promise: Promise) -> Tally {
        self.tallies[promise as usize]
    }

    /// Returns the tally of a promise, to count on.
    pub(crate) fn count(&mut self, promise: Promise) -> &mut Tally {
        &mut self.tallies[promise as usize]
    }

    /// Returns how many findings break a promise.
    pub fn broken(&self, promise: Promise) -> u64 {
        self.of(promise).map(|(_, count)| count).sum()
    }

    /// Returns the first finding of each partition that breaks a promise.
    pub fn firsts(&self, promise: Promise) -> impl Iterator<Item = &Finding> {
        self.of(promise).map(|(finding, _)| finding)
    }

    /// Says whether every promise holds.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    fn of(&self, promise: Promise) -> impl Iterator<Item = (&Finding, u64)> {
        let found = self.findings.iter();
        found
            .filter(move |((of, _), _)| *of == promise)
            .map(|(_, (finding, count))| (finding, *count))
    }

    /// Writes down that a promise is broken at an offset.
    pub(crate) fn breaks(
        &mut self,
        promise: Promise,
        partition: Option<i32>,
        offset: Option<i64>,
        what: impl FnOnce() -> String,
    ) {
        let finding = |what| Finding {
            promise,
            partition,
            offset,
            what,
        };
        match self.findings.get_mut(&(promise, partition)) {
            None => {
                self.findings
                    .insert((promise, partition), (finding(what()), 1));
            }
            Some((first, count)) => {
                *count += 1;
                if offset < first.offset {
                    *first = finding(what());
                }
            }
        }
    }

    /// Writes down that a promise is broken at `count` offsets, of which this is the first.
    pub(crate) fn breaks_from(
        &mut self,
        promise: Promise,
        partition: i32,
        (count, first): (u64, Option<i64>),
        what: &str,
    ) {
        let Some(first) = first else { return };
        self.breaks(promise, Some(partition), Some(first), || what.to_owned());
        if let Some((_, total)) = self.findings.get_mut(&(promise, Some(partition))) {
            *total += count - 1;
        }
    }

    /// Takes in what another ledger has.
    pub(crate) fn merge(&mut self, other: Ledger) {
        for (tally, more) in self.tallies.iter_mut().zip(other.tallies) {
            tally.looked_at += more.looked_at;
            tally.repeated += more.repeated;
            tally.pending += more.pending;
            tally.expired += more.expired;
        }
        for (key, (finding, count)) in other.findings {
            match self.findings.get_mut(&key) {
                None => {
                    self.findings.insert(key, (finding, count));
                }
                Some((first, total)) => {
                    *total += count;
                    if finding.offset < first.offset {
                        *first = finding;
                    }
                }
            }
        }
    }
}
