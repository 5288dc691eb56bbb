//! Crosses that nobody names: pairs of a row's categories, hashed on the fly and stored nowhere.

use schemas::contract::Crosses;

use super::blend::mix;
use crate::features::{Layout, Row};

/// Of more categories than this a single learner makes no crosses: there would be too many.
const CATEGORIES_MAX: usize = 32;

/// Tells a feature's part in crosses from everything else that is hashed with its id. Weights lie at these hashes in
/// every snapshot: they never change.
const CROSS: u32 = 0xC000;

/// Returns a feature's part in crosses.
#[inline]
pub(crate) fn part(id: u32) -> u32 {
    mix(id, CROSS)
}

/// Returns the hash of a cross: both parts are mixed, so that their exclusive or is as good as random, and the same
/// whichever comes first.
#[inline]
pub(crate) fn cross(one: u32, other: u32) -> u32 {
    one ^ other
}

/// Which pairs of slots are crosses of a single learner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pairs {
    /// First slot, and the first behind the last; equal if there are no pairs.
    first: usize,
    end: usize,
    mask: u32,
}

impl Pairs {
    pub fn new(crosses: Crosses, bits: u8, layout: Layout) -> Pairs {
        let (first, end) = (layout.numbers, layout.slots - layout.crosses);
        let few = end - first <= CATEGORIES_MAX;
        let made = crosses == Crosses::Auto && few;
        Pairs {
            first,
            end: if made { end } else { first },
            mask: (1_u32 << bits.min(31)) - 1,
        }
    }

    /// Calls with both slots and the id of each pair.
    #[inline]
    pub fn each(&self, row: Row<'_>, mut call: impl FnMut(usize, usize, u32)) {
        if self.end - self.first < 2 {
            return;
        }
        let mut parts = [0; CATEGORIES_MAX];
        let ids = &row.ids[self.first..self.end];
        for (mixed, id) in parts.iter_mut().zip(ids) {
            *mixed = part(*id);
        }
        let parts = &parts[..ids.len()];
        for (one, first) in parts.iter().enumerate() {
            for (other, second) in parts.iter().enumerate().skip(one + 1) {
                let id = cross(*first, *second) & self.mask;
                call(self.first + one, self.first + other, id);
            }
        }
    }
}
