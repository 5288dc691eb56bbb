//! The sections `[[features]]`: what the learner sees of an event.

use super::check;
use super::parse::POSITIVE;
use super::walk::{At, Problems, Walk};
use super::*;

pub(super) fn features(root: &mut Walk, fields: &[Field], problems: &mut Problems) -> Vec<Feature> {
    let mut features = Vec::new();
    for mut walk in root.tables("features", problems) {
        feature(&mut walk, fields, &mut features, problems);
        walk.finish(problems);
    }
    features
}

fn feature(
    walk: &mut Walk,
    fields: &[Field],
    features: &mut Vec<Feature>,
    problems: &mut Problems,
) {
    let words = [
        ("category", 0),
        ("number", 1),
        ("bucket", 2),
        ("time", 3),
        ("cross", 4),
        ("words", 5),
        ("letters", 6),
        ("list", 7),
    ];
    let kind = walk.word("kind", &words, None, problems);
    let of = walk.texts("of", problems);
    let span = walk.span.clone();
    let Some(kind) = kind else { return };
    if kind == 4 {
        features.extend(check::cross(&of, features, &span, problems));
        return;
    }
    let [at] = of.as_slice() else {
        problems.note(
            &span,
            "`features.of` must name one field",
            "write `of = \"<field>\"`",
        );
        return;
    };
    let Some(field) = check::feature_field(kind, at, fields, problems) else {
        return;
    };
    let name = fields[field].name.clone();
    match kind {
        0 => features.push(Feature {
            name,
            kind: FeatureKind::Category { field },
        }),
        1 => features.push(Feature {
            name,
            kind: FeatureKind::Number { field },
        }),
        2 => match walk.number("width", POSITIVE, problems) {
            Some(width) => {
                features.push(Feature {
                    name: format!("{name}.bucket"),
                    kind: FeatureKind::Bucket { field, width },
                });
            }
            None => walk.missing("width", problems),
        },
        5..=7 => {
            let bag = bag(walk, kind, problems);
            features.push(Feature {
                name,
                kind: FeatureKind::Bag { field, bag },
            });
        }
        _ => {
            let utc_offset_seconds = check::utc_offset(walk, problems);
            for part in time_parts(walk, problems) {
                let kind = FeatureKind::Time {
                    field,
                    part: part.1,
                    utc_offset_seconds,
                };
                features.push(Feature {
                    name: format!("{name}.{}", part.0),
                    kind,
                });
            }
        }
    }
    check::distinct_features(features, &span, problems);
}

fn time_parts(walk: &mut Walk, problems: &mut Problems) -> Vec<(&'static str, TimePart)> {
    let words = [
        ("minute", ("minute", TimePart::Minute)),
        ("hour", ("hour", TimePart::Hour)),
        ("weekday", ("weekday", TimePart::Weekday)),
        ("day", ("day", TimePart::Day)),
        ("month", ("month", TimePart::Month)),
    ];
    let path = walk.path("parts");
    let parts = walk.texts("parts", problems);
    if parts.is_empty() {
        walk.missing("parts", problems);
    }
    parts
        .iter()
        .filter_map(|at| super::walk::one_of(&path, at.value, &at.span, &words, problems))
        .collect()
}

/// Takes how a text becomes a bag of features.
fn bag(walk: &mut Walk, kind: u8, problems: &mut Problems) -> Bag {
    let most = walk.integer("most", 1..65, 16, problems) as usize;
    let split = match kind {
        5 => Split::Words {
            together: walk.integer("together", 1..4, 1, problems) as usize,
        },
        6 => Split::Letters {
            together: walk.integer("together", 1..9, 3, problems) as usize,
        },
        _ => {
            let separator = walk.text("separator", problems);
            if let Some(At { span, .. }) = separator.as_ref().filter(|at| at.value.is_empty()) {
                let what = "`features.separator` is empty";
                problems.note(
                    span,
                    what,
                    "write what stands between the items, such as \",\"",
                );
            }
            Split::List {
                separator: separator.map_or(",", |at| at.value).to_owned(),
            }
        }
    };
    Bag { split, most }
}
