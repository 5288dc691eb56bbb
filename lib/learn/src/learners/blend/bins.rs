//! Bins of a number: quantiles of what was seen first. They enter the model as categories.

/// Bins of a number.
pub(crate) const BINS: usize = 16;

/// Edges between them.
pub(crate) const EDGES: usize = BINS - 1;

/// Values after which the edges are placed; from the last on they stay.
const PLACED_AT: [usize; 3] = [64, 256, 2048];

/// Edges of a number's bins, ascending, filled up with infinity; all infinite until they are placed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Edges(pub [f64; EDGES]);

impl Edges {
    pub const NONE: Edges = Edges([f64::INFINITY; EDGES]);

    /// Returns the bin of a value: how many edges it reaches; `None` while there are no edges.
    #[inline]
    pub fn bin(&self, value: f64) -> Option<u32> {
        let reached = self.0.iter().map(|edge| u32::from(*edge <= value)).sum();
        (self.0[0] < f64::INFINITY).then_some(reached)
    }

    /// Places edges at the quantiles of sorted values.
    ///
    /// A value that many share has a bin of its own: an edge lies at the value, and at the next above the least.
    fn place(sorted: &[f64]) -> Edges {
        let least = sorted[0];
        let above = sorted.partition_point(|value| *value <= least);
        let quantile = |at: usize| sorted[at * sorted.len() / BINS];
        let second = sorted.get(above).filter(|_| quantile(1) == least);
        let quantiles = (1..BINS).map(quantile).filter(|value| least < *value);
        let mut edges = Edges::NONE;
        let mut count = 0_usize;
        for value in second.copied().into_iter().chain(quantiles) {
            let last = count.checked_sub(1).map(|last| edges.0[last]);
            if count < EDGES && last.is_none_or(|last| last < value) {
                edges.0[count] = value;
                count += 1;
            }
        }
        edges
    }

    /// Says whether a model may carry them.
    pub fn is_sound(&self) -> bool {
        self.0.iter().all(|edge| !edge.is_nan()) && self.0.is_sorted()
    }
}

/// The first values of a number, until its edges stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FirstValues {
    /// How many were seen, as far as it matters.
    pub seen: usize,
    pub values: Vec<f64>,
}

impl FirstValues {
    /// Takes a value into account; returns new edges when it is time for them.
    #[inline]
    pub fn observe(&mut self, value: f64) -> Option<Edges> {
        if PLACED_AT[PLACED_AT.len() - 1] <= self.seen {
            return None;
        }
        self.take(value)
    }

    /// Says whether values were ever kept like this.
    pub fn may_be(&self) -> bool {
        self.seen <= PLACED_AT[PLACED_AT.len() - 1] && self.values.len() <= self.seen
    }

    #[inline(never)]
    fn take(&mut self, value: f64) -> Option<Edges> {
        self.seen += 1;
        self.values.push(value);
        if !PLACED_AT.contains(&self.seen) {
            return None;
        }
        self.values.sort_unstable_by(f64::total_cmp);
        let edges = Edges::place(&self.values);
        if PLACED_AT[PLACED_AT.len() - 1] == self.seen {
            self.values = Vec::new();
        }
        Some(edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(values: impl Iterator<Item = f64>) -> Edges {
        let mut first = FirstValues::default();
        let placed = values.filter_map(|value| first.observe(value)).last();
        placed.unwrap_or(Edges::NONE)
    }

    #[test]
    fn bins_hold_equal_shares() {
        let edges = edges((0..2048).map(|at| f64::from(at * 7 % 2048)));
        let mut counts = [0; BINS];
        (0..2048).for_each(|value| counts[edges.bin(f64::from(value)).unwrap() as usize] += 1);
        assert_eq!(counts, [128; BINS]);
    }

    #[test]
    fn a_value_that_most_share_has_a_bin_of_its_own() {
        let edges = edges((0..2048).map(|at| {
            if at % 50 == 0 {
                f64::from(at) + 1.0
            } else {
                0.0
            }
        }));
        assert_eq!(edges.bin(0.0), Some(0));
        assert_eq!(edges.bin(1.0), Some(1));
        assert_eq!(edges.bin(-5.0), Some(0));
    }

    #[test]
    fn one_value_has_no_bins_and_extremes_do_no_harm() {
        assert_eq!(edges((0..3000).map(|_| 4.0)), Edges::NONE);
        assert_eq!(edges((0..63).map(f64::from)), Edges::NONE);
        let wild = edges((0..64).map(|at| if at % 2 == 0 { f64::MAX } else { f64::MIN }));
        assert!(wild.is_sound());
        assert_eq!((wild.bin(f64::MIN), wild.bin(f64::MAX)), (Some(0), Some(1)));
    }
}
