//! Makes the topics of a stream, on any Kafka.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use schemas::topics::Topics;

/// A raw record may be this large: what is larger than an event may be must still arrive to be refused.
const RAW_BYTES_MAX: usize = 4 << 20;
/// A dead letter is a sealed raw record and some.
const DEAD_BYTES_MAX: usize = RAW_BYTES_MAX + (64 << 10);
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks for a topic that was just made.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Makes the six topics of a stream; those that are there stay as they are.
///
/// # Errors
/// No broker that answers, a topic that cannot be made, or topics with unlike numbers of partitions:
/// partition p of raw becomes partition p of clean, dead and scores.
pub fn create(
    config: &ClientConfig,
    topics: &Topics,
    partitions: i32,
    replication: i32,
) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config
        .create()
        .context("the Kafka settings are not right")?;
    let (raw_bytes, dead_bytes) = (RAW_BYTES_MAX.to_string(), DEAD_BYTES_MAX.to_string());
    let topic =
        |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
    let wanted = [
        topic(&topics.raw, partitions).set("max.message.bytes", &raw_bytes),
        topic(&topics.dead, partitions).set("max.message.bytes", &dead_bytes),
        topic(&topics.clean, partitions),
        topic(&topics.labels, partitions),
        topic(&topics.scores, partitions),
        topic(&topics.model, 1),
    ];
    let options = AdminOptions::new()
        .request_timeout(Some(DEADLINE))
        .operation_timeout(Some(DEADLINE));
    let made = futures::executor::block_on(admin.create_topics(&wanted, &options));
    for result in made.context("the topics could not be made")? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => bail!("topic {name} could not be made: {code}"),
        }
    }
    agree(&admin, topics)
}

/// Refuses topics of which one partition cannot follow from another.
fn agree(admin: &AdminClient<DefaultClientContext>, topics: &Topics) -> Result<()> {
    let raw = partitions(admin, &topics.raw)?;
    for name in [&topics.clean, &topics.dead, &topics.scores] {
        let partitions = partitions(admin, name)?;
        if partitions != raw {
            bail!(
                "topic {name} has {partitions} partitions and {} has {raw}; they must be equal",
                topics.raw
            );
        }
    }
    Ok(())
}

/// Returns how many partitions a topic has; waits for one that was just made, since a broker that is asked hears of
/// it a little later than the one that made it.
fn partitions(admin: &AdminClient<DefaultClientContext>, name: &str) -> Result<usize> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let metadata = admin
            .inner()
            .fetch_metadata(Some(name), DEADLINE)
            .context("Kafka does not say what topics it has")?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        match found.map_or(0, |topic| topic.partitions().len()) {
            0 if deadline < Instant::now() => bail!("topic {name} is not there"),
            0 => std::thread::sleep(LOOK_EVERY),
            partitions => return Ok(partitions),
        }
    }
}
