//! How one weight moves: AdaGrad and FTRL-Proximal.
//!
//! A weight and its optimiser's state lie side by side, so that learning a feature touches one cache line.

use super::params::Rates;

/// A weight and what its optimiser remembers of it.
pub(crate) trait Weight: Copy + Default + Send + Sync + 'static {
    /// Names of the optimiser's state, as tensors of a snapshot.
    const STATE: &'static [&'static str];

    /// Returns the weight.
    fn weight(&self) -> f32;

    /// Moves the weight against the gradient of the loss.
    fn step(&mut self, gradient: f32, rates: &Rates);

    /// Returns one part of the optimiser's state, in the order of [`Weight::STATE`].
    fn state(&self, part: usize) -> f32;

    /// Puts a weight together again.
    fn restore(weight: f32, state: &[f32]) -> Self;
}

/// Gradients are divided by the root of the sum of their squares so far.
///
/// # Source
/// Duchi, Hazan, Singer 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(8))]
pub(crate) struct Adagrad {
    weight: f32,
    squares: f32,
}

impl Weight for Adagrad {
    const STATE: &'static [&'static str] = &["squares"];

    #[inline]
    fn weight(&self) -> f32 {
        self.weight
    }

    #[inline]
    fn step(&mut self, gradient: f32, rates: &Rates) {
        let gradient = gradient + rates.l2 * self.weight;
        self.squares += gradient * gradient;
        let rate = rates.rate / (self.squares.sqrt() + ROOT_MIN);
        let moved = self.weight - rate * gradient;
        let shrunk = (moved.abs() - rate * rates.l1).max(0.0);
        self.weight = if rates.l1 == 0.0 {
            moved
        } else {
            shrunk.copysign(moved)
        };
    }

    fn state(&self, _: usize) -> f32 {
        self.squares
    }

    fn restore(weight: f32, state: &[f32]) -> Adagrad {
        Adagrad {
            weight,
            squares: state[0],
        }
    }
}

/// Keeps AdaGrad's first step finite when the gradient is 0.
const ROOT_MIN: f32 = 1e-8;

/// Follows the regularised leader: the weight is a function of the sum of gradients, cached here, as is the
/// root of their squares.
///
/// # Source
/// McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches", algorithm 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Ftrl {
    weight: f32,
    z: f32,
    squares: f32,
    root: f32,
}

impl Weight for Ftrl {
    const STATE: &'static [&'static str] = &["z", "squares"];

    #[inline]
    fn weight(&self) -> f32 {
        self.weight
    }

    #[inline]
    fn step(&mut self, gradient: f32, rates: &Rates) {
        let squares = self.squares + gradient * gradient;
        let root = squares.sqrt();
        self.z += gradient - (root - self.root) * rates.inverse * self.weight;
        self.squares = squares;
        self.root = root;
        let beyond = (self.z.abs() - rates.l1).max(0.0);
        let strength = (rates.beta + root) * rates.inverse + rates.l2;
        self.weight = -beyond.copysign(self.z) / strength;
    }

    fn state(&self, part: usize) -> f32 {
        [self.z, self.squares][part]
    }

    fn restore(weight: f32, state: &[f32]) -> Ftrl {
        Ftrl {
            weight,
            z: state[0],
            squares: state[1],
            root: state[1].sqrt(),
        }
    }
}
