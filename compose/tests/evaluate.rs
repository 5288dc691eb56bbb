//! Evaluates learners on files, as a newcomer does: a drafted contract, then figures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

fn flights(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("streams/flights")
        .join(name)
}

/// Runs `thalweg evaluate --json`; returns its exit code, what it prints and what it complains of.
fn evaluate(file: &Path, contract: &Path, options: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .arg("evaluate")
        .arg(file)
        .arg("--contract")
        .arg(contract)
        .arg("--json")
        .args(options)
        .output()
        .unwrap();
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap_or_default(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Writes a file, drafts its contract, and returns both.
fn drafted(name: &str, text: &str, options: &[&str]) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (file, contract) = (folder.path().join(name), folder.path().join("stream.toml"));
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .arg("init")
        .arg(&file)
        .arg("--out")
        .arg(&contract)
        .args(options)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (folder, file, contract)
}

#[test]
fn flights_are_predicted_better_than_by_the_base_rate_and_twice_the_same() {
    let (file, contract) = (flights("flights.parquet"), flights("stream.toml"));
    let run = |options: &[&str]| {
        let (code, mut json, said) = evaluate(&file, &contract, options);
        assert_eq!(code, Some(0), "{said}");
        for timing in ["cpu_seconds", "examples_per_cpu_second"] {
            assert!(json[timing].as_f64().unwrap() > 0.0);
            json.as_object_mut().unwrap().remove(timing);
        }
        json
    };
    let at_once = run(&["--events", "20000"]);
    assert_eq!(at_once, run(&["--events", "20000"]));
    assert_eq!(at_once["rows"], 20_000);
    assert_eq!(at_once["clean"], 20_000);
    let examples = at_once["examples"].as_u64().unwrap();
    assert_eq!(examples + at_once["unlabelled"].as_u64().unwrap(), 20_000);
    let loss = |json: &Value, name: &str| json[name].as_f64().unwrap();
    assert!(loss(&at_once, "log_loss") < loss(&at_once, "base_log_loss") - 0.03);
    assert!(0.65 < loss(&at_once, "auc"));
    let late = run(&["--events", "20000", "--at-arrival"]);
    assert_eq!(late["examples"], at_once["examples"]);
    assert!(loss(&at_once, "log_loss") < loss(&late, "log_loss"));
}

/// Writes clicks of which one in five is bought: soon, or (every other) after an hour. That there is no sale is never said.
fn clicks(count: u64) -> String {
    let mut text = String::from("id,at,shop,bought,known\n");
    for at in 0..count {
        let time = |seconds: u64| {
            let (day, rest) = (seconds / 86_400, seconds % 86_400);
            let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
            format!("2026-03-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
        };
        let now = at * 30;
        let (bought, known) = match at.wrapping_mul(2_654_435_761) >> 16 & 0xff {
            0..26 => ("true", time(now + 300)),
            26..52 => ("true", time(now + 3600)),
            _ => ("", String::new()),
        };
        let shop = ["north", "south"][(at % 2) as usize];
        writeln!(text, "c{at},{},{shop},{bought},{known}", time(now)).unwrap();
    }
    text
}

#[test]
fn clicks_without_a_sale_are_learned_as_the_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clicks.csv");
    std::fs::write(&file, clicks(40_000)).unwrap();
    let contract = folder.path().join("stream.toml");
    let run = |policy: &str, options: &[&str]| {
        let text = format!(
            "version = 1\n[stream]\nname = \"clicks\"\n[event]\nid = \"id\"\ntime = \"at\"\n\
             [[fields]]\nid = 1\nname = \"id\"\ntype = \"string\"\npresence = \"required\"\n\
             [[fields]]\nid = 2\nname = \"at\"\ntype = \"timestamp\"\npresence = \"required\"\n\
             [[fields]]\nid = 3\nname = \"shop\"\ntype = \"string\"\npresence = \"required\"\n\
             [[features]]\nkind = \"category\"\nof = \"shop\"\n\
             [label]\nname = \"bought\"\nevent = \"id\"\ntime = \"known\"\n{policy}\n"
        );
        std::fs::write(&contract, text).unwrap();
        let (code, json, said) = evaluate(&file, &contract, options);
        assert_eq!(code, Some(0), "{said}");
        json
    };
    let number = |json: &Value, name: &str| json[name].as_f64().unwrap();
    // Only those that were bought say something, and nothing is learned of the others.
    let waits = run("", &[]);
    assert_eq!(
        number(&waits, "examples") + number(&waits, "unlabelled"),
        40_000.0
    );
    let no = "unlabelled = \"negative\"\nnegative_after = \"20m\"";
    let at_once = run(no, &[]);
    assert_eq!(at_once["examples"], 40_000);
    let base = number(&at_once, "base_log_loss");
    assert!(number(&at_once, "log_loss") < base + 0.002, "{at_once}");
    // Half of the sales come after their click was taken for no sale.
    let loss = |policy: &str| {
        let json = run(&format!("{no}\n{policy}"), &["--at-arrival"]);
        assert_eq!(
            (&json["examples"], &json["late"]),
            (&40_000.into(), &0.into())
        );
        number(&json, "log_loss")
    };
    let hasty = loss("");
    assert!(base + 0.02 < hasty, "{hasty} {base}");
    let mended = loss("revised = \"learn\"");
    assert!(mended < base + 0.005, "{mended} {base}");
    // What comes later than counts is none, and no sale.
    let short = run(&format!("{no}\nwait_max = \"30m\""), &["--at-arrival"]);
    assert!(
        (3_500.0..4_600.0).contains(&number(&short, "late")),
        "{short}"
    );
}

#[test]
fn a_draft_for_data_that_only_says_yes_takes_the_rest_for_no() {
    let options = ["--label", "bought", "--label-time", "known"];
    let (_folder, file, contract) = drafted("clicks.csv", &clicks(20_000), &options);
    let text = std::fs::read_to_string(&contract).unwrap();
    for said in [
        "unlabelled = \"negative\"",
        "revised = \"learn\"",
        "negative_after = ",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let (code, json, said) = evaluate(&file, &contract, &["--at-arrival"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(json["examples"], 20_000);
    let number = |name: &str| json[name].as_f64().unwrap();
    assert!(
        number("log_loss") < number("base_log_loss") + 0.02,
        "{json}"
    );
}

#[test]
fn slices_and_windows_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let contract = folder.path().join("stream.toml");
    let text = std::fs::read_to_string(flights("stream.toml")).unwrap();
    let slices = "[monitors]\nslices = [\"origin\", \"flight\"]";
    std::fs::write(&contract, text.replace("[monitors]", slices)).unwrap();
    let file = flights("flights.parquet");
    let (code, json, said) = evaluate(&file, &contract, &["--events", "20000"]);
    assert_eq!(code, Some(0), "{said}");
    let (_, plain, _) = evaluate(&file, &flights("stream.toml"), &["--events", "20000"]);
    assert_eq!(
        json["log_loss"], plain["log_loss"],
        "a slice changes nothing"
    );
    assert_eq!(plain.get("slices"), None);
    let windows: Vec<&str> = json["windows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|window| window["window"].as_str().unwrap())
        .collect();
    assert_eq!(windows, ["5m", "1h", "1d"]);
    let parts = json["slices"].as_array().unwrap();
    let of = |field: &str| {
        let parts = parts.iter();
        let parts = parts.filter(|part| part["slice"] == field && part["window"] == "all");
        parts.collect::<Vec<&Value>>()
    };
    for (field, values) in [("origin", 3), ("flight", 16)] {
        let parts = of(field);
        assert_eq!(parts.len(), values, "{field}");
        let count = |part: &&Value| part["examples"].as_u64().unwrap();
        let examples: u64 = parts.iter().map(count).sum();
        assert_eq!(examples, json["examples"].as_u64().unwrap(), "{field}");
        // The whole is the mean of its parts.
        let weighed = |part: &&Value| count(part) as f64 * part["log_loss"].as_f64().unwrap();
        let mean = parts.iter().map(weighed).sum::<f64>() / examples as f64;
        let whole = json["log_loss"].as_f64().unwrap();
        assert!((mean - whole).abs() < 1e-9, "{field}: {mean} {whole}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["evaluate", "--events", "5000", "--contract"])
        .arg(&contract)
        .arg(&file)
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("origin = JFK"), "{table}");
}

#[test]
fn classes_are_told_apart_and_weighed() {
    let mut csv = String::from("shop,size,kind\n");
    for row in 0..6000_u32 {
        let draw = row.wrapping_mul(2_654_435_761) >> 8;
        let (shop, size) = (draw % 5, draw / 7 % 6);
        let kind = ["small", "large", "huge"][(shop + size) as usize % 3];
        let _ = writeln!(csv, "s{shop},{size},{kind}");
    }
    let (_folder, file, contract) = drafted("kinds.csv", &csv, &["--label", "kind"]);
    for options in [&[][..], &["--at-arrival"]] {
        let (code, json, said) = evaluate(&file, &contract, options);
        assert_eq!(code, Some(0), "{said}");
        assert!(0.95 < json["accuracy"].as_f64().unwrap(), "{json}");
        assert!(json["log_loss"].as_f64().unwrap() < 0.1, "{json}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .arg("evaluate")
        .arg("--contract")
        .arg(&contract)
        .arg(&file)
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("accuracy"), "{table}");
    let text = std::fs::read_to_string(&contract).unwrap();
    let weighted = text.replace("[learner]", "[learner]\nclass_weights = [1, 1, 30]");
    assert_ne!(weighted, text);
    std::fs::write(&contract, weighted).unwrap();
    let (code, json, said) = evaluate(&file, &contract, &["--events", "500"]);
    assert_eq!(code, Some(0), "{said}");
    std::fs::write(&contract, text).unwrap();
    let (_, plain, _) = evaluate(&file, &contract, &["--events", "500"]);
    assert_ne!(json["log_loss"], plain["log_loss"]);
}

#[test]
fn every_learner_runs_over_one_pass_and_curves_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("curves.html");
    let options = [
        "--events",
        "5000",
        "--compare",
        "--html",
        page.to_str().unwrap(),
    ];
    let (code, json, said) = evaluate(
        &flights("flights.parquet"),
        &flights("stream.toml"),
        &options,
    );
    assert_eq!(code, Some(0), "{said}");
    let mut names: Vec<&str> = json["compared"]
        .as_array()
        .unwrap()
        .iter()
        .map(|learner| learner["learner"].as_str().unwrap())
        .collect();
    names.push(json["learner"].as_str().unwrap());
    names.sort_unstable();
    assert_eq!(
        names,
        ["adagrad", "blend", "coin", "ftrl", "normalised", "sgd"]
    );
    let html = std::fs::read_to_string(page).unwrap();
    for name in names {
        assert!(html.contains(&format!("<td>{name}</td>")), "{name}");
    }
}

#[test]
fn numbers_of_a_file_without_id_and_time_are_predicted() {
    let mut csv = String::from("shop,size,amount\n");
    for row in 0..2000 {
        let (shop, size) = (row % 3, row * 7 % 11);
        let _ = writeln!(csv, "s{shop},{size},{}", 10 * shop + size);
    }
    let (_folder, file, contract) = drafted("sales.csv", &csv, &["--label", "amount"]);
    let (code, json, said) = evaluate(&file, &contract, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(json["examples"], 2000, "{json}");
    let (rmse, base) = (
        json["rmse"].as_f64().unwrap(),
        json["base_rmse"].as_f64().unwrap(),
    );
    assert!(rmse < base / 2.0, "{json}");
    assert_eq!(json["log_loss"], Value::Null);
}

#[test]
fn classes_are_predicted() {
    let mut lines = String::new();
    for row in 0..3000 {
        let kind = row * 7 % 3;
        let _ = writeln!(
            lines,
            r#"{{"id":"e{row}","at":"2024-01-01T00:{:02}:{:02}Z","colour":"c{kind}","class":"k{kind}"}}"#,
            row / 60 % 60,
            row % 60
        );
    }
    let (_folder, file, contract) = drafted("things.jsonl", &lines, &["--label", "class"]);
    let (code, json, said) = evaluate(&file, &contract, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(json["examples"], 3000, "{json}");
    assert!(0.95 < json["accuracy"].as_f64().unwrap(), "{json}");
    let loss = |name: &str| json[name].as_f64().unwrap();
    assert!(loss("log_loss") < loss("base_log_loss") - 0.1, "{json}");
}

#[test]
fn what_cannot_be_evaluated_is_said_plainly() {
    let check = |file: &Path, contract: &Path, code: i32, words: &str| {
        let (found, _, said) = evaluate(file, contract, &[]);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(words), "{words} is not in {said}");
    };
    let (parquet, good) = (flights("flights.parquet"), flights("stream.toml"));
    check(
        Path::new("nowhere.csv"),
        &good,
        1,
        "cannot open nowhere.csv",
    );
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let text = std::fs::read_to_string(&good).unwrap();
    let bad = write(
        "bad.toml",
        &text.replace("update = \"ftrl\"", "update = \"magic\""),
    );
    check(&parquet, &bad, 64, "`learner.update` is \"magic\"");
    let empty = write("empty.csv", "id,scheduled_departure,late\n1,soon,true\n");
    check(&empty, &good, 1, "row");
}
