//! The few functions between a log-odds and its loss, the same to the last bit on every platform.
//!
//! The platform's own `exp` and `ln` differ between C libraries, and a score must be recomputed bit for bit
//! years later elsewhere: these are `libm`'s, in plain Rust, and nothing is fused or reordered.

/// Returns the probability of a log-odds.
#[inline]
pub(crate) fn sigmoid(logit: f64) -> f64 {
    let small = libm::exp(-logit.abs());
    if logit < 0.0 {
        small / (1.0 + small)
    } else {
        1.0 / (1.0 + small)
    }
}

/// Returns the log loss of a log-odds, in nats: exact also where the probability rounds to 0 or 1.
#[inline]
pub(crate) fn log_loss(logit: f64, label: bool) -> f64 {
    let margin = if label { logit } else { -logit };
    let rest = libm::log1p(libm::exp(-margin.abs()));
    if margin < 0.0 { rest - margin } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_stay_finite() {
        for logit in [-1e300, -745.0, -40.0, -1e-300, 0.0, 0.5, 37.0, 1e5] {
            let probability = sigmoid(logit);
            assert!((0.0..=1.0).contains(&probability), "{logit}");
            assert!(
                log_loss(logit, true).is_finite() && log_loss(logit, false).is_finite(),
                "{logit}"
            );
        }
        assert_eq!(log_loss(-50.0, true), 50.0);
        assert!((log_loss(0.3, true) + sigmoid(0.3).ln()).abs() < 1e-15);
        assert!((log_loss(0.3, false) + (1.0 - sigmoid(0.3)).ln()).abs() < 1e-15);
    }
}
