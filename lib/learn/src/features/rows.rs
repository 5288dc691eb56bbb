//! Rows of features: what waits for a label, what is scored and what is learned from.
//!
//! A row has one slot per feature, and each slot holds one hashed id, so rows have a fixed size and lie one
//! behind the other in two plain vectors. [`Rows`] is a micro-batch of them in compressed sparse row form
//! whose row pointers are implied; it is linfa's [`Records`].

use linfa::dataset::Records;

/// The id of a slot that holds nothing: a bag has fewer parts than it may have.
pub const ABSENT: u32 = u32::MAX;

/// How many slots a row has.
///
/// Slots of numbers come first, then those of categories, then those of crosses and bags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Slots of a row: one per feature.
    pub slots: usize,
    /// How many of them, from the first, carry a number.
    pub numbers: usize,
    /// How many of them, from the last, are crosses that the contract names, or parts of bags: what is crossed with
    /// nothing.
    pub crosses: usize,
}

/// One event as the learner sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// The id of each slot: below 2^bits, or a whole hash for a blend, which cuts it itself.
    pub ids: &'a [u32],
    /// The raw value of each number; NaN where it is missing, and the slot's id then says so.
    pub numbers: &'a [f64],
}

/// A micro-batch of rows, or the rows of the events that wait for their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    layout: Layout,
    ids: Vec<u32>,
    numbers: Vec<f64>,
    len: usize,
}

impl Rows {
    /// Makes an empty micro-batch.
    pub fn new(layout: Layout) -> Rows {
        Rows {
            layout,
            ids: Vec::new(),
            numbers: Vec::new(),
            len: 0,
        }
    }

    /// Makes an empty micro-batch with room for some rows.
    pub fn with_capacity(layout: Layout, rows: usize) -> Rows {
        Rows {
            layout,
            ids: Vec::with_capacity(rows * layout.slots),
            numbers: Vec::with_capacity(rows * layout.numbers),
            len: 0,
        }
    }

    /// Returns the shape of the rows.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns how many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a row.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn row(&self, at: usize) -> Row<'_> {
        let Layout { slots, numbers, .. } = self.layout;
        Row {
            ids: &self.ids[at * slots..(at + 1) * slots],
            numbers: &self.numbers[at * numbers..(at + 1) * numbers],
        }
    }

    /// Returns all rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.len).map(|at| self.row(at))
    }

    /// Adds a row behind the others.
    ///
    /// # Panics
    /// If it has another layout.
    #[inline]
    pub fn push(&mut self, row: Row<'_>) {
        self.expect_layout(row);
        self.ids.extend_from_slice(row.ids);
        self.numbers.extend_from_slice(row.numbers);
        self.len += 1;
    }

    /// Puts a row in the place of another.
    ///
    /// # Panics
    /// If there is no such row, or the new one has another layout.
    #[inline]
    pub fn replace(&mut self, at: usize, row: Row<'_>) {
        self.expect_layout(row);
        let Layout { slots, numbers, .. } = self.layout;
        self.ids[at * slots..(at + 1) * slots].copy_from_slice(row.ids);
        self.numbers[at * numbers..(at + 1) * numbers].copy_from_slice(row.numbers);
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.numbers.clear();
        self.len = 0;
    }

    /// Returns the ids of all rows, row by row.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Returns the numbers of all rows, row by row.
    pub fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    /// Puts rows together from what [`Rows::ids`] and [`Rows::numbers`] returned; `None` if the lengths do not
    /// fit the layout.
    pub fn from_parts(layout: Layout, ids: Vec<u32>, numbers: Vec<f64>) -> Option<Rows> {
        let len = ids.len().checked_div(layout.slots).unwrap_or(0);
        let whole = ids.len() == len * layout.slots && numbers.len() == len * layout.numbers;
        whole.then_some(Rows {
            layout,
            ids,
            numbers,
            len,
        })
    }

    /// Adds rows to be filled in; returns the ids and numbers of the new ones.
    pub(super) fn grow(&mut self, rows: usize) -> (&mut [u32], &mut [f64]) {
        let (ids, numbers) = (self.ids.len(), self.numbers.len());
        self.ids.resize(ids + rows * self.layout.slots, 0);
        self.numbers
            .resize(numbers + rows * self.layout.numbers, f64::NAN);
        self.len += rows;
        (&mut self.ids[ids..], &mut self.numbers[numbers..])
    }

    fn expect_layout(&self, row: Row<'_>) {
        assert_eq!(
            row.ids.len(),
            self.layout.slots,
            "rows of one batch have one layout"
        );
        assert_eq!(
            row.numbers.len(),
            self.layout.numbers,
            "rows of one batch have one layout"
        );
    }
}

impl Records for Rows {
    type Elem = f64;

    fn nsamples(&self) -> usize {
        self.len
    }

    fn nfeatures(&self) -> usize {
        self.layout.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_a_round_trip_through_their_parts() {
        let layout = Layout {
            slots: 3,
            numbers: 1,
            crosses: 0,
        };
        let mut rows = Rows::new(layout);
        rows.push(Row {
            ids: &[1, 2, 3],
            numbers: &[0.5],
        });
        rows.push(Row {
            ids: &[4, 5, 6],
            numbers: &[-1.0],
        });
        rows.replace(
            0,
            Row {
                ids: &[7, 8, 9],
                numbers: &[2.0],
            },
        );
        assert_eq!(
            rows.row(0),
            Row {
                ids: &[7, 8, 9],
                numbers: &[2.0]
            }
        );
        let again = Rows::from_parts(layout, rows.ids().to_vec(), rows.numbers().to_vec());
        assert_eq!(again, Some(rows));
        assert_eq!(Rows::from_parts(layout, vec![1, 2], vec![]), None);
        assert_eq!(Rows::from_parts(layout, vec![1, 2, 3], vec![]), None);
    }
}
