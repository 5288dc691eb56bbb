//! `thalweg tail`: any topic of ours as JSON lines.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::KafkaArgs;
use crate::tail::Reader;

const EXAMPLES: &str = "\
Clean batches are shown event by event and need their contract, for they have no schema of their own. What is
sealed stays so: {\"sealed\":66} says how many bytes it has.

Examples:
  thalweg tail flights.scores --count 3
  thalweg tail flights.clean --contract stream.toml | head
  thalweg tail flights.dead | jq -r .reason | sort | uniq -c
  thalweg tail flights.model --from end --follow";

const DEADLINE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// With the first message that is there
    Beginning,
    /// With what comes next
    End,
}

/// Options of `thalweg tail`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Topic to read
    topic: String,

    #[command(flatten)]
    kafka: KafkaArgs,

    /// Contract of the stream; clean batches need it
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    contract: Option<PathBuf>,

    /// Where to begin
    #[arg(long, value_enum, default_value_t = From::Beginning)]
    from: From,

    /// Lines to print at most
    #[arg(long, value_name = "LINES")]
    count: Option<u64>,

    /// Wait for more at the end
    #[arg(long)]
    follow: bool,

    /// Put topic, partition, offset, time, key and headers around each object
    #[arg(long)]
    envelope: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = args.contract.as_deref().map(super::contract).transpose()?;
    let mut reader = Reader::new(contract.as_deref(), args.envelope);
    let stop = super::stop_flag()?;
    let consumer = consumer(args)?;
    let mut open = assign(&consumer, args)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while 0 < left && (args.follow || !open.is_empty()) && !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(POLL) else {
            if out.flush().is_err() {
                break;
            }
            continue;
        };
        let message = message.with_context(|| format!("cannot read {}", args.topic))?;
        for line in reader
            .lines(&message)?
            .into_iter()
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            left -= 1;
            // Whoever read along, `head` say, has had enough.
            if writeln!(out, "{line}").is_err() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        let (partition, next) = (message.partition(), message.offset() + 1);
        open.retain(|(other, end)| *other != partition || next < *end);
    }
    // As above.
    let _ = out.flush();
    Ok(ExitCode::SUCCESS)
}

fn consumer(args: &Args) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &args.kafka.brokers)
        .set("group.id", "thalweg-tail")
        .set("client.id", "thalweg-tail")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .set("auto.offset.reset", "error");
    for (name, value) in args.kafka.properties()? {
        config.set(name, value);
    }
    config.create().context("the Kafka settings are not right")
}

/// Begins to read every partition; returns those with something to read, and where their ends are now.
fn assign(consumer: &BaseConsumer, args: &Args) -> Result<Vec<(i32, i64)>> {
    let (topic, brokers) = (args.topic.as_str(), &args.kafka.brokers);
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE);
    let metadata = metadata.with_context(|| format!("no answer from Kafka at {brokers}"))?;
    let partitions = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic)
        .map(|found| found.partitions());
    let Some(partitions) = partitions.filter(|partitions| !partitions.is_empty()) else {
        bail!("Kafka at {brokers} has no topic {topic}");
    };
    let mut list = TopicPartitionList::new();
    let mut open = Vec::new();
    for partition in partitions {
        let id = partition.id();
        let (begin, end) = consumer.fetch_watermarks(topic, id, DEADLINE)?;
        let from = match args.from {
            From::Beginning => begin,
            From::End => end,
        };
        list.add_partition_offset(topic, id, Offset::Offset(from))?;
        if from < end {
            open.push((id, end));
        }
    }
    consumer.assign(&list)?;
    Ok(open)
}
