//! The stage: clean batches and labels in, versions and checkpoints out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use schemas::contract::Label;
use schemas::model::Input;
use schemas::topics::Topics;
use schemas::{Contract, Offset};
use telemetry::{Instruments, Traces, names};
use worker::{Batch, Broker, Stage, Start, Store, TopicPartition};

use crate::checkpoint;
use crate::config::{
    BOARD_INTERVAL, CHECKPOINT_LABELS_MAX, CLEAN_IDLE, FLOW_LABELS_BELOW, HOLD_LABELS_FROM,
    UPDATE_INTERVAL, UPDATE_LABELS_MAX, UPDATE_SEGMENTS_MAX,
};
use crate::error::TrainerError;
use crate::fit::Fitter;
use crate::input::{Decoder, Part};
use crate::lanes::Lanes;
use crate::letters::Letters;
use crate::publish::Publisher;
use crate::restore::{Restored, Restorer};
use crate::shelf::Shelf;
use crate::signals::Signals;

/// Header of a label that carries its trace context.
const TRACE_PARENT: &str = "traceparent";

/// Clean batches and labels in; versions and checkpoints out.
pub struct Trainer<B: Broker> {
    broker: B,
    contract: Arc<Contract>,
    label: Label,
    topics: Topics,
    shelf: Shelf,
    checkpoint_interval: Duration,
    decoder: Decoder,
    lanes: Lanes,
    live: Option<Live<B>>,
    owned: BTreeSet<TopicPartition>,
    /// When clean events came last.
    clean_at: Option<Instant>,
    /// Whether labels are held back until clean events have caught up.
    holding: bool,
    durable: Vec<(TopicPartition, Offset)>,
    signals: Signals,
    traces: Traces,
}

/// Learning, between restore and release.
struct Live<B: Broker> {
    fitter: Fitter,
    publisher: Publisher<B>,
    letters: Letters<B>,
    published_at: Instant,
    board_at: Instant,
    stored_at: Instant,
    /// Labels learned when the last checkpoint was stored.
    stored_labels: u64,
    /// Whether anything was taken since.
    changed: bool,
}

impl<B: Broker> Trainer<B> {
    /// Finds the topics and makes the stage; learning is restored with the first assignment.
    ///
    /// # Errors
    /// [`TrainerError`] if a topic is missing or the contract cannot be learned.
    pub async fn build(
        contract: Arc<Contract>,
        broker: B,
        label: Label,
        store: Store,
        checkpoint_interval: Duration,
        instruments: &Instruments,
        traces: Traces,
    ) -> Result<Trainer<B>, TrainerError> {
        let topics = Topics::of(&contract.stream.name);
        for topic in [&topics.clean, &topics.labels, &topics.model, &topics.dead] {
            broker.topic(topic).await?;
        }
        let decoder = Decoder::new(&contract, label.clone())?;
        Ok(Trainer {
            broker,
            shelf: Shelf::new(store, &contract.stream.name),
            lanes: Lanes::new(),
            label,
            topics,
            contract,
            checkpoint_interval,
            decoder,
            live: None,
            owned: BTreeSet::new(),
            clean_at: None,
            holding: false,
            durable: Vec::new(),
            signals: Signals::new(instruments),
            traces,
        })
    }

    async fn restore(&mut self) -> Result<Live<B>, TrainerError> {
        let restorer = Restorer {
            broker: &self.broker,
            contract: &self.contract,
            label: &self.label,
            topics: &self.topics,
            shelf: &self.shelf,
        };
        let Restored {
            fitter,
            publisher,
            letters,
            replayed,
        } = restorer.restore(&mut self.decoder).await?;
        self.signals.version(&fitter);
        self.signals.board(fitter.board());
        Ok(Live {
            stored_labels: fitter.labels(),
            fitter,
            publisher,
            letters,
            published_at: worker::now(),
            board_at: worker::now(),
            stored_at: worker::now(),
            // A stream that is still now would never be committed, and be replayed with every restart.
            changed: replayed,
        })
    }

    fn input(&self, of: &TopicPartition) -> Input {
        if *of.topic == *self.topics.labels {
            Input::Labels
        } else {
            Input::Clean
        }
    }

    /// Says what is held back: labels while so many wait for clean events that are still on their way, events while
    /// they would push out others whose labels are here.
    fn balance(&mut self, now: Instant) -> Option<Input> {
        let live = self.live.as_mut()?;
        let flowing = self
            .clean_at
            .is_some_and(|at| now.saturating_duration_since(at) < CLEAN_IDLE);
        let most = if self.holding {
            FLOW_LABELS_BELOW
        } else {
            HOLD_LABELS_FROM
        };
        self.holding = flowing && most <= live.fitter.early();
        if self.holding {
            return Some(Input::Labels);
        }
        let label_time = self.lanes.label_time()?;
        live.fitter.is_crowded(label_time).then_some(Input::Clean)
    }

    /// Takes what has come, as far as its turn has come.
    async fn advance(&mut self, now: Instant) -> Result<(), TrainerError> {
        while let Some(live) = &mut self.live {
            self.lanes.decode(&mut self.decoder, &mut live.fitter)?;
            let held = self.balance(now);
            let Some(from) = self.lanes.first(now, held) else {
                break;
            };
            self.take_head(&from).await?;
            self.lanes.pass(&from);
        }
        Ok(())
    }

    async fn take_head(&mut self, from: &TopicPartition) -> Result<(), TrainerError> {
        let (Some(live), Some(lane)) = (&mut self.live, self.lanes.lane(from)) else {
            return Ok(());
        };
        let started = SystemTime::now();
        if !lane.unreadable.is_empty() {
            self.signals.unreadable(from, &lane.unreadable);
            live.letters.send(from.partition, &lane.unreadable).await?;
        }
        live.take(&lane.head, from, &self.signals).await?;
        if self.traces.enabled() && lane.head.input == Input::Labels {
            let records = lane.batch().into_iter().flat_map(Batch::records);
            let parents = records.filter_map(|record| record.header(TRACE_PARENT));
            for parent in parents.filter_map(|parent| std::str::from_utf8(parent).ok()) {
                self.traces
                    .emit(names::span::LEARN, parent, started, Vec::new());
            }
        }
        Ok(())
    }

    /// Stores a checkpoint of the newest version, made now if need be; only then are the offsets before it durable.
    async fn checkpoint(&mut self) -> Result<(), TrainerError> {
        let Some(live) = self.live.as_mut().filter(|live| live.changed) else {
            return Ok(());
        };
        if 0 < live.fitter.segments() {
            live.publish(&self.signals).await?;
        }
        // From here to the announcement no version is sent: whoever reads it goes on with the next one.
        let model = live.publisher.settle().await?;
        let dead = live.letters.ends().await?;
        let bytes =
            checkpoint::encode(&live.fitter, model, &dead).map_err(TrainerError::Version)?;
        let (lineage, size) = (live.fitter.lineage(), bytes.len());
        let name = self.shelf.put(lineage, bytes).await?;
        live.publisher.announce(lineage, &name).await?;
        self.signals.stored(lineage.version, size, &name);
        live.stored();
        self.durable.clear();
        for ((input, partition), position) in live.fitter.positions() {
            let topic = match input {
                Input::Clean => &self.topics.clean,
                Input::Labels => &self.topics.labels,
            };
            let of: TopicPartition = (topic.as_str(), *partition).into();
            if self.owned.contains(&of) {
                self.durable.push((of, position.message));
            }
        }
        self.shelf.prune().await;
        Ok(())
    }
}

impl<B: Broker> Live<B> {
    /// Takes a part, with as many versions in between as its labels make due.
    async fn take(
        &mut self,
        part: &Part,
        from: &TopicPartition,
        signals: &Signals,
    ) -> Result<(), TrainerError> {
        self.changed = true;
        loop {
            self.fitter
                .take(part, part.last, UPDATE_LABELS_MAX)
                .map_err(|source| TrainerError::Fit {
                    from: from.to_string(),
                    source,
                })?;
            let full = UPDATE_LABELS_MAX <= self.fitter.learned()
                || UPDATE_SEGMENTS_MAX <= self.fitter.segments();
            if full {
                self.publish(signals).await?;
            }
            if self.fitter.has_taken(part) {
                break;
            }
        }
        signals.taken(&mut self.fitter);
        Ok(())
    }

    async fn publish(&mut self, signals: &Signals) -> Result<(), TrainerError> {
        // What a replay passes over has its letters.
        self.letters.settle().await?;
        let update = self.fitter.advance().map_err(TrainerError::Version)?;
        self.publisher.update(&update).await?;
        self.published_at = worker::now();
        signals.version(&self.fitter);
        Ok(())
    }

    fn stored(&mut self) {
        self.stored_at = worker::now();
        self.stored_labels = self.fitter.labels();
        self.changed = false;
    }
}

impl<B: Broker> Stage for Trainer<B> {
    type Error = TrainerError;

    async fn assign(&mut self, partition: &TopicPartition) -> Result<Start, TrainerError> {
        let live = match self.live.take() {
            Some(live) => live,
            None => self.restore().await?,
        };
        let input = self.input(partition);
        let position = live.fitter.positions().get(&(input, partition.partition));
        let position = position.map(|position| position.message);
        self.live = Some(live);
        self.owned.insert(partition.clone());
        let ends = self.broker.watermarks(partition).await?;
        let start = position.unwrap_or(ends.low);
        let layout = self.decoder.layout();
        self.lanes
            .open(partition.clone(), input, layout, (start, ends.high));
        Ok(Start::At(start))
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), TrainerError> {
        if self.input(batch.from()) == Input::Clean {
            self.clean_at = Some(worker::now());
        }
        let from = batch.from().clone();
        match self.lanes.push(batch) {
            true => Ok(()),
            false => Err(TrainerError::Unassigned(from.to_string())),
        }
    }

    fn high(&mut self, partition: &TopicPartition, high: Offset) {
        self.lanes.high(partition, high);
    }

    async fn tick(&mut self, now: Instant) -> Result<(), TrainerError> {
        self.advance(now).await?;
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let since = |then: Instant| now.saturating_duration_since(then);
        if 0 < live.fitter.learned() && UPDATE_INTERVAL <= since(live.published_at) {
            live.publish(&self.signals).await?;
        }
        if BOARD_INTERVAL <= since(live.board_at) {
            live.board_at = now;
            self.signals.board(live.fitter.board());
        }
        let labels = live.fitter.labels() - live.stored_labels;
        if self.checkpoint_interval <= since(live.stored_at) || CHECKPOINT_LABELS_MAX <= labels {
            self.checkpoint().await?;
        }
        Ok(())
    }

    fn held(&self) -> Vec<TopicPartition> {
        let labels = |partition: &&TopicPartition| self.input(partition) == Input::Labels;
        let mut held: BTreeSet<TopicPartition> = self.lanes.full().cloned().collect();
        if self.holding {
            held.extend(self.owned.iter().filter(labels).cloned());
        }
        held.into_iter().collect()
    }

    fn durable(&mut self) -> Result<Vec<(TopicPartition, Offset)>, TrainerError> {
        Ok(std::mem::take(&mut self.durable))
    }

    async fn drain(&mut self, _: &[TopicPartition]) -> Result<(), TrainerError> {
        // What still waits for its turn is read again by whoever comes next: taken now, it would crowd out others.
        self.advance(worker::now()).await?;
        self.checkpoint().await?;
        match &self.live {
            // Whoever comes next, perhaps this process, takes what is still on its way for another trainer's.
            Some(live) => live.publisher.flush().await,
            None => Ok(()),
        }
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.lanes.close(partition);
        }
        if self.owned.is_empty() {
            // Another trainer may take over: what is known here is stale when the partitions come back.
            self.live = None;
        }
    }
}
