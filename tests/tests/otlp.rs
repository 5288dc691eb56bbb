//! Metrics, traces and logs reach a collector, and one trace leads from the raw event to its score and to the lake.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::{Sandbox, python};

/// A receiver that ends with the test.
struct Receiver(Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Names = BTreeMap<String, Vec<String>>;

fn names(summary: &Path, kind: &str) -> Names {
    let text = std::fs::read_to_string(summary).unwrap_or_default();
    let read: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    serde_json::from_value(read[kind].clone()).unwrap_or_default()
}

#[test]
fn telemetry_reaches_a_collector() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let summary = folder.path().join("summary.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/otlp.py");
    let child = Command::new(python()?)
        .arg(script)
        .arg(&summary)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut receiver = Receiver(child);
    let mut endpoint = String::new();
    let stdout = receiver.0.stdout.take().context("the receiver's output")?;
    BufReader::new(stdout).read_line(&mut endpoint)?;
    ensure!(endpoint.starts_with("http://"), "the receiver listens");

    let sandbox = Sandbox::start_with(&["--otlp", endpoint.trim()])?;
    let producer = sandbox.produce(&[
        "--speed",
        "max",
        "--events",
        "3000",
        "--trace-sample",
        "100",
    ])?;
    sandbox.produced(producer)?;
    let whole = |names: &Vec<String>| {
        ["ingest", "sink", "score"]
            .iter()
            .all(|span| names.iter().any(|name| name == span))
    };
    sandbox.until("a trace leads from raw to score and lake", || {
        Ok(names(&summary, "spans").values().any(whole))
    })?;
    sandbox.stop()?;

    let metrics = names(&summary, "metrics");
    for (service, metric) in [
        ("thalweg-ingest", "thalweg.ingest.clean"),
        ("thalweg-sink", "thalweg.sink.rows"),
        ("thalweg-trainer", "thalweg.quality.log_loss"),
        ("thalweg-scorer", "thalweg.scorer.scores"),
    ] {
        let sent = metrics
            .get(service)
            .with_context(|| format!("metrics of {service}"))?;
        ensure!(
            sent.iter().any(|name| name == metric),
            "{metric} is not among {sent:?}"
        );
    }
    let text = std::fs::read_to_string(&summary)?;
    let read: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(
        read["logs"]["thalweg-ingest"]
            .as_u64()
            .is_some_and(|count| 0 < count),
        "logs come too"
    );
    Ok(())
}
