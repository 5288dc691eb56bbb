//! The accounts of one partition: raw offsets, letters, clean batches, scores and rows go in; what breaks a promise
//! comes out. Pure.
//!
//! It remembers one bit for each raw offset and set (raw, clean, dead, scored, landed) and, until the scores are in,
//! 16 bits of each clean event's id. Everything is told in this order: all raw offsets, all letters, all batches,
//! [`Account::settle`]; all scores, [`Account::settle_scores`]; all rows, [`Account::settle_lake`].
//!
//! Accounts begin at the raw topic's first offset, or where another topic's retention has left its first message.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::bits::{self, Bits};
use super::ledger::{Ledger, Promise};

/// What is known of a partition before it is read.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    /// The partition.
    pub(crate) partition: i32,
    /// Raw offsets that may have records.
    pub(crate) raw: Range<i64>,
    /// Whether records may have left the raw topic from between others.
    pub(crate) compacted: bool,
    /// Whether retention has taken the beginning of the clean topic, of the dead one, of the scores.
    pub(crate) clean_cut: bool,
    pub(crate) dead_cut: bool,
    pub(crate) scores_cut: bool,
    /// Whether what is still to come breaks the promise.
    pub(crate) complete: bool,
}

/// The rows of a clean batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Their raw offsets.
    pub(crate) offsets: &'a [i64],
    /// The tags of their ids; empty if the contract's events have no open id.
    pub(crate) tags: &'a [u16],
}

/// The accounts of one partition.
#[derive(Debug)]
pub(crate) struct Account {
    begin: Begin,
    exists: Bits,
    clean: Bits,
    dead: Bits,
    scored: Bits,
    landed: Bits,
    /// Tags of clean events' ids, from the first raw offset on.
    tags: Vec<u16>,
    /// The last raw offset that a clean batch covers.
    covered: Option<i64>,
    /// From here on every raw record must be accounted for.
    floor: i64,
    first_letter: Option<i64>,
    scores: Option<(i64, i64)>,
    claim: Option<i64>,
    ledger: Ledger,
}

/// Returns 16 bits that tell one event id from another.
pub(crate) fn tag(id: &str) -> u16 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish() as u16
}

impl Account {
    /// Opens the accounts of a partition.
    pub(crate) fn open(begin: Begin) -> Account {
        let low = begin.raw.start;
        Account {
            exists: Bits::from(low),
            clean: Bits::from(low),
            dead: Bits::from(low),
            scored: Bits::from(low),
            landed: Bits::from(0),
            tags: Vec::new(),
            covered: None,
            floor: low,
            first_letter: None,
            scores: None,
            claim: None,
            ledger: Ledger::default(),
            begin,
        }
    }

    /// Takes a raw record.
    pub(crate) fn raw(&mut self, offset: i64) {
        self.exists.insert(offset);
        self.ledger.count(Promise::Conservation).looked_at += 1;
    }

    /// Takes a dead letter.
    pub(crate) fn letter(&mut self, offset: i64) {
        if !self.is_raw(Promise::Conservation, offset, "a dead letter") {
            return;
        }
        self.first_letter = Some(
            self.first_letter
                .map_or(offset, |first: i64| first.min(offset)),
        );
        if offset < self.begin.raw.start {
            self.ledger.count(Promise::Conservation).expired += 1;
        } else if !self.dead.insert(offset) {
            self.ledger.count(Promise::Conservation).repeated += 1;
        }
    }

    /// Takes a clean batch; without rows if another contract shaped it.
    pub(crate) fn batch(&mut self, first: i64, last: i64, rows: Option<Rows<'_>>) {
        self.ledger.count(Promise::Coverage).looked_at += 1;
        let end = self.begin.raw.end;
        if end <= last {
            let what = || {
                format!(
                    "a clean batch covers raw offsets up to {last}, the raw topic ends before {end}"
                )
            };
            self.breaks(Promise::Coverage, first.max(end), what);
        }
        if end <= first {
            return;
        }
        let covered = last.min(end - 1);
        match self.covered {
            None if self.begin.clean_cut => self.floor = self.floor.max(first),
            Some(passed) if passed + 1 < first => {
                let what = || {
                    format!(
                        "no clean batch covers raw offsets {} to {}",
                        passed + 1,
                        first - 1
                    )
                };
                self.breaks(Promise::Coverage, passed + 1, what);
            }
            Some(passed) if covered <= passed => {
                self.ledger.count(Promise::Coverage).repeated += 1;
            }
            _ => {}
        }
        match rows {
            Some(rows) => self.rows(first, last, rows),
            None => {
                self.ledger.count(Promise::Coverage).expired += 1;
                self.floor = self.floor.max(covered + 1);
            }
        }
        self.covered = self.covered.max(Some(covered));
    }

    fn rows(&mut self, first: i64, last: i64, rows: Rows<'_>) {
        let mut before = first - 1;
        for offset in rows.offsets {
            if *offset <= before || last < *offset {
                let what = || {
                    format!(
                        "a clean batch of {first} to {last} has a row of {offset} after {before}"
                    )
                };
                return self.breaks(Promise::Coverage, *offset, what);
            }
            before = *offset;
        }
        let passed = self.covered.unwrap_or(-1);
        let known = rows.offsets.partition_point(|offset| *offset <= passed);
        if first <= passed {
            self.repeat(first..last.min(passed) + 1, &rows, known);
        }
        for (at, offset) in rows.offsets.iter().enumerate().skip(known) {
            if !self.begin.raw.contains(offset) {
                continue;
            }
            self.clean.insert(*offset);
            if let Some(tag) = rows.tags.get(at) {
                let place = (*offset - self.begin.raw.start) as usize;
                if self.tags.len() <= place {
                    self.tags.resize(place + 1, 0);
                }
                self.tags[place] = *tag;
            }
        }
    }

    /// Holds what a batch says again against what was said first.
    fn repeat(&mut self, range: Range<i64>, rows: &Rows<'_>, known: usize) {
        let from = range.start.max(self.floor);
        let range = from..range.end.min(self.begin.raw.end);
        let at = rows.offsets[..known].partition_point(|offset| *offset < from);
        let again = rows.offsets[at..known].iter().copied();
        if let Some(offset) = first_difference(again, self.clean.ones(range)) {
            let (clean, dead) = (self.clean.contains(offset), self.dead.contains(offset));
            let what = match (clean, dead) {
                (true, _) => "it is clean in a batch, and not in a later one that repeats it",
                (false, true) => "it is dead, and clean in a batch that repeats others",
                (false, false) => "it is clean only in a batch that repeats others",
            };
            return self.breaks(Promise::Conservation, offset, || what.to_owned());
        }
        for (offset, tag) in rows.offsets[..known].iter().zip(rows.tags).skip(at) {
            if self.tag_at(*offset).is_some_and(|first| first != *tag) {
                let what = || "it is clean twice, with two event ids".to_owned();
                return self.breaks(Promise::Conservation, *offset, what);
            }
        }
        self.ledger.count(Promise::Conservation).repeated += (known - at) as u64;
    }

    /// Decides whether every raw record is in exactly one of clean and dead.
    pub(crate) fn settle(&mut self) {
        let Begin { partition, raw, .. } = self.begin.clone();
        let covered = self
            .covered
            .map_or(raw.start, |covered| covered.saturating_add(1))
            .clamp(raw.start, raw.end);
        let letters = match self.begin.dead_cut {
            true => self.first_letter.unwrap_or(raw.end),
            false => raw.start,
        };
        let from = self.floor.max(letters).clamp(raw.start, covered);
        let sets = [&self.exists, &self.clean, &self.dead];
        let neither = |[exists, clean, dead]: [u64; 3]| exists & !clean & !dead;
        let both = bits::count(raw.clone(), sets, |[_, clean, dead]| clean & dead);
        let lost = bits::count(from..covered, sets, neither);
        let expired = bits::count(raw.start..from, sets, neither);
        let pending = bits::count(covered..raw.end, sets, neither);
        let invented = bits::count(raw, sets, |[exists, clean, dead]| (clean | dead) & !exists);
        let ledger = &mut self.ledger;
        let promise = Promise::Conservation;
        ledger.breaks_from(promise, partition, both, "it is clean and dead");
        ledger.breaks_from(promise, partition, lost, "it is neither clean nor dead");
        ledger.count(promise).expired += expired.0;
        ledger.count(promise).pending += pending.0;
        if self.begin.complete {
            ledger.breaks_from(promise, partition, pending, "it is not decided yet");
        }
        if self.begin.compacted {
            ledger.count(promise).expired += invented.0;
        } else {
            let what = "it is clean or dead, and the raw topic has no such record";
            ledger.breaks_from(promise, partition, invented, what);
        }
    }

    /// Takes a score, with the tag of its event's id.
    pub(crate) fn score(&mut self, offset: i64, tag: u16) {
        self.ledger.count(Promise::Scores).looked_at += 1;
        if !self.is_raw(Promise::Scores, offset, "a score") {
            return;
        }
        let (first, last) = self.scores.unwrap_or((offset, offset));
        self.scores = Some((first.min(offset), last.max(offset)));
        if offset < self.floor {
            self.ledger.count(Promise::Scores).expired += 1;
        } else if !self.clean.contains(offset) {
            self.breaks(Promise::Scores, offset, || {
                "it is scored and not clean".to_owned()
            });
        } else if self.tag_at(offset).is_some_and(|clean| clean != tag) {
            let what = || "its score is of another event id".to_owned();
            self.breaks(Promise::Scores, offset, what);
        } else if !self.scored.insert(offset) {
            self.ledger.count(Promise::Scores).repeated += 1;
        }
    }

    /// Decides whether every clean event up to the last that is scored has a score; forgets the ids.
    pub(crate) fn settle_scores(&mut self) {
        self.tags = Vec::new();
        let end = self.begin.raw.end;
        let from = match (self.begin.scores_cut, self.scores) {
            (true, scores) => self.floor.max(scores.map_or(end, |(first, _)| first)),
            (false, _) => self.floor,
        };
        let passed = self.scores.map_or(from, |(_, last)| last + 1).max(from);
        let scored = std::mem::take(&mut self.scored);
        let what = "it is clean and not scored, and later ones are";
        self.settle_followers(Promise::Scores, &scored, from..passed, what);
    }

    /// Takes the last raw offset that the lake's commits claim.
    pub(crate) fn claims(&mut self, claim: Option<i64>) {
        self.claim = claim;
    }

    /// Takes a row of the lake.
    pub(crate) fn row(&mut self, offset: i64) {
        self.ledger.count(Promise::Lake).looked_at += 1;
        if !self.is_raw(Promise::Lake, offset, "a row of the lake") {
            return;
        }
        if self.claim.is_none_or(|claim| claim < offset) {
            let what = || "the lake has it, and no commit claims it".to_owned();
            self.breaks(Promise::Commits, offset, what);
        }
        if !self.landed.insert(offset) {
            let what = || "the lake has it twice".to_owned();
            self.breaks(Promise::Lake, offset, what);
        } else if offset < self.floor {
            self.ledger.count(Promise::Lake).expired += 1;
        } else if !self.clean.contains(offset) {
            let what = || "the lake has it, and it is not clean".to_owned();
            self.breaks(Promise::Lake, offset, what);
        }
    }

    /// Decides whether the lake has every clean row that its commits claim.
    pub(crate) fn settle_lake(&mut self) {
        let covered = self.covered.unwrap_or(-1);
        let known = self.covered.is_some() || !self.begin.clean_cut;
        if let Some(claim) = self.claim.filter(|claim| known && covered < *claim) {
            let what = || {
                format!(
                    "the lake's commits claim raw offsets up to {claim}, clean batches cover {covered}"
                )
            };
            self.breaks(Promise::Commits, covered + 1, what);
        }
        let claimed = self
            .claim
            .map_or(self.floor, |claim| claim.saturating_add(1));
        let landed = std::mem::take(&mut self.landed);
        let what = "it is clean and claimed by a commit, and the lake does not have it";
        self.settle_followers(Promise::Lake, &landed, self.floor..claimed, what);
    }

    /// Holds a set that follows from the clean one against it: in the range nothing may be missing, what comes after
    /// is still to come.
    fn settle_followers(&mut self, promise: Promise, set: &Bits, range: Range<i64>, what: &str) {
        let end = self.begin.raw.end;
        let from = range.start.min(end);
        let passed = range.end.clamp(from, end);
        let missing = |[clean, set]: [u64; 2]| clean & !set;
        let lost = bits::count(from..passed, [&self.clean, set], missing);
        let pending = bits::count(passed..end, [&self.clean, set], missing);
        let partition = self.begin.partition;
        self.ledger.breaks_from(promise, partition, lost, what);
        self.ledger.count(promise).pending += pending.0;
        if self.begin.complete {
            let what = "it is clean, and has not come further yet";
            self.ledger.breaks_from(promise, partition, pending, what);
        }
    }

    /// Writes down something that cannot be read: its offset is the topic's own.
    pub(crate) fn unreadable(&mut self, promise: Promise, topic: &str, offset: i64, why: &str) {
        let partition = self.begin.partition;
        let what = || format!("{topic}/{partition} cannot be read at its offset {offset}: {why}");
        self.breaks(promise, offset, what);
    }

    /// Closes the accounts.
    pub(crate) fn close(self) -> Ledger {
        self.ledger
    }

    /// Says whether the raw topic has, or may have had, an offset.
    fn is_raw(&mut self, promise: Promise, offset: i64, what: &str) -> bool {
        let end = self.begin.raw.end;
        let known = (0..end).contains(&offset);
        if !known {
            let what = || format!("{what} names it, and the raw topic ends before {end}");
            self.breaks(promise, offset, what);
        }
        known
    }

    fn tag_at(&self, offset: i64) -> Option<u16> {
        let place = usize::try_from(offset - self.begin.raw.start).ok()?;
        self.tags.get(place).copied()
    }

    fn breaks(&mut self, promise: Promise, offset: i64, what: impl FnOnce() -> String) {
        let partition = Some(self.begin.partition);
        self.ledger.breaks(promise, partition, Some(offset), what);
    }
}

/// Returns the first offset that is in one of two ascending sequences only.
fn first_difference(
    mut one: impl Iterator<Item = i64>,
    mut other: impl Iterator<Item = i64>,
) -> Option<i64> {
    loop {
        match (one.next(), other.next()) {
            (None, None) => return None,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => return Some(one.min(other)),
            (one, other) => return one.or(other),
        }
    }
}

#[cfg(test)]
mod tests;
