//! All that a blend knows beside its tables, as numbers: what goes to the scorer, and what a snapshot holds.

use super::bins::{EDGES, Edges, FirstValues};
use super::plan::Lens;
use super::stack::Shares;
use super::{Blend, EXPERTS};
use crate::learners::scaler::{Scale, Scaler};

/// The model's last layers as the scorer needs them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub shares: Shares,
    /// Mean and deviation of the label.
    pub target: Scale,
}

/// Numbers of one number's scale and edges.
const NUMBER: usize = 2 + EDGES;

/// Stands for infinity where only finite numbers may stand.
const BEYOND: f64 = f64::MAX;

impl Blend {
    /// Returns what the scorer needs beside the weights: shares, target, whether each slot is crossed, then scale
    /// and edges of each number.
    pub fn dense(&self) -> Vec<f64> {
        let Scale { mean, inverse } = self.target.scaler.scale;
        let mut out = self.stack.shares.to_vec();
        out.extend([mean, inverse]);
        out.extend(
            self.lens
                .crossable
                .iter()
                .map(|crossed| f64::from(u8::from(*crossed))),
        );
        for (scale, edges) in self.lens.scales.iter().zip(&self.lens.edges) {
            out.extend([scale.mean, scale.inverse]);
            out.extend(edges.0.map(|edge| edge.min(BEYOND)));
        }
        out
    }

    /// Returns everything that learning needs beside the tables.
    pub fn state(&self) -> Vec<f64> {
        let mut out = self.dense();
        out.extend(self.stack.covariance.as_flattened());
        out.push(self.stack.spread);
        out.extend(self.spreads);
        out.extend([self.target.scaler.count, self.target.scaler.squares]);
        out.extend(&self.useful);
        for (scaler, first) in self.scalers.iter().zip(&self.first_values) {
            out.extend([
                scaler.count,
                scaler.squares,
                first.seen as f64,
                first.values.len() as f64,
            ]);
            out.extend(&first.values);
        }
        out
    }

    /// Takes in what [`Blend::state`] returned; `None` if it is not that of such a blend.
    pub fn restore(&mut self, state: &[f64]) -> Option<()> {
        let layout = self.lens.layout;
        let (dense, rest) = state.split_at_checked(dense_len(layout.slots, layout.numbers))?;
        let head = read_dense(dense, &mut self.lens)?;
        let mut rest = Rest(rest);
        let stack = &mut self.stack;
        stack.shares = head.shares;
        for cell in stack.covariance.as_flattened_mut() {
            *cell = rest.finite()?;
        }
        for spread in [&mut stack.spread].into_iter().chain(&mut self.spreads) {
            *spread = rest.finite().filter(|spread| 0.0 < *spread)?;
        }
        self.target.scaler = rest.scaler(head.target)?;
        for useful in &mut self.useful {
            *useful = rest.finite()?;
        }
        for number in 0..layout.numbers {
            self.scalers[number] = rest.scaler(self.lens.scales[number])?;
            let (seen, len) = (rest.finite()? as usize, rest.finite()? as usize);
            let values = rest.take(len)?.to_vec();
            let sound = values.iter().all(|value| value.is_finite());
            let first = FirstValues { seen, values };
            self.first_values[number] = first.may_be().then_some(first).filter(|_| sound)?;
        }
        rest.0.is_empty().then_some(())
    }
}

/// Returns how long [`Blend::dense`] is.
fn dense_len(slots: usize, numbers: usize) -> usize {
    EXPERTS + 1 + 2 + slots + numbers * NUMBER
}

/// Takes in what [`Blend::dense`] returned; `None` if it is not that of such a blend.
pub(crate) fn read_dense(dense: &[f64], lens: &mut Lens) -> Option<Head> {
    let layout = lens.layout;
    let fits = dense.len() == dense_len(layout.slots, layout.numbers);
    if !fits || !dense.iter().all(|number| number.is_finite()) {
        return None;
    }
    let (shares, rest) = dense.split_first_chunk::<{ EXPERTS + 1 }>()?;
    let ([mean, inverse], rest) = rest.split_first_chunk::<2>()?;
    let target = sound(*mean, *inverse)?;
    let (crossable, numbers) = rest.split_at_checked(layout.slots)?;
    let mut scales = Vec::with_capacity(layout.numbers);
    let mut edges = Vec::with_capacity(layout.numbers);
    for number in numbers.chunks_exact(NUMBER) {
        scales.push(sound(number[0], number[1])?);
        let beyond = |edge: f64| if edge == BEYOND { f64::INFINITY } else { edge };
        let placed = Edges(std::array::from_fn(|at| beyond(number[2 + at])));
        edges.push(placed.is_sound().then_some(placed)?);
    }
    let alone = layout.slots - layout.crosses;
    let crossable: Vec<bool> = crossable.iter().map(|flag| *flag == 1.0).collect();
    if crossable[alone..].contains(&true) {
        return None;
    }
    (lens.scales, lens.edges, lens.crossable) = (scales, edges, crossable);
    Some(Head {
        shares: *shares,
        target,
    })
}

fn sound(mean: f64, inverse: f64) -> Option<Scale> {
    let scale = Scale { mean, inverse };
    scale.is_sound().then_some(scale)
}

/// What was not yet read.
struct Rest<'a>(&'a [f64]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [f64]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn finite(&mut self) -> Option<f64> {
        let [number] = self.take(1)? else { return None };
        number.is_finite().then_some(*number)
    }

    fn scaler(&mut self, scale: Scale) -> Option<Scaler> {
        let [count, squares] = *self.take(2)? else {
            return None;
        };
        let scaler = Scaler {
            count,
            squares,
            scale,
        };
        scaler.may_be().then_some(scaler)
    }
}
