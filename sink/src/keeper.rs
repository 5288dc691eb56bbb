//! Keeps the lake: small files of a day become one, and files of no version any more are deleted.
//!
//! ```text
//! plan:    the table's files ─► packs of small ones (pack.rs, pure)
//! compact: a pack's files, one by one ─► Rewriter (≤ 64 MB) ─► one file ─► one commit: it in, the small ones out
//! vacuum:  files of no version, after `lake.vacuum_after` ─► deleted, by deltalake-core; unfinished ones with them
//! ```
//!
//! A commit of the keeper changes no row and claims no offset. Any instance may keep any day: who finds that somebody
//! else has changed the same files meanwhile gives up, and looks again later. A crash before the commit leaves a file
//! that no version knows, which a vacuum takes away.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use deltalake_core::DeltaTable;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, LogicalFileView, Remove};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::protocol::DeltaOperation;
use object_store::ObjectStoreExt;
use schemas::contract::Lake;
use schemas::{Columns, system};
use serde_json::Value;
use uuid::Uuid;
use worker::Context;

use crate::day;
use crate::error::SinkError;
use crate::lake;
use crate::lander::{now_millis, store};
use crate::pack::{Kept, Limits, Pack, plan};
use crate::rewrite::Rewriter;
use crate::signals::Signals;
use crate::table::{checkpoint_if_due, commit_next, failed, file_schema};

/// What is put together is held in memory until it is stored: this much at most.
pub const PACK_BYTES_MAX: u64 = 64 << 20;

/// After a pack, the keeper rests so many times as long as it took: landing has the processor before it.
const REST: u32 = 4;

/// Vacuums list the whole table, so there is one an hour at most.
const VACUUM_INTERVAL: Duration = Duration::from_secs(3600);

/// What a commit put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The table's version.
    pub version: u64,
    /// The day.
    pub day: String,
    /// How many files became one.
    pub files: usize,
    /// Their rows.
    pub rows: usize,
    /// Their bytes.
    pub bytes_before: u64,
    /// The new file's bytes.
    pub bytes: u64,
}

/// Keeps the table of one stream.
pub struct Keeper {
    log: LogStoreRef,
    table: DeltaTable,
    columns: Columns,
    limits: Limits,
    signals: Signals,
}

/// Returns which files a worker puts together in the background, by the contract.
pub fn limits(lake: &Lake) -> Limits {
    Limits {
        small_file_bytes: lake.small_file_bytes,
        compact_after: lake.compact_after,
        alike: true,
        pack_bytes_max: PACK_BYTES_MAX,
    }
}

impl Keeper {
    /// Makes the keeper of a table, which must be there once it keeps.
    pub fn new(log: LogStoreRef, columns: &Columns, limits: Limits, signals: Signals) -> Keeper {
        Keeper {
            table: DeltaTable::new(log.clone()),
            log,
            columns: columns.clone(),
            limits,
            signals,
        }
    }

    /// Decides what to put together in the table as it is now.
    ///
    /// # Errors
    /// [`SinkError::Table`] if its log cannot be read.
    pub async fn plan(&mut self) -> Result<Vec<Pack>, SinkError> {
        self.refresh().await?;
        let files = self.files(|file| kept(&file))?;
        let is_small = |file: &&Kept| file.bytes < self.limits.small_file_bytes;
        self.signals.small(files.iter().filter(is_small).count());
        Ok(plan(files, &self.limits))
    }

    /// Puts the files of a pack together and says after each how many bytes it had; `None` if somebody else has
    /// changed one of them meanwhile.
    ///
    /// # Errors
    /// [`SinkError`]; the table is as it was then.
    pub async fn compact(
        &mut self,
        pack: &Pack,
        on: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Option<Compacted>, SinkError> {
        let began = Instant::now();
        let done = match self.put_together(pack, on).await {
            Err(SinkError::Outrun { .. }) => None,
            done => done?,
        };
        match &done {
            None => self.signals.outrun(&pack.day),
            Some(compacted) => {
                self.signals.compacted(compacted, began.elapsed());
                if let Err(error) = checkpoint_if_due(&self.log, compacted.version).await {
                    self.signals.no_checkpoint(&error);
                }
            }
        }
        Ok(done)
    }

    /// Deletes files that have belonged to no version for so long, and returns their names; with `dry_run`, it
    /// deletes nothing.
    ///
    /// # Errors
    /// [`SinkError::Table`], [`SinkError::Sweep`]; what is deleted then belongs to no version either.
    pub async fn vacuum(
        &mut self,
        after: Duration,
        dry_run: bool,
    ) -> Result<Vec<String>, SinkError> {
        self.refresh().await?;
        let unfinished = worker::sweep(self.log.root_url(), after, dry_run).await;
        let unfinished = unfinished.map_err(|source| SinkError::Sweep { source })?;
        let after = chrono::Duration::milliseconds(after.as_millis() as i64);
        // What crashed before its commit is in no log, so the table's folder is looked through.
        let vacuum = self.table.clone().vacuum().with_mode(VacuumMode::Full);
        let vacuum = vacuum
            .with_retention_period(after)
            .with_enforce_retention_duration(false)
            .with_dry_run(dry_run);
        let done = vacuum.await;
        let (_, metrics) = done.map_err(|source| failed(&self.log, "vacuum", source))?;
        let mut gone = metrics.files_deleted;
        gone.extend(unfinished);
        if !dry_run {
            self.signals.vacuumed(gone.len());
        }
        Ok(gone)
    }

    async fn put_together(
        &mut self,
        pack: &Pack,
        on: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Option<Compacted>, SinkError> {
        self.refresh().await?;
        let names: HashSet<&str> = pack.files.iter().map(|file| file.path.as_str()).collect();
        let there = self.files(|file| names.contains(&*file.path()).then_some(()))?;
        let (Some(version), true) = (self.table.version(), there.len() == names.len()) else {
            return Ok(None);
        };
        let mut rewriter = self.rewriter(pack)?;
        let objects = self.log.object_store(None);
        for file in &pack.files {
            let bytes = match objects.get(&file.path.as_str().into()).await {
                Ok(found) => found.bytes().await,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => Err(error),
            };
            let bytes = bytes.map_err(|source| SinkError::Fetch {
                file: file.path.clone(),
                source,
            })?;
            let rows = rewriter.take(&file.path, bytes)?;
            if let Some(claimed) = file.rows.filter(|claimed| *claimed != rows) {
                let reason = format!("it has {rows} rows, its commit claims {claimed}");
                let file = file.path.clone();
                return Err(SinkError::Rewrite { file, reason });
            }
            on(file.bytes);
        }
        let file = rewriter.finish()?;
        let (rows, bytes) = (file.rows, file.bytes.len() as u64);
        // Files that landed later must stay behind it when they are put together in their turn.
        let newest = pack.files.iter().map(|file| file.modified).max();
        let added = store(&objects, &pack.day, file, newest.unwrap_or_default()).await?;
        let version = self.commit(version, pack, &names, added).await?;
        Ok(Some(Compacted {
            version,
            day: pack.day.clone(),
            files: pack.files.len(),
            rows,
            bytes_before: pack.bytes(),
            bytes,
        }))
    }

    fn rewriter(&self, pack: &Pack) -> Result<Rewriter, SinkError> {
        let state = self.table.snapshot();
        let state = state.map_err(|source| failed(&self.log, "read", source))?;
        let schema = file_schema(&state.schema()).ok_or_else(|| SinkError::Rewrite {
            file: pack.files[0].path.clone(),
            reason: "the table has a column of no type of ours".to_owned(),
        })?;
        let rows = pack.files.iter().filter_map(|file| file.rows).sum();
        Ok(Rewriter::new(&schema, &self.columns, rows))
    }

    /// Commits the new file instead of the pack's, unless a version after this one has changed one of them.
    async fn commit(
        &self,
        version: u64,
        pack: &Pack,
        names: &HashSet<&str>,
        added: Add,
    ) -> Result<u64, SinkError> {
        let now = now_millis();
        let removed = pack.files.iter().map(|file| removed(file, now));
        let added = Add {
            data_change: false,
            ..added
        };
        let actions = removed.chain([Action::Add(added)]).collect();
        let operation = DeltaOperation::Optimize {
            predicate: None,
            target_size: self.limits.pack_bytes_max as i64,
        };
        let engine = HashMap::from([("engine".to_owned(), Value::from("thalweg-sink"))]);
        let bytes = CommitData::new(actions, operation, engine, Vec::new())
            .get_bytes()
            .map_err(|source| SinkError::Commit {
                version: version + 1,
                source: Box::new(source),
            })?;
        commit_next(&self.log, version, bytes, |version, action| {
            match changed(action) {
                Some(path) if names.contains(path.as_str()) => Err(SinkError::Outrun { version }),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn refresh(&mut self) -> Result<(), SinkError> {
        let read = self.table.update_state().await;
        read.map_err(|source| failed(&self.log, "read", source))
    }

    /// Returns what `of` makes of the table's files.
    fn files<T>(&self, of: impl Fn(LogicalFileView) -> Option<T>) -> Result<Vec<T>, SinkError> {
        let state = self.table.snapshot();
        let state = state.map_err(|source| failed(&self.log, "read", source))?;
        Ok(state.log_data().iter().filter_map(of).collect())
    }
}

/// Keeps a stream's table on a thread of its own until the process is told to stop.
///
/// # Errors
/// The system's, if there can be no thread.
pub fn in_background(context: &Context, lake: &str, every: Duration) -> std::io::Result<()> {
    let (context, lake) = (context.clone(), lake.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new().name("keeper".to_owned());
    thread.spawn(move || {
        runtime.block_on(async {
            let signals = Signals::new(&context.telemetry.instruments("sink"));
            tokio::select! {
                () = context.shutdown.cancelled() => {}
                () = keep(&context, &lake, every, signals) => {}
            }
        });
        // A request that is still open holds nothing up.
        runtime.shutdown_background();
    })?;
    Ok(())
}

async fn keep(context: &Context, lake: &str, every: Duration, signals: Signals) {
    let contract = &context.contract;
    let log = match lake::open(lake, &contract.stream.name) {
        Ok(log) => log,
        Err(error) => return signals.not_kept(&error),
    };
    let columns = Columns::of(contract);
    let mut keeper = Keeper::new(log, &columns, limits(&contract.lake), signals);
    let mut vacuumed: Option<Instant> = None;
    loop {
        tokio::time::sleep(every).await;
        keeper.round().await;
        if vacuumed.is_none_or(|at| VACUUM_INTERVAL <= at.elapsed()) {
            vacuumed = Some(Instant::now());
            if let Err(error) = keeper.vacuum(contract.lake.vacuum_after, false).await {
                keeper.signals.not_kept(&error);
            }
        }
    }
}

impl Keeper {
    /// Puts together what should be now, with a rest after each pack.
    async fn round(&mut self) {
        let mut packs = match self.plan().await {
            Ok(packs) => packs,
            Err(error) => return self.signals.not_kept(&error),
        };
        if packs.is_empty() {
            return;
        }
        // Each instance begins somewhere else, so that they seldom meet.
        let from = Uuid::new_v4().as_u128() % packs.len() as u128;
        packs.rotate_left(from as usize);
        for pack in packs {
            let began = Instant::now();
            if let Err(error) = self.compact(&pack, &mut |_| {}).await {
                self.signals.not_kept(&error);
            }
            tokio::time::sleep(began.elapsed() * REST).await;
        }
    }
}

/// Returns what a plan needs of a file; `None` if it is to be left alone: it is not where the sink puts files, or
/// rows of it were deleted.
fn kept(file: &LogicalFileView) -> Option<Kept> {
    let path = file.path().into_owned();
    let day = file.partition_values_map().remove(day::COLUMN)??;
    let name = path.strip_prefix(&format!("{}={day}/", day::COLUMN))?;
    // Such names stand in every log as they are, whoever writes it.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) || file.deletion_vector_descriptor().is_some() {
        return None;
    }
    Some(Kept {
        bytes: u64::try_from(file.size()).ok()?,
        rows: file.num_records().map(|rows| rows as u64),
        modified: file.modification_time(),
        first_offset: first_offset(file).unwrap_or_default(),
        path,
        day,
    })
}

fn first_offset(file: &LogicalFileView) -> Option<i64> {
    let stats: Value = serde_json::from_str(&file.stats()?).ok()?;
    stats["minValues"][system::SOURCE_OFFSET].as_i64()
}

fn removed(file: &Kept, now: i64) -> Action {
    Action::Remove(Remove {
        path: file.path.clone(),
        data_change: false,
        deletion_timestamp: Some(now),
        extended_file_metadata: Some(true),
        partition_values: Some(HashMap::from([(
            day::COLUMN.to_owned(),
            Some(file.day.clone()),
        )])),
        size: Some(file.bytes as i64),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
    })
}

/// Returns the file that an action adds or removes.
fn changed(action: &Value) -> Option<String> {
    match serde_json::from_value(action.clone()).ok()? {
        Action::Add(add) => Some(add.path),
        Action::Remove(remove) => Some(remove.path),
        _ => None,
    }
}
