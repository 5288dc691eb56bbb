//! What the keeper promises, seen in a real Delta table: the same rows in fewer files, whatever crashes or overlaps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod flights;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use deltalake_core::DeltaTable;
use deltalake_core::logstore::LogStoreRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::{Columns, Offset, Partition, TopicId};
use sink::keeper::PACK_BYTES_MAX;
use sink::pack::{Limits, Pack};
use sink::roll::Cause;
use sink::{Covers, Keeper, Lander, Signals, Source, lake};
use tokio_util::sync::CancellationToken;

/// Rows of one day; a test lands some days of them.
const PER_DAY: i64 = 100;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const LIMITS: Limits = Limits {
    small_file_bytes: 1 << 20,
    compact_after: 4,
    alike: true,
    pack_bytes_max: PACK_BYTES_MAX,
};

struct Lake {
    folder: tempfile::TempDir,
    columns: Columns,
}

impl Lake {
    fn new() -> Lake {
        Lake {
            folder: tempfile::tempdir().unwrap(),
            columns: flights::contract().1,
        }
    }

    fn log(&self) -> LogStoreRef {
        lake::open(self.folder.path().to_str().unwrap(), "flights").unwrap()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("flights")
    }

    async fn lander(&self) -> Lander {
        let limits = sink::Limits {
            file_bytes_max: 1 << 30,
            record_age_max: Duration::from_secs(10),
            buffer_bytes_max: 1 << 30,
        };
        let signals = Signals::new(&telemetry::Instruments::nowhere());
        Lander::open(self.log(), "flights", &self.columns, limits, signals)
            .await
            .unwrap()
    }

    fn keeper(&self) -> Keeper {
        self.keeper_with(LIMITS)
    }

    fn keeper_with(&self, limits: Limits) -> Keeper {
        let signals = Signals::new(&telemetry::Instruments::nowhere());
        Keeper::new(self.log(), &self.columns, limits, signals)
    }

    /// Lands `count` commits of `each` rows, from an offset on.
    async fn land(&self, lander: &mut Lander, partition: i32, from: i64, count: i64, each: i64) {
        let source = Source {
            topic_id: TopicId([7; 16]),
            partition: Partition(partition),
        };
        lander.own(source).await.unwrap();
        for at in 0..count {
            let offsets: Vec<i64> = (from + at * each..from + (at + 1) * each).collect();
            let rows = flights::batch(&self.columns, &offsets, PER_DAY);
            let covers = Covers {
                first: Offset(offsets[0]),
                last: Offset(from + (at + 1) * each - 1),
            };
            lander
                .take(source, covers, rows, offsets.len() * 139)
                .unwrap();
            lander.land(Cause::Age).await.unwrap().unwrap();
        }
    }

    async fn files(&self) -> BTreeSet<PathBuf> {
        let mut table = DeltaTable::new(self.log());
        table.load().await.unwrap();
        let files = table.get_file_uris().unwrap();
        files
            .map(|uri| PathBuf::from(uri.trim_start_matches("file://")))
            .collect()
    }

    /// Returns every row of the table, by partition and offset.
    async fn rows(&self) -> RecordBatch {
        let batches: Vec<RecordBatch> = self.files().await.iter().flat_map(read).collect();
        let all = concat_batches(&batches[0].schema(), &batches).unwrap();
        let partitions = all["_source_partition"].as_primitive::<Int32Type>();
        let offsets = all["_source_offset"].as_primitive::<Int64Type>();
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.sort_unstable_by_key(|row| {
            (
                partitions.value(*row as usize),
                offsets.value(*row as usize),
            )
        });
        take_record_batch(&all, &UInt32Array::from(order)).unwrap()
    }

    /// Returns the files of data that are on the disk, whoever knows them.
    fn on_disk(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for day in std::fs::read_dir(self.root()).unwrap() {
            let day = day.unwrap().path();
            if day.ends_with("_delta_log") {
                continue;
            }
            let files = std::fs::read_dir(day).unwrap();
            found.extend(files.map(|file| file.unwrap().path()));
        }
        found
    }

    /// Makes everything on the disk and in the log older.
    fn age(&self, by: Duration) {
        let then = SystemTime::now() - by;
        for file in self.on_disk() {
            let file = std::fs::File::options().append(true).open(file).unwrap();
            file.set_modified(then).unwrap();
        }
        let then = then
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        for commit in std::fs::read_dir(self.root().join("_delta_log")).unwrap() {
            let commit = commit.unwrap().path();
            if commit.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&commit).unwrap();
            let lines = text.lines().map(|line| {
                let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
                if let Some(when) = action["remove"].get_mut("deletionTimestamp") {
                    *when = (then as i64).into();
                }
                action.to_string() + "\n"
            });
            std::fs::write(&commit, lines.collect::<String>()).unwrap();
        }
    }
}

#[allow(clippy::ptr_arg, reason = "it is handed to an iterator of paths")]
fn read(file: &PathBuf) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap());
    let reader = reader.unwrap().build().unwrap();
    // Whether a column may have nulls at all is no matter of its rows.
    let nullable = |batch: RecordBatch| {
        let fields = batch.schema_ref().fields().iter();
        let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        RecordBatch::try_new(schema.into(), batch.columns().to_vec()).unwrap()
    };
    reader.map(|batch| nullable(batch.unwrap())).collect()
}

async fn compact(keeper: &mut Keeper) -> Vec<usize> {
    let mut files = Vec::new();
    for pack in keeper.plan().await.unwrap() {
        let compacted = keeper.compact(&pack, &mut |_| {}).await.unwrap();
        files.push(compacted.unwrap().files);
    }
    files
}

#[tokio::test]
async fn small_files_become_one_with_the_same_rows() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    // Ten commits of one day, then three of the next.
    lake.land(&mut lander, 0, 0, 10, 10).await;
    lake.land(&mut lander, 0, 100, 3, 10).await;
    let (before, files) = (lake.rows().await, lake.files().await);
    assert_eq!((before.num_rows(), files.len()), (130, 13));

    assert_eq!(compact(&mut lake.keeper()).await, [10]);
    assert_eq!(lake.rows().await, before);
    let after = lake.files().await;
    assert_eq!(after.len(), 4);
    let new: Vec<_> = after.difference(&files).collect();
    let offsets: Vec<i64> = read(new[0])
        .iter()
        .flat_map(|batch| {
            let offsets = batch["_source_offset"].as_primitive::<Int64Type>();
            offsets.values().to_vec()
        })
        .collect();
    assert_eq!(offsets, (0..100).collect::<Vec<_>>());
    // What was there before is still there for whoever reads the version before.
    assert!(files.is_subset(&lake.on_disk()));
    assert_eq!(compact(&mut lake.keeper()).await, Vec::<usize>::new());
}

#[tokio::test]
async fn offsets_that_are_claimed_stay_claimed() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 5, 10).await;
    assert_eq!(compact(&mut lake.keeper()).await, [5]);
    // The lander goes on as if nothing had been, and so does a new one.
    lake.land(&mut lander, 0, 50, 2, 10).await;
    let mut next = lake.lander().await;
    let source = Source {
        topic_id: TopicId([7; 16]),
        partition: Partition(0),
    };
    assert_eq!(next.own(source).await.unwrap(), Some(Offset(69)));
    assert_eq!(lake.rows().await.num_rows(), 70);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_land_meanwhile_are_kept_and_do_not_disturb() {
    let lake = Lake::new();
    let (mut lander, mut keeper) = (lake.lander().await, lake.keeper());
    lake.land(&mut lander, 0, 0, 6, 10).await;
    let packs = keeper.plan().await.unwrap();
    // A commit between plan and compaction, and one in the midst of it.
    lake.land(&mut lander, 0, 60, 1, 10).await;
    let runtime = tokio::runtime::Handle::current();
    let mut landed = 0;
    let compacted = tokio::task::block_in_place(|| {
        runtime.block_on(keeper.compact(&packs[0], &mut |_| {
            if landed == 0 {
                std::thread::scope(|scope| {
                    let during = scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build()
                            .unwrap();
                        runtime.block_on(async {
                            let mut lander = lake.lander().await;
                            lake.land(&mut lander, 1, 0, 2, 10).await;
                        });
                    });
                    during.join().unwrap();
                });
            }
            landed += 1;
        }))
    });
    let compacted = compacted.unwrap().unwrap();
    assert_eq!((compacted.files, landed), (6, 6));
    // Versions 1 to 6, 7 and then two of the other instance.
    assert_eq!(compacted.version, 10);
    assert_eq!(lake.rows().await.num_rows(), 90);
    lake.land(&mut lander, 0, 70, 1, 10).await;
    assert_eq!(lake.rows().await.num_rows(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_put_the_same_together_one_gives_up() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 6, 10).await;
    let before = lake.rows().await;
    let (mut one, mut two) = (lake.keeper(), lake.keeper());
    let (mine, its): (Vec<Pack>, _) = (one.plan().await.unwrap(), two.plan().await.unwrap());
    assert_eq!(mine, its);
    // The other is through before this one commits.
    let runtime = tokio::runtime::Handle::current();
    let mut other = None;
    let done = tokio::task::block_in_place(|| {
        runtime.block_on(one.compact(&mine[0], &mut |_| {
            if other.is_none() {
                other = Some(std::thread::scope(|scope| {
                    let other = scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build()
                            .unwrap();
                        runtime.block_on(two.compact(&its[0], &mut |_| {})).unwrap()
                    });
                    other.join().unwrap()
                }));
            }
        }))
    });
    assert_eq!(done.unwrap(), None);
    assert_eq!(other.unwrap().unwrap().files, 6);
    assert_eq!(lake.files().await.len(), 1);
    assert_eq!(lake.rows().await, before);
    // Who comes later finds the files gone already.
    assert_eq!(one.compact(&mine[0], &mut |_| {}).await.unwrap(), None);
    assert_eq!(lake.rows().await, before);
}

#[tokio::test]
async fn a_crash_before_the_commit_changes_nothing_and_leaves_what_a_vacuum_takes() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 6, 10).await;
    let (before, files) = (lake.rows().await, lake.files().await);
    let mut keeper = lake.keeper();
    let packs = keeper.plan().await.unwrap();
    // The log takes no next version, so it ends between file and commit.
    let next = lake.root().join("_delta_log/00000000000000000007.json");
    std::fs::create_dir(&next).unwrap();
    keeper.compact(&packs[0], &mut |_| {}).await.unwrap_err();
    std::fs::remove_dir(&next).unwrap();
    assert_eq!(lake.files().await, files);
    assert_eq!(lake.rows().await, before);
    let orphan: Vec<PathBuf> = lake.on_disk().difference(&files).cloned().collect();
    assert_eq!(orphan.len(), 1);

    // Not yet, for it could be about to be committed; later it goes, and nothing else.
    let mut keeper = lake.keeper();
    assert_eq!(
        keeper.vacuum(WEEK, false).await.unwrap(),
        Vec::<String>::new()
    );
    lake.age(WEEK * 2);
    let gone = keeper.vacuum(WEEK, true).await.unwrap();
    assert!(orphan[0].ends_with(&gone[0]) && gone.len() == 1, "{gone:?}");
    assert!(orphan[0].exists());
    assert_eq!(keeper.vacuum(WEEK, false).await.unwrap(), gone);
    assert_eq!(lake.on_disk(), files);
    assert_eq!(compact(&mut lake.keeper()).await, [6]);
    assert_eq!(lake.rows().await, before);
}

#[tokio::test]
async fn what_a_killed_put_has_left_goes_with_a_vacuum() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 1, 10).await;
    let (before, mut files) = (lake.rows().await, lake.files().await);
    let landed = files.first().unwrap();
    let half = |number: u32| PathBuf::from(format!("{}#{number}", landed.display()));
    std::fs::copy(landed, half(1)).unwrap();
    lake.age(WEEK * 2);
    std::fs::copy(landed, half(2)).unwrap();
    let mut keeper = lake.keeper();
    let gone = keeper.vacuum(WEEK, true).await.unwrap();
    assert!(half(1).ends_with(&gone[0]) && gone.len() == 1, "{gone:?}");
    assert_eq!(keeper.vacuum(WEEK, false).await.unwrap(), gone);
    files.insert(half(2));
    assert_eq!(lake.on_disk(), files, "another sink may be writing it");
    assert_eq!(lake.rows().await, before);
}

#[tokio::test]
async fn a_vacuum_keeps_what_the_version_needs_and_what_is_not_old_enough() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 6, 10).await;
    let old = lake.files().await;
    assert_eq!(compact(&mut lake.keeper()).await, [6]);
    lake.age(WEEK * 2);
    lake.land(&mut lander, 0, 60, 4, 10).await;
    let (young, before) = (lake.files().await, lake.rows().await);
    // One file that is expired by now, and four that were put together just now with it.
    let all = Limits {
        alike: false,
        ..LIMITS
    };
    assert_eq!(compact(&mut lake.keeper_with(all)).await, [5]);
    let gone = lake.keeper().vacuum(WEEK, false).await.unwrap();
    let gone: BTreeSet<PathBuf> = gone.iter().map(|name| lake.root().join(name)).collect();
    assert_eq!(gone, old);
    assert!(young.is_subset(&lake.on_disk()));
    assert_eq!(lake.rows().await, before);
    // The vacuum's own commits do not disturb the lander.
    lake.land(&mut lander, 0, 100, 1, 10).await;
    assert_eq!(lake.rows().await.num_rows(), 110);
}

#[tokio::test]
async fn files_from_before_a_field_was_gained_are_put_together_with_later_ones() {
    let mut lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 2, 10).await;
    let text = include_str!("../../schemas/fixtures/contract.toml");
    let field = "[[fields]]\nid = 99\nname = \"gate\"\ntype = \"int64\"\n\n[[features]]";
    let text = text.replacen("[[features]]", field, 1);
    let old = std::mem::replace(
        &mut lake.columns,
        Columns::of(&schemas::Contract::parse("contract.toml", &text).unwrap()),
    );
    let mut next = lake.lander().await;
    lake.land(&mut next, 0, 20, 2, 10).await;
    // A keeper of the old contract keeps the new column too.
    lake.columns = old;
    assert_eq!(compact(&mut lake.keeper()).await, [4]);
    let rows = lake.rows().await;
    let gate = rows["gate"].as_primitive::<Int64Type>();
    assert_eq!((rows.num_rows(), gate.null_count()), (40, 20));
}

#[tokio::test]
async fn the_log_gets_checkpoints_from_the_keeper_too() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 99, 1).await;
    let before = lake.rows().await;
    assert_eq!(compact(&mut lake.keeper()).await, [99]);
    assert!(lake.root().join("_delta_log/_last_checkpoint").exists());
    assert_eq!(lake.rows().await, before);
    lake.land(&mut lander, 0, 99, 1, 1).await;
    assert_eq!(lake.files().await.len(), 2);
}

#[tokio::test]
async fn a_worker_keeps_its_lake_in_the_background() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.land(&mut lander, 0, 0, 6, 10).await;
    let before = lake.rows().await;
    let text = include_str!("../../schemas/fixtures/contract.toml");
    let text = text.replacen("[lake]\n", "[lake]\ncompact_after = 3\n", 1);
    let contract = schemas::Contract::parse("contract.toml", &text).unwrap();
    let telemetry = telemetry::Telemetry::start(&telemetry::Config {
        service: "thalweg-sink",
        stream: "flights".to_owned(),
        otlp: None,
    });
    let context = worker::Context {
        digest: contract.digest(),
        contract: Arc::new(contract),
        // The keeper asks Kafka nothing.
        kafka: worker::Kafka::connect("127.0.0.1:1", &[]).unwrap(),
        telemetry: Arc::new(telemetry.unwrap()),
        health: worker::Health::default(),
        shutdown: CancellationToken::new(),
    };
    let folder = lake.folder.path().to_str().unwrap();
    sink::keeper::in_background(&context, folder, Duration::from_millis(10)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while lake.files().await.len() != 1 {
        assert!(Instant::now() < deadline, "nobody keeps the lake");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It goes on while rows land.
    lake.land(&mut lander, 0, 60, 3, 10).await;
    while lake.files().await.len() != 2 {
        assert!(Instant::now() < deadline, "nobody keeps the lake any more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    context.shutdown.cancel();
    let rows = lake.rows().await;
    assert_eq!(rows.slice(0, 60), before);
    assert_eq!(rows.num_rows(), 90);
    let page = context.telemetry.prometheus_text().unwrap();
    assert!(
        page.contains("thalweg_sink_files_compacted_total"),
        "{page}"
    );
}
