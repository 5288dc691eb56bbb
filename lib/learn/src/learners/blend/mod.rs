//! The default learner: several cheap experts on one hashed row, combined online. It has no rate to tune.
//!
//! | expert | features | what it is good at |
//! |---|---|---|
//! | steady | numbers, bins, categories | little data, many rare categories: a diagonal Kalman filter that forgets little |
//! | nimble | the same | a world that moves: the same, forgetting fast |
//! | bettor | the same, and crosses | interactions: coin betting, which needs no rate |
//! | factors | what steady sees, and a vector for each category | pairs that were never seen together |
//!
//! [`stack`] combines what they say. An expert that is bad on a stream gets a small share of the score, so the whole
//! is about as good as the best mixture of them in hindsight.

mod bins;
mod classes;
mod plan;
mod scout;
mod served;
mod stack;
mod state;
mod tables;

use schemas::contract::{Crosses, Loss};

use self::bins::FirstValues;
pub(crate) use self::plan::{Lens, Plan, mix};
pub(crate) use self::scout::Scout;
pub(crate) use self::served::BlendWeights;
use self::stack::Stack;
pub(crate) use self::tables::{Coin, Entry};
use self::tables::{FACTORS, Priors, Tables, Weights};
use super::loss::{Pull, Target, limit, pull, settle};
use super::scaler::Scaler;
use super::usage::Usage;
use super::{CheckedParams, Label, NonFinite, Tested};
use crate::features::{Layout, Row, Rows};

/// How many experts there are.
pub(crate) const EXPERTS: usize = 4;

/// What changes when ids of rows change: how many values were seen until edges stay, and choosing.
type Places = (usize, bool);

/// What each expert said of an example.
pub type Opinions = [f64; EXPERTS];

/// How much of their certainty experts lose with each example.
const STEADY_GROWS: f32 = 1.0001;
const NIMBLE_GROWS: f32 = 1.01;
const FACTORS_GROW: f32 = 1.0;

/// Variance of the whole score before anything is learned.
const SCORE_VARIANCE: f32 = 2.0;

/// Variance of a factor if there is one pair; of more pairs it is less.
const FACTOR_VARIANCE: f32 = 0.2;

/// Examples after which slots are chosen to be crossed, if there are many.
const CHOOSE_AT: u64 = 4096;

/// Crosses for each feature's place in the tables: a power of 2.
const CROSSED_BITS_MORE: u8 = 2;

/// A blend that learns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Blend {
    pub lens: Lens,
    pub tables: Tables,
    pub stack: Stack,
    pub target: Target,
    /// Sizes of the errors of steady, nimble and factors.
    pub spreads: [f64; 3],
    pub scalers: Vec<Scaler>,
    pub first_values: Vec<FirstValues>,
    /// How much each slot has moved the steady expert's score, until slots are chosen.
    pub useful: Vec<f64>,
    pub usage: Usage,
    pub examples: u64,
    priors: Priors,
}

/// What the experts make of a planned row, and the sums that the factors' gradient needs.
struct Judgement {
    opinions: Opinions,
    factor_sums: [f32; FACTORS],
}

impl Blend {
    /// Makes a blend that has learned nothing.
    pub fn of(params: &CheckedParams, layout: Layout) -> Blend {
        let CheckedParams {
            loss,
            bits,
            crosses,
            ..
        } = *params;
        let crossed_bits = (crosses == Crosses::Auto).then_some(bits + CROSSED_BITS_MORE);
        let lens = Lens::new(layout, bits, crossed_bits);
        let crosses = lens.crossed_mask.map_or(0, |mask| mask as usize + 1);
        let priors = priors(layout);
        Blend {
            tables: Tables::new(1 << bits, crosses, priors),
            lens,
            stack: Stack::new(),
            target: Target::new(loss),
            spreads: [1.0; 3],
            scalers: vec![Scaler::default(); layout.numbers],
            first_values: vec![FirstValues::default(); layout.numbers],
            useful: vec![0.0; layout.slots],
            usage: Usage::default(),
            examples: 0,
            priors,
        }
    }

    /// Returns what each expert says of a row.
    pub fn opinions(&self, plan: &mut Plan, row: Row<'_>) -> Opinions {
        plan.find(&self.lens, row);
        self.tables.fetch(&plan.ids, &plan.crossed);
        self.opinions_of(plan, row)
    }

    /// Returns what each expert says of a row whose ids were found.
    pub fn opinions_of(&self, plan: &mut Plan, row: Row<'_>) -> Opinions {
        plan.value(&self.lens, row);
        judge(&self.tables, plan).opinions
    }

    /// Returns the score of what the experts said.
    #[inline]
    pub fn score(&self, opinions: Opinions) -> f64 {
        stack::score(&self.stack.shares, opinions, limit(self.target.loss))
    }

    /// Predicts, then learns.
    pub fn learn(
        &mut self,
        scout: &mut Scout,
        row: Row<'_>,
        label: &Label,
    ) -> Result<Tested, NonFinite> {
        let plan = scout.plan(self, row);
        self.learn_planned(plan, row, label)
    }

    /// Learns a micro-batch row by row; adds each row's prediction to `tested`.
    pub fn learn_all(
        &mut self,
        rows: &Rows,
        labels: &[Label],
        tested: &mut Vec<f64>,
    ) -> Result<(), NonFinite> {
        let (mut plan, mut next) = (Plan::default(), Plan::default());
        let mut edges_moved = true;
        for (at, (row, label)) in rows.iter().zip(labels).enumerate() {
            // The next row's ids are right unless edges or crosses change before its turn.
            std::mem::swap(&mut plan, &mut next);
            if edges_moved {
                plan.find(&self.lens, row);
            }
            if at + 1 < rows.len() {
                next.find(&self.lens, rows.row(at + 1));
                self.tables.fetch(&next.ids, &next.crossed);
            }
            let before = self.places();
            tested.push(self.learn_planned(&mut plan, row, label)?.predicted);
            edges_moved = before != self.places();
        }
        Ok(())
    }

    fn places(&self) -> Places {
        let seen = self.first_values.iter().map(|first| first.seen).sum();
        (seen, self.examples < CHOOSE_AT)
    }

    fn learn_planned(
        &mut self,
        plan: &mut Plan,
        row: Row<'_>,
        label: &Label,
    ) -> Result<Tested, NonFinite> {
        plan.value(&self.lens, row);
        let judgement = judge(&self.tables, plan);
        let score = self.score(judgement.opinions);
        let predicted = self.target.outward(score);
        if !predicted.is_finite() {
            return Err(NonFinite);
        }
        let cost = self.target.cost(predicted, score, label.value);
        if let Some(target) = self.target.inward(label.value) {
            let foreseen = label.foreseen.unwrap_or(judgement.opinions);
            self.stack
                .learn(self.target.loss, foreseen, 0.0, target, label.weight);
            self.teach(plan, &judgement, [0.0; EXPERTS], target, label.weight);
        }
        self.target.observe(label.value);
        self.watch(plan, row);
        self.examples += 1;
        Ok(Tested { predicted, cost })
    }

    /// Moves every expert's weights; `against` is what each expert's score is held against.
    fn teach(
        &mut self,
        plan: &Plan,
        judgement: &Judgement,
        against: Opinions,
        target: f64,
        weight: f64,
    ) {
        let loss = self.target.loss;
        let [steady, nimble, factors] = self.variances(plan, &judgement.factor_sums);
        let [a, b, c, d] = std::array::from_fn(|at| judgement.opinions[at] - against[at]);
        let [spread_a, spread_b, spread_d] = &mut self.spreads;
        let steady = damped(loss, a, target, steady, spread_a, weight);
        let nimble = damped(loss, b, target, nimble, spread_b, weight);
        let factors = damped(loss, d, target, factors, spread_d, weight);
        let bettor = pull(loss, clamp(loss, c), target, 1.0).gradient * weight;
        let bet = -bettor as f32;
        let Priors {
            weight: prior,
            factor: factor_prior,
        } = self.priors;
        let Tables {
            features,
            moved_features,
            ..
        } = &mut self.tables;
        let (features, moved) = (&mut features[..], &mut moved_features[..]);
        let mut new = 0;
        for (id, value) in plan.ids.iter().zip(&plan.values) {
            let entry = &mut features[*id as usize];
            let square = value * value;
            new += u64::from(entry.coin.largest == 0.0);
            entry.steady =
                entry
                    .steady
                    .learn(steady.0 * value, steady.1 * square, STEADY_GROWS, prior);
            entry.nimble =
                entry
                    .nimble
                    .learn(nimble.0 * value, nimble.1 * square, NIMBLE_GROWS, prior);
            entry.coin = entry.coin.bet(bet * value);
            moved[*id as usize / 64] |= 1 << (id % 64);
        }
        for id in &plan.ids[plan.plain..] {
            let entry = &mut features[*id as usize];
            for at in 0..FACTORS {
                let slope = judgement.factor_sums[at] - entry.factors[at];
                let belief = tables::Belief {
                    mean: entry.factors[at],
                    variance: entry.variances[at],
                };
                let (gradient, curvature) = (factors.0 * slope, factors.1 * slope * slope);
                let belief = belief.learn(gradient, curvature, FACTORS_GROW, factor_prior);
                (entry.factors[at], entry.variances[at]) = (belief.mean, belief.variance);
            }
        }
        self.usage.met += (plan.ids.len() + plan.crossed.len()) as u64;
        self.usage.new += new + self.tables.bet(&plan.crossed, bet);
    }

    /// Returns the variance of the scores of steady, nimble and factors.
    #[inline]
    fn variances(&self, plan: &Plan, factor_sums: &[f32; FACTORS]) -> [f64; 3] {
        let (mut steady, mut nimble, mut factors) = (0.0_f32, 0.0_f32, 0.0_f32);
        for (id, value) in plan.ids.iter().zip(&plan.values) {
            let entry = &self.tables.features[*id as usize];
            steady += entry.steady.variance * value * value;
            nimble += entry.nimble.variance * value * value;
        }
        for id in &plan.ids[plan.plain..] {
            let entry = &self.tables.features[*id as usize];
            let known = entry.factors.iter().zip(&entry.variances);
            for (sum, (factor, variance)) in factor_sums.iter().zip(known) {
                let slope = sum - factor;
                factors += variance * slope * slope;
            }
        }
        [steady, nimble, factors].map(f64::from)
    }

    /// Takes the row's numbers into account, and how useful its slots were.
    fn watch(&mut self, plan: &Plan, row: Row<'_>) {
        if self.examples < CHOOSE_AT && self.lens.crossed_mask.is_some() {
            self.weigh_slots(plan);
        }
        for (at, raw) in row.numbers.iter().enumerate() {
            if !raw.is_finite() {
                continue;
            }
            self.scalers[at].observe(*raw);
            self.lens.scales[at] = self.scalers[at].scale;
            if let Some(edges) = self.first_values[at].observe(*raw) {
                self.lens.edges[at] = edges;
            }
        }
    }

    /// Notes how far each slot moves the score; chooses those to be crossed when it is time and there are many.
    #[inline(never)]
    fn weigh_slots(&mut self, plan: &Plan) {
        let features = plan.ids.iter().zip(&plan.values).skip(1);
        for ((id, value), slot) in features.zip(&plan.slots) {
            let part = self.tables.features[*id as usize].steady.mean * value;
            // A class's own bias is no slot's.
            if let Some(useful) = self.useful.get_mut(usize::from(*slot)) {
                *useful += f64::from(part.abs());
            }
        }
        let alone = self.lens.layout.slots - self.lens.layout.crosses;
        if self.examples + 1 == CHOOSE_AT && plan::FEW < alone {
            let mut order: Vec<usize> = (0..alone).collect();
            order.sort_by(|a, b| self.useful[*b].total_cmp(&self.useful[*a]).then(a.cmp(b)));
            order
                .iter()
                .take(plan::CHOSEN)
                .for_each(|slot| self.lens.crossable[*slot] = true);
        }
    }

    /// Returns the model's size in bytes: fixed when it is made.
    pub fn bytes(&self) -> usize {
        let features = self.tables.features.len() * size_of::<tables::Entry>();
        features + self.tables.crosses.len() * size_of::<tables::Coin>()
    }
}

/// Returns what is believed at first: the more features a row has, the less each of them is expected to say.
fn priors(layout: Layout) -> Priors {
    let (slots, numbers) = (layout.slots as f32, layout.numbers as f32);
    let pairs = (slots * (slots - 1.0) / 2.0).max(1.0);
    Priors {
        weight: SCORE_VARIANCE / (slots + numbers + 1.0),
        factor: FACTOR_VARIANCE / pairs.sqrt().sqrt(),
    }
}

/// Returns gradient and curvature, damped by the variance of the score.
#[inline]
fn damped(
    loss: Loss,
    score: f64,
    target: f64,
    variance: f64,
    spread: &mut f64,
    weight: f64,
) -> (f32, f32) {
    let score = clamp(loss, score);
    // Of a score that is uncertain, the probability is nearer one half (MacKay 1992).
    let moderated = match loss {
        Loss::Logistic => score / (1.0 + variance * std::f64::consts::FRAC_PI_8).sqrt(),
        _ => score,
    };
    let Pull {
        gradient,
        curvature,
    } = pull(loss, moderated, target, *spread);
    settle(loss, score, target, spread);
    let damp = 1.0 / (1.0 + curvature * weight * variance);
    (
        (gradient * weight * damp) as f32,
        (curvature * weight * damp) as f32,
    )
}

#[inline]
fn clamp(loss: Loss, score: f64) -> f64 {
    score.clamp(-limit(loss), limit(loss))
}

/// Returns what the experts say of a planned row; the trainer's and the scorer's compute with the same code.
#[inline]
fn judge(weights: &impl Weights, plan: &Plan) -> Judgement {
    let (mut steady, mut nimble, mut bettor) = (0.0_f32, 0.0_f32, 0.0_f32);
    let (mut sums, mut squares) = ([0.0_f32; FACTORS], 0.0_f32);
    for (at, (id, value)) in plan.ids.iter().zip(&plan.values).enumerate() {
        let [a, b, c, factors @ ..] = weights.parts(*id);
        steady += a * value;
        nimble += b * value;
        bettor += c * value;
        if plan.plain <= at {
            for (sum, factor) in sums.iter_mut().zip(factors) {
                *sum += factor;
                squares += factor * factor;
            }
        }
    }
    let bettor = bettor + weights.crossed_sum(&plan.crossed);
    let pairs = sums.iter().fold(-squares, |total, sum| total + sum * sum) * 0.5;
    Judgement {
        opinions: [steady, nimble, bettor, steady + pairs].map(f64::from),
        factor_sums: sums,
    }
}

/// One thing that a score is the sum of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub slot: usize,
    /// The other slot, of a cross.
    pub with: Option<usize>,
    pub contribution: f64,
}

/// Calls with every slot's and every pair's part of the score; the rest of it is the bias's.
pub(crate) fn explain(
    weights: &impl Weights,
    plan: &Plan,
    factors: [f64; EXPERTS],
    mut call: impl FnMut(Part),
) {
    let [steady, nimble, bettor, factored] = factors;
    let part = |at: usize| {
        let ([a, b, c, ..], value) = (weights.parts(plan.ids[at]), f64::from(plan.values[at]));
        let whole =
            f64::from(a) * (steady + factored) + f64::from(b) * nimble + f64::from(c) * bettor;
        whole * value
    };
    for at in 1..plan.ids.len() {
        let slot = usize::from(plan.slots[at - 1]);
        let contribution = part(at);
        call(Part {
            slot,
            with: None,
            contribution,
        });
    }
    let mut crossed = plan.crossed.iter();
    let categories = plan.plain..plan.ids.len();
    let slots = &plan.slots[plan.plain - 1..];
    let mut crossing = plan.crossing_slots.iter().peekable();
    let crossable: Vec<bool> = slots
        .iter()
        .map(|slot| crossing.next_if_eq(&slot).is_some())
        .collect();
    for one in 0..slots.len() {
        let [_, _, _, mine @ ..] = weights.parts(plan.ids[categories.start + one]);
        for other in one + 1..slots.len() {
            let [_, _, _, theirs @ ..] = weights.parts(plan.ids[categories.start + other]);
            let products = mine.iter().zip(theirs).map(|(a, b)| f64::from(a * b));
            let mut contribution = products.sum::<f64>() * factored;
            if crossable[one] && crossable[other] {
                let weight = crossed.next().map_or(0.0, |id| weights.crossed(*id));
                contribution += f64::from(weight) * bettor;
            }
            call(Part {
                slot: usize::from(slots[one]),
                with: Some(usize::from(slots[other])),
                contribution,
            });
        }
    }
}
