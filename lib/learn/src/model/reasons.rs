//! Why a score is what it is: exactly what each feature and each cross added to it.

use crate::features::Row;
use crate::learners::{BlendWeights, Part, Plan, View};

/// How many reasons a score has, at most.
pub const REASONS: usize = 3;

/// What one feature, or two together, added to a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reason {
    /// The feature's slot; [`crate::features::FeatureSpace::name`] knows its name.
    pub slot: usize,
    /// The slot of the other feature, if it is what both together say.
    pub with: Option<usize>,
    /// Weight times value: in log-odds, or in standard deviations of a label that is a number; never 0.
    pub contribution: f64,
}

/// A score and its strongest reasons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Probability of yes, the number to expect, or the probability of the likeliest class.
    pub probability: f64,
    /// The likeliest class, if labels are classes.
    pub class: Option<u16>,
    /// The strongest first; on a tie the earlier slot.
    pub reasons: [Option<Reason>; REASONS],
}

/// Scores a row by a linear model; returns the score and its reasons among the first slots.
#[inline]
pub(super) fn linear(
    model: &impl View,
    row: Row<'_>,
    slots: usize,
) -> (f64, [Option<Reason>; REASONS]) {
    let mut score = f64::from(model.bias());
    let mut strongest = [0; REASONS];
    for slot in 0..row.ids.len() {
        let contribution = model.part(row, slot);
        score += contribution;
        if slot < slots {
            insert(&mut strongest, key(contribution, slot));
        }
    }
    // Places of pairs: behind all slots, the first slot of the pair in the higher half.
    model.pairs().each(row, |slot, with, id| {
        let contribution = f64::from(model.weight(id));
        score += contribution;
        insert(&mut strongest, key(contribution, (slot + 1) << 16 | with));
    });
    let reason = |key: u64| {
        let place = !(key as u32) as usize;
        let known = 0 < key >> 32;
        let (first, second) = (place >> 16, place & 0xFFFF);
        known.then(|| match first {
            0 => Reason {
                slot: second,
                with: None,
                contribution: model.part(row, second),
            },
            _ => Reason {
                slot: first - 1,
                with: Some(second),
                contribution: model.pair(row, first - 1, second),
            },
        })
    };
    (score, strongest.map(reason))
}

/// What each slot and each pair of slots added to a score.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub plan: Plan,
    slots: Vec<f64>,
    pairs: Vec<Part>,
    /// What is no feature's.
    pub rest: f64,
}

impl Ledger {
    /// Scores a row by a blend; returns the score and its reasons.
    pub fn blend(
        &mut self,
        model: &BlendWeights,
        row: Row<'_>,
    ) -> (f64, [Option<Reason>; REASONS]) {
        model.plan(&mut self.plan, row);
        let (score, opinions) = model.score(&self.plan);
        let Ledger {
            plan,
            slots,
            pairs,
            rest,
        } = self;
        let mut unnamed = 0.0;
        slots.clear();
        // A class's own bias, behind all slots, is no feature.
        let named = model.lens.layout.slots;
        slots.resize(named, 0.0);
        pairs.clear();
        let bias = model.explain(plan, opinions, |part| match part.with {
            None if part.slot < named => slots[part.slot] += part.contribution,
            Some(with) if with < named => pairs.push(part),
            _ => unnamed += part.contribution,
        });
        *rest = bias + unnamed;
        (score, self.strongest())
    }

    /// Returns every part of the last score that is not 0.
    pub fn parts(&self) -> impl Iterator<Item = Reason> + '_ {
        let slots = self
            .slots
            .iter()
            .enumerate()
            .map(|(slot, contribution)| Reason {
                slot,
                with: None,
                contribution: *contribution,
            });
        let pairs = self.pairs.iter().map(|part| Reason {
            slot: part.slot,
            with: part.with,
            contribution: part.contribution,
        });
        slots
            .chain(pairs)
            .filter(|reason| reason.contribution != 0.0)
    }

    fn strongest(&self) -> [Option<Reason>; REASONS] {
        let mut strongest = [0; REASONS];
        let contributions = self.slots.iter().copied();
        let all = contributions.chain(self.pairs.iter().map(|part| part.contribution));
        for (at, contribution) in all.enumerate() {
            insert(&mut strongest, key(contribution, at));
        }
        let reason = |key: u64| {
            let at = !(key as u32) as usize;
            let known = 0 < key >> 32;
            known.then(|| match self.slots.get(at) {
                Some(contribution) => Reason {
                    slot: at,
                    with: None,
                    contribution: *contribution,
                },
                None => {
                    let part = self.pairs[at - self.slots.len()];
                    Reason {
                        slot: part.slot,
                        with: part.with,
                        contribution: part.contribution,
                    }
                }
            })
        };
        strongest.map(reason)
    }
}

/// Returns what sorts contributions by strength (in f32: nearly equal ones tie), then by place.
#[inline]
fn key(contribution: f64, place: usize) -> u64 {
    let strength = (contribution as f32).abs().to_bits();
    u64::from(strength) << 32 | u64::from(!(place as u32))
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
