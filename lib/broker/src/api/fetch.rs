//! Fetch: batches go out as they lie in the logs.
//!
//! The answer is encoded by hand, because its bulk is not bytes in memory but ranges of files (see
//! [`Response::put_slice`]). Fetch sessions are declined: every request says everything. A request that finds less
//! than it wants registers with its partitions and sleeps until an append wakes it or its time is up.

use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::list_offsets::check_epoch;
use super::{Refusal, Request};
use crate::log::Slice;
use crate::net::Response;
use crate::services::{Peer, Services};
use crate::topic::{Partition, Topic};

/// From this version on topics are named by id.
const IDS_SINCE: i16 = 13;

/// From this version on the encoding is flexible.
const FLEXIBLE_SINCE: i16 = 12;

/// The longest that a request waits, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// The most that an answer carries, whatever the request asks for; the protocol ends at 2 GiB.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A partition that is asked for.
struct Wanted {
    partition: Result<Arc<Partition>, ResponseError>,
    index: i32,
    offset: i64,
    bytes_max: u64,
}

/// What one partition has to give.
#[derive(Default)]
struct Found {
    error: i16,
    end_offset: i64,
    start_offset: i64,
    slice: Option<Slice>,
}

struct Plan {
    topics: Vec<(FetchTopic, Vec<Wanted>)>,
    bytes_max: u64,
    bytes_min: u64,
}

/// What all partitions have to give, in the order of the plan.
struct Gathered {
    found: Vec<Found>,
    bytes: u64,
    failed: bool,
}

impl Plan {
    fn new(
        services: &Services,
        request: &FetchRequest,
        topics: Vec<FetchTopic>,
        version: i16,
    ) -> Self {
        let by_id = IDS_SINCE <= version;
        let topics = topics.into_iter().map(|topic| {
            let (found, unknown) = match by_id {
                true => (
                    services.catalog.by_id(topic.topic_id),
                    ResponseError::UnknownTopicId,
                ),
                false => (
                    services.catalog.by_name(&topic.topic),
                    ResponseError::UnknownTopicOrPartition,
                ),
            };
            let found = found.ok_or(unknown);
            let wanted = topic
                .partitions
                .iter()
                .map(|partition| Wanted::new(&found, partition))
                .collect();
            (topic, wanted)
        });
        let bytes_max = positive(request.max_bytes).min(ANSWER_BYTES_MAX);
        let bytes_min = positive(request.min_bytes).min(bytes_max);
        Self {
            topics: topics.collect(),
            bytes_max,
            bytes_min,
        }
    }

    fn partitions(&self) -> impl Iterator<Item = &Wanted> {
        self.topics.iter().flat_map(|(_, wanted)| wanted)
    }

    fn gather(&self) -> Gathered {
        let mut gathered = Gathered {
            found: Vec::new(),
            bytes: 0,
            failed: false,
        };
        for wanted in self.partitions() {
            // The very first batch goes out even if it is larger than the answer may be.
            let left = if gathered.bytes == 0 {
                u64::MAX
            } else {
                self.bytes_max.saturating_sub(gathered.bytes)
            };
            let bytes_max = wanted.bytes_max.min(self.bytes_max);
            let found = wanted.read(bytes_max, left).unwrap_or_else(|error| Found {
                error: error.code(),
                end_offset: -1,
                start_offset: -1,
                slice: None,
            });
            gathered.bytes += found.slice.as_ref().map_or(0, |slice| slice.bytes);
            gathered.failed |= found.error != 0;
            gathered.found.push(found);
        }
        gathered
    }

    fn is_enough(&self, gathered: &Gathered) -> bool {
        gathered.failed || self.bytes_min <= gathered.bytes
    }
}

impl Wanted {
    fn new(topic: &Result<Arc<Topic>, ResponseError>, wanted: &FetchPartition) -> Self {
        let partition = topic.as_ref().map_err(|&error| error).and_then(|topic| {
            check_epoch(wanted.current_leader_epoch)?;
            let partition = topic
                .partition(wanted.partition)
                .ok_or(ResponseError::UnknownTopicOrPartition)?;
            Ok(Arc::clone(partition))
        });
        let bytes_max = positive(wanted.partition_max_bytes);
        Self {
            partition,
            index: wanted.partition,
            offset: wanted.fetch_offset,
            bytes_max,
        }
    }

    fn read(&self, bytes_max: u64, left: u64) -> Result<Found, ResponseError> {
        let partition = self.partition.as_ref().map_err(|&error| error)?;
        partition.read(|log| {
            let slice = log.read(self.offset, bytes_max, left)?;
            Ok(Found {
                error: 0,
                end_offset: log.end_offset(),
                start_offset: log.start_offset(),
                slice,
            })
        })
    }
}

fn positive(number: i32) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Registers a reader with every partition of a plan, for as long as it lives.
struct Registration<'a> {
    plan: &'a Plan,
    reader: Arc<Notify>,
}

impl<'a> Registration<'a> {
    fn new(plan: &'a Plan) -> Self {
        let reader = Arc::new(Notify::new());
        for partition in plan
            .partitions()
            .filter_map(|wanted| wanted.partition.as_ref().ok())
        {
            partition.register(&reader);
        }
        Self { plan, reader }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        for partition in self
            .plan
            .partitions()
            .filter_map(|wanted| wanted.partition.as_ref().ok())
        {
            partition.deregister(&self.reader);
        }
    }
}

/// Sends batches, at once if there are enough, or else when there are or the time is up.
pub async fn fetch(
    services: &Services,
    peer: &mut Peer,
    request: &mut Request,
) -> Result<Option<Response>, Refusal> {
    let mut wanted: FetchRequest = request.decode()?;
    if wanted.session_id != 0 {
        let error = ResponseError::FetchSessionIdNotFound.code();
        return Ok(Some(encode(request, error, Vec::new(), Vec::new())));
    }
    let topics = std::mem::take(&mut wanted.topics);
    let plan = Plan::new(services, &wanted, topics, request.version);
    let mut gathered = plan.gather();
    if !plan.is_enough(&gathered) && 0 < wanted.max_wait_ms {
        let wait = Duration::from_millis(positive(wanted.max_wait_ms)).min(WAIT_MAX);
        gathered = wait_for_more(&plan, peer, Instant::now() + wait).await;
    }
    Ok(Some(encode(request, 0, plan.topics, gathered.found)))
}

async fn wait_for_more(plan: &Plan, peer: &mut Peer, deadline: Instant) -> Gathered {
    let registration = Registration::new(plan);
    loop {
        // Read after registering, so that no append goes unnoticed.
        let gathered = plan.gather();
        if plan.is_enough(&gathered) {
            return gathered;
        }
        let woken = tokio::select! {
            woken = timeout_at(deadline, registration.reader.notified()) => woken.is_ok(),
            _ = peer.stopping.wait_for(|stopping| *stopping) => false,
        };
        if !woken {
            return plan.gather();
        }
    }
}

fn encode(
    request: &Request,
    error: i16,
    topics: Vec<(FetchTopic, Vec<Wanted>)>,
    found: Vec<Found>,
) -> Response {
    let version = request.version;
    let flexible = FLEXIBLE_SINCE <= version;
    let mut response = Response::new(request.correlation_id, flexible);
    let out = response.encoded();
    out.put_i32(0); // throttle time
    if 7 <= version {
        out.put_i16(error);
        out.put_i32(0); // no session
    }
    put_count(out, topics.len(), flexible);
    let mut found = found.into_iter();
    for (topic, wanted) in topics {
        let out = response.encoded();
        if IDS_SINCE <= version {
            out.put_slice(topic.topic_id.as_bytes());
        } else {
            match flexible {
                true => put_count(out, topic.topic.len(), true),
                false => out.put_u16(topic.topic.len() as u16),
            }
            out.put_slice(topic.topic.as_bytes());
        }
        put_count(out, wanted.len(), flexible);
        for (wanted, found) in wanted.iter().zip(&mut found) {
            put_partition(&mut response, version, wanted.index, found);
        }
        put_tags(response.encoded(), flexible);
    }
    put_tags(response.encoded(), flexible);
    response
}

fn put_partition(response: &mut Response, version: i16, index: i32, found: Found) {
    let flexible = FLEXIBLE_SINCE <= version;
    let out = response.encoded();
    out.put_i32(index);
    out.put_i16(found.error);
    out.put_i64(found.end_offset);
    out.put_i64(found.end_offset); // without transactions, everything is stable
    if 5 <= version {
        out.put_i64(found.start_offset);
    }
    match flexible {
        true => out.put_u8(0), // no aborted transactions
        false => out.put_i32(-1),
    }
    if 11 <= version {
        out.put_i32(-1); // no other replica is preferred
    }
    let start = out.len();
    let bytes = found.slice.as_ref().map_or(0, |slice| slice.bytes as usize);
    put_count(out, bytes, flexible);
    if let Some(Err(cause)) = found.slice.map(|slice| response.put_slice(slice)) {
        error!(%cause, "could not read what a consumer should get; it will ask again");
        response.encoded().truncate(start);
        put_count(response.encoded(), 0, flexible);
    }
    put_tags(response.encoded(), flexible);
}

/// Puts a length: one more than it is as a varint, or as it is in four bytes.
fn put_count(out: &mut impl BufMut, count: usize, flexible: bool) {
    if !flexible {
        out.put_i32(count as i32);
        return;
    }
    let mut rest = count as u32 + 1;
    while 0x7f < rest {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn put_tags(out: &mut impl BufMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}
