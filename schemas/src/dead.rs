//! Dead letters: events that `ingest` refused and labels that `trainer` could not read, one message each on
//! `<s>.dead`.
//!
//! The value of an event's letter is the raw record's bytes, sealed whole under the stream's own key, since nobody
//! knows what is in them. A label's letter has no value: the trainer holds no keys, and an open copy (or a digest that
//! tells whether a guess is right) would outlive the label. Its bytes are where the letter says, for as long as
//! `<s>.labels` keeps them. Everything else is in headers of plain text, so that any Kafka client can show why.

use std::fmt;

use crate::ids::{Offset, Partition, SourceCoordinates, TopicId};

/// Version of the wire form of an event's letter.
pub const WIRE_VERSION: &str = "1";

/// Version of the wire form of a label's letter; readers of the version before pass it over.
pub const WIRE_VERSION_LABEL: &str = "2";

/// Names of the headers of a dead letter.
pub mod header {
    /// Version of the wire form.
    pub const WIRE: &str = "thalweg-wire";
    /// Id of the raw topic (of the topic of labels), 32 hexadecimal digits.
    pub const SOURCE_TOPIC_ID: &str = "source-topic-id";
    /// Partition of that topic.
    pub const SOURCE_PARTITION: &str = "source-partition";
    /// Offset of the record there.
    pub const SOURCE_OFFSET: &str = "source-offset";
    /// How many bytes the label had.
    pub const SOURCE_BYTES: &str = "source-bytes";
    /// Why: see [`super::Reason`].
    pub const REASON: &str = "reason";
    /// The field at fault, where one is.
    pub const FIELD: &str = "field";
    /// Digest of the contract that refused it.
    pub const CONTRACT: &str = "contract-digest";
}

/// Why an event was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The bytes are not of the contract's encoding.
    Malformed,
    /// The record has no value.
    Empty,
    /// The record is larger than an event may be.
    TooLarge,
    /// A required field is missing or null.
    Missing,
    /// A field is of another type.
    WrongType,
    /// A value is out of its bounds.
    OutOfBounds,
    /// A number is too many deviations from what the partition has shown.
    Outlier,
    /// A field that the contract does not name.
    UnknownField,
    /// An event with this id was accepted before.
    Duplicate,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 9] = [
        Reason::Malformed,
        Reason::Empty,
        Reason::TooLarge,
        Reason::Missing,
        Reason::WrongType,
        Reason::OutOfBounds,
        Reason::Outlier,
        Reason::UnknownField,
        Reason::Duplicate,
    ];

    /// Returns the reason's name on the wire, in metrics and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Empty => "empty",
            Reason::TooLarge => "too_large",
            Reason::Missing => "missing",
            Reason::WrongType => "wrong_type",
            Reason::OutOfBounds => "out_of_bounds",
            Reason::Outlier => "outlier",
            Reason::UnknownField => "unknown_field",
            Reason::Duplicate => "duplicate",
        }
    }

    /// Finds a reason by its name.
    pub fn named(name: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a dead letter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A raw record, which is the letter's value.
    Event,
    /// A label of so many bytes.
    Label(u64),
}

/// The headers of a dead letter, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadHeader {
    /// What it is about.
    pub about: About,
    /// Where the record is.
    pub source: SourceCoordinates,
    /// Why it was refused.
    pub reason: Reason,
    /// The field at fault.
    pub field: Option<String>,
}

impl DeadHeader {
    /// Says whether a raw record was refused, and no label.
    pub fn is_event(&self) -> bool {
        self.about == About::Event
    }

    /// Reads the headers of a message; `None` if they are not those of a dead letter of a known version.
    pub fn from_headers<'a>(
        headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Option<DeadHeader> {
        let find = |name: &str| {
            let (_, value) = headers.clone().find(|(key, _)| *key == name)?;
            std::str::from_utf8(value).ok()
        };
        let about = match find(header::WIRE)? {
            WIRE_VERSION => About::Event,
            WIRE_VERSION_LABEL => About::Label(find(header::SOURCE_BYTES)?.parse().ok()?),
            _ => return None,
        };
        let topic_id: TopicId = find(header::SOURCE_TOPIC_ID)?.parse().ok()?;
        let partition = Partition(find(header::SOURCE_PARTITION)?.parse().ok()?);
        let offset = Offset(find(header::SOURCE_OFFSET)?.parse().ok()?);
        Some(DeadHeader {
            about,
            source: SourceCoordinates {
                topic_id,
                partition,
                offset,
            },
            reason: Reason::named(find(header::REASON)?)?,
            field: find(header::FIELD).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fixture: &str) -> Option<DeadHeader> {
        let pairs = fixture.lines().filter_map(|line| line.split_once(": "));
        DeadHeader::from_headers(pairs.map(|(name, value)| (name, value.as_bytes())))
    }

    #[test]
    fn every_published_letter_still_reads() {
        let source = |topic, partition, offset| SourceCoordinates {
            topic_id: TopicId([topic; 16]),
            partition: Partition(partition),
            offset: Offset(offset),
        };
        let event = DeadHeader {
            about: About::Event,
            source: source(7, 2, 77),
            reason: Reason::WrongType,
            field: Some("flight".to_owned()),
        };
        let label = DeadHeader {
            about: About::Label(40),
            source: source(9, 1, 12),
            reason: Reason::Missing,
            field: Some("late".to_owned()),
        };
        assert_eq!(read(include_str!("../fixtures/dead-1.txt")), Some(event));
        let text = include_str!("../fixtures/dead-2.txt");
        assert_eq!(read(text), Some(label));
        assert_eq!(read(&text.replace("wire: 2", "wire: 3")), None);
    }
}
