//! CreateTopics and DeleteTopics.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tracing::error;
use uuid::Uuid;

use super::{Refusal, Request, code, configs};
use crate::config::PARTITIONS_DEFAULT;
use crate::net::Response;
use crate::services::{NODE_ID, Services};
use crate::topic::{CreateTopic, Denied, TopicConfig};

/// What the creator of a topic leaves to the broker.
const UNSET: i32 = -1;

/// Creates topics, or only checks that it could.
pub fn create(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: CreateTopicsRequest = request.decode()?;
    let mut results = Vec::with_capacity(wanted.topics.len());
    for topic in &wanted.topics {
        let result = match create_one(services, topic, wanted.validate_only) {
            Ok(result) => result,
            Err((error, reason)) => CreatableTopicResult::default()
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(reason))),
        };
        results.push(result.with_name(topic.name.clone()));
    }
    services.upkeep_changed.notify_one();
    request.encode(&CreateTopicsResponse::default().with_topics(results))
}

fn create_one(
    services: &Services,
    wanted: &CreatableTopic,
    only_check: bool,
) -> Result<CreatableTopicResult, Denied> {
    let mut config = TopicConfig::new();
    let invalid = |reason| (ResponseError::InvalidConfig, reason);
    for entry in &wanted.configs {
        let value = entry
            .value
            .as_deref()
            .ok_or_else(|| invalid(format!("{:?} should have a value", entry.name)))?;
        config.set(&entry.name, value).map_err(invalid)?;
    }
    let partitions = partitions(wanted)?;
    let configs = configs::effective(&services.config.limits, &config).map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(entry.definition.name))
            .with_value(Some(StrBytes::from_string(entry.value)))
            .with_config_source(entry.source)
    });
    let result = CreatableTopicResult::default()
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(Some(configs.collect()));
    let new = CreateTopic {
        name: &wanted.name,
        partitions,
        config,
    };
    if only_check {
        return services
            .catalog
            .check(&new)
            .map(|()| result.with_topic_id(Uuid::nil()));
    }
    services
        .catalog
        .create(new)
        .map(|topic| result.with_topic_id(topic.id))
}

/// Finds out how many partitions are meant; every replica can only be here.
fn partitions(wanted: &CreatableTopic) -> Result<i32, Denied> {
    if wanted.assignments.is_empty() {
        if !matches!(wanted.replication_factor, -1 | 1) {
            let reason = "this broker is alone: the replication factor can only be 1".to_owned();
            return Err((ResponseError::InvalidReplicationFactor, reason));
        }
        let unset = wanted.num_partitions == UNSET;
        return Ok(if unset {
            PARTITIONS_DEFAULT
        } else {
            wanted.num_partitions
        });
    }
    let mut indexes: Vec<i32> = wanted
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    indexes.sort_unstable();
    let counted = indexes.iter().zip(0..).all(|(&index, n)| index == n);
    if !counted
        || wanted
            .assignments
            .iter()
            .any(|assignment| assignment.broker_ids != [BrokerId(NODE_ID)])
    {
        let reason = format!("partitions count from 0 and are all assigned to broker {NODE_ID}");
        return Err((ResponseError::InvalidReplicaAssignment, reason));
    }
    Ok(indexes.len() as i32)
}

/// Deletes topics, by name or by id.
pub fn delete(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: DeleteTopicsRequest = request.decode()?;
    let named = wanted
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name)));
    let topics = wanted.topics.into_iter().chain(named);
    let results = topics.map(|topic| {
        let (name, id, result) = delete_one(services, topic);
        let id = if request.version < 6 { Uuid::nil() } else { id };
        DeletableTopicResult::default()
            .with_name(name)
            .with_topic_id(id)
            .with_error_code(code(result))
    });
    let response = DeleteTopicsResponse::default().with_responses(results.collect());
    request.encode(&response)
}

fn delete_one(
    services: &Services,
    wanted: DeleteTopicState,
) -> (Option<TopicName>, Uuid, Result<(), ResponseError>) {
    let (topic, unknown) = match &wanted.name {
        Some(name) => (
            services.catalog.by_name(name),
            ResponseError::UnknownTopicOrPartition,
        ),
        None => (
            services.catalog.by_id(wanted.topic_id),
            ResponseError::UnknownTopicId,
        ),
    };
    let Some(topic) = topic else {
        return (wanted.name, wanted.topic_id, Err(unknown));
    };
    let result = services.catalog.delete(&topic);
    if let Err(cause) = services.offsets.forget_topic(&topic.name) {
        error!(topic = topic.name, %cause, "could not forget the offsets of a deleted topic");
    }
    let name = TopicName(StrBytes::from_string(topic.name.clone()));
    (Some(name), topic.id, result)
}
