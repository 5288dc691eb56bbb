//! Takes requests off a connection, one whole frame at a time.
//!
//! In flow bytes, out flow frames (what follows the length). A length that is out of bounds ends the connection before
//! anything is allocated for it; a frame that does not arrive in time ends it too. Large frames share a budget, so that
//! memory is bounded however many clients send them. The buffer is used again while frames follow each other, so that a
//! busy producer costs no allocations, and given back when the connection falls idle.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::REQUEST_BYTES_MAX;

/// How much is read at once while it is unknown how long the frame is.
const READ_BYTES: usize = 16 * 1024;

/// Frames larger than this count against the budget.
const SMALL_BYTES: usize = 64 * 1024;

/// The kind of request that may be larger than the others.
const PRODUCE: i16 = 0;

/// Why no more frames can be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection broke.
    #[error("could not read")]
    Read(#[from] io::Error),
    /// The client closed the connection in the midst of a request.
    #[error("the client hung up in the midst of a request")]
    Torn,
    /// The length is not that of a request.
    #[error("a request of {0} bytes is not acceptable")]
    Length(i32),
    /// The rest of a request does not come.
    #[error("the rest of a request did not come in time")]
    Late,
}

/// One request, and its share of the budget for as long as it is in work.
#[derive(Debug)]
pub struct Frame {
    /// What follows the length.
    pub bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads frames off one connection.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    produce_bytes_max: usize,
    budget: Arc<Semaphore>,
    deadline: Duration,
}

impl Frames {
    /// A reader that accepts produce requests of up to `produce_bytes_max`, and large frames as `budget` has bytes
    /// left; a frame that has begun must be whole within `deadline`.
    pub fn new(produce_bytes_max: usize, budget: Arc<Semaphore>, deadline: Duration) -> Self {
        Self {
            buffer: BytesMut::new(),
            produce_bytes_max,
            budget,
            deadline,
        }
    }

    /// Returns the next frame, or `None` when the client has closed the connection between two.
    ///
    /// # Errors
    /// If the client breaks off, is too slow or sends what cannot be a request.
    pub async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Frame>, FrameError> {
        if self.buffer.is_empty() && !self.begin(stream).await? {
            return Ok(None);
        }
        match timeout(self.deadline, self.rest(stream)).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Err(FrameError::Late),
        }
    }

    /// Waits for the first bytes of a frame, without a buffer if they are not there yet; says whether any came.
    async fn begin(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        let at_once = tokio::select! {
            biased;
            read = self.read(stream, READ_BYTES) => Some(read?),
            () = std::future::ready(()) => None,
        };
        let read = match at_once {
            Some(read) => read,
            None => {
                self.buffer = BytesMut::new();
                self.read(stream, READ_BYTES).await?
            }
        };
        Ok(0 < read)
    }

    async fn rest(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, FrameError> {
        self.fill(stream, 6, READ_BYTES).await?;
        let mut head = &self.buffer[..6];
        let (length, api_key) = (head.get_i32(), head.get_i16());
        let bytes_max = if api_key == PRODUCE {
            self.produce_bytes_max
        } else {
            REQUEST_BYTES_MAX
        };
        let bytes = usize::try_from(length)
            .ok()
            .filter(|bytes| (2..=bytes_max).contains(bytes));
        let bytes = bytes.ok_or(FrameError::Length(length))?;
        let share = match u32::try_from(bytes) {
            Ok(wanted) if SMALL_BYTES < bytes => Arc::clone(&self.budget)
                .acquire_many_owned(wanted)
                .await
                .ok(),
            _ => None,
        };
        self.buffer.advance(4);
        self.fill(stream, bytes, 0).await?;
        Ok(Frame {
            bytes: self.buffer.split_to(bytes).freeze(),
            _share: share,
        })
    }

    /// Reads until `wanted` bytes are there, and no more than `extra` beyond them.
    async fn fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        wanted: usize,
        extra: usize,
    ) -> Result<(), FrameError> {
        while self.buffer.len() < wanted {
            let missing = wanted - self.buffer.len();
            if self.read(stream, missing + extra).await? == 0 {
                return Err(FrameError::Torn);
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        bytes_max: usize,
    ) -> io::Result<usize> {
        self.buffer.reserve(bytes_max);
        let mut room = (&mut self.buffer).limit(bytes_max);
        stream.read_buf(&mut room).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    async fn frames(raw: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        let mut frames = Frames::new(100_000, Arc::new(Semaphore::new(100_000)), LONG);
        let (mut input, mut found) = (raw, Vec::new());
        while let Some(frame) = frames.next(&mut input).await? {
            found.push(frame.bytes);
        }
        Ok(found)
    }

    fn framed(bodies: &[&[u8]]) -> Vec<u8> {
        let mut raw = Vec::new();
        for body in bodies {
            raw.put_i32(body.len() as i32);
            raw.put_slice(body);
        }
        raw
    }

    #[tokio::test]
    async fn frames_come_apart_where_they_should() {
        let large = vec![0; 90_000];
        let bodies: [&[u8]; 4] = [b"\0\x01ab", &large, b"\0\x02", &large];
        assert_eq!(frames(&framed(&bodies)).await.unwrap(), bodies);
        assert!(frames(b"").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn impossible_lengths_and_torn_requests_are_refused() {
        for length in [-1, 0, 1, i32::MAX, i32::MIN, 100_001] {
            let raw = [&length.to_be_bytes()[..], &[0; 8]].concat();
            assert!(
                matches!(frames(&raw).await, Err(FrameError::Length(_))),
                "{length}"
            );
        }
        let fetch = [&2_000_000_i32.to_be_bytes()[..], &[0, 1, 0, 0]].concat();
        assert!(matches!(frames(&fetch).await, Err(FrameError::Length(_))));
        assert!(matches!(frames(b"\0\0").await, Err(FrameError::Torn)));
        assert!(matches!(
            frames(b"\0\0\0\x08\0\x01ab").await,
            Err(FrameError::Torn)
        ));
    }

    #[tokio::test]
    async fn large_frames_share_a_budget() {
        let budget = Arc::new(Semaphore::new(100_000));
        let raw = framed(&[&[0; 90_000]]);
        let mut first = Frames::new(100_000, Arc::clone(&budget), LONG);
        let held = first.next(&mut &raw[..]).await.unwrap().unwrap();
        let mut second = Frames::new(100_000, budget, Duration::from_millis(1));
        let refused = second.next(&mut &raw[..]).await;
        assert!(matches!(refused, Err(FrameError::Late)));
        drop(held);
        assert!(first.next(&mut &raw[..]).await.unwrap().is_some());
    }
}
