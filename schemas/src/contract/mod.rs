//! The contract: one TOML file that says what a stream is.
//!
//! [`Contract::parse`] reads it and refuses it with every problem at once. What it returns cannot be
//! invalid: names resolve, bounds are in order, features exist. Durations and sizes are parsed.

mod check;
mod features;
mod learner;
mod parse;
mod walk;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

pub use learner::{
    Crosses, Label, LabelType, Learner, Loss, Revised, Schedule, Unlabelled, Update,
};
pub use walk::{ContractErrors, Problem};

use crate::ids::{Digest, FieldId};

/// What a stream is: its fields, features, label, learner, lake and monitors.
#[derive(Clone, Debug, Serialize)]
pub struct Contract {
    /// Name and encoding.
    pub stream: Stream,
    /// Which fields are the event's id, time and subject.
    pub event: EventKeys,
    /// The fields, in the order of the file.
    pub fields: Vec<Field>,
    /// The features, in the order of the file.
    pub features: Vec<Feature>,
    /// Where labels come from; a stream without it is not learned from.
    pub label: Option<Label>,
    /// How the model learns.
    pub learner: Learner,
    /// When a score becomes a decision.
    pub decision: Decision,
    /// How the lake is laid out.
    pub lake: Lake,
    /// How drift and quality are watched.
    pub monitors: Monitors,
}

/// The stream's name and how its raw messages are encoded.
#[derive(Clone, Debug, Serialize)]
pub struct Stream {
    /// Prefix of all topics, and the lake's table; lowercase letters, digits, `-` and `_`.
    pub name: String,
    /// Whose keys seal the stream.
    pub tenant: String,
    /// Encoding of raw messages.
    pub encoding: Encoding,
    /// What happens to an event with a field that the contract does not name.
    pub unknown_fields: UnknownFields,
}

/// Encoding of raw messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// One JSON object per message.
    Json,
}

/// What happens to an event with a field that the contract does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFields {
    /// The field is dropped and counted.
    Ignore,
    /// The event goes to the dead topic.
    Reject,
}

/// Which fields are the event's id, time and subject; indices into [`Contract::fields`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EventKeys {
    /// The field that identifies the event: a required, open string or int64.
    pub id: usize,
    /// The field that says when it happened: a required timestamp.
    pub time: usize,
    /// The field whose value names the person or thing whose data the event is.
    pub subject: Option<usize>,
    /// Accepted events per partition within which a duplicate is found.
    pub duplicates_window: usize,
}

/// One field of the raw event.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// The field's number for ever.
    pub id: FieldId,
    /// Name in the raw event and of its column.
    pub name: String,
    /// Type after cleaning.
    pub kind: FieldType,
    /// Whether an event without it is refused.
    pub required: bool,
    /// Cleaning steps, in order.
    pub clean: Vec<CleanStep>,
    /// Smallest and largest value.
    pub bounds: Bounds,
    /// Most bytes of a string (UTF-8).
    pub bytes_max: usize,
    /// What happens to a value of the wrong type or out of bounds.
    pub on_violation: Violation,
    /// What a missing (or nulled) value becomes.
    pub default: Option<Value>,
    /// When a number counts as an outlier.
    pub outlier: Option<Outlier>,
    /// Who may read it.
    pub privacy: Privacy,
}

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// UTF-8 text.
    String,
    /// 64-bit integer.
    Int64,
    /// 64-bit float, finite.
    Float64,
    /// true or false.
    Bool,
    /// Microseconds since 1970, UTC; RFC 3339 text or integer milliseconds in JSON.
    Timestamp,
}

/// One cleaning step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanStep {
    /// White space at both ends goes (string).
    Trim,
    /// Lower case (string).
    Lower,
    /// Upper case (string).
    Upper,
    /// Multiply, then add (numbers): units.
    Scale {
        /// Factor.
        by: f64,
        /// Summand.
        plus: f64,
    },
}

/// Smallest and largest value of a number (or timestamp, in microseconds); inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bounds {
    /// Any value.
    None,
    /// Of an int64 or timestamp.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// Of a float64; either end may be infinite.
    Float {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
}

/// What happens to a value of the wrong type or out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// The event goes to the dead topic.
    Reject,
    /// The value becomes null (only optional fields).
    Null,
    /// A number moves to the nearest bound; other violations null it.
    Clamp,
}

/// A default value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Of a string.
    String(String),
    /// Of an int64 or (in microseconds) a timestamp.
    Int(i64),
    /// Of a float64.
    Float(f64),
    /// Of a bool.
    Bool(bool),
}

/// When a number counts as an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// Standard deviations from the mean of what the partition has shown so far.
    pub deviations: f64,
    /// Null or clamp or reject.
    pub action: Violation,
}

/// Who may read a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Privacy {
    /// In the clear.
    pub open: bool,
    /// As a keyed pseudonym, column `<name>_token`.
    pub token: bool,
    /// Encrypted, column `<name>`.
    pub seal: bool,
    /// The plaintext of a sealed cell is padded to a multiple of this many bytes.
    pub pad_to: usize,
}

/// One feature of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Feature {
    /// Name in reasons, metrics and crosses.
    pub name: String,
    /// How it is made.
    pub kind: FeatureKind,
}

/// How a feature is made; field indices point into [`Contract::fields`], feature indices into
/// [`Contract::features`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// The field's value (its token, for a field that has one) is a category.
    Category {
        /// The field.
        field: usize,
    },
    /// The field's value is a number, standardised online.
    Number {
        /// The field.
        field: usize,
    },
    /// The number of the bucket that the value falls in is a category.
    Bucket {
        /// The field.
        field: usize,
        /// Width of a bucket, in the field's unit.
        width: f64,
    },
    /// A part of a timestamp is a category.
    Time {
        /// The field.
        field: usize,
        /// Which part.
        part: TimePart,
        /// Seconds that local time is ahead of UTC.
        utc_offset_seconds: i32,
    },
    /// The parts of a text are categories, whatever their order.
    Bag {
        /// The field.
        field: usize,
        /// Which parts.
        bag: Bag,
    },
    /// Several categories together are a category.
    Cross {
        /// Two or three features: category, bucket or time.
        features: Vec<usize>,
    },
}

/// How a text becomes a bag of categories.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bag {
    /// What its parts are.
    pub split: Split,
    /// How many different parts count, from the first.
    pub most: usize,
}

/// What the parts of a text are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Words in lower case: runs of letters and digits.
    Words {
        /// Up to so many neighbours are a part together, beside each alone.
        together: usize,
    },
    /// Runs of letters, whatever they are, in lower case.
    Letters {
        /// So many to a run.
        together: usize,
    },
    /// What stands between separators, without white space at both ends.
    List {
        /// The separator.
        separator: String,
    },
}

/// A part of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePart {
    /// Minute of the hour.
    Minute,
    /// Hour of the day.
    Hour,
    /// Day of the week.
    Weekday,
    /// Day since 1970: a category for each calendar day.
    Day,
    /// Month of the year.
    Month,
}

/// When a score becomes a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The decision is yes from this score on; of a label that is a number, from this value on.
    pub threshold: f64,
}

/// How the lake is laid out and kept.
///
/// How it is kept shapes no event, so that the digest leaves it out: it may change while workers go on.
#[derive(Clone, Debug, Serialize)]
pub struct Lake {
    /// By what files are partitioned.
    pub partition: LakePartition,
    /// A file closes at this size, in bytes.
    pub file_bytes_max: u64,
    /// A file closes when its oldest record is this old.
    pub record_age_max: Duration,
    /// Files below this size, in bytes, are small.
    #[serde(skip)]
    pub small_file_bytes: u64,
    /// So many small files of one day and about one size are put together; 0 leaves all as they are.
    #[serde(skip)]
    pub compact_after: usize,
    /// A file that belongs to no version any more is deleted after this time.
    #[serde(skip)]
    pub vacuum_after: Duration,
}

impl Lake {
    /// Two small files must fit what is put together in memory.
    pub const SMALL_FILE_BYTES_MAX: u64 = 32 << 20;
    /// Whoever reads the version before needs its files meanwhile, an audit of a large lake for minutes.
    pub const VACUUM_AFTER_MIN: Duration = Duration::from_secs(3600);
}

/// By what files of the lake are partitioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LakePartition {
    /// Day of the event's time, UTC: column `_event_date`.
    Day,
}

/// How drift and quality are watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Monitors {
    /// Events in the frozen reference and in each window compared with it.
    pub window: u32,
    /// Fields by whose values quality is told too; indices into [`Contract::fields`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<usize>,
}

impl Contract {
    /// Reads a contract.
    ///
    /// # Errors
    /// Every problem of the text at once, each with line, reason and remedy. `file` names the text in
    /// them.
    pub fn parse(file: &str, text: &str) -> Result<Contract, ContractErrors> {
        parse::contract(file, text)
    }

    /// Reads the contract in a file.
    ///
    /// # Errors
    /// As [`Contract::parse`]; a file that cannot be read is the one problem.
    pub fn read(file: &Path) -> Result<Contract, ContractErrors> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Contract::parse(&name, &text),
            Err(error) => Err(ContractErrors::unreadable(&name, &error)),
        }
    }

    /// Returns the digest of what the contract means: comments, order of keys and white space do not
    /// change it.
    pub fn digest(&self) -> Digest {
        use sha2::Digest as _;
        let canonical = serde_json::to_vec(self).expect("a contract has no maps and no NaN");
        Digest(sha2::Sha256::digest(&canonical).into())
    }

    /// Returns the field that identifies an event.
    pub fn id_field(&self) -> &Field {
        &self.fields[self.event.id]
    }

    /// Returns the index of a field.
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}
