//! The state of every hashed feature: one cache line for a feature, a quarter of one for a cross.

use super::super::prefetch::prefetch;
use super::plan::mix;

/// Length of a feature's vector of factors.
pub(crate) const FACTORS: usize = 4;

/// Weights of a feature: steady, nimble, bet, and its factors.
pub(crate) const PARTS: usize = 3 + FACTORS;

/// Crosses worked on side by side.
const LANES: usize = 8;

/// How slowly a bet grows at first: as if so many of the largest gradients had been seen.
const CAUTION: f32 = 100.0;

/// Keeps the first division finite when nothing but 0 was seen.
const LARGEST_MIN: f32 = 1e-15;

/// Bound of a bettor's reward.
const REWARD_MAX: f32 = 1e12;

/// Bound of the magnitude of a weight.
const WEIGHT_MAX: f32 = 1e4;

/// What a coin bettor knows of one weight.
///
/// # Source
/// Orabona and Tommasi 2017, "Training Deep Networks without Learning Rates Through Coin Betting", algorithm 2.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Coin {
    /// Sum of negative gradients.
    pub sum: f32,
    /// Sum of their magnitudes.
    pub total: f32,
    /// The largest magnitude.
    pub largest: f32,
    /// What betting has gained.
    pub reward: f32,
}

impl Coin {
    /// Returns the weight: the share of the reward that is bet.
    #[inline]
    pub fn weight(self) -> f32 {
        weigh(self.sum, self.total, self.largest, self.reward)
    }

    /// Takes one negative gradient in.
    #[inline]
    pub fn bet(self, gradient: f32) -> Coin {
        let reward = self.reward + gradient * self.weight();
        Coin {
            sum: self.sum + gradient,
            total: self.total + gradient.abs(),
            largest: greater(self.largest, gradient.abs()),
            reward: lesser(greater(reward, 0.0), REWARD_MAX),
        }
    }
}

impl Coin {
    /// Returns everything as numbers, for a snapshot.
    pub fn to_array(self) -> [f32; 4] {
        [self.sum, self.total, self.largest, self.reward]
    }

    /// Says whether betting can have led here.
    pub fn may_be(&self) -> bool {
        0.0 <= self.total && 0.0 <= self.largest && (0.0..=REWARD_MAX).contains(&self.reward)
    }

    pub fn from_array([sum, total, largest, reward]: [f32; 4]) -> Coin {
        Coin {
            sum,
            total,
            largest,
            reward,
        }
    }
}

/// Returns what a bettor bets.
#[inline(always)]
fn weigh(sum: f32, total: f32, largest: f32, reward: f32) -> f32 {
    let largest = greater(largest, LARGEST_MIN);
    let scale = largest * greater(total + largest, CAUTION * largest);
    let bet = sum * (largest + reward) / scale;
    greater(lesser(bet, WEIGHT_MAX), -WEIGHT_MAX)
}

/// Returns the greater of two numbers, in one instruction: neither is NaN.
#[inline(always)]
fn greater(one: f32, other: f32) -> f32 {
    if one > other { one } else { other }
}

/// Returns the lesser of two numbers, in one instruction: neither is NaN.
#[inline(always)]
fn lesser(one: f32, other: f32) -> f32 {
    if one < other { one } else { other }
}

/// Bettors side by side: the processor works on several at once.
struct Bettors {
    sum: [f32; LANES],
    total: [f32; LANES],
    largest: [f32; LANES],
    reward: [f32; LANES],
}

impl Bettors {
    #[inline(always)]
    fn gather(table: &[Coin], ids: &[u32; LANES]) -> Bettors {
        let mut bettors = Bettors {
            sum: [0.0; LANES],
            total: [0.0; LANES],
            largest: [0.0; LANES],
            reward: [0.0; LANES],
        };
        for (lane, id) in ids.iter().enumerate() {
            let coin = table[*id as usize];
            bettors.sum[lane] = coin.sum;
            bettors.total[lane] = coin.total;
            bettors.largest[lane] = coin.largest;
            bettors.reward[lane] = coin.reward;
        }
        bettors
    }

    #[inline(always)]
    fn weights(&self) -> [f32; LANES] {
        let mut weights = [0.0; LANES];
        for (lane, weight) in weights.iter_mut().enumerate() {
            *weight = weigh(
                self.sum[lane],
                self.total[lane],
                self.largest[lane],
                self.reward[lane],
            );
        }
        weights
    }

    /// Lets all bet on one negative gradient.
    #[inline(always)]
    fn bet(&mut self, gradient: f32) {
        let (weights, size) = (self.weights(), gradient.abs());
        for (lane, weight) in weights.into_iter().enumerate() {
            let reward = self.reward[lane] + gradient * weight;
            self.reward[lane] = lesser(greater(reward, 0.0), REWARD_MAX);
            self.sum[lane] += gradient;
            self.total[lane] += size;
            self.largest[lane] = greater(self.largest[lane], size);
        }
    }

    #[inline(always)]
    fn scatter(&self, table: &mut [Coin], ids: &[u32; LANES]) {
        for (lane, id) in ids.iter().enumerate() {
            table[*id as usize] = Coin {
                sum: self.sum[lane],
                total: self.total[lane],
                largest: self.largest[lane],
                reward: self.reward[lane],
            };
        }
    }
}

/// Mean and variance of one weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Belief {
    pub mean: f32,
    pub variance: f32,
}

impl Belief {
    /// Takes in one gradient and curvature, both of the weight's own and damped by the variance of the whole
    /// prediction; then forgets a little, up to what was believed at first.
    ///
    /// # Source
    /// The diagonal extended Kalman filter of a generalised linear model.
    #[inline]
    pub fn learn(self, gradient: f32, curvature: f32, grow: f32, prior: f32) -> Belief {
        let mean = self.mean - self.variance * gradient;
        let left = self.variance * (1.0 - self.variance * curvature);
        Belief {
            mean: greater(lesser(mean, WEIGHT_MAX), -WEIGHT_MAX),
            variance: greater(lesser(left * grow, prior), prior * 1e-6),
        }
    }
}

/// All that is known of one feature.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Entry {
    pub steady: Belief,
    pub nimble: Belief,
    pub coin: Coin,
    pub factors: [f32; FACTORS],
    pub variances: [f32; FACTORS],
}

/// What every weight is believed to be before anything is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Priors {
    /// Variance of a weight.
    pub weight: f32,
    /// Variance of a factor.
    pub factor: f32,
}

impl Entry {
    /// Returns what is known of a feature that was never seen; its factors differ, so that they can part.
    pub fn new(id: u32, priors: Priors) -> Entry {
        let belief = Belief {
            mean: 0.0,
            variance: priors.weight,
        };
        let spread = priors.factor * 0.25 * 1.7;
        let factor = |at: usize| {
            let draw = (mix(id, 0xFAC7 + at as u32) >> 8) as f32 / (1 << 24) as f32;
            (2.0 * draw - 1.0) * spread
        };
        Entry {
            steady: belief,
            nimble: belief,
            coin: Coin::default(),
            factors: std::array::from_fn(factor),
            variances: [priors.factor; FACTORS],
        }
    }

    /// Returns the weights.
    #[inline]
    pub fn parts(&self) -> [f32; PARTS] {
        let [a, b, c, d] = self.factors;
        [
            self.steady.mean,
            self.nimble.mean,
            self.coin.weight(),
            a,
            b,
            c,
            d,
        ]
    }

    /// Says whether learning can have led here, which keeps weights within bounds.
    pub fn may_be(&self) -> bool {
        let Entry { steady, nimble, .. } = self;
        let mut weights = self.factors.iter().chain([&steady.mean, &nimble.mean]);
        let variances = [&steady.variance, &nimble.variance];
        let mut variances = self.variances.iter().chain(variances);
        self.coin.may_be()
            && weights.all(|weight| weight.abs() <= WEIGHT_MAX)
            && variances.all(|variance| 0.0 <= *variance)
    }

    /// Returns everything as numbers, for a snapshot.
    pub fn to_array(self) -> [f32; 16] {
        let Coin {
            sum,
            total,
            largest,
            reward,
        } = self.coin;
        let [a, b, c, d] = self.factors;
        let [e, f, g, h] = self.variances;
        let (steady, nimble) = (self.steady, self.nimble);
        let beliefs = [steady.mean, steady.variance, nimble.mean, nimble.variance];
        let [i, j, k, l] = beliefs;
        [
            i, j, k, l, sum, total, largest, reward, a, b, c, d, e, f, g, h,
        ]
    }

    pub fn from_array(values: [f32; 16]) -> Entry {
        let [
            i,
            j,
            k,
            l,
            sum,
            total,
            largest,
            reward,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
        ] = values;
        Entry {
            steady: Belief {
                mean: i,
                variance: j,
            },
            nimble: Belief {
                mean: k,
                variance: l,
            },
            coin: Coin {
                sum,
                total,
                largest,
                reward,
            },
            factors: [a, b, c, d],
            variances: [e, f, g, h],
        }
    }
}

/// Weights by id, wherever they come from: the trainer's tables, or what the scorer was sent.
pub(crate) trait Weights {
    /// Returns the weights of a feature.
    fn parts(&self, id: u32) -> [f32; PARTS];

    /// Returns the weight of a cross.
    fn crossed(&self, id: u32) -> f32;

    /// Returns the sum of the weights of crosses, added in lanes of eight.
    fn crossed_sum(&self, ids: &[u32]) -> f32;

    /// Tells the cache that features and crosses will be wanted.
    fn fetch(&self, ids: &[u32], crossed: &[u32]);
}

/// Adds weights in lanes: the one order of summation.
#[inline]
pub(crate) fn sum_in_lanes(
    ids: &[u32],
    gather: impl Fn(&[u32; LANES]) -> [f32; LANES],
    one: impl Fn(u32) -> f32,
) -> f32 {
    let (chunks, rest) = ids.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        let weights = gather(chunk);
        for (lane, weight) in lanes.iter_mut().zip(weights) {
            *lane += weight;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let whole = ((a + e) + (b + f)) + ((c + g) + (d + h));
    rest.iter().fold(whole, |sum, id| sum + one(*id))
}

/// The learner's tables.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tables {
    /// 2^bits features, then the bias.
    pub features: Vec<Entry>,
    pub crosses: Vec<Coin>,
    /// One bit per entry of `features`, then of `crosses`, which moved since somebody last asked.
    pub moved_features: Vec<u64>,
    pub moved_crosses: Vec<u64>,
}

impl Tables {
    pub fn new(features: usize, crosses: usize, priors: Priors) -> Tables {
        Tables {
            features: (0..=features as u32)
                .map(|id| Entry::new(id, priors))
                .collect(),
            crosses: vec![Coin::default(); crosses],
            moved_features: vec![0; (features + 1).div_ceil(64)],
            moved_crosses: vec![0; crosses.div_ceil(64)],
        }
    }

    /// Lets every cross bet on one negative gradient; returns how many had never been seen.
    #[inline]
    pub fn bet(&mut self, ids: &[u32], gradient: f32) -> u64 {
        let mut new = 0;
        let (chunks, rest) = ids.as_chunks::<LANES>();
        for chunk in chunks {
            let mut bettors = Bettors::gather(&self.crosses, chunk);
            new += bettors
                .largest
                .iter()
                .map(|largest| u64::from(*largest == 0.0))
                .sum::<u64>();
            bettors.bet(gradient);
            bettors.scatter(&mut self.crosses, chunk);
        }
        for id in rest {
            let coin = &mut self.crosses[*id as usize];
            new += u64::from(coin.largest == 0.0);
            *coin = coin.bet(gradient);
        }
        let moved = &mut self.moved_crosses[..];
        for id in ids {
            moved[*id as usize / 64] |= 1 << (id % 64);
        }
        new
    }
}

impl Weights for Tables {
    #[inline]
    fn parts(&self, id: u32) -> [f32; PARTS] {
        self.features[id as usize].parts()
    }

    #[inline]
    fn crossed(&self, id: u32) -> f32 {
        self.crosses[id as usize].weight()
    }

    #[inline]
    fn crossed_sum(&self, ids: &[u32]) -> f32 {
        let gather = |ids: &[u32; LANES]| Bettors::gather(&self.crosses, ids).weights();
        sum_in_lanes(ids, gather, |id| self.crossed(id))
    }

    #[inline]
    fn fetch(&self, ids: &[u32], crossed: &[u32]) {
        ids.iter().for_each(|id| prefetch(&self.features, *id));
        crossed.iter().for_each(|id| prefetch(&self.crosses, *id));
    }
}
