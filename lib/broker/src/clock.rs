//! The clock of the wall, as Kafka counts it.

use std::time::SystemTime;

/// Returns the milliseconds since 1970.
pub fn now_ms() -> i64 {
    millis(SystemTime::now())
}

/// Returns the milliseconds from 1970 to a time; those before are 0.
pub fn millis(time: SystemTime) -> i64 {
    let since_1970 = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
