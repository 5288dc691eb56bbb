//! What retention and compaction promise: what goes, what stays, and that a crash at any moment harms nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::batch::tests::{batch, batch_of};
use super::tests::{append, bytes};
use super::*;

const NOBODY: (i64, i16, i32) = (-1, -1, -1);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn compacting(segment_bytes: u64) -> Upkeep {
    Upkeep {
        compaction: Some(Compaction {
            tombstones_ms: DAY_MS,
            lag_min_ms: 0,
            lag_max_ms: i64::MAX,
            dirty_ratio: 0.0,
        }),
        ..Upkeep::keeping_all(segment_bytes)
    }
}

/// Runs one round, as a partition does; says whether there was anything to do.
fn compact(log: &mut Log, now_ms: i64) -> bool {
    let Some(job) = log.compaction_due(now_ms) else {
        return false;
    };
    let stop = AtomicBool::new(false);
    let keys = job.learn(&stop).unwrap();
    log.begin_compaction(&keys).unwrap();
    job.rewrite(&keys, &stop, |rewritten| log.replace(rewritten))
        .unwrap();
    log.end_compaction(&keys, now_ms).unwrap();
    true
}

/// A record that was read: offset, key and value.
type Read = (i64, Option<String>, Option<String>);

/// Reads a log as a consumer does, from its start to its end.
fn contents(log: &Log) -> Vec<Read> {
    let (mut offset, mut found) = (log.start_offset(), Vec::new());
    while let Some(slice) = log.read(offset, 1_000, u64::MAX).unwrap() {
        let raw = bytes(&slice);
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).unwrap();
            let batch = &rest[..header.bytes as usize];
            assert!(batch::checksum_holds(&header, batch));
            let plain = records::plain(&header, batch).unwrap();
            for record in records::parse(&header, &plain).unwrap() {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let value = record.raw[record.raw.len() - 2..record.raw.len() - 1].to_vec();
                let value = (!record.is_tombstone).then(|| text(&value));
                found.push((record.offset, record.key.map(text), value));
            }
            rest = &rest[header.bytes as usize..];
            offset = header.next_offset();
        }
    }
    assert_eq!(offset, log.end_offset(), "whoever reads arrives at the end");
    found.retain(|(offset, ..)| log.start_offset() <= *offset);
    found
}

/// The last value of each key.
fn last(contents: &[Read]) -> BTreeMap<String, (i64, Option<String>)> {
    let keyed = contents
        .iter()
        .filter_map(|(offset, key, value)| Some((key.clone()?, (*offset, value.clone()))));
    keyed.collect()
}

/// Appends batches of keys that come again and again, in every codec.
fn fill(log: &mut Log, batches: usize) {
    for n in 0..batches {
        let keys = [
            format!("k{}", n % 7),
            format!("k{}", n % 3),
            format!("once{n}"),
        ];
        let value = (n % 10).to_string();
        let records: Vec<_> = keys
            .iter()
            .map(|key| (Some(key.as_str()), Some(value.as_str())))
            .collect();
        append(log, &batch_of((n % 5) as u8, n as i64, &records)).unwrap();
    }
}

fn logs(folder: &Path) -> Vec<i64> {
    segment_bases(folder).unwrap()
}

#[test]
fn of_each_key_the_last_stays_at_its_offset() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), compacting(800)).unwrap();
    fill(&mut log, 100);
    let before = contents(&log);
    assert!(compact(&mut log, 0));
    let after = contents(&log);
    assert_eq!(last(&after), last(&before));
    assert!(after.iter().all(|read| before.contains(read)));
    let clean_to = log.growing.extent().base;
    let repeated = after.iter().filter(|(offset, key, _)| {
        *offset < clean_to && key.as_ref().is_some_and(|key| key.starts_with('k'))
    });
    assert!(
        repeated.count() <= 7 + 3,
        "each key once below the growing segment"
    );
    assert_eq!(log.start_offset(), 0);
    for clean in [false, true] {
        if clean {
            log.close().unwrap();
        }
        log = Log::open(folder.path(), compacting(800)).unwrap();
        assert_eq!(contents(&log), after);
    }
    assert!(!compact(&mut log, 0), "nothing is dirty");
    fill(&mut log, 50);
    assert!(compact(&mut log, 0));
    let fresh = contents(&log);
    assert!(fresh.len() < after.len() + 150);
}

#[test]
fn tombstones_stay_for_their_time_and_then_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), compacting(100)).unwrap();
    let put = |log: &mut Log, key: &str, value: Option<&str>| {
        append(log, &batch_of(0, 0, &[(Some(key), value)])).unwrap()
    };
    put(&mut log, "a", Some("1"));
    put(&mut log, "b", Some("1"));
    put(&mut log, "a", None);
    put(&mut log, "c", Some("1"));
    put(&mut log, "c", Some("2"));
    assert!(compact(&mut log, 0));
    let of = |log: &Log, key: &str| {
        let found = contents(log).into_iter();
        found
            .filter(|(_, found, _)| found.as_deref() == Some(key))
            .map(|(offset, _, value)| (offset, value))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&log, "a"), [(2, None)]);
    assert_eq!(of(&log, "b"), [(1, Some("1".to_owned()))]);
    put(&mut log, "d", Some("1"));
    put(&mut log, "d", Some("2"));
    assert!(compact(&mut log, DAY_MS - 1));
    assert_eq!(of(&log, "a"), [(2, None)], "not yet");
    put(&mut log, "d", Some("3"));
    put(&mut log, "d", Some("4"));
    let mut log = Log::open(folder.path(), compacting(100)).unwrap();
    assert!(compact(&mut log, DAY_MS));
    assert_eq!(of(&log, "a"), []);
    assert_eq!(of(&log, "b"), [(1, Some("1".to_owned()))]);
    assert_eq!(
        log.read(0, 1, u64::MAX)
            .unwrap()
            .map(|slice| slice.position),
        Some(0)
    );
}

#[test]
fn a_crash_at_any_step_of_a_compaction_loses_nothing() {
    // Each step leaves a folder behind, as `kill -9` would; a copy of it must open and hold the last of each key.
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), compacting(800)).unwrap();
    fill(&mut log, 60);
    let expected = last(&contents(&log));
    let opens = |what: &str| {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let mut log = Log::open(copy.path(), compacting(800)).unwrap();
        assert_eq!(last(&contents(&log)), expected, "{what}");
        compact(&mut log, 0);
        assert_eq!(last(&contents(&log)), expected, "{what}, compacted again");
        append(&mut log, &batch(1, 0, NOBODY)).unwrap();
    };
    let stop = AtomicBool::new(false);
    let job = log.compaction_due(0).unwrap();
    let keys = job.learn(&stop).unwrap();
    opens("learnt");
    log.begin_compaction(&keys).unwrap();
    opens("begun");
    let mut replaced = 0;
    job.rewrite(&keys, &stop, |rewritten| {
        opens("rewritten");
        // Between the two renames.
        let base = logs(folder.path())[replaced.min(1)];
        let [log_path, index_path] = segment::clean_paths(folder.path(), base);
        if log_path.exists() && index_path.exists() && 0 < log_path.metadata()?.len() {
            let place = log_path.with_extension("log");
            let spare = log_path.with_extension("spare");
            std::fs::copy(&place, &spare)?;
            std::fs::copy(&log_path, &place)?;
            std::fs::remove_file(&log_path)?;
            opens("half in place");
            std::fs::rename(&place, &log_path)?;
            std::fs::rename(&spare, &place)?;
        }
        log.replace(rewritten)?;
        replaced += 1;
        opens("replaced");
        Ok(())
    })
    .unwrap();
    assert!(3 < replaced);
    log.end_compaction(&keys, 0).unwrap();
    opens("ended");
    // Even without any index.
    for base in logs(folder.path()) {
        let _ = std::fs::remove_file(folder.path().join(format!("{base:020}.index")));
    }
    opens("without indexes");
}

#[test]
fn a_round_that_is_stopped_or_outlives_its_log_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let files = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().flatten();
        let files = entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()));
        files.collect::<BTreeMap<_, _>>()
    };
    let mut log = Log::open(folder.path(), compacting(800)).unwrap();
    fill(&mut log, 60);
    let (go, stop) = (AtomicBool::new(false), AtomicBool::new(true));
    let before = files();
    let job = log.compaction_due(0).unwrap();
    assert!(job.learn(&stop).is_err());
    let keys = job.learn(&go).unwrap();
    let stopped = job.rewrite(&keys, &stop, |_| panic!("nothing is done"));
    assert!(stopped.is_err());
    assert_eq!(files(), before);
    log.abandon();
    assert!(log.begin_compaction(&keys).is_err());
    job.rewrite(&keys, &go, |rewritten| log.replace(rewritten))
        .unwrap();
    assert!(log.end_compaction(&keys, 0).is_err());
    assert!(log.compaction_due(0).is_none());
    assert!(log.expire(i64::MAX).unwrap().is_none());
    assert_eq!(log.delete_before(5), Err(ResponseError::KafkaStorageError));
    assert_eq!(files(), before);
}

#[test]
fn records_that_are_missing_for_another_reason_are_still_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(500)).unwrap();
    fill(&mut log, 30);
    drop(log);
    let bases = logs(folder.path());
    let middle = folder.path().join(format!("{:020}.log", bases[2]));
    std::fs::remove_file(middle).unwrap();
    let error = Log::open(folder.path(), Upkeep::keeping_all(500)).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
}

#[test]
fn idempotent_producers_are_remembered_across_a_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), compacting(100)).unwrap();
    for n in 0..10 {
        append(&mut log, &batch(1, n, (7, 0, n as i32))).unwrap(); // no keys: compaction takes them
    }
    append(&mut log, &batch_of(0, 0, &[(Some("a"), Some("1"))])).unwrap();
    append(&mut log, &batch_of(0, 0, &[(Some("a"), Some("2"))])).unwrap();
    assert!(compact(&mut log, 0));
    assert!(contents(&log).len() <= 3);
    let mut log = Log::open(folder.path(), compacting(100)).unwrap();
    assert_eq!(append(&mut log, &batch(1, 0, (7, 0, 9))), Ok(9), "a repeat");
    assert_eq!(
        append(&mut log, &batch(1, 0, (7, 0, 11))),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
    assert_eq!(append(&mut log, &batch(1, 0, (7, 0, 10))), Ok(12));
}

#[test]
fn old_segments_go_by_age_and_the_log_begins_later() {
    let folder = tempfile::tempdir().unwrap();
    let upkeep = Upkeep {
        retention_ms: Some(1_000),
        ..Upkeep::keeping_all(500)
    };
    let mut log = Log::open(folder.path(), upkeep.clone()).unwrap();
    for n in 0..40 {
        append(&mut log, &batch(3, n * 100, NOBODY)).unwrap();
    }
    log.expire(2_000).unwrap();
    let start = log.start_offset();
    assert!(0 < start && start <= 30, "{start}");
    assert_eq!(logs(folder.path())[0], start);
    assert_eq!(
        log.read(start - 1, 1, 1).unwrap_err(),
        ResponseError::OffsetOutOfRange
    );
    assert_eq!(
        log.first_since(0).unwrap().map(|moment| moment.offset),
        Some(start)
    );
    // All of it is too old: the growing segment goes too, and offsets go on.
    log.expire(1_000_000).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (120, 120));
    assert_eq!(logs(folder.path()), [120]);
    assert_eq!(log.first_since(0).unwrap(), None);
    let mut log = Log::open(folder.path(), upkeep).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (120, 120));
    assert_eq!(append(&mut log, &batch(1, 0, NOBODY)), Ok(120));
}

#[test]
fn old_segments_go_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let upkeep = Upkeep {
        retention_bytes: Some(2_000),
        ..Upkeep::keeping_all(500)
    };
    let mut log = Log::open(folder.path(), upkeep).unwrap();
    fill(&mut log, 100);
    let end = log.end_offset();
    log.expire(0).unwrap();
    let left: u64 = logs(folder.path())
        .iter()
        .map(|base| {
            folder
                .path()
                .join(format!("{base:020}.log"))
                .metadata()
                .unwrap()
                .len()
        })
        .sum();
    assert!((2_000..2_500 + 500).contains(&left), "{left}");
    assert_eq!(log.end_offset(), end);
    assert_eq!(
        contents(&log).last().map(|(offset, ..)| *offset),
        Some(end - 1)
    );
}

#[test]
fn records_are_deleted_up_to_an_offset_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(500)).unwrap();
    for n in 0..40 {
        append(&mut log, &batch(3, n * 10, NOBODY)).unwrap();
    }
    assert_eq!(log.delete_before(121), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(log.delete_before(-2), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(log.delete_before(61), Ok(61));
    assert_eq!(log.delete_before(10), Ok(61));
    for _ in 0..2 {
        assert_eq!(
            log.read(60, 1, 1).unwrap_err(),
            ResponseError::OffsetOutOfRange
        );
        assert!(log.read(61, 1, u64::MAX).unwrap().is_some());
        assert_eq!(contents(&log)[0].0, 61);
        assert!(logs(folder.path())[0] <= 60);
        // In the batch that begins at 60 the record at 61 is the first that counts.
        assert_eq!(
            log.first_since(0).unwrap().map(|moment| moment.offset),
            Some(61)
        );
        log = Log::open(folder.path(), Upkeep::keeping_all(500)).unwrap();
    }
    assert_eq!(log.delete_before(-1), Ok(120));
    assert_eq!(log.read(120, 1, 1).unwrap().map(|slice| slice.bytes), None);
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(500)).unwrap();
    assert_eq!(log.start_offset(), 120);
    assert_eq!(append(&mut log, &batch(1, 0, NOBODY)), Ok(120));
}
