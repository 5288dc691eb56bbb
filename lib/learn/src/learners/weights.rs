//! How one weight moves: SGD, AdaGrad, normalised AdaGrad, FTRL-Proximal, coin betting.
//!
//! A weight and its optimiser's state lie side by side, so that learning a feature touches one cache line.

use schemas::contract::Loss;

use super::blend::Coin;
use super::params::Rates;

/// A weight and what its optimiser remembers of it.
pub(crate) trait Weight: Copy + Default + PartialEq + Send + Sync + 'static {
    /// Names of the optimiser's state, as tensors of a snapshot.
    const STATE: &'static [&'static str];

    /// Says whether an example of weight 1 is learned by the plain gradient.
    fn is_plain(loss: Loss) -> bool;

    /// Returns the weight.
    fn weight(&self) -> f32;

    /// Moves the weight against the gradient of the loss in the score, for a feature of some value.
    fn step(&mut self, gradient: f32, value: f32, rates: &Rates);

    /// Returns how far the score would move for a gradient of 1, if steps are to be invariant to importance.
    fn pace(&self, gradient: f32, value: f32, rates: &Rates) -> Option<f32>;

    /// Returns one part of the optimiser's state, in the order of [`Weight::STATE`].
    fn state(&self, part: usize) -> f32;

    /// Says whether the state can have been reached: what is a sum of squares, or a magnitude, is not negative.
    fn may_be(&self) -> bool;

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

    fn is_plain(_: Loss) -> bool {
        true
    }

    #[inline]
    fn weight(&self) -> f32 {
        self.weight
    }

    #[inline]
    fn step(&mut self, gradient: f32, value: f32, rates: &Rates) {
        let gradient = gradient * value + rates.l2 * self.weight;
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

    #[inline]
    fn pace(&self, gradient: f32, value: f32, rates: &Rates) -> Option<f32> {
        let own = gradient * value;
        let root = (self.squares + own * own).sqrt() + ROOT_MIN;
        Some(rates.rate / root * value * value)
    }

    fn state(&self, _: usize) -> f32 {
        self.squares
    }

    fn may_be(&self) -> bool {
        0.0 <= self.squares
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

    fn is_plain(_: Loss) -> bool {
        true
    }

    #[inline]
    fn weight(&self) -> f32 {
        self.weight
    }

    #[inline]
    fn step(&mut self, gradient: f32, value: f32, rates: &Rates) {
        let gradient = gradient * value;
        let squares = self.squares + gradient * gradient;
        let root = squares.sqrt();
        self.z += gradient - (root - self.root) * rates.inverse * self.weight;
        self.squares = squares;
        self.root = root;
        let beyond = (self.z.abs() - rates.l1).max(0.0);
        let strength = (rates.beta + root) * rates.inverse + rates.l2;
        self.weight = -beyond.copysign(self.z) / strength;
    }

    #[inline]
    fn pace(&self, _: f32, _: f32, _: &Rates) -> Option<f32> {
        None
    }

    fn state(&self, part: usize) -> f32 {
        [self.z, self.squares][part]
    }

    fn may_be(&self) -> bool {
        0.0 <= self.squares
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

/// θ ← θ − α∇J, with a rate that may fall.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Sgd {
    weight: f32,
}

impl Weight for Sgd {
    const STATE: &'static [&'static str] = &[];

    /// Where the gradient is bounded, the textbook's step is safe for any rate; elsewhere it can run away.
    fn is_plain(loss: Loss) -> bool {
        !matches!(loss, Loss::Squared | Loss::Huber(_) | Loss::Poisson)
    }

    #[inline]
    fn weight(&self) -> f32 {
        self.weight
    }

    #[inline]
    fn step(&mut self, gradient: f32, value: f32, rates: &Rates) {
        self.weight = shrink(self.weight - rates.rate * gradient * value, rates);
    }

    #[inline]
    fn pace(&self, _: f32, value: f32, rates: &Rates) -> Option<f32> {
        Some(rates.rate * value * value)
    }

    fn state(&self, _: usize) -> f32 {
        0.0
    }

    fn may_be(&self) -> bool {
        true
    }

    fn restore(weight: f32, _: &[f32]) -> Sgd {
        Sgd { weight }
    }
}

/// Takes L2's and L1's part of a step of plain gradient descent.
#[inline]
fn shrink(weight: f32, rates: &Rates) -> f32 {
    let kept = weight / (1.0 + rates.rate * rates.l2);
    if rates.l1 == 0.0 {
        return kept;
    }
    (kept.abs() - rates.rate * rates.l1).max(0.0).copysign(kept)
}

/// AdaGrad in units of the largest value that the feature had.
///
/// # Source
/// Ross, Mineiro, Langford 2013, "Normalized Online Learning", algorithm 2 (NAG).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Normalised {
    weight: f32,
    squares: f32,
    largest: f32,
}

impl Normalised {
    #[inline]
    fn rate(&self, gradient: f32, value: f32, rates: &Rates) -> f32 {
        let own = gradient * value;
        let largest = self.largest.max(value.abs());
        let root = (self.squares + own * own).sqrt() * largest;
        rates.rate / (root + ROOT_MIN)
    }
}

impl Weight for Normalised {
    const STATE: &'static [&'static str] = &["squares", "largest"];

    fn is_plain(_: Loss) -> bool {
        false
    }

    #[inline]
    fn weight(&self) -> f32 {
        self.weight
    }

    #[inline]
    fn step(&mut self, gradient: f32, value: f32, rates: &Rates) {
        if self.largest < value.abs() {
            let ratio = self.largest / value.abs();
            self.weight *= ratio * ratio;
            self.largest = value.abs();
        }
        let rate = self.rate(gradient, value, rates);
        let own = gradient * value;
        self.squares += own * own;
        self.weight = shrink(self.weight - rate * own, rates);
    }

    #[inline]
    fn pace(&self, gradient: f32, value: f32, rates: &Rates) -> Option<f32> {
        Some(self.rate(gradient, value, rates) * value * value)
    }

    fn state(&self, part: usize) -> f32 {
        [self.squares, self.largest][part]
    }

    fn may_be(&self) -> bool {
        0.0 <= self.squares && 0.0 <= self.largest
    }

    fn restore(weight: f32, state: &[f32]) -> Normalised {
        Normalised {
            weight,
            squares: state[0],
            largest: state[1],
        }
    }
}

/// A coin bettor of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SingleCoin(Coin);

impl Weight for SingleCoin {
    const STATE: &'static [&'static str] = &["sum", "total", "largest", "reward"];

    fn is_plain(_: Loss) -> bool {
        true
    }

    #[inline]
    fn weight(&self) -> f32 {
        self.0.weight()
    }

    #[inline]
    fn step(&mut self, gradient: f32, value: f32, _: &Rates) {
        self.0 = self.0.bet(-gradient * value);
    }

    #[inline]
    fn pace(&self, _: f32, _: f32, _: &Rates) -> Option<f32> {
        None
    }

    fn state(&self, part: usize) -> f32 {
        let Coin {
            sum,
            total,
            largest,
            reward,
        } = self.0;
        [sum, total, largest, reward][part]
    }

    fn may_be(&self) -> bool {
        self.0.may_be()
    }

    fn restore(_: f32, state: &[f32]) -> SingleCoin {
        SingleCoin(Coin {
            sum: state[0],
            total: state[1],
            largest: state[2],
            reward: state[3],
        })
    }
}
