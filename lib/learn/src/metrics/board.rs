//! Figures by window of stream time and by slice: of all examples, and of those that share a value of a field.
//!
//! A slice has the first values that come, up to [`VALUES_MAX`]; the others share one set. So memory is bounded: a set is
//! seven histograms of 24 KiB for probabilities, and some sums for numbers and classes.

use schemas::Contract;
use schemas::contract::{Label, LabelType, Loss};
use schemas::model::Prequential;

use super::classes::Classes;
use super::errors::Errors;
use super::quality::{Quality, Tested};
use super::windows::{Figures, Sums, Test, Windows};
use crate::codec::{Malformed, Reader, Writer};

const MAGIC: &[u8; 4] = b"TWMB";
const VERSION: u32 = 1;

/// Most values of a slice with a set of their own.
pub const VALUES_MAX: usize = 15;

/// Longest value with a set of its own, in bytes.
const VALUE_BYTES_MAX: usize = 64;

/// What values are called that share a set.
pub const OTHER: &str = "(other)";

/// What an event without a value is under.
pub const NONE: &str = "(none)";

/// Bits of a mark for each slice.
const BITS: usize = 8;

/// Which value of each slice an event has; it waits with the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u32);

/// What was predicted of an example before its label was learned.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// The probability of yes, or the number.
    Value(f64),
    /// What [`Metrics::observe`](super::Metrics::observe) made of the probability of yes.
    Tested(Tested),
    /// The probability of the class that came, and whether it was the likeliest.
    Class(f64, bool),
}

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Field and value of the slice; `None` is all examples.
    pub slice: Option<(&'a str, &'a str)>,
    /// The window: `5m`, `1h`, `1d` or `all`.
    pub window: &'static str,
}

/// Figures by window and slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    kind: LabelType,
    empty: Sums,
    whole: Windows,
    slices: Vec<Slice>,
    /// Sum of the labels so far, and how many there are; and how often each class came.
    seen: (f64, u64),
    classes: Vec<u64>,
}

/// Figures by value of a field.
#[derive(Clone, Debug, PartialEq)]
struct Slice {
    field: String,
    values: Vec<String>,
    /// By value; made when a value's first label comes. The last is that of the others.
    sets: Vec<Option<Box<Windows>>>,
}

impl Board {
    /// Makes an empty board for a contract's label and slices.
    pub fn new(contract: &Contract, label: &Label) -> Board {
        let quantile = match contract.learner.loss {
            Loss::Quantile(quantile) => quantile,
            _ => 0.5,
        };
        let empty = match label.kind {
            LabelType::Bool => Sums::Probabilities(Quality::new(contract.decision.threshold)),
            LabelType::Number => Sums::Numbers(Errors::new(quantile)),
            LabelType::Class => Sums::Classes(Classes::default()),
        };
        let slice = |field: &usize| Slice {
            field: contract.fields[*field].name.clone(),
            values: Vec::new(),
            sets: vec![None; VALUES_MAX + 1],
        };
        Board {
            kind: label.kind,
            whole: Windows::new(&empty),
            slices: contract.monitors.slices.iter().map(slice).collect(),
            seen: (0.0, 0),
            classes: vec![0; label.classes.len()],
            empty,
        }
    }

    /// Returns the mark of an event; `value` gives its text for each slice, in the order of the contract.
    #[inline]
    pub fn mark<'a>(&mut self, mut value: impl FnMut(usize) -> Option<&'a str>) -> Mark {
        let mut mark = 0;
        for (at, slice) in self.slices.iter_mut().enumerate() {
            mark |= slice.number(value(at).unwrap_or(NONE)) << (at * BITS);
        }
        Mark(mark)
    }

    /// Takes what was told of an example, its label, when that was known (microseconds of stream time), and its mark.
    pub fn observe(&mut self, told: Told, label: f64, time: i64, mark: Mark) {
        let Some(test) = self.test(told, label) else {
            return;
        };
        self.whole.add(&test, time);
        for (at, slice) in self.slices.iter_mut().enumerate() {
            let number = (mark.0 >> (at * BITS)) as usize & ((1 << BITS) - 1);
            if let Some(set) = slice.sets.get_mut(number) {
                set.get_or_insert_with(|| Box::new(Windows::new(&self.empty)))
                    .add(&test, time);
            }
        }
    }

    /// Holds what was told against the label, and against what one would have said without a model.
    fn test(&mut self, told: Told, label: f64) -> Option<Test> {
        let (sum, count) = self.seen;
        let test = match (self.kind, told) {
            (LabelType::Bool, Told::Value(probability)) => {
                let base = (sum + 0.5) / (count as f64 + 1.0);
                Test::Probability(Tested::new(probability, label == 1.0, base)?)
            }
            (LabelType::Bool, Told::Tested(tested)) => Test::Probability(tested),
            (LabelType::Number, Told::Value(predicted)) => {
                let base = if count == 0 { 0.0 } else { sum / count as f64 };
                Test::Number(predicted, label, base)
            }
            (LabelType::Class, Told::Class(probability, likeliest)) => {
                let classes = self.classes.len() as f64;
                let seen = self.classes.get_mut(label as usize)?;
                let base = (*seen as f64 + 1.0) / (count as f64 + classes);
                *seen += 1;
                Test::Class(probability, likeliest, base)
            }
            _ => return None,
        };
        self.seen = (sum + label, count + 1);
        Some(test)
    }

    /// Returns the figures that go with a version of a model of numbers or classes; `None` of yes or no, whose figures
    /// are those of [`Metrics`](super::Metrics).
    pub fn prequential(&self) -> Option<Prequential> {
        match self.whole.all_time() {
            Sums::Probabilities(_) => None,
            Sums::Numbers(errors) => Some(errors.prequential()),
            Sums::Classes(classes) => Some(classes.prequential()),
        }
    }

    /// Returns all figures: those of all examples first, then by slice and value.
    pub fn figures(&self) -> impl Iterator<Item = (Place<'_>, Figures)> {
        let slices = self.slices.iter().flat_map(|slice| {
            let names = slice.values.iter().map(String::as_str);
            let own = names.zip(&slice.sets);
            let others = [(OTHER, &slice.sets[VALUES_MAX])];
            let sets = own.chain(others);
            sets.filter_map(|(value, set)| Some((Some((&slice.field[..], value)), set.as_deref()?)))
        });
        let all = [(None, &self.whole)].into_iter().chain(slices);
        all.flat_map(|(slice, set)| {
            set.told().filter_map(move |(window, sums)| {
                let place = Place { slice, window };
                Some((place, sums.figures()?))
            })
        })
    }

    /// Returns everything as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC, VERSION);
        writer.f64(self.seen.0);
        writer.examples(self.seen.1);
        self.classes.iter().for_each(|seen| writer.examples(*seen));
        self.whole.write(&mut writer);
        for slice in &self.slices {
            writer.u64(slice.values.len() as u64);
            slice.values.iter().for_each(|value| writer.text(value));
            for set in &slice.sets {
                writer.u32(u32::from(set.is_some()));
                if let Some(set) = set {
                    set.write(&mut writer);
                }
            }
        }
        writer.finish()
    }

    /// Reads what [`Board::to_bytes`] wrote of a board of the same contract.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes, MAGIC, VERSION, "figures")?;
        self.seen = (reader.f64()?, reader.examples()?);
        for seen in &mut self.classes {
            *seen = reader.examples()?;
        }
        self.whole.read(&mut reader)?;
        for slice in &mut self.slices {
            let count = reader.count(4)?;
            reader.expect(count <= VALUES_MAX)?;
            slice.values.clear();
            for _ in 0..count {
                slice.values.push(reader.text()?);
            }
            for set in &mut slice.sets {
                *set = None;
                if reader.u32()? != 0 {
                    let mut windows = Windows::new(&self.empty);
                    windows.read(&mut reader)?;
                    *set = Some(Box::new(windows));
                }
            }
        }
        reader.finish()
    }
}

impl Slice {
    /// Returns the number of a value.
    fn number(&mut self, value: &str) -> u32 {
        if let Some(known) = self.values.iter().position(|known| known == value) {
            return known as u32;
        }
        if self.values.len() < VALUES_MAX && value.len() <= VALUE_BYTES_MAX {
            self.values.push(value.to_owned());
            return self.values.len() as u32 - 1;
        }
        VALUES_MAX as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(label: &str) -> Contract {
        let text = include_str!("../../../../schemas/fixtures/contract.toml");
        let text = text.replace(
            "[monitors]",
            "[monitors]\nslices = [\"carrier\", \"flight\"]",
        );
        let (before, rest) = text.split_once("[learner]").unwrap();
        let (_, after) = rest.split_once("[decision]").unwrap();
        let text = format!("{before}[decision]{after}");
        Contract::parse("x", &text.replace("type = \"bool\"\nevent", label)).unwrap()
    }

    fn board(label: &str) -> Board {
        let contract = contract(label);
        Board::new(&contract, contract.label.as_ref().unwrap())
    }

    /// Returns how many labels the figures of all time are of, by slice and value.
    fn all_time(board: &Board) -> Vec<(String, u64)> {
        let figures = board.figures().filter(|(place, _)| place.window == "all");
        let count = |(place, figures): (Place<'_>, Figures)| {
            let labels = match figures {
                Figures::Probabilities(summary) => summary.labels,
                Figures::Numbers(summary) => summary.labels,
                Figures::Classes(summary) => summary.labels,
            };
            let (field, value) = place.slice.unwrap_or_default();
            (format!("{field}={value}"), labels)
        };
        figures.map(count).collect()
    }

    #[test]
    fn every_value_has_its_own_figures_up_to_so_many() {
        let mut board = board("type = \"bool\"\nevent");
        let flights: Vec<String> = (0..40).map(|flight| format!("f{flight}")).collect();
        for at in 0..400_usize {
            let carrier = if at % 4 == 0 { "AA" } else { "UA" };
            let values = [Some(carrier), Some(&*flights[at % 40])];
            let mark = board.mark(|slice| values[slice]);
            board.observe(Told::Value(0.5), f64::from(u8::from(at % 2 == 0)), 0, mark);
        }
        let found = all_time(&board);
        assert_eq!(
            found[..3],
            [("=", 400), ("carrier=AA", 100), ("carrier=UA", 300)]
                .map(|(name, count)| (name.to_owned(), count))
        );
        assert_eq!(found[3], ("flight=f0".to_owned(), 10));
        assert_eq!(found[18..], [("flight=(other)".to_owned(), 250)]);
        let bytes = board.to_bytes();
        let mut again = super::tests::board("type = \"bool\"\nevent");
        again.read(&bytes).unwrap();
        assert!(again.figures().eq(board.figures()));
        assert_eq!(again.mark(|_| Some("UA")), board.mark(|_| Some("UA")));
        for end in 0..bytes.len().min(200) {
            assert!(again.read(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn numbers_and_classes_have_figures_too() {
        let mut numbers = board("type = \"number\"\nevent");
        let mark = numbers.mark(|_| None);
        numbers.observe(Told::Value(3.0), 1.0, 0, mark);
        let (_, figures) = numbers.figures().next().unwrap();
        let Figures::Numbers(errors) = figures else {
            panic!("errors of numbers")
        };
        assert_eq!((errors.rmse, errors.mae), (2.0, 2.0));
        assert_eq!(all_time(&numbers)[1].0, "carrier=(none)");
        let mut classes = board("type = \"class\"\nclasses = [\"a\", \"b\"]\nevent");
        for label in [0.0, 1.0, 7.0] {
            classes.observe(Told::Class(0.5, label == 0.0), label, 0, Mark(0));
        }
        let (_, figures) = classes.figures().next().unwrap();
        let Figures::Classes(summary) = figures else {
            panic!("figures of classes")
        };
        assert_eq!((summary.labels, summary.accuracy), (2, 0.5));
    }
}
