//! ApiVersions: what this broker can do, and thereby what it cannot.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::{APIS, Refusal, Request};
use crate::net::Response;

fn announcement() -> ApiVersionsResponse {
    let announce = |api: &super::Api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.min)
            .with_max_version(api.max)
    };
    ApiVersionsResponse::default().with_api_keys(APIS.iter().map(announce).collect())
}

/// Announces everything.
pub fn versions(request: &Request) -> Result<Option<Response>, Refusal> {
    request.encode(&announcement())
}

/// Tells a client that asks in too new a version, in the oldest one, so that it can ask again.
pub fn unsupported(request: &Request) -> Result<Option<Response>, Refusal> {
    let announcement = announcement().with_error_code(ResponseError::UnsupportedVersion.code());
    request.encode_as(&announcement, 0)
}
