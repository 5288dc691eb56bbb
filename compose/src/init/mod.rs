//! Drafts a contract from a sample of a user's own data.
//!
//! The first rows of a file go in ([`Sample`]), and out comes the text of a contract with each guess and its reason as a
//! comment ([`draft()`]). A `column` sums up what was seen; `keys` and `label` guess what names an event, when it
//! happened and what is to be predicted, `personal` what must be sealed, `leaks` what gives the label away, `features`
//! what to learn from; `plan` puts the guesses together, and `draft` and `field` write them. A draft that is no valid
//! contract is an error, never an answer.

mod column;
mod draft;
mod features;
mod field;
mod keys;
mod label;
mod leaks;
mod looks;
mod personal;
mod plan;
mod sample;
mod seen;

use schemas::{Contract, ContractErrors};

pub use sample::{ROWS_MAX, Sample};

/// What the caller knows better than any guess.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Name of the stream.
    pub name: Option<String>,
    /// Column of the label.
    pub label: Option<String>,
    /// Column of the event's id.
    pub id: Option<String>,
    /// Column of the event's time.
    pub time: Option<String>,
    /// Column that says when the label became known.
    pub label_time: Option<String>,
    /// Column that says whose data the event is.
    pub subject: Option<String>,
}

/// A contract as it was drafted.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The contract, in TOML, with its comments.
    pub text: String,
    /// What was guessed, in a line each: a heading and the guess.
    pub guesses: Vec<(&'static str, String)>,
    /// Whether there is a label to learn from.
    pub has_label: bool,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// An option names a column that the file does not have.
    #[error("{option} {name}: {file} has no such column; it has {columns}")]
    NoColumn {
        /// The option.
        option: &'static str,
        /// What it names.
        name: String,
        /// Name of the file.
        file: String,
        /// What the file has.
        columns: String,
    },
    /// An option names a column that cannot be that.
    #[error("{option} {name}: the column {what}")]
    Unfit {
        /// The option.
        option: &'static str,
        /// What it names.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The draft is no valid contract.
    #[error("no contract follows from this sample; {help}\n{problems}")]
    Refused {
        /// What is wrong with it.
        problems: ContractErrors,
        /// Which option would help.
        help: &'static str,
    },
}

/// Drafts a contract.
///
/// # Errors
/// A wish that the sample cannot meet, or a draft that is no valid contract.
pub fn draft(sample: &Sample, wishes: &Wishes) -> Result<Draft, DraftError> {
    let keys = keys::keys(sample, wishes)?;
    let draft = draft::write(sample, &keys, wishes.name.as_deref());
    match Contract::parse("the draft", &draft.text) {
        Ok(_) => Ok(draft),
        Err(problems) => Err(DraftError::Refused {
            help: help(&problems),
            problems,
        }),
    }
}

/// Says which option would help.
fn help(problems: &ContractErrors) -> &'static str {
    let about = |key: &str| {
        problems
            .problems
            .iter()
            .any(|problem| problem.what.contains(key))
    };
    if about("stream.name") {
        "--name NAME gives the stream another name"
    } else if about("event.id") {
        "--id COLUMN names another id"
    } else if about("event.time") {
        "--time COLUMN names another time"
    } else if about("event.subject") {
        "--subject COLUMN names another subject"
    } else if about("label.") {
        "--label COLUMN names another label"
    } else {
        "--id, --time and --label name other columns; columns that cannot be fields may be left out of the file"
    }
}

#[cfg(test)]
mod tests;
