//! The launcher: plays streams, runs the workers and the embedded broker, and shows what they do.
//!
//! [`cli`] is the command line; [`produce`] plays a file as a stream.

pub mod cli;
pub mod produce;
pub mod text;
