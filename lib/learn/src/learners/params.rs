//! What a learner is told before it starts.

use super::loss::is_number;
use linfa::ParamGuard;
use schemas::contract;
use schemas::contract::{Crosses, Schedule, Update};

/// Most weights of a model: 2^30.
const BITS_MAX: u8 = 30;

/// Most features of a blend: 2^24, in 2 GiB.
const BLEND_BITS_MAX: u8 = 24;

/// FTRL's β: how much a weight resists before it has seen anything.
const BETA: f32 = 1.0;

/// How a learner learns; linfa's unchecked parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params(CheckedParams);

/// Parameters that can be learned with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckedParams {
    pub(crate) loss: contract::Loss,
    pub(crate) update: Update,
    pub(crate) bits: u8,
    pub(crate) rate: f64,
    pub(crate) l1: f64,
    pub(crate) l2: f64,
    pub(crate) schedule: Schedule,
    pub(crate) crosses: Crosses,
}

/// A parameter that cannot be learned with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// No table is that small or large.
    #[error(
        "a model of 2^{0} weights is not possible; take 1 to {BITS_MAX} bits, to {BLEND_BITS_MAX} for a blend"
    )]
    Bits(u8),
    /// The rate is not a rate.
    #[error("a learning rate of {0} is not possible; take 0.000001 to 1000")]
    Rate(f64),
    /// The regularisation is not one.
    #[error("a regularisation of {0} is not possible; take 0 to 1000000")]
    Regularisation(f64),
}

/// The parameters as the inner loops want them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub rate: f32,
    /// 1 / rate.
    pub inverse: f32,
    pub beta: f32,
    pub l1: f32,
    pub l2: f32,
    pub schedule: Schedule,
}

impl Rates {
    /// Returns the rate after so many examples.
    #[inline]
    pub fn rate_at(&self, examples: u64) -> f32 {
        match self.schedule {
            Schedule::Constant => self.rate,
            Schedule::Root => self.rate / ((1 + examples) as f32).sqrt(),
            Schedule::Inverse => self.rate / (1 + examples) as f32,
        }
    }
}

impl Params {
    /// Takes an update, the logistic loss, 2^18 weights, a rate of 0.1 that stays, no regularisation, and no
    /// crosses, except for the blend.
    pub fn new(update: Update) -> Params {
        Params(CheckedParams {
            loss: contract::Loss::Logistic,
            update,
            bits: 18,
            rate: 0.1,
            l1: 0.0,
            l2: 0.0,
            schedule: Schedule::Constant,
            crosses: match update {
                Update::Blend => Crosses::Auto,
                _ => Crosses::None,
            },
        })
    }

    /// Takes the parameters of a contract.
    pub fn of(learner: &contract::Learner) -> Params {
        let contract::Learner {
            loss,
            update,
            bits,
            rate,
            l1,
            l2,
            schedule,
            crosses,
            weights: _,
        } = *learner;
        Params(CheckedParams {
            loss,
            update,
            bits,
            rate,
            l1,
            l2,
            schedule,
            crosses,
        })
    }

    /// Sets the loss.
    pub fn loss(mut self, loss: contract::Loss) -> Params {
        self.0.loss = loss;
        self
    }

    /// Sets how the rate falls; only SGD has a schedule.
    pub fn schedule(mut self, schedule: Schedule) -> Params {
        self.0.schedule = schedule;
        self
    }

    /// Sets which crosses are made beside those that the features name.
    pub fn crosses(mut self, crosses: Crosses) -> Params {
        self.0.crosses = crosses;
        self
    }

    /// Sets the size of the model: 2^bits weights.
    pub fn bits(mut self, bits: u8) -> Params {
        self.0.bits = bits;
        self
    }

    /// Sets the learning rate: AdaGrad's η, FTRL's α.
    pub fn rate(mut self, rate: f64) -> Params {
        self.0.rate = rate;
        self
    }

    /// Sets the strength of L1 regularisation.
    pub fn l1(mut self, l1: f64) -> Params {
        self.0.l1 = l1;
        self
    }

    /// Sets the strength of L2 regularisation.
    pub fn l2(mut self, l2: f64) -> Params {
        self.0.l2 = l2;
        self
    }
}

impl CheckedParams {
    /// Says whether predictions are numbers in the label's unit, and no probabilities.
    pub fn predicts_numbers(&self) -> bool {
        is_number(self.loss)
    }

    pub(crate) fn rates(&self) -> Rates {
        Rates {
            rate: self.rate as f32,
            inverse: (1.0 / self.rate) as f32,
            beta: BETA,
            l1: self.l1 as f32,
            l2: self.l2 as f32,
            schedule: self.schedule,
        }
    }

    /// Says whether predictions are probabilities of yes.
    pub fn predicts_yes_or_no(&self) -> bool {
        !is_number(self.loss) && self.classes().is_none()
    }

    /// Returns how many classes there are, if labels are classes.
    pub fn classes(&self) -> Option<u16> {
        match self.loss {
            contract::Loss::Softmax(classes) => Some(classes),
            _ => None,
        }
    }

    pub(crate) fn weights(&self) -> usize {
        1 << self.bits
    }
}

impl ParamGuard for Params {
    type Checked = CheckedParams;
    type Error = ParamsError;

    fn check_ref(&self) -> Result<&CheckedParams, ParamsError> {
        let CheckedParams {
            bits, rate, l1, l2, ..
        } = self.0;
        let bits_max = match self.0.update {
            Update::Blend => BLEND_BITS_MAX,
            _ => BITS_MAX,
        };
        if !(1..=bits_max).contains(&bits) {
            return Err(ParamsError::Bits(bits));
        }
        // Beyond these, f32 would overflow. NaN is in no range.
        if !(1e-6..=1e3).contains(&rate) {
            return Err(ParamsError::Rate(rate));
        }
        match [l1, l2]
            .into_iter()
            .find(|strength| !(0.0..=1e6).contains(strength))
        {
            Some(strength) => Err(ParamsError::Regularisation(strength)),
            None => Ok(&self.0),
        }
    }

    fn check(self) -> Result<CheckedParams, ParamsError> {
        self.check_ref().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(params: Params, expected: Result<(), ParamsError>) {
        assert_eq!(params.check().map(|_| ()), expected);
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let good = Params::new(Update::Ftrl);
        check(good, Ok(()));
        check(good.bits(30).rate(1000.0).l1(1.0).l2(1.0), Ok(()));
        check(good.bits(0), Err(ParamsError::Bits(0)));
        check(good.bits(31), Err(ParamsError::Bits(31)));
        check(good.rate(0.0), Err(ParamsError::Rate(0.0)));
        check(good.rate(-1.0), Err(ParamsError::Rate(-1.0)));
        check(
            good.rate(f64::INFINITY),
            Err(ParamsError::Rate(f64::INFINITY)),
        );
        check(good.l1(-1.0), Err(ParamsError::Regularisation(-1.0)));
        assert!(good.rate(f64::NAN).check().is_err());
        assert!(good.l2(f64::NAN).check().is_err());
    }
}
