//! What users do to a pipeline from outside: produce, verify, recompute, replay.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::thalweg;

/// Where a pipeline can be reached.
pub struct Outside {
    /// Kafka's bootstrap servers.
    pub brokers: String,
    /// The stream's contract.
    pub contract: PathBuf,
    /// What is played.
    pub events: PathBuf,
    /// Where the pipeline keeps what it keeps.
    pub places: Places,
}

/// Where lake and checkpoints are.
#[derive(Clone)]
pub struct Places {
    /// Folder or URL of the lake.
    pub lake: String,
    /// Folder or URL of the checkpoints.
    pub checkpoints: String,
    /// What whoever opens them must know.
    pub environment: Vec<(&'static str, String)>,
}

impl Places {
    /// Returns those that a pipeline has in its folder.
    pub fn below(folder: &Path) -> Places {
        let place = |name| folder.join(name).display().to_string();
        Places {
            lake: place("lake"),
            checkpoints: place("checkpoints"),
            environment: Vec::new(),
        }
    }
}

/// How many messages a producer says were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Raw records.
    pub raw: u64,
    /// Labels.
    pub labels: u64,
}

impl Produced {
    /// Waits for a producer and returns what it says.
    ///
    /// # Errors
    /// A producer that failed.
    pub fn of(producer: Child) -> Result<Produced> {
        let output = producer.wait_with_output()?;
        ensure!(
            output.status.success(),
            "the producer ended with {}",
            output.status
        );
        let summary: Value =
            serde_json::from_slice(&output.stdout).context("the producer's summary")?;
        let count = |name: &str| {
            summary[name]
                .as_u64()
                .with_context(|| format!("no `{name}` in {summary}"))
        };
        Ok(Produced {
            raw: count("raw")?,
            labels: count("labels")?,
        })
    }
}

impl Outside {
    /// Begins to play events; [`Produced::of`] waits for the end.
    ///
    /// # Errors
    /// A program that does not start.
    pub fn produce(&self, options: &[&str]) -> Result<Child> {
        let producer = Command::new(thalweg()?)
            .arg("produce")
            .arg(&self.events)
            .arg("--contract")
            .arg(&self.contract)
            .args(["--brokers", &self.brokers, "--json"])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(producer)
    }

    /// Runs `thalweg verify --complete` on the topics, the lake and the checkpoints; returns its exit code and report.
    ///
    /// # Errors
    /// A program that does not run, or says something else than a report.
    pub fn verify(&self) -> Result<(i32, Value)> {
        let (code, report) = self.look("verify", &["--complete", "--lake", &self.places.lake])?;
        Ok((code.context("a signal ended verify")?, report))
    }

    /// Runs a command that looks at the pipeline and says one JSON object; returns its exit code and that.
    ///
    /// # Errors
    /// A program that does not start, or says no JSON.
    pub fn look(&self, command: &str, options: &[&str]) -> Result<(Option<i32>, Value)> {
        let output = Command::new(thalweg()?)
            .args([command, "--json", "--brokers", &self.brokers, "--contract"])
            .arg(&self.contract)
            .args(["--checkpoints", &self.places.checkpoints])
            .args(options)
            .envs(self.places.environment.clone())
            .stderr(Stdio::inherit())
            .output()?;
        let said = serde_json::from_slice::<Value>(&output.stdout);
        let said = said.with_context(|| format!("{command} ended with {}", output.status))?;
        Ok((output.status.code(), said))
    }
}
