//! What a log promises: order, repeats, ranges, look-ups by time, and recovery of torn tails.

use std::io::Write;

use super::batch::tests::batch;
use super::*;

const NOBODY: (i64, i16, i32) = (-1, -1, -1);

pub fn append(log: &mut Log, raw: &[u8]) -> Result<i64, ResponseError> {
    let header = batch::check(raw, 1_000_000)?;
    log.append(&header, raw, None)
        .map(|appended| appended.base_offset)
}

pub fn bytes(slice: &Slice) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut raw = vec![0; slice.bytes as usize];
    slice.file.read_exact_at(&mut raw, slice.position).unwrap();
    raw
}

/// Reads the whole log and returns the base offset of each batch.
fn bases(log: &Log) -> Vec<i64> {
    let (mut offset, mut found) = (log.start_offset(), Vec::new());
    while let Some(slice) = log.read(offset, 1_000, u64::MAX).unwrap() {
        let raw = bytes(&slice);
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).unwrap();
            assert!(batch::checksum_holds(
                &header,
                &rest[..header.bytes as usize]
            ));
            found.push(header.base_offset);
            rest = &rest[header.bytes as usize..];
            offset = header.next_offset();
        }
    }
    found
}

#[test]
fn batches_come_back_in_order_across_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(2_000)).unwrap();
    for n in 0..200 {
        assert_eq!(append(&mut log, &batch(3, n, NOBODY)), Ok(n * 3));
    }
    let expected: Vec<i64> = (0..200).map(|n| n * 3).collect();
    assert_eq!(bases(&log), expected);
    drop(log); // as `kill -9` leaves it
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(2_000)).unwrap();
    assert_eq!(bases(&log), expected);
    log.close().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(2_000)).unwrap();
    assert_eq!(append(&mut log, &batch(1, 0, NOBODY)), Ok(600));
    assert_eq!(bases(&log).len(), 201);
}

#[test]
fn a_finished_segment_without_an_index_is_checked_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(500)).unwrap();
    for n in 0..20 {
        append(&mut log, &batch(3, n, (7, 0, n as i32 * 3))).unwrap();
    }
    drop(log);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "index")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(500)).unwrap();
    assert_eq!(bases(&log).len(), 20);
    assert_eq!(append(&mut log, &batch(3, 0, (7, 0, 57))), Ok(57)); // the last one, again
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tears() {
    let whole = batch(2, 0, NOBODY);
    for torn in 1..whole.len() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), Upkeep::keeping_all(1_000_000)).unwrap();
        append(&mut log, &whole).unwrap();
        drop(log);
        let path = folder.path().join("00000000000000000000.log");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(&whole[..torn]).unwrap();
        let mut log = Log::open(folder.path(), Upkeep::keeping_all(1_000_000)).unwrap();
        assert_eq!(log.end_offset(), 2, "torn after {torn} bytes");
        assert_eq!(append(&mut log, &whole), Ok(2));
        assert_eq!(bases(&log), [0, 2]);
    }
}

#[test]
fn repeats_keep_their_offset_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(300)).unwrap();
    for n in 0..10 {
        append(&mut log, &batch(2, 0, (7, 0, n * 2))).unwrap();
    }
    for clean in [false, true] {
        if clean {
            log.close().unwrap();
        }
        log = Log::open(folder.path(), Upkeep::keeping_all(300)).unwrap();
        assert_eq!(append(&mut log, &batch(2, 0, (7, 0, 14))), Ok(14));
        let gap = append(&mut log, &batch(2, 0, (7, 0, 22)));
        assert_eq!(gap, Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(log.end_offset(), 20);
    }
}

#[test]
fn ranges_end_at_batches_and_give_at_least_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(1_000_000)).unwrap();
    let raw = batch(2, 0, NOBODY);
    let size = raw.len() as u64;
    for _ in 0..1_000 {
        append(&mut log, &raw).unwrap();
    }
    let check = |offset, soft, hard, expected: Option<u64>| {
        let found = log.read(offset, soft, hard).unwrap();
        assert_eq!(
            found.map(|slice| slice.bytes),
            expected.map(|batches| batches * size)
        );
    };
    check(0, 1, u64::MAX, Some(1));
    check(1, size * 3 - 1, u64::MAX, Some(2));
    check(1_001, size * 3, u64::MAX, Some(3));
    check(500, size * 400 + 5, u64::MAX, Some(400));
    check(1_998, size * 3, u64::MAX, Some(1));
    check(0, size * 3, size * 2, Some(2));
    check(0, size, size - 1, None);
    check(2_000, size, size, None);
    assert_eq!(
        log.read(2_001, 1, 1).unwrap_err(),
        ResponseError::OffsetOutOfRange
    );
    assert_eq!(
        log.read(-1, 1, 1).unwrap_err(),
        ResponseError::OffsetOutOfRange
    );
}

#[test]
fn times_lead_to_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), Upkeep::keeping_all(3_000)).unwrap();
    for n in 0..100 {
        append(&mut log, &batch(5, 1_000 + n * 10, NOBODY)).unwrap();
    }
    let check = |timestamp, expected: Option<(i64, i64)>| {
        let found = log.first_since(timestamp).unwrap();
        assert_eq!(
            found.map(|moment| (moment.offset, moment.timestamp)),
            expected
        );
    };
    check(0, Some((0, 1_000)));
    check(1_003, Some((3, 1_003)));
    check(1_005, Some((5, 1_010)));
    check(1_502, Some((252, 1_502)));
    check(1_994, Some((499, 1_994)));
    check(1_995, None);
    let newest = log.newest().unwrap();
    assert_eq!(
        newest,
        Some(Moment {
            offset: 499,
            timestamp: 1_994
        })
    );
}
