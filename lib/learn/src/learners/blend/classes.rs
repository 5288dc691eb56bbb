//! One of several classes: a score for each, from the same tables, held against those of the others.

use super::{Blend, EXPERTS, Judgement, Opinions, Plan, Weights, judge};
use crate::features::{Row, Rows};
use crate::learners::classes::{against, class_weight, probabilities, salt};
use crate::learners::{Label, NonFinite, TestedClass};
use crate::math::sigmoid;

impl Blend {
    /// Returns the score of each class.
    pub fn class_scores(&self, row: Row<'_>, classes: u16) -> Vec<f64> {
        let (mut ids, mut plan) = (Vec::new(), Plan::default());
        let score = |class| {
            let opinions = self.opinions(&mut plan, salt(row, class, u32::MAX, &mut ids));
            self.score(opinions)
        };
        (0..classes).map(score).collect()
    }

    /// Predicts, then learns; what is predicted is the probability of the class that came.
    pub fn learn_class(
        &mut self,
        row: Row<'_>,
        label: &Label,
        classes: u16,
    ) -> Result<TestedClass, NonFinite> {
        let mut ids = Vec::new();
        let mut judged: Vec<(Plan, Judgement)> = Vec::new();
        for class in 0..classes {
            let mut plan = Plan::default();
            let salted = salt(row, class, u32::MAX, &mut ids);
            plan.find(&self.lens, salted);
            plan.value(&self.lens, salted);
            self.tables.fetch(&plan.ids, &plan.crossed);
            let judgement = judge(&self.tables, &plan);
            judged.push((plan, judgement));
        }
        let score = |(_, judgement): &(Plan, Judgement)| self.score(judgement.opinions);
        let scores: Vec<f64> = judged.iter().map(score).collect();
        let known = (0.0..f64::from(classes)).contains(&label.value);
        let came = if known { label.value as usize } else { 0 };
        let found = probabilities(&scores);
        let predicted = found[came];
        let likeliest = found.iter().all(|other| *other <= predicted);
        if !predicted.is_finite() {
            return Err(NonFinite);
        }
        if known {
            self.teach_classes(&judged, &scores, label);
        }
        if let Some((plan, _)) = judged.first() {
            self.watch(plan, row);
        }
        self.examples += 1;
        let cost = -libm::log(predicted.max(f64::MIN_POSITIVE));
        Ok(TestedClass {
            predicted,
            likeliest,
            cost,
        })
    }

    fn teach_classes(&mut self, judged: &[(Plan, Judgement)], scores: &[f64], label: &Label) {
        let loss = self.target.loss;
        let others = against(scores);
        let by_expert: [Vec<f64>; EXPERTS] = std::array::from_fn(|expert| {
            let said = judged
                .iter()
                .map(|(_, judgement)| judgement.opinions[expert]);
            against(&said.collect::<Vec<f64>>())
        });
        for (class, (plan, judgement)) in judged.iter().enumerate() {
            let target = if label.value == class as f64 {
                1.0
            } else {
                0.0
            };
            let weight = class_weight(label, class, sigmoid(scores[class] - others[class]));
            if weight == 0.0 {
                continue;
            }
            let held: Opinions = std::array::from_fn(|expert| by_expert[expert][class]);
            self.stack
                .learn(loss, judgement.opinions, others[class], target, weight);
            self.teach(plan, judgement, held, target, weight);
        }
    }

    /// Learns a micro-batch row by row; notes what was tested of each.
    pub fn learn_classes(
        &mut self,
        rows: &Rows,
        labels: &[Label],
        classes: u16,
        note: &mut impl FnMut(TestedClass),
    ) -> Result<(), NonFinite> {
        for (row, label) in rows.iter().zip(labels) {
            note(self.learn_class(row, label, classes)?);
        }
        Ok(())
    }
}
