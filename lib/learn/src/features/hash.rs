//! The hashes behind feature ids. They are on disk, in every snapshot and receipt: they never change.
//!
//! A feature is a namespace: `kind/name`, and what else tells it from another of the same name (a bucket's
//! width, a time's offset). Its seed is XXH3-64 of that text. A value's hash is XXH3-64 of its bytes with
//! that seed:
//!
//! | value | bytes |
//! |---|---|
//! | text, token | as they are |
//! | integer, timestamp (µs), part of a time, number of a bucket | 8, little-endian |
//! | yes, no | 8, little-endian 1, 0 |
//! | cross | the hashes of the values crossed, 8 each, little-endian |
//!
//! Two more hashes per feature are no value's: XXH3-64 of `missing` with the seed's complement stands for a
//! missing value, of `number` for the weight of a number. The id is the hash's lowest bits.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The seed of one feature's hashes, and those that are no value's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Namespace {
    seed: u64,
    /// Hash of the missing value.
    pub missing: u64,
    /// Hash of the weight of a number.
    pub number: u64,
}

impl Namespace {
    pub fn new(text: &str) -> Namespace {
        let seed = xxh3_64(text.as_bytes());
        Namespace {
            seed,
            missing: xxh3_64_with_seed(b"missing", !seed),
            number: xxh3_64_with_seed(b"number", !seed),
        }
    }

    #[inline]
    pub fn bytes(self, value: &[u8]) -> u64 {
        xxh3_64_with_seed(value, self.seed)
    }

    #[inline]
    pub fn integer(self, value: i64) -> u64 {
        xxh3_64_with_seed(&value.to_le_bytes(), self.seed)
    }

    #[inline]
    pub fn pair(self, first: u64, second: u64) -> u64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..].copy_from_slice(&second.to_le_bytes());
        xxh3_64_with_seed(&bytes, self.seed)
    }

    #[inline]
    pub fn triple(self, first: u64, second: u64, third: u64) -> u64 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..16].copy_from_slice(&second.to_le_bytes());
        bytes[16..].copy_from_slice(&third.to_le_bytes());
        xxh3_64_with_seed(&bytes, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_hashes_never_change() {
        let carrier = Namespace::new("category/carrier");
        let hour = Namespace::new("time/departure.hour/-18000");
        let cross = Namespace::new("cross/carrier*departure.hour");
        let (ua, seven) = (carrier.bytes(b"UA"), hour.integer(7));
        let hashes = [
            carrier.missing,
            carrier.number,
            ua,
            carrier.bytes(b""),
            seven,
            hour.integer(-1),
            cross.pair(ua, seven),
            cross.triple(ua, seven, hour.missing),
        ];
        let text = hashes.map(|hash| format!("{hash:016x}\n")).concat();
        assert_eq!(text, include_str!("../../fixtures/hashes-1.txt"));
    }
}
