//! The records in a batch, as far as compaction and topics that want keys need to see them.
//!
//! A record refers to its batch only by the differences of its offset and time, so a batch can be thinned out by
//! leaving records away: what stays is copied as it is.

use std::borrow::Cow;

use kafka_protocol::ResponseError;

use super::batch::{self, BatchHeader, HEADER_BYTES, varint};
use super::codec::Codec;

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// All of it, its length included.
    pub raw: &'a [u8],
    /// Its offset.
    pub offset: i64,
    /// Its time, as its producer gave it.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Whether it has no value, and thereby takes its key back.
    pub is_tombstone: bool,
}

/// Returns the records of a batch as they were before they were compressed; `None` if they make no sense.
pub fn plain<'a>(header: &BatchHeader, batch: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let codec = Codec::of(header.codec())?;
    codec.open(batch.get(HEADER_BYTES..)?).ok()
}

/// Finds every record in plain records; `None` if they are not what the header says.
pub fn parse<'a>(header: &BatchHeader, plain: &'a [u8]) -> Option<Vec<Record<'a>>> {
    let count = usize::try_from(header.count).ok()?;
    // A record has at least seven bytes, so a count that lies makes no room.
    let mut records = Vec::with_capacity(count.min(plain.len() / 7 + 1));
    let mut rest = plain;
    while !rest.is_empty() {
        records.push(take(header, &mut rest)?);
    }
    (records.len() == count).then_some(records)
}

fn take<'a>(header: &BatchHeader, rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let from = *rest;
    let length = usize::try_from(varint(rest)?).ok()?;
    let (mut record, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    record = record.get(1..)?; // attributes
    let timestamp = header.base_timestamp.checked_add(varint(&mut record)?)?;
    let offset = header.base_offset.checked_add(varint(&mut record)?)?;
    let key = take_bytes(&mut record)?;
    let value = take_bytes(&mut record)?;
    Some(Record {
        raw: &from[..from.len() - tail.len()],
        offset,
        timestamp,
        key,
        is_tombstone: value.is_none(),
    })
}

/// Takes bytes with their length before them; the inner `None` is null.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(varint(rest)?) else {
        return Some(None);
    };
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(Some(bytes))
}

/// Checks that every record has a key, which a compacted topic wants.
///
/// # Errors
/// The Kafka error that the producer gets.
pub fn check_keys(header: &BatchHeader, batch: &[u8]) -> Result<(), ResponseError> {
    let plain = plain(header, batch).ok_or(ResponseError::CorruptMessage)?;
    let records = parse(header, &plain).ok_or(ResponseError::CorruptMessage)?;
    if records.iter().all(|record| record.key.is_some()) {
        Ok(())
    } else {
        Err(ResponseError::InvalidRecord)
    }
}

/// Builds a batch that has only `kept` of the records of another one; its offsets stay as they are.
///
/// Returns `None` if its codec refuses.
pub fn thin_out(header: &BatchHeader, batch: &[u8], kept: &[Record<'_>]) -> Option<Vec<u8>> {
    let plain: Vec<u8> = kept.iter().flat_map(|record| record.raw).copied().collect();
    let records = Codec::of(header.codec())?.close(&plain).ok()?;
    let newest = kept.iter().map(|record| record.timestamp).max()?;
    let count = i32::try_from(kept.len()).ok()?;
    batch::rebuild(batch.get(..HEADER_BYTES)?, &records, count, newest)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::log::batch::tests::batch_of;

    #[test]
    fn records_are_found_and_left_away_in_every_codec() {
        for codec in 0..5 {
            let raw = batch_of(
                codec,
                100,
                &[(Some("a"), Some("1")), (Some("b"), None), (None, Some("3"))],
            );
            let header = batch::check(&raw, 10_000).unwrap();
            let plain = plain(&header, &raw).unwrap();
            let records = parse(&header, &plain).unwrap();
            let seen: Vec<_> = records
                .iter()
                .map(|record| {
                    (
                        record.offset,
                        record.timestamp,
                        record.key,
                        record.is_tombstone,
                    )
                })
                .collect();
            assert_eq!(
                seen,
                [
                    (0, 100, Some(&b"a"[..]), false),
                    (1, 101, Some(&b"b"[..]), true),
                    (2, 102, None, false)
                ]
            );
            assert_eq!(check_keys(&header, &raw), Err(ResponseError::InvalidRecord));
            let thin = thin_out(&header, &raw, &records[1..2]).unwrap();
            let thinned = BatchHeader::parse(&thin).unwrap();
            assert!(batch::checksum_holds(&thinned, &thin));
            assert_eq!(thinned.next_offset(), 3);
            assert_eq!((thinned.count, thinned.max_timestamp), (1, 101));
            assert_eq!(check_keys(&thinned, &thin), Ok(()));
        }
    }

    #[test]
    fn records_that_make_no_sense_are_none() {
        let raw = batch_of(0, 0, &[(Some("key"), Some("value"))]);
        let header = BatchHeader::parse(&raw).unwrap();
        let body = &raw[HEADER_BYTES..];
        for cut in 0..body.len() {
            assert!(parse(&header, &body[..cut]).is_none(), "{cut}");
        }
        for at in 0..body.len() {
            let mut spoilt = body.to_vec();
            spoilt[at] = 0xff;
            let _ = parse(&header, &spoilt);
        }
    }
}
