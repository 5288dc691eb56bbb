//! What `trainer` tells operators: one method per thing that happened.

use std::sync::OnceLock;

use learn::metrics::Board;
use opentelemetry::KeyValue;
use schemas::ModelVersion;
use telemetry::{Counter, Gauge, Histogram, Instruments, names};
use tracing::{info, warn};

use crate::fit::Fitter;
use crate::input::Unreadable;
use crate::join::Tally;
use crate::quality::{Quality, Slices};

/// Boundaries of the time from an event to its label: from a second to a month.
const WAIT_SECONDS: [f64; 12] = [
    1.0,
    10.0,
    60.0,
    600.0,
    3_600.0,
    7_200.0,
    14_400.0,
    28_800.0,
    86_400.0,
    172_800.0,
    604_800.0,
    2_592_000.0,
];

const MICROS: f64 = 1e6;

pub(crate) struct Signals {
    events: Counter<u64>,
    labels: Counter<u64>,
    learned: Counter<u64>,
    expired: Counter<u64>,
    checkpoints: Counter<u64>,
    wait: Histogram<f64>,
    pending: Gauge<f64>,
    maturity: Gauge<f64>,
    version: Gauge<f64>,
    model_labels: Gauge<f64>,
    collisions: Gauge<f64>,
    unseen: Gauge<f64>,
    quality: Quality,
    slices: Slices,
    /// Set once the log says that there is too little room.
    crowded: OnceLock<()>,
}

impl Signals {
    pub(crate) fn new(instruments: &Instruments) -> Signals {
        Signals {
            events: instruments.counter(names::TRAINER_EVENTS),
            labels: instruments.counter(names::TRAINER_LABELS),
            learned: instruments.counter(names::TRAINER_LEARNED),
            expired: instruments.counter(names::TRAINER_EXPIRED),
            checkpoints: instruments.counter(names::TRAINER_CHECKPOINTS),
            wait: instruments.histogram(names::TRAINER_WAIT, &WAIT_SECONDS),
            pending: instruments.gauge(names::TRAINER_PENDING),
            maturity: instruments.gauge(names::TRAINER_MATURITY),
            version: instruments.gauge(names::MODEL_VERSION),
            model_labels: instruments.gauge(names::MODEL_LABELS),
            collisions: instruments.gauge(names::MODEL_COLLISIONS),
            unseen: instruments.gauge(names::MODEL_UNSEEN),
            quality: Quality::new(instruments),
            slices: Slices::new(instruments),
            crowded: OnceLock::new(),
        }
    }

    /// Reports what was taken since the last call.
    pub(crate) fn taken(&self, fitter: &mut Fitter) {
        let (tally, waited) = fitter.take_tally();
        let Tally {
            events,
            joined,
            early,
            duplicate,
            revised,
            negative,
            late,
            crowded_out,
            unknown,
            learned,
        } = tally;
        self.events.add(events, &[]);
        self.learned.add(learned, &[]);
        let of = |counter: &Counter<u64>, key: &'static str, value: &'static str, count: u64| {
            if 0 < count {
                counter.add(count, &[KeyValue::new(key, value)]);
            }
        };
        of(&self.labels, "outcome", "joined", joined);
        of(&self.labels, "outcome", "early", early);
        of(&self.labels, "outcome", "duplicate", duplicate);
        of(&self.labels, "outcome", "revised", revised);
        of(&self.expired, "cause", "taken_for_no", negative);
        of(&self.expired, "cause", "late_label", late);
        of(&self.expired, "cause", "crowded_out", crowded_out);
        of(&self.expired, "cause", "unknown_event", unknown);
        if 0 < crowded_out + unknown {
            self.crowded.get_or_init(|| {
                warn!(
                    crowded_out,
                    unknown,
                    "events or labels had to leave before they met, for want of room; raise \
                     label.pending_max if labels take that long; from here on they are only counted"
                );
            });
        }
        for micros in waited {
            self.wait.record(micros as f64 / MICROS, &[]);
        }
        self.pending.record(fitter.waiting() as f64, &[]);
        for (age, share) in fitter.maturity() {
            self.maturity.record(share, &[KeyValue::new("age", age)]);
        }
    }

    pub(crate) fn unreadable(&self, from: &impl std::fmt::Display, labels: &[Unreadable]) {
        let Some(first) = labels.first() else {
            return;
        };
        let (count, offset, reason) = (labels.len() as u64, first.offset, first.reason);
        warn!(%from, %offset, %reason, count, "labels cannot be read; the first is at this offset");
        self.labels
            .add(count, &[KeyValue::new("outcome", "unreadable")]);
    }

    /// Reports a version that was published, or restored.
    pub(crate) fn version(&self, fitter: &Fitter) {
        let metrics = fitter.metrics();
        self.version.record(fitter.lineage().version.0 as f64, &[]);
        self.model_labels.record(fitter.labels() as f64, &[]);
        if let Ok(learner) = fitter.learner() {
            let fill = learner.fill();
            self.collisions.record(fill.collision_rate, &[]);
            self.unseen.record(fill.unseen_rate, &[]);
        }
        let windows = [
            ("all", metrics.all_time().summary()),
            ("recent", metrics.last_labels().summary()),
        ];
        for (window, summary) in windows {
            if let Some(summary) = summary {
                self.quality.probabilities(window, &summary);
            }
        }
    }

    /// Reports quality by window of stream time and by slice.
    pub(crate) fn board(&self, board: &Board) {
        for (place, figures) in board.figures() {
            match place.slice {
                None => self.quality.record(place.window, &figures),
                Some(of) => self.slices.record(of, place.window, &figures),
            }
        }
    }

    pub(crate) fn stored(&self, version: ModelVersion, bytes: usize, object: &str) {
        info!(%version, bytes, object, "stored a checkpoint");
        self.checkpoints.add(1, &[]);
    }
}
