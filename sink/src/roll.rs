//! When what is buffered must land: a pure decision.

use std::time::{Duration, Instant};

/// What waits for a commit.
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    /// Bytes of rows over all days, as they came.
    pub bytes: u64,
    /// Bytes of rows of the day that has most.
    pub largest_day_bytes: u64,
    /// When the oldest of it came.
    pub first_record_at: Instant,
}

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A file closes at this size.
    pub file_bytes_max: u64,
    /// A file closes when its oldest record is this old.
    pub record_age_max: Duration,
    /// All files close when rows of this size wait over all days: this bounds the memory.
    pub buffer_bytes_max: u64,
}

/// What to do with the open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roll {
    /// They stay open.
    Keep,
    /// They close, and land in one commit.
    Close(Cause),
}

/// Why files close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// One of them is large enough.
    Size,
    /// Together they take all the memory that there is for them.
    Memory,
    /// The oldest record waits long enough.
    Age,
    /// The partition goes, or the process ends.
    Drain,
}

impl Cause {
    /// Returns the cause as a word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Size => "size",
            Cause::Memory => "memory",
            Cause::Age => "age",
            Cause::Drain => "drain",
        }
    }
}

/// Decides whether the open files must close now.
///
/// They close together: a commit says up to which offset all rows have landed, so it takes along every row
/// that came before.
pub fn roll(open: &OpenFiles, now: Instant, limits: &Limits) -> Roll {
    if limits.file_bytes_max <= open.largest_day_bytes {
        return Roll::Close(Cause::Size);
    }
    if limits.buffer_bytes_max <= open.bytes {
        return Roll::Close(Cause::Memory);
    }
    if limits.record_age_max <= now.saturating_duration_since(open.first_record_at) {
        return Roll::Close(Cause::Age);
    }
    Roll::Keep
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        file_bytes_max: 100,
        record_age_max: Duration::from_secs(10),
        buffer_bytes_max: 150,
    };

    fn check(largest_day_bytes: u64, bytes: u64, age_ms: u64, expected: Roll) {
        let first_record_at = Instant::now();
        let open = OpenFiles {
            bytes,
            largest_day_bytes,
            first_record_at,
        };
        let now = first_record_at + Duration::from_millis(age_ms);
        assert_eq!(roll(&open, now, &LIMITS), expected);
    }

    #[test]
    fn files_close_by_size_memory_and_age() {
        check(99, 149, 9_999, Roll::Keep);
        check(100, 149, 0, Roll::Close(Cause::Size));
        check(99, 150, 0, Roll::Close(Cause::Memory));
        check(0, 0, 10_000, Roll::Close(Cause::Age));
        check(100, 150, 10_000, Roll::Close(Cause::Size));
    }

    #[test]
    fn a_clock_that_lags_behind_closes_nothing() {
        let first_record_at = Instant::now() + Duration::from_secs(60);
        let open = OpenFiles {
            bytes: 1,
            largest_day_bytes: 1,
            first_record_at,
        };
        assert_eq!(roll(&open, Instant::now(), &LIMITS), Roll::Keep);
    }
}
