//! Sets of offsets, one bit each.

use std::ops::Range;

/// Bits of a word.
const WORD: i64 = 64;

/// Offsets of one partition, from some offset on; grows to the largest that was put in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits {
    /// Number of the first word: its first bit is offset `first * 64`.
    first: i64,
    words: Vec<u64>,
}

impl Bits {
    /// Makes an empty set that takes offsets from `low` on; `low` is not negative.
    pub(crate) fn from(low: i64) -> Bits {
        Bits {
            first: low / WORD,
            words: Vec::new(),
        }
    }

    /// Puts an offset in; says whether it is new. What lies before the first word is not kept.
    pub(crate) fn insert(&mut self, offset: i64) -> bool {
        let Ok(at) = usize::try_from(offset / WORD - self.first) else {
            return true;
        };
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        let bit = 1_u64 << (offset % WORD);
        let new = self.words[at] & bit == 0;
        self.words[at] |= bit;
        new
    }

    /// Says whether an offset is in.
    pub(crate) fn contains(&self, offset: i64) -> bool {
        0 <= offset && self.word(offset / WORD) & (1_u64 << (offset % WORD)) != 0
    }

    /// Goes through the offsets of a range that are in, ascending.
    pub(crate) fn ones(&self, range: Range<i64>) -> impl Iterator<Item = i64> {
        numbers(&range).flat_map(move |number| {
            let word = self.word(number) & mask(number, &range);
            Ones(word).map(move |bit| number * WORD + bit)
        })
    }

    /// Returns 64 offsets, from `number * 64` on.
    fn word(&self, number: i64) -> u64 {
        let at = usize::try_from(number - self.first).ok();
        at.and_then(|at| self.words.get(at))
            .copied()
            .unwrap_or_default()
    }
}

/// Counts the offsets of a range for which a rule over whole words holds; returns the first as well.
pub(crate) fn count<const N: usize>(
    range: Range<i64>,
    sets: [&Bits; N],
    rule: impl Fn([u64; N]) -> u64,
) -> (u64, Option<i64>) {
    let (mut total, mut first) = (0, None);
    for number in numbers(&range) {
        let found = rule(sets.map(|set| set.word(number))) & mask(number, &range);
        total += u64::from(found.count_ones());
        if found != 0 && first.is_none() {
            first = Some(number * WORD + i64::from(found.trailing_zeros()));
        }
    }
    (total, first)
}

/// Returns the numbers of the words that a range touches.
fn numbers(range: &Range<i64>) -> Range<i64> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / WORD..(range.end - 1) / WORD + 1
}

/// Returns the bits of a word that lie in a range.
fn mask(number: i64, range: &Range<i64>) -> u64 {
    let begin = (range.start - number * WORD).clamp(0, WORD) as u32;
    let end = (range.end - number * WORD).clamp(0, WORD) as u32;
    let below = |bits: u32| 1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit - 1);
    below(end) & !below(begin)
}

/// The bits of a word, ascending.
struct Ones(u64);

impl Iterator for Ones {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        if self.0 == 0 {
            return None;
        }
        let bit = i64::from(self.0.trailing_zeros());
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(low: i64, offsets: &[i64]) -> Bits {
        let mut bits = Bits::from(low);
        for offset in offsets {
            bits.insert(*offset);
        }
        bits
    }

    #[test]
    fn what_was_put_in_is_in() {
        let mut bits = set(1000, &[1000, 1023, 1024, 1500]);
        assert!(bits.contains(1023) && !bits.contains(1022) && !bits.contains(-1));
        assert!(!bits.insert(1500) && bits.insert(1501));
        assert_eq!(
            bits.ones(1001..1501).collect::<Vec<_>>(),
            [1023, 1024, 1500]
        );
        assert_eq!(bits.ones(1501..1501).count(), 0);
    }

    #[test]
    fn ranges_are_counted_to_the_bit() {
        let (one, other) = (set(0, &[0, 63, 64, 127, 128]), set(64, &[64, 127]));
        let check = |range, expected| {
            assert_eq!(
                count(range, [&one, &other], |[one, other]| one & !other),
                expected
            );
        };
        check(0..129, (3, Some(0)));
        check(1..128, (1, Some(63)));
        check(64..128, (0, None));
        check(128..129, (1, Some(128)));
        check(200..300, (0, None));
        check(5..5, (0, None));
    }
}
