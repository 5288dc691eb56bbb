//! The linear model, for every loss and every kind of weight.

use super::crosses::Pairs;
use super::importance::invariant;
use super::loss::{Target, is_number, limit, pull};
use super::params::{CheckedParams, Rates};
use super::prefetch::prefetch;
use super::scaler::{Scale, Scaler};
use super::usage::Usage;
use super::weights::Weight;
use super::{Label, NonFinite, Tested};
use crate::features::{Layout, Row, Rows};

/// Rows ahead of the one being worked on whose weights are fetched into the cache.
const AHEAD: usize = 8;

/// What prediction and explanation need of a model; the trainer's and the scorer's compute with the same code.
pub(crate) trait View {
    /// Returns the bias.
    fn bias(&self) -> f32;

    /// Returns a weight; 0 for an id beyond the table.
    fn weight(&self, id: u32) -> f32;

    /// Returns how a number is standardised.
    fn scale(&self, number: usize) -> Scale;

    /// Tells the cache that a weight will be wanted.
    fn fetch(&self, id: u32);

    /// Returns which pairs of slots are crosses of their own.
    fn pairs(&self) -> Pairs;

    /// Returns what a slot adds to the log-odds.
    #[inline]
    fn part(&self, row: Row<'_>, slot: usize) -> f64 {
        let weight = f64::from(self.weight(row.ids[slot]));
        match row.numbers.get(slot) {
            Some(raw) => weight * f64::from(self.scale(slot).apply(*raw)),
            None => weight,
        }
    }

    /// Returns what a pair of slots adds to the score.
    fn pair(&self, row: Row<'_>, slot: usize, with: usize) -> f64 {
        let mut found = 0.0;
        self.pairs().each(row, |one, other, id| {
            if (one, other) == (slot, with) {
                found = f64::from(self.weight(id));
            }
        });
        found
    }

    /// Returns the score: bias and parts, added in the order of the slots.
    #[inline]
    fn logit(&self, row: Row<'_>) -> f64 {
        let parts = (0..row.ids.len()).map(|slot| self.part(row, slot));
        let mut score = parts.fold(f64::from(self.bias()), |sum, part| sum + part);
        self.pairs()
            .each(row, |_, _, id| score += f64::from(self.weight(id)));
        score
    }

    /// Tells the cache of all weights of a row.
    fn fetch_row(&self, row: Row<'_>) {
        row.ids.iter().for_each(|id| self.fetch(*id));
        self.pairs().each(row, |_, _, id| self.fetch(id));
    }

    /// Calls with each row of a micro-batch, in order, and fetches the weights of the rows to come.
    #[inline]
    fn each_row<'a>(&self, rows: &'a Rows, mut call: impl FnMut(Row<'a>)) {
        let slots = rows.layout().slots;
        for (at, row) in rows.iter().enumerate() {
            let ahead = rows.ids().get((at + AHEAD) * slots..).unwrap_or_default();
            ahead.iter().take(slots).for_each(|id| self.fetch(*id));
            if at + 1 < rows.len() {
                self.pairs()
                    .each(rows.row(at + 1), |_, _, id| self.fetch(id));
            }
            call(row);
        }
    }
}

/// A linear model, its optimiser's state, and which weights moved since somebody last asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Linear<W> {
    pub layout: Layout,
    pub table: Vec<W>,
    pub bias: W,
    pub scalers: Vec<Scaler>,
    pub target: Target,
    pub pairs: Pairs,
    pub usage: Usage,
    /// Examples learned.
    pub examples: u64,
    /// One bit per weight.
    pub moved: Vec<u64>,
}

impl<W: Weight> View for Linear<W> {
    #[inline]
    fn bias(&self) -> f32 {
        self.bias.weight()
    }

    #[inline]
    fn weight(&self, id: u32) -> f32 {
        self.table.get(id as usize).map_or(0.0, W::weight)
    }

    #[inline]
    fn scale(&self, number: usize) -> Scale {
        self.scalers[number].scale
    }

    #[inline]
    fn fetch(&self, id: u32) {
        prefetch(&self.table, id);
    }

    #[inline]
    fn pairs(&self) -> Pairs {
        self.pairs
    }
}

impl<W: Weight> Linear<W> {
    pub fn new(params: &CheckedParams, layout: Layout) -> Linear<W> {
        let weights = params.weights();
        Linear {
            layout,
            table: vec![W::default(); weights],
            bias: W::default(),
            scalers: vec![Scaler::default(); layout.numbers],
            target: Target::new(params.loss),
            pairs: Pairs::new(params.crosses, params.bits, layout),
            usage: Usage::default(),
            examples: 0,
            moved: vec![0; weights.div_ceil(64)],
        }
    }

    /// Predicts, then learns.
    #[inline]
    pub fn learn(
        &mut self,
        row: Row<'_>,
        label: &Label,
        rates: &Rates,
    ) -> Result<Tested, NonFinite> {
        let score = self.logit(row);
        let predicted = self.target.outward(score);
        let cost = self.target.cost(predicted, score, label.value);
        if !predicted.is_finite() || !cost.is_finite() {
            return Err(NonFinite);
        }
        match self.target.inward(label.value) {
            Some(target) => self.step_all(row, score, target, label.weight, rates),
            None => self.watch(row),
        }
        self.target.observe(label.value);
        self.examples += 1;
        Ok(Tested { predicted, cost })
    }

    /// Moves the weights of a row's features, and takes its numbers into account.
    #[inline]
    fn step_all(&mut self, row: Row<'_>, score: f64, target: f64, weight: f64, rates: &Rates) {
        let limit = limit(self.target.loss);
        let score = score.clamp(-limit, limit);
        let rates = &Rates {
            rate: rates.rate_at(self.examples),
            ..*rates
        };
        let pulled = pull(self.target.loss, score, target, 1.0).gradient;
        let gradient = match self.pace(row, pulled as f32, weight, rates) {
            Some(pace) => invariant(self.target.loss, score, target, weight, pace) as f32,
            None => (pulled * weight) as f32,
        };
        let (numbers, categories) = row.ids.split_at(row.numbers.len());
        for (at, (id, raw)) in numbers.iter().zip(row.numbers).enumerate() {
            let value = self.scalers[at].scale.apply(*raw);
            self.scalers[at].observe(*raw);
            self.step(*id, gradient, value, rates);
        }
        for id in categories {
            self.step(*id, gradient, 1.0, rates);
        }
        let pairs = self.pairs;
        pairs.each(row, |_, _, id| self.step(id, gradient, 1.0, rates));
        self.bias.step(gradient, 1.0, rates);
    }

    /// Moves the weights of a row's features, and nothing else.
    pub(super) fn step_salted(&mut self, row: Row<'_>, gradient: f32, rates: &Rates) {
        let rates = &Rates {
            rate: rates.rate_at(self.examples),
            ..*rates
        };
        for (slot, id) in row.ids.iter().enumerate() {
            let raw = row.numbers.get(slot);
            let value = raw.map_or(1.0, |raw| self.scalers[slot].scale.apply(*raw));
            self.step(*id, gradient, value, rates);
        }
        let pairs = self.pairs;
        pairs.each(row, |_, _, id| self.step(id, gradient, 1.0, rates));
    }

    pub(super) fn watch(&mut self, row: Row<'_>) {
        let scalers = self.scalers.iter_mut().zip(row.numbers);
        scalers.for_each(|(scaler, raw)| scaler.observe(*raw));
    }

    /// Returns how far the score would move for a gradient of 1, where that decides the step: one that is exact for any
    /// rate and importance. A plain step of weight 1 is as it was published.
    #[inline]
    fn pace(&self, row: Row<'_>, gradient: f32, weight: f64, rates: &Rates) -> Option<f64> {
        if weight == 1.0 && W::is_plain(self.target.loss) {
            return None;
        }
        let mut pace = f64::from(self.bias.pace(gradient, 1.0, rates)?);
        for (slot, id) in row.ids.iter().enumerate() {
            let raw = row.numbers.get(slot);
            let value = raw.map_or(1.0, |raw| self.scalers[slot].scale.apply(*raw));
            if let Some(weight) = self.table.get(*id as usize) {
                pace += f64::from(weight.pace(gradient, value, rates)?);
            }
        }
        self.pairs.each(row, |_, _, id| {
            let own = self.table[id as usize].pace(gradient, 1.0, rates);
            pace += own.map_or(0.0, f64::from);
        });
        Some(pace)
    }

    /// Learns a micro-batch row by row; adds each row's prediction to `tested`.
    pub fn learn_all(
        &mut self,
        rows: &Rows,
        labels: &[Label],
        rates: &Rates,
        tested: &mut Vec<f64>,
    ) -> Result<(), NonFinite> {
        let slots = rows.layout().slots;
        for (at, (row, label)) in rows.iter().zip(labels).enumerate() {
            let ahead = rows.ids().get((at + AHEAD) * slots..).unwrap_or_default();
            ahead.iter().take(slots).for_each(|id| self.fetch(*id));
            if at + 1 < rows.len() {
                self.pairs()
                    .each(rows.row(at + 1), |_, _, id| self.fetch(id));
            }
            tested.push(self.learn(row, label, rates)?.predicted);
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, id: u32, gradient: f32, value: f32, rates: &Rates) {
        if let Some(weight) = self.table.get_mut(id as usize) {
            self.usage.met(*weight == W::default());
            weight.step(gradient, value, rates);
            self.moved[id as usize / 64] |= 1 << (id % 64);
        }
    }

    /// Says whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let finite = |weight: &W| {
            let mut state = (0..W::STATE.len()).map(|part| weight.state(part));
            weight.weight().is_finite() && state.all(f32::is_finite)
        };
        self.table.iter().all(finite) && finite(&self.bias)
    }

    /// Returns the model's size in bytes.
    pub fn bytes(&self) -> usize {
        self.table.len() * size_of::<W>()
    }

    /// Returns what the scorer needs beside the weights: the bias, mean and 1 / deviation of each number, and of the
    /// label if it is a number.
    pub fn dense(&self) -> Vec<f64> {
        let pair = |scale: Scale| [scale.mean, scale.inverse];
        let scales = self.scalers.iter().flat_map(|scaler| pair(scaler.scale));
        let mut out: Vec<f64> = std::iter::once(f64::from(self.bias.weight()))
            .chain(scales)
            .collect();
        if is_number(self.target.loss) {
            out.extend(pair(self.target.scaler.scale));
        }
        out
    }

    /// Returns the ids whose weights moved since the last call, ascending, each with its weight.
    pub fn take_moved(&mut self) -> Vec<(u32, f32)> {
        let count: u32 = self.moved.iter().map(|word| word.count_ones()).sum();
        let mut out = Vec::with_capacity(count as usize);
        for (at, word) in self.moved.iter_mut().enumerate() {
            let mut rest = std::mem::take(word);
            while rest != 0 {
                let id = at as u32 * 64 + rest.trailing_zeros();
                out.push((id, self.table[id as usize].weight()));
                rest &= rest - 1;
            }
        }
        out
    }
}
