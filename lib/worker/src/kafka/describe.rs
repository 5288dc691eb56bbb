//! What librdkafka knows and the Rust binding does not tell: topic ids, and the cached end of a log; and how short
//! sessions may be.

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, ClientContext};
use rdkafka_sys as sys;
use schemas::{Offset, TopicId};

use crate::batch::TopicPartition;
use crate::broker::{BrokerError, TopicInfo};

use super::read::Reader;

/// The broker's own setting: it refuses members whose session is shorter.
const SESSION_MIN: &str = "group.min.session.timeout.ms";

/// Returns the end of a partition's log as of the last fetch; asks nobody.
pub(super) fn cached_high<C: ClientContext>(
    client: &Client<C>,
    of: &TopicPartition,
) -> Option<Offset> {
    let topic = CString::new(of.topic.as_bytes()).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as the borrow; the pointers are to locals.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            of.partition.0,
            &raw mut low,
            &raw mut high,
        )
    };
    let known = code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && 0 <= high;
    known.then_some(Offset(high))
}

/// Asks the broker for a topic's id and partitions; blocks.
pub(super) fn topic(
    reader: &Reader,
    name: &str,
    timeout: Duration,
) -> Result<TopicInfo, BrokerError> {
    let failed = |reason: String| BrokerError::Topic {
        topic: name.to_owned(),
        reason,
    };
    let name = CString::new(name).map_err(|_| failed("the name has a zero byte".to_owned()))?;
    describe(reader, &name, timeout).map_err(failed)
}

/// Asks a broker how short a session may be.
pub(super) async fn session_min(
    config: &ClientConfig,
    timeout: Duration,
) -> Result<Duration, BrokerError> {
    let failed = |error: KafkaError| BrokerError::Setup(error.to_string());
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(failed)?;
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(None, timeout)?;
        let id = metadata.brokers().first().map_or(-1, |broker| broker.id());
        Ok((admin, id))
    });
    let (admin, id) = asked
        .await
        .unwrap_or(Err(KafkaError::Canceled))
        .map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let resource = [ResourceSpecifier::Broker(id)];
    let described = admin.describe_configs(&resource, &options).await;
    let found = described
        .map_err(failed)?
        .pop()
        .and_then(Result::ok)
        .and_then(|broker| broker.get(SESSION_MIN)?.value.as_ref()?.parse().ok());
    let unknown = || BrokerError::Setup(format!("the broker does not say its {SESSION_MIN}"));
    found.map(Duration::from_millis).ok_or_else(unknown)
}

fn describe(reader: &Reader, name: &CStr, timeout: Duration) -> Result<TopicInfo, String> {
    let native = reader.client().native_ptr();
    let millis = timeout.as_millis() as i32;
    let mut names = [name.as_ptr()];
    // SAFETY: every object is made here, used while it lives, and destroyed once; the description is read
    // before the event that owns it goes; librdkafka accepts null options, and null where it made nothing.
    unsafe {
        let queue = sys::rd_kafka_queue_new(native);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        sys::rd_kafka_DescribeTopics(native, topics, ptr::null(), queue);
        let event = sys::rd_kafka_queue_poll(queue, millis);
        let read = if event.is_null() {
            Err("no answer in time".to_owned())
        } else {
            read_event(event)
        };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_queue_destroy(queue);
        read
    }
}

/// # Safety
/// `event` is a live event of a queue on which topics were described.
unsafe fn read_event(event: *mut sys::rd_kafka_event_t) -> Result<TopicInfo, String> {
    // SAFETY: all pointers come from librdkafka and live as long as the event; counts bound the arrays.
    unsafe {
        if sys::rd_kafka_event_error(event) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(text(sys::rd_kafka_event_error_string(event)));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err("an answer to something else".to_owned());
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 {
            return Err("an empty answer".to_owned());
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if sys::rd_kafka_error_code(error) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(sys::rd_kafka_error_string(error)));
        }
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let high = sys::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes();
        let low = sys::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        Ok(TopicInfo {
            id: TopicId(bytes),
            partitions: partitions as i32,
        })
    }
}

/// # Safety
/// `text` is null or a C string that lives during the call.
unsafe fn text(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: the caller says so.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
