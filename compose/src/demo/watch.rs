//! Looks at a run again and again, shows what it sees, and knows when everything has come out.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use telemetry::names;

use super::acks::Acks;
use super::live::{Snapshot, View};
use super::metrics::{Page, is_ready};
use super::observer::{Observed, Truth, look};
use super::outcome::{Drift, Look};
use crate::pipeline::{Folder, Pipeline, WORKERS};
use crate::produce::Progress;

/// How often the run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the workers' pages are read.
const PAGES_EVERY: Duration = Duration::from_millis(500);
/// How long the workers may take to come up.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// A run in which nothing moves for this long is over, whatever is missing.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// A sink with nothing left to take for this long has taken everything.
const IDLE_AFTER: Duration = Duration::from_secs(3);
/// Looks kept at most; beyond, every second one goes, so that a run of any length fits in a plot.
const LOOKS_MAX: usize = 2400;
/// Places of workers in [`WORKERS`].
const SINK: usize = 1;
const TRAINER: usize = 2;

/// Watches one run.
pub(super) struct Watch<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) folder: &'a Folder,
    pub(super) truth: &'a Truth,
    pub(super) acks: &'a Acks,
    pub(super) observed: &'a Mutex<Observed>,
    pub(super) progress: &'a Progress,
    pub(super) note: &'a Mutex<Option<String>>,
    pub(super) view: View,
    pub(super) seen: Seen,
}

/// What was seen so far.
pub(super) struct Seen {
    /// When the first event was sent.
    pub(super) started: Instant,
    /// What each look saw.
    pub(super) looks: Vec<Look>,
    pages: Vec<Page>,
    pages_at: Option<Instant>,
    moved_at: Instant,
    sink_idle_since: Option<Instant>,
}

impl Watch<'_> {
    /// Waits until every worker has its partitions.
    pub(super) fn until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        while !WORKERS
            .iter()
            .all(|worker| is_ready(&self.folder.address(worker)))
        {
            if deadline <= Instant::now() {
                bail!("the workers were not ready within {READY_DEADLINE:?}");
            }
            self.show("starting")?;
        }
        Ok(())
    }

    /// Shows the run until everything was sent.
    pub(super) fn until_played(&mut self, is_played: impl Fn() -> bool) -> Result<()> {
        while !is_played() {
            self.show("playing")?;
        }
        Ok(())
    }

    /// Waits until everything that was sent has come out, or nothing moves any more.
    pub(super) fn until_settled(&mut self) -> Result<()> {
        loop {
            self.seen.pages_at = None;
            self.show("settling")?;
            let last = self.seen.looks.last().copied().unwrap_or_default();
            let is_through =
                last.clean + last.dead == self.acks.raw_count() && last.scored == last.clean;
            if is_through && self.is_learned(&last) && self.is_taken() {
                return Ok(());
            }
            if STALLED_AFTER <= self.seen.moved_at.elapsed() {
                return Ok(());
            }
        }
    }

    fn is_learned(&self, last: &Look) -> bool {
        look(self.observed).labelled_clean(self.acks) <= last.learned
    }

    /// Says whether the sink has taken every clean message; it lands them when it drains.
    ///
    /// It counts what it has taken since it started, so one that died is believed when it has had nothing left
    /// to take for a while.
    fn is_taken(&mut self) -> bool {
        let sink = &self.seen.pages[SINK];
        let messages = look(self.observed).clean_messages as f64;
        if messages <= sink.sum(names::WORKER_RECORDS).unwrap_or(0.0) {
            return true;
        }
        if sink.sum(names::WORKER_LAG) != Some(0.0) {
            self.seen.sink_idle_since = None;
            return false;
        }
        IDLE_AFTER
            <= self
                .seen
                .sink_idle_since
                .get_or_insert_with(Instant::now)
                .elapsed()
    }

    /// Takes a look, shows it, and waits for the next.
    fn show(&mut self, phase: &'static str) -> Result<()> {
        if !self.pipeline.is_running() {
            bail!("a program ended that should not have");
        }
        if self
            .seen
            .pages_at
            .is_none_or(|at| PAGES_EVERY <= at.elapsed())
        {
            self.read_pages();
        }
        let snapshot = self.snapshot(phase);
        if !self.view.show(&snapshot)? {
            self.progress.stop.store(true, Ordering::Relaxed);
        }
        std::thread::sleep(LOOK_EVERY);
        Ok(())
    }

    fn read_pages(&mut self) {
        self.seen.pages_at = Some(Instant::now());
        for (page, worker) in self.seen.pages.iter_mut().zip(WORKERS) {
            if let Some(fresh) = Page::fetch(&self.folder.address(worker)) {
                *page = fresh;
            }
        }
    }

    fn snapshot(&mut self, phase: &'static str) -> Snapshot {
        let mut observed = look(self.observed);
        let lately = std::mem::take(&mut observed.latency_lately);
        let taken = Look {
            seconds: self.seen.started.elapsed().as_secs_f64(),
            raw: self.acks.raw_count(),
            clean: observed.clean,
            dead: observed.dead_total(),
            scored: observed.scored,
            learned: self.seen.learned(),
            landed: self.seen.pages[SINK].sum(names::SINK_ROWS).unwrap_or(0.0) as u64,
            p50_ms: lately.quantile_ms(0.5),
            p99_ms: lately.quantile_ms(0.99),
        };
        self.seen.add(taken, phase == "starting");
        let first = || self.truth.first().map_or(0, |(micros, _)| *micros);
        let latency = &observed.latency;
        Snapshot {
            phase,
            rows: (
                self.progress.rows.load(Ordering::Relaxed),
                self.truth.len() as u64,
            ),
            look: taken,
            labels: self.acks.label_count(),
            stream_micros: match self.progress.stream_micros.load(Ordering::Relaxed) {
                0 => first(),
                micros => micros,
            },
            rates: self.seen.rates(),
            latency_ms: latency.quantile_ms(0.5).zip(latency.quantile_ms(0.99)),
            quality: observed.running.figures(),
            dead: observed
                .dead
                .iter()
                .map(|(reason, count)| (reason.name(), *count))
                .collect(),
            usage: self.pipeline.usage(),
            note: self
                .note
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

impl Seen {
    /// Has seen nothing yet.
    pub(super) fn new() -> Seen {
        let now = Instant::now();
        Seen {
            started: now,
            looks: Vec::new(),
            pages: vec![Page::default(); WORKERS.len()],
            pages_at: None,
            moved_at: now,
            sink_idle_since: None,
        }
    }

    fn add(&mut self, look: Look, is_starting: bool) {
        let figures = |look: &Look| {
            [
                look.raw,
                look.clean,
                look.dead,
                look.scored,
                look.learned,
                look.landed,
            ]
        };
        if is_starting || self.looks.last().map(figures) != Some(figures(&look)) {
            self.moved_at = Instant::now();
        }
        if is_starting {
            return;
        }
        self.looks.push(look);
        if LOOKS_MAX < self.looks.len() {
            let mut odd = false;
            self.looks.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }

    /// Takes the last look: when everything has stopped and landed.
    pub(super) fn end(&mut self, elapsed: Duration, landed: u64) {
        let last = self.looks.last().copied().unwrap_or_default();
        self.looks.push(Look {
            seconds: elapsed.as_secs_f64(),
            landed,
            p50_ms: None,
            p99_ms: None,
            ..last
        });
    }

    /// Returns the events scored a second, look by look.
    fn rates(&self) -> Vec<u64> {
        let rate = |pair: &[Look]| {
            let seconds = (pair[1].seconds - pair[0].seconds).max(1e-6);
            (pair[1].scored.saturating_sub(pair[0].scored) as f64 / seconds) as u64
        };
        self.looks.windows(2).map(rate).collect()
    }

    /// Returns the labels that the trainer's model has learned.
    pub(super) fn learned(&self) -> u64 {
        self.pages[TRAINER].sum(names::MODEL_LABELS).unwrap_or(0.0) as u64
    }

    /// Returns the trainer's log loss over all labels so far.
    pub(super) fn trainer_log_loss(&self) -> Option<f64> {
        self.pages[TRAINER].with(names::QUALITY_LOG_LOSS, "window", "all")
    }

    /// Returns drift by feature, the strongest first; whichever worker knows of a feature, the larger counts.
    pub(super) fn drift(&self) -> Vec<Drift> {
        let mut drift: Vec<Drift> = Vec::new();
        for page in &self.pages {
            for (feature, psi) in page.by(names::DRIFT_PSI, "feature") {
                let floor = page
                    .with(names::DRIFT_FLOOR, "feature", &feature)
                    .unwrap_or(0.0);
                drift.push(Drift {
                    feature,
                    psi,
                    floor,
                });
            }
        }
        drift.sort_by(|one, other| {
            one.feature
                .cmp(&other.feature)
                .then(other.psi.total_cmp(&one.psi))
        });
        drift.dedup_by(|later, earlier| later.feature == earlier.feature);
        drift.sort_by(|one, other| other.psi.total_cmp(&one.psi));
        drift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_any_length_keeps_its_looks_bounded_and_in_order() {
        let mut seen = Seen::new();
        for at in 0..10_000_u32 {
            seen.add(
                Look {
                    seconds: f64::from(at),
                    scored: u64::from(at) * 10,
                    ..Look::default()
                },
                false,
            );
        }
        assert!(seen.looks.len() <= LOOKS_MAX);
        assert!(
            seen.looks
                .is_sorted_by(|one, other| one.seconds < other.seconds)
        );
        assert_eq!(seen.rates().last(), Some(&10));
        seen.end(Duration::from_secs(20_000), 7);
        assert_eq!(
            seen.looks.last().map(|look| (look.landed, look.scored)),
            Some((7, 99_990))
        );
    }

    #[test]
    fn the_stronger_drift_counts() {
        let page = |psi| Page::parse(&format!("thalweg_drift_psi_ratio{{feature=\"a\"}} {psi}\n"));
        let mut seen = Seen::new();
        seen.pages = vec![page(0.1), page(0.3)];
        assert_eq!(
            seen.drift(),
            [Drift {
                feature: "a".to_owned(),
                psi: 0.3,
                floor: 0.0
            }]
        );
    }
}
