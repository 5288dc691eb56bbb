//! What bounds the sink: files per flush when events are late, the wait of a partition that is idle, and what happens
//! while the object store fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod flights;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{RecordBatch, TimestampMicrosecondArray};
use schemas::{Columns, Offset, Partition, TopicId, system};
use sink::roll::Cause;
use sink::{Covers, Lander, Limits, Signals, Source, lake};

const DAYS: i64 = 90;
const DAY_MICROS: i64 = 86_400_000_000;
/// 2013-01-01T00:00:00Z.
const FIRST_DAY_MICROS: i64 = 15_706 * DAY_MICROS;

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

    async fn lander(&self) -> Lander {
        let log = lake::open(self.folder.path().to_str().unwrap(), "flights").unwrap();
        let signals = Signals::new(&telemetry::Instruments::nowhere());
        Lander::open(log, "flights", &self.columns, LIMITS, signals)
            .await
            .unwrap()
    }

    /// Hands rows over, one for each of some offsets from `first` on, each of the day that `day` says.
    async fn take(
        &self,
        lander: &mut Lander,
        partition: i32,
        first: i64,
        count: i64,
        day: impl Fn(i64) -> i64,
    ) {
        lander.own(source(partition)).await.unwrap();
        let offsets: Vec<i64> = (first..first + count).collect();
        let rows = flights::batch(&self.columns, &offsets, 1000);
        let times = offsets
            .iter()
            .map(|offset| FIRST_DAY_MICROS + day(*offset) * DAY_MICROS + offset);
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("+00:00");
        let (schema, mut columns, _) = rows.into_parts();
        columns[schema.index_of(system::EVENT_TIME).unwrap()] = Arc::new(times);
        let rows = RecordBatch::try_new(schema, columns).unwrap();
        let covers = Covers {
            first: Offset(first),
            last: Offset(first + count - 1),
        };
        let bytes = offsets.len() * 139;
        lander.take(source(partition), covers, rows, bytes).unwrap();
    }

    /// Counts the files of each day.
    fn files(&self) -> BTreeMap<String, usize> {
        let mut files = BTreeMap::new();
        for day in std::fs::read_dir(self.root()).unwrap() {
            let day = day.unwrap();
            let name = day.file_name().into_string().unwrap();
            if name.starts_with("_event_date=") {
                files.insert(name, std::fs::read_dir(day.path()).unwrap().count());
            }
        }
        files
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("flights")
    }
}

/// Scatters offsets over the days: any two that follow each other are of days far apart.
fn scattered(offset: i64) -> i64 {
    (offset.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).rem_euclid(DAYS)
}

#[tokio::test]
async fn late_events_of_ninety_days_make_one_file_for_each_day_and_flush() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    for flush in 1..=3_i64 {
        for batch in 0..10 {
            let first = ((flush - 1) * 10 + batch) * 100;
            for partition in [0, 1] {
                lake.take(&mut lander, partition, first, 100, scattered)
                    .await;
            }
        }
        let landed = lander.land(Cause::Age).await.unwrap().unwrap();
        assert_eq!((landed.rows, landed.files), (2000, DAYS as usize));
        let files = lake.files();
        assert_eq!(files.len(), DAYS as usize);
        assert!(
            files.values().all(|files| *files == flush as usize),
            "{files:?}"
        );
    }
}

#[tokio::test]
async fn a_partition_that_falls_idle_lands_at_its_age_whatever_the_others_do() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    let start = Instant::now();
    lake.take(&mut lander, 1, 0, 7, |_| 0).await;
    assert_eq!(lander.land_if_due(start).await.unwrap(), None);
    for second in 1..=9 {
        lake.take(&mut lander, 0, (second - 1) * 10, 10, |_| 1)
            .await;
        let now = start + Duration::from_secs(second as u64);
        assert_eq!(lander.land_if_due(now).await.unwrap(), None);
    }
    let now = start + LIMITS.record_age_max;
    let landed = lander.land_if_due(now).await.unwrap().unwrap();
    assert_eq!((landed.rows, landed.files), (97, 2));
    let mut next = lake.lander().await;
    assert_eq!(next.own(source(1)).await.unwrap(), Some(Offset(6)));
}

#[tokio::test]
async fn a_store_that_fails_is_waited_for_and_everything_lands_once() {
    let lake = Lake::new();
    let mut lander = lake.lander().await;
    lake.take(&mut lander, 0, 0, 100, |_| 0).await;
    // Where the day's folder should be, there is a file.
    let day = lake.root().join("_event_date=2013-01-01");
    std::fs::write(&day, "").unwrap();
    {
        // While this waits, the stage takes no batch: so the poll waits, and nothing grows.
        let mut landing = std::pin::pin!(lander.land(Cause::Age));
        let waits = tokio::time::timeout(Duration::from_millis(300), &mut landing).await;
        assert!(waits.is_err(), "it neither lands nor gives up: {waits:?}");
        std::fs::remove_file(&day).unwrap();
        let landed = landing.await.unwrap().unwrap();
        assert_eq!((landed.rows, landed.files), (100, 1));
    }
    lake.take(&mut lander, 0, 100, 50, |_| 0).await;
    let landed = lander.land(Cause::Age).await.unwrap().unwrap();
    assert_eq!(landed.rows, 50);
    let mut next = lake.lander().await;
    assert_eq!(next.own(source(0)).await.unwrap(), Some(Offset(149)));
}
