//! How good a set of predictions was: sums and one histogram, so that any two sets merge.

use super::summary::{Summary, summarise};
use crate::codec::{Malformed, Reader, Writer};

/// How many bins of predictions there are.
pub(super) const BINS: usize = 1024;

/// Predictions count as no closer to 0 or 1 than this: nobody loses infinitely much.
const PROBABILITY_MIN: f64 = 1e-15;

/// Steps per doubling of the odds.
const STEPS_LOG2: u32 = 5;

/// The first bin begins at odds of 2^-16; 32 doublings lie between it and the last bin's end.
const FIRST: i32 = (127 - 16) << STEPS_LOG2;

/// Sums over a set of labelled predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    pub(super) threshold: f64,
    pub(super) log_loss: f64,
    pub(super) base_log_loss: f64,
    pub(super) squares: f64,
    /// Labels by decision (yes is 1) and outcome (yes is 1).
    pub(super) decided: [[u64; 2]; 2],
    pub(super) bins: Vec<Bin>,
}

/// Labelled predictions of about the same odds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bin {
    /// Labels by outcome (yes is 1).
    pub labels: [u64; 2],
    /// Sum of predictions.
    pub sum: f64,
}

impl Bin {
    fn merge(&mut self, other: &Bin) {
        self.labels[0] += other.labels[0];
        self.labels[1] += other.labels[1];
        self.sum += other.sum;
    }
}

/// A prediction, what became of it, and what is the same for every set that it is added to.
#[derive(Clone, Copy, Debug)]
pub struct Tested {
    probability: f64,
    label: bool,
    loss: f64,
    base_loss: f64,
    bin: usize,
}

impl Tested {
    /// `None` of what is no probability.
    pub(super) fn new(probability: f64, label: bool, base_rate: f64) -> Option<Tested> {
        let is_probability = |value: f64| (0.0..=1.0).contains(&value);
        (is_probability(probability) && is_probability(base_rate)).then(|| Tested {
            probability,
            label,
            loss: loss(probability, label),
            base_loss: loss(base_rate, label),
            bin: bin(probability),
        })
    }

    pub(super) fn bin(&self) -> u16 {
        self.bin as u16
    }
}

/// Returns the loss of saying a probability, in nats.
fn loss(probability: f64, label: bool) -> f64 {
    let said = if label {
        probability
    } else {
        1.0 - probability
    };
    -libm::log(said.max(PROBABILITY_MIN))
}

/// Returns the bin of a probability: 32 to each doubling of the odds, without a logarithm, because exponent
/// and first bits of a float are one of sorts.
fn bin(probability: f64) -> usize {
    let odds = (probability / (1.0 - probability)) as f32;
    let at = (odds.to_bits() >> (23 - STEPS_LOG2)) as i32 - FIRST;
    at.clamp(0, BINS as i32 - 1) as usize
}

impl Quality {
    /// Makes an empty set; predictions from `threshold` on are decisions for yes.
    pub fn new(threshold: f64) -> Quality {
        Quality {
            threshold,
            log_loss: 0.0,
            base_log_loss: 0.0,
            squares: 0.0,
            decided: [[0; 2]; 2],
            bins: vec![Bin::default(); BINS],
        }
    }

    /// Adds a prediction and what became of it; `base_rate` is what one would have said without a model.
    ///
    /// What is no probability is not counted.
    pub fn observe(&mut self, probability: f64, label: bool, base_rate: f64) {
        if let Some(tested) = Tested::new(probability, label, base_rate) {
            self.add(&tested);
        }
    }

    pub(super) fn add(&mut self, tested: &Tested) {
        let outcome = usize::from(tested.label);
        self.log_loss += tested.loss;
        self.base_log_loss += tested.base_loss;
        self.squares += (tested.probability - f64::from(u8::from(tested.label))).powi(2);
        self.decided[usize::from(self.threshold <= tested.probability)][outcome] += 1;
        let bin = &mut self.bins[tested.bin];
        bin.labels[outcome] += 1;
        bin.sum += tested.probability;
    }

    /// Says whether a prediction's bin has nothing yet.
    #[inline]
    pub(super) fn is_free(&self, tested: &Tested) -> bool {
        self.bins[tested.bin].labels == [0; 2]
    }

    /// Returns the bins that have something.
    pub(super) fn filled(&self) -> impl Iterator<Item = u16> {
        let bins = self.bins.iter().zip(0..);
        bins.filter(|(bin, _)| bin.labels != [0; 2])
            .map(|(_, at)| at)
    }

    /// Removes all that the set has; `touched` names the bins that have something, if that is known.
    pub(super) fn clear(&mut self, touched: Option<&[u16]>) {
        (self.log_loss, self.base_log_loss, self.squares) = (0.0, 0.0, 0.0);
        self.decided = [[0; 2]; 2];
        match touched {
            Some(bins) => bins
                .iter()
                .for_each(|bin| self.bins[usize::from(*bin)] = Bin::default()),
            None => self.bins.fill(Bin::default()),
        }
    }

    /// Adds all that another set has.
    pub fn merge(&mut self, other: &Quality) {
        self.merge_sums(other);
        for (mine, others) in self.bins.iter_mut().zip(&other.bins) {
            mine.merge(others);
        }
    }

    /// Adds all that another set has, of which these bins have something.
    pub(super) fn merge_bins(&mut self, other: &Quality, bins: &[u16]) {
        self.merge_sums(other);
        for at in bins.iter().map(|bin| usize::from(*bin)) {
            self.bins[at].merge(&other.bins[at]);
        }
    }

    fn merge_sums(&mut self, other: &Quality) {
        self.log_loss += other.log_loss;
        self.base_log_loss += other.base_log_loss;
        self.squares += other.squares;
        for (mine, others) in self
            .decided
            .as_flattened_mut()
            .iter_mut()
            .zip(other.decided.as_flattened())
        {
            *mine += others;
        }
    }

    /// Returns how many predictions it has.
    pub fn labels(&self) -> u64 {
        self.decided.as_flattened().iter().sum()
    }

    /// Returns the figures; `None` of no labels at all.
    pub fn summary(&self) -> Option<Summary> {
        summarise(self)
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        for sum in [
            self.threshold,
            self.log_loss,
            self.base_log_loss,
            self.squares,
        ] {
            writer.f64(sum);
        }
        self.decided
            .as_flattened()
            .iter()
            .for_each(|count| writer.examples(*count));
        let used = |(_, bin): &(usize, &Bin)| **bin != Bin::default();
        writer.u64(self.bins.iter().enumerate().filter(used).count() as u64);
        for (at, bin) in self.bins.iter().enumerate().filter(used) {
            writer.u32(at as u32);
            bin.labels.iter().for_each(|count| writer.examples(*count));
            writer.f64(bin.sum);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Quality, Malformed> {
        let mut quality = Quality::new(reader.f64()?);
        quality.log_loss = reader.f64()?;
        quality.base_log_loss = reader.f64()?;
        quality.squares = reader.f64()?;
        for count in quality.decided.as_flattened_mut() {
            *count = reader.examples()?;
        }
        for _ in 0..reader.count(28)? {
            let at = reader.u32()? as usize;
            let bin = Bin {
                labels: [reader.examples()?, reader.examples()?],
                sum: reader.f64()?,
            };
            *quality.bins.get_mut(at).ok_or_else(|| reader.malformed())? = bin;
        }
        Ok(quality)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_in_order_and_fine() {
        let mut last = 0;
        for step in 0..=20_000 {
            let at = bin(f64::from(step) / 20_000.0);
            assert!(last <= at && at < BINS);
            last = at;
        }
        assert_eq!((bin(0.0), bin(1.0), bin(0.5)), (0, BINS - 1, BINS / 2));
        // A bin is at most 1/32 of its odds wide.
        assert_ne!(bin(0.5), bin(0.509));
    }
}
