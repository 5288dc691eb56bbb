//! Mean and deviation of what a partition has shown so far, for the rule on outliers.

/// Values that a partition must have shown before the rule applies.
const COUNT_MIN: u64 = 100;

/// Largest magnitude of a value that is learned as it is; its square, and the sum of 2^53 such squares, are finite.
const VALUE_MAX: f64 = 1e100;

/// Most values that can have been learned: up to here a float counts them all.
const LEARNED_MAX: u64 = 1 << 53;

/// Bytes of one field's moments on the wire.
const BYTES: usize = 24;

/// Version of the wire form.
const WIRE_VERSION: u8 = 1;

/// Running count, mean and sum of squared deviations of one field.
///
/// # Source
/// Welford 1962, "Note on a method for calculating corrected sums of squares and products".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Returns the values within so many deviations of the mean; `None` while too little was seen.
    pub fn bounds(&self, deviations: f64) -> Option<(f64, f64)> {
        if self.count < COUNT_MIN {
            return None;
        }
        let reach = deviations * (self.squares / self.count as f64).sqrt();
        Some((self.mean - reach, self.mean + reach))
    }

    /// Learns a value. An outlier counts as the bound that it broke, so one wild value moves the bounds little,
    /// and a world that has changed for good moves them in the end.
    pub fn learn(&mut self, value: f64, deviations: f64) {
        let value = match self.bounds(deviations) {
            Some((low, high)) => value.clamp(low, high),
            None => value,
        };
        let value = value.clamp(-VALUE_MAX, VALUE_MAX);
        self.count = LEARNED_MAX.min(self.count + 1);
        let delta = value - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (value - self.mean);
    }

    /// Writes the moments of all fields with a rule.
    pub fn write_all(all: &[Moments]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + all.len() * BYTES);
        out.push(WIRE_VERSION);
        for moments in all {
            out.extend_from_slice(&moments.count.to_le_bytes());
            out.extend_from_slice(&moments.mean.to_le_bytes());
            out.extend_from_slice(&moments.squares.to_le_bytes());
        }
        out
    }

    /// Says whether values can have shown this: bounds are then numbers, the lower one first.
    fn may_be(&self) -> bool {
        self.count <= LEARNED_MAX
            && self.mean.abs() <= 2.0 * VALUE_MAX // rounding may lead beyond by a little
            && 0.0 <= self.squares
            && self.squares.is_finite()
    }

    /// Reads the moments of so many fields; `None` if the bytes are something else.
    pub fn read_all(bytes: &[u8], fields: usize) -> Option<Vec<Moments>> {
        let (version, rest) = bytes.split_first()?;
        if *version != WIRE_VERSION || rest.len() != fields * BYTES {
            return None;
        }
        let word =
            |bytes: &[u8], at: usize| -> Option<[u8; 8]> { bytes.get(at..at + 8)?.try_into().ok() };
        let read = |bytes: &[u8]| {
            let moments = Moments {
                count: u64::from_le_bytes(word(bytes, 0)?),
                mean: f64::from_le_bytes(word(bytes, 8)?),
                squares: f64::from_le_bytes(word(bytes, 16)?),
            };
            moments.may_be().then_some(moments)
        };
        rest.chunks_exact(BYTES).map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_value_moves_little_and_a_new_world_wins() {
        let mut moments = Moments::default();
        for at in 0..1000 {
            moments.learn(f64::from(at % 10), 4.0);
        }
        let (_, high) = moments.bounds(4.0).unwrap();
        assert!((15.0..17.0).contains(&high), "{high}");
        moments.learn(1e300, 4.0);
        assert!(moments.bounds(4.0).unwrap().1 < 17.0);
        for _ in 0..3000 {
            moments.learn(40.0, 4.0);
        }
        assert!(40.0 < moments.bounds(4.0).unwrap().1);
    }

    #[test]
    fn no_value_is_too_large_to_be_learned() {
        let mut moments = Moments::default();
        for at in 0..1000 {
            moments.learn([f64::MAX, f64::MIN][at % 2], 4.0);
            assert!(moments.may_be(), "{moments:?}");
        }
        let (low, high) = moments.bounds(4.0).unwrap();
        assert!(low < high && high.is_finite(), "{low} {high}");
    }

    #[test]
    fn what_no_values_can_have_shown_is_not_read() {
        let check = |count, mean, squares, expected| {
            let shown = [Moments {
                count,
                mean,
                squares,
            }];
            let read = Moments::read_all(&Moments::write_all(&shown), 1);
            assert_eq!(read.is_some(), expected, "{shown:?}");
        };
        check(1000, -7.5, 3.0, true);
        check(1000, f64::NAN, 3.0, false);
        check(1000, f64::INFINITY, 3.0, false);
        check(1000, 0.0, -1.0, false);
        check(1000, 0.0, f64::NAN, false);
        check(u64::MAX, 0.0, 1.0, false);
    }

    #[test]
    fn too_little_gives_no_bounds() {
        let mut moments = Moments::default();
        moments.learn(1.0, 4.0);
        assert_eq!(moments.bounds(4.0), None);
    }

    #[test]
    fn the_wire_form_is_exact() {
        let all = [
            Moments {
                count: 7,
                mean: 0.1,
                squares: 1e-9,
            },
            Moments::default(),
        ];
        let bytes = Moments::write_all(&all);
        assert_eq!(Moments::read_all(&bytes, 2).unwrap(), all);
        assert_eq!(Moments::read_all(&bytes, 3), None);
        assert_eq!(Moments::read_all(&[], 0), None);
    }
}
