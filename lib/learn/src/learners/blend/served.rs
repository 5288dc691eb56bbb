//! The blend that scores: weights only, by the ids under which the trainer sends them.

use schemas::contract::Loss;

use super::plan::{Lens, Plan};
use super::stack::{EQUAL, factors, score};
use super::state::{Head, read_dense};
use super::tables::{Entry, PARTS, Priors, Tables, Weights, sum_in_lanes};
use super::{Blend, CROSSED_BITS_MORE, EXPERTS, Opinions, Part, explain, judge, priors};
use crate::features::{Layout, Row};
use crate::learners::loss::{limit, outward};
use crate::learners::prefetch::prefetch;
use crate::learners::scaler::Scale;

/// A blend's weights, kept up to date by updates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlendWeights {
    pub lens: Lens,
    head: Head,
    pub loss: Loss,
    features: Vec<Parts>,
    crosses: Vec<f32>,
}

/// The weights of one feature, in half a cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(32))]
struct Parts([f32; PARTS]);

impl Blend {
    /// Returns the weights that moved since the last call, by ascending index: the parts of each feature lie behind
    /// each other, and crosses behind all features.
    pub fn take_moved(&mut self) -> Vec<(u32, f32)> {
        let Tables {
            features,
            crosses,
            moved_features,
            moved_crosses,
        } = &mut self.tables;
        let mut out = Vec::new();
        drain(moved_features, |id| {
            let parts = features[id as usize].parts();
            let first = id * PARTS as u32;
            out.extend((first..).zip(parts));
        });
        let first = (features.len() * PARTS) as u32;
        drain(moved_crosses, |id| {
            out.push((first + id, crosses[id as usize].weight()))
        });
        out
    }
}

/// Calls with each bit that is set, and clears it.
fn drain(words: &mut [u64], mut call: impl FnMut(u32)) {
    for (at, word) in words.iter_mut().enumerate() {
        let mut rest = std::mem::take(word);
        while rest != 0 {
            call(at as u32 * 64 + rest.trailing_zeros());
            rest &= rest - 1;
        }
    }
}

impl BlendWeights {
    /// Makes the weights of a blend that has learned nothing.
    pub fn new(loss: Loss, bits: u8, auto_crosses: bool, layout: Layout) -> BlendWeights {
        let crossed_bits = auto_crosses.then_some(bits + CROSSED_BITS_MORE);
        let lens = Lens::new(layout, bits, crossed_bits);
        let priors: Priors = priors(layout);
        let crosses = lens.crossed_mask.map_or(0, |mask| mask as usize + 1);
        let ids = 0..=lens.bias();
        BlendWeights {
            features: ids
                .map(|id| Parts(Entry::new(id, priors).parts()))
                .collect(),
            crosses: vec![0.0; crosses],
            head: Head {
                shares: EQUAL,
                target: Scale::default(),
            },
            lens,
            loss,
        }
    }

    /// Takes the weights of a learner.
    pub fn of(blend: &Blend) -> BlendWeights {
        BlendWeights {
            lens: blend.lens.clone(),
            head: Head {
                shares: blend.stack.shares,
                target: blend.target.scaler.scale,
            },
            loss: blend.target.loss,
            features: blend
                .tables
                .features
                .iter()
                .map(|entry| Parts(entry.parts()))
                .collect(),
            crosses: blend
                .tables
                .crosses
                .iter()
                .map(|coin| coin.weight())
                .collect(),
        }
    }

    /// Returns how many weights there are.
    pub fn len(&self) -> usize {
        self.features.len() * PARTS + self.crosses.len()
    }

    /// Takes an update in; says what is wrong with it, and then changes nothing.
    pub fn apply(&mut self, dense: &[f64], weights: &[(u32, f32)]) -> Result<(), &'static str> {
        let len = self.len();
        let fits = |(id, weight): &(u32, f32)| (*id as usize) < len && weight.is_finite();
        if !weights.iter().all(fits) {
            return Err("a weight");
        }
        let mut lens = self.lens.clone();
        let head = read_dense(dense, &mut lens).ok_or("a share, scale or edge")?;
        (self.lens, self.head) = (lens, head);
        for (id, weight) in weights {
            let id = *id as usize;
            match self.features.get_mut(id / PARTS) {
                Some(Parts(parts)) => parts[id % PARTS] = *weight,
                None => self.crosses[id - self.features.len() * PARTS] = *weight,
            }
        }
        Ok(())
    }

    /// Finds a row's features, and tells the cache of them.
    #[inline]
    pub fn plan(&self, plan: &mut Plan, row: Row<'_>) {
        plan.find(&self.lens, row);
        plan.value(&self.lens, row);
        self.fetch(&plan.ids, &plan.crossed);
    }

    /// Returns the score of a planned row, and what the experts said.
    #[inline]
    pub fn score(&self, plan: &Plan) -> (f64, Opinions) {
        let opinions = judge(self, plan).opinions;
        (
            score(&self.head.shares, opinions, limit(self.loss)),
            opinions,
        )
    }

    /// Returns what a score predicts.
    #[inline]
    pub fn outward(&self, score: f64) -> f64 {
        outward(self.loss, self.head.target, score)
    }

    /// Calls with every part of a planned row's score; returns the bias's, which is the rest of it.
    pub fn explain(&self, plan: &Plan, opinions: Opinions, call: impl FnMut(Part)) -> f64 {
        let factors = factors(&self.head.shares, opinions, limit(self.loss));
        explain(self, plan, factors, call);
        let [a, b, c, ..] = self.parts(self.lens.bias()).map(f64::from);
        let [steady, nimble, bettor, factored] = factors;
        self.head.shares[EXPERTS] + a * (steady + factored) + b * nimble + c * bettor
    }
}

impl Weights for BlendWeights {
    #[inline]
    fn parts(&self, id: u32) -> [f32; PARTS] {
        self.features[id as usize].0
    }

    #[inline]
    fn crossed(&self, id: u32) -> f32 {
        self.crosses[id as usize]
    }

    #[inline]
    fn crossed_sum(&self, ids: &[u32]) -> f32 {
        sum_in_lanes(
            ids,
            |ids| ids.map(|id| self.crossed(id)),
            |id| self.crossed(id),
        )
    }

    #[inline]
    fn fetch(&self, ids: &[u32], crossed: &[u32]) {
        ids.iter().for_each(|id| prefetch(&self.features, *id));
        crossed.iter().for_each(|id| prefetch(&self.crosses, *id));
    }
}
