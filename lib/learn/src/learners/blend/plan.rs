//! From a row to the features and crosses that the model has weights for.
//!
//! A number enters twice: standardised, and as the bin that it falls in. A missing number, a bin and a category are
//! one feature each, and pairs of them are crosses, whose ids are hashed here on the fly and stored nowhere.

use super::bins::Edges;
use crate::features::{ABSENT, Layout, Row};
use crate::learners::crosses::{cross, part};
use crate::learners::scaler::Scale;

/// Up to so many slots every pair of them is a cross.
pub(crate) const FEW: usize = 20;

/// Of more slots so many are chosen, whose pairs are crosses.
pub(crate) const CHOSEN: usize = 16;

/// What turns rows into features: part of the model, on both sides of the wire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lens {
    pub layout: Layout,
    /// 2^bits - 1.
    pub mask: u32,
    /// Number of crosses - 1; `None` if there are none.
    pub crossed_mask: Option<u32>,
    pub scales: Vec<Scale>,
    pub edges: Vec<Edges>,
    /// For each slot, whether it is crossed.
    pub crossable: Vec<bool>,
}

/// The features and crosses of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The bias, numbers, then categories.
    pub ids: Vec<u32>,
    /// The value of each.
    pub values: Vec<f32>,
    /// The slot of each but the bias.
    pub slots: Vec<u16>,
    /// How many of `ids` are no categories.
    pub plain: usize,
    /// Whole hashes of the categories.
    hashes: Vec<u32>,
    /// Hashes of those that are crossed, mixed once more, and their slots.
    crossing: Vec<u32>,
    pub crossing_slots: Vec<u16>,
    /// Crosses: of the first with all behind it, and so on.
    pub crossed: Vec<u32>,
}

impl Lens {
    /// Makes the lens of a model that has learned nothing.
    pub fn new(layout: Layout, bits: u8, crossed_bits: Option<u8>) -> Lens {
        let alone = layout.slots - layout.crosses;
        let crossed = crossed_bits.filter(|_| 1 < alone);
        Lens {
            layout,
            mask: (1_u32 << bits) - 1,
            crossed_mask: crossed.map(|bits| (1_u32 << bits) - 1),
            scales: vec![Scale::default(); layout.numbers],
            edges: vec![Edges::NONE; layout.numbers],
            crossable: (0..layout.slots)
                .map(|slot| crossed.is_some() && alone <= FEW && slot < alone)
                .collect(),
        }
    }

    /// Returns the id of the bias.
    #[inline]
    pub fn bias(&self) -> u32 {
        self.mask + 1
    }
}

impl Plan {
    /// Finds the ids of a row's features and crosses.
    #[inline]
    pub fn find(&mut self, lens: &Lens, row: Row<'_>) {
        self.ids.clear();
        self.slots.clear();
        self.hashes.clear();
        self.crossing.clear();
        self.crossing_slots.clear();
        self.ids.push(lens.bias());
        for (slot, (id, raw)) in row.ids.iter().zip(row.numbers).enumerate() {
            if raw.is_finite() {
                self.ids.push(id & lens.mask);
                self.slots.push(slot as u16);
            }
        }
        self.plain = self.ids.len();
        for (slot, (id, raw)) in row.ids.iter().zip(row.numbers).enumerate() {
            if !raw.is_finite() {
                self.category(lens, slot, *id);
            } else if let Some(bin) = lens.edges[slot].bin(*raw) {
                self.category(lens, slot, mix(*id, BIN + bin));
            }
        }
        for (slot, id) in row.ids.iter().enumerate().skip(row.numbers.len()) {
            if *id != ABSENT {
                self.category(lens, slot, *id);
            }
        }
        self.ids
            .extend(self.hashes.iter().map(|hash| hash & lens.mask));
        self.cross(lens);
    }

    /// Finds the values of the features whose ids were found.
    #[inline]
    pub fn value(&mut self, lens: &Lens, row: Row<'_>) {
        self.values.clear();
        self.values.resize(self.ids.len(), 1.0);
        for at in 1..self.plain {
            let slot = usize::from(self.slots[at - 1]);
            self.values[at] = lens.scales[slot].apply(row.numbers[slot]);
        }
    }

    #[inline]
    fn category(&mut self, lens: &Lens, slot: usize, hash: u32) {
        self.hashes.push(hash);
        self.slots.push(slot as u16);
        // A class's own bias stands behind all slots.
        if lens.crossable.get(slot) == Some(&true) {
            self.crossing.push(part(hash));
            self.crossing_slots.push(slot as u16);
        }
    }

    #[inline]
    fn cross(&mut self, lens: &Lens) {
        self.crossed.clear();
        let Some(mask) = lens.crossed_mask else {
            return;
        };
        for (at, first) in self.crossing.iter().enumerate() {
            let others = self.crossing[at + 1..].iter();
            self.crossed
                .extend(others.map(|second| cross(*first, *second) & mask));
        }
    }
}

/// Tells the bins of a number from everything else that is hashed with its id.
const BIN: u32 = 0xB100;

/// Hashes a pair of ids. Weights lie at these hashes in every snapshot: they never change.
#[inline]
pub(crate) fn mix(first: u32, second: u32) -> u32 {
    let pair = (u64::from(first) << 32 | u64::from(second)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let folded = (pair ^ (pair >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (folded >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_hashes_never_change() {
        let hashes = [mix(1, 2), mix(2, 1), mix(7, 7), mix(u32::MAX, BIN)];
        assert_eq!(
            hashes,
            [3_037_463_076, 3_502_037_832, 2_809_128_259, 1_933_977_046]
        );
    }
}
