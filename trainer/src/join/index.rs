//! Where each id is: a table of eight bytes an entry, so that millions of ids stay near the processor.
//!
//! An entry is 32 bits of the id, which is a hash, and a place; whose place it is says the place itself, so the
//! table asks its owner when those bits are equal. Linear probing, at most half full, and removal that closes the
//! gap: there are no tombstones, and searches stay short for ever.

use super::EventId;

/// Entries of the smallest table.
const ENTRIES_MIN: usize = 1 << 10;

/// Low bits of a place say which kind it is.
const KIND_BITS: u32 = 2;

/// Largest number of a slot.
pub(super) const SLOT_MAX: usize = (1 << (32 - KIND_BITS)) - 2;

/// Where an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The event waits in this slot.
    Event(u32),
    /// The label waits in this slot.
    Label(u32),
    /// The event had its label; its id is in this slot.
    Settled(u32),
}

/// The table.
#[derive(Debug)]
pub(super) struct Index {
    entries: Vec<Entry>,
    len: usize,
}

/// Bits of the id, and the place; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    tag: u32,
    place: u32,
}

impl Place {
    fn pack(self) -> u32 {
        match self {
            Place::Event(slot) => slot << KIND_BITS | 1,
            Place::Label(slot) => slot << KIND_BITS | 2,
            Place::Settled(slot) => slot << KIND_BITS | 3,
        }
    }

    fn unpack(packed: u32) -> Option<Place> {
        let slot = packed >> KIND_BITS;
        match packed & ((1 << KIND_BITS) - 1) {
            1 => Some(Place::Event(slot)),
            2 => Some(Place::Label(slot)),
            3 => Some(Place::Settled(slot)),
            _ => None,
        }
    }
}

impl Index {
    pub fn new() -> Index {
        Index {
            entries: vec![Entry::default(); ENTRIES_MIN],
            len: 0,
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells the cache that an id will be looked up soon.
    #[inline]
    pub fn fetch(&self, id: EventId) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let entry = std::ptr::from_ref(&self.entries[self.home(tag(id))]);
            // SAFETY: every x86-64 processor has SSE, and a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(entry.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = id;
    }

    /// Finds an id; `holds` says whether a place is the id's.
    #[inline]
    pub fn find(&self, id: EventId, holds: impl Fn(Place) -> bool) -> Option<Place> {
        self.search(id, holds).map(|(_, place)| place)
    }

    /// Adds an id that is not there.
    pub fn insert(&mut self, id: EventId, place: Place) {
        if self.entries.len() < 2 * (self.len + 1) {
            self.grow();
        }
        self.put(Entry {
            tag: tag(id),
            place: place.pack(),
        });
        self.len += 1;
    }

    /// Says that an id is in another place by now.
    pub fn replace(&mut self, id: EventId, old: Place, new: Place) {
        if let Some((at, _)) = self.search(id, |place| place == old) {
            self.entries[at].place = new.pack();
        }
    }

    /// Removes an id from its place.
    pub fn remove(&mut self, id: EventId, place: Place) {
        let Some((mut gap, _)) = self.search(id, |found| found == place) else {
            return;
        };
        self.len -= 1;
        // What lies behind the gap moves into it, unless it would then lie before its home.
        let mut at = self.after(gap);
        while self.entries[at].place != 0 {
            let home = self.home(self.entries[at].tag);
            if self.distance(gap, at) <= self.distance(home, at) {
                self.entries[gap] = self.entries[at];
                gap = at;
            }
            at = self.after(at);
        }
        self.entries[gap] = Entry::default();
    }

    #[inline]
    fn search(&self, id: EventId, holds: impl Fn(Place) -> bool) -> Option<(usize, Place)> {
        let tag = tag(id);
        let mut at = self.home(tag);
        loop {
            let entry = self.entries[at];
            let place = Place::unpack(entry.place)?;
            if entry.tag == tag && holds(place) {
                return Some((at, place));
            }
            at = self.after(at);
        }
    }

    fn put(&mut self, entry: Entry) {
        let mut at = self.home(entry.tag);
        while self.entries[at].place != 0 {
            at = self.after(at);
        }
        self.entries[at] = entry;
    }

    fn grow(&mut self) {
        let larger = vec![Entry::default(); 2 * self.entries.len()];
        let entries = std::mem::replace(&mut self.entries, larger);
        for entry in entries.into_iter().filter(|entry| entry.place != 0) {
            self.put(entry);
        }
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.entries.len() - 1)
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }

    /// Returns how many steps lead from one entry to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }
}

#[inline]
fn tag(id: EventId) -> u32 {
    id.0 as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Ids of which many have the same bits, as no hash makes them.
    fn id(draw: u64) -> EventId {
        EventId(u128::from(draw % 5000) << 64 | u128::from(draw % 700 * 8))
    }

    #[test]
    fn it_is_a_map() {
        let (mut index, mut model) = (Index::new(), HashMap::new());
        let mut draw = 1_u64;
        for step in 0..20_000_u32 {
            draw = draw
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695);
            let id = id(draw >> 20);
            let place = model.get(&id).copied();
            let holds = |found| place == Some(found);
            assert_eq!(index.find(id, holds), place, "{step}");
            match (place, draw >> 60) {
                (None, _) => {
                    index.insert(id, Place::Event(step));
                    model.insert(id, Place::Event(step));
                }
                (Some(old), 0..8) => {
                    index.remove(id, old);
                    model.remove(&id);
                }
                (Some(old), _) => {
                    index.replace(id, old, Place::Settled(step));
                    model.insert(id, Place::Settled(step));
                }
            }
            assert_eq!(index.len(), model.len());
        }
    }
}
