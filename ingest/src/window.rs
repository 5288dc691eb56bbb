//! The window of ids within which a duplicate is found.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_128;

/// The ids of the last accepted events of one partition, as 128-bit hashes: two of 10^9 ids meet in one with a
/// probability below 10^-20.
#[derive(Debug, Default)]
pub struct Window {
    known: HashSet<u128, BuildHasherDefault<Low>>,
    order: VecDeque<u128>,
    size: usize,
}

/// Takes the low half of what is a hash already.
#[derive(Default)]
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

impl Window {
    /// Makes an empty window of a number of events.
    pub fn new(size: usize) -> Window {
        Window {
            size,
            ..Window::default()
        }
    }

    /// Says whether an id is in the window.
    pub fn knows(&self, id: &[u8]) -> bool {
        self.known.contains(&xxh3_128(id))
    }

    /// Adds the id of an accepted event; the oldest one leaves a full window.
    pub fn accept(&mut self, id: &[u8]) {
        if self.size == 0 {
            return;
        }
        if self.order.len() == self.size
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let hash = xxh3_128(id);
        self.known.insert(hash);
        self.order.push_back(hash);
    }

    /// Returns how many ids there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Says whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leaves_a_full_window() {
        let mut window = Window::new(2);
        for id in [b"a", b"b", b"c"] {
            assert!(!window.knows(id));
            window.accept(id);
        }
        assert!(!window.knows(b"a"));
        assert!(window.knows(b"b") && window.knows(b"c"));
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn a_window_of_nothing_knows_nothing() {
        let mut window = Window::new(0);
        window.accept(b"a");
        assert!(!window.knows(b"a") && window.is_empty());
    }
}
