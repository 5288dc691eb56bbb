//! Why a score is what it is: exactly what each feature added to its log-odds.

use crate::features::Row;
use crate::learners::View;
use crate::math::sigmoid;

/// How many reasons a score has, at most.
pub const REASONS: usize = 3;

/// What one feature added to the log-odds of a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reason {
    /// The feature's slot; [`crate::features::FeatureSpace::name`] knows its name.
    pub slot: usize,
    /// Weight times value, in log-odds; never 0.
    pub contribution: f64,
}

/// A score and its strongest reasons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Probability of yes.
    pub probability: f64,
    /// The strongest first; on a tie the earlier slot.
    pub reasons: [Option<Reason>; REASONS],
}

/// Scores a row: the same bits as predicting it.
#[inline]
pub(super) fn score(model: &impl View, row: Row<'_>) -> Scored {
    let mut logit = f64::from(model.bias());
    let mut strongest = [0; REASONS];
    for slot in 0..row.ids.len() {
        let contribution = model.part(row, slot);
        logit += contribution;
        insert(&mut strongest, key(contribution, slot));
    }
    let reason = |key: u64| {
        let slot = !(key as u32) as usize;
        let known = 0 < key >> 32;
        known.then(|| Reason {
            slot,
            contribution: model.part(row, slot),
        })
    };
    Scored {
        probability: sigmoid(logit),
        reasons: strongest.map(reason),
    }
}

/// Returns what sorts contributions by strength (in f32: nearly equal ones tie), then by slot.
#[inline]
fn key(contribution: f64, slot: usize) -> u64 {
    let strength = (contribution as f32).abs().to_bits();
    u64::from(strength) << 32 | u64::from(!(slot as u32))
}

/// Puts a key in its place. Bubbles it down without a branch: which reasons are strong changes from row to
/// row, so no processor foresees it, and this took four times as long with one.
#[inline]
fn insert(strongest: &mut [u64; REASONS], mut key: u64) {
    for place in strongest {
        let stronger = key.max(*place);
        key = key.min(*place);
        *place = stronger;
    }
}
