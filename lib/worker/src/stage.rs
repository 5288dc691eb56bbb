//! What a stage is to the worker.

use std::future::Future;
use std::time::Instant;

use schemas::Offset;

use crate::batch::{Batch, TopicPartition};
use crate::broker::Start;

/// One stage. The worker calls it from one task, so nothing in it needs a lock.
///
/// Effects are reported apart from handling, by [`Stage::durable`], since acknowledgements come later
/// than [`Stage::handle`] returns, and one commit of a stage may make many partitions durable.
pub trait Stage: Send {
    /// What can go wrong.
    type Error: Fault;

    /// Takes a partition on: restores what decisions about it depend on, and says where to begin.
    fn assign(
        &mut self,
        partition: &TopicPartition,
    ) -> impl Future<Output = Result<Start, Self::Error>> + Send;

    /// Handles the next records of a partition. May return before their effects are durable.
    fn handle(&mut self, batch: Batch) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Notes the offset after the last record of a partition; told about once a second.
    fn high(&mut self, _partition: &TopicPartition, _high: Offset) {}

    /// Ends a round: called once all batches that were there have been handled (a few at most), and every tenth of
    /// a second when nothing comes. Does what time makes due, and what is cheaper for many batches than for one.
    fn tick(&mut self, now: Instant) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns, for partitions that moved, the next offset to read: all effects of what is before it are
    /// durable, and harmless if repeated after a crash.
    fn durable(&mut self) -> Result<Vec<(TopicPartition, Offset)>, Self::Error>;

    /// Returns the partitions of which nothing should come for now: what a stage reads from two topics may need
    /// one of them to catch up. Some records of theirs may still be on their way.
    fn held(&self) -> Vec<TopicPartition> {
        Vec::new()
    }

    /// Finishes open work before partitions go, or before the process ends: afterwards all that was handled
    /// is durable. The worker then asks [`Stage::durable`], and at last calls [`Stage::release`].
    fn drain(
        &mut self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Forgets partitions that have gone.
    fn release(&mut self, partitions: &[TopicPartition]);
}

/// An error that knows what happens next.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// Says what the process does about it.
    fn next(&self) -> Next;
}

/// What the process does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ends with a failure: whoever supervises it starts it anew, and it goes on from what is durable.
    Restart,
    /// Ends with a failure that a restart would meet again: a human is needed.
    Stop,
}
