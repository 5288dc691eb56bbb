//! Drift: how far the events of the current window are from the first ones.
//!
//! Rows and their scores go in; out comes, for each watched feature and for the score, the population
//! stability index between a frozen reference (the first `window` events) and the last whole window, beside
//! what noise alone would make of it. The first events decide the bins: numbers fall into tenths (a t-digest
//! finds them), categories into the most frequent ones (a sketch of frequent items) and the rest; missing
//! values have a bin of their own. Memory is bounded; once there are bins a value costs one lookup.
//!
//! The floor assumes independent events. Those of a real stream are not (weather lasts), so an index a little
//! above it says that this window differs from the first, not yet that the stream has changed for good.

mod bins;
mod psi;
mod reference;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::bins::{Bins, CategoryBins, NumberBins};
pub use self::psi::Psi;
use self::psi::psi;
use self::reference::Block;
pub use crate::codec::Malformed;
use crate::codec::{Reader, Writer};
use crate::features::{FeatureSpace, Rows};

const MAGIC: &[u8; 4] = b"TWDR";
const VERSION: u32 = 1;

/// Events that decide the bins, at most.
const BLOCK_MAX: u64 = 16_384;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The feature of a slot.
    Slot(usize),
    /// The score.
    Score,
}

/// How far one subject's window is from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// What was watched.
    pub subject: Subject,
    /// The index and its noise.
    pub psi: Psi,
    /// Share of values missing in the reference and in the window.
    pub missing: [f64; 2],
}

/// Watches the features of a stream and its scores.
#[derive(Clone, Debug)]
pub struct DriftMonitor {
    window: u64,
    /// Events in the reference while it is made, then in the window.
    events: u64,
    /// Whether the reference is frozen.
    frozen: bool,
    watched: Vec<Watched>,
    last: Vec<Drift>,
    windows: u64,
}

#[derive(Clone, Debug)]
struct Watched {
    subject: Subject,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// There are no bins yet.
    Gathering(Block),
    /// Values are counted: into the reference until it is frozen, then into windows.
    Counting {
        bins: Bins,
        reference: Vec<u32>,
        current: Vec<u32>,
    },
}

impl DriftMonitor {
    /// Watches the features of a space, and scores; `window` events make the reference and each window.
    pub fn new(space: &FeatureSpace, window: u32) -> DriftMonitor {
        let layout = space.layout();
        let watch = |subject, block| Watched {
            subject,
            state: State::Gathering(block),
        };
        let slot = |slot: usize| {
            let block = match slot < layout.numbers {
                true => Block::Numbers(Vec::new()),
                false => Block::Categories {
                    ids: Vec::new(),
                    missing: space.missing_id(slot),
                },
            };
            watch(Subject::Slot(slot), block)
        };
        let score = watch(Subject::Score, Block::Numbers(Vec::new()));
        let slots = (0..layout.slots)
            .filter(|slot| space.watched(*slot))
            .map(slot);
        DriftMonitor {
            window: u64::from(window.max(1)),
            events: 0,
            frozen: false,
            watched: slots.chain([score]).collect(),
            last: Vec::new(),
            windows: 0,
        }
    }

    /// Takes a micro-batch of events and their scores, one each; without scores only features are watched.
    ///
    /// # Panics
    /// If the rows are not those of the feature space.
    pub fn observe(&mut self, rows: &Rows, scores: &[f64]) {
        let mut start = 0;
        while start < rows.len() {
            let block = self.window.min(BLOCK_MAX);
            let gathering = !self.frozen && self.events < block;
            let goal = if gathering { block } else { self.window };
            let room = usize::try_from(goal - self.events).unwrap_or(usize::MAX);
            let end = rows.len().min(start.saturating_add(room));
            for watched in &mut self.watched {
                watched.observe(rows, scores, start..end);
            }
            self.events += (end - start) as u64;
            start = end;
            if gathering && self.events == block {
                self.watched.iter_mut().for_each(Watched::bin);
            }
            if self.events == self.window {
                self.turn();
            }
        }
    }

    /// Ends the reference or a window.
    fn turn(&mut self) {
        if self.frozen {
            self.last = self.current();
            self.windows += 1;
        }
        for watched in &mut self.watched {
            if let State::Counting {
                reference, current, ..
            } = &mut watched.state
            {
                if !self.frozen {
                    reference.copy_from_slice(current);
                }
                current.fill(0);
            }
        }
        self.events = 0;
        self.frozen = true;
    }

    /// Returns how many whole windows were compared.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Returns the drift of the last whole window; empty until there was one.
    pub fn last(&self) -> &[Drift] {
        &self.last
    }

    /// Returns the drift of the window that is open, however short; empty while there is no reference.
    pub fn current(&self) -> Vec<Drift> {
        let drifts = self.watched.iter().filter_map(Watched::drift);
        if self.frozen {
            drifts.collect()
        } else {
            Vec::new()
        }
    }

    /// Returns the frozen reference alone, as a monitor that has seen no window yet; `None` until it is frozen.
    pub fn reference(&self) -> Option<DriftMonitor> {
        let mut alone = self.frozen.then(|| self.clone())?;
        (alone.events, alone.windows) = (0, 0);
        alone.last.clear();
        for watched in &mut alone.watched {
            if let State::Counting { current, .. } = &mut watched.state {
                current.fill(0);
            }
        }
        Some(alone)
    }

    /// Returns how many events make the reference, and each window.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// Returns everything as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC, VERSION);
        writer.u64(self.window);
        writer.u64(self.events);
        writer.u64(self.windows);
        writer.u32(u32::from(self.frozen));
        self.watched
            .iter()
            .for_each(|watched| watched.write(&mut writer));
        writer.u64(self.last.len() as u64);
        for drift in &self.last {
            let Psi {
                psi,
                expected,
                floor,
            } = drift.psi;
            let figures = [psi, expected, floor, drift.missing[0], drift.missing[1]];
            figures.into_iter().for_each(|figure| writer.f64(figure));
        }
        writer.finish()
    }

    /// Reads what [`DriftMonitor::to_bytes`] wrote for the same features.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn from_bytes(space: &FeatureSpace, bytes: &[u8]) -> Result<DriftMonitor, Malformed> {
        let mut monitor = DriftMonitor::new(space, 1);
        let mut reader = Reader::new(bytes, MAGIC, VERSION, "drift")?;
        monitor.window = reader.u64()?;
        monitor.events = reader.u64()?;
        monitor.windows = reader.u64()?;
        monitor.frozen = reader.u32()? == 1;
        reader.expect(monitor.events < monitor.window)?;
        for watched in &mut monitor.watched {
            watched.read(&mut reader)?;
        }
        let last = reader.count(40)?;
        reader.expect(last == 0 || last == monitor.watched.len())?;
        for watched in &monitor.watched[..last] {
            let psi = Psi {
                psi: reader.f64()?,
                expected: reader.f64()?,
                floor: reader.f64()?,
            };
            let missing = [reader.f64()?, reader.f64()?];
            monitor.last.push(Drift {
                subject: watched.subject,
                psi,
                missing,
            });
        }
        reader.finish()?;
        Ok(monitor)
    }
}

impl Watched {
    fn observe(&mut self, rows: &Rows, scores: &[f64], range: Range<usize>) {
        let layout = rows.layout();
        match self.subject {
            Subject::Slot(slot) if slot < layout.numbers => {
                let values =
                    &rows.numbers()[range.start * layout.numbers..range.end * layout.numbers];
                self.numbers(values.iter().skip(slot).step_by(layout.numbers).copied());
            }
            Subject::Slot(slot) => {
                let ids = &rows.ids()[range.start * layout.slots..range.end * layout.slots];
                self.ids(ids.iter().skip(slot).step_by(layout.slots).copied());
            }
            Subject::Score => {
                let known = range.start.min(scores.len())..range.end.min(scores.len());
                self.numbers(scores[known].iter().copied());
            }
        }
    }

    fn numbers(&mut self, values: impl Iterator<Item = f64>) {
        match &mut self.state {
            State::Gathering(Block::Numbers(block)) => block.extend(values),
            State::Counting {
                bins: Bins::Number(bins),
                current,
                ..
            } => {
                values.for_each(|value| current[bins.of(value)] += 1);
            }
            _ => {}
        }
    }

    fn ids(&mut self, ids: impl Iterator<Item = u32>) {
        match &mut self.state {
            State::Gathering(Block::Categories { ids: block, .. }) => block.extend(ids),
            State::Counting {
                bins: Bins::Category(bins),
                current,
                ..
            } => {
                ids.for_each(|id| current[bins.of(id)] += 1);
            }
            _ => {}
        }
    }

    /// Chooses the bins.
    fn bin(&mut self) {
        if let State::Gathering(block) = &self.state {
            let (bins, current) = block.bin();
            self.state = State::Counting {
                bins,
                reference: vec![0; current.len()],
                current,
            };
        }
    }

    fn drift(&self) -> Option<Drift> {
        let State::Counting {
            bins,
            reference,
            current,
        } = &self.state
        else {
            return None;
        };
        let counts = |counts: &[u32]| {
            counts
                .iter()
                .map(|count| f64::from(*count))
                .collect::<Vec<f64>>()
        };
        let (reference, current) = (counts(reference), counts(current));
        let missing = match bins {
            Bins::Number(_) => NumberBins::MISSING,
            Bins::Category(_) => CategoryBins::MISSING,
        };
        let share = |counts: &[f64]| counts[missing] / counts.iter().sum::<f64>().max(1.0);
        Some(Drift {
            subject: self.subject,
            psi: psi(&reference, &current),
            missing: [share(&reference), share(&current)],
        })
    }

    fn write(&self, writer: &mut Writer) {
        match &self.state {
            State::Gathering(block) => {
                writer.u32(0);
                block.write(writer);
            }
            State::Counting {
                bins,
                reference,
                current,
            } => {
                writer.u32(1);
                match bins {
                    Bins::Number(bins) => bins.edges.iter().for_each(|edge| writer.f64(*edge)),
                    Bins::Category(bins) => {
                        writer.u32(bins.missing);
                        writer.u64(bins.top.len() as u64);
                        bins.top.iter().for_each(|id| writer.u32(*id));
                    }
                }
                reference
                    .iter()
                    .chain(current)
                    .for_each(|count| writer.u32(*count));
            }
        }
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let State::Gathering(block) = &mut self.state else {
            return Err(reader.malformed());
        };
        if reader.u32()? == 0 {
            return block.read(reader);
        }
        let (bins, len) = match block {
            Block::Numbers(_) => {
                let mut bins = NumberBins::new(&[]);
                for edge in &mut bins.edges {
                    *edge = reader.f64()?;
                }
                (Bins::Number(bins), NumberBins::COUNT)
            }
            Block::Categories { .. } => {
                let missing = reader.u32()?;
                let top = reader.count(4)?;
                reader.expect(top <= bins::TOP_MAX)?;
                let top = (0..top).map(|_| reader.u32()).collect::<Result<_, _>>()?;
                (
                    Bins::Category(Box::new(CategoryBins::new(top, missing))),
                    CategoryBins::COUNT,
                )
            }
        };
        let reference = (0..len).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        let current = (0..len).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        self.state = State::Counting {
            bins,
            reference,
            current,
        };
        Ok(())
    }
}
