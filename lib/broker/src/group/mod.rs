//! Consumer groups of the classic protocol.
//!
//! [`state`] decides, purely: who is in, which generation it is, when everybody has come. [`coordinator`] acts: it
//! holds the groups, gives answers to the requests that wait for them, and wakes when a deadline passes.
//!
//! Static and cooperative members and the protocol of KIP-848 are not here. (The cooperative assignor of a client
//! needs nothing from the broker; KIP-848 would be a state machine of its own beside this one.)

mod coordinator;
mod state;

pub use coordinator::Coordinator;
pub use state::{Join, Protocol};
