//! What must hold whatever the bytes: one module for each fuzz target.
//!
//! In flow bytes from outside, nothing flows out: a promise that does not hold is a panic. `fuzz_targets/` gives these
//! functions to libFuzzer; `tests/tests/corpora.rs` includes this file and gives them what lies in `corpus/`.

pub mod batch;
pub mod cell;
pub mod checkpoint;
pub mod clean;
pub mod contract;
pub mod drift;
pub mod event;
pub mod folder;
pub mod json;
pub mod model;
pub mod requests;
pub mod snapshot;

/// A target: its name, and what must not panic.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 12] = [
    ("batch", batch::run),
    ("cell", cell::run),
    ("checkpoint", checkpoint::run),
    ("clean", clean::run),
    ("contract", contract::run),
    ("drift", drift::run),
    ("event", event::run),
    ("folder", folder::run),
    ("json", json::run),
    ("model", model::run),
    ("requests", requests::run),
    ("snapshot", snapshot::run),
];

/// Takes bytes with their length (2 bytes, big-endian) before them off the front; all that is left if it is less.
fn part<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return std::mem::take(data);
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (head, tail) = rest.split_at(length);
    *data = tail;
    head
}
