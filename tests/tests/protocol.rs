//! Apache Kafka and the embedded broker side by side: the same checks of the protocol, and Kafka's own tools and
//! confluent-kafka on both.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::{Kafka, python, thalweg};

#[path = "../../lib/broker/tests/checks/mod.rs"]
mod checks;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// The embedded broker in a process of its own.
struct Embedded {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl Embedded {
    fn start() -> Result<Embedded> {
        let folder = tempfile::tempdir()?;
        let mut process = Command::new(thalweg()?)
            .args(["broker", "--listen", "127.0.0.1:0", "--folder"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().context("its output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ");
        let address = address
            .with_context(|| format!("it says {line:?}"))?
            .to_owned();
        Ok(Embedded {
            process,
            address,
            _folder: folder,
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not be.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs one of Kafka's tools on a broker.
fn tool(main: &str, address: &str, arguments: &[&str]) -> Result<String> {
    let mut all = vec!["--bootstrap-server", address];
    all.extend(arguments);
    Kafka::tool(main, &all)
}

/// Runs a tool and checks that it prints something.
fn prints(main: &str, address: &str, arguments: &[&str], expected: &str) -> Result<()> {
    let printed = tool(main, address, arguments)?;
    ensure!(
        printed.contains(expected),
        "{main} {arguments:?} prints no {expected:?}: {printed}"
    );
    Ok(())
}

/// What an operator does in a day with Kafka's own tools.
fn a_day(address: &str) -> Result<()> {
    let create = [
        "--create",
        "--topic",
        "day",
        "--partitions",
        "2",
        "--config",
        "retention.ms=600000000",
    ];
    prints(TOPICS, address, &create, "Created topic day")?;
    let describe = ["--describe", "--topic", "day"];
    prints(TOPICS, address, &describe, "retention.ms=600000000")?;
    let wider = ["--alter", "--topic", "day", "--partitions", "3"];
    tool(TOPICS, address, &wider)?;
    prints(TOPICS, address, &describe, "PartitionCount: 3")?;
    let entity = ["--entity-type", "topics", "--entity-name", "day"];
    let add = [
        &["--alter", "--add-config", "max.message.bytes=500000"][..],
        &entity,
    ]
    .concat();
    prints(CONFIGS, address, &add, "Completed updating config")?;
    let shown = [&["--describe"][..], &entity].concat();
    prints(CONFIGS, address, &shown, "max.message.bytes=500000")?;
    let wrong = [
        &["--alter", "--add-config", "max.message.bites=5"][..],
        &entity,
    ]
    .concat();
    ensure!(tool(CONFIGS, address, &wrong).is_err());
    let server = format!("bootstrap.servers={address}");
    let produce = [
        "--topic",
        "day",
        "--num-records",
        "1000",
        "--record-size",
        "100",
        "--throughput",
        "-1",
        "--producer-props",
        &server,
        "compression.type=lz4",
    ];
    ensure!(Kafka::tool(PRODUCER, &produce)?.contains("1000 records sent"));
    let consume = [
        "--topic",
        "day",
        "--group",
        "night",
        "--from-beginning",
        "--max-messages",
        "1000",
        "--consumer-property",
        "group.instance.id=place",
        "--consumer-property",
        "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
    ];
    // Between the values stands what the tool has to say about itself.
    let consumed = tool(CONSUMER, address, &consume)?;
    let values = consumed.lines().filter(|line| line.len() == 100).count();
    ensure!(values == 1_000, "{values} values came: {consumed}");
    prints(GROUPS, address, &["--list"], "night")?;
    groups_and_records(address)
}

fn groups_and_records(address: &str) -> Result<()> {
    // The member was static, so it is in until its session ends, unless an operator takes it out.
    let members = ["--describe", "--group", "night", "--members"];
    prints(GROUPS, address, &members, "place")?;
    ensure!(tool(GROUPS, address, &["--delete", "--group", "night"])?.contains("not empty"));
    let ends = tool(OFFSETS, address, &["--topic", "day", "--time", "-1"])?;
    let count: u64 = ends
        .lines()
        .filter_map(|line| line.rsplit_once(':')?.1.parse::<u64>().ok())
        .sum();
    ensure!(count == 1_000, "{ends}");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("records.json");
    let wanted = r#"{"version":1,"partitions":[{"topic":"day","partition":0,"offset":-1}]}"#;
    std::fs::write(&path, wanted)?;
    let file = path.display().to_string();
    let deleted = tool(DELETE_RECORDS, address, &["--offset-json-file", &file])?;
    let end = ends.lines().find_map(|line| line.strip_prefix("day:0:"));
    let end = end.context("partition 0")?;
    ensure!(
        deleted.contains(&format!("low_watermark: {end}")),
        "{deleted}"
    );
    let starts = ["--topic", "day", "--time", "-2"];
    prints(OFFSETS, address, &starts, &format!("day:0:{end}"))?;
    tool(TOPICS, address, &["--delete", "--topic", "day"])?;
    let left = tool(TOPICS, address, &["--list"])?;
    ensure!(!left.lines().any(|line| line == "day"), "{left}");
    Ok(())
}

/// What confluent-kafka does as an operator and as a group, with the same result everywhere.
fn operated(address: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/operate.py");
    let output = Command::new(python()?).arg(script).arg(address).output()?;
    ensure!(
        output.status.success(),
        "confluent-kafka failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let expected = serde_json::json!({
        "assignor": "cooperative-sticky",
        "committed": 10_000,
        "earliest": 5,
        "in_use": "NON_EMPTY_GROUP",
        "listed": true,
        "low": 5,
        "message_bytes": "300000",
        "partitions": 4,
        "place": "place",
        "retention": "100000000",
        "state": "STABLE",
        "unknown": "INVALID_CONFIG",
    });
    ensure!(seen == expected, "{seen}");
    Ok(())
}

#[test]
fn kafkas_own_tools_and_confluent_kafka_work_on_the_embedded_broker() -> Result<()> {
    let embedded = Embedded::start()?;
    operated(&embedded.address)?;
    a_day(&embedded.address)
}

#[test]
fn apache_kafka_passes_all_that_the_embedded_broker_does() -> Result<()> {
    let kafka = Kafka::start(1)?;
    checks::run_all(&kafka.brokers);
    operated(&kafka.brokers)?;
    a_day(&kafka.brokers)
}
