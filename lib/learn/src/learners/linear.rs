//! The linear model with logistic loss, for every kind of weight.

use super::params::{CheckedParams, Rates};
use super::prefetch::prefetch;
use super::scaler::{Scale, Scaler};
use super::weights::Weight;
use super::{Label, Loss, NonFinite};
use crate::features::{Layout, Row, Rows};
use crate::math::{log_loss, sigmoid};

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

    /// Returns what a slot adds to the log-odds.
    #[inline]
    fn part(&self, row: Row<'_>, slot: usize) -> f64 {
        let weight = f64::from(self.weight(row.ids[slot]));
        match row.numbers.get(slot) {
            Some(raw) => weight * f64::from(self.scale(slot).apply(*raw)),
            None => weight,
        }
    }

    /// Returns the log-odds: bias and parts, added in the order of the slots.
    #[inline]
    fn logit(&self, row: Row<'_>) -> f64 {
        let parts = (0..row.ids.len()).map(|slot| self.part(row, slot));
        parts.fold(f64::from(self.bias()), |sum, part| sum + part)
    }

    /// Calls with each row of a micro-batch, in order, and fetches the weights of the rows to come.
    #[inline]
    fn each_row<'a>(&self, rows: &'a Rows, mut call: impl FnMut(Row<'a>)) {
        let slots = rows.layout().slots;
        for (at, row) in rows.iter().enumerate() {
            let ahead = rows.ids().get((at + AHEAD) * slots..).unwrap_or_default();
            ahead.iter().take(slots).for_each(|id| self.fetch(*id));
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
}

impl<W: Weight> Linear<W> {
    pub fn new(params: &CheckedParams, layout: Layout) -> Linear<W> {
        let weights = params.weights();
        Linear {
            layout,
            table: vec![W::default(); weights],
            bias: W::default(),
            scalers: vec![Scaler::default(); layout.numbers],
            examples: 0,
            moved: vec![0; weights.div_ceil(64)],
        }
    }

    /// Predicts, then learns; returns the prediction and its loss.
    #[inline]
    pub fn learn(
        &mut self,
        row: Row<'_>,
        label: Label,
        rates: &Rates,
    ) -> Result<(f64, Loss), NonFinite> {
        let logit = self.logit(row);
        let probability = sigmoid(logit);
        let loss = log_loss(logit, label.0);
        if !loss.is_finite() {
            return Err(NonFinite);
        }
        let gradient = (probability - label.as_f64()) as f32;
        let (numbers, categories) = row.ids.split_at(row.numbers.len());
        for (at, (id, raw)) in numbers.iter().zip(row.numbers).enumerate() {
            let value = self.scalers[at].scale.apply(*raw);
            self.scalers[at].observe(*raw);
            self.step(*id, gradient * value, rates);
        }
        for id in categories {
            self.step(*id, gradient, rates);
        }
        self.bias.step(gradient, rates);
        self.examples += 1;
        Ok((probability, Loss(loss)))
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
            tested.push(self.learn(row, *label, rates)?.0);
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, id: u32, gradient: f32, rates: &Rates) {
        if let Some(weight) = self.table.get_mut(id as usize) {
            weight.step(gradient, rates);
            self.moved[id as usize / 64] |= 1 << (id % 64);
        }
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
