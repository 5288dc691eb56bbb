//! Remembers every acknowledgement: when it came, and of which row.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::produce::{Ack, Sent};

/// The row of a message that dirt added.
const NO_ROW: u32 = u32::MAX;

/// An acknowledged raw message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAck {
    at_micros: u64,
    row: u32,
}

impl RawAck {
    /// A place in the log of which no acknowledgement came.
    const NONE: RawAck = RawAck {
        at_micros: u64::MAX,
        row: NO_ROW,
    };

    /// Returns the row of the file, unless dirt added the message.
    pub fn row(self) -> Option<usize> {
        (self.row != NO_ROW).then_some(self.row as usize)
    }
}

/// Acknowledgements of one run; written by the producer's thread, read by whoever shows it.
pub struct Acks {
    started: Instant,
    /// By partition and offset.
    raw: Vec<Mutex<Vec<RawAck>>>,
    raw_count: AtomicU64,
    /// By row.
    labelled: Mutex<Vec<bool>>,
    label_count: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acks {
    /// Makes room for a topic's partitions.
    pub fn new(partitions: usize, started: Instant) -> Acks {
        Acks {
            started,
            raw: (0..partitions).map(|_| Mutex::default()).collect(),
            raw_count: AtomicU64::new(0),
            labelled: Mutex::default(),
            label_count: AtomicU64::new(0),
        }
    }

    /// Takes an acknowledgement.
    pub fn take(&self, ack: Ack) {
        let row = match ack.sent {
            Sent::Label(row) => return self.label(row),
            Sent::Event(row) => u32::try_from(row).unwrap_or(NO_ROW),
            Sent::Extra => NO_ROW,
        };
        let at_micros = ack.at.saturating_duration_since(self.started).as_micros() as u64;
        let (Ok(partition), Ok(offset)) =
            (usize::try_from(ack.partition), usize::try_from(ack.offset))
        else {
            return;
        };
        if let Some(places) = self.raw.get(partition) {
            let mut places = lock(places);
            if places.len() <= offset {
                places.resize(offset + 1, RawAck::NONE);
            }
            places[offset] = RawAck { at_micros, row };
            self.raw_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn label(&self, row: u64) {
        let mut labelled = lock(&self.labelled);
        let Ok(row) = usize::try_from(row) else {
            return;
        };
        if labelled.len() <= row {
            labelled.resize(row + 1, false);
        }
        labelled[row] = true;
        self.label_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the acknowledgement of a raw message, if it came.
    pub fn raw(&self, partition: usize, offset: usize) -> Option<RawAck> {
        let ack = lock(self.raw.get(partition)?).get(offset).copied()?;
        (ack != RawAck::NONE).then_some(ack)
    }

    /// Returns how long after a raw message's acknowledgement a moment was.
    pub fn since(&self, ack: RawAck, at: Instant) -> Duration {
        let at = at.saturating_duration_since(self.started);
        at.saturating_sub(Duration::from_micros(ack.at_micros))
    }

    /// Returns how many raw messages were acknowledged.
    pub fn raw_count(&self) -> u64 {
        self.raw_count.load(Ordering::Relaxed)
    }

    /// Returns how many labels were acknowledged.
    pub fn label_count(&self) -> u64 {
        self.label_count.load(Ordering::Relaxed)
    }

    /// Says of which rows the label was acknowledged.
    pub fn labelled(&self) -> Vec<bool> {
        lock(&self.labelled).clone()
    }
}
