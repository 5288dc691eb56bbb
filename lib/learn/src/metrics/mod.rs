//! Prequential metrics: how good predictions were that were made before their labels were learned.
//!
//! Predictions and outcomes go in, in the order in which they were learned; figures come out for all time, for
//! the last labels, and by stretches of the stream's own time; or ([`Board`]) for its last five minutes, hour and day, by
//! slice. Memory is bounded and every figure comes from sums that merge. Means are exact but for rounding (a sum of n
//! parts is off by n rounding errors at most); both areas come from 1,024 bins and carry the bound of their error; the
//! calibration error is over groups of about equal size, made of whole bins, which it says.

mod board;
mod classes;
mod errors;
mod quality;
mod summary;
#[cfg(test)]
mod tests;
mod windows;

use std::collections::BTreeMap;

use schemas::model::Prequential;

pub use self::board::{Board, Mark, NONE, OTHER, Place, Told, VALUES_MAX};
pub use self::classes::{ClassSummary, Classes};
pub use self::errors::{ErrorSummary, Errors};
pub use self::quality::{Quality, Tested};
pub use self::summary::{Auc, BrierSplit, CalibrationGroup, Summary};
pub use self::windows::Figures;
pub use crate::codec::Malformed;
use crate::codec::{Reader, Writer};

const MAGIC: &[u8; 4] = b"TWMT";
const VERSION: u32 = 1;

/// The window of the last labels consists of this many parts; the oldest leaves as a whole.
const PARTS: usize = 10;

/// How finely and how far back metrics are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricsConfig {
    /// Predictions from here on are decisions for yes.
    pub threshold: f64,
    /// Labels of the window of the last labels.
    pub recent_labels: u64,
    /// Length of a stretch of stream time, in microseconds.
    pub stretch_micros: i64,
    /// How many stretches are kept, from the newest.
    pub stretches_max: usize,
}

/// Prequential metrics of one learner.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    config: MetricsConfig,
    all_time: Quality,
    /// Parts of the last labels, the newest at the end.
    recent: Vec<Quality>,
    /// Labels in the newest part, and how many it takes.
    part_labels: u64,
    part_max: u64,
    /// By start of the stretch.
    stretches: BTreeMap<i64, Quality>,
    /// Labels, and those that are yes, for the base rate.
    seen: [u64; 2],
}

impl Metrics {
    /// Makes empty metrics.
    pub fn new(config: MetricsConfig) -> Metrics {
        Metrics {
            config,
            all_time: Quality::new(config.threshold),
            recent: vec![Quality::new(config.threshold); PARTS],
            part_labels: 0,
            part_max: (config.recent_labels / PARTS as u64).max(1),
            stretches: BTreeMap::new(),
            seen: [0; 2],
        }
    }

    /// Returns the share of yes so far: one half before anything was seen, and never 0 or 1.
    pub fn base_rate(&self) -> f64 {
        (self.seen[1] as f64 + 0.5) / (self.seen[0] as f64 + 1.0)
    }

    /// Takes a prediction, what became of it, and when that was known (microseconds of stream time).
    ///
    /// Returns what was tested, for a [`Board`]; `None` of what is no probability, which is not counted.
    pub fn observe(&mut self, probability: f64, label: bool, time_micros: i64) -> Option<Tested> {
        let tested = Tested::new(probability, label, self.base_rate())?;
        self.all_time.add(&tested);
        self.newest_part().add(&tested);
        if let Some(stretch) = self.stretch(time_micros) {
            stretch.add(&tested);
        }
        self.seen[0] += 1;
        self.seen[1] += u64::from(label);
        Some(tested)
    }

    /// Returns the part of the last labels that is not yet full.
    fn newest_part(&mut self) -> &mut Quality {
        if self.part_max <= self.part_labels {
            self.recent.rotate_left(1);
            self.recent[PARTS - 1] = Quality::new(self.config.threshold);
            self.part_labels = 0;
        }
        self.part_labels += 1;
        &mut self.recent[PARTS - 1]
    }

    /// Returns the stretch of a time; `None` if it is older than all that are kept.
    fn stretch(&mut self, time_micros: i64) -> Option<&mut Quality> {
        let width = self.config.stretch_micros.max(1);
        let start = time_micros.div_euclid(width).saturating_mul(width);
        let full = self.config.stretches_max <= self.stretches.len();
        if full && !self.stretches.contains_key(&start) {
            let oldest = self
                .stretches
                .first_entry()
                .filter(|oldest| *oldest.key() < start)?;
            oldest.remove();
        }
        let threshold = self.config.threshold;
        Some(
            self.stretches
                .entry(start)
                .or_insert_with(|| Quality::new(threshold)),
        )
    }

    /// Returns the metrics of all labels.
    pub fn all_time(&self) -> &Quality {
        &self.all_time
    }

    /// Returns the metrics of the last labels: nine tenths of the window to all of it.
    pub fn last_labels(&self) -> Quality {
        let mut all = Quality::new(self.config.threshold);
        self.recent.iter().for_each(|part| all.merge(part));
        all
    }

    /// Returns the metrics by stretch of stream time, each with its start in microseconds; the oldest first.
    pub fn stretches(&self) -> impl ExactSizeIterator<Item = (i64, &Quality)> {
        self.stretches
            .iter()
            .map(|(start, quality)| (*start, quality))
    }

    /// Returns the figures that go with a version of a model of yes or no.
    pub fn prequential(&self) -> Prequential {
        let figures = |summary: Summary| Prequential::YesOrNo {
            labels: summary.labels,
            log_loss: summary.log_loss,
            base_log_loss: summary.base_log_loss,
            auc: summary.auc.map_or(0.5, |auc| auc.area),
        };
        self.all_time
            .summary()
            .map_or_else(Prequential::default, figures)
    }

    /// Returns everything as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC, VERSION);
        self.all_time.write(&mut writer);
        self.seen.iter().for_each(|count| writer.examples(*count));
        writer.examples(self.part_labels);
        self.recent.iter().for_each(|part| part.write(&mut writer));
        writer.u64(self.stretches.len() as u64);
        for (start, quality) in &self.stretches {
            writer.i64(*start);
            quality.write(&mut writer);
        }
        writer.finish()
    }

    /// Reads what [`Metrics::to_bytes`] wrote; goes on with a configuration that may be another.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn from_bytes(config: MetricsConfig, bytes: &[u8]) -> Result<Metrics, Malformed> {
        let mut reader = Reader::new(bytes, MAGIC, VERSION, "metrics")?;
        let mut metrics = Metrics::new(config);
        metrics.all_time = Quality::read(&mut reader)?;
        metrics.seen = [reader.examples()?, reader.examples()?];
        metrics.part_labels = reader.examples()?;
        for part in &mut metrics.recent {
            *part = Quality::read(&mut reader)?;
        }
        for _ in 0..reader.count(64)? {
            let start = reader.i64()?;
            metrics.stretches.insert(start, Quality::read(&mut reader)?);
            if config.stretches_max < metrics.stretches.len() {
                metrics.stretches.pop_first();
            }
        }
        reader.finish()?;
        Ok(metrics)
    }
}
