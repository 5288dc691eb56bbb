//! When a message is due.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How fast a stream is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as the broker takes it.
    Max,
    /// This many times as fast as it happened.
    Times(f64),
    /// This many events a second, whenever they happened.
    Rate(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.parse::<f64>() {
            Ok(times) if 0.0 < times && times.is_finite() => Ok(Speed::Times(times)),
            _ => Err("write `max`, or a multiple of real time above 0 such as 1000".to_owned()),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speed::Max => f.write_str("as fast as it goes"),
            Speed::Times(times) => write!(f, "{times} times as fast as it happened"),
            Speed::Rate(rate) => write!(f, "{rate} events a second"),
        }
    }
}

/// Says when messages are due, from the time of the first.
#[derive(Debug)]
pub struct Pacer {
    speed: Speed,
    started: Instant,
    first_micros: Option<i64>,
    events: u64,
}

impl Pacer {
    /// Starts the clock.
    pub fn new(speed: Speed, started: Instant) -> Pacer {
        Pacer {
            speed,
            started,
            first_micros: None,
            events: 0,
        }
    }

    /// Returns when the next event is due, which happened at a time; `None` is at once.
    pub fn event(&mut self, micros: i64) -> Option<Instant> {
        let number = self.events;
        self.events += 1;
        match self.speed {
            Speed::Rate(rate) => Some(self.started + Duration::from_secs_f64(number as f64 / rate)),
            _ => self.moment(micros),
        }
    }

    /// Returns when a label is due that became known at a time.
    ///
    /// At a fixed rate of events, labels take no time: they go with the event before which they became known.
    pub fn label(&mut self, micros: i64) -> Option<Instant> {
        self.moment(micros)
    }

    fn moment(&mut self, micros: i64) -> Option<Instant> {
        let Speed::Times(times) = self.speed else {
            return None;
        };
        let first = *self.first_micros.get_or_insert(micros);
        let happened = micros.saturating_sub(first).max(0) as f64 / 1e6;
        let wait = Duration::try_from_secs_f64(happened / times).unwrap_or(Duration::MAX);
        // A time that no clock reaches is a wait without end, as asked for.
        self.started
            .checked_add(wait)
            .or(Some(self.started + Duration::from_secs(u32::MAX.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_multiple_of_real_time_keeps_distances() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Speed::Times(10.0), start);
        assert_eq!(pacer.event(50 * SECOND), Some(start));
        assert_eq!(
            pacer.label(60 * SECOND),
            Some(start + Duration::from_secs(1))
        );
        assert_eq!(
            pacer.event(40 * SECOND),
            Some(start),
            "late events go at once"
        );
        assert!(pacer.event(i64::MAX).is_some());
    }

    #[test]
    fn a_rate_counts_events_only() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Speed::Rate(4.0), start);
        assert_eq!(pacer.event(0), Some(start));
        assert_eq!(pacer.label(5), None);
        assert_eq!(pacer.event(0), Some(start + Duration::from_millis(250)));
    }

    #[test]
    fn speeds_are_read() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("1000".parse(), Ok(Speed::Times(1000.0)));
        for bad in ["", "fast", "0", "-1", "NaN", "inf"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }
}
