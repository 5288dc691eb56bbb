//! Lanes: batches of each partition go in as they come; parts come out in the order of stream time.
//!
//! While a stream is live, nothing waits here. In a catch-up each partition comes as fast as it is read, and one could run
//! months ahead of the others: events would leave for want of room before the labels that are already there are
//! read, and would be tested by a model that knows nothing of the months between. So what is earliest in stream time
//! is taken first, and a partition that is behind is waited for, as long as it flows.
//!
//! The order is an accident of reading all the same: it is in the journal, and a replay goes by that.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use learn::features::Layout;
use schemas::Offset;
use schemas::model::Input;
use worker::{Batch, TopicPartition};

use crate::error::TrainerError;
use crate::fit::Fitter;
use crate::input::{Body, Decoder, Part, Unreadable};
use crate::intake::clean_part;

/// Bytes that may wait in the lanes of clean events, and in those of labels, shared evenly; a lane that is full is held
/// back until half of its share is free. Holding back is dear, since librdkafka forgets what it has fetched and fetches
/// it again; and live, labels are as far ahead as events need to become clean.
const CLEAN_ROOM: usize = 6 << 20;
const LABELS_ROOM: usize = 12 << 20;

/// What a record that waits takes beside its bytes.
const RECORD_BYTES: usize = 64;

/// A partition is behind if at least so many messages of it are still to come: fewer are always on their way, and
/// Kafka counts marks of transactions too, which never come.
const CLEAN_BEHIND: i64 = 4;
const LABELS_BEHIND: i64 = 1024;

/// A partition that is behind and has been silent for so long is waited for no more.
const SILENT: Duration = Duration::from_secs(2);

/// Values of which the middle one is a part's time: a few that are far off move nothing.
const SAMPLES: usize = 15;

/// What has come, by partition.
pub(crate) struct Lanes {
    lanes: BTreeMap<TopicPartition, Lane>,
}

/// What has come of one partition.
pub(crate) struct Lane {
    batches: VecDeque<Batch>,
    /// Clean messages of the first batch that are taken.
    taken: usize,
    /// What is taken next, decoded.
    pub(crate) head: Part,
    /// Labels of the head that cannot be read.
    pub(crate) unreadable: Vec<Unreadable>,
    /// Middle time of the head, if there is one.
    clock: Option<i64>,
    /// The offset after the last that came, and after the last there is.
    next: Offset,
    high: Offset,
    came_at: Instant,
    /// Bytes of the batches.
    bytes: usize,
    full: bool,
}

impl Lanes {
    /// Makes none.
    pub(crate) fn new() -> Lanes {
        Lanes {
            lanes: BTreeMap::new(),
        }
    }

    /// Adds a partition: the first offset that will come, and the one after the last that is there now.
    pub(crate) fn open(
        &mut self,
        of: TopicPartition,
        input: Input,
        layout: Layout,
        (next, high): (Offset, Offset),
    ) {
        let lane = Lane {
            batches: VecDeque::new(),
            taken: 0,
            head: match input {
                Input::Clean => Part::events(layout),
                Input::Labels => Part::labels(),
            },
            unreadable: Vec::new(),
            clock: None,
            next,
            high,
            came_at: worker::now(),
            bytes: 0,
            full: false,
        };
        self.lanes.insert(of, lane);
    }

    /// Removes a partition, and what waits of it.
    pub(crate) fn close(&mut self, of: &TopicPartition) {
        self.lanes.remove(of);
    }

    /// Notes where a partition ends.
    pub(crate) fn high(&mut self, of: &TopicPartition, high: Offset) {
        if let Some(lane) = self.lanes.get_mut(of) {
            lane.high = high;
        }
    }

    /// Takes a batch in; says whether its partition is one of ours.
    pub(crate) fn push(&mut self, batch: Batch) -> bool {
        let share = self.share(batch.from());
        let Some(lane) = self.lanes.get_mut(batch.from()) else {
            return false;
        };
        lane.came_at = worker::now();
        if let Some(last) = batch.last() {
            lane.next = last.next();
        }
        lane.bytes += size(&batch);
        lane.full |= share <= lane.bytes;
        lane.batches.push_back(batch);
        true
    }

    /// Returns how many bytes may wait in a lane.
    fn share(&self, of: &TopicPartition) -> usize {
        let room = self.lanes.get(of).map_or(0, |lane| match lane.head.input {
            Input::Clean => CLEAN_ROOM,
            Input::Labels => LABELS_ROOM,
        });
        let beside = self.lanes.keys().filter(|other| other.topic == of.topic);
        room / beside.count().max(1)
    }

    /// Decodes what is first in each lane.
    ///
    /// # Errors
    /// A clean message that does not belong here.
    pub(crate) fn decode(
        &mut self,
        decoder: &mut Decoder,
        fitter: &mut Fitter,
    ) -> Result<(), TrainerError> {
        for (from, lane) in &mut self.lanes {
            let Some(batch) = lane.batches.front().filter(|_| lane.clock.is_none()) else {
                continue;
            };
            match lane.head.input {
                Input::Labels => lane.unreadable = decoder.labels(batch, &mut lane.head),
                Input::Clean => {
                    if let Some(record) = batch.records().nth(lane.taken) {
                        clean_part(decoder, from, &record, fitter, &mut lane.head)?;
                    }
                }
            }
            lane.clock = Some(middle(&lane.head));
        }
        Ok(())
    }

    /// Returns the partition whose head comes first, of those that are not held back; none if one that is behind
    /// should be waited for.
    pub(crate) fn first(&self, now: Instant, held: Option<Input>) -> Option<TopicPartition> {
        let flowing = || {
            self.lanes
                .iter()
                .filter(|(_, lane)| Some(lane.head.input) != held)
        };
        if flowing().any(|(_, lane)| lane.is_awaited(now)) {
            return None;
        }
        let heads = flowing().filter_map(|(of, lane)| Some((lane.clock?, of)));
        Some(heads.min()?.1.clone())
    }

    /// Returns the time of the labels that come first, if some are there.
    pub(crate) fn label_time(&self) -> Option<i64> {
        let of_labels = |lane: &&Lane| lane.head.input == Input::Labels;
        let times = self.lanes.values().filter(of_labels);
        times.filter_map(|lane| lane.clock).min()
    }

    /// Returns a lane that has a head.
    pub(crate) fn lane(&self, of: &TopicPartition) -> Option<&Lane> {
        self.lanes.get(of).filter(|lane| lane.clock.is_some())
    }

    /// Goes past the head of a lane.
    pub(crate) fn pass(&mut self, of: &TopicPartition) {
        let share = self.share(of);
        let Some(lane) = self.lanes.get_mut(of) else {
            return;
        };
        lane.clock = None;
        lane.taken += 1;
        let len = lane.batches.front().map_or(0, Batch::len);
        if lane.head.input == Input::Labels || len <= lane.taken {
            let passed = lane.batches.pop_front();
            lane.bytes -= passed.as_ref().map_or(0, size);
            lane.taken = 0;
        }
        lane.full &= share / 2 < lane.bytes;
    }

    /// Returns the partitions of which no more should come for now.
    pub(crate) fn full(&self) -> impl Iterator<Item = &TopicPartition> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.full)
            .map(|(of, _)| of)
    }
}

impl Lane {
    /// Returns the batch that the head is of.
    pub(crate) fn batch(&self) -> Option<&Batch> {
        self.batches.front()
    }

    /// Says whether more will come soon that may be earlier than what other lanes have.
    fn is_awaited(&self, now: Instant) -> bool {
        let behind = match self.head.input {
            Input::Clean => CLEAN_BEHIND,
            Input::Labels => LABELS_BEHIND,
        };
        self.clock.is_none()
            && behind <= self.high.0 - self.next.0
            && now.saturating_duration_since(self.came_at) < SILENT
    }
}

fn size(batch: &Batch) -> usize {
    batch.bytes() + RECORD_BYTES * batch.len()
}

/// Returns the time in the middle of a part; one without events or labels is before all others.
fn middle(part: &Part) -> i64 {
    let (len, time): (_, &dyn Fn(usize) -> i64) = match &part.body {
        Body::Events(times, _) => (times.len(), &|at| times[at]),
        Body::Labels(labels) => (labels.len(), &|at| labels[at].time),
    };
    let mut samples: Vec<i64> = (0..len)
        .step_by(len.div_ceil(SAMPLES).max(1))
        .map(time)
        .collect();
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(i64::MIN)
}
