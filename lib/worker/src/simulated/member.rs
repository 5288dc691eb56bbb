//! A member of a group: hands over what comes, partitions in any order, and gives partitions up when the group says
//! so. It stands for a client's poll thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use schemas::Offset;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc, oneshot};

use super::group::Standing;
use super::{Client, Shared};
use crate::batch::{Batch, TopicPartition};
use crate::broker::{Assigned, BrokerError, Event, Order, Start};

/// Rounds of a hundred in which the ends of the logs are told.
const HIGH_PERCENT: u64 = 5;

pub(super) struct Member {
    shared: Arc<Shared>,
    client: Arc<Client>,
    group: String,
    /// Everything that the group reads.
    all: Vec<TopicPartition>,
    events: mpsc::Sender<Event>,
    orders: mpsc::Receiver<Order>,
    bell: Arc<Notify>,
    id: u64,
    generation: u64,
    /// Where to read on in each partition that it has.
    positions: Vec<(TopicPartition, Offset)>,
    held: Vec<TopicPartition>,
}

/// The process or its stage has gone.
struct Gone;

impl Member {
    pub(super) fn new(
        shared: Arc<Shared>,
        client: Arc<Client>,
        group: &str,
        all: Vec<TopicPartition>,
        events: mpsc::Sender<Event>,
        orders: mpsc::Receiver<Order>,
    ) -> Member {
        let bell = Arc::new(Notify::new());
        shared.topics().listen(&bell);
        client.bells().push(Arc::downgrade(&bell));
        Member {
            shared,
            client,
            group: group.to_owned(),
            all,
            events,
            orders,
            bell,
            id: 0,
            generation: 0,
            positions: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Goes on until the process or its stage has gone.
    pub(super) async fn run(mut self) {
        self.join();
        while let Ok(()) = self.membership().await {}
        // Of a process that was killed the group hears nothing.
        if !self.client.is_dead() && !self.client.is_unheard() {
            let id = self.id;
            self.group(|group| group.leave(id));
        }
    }

    fn join(&mut self) {
        self.id = self.shared.members.fetch_add(1, Ordering::Relaxed) + 1;
        let (id, client, bell) = (self.id, self.client.clone(), self.bell.clone());
        self.group(|group| group.join(id, &client, &bell));
    }

    /// One assignment, from its begin to its end.
    async fn membership(&mut self) -> Result<(), Gone> {
        let partitions = loop {
            match self.standing() {
                Standing::Out => self.join(),
                Standing::Has(generation, partitions) => {
                    self.generation = generation;
                    break partitions;
                }
                Standing::Rebalancing(deadline) => tokio::select! {
                    biased;
                    order = self.orders.recv() => self.take(order)?,
                    () = self.bell.notified() => {}
                    () = tokio::time::sleep_until(deadline) => {}
                },
            }
        };
        self.assign(partitions.clone()).await?;
        while !self.must_give_up() {
            self.flow().await?;
        }
        self.give_up(partitions).await
    }

    fn standing(&self) -> Standing {
        let at_once = self.shared.faults().delay_ms == 0;
        let dice = (!at_once).then_some(&self.shared.dice);
        self.group(|group| group.standing(self.id, &self.all, dice, &self.shared.story))
    }

    fn must_give_up(&self) -> bool {
        if self.client.is_unheard() {
            // It does not hear the group either.
            return false;
        }
        !matches!(self.standing(), Standing::Has(generation, _) if generation == self.generation)
    }

    async fn assign(&mut self, partitions: Vec<TopicPartition>) -> Result<(), Gone> {
        let (answer, starts) = oneshot::channel();
        self.hand(Event::Assigned(partitions, answer)).await?;
        let starts = starts.await.map_err(|_| Gone)?;
        self.positions = starts
            .into_iter()
            .map(|Assigned { partition, start }| {
                let committed = || self.group(|group| group.committed(&partition));
                let next = match start {
                    Start::Committed => committed().unwrap_or(Offset(0)),
                    Start::At(offset) => offset,
                };
                (partition, next)
            })
            .collect();
        self.held.clear();
        Ok(())
    }

    async fn give_up(&mut self, partitions: Vec<TopicPartition>) -> Result<(), Gone> {
        self.positions.clear();
        let (answer, durable) = oneshot::channel();
        self.hand(Event::Revoked(partitions, answer)).await?;
        let durable = durable.await.map_err(|_| Gone)?;
        self.commit(&durable);
        let id = self.id;
        self.group(|group| group.wait(id));
        Ok(())
    }

    /// Hands one batch over, or waits until something happens.
    async fn flow(&mut self) -> Result<(), Gone> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.take(Some(order))?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Gone),
            }
        }
        let faults = self.shared.faults();
        if self.shared.dice.happens(faults.reads) {
            let (from, reason) = (self.group.clone(), "simulated".to_owned());
            let name = &self.client.name;
            self.shared
                .story
                .tell(format_args!("{name} can read no more"));
            self.hand(Event::Failed(BrokerError::Read { from, reason }))
                .await?;
        }
        if let Some(batch) = self.next() {
            self.shared.linger().await;
            return self.hand_over(batch).await;
        }
        tokio::select! {
            biased;
            order = self.orders.recv() => self.take(order),
            () = self.bell.notified() => Ok(()),
        }
    }

    /// Returns the next records of some partition that has any.
    fn next(&mut self) -> Option<Batch> {
        let topics = self.shared.topics();
        let ready: Vec<usize> = (0..self.positions.len())
            .filter(|at| {
                let (partition, next) = &self.positions[*at];
                !self.held.contains(partition) && topics.reaches(partition, *next)
            })
            .collect();
        let most = ready.len().checked_sub(1)? as u64;
        let (partition, next) = &self.positions[ready[self.shared.dice.within(0..=most) as usize]];
        topics.records(partition, *next, self.shared.batch_records())
    }

    async fn hand_over(&mut self, batch: Batch) -> Result<(), Gone> {
        let (from, next) = (batch.from().clone(), batch.last().map(Offset::next));
        if self.shared.dice.happens(HIGH_PERCENT * 10)
            && let Ok(ends) = self.shared.topics().watermarks(&from)
        {
            let _ = self.events.try_send(Event::High(from.clone(), ends.high));
        }
        self.hand(Event::Batch(batch)).await?;
        let Some(next) = next else { return Ok(()) };
        let generation = self.generation;
        self.group(|group| group.hand(generation, &from, next));
        let position = self.positions.iter_mut().find(|(of, _)| *of == from);
        if let Some(position) = position {
            position.1 = next;
        }
        Ok(())
    }

    async fn hand(&self, event: Event) -> Result<(), Gone> {
        if self.client.is_dead() {
            return Err(Gone);
        }
        self.events.send(event).await.map_err(|_| Gone)
    }

    fn take(&mut self, order: Option<Order>) -> Result<(), Gone> {
        if self.client.is_dead() {
            return Err(Gone);
        }
        match order {
            None => return Err(Gone),
            Some(Order::Hold(held)) => self.held = held,
            Some(Order::Commit(offsets)) => self.commit(&offsets),
        }
        Ok(())
    }

    fn commit(&self, offsets: &[(TopicPartition, Offset)]) {
        let (story, name) = (&self.shared.story, &self.client.name);
        if offsets.is_empty() {
            return;
        }
        let list: Vec<String> = offsets
            .iter()
            .map(|(partition, offset)| format!("{partition}@{offset}"))
            .collect();
        let list = list.join(" ");
        if self.shared.dice.happens(self.shared.faults().commits) {
            return story.tell(format_args!("{name}'s commit is lost: {list}"));
        }
        let (id, generation) = (self.id, self.generation);
        let (done, back) = self.group(|group| group.commit(id, generation, offsets));
        match done {
            true => story.tell(format_args!("{name} commits {list}")),
            false => story.tell(format_args!("{name}'s commit is refused: {list}")),
        }
        if let Some((partition, before, after)) = back {
            let group = &self.group;
            self.shared.break_promise(format!(
                "offsets never go back: {name} of group {group} commits {after} for {partition} after {before}"
            ));
        }
    }

    fn group<T>(&self, work: impl FnOnce(&mut super::Group) -> T) -> T {
        let mut groups = self.shared.groups();
        match groups.get_mut(&self.group) {
            Some(group) => work(group),
            None => work(groups.entry(self.group.clone()).or_default()),
        }
    }
}
