//! Runs the demo from the first flight to the last sum.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use schemas::Contract;
use schemas::topics::Topics;

use super::acks::Acks;
use super::lake;
use super::live::View;
use super::observer::{Observed, Observer, Truth, look};
use super::outcome::Outcome;
use super::quality::Quality;
use super::watch::{Seen, Watch};
use crate::pipeline::{Folder, OnEvent, Pipeline, Plan};
use crate::produce::{
    self, DirtKind, Known, Layout, Played, Progress, SendOptions, Sender, Source,
};
use crate::supervise::Event;

/// The stream's contract.
const CONTRACT: &str = include_str!("../../streams/flights/stream.toml");
/// The flights.
static FLIGHTS: &[u8] = include_bytes!("../../streams/flights/flights.parquet");

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
                Known::WithEvent(label) | Known::At(label, _) => Some(label.is_yes()),
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

impl Run<'_> {
    fn to_the_end(&self, pipeline: Pipeline) -> Result<Outcome> {
        let watched = self.watched(&pipeline);
        let usage = pipeline.usage();
        // Whatever went wrong, a worker that gave up is why.
        pipeline
            .stop()
            .with_context(|| format!("logs are in {}", self.folder.logs().display()))?;
        let ended = Instant::now();
        let (played, observed, mut seen) = watched?;
        let landed = lake::count(&self.folder.lake())?;
        let elapsed = ended - seen.started;
        seen.end(elapsed, landed.rows);
        let observed = look(&observed);
        let refused = DirtKind::ALL
            .iter()
            .filter(|kind| kind.is_refused(&self.contract));
        Ok(Outcome {
            raw: self.acks.raw_count(),
            labels: self.acks.label_count(),
            clean: observed.clean,
            dead: observed.dead.clone(),
            dirt_refused: refused.map(|kind| played.dirt(*kind)).sum(),
            contradictions: observed.contradictions,
            unreadable: observed.unreadable,
            landed,
            learned: seen.learned(),
            labelled_clean: observed.labelled_clean(&self.acks),
            scored: observed.scored,
            quality: Quality::of(&observed.judged(&self.truth), WINDOWS, BINS),
            trainer_log_loss: seen.trainer_log_loss(),
            drift: seen.drift(),
            latency: observed.latency.clone(),
            elapsed,
            usage,
            looks: seen.looks,
            folder: self.folder.path().to_owned(),
            played,
        })
    }

    /// Plays, observes and shows until everything has come out.
    fn watched(&self, pipeline: &Pipeline) -> Result<(Played, Arc<Mutex<Observed>>, Seen)> {
        let (brokers, partitions) = (&pipeline.brokers, self.options.partitions);
        let observer = Observer::connect(
            brokers,
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
        let mut watch = Watch {
            pipeline,
            folder: &self.folder,
            truth: &self.truth,
            acks: &self.acks,
            observed: &observed,
            progress: &progress,
            note: &self.note,
            view: View::open(self.options.terminal),
            seen: Seen::new(),
        };
        let played = self.played(&mut watch, observer);
        let Watch { view, seen, .. } = watch;
        view.close();
        Ok((played?, observed, seen))
    }

    fn played(&self, watch: &mut Watch<'_>, observer: Observer) -> Result<Played> {
        watch.until_ready()?;
        let sender = self.sender(&watch.pipeline.brokers)?;
        watch.seen.started = Instant::now();
        let (enough, progress) = (AtomicBool::new(false), watch.progress);
        std::thread::scope(|scope| {
            let observing = scope.spawn(|| observer.run(&enough));
            let playing = scope.spawn(|| {
                let mut source = source(&self.contract)?;
                produce::play(
                    &mut source,
                    &self.contract,
                    &sender,
                    &self.options.play,
                    progress,
                )
            });
            let shown = watch.until_played(|| playing.is_finished());
            if shown.is_err() {
                progress.stop.store(true, Ordering::Relaxed);
            }
            let played = playing.join().map_err(|_| anyhow!("the producer died"))?;
            let shown = shown.and_then(|()| watch.until_settled());
            enough.store(true, Ordering::Relaxed);
            let observing = observing.join().map_err(|_| anyhow!("the observer died"))?;
            shown.and(observing).and(played)
        })
    }

    fn sender(&self, brokers: &str) -> Result<Sender> {
        let send = SendOptions {
            brokers: brokers.to_owned(),
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
}
