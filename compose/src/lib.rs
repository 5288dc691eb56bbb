//! The launcher: plays streams, runs the workers and the embedded broker, and shows what they do.
//!
//! [`cli`] is the command line; [`init`] drafts a contract from a file; [`produce`] plays a file as a stream;
//! [`pipeline`] runs the workers, which [`supervise`] looks after; [`tail`] reads what they write;
//! [`demo`] does all of it with real flights, and [`report`] writes what came of it. [`evaluate`] tries learners on a
//! file, without Kafka. [`verify`] proves from topics and lake that nothing was lost or doubled. [`replay`] makes models
//! again from the log and [`recompute`] scores from their receipts, both by the workers' own code, and compare bit for
//! bit; a [`tape`] is how they read.

pub mod cli;
pub mod demo;
pub mod evaluate;
pub mod init;
pub mod pipeline;
pub mod produce;
pub mod recompute;
pub mod replay;
pub mod report;
pub mod supervise;
pub mod tail;
pub mod tape;
pub mod text;
pub mod topics;
pub mod verify;
