//! What a log's housekeeping goes by.

/// How a log is kept small.
#[derive(Debug, Clone, PartialEq)]
pub struct Upkeep {
    /// How many bytes a segment may have.
    pub segment_bytes: u64,
    /// How long a segment may grow, in milliseconds.
    pub segment_ms: i64,
    /// How old the newest record of a segment may get, in milliseconds.
    pub retention_ms: Option<i64>,
    /// How many bytes the log may have.
    pub retention_bytes: Option<u64>,
    /// How it is compacted, if at all.
    pub compaction: Option<Compaction>,
}

impl Upkeep {
    /// Segments of this size, and everything is kept for ever.
    #[cfg(test)]
    pub fn keeping_all(segment_bytes: u64) -> Self {
        Self {
            segment_bytes,
            segment_ms: i64::MAX,
            retention_ms: None,
            retention_bytes: None,
            compaction: None,
        }
    }

    /// Says whether there is anything to do from time to time.
    pub fn is_wanted(&self) -> bool {
        self.retention_ms.is_some() || self.retention_bytes.is_some() || self.compaction.is_some()
    }
}

/// How a log is compacted.
#[derive(Debug, Clone, PartialEq)]
pub struct Compaction {
    /// How long a tombstone stays after the compaction that first met it, in milliseconds.
    pub tombstones_ms: i64,
    /// How old a segment's newest record must be, in milliseconds.
    pub lag_min_ms: i64,
    /// How old a record may get before it is compacted whatever the ratio, in milliseconds.
    pub lag_max_ms: i64,
    /// How much of the log must be dirty.
    pub dirty_ratio: f64,
}
