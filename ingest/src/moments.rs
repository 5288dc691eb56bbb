//! Mean and deviation of what a partition has shown so far, for the rule on outliers.

/// Values that a partition must have shown before the rule applies.
const COUNT_MIN: u64 = 100;

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
        self.count += 1;
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

    /// Reads the moments of so many fields; `None` if the bytes are something else.
    pub fn read_all(bytes: &[u8], fields: usize) -> Option<Vec<Moments>> {
        let (version, rest) = bytes.split_first()?;
        if *version != WIRE_VERSION || rest.len() != fields * BYTES {
            return None;
        }
        let word =
            |bytes: &[u8], at: usize| -> Option<[u8; 8]> { bytes.get(at..at + 8)?.try_into().ok() };
        let read = |bytes: &[u8]| {
            Some(Moments {
                count: u64::from_le_bytes(word(bytes, 0)?),
                mean: f64::from_le_bytes(word(bytes, 8)?),
                squares: f64::from_le_bytes(word(bytes, 16)?),
            })
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
