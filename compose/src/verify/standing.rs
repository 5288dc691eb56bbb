//! What stands against each promise since the process began. Pure.

use super::ledger::Promise;
use super::report::Report;

/// Findings that stand: what was broken once stays so, even if retention takes the evidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing([u64; Promise::ALL.len()]);

impl Standing {
    /// Takes in what an audit has found; it looks at everything anew, so the most that was found at once counts.
    pub(super) fn take(&mut self, report: &Report) {
        for promise in Promise::ALL {
            let stands = &mut self.0[promise as usize];
            *stands = report.ledger.broken(promise).max(*stands);
        }
    }

    /// Returns how many findings stand against a promise.
    pub(super) fn broken(&self, promise: Promise) -> u64 {
        self.0[promise as usize]
    }

    /// Returns how many findings stand in all.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::ledger::Ledger;
    use super::*;

    fn report(broken: &[(Promise, i64)]) -> Report {
        let mut ledger = Ledger::default();
        for (promise, offset) in broken {
            ledger.breaks(*promise, Some(0), Some(*offset), || "wrong".to_owned());
        }
        Report {
            stream: "flights".to_owned(),
            looked_at: Promise::ALL.to_vec(),
            through: BTreeMap::new(),
            ledger,
        }
    }

    #[test]
    fn what_is_broken_stays_broken() {
        let mut standing = Standing::default();
        standing.take(&report(&[]));
        assert_eq!(standing.total(), 0);
        standing.take(&report(&[(Promise::Lake, 3), (Promise::Lake, 9)]));
        standing.take(&report(&[(Promise::Lake, 9)]));
        standing.take(&report(&[(Promise::Model, 1)]));
        standing.take(&report(&[]));
        assert_eq!(standing.broken(Promise::Lake), 2);
        assert_eq!(standing.broken(Promise::Model), 1);
        assert_eq!((standing.broken(Promise::Scores), standing.total()), (0, 3));
    }
}
