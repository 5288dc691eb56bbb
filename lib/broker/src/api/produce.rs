//! Produce: batches go to the logs as they came.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use tracing::error;

use super::{Refusal, Request};
use crate::clock::now_ms;
use crate::log::batch::{self, BatchHeader};
use crate::log::{Appended, records};
use crate::net::Response;
use crate::services::Services;
use crate::topic::{Topic, TopicConfig};

/// Appends every batch and says where each lies; says nothing if no acknowledgement is wanted.
pub fn produce(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: ProduceRequest = request.decode()?;
    let acks_known = matches!(wanted.acks, -1..=1);
    let mut failed = None;
    let mut responses = Vec::with_capacity(wanted.topic_data.len());
    for data in wanted.topic_data {
        let topic = services.catalog.by_name(&data.name);
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let result = match &topic {
                _ if wanted.transactional_id.is_some() => Err(super::producer_id::TRANSACTIONAL),
                _ if !acks_known => Err(ResponseError::InvalidRequiredAcks),
                Some(topic) => append(services, topic, &partition),
                None => Err(ResponseError::UnknownTopicOrPartition),
            };
            failed = failed.or(result.as_ref().err().copied());
            partitions.push(acknowledgement(partition.index, result));
        }
        let response = TopicProduceResponse::default()
            .with_name(data.name)
            .with_partition_responses(partitions);
        responses.push(response);
    }
    match (wanted.acks, failed) {
        (0, Some(error)) => Err(Refusal::Unacknowledged(error)),
        (0, None) => Ok(None),
        _ => request.encode(&ProduceResponse::default().with_responses(responses)),
    }
}

fn append(
    services: &Services,
    topic: &Topic,
    data: &PartitionProduceData,
) -> Result<Appended, ResponseError> {
    let partition = topic
        .partition(data.index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let batch = data
        .records
        .as_deref()
        .ok_or(ResponseError::CorruptMessage)?;
    let bytes_max = topic
        .config
        .message_bytes_max
        .unwrap_or(services.config.limits.message_bytes_max);
    let header = batch::check(batch, bytes_max)?;
    if topic.config.compacted {
        records::check_keys(&header, batch)?;
    }
    let append_time = topic.config.append_time.then(now_ms);
    if append_time.is_none() {
        check_times(&topic.config, &header, now_ms())?;
    }
    let mut appended = partition.append(&header, batch, append_time)?;
    if let Some(file) = appended.finished.take() {
        // Syncing can take long, and nothing waits for it.
        drop(tokio::task::spawn_blocking(move || {
            if let Err(cause) = file.sync_data() {
                error!(%cause, "could not sync a finished segment");
            }
        }));
    }
    Ok(appended)
}

/// Refuses what is too far from the clock; of the records inside, only the first and the newest are looked at.
fn check_times(config: &TopicConfig, header: &BatchHeader, now: i64) -> Result<(), ResponseError> {
    let sound = header.max_timestamp <= now.saturating_add(config.ahead_max_ms)
        && now.saturating_sub(config.behind_max_ms) <= header.base_timestamp;
    if sound {
        Ok(())
    } else {
        Err(ResponseError::InvalidTimestamp)
    }
}

fn acknowledgement(
    index: i32,
    result: Result<Appended, ResponseError>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_log_start_offset(-1);
    match result {
        Ok(appended) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.append_time.unwrap_or(-1))
            .with_log_start_offset(appended.start_offset),
        Err(error) => response
            .with_error_code(error.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1),
    }
}
