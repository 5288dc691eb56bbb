//! What the sink promises, seen in a real Delta table: each row once, whatever crashes, repeats or overlaps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod flights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use deltalake_core::DeltaTable;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::reader::{FileReader, SerializedFileReader};
use schemas::{Columns, Offset, Partition, TopicId};
use sink::roll::Cause;
use sink::{Covers, Lander, Limits, Signals, SinkError, Source, lake};

const PER_DAY: i64 = 100;
const LIMITS: Limits = Limits {
    file_bytes_max: 1 << 30,
    record_age_max: Duration::from_secs(10),
    buffer_bytes_max: 1 << 30,
};

fn source(partition: i32) -> Source {
    Source {
        topic_id: TopicId([7; 16]),
        partition: Partition(partition),
    }
}

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

    fn log(&self) -> deltalake_core::logstore::LogStoreRef {
        lake::open(self.folder.path().to_str().unwrap(), "flights").unwrap()
    }

    async fn lander(&self) -> Lander {
        self.lander_with(LIMITS).await
    }

    async fn lander_with(&self, limits: Limits) -> Lander {
        let signals = Signals::new(&telemetry::Instruments::nowhere());
        Lander::open(self.log(), "flights", &self.columns, limits, signals)
            .await
            .unwrap()
    }

    /// Hands a batch over that covers `first` to `last` and has the even offsets of them as rows.
    async fn take(
        &self,
        lander: &mut Lander,
        partition: i32,
        first: i64,
        last: i64,
    ) -> Result<(), SinkError> {
        lander.own(source(partition)).await?;
        let offsets: Vec<i64> = (first..=last).filter(|offset| offset % 2 == 0).collect();
        let rows = flights::batch(&self.columns, &offsets, PER_DAY);
        let covers = Covers {
            first: Offset(first),
            last: Offset(last),
        };
        lander.take(source(partition), covers, rows, offsets.len() * 139)
    }

    async fn table(&self) -> DeltaTable {
        let mut table = DeltaTable::new(self.log());
        table.load().await.unwrap();
        table
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("flights")
    }

    async fn files(&self) -> Vec<PathBuf> {
        let table = self.table().await;
        table
            .get_file_uris()
            .unwrap()
            .map(|uri| PathBuf::from(uri.trim_start_matches("file://")))
            .collect()
    }

    /// Returns the source offsets in the table, by partition, sorted.
    async fn offsets(&self) -> BTreeMap<i32, Vec<i64>> {
        let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for file in self.files().await {
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap())
                    .unwrap();
            for batch in reader.build().unwrap() {
                let batch = batch.unwrap();
                let partitions =
                    batch["_source_partition"].as_primitive::<arrow_array::types::Int32Type>();
                let rows = batch["_source_offset"].as_primitive::<Int64Type>();
                for (partition, offset) in partitions.values().iter().zip(rows.values()) {
                    offsets.entry(*partition).or_default().push(*offset);
                }
            }
        }
        offsets
            .values_mut()
            .for_each(|offsets| offsets.sort_unstable());
        offsets
    }
}

fn evens(first: i64, last: i64) -> Vec<i64> {
    (first..=last).filter(|offset| offset % 2 == 0).collect()
}

fn parquet_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                parquet_files(&path)
            } else {
                usize::from(path.extension().is_some_and(|e| e == "parquet"))
            }
        })
        .sum()
}

#[tokio::test]
async fn rows_land_by_day_with_what_they_cover() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    assert_eq!(lander.own(source(0)).await.unwrap(), None);
    lake.take(&mut lander, 0, 0, 249).await.unwrap();
    lake.take(&mut lander, 3, 0, 99).await.unwrap();
    let landed = lander.land(Cause::Age).await.unwrap().unwrap();
    assert_eq!((landed.version, landed.rows, landed.files), (1, 175, 3));
    assert_eq!(lander.land(Cause::Age).await.unwrap(), None);

    assert_eq!(
        lake.offsets().await,
        BTreeMap::from([(0, evens(0, 249)), (3, evens(0, 99))])
    );
    let table = lake.table().await;
    let snapshot = table.snapshot().unwrap();
    for (partition, expected) in [(0, Some(249)), (3, Some(99)), (1, None)] {
        let version = snapshot
            .transaction_version(lake.log().as_ref(), source(partition).application())
            .await;
        assert_eq!(version.unwrap(), expected);
    }
    let days: Vec<_> = lake
        .files()
        .await
        .iter()
        .map(|file| file.parent().unwrap().file_name().unwrap().to_owned())
        .collect();
    for day in [
        "_event_date=2013-01-01",
        "_event_date=2013-01-02",
        "_event_date=2013-01-03",
    ] {
        assert!(days.iter().any(|found| found == day), "{days:?}");
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_the_table_ends() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.take(&mut lander, 0, 0, 99).await.unwrap();
    lander.land(Cause::Size).await.unwrap();
    lake.take(&mut lander, 0, 100, 149).await.unwrap();
    drop(lander); // Rows 100 to 149 were not committed.

    let mut lander = lake.lander().await;
    assert_eq!(lander.own(source(0)).await.unwrap(), Some(Offset(99)));
    lake.take(&mut lander, 0, 0, 49).await.unwrap();
    assert!(lander.is_empty());
    lake.take(&mut lander, 0, 50, 120).await.unwrap();
    lake.take(&mut lander, 0, 110, 199).await.unwrap();
    let landed = lander.land(Cause::Drain).await.unwrap().unwrap();
    assert_eq!(landed.rows, 50);
    assert_eq!(lake.offsets().await, BTreeMap::from([(0, evens(0, 199))]));
}

#[tokio::test]
async fn a_gap_stops_and_an_empty_batch_fills_it() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.take(&mut lander, 0, 0, 9).await.unwrap();
    let gap = lake.take(&mut lander, 0, 11, 20).await.unwrap_err();
    assert!(
        gap.to_string().starts_with("offsets 10 to 10 of 07070707"),
        "{gap}"
    );

    let nothing = flights::batch(&lake.columns, &[], PER_DAY);
    let covers = Covers {
        first: Offset(10),
        last: Offset(29),
    };
    lander.take(source(0), covers, nothing.clone(), 0).unwrap();
    lake.take(&mut lander, 0, 30, 39).await.unwrap();
    lander.land(Cause::Age).await.unwrap();
    let covers = Covers {
        first: Offset(40),
        last: Offset(59),
    };
    lander.take(source(0), covers, nothing, 0).unwrap();
    let landed = lander.land(Cause::Age).await.unwrap().unwrap();
    assert_eq!((landed.rows, landed.files), (0, 0));

    let mut next = lake.lander().await;
    assert_eq!(next.own(source(0)).await.unwrap(), Some(Offset(59)));
    assert_eq!(
        lake.offsets().await,
        BTreeMap::from([(0, [evens(0, 9), evens(30, 39)].concat())])
    );
}

#[tokio::test]
async fn rows_beyond_what_a_batch_covers_stop() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lander.own(source(0)).await.unwrap();
    for offsets in [vec![4, 6, 10], vec![4, 3], vec![4, 4], vec![2]] {
        let rows = flights::batch(&lake.columns, &offsets, PER_DAY);
        let covers = Covers {
            first: Offset(3),
            last: Offset(9),
        };
        let error = lander.take(source(0), covers, rows, 1).unwrap_err();
        assert!(
            matches!(error, SinkError::Rows { .. }),
            "{offsets:?}: {error}"
        );
    }
    assert!(lander.is_empty());
}

#[tokio::test]
async fn files_of_a_crash_before_the_commit_are_in_no_version() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.take(&mut lander, 0, 0, 99).await.unwrap();
    lander.land(Cause::Age).await.unwrap();
    lake.take(&mut lander, 0, 100, 299).await.unwrap();
    // The log takes no next version, so the process ends between files and commit.
    let next = lake.root().join("_delta_log/00000000000000000002.json");
    std::fs::create_dir(&next).unwrap();
    lander.land(Cause::Age).await.unwrap_err();
    std::fs::remove_dir(&next).unwrap();
    assert_eq!(parquet_files(&lake.root()), 3);
    assert_eq!(lake.files().await.len(), 1);

    let mut lander = lake.lander().await;
    assert_eq!(lander.own(source(0)).await.unwrap(), Some(Offset(99)));
    lake.take(&mut lander, 0, 100, 299).await.unwrap();
    lander.land(Cause::Age).await.unwrap();
    assert_eq!(lake.offsets().await, BTreeMap::from([(0, evens(0, 299))]));
}

#[tokio::test]
async fn instances_with_partitions_of_their_own_do_not_disturb_each_other() {
    let lake = Lake::new();
    let (mut one, mut two) = (lake.lander().await, lake.lander().await);
    for round in 0..10 {
        let (first, last) = (round * 20, round * 20 + 19);
        lake.take(&mut one, 0, first, last).await.unwrap();
        lake.take(&mut two, 1, first, last).await.unwrap();
        one.land(Cause::Age).await.unwrap();
        two.land(Cause::Age).await.unwrap();
    }
    assert_eq!(
        lake.offsets().await,
        BTreeMap::from([(0, evens(0, 199)), (1, evens(0, 199))])
    );
}

#[tokio::test]
async fn a_zombie_lands_nothing() {
    let lake = Lake::new();
    let mut zombie = lake.lander().await;
    lake.take(&mut zombie, 0, 0, 99).await.unwrap();
    lake.take(&mut zombie, 1, 0, 99).await.unwrap();
    zombie.land(Cause::Age).await.unwrap();

    let mut successor = lake.lander().await;
    assert_eq!(successor.own(source(0)).await.unwrap(), Some(Offset(99)));
    lake.take(&mut successor, 0, 100, 149).await.unwrap();
    successor.land(Cause::Age).await.unwrap();

    // Even a commit about another partition must not hide what the successor did.
    lake.take(&mut zombie, 1, 100, 149).await.unwrap();
    let error = zombie.land(Cause::Age).await.unwrap_err();
    assert!(
        matches!(
            error,
            SinkError::Overtaken {
                landed: 149,
                expected: Some(99),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        lake.offsets().await,
        BTreeMap::from([(0, evens(0, 149)), (1, evens(0, 99))])
    );

    // Nor may taking on another partition.
    let mut zombie = lake.lander().await;
    zombie.own(source(0)).await.unwrap();
    lake.take(&mut successor, 0, 150, 159).await.unwrap();
    successor.land(Cause::Age).await.unwrap();
    let error = zombie.own(source(2)).await.unwrap_err();
    assert!(
        matches!(error, SinkError::Overtaken { landed: 159, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn what_waits_is_bounded_by_size_and_by_age() {
    let lake = Lake::new();
    let mut lander = lake
        .lander_with(Limits {
            buffer_bytes_max: 10_000,
            ..LIMITS
        })
        .await;
    let start = Instant::now();
    assert_eq!(lander.land_if_due(start).await.unwrap(), None);
    lake.take(&mut lander, 0, 0, 99).await.unwrap();
    assert_eq!(lander.land_if_due(start).await.unwrap(), None);
    lake.take(&mut lander, 0, 100, 199).await.unwrap();
    assert_eq!(lander.land_if_due(start).await.unwrap().unwrap().rows, 100);

    lake.take(&mut lander, 0, 200, 209).await.unwrap();
    assert_eq!(lander.land_if_due(start).await.unwrap(), None);
    assert_eq!(
        lander
            .land_if_due(start + Duration::from_secs(9))
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        lander
            .land_if_due(start + Duration::from_secs(10))
            .await
            .unwrap()
            .unwrap()
            .rows,
        5
    );
}

#[tokio::test]
async fn sealed_cells_are_stored_as_they_are() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lander.own(source(0)).await.unwrap();
    let offsets: Vec<i64> = (0..1000).collect();
    let rows = flights::batch(&lake.columns, &offsets, 1000);
    lander
        .take(
            source(0),
            Covers {
                first: Offset(0),
                last: Offset(999),
            },
            rows,
            139_000,
        )
        .unwrap();
    lander.land(Cause::Age).await.unwrap();
    let file = std::fs::File::open(&lake.files().await[0]).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let group = reader.metadata().row_group(0);
    let chunk = |name: &str| {
        group
            .columns()
            .iter()
            .find(|chunk| chunk.column_path().string() == name)
            .unwrap()
    };
    let sealed = chunk("tail_number");
    assert_eq!(sealed.compression(), Compression::UNCOMPRESSED);
    assert!(sealed.dictionary_page_offset().is_none());
    assert!(sealed.statistics().is_none());
    assert!(sealed.bloom_filter_offset().is_none());
    assert!(chunk("carrier").dictionary_page_offset().is_some());
    assert!(chunk("id").dictionary_page_offset().is_none());
    assert!(matches!(chunk("id").compression(), Compression::ZSTD(_)));
    assert!(chunk("_event_time").statistics().is_some());
}

#[tokio::test]
async fn a_field_that_the_contract_gains_is_a_new_column() {
    let mut lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.take(&mut lander, 0, 0, 9).await.unwrap();
    lander.land(Cause::Age).await.unwrap();
    let text = include_str!("../../schemas/fixtures/contract.toml");
    let field = "[[fields]]\nid = 99\nname = \"gate\"\ntype = \"int64\"\n\n[[features]]";
    let text = text.replacen("[[features]]", field, 1);
    lake.columns = Columns::of(&schemas::Contract::parse("contract.toml", &text).unwrap());

    let mut next = lake.lander().await;
    lake.take(&mut next, 0, 10, 19).await.unwrap();
    next.land(Cause::Age).await.unwrap();
    let table = lake.table().await;
    assert!(table.snapshot().unwrap().schema().field("gate").is_some());
    assert_eq!(lake.offsets().await, BTreeMap::from([(0, evens(0, 19))]));

    // The old instance has files of the old schema open, and begins anew.
    lake.columns = flights::contract().1;
    lake.take(&mut lander, 0, 10, 19).await.unwrap();
    assert!(lander.land(Cause::Age).await.is_err());
}

#[tokio::test]
async fn the_log_gets_checkpoints() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    for version in 0..101 {
        lake.take(&mut lander, 0, version * 2, version * 2 + 1)
            .await
            .unwrap();
        lander.land(Cause::Age).await.unwrap();
    }
    assert!(lake.root().join("_delta_log/_last_checkpoint").exists());
    let mut next = lake.lander().await;
    assert_eq!(next.own(source(0)).await.unwrap(), Some(Offset(201)));
    assert_eq!(lake.offsets().await, BTreeMap::from([(0, evens(0, 201))]));
}
