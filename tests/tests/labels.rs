//! Labels that are numbers or classes, on the whole path: learned, scored, told, audited; and those that nobody can read.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use schemas::dead::{About, DeadHeader, Reason};
use schemas::score::Score;
use schemas::topics::Topics;
use tempfile::TempDir;
use tests::{Sandbox, log};

/// Rows that are played.
const ROWS: u32 = 3000;

/// Names of classes, in the order of the contract.
const KINDS: [&str; 3] = ["small", "large", "huge"];

/// Writes the contract of a stream with a label of a type, and its events: what a thing is or costs follows from its
/// shop and size.
fn stream(folder: &TempDir, label: &str, column: &str) -> Result<(PathBuf, PathBuf)> {
    let (contract, events) = (
        folder.path().join("stream.toml"),
        folder.path().join("events.csv"),
    );
    let fields = [
        ("id", "string", true),
        ("time", "timestamp", true),
        ("shop", "string", false),
        ("size", "int64", false),
    ];
    let mut text =
        "version = 1\n[stream]\nname = \"things\"\n[event]\nid = \"id\"\ntime = \"time\"\n"
            .to_owned();
    for (at, (name, kind, required)) in fields.iter().enumerate() {
        let presence = if *required { "required" } else { "optional" };
        writeln!(
            text,
            "[[fields]]\nid = {}\nname = \"{name}\"\ntype = \"{kind}\"\npresence = \"{presence}\"",
            at + 1
        )?;
    }
    for name in ["shop", "size"] {
        writeln!(text, "[[features]]\nkind = \"category\"\nof = \"{name}\"")?;
    }
    writeln!(
        text,
        "[label]\nname = \"{column}\"\nevent = \"id\"\ntime = \"known\"\nrevised = \"learn\"\n{label}"
    )?;
    writeln!(
        text,
        "[monitors]\nslices = [\"shop\"]\n[lake]\nrecord_age_max = \"1s\""
    )?;
    std::fs::write(&contract, text)?;
    let mut csv = format!("id,time,shop,size,{column}\n");
    for row in 0..ROWS {
        let draw = row.wrapping_mul(2_654_435_761) >> 8;
        let (shop, size) = (draw % 5, draw / 7 % 6);
        let label = match column {
            "price" => (10 * shop + size).to_string(),
            _ => KINDS[(shop + size) as usize % 3].to_owned(),
        };
        let time = format!(
            "2024-01-01T{:02}:{:02}:{:02}Z",
            row / 3600,
            row / 60 % 60,
            row % 60
        );
        writeln!(csv, "e{row},{time},s{shop},{size},{label}")?;
    }
    std::fs::write(&events, csv)?;
    Ok((contract, events))
}

/// Sends labels as they are.
fn send(brokers: &str, topic: &str, labels: &[&str]) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    for label in labels {
        let record = BaseRecord::<(), str>::to(topic).partition(0).payload(label);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(20))?;
    Ok(())
}

/// Plays the stream, with labels among those that nobody can read; then looks at everything from outside, before and
/// after the trainer has crashed.
fn play(sandbox: &Sandbox, unreadable: &[(&str, Reason, Option<&str>)]) -> Result<Vec<Score>> {
    let (topics, brokers) = (Topics::of("things"), &sandbox.brokers);
    let texts: Vec<&str> = unreadable.iter().map(|(text, ..)| *text).collect();
    let producer = sandbox.produce(&["--speed", "max"])?;
    send(brokers, &topics.labels, &texts)?;
    let produced = sandbox.produced(producer)?;
    ensure!(produced.raw == u64::from(ROWS), "{produced:?}");
    sandbox.until("every event is scored", || {
        Ok(log::count(brokers, &topics.scores)? == produced.raw)
    })?;
    sandbox.until("every label is learned", || {
        Ok(sandbox.metric("trainer", "thalweg_model_labels")? >= produced.labels as f64)
    })?;
    let expected: Vec<_> = unreadable
        .iter()
        .map(|(text, reason, field)| (text.len() as u64, *reason, field.map(str::to_owned)))
        .collect();
    ensure!(
        letters(brokers, &topics)? == expected,
        "{:?}",
        letters(brokers, &topics)?
    );
    sandbox.kill("trainer")?;
    sandbox.until("the trainer is back", || {
        Ok(sandbox
            .metric("trainer", "thalweg_model_labels")
            .is_ok_and(|labels| labels >= produced.labels as f64))
    })?;
    ensure!(
        letters(brokers, &topics)? == expected,
        "a crash doubles no letter"
    );
    sandbox.until("every event is in the lake and every promise holds", || {
        Ok(sandbox.verify()?.0 == 0)
    })?;
    let (code, replayed) = sandbox.replay(&[])?;
    ensure!(code == Some(0), "{replayed:#}");
    let (code, recomputed) = sandbox.recompute(&[])?;
    ensure!(code == Some(0), "{recomputed:#}");
    ensure!(recomputed["equal"] == produced.raw, "{recomputed:#}");
    let scores = log::read(brokers, &topics.scores)?.into_iter();
    scores
        .map(|message| Ok(serde_json::from_slice(&message.value)?))
        .collect()
}

type Letter = (u64, Reason, Option<String>);

/// Returns what the letters about labels say.
fn letters(brokers: &str, topics: &Topics) -> Result<Vec<Letter>> {
    let letters = log::read(brokers, &topics.dead)?.into_iter();
    letters
        .map(|message| {
            let header = DeadHeader::from_headers(message.headers()).context("a letter")?;
            let About::Label(bytes) = header.about else {
                anyhow::bail!("{header:?} is about no label")
            };
            ensure!(
                message.value.is_empty(),
                "a label's bytes are not in its letter"
            );
            Ok((bytes, header.reason, header.field))
        })
        .collect()
}

#[test]
fn numbers_are_learned_scored_and_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (contract, events) = stream(&folder, "type = \"number\"", "price")?;
    let sandbox = Sandbox::start_for(&contract, &events)?;
    let field = |name| Some(name);
    let unreadable = [
        ("{\"id\":\"e1\",", Reason::Malformed, None),
        (
            r#"{"id":"e1","price":"much","known":1}"#,
            Reason::WrongType,
            field("price"),
        ),
        (r#"{"price":1,"known":1}"#, Reason::Missing, field("id")),
    ];
    let scores = play(&sandbox, &unreadable)?;
    ensure!(scores.iter().all(|score| score.class.is_none()));
    let told = || -> Result<[f64; 3]> {
        Ok([
            sandbox.metric("trainer", "thalweg_quality_rmse_ratio")?,
            sandbox.metric("trainer", "thalweg_quality_base_rmse_ratio")?,
            sandbox.metric("trainer", "thalweg_quality_slice_rmse_ratio")?,
        ])
    };
    sandbox.until("the errors of numbers are told", || {
        let [rmse, base, slices] = told()?;
        Ok(0.0 < rmse && rmse < base / 2.0 && 0.0 < slices)
    })?;
    sandbox.stop()?;
    Ok(())
}

#[test]
fn classes_are_learned_scored_and_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let label = "type = \"class\"\nclasses = [\"small\", \"large\", \"huge\"]";
    let (contract, events) = stream(&folder, label, "kind")?;
    let sandbox = Sandbox::start_for(&contract, &events)?;
    let unreadable = [
        (
            r#"{"id":"e1","kind":"vast","known":1}"#,
            Reason::WrongType,
            Some("kind"),
        ),
        (
            r#"{"id":"e1","kind":"huge"}"#,
            Reason::Missing,
            Some("known"),
        ),
    ];
    let scores = play(&sandbox, &unreadable)?;
    let named = |score: &Score| {
        score
            .class
            .as_deref()
            .is_some_and(|class| KINDS.contains(&class))
    };
    ensure!(scores.iter().all(named), "every score names a class");
    sandbox.until("the accuracy of classes is told", || {
        let loss = sandbox.metric("trainer", "thalweg_quality_log_loss")?;
        let base = sandbox.metric("trainer", "thalweg_quality_base_log_loss")?;
        let accuracy = sandbox.metric("trainer", "thalweg_quality_accuracy_ratio")?;
        Ok(0.0 < loss && loss < base / 2.0 && 0.9 < accuracy)
    })?;
    sandbox.stop()?;
    Ok(())
}
