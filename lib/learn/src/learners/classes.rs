//! One of several classes: each has weights of its own in the same tables, under ids that are hashed with the class.

use super::blend::mix;
use super::linear::{Linear, View};
use super::params::Rates;
use super::weights::Weight;
use super::{Label, NonFinite, TestedClass};
use crate::features::{ABSENT, Row, Rows};

/// Tells a class from everything else that is hashed with an id. Weights lie at these hashes in every snapshot: they
/// never change.
const CLASS: u32 = 0xC1A5_0000;

/// What a class's own bias is hashed from.
const BIAS: u32 = 0xB1A5;

/// Returns a row with the ids of one class, within a mask, and that of the class's bias behind them.
pub(crate) fn salt<'a>(row: Row<'a>, class: u16, mask: u32, ids: &'a mut Vec<u32>) -> Row<'a> {
    let salted = |id: &u32| match *id {
        ABSENT => ABSENT,
        id => mix(id, CLASS + u32::from(class)) & mask,
    };
    ids.clear();
    ids.extend(row.ids.iter().chain([&BIAS]).map(salted));
    Row {
        ids,
        numbers: row.numbers,
    }
}

/// Returns the probability of each class.
pub(crate) fn probabilities(scores: &[f64]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let grown: Vec<f64> = scores
        .iter()
        .map(|score| libm::exp(score - highest))
        .collect();
    let sum: f64 = grown.iter().sum();
    grown.iter().map(|part| part / sum).collect()
}

/// Returns for each class what its score is held against: the logarithm of the sum of the others' exponentials. The
/// probability of a class is the sigmoid of the difference.
pub(crate) fn against(scores: &[f64]) -> Vec<f64> {
    let others = |class: usize| {
        let rest = || {
            scores
                .iter()
                .enumerate()
                .filter(move |(other, _)| *other != class)
        };
        let highest = rest()
            .map(|(_, score)| *score)
            .fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = rest().map(|(_, score)| libm::exp(score - highest)).sum();
        highest + libm::log(sum)
    };
    (0..scores.len()).map(others).collect()
}

/// Returns the most probable class, and its probability.
pub(crate) fn likeliest(scores: &[f64]) -> (u16, f64) {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if scores[best] < *score {
            best = class;
        }
    }
    (best as u16, probabilities(scores)[best])
}

/// A class that is undone counts at most as much as so many.
const UNDONE_MAX: f64 = 10.0;

/// Returns how much the step of one class counts, which is told with a probability: if the example was learned with
/// another label, the gradient is that of the one loss less that of the other, whatever is told.
pub(crate) fn class_weight(label: &Label, class: usize, probability: f64) -> f64 {
    let Some(undone) = label.undone else {
        return label.weight;
    };
    let is = |label: f64| label == class as f64;
    let error = match () {
        () if is(label.value) => 1.0 - probability,
        () if is(undone) => probability,
        () => return 0.0,
    };
    label.weight / error.max(1.0 / UNDONE_MAX)
}

impl<W: Weight> Linear<W> {
    /// Returns the score of each class.
    pub fn class_scores(&self, row: Row<'_>, classes: u16) -> Vec<f64> {
        let (mut ids, mask) = (Vec::new(), self.table.len() as u32 - 1);
        let score = |class| self.logit(salt(row, class, mask, &mut ids));
        (0..classes).map(score).collect()
    }

    /// Predicts, then learns; what is predicted is the probability of the class that came.
    pub fn learn_class(
        &mut self,
        row: Row<'_>,
        label: &Label,
        rates: &Rates,
        classes: u16,
    ) -> Result<TestedClass, NonFinite> {
        let found = probabilities(&self.class_scores(row, classes));
        let known = (0.0..f64::from(classes)).contains(&label.value);
        let came = if known { label.value as usize } else { 0 };
        let predicted = found[came];
        let likeliest = found.iter().all(|other| *other <= predicted);
        if !predicted.is_finite() {
            return Err(NonFinite);
        }
        let (mut ids, mask) = (Vec::new(), self.table.len() as u32 - 1);
        for (class, probability) in found.iter().enumerate().filter(|_| known) {
            let target = if class == came { 1.0 } else { 0.0 };
            let salted = salt(row, class as u16, mask, &mut ids);
            let weight = class_weight(label, class, *probability);
            if weight == 0.0 {
                continue;
            }
            let gradient = (probability - target) * weight;
            self.step_salted(salted, gradient as f32, rates);
        }
        self.watch(row);
        self.examples += 1;
        let cost = -libm::log(predicted.max(f64::MIN_POSITIVE));
        Ok(TestedClass {
            predicted,
            likeliest,
            cost,
        })
    }

    /// Learns a micro-batch row by row; notes what was tested of each.
    pub fn learn_classes(
        &mut self,
        rows: &Rows,
        labels: &[Label],
        rates: &Rates,
        classes: u16,
        note: &mut impl FnMut(TestedClass),
    ) -> Result<(), NonFinite> {
        for (row, label) in rows.iter().zip(labels) {
            note(self.learn_class(row, label, rates, classes)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_as_probable_as_its_score_against_the_others_says() {
        let scores = [1.0, -2.0, 0.5, 700.0];
        for (probability, (score, against)) in probabilities(&scores)
            .iter()
            .zip(scores.iter().zip(against(&scores)))
        {
            let found = crate::math::sigmoid(score - against);
            assert!((probability - found).abs() < 1e-12, "{probability} {found}");
        }
        assert_eq!(likeliest(&[0.0, 2.0, 2.0]).0, 1);
    }
}
