//! Consumer groups of the classic protocol.
//!
//! [`state`] decides, purely: who is in, which generation it is, when everybody has come. [`coordinator`] acts: it
//! holds the groups, gives answers to the requests that wait for them, and wakes when a deadline passes.
//!
//! Static and cooperative members and the protocol of KIP-848 are not here. (The cooperative assignor of a client
//! needs nothing from the broker; KIP-848 would be a state machine of its own beside this one.)

mod coordinator;
mod state;
#[cfg(test)]
mod tests;

pub use coordinator::Coordinator;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

/// One way of assigning partitions that a member supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: String,
    /// What the member tells the leader; opaque here.
    pub metadata: Bytes,
}

/// What a member says when it joins.
#[derive(Debug, Clone)]
pub struct Join {
    /// How long it may be silent.
    pub session: Duration,
    /// How long it may take to join again when the group rebalances.
    pub rebalance: Duration,
    /// `consumer`, usually.
    pub protocol_type: String,
    /// What it supports, best first.
    pub protocols: Vec<Protocol>,
}

/// What a member is told when a generation begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The protocol that all members support.
    pub protocol: String,
    /// Whoever assigns.
    pub leader: String,
    /// For the leader alone: every member with its metadata.
    pub members: Vec<(String, Bytes)>,
}

/// An answer to a member whose request waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answers a join.
    Joined(String, Result<Joined, ResponseError>),
    /// Answers a sync with the member's assignment.
    Synced(String, Result<Bytes, ResponseError>),
}
