//! Texts as bags of their parts: each different part is one slot, whatever its place in the text.

use std::ops::Range;

use arrow_array::{Array, StringArray};
use schemas::contract::{Bag, Split};

use super::hash::Namespace;
use super::rows::ABSENT;

/// Writes the ids of a column's bags: the first slot of each row is at the start of `ids`, rows are `stride` apart.
///
/// A missing text has one part, which says so; an empty one has none.
pub(super) fn fill(
    space: Namespace,
    texts: &StringArray,
    bag: &Bag,
    mask: u32,
    ids: &mut [u32],
    stride: usize,
) {
    let mut lower = String::new();
    let mut spans = Vec::new();
    for (at, row) in ids.chunks_mut(stride).enumerate().take(texts.len()) {
        let slots = &mut row[..bag.most];
        slots.fill(ABSENT);
        if texts.is_null(at) {
            slots[0] = space.missing as u32 & mask;
            continue;
        }
        lower.clear();
        lower.extend(texts.value(at).chars().flat_map(char::to_lowercase));
        spans.clear();
        let mut count = 0;
        parts(&bag.split, &lower, &mut spans, |part| {
            let id = space.bytes(part.as_bytes()) as u32 & mask;
            // The last id is nothing's; a part that has it counts for nothing.
            if count < slots.len() && id != ABSENT && !slots[..count].contains(&id) {
                slots[count] = id;
                count += 1;
            }
            count < slots.len()
        });
    }
}

/// Calls with each part of a text, until it says that it has enough.
fn parts(
    split: &Split,
    text: &str,
    spans: &mut Vec<Range<usize>>,
    mut call: impl FnMut(&str) -> bool,
) {
    match split {
        Split::List { separator } => {
            let items = text.split(separator.as_str()).map(str::trim);
            let _ = items.filter(|item| !item.is_empty()).all(call);
        }
        Split::Words { together } => {
            words(text, spans);
            for at in 0..spans.len() {
                for last in at..spans.len().min(at + together) {
                    if !call(&text[spans[at].start..spans[last].end]) {
                        return;
                    }
                }
            }
        }
        Split::Letters { together } => {
            let starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
            let runs = starts.len().saturating_sub(*together) + 1;
            for at in 0..runs.min(starts.len()) {
                let end = starts.get(at + together).copied().unwrap_or(text.len());
                if !call(&text[starts[at]..end]) {
                    return;
                }
            }
        }
    }
}

/// Finds the runs of letters and digits.
fn words(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut start = None;
    for (at, letter) in text.char_indices() {
        match (letter.is_alphanumeric(), start) {
            (true, None) => start = Some(at),
            (false, Some(first)) => {
                spans.push(first..at);
                start = None;
            }
            _ => {}
        }
    }
    spans.extend(start.map(|first| first..text.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(split: Split, text: &str, expected: &[&str]) {
        let mut found = Vec::new();
        parts(&split, text, &mut Vec::new(), |part| {
            found.push(part.to_owned());
            true
        });
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn texts_come_apart() {
        check(
            Split::Words { together: 1 },
            "it is, isn't it?",
            &["it", "is", "isn", "t", "it"],
        );
        check(
            Split::Words { together: 2 },
            "not so good",
            &["not", "not so", "so", "so good", "good"],
        );
        check(Split::Words { together: 1 }, " -- ", &[]);
        check(
            Split::Letters { together: 3 },
            "caf\u{e9}s",
            &["caf", "af\u{e9}", "f\u{e9}s"],
        );
        check(Split::Letters { together: 3 }, "ab", &["ab"]);
        check(Split::Letters { together: 3 }, "", &[]);
        let separator = ",".to_owned();
        check(Split::List { separator }, "red, ,blue", &["red", "blue"]);
    }

    #[test]
    fn a_bag_has_each_part_once_and_no_more_than_its_slots() {
        let space = Namespace::new("bag/text");
        let texts = StringArray::from(vec![Some("b a b c d"), None, Some(""), Some("A")]);
        let bag = Bag {
            split: Split::Words { together: 1 },
            most: 3,
        };
        let mut ids = vec![7; 4 * 4];
        fill(space, &texts, &bag, u32::MAX, &mut ids, 4);
        let id = |part: &str| space.bytes(part.as_bytes()) as u32;
        let missing = space.missing as u32;
        assert_eq!(ids[..4], [id("b"), id("a"), id("c"), 7]);
        assert_eq!(ids[4..8], [missing, ABSENT, ABSENT, 7]);
        assert_eq!(ids[8..12], [ABSENT, ABSENT, ABSENT, 7]);
        assert_eq!(ids[12..], [id("a"), ABSENT, ABSENT, 7]);
    }
}
