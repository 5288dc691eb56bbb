//! Guesses what names an event, when it happened and whose data it is. Pure.

use super::column::{Column, Kind};
use super::label::{LATER, LabelKind, guess_label, label_kind, label_time_score};
use super::looks::words;
use super::personal;
use super::sample::Sample;
use super::{DraftError, Wishes};

/// A column, and why it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// Index of the column.
    pub place: usize,
    /// Why.
    pub why: String,
}

/// The columns that make a row an event with a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// What names the event.
    pub id: Option<Guess>,
    /// When it happened.
    pub time: Option<Guess>,
    /// Whose data it is.
    pub subject: Option<Guess>,
    /// What is to be predicted, and its type.
    pub label: Option<(Guess, LabelKind)>,
    /// When that became known.
    pub label_time: Option<Guess>,
}

/// Guesses the keys; what the caller wishes comes first.
///
/// # Errors
/// A wish that names no column, or one that cannot be what it is wished to be.
pub fn keys(sample: &Sample, wishes: &Wishes) -> Result<Keys, DraftError> {
    let label = match place(sample, "--label", wishes.label.as_deref())? {
        Some(place) => Some(wished_label(sample, place)?),
        None => guess_label(sample),
    };
    let label_place = label.as_ref().map(|(guess, _)| guess.place);
    let free = |at: usize| Some(at) != label_place;
    let time = match place(sample, "--time", wishes.time.as_deref())? {
        Some(place) => Some(wished_time(sample, "--time", place)?),
        None => best(sample, |at, column| time_score(column).filter(|_| free(at))),
    };
    let time_place = time.as_ref().map(|guess| guess.place);
    let id = match place(sample, "--id", wishes.id.as_deref())? {
        Some(place) => Some(wished_id(sample, place)?),
        None => best(sample, |at, column| id_score(column).filter(|_| free(at))),
    };
    let label_time = match place(sample, "--label-time", wishes.label_time.as_deref())? {
        Some(place) => Some(wished_time(sample, "--label-time", place)?),
        None => label_place.and_then(|label| {
            let taken = |at| Some(at) == time_place || at == label;
            best(sample, |at, column| {
                let event = time_place.map(|place| &sample.columns[place]);
                label_time_score(column, event, &sample.columns[label]).filter(|_| !taken(at))
            })
        }),
    };
    let keyed: Vec<usize> = [&id, &time, &label_time]
        .into_iter()
        .flatten()
        .map(|guess| guess.place)
        .collect();
    let subject = match place(sample, "--subject", wishes.subject.as_deref())? {
        Some(place) => Some(Guess {
            place,
            why: "you said so".to_owned(),
        }),
        None => best(sample, |at, column| {
            let taken = keyed.contains(&at) || !free(at) || !is_legal(&column.name);
            personal::subject_score(column).filter(|_| !taken)
        }),
    };
    Ok(Keys {
        id,
        time,
        subject,
        label,
        label_time,
    })
}

/// Says whether a contract can have a field of that name.
pub fn is_legal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 100
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Takes the column of the highest score; of equals, the first.
pub fn best(
    sample: &Sample,
    score: impl Fn(usize, &Column) -> Option<(i32, String)>,
) -> Option<Guess> {
    let mut best: Option<(i32, Guess)> = None;
    for (place, column) in sample.columns.iter().enumerate() {
        let Some((score, why)) = score(place, column) else {
            continue;
        };
        if best.as_ref().is_none_or(|(most, _)| *most < score) {
            best = Some((score, Guess { place, why }));
        }
    }
    best.map(|(_, guess)| guess)
}

fn place(
    sample: &Sample,
    option: &'static str,
    wish: Option<&str>,
) -> Result<Option<usize>, DraftError> {
    let Some(name) = wish else { return Ok(None) };
    let found = sample.columns.iter().position(|column| column.name == name);
    found.map(Some).ok_or_else(|| {
        let names: Vec<&str> = sample
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        DraftError::NoColumn {
            option,
            name: name.to_owned(),
            file: sample.file.clone(),
            columns: names.join(", "),
        }
    })
}

fn unfit(option: &'static str, column: &Column, what: &'static str) -> DraftError {
    DraftError::Unfit {
        option,
        name: column.name.clone(),
        what,
    }
}

fn wished_id(sample: &Sample, place: usize) -> Result<Guess, DraftError> {
    let column = &sample.columns[place];
    if !matches!(column.kind(), Kind::Int | Kind::Text) {
        return Err(unfit("--id", column, "is not of texts or whole numbers"));
    }
    let why = match (column.is_unique(), column.counts.nulls) {
        (true, _) => "you said so, and every value is different".to_owned(),
        (false, 0) => format!(
            "you said so, but of {} values only {} are different: an event whose id came before is a duplicate",
            column.seen(),
            column.distinct()
        ),
        (false, nulls) => {
            format!("you said so, but {nulls} rows have none: such events are refused")
        }
    };
    Ok(Guess { place, why })
}

fn wished_time(sample: &Sample, option: &'static str, place: usize) -> Result<Guess, DraftError> {
    let column = &sample.columns[place];
    let millis = column.kind() == Kind::Int && column.min >= 0.0;
    if !column.is_time() && !millis {
        let what = "is not of times (RFC 3339 with a zone, or whole milliseconds since 1970)";
        return Err(unfit(option, column, what));
    }
    Ok(Guess {
        place,
        why: "you said so".to_owned(),
    })
}

fn wished_label(sample: &Sample, place: usize) -> Result<(Guess, LabelKind), DraftError> {
    let column = &sample.columns[place];
    let guess = Guess {
        place,
        why: "you said so".to_owned(),
    };
    let what = "is not true or false, a number, or one of 2 to 64 texts";
    label_kind(column)
        .map(|kind| (guess, kind))
        .ok_or_else(|| unfit("--label", column, what))
}

fn id_score(column: &Column) -> Option<(i32, String)> {
    let kind = column.kind();
    let fits = matches!(kind, Kind::Int | Kind::Text) && column.bytes_longest <= 256;
    if !fits || !column.is_unique() || !is_legal(&column.name) || column.is_time() {
        return None;
    }
    if column.looks.local_times > 0 || column.looks.emails > 0 || column.looks.sentences > 0 {
        return None;
    }
    let words = words(&column.name);
    let is_id = |word: &String| matches!(word.as_str(), "id" | "uuid" | "guid" | "key");
    let is_row = |word: &String| matches!(word.as_str(), "index" | "row" | "no" | "nr" | "number");
    let person = personal::personal(column).is_some();
    let score = match (words.as_slice(), words.last()) {
        ([only], _) if is_id(only) => 6,
        (_, Some(last)) if is_id(last) => {
            if person {
                1
            } else {
                4
            }
        }
        (_, _) if person => return None,
        (_, Some(last)) if is_row(last) => 2,
        _ if kind == Kind::Text && column.seen() >= 20 => 1,
        _ => return None,
    };
    let why = match score {
        1 => "every value is different",
        _ => "every value is different, and the name says so",
    };
    Some((score, why.to_owned()))
}

fn time_score(column: &Column) -> Option<(i32, String)> {
    if !column.is_time() || column.counts.nulls > 0 || !is_legal(&column.name) {
        return None;
    }
    let words = words(&column.name);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if has(&["birth", "dob", "birthday", "birthdate"]) {
        return None;
    }
    let plain = has(&["time", "timestamp", "ts", "event", "occurred", "created"]);
    let score =
        3 * i32::from(column.sorted) + 2 * i32::from(column.named_time()) + 2 * i32::from(plain)
            - 3 * i32::from(has(&LATER));
    let why = match (column.sorted, column.named_time() || plain) {
        (true, true) => "the rows are in its order, and the name says so",
        (true, false) => "the rows are in its order, and every row has one",
        (false, true) => "the name says so, and every row has one; the rows are not in its order",
        (false, false) => "every row has one; the rows are not in its order",
    };
    Some((score, why.to_owned()))
}
