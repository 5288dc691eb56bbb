//! Metadata and FindCoordinator: which topics there are, and that this broker is the one to ask about everything.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::producer_id::TRANSACTIONAL;
use super::{Refusal, Request};
use crate::config::Advertised;
use crate::log::batch::LEADER_EPOCH;
use crate::net::Response;
use crate::services::{NODE_ID, Peer, Services};
use crate::topic::{CreateTopic, Topic, TopicConfig};

/// A key of this type is a group's; the others belong to transactions and share groups.
const GROUP_KEY: i8 = 0;

/// The endpoints of brokers, not of controllers.
const BROKERS: i8 = 1;

/// Says that nobody has asked for authorized operations.
const NOT_ASKED: i32 = i32::MIN;

fn advertised(services: &Services, peer: &Peer) -> Advertised {
    let connected_to = || Advertised {
        host: peer.local.ip().to_string(),
        port: peer.local.port(),
    };
    services
        .config
        .advertised
        .clone()
        .unwrap_or_else(connected_to)
}

/// Describes the topics that a client asks for, or all.
pub fn metadata(
    services: &Services,
    peer: &Peer,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: MetadataRequest = request.decode()?;
    let may_create = request.version < 4 || wanted.allow_auto_topic_creation;
    let topics = match wanted.topics {
        // In the first version an empty list means all.
        Some(topics) if 0 < request.version || !topics.is_empty() => topics
            .into_iter()
            .map(|topic| match topic.name {
                Some(name) => named(services, name, may_create),
                None => with_id(services, topic.topic_id),
            })
            .collect(),
        _ => services.catalog.all().iter().map(describe).collect(),
    };
    let address = advertised(services, peer);
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(address.host))
        .with_port(i32::from(address.port));
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(
            services.folder.cluster_id().to_owned(),
        )))
        .with_controller_id(BrokerId(NODE_ID))
        .with_cluster_authorized_operations(NOT_ASKED)
        .with_topics(topics);
    request.encode(&response)
}

fn named(services: &Services, name: TopicName, may_create: bool) -> MetadataResponseTopic {
    let found = services.catalog.by_name(&name).or_else(|| {
        let partitions = services
            .config
            .auto_create_partitions
            .filter(|_| may_create)?;
        let new = CreateTopic {
            name: &name,
            partitions,
            config: TopicConfig::new(),
        };
        services.catalog.create(new).ok()
    });
    match found {
        Some(topic) => describe(&topic),
        None => {
            let valid = crate::topic::is_valid_name(&name);
            let error = if valid {
                ResponseError::UnknownTopicOrPartition
            } else {
                ResponseError::InvalidTopicException
            };
            MetadataResponseTopic::default()
                .with_error_code(error.code())
                .with_name(Some(name))
                .with_topic_authorized_operations(NOT_ASKED)
        }
    }
}

fn with_id(services: &Services, id: Uuid) -> MetadataResponseTopic {
    match services.catalog.by_id(id) {
        Some(topic) => describe(&topic),
        None => MetadataResponseTopic::default()
            .with_error_code(ResponseError::UnknownTopicId.code())
            .with_name(None)
            .with_topic_id(id)
            .with_topic_authorized_operations(NOT_ASKED),
    }
}

fn describe(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(index, _)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE_ID)])
            .with_isr_nodes(vec![BrokerId(NODE_ID)])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(NOT_ASKED)
}

/// Says that the cluster is this broker.
pub fn describe_cluster(
    services: &Services,
    peer: &Peer,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: DescribeClusterRequest = request.decode()?;
    let address = advertised(services, peer);
    let response = DescribeClusterResponse::default()
        .with_endpoint_type(wanted.endpoint_type)
        .with_cluster_id(StrBytes::from_string(
            services.folder.cluster_id().to_owned(),
        ))
        .with_cluster_authorized_operations(NOT_ASKED);
    if wanted.endpoint_type != BROKERS {
        let reason = StrBytes::from_static_str("this broker shows its brokers only");
        let refused = response
            .with_error_code(ResponseError::UnsupportedEndpointType.code())
            .with_error_message(Some(reason))
            .with_controller_id(BrokerId(-1));
        return request.encode(&refused);
    }
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(address.host))
        .with_port(i32::from(address.port));
    let response = response
        .with_controller_id(BrokerId(NODE_ID))
        .with_brokers(vec![broker]);
    request.encode(&response)
}

/// Says that this broker coordinates every group, and no transactions.
pub fn find_coordinator(
    services: &Services,
    peer: &Peer,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: FindCoordinatorRequest = request.decode()?;
    let address = advertised(services, peer);
    let (host, port) = (StrBytes::from_string(address.host), i32::from(address.port));
    let refused = wanted.key_type != GROUP_KEY;
    let reason =
        refused.then(|| StrBytes::from_static_str("this broker has groups, but no transactions"));
    let error = if refused { TRANSACTIONAL.code() } else { 0 };
    let node = BrokerId(if refused { -1 } else { NODE_ID });
    let response = if request.version < 4 {
        FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(reason.filter(|_| 1 <= request.version))
            .with_node_id(node)
            .with_host(host)
            .with_port(port)
    } else {
        let coordinators = wanted.coordinator_keys.into_iter().map(|key| {
            Coordinator::default()
                .with_key(key)
                .with_node_id(node)
                .with_host(host.clone())
                .with_port(port)
                .with_error_code(error)
                .with_error_message(reason.clone())
        });
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    };
    request.encode(&response)
}
