//! How far predicted numbers were from true ones: sums, so that any two sets merge.

use schemas::model::Prequential;

use crate::codec::{Malformed, Reader, Writer};

/// Sums over a set of predicted numbers and what they should have been.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    quantile: f64,
    labels: u64,
    sum: f64,
    absolutes: f64,
    squares: f64,
    pinballs: f64,
    base_squares: f64,
}

/// What [`Errors`] come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorSummary {
    /// How many labels.
    pub labels: u64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// The same of always predicting the mean so far.
    pub base_rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Mean of predicted minus true.
    pub bias: f64,
    /// Mean quantile (pinball) loss.
    pub quantile_loss: f64,
}

impl Errors {
    /// Makes an empty set; `quantile` is that of the quantile loss: of one half it is half the absolute error.
    pub fn new(quantile: f64) -> Errors {
        Errors {
            quantile,
            labels: 0,
            sum: 0.0,
            absolutes: 0.0,
            squares: 0.0,
            pinballs: 0.0,
            base_squares: 0.0,
        }
    }

    /// Adds a prediction and the true number; `base` is what one would have said without a model.
    ///
    /// What is no number is not counted.
    pub fn observe(&mut self, predicted: f64, label: f64, base: f64) {
        let error = predicted - label;
        if !error.is_finite() || !base.is_finite() {
            return;
        }
        let share = if error > 0.0 {
            1.0 - self.quantile
        } else {
            -self.quantile
        };
        self.labels += 1;
        self.sum += error;
        self.absolutes += error.abs();
        self.squares += error * error;
        self.pinballs += share * error;
        self.base_squares += (base - label) * (base - label);
    }

    /// Removes all that the set has.
    pub(super) fn clear(&mut self) {
        *self = Errors::new(self.quantile);
    }

    /// Returns how many labels it has.
    pub fn labels(&self) -> u64 {
        self.labels
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.examples(self.labels);
        for sum in [
            self.sum,
            self.absolutes,
            self.squares,
            self.pinballs,
            self.base_squares,
        ] {
            writer.f64(sum);
        }
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        self.labels = reader.examples()?;
        for sum in [
            &mut self.sum,
            &mut self.absolutes,
            &mut self.squares,
            &mut self.pinballs,
            &mut self.base_squares,
        ] {
            *sum = reader.f64()?;
        }
        Ok(())
    }

    /// Adds all that another set has.
    pub fn merge(&mut self, other: &Errors) {
        self.labels += other.labels;
        self.sum += other.sum;
        self.absolutes += other.absolutes;
        self.squares += other.squares;
        self.pinballs += other.pinballs;
        self.base_squares += other.base_squares;
    }

    /// Returns the figures; `None` of an empty set.
    pub fn summary(&self) -> Option<ErrorSummary> {
        let count = self.labels as f64;
        (0 < self.labels).then(|| ErrorSummary {
            labels: self.labels,
            rmse: (self.squares / count).sqrt(),
            base_rmse: (self.base_squares / count).sqrt(),
            mae: self.absolutes / count,
            bias: self.sum / count,
            quantile_loss: self.pinballs / count,
        })
    }

    /// Returns the figures that go with a model version.
    pub(super) fn prequential(&self) -> Prequential {
        let figure = |of: fn(ErrorSummary) -> f64| self.summary().map_or(0.0, of);
        Prequential::Numbers {
            labels: self.labels,
            rmse: figure(|errors| errors.rmse),
            base_rmse: figure(|errors| errors.base_rmse),
            mae: figure(|errors| errors.mae),
            quantile_loss: figure(|errors| errors.quantile_loss),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_definitions_and_merge() {
        let pairs = [(1.0, 2.0), (4.0, 2.0), (-1.0, -1.0), (0.5, 0.0)];
        let (mut one, mut other) = (Errors::new(0.9), Errors::new(0.9));
        for (at, (predicted, label)) in pairs.into_iter().enumerate() {
            let set = if at < 2 { &mut one } else { &mut other };
            set.observe(predicted, label, 1.0);
        }
        one.merge(&other);
        one.observe(f64::NAN, 1.0, 0.0);
        one.observe(1.0, f64::INFINITY, 0.0);
        let found = one.summary().unwrap();
        assert_eq!(found.labels, 4);
        assert!((found.rmse - (5.25_f64 / 4.0).sqrt()).abs() < 1e-12);
        assert!((found.base_rmse - (7.0_f64 / 4.0).sqrt()).abs() < 1e-12);
        assert!((found.mae - 3.5 / 4.0).abs() < 1e-12);
        assert!((found.bias - 1.5 / 4.0).abs() < 1e-12);
        assert!((found.quantile_loss - (0.9 + 0.2 + 0.05) / 4.0).abs() < 1e-12);
        assert_eq!(Errors::new(0.5).summary(), None);
    }
}
