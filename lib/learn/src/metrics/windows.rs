//! Figures of the last five minutes, hour and day of the stream's own time, and of all time.
//!
//! A window is told once it is full, and stays until the next one is; while there is none, what there is so far. An
//! older label than the last full window counts for all time only.

use super::classes::{ClassSummary, Classes};
use super::errors::{ErrorSummary, Errors};
use super::quality::{Quality, Tested};
use super::summary::Summary;
use crate::codec::{Malformed, Reader, Writer};

const MINUTE: i64 = 60_000_000;

/// Lengths of windows in microseconds, and their names.
const LENGTHS: [(i64, &str); 3] = [
    (5 * MINUTE, "5m"),
    (60 * MINUTE, "1h"),
    (1440 * MINUTE, "1d"),
];

/// Name of the window that never ends.
const ALL: &str = "all";

/// Up to so many bins are emptied one by one.
const TOUCHED_MAX: usize = 64;

/// So many labels in a row that are too old for a window set it back: its clock was wrong.
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

/// Sums of one window, and which bins they have filled while those are few.
#[derive(Clone, Debug, PartialEq)]
struct Pane {
    sums: Sums,
    touched: Vec<u16>,
}

impl Pane {
    #[inline]
    fn add(&mut self, test: &Test) {
        self.sums.add(test);
        if let Test::Probability(tested) = test
            && self.touched.len() <= TOUCHED_MAX
        {
            self.touched.push(tested.bin());
        }
    }

    /// A window of a few labels is emptied for the price of those.
    fn clear(&mut self) {
        match &mut self.sums {
            Sums::Probabilities(quality) => {
                let few = self.touched.len() <= TOUCHED_MAX;
                quality.clear(few.then_some(&self.touched));
            }
            Sums::Numbers(errors) => errors.clear(),
            Sums::Classes(classes) => *classes = Classes::default(),
        }
        self.touched.clear();
    }
}

/// A window that is filling, and the one before.
#[derive(Clone, Debug, PartialEq)]
struct Window {
    length: i64,
    /// When the one that is filling began; `None` before the first label.
    start: Option<i64>,
    filling: Pane,
    full: Pane,
    /// Labels in a row that were too old.
    old: u32,
}

impl Window {
    #[inline]
    fn add(&mut self, test: &Test, time: i64) {
        let start = self.start.unwrap_or(i64::MIN);
        let since = time.saturating_sub(start);
        if (0..self.length).contains(&since) {
            self.old = 0;
            return self.filling.add(test);
        }
        self.beyond(test, time, since);
    }

    #[inline(never)]
    fn beyond(&mut self, test: &Test, time: i64, since: i64) {
        let begin = time.div_euclid(self.length).saturating_mul(self.length);
        if self.start.is_some() && since < 0 {
            if -self.length <= since {
                self.old = 0;
                return self.full.add(test);
            }
            self.old += 1;
            if self.old < OLD_MAX {
                return;
            }
        }
        self.old = 0;
        std::mem::swap(&mut self.filling, &mut self.full);
        self.filling.clear();
        if self.start.and_then(|start| start.checked_add(self.length)) != Some(begin) {
            self.full.clear();
        }
        self.start = Some(begin);
        self.filling.add(test);
    }

    fn told(&self) -> &Sums {
        match self.full.sums.labels() {
            0 => &self.filling.sums,
            _ => &self.full.sums,
        }
    }
}

/// Figures of one set of examples by window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Windows {
    all: Sums,
    windows: [Window; LENGTHS.len()],
}

impl Windows {
    pub fn new(empty: &Sums) -> Windows {
        let pane = || Pane {
            sums: empty.clone(),
            touched: Vec::new(),
        };
        Windows {
            all: empty.clone(),
            windows: LENGTHS.map(|(length, _)| Window {
                length,
                start: None,
                filling: pane(),
                full: pane(),
                old: 0,
            }),
        }
    }

    #[inline]
    pub fn add(&mut self, test: &Test, time: i64) {
        self.all.add(test);
        for window in &mut self.windows {
            window.add(test, time);
        }
    }

    /// Returns the sums of each window that has some, with its name.
    pub fn told(&self) -> impl Iterator<Item = (&'static str, &Sums)> {
        let names = LENGTHS.iter().map(|(_, name)| *name);
        let windows = names.zip(self.windows.iter().map(Window::told));
        windows
            .chain([(ALL, &self.all)])
            .filter(|(_, sums)| 0 < sums.labels())
    }

    pub fn write(&self, writer: &mut Writer) {
        self.all.write(writer);
        for window in &self.windows {
            writer.u32(u32::from(window.start.is_some()));
            writer.i64(window.start.unwrap_or_default());
            writer.u32(window.old);
            window.filling.sums.write(writer);
            window.full.sums.write(writer);
        }
    }

    pub fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        self.all.read(reader)?;
        for window in &mut self.windows {
            let started = reader.u32()? != 0;
            let start = reader.i64()?;
            window.start = started.then_some(start);
            window.old = reader.u32()?;
            for pane in [&mut window.filling, &mut window.full] {
                pane.sums.read(reader)?;
                // Which bins are filled is not known: all of them are emptied.
                pane.touched = vec![0; TOUCHED_MAX + 1];
            }
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
        for count in [1, TOUCHED_MAX as i64 - 1, 40 * TOUCHED_MAX as i64] {
            let mut windows = Windows::new(&empty());
            for at in 0..count {
                windows.add(&test(at as f64 / count as f64), 0);
            }
            for minute in [5, 10] {
                windows.add(&test(0.25), minute * MINUTE);
            }
            let mut one = empty();
            one.add(&test(0.25));
            let five = &windows.windows[0];
            assert_eq!((&five.full.sums, &five.filling.sums), (&one, &one));
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
}
