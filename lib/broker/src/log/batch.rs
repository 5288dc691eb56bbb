//! The header of a record batch, format v2: the only part that most batches are ever asked for.
//!
//! In flow the bytes that a producer sent, out flow a checked header and, at append, the same header with the
//! broker's own fields stamped into it. Records are not looked at here: see [`super::records`].

use kafka_protocol::ResponseError;

/// How long the fixed header of a batch is.
pub const HEADER_BYTES: usize = 61;

/// How much of a batch precedes what its length field counts.
const LENGTH_PREFIX: usize = 12;

/// Where the part that the checksum covers begins.
const CHECKSUM_FROM: usize = 21;

/// The leader epoch that every batch carries: one broker leads for ever.
pub const LEADER_EPOCH: i32 = 0;

const MAGIC: i8 = 2;
const CODEC_MASK: i16 = 0b111;
const CODEC_MAX: i16 = 4;
const APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The fixed header of one record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch, header included.
    pub bytes: u64,
    /// Checksum (CRC32C) of everything from the attributes on.
    pub checksum: u32,
    /// Codec, kind of timestamp and flags.
    pub attributes: i16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Time of the first record, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// Time of the newest record, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// Id of the idempotent producer, or -1.
    pub producer_id: i64,
    /// Epoch of the idempotent producer, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records the batch claims to hold.
    pub count: i32,
}

/// Copies `N` bytes from a fixed place of a header whose length was checked.
fn field<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&raw[at..at + N]);
    bytes
}

impl BatchHeader {
    /// Reads a header, or says `None` if these bytes cannot begin a batch.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        if raw.len() < HEADER_BYTES || raw[16] as i8 != MAGIC {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(field(raw, 8))).ok()?;
        let header = Self {
            base_offset: i64::from_be_bytes(field(raw, 0)),
            bytes: (length + LENGTH_PREFIX) as u64,
            checksum: u32::from_be_bytes(field(raw, 17)),
            attributes: i16::from_be_bytes(field(raw, 21)),
            last_offset_delta: i32::from_be_bytes(field(raw, 23)),
            base_timestamp: i64::from_be_bytes(field(raw, 27)),
            max_timestamp: i64::from_be_bytes(field(raw, 35)),
            producer_id: i64::from_be_bytes(field(raw, 43)),
            producer_epoch: i16::from_be_bytes(field(raw, 51)),
            base_sequence: i32::from_be_bytes(field(raw, 53)),
            count: i32::from_be_bytes(field(raw, 57)),
        };
        let sound = HEADER_BYTES as u64 <= header.bytes
            && 0 <= header.last_offset_delta
            && header
                .base_offset
                .checked_add(i64::from(header.last_offset_delta) + 1)
                .is_some();
        sound.then_some(header)
    }

    /// Returns the offset that follows the last record.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// Says whether an idempotent producer numbered this batch.
    pub fn is_idempotent(&self) -> bool {
        0 <= self.producer_id
    }

    /// Returns the number of the codec on the wire.
    pub fn codec(&self) -> i16 {
        self.attributes & CODEC_MASK
    }

    /// Says whether the topic stamped the time of the append on the batch.
    pub fn is_stamped(&self) -> bool {
        self.attributes & APPEND_TIME != 0
    }

    /// Says whether all records are there, so that the first is what the header says of it.
    pub fn is_whole(&self) -> bool {
        i64::from(self.count) == i64::from(self.last_offset_delta) + 1
    }

    /// Returns the sequence number of the last record; numbers wrap to zero after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

/// Returns the sequence number `steps` after `sequence`, wrapping to zero after `i32::MAX`.
pub fn sequence_after(sequence: i32, steps: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(steps);
    let wrapped = sum.rem_euclid(i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).expect("a remainder of 2^31 fits 31 bits")
}

/// Says whether the checksum of a whole batch is right.
pub fn checksum_holds(header: &BatchHeader, batch: &[u8]) -> bool {
    batch.len() as u64 == header.bytes && crc32c::crc32c(&batch[CHECKSUM_FROM..]) == header.checksum
}

/// Checks what a producer sent for one partition: exactly one sound batch of at most `bytes_max`.
///
/// # Errors
/// The Kafka error that the producer gets.
pub fn check(records: &[u8], bytes_max: usize) -> Result<BatchHeader, ResponseError> {
    if records.len() < HEADER_BYTES {
        return Err(ResponseError::CorruptMessage);
    }
    if (0..MAGIC).contains(&(records[16] as i8)) {
        return Err(ResponseError::UnsupportedForMessageFormat);
    }
    let header = BatchHeader::parse(records).ok_or(ResponseError::CorruptMessage)?;
    if bytes_max < records.len() {
        return Err(ResponseError::MessageTooLarge);
    }
    if header.bytes < records.len() as u64 {
        return Err(ResponseError::InvalidRecord); // more than one batch
    }
    if !checksum_holds(&header, records) {
        return Err(ResponseError::CorruptMessage);
    }
    if CODEC_MAX < header.attributes & CODEC_MASK {
        return Err(ResponseError::UnsupportedCompressionType);
    }
    let numbered = header.producer_epoch >= 0 && header.base_sequence >= 0;
    if header.count != header.last_offset_delta.saturating_add(1)
        || header.attributes & (TRANSACTIONAL | CONTROL) != 0
        || header.is_idempotent() && !numbered
    {
        return Err(ResponseError::InvalidRecord);
    }
    Ok(header)
}

/// Returns the first bytes of `batch` with the broker's fields in them.
///
/// Offset and leader epoch lie outside of the checksum. The append time, if the topic wants one, lies inside: then the
/// checksum is computed anew.
pub fn stamp(batch: &[u8], base_offset: i64, append_time: Option<i64>) -> [u8; HEADER_BYTES] {
    let mut raw: [u8; HEADER_BYTES] = field(batch, 0);
    raw[0..8].copy_from_slice(&base_offset.to_be_bytes());
    raw[12..16].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
    if let Some(time) = append_time {
        let attributes = i16::from_be_bytes(field(&raw, 21)) | APPEND_TIME;
        raw[21..23].copy_from_slice(&attributes.to_be_bytes());
        raw[35..43].copy_from_slice(&time.to_be_bytes());
        let head = crc32c::crc32c(&raw[CHECKSUM_FROM..]);
        let checksum = crc32c::crc32c_append(head, &batch[HEADER_BYTES..]);
        raw[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    raw
}

/// Puts the header of a batch before other records of the same offsets; `None` if they are too large.
///
/// `newest` is the time of the newest record, unless the topic stamped the batch: that time stays.
pub fn rebuild(header: &[u8], records: &[u8], count: i32, newest: i64) -> Option<Vec<u8>> {
    let mut raw = [header, records].concat();
    let length = i32::try_from(raw.len().checked_sub(LENGTH_PREFIX)?).ok()?;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    if i16::from_be_bytes(field(&raw, 21)) & APPEND_TIME == 0 {
        raw[35..43].copy_from_slice(&newest.to_be_bytes());
    }
    raw[57..61].copy_from_slice(&count.to_be_bytes());
    let checksum = crc32c::crc32c(&raw[CHECKSUM_FROM..]);
    raw[17..21].copy_from_slice(&checksum.to_be_bytes());
    Some(raw)
}

/// Takes one zigzag varint off the front of `rest`.
pub fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::log::codec::Codec;

    /// Builds an uncompressed batch of empty records, one millisecond apart.
    pub fn batch(count: u8, base_timestamp: i64, producer: (i64, i16, i32)) -> Vec<u8> {
        let mut body = Vec::new();
        for delta in 0..count {
            // Length 6: attributes, both deltas, null key, null value, no headers.
            body.extend([12, 0, delta * 2, delta * 2, 1, 1, 0]);
        }
        let mut raw = vec![0; HEADER_BYTES];
        raw[8..12]
            .copy_from_slice(&((HEADER_BYTES - LENGTH_PREFIX + body.len()) as i32).to_be_bytes());
        raw[16] = 2;
        raw[23..27].copy_from_slice(&(i32::from(count) - 1).to_be_bytes());
        raw[27..35].copy_from_slice(&base_timestamp.to_be_bytes());
        raw[35..43].copy_from_slice(&(base_timestamp + i64::from(count) - 1).to_be_bytes());
        raw[43..51].copy_from_slice(&producer.0.to_be_bytes());
        raw[51..53].copy_from_slice(&producer.1.to_be_bytes());
        raw[53..57].copy_from_slice(&producer.2.to_be_bytes());
        raw[57..61].copy_from_slice(&i32::from(count).to_be_bytes());
        raw.extend(body);
        seal(&mut raw);
        raw
    }

    /// Builds a batch of records with keys and values, in a codec, one millisecond apart.
    pub fn batch_of(
        codec: u8,
        base_timestamp: i64,
        records: &[(Option<&str>, Option<&str>)],
    ) -> Vec<u8> {
        let mut body = Vec::new();
        for (n, (key, value)) in records.iter().enumerate() {
            let mut record = vec![0, n as u8 * 2, n as u8 * 2];
            for bytes in [key, value] {
                match bytes {
                    Some(bytes) => {
                        record.push(bytes.len() as u8 * 2);
                        record.extend(bytes.as_bytes());
                    }
                    None => record.push(1),
                }
            }
            record.push(0);
            body.push(record.len() as u8 * 2);
            body.extend(record);
        }
        let body = Codec::of(i16::from(codec)).unwrap().close(&body).unwrap();
        let mut raw = batch(records.len() as u8, base_timestamp, NOBODY);
        raw.truncate(HEADER_BYTES);
        raw[22] = codec;
        raw[8..12]
            .copy_from_slice(&((HEADER_BYTES - LENGTH_PREFIX + body.len()) as i32).to_be_bytes());
        raw.extend(body);
        seal(&mut raw);
        raw
    }

    fn seal(raw: &mut [u8]) {
        let checksum = crc32c::crc32c(&raw[CHECKSUM_FROM..]);
        raw[17..21].copy_from_slice(&checksum.to_be_bytes());
    }

    const NOBODY: (i64, i16, i32) = (-1, -1, -1);

    #[test]
    fn a_sound_batch_passes() {
        let raw = batch(3, 1_000, NOBODY);
        let header = check(&raw, 1_000).unwrap();
        assert_eq!(header.next_offset(), 3);
        assert!(header.is_whole() && !header.is_stamped());
    }

    #[test]
    fn every_flaw_has_its_error() {
        let spoil = |f: fn(&mut Vec<u8>)| {
            let mut raw = batch(2, 0, NOBODY);
            f(&mut raw);
            check(&raw, 200).unwrap_err()
        };
        assert_eq!(spoil(|raw| raw.truncate(40)), ResponseError::CorruptMessage);
        assert_eq!(
            spoil(|raw| raw[16] = 1),
            ResponseError::UnsupportedForMessageFormat
        );
        assert_eq!(spoil(|raw| raw[70] ^= 1), ResponseError::CorruptMessage);
        assert_eq!(spoil(|raw| raw[8] = 0xff), ResponseError::CorruptMessage);
        assert_eq!(
            spoil(|raw| raw.extend([0; 200])),
            ResponseError::MessageTooLarge
        );
        assert_eq!(
            spoil(|raw| raw.extend([0; 9])),
            ResponseError::InvalidRecord
        );
        assert_eq!(
            spoil(|raw| {
                raw[22] = 5;
                seal(raw);
            }),
            ResponseError::UnsupportedCompressionType
        );
        assert_eq!(
            spoil(|raw| {
                raw[22] = TRANSACTIONAL as u8;
                seal(raw);
            }),
            ResponseError::InvalidRecord
        );
        assert_eq!(
            spoil(|raw| {
                raw[60] = 7;
                seal(raw);
            }),
            ResponseError::InvalidRecord
        );
    }

    #[test]
    fn a_stamp_keeps_the_checksum_right() {
        let raw = batch(2, 5, NOBODY);
        for append_time in [None, Some(77)] {
            let mut stored = raw.clone();
            stored[..HEADER_BYTES].copy_from_slice(&stamp(&raw, 40, append_time));
            let header = BatchHeader::parse(&stored).unwrap();
            assert!(checksum_holds(&header, &stored));
            assert_eq!(header.base_offset, 40);
            assert_eq!(header.max_timestamp, append_time.unwrap_or(6));
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
        assert_eq!(sequence_after(5, 2), 7);
    }

    #[test]
    fn garbage_never_panics() {
        for length in 0..200 {
            let raw: Vec<u8> = (0..length).map(|i| (i * 37 % 251) as u8).collect();
            let _ = check(&raw, 100);
            let _ = BatchHeader::parse(&raw);
        }
    }
}
