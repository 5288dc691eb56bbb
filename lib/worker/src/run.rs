//! The loop: events in, durable offsets out.

use std::time::Duration;

use schemas::Offset;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;

use crate::batch::{Batch, TopicPartition};
use crate::broker::{Assigned, Broker, BrokerError, Event, Order, Subscription};
use crate::process::Surroundings;
use crate::signals::Signals;
use crate::stage::{Fault, Next, Stage};
use crate::whole::Whole;

/// How often a stage is told the time when nothing comes.
const TICK: Duration = Duration::from_millis(100);

/// Events of one round: as many as may wait.
const ROUND_EVENTS_MAX: usize = 8;

/// How often durable offsets are committed: a crash repeats at most this much work.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// What a stage reads.
pub struct Inputs<'a> {
    /// Consumer group.
    pub group: &'a str,
    /// Topics.
    pub topics: &'a [&'a str],
    /// Those of them in which every offset has a record.
    pub unbroken: &'a [&'a str],
}

/// Why the loop ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError<E: Fault> {
    #[error(transparent)]
    Stage(E),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl<E: Fault> Fault for RunError<E> {
    fn next(&self) -> Next {
        match self {
            RunError::Stage(error) => error.next(),
            RunError::Broker(_) => Next::Restart,
        }
    }
}

/// Runs a stage until the process is told to stop; then drains it and commits.
///
/// # Errors
/// The stage's own, or the broker's.
pub async fn run<S: Stage, B: Broker>(
    stage: S,
    broker: &B,
    inputs: Inputs<'_>,
    around: &Surroundings,
) -> Result<(), Box<dyn Fault>> {
    let subscription = broker
        .subscribe(inputs.group, inputs.topics)
        .map_err(boxed::<S::Error>)?;
    let signals = Signals::new(&around.instruments);
    let mut running = Running {
        stage,
        subscription,
        whole: Whole::new(broker, inputs.unbroken),
        signals,
        around,
        owned: Vec::new(),
        held: Vec::new(),
    };
    running
        .run()
        .await
        .map_err(|error| Box::new(error) as Box<dyn Fault>)
}

fn boxed<E: Fault>(error: BrokerError) -> Box<dyn Fault> {
    Box::new(RunError::<E>::Broker(error))
}

struct Running<'a, S, B> {
    stage: S,
    subscription: Subscription,
    whole: Whole<'a, B>,
    signals: Signals,
    around: &'a Surroundings,
    owned: Vec<TopicPartition>,
    /// What the poll thread was told to hold.
    held: Vec<TopicPartition>,
}

impl<S: Stage, B: Broker> Running<'_, S, B> {
    async fn run(&mut self) -> Result<(), RunError<S::Error>> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut committed_at = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                () = self.around.shutdown.cancelled() => break,
                event = self.subscription.events.recv() => Some(event.ok_or(BrokerError::Stopped)?),
                _ = tick.tick() => None,
            };
            if let Some(event) = event {
                self.take(event).await?;
                self.take_ready().await?;
            }
            let now = Instant::now();
            self.stage
                .tick(now.into_std())
                .await
                .map_err(RunError::Stage)?;
            self.hold()?;
            if COMMIT_INTERVAL <= now - committed_at {
                self.commit()?;
                committed_at = now;
            }
            self.around.health.beat();
        }
        info!("draining");
        self.stage
            .drain(&self.owned)
            .await
            .map_err(RunError::Stage)?;
        let durable = self.stage.durable().map_err(RunError::Stage)?;
        // The poll thread commits what is in its channel before it leaves the group.
        if self
            .subscription
            .orders
            .send(Order::Commit(durable))
            .await
            .is_err()
        {
            return Err(BrokerError::Stopped.into());
        }
        self.leave().await
    }

    /// Takes what else is there already, so that what a stage does at the end of a round it does for all of it.
    async fn take_ready(&mut self) -> Result<(), RunError<S::Error>> {
        for _ in 1..ROUND_EVENTS_MAX {
            match self.subscription.events.try_recv() {
                Ok(event) => self.take(event).await?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(BrokerError::Stopped.into()),
            }
        }
        Ok(())
    }

    async fn take(&mut self, event: Event) -> Result<(), RunError<S::Error>> {
        match event {
            Event::Batch(batch) => self.handle(batch).await,
            Event::Assigned(partitions, answer) => self.assign(partitions, answer).await,
            Event::Revoked(partitions, answer) => self.revoke(partitions, answer).await,
            Event::High(partition, high) => {
                self.signals.high(&partition, high);
                self.stage.high(&partition, high);
                Ok(())
            }
            Event::Failed(error) => Err(error.into()),
        }
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), RunError<S::Error>> {
        self.whole.check(&batch).await?;
        let (from, records, last) = batch.summary();
        let began = Instant::now();
        self.stage.handle(batch).await.map_err(RunError::Stage)?;
        self.signals.handled(&from, records, last, began.elapsed());
        Ok(())
    }

    async fn assign(
        &mut self,
        partitions: Vec<TopicPartition>,
        answer: oneshot::Sender<Vec<Assigned>>,
    ) -> Result<(), RunError<S::Error>> {
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in &partitions {
            let start = self
                .stage
                .assign(partition)
                .await
                .map_err(RunError::Stage)?;
            starts.push(Assigned {
                partition: partition.clone(),
                start,
            });
        }
        self.whole.begin(&starts);
        self.signals.assigned(&partitions);
        // What was paused is not, once it is assigned anew.
        self.held.retain(|held| !partitions.contains(held));
        self.owned.extend(partitions);
        self.around.health.ready(!self.owned.is_empty());
        answer.send(starts).map_err(|_| BrokerError::Stopped.into())
    }

    async fn revoke(
        &mut self,
        partitions: Vec<TopicPartition>,
        answer: oneshot::Sender<Vec<(TopicPartition, Offset)>>,
    ) -> Result<(), RunError<S::Error>> {
        self.stage
            .drain(&partitions)
            .await
            .map_err(RunError::Stage)?;
        let durable = self.stage.durable().map_err(RunError::Stage)?;
        self.stage.release(&partitions);
        self.signals.committed(&durable);
        self.signals.revoked(&partitions);
        self.owned.retain(|owned| !partitions.contains(owned));
        self.around.health.ready(!self.owned.is_empty());
        answer
            .send(durable)
            .map_err(|_| BrokerError::Stopped.into())
    }

    fn commit(&mut self) -> Result<(), RunError<S::Error>> {
        let durable = self.stage.durable().map_err(RunError::Stage)?;
        if durable.is_empty() {
            return Ok(());
        }
        self.signals.committed(&durable);
        if !self.order(Order::Commit(durable))? {
            self.signals.late_commit();
        }
        Ok(())
    }

    /// Tells the poll thread what the stage holds back, if that has changed.
    fn hold(&mut self) -> Result<(), RunError<S::Error>> {
        let held = self.stage.held();
        if held != self.held && self.order(Order::Hold(held.clone()))? {
            self.held = held;
        }
        Ok(())
    }

    /// Gives the poll thread an order; says whether there was room for it.
    fn order(&self, order: Order) -> Result<bool, RunError<S::Error>> {
        match self.subscription.orders.try_send(order) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Closed(_)) => Err(BrokerError::Stopped.into()),
        }
    }

    /// Waits until the poll thread has committed and left the group.
    async fn leave(&mut self) -> Result<(), RunError<S::Error>> {
        let (gone, _) = tokio::sync::mpsc::channel(1);
        drop(std::mem::replace(&mut self.subscription.orders, gone));
        while let Some(event) = self.subscription.events.recv().await {
            match event {
                // Everything is drained: what the group revokes now has been committed already.
                Event::Revoked(_, answer) => drop(answer.send(Vec::new())),
                Event::Assigned(_, answer) => drop(answer.send(Vec::new())),
                Event::Batch(_) | Event::High(..) => {}
                Event::Failed(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
