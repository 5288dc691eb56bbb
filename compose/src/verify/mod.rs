//! Proves offline, from topics and lake alone, that nothing was lost or doubled. Writes nothing.
//!
//! ```text
//!  Delta's log ──► where topics end ──► for each partition, some at a time:
//!  (claims)        (scores, clean,        raw ─► dead ─► clean ─► settle ─► scores ─► settle ─┐
//!                   dead, raw)            (Account: bits, and 2 bytes of each event's id)     │
//!                                                                                             ▼
//!                     Report ◄── Ledger ◄── lake: rows against clean and claims ◄── model, checkpoints (Chain)
//! ```
//!
//! `accounts` decides, without I/O; `topics`, `lake`, `delta` and `files` read; `chain` follows the model. What follows
//! from something else is bounded first, so a stream that is live holds too, and what is still to come is pending.
//! `watch` audits again and again.

mod accounts;
mod bits;
mod chain;
mod delta;
mod files;
mod lake;
mod ledger;
mod messages;
mod report;
mod signals;
mod standing;
mod topics;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use schemas::Contract;

use self::accounts::Account;
use self::chain::Chain;
use self::files::{Files, is_missing};
use self::lake::Table;
use self::topics::Cluster;

pub use self::ledger::{Finding, Ledger, Promise, Tally};
pub use self::report::Report;
pub use self::watch::watch;

/// Partitions that are read at a time, at most: each holds some bytes for each of its events.
const READERS_MAX: usize = 8;

/// How the file of a checkpoint ends.
const CHECKPOINT_SUFFIX: &str = ".safetensors";

/// What to verify.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The stream's contract.
    pub contract: Arc<Contract>,
    /// Kafka's bootstrap servers.
    pub brokers: String,
    /// Properties of librdkafka.
    pub kafka: Vec<(String, String)>,
    /// Folder or URL of the lake; none leaves it out.
    pub lake: Option<String>,
    /// Folder or URL of checkpoints; none leaves them out.
    pub checkpoints: Option<String>,
    /// Whether what is still to come breaks a promise.
    pub complete: bool,
}

/// How far an audit is, in messages and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There are so many.
    Total(u64),
    /// So many more were read.
    Done(u64),
}

/// Gets told how far an audit is, from several threads.
#[derive(Clone, Copy)]
pub struct Progress<'a>(pub &'a (dyn Fn(Step) + Sync));

impl Progress<'_> {
    fn done(self, count: u64) {
        (self.0)(Step::Done(count));
    }
}

/// Reads topics and lake, and says which promises hold.
///
/// # Errors
/// Topics, a lake or checkpoints that cannot be read; what can be read and is wrong is in the report.
pub fn verify(plan: &Plan, progress: Progress<'_>) -> Result<Report> {
    let stream = &plan.contract.stream.name;
    let lake = plan.lake.as_deref().map(Files::open).transpose()?;
    let table = lake.map(|lake| Table::open(&lake, stream)).transpose()?;
    let checkpoints = plan.checkpoints.as_deref().map(Files::open).transpose()?;
    // Listed before the model is read: those that are stored from now on may be of versions that are not.
    let checkpoints = checkpoints.map(|files| checkpoints_of(files.below(stream)));
    let checkpoints = checkpoints.transpose()?;
    let cluster = Cluster::open(plan)?;
    let rows = table.as_ref().map_or(0, Table::rows);
    (progress.0)(Step::Total(cluster.messages() + rows));
    let (accounts, chain) = std::thread::scope(|scope| {
        let chain = scope.spawn(|| cluster.chain(progress));
        let accounts = read_partitions(&cluster, progress);
        (accounts, chain.join())
    });
    let mut accounts = accounts?;
    let mut chain = chain.map_err(|_| anyhow!("a reader has ended"))??;
    let mut ledger = Ledger::default();
    let mut looked_at = vec![
        Promise::Conservation,
        Promise::Coverage,
        Promise::Scores,
        Promise::Model,
    ];
    if let Some((files, names)) = checkpoints {
        read_checkpoints(&files, &names, &mut chain)?;
        looked_at.push(Promise::Checkpoints);
    }
    if let Some(table) = table {
        ledger.merge(table.tell(cluster.raw_id, &mut accounts, progress)?);
        accounts.values_mut().for_each(Account::settle_lake);
        looked_at.extend([Promise::Lake, Promise::Commits]);
    }
    ledger.merge(chain.close());
    for account in accounts.into_values() {
        ledger.merge(account.close());
    }
    Ok(Report {
        stream: stream.clone(),
        looked_at,
        through: cluster.through(),
        ledger,
    })
}

/// Reads all partitions, some at a time.
fn read_partitions(cluster: &Cluster, progress: Progress<'_>) -> Result<BTreeMap<i32, Account>> {
    let next = AtomicUsize::new(0);
    let read = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        while let Some(ends) = cluster.partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
            let account = cluster.account(ends, progress)?;
            let mut read = read.lock().map_err(|_| anyhow!("a reader has ended"))?;
            read.insert(ends.partition(), account);
        }
        Ok(())
    };
    // Half of them wait for Kafka.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let readers = (2 * cores)
        .clamp(1, READERS_MAX)
        .min(cluster.partitions.len().max(1));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(work)).collect();
        readers.into_iter().try_for_each(|reader| {
            let ended = reader.join();
            ended.unwrap_or_else(|_| Err(anyhow!("a reader has ended")))
        })
    })?;
    read.into_inner().map_err(|_| anyhow!("a reader has ended"))
}

/// Lists the checkpoints of a stream; a trainer that has stored none has made no folder yet.
fn checkpoints_of(files: Files) -> Result<(Files, Vec<String>)> {
    let mut names = files.names()?;
    names.retain(|name| name.ends_with(CHECKPOINT_SUFFIX));
    Ok((files, names))
}

fn read_checkpoints(files: &Files, names: &[String], chain: &mut Chain) -> Result<()> {
    for name in names {
        match files.read(name) {
            Ok(bytes) => chain.checkpoint(&format!("{files}/{name}"), &bytes),
            // The trainer keeps the newest few: an old one may have gone meanwhile.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
