//! Decides what becomes of each column: a field of some role, or nothing. Pure.

use std::collections::HashSet;

use super::column::{Column, Kind};
use super::field::{BYTES_MAX, Role};
use super::keys::{Guess, Keys, is_legal};
use super::leaks::leak;
use super::personal::personal;
use super::sample::Sample;

/// Fields of a draft, at most; a contract takes 512.
const FIELDS_MAX: usize = 500;

/// What becomes of a column.
pub struct Plan<'a> {
    /// The column.
    pub column: &'a Column,
    /// What it is in the event.
    pub role: Role,
    /// Why it has the role; empty for an open field.
    pub why: String,
    /// Why it is suspected to be known only with the label.
    pub leak: Option<&'static str>,
}

/// The guesses in order: fields, and what is left out.
pub struct Plans<'a> {
    /// The fields, in the order of the file.
    pub fields: Vec<Plan<'a>>,
    /// The columns that cannot be fields, and why.
    pub left_out: Vec<(&'a str, &'static str)>,
}

/// Decides what becomes of each column.
pub fn plan<'a>(sample: &'a Sample, keys: &Keys) -> Plans<'a> {
    let at = |guess: &Option<Guess>| guess.as_ref().map(|guess| guess.place);
    let (id, time, subject) = (at(&keys.id), at(&keys.time), at(&keys.subject));
    let label = keys.label.as_ref().map(|(guess, _)| guess.place);
    let label_time = at(&keys.label_time);
    let mut plans = Plans {
        fields: Vec::new(),
        left_out: Vec::new(),
    };
    let mut taken = HashSet::new();
    for (place, column) in sample.columns.iter().enumerate() {
        let here = Some(place);
        if here == label || here == label_time {
            continue;
        }
        let (role, why) = if here == id {
            let open = "; it looks personal, but an id is never sealed: better give events another";
            let open = personal(column).map_or("", |_| open);
            (Role::Id, format!("names the event{open}"))
        } else if here == time {
            (Role::Time, "when the event happened".to_owned())
        } else if let Some(why) = personal(column) {
            (Role::Personal, format!("personal: {why}"))
        } else if here == subject && matches!(column.kind(), Kind::Int | Kind::Text) {
            (Role::Personal, "personal: you said so".to_owned())
        } else {
            (Role::Open, String::new())
        };
        let key = matches!(role, Role::Id | Role::Time);
        if let Some(why) = unfit(column, role, plans.fields.len(), &taken) {
            plans.left_out.push((&column.name, why));
            continue;
        }
        taken.insert(column.name.clone());
        if role == Role::Personal {
            taken.insert(format!("{}_token", column.name));
        }
        let leak = label
            .filter(|_| !key)
            .and_then(|label| leak(column, &sample.columns[label]));
        plans.fields.push(Plan {
            column,
            role,
            why,
            leak,
        });
    }
    plans
}

/// Says why a column cannot be a field.
fn unfit(
    column: &Column,
    role: Role,
    fields: usize,
    taken: &HashSet<String>,
) -> Option<&'static str> {
    let is_key = matches!(role, Role::Id | Role::Time);
    let token = role == Role::Personal && taken.contains(&format!("{}_token", column.name));
    if !is_legal(&column.name) {
        Some("a field's name is of letters, digits and `_`, a letter first: rename it")
    } else if column.kind() == Kind::Empty {
        Some("it has no value in the sample")
    } else if column.kind() == Kind::Nested {
        Some("it has lists or objects: flatten it")
    } else if BYTES_MAX < column.bytes_longest {
        Some("its longest text is longer than the 65,536 bytes of a field")
    } else if token || taken.contains(&column.name) {
        Some("another column has the same name, or a token of that name: rename it")
    } else if FIELDS_MAX <= fields && !is_key {
        Some("a draft has no more fields than stand above")
    } else {
        None
    }
}
