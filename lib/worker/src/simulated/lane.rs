//! Lanes: records on their way, in order. What a process that was killed had on the way arrives up to some record,
//! perhaps only after its successor has begun.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::log::Stored;
use super::{Client, Shared};
use crate::batch::TopicPartition;
use crate::broker::{BrokerError, Lane, Outgoing};

/// Records on their way in one lane; whoever sends more waits.
const FLIGHTS_MAX: usize = 8;

/// How late the last records of a killed process may arrive.
const LATE_MS_MAX: u64 = 3_000;

/// How long a delivery takes that stalls.
const STALL_MS: std::ops::RangeInclusive<u64> = 500..=4_000;

/// A lane of a simulated broker.
#[derive(Clone)]
pub struct SimulatedLane {
    shared: Arc<Shared>,
    state: Arc<LaneState>,
}

pub(super) struct LaneState {
    to: TopicPartition,
    client: Arc<Client>,
    flights: Mutex<Flights>,
    changed: Notify,
}

#[derive(Default)]
struct Flights {
    sent: u64,
    acked: u64,
    failed: Option<BrokerError>,
    queue: VecDeque<Stored>,
    /// Whether a task delivers the queue.
    delivering: bool,
    /// How much later everything arrives.
    late: Duration,
}

impl LaneState {
    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is gone: some of what is on the way arrives all the same.
    pub(super) fn cut(&self, shared: &Shared) {
        let mut flights = self.flights();
        flights.failed = Some(BrokerError::Stopped);
        if !flights.queue.is_empty() {
            let all = flights.queue.len();
            let arrive = shared.dice.within(0..=all as u64) as usize;
            flights.queue.truncate(arrive);
            flights.late = shared.dice.millis(0..=LATE_MS_MAX);
            let (client, to) = (&self.client.name, &self.to);
            let late = flights.late.as_millis();
            shared.story.tell(format_args!(
                "of {client}'s {all} records on the way to {to}, {arrive} arrive, {late} ms late"
            ));
        }
        drop(flights);
        self.changed.notify_waiters();
    }

    fn fail(&self, shared: &Shared, error: BrokerError) {
        let (client, to) = (&self.client.name, &self.to);
        shared
            .story
            .tell(format_args!("{client}'s lane to {to} fails"));
        let mut flights = self.flights();
        flights.failed = Some(error);
        flights.queue.clear();
        flights.delivering = false;
        drop(flights);
        self.changed.notify_waiters();
    }
}

impl SimulatedLane {
    pub(super) fn open(shared: Arc<Shared>, client: Arc<Client>, to: TopicPartition) -> Self {
        let state = Arc::new(LaneState {
            to,
            client,
            flights: Mutex::default(),
            changed: Notify::new(),
        });
        state.client.lanes().push(Arc::downgrade(&state));
        SimulatedLane { shared, state }
    }

    /// Waits until something changes, unless it is done already.
    async fn changed(&self, done: impl Fn(&Flights) -> bool) -> Result<bool, BrokerError> {
        let changed = self.state.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let flights = self.state.flights();
            if let Some(error) = &flights.failed {
                return Err(error.clone());
            }
            if done(&flights) {
                return Ok(true);
            }
        }
        changed.await;
        Ok(false)
    }

    /// Writes at once where nothing takes time; says no where it does.
    fn at_once(&self, record: &mut Option<Stored>) -> Result<Option<u64>, BrokerError> {
        let mut flights = self.state.flights();
        if flights.delivering || 0 < self.shared.faults().delay_ms {
            return Ok(None);
        }
        let Some(record) = record.take() else {
            return Ok(None);
        };
        self.shared.append(&self.state.to, record)?;
        flights.sent += 1;
        flights.acked = flights.sent;
        Ok(Some(flights.sent))
    }
}

impl Lane for SimulatedLane {
    async fn send(&self, record: Outgoing<'_>) -> Result<u64, BrokerError> {
        while !self
            .changed(|flights| flights.queue.len() < FLIGHTS_MAX)
            .await?
        {}
        let mut record = Some(record.into());
        if let Some(number) = self.at_once(&mut record)? {
            return Ok(number);
        }
        let mut flights = self.state.flights();
        flights.queue.extend(record);
        flights.sent += 1;
        if !flights.delivering {
            flights.delivering = true;
            tokio::spawn(deliver(self.shared.clone(), self.state.clone()));
        }
        Ok(flights.sent)
    }

    fn acked(&self) -> Result<u64, BrokerError> {
        let flights = self.state.flights();
        match &flights.failed {
            Some(error) => Err(error.clone()),
            None => Ok(flights.acked),
        }
    }

    async fn wait(&self, number: u64) -> Result<(), BrokerError> {
        while !self.changed(|flights| number <= flights.acked).await? {}
        Ok(())
    }
}

/// Delivers what is on the way, a few records at a time, until nothing is.
async fn deliver(shared: Arc<Shared>, lane: Arc<LaneState>) {
    loop {
        let faults = shared.faults();
        let mut delay = shared.dice.millis(0..=faults.delay_ms);
        if shared.dice.happens(faults.stalls) {
            delay += shared.dice.millis(STALL_MS);
        }
        delay += std::mem::take(&mut lane.flights().late);
        tokio::time::sleep(delay).await;
        let late = std::mem::take(&mut lane.flights().late);
        tokio::time::sleep(late).await;
        let burst: Vec<Stored> = {
            let mut flights = lane.flights();
            let most = flights.queue.len() as u64;
            if most == 0 {
                flights.delivering = false;
                return;
            }
            let take = shared.dice.within(1..=most) as usize;
            flights.queue.drain(..take).collect()
        };
        let fails = shared.dice.happens(faults.deliveries) && !lane.client.is_dead();
        let (all, count) = (burst.len(), burst.len() as u64);
        let arrive = match fails {
            true => shared.dice.within(0..=count) as usize,
            false => all,
        };
        for record in burst.into_iter().take(arrive) {
            let (client, to) = (&lane.client.name, &lane.to);
            shared
                .story
                .tell(format_args!("{client} writes to {to}:{record}"));
            if let Err(error) = shared.append(&lane.to, record) {
                return lane.fail(&shared, error);
            }
        }
        if fails {
            let reason = format!("{arrive} of {all} records arrived, none is acknowledged");
            let to = lane.to.to_string();
            return lane.fail(&shared, BrokerError::Write { to, reason });
        }
        if lane.client.is_dead() {
            continue;
        }
        // A crash between the record and its acknowledgement finds the record there.
        tokio::time::sleep(shared.dice.millis(0..=faults.delay_ms / 2)).await;
        lane.flights().acked += count;
        lane.changed.notify_waiters();
    }
}
