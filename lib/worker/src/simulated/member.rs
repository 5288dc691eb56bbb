//! A member of a group: hands over what comes, partitions in any order, gives partitions up when the group says so, and
//! lets the stage take on its first ones at once, others one by one. It stands for a client's poll thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use schemas::{Offset, Partition};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::group::Standing;
use super::{Client, Shared};
use crate::batch::{Batch, TopicPartition};
use crate::broker::{Assigned, BrokerError, Event, Order, Start};

/// Rounds of a thousand in which the ends of the logs are told.
const HIGH: u64 = 50;

pub(super) struct Member {
    shared: Arc<Shared>,
    client: Arc<Client>,
    group: String,
    /// What the group shares.
    all: Vec<TopicPartition>,
    /// What whoever has the first of them reads, in a group that is all or nothing.
    everything: Option<Vec<TopicPartition>>,
    events: mpsc::Sender<Event>,
    orders: mpsc::Receiver<Order>,
    bell: Arc<Notify>,
    id: u64,
    generation: u64,
    /// What the group has given to it.
    owned: Vec<TopicPartition>,
    /// What the stage has not taken on yet.
    waiting: VecDeque<Vec<TopicPartition>>,
    /// Where to read on in each partition that the stage has.
    positions: Vec<(TopicPartition, Offset)>,
    held: Vec<TopicPartition>,
}

/// What a member reads.
pub(super) struct Reads<'a> {
    pub(super) group: &'a str,
    pub(super) partitions: Vec<TopicPartition>,
    /// The topic whose partition 0 stands for all of them.
    pub(super) lock: Option<&'a str>,
}

/// The process or its stage has gone.
struct Gone;

impl Member {
    pub(super) fn new(
        shared: Arc<Shared>,
        client: Arc<Client>,
        reads: Reads<'_>,
        events: mpsc::Sender<Event>,
        orders: mpsc::Receiver<Order>,
    ) -> Member {
        let bell = Arc::new(Notify::new());
        shared.topics().listen(&bell);
        client.bells().push(Arc::downgrade(&bell));
        let (all, everything) = match reads.lock {
            Some(lock) => (vec![(lock, Partition(0)).into()], Some(reads.partitions)),
            None => (reads.partitions, None),
        };
        Member {
            shared,
            client,
            group: reads.group.to_owned(),
            all,
            everything,
            events,
            orders,
            bell,
            id: 0,
            generation: 0,
            owned: Vec::new(),
            waiting: VecDeque::new(),
            positions: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Goes on until the process or its stage has gone.
    pub(super) async fn run(mut self) {
        self.join();
        while let Ok(()) = self.round().await {}
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

    /// Does what the stage and the group want, and hands one batch over or waits until something happens.
    async fn round(&mut self) -> Result<(), Gone> {
        self.take_orders()?;
        let mut until = None;
        // One that is not heard does not hear the group either.
        if !self.client.is_unheard() {
            until = self.hear().await?;
        }
        if let Some(partitions) = self.waiting.pop_front() {
            self.take_on(partitions).await?;
        }
        self.flow(until).await
    }

    /// Does what the group wants; returns until when a rebalance may last.
    async fn hear(&mut self) -> Result<Option<Instant>, Gone> {
        match self.standing() {
            Standing::Out => {
                let lost = std::mem::take(&mut self.owned);
                self.give_up(&lost).await?;
                self.join();
                Ok(Some(Instant::now()))
            }
            Standing::Rebalancing(_) => {
                let (id, owned) = (self.id, self.owned.clone());
                self.group(|group| group.rejoin(id, owned));
                // It may have been the last one for which the others waited.
                match self.standing() {
                    Standing::Rebalancing(deadline) => Ok(Some(deadline)),
                    _ => Ok(Some(Instant::now())),
                }
            }
            Standing::Has(generation, _) if generation == self.generation => Ok(None),
            Standing::Has(generation, assigned) => {
                self.generation = generation;
                self.change_to(assigned).await?;
                Ok(None)
            }
        }
    }

    async fn change_to(&mut self, assigned: Vec<TopicPartition>) -> Result<(), Gone> {
        let gone = |had: &&TopicPartition| !assigned.contains(had);
        let gone: Vec<TopicPartition> = self.owned.iter().filter(gone).cloned().collect();
        let new = |gets: &&TopicPartition| !self.owned.contains(gets);
        let new: Vec<TopicPartition> = assigned.iter().filter(new).cloned().collect();
        self.owned = assigned;
        if !gone.is_empty() {
            self.give_up(&gone).await?;
        }
        match &self.everything {
            _ if new.is_empty() => {}
            Some(everything) => self.waiting.push_back(everything.clone()),
            // As with Kafka: who has none yet holds nobody up.
            None if self.positions.is_empty() => self.take_on(new).await?,
            None => {
                let alone = new.into_iter().map(|partition| vec![partition]);
                self.waiting.extend(alone);
            }
        }
        if !gone.is_empty() {
            // Others wait for them.
            self.group(super::Group::begin_rebalance);
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        let at_once = self.shared.faults().delay_ms == 0;
        let dice = (!at_once).then_some(&self.shared.dice);
        self.group(|group| group.standing(self.id, &self.all, dice, &self.shared.story))
    }

    async fn take_on(&mut self, partitions: Vec<TopicPartition>) -> Result<(), Gone> {
        let (answer, starts) = oneshot::channel();
        self.hand(Event::Assigned(partitions, answer)).await?;
        let starts = starts.await.map_err(|_| Gone)?;
        for Assigned { partition, start } in starts {
            let name = &self.client.name;
            self.shared
                .story
                .tell(format_args!("{name} takes {partition} on"));
            let committed = || self.group(|group| group.committed(&partition));
            let next = match start {
                Start::Committed => committed().unwrap_or(Offset(0)),
                Start::At(offset) => offset,
            };
            self.held.retain(|held| *held != partition);
            self.positions.push((partition, next));
        }
        Ok(())
    }

    /// Gives up what the stage has taken on of what the group takes away.
    async fn give_up(&mut self, gone: &[TopicPartition]) -> Result<(), Gone> {
        let gone = match &self.everything {
            Some(everything) if !gone.is_empty() => everything.as_slice(),
            _ => gone,
        };
        self.waiting
            .retain(|waits| !waits.iter().any(|partition| gone.contains(partition)));
        let taken_on = self.positions.iter().map(|(partition, _)| partition);
        let taken_on: Vec<_> = taken_on
            .filter(|partition| gone.contains(partition))
            .cloned()
            .collect();
        self.positions
            .retain(|(partition, _)| !taken_on.contains(partition));
        if taken_on.is_empty() {
            return Ok(());
        }
        let (answer, durable) = oneshot::channel();
        self.hand(Event::Revoked(taken_on, answer)).await?;
        let durable = durable.await.map_err(|_| Gone)?;
        // Those that were on their way are older.
        self.take_orders()?;
        self.commit(&durable);
        Ok(())
    }

    /// Hands one batch over, or waits until something happens.
    async fn flow(&mut self, until: Option<Instant>) -> Result<(), Gone> {
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
        if !self.waiting.is_empty() {
            return Ok(());
        }
        let over = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = self.orders.recv() => self.take(order),
            () = self.bell.notified() => Ok(()),
            () = over => Ok(()),
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
        if self.shared.dice.happens(HIGH)
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

    fn take_orders(&mut self) -> Result<(), Gone> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.take(Some(order))?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Gone),
            }
        }
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
