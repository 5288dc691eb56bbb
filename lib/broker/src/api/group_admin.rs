//! DescribeGroups, ListGroups, DeleteGroups and OffsetDelete: groups as operators see them.
//!
//! A group exists while somebody is in it or something that it committed is kept.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{
    DescribedGroup as Told, DescribedGroupMember,
};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};
use kafka_protocol::protocol::StrBytes;
use tracing::{error, info};

use super::{Refusal, Request, code};
use crate::group::{DescribedGroup, DescribedMember};
use crate::net::Response;
use crate::offsets::Coordinates;
use crate::services::Services;

/// The only type of groups that there is here.
const CLASSIC: &str = "classic";

/// From this version of DescribeGroups on, an unknown group is an error; before, it counts as dead.
const UNKNOWN_IS_ERROR_SINCE: i16 = 6;

/// Says that nobody has asked for authorized operations.
const NOT_ASKED: i32 = i32::MIN;

fn find(services: &Services, group: &str) -> Option<DescribedGroup> {
    services.groups.describe(group).or_else(|| {
        let committed = services.offsets.has(group);
        committed.then(DescribedGroup::empty)
    })
}

/// Describes groups with their members.
pub fn describe(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: DescribeGroupsRequest = request.decode()?;
    let groups = wanted.groups.into_iter().map(|id| {
        let told = match find(services, &id) {
            Some(group) => tell(group),
            None => unknown(&id, request.version),
        };
        told.with_group_id(id).with_authorized_operations(NOT_ASKED)
    });
    let response = DescribeGroupsResponse::default().with_groups(groups.collect());
    request.encode(&response)
}

fn tell(group: DescribedGroup) -> Told {
    let members = group.members.into_iter().map(|member: DescribedMember| {
        DescribedGroupMember::default()
            .with_member_id(StrBytes::from_string(member.id))
            .with_group_instance_id(member.instance.map(StrBytes::from_string))
            .with_client_id(StrBytes::from_string(member.client.id))
            .with_client_host(StrBytes::from_string(member.client.host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    Told::default()
        .with_group_state(StrBytes::from_static_str(group.state))
        .with_protocol_type(StrBytes::from_string(group.protocol_type))
        .with_protocol_data(StrBytes::from_string(group.protocol))
        .with_members(members.collect())
}

fn unknown(id: &str, version: i16) -> Told {
    let told = Told::default().with_group_state(StrBytes::from_static_str("Dead"));
    if version < UNKNOWN_IS_ERROR_SINCE {
        return told;
    }
    let reason = format!("there is no group {id:?}");
    told.with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_string(reason)))
}

/// Lists groups, all or those in some states and of some types.
pub fn list(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: ListGroupsRequest = request.decode()?;
    let named = |filter: &[StrBytes], name: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let mut ids: BTreeSet<String> = services.offsets.groups().into_iter().collect();
    ids.extend(services.groups.ids());
    let groups = ids.into_iter().filter_map(|id| {
        let group = find(services, &id)?;
        let shown =
            named(&wanted.states_filter, group.state) && named(&wanted.types_filter, CLASSIC);
        shown.then(|| {
            ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(id)))
                .with_protocol_type(StrBytes::from_string(group.protocol_type))
                .with_group_state(StrBytes::from_static_str(group.state))
                .with_group_type(StrBytes::from_static_str(CLASSIC))
        })
    });
    let response = ListGroupsResponse::default().with_groups(groups.collect());
    request.encode(&response)
}

/// Deletes groups that nobody is in, with what they have committed.
pub fn delete(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: DeleteGroupsRequest = request.decode()?;
    let results = wanted.groups_names.into_iter().map(|id| {
        let result = delete_one(services, &id);
        DeletableGroupResult::default()
            .with_group_id(id)
            .with_error_code(code(result))
    });
    let response = DeleteGroupsResponse::default().with_results(results.collect());
    request.encode(&response)
}

fn delete_one(services: &Services, group: &str) -> Result<(), ResponseError> {
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    services.groups.may_delete(group)?;
    if !services.offsets.has(group) {
        return Err(ResponseError::GroupIdNotFound);
    }
    let forgotten = services.offsets.forget_group(group);
    forgotten.map_err(|cause| {
        error!(group, %cause, "could not delete a group");
        ResponseError::CoordinatorNotAvailable
    })?;
    info!(group, "deleted a group");
    Ok(())
}

/// Takes back what a group has committed for some partitions that none of its members reads.
pub fn delete_offsets(
    services: &Services,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: OffsetDeleteRequest = request.decode()?;
    let group = wanted.group_id.as_str();
    if find(services, group).is_none() {
        let error = ResponseError::GroupIdNotFound.code();
        return request.encode(&OffsetDeleteResponse::default().with_error_code(error));
    }
    let topics = wanted.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let at = Coordinates {
                topic: topic.name.to_string(),
                partition: partition.partition_index,
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(at.partition)
                .with_error_code(code(forget(services, group, &at)))
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    let response = OffsetDeleteResponse::default().with_topics(topics.collect());
    request.encode(&response)
}

fn forget(services: &Services, group: &str, at: &Coordinates) -> Result<(), ResponseError> {
    let topic = services.catalog.by_name(&at.topic);
    if topic
        .and_then(|topic| topic.partition(at.partition).cloned())
        .is_none()
    {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    services.groups.may_forget(group, &at.topic)?;
    services.offsets.forget(group, at).map_err(|cause| {
        error!(group, %cause, "could not take back what a group has committed");
        ResponseError::CoordinatorNotAvailable
    })
}
