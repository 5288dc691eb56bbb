//! Takes requests off a connection, one whole frame at a time.
//!
//! In flow bytes, out flow frames (what follows the length). A length that is out of bounds ends the connection before
//! anything is allocated for it; a frame that does not arrive in time ends it too. The buffer is used again and again,
//! so that a busy producer costs no allocations, and never grows beyond the largest frame allowed.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::config::{REQUEST_BYTES_MAX, TRANSFER_DEADLINE};

/// How much is read at once while it is unknown how long the frame is.
const READ_BYTES: usize = 16 * 1024;

/// A buffer that one large frame has made larger than this is given back.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

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

/// Reads frames off one connection.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    largest: usize,
    produce_bytes_max: usize,
}

impl Frames {
    /// A reader that accepts produce requests of up to `produce_bytes_max`.
    pub fn new(produce_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            largest: 0,
            produce_bytes_max,
        }
    }

    /// Returns the next frame, or `None` when the client has closed the connection between two.
    ///
    /// # Errors
    /// If the client breaks off, is too slow or sends what cannot be a request.
    pub async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Bytes>, FrameError> {
        self.shrink();
        if self.buffer.is_empty() && self.read(stream, READ_BYTES).await? == 0 {
            return Ok(None);
        }
        match timeout(TRANSFER_DEADLINE, self.rest(stream)).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Err(FrameError::Late),
        }
    }

    async fn rest(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, FrameError> {
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
        self.buffer.advance(4);
        self.largest = self.largest.max(bytes);
        self.fill(stream, bytes, 0).await?;
        Ok(self.buffer.split_to(bytes).freeze())
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

    fn shrink(&mut self) {
        if KEPT_BYTES < self.largest {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.largest = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(raw: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        let mut frames = Frames::new(100_000);
        let (mut input, mut found) = (raw, Vec::new());
        while let Some(frame) = frames.next(&mut input).await? {
            found.push(frame);
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
}
