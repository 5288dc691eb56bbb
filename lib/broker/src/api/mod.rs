//! What requests mean: one module for each group of them.
//!
//! In flow frames, out flow answers. The table `APIS` says which requests exist and in which versions; exactly that is
//! announced. Transactions are not in it.

mod configs;
mod fetch;
mod group_admin;
mod groups;
mod list_offsets;
mod metadata;
mod offsets;
mod partitions;
mod produce;
mod producer_id;
mod shape;
mod topics;
mod versions;

use bytes::{Buf, Bytes};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use crate::net::Response;
use crate::services::{Peer, Services};
use shape::Shape;

/// A request that this broker answers.
struct Api {
    key: ApiKey,
    min: i16,
    max: i16,
    shape: &'static Shape,
}

const fn api(key: ApiKey, min: i16, max: i16, shape: &'static Shape) -> Api {
    Api {
        key,
        min,
        max,
        shape,
    }
}

/// Every request that this broker answers, and in which versions.
///
/// Produce ends where transactions of the second version begin.
const APIS: [Api; 26] = [
    api(ApiKey::Produce, 3, 10, &shape::PRODUCE),
    api(ApiKey::Fetch, 4, 16, &shape::FETCH),
    api(ApiKey::ListOffsets, 1, 7, &shape::LIST_OFFSETS),
    api(ApiKey::Metadata, 0, 13, &shape::METADATA),
    api(ApiKey::OffsetCommit, 2, 9, &shape::OFFSET_COMMIT),
    api(ApiKey::OffsetFetch, 1, 9, &shape::OFFSET_FETCH),
    api(ApiKey::FindCoordinator, 0, 4, &shape::FIND_COORDINATOR),
    api(ApiKey::JoinGroup, 0, 9, &shape::JOIN_GROUP),
    api(ApiKey::Heartbeat, 0, 4, &shape::HEARTBEAT),
    api(ApiKey::LeaveGroup, 0, 5, &shape::LEAVE_GROUP),
    api(ApiKey::SyncGroup, 0, 5, &shape::SYNC_GROUP),
    api(ApiKey::DescribeGroups, 0, 6, &shape::DESCRIBE_GROUPS),
    api(ApiKey::ListGroups, 0, 5, &shape::LIST_GROUPS),
    api(ApiKey::DeleteGroups, 0, 2, &shape::DELETE_GROUPS),
    api(ApiKey::OffsetDelete, 0, 0, &shape::OFFSET_DELETE),
    api(ApiKey::ApiVersions, 0, 3, &shape::API_VERSIONS),
    api(ApiKey::CreateTopics, 2, 7, &shape::CREATE_TOPICS),
    api(ApiKey::DeleteTopics, 1, 6, &shape::DELETE_TOPICS),
    api(ApiKey::CreatePartitions, 0, 3, &shape::CREATE_PARTITIONS),
    api(ApiKey::DeleteRecords, 0, 2, &shape::DELETE_RECORDS),
    api(ApiKey::DescribeCluster, 0, 2, &shape::DESCRIBE_CLUSTER),
    api(ApiKey::DescribeConfigs, 1, 4, &shape::DESCRIBE_CONFIGS),
    api(ApiKey::AlterConfigs, 0, 2, &shape::ALTER_CONFIGS),
    api(
        ApiKey::IncrementalAlterConfigs,
        0,
        1,
        &shape::INCREMENTAL_ALTER_CONFIGS,
    ),
    api(ApiKey::InitProducerId, 0, 4, &shape::INIT_PRODUCER_ID),
    api(
        ApiKey::OffsetForLeaderEpoch,
        2,
        4,
        &shape::OFFSET_FOR_LEADER_EPOCH,
    ),
];

/// Why a connection is closed instead of a request answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The header of the request cannot be read.
    #[error("the header of a request makes no sense")]
    Header,
    /// The request, or this version of it, is not announced.
    #[error("request {key} in version {version} is not supported")]
    Unsupported {
        /// What it is.
        key: i16,
        /// Its version.
        version: i16,
    },
    /// The request cannot be read.
    #[error("a request of kind {key:?} makes no sense: {problem}")]
    Malformed {
        /// What it is.
        key: ApiKey,
        /// What is wrong.
        problem: String,
    },
    /// The answer cannot be written in the version that was asked for.
    #[error("the answer to {key:?} cannot be encoded: {problem}")]
    Unencodable {
        /// What was asked.
        key: ApiKey,
        /// What is wrong.
        problem: String,
    },
    /// A batch that wants no acknowledgement could not be appended; closing is the only way to say so.
    #[error("could not append what wants no acknowledgement: {0}")]
    Unacknowledged(ResponseError),
}

/// One request, its header read and its shape checked.
struct Request {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: String,
    body: Bytes,
}

impl Request {
    fn decode<M: Decodable>(&mut self) -> Result<M, Refusal> {
        let decoded = M::decode(&mut self.body, self.version);
        decoded.map_err(|error| Refusal::Malformed {
            key: self.key,
            problem: error.to_string(),
        })
    }

    fn encode<M: Encodable + HeaderVersion>(
        &self,
        message: &M,
    ) -> Result<Option<Response>, Refusal> {
        self.encode_as(message, self.version)
    }

    fn encode_as<M: Encodable + HeaderVersion>(
        &self,
        message: &M,
        version: i16,
    ) -> Result<Option<Response>, Refusal> {
        let mut response = Response::new(self.correlation_id, 1 <= M::header_version(version));
        let encoded = message.encode(response.encoded(), version);
        encoded.map_err(|error| Refusal::Unencodable {
            key: self.key,
            problem: error.to_string(),
        })?;
        Ok(Some(response))
    }
}

/// Returns the code on the wire.
fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

/// Reads the header of a frame and checks that the rest has the shape that it should have.
fn parse(mut frame: Bytes) -> Result<Result<Request, Request>, Refusal> {
    if frame.len() < 8 {
        return Err(Refusal::Header);
    }
    let mut head = &frame[..8];
    let (key, version, correlation_id) = (head.get_i16(), head.get_i16(), head.get_i32());
    let api = APIS
        .iter()
        .find(|api| api.key as i16 == key)
        .ok_or(Refusal::Unsupported { key, version })?;
    if version < api.min || api.max < version {
        if api.key != ApiKey::ApiVersions {
            return Err(Refusal::Unsupported { key, version });
        }
        let (client_id, body) = (String::new(), Bytes::new());
        return Ok(Err(Request {
            key: api.key,
            version: 0,
            correlation_id,
            client_id,
            body,
        }));
    }
    let header_version = api.key.request_header_version(version);
    shape::check_header(&frame, 2 <= header_version).map_err(|_| Refusal::Header)?;
    let header = RequestHeader::decode(&mut frame, header_version).map_err(|_| Refusal::Header)?;
    let malformed = |problem: shape::Misshapen| Refusal::Malformed {
        key: api.key,
        problem: problem.to_string(),
    };
    api.shape.check(&frame, version).map_err(malformed)?;
    let client_id = header
        .client_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    Ok(Ok(Request {
        key: api.key,
        version,
        correlation_id,
        client_id,
        body: frame,
    }))
}

/// Answers one request; `None` if it wants no answer.
///
/// # Errors
/// Why the connection must be closed instead.
pub async fn answer(
    services: &Services,
    peer: &mut Peer,
    frame: Bytes,
) -> Result<Option<Response>, Refusal> {
    let mut request = match parse(frame)? {
        Ok(request) => request,
        Err(too_new) => return versions::unsupported(&too_new),
    };
    let request = &mut request;
    match request.key {
        ApiKey::Produce => produce::produce(services, request),
        ApiKey::Fetch => fetch::fetch(services, peer, request).await,
        ApiKey::ListOffsets => list_offsets::list_offsets(services, request),
        ApiKey::OffsetForLeaderEpoch => list_offsets::offset_for_leader_epoch(services, request),
        ApiKey::Metadata => metadata::metadata(services, peer, request),
        ApiKey::FindCoordinator => metadata::find_coordinator(services, peer, request),
        ApiKey::CreateTopics => topics::create(services, request),
        ApiKey::DeleteTopics => topics::delete(services, request),
        ApiKey::CreatePartitions => partitions::create(services, request),
        ApiKey::DeleteRecords => partitions::delete_records(services, request),
        ApiKey::DescribeCluster => metadata::describe_cluster(services, peer, request),
        ApiKey::DescribeConfigs => configs::describe(services, request),
        ApiKey::AlterConfigs => configs::replace(services, request),
        ApiKey::IncrementalAlterConfigs => configs::alter(services, request),
        ApiKey::OffsetCommit => offsets::commit(services, request),
        ApiKey::OffsetFetch => offsets::fetch(services, request),
        ApiKey::JoinGroup => groups::join(services, peer, request).await,
        ApiKey::SyncGroup => groups::sync(services, peer, request).await,
        ApiKey::Heartbeat => groups::heartbeat(services, request),
        ApiKey::LeaveGroup => groups::leave(services, request),
        ApiKey::DescribeGroups => group_admin::describe(services, request),
        ApiKey::ListGroups => group_admin::list(services, request),
        ApiKey::DeleteGroups => group_admin::delete(services, request),
        ApiKey::OffsetDelete => group_admin::delete_offsets(services, request),
        ApiKey::InitProducerId => producer_id::init(services, request),
        ApiKey::ApiVersions => versions::versions(request),
        _ => Err(Refusal::Unsupported {
            key: request.key as i16,
            version: request.version,
        }),
    }
}
