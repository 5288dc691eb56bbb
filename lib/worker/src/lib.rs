//! The Kafka loop that every stage runs in: poll, hand over, commit, drain; health; shutdown.
//!
//! ```text
//!             poll thread                             the stage's task
//!  broker ──► librdkafka ──► batches ──[ channel, 8 ]──► Stage::handle ──► lanes ──► broker
//!             (≤ 32 MiB)     (≤ 1 MiB each)                 │                (≤ 32 MiB in librdkafka)
//!                 ▲                                         │ Stage::durable
//!                 └──────────── commits [ channel, 16 ] ◄───┘
//! ```
//!
//! Every queue is bounded: a stage that is slow fills the channel, the poll thread then waits, and
//! librdkafka stops fetching. Only offsets that the stage calls durable are committed. A rebalance is an event
//! like any other: the poll thread hands it over and waits for the answer.
//!
//! The worker sees bytes: what they mean is the stage's business.

mod args;
mod batch;
mod broker;
mod folder;
mod health;
mod kafka;
mod process;
mod run;
mod signals;
mod simulated;
mod stage;
mod store;
mod sweep;
mod whole;

pub use args::{Args, exit_usage};
pub use batch::{Batch, BatchBuilder, Record, TopicPartition};
pub use broker::{
    Assigned, Broker, BrokerError, Event, Lane, Order, Outgoing, Start, Subscription, TopicInfo,
    Watermarks,
};
pub use health::Health;
pub use kafka::{Kafka, KafkaLane, Scanned, Taken, scan};
pub use process::{Context, EXIT_FAILED, EXIT_USAGE, Surroundings, now, process};
pub use run::{Inputs, run};
pub use simulated::{Dice, Faults, Simulated, SimulatedLane, Story};
pub use stage::{Fault, Next, Stage};
pub use store::{Store, StoreError};
pub use sweep::sweep;
