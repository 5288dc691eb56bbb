//! Runs the demo from the first flight to the last sum.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use schemas::Contract;
use schemas::topics::Topics;
use telemetry::names;

use super::acks::Acks;
use super::lake;
use super::live::{Snapshot, View};
use super::metrics::Page;
use super::observer::{Observed, Observer, Truth, look};
use super::outcome::{Drift, Look, Outcome};
use super::quality::Quality;
use crate::pipeline::{Folder, OnEvent, Pipeline, Plan, WORKERS};
use crate::produce::{
    self, DirtKind, Known, Layout, Played, Progress, SendOptions, Sender, Source, Speed,
};
use crate::supervise::Event;

/// The stream's contract.
const CONTRACT: &str = include_str!("../../streams/flights/stream.toml");
/// The flights.
static FLIGHTS: &[u8] = include_bytes!("../../streams/flights/flights.parquet");

/// How often the run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the workers' pages are read.
const PAGES_EVERY: Duration = Duration::from_millis(500);
/// How long the workers may take to come up.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// A run in which nothing moves for this long is over, whatever is missing.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Stretches of stream time in the report, and bins of its calibration plot.
const WINDOWS: usize = 120;
const BINS: usize = 20;

/// How the demo is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How flights are played.
    pub play: produce::Options,
    /// Where everything of the run is kept; made if missing.
    pub folder: PathBuf,
    /// Port of the embedded broker; 0 takes a free one.
    pub port: u16,
    /// Partitions of the topics.
    pub partitions: i32,
    /// Whether to open the live view.
    pub terminal: bool,
    /// Set by a signal to stop early.
    pub stop: Arc<AtomicBool>,
}

/// Runs the demo; returns what it came to, and its contract.
///
/// # Errors
/// A part that cannot start, or dies for good. Sums that do not come out are no error: [`Outcome::holds`].
pub fn run(options: &Options) -> Result<(Outcome, Arc<Contract>)> {
    let contract = Arc::new(Contract::parse("stream.toml", CONTRACT)?);
    let folder = Folder::open(&options.folder)?;
    if folder.broker().exists() {
        bail!(
            "{} has an earlier run in it; name another folder",
            folder.path().display()
        );
    }
    let contract_file = folder.path().join("stream.toml");
    std::fs::write(&contract_file, CONTRACT).context("cannot write the contract")?;
    let truth = Arc::new(truth(&contract, options.play.events_max)?);
    let note: Arc<Mutex<Option<String>>> = Arc::default();
    let noted = note.clone();
    let on_event: OnEvent = Arc::new(move |event| {
        if let Event::Died(name, status, _) = event {
            let text = format!("{name} ended ({status}) and was started anew");
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    });
    let plan = Plan {
        contract: contract_file,
        folder: folder.clone(),
        brokers: None,
        listen: ([127, 0, 0, 1], options.port).into(),
        kafka: Vec::new(),
        partitions: options.partitions,
        replication: 1,
        lake: None,
        checkpoints: None,
        http_port: 0,
        otlp: None,
        log_files: true,
    };
    let pipeline = Pipeline::start(&plan, &contract, &on_event)?;
    let started = Instant::now();
    let acks = Arc::new(Acks::new(options.partitions.max(0) as usize, started));
    let run = Run {
        options,
        contract: contract.clone(),
        folder,
        truth,
        acks,
        note,
    };
    Ok((run.to_the_end(pipeline)?, contract))
}

/// Reads what the file says about each row.
fn truth(contract: &Arc<Contract>, events_max: u64) -> Result<Truth> {
    let mut source = source(contract)?;
    let mut truth = Vec::new();
    while let Some(rows) = source.next_rows()? {
        for row in 0..rows.len() {
            if events_max <= truth.len() as u64 {
                return Ok(truth);
            }
            let label = match rows.label(row)? {
                Known::Never => None,
                Known::WithEvent(label) | Known::At(label, _) => Some(label),
            };
            truth.push((rows.time(row)?, label));
        }
    }
    Ok(truth)
}

fn source(contract: &Arc<Contract>) -> Result<Source> {
    let layout = Layout::of(contract, None);
    Source::parquet(
        "flights.parquet",
        Bytes::from_static(FLIGHTS),
        contract.clone(),
        layout,
    )
}

struct Run<'a> {
    options: &'a Options,
    contract: Arc<Contract>,
    folder: Folder,
    truth: Arc<Truth>,
    acks: Arc<Acks>,
    note: Arc<Mutex<Option<String>>>,
}

/// What goes on from look to look.
struct Watch {
    view: View,
    pages: Vec<Page>,
    pages_at: Option<Instant>,
    looks: Vec<Look>,
    moved_at: Instant,
    started: Instant,
}

impl Run<'_> {
    fn to_the_end(&self, pipeline: Pipeline) -> Result<Outcome> {
        let mut watch = Watch {
            view: View::open(self.options.terminal),
            pages: vec![Page::default(); WORKERS.len()],
            pages_at: None,
            looks: Vec::new(),
            moved_at: Instant::now(),
            started: Instant::now(),
        };
        let watched = self.watched(&pipeline, &mut watch);
        watch.view.close();
        let usage = pipeline.usage();
        // Whatever went wrong, a worker that gave up is why.
        let stopped = pipeline.stop();
        let ended = Instant::now();
        let (played, observed) = match (watched, stopped) {
            (watched, Ok(())) => watched?,
            (_, Err(error)) => {
                return Err(error.context(format!("logs are in {}", self.folder.logs().display())));
            }
        };
        let landed = lake::count(&self.folder.lake())?;
        let mut last = watch.looks.last().copied().unwrap_or_default();
        last.seconds = (ended - watch.started).as_secs_f64();
        last.landed = landed.rows;
        watch.looks.push(last);
        let observed = look(&observed);
        let refused = |kind: &DirtKind| kind.is_refused(&self.contract);
        let trainer = &watch.pages[2];
        Ok(Outcome {
            raw: self.acks.raw_count(),
            labels: self.acks.label_count(),
            clean: observed.clean,
            dead: observed.dead.clone(),
            dirt_refused: DirtKind::ALL
                .iter()
                .filter(|kind| refused(kind))
                .map(|kind| played.dirt(*kind))
                .sum(),
            contradictions: observed.contradictions,
            unreadable: observed.unreadable,
            landed,
            learned: trainer.sum(names::MODEL_LABELS).unwrap_or(0.0) as u64,
            labelled_clean: observed.labelled_clean(&self.acks),
            scored: observed.scored,
            quality: Quality::of(&observed.judged(&self.truth), WINDOWS, BINS),
            trainer_log_loss: overall(trainer),
            drift: drift(&watch.pages),
            latency: observed.latency.clone(),
            elapsed: ended - watch.started,
            usage,
            looks: watch.looks,
            folder: self.folder.path().to_owned(),
            played,
        })
    }

    /// Plays, observes and shows until everything has come out.
    fn watched(
        &self,
        pipeline: &Pipeline,
        watch: &mut Watch,
    ) -> Result<(Played, Arc<Mutex<Observed>>)> {
        let partitions = self.options.partitions;
        let observer = Observer::connect(
            &pipeline.brokers,
            &self.contract,
            partitions,
            self.acks.clone(),
            self.truth.clone(),
        )?;
        let observed = observer.observed();
        let progress = Arc::new(Progress {
            stop: self.options.stop.clone(),
            ..Progress::default()
        });
        self.until_ready(pipeline, watch, &observed, &progress)?;
        let sender = self.sender(&pipeline.brokers)?;
        watch.started = Instant::now();
        let enough = AtomicBool::new(false);
        let played = std::thread::scope(|scope| {
            let observing = scope.spawn(|| observer.run(&enough));
            let playing = scope.spawn(|| {
                let mut source = source(&self.contract)?;
                produce::play(
                    &mut source,
                    &self.contract,
                    &sender,
                    &self.options.play,
                    &progress,
                )
            });
            let shown = self.until_played(pipeline, watch, &observed, &progress, || {
                playing.is_finished()
            });
            if shown.is_err() {
                progress.stop.store(true, Ordering::Relaxed);
            }
            let played = playing.join().map_err(|_| anyhow!("the producer died"))?;
            let shown =
                shown.and_then(|()| self.until_settled(pipeline, watch, &observed, &progress));
            enough.store(true, Ordering::Relaxed);
            let observing = observing.join().map_err(|_| anyhow!("the observer died"))?;
            shown?;
            observing?;
            played
        })?;
        Ok((played, observed))
    }

    fn sender(&self, brokers: &str) -> Result<Sender> {
        let send = SendOptions {
            brokers: brokers.to_owned(),
            batch: self.options.play.speed == Speed::Max,
            properties: Vec::new(),
        };
        let topics = Topics::of(&self.contract.stream.name);
        let acks = self.acks.clone();
        Sender::connect(
            &send,
            &topics.raw,
            &topics.labels,
            Box::new(move |ack| acks.take(ack)),
        )
    }

    fn until_ready(
        &self,
        pipeline: &Pipeline,
        watch: &mut Watch,
        observed: &Mutex<Observed>,
        progress: &Progress,
    ) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        while WORKERS
            .iter()
            .any(|worker| Page::fetch(&self.folder.address(worker)).is_none())
        {
            if deadline <= Instant::now() {
                bail!("the workers were not ready within {READY_DEADLINE:?}");
            }
            self.show("starting", pipeline, watch, observed, progress)?;
        }
        Ok(())
    }

    fn until_played(
        &self,
        pipeline: &Pipeline,
        watch: &mut Watch,
        observed: &Mutex<Observed>,
        progress: &Progress,
        is_played: impl Fn() -> bool,
    ) -> Result<()> {
        while !is_played() {
            self.show("playing", pipeline, watch, observed, progress)?;
        }
        Ok(())
    }

    /// Waits until everything that was sent has come out, or nothing moves any more.
    fn until_settled(
        &self,
        pipeline: &Pipeline,
        watch: &mut Watch,
        observed: &Mutex<Observed>,
        progress: &Progress,
    ) -> Result<()> {
        loop {
            self.read_pages(watch, true);
            self.show("settling", pipeline, watch, observed, progress)?;
            let last = watch.looks.last().copied().unwrap_or_default();
            let through =
                last.clean + last.dead == self.acks.raw_count() && last.scored == last.clean;
            if through && look(observed).labelled_clean(&self.acks) <= last.learned {
                return Ok(());
            }
            if STALLED_AFTER <= watch.moved_at.elapsed() {
                return Ok(());
            }
        }
    }

    /// Takes a look, shows it, and waits for the next.
    fn show(
        &self,
        phase: &'static str,
        pipeline: &Pipeline,
        watch: &mut Watch,
        observed: &Mutex<Observed>,
        progress: &Progress,
    ) -> Result<()> {
        if !pipeline.is_running() {
            bail!("a program ended that should not have");
        }
        self.read_pages(watch, false);
        let snapshot = self.snapshot(phase, pipeline, watch, observed, progress);
        if !watch.view.show(&snapshot)? {
            progress.stop.store(true, Ordering::Relaxed);
        }
        std::thread::sleep(LOOK_EVERY);
        Ok(())
    }

    fn read_pages(&self, watch: &mut Watch, now: bool) {
        if !now && watch.pages_at.is_some_and(|at| at.elapsed() < PAGES_EVERY) {
            return;
        }
        watch.pages_at = Some(Instant::now());
        for (page, worker) in watch.pages.iter_mut().zip(WORKERS) {
            if let Some(fresh) = Page::fetch(&self.folder.address(worker)) {
                *page = fresh;
            }
        }
    }

    fn snapshot(
        &self,
        phase: &'static str,
        pipeline: &Pipeline,
        watch: &mut Watch,
        observed: &Mutex<Observed>,
        progress: &Progress,
    ) -> Snapshot {
        let count = |page: &Page, signal| page.sum(signal).unwrap_or(0.0) as u64;
        let mut observed = look(observed);
        let lately = std::mem::take(&mut observed.latency_lately);
        let taken = Look {
            seconds: watch.started.elapsed().as_secs_f64(),
            raw: self.acks.raw_count(),
            clean: observed.clean,
            dead: observed.dead_total(),
            scored: observed.scored,
            learned: count(&watch.pages[2], names::MODEL_LABELS),
            landed: count(&watch.pages[1], names::SINK_ROWS),
            p50_ms: lately.quantile_ms(0.5),
            p99_ms: lately.quantile_ms(0.99),
        };
        let moved = |look: &Look| {
            (
                look.raw,
                look.clean,
                look.dead,
                look.scored,
                look.learned,
                look.landed,
            )
        };
        if phase == "starting" || watch.looks.last().map(moved) != Some(moved(&taken)) {
            watch.moved_at = Instant::now();
        }
        if phase != "starting" {
            watch.looks.push(taken);
        }
        let rate = |pair: &[Look]| {
            let seconds = (pair[1].seconds - pair[0].seconds).max(1e-6);
            (pair[1].scored.saturating_sub(pair[0].scored) as f64 / seconds) as u64
        };
        Snapshot {
            phase,
            rows: (
                progress.rows.load(Ordering::Relaxed),
                self.truth.len() as u64,
            ),
            look: taken,
            labels: self.acks.label_count(),
            stream_micros: match progress.stream_micros.load(Ordering::Relaxed) {
                0 => self.truth.first().map_or(0, |(micros, _)| *micros),
                micros => micros,
            },
            rates: watch.looks.windows(2).map(rate).collect(),
            latency_ms: observed
                .latency
                .quantile_ms(0.5)
                .zip(observed.latency.quantile_ms(0.99)),
            quality: observed.running.figures(),
            dead: observed
                .dead
                .iter()
                .map(|(reason, count)| (reason.name(), *count))
                .collect(),
            usage: pipeline.usage(),
            note: self
                .note
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// Returns the trainer's log loss over all labels so far.
fn overall(trainer: &Page) -> Option<f64> {
    trainer
        .with(names::QUALITY_LOG_LOSS, "window", "all")
        .or_else(|| trainer.sum(names::QUALITY_LOG_LOSS))
}

/// Gathers drift from the pages: whichever worker knows of a feature, the largest figure counts.
fn drift(pages: &[Page]) -> Vec<Drift> {
    let mut drift: Vec<Drift> = Vec::new();
    for page in pages {
        for (feature, psi) in page.by(names::DRIFT_PSI, "feature") {
            let floor = page
                .with(names::DRIFT_FLOOR, "feature", &feature)
                .unwrap_or(0.0);
            match drift.iter_mut().find(|one| one.feature == feature) {
                Some(known) if psi <= known.psi => {}
                Some(known) => {
                    *known = Drift {
                        feature,
                        psi,
                        floor,
                    }
                }
                None => drift.push(Drift {
                    feature,
                    psi,
                    floor,
                }),
            }
        }
    }
    drift.sort_by(|one, other| other.psi.total_cmp(&one.psi));
    drift
}
