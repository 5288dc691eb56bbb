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
pub(super) fn score(model: &impl View, row: Row<'_>) -> Scored {
    let mut logit = f64::from(model.bias());
    let mut reasons = [None; REASONS];
    let mut weakest = 0.0;
    for slot in 0..row.ids.len() {
        let contribution = model.part(row, slot);
        logit += contribution;
        if weakest < contribution.abs() {
            weakest = insert(&mut reasons, Reason { slot, contribution });
        }
    }
    Scored {
        probability: sigmoid(logit),
        reasons,
    }
}

/// Puts a reason in its place; returns what the next one must surpass.
fn insert(reasons: &mut [Option<Reason>; REASONS], new: Reason) -> f64 {
    let strength = |reason: &Option<Reason>| reason.map_or(0.0, |reason| reason.contribution.abs());
    let place = reasons
        .iter()
        .take_while(|reason| new.contribution.abs() <= strength(reason))
        .count();
    if place < REASONS {
        reasons[place..].rotate_right(1);
        reasons[place] = Some(new);
    }
    strength(&reasons[REASONS - 1])
}
