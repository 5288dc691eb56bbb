//! Rows ahead: the features of the row that comes next are found, and their weights fetched into the cache, while another
//! row is worked on.

use super::plan::Plan;
use super::tables::Weights;
use super::{Blend, Places};
use crate::features::Row;

/// Plans of the last two rows that were said to come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scout {
    expected: [Expected; 2],
    /// Which of them is the older.
    older: usize,
}

/// A plan, and what it is the plan of.
#[derive(Clone, Debug, Default)]
struct Expected {
    plan: Plan,
    ids: Vec<u32>,
    numbers: Vec<f64>,
    /// `None` before there is a plan.
    places: Option<Places>,
}

impl Expected {
    fn is_of(&self, row: Row<'_>, places: Places) -> bool {
        let numbers = self.numbers.iter().zip(row.numbers);
        self.places == Some(places)
            && self.ids == row.ids
            && numbers.fold(true, |same, (a, b)| same & (a.to_bits() == b.to_bits()))
    }
}

impl Scout {
    /// Finds the features of a row that comes soon.
    pub fn expect(&mut self, blend: &Blend, row: Row<'_>) {
        let expected = &mut self.expected[self.older];
        self.older = 1 - self.older;
        expected.plan.find(&blend.lens, row);
        blend
            .tables
            .fetch(&expected.plan.ids, &expected.plan.crossed);
        expected.ids.clear();
        expected.ids.extend_from_slice(row.ids);
        expected.numbers.clear();
        expected.numbers.extend_from_slice(row.numbers);
        expected.places = Some(blend.places());
    }

    /// Returns the plan of a row: the one that was found before, unless ids mean something else since.
    pub fn plan(&mut self, blend: &Blend, row: Row<'_>) -> &mut Plan {
        let places = blend.places();
        let found = |expected: &Expected| expected.is_of(row, places);
        let at = self.expected.iter().position(found).unwrap_or_else(|| {
            let at = self.older;
            self.expect(blend, row);
            at
        });
        &mut self.expected[at].plan
    }
}
