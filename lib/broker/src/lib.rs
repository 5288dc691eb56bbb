//! The embedded broker: enough of Kafka for its Java clients and tools, librdkafka and kcat, in one process and folder.
//!
//! It is there for trying, developing and testing Thalweg on a machine with nothing installed. **Production is Apache
//! Kafka.** This broker is one process on one machine, so there is no replication, no failover, no quota, no
//! authentication and no encryption on the wire.
//!
//! # What it does
//! Record batches are stored as they came: append-only segments with a sparse index in a folder per
//! partition, sent to consumers straight from the page cache. Acknowledged records survive `kill -9`: they are with the
//! operating system before the producer hears of them. They are synced to the disk only when a segment is finished and
//! at shutdown, so a power failure may take the last seconds. Idempotent producers, long polls, consumer groups of the
//! classic protocol (with static members, and whatever assignor the clients have) and committed offsets work as with
//! Apache Kafka; so do topic configs, retention by age and size, compaction by key, added partitions, deleted records and
//! what operators ask about groups. One list of checks (`tests/checks`) holds both brokers to the same answers.
//!
//! Topics keep everything for ever unless `retention.ms` or `retention.bytes` says otherwise: Kafka's default of seven
//! days would take data that is replayed with the times of its past. `segment.ms` goes by the broker's clock.
//!
//! # What it deliberately is not
//! There are no transactions: their requests are not announced, and a transactional id is refused. There are no fetch
//! sessions and no ACLs. Batches stay as they were sent (`compression.type` is kept, but not acted upon); only compaction,
//! look-ups by time and topics that want keys look into them. Groups are remembered by what they committed: their members
//! join anew after a restart. Not here: the protocol of KIP-848, changing the broker's own configs, quotas.
//!
//! # How it is built
//! ```text
//! socket ──► net: one frame ──► api: decode, act, encode ──► net: answer, file ranges by sendfile
//!                                    │        │       └────► offsets: one journal
//!                          topic: partitions  └────────────► group: pure state machines, one alarm clock
//!                                    │
//!                          log: segments, indexes, producers ◄── upkeep: retention, compaction
//! ```
//! One connection has one request in work at a time and no queue behind it but the socket's own. Everything else is
//! bounded by [`Limits`] and the constants beside it. File I/O is done right where it is wanted, since it is nearly always
//! a copy from or to the page cache; only syncs go to a thread of their own. When nothing happens, nothing runs: there
//! is no timer but those of requests that wait, of groups that have members, and of topics with retention or compaction.

// Open to the fuzz targets, which come in where no client does; for nobody else.
#[doc(hidden)]
pub mod api;
mod clock;
mod config;
mod error;
mod folder;
mod group;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod net;
mod offsets;
mod server;
#[doc(hidden)]
pub mod services;
mod sync;
#[doc(hidden)]
pub mod topic;
mod upkeep;

pub use config::*;
pub use error::BrokerError;
pub use log::LogError;
pub use server::{Broker, Running};
