//! Writes what no worker would: what an audit must find.

use std::time::Duration;

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use schemas::dead;

use crate::log;

/// Writes a dead letter as another one is, but of a record that it is not of: a partition and an offset.
///
/// # Errors
/// Kafka's.
pub fn dead_letter(brokers: &str, topic: &str, like: &log::Read, at: (i32, i64)) -> Result<()> {
    let (partition, offset) = (at.0.to_string(), at.1.to_string());
    let mut headers = OwnedHeaders::new();
    for (name, value) in &like.headers {
        let value = match name.as_str() {
            dead::header::SOURCE_PARTITION => partition.as_bytes(),
            dead::header::SOURCE_OFFSET => offset.as_bytes(),
            _ => value.as_slice(),
        };
        headers = headers.insert(Header {
            key: name,
            value: Some(value),
        });
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // The letter may be that of two megabytes of garbage.
        .set("message.max.bytes", "8388608")
        .create()?;
    let record = BaseRecord::to(topic)
        .partition(at.0)
        .key(&like.key)
        .payload(&like.value)
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(20))?;
    Ok(())
}
