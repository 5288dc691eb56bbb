//! Consumer groups of the classic protocol.
//!
//! [`state`] decides, purely: who is in, which generation it is, when everybody has come. [`coordinator`] acts: it
//! holds the groups, gives answers to the requests that wait for them, and wakes when a deadline passes.
//!
//! [`instances`] is about static members, whose places outlive their processes. The cooperative assignor of a client
//! needs nothing from the broker. The protocol of KIP-848 is not here: it would be a state machine of its own.

mod admin;
mod coordinator;
mod instances;
#[cfg(test)]
mod place_tests;
mod state;
#[cfg(test)]
mod tests;

pub use admin::{DescribedGroup, DescribedMember};
pub use coordinator::{Coordinator, SESSIONS, Who};

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
    /// The name of its place, if it is a static member.
    pub instance: Option<String>,
    /// Whether it understands that a leader need not assign.
    pub may_skip: bool,
    /// What its client calls itself, and where it is.
    pub client: Client,
}

/// Who asks for a member, for operators to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// What it calls itself.
    pub id: String,
    /// Its address.
    pub host: String,
}

/// A member in the eyes of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fellow {
    /// Its id.
    pub id: String,
    /// The name of its place, if it is a static member.
    pub instance: Option<String>,
    /// What it says about the protocol.
    pub metadata: Bytes,
}

/// What a member is told when a generation begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// `consumer`, usually.
    pub protocol_type: String,
    /// The protocol that all members support.
    pub protocol: String,
    /// Whoever assigns.
    pub leader: String,
    /// For the leader alone: every member with its metadata.
    pub members: Vec<Fellow>,
    /// Whether the leader need not assign, since everybody keeps what they have.
    pub skip_assignment: bool,
}

/// An answer to a member whose request waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answers a join.
    Joined(String, Result<Joined, ResponseError>),
    /// Answers a sync with the member's assignment.
    Synced(String, Result<Bytes, ResponseError>),
}
