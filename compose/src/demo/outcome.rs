//! What a run came to: its figures, and whether its sums come out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemas::dead::Reason;
use serde_json::{Map, Value, json};

use super::histogram::Histogram;
use super::lake::Landed;
use super::quality::Quality;
use crate::produce::{DirtKind, Played};
use crate::supervise::Usage;

/// How much one feature has drifted.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// Name of the feature.
    pub feature: String,
    /// Population stability index of the last window against the reference.
    pub psi: f64,
    /// What noise alone reaches once in a hundred windows.
    pub floor: f64,
}

/// One look at a run while it went on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Seconds since the start.
    pub seconds: f64,
    /// Raw messages acknowledged.
    pub raw: u64,
    /// Events found clean.
    pub clean: u64,
    /// Events refused.
    pub dead: u64,
    /// Events scored.
    pub scored: u64,
    /// Events learned from.
    pub learned: u64,
    /// Rows landed.
    pub landed: u64,
    /// Median of raw to score since the look before, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub p99_ms: Option<f64>,
}

/// What a run came to.
pub struct Outcome {
    /// What was played.
    pub played: Played,
    /// Raw messages acknowledged.
    pub raw: u64,
    /// Labels acknowledged.
    pub labels: u64,
    /// Events found clean.
    pub clean: u64,
    /// Events refused, by reason.
    pub dead: BTreeMap<Reason, u64>,
    /// What dirt must have been refused.
    pub dirt_refused: u64,
    /// Raw offsets that are both clean and dead.
    pub contradictions: u64,
    /// Messages that are not what their topic should have.
    pub unreadable: u64,
    /// What is in the lake.
    pub landed: Landed,
    /// Events learned from, as the trainer counts.
    pub learned: u64,
    /// Labels that were sent for clean events.
    pub labelled_clean: u64,
    /// Events scored.
    pub scored: u64,
    /// How good the served scores were; `None` if none has a label.
    pub quality: Option<Quality>,
    /// Mean log loss that the trainer had before learning each label.
    pub trainer_log_loss: Option<f64>,
    /// Drift by feature.
    pub drift: Vec<Drift>,
    /// Raw to score.
    pub latency: Histogram,
    /// From the first event sent until everything was scored, learned and landed.
    pub elapsed: Duration,
    /// What each worker used.
    pub usage: Vec<(&'static str, Usage)>,
    /// Looks at the run, in order.
    pub looks: Vec<Look>,
    /// Where everything of the run is.
    pub folder: PathBuf,
}

/// One sum that must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// What it says.
    pub name: &'static str,
    /// One side.
    pub left: u64,
    /// The other.
    pub right: u64,
}

impl Sum {
    /// Says whether it comes out.
    pub fn holds(&self) -> bool {
        self.left == self.right
    }
}

impl Outcome {
    /// Returns the number of dead letters.
    pub fn dead_total(&self) -> u64 {
        self.dead.values().sum()
    }

    /// Returns every sum that must come out.
    pub fn sums(&self) -> Vec<Sum> {
        let sum = |name, left, right| Sum { name, left, right };
        vec![
            sum(
                "raw messages acknowledged = messages sent",
                self.raw,
                self.played.raw,
            ),
            sum(
                "clean + dead = raw",
                self.clean + self.dead_total(),
                self.raw,
            ),
            sum(
                "dead = dirt that must be refused",
                self.dead_total(),
                self.dirt_refused,
            ),
            sum("both clean and dead = none", self.contradictions, 0),
            sum("landed = clean", self.landed.rows, self.clean),
            sum("scored = clean", self.scored, self.clean),
            sum(
                "learned = labelled and clean",
                self.learned,
                self.labelled_clean,
            ),
            sum("unreadable messages = none", self.unreadable, 0),
        ]
    }

    /// Says whether every sum comes out.
    pub fn holds(&self) -> bool {
        self.sums().iter().all(Sum::holds)
    }

    /// Returns events a second, from the first sent to the last landed.
    pub fn events_per_second(&self) -> f64 {
        self.played.events as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns the summary that `--json` prints.
    pub fn to_json(&self) -> Value {
        let quality = self.quality.as_ref();
        let dead: Map<String, Value> = Reason::ALL
            .iter()
            .map(|reason| {
                (
                    reason.name().to_owned(),
                    self.dead.get(reason).copied().unwrap_or(0).into(),
                )
            })
            .collect();
        let drift: Map<String, Value> = self
            .drift
            .iter()
            .map(|one| {
                (
                    one.feature.clone(),
                    json!({ "psi": one.psi, "noise": one.floor }),
                )
            })
            .collect();
        let peak: Map<String, Value> = self
            .usage
            .iter()
            .map(|(name, usage)| ((*name).to_owned(), usage.peak_rss_bytes.into()))
            .collect();
        json!({
            "raw": self.raw,
            "clean": self.clean,
            "dead": dead,
            "landed": self.landed.rows,
            "labels": self.labels,
            "learned": self.learned,
            "scored": self.scored,
            "log_loss": quality.map(|quality| quality.log_loss),
            "auc": quality.map(|quality| quality.auc),
            "trainer_log_loss": self.trainer_log_loss,
            "base_log_loss": quality.map(|quality| quality.base_log_loss),
            "drift": drift,
            "events_per_second": self.events_per_second(),
            "raw_to_score_ms": { "p50": self.latency.quantile_ms(0.5), "p99": self.latency.quantile_ms(0.99) },
            "peak_rss_bytes": peak,
            "folder": self.folder.display().to_string(),
        })
    }

    /// Returns the kinds of dirt that were sent, and how much of each.
    pub fn dirt(&self) -> impl Iterator<Item = (DirtKind, u64)> {
        DirtKind::ALL
            .into_iter()
            .map(|kind| (kind, self.played.dirt(kind)))
            .filter(|(_, count)| 0 < *count)
    }
}
