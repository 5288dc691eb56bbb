//! Numbered places for a bounded number of ids, of which the oldest can be found.

use std::collections::VecDeque;

use super::EventId;

/// Entries of the order that may be stale beyond as many as there are ids.
const STALE_MAX: usize = 1024;

/// A place that nobody has.
const FREE: u64 = 0;

/// The places. Whoever leaves makes room for the next one, so that the same few stay in the cache.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    ids: Vec<EventId>,
    /// By place: the number of whoever has it.
    stamps: Vec<u64>,
    free: Vec<u32>,
    /// Numbers and places as they were given; stale where the place has another number by now.
    order: VecDeque<(u64, u32)>,
    last_stamp: u64,
}

impl Slots {
    pub fn new(max: usize) -> Slots {
        Slots {
            max: max.max(1),
            ids: Vec::new(),
            stamps: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            last_stamp: FREE,
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len() - self.free.len()
    }

    /// Returns whose a place is, or was last.
    #[inline]
    pub fn id(&self, slot: u32) -> EventId {
        self.ids[slot as usize]
    }

    /// Returns the number of whoever has a place; numbers ascend as they are given.
    #[inline]
    pub fn stamp(&self, slot: u32) -> u64 {
        self.stamps[slot as usize]
    }

    /// Gives an id a place, if need be that of the oldest id, which is returned.
    pub fn insert(&mut self, id: EventId) -> (u32, Option<EventId>) {
        let mut evicted = None;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.ids.len() < self.max => {
                self.ids.push(id);
                self.stamps.push(FREE);
                (self.ids.len() - 1) as u32
            }
            None => {
                let slot = self.oldest();
                evicted = Some(self.ids[slot as usize]);
                slot
            }
        };
        self.last_stamp += 1;
        self.ids[slot as usize] = id;
        self.stamps[slot as usize] = self.last_stamp;
        self.order.push_back((self.last_stamp, slot));
        (slot, evicted)
    }

    /// Frees a place.
    pub fn remove(&mut self, slot: u32) {
        self.stamps[slot as usize] = FREE;
        self.free.push(slot);
        if 2 * self.len() + STALE_MAX < self.order.len() {
            let stamps = &self.stamps;
            self.order
                .retain(|(stamp, slot)| stamps[*slot as usize] == *stamp);
        }
    }

    /// Returns ids and their places, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (EventId, usize)> {
        let held = |(stamp, slot): &&(u64, u32)| self.stamps[*slot as usize] == *stamp;
        self.order
            .iter()
            .filter(held)
            .map(|(_, slot)| (self.ids[*slot as usize], *slot as usize))
    }

    /// Returns the place that the next one takes, if none is free.
    pub fn next_to_leave(&mut self) -> Option<usize> {
        if self.len() < self.max {
            return None;
        }
        while let Some((stamp, slot)) = self.order.front() {
            if self.stamps[*slot as usize] == *stamp {
                return Some(*slot as usize);
            }
            self.order.pop_front();
        }
        None
    }

    fn oldest(&mut self) -> u32 {
        while let Some((stamp, slot)) = self.order.pop_front() {
            if self.stamps[slot as usize] == stamp {
                return slot;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(slots: &Slots) -> Vec<u128> {
        slots.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut slots = Slots::new(3);
        let given: Vec<u32> = (1..=3).map(|id| slots.insert(EventId(id)).0).collect();
        slots.remove(given[0]);
        assert_eq!(slots.insert(EventId(4)), (given[0], None));
        assert_eq!(ids(&slots), [2, 3, 4]);
        assert_eq!(slots.insert(EventId(5)), (given[1], Some(EventId(2))));
        assert_eq!((ids(&slots), slots.len()), (vec![3, 4, 5], 3));
    }

    #[test]
    fn who_leaves_next_is_known_once_no_place_is_free() {
        let mut slots = Slots::new(2);
        let first = slots.insert(EventId(1)).0;
        assert_eq!(slots.next_to_leave(), None);
        let second = slots.insert(EventId(2)).0;
        assert_eq!(slots.next_to_leave(), Some(first as usize));
        slots.remove(first);
        assert_eq!(slots.next_to_leave(), None);
        slots.insert(EventId(3));
        assert_eq!(slots.next_to_leave(), Some(second as usize));
        assert_eq!(slots.insert(EventId(4)), (second, Some(EventId(2))));
    }

    #[test]
    fn order_stays_bounded() {
        let mut slots = Slots::new(10);
        slots.insert(EventId(0));
        for id in 1..100_000 {
            let (slot, _) = slots.insert(EventId(id));
            slots.remove(slot);
        }
        assert!(slots.order.len() <= 2 * 2 + STALE_MAX);
        assert_eq!(ids(&slots), [0]);
    }
}
