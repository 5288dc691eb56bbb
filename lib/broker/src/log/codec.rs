//! The codecs of record batches: compaction looks into batches and writes what is left of them.
//!
//! In flow the records of one batch as they were sent, out flow the same records plain, and back. Memory is bounded:
//! what would get larger than [`PLAIN_BYTES_MAX`] is left alone.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

/// How large the records of one batch may be when they are plain.
pub const PLAIN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What Java's clients put before chunks of Snappy, with two version numbers after it.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEAD_BYTES: usize = 16;

/// The level that Kafka compresses with unless told otherwise.
const ZSTD_LEVEL: i32 = 3;

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Plain,
    /// By gzip.
    Gzip,
    /// By Snappy, raw or in Java's chunks.
    Snappy,
    /// By LZ4, framed.
    Lz4,
    /// By Zstandard.
    Zstd,
}

impl Codec {
    /// Returns the codec of this number on the wire.
    pub fn of(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Returns records as they were before they were compressed.
    ///
    /// # Errors
    /// If they make no sense, or would be too large.
    pub fn open(self, records: &[u8]) -> io::Result<Cow<'_, [u8]>> {
        let plain = match self {
            Self::Plain => return Ok(Cow::Borrowed(records)),
            Self::Gzip => read_all(GzDecoder::new(records)),
            Self::Snappy => open_snappy(records),
            Self::Lz4 => read_all(FrameDecoder::new(records)),
            Self::Zstd => read_all(zstd::stream::read::Decoder::new(records)?),
        };
        plain.map(Cow::Owned)
    }

    /// Compresses records.
    ///
    /// # Errors
    /// If the codec refuses.
    pub fn close(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(plain.to_vec()),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(plain)?;
                encoder.finish()
            }
            Self::Snappy => snap::raw::Encoder::new()
                .compress_vec(plain)
                .map_err(io::Error::other),
            Self::Lz4 => {
                let mut encoder = FrameEncoder::new(Vec::new());
                encoder.write_all(plain)?;
                encoder.finish().map_err(io::Error::other)
            }
            Self::Zstd => zstd::stream::encode_all(plain, ZSTD_LEVEL),
        }
    }
}

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a batch is too large when plain",
    )
}

fn read_all(source: impl Read) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    source
        .take(PLAIN_BYTES_MAX as u64 + 1)
        .read_to_end(&mut plain)?;
    if PLAIN_BYTES_MAX < plain.len() {
        return Err(too_large());
    }
    Ok(plain)
}

fn open_snappy(records: &[u8]) -> io::Result<Vec<u8>> {
    if !records.starts_with(XERIAL_MAGIC) {
        return open_block(records, PLAIN_BYTES_MAX);
    }
    let mut rest = records.get(XERIAL_HEAD_BYTES..).unwrap_or_default();
    let mut plain = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let block = tail.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        plain.extend(open_block(block, PLAIN_BYTES_MAX - plain.len())?);
        rest = &tail[length..];
    }
    Ok(plain)
}

fn open_block(block: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let bytes = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if bytes_max < bytes {
        return Err(too_large());
    }
    snap::raw::Decoder::new()
        .decompress_vec(block)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_it_took() {
        let plain: Vec<u8> = (0..100_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        for number in 0..5 {
            let codec = Codec::of(number).unwrap();
            let closed = codec.close(&plain).unwrap();
            assert!(number == 0 || closed.len() < plain.len(), "{codec:?}");
            assert_eq!(codec.open(&closed).unwrap(), plain, "{codec:?}");
            let _ = codec.open(&closed[..closed.len() / 2]);
            assert!(number == 0 || codec.open(b"nonsense").is_err(), "{codec:?}");
        }
        assert_eq!(Codec::of(5), None);
    }

    #[test]
    fn javas_chunks_of_snappy_are_read() {
        let block = Codec::Snappy.close(b"abcabcabc").unwrap();
        let chunk = [&(block.len() as u32).to_be_bytes()[..], &block].concat();
        let head = [&XERIAL_MAGIC[..], &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        let chunked = [&head[..], &chunk, &chunk].concat();
        assert_eq!(
            Codec::Snappy.open(&chunked).unwrap(),
            &b"abcabcabcabcabcabc"[..]
        );
        assert!(Codec::Snappy.open(&chunked[..chunked.len() - 1]).is_err());
    }

    #[test]
    fn what_grows_too_large_is_refused() {
        let zeros = vec![0; PLAIN_BYTES_MAX + 1];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let closed = codec.close(&zeros).unwrap();
            assert!(codec.open(&closed).is_err(), "{codec:?}");
        }
    }
}
