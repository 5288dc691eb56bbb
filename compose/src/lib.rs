//! The launcher: plays streams, runs the workers and the embedded broker, and shows what they do.
//!
//! [`cli`] is the command line; [`init`] drafts a contract from a file; [`produce`] plays a file as a stream;
//! [`pipeline`] runs the workers, which [`supervise`] looks after; [`tail`] reads what they write;
//! [`demo`] does all of it with real flights, and [`report`] writes what came of it. [`evaluate`] tries learners on a
//! file, without Kafka. [`verify`] proves from topics and lake that nothing was lost or doubled.

pub mod cli;
pub mod demo;
pub mod evaluate;
pub mod init;
pub mod pipeline;
pub mod produce;
pub mod report;
pub mod supervise;
pub mod tail;
pub mod text;
pub mod topics;
pub mod verify;
