//! What the continuous audit tells operators: one method for each thing that happens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use telemetry::{Counter, Gauge, Instruments, names};
use tracing::{error, info, warn};

use super::report::Report;
use super::standing::Standing;

/// The instruments of the continuous audit.
pub(super) struct Signals {
    audits: Counter<u64>,
    broken: Gauge<f64>,
    looked_at: Gauge<f64>,
    pending: Gauge<f64>,
    through: Gauge<f64>,
    /// When the last audit came to its end.
    ended: Arc<Mutex<Option<Instant>>>,
}

impl Signals {
    /// Makes the instruments.
    pub(super) fn new(instruments: &Instruments) -> Signals {
        let ended = Arc::new(Mutex::new(None::<Instant>));
        let last = ended.clone();
        instruments.observe(names::AUDIT_AGE, move || {
            let last = last.lock().unwrap_or_else(PoisonError::into_inner);
            last.map(|ended| ended.elapsed().as_secs_f64())
        });
        Signals {
            audits: instruments.counter(names::AUDIT_AUDITS),
            broken: instruments.gauge(names::AUDIT_BROKEN),
            looked_at: instruments.gauge(names::AUDIT_LOOKED_AT),
            pending: instruments.gauge(names::AUDIT_PENDING),
            through: instruments.gauge(names::AUDIT_THROUGH),
            ended,
        }
    }

    /// An audit has come to its end.
    pub(super) fn audited(&self, report: &Report, standing: &Standing, took: Duration) {
        let broken = standing.total();
        match report.holds() {
            true => info!(broken, took_ms = took.as_millis() as u64, "audited"),
            false => error!(
                broken,
                report = %report.findings(),
                "promises are broken"
            ),
        }
        for promise in &report.looked_at {
            let name = [KeyValue::new("promise", promise.name())];
            let tally = report.ledger.tally(*promise);
            self.broken.record(standing.broken(*promise) as f64, &name);
            self.looked_at.record(tally.looked_at as f64, &name);
            self.pending.record(tally.pending as f64, &name);
        }
        for (partition, end) in &report.through {
            let partition = [KeyValue::new("partition", i64::from(*partition))];
            self.through.record(*end as f64, &partition);
        }
        self.audits.add(1, &[KeyValue::new("outcome", "done")]);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// An audit could not be made; the next one may be.
    pub(super) fn failed(&self, error: &anyhow::Error) {
        warn!(error = format!("{error:#}"), "could not audit");
        self.audits.add(1, &[KeyValue::new("outcome", "failed")]);
    }
}
