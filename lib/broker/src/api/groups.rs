//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: the classic protocol of consumer groups.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, Request, code};
use crate::group::{Join, Protocol};
use crate::net::Response;
use crate::services::{Peer, Services};

/// From this version of JoinGroup on, newcomers join with an id that they were given before.
const ID_FIRST_SINCE: i16 = 4;

/// What a member hears that waits for others when the broker stops.
const STOPPING: ResponseError = ResponseError::CoordinatorNotAvailable;

fn millis(number: i32) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

/// Copies bytes out of a request, whose buffer would otherwise live on with them.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Lets a member join; the answer waits until all have come.
pub async fn join(
    services: &Services,
    peer: &mut Peer,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let wanted: JoinGroupRequest = request.decode()?;
    let session = millis(wanted.session_timeout_ms);
    let protocols = wanted.protocols.iter().map(|protocol| Protocol {
        name: protocol.name.to_string(),
        metadata: own(&protocol.metadata),
    });
    let join = Join {
        session,
        rebalance: if request.version < 1 {
            session
        } else {
            millis(wanted.rebalance_timeout_ms)
        },
        protocol_type: wanted.protocol_type.to_string(),
        protocols: protocols.collect(),
    };
    let id_first = ID_FIRST_SINCE <= request.version;
    let joining = services.groups.join(
        &wanted.group_id,
        &wanted.member_id,
        &request.client_id,
        id_first,
        join,
    );
    let answer = tokio::select! {
        answer = joining => answer,
        _ = peer.stopping.wait_for(|stopping| *stopping) => Err((wanted.member_id.to_string(), STOPPING)),
    };
    let response = match answer {
        Ok((member, joined)) => {
            let members = joined.members.into_iter().map(|(id, metadata)| {
                JoinGroupResponseMember::default()
                    .with_member_id(StrBytes::from_string(id))
                    .with_metadata(metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_name(Some(StrBytes::from_string(joined.protocol)))
                .with_leader(StrBytes::from_string(joined.leader))
                .with_member_id(StrBytes::from_string(member))
                .with_members(members.collect())
        }
        Err((member, error)) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(StrBytes::default()))
            .with_member_id(StrBytes::from_string(member)),
    };
    request.encode(&response)
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
    let syncing = services.groups.sync(
        &wanted.group_id,
        &wanted.member_id,
        wanted.generation_id,
        assignments,
    );
    let answer = tokio::select! {
        answer = syncing => answer,
        _ = peer.stopping.wait_for(|stopping| *stopping) => Err(STOPPING),
    };
    let response = match answer {
        Ok(assignment) => SyncGroupResponse::default().with_assignment(assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    };
    request.encode(&response)
}

/// Takes a member's sign of life.
pub fn heartbeat(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: HeartbeatRequest = request.decode()?;
    let result =
        services
            .groups
            .heartbeat(&wanted.group_id, &wanted.member_id, wanted.generation_id);
    request.encode(&HeartbeatResponse::default().with_error_code(code(result)))
}

/// Lets a member go.
pub fn leave(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: LeaveGroupRequest = request.decode()?;
    let result = services.groups.leave(&wanted.group_id, &wanted.member_id);
    request.encode(&LeaveGroupResponse::default().with_error_code(code(result)))
}
