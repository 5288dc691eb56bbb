//! Plays a file as a stream: events when they happened, labels when they became known, dirt between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use schemas::Contract;

use super::dirt::{Dirt, DirtKind, Dirtier, Seeded};
use super::labels::{LabelQueue, Waiting};
use super::pace::{Pacer, Speed};
use super::render;
use super::rows::{Known, Rows};
use super::send::{Lane, Sender, Sent};
use super::source::Source;

/// The longest sleep before looking whether to stop.
const NAP_MAX: Duration = Duration::from_millis(50);
/// Events between two looks whether to stop or a message failed.
const CHECK_EVERY: u64 = 256;

/// How a stream is played.
#[derive(Clone, Debug)]
pub struct Options {
    /// How fast.
    pub speed: Speed,
    /// Share of events with which dirt is sent.
    pub dirt: f64,
    /// What dirt and trace ids follow from.
    pub seed: u64,
    /// One in so many events carries a trace parent; 0 is none.
    pub trace_sample: u64,
    /// Events to play at most.
    pub events_max: u64,
}

/// How far a stream has come; read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows played.
    pub rows: AtomicU64,
    /// Messages sent to the raw topic.
    pub raw: AtomicU64,
    /// Labels sent.
    pub labels: AtomicU64,
    /// Where the stream is in its own time, in microseconds since 1970.
    pub stream_micros: AtomicI64,
    /// Set to stop early.
    pub stop: Arc<AtomicBool>,
}

/// What was played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Events, one for each row.
    pub events: u64,
    /// Messages on the raw topic: events and what dirt added.
    pub raw: u64,
    /// Labels sent.
    pub labels: u64,
    /// Labels sent before their time, because too many waited.
    pub labels_early: u64,
    /// Pieces of dirt of each kind, in the order of [`DirtKind::ALL`].
    pub dirt: [u64; DirtKind::ALL.len()],
    /// Bytes of payload.
    pub bytes: u64,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

impl Played {
    /// Returns how many pieces of a kind were sent.
    pub fn dirt(&self, kind: DirtKind) -> u64 {
        self.dirt[kind as usize]
    }
}

/// Plays a source to its end, to the limit or until it is told to stop; returns once all is acknowledged.
///
/// # Errors
/// A row without id or time, or a message that was not delivered.
pub fn play(
    source: &mut Source,
    contract: &Contract,
    sender: &Sender,
    options: &Options,
    progress: &Progress,
) -> Result<Played> {
    let columns = source.columns();
    let has = |name: &str| {
        columns
            .as_ref()
            .is_none_or(|names| names.iter().any(|column| column == name))
    };
    let label = contract.label.as_ref();
    let mut player = Player {
        sender,
        progress,
        pacer: Pacer::new(options.speed, Instant::now()),
        dirtier: Dirtier::new(contract, has, options.dirt, options.seed),
        traces: Traces::new(options.trace_sample, options.seed),
        label_names: label
            .map(|label| [label.event.clone(), label.name.clone(), label.time.clone()]),
        labels: LabelQueue::default(),
        again: VecDeque::new(),
        message: Vec::with_capacity(4096),
        played: Played::default(),
    };
    'file: while let Some(rows) = source.next_rows()? {
        for row in 0..rows.len() {
            if options.events_max <= player.played.events || !player.row(&rows, row)? {
                break 'file;
            }
        }
    }
    player.finish()
}

struct Player<'a> {
    sender: &'a Sender,
    progress: &'a Progress,
    pacer: Pacer,
    dirtier: Dirtier,
    traces: Traces,
    /// Names of a label's fields: event, label, time.
    label_names: Option<[String; 3]>,
    labels: LabelQueue,
    again: VecDeque<Again>,
    message: Vec<u8>,
    played: Played,
}

/// An event that is sent a second time.
struct Again {
    after: u64,
    key: String,
    payload: Vec<u8>,
}

impl Player<'_> {
    /// Plays one row; says no when told to stop.
    fn row(&mut self, rows: &Rows, row: usize) -> Result<bool> {
        let mut scratch = String::new();
        let id = rows.id(row, &mut scratch)?;
        let micros = rows.time(row)?;
        while let Some(label) = self.labels.known_by(micros) {
            if !self.label(&label)? {
                return Ok(false);
            }
        }
        let due = self.pacer.event(micros);
        if !self.wait(due) {
            return Ok(false);
        }
        self.due_again(self.played.events)?;
        self.event(rows, row, id)?;
        let number = self.played.events;
        match rows.label(row)? {
            Known::Never => {}
            Known::WithEvent(label) => {
                let label = Waiting {
                    micros,
                    row: number,
                    id: id.into(),
                    label,
                };
                self.send_label(&label)?;
            }
            Known::At(label, micros) => {
                let label = Waiting {
                    micros,
                    row: number,
                    id: id.into(),
                    label,
                };
                if let Some(early) = self.labels.push(label) {
                    self.played.labels_early += 1;
                    self.send_label(&early)?;
                }
            }
        }
        self.played.events += 1;
        self.progress
            .rows
            .store(self.played.events, Ordering::Relaxed);
        self.progress
            .stream_micros
            .fetch_max(micros, Ordering::Relaxed);
        if self.played.events.is_multiple_of(CHECK_EVERY) {
            self.sender.check()?;
        }
        Ok(true)
    }

    fn event(&mut self, rows: &Rows, row: usize, id: &str) -> Result<()> {
        let mut message = std::mem::take(&mut self.message);
        let dirt = self.dirtier.decide(rows, row, &mut message);
        match dirt {
            Some(Dirt::Before(kind)) => {
                self.played.dirt[kind as usize] += 1;
                self.send_raw(id, &message, None, Sent::Extra)?;
            }
            Some(Dirt::Instead(kind)) => self.played.dirt[kind as usize] += 1,
            Some(Dirt::Again(_)) | None => {}
        }
        if !matches!(dirt, Some(Dirt::Instead(_))) {
            message.clear();
            rows.render(row, &mut message);
        }
        let trace = self.traces.next(self.played.events);
        self.send_raw(
            id,
            &message,
            trace.as_deref(),
            Sent::Event(self.played.events),
        )?;
        if let Some(Dirt::Again(delay)) = dirt {
            let after = self.played.events + delay;
            let at = self.again.partition_point(|other| other.after <= after);
            self.again.insert(
                at,
                Again {
                    after,
                    key: id.to_owned(),
                    payload: message.clone(),
                },
            );
        }
        self.message = message;
        Ok(())
    }

    /// Sends what is to be sent again by now.
    fn due_again(&mut self, now: u64) -> Result<()> {
        while self.again.front().is_some_and(|first| first.after <= now) {
            if let Some(again) = self.again.pop_front() {
                self.played.dirt[DirtKind::Duplicate as usize] += 1;
                self.send_raw(&again.key, &again.payload, None, Sent::Extra)?;
            }
        }
        Ok(())
    }

    fn send_raw(
        &mut self,
        key: &str,
        payload: &[u8],
        trace: Option<&str>,
        sent: Sent,
    ) -> Result<()> {
        self.sender.send(Lane::Raw, key, payload, trace, sent)?;
        self.played.raw += 1;
        self.played.bytes += payload.len() as u64;
        self.progress.raw.store(self.played.raw, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a label when it is due; says no when told to stop.
    fn label(&mut self, label: &Waiting) -> Result<bool> {
        let due = self.pacer.label(label.micros);
        if !self.wait(due) {
            return Ok(false);
        }
        self.send_label(label)?;
        Ok(true)
    }

    fn send_label(&mut self, label: &Waiting) -> Result<()> {
        let Some([event, name, time]) = &self.label_names else {
            return Ok(());
        };
        let out = &mut self.message;
        out.clear();
        out.push(b'{');
        render::text(event, out);
        out.push(b':');
        render::text(&label.id, out);
        out.push(b',');
        render::text(name, out);
        out.push(b':');
        label.label.render(out);
        out.push(b',');
        render::text(time, out);
        out.push(b':');
        render::time(label.micros, out);
        out.push(b'}');
        self.sender
            .send(Lane::Labels, &label.id, out, None, Sent::Label(label.row))?;
        self.played.labels += 1;
        self.played.bytes += out.len() as u64;
        self.progress
            .labels
            .store(self.played.labels, Ordering::Relaxed);
        self.progress
            .stream_micros
            .fetch_max(label.micros, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until a moment; says no when told to stop.
    fn wait(&self, due: Option<Instant>) -> bool {
        loop {
            if self.progress.stop.load(Ordering::Relaxed) {
                return false;
            }
            let Some(rest) = due.and_then(|due| due.checked_duration_since(Instant::now())) else {
                return true;
            };
            if rest.is_zero() {
                return true;
            }
            std::thread::sleep(rest.min(NAP_MAX));
        }
    }

    /// Sends what still waits, and waits for every acknowledgement.
    fn finish(mut self) -> Result<Played> {
        self.due_again(u64::MAX)?;
        while !self.progress.stop.load(Ordering::Relaxed) {
            let Some(label) = self.labels.pop() else {
                break;
            };
            self.label(&label)?;
        }
        self.sender.flush()?;
        self.played.stopped = self.progress.stop.load(Ordering::Relaxed);
        Ok(self.played)
    }
}

/// Makes W3C trace parents for a share of the events.
struct Traces {
    sample: u64,
    random: Seeded,
}

impl Traces {
    fn new(sample: u64, seed: u64) -> Traces {
        // Another sequence than that of the dirt.
        Traces {
            sample,
            random: Seeded::new(seed ^ 0x7472_6163_6570_6172),
        }
    }

    fn next(&mut self, event: u64) -> Option<String> {
        if self.sample == 0 || !event.is_multiple_of(self.sample) {
            return None;
        }
        let (high, low, span) = (self.random.bits(), self.random.bits(), self.random.bits());
        Some(format!("00-{high:016x}{low:016x}-{:016x}-01", span.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_in_so_many_carries_a_trace_parent() {
        let mut traces = Traces::new(1000, 7);
        let made: Vec<String> = (0..3000).filter_map(|event| traces.next(event)).collect();
        assert_eq!(made.len(), 3);
        for parent in &made {
            let parts: Vec<&str> = parent.split('-').collect();
            assert_eq!(
                parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                [2, 32, 16, 2]
            );
            assert!(
                parent
                    .bytes()
                    .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
            );
        }
        assert_ne!(made[0], made[1]);
        assert_eq!(Traces::new(0, 7).next(0), None);
    }
}
