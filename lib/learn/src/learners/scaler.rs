//! Standardises numbers online: part of the model, learned with it.
//!
//! Mean and variance run (Welford 1962), so scale, unit and offset of a number do not matter. Three rules keep
//! any input from harming a weight: a missing value (NaN or infinity) is never seen; values beyond
//! ±[`VALUE_MAX`] count as that, so squares stay finite; a standardised value lies within ±[`DEVIATIONS_MAX`],
//! so that one outlier pulls no harder than a few categories do.

/// Largest magnitude of a raw value; its square and the sum of 2^53 such squares are finite.
const VALUE_MAX: f64 = 1e100;

/// Largest magnitude of a standardised value.
const DEVIATIONS_MAX: f64 = 5.0;

/// Values after which mean and deviation are known well enough to say what is far.
const KNOWN_FROM: f64 = 16.0;

/// How many standard deviations are far.
const FAR: f64 = 100.0;

/// What a number needs to be standardised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scale {
    pub mean: f64,
    /// 1 / standard deviation; 0 until two different values were seen.
    pub inverse: f64,
}

impl Scale {
    /// Returns the feature value of a raw number: 1 if it is missing, since the slot's id then is that of the
    /// missing value.
    #[inline]
    pub fn apply(self, raw: f64) -> f32 {
        if !raw.is_finite() {
            return 1.0;
        }
        let deviations = (raw.clamp(-VALUE_MAX, VALUE_MAX) - self.mean) * self.inverse;
        deviations.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX) as f32
    }

    /// Says whether a model may carry it.
    pub fn is_sound(self) -> bool {
        self.mean.abs() <= VALUE_MAX && self.inverse.is_finite() && 0.0 <= self.inverse
    }
}

/// Running mean and variance of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scaler {
    pub count: f64,
    /// Sum of squared distances from the mean.
    pub squares: f64,
    pub scale: Scale,
}

impl Scaler {
    /// Brings a value that is far out of all proportion nearer, so that one does not blur all others for ever; if
    /// the world has moved there, mean and deviation follow within a few values.
    #[inline]
    fn tame(&self, value: f64) -> f64 {
        if self.count < KNOWN_FROM || self.scale.inverse == 0.0 {
            return value;
        }
        // What is clearly near needs no division.
        if (value - self.scale.mean).abs() * self.scale.inverse < FAR - 1.0 {
            return value;
        }
        let reach = FAR / self.scale.inverse;
        value.clamp(self.scale.mean - reach, self.scale.mean + reach)
    }

    /// Says whether values can have led here; before the first there is nothing.
    pub fn may_be(&self) -> bool {
        let counted = self.count.is_finite() && 1.0 <= self.count;
        let summed = self.squares.is_finite() && 0.0 <= self.squares;
        *self == Scaler::default() || counted && summed && self.scale.is_sound()
    }

    /// Takes one more raw value into account.
    #[inline]
    pub fn observe(&mut self, raw: f64) {
        if !raw.is_finite() {
            return;
        }
        let value = self.tame(raw.clamp(-VALUE_MAX, VALUE_MAX));
        self.count += 1.0;
        let before = value - self.scale.mean;
        self.scale.mean += before / self.count;
        self.squares += before * (value - self.scale.mean);
        let variance = self.squares / self.count;
        self.scale.inverse = if variance.is_normal() {
            1.0 / variance.sqrt()
        } else {
            0.0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaler(values: &[f64]) -> Scaler {
        let mut scaler = Scaler::default();
        values.iter().for_each(|value| scaler.observe(*value));
        scaler
    }

    #[test]
    fn nothing_seen_maps_to_zero() {
        assert_eq!(Scale::default().apply(1e300), 0.0);
        assert_eq!(scaler(&[7.0]).scale.apply(9.0), 0.0);
        assert_eq!(scaler(&[7.0, 7.0, 7.0]).scale.apply(9.0), 0.0);
    }

    #[test]
    fn scale_and_offset_do_not_matter() {
        for (factor, offset) in [(1.0, 0.0), (1e-60, 0.0), (1e60, 1e60), (-1e-3, 1e3)] {
            let raw = [1.0, 2.0, 3.0, 4.0].map(|value| value * factor + offset);
            let scaled = scaler(&raw).scale.apply(raw[3]);
            let expected = f64::from(factor.signum() as f32) * 1.5 / 1.25_f64.sqrt();
            assert!(
                (f64::from(scaled) - expected).abs() < 1e-3,
                "{factor} {offset}: {scaled}"
            );
        }
    }

    #[test]
    fn one_wild_value_does_not_blur_the_others() {
        let mut values: Vec<f64> = (0..1000).map(|at| f64::from(at % 10)).collect();
        values[500] = 1e300;
        assert!(scaler(&values).scale.apply(9.0) > 0.3);
        let moved: Vec<f64> = (0..2000)
            .map(|at| f64::from(at % 10) + if at < 100 { 0.0 } else { 1e6 })
            .collect();
        assert!((scaler(&moved).scale.mean - 1e6).abs() < 2e5);
    }

    #[test]
    fn nothing_makes_it_unsound() {
        let wild = [
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            5e-324,
            0.0,
            f64::NAN,
            f64::INFINITY,
        ];
        let mut scaler = Scaler::default();
        for value in wild.iter().cycle().take(1000) {
            scaler.observe(*value);
            assert!(scaler.scale.is_sound());
            for value in wild {
                assert!(scaler.scale.apply(value).abs() <= 5.0);
            }
        }
        assert_eq!(scaler.scale.apply(f64::NAN), 1.0);
    }
}
