//! Dead letters: what `ingest` refused, one message an event on `<s>.dead`.
//!
//! The value is the raw record's bytes, sealed whole under the stream's own key, since nobody knows what is
//! in them. Everything else is in headers of plain text, so that any Kafka client can show why.

use std::fmt;

use crate::ids::{Offset, Partition, SourceCoordinates, TopicId};

/// Version of this wire form.
pub const WIRE_VERSION: &str = "1";

/// Names of the headers of a dead letter.
pub mod header {
    /// Version of the wire form.
    pub const WIRE: &str = "thalweg-wire";
    /// Id of the raw topic, 32 hexadecimal digits.
    pub const SOURCE_TOPIC_ID: &str = "source-topic-id";
    /// Partition of the raw topic.
    pub const SOURCE_PARTITION: &str = "source-partition";
    /// Offset of the raw record.
    pub const SOURCE_OFFSET: &str = "source-offset";
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

/// The headers of a dead letter, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadHeader {
    /// Where the raw record is.
    pub source: SourceCoordinates,
    /// Why it was refused.
    pub reason: Reason,
    /// The field at fault.
    pub field: Option<String>,
}

impl DeadHeader {
    /// Reads the headers of a message; `None` if they are not those of a dead letter of this version.
    pub fn from_headers<'a>(
        headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Option<DeadHeader> {
        let find = |name: &str| {
            let (_, value) = headers.clone().find(|(key, _)| *key == name)?;
            std::str::from_utf8(value).ok()
        };
        if find(header::WIRE)? != WIRE_VERSION {
            return None;
        }
        let topic_id: TopicId = find(header::SOURCE_TOPIC_ID)?.parse().ok()?;
        let partition = Partition(find(header::SOURCE_PARTITION)?.parse().ok()?);
        let offset = Offset(find(header::SOURCE_OFFSET)?.parse().ok()?);
        Some(DeadHeader {
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
