//! Durations in buckets that are at most 3 % wide: quantiles of millions in 2 kB.

use std::time::Duration;

/// Buckets in which a power of two is cut, as a power of two.
const CUT: u32 = 5;
const BUCKETS: usize = (64 - CUT as usize + 1) << CUT;

/// Counts durations, in microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    /// Returns how many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns a quantile in milliseconds: the middle of its bucket; `None` if nothing was counted.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            rank <= seen
        })?;
        Some((lower(at) + lower(at + 1).max(lower(at) + 1) - 1) as f64 / 2.0 / 1000.0)
    }

    /// Returns points of the cumulative distribution: milliseconds, and the share up to there.
    pub fn cumulative(&self) -> Vec<(f64, f64)> {
        let mut seen = 0;
        let mut points = Vec::new();
        for (at, count) in self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0)
        {
            seen += count;
            points.push((
                lower(at + 1).max(1) as f64 / 1000.0,
                seen as f64 / self.total as f64,
            ));
        }
        points
    }
}

fn bucket(micros: u64) -> usize {
    let Some(shift) = (u64::BITS - micros.leading_zeros()).checked_sub(CUT + 1) else {
        return micros as usize;
    };
    ((shift as usize + 1) << CUT) + ((micros >> shift) as usize & ((1 << CUT) - 1))
}

/// Returns the least microseconds of a bucket.
fn lower(bucket: usize) -> u64 {
    match (bucket >> CUT).checked_sub(1) {
        None => bucket as u64,
        Some(shift) => ((1 << CUT) + (bucket as u64 & ((1 << CUT) - 1)))
            .checked_shl(shift as u32)
            .unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        for micros in (0..2000).chain((11..63).map(|bit| (1_u64 << bit) + 12_345 % (1 << bit))) {
            let at = bucket(micros);
            assert!(lower(at) <= micros && micros < lower(at + 1), "{micros}");
            assert!((lower(at + 1) - lower(at)) as f64 <= (micros as f64 / 32.0).max(1.0));
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.5), None);
        (1..=1000).for_each(|millis| histogram.add(Duration::from_millis(millis)));
        let near = |share, expected: f64| {
            let found = histogram.quantile_ms(share).unwrap();
            assert!(
                (found - expected).abs() / expected < 0.04,
                "{found} for {expected}"
            );
        };
        near(0.5, 500.0);
        near(0.99, 990.0);
        near(1.0, 1000.0);
        assert_eq!(
            histogram.cumulative().last().map(|point| point.1),
            Some(1.0)
        );
        assert_eq!(histogram.total(), 1000);
    }
}
