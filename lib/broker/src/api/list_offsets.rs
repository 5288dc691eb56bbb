//! ListOffsets and OffsetForLeaderEpoch: where a log begins and ends, and where in it a time lies.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::{Refusal, Request, code};
use crate::log::batch::LEADER_EPOCH;
use crate::log::{Log, Moment};
use crate::net::Response;
use crate::services::Services;
use crate::topic::Topic;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST: i64 = -3;

/// Says that there is no such offset, time or epoch.
const NONE: i64 = -1;

/// Compares the epoch that a client knows with the only one that there is.
pub fn check_epoch(known: i32) -> Result<(), ResponseError> {
    if LEADER_EPOCH < known {
        Err(ResponseError::UnknownLeaderEpoch)
    } else {
        Ok(())
    }
}

fn with_log<T>(
    topic: Option<&Topic>,
    index: i32,
    epoch: i32,
    read: impl FnOnce(&Log) -> Result<T, ResponseError>,
) -> Result<T, ResponseError> {
    let partition = topic.and_then(|topic| topic.partition(index));
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(epoch)?;
    partition.read(read)
}

fn find(log: &Log, timestamp: i64) -> Result<Moment, ResponseError> {
    let nowhere = Moment {
        offset: NONE,
        timestamp: NONE,
    };
    match timestamp {
        LATEST => Ok(Moment {
            offset: log.end_offset(),
            ..nowhere
        }),
        EARLIEST => Ok(Moment {
            offset: log.start_offset(),
            ..nowhere
        }),
        NEWEST => Ok(log.newest()?.unwrap_or(nowhere)),
        0.. => Ok(log.first_since(timestamp)?.unwrap_or(nowhere)),
        _ => Err(ResponseError::InvalidRequest),
    }
}

/// Finds offsets: the first, the next, the newest, or the first at a time.
pub fn list_offsets(
    services: &Services,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: ListOffsetsRequest = request.decode()?;
    let epoch = if 4 <= request.version {
        LEADER_EPOCH
    } else {
        NONE as i32
    };
    let topics = wanted.topics.into_iter().map(|topic| {
        let found = services.catalog.by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let (index, known) = (partition.partition_index, partition.current_leader_epoch);
            let moment = with_log(found.as_deref(), index, known, |log| {
                find(log, partition.timestamp)
            });
            let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
            match moment {
                Ok(moment) => response
                    .with_timestamp(moment.timestamp)
                    .with_offset(moment.offset)
                    .with_leader_epoch(epoch),
                Err(error) => response
                    .with_error_code(error.code())
                    .with_timestamp(NONE)
                    .with_offset(NONE),
            }
        });
        ListOffsetsTopicResponse::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    let response = ListOffsetsResponse::default().with_topics(topics.collect());
    request.encode(&response)
}

/// Says where the records of a leader epoch end.
pub fn offset_for_leader_epoch(
    services: &Services,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: OffsetForLeaderEpochRequest = request.decode()?;
    let topics = wanted.topics.into_iter().map(|topic| {
        let found = services.catalog.by_name(&topic.topic);
        let partitions = topic.partitions.iter().map(|partition| {
            let (index, known) = (partition.partition, partition.current_leader_epoch);
            let end = with_log(found.as_deref(), index, known, |log| {
                Ok(log.end_of_epoch(partition.leader_epoch))
            });
            let (epoch, offset) = end.ok().flatten().unwrap_or((NONE as i32, NONE));
            EpochEndOffset::default()
                .with_error_code(code(end.map(|_| ())))
                .with_partition(index)
                .with_leader_epoch(epoch)
                .with_end_offset(offset)
        });
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(topic.topic)
    });
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    request.encode(&response)
}
