//! The end-to-end sandbox: the real programs, on ports and in folders of their own, seen only from outside.
//!
//! [`Sandbox`] runs `thalweg up` on an embedded broker or on real [`Kafka`] and lets a test produce, kill and wait; [`log`] reads
//! what is in topics, [`lake`] what is in the lake; [`forge`] writes what an audit must find. Nothing here believes a worker that it did its work.

pub mod audit;
pub mod chaos;
pub mod forge;
pub mod groups;
mod kafka;
pub mod lake;
pub mod log;
mod outside;
mod s3;
mod sandbox;

pub use kafka::Kafka;
pub use outside::{Outside, Places, Produced};
pub use s3::S3;
pub use sandbox::{Sandbox, flights, python, thalweg};
