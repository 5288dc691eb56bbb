//! The contract of a stream, and every type that crosses a process boundary.
//!
//! A contract file goes in, and out come [`Contract`], the Arrow schema that it implies
//! ([`Columns`]) and the wire forms of everything that workers exchange: [`clean`] batches,
//! [`dead`] letters, [`label`]s, [`score`]s and [`model`] updates.
//!
//! This crate knows no async, no Kafka client and no clock; everything in it is a pure function.

pub mod clean;
mod columns;
pub mod contract;
pub mod dead;
mod ids;
pub mod json;
pub mod label;
pub mod model;
pub mod score;
mod time;
pub mod topics;

pub use columns::{Column, ColumnRole, Columns, system};
pub use contract::{Contract, ContractErrors, Problem};
pub use ids::{Digest, FieldId, ModelVersion, Offset, Partition, SourceCoordinates, TopicId};
pub use time::{EventTime, parse_duration, parse_rfc3339, write_rfc3339};
