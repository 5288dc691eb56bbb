//! Computes scores anew from what their receipts name: the clean event, the contract, the model's version.
//!
//! ```text
//! <s>.scores, or lines ──► receipts [at most so many at once]
//! <s>.clean ─────────────► rows of the events that they name
//! <s>.model ─────────────► versions, in order ──► score ──► compared bit for bit
//! ```
//!
//! It goes by the scorer's own code on the same bytes, reads only, and joins no group. What does not fit in one pass is
//! taken by the next: each pass reads the clean topic and the model topic once.

mod events;
mod receipt;
mod source;
mod verdict;
mod versions;

use std::collections::HashSet;
use std::io::BufRead;

use anyhow::Result;
use schemas::Contract;
use schemas::topics::Topics;
use scorer::score::Scorer;
use worker::{Broker, Store};

use self::events::Finder;
use self::receipt::Receipts;
use self::source::{Asked, Source};
use self::versions::Walk;

pub use self::receipt::Place;
pub use self::verdict::{Difference, Verdict, Why};

/// What to compute anew.
pub struct Options {
    /// Lines of scores; `None` is the topic of scores.
    pub lines: Option<Box<dyn BufRead>>,
    /// Ids of events; none is all.
    pub ids: Vec<String>,
    /// Receipts that are held in memory at once.
    pub receipts_max: usize,
    /// Where snapshots of the model are, for when the first updates are gone.
    pub store: Option<Store>,
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Receipts.
    Receipts,
    /// The events that they name.
    Events,
    /// The versions that they name.
    Scores,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// In what.
    pub phase: Phase,
    /// Messages read of the partition that is being read.
    pub done: u64,
    /// Messages that it has.
    pub total: u64,
}

impl Step {
    fn new(phase: Phase, (done, total): (u64, u64)) -> Step {
        Step { phase, done, total }
    }
}

/// Computes scores anew and compares.
///
/// # Errors
/// A broker that does not answer, or lines that cannot be read. What differs is no error.
pub async fn recompute<B: Broker>(
    broker: &B,
    contract: &Contract,
    options: Options,
    progress: &mut dyn FnMut(Step),
) -> Result<Verdict> {
    let topics = Topics::of(&contract.stream.name);
    let partitions = broker.topic(&topics.clean).await?.partitions;
    let mut source = match options.lines {
        Some(lines) => Source::lines(lines),
        None => {
            let partitions = broker.topic(&topics.scores).await?.partitions;
            Source::topic(&topics.scores, partitions)
        }
    };
    let mut asked = Asked {
        contract: contract.digest(),
        ids: options.ids.into_iter().collect(),
        found: HashSet::new(),
    };
    let finder = Finder::new(contract, &topics.clean, partitions);
    let mut scorer = Scorer::new(contract)?;
    let mut verdict = Verdict::default();
    let mut more = true;
    while more {
        let mut receipts = Receipts::default();
        let most = options.receipts_max;
        more = source
            .fill(
                broker,
                most,
                &mut asked,
                &mut receipts,
                &mut verdict,
                progress,
            )
            .await?;
        if receipts.list().is_empty() {
            continue;
        }
        let events = finder
            .find(broker, receipts.list(), &mut scorer, &mut verdict, progress)
            .await?;
        Walk::new(&receipts, &events, &scorer, &mut verdict)
            .run(
                broker,
                &topics.model,
                contract,
                options.store.as_ref(),
                progress,
            )
            .await?;
    }
    for id in asked.missing() {
        verdict.differs(Difference {
            place: Place::Nowhere,
            id: Some(id.clone()),
            why: Why::NoReceipt,
        });
    }
    Ok(verdict)
}
