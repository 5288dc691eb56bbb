//! What is left to chance: one seeded generator, how often what goes wrong, and the story of what happened.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A seeded generator (SplitMix64); clones go on with one sequence.
#[derive(Clone, Debug)]
pub struct Dice {
    state: Arc<Mutex<u64>>,
}

impl Dice {
    /// Begins a sequence.
    pub fn new(seed: u64) -> Dice {
        Dice {
            state: Arc::new(Mutex::new(seed)),
        }
    }

    /// Returns any number.
    pub fn any(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number of a range, both ends included.
    pub fn within(&self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low + self.any() % (high.saturating_sub(low) + 1)
    }

    /// Says yes so many times in a thousand.
    pub fn happens(&self, per_mille: u64) -> bool {
        0 < per_mille && self.within(1..=1000) <= per_mille
    }

    /// Returns a time of a range of milliseconds.
    pub fn millis(&self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

/// How often what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Milliseconds that anything may take; with none, everything is there at once.
    pub delay_ms: u64,
    /// Answers that do not come, of a thousand.
    pub answers: u64,
    /// Deliveries of a lane that fail for good, of a thousand.
    pub deliveries: u64,
    /// Deliveries of a lane that take seconds, of a thousand.
    pub stalls: u64,
    /// Commits that are lost, of a thousand.
    pub commits: u64,
    /// Reads of a member that fail for good, of a thousand.
    pub reads: u64,
}

impl Faults {
    /// Nothing goes wrong, and everything is there at once.
    pub const NONE: Faults = Faults {
        delay_ms: 0,
        answers: 0,
        deliveries: 0,
        stalls: 0,
        commits: 0,
        reads: 0,
    };
}

/// What happened, a line each with its simulated time; clones write on the same story.
#[derive(Clone, Default)]
pub struct Story {
    /// `None` where nobody listens.
    told: Option<Arc<Mutex<Told>>>,
}

struct Told {
    began: Instant,
    lines: Vec<String>,
    digest: DefaultHasher,
}

impl Story {
    /// Begins a story that is kept; [`Story::default`] is one that nobody hears.
    pub fn kept() -> Story {
        let told = Told {
            began: Instant::now(),
            lines: Vec::new(),
            digest: DefaultHasher::new(),
        };
        Story {
            told: Some(Arc::new(Mutex::new(told))),
        }
    }

    /// Tells what happens now.
    pub fn tell(&self, what: fmt::Arguments<'_>) {
        let Some(told) = &self.told else { return };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{:>9.3} s  {what}", told.began.elapsed().as_secs_f64());
        told.digest.write(line.as_bytes());
        told.lines.push(line);
    }

    /// Returns the lines so far.
    pub fn lines(&self) -> Vec<String> {
        let told = self.told.as_ref();
        told.map_or_else(Vec::new, |told| {
            told.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .lines
                .clone()
        })
    }

    /// Returns a number that tells this story from others.
    pub fn digest(&self) -> u64 {
        let told = self.told.as_ref();
        told.map_or(0, |told| {
            told.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .digest
                .finish()
        })
    }
}
