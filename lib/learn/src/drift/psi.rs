//! The population stability index: how far one histogram is from another, and how far noise alone would put it.

/// Standard normal quantile of 99.9 %: how rarely noise alone is above the floor.
const RARELY: f64 = 3.090_232_306_167_813;

/// Added to each count, so that an empty bin is rare rather than impossible.
const PRIOR: f64 = 0.5;

/// Distance of a window from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Psi {
    /// The index.
    pub psi: f64,
    /// What it would be on average if nothing had changed.
    pub expected: f64,
    /// What it would surpass once in a thousand windows of independent events if nothing had changed.
    pub floor: f64,
}

/// Compares two histograms with the same bins.
///
/// # Source
/// Yurdakul 2018, "Statistical Properties of Population Stability Index": without a change, the index is
/// (1/n + 1/m) times a χ² variable with one degree of freedom less than bins; its quantile here is Wilson
/// and Hilferty's.
pub(super) fn psi(reference: &[f64], current: &[f64]) -> Psi {
    let in_use = |(before, now): &(&f64, &f64)| 0.0 < **before || 0.0 < **now;
    let bins = reference.iter().zip(current).filter(in_use).count() as f64;
    let total = |counts: &[f64]| counts.iter().sum::<f64>() + PRIOR * bins;
    let (before_total, now_total) = (total(reference), total(current));
    let part = |(before, now): (&f64, &f64)| {
        let before = (before + PRIOR) / before_total;
        let now = (now + PRIOR) / now_total;
        (now - before) * libm::log(now / before)
    };
    let psi = reference.iter().zip(current).filter(in_use).map(part).sum();
    let freedom = bins - 1.0;
    if freedom < 1.0 {
        return Psi {
            psi: 0.0,
            expected: 0.0,
            floor: 0.0,
        };
    }
    let noise = 1.0 / before_total + 1.0 / now_total;
    let spread = 2.0 / (9.0 * freedom);
    let quantile = freedom * (1.0 - spread + RARELY * spread.sqrt()).powi(3);
    Psi {
        psi,
        expected: freedom * noise,
        floor: quantile * noise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_histograms_are_at_distance_zero_and_shifted_ones_above_the_floor() {
        let same = psi(&[100.0, 300.0, 600.0], &[100.0, 300.0, 600.0]);
        assert!(same.psi.abs() < 1e-12 && same.psi < same.floor);
        let moved = psi(&[100.0, 300.0, 600.0], &[200.0, 300.0, 500.0]);
        assert!((moved.psi - (0.1 * 2_f64.ln() + 0.1 * 1.2_f64.ln())).abs() < 1e-2);
        assert!(moved.floor < moved.psi);
    }

    #[test]
    fn one_bin_or_none_cannot_drift() {
        assert_eq!(psi(&[5.0, 0.0], &[9.0, 0.0]).floor, 0.0);
        assert_eq!(psi(&[], &[]).psi, 0.0);
        assert!(psi(&[0.0, 5.0], &[5.0, 0.0]).psi.is_finite());
    }

    #[test]
    fn the_quantile_is_that_of_the_tables() {
        // χ² with 9 degrees of freedom surpasses 27.88 once in a thousand times.
        let reference = vec![1e9; 10];
        let psi = psi(&reference, &reference);
        assert!((psi.floor / (psi.expected / 9.0) - 27.88).abs() < 0.3);
    }
}
