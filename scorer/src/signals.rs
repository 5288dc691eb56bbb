//! What `scorer` tells operators: one method per thing that happened.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use learn::drift::{Drift, Subject};
use opentelemetry::KeyValue;
use telemetry::{Counter, Gauge, Histogram, Instruments, names};

/// Boundaries of the latency, in seconds.
const LATENCY_SECONDS: [f64; 12] = [
    0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 10.0, 60.0,
];

pub(crate) struct Signals {
    scores: Counter<u64>,
    decisions: Counter<u64>,
    updates: Counter<u64>,
    latency: Histogram<f64>,
    version: Gauge<f64>,
    age: Gauge<f64>,
    drift: Arc<Mutex<Vec<(KeyValue, Drift)>>>,
    windows: u64,
}

impl Signals {
    pub(crate) fn new(instruments: &Instruments) -> Signals {
        let drift: Arc<Mutex<Vec<(KeyValue, Drift)>>> = Arc::default();
        observe(instruments, names::DRIFT_PSI, &drift, |drift| drift.psi.psi);
        observe(instruments, names::DRIFT_FLOOR, &drift, |drift| {
            drift.psi.floor
        });
        observe(instruments, names::DRIFT_MISSING, &drift, |drift| {
            drift.missing[1]
        });
        Signals {
            scores: instruments.counter(names::SCORER_SCORES),
            decisions: instruments.counter(names::SCORER_DECISIONS),
            updates: instruments.counter(names::SCORER_UPDATES),
            latency: instruments.histogram(names::SCORER_LATENCY, &LATENCY_SECONDS),
            version: instruments.gauge(names::MODEL_VERSION),
            age: instruments.gauge(names::MODEL_AGE),
            drift,
            windows: 0,
        }
    }

    /// `oldest_micros` is when Kafka took the oldest raw record of the batch.
    pub(crate) fn scored(
        &self,
        scores: usize,
        decisions: usize,
        oldest_micros: i64,
        now: SystemTime,
    ) {
        self.scores.add(scores as u64, &[]);
        self.decisions.add(decisions as u64, &[]);
        let now = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as i64;
        self.latency
            .record((now - oldest_micros).max(0) as f64 / 1e6, &[]);
    }

    pub(crate) fn model(&self, version: u64, age: Duration, updates: u64) {
        self.version.record(version as f64, &[]);
        self.age.record(age.as_secs_f64(), &[]);
        self.updates.add(updates, &[]);
    }

    pub(crate) fn drifted<'a>(
        &mut self,
        windows: u64,
        last: &[Drift],
        name: impl Fn(usize) -> &'a str,
    ) {
        if windows == self.windows {
            return;
        }
        self.windows = windows;
        let label = |subject| match subject {
            Subject::Slot(slot) => name(slot).to_owned(),
            Subject::Score => "score".to_owned(),
        };
        let labelled = last
            .iter()
            .map(|drift| (KeyValue::new("feature", label(drift.subject)), *drift));
        if let Ok(mut drift) = self.drift.lock() {
            *drift = labelled.collect();
        }
    }
}

fn observe(
    instruments: &Instruments,
    signal: names::Signal,
    drift: &Arc<Mutex<Vec<(KeyValue, Drift)>>>,
    read: impl Fn(&Drift) -> f64 + Send + Sync + 'static,
) {
    let drift = drift.clone();
    instruments.observe_many(signal, move |emit| {
        let Ok(drift) = drift.lock() else { return };
        for (label, drift) in drift.iter() {
            emit(read(drift), std::slice::from_ref(label));
        }
    });
}
