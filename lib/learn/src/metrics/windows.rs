//! Figures of the last five minutes, hour and day of the stream's own time, and of all time.
//!
//! A window is told once it is full, and stays until the next one is; while there is none, what there is so far. An
//! older label than the last full window does not count there.
//!
//! An example is added to the five minutes that are filling and to nothing else; when they are full, they are added to
//! the hour, the day and all time. So windows cost one histogram for each example, and for a sparse stream no more.

use super::classes::{ClassSummary, Classes};
use super::errors::{ErrorSummary, Errors};
use super::quality::{Quality, Tested};
use super::summary::Summary;
use crate::codec::{Malformed, Reader, Writer};

const MINUTE: i64 = 60_000_000;

/// The shortest window and its name; the others consist of whole ones.
const SHORT: (i64, &str) = (5 * MINUTE, "5m");

/// The longer windows, and their names.
const LONG: [(i64, &str); 2] = [(60 * MINUTE, "1h"), (1440 * MINUTE, "1d")];

/// Name of the window that never ends.
const ALL: &str = "all";

/// Up to so many bins are added and emptied one by one.
const TOUCHED_MAX: usize = 512;

/// So many labels in a row that are too old set the windows back: their clock was wrong.
const OLD_MAX: u32 = 1000;

/// What was predicted of one example, and what came; computed once for all windows.
pub(super) enum Test {
    /// Of yes or no.
    Probability(Tested),
    /// The number, the label, and what one would have said without a model.
    Number(f64, f64, f64),
    /// Probability of the class that came, whether it was the likeliest, and how often it came so far.
    Class(f64, bool, f64),
}

/// Sums, by the label's type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sums {
    Probabilities(Quality),
    Numbers(Errors),
    Classes(Classes),
}

/// Figures, by the label's type.
#[derive(Clone, Debug, PartialEq)]
pub enum Figures {
    /// Of probabilities of yes.
    Probabilities(Summary),
    /// Of numbers.
    Numbers(ErrorSummary),
    /// Of probabilities of classes.
    Classes(ClassSummary),
}

impl Sums {
    pub fn add(&mut self, test: &Test) {
        match (self, test) {
            (Sums::Probabilities(quality), Test::Probability(tested)) => quality.add(tested),
            (Sums::Numbers(errors), Test::Number(predicted, label, base)) => {
                errors.observe(*predicted, *label, *base);
            }
            (Sums::Classes(classes), Test::Class(told, likeliest, base)) => {
                classes.observe(*told, *likeliest, *base);
            }
            _ => {}
        }
    }

    pub fn labels(&self) -> u64 {
        match self {
            Sums::Probabilities(quality) => quality.labels(),
            Sums::Numbers(errors) => errors.labels(),
            Sums::Classes(classes) => classes.labels(),
        }
    }

    pub fn figures(&self) -> Option<Figures> {
        match self {
            Sums::Probabilities(quality) => quality.summary().map(Figures::Probabilities),
            Sums::Numbers(errors) => errors.summary().map(Figures::Numbers),
            Sums::Classes(classes) => classes.summary().map(Figures::Classes),
        }
    }

    /// Returns the bins that are filled, up to one more than are few.
    fn filled(&self) -> Vec<u16> {
        match self {
            Sums::Probabilities(quality) => quality.filled().take(TOUCHED_MAX + 1).collect(),
            _ => Vec::new(),
        }
    }

    /// Adds all that a pane has.
    fn merge(&mut self, pane: &Pane) {
        match (self, &pane.sums) {
            (Sums::Probabilities(mine), Sums::Probabilities(others)) => match pane.few() {
                Some(bins) => mine.merge_bins(others, bins),
                None => mine.merge(others),
            },
            (Sums::Numbers(mine), Sums::Numbers(others)) => mine.merge(others),
            (Sums::Classes(mine), Sums::Classes(others)) => mine.merge(others),
            _ => {}
        }
    }

    fn clear(&mut self, bins: Option<&[u16]>) {
        match self {
            Sums::Probabilities(quality) => quality.clear(bins),
            Sums::Numbers(errors) => errors.clear(),
            Sums::Classes(classes) => *classes = Classes::default(),
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Sums::Probabilities(quality) => quality.write(writer),
            Sums::Numbers(errors) => errors.write(writer),
            Sums::Classes(classes) => classes.write(writer),
        }
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        match self {
            Sums::Probabilities(quality) => *quality = Quality::read(reader)?,
            Sums::Numbers(errors) => errors.read(reader)?,
            Sums::Classes(classes) => classes.read(reader)?,
        }
        Ok(())
    }
}

/// Sums of five minutes, and which bins they have filled while those are few.
#[derive(Clone, Debug, PartialEq)]
struct Pane {
    sums: Sums,
    touched: Vec<u16>,
}

impl Pane {
    #[inline]
    fn add(&mut self, test: &Test) {
        if let (Sums::Probabilities(quality), Test::Probability(tested)) = (&self.sums, test)
            && self.touched.len() <= TOUCHED_MAX
            && quality.is_free(tested)
        {
            self.touched.push(tested.bin());
        }
        self.sums.add(test);
    }

    /// Returns the bins that are filled, if they are few.
    fn few(&self) -> Option<&[u16]> {
        (self.touched.len() <= TOUCHED_MAX).then_some(&self.touched)
    }

    fn clear(&mut self) {
        let few = self.touched.len() <= TOUCHED_MAX;
        self.sums.clear(few.then_some(&self.touched));
        self.touched.clear();
    }
}

/// A longer window that is filling with whole panes, and the one before.
#[derive(Clone, Debug, PartialEq)]
struct Long {
    length: i64,
    /// When the one that is filling began; `None` before the first label.
    start: Option<i64>,
    filling: Sums,
    full: Sums,
}

impl Long {
    /// Makes sure that the window of a time is the one that is filling.
    fn roll(&mut self, time: i64) {
        let begin = begin(time, self.length);
        if self.start == Some(begin) {
            return;
        }
        std::mem::swap(&mut self.filling, &mut self.full);
        self.filling.clear(None);
        if self.start.and_then(|start| start.checked_add(self.length)) != Some(begin) {
            self.full.clear(None);
        }
        self.start = Some(begin);
    }

    /// Adds an example that came late.
    fn late(&mut self, test: &Test, time: i64) {
        let begin = begin(time, self.length);
        if self.start == Some(begin) {
            self.filling.add(test);
        } else if self.start == begin.checked_add(self.length) {
            self.full.add(test);
        }
    }
}

/// Returns when the window of a time begins.
fn begin(time: i64, length: i64) -> i64 {
    time.div_euclid(length).saturating_mul(length)
}

/// Figures of one set of examples by window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Windows {
    /// When the five minutes that are filling began; `None` before the first label.
    start: Option<i64>,
    filling: Pane,
    full: Pane,
    long: [Long; LONG.len()],
    /// All time but the five minutes that are filling.
    all: Sums,
    /// Labels in a row that were too old.
    old: u32,
}

impl Windows {
    pub fn new(empty: &Sums) -> Windows {
        let pane = || Pane {
            sums: empty.clone(),
            touched: Vec::new(),
        };
        Windows {
            start: None,
            filling: pane(),
            full: pane(),
            long: LONG.map(|(length, _)| Long {
                length,
                start: None,
                filling: empty.clone(),
                full: empty.clone(),
            }),
            all: empty.clone(),
            old: 0,
        }
    }

    #[inline]
    pub fn add(&mut self, test: &Test, time: i64) {
        let since = time.saturating_sub(self.start.unwrap_or(i64::MIN));
        if (0..SHORT.0).contains(&since) {
            self.old = 0;
            return self.filling.add(test);
        }
        self.beyond(test, time, since);
    }

    #[inline(never)]
    fn beyond(&mut self, test: &Test, time: i64, since: i64) {
        if self.start.is_some() && since < 0 {
            let recent = -SHORT.0 <= since;
            self.old = if recent { 0 } else { self.old + 1 };
            if self.old < OLD_MAX {
                if recent {
                    self.full.add(test);
                }
                self.long.iter_mut().for_each(|long| long.late(test, time));
                return self.all.add(test);
            }
        }
        self.old = 0;
        let next = begin(time, SHORT.0);
        for long in &mut self.long {
            if self.start.is_some() {
                long.filling.merge(&self.filling);
            }
            long.roll(next);
        }
        self.all.merge(&self.filling);
        std::mem::swap(&mut self.filling, &mut self.full);
        self.filling.clear();
        if self.start.and_then(|start| start.checked_add(SHORT.0)) != Some(next) {
            self.full.clear();
        }
        self.start = Some(next);
        self.filling.add(test);
    }

    /// Returns the sums of all time.
    pub fn all_time(&self) -> Sums {
        self.with_filling(&self.all)
    }

    fn with_filling(&self, sums: &Sums) -> Sums {
        let mut sums = sums.clone();
        sums.merge(&self.filling);
        sums
    }

    /// Returns the sums of each window that has some, with its name.
    pub fn told(&self) -> impl Iterator<Item = (&'static str, Sums)> {
        let short = match self.full.sums.labels() {
            0 => self.filling.sums.clone(),
            _ => self.full.sums.clone(),
        };
        let names = LONG.iter().map(|(_, name)| *name);
        let long = names.zip(&self.long).map(move |(name, long)| {
            let full = 0 < long.full.labels();
            let told = match full {
                true => long.full.clone(),
                false => self.with_filling(&long.filling),
            };
            (name, told)
        });
        [(SHORT.1, short)]
            .into_iter()
            .chain(long)
            .chain([(ALL, self.all_time())])
            .filter(|(_, sums)| 0 < sums.labels())
    }

    pub fn write(&self, writer: &mut Writer) {
        let mut starts = vec![self.start];
        starts.extend(self.long.iter().map(|long| long.start));
        for start in starts {
            writer.u32(u32::from(start.is_some()));
            writer.i64(start.unwrap_or_default());
        }
        writer.u32(self.old);
        let long = self.long.iter();
        let long = long.flat_map(|long| [&long.filling, &long.full]);
        let short = [&self.filling.sums, &self.full.sums, &self.all];
        short
            .into_iter()
            .chain(long)
            .for_each(|sums| sums.write(writer));
    }

    pub fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let mut start = || -> Result<Option<i64>, Malformed> {
            let started = reader.u32()? != 0;
            let start = reader.i64()?;
            Ok(started.then_some(start))
        };
        self.start = start()?;
        for long in &mut self.long {
            long.start = start()?;
        }
        self.old = reader.u32()?;
        reader.expect(self.old < OLD_MAX)?;
        for pane in [&mut self.filling, &mut self.full] {
            pane.sums.read(reader)?;
            pane.touched = pane.sums.filled();
        }
        self.all.read(reader)?;
        for long in &mut self.long {
            long.filling.read(reader)?;
            long.full.read(reader)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Sums {
        Sums::Probabilities(Quality::new(0.5))
    }

    fn test(probability: f64) -> Test {
        Test::Probability(Tested::new(probability, true, 0.5).unwrap())
    }

    /// Returns how many labels each window tells of.
    fn told(windows: &Windows) -> Vec<(&'static str, u64)> {
        let told = windows.told();
        told.map(|(name, sums)| (name, sums.labels())).collect()
    }

    #[test]
    fn a_window_is_told_once_it_is_full() {
        let mut windows = Windows::new(&empty());
        assert_eq!(told(&windows), []);
        for minute in 0..12 {
            windows.add(&test(0.5), minute * MINUTE);
        }
        assert_eq!(
            told(&windows),
            [("5m", 5), ("1h", 12), ("1d", 12), ("all", 12)]
        );
        // A label of the last full window still counts there, an older one for all time only.
        windows.add(&test(0.5), 6 * MINUTE);
        windows.add(&test(0.5), 4 * MINUTE);
        assert_eq!(told(&windows)[0], ("5m", 6));
        assert_eq!(told(&windows)[3], ("all", 14));
        // After a pause there is no last full window.
        windows.add(&test(0.5), 600 * MINUTE);
        windows.add(&test(0.5), 601 * MINUTE);
        assert_eq!(told(&windows)[..2], [("5m", 2), ("1h", 2)]);
    }

    #[test]
    fn what_a_window_forgets_leaves_nothing_behind() {
        for count in [1, TOUCHED_MAX as i64 / 2, 40 * TOUCHED_MAX as i64] {
            let mut windows = Windows::new(&empty());
            for at in 0..count {
                windows.add(&test(at as f64 / count as f64), 0);
            }
            for minute in [5, 10] {
                windows.add(&test(0.25), minute * MINUTE);
            }
            let mut one = empty();
            one.add(&test(0.25));
            let panes = (&windows.full, &windows.filling);
            assert_eq!((&panes.0.sums, &panes.1.sums), (&one, &one));
            assert_eq!(panes.0.touched.len(), 1);
            assert_eq!(
                told(&windows)[1..],
                [
                    ("1h", count as u64 + 2),
                    ("1d", count as u64 + 2),
                    ("all", count as u64 + 2)
                ]
            );
        }
    }

    #[test]
    fn a_clock_that_was_wrong_is_set_back() {
        let mut windows = Windows::new(&empty());
        windows.add(&test(0.5), 1_000_000 * MINUTE);
        for _ in 0..OLD_MAX + 7 {
            windows.add(&test(0.5), MINUTE);
        }
        assert_eq!(told(&windows)[0], ("5m", 8));
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let mut windows = Windows::new(&empty());
        (0..40).for_each(|at| windows.add(&test(0.3), at * MINUTE));
        let mut writer = Writer::new(b"TEST", 1);
        windows.write(&mut writer);
        let bytes = writer.finish();
        let mut again = Windows::new(&empty());
        let mut reader = Reader::new(&bytes, b"TEST", 1, "windows").unwrap();
        again.read(&mut reader).unwrap();
        for at in 40..90 {
            windows.add(&test(0.6), at * MINUTE);
            again.add(&test(0.6), at * MINUTE);
        }
        assert!(windows.told().eq(again.told()));
    }

    #[test]
    fn hours_and_days_are_made_of_whole_windows() {
        let mut windows = Windows::new(&empty());
        let (mut hour, mut all) = (empty(), empty());
        for at in 0..3000_i64 {
            let test = test((at % 97) as f64 / 97.0);
            // Out of order by up to eight minutes.
            let time = at * MINUTE / 10 - (at % 5) * 2 * MINUTE;
            windows.add(&test, time);
            all.add(&test);
            if (180 * MINUTE..240 * MINUTE).contains(&time) {
                hour.add(&test);
            }
        }
        let told: Vec<_> = windows.told().collect();
        let near = |one: &Sums, other: &Sums| {
            let (Some(Figures::Probabilities(one)), Some(Figures::Probabilities(other))) =
                (one.figures(), other.figures())
            else {
                panic!("figures of probabilities")
            };
            assert_eq!((one.labels, one.accuracy), (other.labels, other.accuracy));
            assert!((one.log_loss - other.log_loss).abs() < 1e-9);
            assert!((one.ece - other.ece).abs() < 1e-9);
        };
        near(&told[1].1, &hour);
        near(&told[3].1, &all);
    }
}
