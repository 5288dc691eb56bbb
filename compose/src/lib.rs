//! The launcher: plays streams, runs the workers and the embedded broker, and shows what they do.
//!
//! `produce` plays a file as a stream.

pub mod produce;
