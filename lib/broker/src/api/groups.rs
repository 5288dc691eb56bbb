//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: the classic protocol of consumer groups.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, Request, code};
use crate::group::{Client, Fellow, Join, Joined, Protocol, Who};
use crate::net::Response;
use crate::services::{Peer, Services};

/// From this version of JoinGroup on, newcomers join with an id that they were given before.
const ID_FIRST_SINCE: i16 = 4;

/// From this version of JoinGroup on, a leader may be told that it need not assign.
const SKIPS_SINCE: i16 = 9;

/// From this version of JoinGroup on, answers name the type of the protocol, and no protocol may be null.
const TYPED_SINCE: i16 = 7;

/// From this version of LeaveGroup on, one request is about several members.
const SEVERAL_SINCE: i16 = 3;

/// What a member hears that waits for others when the broker stops.
const STOPPING: ResponseError = ResponseError::CoordinatorNotAvailable;

fn millis(number: i32) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

/// Copies bytes out of a request, whose buffer would otherwise live on with them.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Reads what a member says when it joins.
fn joining(request: &Request, peer: &Peer, wanted: &JoinGroupRequest) -> Join {
    let session = millis(wanted.session_timeout_ms);
    let protocols = wanted.protocols.iter().map(|protocol| Protocol {
        name: protocol.name.to_string(),
        metadata: own(&protocol.metadata),
    });
    Join {
        session,
        rebalance: if request.version < 1 {
            session
        } else {
            millis(wanted.rebalance_timeout_ms)
        },
        protocol_type: wanted.protocol_type.to_string(),
        protocols: protocols.collect(),
        instance: wanted.group_instance_id.as_ref().map(StrBytes::to_string),
        may_skip: SKIPS_SINCE <= request.version,
        client: Client {
            id: request.client_id.clone(),
            host: format!("/{}", peer.remote.ip()),
        },
    }
}

/// Lets a member join; the answer waits until all have come.
pub async fn join(
    services: &Services,
    peer: &mut Peer,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: JoinGroupRequest = request.decode()?;
    let join = joining(request, peer, &wanted);
    let id_first = ID_FIRST_SINCE <= request.version;
    let joining = services
        .groups
        .join(&wanted.group_id, &wanted.member_id, id_first, join);
    let answer = tokio::select! {
        answer = joining => answer,
        _ = peer.stopping.wait_for(|stopping| *stopping) => Err((wanted.member_id.to_string(), STOPPING)),
    };
    let typed = TYPED_SINCE <= request.version;
    let response = match answer {
        Ok((member, joined)) => joined_response(member, joined, typed),
        Err((member, error)) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(StrBytes::default()).filter(|_| !typed))
            .with_member_id(StrBytes::from_string(member)),
    };
    request.encode(&response)
}

fn joined_response(member: String, joined: Joined, typed: bool) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|fellow: Fellow| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(fellow.id))
            .with_group_instance_id(fellow.instance.map(StrBytes::from_string))
            .with_metadata(fellow.metadata)
    });
    let protocol_type = StrBytes::from_string(joined.protocol_type);
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(Some(protocol_type).filter(|_| typed))
        .with_protocol_name(Some(StrBytes::from_string(joined.protocol)))
        .with_leader(StrBytes::from_string(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(StrBytes::from_string(member))
        .with_members(members.collect())
}

/// Hands a member its assignment; the answer waits until the leader has sent it.
pub async fn sync(
    services: &Services,
    peer: &mut Peer,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: SyncGroupRequest = request.decode()?;
    let assignments: HashMap<String, Bytes> = wanted
        .assignments
        .iter()
        .map(|assignment| {
            (
                assignment.member_id.to_string(),
                own(&assignment.assignment),
            )
        })
        .collect();
    let who = Who {
        member: &wanted.member_id,
        instance: wanted.group_instance_id.as_deref(),
        generation: wanted.generation_id,
    };
    let syncing = services.groups.sync(&wanted.group_id, who, assignments);
    let answer = tokio::select! {
        answer = syncing => answer,
        _ = peer.stopping.wait_for(|stopping| *stopping) => Err(STOPPING),
    };
    // The member names the protocol that it was told when it joined; a generation has only one.
    let response = match answer {
        Ok(assignment) => SyncGroupResponse::default()
            .with_protocol_type(wanted.protocol_type.clone())
            .with_protocol_name(wanted.protocol_name.clone())
            .with_assignment(assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    };
    request.encode(&response)
}

/// Takes a member's sign of life.
pub fn heartbeat(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: HeartbeatRequest = request.decode()?;
    let who = Who {
        member: &wanted.member_id,
        instance: wanted.group_instance_id.as_deref(),
        generation: wanted.generation_id,
    };
    let result = services.groups.heartbeat(&wanted.group_id, who);
    request.encode(&HeartbeatResponse::default().with_error_code(code(result)))
}

/// Lets members go.
pub fn leave(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: LeaveGroupRequest = request.decode()?;
    if request.version < SEVERAL_SINCE {
        let result = services
            .groups
            .leave(&wanted.group_id, &wanted.member_id, None);
        return request.encode(&LeaveGroupResponse::default().with_error_code(code(result)));
    }
    let members = wanted.members.into_iter().map(|member| {
        let instance = member.group_instance_id;
        let result =
            services
                .groups
                .leave(&wanted.group_id, &member.member_id, instance.as_deref());
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(instance)
            .with_error_code(code(result))
    });
    let members = members.collect();
    request.encode(&LeaveGroupResponse::default().with_members(members))
}
