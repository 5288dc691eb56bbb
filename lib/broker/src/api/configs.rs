//! DescribeConfigs, IncrementalAlterConfigs and AlterConfigs: of topics; the broker's own can only be read.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Altered;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, Request};
use crate::config::{Limits, PARTITIONS_DEFAULT};
use crate::group::SESSIONS;
use crate::net::Response;
use crate::services::{NODE_ID, Services};
use crate::topic::definitions::{self, DEFINITIONS, Definition, Kind};
use crate::topic::{Denied, TopicConfig};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SET_FOR_TOPIC: i8 = 1;
const SET_FOR_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A config of a topic with the value that holds, and where that comes from.
pub struct Effective {
    /// The config.
    pub definition: &'static Definition,
    /// The value.
    pub value: String,
    /// Kafka's number of where the value comes from.
    pub source: i8,
}

/// Returns every config of a topic.
pub fn effective(limits: &Limits, config: &TopicConfig) -> impl Iterator<Item = Effective> {
    DEFINITIONS.iter().map(move |definition| {
        let set = config.get(definition.name);
        Effective {
            definition,
            value: set.map_or_else(|| default(limits, definition), str::to_owned),
            source: if set.is_some() {
                SET_FOR_TOPIC
            } else {
                DEFAULT
            },
        }
    })
}

/// Returns what holds for a topic that has nothing set.
fn default(limits: &Limits, definition: &Definition) -> String {
    match definition.name {
        definitions::MAX_MESSAGE_BYTES => limits.message_bytes_max.to_string(),
        definitions::SEGMENT_BYTES => limits.segment_bytes.to_string(),
        _ => definition.default.to_owned(),
    }
}

/// Returns the number on the wire for a kind of value.
fn kind_on_wire(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Choice(_) => 2,
        Kind::Int(_) => 3,
        Kind::Long(_) => 5,
        Kind::Ratio => 6,
        Kind::Choices(_) | Kind::List => 7,
    }
}

/// Tells configs, all or those that are asked for.
pub fn describe(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: DescribeConfigsRequest = request.decode()?;
    let results = wanted.resources.into_iter().map(|resource| {
        let configs = match resource.resource_type {
            TOPIC => of_topic(services, &resource, wanted.include_synonyms),
            BROKER => of_broker(services, &resource),
            other => Err(not_here(other)),
        };
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match configs {
            Ok(mut configs) => {
                if let Some(names) = &resource.configuration_keys {
                    configs.retain(|config| names.contains(&config.name));
                }
                if !wanted.include_documentation {
                    for config in &mut configs {
                        config.documentation = None;
                    }
                }
                result.with_configs(configs)
            }
            Err((error, reason)) => result
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(reason))),
        }
    });
    let response = DescribeConfigsResponse::default().with_results(results.collect());
    request.encode(&response)
}

fn not_here(resource_type: i8) -> Denied {
    let reason =
        format!("this broker has configs of topics and its own, not of kind {resource_type}");
    (ResponseError::InvalidRequest, reason)
}

fn of_topic(
    services: &Services,
    resource: &DescribeConfigsResource,
    with_synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Denied> {
    let name = resource.resource_name.as_str();
    let topic = services.catalog.by_name(name).ok_or_else(|| {
        let reason = format!("there is no topic {name:?}");
        (ResponseError::UnknownTopicOrPartition, reason)
    })?;
    let limits = &services.config.limits;
    let configs = effective(limits, &topic.config);
    Ok(configs
        .map(|config| tell(limits, config, with_synonyms))
        .collect())
}

fn tell(limits: &Limits, config: Effective, with_synonyms: bool) -> DescribeConfigsResourceResult {
    let definition = config.definition;
    let synonym = |value: String, source| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(definition.name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_source(source)
    };
    let mut synonyms = Vec::new();
    if with_synonyms && config.source == SET_FOR_TOPIC {
        synonyms.push(synonym(config.value.clone(), SET_FOR_TOPIC));
    }
    if with_synonyms {
        synonyms.push(synonym(default(limits, definition), DEFAULT));
    }
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(definition.name))
        .with_value(Some(StrBytes::from_string(config.value)))
        .with_config_source(config.source)
        .with_synonyms(synonyms)
        .with_config_type(kind_on_wire(definition.kind))
        .with_documentation(Some(StrBytes::from_static_str(definition.documentation)))
}

fn of_broker(
    services: &Services,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Denied> {
    let limits = &services.config.limits;
    let name = resource.resource_name.as_str();
    if name.is_empty() {
        return Ok(Vec::new()); // what is set for all brokers of the cluster: nothing
    }
    if name != NODE_ID.to_string() {
        let reason = format!("this is broker {NODE_ID}, not {name:?}");
        return Err((ResponseError::InvalidRequest, reason));
    }
    let creates = services.config.auto_create_partitions;
    let told = [
        ("auto.create.topics.enable", creates.is_some().to_string()),
        ("default.replication.factor", 1.to_string()),
        (
            "group.min.session.timeout.ms",
            SESSIONS.start().as_millis().to_string(),
        ),
        ("log.cleanup.policy", "delete".to_owned()),
        ("log.retention.ms", (-1).to_string()),
        ("log.segment.bytes", limits.segment_bytes.to_string()),
        ("message.max.bytes", limits.message_bytes_max.to_string()),
        ("node.id", NODE_ID.to_string()),
        (
            "num.partitions",
            creates.unwrap_or(PARTITIONS_DEFAULT).to_string(),
        ),
        ("process.roles", "broker,controller".to_owned()),
        (
            "socket.request.max.bytes",
            limits.produce_bytes_max.to_string(),
        ),
    ];
    let told = told.into_iter().map(|(name, value)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_read_only(true)
            .with_config_source(SET_FOR_BROKER)
    });
    Ok(told.collect())
}

/// Changes single configs of topics, or only checks that it could.
pub fn alter(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: IncrementalAlterConfigsRequest = request.decode()?;
    let mut seen = BTreeSet::new();
    let mut responses = Vec::with_capacity(wanted.resources.len());
    for resource in wanted.resources {
        let name = resource.resource_name.as_str();
        let once = seen.insert((resource.resource_type, name.to_owned()));
        let result = changeable(resource.resource_type, once).and_then(|()| {
            let change = |config: &mut TopicConfig| change_each(config, &resource.configs);
            services
                .catalog
                .reconfigure(name, change, wanted.validate_only)
        });
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match result {
            Ok(()) => response,
            Err((error, reason)) => response
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(reason))),
        });
    }
    services.upkeep_changed.notify_one();
    request.encode(&IncrementalAlterConfigsResponse::default().with_responses(responses))
}

fn changeable(resource_type: i8, once: bool) -> Result<(), Denied> {
    match resource_type {
        _ if !once => {
            let reason = "each resource should be named once".to_owned();
            Err((ResponseError::InvalidRequest, reason))
        }
        TOPIC => Ok(()),
        BROKER => {
            let reason = "the broker's own configs cannot be changed while it runs".to_owned();
            Err((ResponseError::InvalidRequest, reason))
        }
        other => Err(not_here(other)),
    }
}

fn change_each(config: &mut TopicConfig, changes: &[AlterableConfig]) -> Result<(), Denied> {
    let invalid = |reason| (ResponseError::InvalidConfig, reason);
    let mut seen = BTreeSet::new();
    for change in changes {
        let (name, value) = (change.name.as_str(), change.value.as_deref());
        if !seen.insert(name) {
            let reason = format!("{name} should be changed once");
            return Err((ResponseError::InvalidRequest, reason));
        }
        let value = || {
            value.ok_or_else(|| {
                let reason = format!("null value not supported for: {name}");
                (ResponseError::InvalidRequest, reason)
            })
        };
        match change.config_operation {
            SET => config.set(name, value()?).map_err(invalid)?,
            // Nothing can be set under a name that does not exist, so nothing is left to do.
            DELETE => config.reset(name).unwrap_or_default(),
            APPEND => config.append(name, value()?).map_err(invalid)?,
            SUBTRACT => config.subtract(name, value()?).map_err(invalid)?,
            other => {
                let reason = format!("there is no operation {other} on configs");
                return Err((ResponseError::InvalidRequest, reason));
            }
        }
    }
    Ok(())
}

/// Replaces all configs of topics, or only checks that it could.
pub fn replace(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: AlterConfigsRequest = request.decode()?;
    let mut seen = BTreeSet::new();
    let mut responses = Vec::with_capacity(wanted.resources.len());
    for resource in wanted.resources {
        let name = resource.resource_name.as_str();
        let once = seen.insert((resource.resource_type, name.to_owned()));
        let change = |config: &mut TopicConfig| {
            *config = TopicConfig::new();
            for entry in &resource.configs {
                let invalid = |reason| (ResponseError::InvalidConfig, reason);
                let value = entry.value.as_deref().ok_or_else(|| {
                    let reason = format!("null value not supported for: {:?}", entry.name);
                    (ResponseError::InvalidRequest, reason)
                })?;
                config.set(&entry.name, value).map_err(invalid)?;
            }
            Ok(())
        };
        let result = changeable(resource.resource_type, once).and_then(|()| {
            services
                .catalog
                .reconfigure(name, change, wanted.validate_only)
        });
        let response = Altered::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match result {
            Ok(()) => response,
            Err((error, reason)) => response
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(reason))),
        });
    }
    services.upkeep_changed.notify_one();
    request.encode(&AlterConfigsResponse::default().with_responses(responses))
}
