//! Which partition a key belongs to: the rule of Java clients (and librdkafka's `murmur2_random`), so that
//! producers in any language put an event and its label where ours do.

/// Returns the partition of a key.
///
/// # Source
/// Apache Kafka, `BuiltInPartitioner.partitionForKey`.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    (positive % partitions.max(1) as u32) as i32
}

/// Returns Kafka's murmur2 hash.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_apache_kafka_does() {
        // From Kafka's UtilsTest.testMurmur2.
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            (b"abc", 479470107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key) as i32, hash);
        }
    }

    #[test]
    fn stays_within_the_partitions() {
        for key in 0..1000_u32 {
            assert!((0..4).contains(&partition_of(&key.to_le_bytes(), 4)));
        }
        assert_eq!(partition_of(b"foobar", 1), 0);
    }
}
