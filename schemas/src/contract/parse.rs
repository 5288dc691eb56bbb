//! From TOML to [`Contract`], section by section.

use std::ops::Range;
use std::time::Duration;

use toml::de::DeTable;

use super::walk::{At, Problems, Walk};
use super::*;
use super::{check, features, learner};
use crate::time::{parse_duration, parse_quantity};

/// Largest contract file: what is longer is not a contract.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Most bytes of a string when the contract does not say.
const BYTES_MAX: i64 = 256;

/// Events within which a duplicate is found when the contract does not say: 1 MiB of hashes a partition.
const DUPLICATES_WINDOW: i64 = 65_536;

pub(super) const POSITIVE: (&str, fn(f64) -> bool) = ("a number above 0", |number| number > 0.0);
pub(super) const NOT_NEGATIVE: (&str, fn(f64) -> bool) =
    ("0 or a number above it", |number| number >= 0.0);
const ANY: (&str, fn(f64) -> bool) = ("a finite number", |_| true);

pub(super) fn contract(file: &str, text: &str) -> Result<Contract, ContractErrors> {
    let mut problems = Problems::new(text);
    if text.len() > TEXT_BYTES_MAX {
        problems.note(
            &(0..0),
            "the file is longer than 1 MiB",
            "name a contract file",
        );
        return Err(problems.into_errors(file));
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        problems.note(
            &span,
            format!("not TOML: {}", error.message()),
            "mend the syntax",
        );
    }
    let mut root = Walk::new("", Some(document.get_ref()), 0..0);
    let parsed = sections(&mut root, &mut problems);
    root.finish(&mut problems);
    match parsed {
        Some(contract) if problems.is_empty() => Ok(contract),
        _ => Err(problems.into_errors(file)),
    }
}

fn sections(root: &mut Walk, problems: &mut Problems) -> Option<Contract> {
    root.integer("version", 1..2, 1, problems);
    let stream = stream(root.table("stream", problems), problems);
    let (fields, spans) = fields(root, problems);
    check::fields(&fields, &spans, problems);
    let event = event(root.table("event", problems), &fields, problems);
    let features = features::features(root, &fields, problems);
    let label = learner::label(root.table("label", problems), problems);
    let kind = label.as_ref().map_or(LabelType::Bool, |label| label.kind);
    let learner = learner::learner(root.table("learner", problems), label.as_ref(), problems);
    let decision = decision(root.table("decision", problems), kind, problems);
    let lake = lake(root.table("lake", problems), problems);
    let monitors = monitors(root.table("monitors", problems), &fields, problems);
    let (stream, event) = (stream?, event?);
    Some(Contract {
        stream,
        event,
        fields,
        features,
        label,
        learner,
        decision,
        lake,
        monitors,
    })
}

fn stream(mut walk: Walk, problems: &mut Problems) -> Option<Stream> {
    let name = walk.required_text("name", problems);
    if let Some(At { value, span }) = &name {
        check::topic_name("stream.name", value, span, problems);
    }
    let tenant = walk.text("tenant", problems);
    let encoding = walk.word(
        "encoding",
        &[("json", Encoding::Json)],
        Some(Encoding::Json),
        problems,
    );
    let words = [
        ("ignore", UnknownFields::Ignore),
        ("reject", UnknownFields::Reject),
    ];
    let unknown_fields = walk.word(
        "unknown_fields",
        &words,
        Some(UnknownFields::Ignore),
        problems,
    );
    walk.finish(problems);
    Some(Stream {
        name: name?.value.to_owned(),
        tenant: tenant.map_or("default", |at| at.value).to_owned(),
        encoding: encoding?,
        unknown_fields: unknown_fields?,
    })
}

fn event(mut walk: Walk, fields: &[Field], problems: &mut Problems) -> Option<EventKeys> {
    let id = walk.required_text("id", problems);
    let time = walk.required_text("time", problems);
    let subject = walk.text("subject", problems);
    let duplicates_window = walk.integer(
        "duplicates_window",
        0..(1 << 24) + 1,
        DUPLICATES_WINDOW,
        problems,
    ) as usize;
    walk.finish(problems);
    let id = check::event_id(&id?, fields, problems);
    let time = check::event_time(&time?, fields, problems);
    let subject = match subject {
        None => None,
        Some(at) => Some(check::event_subject(&at, fields, problems)?),
    };
    Some(EventKeys {
        id: id?,
        time: time?,
        subject,
        duplicates_window,
    })
}

fn fields(root: &mut Walk, problems: &mut Problems) -> (Vec<Field>, Vec<Range<usize>>) {
    let walks = root.tables("fields", problems);
    if walks.is_empty() {
        problems.note(
            &(0..0),
            "there are no fields",
            "add a [[fields]] table for each field of an event",
        );
    }
    walks
        .into_iter()
        .filter_map(|walk| {
            let span = walk.span.clone();
            field(walk, problems).map(|field| (field, span))
        })
        .unzip()
}

const TYPES: [(&str, FieldType); 5] = [
    ("string", FieldType::String),
    ("int64", FieldType::Int64),
    ("float64", FieldType::Float64),
    ("bool", FieldType::Bool),
    ("timestamp", FieldType::Timestamp),
];

const VIOLATIONS: [(&str, Violation); 3] = [
    ("reject", Violation::Reject),
    ("null", Violation::Null),
    ("clamp", Violation::Clamp),
];

fn field(mut walk: Walk, problems: &mut Problems) -> Option<Field> {
    let span = walk.span.clone();
    if walk.value("id").is_none() {
        walk.missing("id", problems);
    }
    let id = FieldId(walk.integer("id", 1..65_536, 1, problems) as u16);
    let name = walk.required_text("name", problems);
    if let Some(At { value, span }) = &name {
        check::field_name(value, span, problems);
    }
    let kind = walk.word("type", &TYPES, None, problems);
    let required = walk.word(
        "presence",
        &[("required", true), ("optional", false)],
        Some(false),
        problems,
    )?;
    let violation = if required {
        Violation::Reject
    } else {
        Violation::Null
    };
    let on_violation = walk.word("on_violation", &VIOLATIONS, Some(violation), problems)?;
    let bytes_max = walk.integer("bytes_max", 1..65_537, BYTES_MAX, problems) as usize;
    let kind_known = kind.unwrap_or(FieldType::String);
    let bounds = check::bounds(&mut walk, kind_known, problems);
    let clean = clean(&mut walk, kind_known, problems);
    let default = check::default(&mut walk, kind_known, problems);
    let outlier = outlier(&mut walk, kind_known, problems);
    let privacy = privacy(&mut walk, problems);
    walk.finish(problems);
    let name = name?.value.to_owned();
    let field = Field {
        id,
        name,
        kind: kind?,
        required,
        clean,
        bounds,
        bytes_max,
        on_violation,
        default,
        outlier,
        privacy: privacy?,
    };
    check::field(&field, &span, problems);
    Some(field)
}

fn clean(walk: &mut Walk, kind: FieldType, problems: &mut Problems) -> Vec<CleanStep> {
    let words = [
        ("trim", CleanStep::Trim),
        ("lower", CleanStep::Lower),
        ("upper", CleanStep::Upper),
    ];
    let path = walk.path("clean");
    let mut steps = Vec::new();
    for At { value, span } in walk.texts("clean", problems) {
        if kind != FieldType::String {
            problems.note(
                &span,
                format!("`{path}` has \"{value}\" on a field that is no string"),
                "remove it",
            );
            continue;
        }
        steps.extend(super::walk::one_of(&path, value, &span, &words, problems));
    }
    let mut scale = walk.table("scale", problems);
    if scale.exists() {
        let by = scale
            .number("by", ("a number other than 0", |by| by != 0.0), problems)
            .unwrap_or(1.0);
        let plus = scale.number("plus", ANY, problems).unwrap_or(0.0);
        if kind != FieldType::Float64 {
            problems.note(
                &scale.span,
                "`scale` on a field that is no float64",
                "remove it",
            );
        }
        steps.push(CleanStep::Scale { by, plus });
    }
    scale.finish(problems);
    steps
}

fn outlier(walk: &mut Walk, kind: FieldType, problems: &mut Problems) -> Option<Outlier> {
    let mut outlier = walk.table("outlier", problems);
    if !outlier.exists() {
        return None;
    }
    if kind != FieldType::Float64 {
        problems.note(
            &outlier.span,
            "`outlier` on a field that is no float64",
            "remove it",
        );
    }
    let deviations = outlier.number("deviations", POSITIVE, problems);
    if deviations.is_none() {
        outlier.missing("deviations", problems);
    }
    let action = outlier.word("action", &VIOLATIONS, Some(Violation::Null), problems);
    outlier.finish(problems);
    Some(Outlier {
        deviations: deviations?,
        action: action?,
    })
}

fn privacy(walk: &mut Walk, problems: &mut Problems) -> Option<Privacy> {
    let path = walk.path("privacy");
    let pad_to = walk.integer("pad_to", 1..4097, 16, problems) as usize;
    let mut privacy = Privacy {
        open: false,
        token: false,
        seal: false,
        pad_to,
    };
    let words = [("open", 0), ("token", 1), ("seal", 2), ("drop", 3)];
    let texts = walk.texts("privacy", problems);
    let mut seen = Vec::new();
    for At { value, span } in &texts {
        match super::walk::one_of(&path, value, span, &words, problems)? {
            0 => privacy.open = true,
            1 => privacy.token = true,
            2 => privacy.seal = true,
            _ => {}
        }
        seen.push(*value);
    }
    let alone = seen.contains(&"open") || seen.contains(&"drop");
    if alone && seen.len() > 1 {
        let what = format!("`{path}` combines \"open\" or \"drop\" with another class");
        problems.note(
            &texts[0].span,
            what,
            "write one class, or [\"seal\", \"token\"]",
        );
    }
    if seen.is_empty() {
        privacy.open = true;
    }
    Some(privacy)
}

fn decision(mut walk: Walk, label: LabelType, problems: &mut Problems) -> Decision {
    let probability: (&str, fn(f64) -> bool) = ("a number from 0 to 1", |number| {
        (0.0..=1.0).contains(&number)
    });
    let condition = match label {
        LabelType::Number => ANY,
        LabelType::Bool | LabelType::Class => probability,
    };
    let threshold = walk.number("threshold", condition, problems).unwrap_or(0.5);
    walk.finish(problems);
    Decision { threshold }
}

fn lake(mut walk: Walk, problems: &mut Problems) -> Lake {
    let days = [("day", LakePartition::Day)];
    let partition = walk.word("partition", &days, Some(LakePartition::Day), problems);
    let file_bytes_max = bytes(&mut walk, "file_bytes_max", 128 << 20, problems);
    let record_age_max = duration(
        &mut walk,
        "record_age_max",
        Duration::from_secs(60),
        problems,
    );
    let small_file_bytes = small_file_bytes(&mut walk, problems);
    let compact_after = walk.integer("compact_after", 0..1001, 16, problems) as usize;
    let vacuum_after = vacuum_after(&mut walk, problems);
    walk.finish(problems);
    Lake {
        partition: partition.unwrap_or(LakePartition::Day),
        file_bytes_max,
        record_age_max,
        small_file_bytes,
        compact_after,
        vacuum_after,
    }
}

/// Takes the size below which a file is small: two of them must fit what is put together in memory.
fn small_file_bytes(walk: &mut Walk, problems: &mut Problems) -> u64 {
    let bytes = bytes(walk, "small_file_bytes", 16 << 20, problems);
    if Lake::SMALL_FILE_BYTES_MAX < bytes {
        walk.refuse("small_file_bytes", "write a size up to \"32MiB\"", problems);
    }
    bytes
}

/// Takes the time after which expired files are deleted: readers of the version before need them until then.
fn vacuum_after(walk: &mut Walk, problems: &mut Problems) -> Duration {
    let week = Duration::from_secs(7 * 24 * 3600);
    let after = duration(walk, "vacuum_after", week, problems);
    if after < Lake::VACUUM_AFTER_MIN {
        walk.refuse("vacuum_after", "write a duration from \"1h\" on", problems);
    }
    after
}

fn monitors(mut walk: Walk, fields: &[Field], problems: &mut Problems) -> Monitors {
    let window = walk.integer("window", 100..10_000_001, 10_000, problems) as u32;
    let texts = walk.texts("slices", problems);
    let slices = check::slices(&texts, fields, problems);
    walk.finish(problems);
    Monitors { window, slices }
}

/// Takes a duration: a whole number and its unit.
pub(super) fn duration(
    walk: &mut Walk,
    key: &'static str,
    default: Duration,
    problems: &mut Problems,
) -> Duration {
    let Some(at) = walk.text(key, problems) else {
        return default;
    };
    match parse_duration(at.value) {
        Some(duration) => duration,
        None => {
            let what = format!("`{}` is \"{}\"", walk.path(key), at.value);
            problems.note(
                &at.span,
                what,
                "write a duration above 0 such as \"500ms\", \"10s\", \"5m\", \"48h\" or \"7d\"",
            );
            default
        }
    }
}

/// Takes a size in bytes: a whole number and its unit.
fn bytes(walk: &mut Walk, key: &'static str, default: u64, problems: &mut Problems) -> u64 {
    const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let Some(at) = walk.text(key, problems) else {
        return default;
    };
    match parse_quantity(at.value, &UNITS) {
        Some(bytes) if bytes > 0 => bytes,
        _ => {
            let what = format!("`{}` is \"{}\"", walk.path(key), at.value);
            problems.note(
                &at.span,
                what,
                "write a size above 0 such as \"512KiB\", \"128MiB\" or \"1GiB\"",
            );
            default
        }
    }
}
