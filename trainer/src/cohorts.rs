//! How mature the events of each hour are: what share of them has its label by now.

/// Hours that are told apart; a little over ten days.
const HOURS: usize = 256;

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

/// Ages of cohorts that are reported, in hours, and what they are called.
pub(crate) const AGES: [(i64, &str); 4] = [(1, "1h"), (6, "6h"), (24, "1d"), (168, "7d")];

/// Events by the hour in which they happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cohorts {
    /// The cohort of hour `h` is at `h` modulo their number, until that of a later hour takes its place.
    places: [Cohort; HOURS],
    /// When the last event happened, in microseconds.
    now: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cohort {
    /// Hours since 1970.
    hour: i64,
    events: u64,
    labelled: u64,
}

impl Default for Cohorts {
    fn default() -> Cohorts {
        Cohorts {
            places: [Cohort::default(); HOURS],
            now: i64::MIN,
        }
    }
}

impl Cohorts {
    /// Takes an event.
    pub fn event(&mut self, time: i64) {
        self.now = time;
        let (hour, place) = self.place(time);
        if place.events == 0 || place.hour < hour {
            *place = Cohort {
                hour,
                ..Cohort::default()
            };
        }
        if place.hour == hour {
            place.events += 1;
        }
    }

    /// Takes the label of an event of this time.
    pub fn label(&mut self, event_time: i64) {
        let (hour, place) = self.place(event_time);
        if place.hour == hour && place.labelled < place.events {
            place.labelled += 1;
        }
    }

    /// Returns what share of the events that happened so many hours before the last one has its label; `None` if there
    /// are none.
    pub fn maturity(&self, age: i64) -> Option<f64> {
        let hour = self.now.div_euclid(HOUR).checked_sub(age)?;
        let cohort = self.places[index(hour)];
        (cohort.hour == hour && 0 < cohort.events)
            .then(|| cohort.labelled as f64 / cohort.events as f64)
    }

    /// Returns it as bytes, little-endian: the time of the last event, then hour, events and labels of each cohort.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.now.to_le_bytes().to_vec();
        for cohort in self.places.iter().filter(|cohort| 0 < cohort.events) {
            out.extend_from_slice(&cohort.hour.to_le_bytes());
            out.extend_from_slice(&cohort.events.to_le_bytes());
            out.extend_from_slice(&cohort.labelled.to_le_bytes());
        }
        out
    }

    /// Reads what [`Cohorts::to_bytes`] wrote; `None` if that is not it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Cohorts> {
        let (now, rest) = bytes.split_first_chunk()?;
        let mut cohorts = Cohorts {
            now: i64::from_le_bytes(*now),
            ..Cohorts::default()
        };
        let (entries, rest) = rest.as_chunks::<24>();
        for entry in entries {
            let (numbers, _) = entry.as_chunks();
            let [hour, events, labelled] = numbers else {
                return None;
            };
            let cohort = Cohort {
                hour: i64::from_le_bytes(*hour),
                events: u64::from_le_bytes(*events),
                labelled: u64::from_le_bytes(*labelled),
            };
            let place = &mut cohorts.places[index(cohort.hour)];
            let is_possible = 0 < cohort.events && cohort.labelled <= cohort.events;
            if !is_possible || cohort.events >> 62 != 0 || place.events != 0 {
                return None;
            }
            *place = cohort;
        }
        rest.is_empty().then_some(cohorts)
    }

    fn place(&mut self, time: i64) -> (i64, &mut Cohort) {
        let hour = time.div_euclid(HOUR);
        (hour, &mut self.places[index(hour)])
    }
}

fn index(hour: i64) -> usize {
    hour.rem_euclid(HOURS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_is_more_mature() {
        let mut cohorts = Cohorts::default();
        // Ten events an hour, each with its label five hours later, half of them never.
        for hour in 0..600 {
            (0..10).for_each(|at| cohorts.event(hour * HOUR + at));
            (0..5).for_each(|at| cohorts.label((hour - 5) * HOUR + at));
        }
        let found = [1, 4, 5, 24, 168].map(|age| cohorts.maturity(age));
        assert_eq!(
            found,
            [Some(0.0), Some(0.0), Some(0.5), Some(0.5), Some(0.5)]
        );
        assert_eq!(cohorts.maturity(256), None);
        assert_eq!(Cohorts::from_bytes(&cohorts.to_bytes()), Some(cohorts));
    }

    #[test]
    fn times_out_of_order_do_no_harm() {
        let mut cohorts = Cohorts::default();
        for time in [i64::MIN, i64::MAX, -1, 0, 5 * HOUR] {
            cohorts.event(time);
            cohorts.label(time);
            cohorts.label(time);
        }
        assert_eq!(cohorts.maturity(5), Some(1.0));
        assert_eq!(cohorts.maturity(i64::MAX), None);
        assert_eq!(cohorts.maturity(3), None);
        // A later hour has the place.
        cohorts.event(256 * HOUR);
        cohorts.event(0);
        assert_eq!(cohorts.maturity(0), None);
        assert_eq!(Cohorts::default().maturity(1), None);
        let bytes = cohorts.to_bytes();
        assert_eq!(Cohorts::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(
            Cohorts::from_bytes(&[bytes.as_slice(), &bytes[8..]].concat()),
            None
        );
    }
}
