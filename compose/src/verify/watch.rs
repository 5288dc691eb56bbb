//! The continuous audit: one audit after the other until the process is told to stop; what they find goes to
//! telemetry. It holds nothing between two audits but what stands against each promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use worker::{Context, Fault, Next};

use super::signals::Signals;
use super::standing::Standing;
use super::{Plan, Progress, Report, Step, verify};

/// How often the process says that it is alive.
const BEAT: Duration = Duration::from_secs(1);

/// Why a continuous audit ends with a failure.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("{0} findings stand against what was promised")]
    Broken(u64),
}

impl Fault for WatchError {
    fn next(&self) -> Next {
        Next::Restart
    }
}

/// Audits again and again; `every` is the rest between two audits.
///
/// # Errors
/// If a promise was found broken meanwhile.
pub async fn watch(plan: Plan, every: Duration, context: &Context) -> Result<(), Box<dyn Fault>> {
    let signals = Signals::new(&context.telemetry.instruments("audit"));
    let mut standing = Standing::default();
    loop {
        let began = Instant::now();
        let audited = tokio::select! {
            () = context.shutdown.cancelled() => break,
            audited = audit(plan.clone(), context) => audited,
        };
        match audited {
            Ok(report) => {
                standing.take(&report);
                signals.audited(&report, &standing, began.elapsed());
                context.health.ready(true);
            }
            Err(error) => signals.failed(&error),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            () = rest(every, context) => {}
        }
    }
    match standing.total() {
        0 => Ok(()),
        broken => Err(Box::new(WatchError::Broken(broken))),
    }
}

/// Makes one audit on a thread of its own; the process is alive while it moves.
async fn audit(plan: Plan, context: &Context) -> Result<Report> {
    let moved = Arc::new(AtomicU64::new(0));
    let count = moved.clone();
    let mut work = tokio::task::spawn_blocking(move || {
        let count = |step| {
            if let Step::Done(done) = step {
                count.fetch_add(done, Ordering::Relaxed);
            }
        };
        verify(&plan, Progress(&count))
    });
    let mut before = None;
    loop {
        tokio::select! {
            done = &mut work => {
                context.health.beat();
                return done.map_err(|_| anyhow!("the audit has panicked"))?;
            }
            () = tokio::time::sleep(BEAT) => {}
        }
        let now = Some(moved.load(Ordering::Relaxed));
        if now != before {
            context.health.beat();
            before = now;
        }
    }
}

/// Waits, and says meanwhile that the process is alive.
async fn rest(every: Duration, context: &Context) {
    let until = Instant::now() + every;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        context.health.beat();
        tokio::time::sleep(left.min(BEAT)).await;
    }
}
