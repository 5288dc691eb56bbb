//! Writes guesses as the text of a contract, each with its reason. Pure.

use std::fmt::Write;
use std::path::Path;

use super::Draft;
use super::features::{Feature, features};
use super::field::{self, Role, quoted};
use super::keys::{Guess, Keys};
use super::label::LabelKind;
use super::plan::{Plans, plan};
use super::sample::Sample;
use super::seen::Value;
use crate::text;

/// Slots of the features of a draft, at most; a contract takes 512.
const SLOTS_MAX: usize = 480;

/// Slots that a bag of words or items takes when the contract does not say.
const BAG_SLOTS: usize = 16;

/// Longest that an event waits for its label, in hours.
const WAIT_HOURS_MAX: i64 = 365 * 24;

/// Writes a draft.
pub fn write(sample: &Sample, keys: &Keys, name: Option<&str>) -> Draft {
    let plans = plan(sample, keys);
    let column = |guess: &Option<Guess>| {
        guess
            .as_ref()
            .map(|guess| sample.columns[guess.place].name.clone())
    };
    let id = column(&keys.id).unwrap_or_else(|| free_name(sample, "id"));
    let time = column(&keys.time).unwrap_or_else(|| free_name(sample, "time"));
    let subject = keys.subject.as_ref().filter(|guess| {
        let name = &sample.columns[guess.place].name;
        plans.fields.iter().any(|plan| plan.column.name == *name)
    });
    let mut out = String::new();
    opening(&mut out, sample, name);
    out.push_str("[event]\n");
    event_key(&mut out, "id", &id, keys.id.as_ref());
    event_key(&mut out, "time", &time, keys.time.as_ref());
    if let Some(guess) = subject {
        event_key(
            &mut out,
            "subject",
            &sample.columns[guess.place].name,
            Some(guess),
        );
    }
    out.push('\n');
    fields(&mut out, &plans, keys, (&id, &time));
    let made = write_features(&mut out, &plans);
    label(&mut out, sample, keys, &id);
    closing(&mut out, keys);
    Draft {
        text: out,
        guesses: summary(sample, keys, &plans, made, (&id, &time)),
        has_label: keys.label.is_some(),
    }
}

fn opening(out: &mut String, sample: &Sample, name: Option<&str>) {
    let rows = text::plural(sample.rows as u64, "row", "rows");
    let first = if sample.cut { "the first " } else { "" };
    let _ = write!(
        out,
        "# Drafted by `thalweg init` from {first}{rows} of {file}.\n\
         # Every guess has its reason beside it: correct what is wrong. `thalweg check` finds what does not fit\n\
         # together, and `thalweg evaluate {file} --contract` this file says how well it learns.\n\
         version = 1\n\n[stream]\n",
        file = quoted(&sample.file),
    );
    let stream = name.map_or_else(|| stream_name(&sample.file), str::to_owned);
    let stream = format!("name = {}", quoted(&stream));
    let _ = write!(
        out,
        "{stream:<32} # topics: its name and .raw, .clean, .dead, .labels, .model, .scores\n\
         encoding = \"json\"                # one JSON object per message\n\
         unknown_fields = \"ignore\"        # or \"reject\"\n\n"
    );
}

/// Makes the name of a stream from that of a file.
fn stream_name(file: &str) -> String {
    let stem = Path::new(file)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = stem
        .chars()
        .map(|c| {
            if legal(c) {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(100)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() {
        "stream".to_owned()
    } else {
        name.to_owned()
    }
}

/// Returns a name that no column has.
fn free_name(sample: &Sample, name: &str) -> String {
    let names = [name.to_owned(), format!("event_{name}")];
    let numbered = (1..).map(|number| format!("event_{name}_{number}"));
    let mut free = names
        .into_iter()
        .chain(numbered)
        .filter(|name| sample.column(name).is_none());
    free.next()
        .expect("the numbers do not end, and the columns do")
}

fn event_key(out: &mut String, key: &str, name: &str, guess: Option<&Guess>) {
    let why = guess.map_or("no column looks like it; see the field below", |guess| {
        guess.why.as_str()
    });
    let line = format!("{key} = {}", quoted(name));
    let _ = writeln!(out, "{line:<32} # {why}");
}

fn fields(out: &mut String, plans: &Plans<'_>, keys: &Keys, (id, time): (&str, &str)) {
    out.push_str(
        "# Fields: `id` is the field's number for ever (never use one twice). Only id and time are required; write\n\
         # presence = \"required\" where an event without the field is no event. Bounds are what was seen, widened.\n\n",
    );
    let mut number = 0;
    let mut next = || {
        number += 1;
        number
    };
    for (name, role, guess) in [(id, Role::Id, &keys.id), (time, Role::Time, &keys.time)] {
        if guess.is_none() {
            field::write_absent(out, next(), name, role);
        }
    }
    for plan in &plans.fields {
        field::write(out, next(), plan.column, plan.role, &plan.why);
    }
    for (name, why) in &plans.left_out {
        let _ = writeln!(out, "# Left out: {}; {why}.", quoted(name));
    }
    if !plans.left_out.is_empty() {
        out.push('\n');
    }
}

/// Writes the features; returns how many tables there are.
fn write_features(out: &mut String, plans: &Plans<'_>) -> usize {
    out.push_str(
        "# Features: what the learner sees. Numbers are standardised online; a missing value is a feature of its own;\n\
         # useful crosses are found by the learner.\n\n",
    );
    let (mut made, mut slots) = (0, 0);
    for plan in plans.fields.iter().filter(|plan| plan.role != Role::Id) {
        let name = quoted(&plan.column.name);
        if let Some(why) = plan.leak {
            let _ = writeln!(
                out,
                "# No feature of {name}: {why}. Add one if it is known with the event.\n"
            );
            continue;
        }
        let guessed = match plan.role {
            Role::Time if !plan.column.is_time() => {
                Ok((vec![Feature::Hour], "habits go by the hour and the weekday"))
            }
            role => features(plan.column, role == Role::Personal),
        };
        let (wanted, why) = match guessed {
            Ok(guessed) => guessed,
            Err(why) => {
                let _ = writeln!(out, "# No feature of {name}: {why}.\n");
                continue;
            }
        };
        for feature in wanted {
            slots += slots_of(&feature);
            if SLOTS_MAX < slots {
                let _ = writeln!(out, "# No feature of {name}: there are enough.\n");
                break;
            }
            write_feature(out, &feature, &name, why);
            made += 1;
        }
    }
    made
}

fn slots_of(feature: &Feature) -> usize {
    match feature {
        Feature::Words | Feature::List(_) => BAG_SLOTS,
        Feature::Hour | Feature::Day => 2,
        Feature::Category | Feature::Number | Feature::Bucket => 1,
    }
}

fn write_feature(out: &mut String, feature: &Feature, name: &str, why: &str) {
    let (kind, more) = match feature {
        Feature::Category => ("category", String::new()),
        Feature::Number => ("number", String::new()),
        Feature::Bucket => ("bucket", "width = 1\n".to_owned()),
        Feature::Words => ("words", String::new()),
        Feature::List(separator) => ("list", format!("separator = \"{separator}\"\n")),
        Feature::Hour => (
            "time",
            "parts = [\"hour\", \"weekday\"]\nutc_offset = \"Z\"                 # local hours say more: \"-05:00\"\n".to_owned(),
        ),
        Feature::Day => ("time", "parts = [\"weekday\", \"month\"]\n".to_owned()),
    };
    let kind = format!("kind = \"{kind}\"");
    let _ = writeln!(out, "[[features]]\n{kind:<32} # {why}\nof = {name}\n{more}");
}

fn label(out: &mut String, sample: &Sample, keys: &Keys, id: &str) {
    let Some((guess, kind)) = &keys.label else {
        out.push_str(
            "# No column looks like what is to be predicted: nothing is learned from this stream until there is a\n\
             # [label]. `thalweg init FILE --label COLUMN` drafts one.\n\n",
        );
        return;
    };
    let column = &sample.columns[guess.place];
    let name = format!("name = {}", quoted(&column.name));
    let _ = writeln!(out, "[label]\n{name:<32} # {}", guess.why);
    let labelled = text::count(column.seen() as u64);
    let rows = text::count(sample.rows as u64);
    let _ = match kind {
        LabelKind::Bool => {
            let yes = column
                .values
                .iter()
                .filter(|value| **value == Value::Number(1.0))
                .count();
            let yes = text::count(yes as u64);
            writeln!(
                out,
                "type = \"bool\"                    # {yes} of {labelled} are true, in {rows} rows"
            )
        }
        LabelKind::Number => writeln!(
            out,
            "type = \"number\"                  # in {labelled} of {rows} rows"
        ),
        LabelKind::Class(classes) => {
            let classes: Vec<String> = classes.iter().map(|class| quoted(class)).collect();
            let head = "type = \"class\"                   # in";
            writeln!(
                out,
                "{head} {labelled} of {rows} rows\nclasses = [{}]",
                classes.join(", ")
            )
        }
    };
    let event = format!("event = {}", quoted(id));
    let _ = writeln!(
        out,
        "{event:<32} # field of a label message that has the event's id"
    );
    label_time(out, sample, keys);
}

fn label_time(out: &mut String, sample: &Sample, keys: &Keys) {
    let (time, why) = match &keys.label_time {
        Some(guess) => (sample.columns[guess.place].name.clone(), guess.why.as_str()),
        None => (
            free_name(sample, "labelled_at"),
            "when a label became known: not in the file, so labels come with their events",
        ),
    };
    let time = format!("time = {}", quoted(&time));
    let _ = writeln!(out, "{time:<32} # {why}");
    let (wait, why) = match delay_hours(sample, keys) {
        Some(hours) => (
            (hours * 2).clamp(1, WAIT_HOURS_MAX),
            "twice the longest delay in the sample",
        ),
        None => (7 * 24, "how long a label may take: a guess"),
    };
    let wait = format!("wait_max = \"{wait}h\"");
    let _ = writeln!(out, "{wait:<32} # {why}");
    if says_only_yes(sample, keys) {
        only_yes(out, sample, keys);
    }
    out.push('\n');
}

/// Says whether labels are there for some events and are yes, all of them.
fn says_only_yes(sample: &Sample, keys: &Keys) -> bool {
    let Some((guess, LabelKind::Bool)) = &keys.label else {
        return false;
    };
    let column = &sample.columns[guess.place];
    let mut values = column.values.iter();
    column.counts.nulls > 0
        && values.all(|value| matches!(value, Value::Null) || *value == Value::Number(1.0))
}

/// Writes what becomes of events without a label where no is never said. Half of the labels is a fair time to wait: who
/// waits for nearly all of them learns yes long before no, and follows a changing stream late.
fn only_yes(out: &mut String, sample: &Sample, keys: &Keys) {
    let (minutes, why) = match delays(sample, keys).as_deref() {
        Some([]) | None => (60, "... after so long: a guess"),
        Some(sorted) => (
            (sorted[sorted.len() / 2].div_euclid(60_000_000) + 1).clamp(1, WAIT_HOURS_MAX * 60),
            "... once half of those that have one have it, in the sample",
        ),
    };
    let after = format!("negative_after = \"{minutes}m\"");
    let _ = writeln!(
        out,
        "unlabelled = \"negative\"          # only yes is ever said here: what has no label is taken for no ...\n\
         {after:<32} # {why}\n\
         revised = \"learn\"                # ... and a yes that comes after that puts it right"
    );
}

/// Returns the longest time from an event to its label, in hours begun.
fn delay_hours(sample: &Sample, keys: &Keys) -> Option<i64> {
    let longest = *delays(sample, keys)?.last()?;
    Some(longest.div_euclid(3_600_000_000) + 1)
}

/// Returns the times from events to their labels, in microseconds, the shortest first.
fn delays(sample: &Sample, keys: &Keys) -> Option<Vec<i64>> {
    let event = &sample.columns[keys.time.as_ref()?.place];
    let known = &sample.columns[keys.label_time.as_ref()?.place];
    let delay = |row| known.moment(row)?.checked_sub(event.moment(row)?);
    let mut delays: Vec<i64> = (0..sample.rows).filter_map(delay).collect();
    delays.sort_unstable();
    Some(delays)
}

fn closing(out: &mut String, keys: &Keys) {
    out.push_str("[learner]                        # nothing to tune: the default fits itself to the stream\n");
    if let Some((_, LabelKind::Bool)) = &keys.label {
        out.push_str("\n[decision]\nthreshold = 0.5                  # the decision is yes from this probability on\n");
    }
}

/// Sums the guesses up, a line each.
fn summary(
    sample: &Sample,
    keys: &Keys,
    plans: &Plans<'_>,
    features: usize,
    (id, time): (&str, &str),
) -> Vec<(&'static str, String)> {
    let guessed = |name: &str, guess: Option<&Guess>| match guess {
        Some(guess) => format!("{name}: {}", guess.why),
        None => format!("no column looks like it; the field `{name}` stands in"),
    };
    let label = match &keys.label {
        Some((guess, _)) => {
            // A label may have any name, and this line goes to a terminal.
            let name = sample.columns[guess.place].name.escape_debug().to_string();
            guessed(&name, Some(guess))
        }
        None => "no column looks like it: name it with --label COLUMN".to_owned(),
    };
    let sealed = plans
        .fields
        .iter()
        .filter(|plan| plan.role == Role::Personal);
    let sealed: Vec<&str> = sealed.map(|plan| plan.column.name.as_str()).collect();
    let leaks = plans.fields.iter().filter(|plan| plan.leak.is_some());
    let leaks: Vec<&str> = leaks.map(|plan| plan.column.name.as_str()).collect();
    let mut made = text::plural(features as u64, "feature", "features");
    if !leaks.is_empty() {
        let _ = write!(
            made,
            ", none of {}: known only with the label, it seems",
            leaks.join(", ")
        );
    }
    vec![
        ("id", guessed(id, keys.id.as_ref())),
        ("time", guessed(time, keys.time.as_ref())),
        ("label", label),
        (
            "sealed",
            if sealed.is_empty() {
                "nothing looks personal".to_owned()
            } else {
                sealed.join(", ")
            },
        ),
        ("learns", made),
    ]
}
