//! Connections: frames in, answers out. What a request means is [`crate::api`]'s business.

mod connection;
mod frame;
mod response;

pub use connection::serve;
pub use frame::Frames;
pub use response::Response;
