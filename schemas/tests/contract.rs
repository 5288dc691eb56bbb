//! The contract as its author meets it: what is accepted, and what is said about what is not.

use std::time::Duration;

use schemas::contract::{
    FeatureKind, LabelType, Learner, Loss, Revised, Schedule, Split, TimePart, Unlabelled, Update,
};
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

/// The good contract with other sections `[label]` and `[learner]`.
fn with(label: &str, learner: &str) -> String {
    let (before, rest) = GOOD.split_once("[label]").unwrap_or_default();
    let (_, after) = rest.split_once("[decision]").unwrap_or_default();
    let label = format!("[label]\nname = \"late\"\nevent = \"id\"\ntime = \"time\"\n{label}\n");
    format!(
        "{before}{label}{learner}
[decision]{after}"
    )
}

#[test]
fn nothing_has_to_be_said_about_the_learner() {
    let parse = |label| Contract::parse("x", &with(label, "")).unwrap();
    assert_eq!(parse("").learner, Learner::of(LabelType::Bool, 0));
    assert_eq!(parse("type = \"number\"").learner.loss, Loss::Squared);
    let classes = parse("type = \"class\"\nclasses = [\"a\", \"b\", \"c\"]");
    assert_eq!(classes.learner.loss, Loss::Softmax(3));
    let text = with(
        "type = \"number\"",
        "[learner]\nloss = \"quantile\"\nquantile = 0.9\nupdate = \"sgd\"\nschedule = \"root\"",
    );
    let learner = Contract::parse("x", &text).unwrap().learner;
    assert_eq!(learner.loss, Loss::Quantile(0.9));
    assert_eq!(
        (learner.update, learner.schedule),
        (Update::Sgd, Schedule::Root)
    );
}

#[test]
fn what_does_not_fit_a_learner_is_one_clear_problem() {
    let check = |label, learner: &str, expected| {
        let errors = Contract::parse("x", &with(label, learner)).unwrap_err();
        let text = errors.to_string();
        assert_eq!(errors.problems.len(), 1, "{text}");
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    };
    check(
        "",
        "[learner]\nloss = \"best\"",
        "`learner.loss` is \"best\"; write one of `logistic`, `squared`",
    );
    check(
        "",
        "[learner]\nupdate = \"adam\"",
        "`learner.update` is \"adam\"; write one of `blend`, `ftrl`",
    );
    check(
        "",
        "[learner]\nloss = \"squared\"",
        "does not fit the label's type; write type = \"number\"",
    );
    check(
        "",
        "[learner]\nrate = 0.1",
        "`learner.rate` on an update that has none; remove it",
    );
    check(
        "",
        "[learner]\nupdate = \"ftrl\"\nrate = 0",
        "`learner.rate` is 0; write a number above 0",
    );
    check(
        "",
        "[learner]\nupdate = \"ftrl\"\nschedule = \"root\"",
        "on an update that is no SGD",
    );
    check(
        "type = \"number\"",
        "[learner]\nloss = \"quantile\"\nquantile = 1",
        "write a number between 0 and 1",
    );
    check(
        "type = \"number\"",
        "[learner]\ndeviations = 2",
        "`learner.deviations` on a loss that has none",
    );
    check(
        "type = \"class\"\nclasses = [\"a\"]",
        "",
        "`label.classes` has 1 classes; write 2 to 64",
    );
    check(
        "classes = [\"a\", \"b\"]",
        "",
        "on a label that is no class",
    );
    check(
        "",
        "[learner]\nbits = 25",
        "`learner.bits` is 25; write a number from 1 to 24",
    );
    check(
        "unlabelled = \"negative\"",
        "",
        "`label.negative_after` is missing",
    );
    check(
        "negative_after = \"1h\"",
        "",
        "where events without a label wait; remove it",
    );
    check(
        "unlabelled = \"negative\"\nnegative_after = \"3h\"\nwait_max = \"2h\"",
        "",
        "is longer than `label.wait_max`",
    );
    check(
        "type = \"number\"\nunlabelled = \"negative\"\nnegative_after = \"3h\"",
        "",
        "on a label that is no bool",
    );
    check(
        "",
        "[learner]\npositive_weight = 0",
        "`learner.positive_weight` is 0; write a number from 0.001 to 1000",
    );
    check(
        "type = \"number\"",
        "[learner]\npositive_weight = 2",
        "on a label that is no bool; remove it",
    );
    check(
        "type = \"class\"\nclasses = [\"a\", \"b\", \"c\"]",
        "[learner]\nclass_weights = [1, 2]",
        "`learner.class_weights` has 2 weights; write 3, in the order of `label.classes`",
    );
}

#[test]
fn policies_of_labels_and_weights_are_said() {
    let parse = |label: &str, learner: &str| Contract::parse("x", &with(label, learner)).unwrap();
    let policies = "revised = \"learn\"\nunlabelled = \"negative\"\nnegative_after = \"90m\"\nwait_max = \"2d\"";
    let label = parse(policies, "").label.unwrap();
    assert_eq!(label.revised, Revised::Learn);
    let after = Duration::from_secs(90 * 60);
    assert_eq!(label.unlabelled, Unlabelled::Negative(after));
    let learner = parse("", "[learner]\npositive_weight = 20").learner;
    assert_eq!((learner.weight(0.0), learner.weight(1.0)), (1.0, 20.0));
    let classes = "type = \"class\"\nclasses = [\"a\", \"b\", \"c\"]";
    let learner = parse(classes, "[learner]\nclass_weights = [1, 2.5, 4]").learner;
    assert_eq!(learner.weights, [1.0, 2.5, 4.0]);
    // What is said and means nothing changes no digest.
    let silent = parse("", "").digest();
    assert_eq!(parse("", "[learner]\npositive_weight = 1").digest(), silent);
    let said = parse("revised = \"ignore\"\nunlabelled = \"wait\"", "");
    assert_eq!(said.digest(), silent);
    assert_ne!(parse(policies, "").digest(), silent);
}

#[test]
fn slices_are_open_fields_of_few_values() {
    let parse = |slices: &str| {
        let text = GOOD.replace("[monitors]", &format!("[monitors]\nslices = {slices}"));
        Contract::parse("x", &text)
    };
    let contract = parse(r#"["carrier", "flight"]"#).unwrap();
    let carrier = contract.field_index("carrier").unwrap();
    assert_eq!(contract.monitors.slices, [carrier, carrier + 1]);
    for (slices, expected) in [
        (
            r#"["tail_number"]"#,
            "which is no open string, int64 or bool",
        ),
        (r#"["distance"]"#, "which is no open string, int64 or bool"),
        (r#"["carrier", "carrier"]"#, "names \"carrier\" twice"),
        (r#"["nothing"]"#, "which is not a field"),
        (
            r#"["carrier", "flight", "origin", "destination", "id"]"#,
            "has 5 fields; keep at most 4",
        ),
    ] {
        let text = parse(slices).unwrap_err().to_string();
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn what_a_published_contract_means_keeps_its_digest() {
    let contract = Contract::parse("contract.toml", GOOD).unwrap();
    let digest = contract.digest().to_string();
    assert_eq!(
        digest,
        "fe75554b1e354b1e7ddeb637178024d71e6d65a846192a578c8d897e4ad20f5d"
    );
}

#[test]
fn texts_become_bags() {
    let bag = |of: &str| {
        let feature = format!("[[features]]\n{of}\n\n[label]");
        let text = GOOD.replacen("[label]", &feature, 1);
        Contract::parse("x", &text).map(|contract| contract.features.last().unwrap().kind.clone())
    };
    let found = bag("kind = \"words\"\nof = \"carrier\"\ntogether = 2").unwrap();
    let FeatureKind::Bag { bag: words, .. } = found else {
        panic!("a bag")
    };
    assert_eq!(
        (words.split, words.most),
        (Split::Words { together: 2 }, 16)
    );
    let refused = |of, expected: &str| {
        let text = bag(of).unwrap_err().to_string();
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    };
    refused(
        "kind = \"letters\"\nof = \"distance\"",
        "no such feature can be made of field \"distance\"",
    );
    refused(
        "kind = \"list\"\nof = \"carrier\"\nseparator = \"\"",
        "`features.separator` is empty",
    );
    refused(
        "kind = \"words\"\nof = \"carrier\"\nmost = 99",
        "write a number from 1 to 64",
    );
}

#[test]
fn how_a_lake_is_kept_is_no_part_of_the_digest() {
    let with = |keys: &str| GOOD.replacen("[lake]\n", &format!("[lake]\n{keys}\n"), 1);
    let kept = "small_file_bytes = \"4MiB\"\ncompact_after = 4\nvacuum_after = \"2d\"";
    let contract = Contract::parse("x", &with(kept)).unwrap();
    assert_eq!(contract.lake.small_file_bytes, 4 << 20);
    assert_eq!(contract.lake.compact_after, 4);
    assert_eq!(contract.lake.vacuum_after.as_secs(), 2 * 24 * 3600);
    let plain = Contract::parse("x", GOOD).unwrap();
    assert_eq!(plain.digest(), contract.digest());
    assert_eq!(plain.lake.vacuum_after.as_secs(), 7 * 24 * 3600);
    let refused = |keys: &str, expected: &str| {
        let errors = Contract::parse("x", &with(keys)).unwrap_err();
        let text = errors.to_string();
        assert_eq!(errors.problems.len(), 1, "{text}");
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    };
    refused(
        "small_file_bytes = \"33MiB\"",
        "`lake.small_file_bytes` is \"33MiB\"; write a size up to \"32MiB\"",
    );
    refused(
        "vacuum_after = \"59m\"",
        "`lake.vacuum_after` is \"59m\"; write a duration from \"1h\" on",
    );
    refused("compact_after = -1", "write a number from 0 to 1000");
}
