//! The contract as its author meets it: what is accepted, and what is said about what is not.

use schemas::contract::{FeatureKind, TimePart};
use schemas::{ColumnRole, Columns, Contract};

const GOOD: &str = include_str!("../fixtures/contract.toml");
const BAD: &str = include_str!("../fixtures/bad-contract.toml");

#[test]
fn every_published_contract_still_reads() {
    let contract = Contract::parse("contract.toml", GOOD).unwrap();
    assert_eq!(contract.stream.name, "flights");
    let hour = contract
        .features
        .iter()
        .find(|f| f.name == "scheduled_departure.hour")
        .unwrap();
    let FeatureKind::Time {
        part,
        utc_offset_seconds,
        ..
    } = hour.kind
    else {
        panic!("a time")
    };
    assert_eq!((part, utc_offset_seconds), (TimePart::Hour, -5 * 3600));
}

#[test]
fn all_problems_are_reported_at_once_with_their_lines() {
    let errors = Contract::parse("bad.toml", BAD).unwrap_err();
    let lines: Vec<usize> = errors.problems.iter().map(|problem| problem.line).collect();
    let text = errors.to_string();
    for expected in [
        "bad.toml:2: `stream.name` is \"Flights!\"; write 1 to 100 lowercase letters",
        "bad.toml:3: `stream.encoding` is \"xml\"; write one of `json`",
        "bad.toml:7: `event.time` names \"when\", which is not a required, open timestamp",
        "bad.toml:8: `event.subject` names \"who\", which is not a field",
        "bad.toml:9: `event.window` is not a key of a contract; write one of `id`, `time`",
        "fields `id` and `distance` both have id 1",
        "`min` is above `max`",
        "bad.toml:23: `fields.clean` has \"trim\" on a field that is no string",
        "field `when` is required, and a violation makes it null",
        "bad.toml:34: `features.of` names \"nothing\", which is not a field",
        "bad.toml:38: \"carrier\" is not a category, bucket or time feature above this cross",
        "`label.time` is missing",
        "bad.toml:43: `label.wait_max` is \"soon\"; write a duration above 0",
        "bad.toml:46: `learner.rate` is -0.1; write a number above 0",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    assert!(lines.is_sorted());
}

#[test]
fn a_subject_that_no_row_tells_is_refused() {
    let both = r#"privacy = ["seal", "token"]"#;
    let text = GOOD.replacen(both, r#"privacy = ["seal"]"#, 1);
    assert_ne!(text, GOOD);
    let errors = Contract::parse("x", &text).unwrap_err().to_string();
    assert!(
        errors.contains("no cell could be opened again; add \"token\""),
        "{errors}"
    );
}

#[test]
fn syntax_errors_have_a_line_too() {
    let errors = Contract::parse("x", "version = 1\n[stream\nname = 'a'\n").unwrap_err();
    assert_eq!(
        errors
            .problems
            .iter()
            .filter(|p| p.what.starts_with("not TOML"))
            .count(),
        1,
        "{errors}"
    );
    assert!(errors.problems.iter().any(|p| p.line == 2), "{errors}");
}

#[test]
fn no_text_panics() {
    for cut in 0..GOOD.len() {
        if GOOD.is_char_boundary(cut) {
            let _ = Contract::parse("x", &GOOD[..cut]);
        }
    }
    for (at, _) in GOOD.char_indices().step_by(7) {
        let _ = Contract::parse("x", &format!("{}9]\"{}", &GOOD[..at], &GOOD[at..]));
    }
}

#[test]
fn the_digest_covers_the_meaning_and_not_the_words() {
    let digest = |text: &str| Contract::parse("x", text).unwrap().digest();
    assert_eq!(digest(GOOD), digest(&format!("# a comment\n{GOOD}")));
    assert_ne!(
        digest(GOOD),
        digest(&GOOD.replace("threshold = 0.5", "threshold = 0.6"))
    );
}

#[test]
fn sealed_fields_become_binary_columns_and_tokens_their_own() {
    let contract = Contract::parse("contract.toml", GOOD).unwrap();
    let columns = Columns::of(&contract);
    let tail = contract.field_index("tail_number").unwrap();
    let sealed = columns.index(tail, ColumnRole::Sealed).unwrap();
    let token = columns.index(tail, ColumnRole::Token).unwrap();
    assert_eq!(columns.schema().field(sealed).name(), "tail_number");
    assert_eq!(columns.schema().field(token).name(), "tail_number_token");
    assert_eq!(columns.index(tail, ColumnRole::Open), None);
    let id = columns.index(contract.event.id, ColumnRole::Open).unwrap();
    assert!(!columns.schema().field(id).is_nullable());
}
