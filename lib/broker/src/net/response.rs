//! An answer on its way out: encoded bytes, and ranges of files that go to the socket without passing through here.

use std::io;
use std::os::unix::fs::FileExt;

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::TRANSFER_DEADLINE;
use crate::log::Slice;

/// Up to this size a range is copied into the answer: one system call less beats one copy less.
const COPIED_BYTES_MAX: u64 = 32 * 1024;

const LENGTH_BYTES: usize = 4;

/// A range of a file, and how much of the encoded bytes goes before it.
#[derive(Debug)]
struct Inset {
    after: usize,
    slice: Slice,
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    encoded: BytesMut,
    insets: Vec<Inset>,
}

impl Response {
    /// Begins an answer to the request with this id; `flexible` headers end with a set of tagged fields, always empty.
    pub fn new(correlation_id: i32, flexible: bool) -> Self {
        let mut encoded = BytesMut::with_capacity(256);
        encoded.put_i32(0); // the length, known at the end
        encoded.put_i32(correlation_id);
        if flexible {
            encoded.put_u8(0);
        }
        Self {
            encoded,
            insets: Vec::new(),
        }
    }

    /// Returns where encoded bytes go.
    pub fn encoded(&mut self) -> &mut BytesMut {
        &mut self.encoded
    }

    /// Puts a range of a file after what is encoded so far.
    ///
    /// # Errors
    /// If a small range cannot be read.
    pub fn put_slice(&mut self, slice: Slice) -> io::Result<()> {
        if COPIED_BYTES_MAX < slice.bytes {
            self.insets.push(Inset {
                after: self.encoded.len(),
                slice,
            });
            return Ok(());
        }
        let start = self.encoded.len();
        self.encoded.put_bytes(0, slice.bytes as usize);
        let read = slice
            .file
            .read_exact_at(&mut self.encoded[start..], slice.position);
        if read.is_err() {
            self.encoded.truncate(start);
        }
        read
    }

    /// Sends the answer.
    ///
    /// # Errors
    /// If the connection breaks, or the client takes nothing for too long.
    pub async fn send(mut self, stream: &mut TcpStream) -> io::Result<()> {
        let stored: u64 = self.insets.iter().map(|inset| inset.slice.bytes).sum();
        let bytes = (self.encoded.len() - LENGTH_BYTES) as u64 + stored;
        let bytes = i32::try_from(bytes)
            .map_err(|_| io::Error::other("an answer is larger than the protocol allows"))?;
        self.encoded[..LENGTH_BYTES].copy_from_slice(&bytes.to_be_bytes());
        let mut sent = 0;
        for inset in &self.insets {
            write(stream, &self.encoded[sent..inset.after]).await?;
            send_file(stream, &inset.slice).await?;
            sent = inset.after;
        }
        write(stream, &self.encoded[sent..]).await
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    timeout(TRANSFER_DEADLINE, stream.write_all(bytes)).await?
}

/// Has the system send a range of a file: its pages go out as they lie in the page cache.
#[cfg(target_os = "linux")]
async fn send_file(stream: &TcpStream, slice: &Slice) -> io::Result<()> {
    use tokio::io::Interest;

    let (mut position, end) = (slice.position, slice.position + slice.bytes);
    while position < end {
        let wanted = usize::try_from(end - position).unwrap_or(usize::MAX);
        let send = stream.async_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(
                stream,
                &slice.file,
                Some(&mut position),
                wanted,
            )?)
        });
        if timeout(TRANSFER_DEADLINE, send).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Sends a range of a file by way of a buffer.
#[cfg(not(target_os = "linux"))]
async fn send_file(stream: &mut TcpStream, slice: &Slice) -> io::Result<()> {
    let (mut position, end) = (slice.position, slice.position + slice.bytes);
    let mut buffer = vec![0; COPIED_BYTES_MAX as usize];
    while position < end {
        let wanted = COPIED_BYTES_MAX.min(end - position);
        let chunk = &mut buffer[..wanted as usize];
        slice.file.read_exact_at(chunk, position)?;
        write(stream, chunk).await?;
        position += wanted;
    }
    Ok(())
}
