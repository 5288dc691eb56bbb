//! OffsetCommit and OffsetFetch.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tracing::error;

use super::{Refusal, Request, code};
use crate::group::Who;
use crate::net::Response;
use crate::offsets::{Committed, Coordinates, METADATA_BYTES_MAX};
use crate::services::Services;
use crate::topic::Topic;

/// From this version of OffsetFetch on, one request asks for several groups.
const GROUPS_SINCE: i16 = 8;

/// Says that nothing has been committed.
const NOTHING: Committed = Committed {
    offset: -1,
    leader_epoch: -1,
    metadata: String::new(),
};

/// How long a group's id may be.
const GROUP_BYTES_MAX: usize = 1_000;

/// Commits offsets, of a member or of somebody who assigns partitions to themselves.
pub fn commit(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: OffsetCommitRequest = request.decode()?;
    let group = wanted.group_id.as_str();
    let allowed = if group.is_empty() || GROUP_BYTES_MAX < group.len() {
        Err(ResponseError::InvalidGroupId)
    } else if !services.offsets.has_room_for(group) {
        Err(ResponseError::GroupMaxSizeReached)
    } else {
        let who = Who {
            member: &wanted.member_id,
            instance: wanted.group_instance_id.as_deref(),
            generation: wanted.generation_id_or_member_epoch,
        };
        services.groups.may_commit(group, who)
    };
    let mut accepted = Vec::new();
    let mut topics = Vec::with_capacity(wanted.topics.len());
    for topic in &wanted.topics {
        let known = services.catalog.by_name(&topic.name);
        let results = topic.partitions.iter().map(|partition| {
            let result = allowed.and_then(|()| check(known.as_deref(), partition));
            let result = result.map(|(at, committed)| accepted.push((at, committed)));
            (partition.partition_index, result)
        });
        topics.push((topic.name.clone(), results.collect::<Vec<_>>()));
    }
    let written = services.offsets.commit(group, accepted).map_err(|cause| {
        error!(group, %cause, "could not commit offsets");
        ResponseError::CoordinatorNotAvailable
    });
    let topics = topics.into_iter().map(|(name, results)| {
        let partitions = results.into_iter().map(|(index, result)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code(result.and(written)))
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    let response = OffsetCommitResponse::default().with_topics(topics.collect());
    request.encode(&response)
}

fn check(
    topic: Option<&Topic>,
    wanted: &OffsetCommitRequestPartition,
) -> Result<(Coordinates, Committed), ResponseError> {
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    topic
        .partition(wanted.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let metadata = wanted.committed_metadata.as_deref().unwrap_or_default();
    if METADATA_BYTES_MAX < metadata.len() {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let at = Coordinates {
        topic: topic.name.clone(),
        partition: wanted.partition_index,
    };
    let committed = Committed {
        offset: wanted.committed_offset.max(-1),
        leader_epoch: wanted.committed_leader_epoch,
        metadata: metadata.to_owned(),
    };
    Ok((at, committed))
}

/// The committed offsets that were asked for, by topic.
type Found = Vec<(TopicName, Vec<(i32, Committed)>)>;

fn find(services: &Services, group: &str, wanted: Option<Vec<(TopicName, Vec<i32>)>>) -> Found {
    let Some(wanted) = wanted else {
        let mut topics = BTreeMap::<String, Vec<(i32, Committed)>>::new();
        for (at, committed) in services.offsets.all(group) {
            topics
                .entry(at.topic)
                .or_default()
                .push((at.partition, committed));
        }
        let named = |(name, found)| (TopicName(StrBytes::from_string(name)), found);
        return topics.into_iter().map(named).collect();
    };
    let look_up = |name: &TopicName, partition: i32| {
        let at = Coordinates {
            topic: name.to_string(),
            partition,
        };
        (
            partition,
            services.offsets.get(group, &at).unwrap_or(NOTHING),
        )
    };
    let topics = wanted.into_iter().map(|(name, partitions)| {
        let found = partitions
            .into_iter()
            .map(|partition| look_up(&name, partition))
            .collect();
        (name, found)
    });
    topics.collect()
}

/// Returns what groups have committed, for some partitions or for all.
pub fn fetch(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: OffsetFetchRequest = request.decode()?;
    let epoch = |committed: &Committed, since| {
        if since <= request.version {
            committed.leader_epoch
        } else {
            -1
        }
    };
    if GROUPS_SINCE <= request.version {
        let groups = wanted.groups.into_iter().map(|group| {
            let topics = group.topics.map(|topics| {
                topics
                    .into_iter()
                    .map(|topic| (topic.name, topic.partition_indexes))
                    .collect()
            });
            let topics =
                find(services, &group.group_id, topics)
                    .into_iter()
                    .map(|(name, found)| {
                        let partitions = found.into_iter().map(|(index, committed)| {
                            OffsetFetchResponsePartitions::default()
                                .with_partition_index(index)
                                .with_committed_offset(committed.offset)
                                .with_committed_leader_epoch(epoch(&committed, GROUPS_SINCE))
                                .with_metadata(Some(StrBytes::from_string(committed.metadata)))
                        });
                        OffsetFetchResponseTopics::default()
                            .with_name(name)
                            .with_partitions(partitions.collect())
                    });
            OffsetFetchResponseGroup::default()
                .with_topics(topics.collect())
                .with_group_id(group.group_id)
        });
        let response = OffsetFetchResponse::default().with_groups(groups.collect());
        return request.encode(&response);
    }
    let topics = wanted.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    let topics = find(services, &wanted.group_id, topics)
        .into_iter()
        .map(|(name, found)| {
            let partitions = found.into_iter().map(|(index, committed)| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(epoch(&committed, 5))
                    .with_metadata(Some(StrBytes::from_string(committed.metadata)))
            });
            OffsetFetchResponseTopic::default()
                .with_name(name)
                .with_partitions(partitions.collect())
        });
    let response = OffsetFetchResponse::default().with_topics(topics.collect());
    request.encode(&response)
}
