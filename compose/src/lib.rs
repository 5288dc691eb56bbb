//! The launcher: plays streams, runs the workers and the embedded broker, and shows what they do.
//!
//! [`cli`] is the command line; [`produce`] plays a file as a stream;
//! [`supervise`] runs the workers; [`tail`] reads what they write.

pub mod cli;
pub mod produce;
pub mod supervise;
pub mod tail;
pub mod text;
pub mod topics;
