//! What the loop tells operators: one method per thing that happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::KeyValue;
use schemas::Offset;
use telemetry::{Counter, Histogram, Instruments, names};
use tracing::{info, warn};

use crate::batch::{Batch, TopicPartition};

/// Boundaries of the time for one batch, in seconds.
const HANDLE_SECONDS: [f64; 9] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

/// How far one partition is.
#[derive(Clone, Copy, Default)]
struct Position {
    next: Option<Offset>,
    high: Option<Offset>,
    committed: Option<Offset>,
}

pub(crate) struct Signals {
    records: Counter<u64>,
    rebalances: Counter<u64>,
    handle: Histogram<f64>,
    positions: Arc<Mutex<HashMap<TopicPartition, Position>>>,
    topics: HashMap<Arc<str>, [KeyValue; 1]>,
}

impl Signals {
    pub(crate) fn new(instruments: &Instruments) -> Signals {
        let positions: Arc<Mutex<HashMap<TopicPartition, Position>>> = Arc::default();
        let lag = |position: &Position| {
            let high = position.high?;
            Some((high.0 - position.next.unwrap_or(Offset(0)).0).max(0) as f64)
        };
        let committed = |position: &Position| position.committed.map(|offset| offset.0 as f64);
        observe(instruments, names::WORKER_LAG, &positions, lag);
        observe(instruments, names::WORKER_COMMITTED, &positions, committed);
        observe_process(instruments);
        Signals {
            records: instruments.counter(names::WORKER_RECORDS),
            rebalances: instruments.counter(names::WORKER_REBALANCES),
            handle: instruments.histogram(names::WORKER_HANDLE, &HANDLE_SECONDS),
            positions,
            topics: HashMap::new(),
        }
    }

    pub(crate) fn handled(
        &mut self,
        from: &TopicPartition,
        records: usize,
        last: Option<Offset>,
        took: Duration,
    ) {
        let labels = self.topics.entry(from.topic.clone()).or_insert_with(|| {
            [KeyValue::new(
                "messaging.destination.name",
                from.topic.to_string(),
            )]
        });
        self.records.add(records as u64, labels);
        self.handle.record(took.as_secs_f64(), labels);
        self.update(from, |position| position.next = last.map(Offset::next));
    }

    pub(crate) fn high(&self, of: &TopicPartition, high: Offset) {
        self.update(of, |position| position.high = Some(high));
    }

    pub(crate) fn committed(&self, offsets: &[(TopicPartition, Offset)]) {
        for (partition, offset) in offsets {
            self.update(partition, |position| position.committed = Some(*offset));
        }
    }

    pub(crate) fn assigned(&self, partitions: &[TopicPartition]) {
        info!(partitions = list(partitions), "assigned");
        self.rebalances.add(1, &[KeyValue::new("kind", "assigned")]);
    }

    pub(crate) fn revoked(&self, partitions: &[TopicPartition]) {
        info!(partitions = list(partitions), "revoked");
        self.rebalances.add(1, &[KeyValue::new("kind", "revoked")]);
        if let Ok(mut positions) = self.positions.lock() {
            positions.retain(|partition, _| !partitions.contains(partition));
        }
    }

    pub(crate) fn late_commit(&self) {
        warn!("the poll thread is busy: a commit waits for the next round");
    }

    fn update(&self, of: &TopicPartition, change: impl FnOnce(&mut Position)) {
        if let Ok(mut positions) = self.positions.lock() {
            if let Some(position) = positions.get_mut(of) {
                change(position);
            } else {
                change(positions.entry(of.clone()).or_default());
            }
        }
    }
}

impl Batch {
    pub(crate) fn summary(&self) -> (TopicPartition, usize, Option<Offset>) {
        (self.from().clone(), self.len(), self.last())
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn observe(
    instruments: &Instruments,
    signal: names::Signal,
    positions: &Arc<Mutex<HashMap<TopicPartition, Position>>>,
    read: impl Fn(&Position) -> Option<f64> + Send + Sync + 'static,
) {
    let positions = positions.clone();
    instruments.observe_many(signal, move |emit| {
        let Ok(positions) = positions.lock() else {
            return;
        };
        for (partition, position) in positions.iter() {
            if let Some(value) = read(position) {
                let topic =
                    KeyValue::new("messaging.destination.name", partition.topic.to_string());
                let id = KeyValue::new(
                    "messaging.destination.partition.id",
                    partition.partition.to_string(),
                );
                emit(value, &[topic, id]);
            }
        }
    });
}

fn observe_process(instruments: &Instruments) {
    instruments.observe(names::PROCESS_CPU, || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Fields 14 and 15 count from the parenthesis that ends the name, which may hold spaces.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks: f64 =
            fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        // SAFETY: sysconf reads a constant of the system.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Some(ticks / per_second as f64)
    });
    instruments.observe(names::PROCESS_MEMORY, || status_kib("VmRSS:"));
    instruments.observe(names::PROCESS_MEMORY_PEAK, || status_kib("VmHWM:"));
}

fn status_kib(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
