//! Catching up: what waits in the topics comes as fast as it is read, and every label is learned all the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "crashes need more of it")]
mod support;

use std::collections::HashMap;

use schemas::Offset;
use support::{MemoryBroker, Run, contract, everything, fill, inputs, learned};
use worker::{Batch, Stage, TopicPartition};

/// Many times what may wait: the contract lets 4,096 events wait for their labels.
const EVENTS: i64 = 120_000;

/// Events of a clean message, and labels of a batch.
const EACH: i64 = 500;

/// Hands everything over, of some partitions first whenever they are not held back; returns how many labels were
/// learned.
async fn rush(first: &str) -> u64 {
    let (broker, folder) = (MemoryBroker::new(1), tempfile::tempdir().unwrap());
    fill(&broker, &contract(), EVENTS, EACH);
    let mut run = Run::start(&broker, folder.path()).await.unwrap();
    let batches = |of: &TopicPartition| {
        let each = if &*of.topic == "s.clean" {
            1
        } else {
            EACH as usize
        };
        broker
            .batches(of, everything(), each)
            .into_iter()
            .peekable()
    };
    let mut queues: HashMap<TopicPartition, std::iter::Peekable<std::vec::IntoIter<Batch>>> =
        inputs()
            .into_iter()
            .map(|of| (of.clone(), batches(&of)))
            .collect();
    let mut order = inputs();
    order.sort_by_key(|of| &*of.topic != first);
    let mut idle = 0;
    while queues.values_mut().any(|queue| queue.peek().is_some()) {
        let held = run.trainer.held();
        let flowing = order.iter().filter(|of| !held.contains(of));
        let next = flowing.filter_map(|of| queues.get_mut(of)?.next()).next();
        match next {
            Some(batch) => run.trainer.handle(batch).await.unwrap(),
            None => idle += 1,
        }
        assert!(idle < 1000, "all that is left is held back for ever");
        run.trainer.tick(worker::now()).await.unwrap();
    }
    run.drain().await.unwrap();
    let durable = run.trainer.durable().unwrap();
    for (of, offset) in durable {
        assert_eq!(offset, Offset(broker.len(&of) as i64), "{of}");
    }
    broker.updates().last().unwrap().prequential.labels()
}

#[tokio::test]
async fn events_that_come_first_wait_for_their_labels() {
    assert_eq!(rush("s.clean").await, learned(EVENTS));
}

#[tokio::test]
async fn labels_that_come_first_wait_for_their_events() {
    assert_eq!(rush("s.labels").await, learned(EVENTS));
}
