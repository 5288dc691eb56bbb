//! Plays a file as a stream on Kafka.
//!
//! A file of events goes in ([`Source`]: Parquet, CSV, JSON lines), and out go one JSON event for each row on
//! `<s>.raw` at the time when it happened, and its label on `<s>.labels` when it became known ([`play()`]). Dirt
//! may be mixed in, seeded and counted. Nothing is dropped: a slow broker slows the stream.

pub(crate) mod cell;
mod dirt;
mod label_value;
mod labels;
mod pace;
mod partition;
mod play;
pub(crate) mod render;
mod rows;
mod send;
mod source;

pub use dirt::{Dirt, DirtKind, Dirtier, Seeded};
pub use label_value::LabelValue;
pub use labels::WAITING_MAX;
pub use pace::Speed;
pub use partition::partition_of;
pub use play::{Options, Played, Progress, play};
pub use rows::{BadRow, Edit, Known, Layout, Rows};
pub use send::{Ack, Lane, OnAck, SendOptions, Sender, Sent};
pub use source::Source;
