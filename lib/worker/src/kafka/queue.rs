//! The queue that a consumer's partitions flow into, emptied by the handful.
//!
//! `BaseConsumer::poll` makes an event of each record and asks for the time twice: three times what taking it
//! from a queue of ours costs. Rebalances and errors of the whole client still come by `poll`.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use schemas::{Offset, Partition};

use crate::batch::{BatchBuilder, TopicPartition};

/// Records taken from the client at once.
const HANDFUL: usize = 256;

/// A queue of one client.
pub(super) struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are locked inside and may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    /// Makes a queue; `None` if librdkafka has no memory for it.
    ///
    /// # Safety
    /// The queue is dropped before the client.
    pub(super) unsafe fn new<C: ClientContext>(client: &Client<C>) -> Option<Queue> {
        // SAFETY: the client lives.
        NonNull::new(unsafe { sys::rd_kafka_queue_new(client.native_ptr()) }).map(Queue)
    }

    /// Lets a partition flow into this queue, from its next assignment on; says whether it does.
    pub(super) fn take_in<C: ClientContext>(
        &self,
        client: &Client<C>,
        from: &TopicPartition,
    ) -> bool {
        let Ok(topic) = CString::new(from.topic.as_bytes()) else {
            return false;
        };
        // SAFETY: client and name live during the call; the partition's handle is destroyed once, and only the
        // handle: the partition itself keeps its reference to our queue.
        unsafe {
            let source = sys::rd_kafka_queue_get_partition(
                client.native_ptr(),
                topic.as_ptr(),
                from.partition.0,
            );
            if source.is_null() {
                return false;
            }
            sys::rd_kafka_queue_forward(source, self.0.as_ptr());
            sys::rd_kafka_queue_destroy(source);
        }
        true
    }

    /// Waits for a record, and takes what is there, at most a handful.
    pub(super) fn take(&self, wait: Duration) -> Handful {
        let mut handful = Handful {
            records: [ptr::null_mut(); HANDFUL],
            len: 0,
        };
        // librdkafka waits until as many are there as it was asked for: wait for one, then take what is there.
        if !wait.is_zero() {
            handful.fill(self, wait, 1);
        }
        if wait.is_zero() || 0 < handful.len {
            handful.fill(self, Duration::ZERO, HANDFUL);
        }
        handful
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by us, destroyed once, while its client lives.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// Records in the client's memory; dropping it gives that back.
pub(super) struct Handful {
    records: [*mut sys::rd_kafka_message_t; HANDFUL],
    len: usize,
}

impl Handful {
    fn fill(&mut self, queue: &Queue, wait: Duration, most: usize) {
        let room = &mut self.records[self.len..most];
        // SAFETY: the queue lives, and the room is as large as is said.
        let got = unsafe {
            sys::rd_kafka_consume_batch_queue(
                queue.0.as_ptr(),
                wait.as_millis() as i32,
                room.as_mut_ptr(),
                room.len(),
            )
        };
        self.len += usize::try_from(got).unwrap_or(0);
    }

    /// Says whether nothing came.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Goes through what came: records, and what disturbs a partition.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<Taken<'_>, KafkaError>> {
        self.records[..self.len].iter().map(|record| {
            // SAFETY: librdkafka filled these in, and they live until the handful is dropped.
            let native = unsafe { &**record };
            if native.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(Taken { native });
            }
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::from(
                native.err,
            )))
        })
    }
}

impl Drop for Handful {
    fn drop(&mut self) {
        for record in &self.records[..self.len] {
            // SAFETY: filled in by librdkafka, destroyed once.
            unsafe { sys::rd_kafka_message_destroy(*record) }
        }
    }
}

/// A record in the client's memory.
pub struct Taken<'a> {
    native: &'a sys::rd_kafka_message_t,
}

impl Taken<'_> {
    /// Returns its offset.
    pub fn offset(&self) -> Offset {
        Offset(self.native.offset)
    }

    /// Returns its partition's number.
    pub fn partition(&self) -> Partition {
        Partition(self.native.partition)
    }

    /// Returns its value.
    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: the record lives as long as the result; the value is null or as long as is said.
        unsafe { bytes(self.native.payload, self.native.len) }
    }

    /// Goes through its headers, as far as their names are text.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        let mut headers = ptr::null_mut();
        // SAFETY: the record lives; the pointer is to a local.
        let found = unsafe { sys::rd_kafka_message_headers(self.native, &raw mut headers) };
        let there = found == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        let headers: *const sys::rd_kafka_headers_t = headers;
        (0..)
            // SAFETY: the headers are those of this record, which lives as long as the result.
            .map_while(move |at| unsafe { there.then(|| header::<'_>(headers, at))? })
            .filter_map(|(name, value)| Some((name.to_str().ok()?, value.unwrap_or_default())))
    }

    /// Says whether the record is of a partition.
    pub(super) fn is_of(&self, partition: &TopicPartition) -> bool {
        partition.partition.0 == self.native.partition
            && partition.topic.as_bytes() == self.topic().to_bytes()
    }

    /// Returns the partition.
    pub(super) fn from(&self) -> TopicPartition {
        let topic = self.topic().to_string_lossy();
        (topic.as_ref(), Partition(self.native.partition)).into()
    }

    /// Says whether two records of one handful are of the same partition.
    pub(super) fn is_beside(&self, other: &Taken<'_>) -> bool {
        (self.native.rkt, self.native.partition) == (other.native.rkt, other.native.partition)
    }

    fn topic(&self) -> &CStr {
        // SAFETY: a record keeps its topic alive; the name ends with a zero byte.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.native.rkt)) }
    }

    /// Copies the record into a batch.
    pub(super) fn copy_to(&self, builder: &mut BatchBuilder) {
        let native = self.native;
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let mut headers = ptr::null_mut();
        // SAFETY: the record lives; pointers are to locals. Key and payload are null or as long as is said.
        unsafe {
            let timestamp = sys::rd_kafka_message_timestamp(native, &raw mut kind);
            let (key, value) = (
                bytes(native.key, native.key_len),
                bytes(native.payload, native.len),
            );
            builder.record(Offset(native.offset), timestamp, key, value);
            let found = sys::rd_kafka_message_headers(native, &raw mut headers);
            if found == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                copy_headers(headers, builder);
            }
        }
    }
}

/// # Safety
/// `headers` are those of a live record.
unsafe fn copy_headers(headers: *const sys::rd_kafka_headers_t, builder: &mut BatchBuilder) {
    for at in 0.. {
        // SAFETY: the caller says so, and what it gets goes before the record does.
        let Some((name, value)) = (unsafe { header(headers, at) }) else {
            return;
        };
        builder.header(name.to_bytes(), value);
    }
}

/// Returns one of a record's headers.
///
/// # Safety
/// `headers` are those of a record that lives as long as the result.
unsafe fn header<'a>(
    headers: *const sys::rd_kafka_headers_t,
    at: usize,
) -> Option<(&'a CStr, Option<&'a [u8]>)> {
    let (mut name, mut value, mut len): (*const c_char, *const c_void, usize) =
        (ptr::null(), ptr::null(), 0);
    // SAFETY: pointers are to locals, and what they are set to lives as long as the record.
    unsafe {
        let found =
            sys::rd_kafka_header_get_all(headers, at, &raw mut name, &raw mut value, &raw mut len);
        let there = found == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        there.then(|| (CStr::from_ptr(name), bytes(value, len)))
    }
}

/// # Safety
/// `from` is null, or `len` bytes that live as long as the result.
unsafe fn bytes<'a>(from: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller says so.
    (!from.is_null()).then(|| unsafe { slice::from_raw_parts(from.cast::<u8>(), len) })
}
