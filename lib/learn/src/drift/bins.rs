//! Into which bin of the frozen reference a value falls.

/// Most bins of a number, besides the one for missing values.
pub(super) const NUMBER_BINS: usize = 10;

/// Most categories with a bin of their own.
pub(super) const TOP_MAX: usize = 20;

/// Slots of the table that finds a category's bin; sparse, so that most lookups take one step.
const TABLE: usize = 128;

/// The bins of one feature.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bins {
    /// Of a number.
    Number(NumberBins),
    /// Of a category.
    Category(Box<CategoryBins>),
}

/// Bins between edges, and one for missing values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NumberBins {
    /// Ascending; a value is beyond all edges that are not above it. Unused ones are infinite.
    pub edges: [f64; NUMBER_BINS - 1],
}

impl NumberBins {
    pub const COUNT: usize = NUMBER_BINS + 1;
    /// Index of the bin of missing values.
    pub const MISSING: usize = NUMBER_BINS;

    /// Takes the edges that differ.
    pub fn new(wanted: &[f64]) -> NumberBins {
        let mut edges = [f64::INFINITY; NUMBER_BINS - 1];
        let mut distinct: Vec<f64> = wanted
            .iter()
            .copied()
            .filter(|edge| edge.is_finite())
            .collect();
        distinct.sort_unstable_by(f64::total_cmp);
        distinct.dedup();
        edges
            .iter_mut()
            .zip(distinct)
            .for_each(|(edge, wanted)| *edge = wanted);
        NumberBins { edges }
    }

    #[inline]
    pub fn of(&self, value: f64) -> usize {
        let beyond: u32 = self
            .edges
            .iter()
            .map(|edge| u32::from(*edge <= value))
            .sum();
        if value.is_finite() {
            beyond as usize
        } else {
            NumberBins::MISSING
        }
    }
}

/// A bin for each of the most frequent categories, one for missing values and one for the rest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CategoryBins {
    pub top: Vec<u32>,
    pub missing: u32,
    /// Open addressing by the lowest bits: id and bin + 1, or 0 if empty.
    table: [(u32, u8); TABLE],
}

impl CategoryBins {
    pub const COUNT: usize = TOP_MAX + 2;
    /// Index of the bin of missing values.
    pub const MISSING: usize = TOP_MAX;
    /// Index of the bin of all other categories.
    pub const REST: usize = TOP_MAX + 1;

    /// Takes the most frequent ids, at most [`TOP_MAX`].
    pub fn new(top: Vec<u32>, missing: u32) -> CategoryBins {
        let mut bins = CategoryBins {
            top,
            missing,
            table: [(0, 0); TABLE],
        };
        bins.insert(missing, CategoryBins::MISSING);
        bins.top.truncate(TOP_MAX);
        for at in 0..bins.top.len() {
            bins.insert(bins.top[at], at);
        }
        bins
    }

    fn insert(&mut self, id: u32, bin: usize) {
        let mut at = id as usize % TABLE;
        while self.table[at].1 != 0 {
            at = (at + 1) % TABLE;
        }
        self.table[at] = (id, bin as u8 + 1);
    }

    #[inline]
    pub fn of(&self, id: u32) -> usize {
        let mut at = id as usize % TABLE;
        loop {
            match self.table[at] {
                (_, 0) => return CategoryBins::REST,
                (found, bin) if found == id => return usize::from(bin - 1),
                _ => at = (at + 1) % TABLE,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_between_edges() {
        let bins = NumberBins::new(&[2.0, 1.0, 2.0, f64::INFINITY]);
        let check = |value, expected| assert_eq!(bins.of(value), expected, "{value}");
        check(0.0, 0);
        check(1.0, 1);
        check(1.5, 1);
        check(2.0, 2);
        check(1e300, 2);
        check(f64::NAN, NumberBins::MISSING);
    }

    #[test]
    fn categories_find_their_bin_in_a_crowded_table() {
        let bins = CategoryBins::new((0..30).map(|at| at * 128).collect(), 5);
        for at in 0..20 {
            assert_eq!(bins.of(at * 128), at as usize);
        }
        assert_eq!(bins.of(20 * 128), CategoryBins::REST);
        assert_eq!(bins.of(5), CategoryBins::MISSING);
    }
}
