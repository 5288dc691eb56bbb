//! Record batches as producers send them: as they come, and with length and checksum mended.
//!
//! A batch is refused with an error of Kafka's, or its records are found, and what compaction leaves of it is sound.

use broker::log::batch::{BatchHeader, HEADER_BYTES, check, checksum_holds, stamp};
use broker::log::records::{check_keys, parse, plain, thin_out};

/// Largest batch that is taken.
const BYTES_MAX: usize = 1 << 20;

/// Takes a batch in.
pub fn run(data: &[u8]) {
    try_out(data);
    let mut batch = data.to_vec();
    mend(&mut batch);
    try_out(&batch);
}

/// Makes length and checksum those of the bytes, as far as this is a batch at all.
pub fn mend(batch: &mut [u8]) {
    if HEADER_BYTES <= batch.len() {
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn try_out(batch: &[u8]) {
    let Ok(header) = check(batch, BYTES_MAX) else {
        return;
    };
    assert!(header.base_offset < header.next_offset() && header.is_whole());
    for time in [None, Some(5)] {
        let stamped = [&stamp(batch, 9, time)[..], &batch[HEADER_BYTES..]].concat();
        // An offset beside the last of all is no offset.
        if let Some(header) = BatchHeader::parse(&stamped) {
            assert!(checksum_holds(&header, &stamped));
        }
    }
    let keyed = check_keys(&header, batch);
    let Some(plain) = plain(&header, batch) else {
        return;
    };
    let Some(records) = parse(&header, &plain) else {
        assert!(keyed.is_err());
        return;
    };
    assert_eq!(records.len() as i64, i64::from(header.count));
    if let Some(thin) = thin_out(&header, batch, &records[..records.len().div_ceil(2)]) {
        let thinned = BatchHeader::parse(&thin).expect("a batch that was thinned out is one");
        assert!(checksum_holds(&thinned, &thin));
        assert_eq!(thinned.next_offset(), header.next_offset());
    }
}
