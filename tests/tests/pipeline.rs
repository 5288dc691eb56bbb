//! The whole path, on the embedded broker and on real Apache Kafka: nothing lost, nothing doubled, nothing readable, also through crashes.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use schemas::topics::Topics;
use tests::audit::{self, Audit};
use tests::{Produced, Sandbox, forge, log};

/// Waits until every raw record is clean or dead, and every clean one scored and landed; then reads.
fn audit(sandbox: &Sandbox, produced: Produced) -> Result<Audit> {
    let (brokers, lake) = (&sandbox.brokers, sandbox.folder().join("lake"));
    sandbox.until("every raw record is clean or dead, and scored", || {
        audit::is_decided(brokers, produced.raw)
    })?;
    sandbox.until("every clean event is in the lake", || {
        audit::is_landed(brokers, &lake)
    })?;
    Audit::read(brokers, &lake)
}

/// Waits until the trainer has learned every label of a clean event, and checks that it learned none twice.
fn check_learned(sandbox: &Sandbox, audit: &Audit, since_start: bool) -> Result<()> {
    let labelled = audit.labelled() as f64;
    let learned = || sandbox.metric("trainer", "thalweg_model_labels");
    sandbox.until("every label is learned", || Ok(labelled <= learned()?))?;
    ensure!(
        learned()? == labelled,
        "{} learned of {labelled}",
        learned()?
    );
    if since_start {
        ensure!(
            sandbox.metric("ingest", "thalweg_ingest_raw_total")? == audit.raw.len() as f64,
            "ingest counts raw"
        );
    }
    Ok(())
}

/// Lets the verifier of users prove what the audit has found.
fn verify(sandbox: &Sandbox, audit: &Audit) -> Result<()> {
    let (code, report) = sandbox.verify()?;
    ensure!(code == 0 && report["holds"] == true, "{code}: {report:#}");
    let promises = &report["promises"];
    for (promise, count) in [
        ("conservation", audit.raw.len()),
        ("lake", audit.clean.len()),
        ("scores", audit.scores.len()),
    ] {
        ensure!(
            promises[promise]["looked_at"] == count,
            "{count} {promise}: {report:#}"
        );
    }
    for promise in ["coverage", "commits"] {
        ensure!(
            promises[promise]["looked_at"].as_u64() != Some(0),
            "no {promise}: {report:#}"
        );
    }
    Ok(())
}

/// Runs each of these on both brokers.
macro_rules! on_both_brokers {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $test() -> anyhow::Result<()> {
                super::$test(tests::Sandbox::start()?)
            })*
        }
        mod kafka {
            $(#[test]
            fn $test() -> anyhow::Result<()> {
                super::$test(tests::Sandbox::start_on_kafka()?)
            })*
        }
    };
}

on_both_brokers! {
    every_record_ends_in_exactly_one_place,
    a_crash_of_any_worker_neither_loses_nor_doubles,
    a_crash_of_the_broker_loses_no_acknowledged_record,
}

fn every_record_ends_in_exactly_one_place(sandbox: Sandbox) -> Result<()> {
    let producer = sandbox.produce(&[
        "--speed", "max", "--events", "20000", "--dirt", "0.02", "--seed", "7",
    ])?;
    let produced = sandbox.produced(producer)?;
    let audit = audit(&sandbox, produced)?;
    audit.check(produced)?;
    ensure!(
        200 <= audit.dead.len(),
        "dirt is refused: {} dead",
        audit.dead.len()
    );
    check_learned(&sandbox, &audit, true)?;
    verify(&sandbox, &audit)?;
    small_files_become_large_ones(&sandbox, &audit)?;
    nothing_is_readable(&sandbox, &audit)?;
    everything_comes_out_again(&sandbox, &audit)?;
    sandbox.stop()?;
    Ok(())
}

/// Puts small files of the lake together while the workers run, and audits once more.
fn small_files_become_large_ones(sandbox: &Sandbox, audited: &Audit) -> Result<()> {
    let done = sandbox.compact()?;
    let (files, into) = (done["files"].as_u64(), done["into"].as_u64());
    // Rows of a day land in several commits here: see how the sandbox starts the sink.
    ensure!(Some(1) <= into && into < files, "{done}");
    verify(sandbox, audited)?;
    let mut before = audited.landed.clone();
    let mut after = audit::read_lake(&sandbox.folder().join("lake"))?;
    before.sort_unstable();
    after.sort_unstable();
    ensure!(before == after, "{} rows, {}", before.len(), after.len());
    let again = sandbox.compact()?;
    ensure!(again["files"] == 0 && again["vacuumed"] == 0, "{again}");
    Ok(())
}

/// Makes every version and every score anew and compares them bit for bit.
fn everything_comes_out_again(sandbox: &Sandbox, audit: &Audit) -> Result<()> {
    let (code, replayed) = sandbox.replay(&[])?;
    ensure!(code == Some(0), "{replayed}");
    ensure!(replayed["first"].is_null(), "{replayed}");
    ensure!(replayed["from"] == 0, "{replayed}");
    ensure!(1 <= replayed["equal"].as_u64().unwrap_or(0), "{replayed}");
    // In two passes, so that both work.
    let at_once = (audit.scores.len() / 2 + 1).to_string();
    let (code, scores) = sandbox.recompute(&["--at-once", &at_once])?;
    ensure!(code == Some(0), "{scores}");
    ensure!(scores["different"] == 0, "{scores}");
    ensure!(scores["equal"] == audit.scores.len() as u64, "{scores}");
    ensure!(1000 < audit.scores.len(), "{} scores", audit.scores.len());
    Ok(())
}

fn a_crash_of_any_worker_neither_loses_nor_doubles(sandbox: Sandbox) -> Result<()> {
    let producer = sandbox.produce(&[
        "--rate", "4000", "--events", "40000", "--dirt", "0.01", "--seed", "8",
    ])?;
    let half = |topic: &'static str, least: u64| {
        let brokers = sandbox.brokers.clone();
        move || Ok(least <= log::count(&brokers, topic)?)
    };
    for (at, worker) in ["ingest", "scorer", "trainer", "sink", "ingest", "trainer"]
        .into_iter()
        .enumerate()
    {
        let least = 5000 * (at as u64 + 1);
        sandbox.until("some events have come", half("flights.raw", least))?;
        sandbox.kill(worker)?;
    }
    let produced = sandbox.produced(producer)?;
    let audit = audit(&sandbox, produced)?;
    audit.check(produced)?;
    check_learned(&sandbox, &audit, false)?;
    verify(&sandbox, &audit)?;
    sandbox.stop()?;
    Ok(())
}

fn a_crash_of_the_broker_loses_no_acknowledged_record(mut sandbox: Sandbox) -> Result<()> {
    let producer = sandbox.produce(&[
        "--rate", "4000", "--events", "20000", "--dirt", "0", "--seed", "9",
    ])?;
    let brokers = sandbox.brokers.clone();
    sandbox.until("some events have come", || {
        Ok(8000 <= log::count(&brokers, "flights.raw")?)
    })?;
    sandbox.crash_broker()?;
    let produced = sandbox.produced(producer)?;
    ensure!(produced.raw == 20_000, "{produced:?}");
    audit(&sandbox, produced)?.check(produced)?;
    sandbox.stop()?;
    Ok(())
}

#[test]
fn the_verifier_names_the_offset_of_a_forged_dead_letter() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let producer = sandbox.produce(&[
        "--speed", "max", "--events", "2000", "--dirt", "0.02", "--seed", "11",
    ])?;
    let produced = sandbox.produced(producer)?;
    let audit = audit(&sandbox, produced)?;
    verify(&sandbox, &audit)?;
    let ((partition, offset), _) = audit.clean.get(audit.clean.len() / 2).context("an event")?;
    let dead = Topics::of("flights").dead;
    let letters = log::read(&sandbox.brokers, &dead)?;
    let letter = letters.first().context("dirt is refused")?;
    forge::dead_letter(&sandbox.brokers, &dead, letter, (*partition, *offset))?;
    let (code, report) = sandbox.verify()?;
    let conservation = &report["promises"]["conservation"];
    ensure!(code == 1 && report["holds"] == false, "{code}: {report:#}");
    ensure!(conservation["broken"] == 1, "{report:#}");
    ensure!(
        conservation["first"]["partition"] == *partition
            && conservation["first"]["offset"] == *offset,
        "{partition}/{offset}: {report:#}"
    );
    ensure!(
        report["promises"]["coverage"]["holds"] == true,
        "{report:#}"
    );
    sandbox.stop()?;
    Ok(())
}

/// Looks for tail numbers in the bytes of everything but the raw topic.
fn nothing_is_readable(sandbox: &Sandbox, audit: &Audit) -> Result<()> {
    let mut numbers = HashSet::new();
    for json in audit.raw.values().take(2000) {
        let Ok(event) = serde_json::from_slice::<serde_json::Value>(json) else {
            continue;
        };
        // Four characters could stand in random bytes by chance; six do not.
        numbers.extend(
            event["tail_number"]
                .as_str()
                .filter(|number| 6 <= number.len())
                .map(str::to_owned),
        );
    }
    ensure!(100 <= numbers.len(), "there are tail numbers to look for");
    let mut looked = 0;
    let mut folders = vec![sandbox.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                // The raw topic is the producers': it has what they sent.
                if !path.to_string_lossy().contains("flights.raw") {
                    folders.push(path);
                }
                continue;
            }
            let bytes = std::fs::read(&path)?;
            looked += bytes.len();
            let found = numbers
                .iter()
                .find(|number| contains(&bytes, number.as_bytes()));
            ensure!(
                found.is_none(),
                "{} can be read in {}",
                found.map_or("", String::as_str),
                path.display()
            );
        }
    }
    ensure!(1_000_000 <= looked, "only {looked} bytes were looked at");
    Ok(())
}

fn contains(bytes: &[u8], number: &[u8]) -> bool {
    // Tail numbers begin with N: look there only.
    let starts = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == number[0]);
    starts
        .into_iter()
        .any(|(at, _)| bytes[at..].starts_with(number))
}
