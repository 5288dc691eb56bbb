//! The embedded broker: enough of Kafka for librdkafka and kcat, in one process and one folder.
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
//! classic protocol and committed offsets work as with Apache Kafka.
//!
//! # What it deliberately is not
//! There are no transactions: their requests are not announced, and a transactional id is refused. There are no fetch
//! sessions and no ACLs. Nothing is decompressed, so a look-up by time ends at a compressed batch, not in it. Not here
//! yet: retention, compaction, reading and changing configs, static members, the protocol of KIP-848.
//!
//! # How it is built
//! ```text
//! socket ──► net: one frame ──► api: decode, act, encode ──► net: answer, file ranges by sendfile
//!                                    │        │       └────► offsets: one journal
//!                          topic: partitions  └────────────► group: pure state machines, one alarm clock
//!                                    │
//!                          log: segments, indexes, producers
//! ```
//! One connection has one request in work at a time and no queue behind it but the socket's own. Everything else is
//! bounded by [`Limits`] and the constants beside it. File I/O is done right where it is wanted, since it is nearly always
//! a copy from or to the page cache; only syncs go to a thread of their own. When nothing happens, nothing runs: there
//! is no timer but those of requests that wait and of groups that have members.

mod api;
mod config;
mod error;
mod folder;
mod group;
mod log;
mod net;
mod offsets;
mod server;
mod services;
mod sync;
mod topic;

pub use config::*;
pub use error::BrokerError;
pub use log::LogError;
pub use server::{Broker, Running};
