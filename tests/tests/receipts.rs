//! Scores are computed anew from their receipts, and one that somebody changed is named.

use anyhow::{Result, ensure};
use schemas::score::Score;
use schemas::topics::Topics;
use tests::{Sandbox, log};

/// Plays some flights and returns their scores, as they are in the topic.
fn scores(sandbox: &Sandbox) -> Result<Vec<String>> {
    let producer = sandbox.produce(&[
        "--speed", "max", "--events", "2000", "--dirt", "0", "--seed", "11",
    ])?;
    let produced = sandbox.produced(producer)?;
    let (topics, brokers) = (Topics::of("flights"), &sandbox.brokers);
    sandbox.until("every event is scored or dead", || {
        let done = log::count(brokers, &topics.scores)? + log::count(brokers, &topics.dead)?;
        Ok(produced.raw <= done)
    })?;
    let messages = log::read(brokers, &topics.scores)?.into_iter();
    let lines: Vec<String> = messages
        .map(|message| String::from_utf8(message.value))
        .collect::<Result<_, _>>()?;
    ensure!(1000 < lines.len(), "{} scores", lines.len());
    Ok(lines)
}

#[test]
fn a_score_that_was_changed_is_named() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let mut lines = scores(&sandbox)?;
    let file = sandbox.folder().join("receipts.jsonl");
    let path = file.display().to_string();
    let path = path.as_str();
    std::fs::write(&file, lines.join("\n"))?;
    let (code, before) = sandbox.recompute(&[path])?;
    ensure!(code == Some(0), "{before}");
    ensure!(before["equal"] == lines.len() as u64, "{before}");

    let changed = lines.len() / 2;
    let id = serde_json::from_str::<Score>(&lines[changed])?.id;
    // The score becomes another number, whatever it is.
    lines[changed] = lines[changed].replacen("\"score\":", "\"score\":1", 1);
    std::fs::write(&file, lines.join("\n"))?;
    let (code, after) = sandbox.recompute(&[path])?;
    ensure!(code == Some(1), "{after}");
    ensure!(after["different"] == 1, "{after}");
    ensure!(after["equal"] == lines.len() as u64 - 1, "{after}");
    let first = &after["first"];
    ensure!(first["id"] == id.as_str(), "{after}");
    ensure!(first["kind"] == "other_score", "{after}");
    ensure!(first["place"]["line"] == changed as u64 + 1, "{after}");

    let (code, one) = sandbox.recompute(&[path, "--id", &id])?;
    ensure!(code == Some(1) && one["compared"] == 1, "{one}");
    let (code, none) = sandbox.recompute(&["--id", "nobody"])?;
    let kind = &none["first"]["kind"];
    ensure!(code == Some(1) && *kind == "no_receipt", "{none}");
    sandbox.stop()?;
    Ok(())
}

#[test]
fn a_version_that_is_not_there_is_said() -> Result<()> {
    let sandbox = Sandbox::start()?;
    scores(&sandbox)?;
    let version = u64::MAX.to_string();
    let (code, replayed) = sandbox.replay(&["--version", &version])?;
    ensure!(code == Some(1), "{replayed}");
    ensure!(replayed["first"]["kind"] == "unknown_version", "{replayed}");
    ensure!(replayed["first"]["version"] == u64::MAX, "{replayed}");
    sandbox.stop()?;
    Ok(())
}
