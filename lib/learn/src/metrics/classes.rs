//! How good predictions of one of several classes were: sums, so that any two sets merge.

use schemas::model::Prequential;

use crate::codec::{Malformed, Reader, Writer};

/// Sums over predicted classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Classes {
    labels: u64,
    right: u64,
    losses: f64,
    base_losses: f64,
}

/// What [`Classes`] come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassSummary {
    /// How many labels.
    pub labels: u64,
    /// Mean log loss, in nats.
    pub log_loss: f64,
    /// The same of always saying how often each class came so far.
    pub base_log_loss: f64,
    /// Share of events whose likeliest class came.
    pub accuracy: f64,
}

impl Classes {
    /// Adds the probability that was told of the class that came, and whether it was the likeliest; `base` is what one
    /// would have told without a model.
    ///
    /// What is no probability is not counted.
    pub fn observe(&mut self, told: f64, likeliest: bool, base: f64) {
        let is_probability = |value: f64| (0.0..=1.0).contains(&value);
        if !is_probability(told) || !is_probability(base) {
            return;
        }
        self.labels += 1;
        self.right += u64::from(likeliest);
        self.losses -= libm::log(told.max(f64::MIN_POSITIVE));
        self.base_losses -= libm::log(base.max(f64::MIN_POSITIVE));
    }

    /// Adds all that another set has.
    pub fn merge(&mut self, other: &Classes) {
        self.labels += other.labels;
        self.right += other.right;
        self.losses += other.losses;
        self.base_losses += other.base_losses;
    }

    /// Returns how many labels it has.
    pub fn labels(&self) -> u64 {
        self.labels
    }

    /// Returns the figures; `None` of an empty set.
    pub fn summary(&self) -> Option<ClassSummary> {
        let labels = self.labels as f64;
        (0 < self.labels).then(|| ClassSummary {
            labels: self.labels,
            log_loss: self.losses / labels,
            base_log_loss: self.base_losses / labels,
            accuracy: self.right as f64 / labels,
        })
    }

    /// Returns the figures that go with a model version.
    pub(super) fn prequential(&self) -> Prequential {
        let figure = |of: fn(ClassSummary) -> f64| self.summary().map_or(0.0, of);
        Prequential::Classes {
            labels: self.labels,
            log_loss: figure(|classes| classes.log_loss),
            base_log_loss: figure(|classes| classes.base_log_loss),
            accuracy: figure(|classes| classes.accuracy),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.examples(self.labels);
        writer.examples(self.right);
        writer.f64(self.losses);
        writer.f64(self.base_losses);
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        *self = Classes {
            labels: reader.examples()?,
            right: reader.examples()?,
            losses: reader.f64()?,
            base_losses: reader.f64()?,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_definitions_and_merge() {
        let (mut one, mut other) = (Classes::default(), Classes::default());
        one.observe(0.5, true, 0.25);
        other.observe(0.2, false, 0.25);
        other.observe(f64::NAN, false, 0.25);
        one.merge(&other);
        let found = one.summary().unwrap();
        assert_eq!((found.labels, found.accuracy), (2, 0.5));
        assert!((found.log_loss + (0.5_f64.ln() + 0.2_f64.ln()) / 2.0).abs() < 1e-12);
        assert!((found.base_log_loss - 4_f64.ln()).abs() < 1e-12);
        assert_eq!(Classes::default().summary(), None);
    }
}
