//! The demo: a year of real flights through everything, on this machine.
//!
//! ```text
//! flights ──► produce ──► broker ──► ingest, sink, trainer, scorer (child processes)
//!               │ acks       │                      │ /metrics      │ lake
//!               └──► acks ──► observer ─────────────┴──► looks ──► live view, sums, report
//! ```
//!
//! Everything is observed from outside: what was acknowledged, what topics and the lake have, what the
//! workers' pages say. The demo believes no worker that it did its work.

mod acks;
mod histogram;
pub(crate) mod lake;
mod live;
mod metrics;
mod next;
mod observer;
mod outcome;
mod quality;
mod run;
mod watch;

pub use histogram::Histogram;
pub use lake::Landed;
pub use next::{Step, steps};
pub use outcome::{Drift, Look, Outcome, Sum};
pub use quality::{CalibrationBin, Judged, Quality, Window};
pub use run::{Options, run};
