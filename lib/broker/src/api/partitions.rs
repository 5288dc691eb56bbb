//! CreatePartitions and DeleteRecords: a topic gets wider, or begins later.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, Request};
use crate::net::Response;
use crate::services::{NODE_ID, Services};
use crate::topic::{Denied, Topic};

/// Adds partitions to topics, or only checks that it could.
pub fn create(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: CreatePartitionsRequest = request.decode()?;
    let results = wanted.topics.into_iter().map(|topic| {
        let result = create_some(services, &topic, wanted.validate_only);
        let told = CreatePartitionsTopicResult::default().with_name(topic.name);
        match result {
            Ok(()) => told,
            Err((error, reason)) => told
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(reason))),
        }
    });
    let response = CreatePartitionsResponse::default().with_results(results.collect());
    request.encode(&response)
}

fn create_some(
    services: &Services,
    wanted: &CreatePartitionsTopic,
    only_check: bool,
) -> Result<(), Denied> {
    if let Some(assignments) = &wanted.assignments {
        let topic = services.catalog.by_name(&wanted.name);
        let present = topic.map_or(0, |topic| topic.partitions.len());
        let more = usize::try_from(wanted.count)
            .unwrap_or(0)
            .saturating_sub(present);
        let here = |broker_ids: &[BrokerId]| broker_ids == [BrokerId(NODE_ID)];
        let fits = assignments.len() == more;
        if !fits
            || !assignments
                .iter()
                .all(|assignment| here(&assignment.broker_ids))
        {
            let reason = format!("every new partition is assigned to broker {NODE_ID} alone");
            return Err((ResponseError::InvalidReplicaAssignment, reason));
        }
    }
    services
        .catalog
        .grow(&wanted.name, wanted.count, only_check)
}

/// Has partitions begin later, and says where each begins.
pub fn delete_records(
    services: &Services,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: DeleteRecordsRequest = request.decode()?;
    let topics = wanted.topics.into_iter().map(|topic| {
        let found = services.catalog.by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let told = DeleteRecordsPartitionResult::default().with_partition_index(index);
            match delete_before(found.as_deref(), index, partition.offset) {
                Ok(start) => told.with_low_watermark(start),
                Err(error) => told.with_error_code(error.code()).with_low_watermark(-1),
            }
        });
        DeleteRecordsTopicResult::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    let response = DeleteRecordsResponse::default().with_topics(topics.collect());
    request.encode(&response)
}

fn delete_before(topic: Option<&Topic>, index: i32, offset: i64) -> Result<i64, ResponseError> {
    let partition = topic.and_then(|topic| topic.partition(index));
    partition
        .ok_or(ResponseError::UnknownTopicOrPartition)?
        .delete_before(offset)
}
