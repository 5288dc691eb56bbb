//! InitProducerId: a fresh id for every idempotent producer; transactional ones are refused.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use tracing::{error, warn};

use super::{Refusal, Request};
use crate::net::Response;
use crate::services::Services;

/// What a client with a transactional id is told: the one error that makes librdkafka give up at once and say why.
pub const TRANSACTIONAL: ResponseError = ResponseError::TransactionalIdAuthorizationFailed;

/// Gives an id away.
pub fn init(services: &Services, request: &mut Request) -> Result<Option<Response>, Refusal> {
    let wanted: InitProducerIdRequest = request.decode()?;
    let id = if wanted.transactional_id.is_some() {
        warn!(
            client = request.client_id,
            "refused a transactional producer: there are no transactions here"
        );
        Err(TRANSACTIONAL)
    } else {
        services.producer_ids.next().map_err(|cause| {
            error!(
                error = &cause as &dyn std::error::Error,
                "could not give a producer id"
            );
            ResponseError::CoordinatorNotAvailable
        })
    };
    let response = match id {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    };
    request.encode(&response)
}
