//! Drafts contracts from files, and reads them as the workers would.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use schemas::Contract;
use schemas::contract::{Bounds, Feature, FeatureKind, Field};
use thalweg::init::{ROWS_MAX, Sample, Wishes, draft};

fn drafted(file: &Path) -> Contract {
    let sample = Sample::read(file).unwrap();
    let draft = draft(&sample, &Wishes::default()).unwrap();
    Contract::parse("draft", &draft.text).unwrap()
}

fn field<'a>(contract: &'a Contract, name: &str) -> &'a Field {
    &contract.fields[contract.field_index(name).unwrap()]
}

fn features_of<'a>(contract: &'a Contract, name: &str) -> Vec<&'a FeatureKind> {
    let of = |feature: &&Feature| feature.name.split('.').next() == Some(name);
    contract
        .features
        .iter()
        .filter(of)
        .map(|feature| &feature.kind)
        .collect()
}

fn has_category(contract: &Contract, name: &str) -> bool {
    let is_category = |kind: &&FeatureKind| matches!(kind, FeatureKind::Category { .. });
    features_of(contract, name).iter().any(is_category)
}

#[test]
fn flights_are_drafted_as_a_person_would() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("streams/flights/flights.parquet");
    let sample = Sample::read(&file).unwrap();
    assert_eq!((sample.rows, sample.cut), (ROWS_MAX, true));
    let contract = drafted(&file);
    assert_eq!(contract.stream.name, "flights");
    assert_eq!(contract.id_field().name, "id");
    assert_eq!(
        contract.fields[contract.event.time].name,
        "scheduled_departure"
    );
    let label = contract.label.as_ref().unwrap();
    assert_eq!(
        (label.name.as_str(), label.time.as_str()),
        ("late", "arrival")
    );
    for name in ["tail_number", "carrier", "origin", "destination", "flight"] {
        assert!(has_category(&contract, name), "{name}");
    }
    assert_eq!(features_of(&contract, "scheduled_departure").len(), 2);
    for name in ["late", "arrival"] {
        assert_eq!(contract.field_index(name), None, "{name}");
    }
    // Seen were 0 to 28.8 and 10.94 to 57.92; it was winter.
    let bounds = |min, max| Bounds::Float { min, max };
    assert_eq!(field(&contract, "wind_speed").bounds, bounds(0.0, 100.0));
    assert_eq!(field(&contract, "temperature").bounds, bounds(-50.0, 200.0));
}

/// Sixty orders; every tenth is never settled, and then has neither label nor refund.
fn orders() -> String {
    let mut text =
        "order_id,created_at,email,amount,country,refund,is_fraud,settled_at\n".to_owned();
    for row in 0..60 {
        let (day, hour, amount) = (1 + row / 24, row % 24, row * 37 % 101);
        let (user, country) = (row % 25, ["DE", "FR"][row % 2]);
        let _ = write!(
            text,
            "o{row},2024-01-{day:02}T{hour:02}:00:00Z,u{user}@example.com,{amount}.25,{country},"
        );
        let _ = if row % 10 == 9 {
            writeln!(text, ",,")
        } else {
            let fraud = u8::from(row % 3 == 0);
            writeln!(
                text,
                "{}.5,{fraud},2024-01-{:02}T{hour:02}:00:00Z",
                row % 4,
                day + 2
            )
        };
    }
    text
}

#[test]
fn csv_with_an_email_is_sealed_and_what_comes_with_the_label_is_not_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    std::fs::write(&file, orders()).unwrap();
    let contract = drafted(&file);
    assert_eq!(contract.id_field().name, "order_id");
    assert_eq!(contract.fields[contract.event.time].name, "created_at");
    let label = contract.label.as_ref().unwrap();
    assert_eq!(
        (label.name.as_str(), label.time.as_str()),
        ("is_fraud", "settled_at")
    );
    let email = field(&contract, "email");
    assert!(email.privacy.seal && email.privacy.token && !email.privacy.open);
    assert_eq!(contract.event.subject, contract.field_index("email"));
    assert!(has_category(&contract, "email") && has_category(&contract, "country"));
    assert_eq!(features_of(&contract, "amount").len(), 1);
    assert!(contract.field_index("refund").is_some());
    assert_eq!(features_of(&contract, "refund"), Vec::<&FeatureKind>::new());
}

#[test]
fn json_lines_without_id_and_time_get_both() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("visits.jsonl");
    let mut text = String::new();
    for row in 0..60 {
        let (user, shown) = (row % 7, row * 13 % 29);
        let clicked = row % 2 == 1;
        let _ = writeln!(
            text,
            r#"{{"contact":"u{user}@example.com","tags":["a"],"shown":{shown}.5,"clicked":{clicked}}}"#
        );
    }
    std::fs::write(&file, text).unwrap();
    let contract = drafted(&file);
    let names: Vec<&str> = contract
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(names, ["id", "time", "contact", "shown"]);
    assert!(field(&contract, "contact").privacy.seal);
    assert_eq!(contract.label.as_ref().unwrap().name, "clicked");
}

#[test]
fn files_without_rows_and_of_other_kinds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, expected: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let error = format!("{:#}", Sample::read(&file).unwrap_err());
        assert!(error.contains(expected), "{name}: {error}");
    };
    check("a.csv", "a,b\n", "no rows");
    check("b.jsonl", "\n\n", "no rows");
    check("c.jsonl", "{\"a\":1}\n[1]\n", "row 2: not a JSON object");
    check("d.parquet", "PAR1", "not a Parquet file");
    check("e.txt", "a", "must end in");
}

#[test]
fn the_command_writes_a_contract_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.csv"), orders()).unwrap();
    let init = |options: &[&str]| -> Output {
        Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(["init", "orders.csv"])
            .args(options)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let contract = folder.path().join("stream.toml");
    let first = init(&[]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let said = String::from_utf8(first.stderr).unwrap();
    assert!(
        said.ends_with("next: thalweg evaluate orders.csv --contract stream.toml\n"),
        "{said}"
    );
    let text = std::fs::read_to_string(&contract).unwrap();
    assert!(Contract::read(&contract).is_ok());

    std::fs::write(&contract, "mine").unwrap();
    assert_eq!(init(&[]).status.code(), Some(64));
    assert_eq!(std::fs::read_to_string(&contract).unwrap(), "mine");
    assert_eq!(
        init(&["--label", "nothing", "--force"]).status.code(),
        Some(64)
    );
    assert_eq!(std::fs::read_to_string(&contract).unwrap(), "mine");
    assert_eq!(init(&["--force"]).status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&contract).unwrap(), text);
    assert_eq!(init(&["--out", "-"]).stdout, text.as_bytes());
}
