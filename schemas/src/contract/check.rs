//! What a contract's parts must be to fit together.

use std::ops::Range;

use super::walk::{At, Problems, Walk, integer_of, number_of};
use super::*;
use crate::time::parse_rfc3339;

/// Most fields of a contract: a batch of one event must fit a message.
const FIELDS_MAX: usize = 512;

/// Most features, so that a row of slots stays small.
const FEATURES_MAX: usize = 512;

/// Most slices: each value of each has sums of its own, and an event's values wait with it in four bytes.
const SLICES_MAX: usize = 4;

pub(super) fn topic_name(path: &str, name: &str, span: &Range<usize>, problems: &mut Problems) {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 100 || !name.chars().all(legal) {
        let remedy = "write 1 to 100 lowercase letters, digits, `-` or `_`";
        problems.note(span, format!("`{path}` is \"{name}\""), remedy);
    }
}

pub(super) fn field_name(name: &str, span: &Range<usize>, problems: &mut Problems) {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || name.len() > 100 || !name.chars().all(legal) {
        let remedy = "write letters, digits and `_`, a letter first (`_` is the system's)";
        problems.note(span, format!("`fields.name` is \"{name}\""), remedy);
    }
}

/// Checks that numbers and columns of fields are distinct.
pub(super) fn fields(fields: &[Field], spans: &[Range<usize>], problems: &mut Problems) {
    if fields.len() > FIELDS_MAX {
        problems.note(
            &spans[FIELDS_MAX],
            format!("there are {} fields", fields.len()),
            format!("keep at most {FIELDS_MAX}"),
        );
    }
    for (at, field) in fields.iter().enumerate() {
        for other in &fields[..at] {
            if other.id == field.id {
                let what = format!(
                    "fields `{}` and `{}` both have id {}",
                    other.name, field.name, field.id
                );
                problems.note(
                    &spans[at],
                    what,
                    "give each field a number of its own, for ever",
                );
            }
            let clash = other.name == field.name
                || (other.privacy.token && field.name == format!("{}_token", other.name))
                || (field.privacy.token && other.name == format!("{}_token", field.name));
            if clash {
                let what = format!(
                    "fields `{}` and `{}` make the same column",
                    other.name, field.name
                );
                problems.note(&spans[at], what, "rename one");
            }
        }
    }
}

/// Checks one field's rules against each other.
pub(super) fn field(field: &Field, span: &Range<usize>, problems: &mut Problems) {
    let name = &field.name;
    let nulls = |violation| violation == Violation::Null;
    let outlier_nulls = field.outlier.is_some_and(|outlier| nulls(outlier.action));
    if field.required && field.default.is_none() && (nulls(field.on_violation) || outlier_nulls) {
        let what = format!("field `{name}` is required, and a violation makes it null");
        problems.note(
            span,
            what,
            "write on_violation = \"reject\", give a default, or make it optional",
        );
    }
    if field.on_violation == Violation::Clamp && field.bounds == Bounds::None {
        problems.note(
            span,
            format!("field `{name}` clamps without bounds"),
            "add `min` and `max`",
        );
    }
    let hidden = field.privacy.seal || field.privacy.token;
    if hidden && field.kind != FieldType::String {
        problems.note(
            span,
            format!("field `{name}` is sealed or a token, and no string"),
            "make its type \"string\"",
        );
    }
}

pub(super) fn field_named(
    path: &str,
    at: &At<&str>,
    fields: &[Field],
    problems: &mut Problems,
) -> Option<usize> {
    let found = fields.iter().position(|field| field.name == at.value);
    if found.is_none() {
        let what = format!("`{path}` names \"{}\", which is not a field", at.value);
        problems.note(&at.span, what, "name one of the [[fields]]");
    }
    found
}

pub(super) fn event_id(at: &At<&str>, fields: &[Field], problems: &mut Problems) -> Option<usize> {
    let index = field_named("event.id", at, fields, problems)?;
    let field = &fields[index];
    if !field.required || !field.privacy.open || field.kind != FieldType::String {
        let what = format!(
            "`event.id` names \"{}\", which is not a required, open string",
            at.value
        );
        problems.note(
            &at.span,
            what,
            "write presence = \"required\", type = \"string\" there, and no privacy",
        );
    }
    Some(index)
}

pub(super) fn event_time(
    at: &At<&str>,
    fields: &[Field],
    problems: &mut Problems,
) -> Option<usize> {
    let index = field_named("event.time", at, fields, problems)?;
    let field = &fields[index];
    if !field.required || !field.privacy.open || field.kind != FieldType::Timestamp {
        let what = format!(
            "`event.time` names \"{}\", which is not a required, open timestamp",
            at.value
        );
        problems.note(
            &at.span,
            what,
            "write presence = \"required\", type = \"timestamp\" there, and no privacy",
        );
    }
    Some(index)
}

/// Checks that whoever holds the keys can tell from a row whose cells are in it.
pub(super) fn event_subject(
    at: &At<&str>,
    fields: &[Field],
    problems: &mut Problems,
) -> Option<usize> {
    let index = field_named("event.subject", at, fields, problems)?;
    let privacy = fields[index].privacy;
    let sealed = fields.iter().any(|field| field.privacy.seal);
    if sealed && !privacy.token && !privacy.open {
        let what = format!(
            "`event.subject` names \"{}\", which is neither open nor a token: no cell could be opened again",
            at.value
        );
        problems.note(&at.span, what, "add \"token\" to its privacy");
    }
    Some(index)
}

/// Takes `min` and `max` in the field's type.
pub(super) fn bounds(walk: &mut Walk, kind: FieldType, problems: &mut Problems) -> Bounds {
    let (min, max) = (walk.value("min"), walk.value("max"));
    if min.is_none() && max.is_none() {
        return Bounds::None;
    }
    let span = walk.span.clone();
    let bounds = match kind {
        FieldType::Float64 => {
            let mut end = |value: Option<&toml::Spanned<_>>, key, open| match value {
                None => open,
                Some(value) => number_of(value.get_ref())
                    .filter(|number| !number.is_nan())
                    .unwrap_or_else(|| {
                        walk.mistyped(value, key, "a number", problems);
                        open
                    }),
            };
            let (min, max) = (
                end(min, "min", f64::NEG_INFINITY),
                end(max, "max", f64::INFINITY),
            );
            (min <= max).then_some(Bounds::Float { min, max })
        }
        FieldType::Int64 | FieldType::Timestamp => {
            let mut end = |value: Option<&toml::Spanned<toml::de::DeValue>>, key, open| match value
            {
                None => open,
                Some(value) => point(value.get_ref(), kind).unwrap_or_else(|| {
                    let right = if kind == FieldType::Int64 {
                        "a whole number"
                    } else {
                        "an RFC 3339 time in quotes"
                    };
                    walk.mistyped(value, key, right, problems);
                    open
                }),
            };
            let (min, max) = (end(min, "min", i64::MIN), end(max, "max", i64::MAX));
            (min <= max).then_some(Bounds::Int { min, max })
        }
        FieldType::String | FieldType::Bool => {
            problems.note(
                &span,
                "`min` and `max` on a field that is no number",
                "remove them",
            );
            Some(Bounds::None)
        }
    };
    bounds.unwrap_or_else(|| {
        problems.note(&span, "`min` is above `max`", "swap them");
        Bounds::None
    })
}

fn point(value: &toml::de::DeValue, kind: FieldType) -> Option<i64> {
    match kind {
        FieldType::Timestamp => parse_rfc3339(value.as_str()?).map(|time| time.0),
        _ => integer_of(value),
    }
}

/// Takes `default` in the field's type.
pub(super) fn default(walk: &mut Walk, kind: FieldType, problems: &mut Problems) -> Option<Value> {
    let spanned = walk.value("default")?;
    let value = spanned.get_ref();
    let found = match kind {
        FieldType::String => value.as_str().map(|text| Value::String(text.to_owned())),
        FieldType::Int64 | FieldType::Timestamp => point(value, kind).map(Value::Int),
        FieldType::Float64 => number_of(value)
            .filter(|number| number.is_finite())
            .map(Value::Float),
        FieldType::Bool => value.as_bool().map(Value::Bool),
    };
    if found.is_none() {
        walk.mistyped(spanned, "default", "a value of the field's type", problems);
    }
    found
}

/// Finds the fields by whose values quality is told: their values stand in metrics, for all to see.
pub(super) fn slices(texts: &[At<&str>], fields: &[Field], problems: &mut Problems) -> Vec<usize> {
    if let Some(beyond) = texts.get(SLICES_MAX) {
        let what = format!("`monitors.slices` has {} fields", texts.len());
        problems.note(&beyond.span, what, format!("keep at most {SLICES_MAX}"));
    }
    let mut slices = Vec::new();
    for at in texts {
        let Some(index) = field_named("monitors.slices", at, fields, problems) else {
            continue;
        };
        let field = &fields[index];
        let few = matches!(
            field.kind,
            FieldType::String | FieldType::Int64 | FieldType::Bool
        );
        if !few || !field.privacy.open {
            let what = format!(
                "`monitors.slices` names \"{}\", which is no open string, int64 or bool",
                at.value
            );
            problems.note(
                &at.span,
                what,
                "name a field of few values that anybody may see",
            );
        }
        if slices.contains(&index) {
            let what = format!("`monitors.slices` names \"{}\" twice", at.value);
            problems.note(&at.span, what, "remove one");
        }
        slices.push(index);
    }
    slices
}

/// Finds the field that a feature is made of.
pub(super) fn feature_field(
    kind: u8,
    at: &At<&str>,
    fields: &[Field],
    problems: &mut Problems,
) -> Option<usize> {
    let index = field_named("features.of", at, fields, problems)?;
    let field = &fields[index];
    let numeric = matches!(field.kind, FieldType::Int64 | FieldType::Float64);
    let fits = match kind {
        0 => field.kind != FieldType::Float64 && (field.privacy.open || field.privacy.token),
        1 | 2 => numeric && field.privacy.open,
        5..=7 => field.kind == FieldType::String && field.privacy.open,
        _ => field.kind == FieldType::Timestamp && field.privacy.open,
    };
    if !fits {
        let what = format!("no such feature can be made of field \"{}\"", at.value);
        let remedy = "take a category from an open or token field that is no float64, a number or bucket from an open \
                      number, a time from an open timestamp, words, letters or a list from an open string";
        problems.note(&at.span, what, remedy);
        return None;
    }
    Some(index)
}

/// Resolves a cross of two or three features that stand above it.
pub(super) fn cross(
    of: &[At<&str>],
    features: &[Feature],
    span: &Range<usize>,
    problems: &mut Problems,
) -> Option<Feature> {
    if !(2..=3).contains(&of.len()) {
        problems.note(
            span,
            "a cross is of two or three features",
            "write `of = [\"a\", \"b\"]`",
        );
        return None;
    }
    let mut parents = Vec::new();
    for at in of {
        let crossable = |kind: &FeatureKind| {
            matches!(
                kind,
                FeatureKind::Category { .. }
                    | FeatureKind::Bucket { .. }
                    | FeatureKind::Time { .. }
            )
        };
        let found = features
            .iter()
            .position(|feature| feature.name == at.value && crossable(&feature.kind));
        match found {
            Some(index) => parents.push(index),
            None => {
                let what = format!(
                    "\"{}\" is not a category, bucket or time feature above this cross",
                    at.value
                );
                problems.note(
                    &at.span,
                    what,
                    "name features that stand above it (a time part as `field.part`)",
                );
            }
        }
    }
    let name = of.iter().map(|at| at.value).collect::<Vec<_>>().join("*");
    (parents.len() == of.len()).then_some(Feature {
        name,
        kind: FeatureKind::Cross { features: parents },
    })
}

/// Checks that the newest feature has a name of its own, and that there are not too many.
pub(super) fn distinct_features(
    features: &[Feature],
    span: &Range<usize>,
    problems: &mut Problems,
) {
    let slots = features.iter().map(|feature| match &feature.kind {
        FeatureKind::Bag { bag, .. } => bag.most,
        _ => 1,
    });
    if slots.sum::<usize>() > FEATURES_MAX {
        problems.note(
            span,
            "there are too many features",
            format!("keep at most {FEATURES_MAX}; a bag counts as its `most`"),
        );
    }
    let Some((newest, older)) = features.split_last() else {
        return;
    };
    if older.iter().any(|feature| feature == newest) {
        problems.note(
            span,
            format!("feature `{}` stands twice", newest.name),
            "remove one",
        );
    }
}

/// Takes `utc_offset`, in seconds.
pub(super) fn utc_offset(walk: &mut Walk, problems: &mut Problems) -> i32 {
    let Some(at) = walk.text("utc_offset", problems) else {
        return 0;
    };
    let zero = parse_rfc3339(&format!("1970-01-02T00:00:00{}", at.value));
    match zero {
        Some(time) => (86_400 - time.0 / 1_000_000) as i32,
        None => {
            let what = format!("`{}` is \"{}\"", walk.path("utc_offset"), at.value);
            problems.note(
                &at.span,
                what,
                "write an offset such as \"-05:00\" or \"Z\"",
            );
            0
        }
    }
}
