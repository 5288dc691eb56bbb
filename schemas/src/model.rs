//! Model updates on `<s>.model`: what moved since the last version, chunked below the broker's message limit,
//! and announcements of full snapshots in the object store.
//!
//! An update carries the new values of what changed, not differences, so applying it twice does no harm. Its
//! digest covers its parent's digest: the digest of a version is that of the whole chain.

mod prequential;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use self::prequential::BODY_2;
pub use self::prequential::Prequential;
use crate::ids::{Digest, ModelVersion, Offset, Partition};

/// First bytes of an update chunk; the last is the version of the wire form: 2 for [`Prequential`] that 1 cannot say.
const MAGIC: [u8; 5] = *b"TWMU\x01";
const MAGIC_2: [u8; 5] = *b"TWMU\x02";

/// Most bytes of an update in one message.
pub const CHUNK_BYTES_MAX: usize = 512 << 10;

/// Most bytes of a whole update: 2^28 weights and some.
const UPDATE_BYTES_MAX: u64 = 4 << 30;

/// Bytes before the piece in a chunk: magic, version, digest, chunk, chunks.
const CHUNK_HEADER: usize = MAGIC.len() + 8 + 32 + 4 + 4;

/// Which input a segment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// `<s>.clean`; offsets are those of the raw topic.
    Clean,
    /// `<s>.labels`; offsets are that topic's own.
    Labels,
}

/// A run of consecutive offsets that the trainer took in one go: one line of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Which input.
    pub input: Input,
    /// Partition.
    pub partition: Partition,
    /// First offset.
    pub first: Offset,
    /// Last offset.
    pub last: Offset,
}

/// From one model version to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The version that it makes.
    pub version: ModelVersion,
    /// Digest of the version before.
    pub parent: Digest,
    /// Digest of the contract.
    pub contract: Digest,
    /// What the trainer took since the version before, in order.
    pub segments: Vec<Segment>,
    /// How well the model predicted so far.
    pub prequential: Prequential,
    /// Everything of the model that is not a hashed weight: bias, scalers. Meaning: `learn`.
    pub dense: Vec<f64>,
    /// New values of the weights that moved, by ascending index.
    pub weights: Vec<(u32, f32)>,
}

/// Says where a full snapshot of a model version is; JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAnnouncement {
    /// Always `snapshot`.
    pub kind: SnapshotKind,
    /// Version of the wire form.
    pub wire: u32,
    /// Version of the model.
    pub version: ModelVersion,
    /// Digest of the model.
    pub digest: Digest,
    /// Digest of the contract.
    pub contract: Digest,
    /// Name of the object in the store of checkpoints.
    pub object: String,
}

/// The word `snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// The word.
    Snapshot,
}

/// What one message on `<s>.model` says.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelMessage {
    /// A part of an update.
    Chunk(Chunk),
    /// A snapshot.
    Snapshot(SnapshotAnnouncement),
}

/// A part of an update.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Version that the whole update makes.
    pub version: ModelVersion,
    /// Digest of the whole update.
    pub digest: Digest,
    /// Which part, from 0.
    pub chunk: u32,
    /// How many parts.
    pub chunks: u32,
    /// The bytes of this part.
    pub piece: Vec<u8>,
}

/// A message on `<s>.model` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Neither a chunk nor an announcement of a version that is known.
    #[error(
        "neither an update of wire version 1 or 2 nor a snapshot announcement of wire version 1"
    )]
    Foreign,
    /// The bytes do not have the digest that they claim.
    #[error("update to version {0} does not have the digest that it claims")]
    Digest(ModelVersion),
    /// The body is cut short or inconsistent.
    #[error("update to version {0} is malformed")]
    Malformed(ModelVersion),
    /// A chunk does not follow the one before.
    #[error("chunk {chunk} of the update to version {version} does not follow the one before")]
    OutOfOrder {
        /// Version of the update.
        version: ModelVersion,
        /// The chunk that came.
        chunk: u32,
    },
}

impl Update {
    /// Returns the canonical bytes, which the digest covers.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            192 + self.segments.len() * 21 + self.dense.len() * 8 + self.weights.len() * 8,
        );
        if !self.prequential.is_first_wire() {
            out.extend_from_slice(&BODY_2);
        }
        out.extend_from_slice(&self.version.0.to_le_bytes());
        out.extend_from_slice(&self.parent.0);
        out.extend_from_slice(&self.contract.0);
        self.prequential.write(&mut out);
        for count in [self.segments.len(), self.dense.len(), self.weights.len()] {
            out.extend_from_slice(&(count as u64).to_le_bytes());
        }
        for segment in &self.segments {
            out.push(match segment.input {
                Input::Clean => 0,
                Input::Labels => 1,
            });
            out.extend_from_slice(&segment.partition.0.to_le_bytes());
            out.extend_from_slice(&segment.first.0.to_le_bytes());
            out.extend_from_slice(&segment.last.0.to_le_bytes());
        }
        for number in &self.dense {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (index, weight) in &self.weights {
            out.extend_from_slice(&index.to_le_bytes());
            out.extend_from_slice(&weight.to_le_bytes());
        }
        out
    }

    /// Reads canonical bytes; `None` if they are not an update.
    pub fn from_bytes(bytes: &[u8]) -> Option<Update> {
        let second = bytes.strip_prefix(&BODY_2);
        let mut reader = Reader(second.unwrap_or(bytes));
        let version = ModelVersion(reader.u64()?);
        let (parent, contract) = (Digest(reader.take()?), Digest(reader.take()?));
        let prequential = match second {
            Some(_) => Prequential::read(&mut reader)?,
            None => Prequential::read_first_wire(&mut reader)?,
        };
        let (segments, dense, weights) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let claimed = [(segments, 21), (dense, 8), (weights, 8)]
            .iter()
            .try_fold(0_u64, |sum, (count, size)| {
                sum.checked_add(count.checked_mul(*size)?)
            })?;
        if claimed != reader.0.len() as u64 {
            return None;
        }
        let segments = (0..segments)
            .map(|_| reader.segment())
            .collect::<Option<Vec<_>>>()?;
        let dense = (0..dense)
            .map(|_| reader.f64())
            .collect::<Option<Vec<_>>>()?;
        let weights = (0..weights)
            .map(|_| reader.weight())
            .collect::<Option<Vec<_>>>()?;
        Some(Update {
            version,
            parent,
            contract,
            segments,
            prequential,
            dense,
            weights,
        })
    }

    /// Returns the digest of the version that the update makes.
    pub fn digest(&self) -> Digest {
        digest_of(&self.to_bytes())
    }

    /// Cuts the update into message payloads of at most [`CHUNK_BYTES_MAX`] and a header.
    pub fn to_messages(&self) -> Vec<Vec<u8>> {
        let bytes = self.to_bytes();
        let digest = digest_of(&bytes);
        let magic = match self.prequential.is_first_wire() {
            true => MAGIC,
            false => MAGIC_2,
        };
        let pieces: Vec<&[u8]> = bytes.chunks(CHUNK_BYTES_MAX).collect();
        let message = |(at, piece): (usize, &&[u8])| {
            let mut out = Vec::with_capacity(CHUNK_HEADER + piece.len());
            out.extend_from_slice(&magic);
            out.extend_from_slice(&self.version.0.to_le_bytes());
            out.extend_from_slice(&digest.0);
            out.extend_from_slice(&(at as u32).to_le_bytes());
            out.extend_from_slice(&(pieces.len() as u32).to_le_bytes());
            out.extend_from_slice(piece);
            out
        };
        pieces.iter().enumerate().map(message).collect()
    }
}

impl SnapshotAnnouncement {
    /// Returns the message payload.
    pub fn to_message(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an announcement has only texts and numbers")
    }
}

impl ModelMessage {
    /// Reads one message payload.
    ///
    /// # Errors
    /// [`ModelError::Foreign`] for anything that is not of a wire version that is known.
    pub fn parse(payload: &[u8]) -> Result<ModelMessage, ModelError> {
        if payload.starts_with(b"{") {
            let announcement: SnapshotAnnouncement =
                serde_json::from_slice(payload).map_err(|_| ModelError::Foreign)?;
            let known = announcement.wire == 1;
            return known
                .then_some(ModelMessage::Snapshot(announcement))
                .ok_or(ModelError::Foreign);
        }
        Chunk::parse(payload)
            .map(ModelMessage::Chunk)
            .ok_or(ModelError::Foreign)
    }
}

impl Chunk {
    fn parse(payload: &[u8]) -> Option<Chunk> {
        let first = payload.strip_prefix(&MAGIC);
        let mut reader = Reader(first.or_else(|| payload.strip_prefix(&MAGIC_2))?);
        let version = ModelVersion(reader.u64()?);
        let digest = Digest(reader.take()?);
        let (chunk, chunks) = (
            u32::from_le_bytes(reader.take()?),
            u32::from_le_bytes(reader.take()?),
        );
        let bounded = u64::from(chunks) * CHUNK_BYTES_MAX as u64 <= UPDATE_BYTES_MAX;
        let fits = chunk < chunks && reader.0.len() <= CHUNK_BYTES_MAX && bounded;
        fits.then(|| Chunk {
            version,
            digest,
            chunk,
            chunks,
            piece: reader.0.to_vec(),
        })
    }
}

/// Puts updates together from chunks that come in order.
#[derive(Debug, Default)]
pub struct Assembler {
    open: Option<Chunk>,
}

impl Assembler {
    /// Takes the next chunk; returns the update and its digest when it was the last.
    ///
    /// A first chunk begins anew, whatever was open: its writer died before the last one.
    ///
    /// # Errors
    /// [`ModelError`] when the chunk does not follow, or the whole does not have its digest; the assembler
    /// is then empty.
    pub fn take(&mut self, chunk: Chunk) -> Result<Option<(Update, Digest)>, ModelError> {
        let whole = match self.open.take() {
            _ if chunk.chunk == 0 => chunk,
            Some(mut open)
                if open.chunk + 1 == chunk.chunk
                    && open.digest == chunk.digest
                    && open.chunks == chunk.chunks =>
            {
                open.chunk = chunk.chunk;
                open.piece.extend_from_slice(&chunk.piece);
                open
            }
            _ => {
                return Err(ModelError::OutOfOrder {
                    version: chunk.version,
                    chunk: chunk.chunk,
                });
            }
        };
        if whole.chunk + 1 < whole.chunks {
            self.open = Some(whole);
            return Ok(None);
        }
        if digest_of(&whole.piece) != whole.digest {
            return Err(ModelError::Digest(whole.version));
        }
        match Update::from_bytes(&whole.piece) {
            Some(update) if update.version == whole.version => Ok(Some((update, whole.digest))),
            _ => Err(ModelError::Malformed(whole.version)),
        }
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }

    fn weight(&mut self) -> Option<(u32, f32)> {
        Some((
            u32::from_le_bytes(self.take()?),
            f32::from_le_bytes(self.take()?),
        ))
    }

    fn segment(&mut self) -> Option<Segment> {
        let input = match self.take::<1>()? {
            [0] => Input::Clean,
            [1] => Input::Labels,
            _ => return None,
        };
        let partition = Partition(i32::from_le_bytes(self.take()?));
        let (first, last) = (
            i64::from_le_bytes(self.take()?),
            i64::from_le_bytes(self.take()?),
        );
        Some(Segment {
            input,
            partition,
            first: Offset(first),
            last: Offset(last),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES_OR_NO: Prequential = Prequential::YesOrNo {
        labels: 4,
        log_loss: 0.5,
        base_log_loss: 0.6,
        auc: 0.7,
    };
    const NUMBERS: Prequential = Prequential::Numbers {
        labels: 4,
        rmse: 0.5,
        base_rmse: 0.6,
        mae: 0.4,
        quantile_loss: 0.2,
    };
    const CLASSES: Prequential = Prequential::Classes {
        labels: 4,
        log_loss: 0.5,
        base_log_loss: 0.6,
        accuracy: 0.75,
    };

    fn update(weights: u32) -> Update {
        Update {
            version: ModelVersion(3),
            parent: Digest([1; 32]),
            contract: Digest([2; 32]),
            segments: vec![Segment {
                input: Input::Labels,
                partition: Partition(1),
                first: Offset(5),
                last: Offset(9),
            }],
            prequential: YES_OR_NO,
            dense: vec![-0.25, 1e300],
            weights: (0..weights).map(|at| (at * 2, at as f32 * -0.5)).collect(),
        }
    }

    fn assemble(messages: &[Vec<u8>]) -> Result<Option<(Update, Digest)>, ModelError> {
        let mut assembler = Assembler::default();
        let mut last = Ok(None);
        for message in messages {
            let ModelMessage::Chunk(chunk) = ModelMessage::parse(message)? else {
                panic!("a chunk")
            };
            last = assembler.take(chunk);
        }
        last
    }

    #[test]
    fn updates_survive_chunking() {
        for weights in [0, 1, 65_536, 200_000] {
            let update = update(weights);
            let messages = update.to_messages();
            assert!(
                messages
                    .iter()
                    .all(|message| message.len() <= CHUNK_BYTES_MAX + CHUNK_HEADER)
            );
            assert_eq!(
                assemble(&messages),
                Ok(Some((update.clone(), update.digest())))
            );
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        let messages = update(200_000).to_messages();
        assert!(messages.len() > 2);
        let version = ModelVersion(3);
        assert_eq!(
            assemble(&messages[1..]).unwrap_err(),
            ModelError::Malformed(version).out_of_order(messages.len())
        );
        let mut flipped = messages.clone();
        flipped[1][CHUNK_HEADER + 5] ^= 1;
        assert_eq!(assemble(&flipped), Err(ModelError::Digest(version)));
        assert_eq!(
            ModelMessage::parse(b"TWMU\x01short"),
            Err(ModelError::Foreign)
        );
        assert_eq!(
            ModelMessage::parse(b"{\"kind\":\"other\"}"),
            Err(ModelError::Foreign)
        );
    }

    impl ModelError {
        fn out_of_order(self, chunks: usize) -> ModelError {
            ModelError::OutOfOrder {
                version: ModelVersion(3),
                chunk: chunks as u32 - 1,
            }
        }
    }

    fn with(prequential: Prequential) -> Update {
        Update {
            prequential,
            ..update(3)
        }
    }

    #[test]
    fn every_published_update_still_reads() {
        for (bytes, expected) in [
            (&include_bytes!("../fixtures/update-1.bin")[..], YES_OR_NO),
            (include_bytes!("../fixtures/update-2-numbers.bin"), NUMBERS),
            (include_bytes!("../fixtures/update-2-classes.bin"), CLASSES),
        ] {
            let expected = with(expected);
            assert!(expected.to_messages() == [bytes], "the wire form changed");
            let found = assemble(&[bytes.to_vec()]).unwrap();
            assert_eq!(found, Some((expected.clone(), expected.digest())));
        }
    }

    #[test]
    fn an_update_cut_short_anywhere_is_none() {
        for prequential in [YES_OR_NO, NUMBERS, CLASSES] {
            let bytes = with(prequential).to_bytes();
            assert!(Update::from_bytes(&bytes).is_some());
            for end in 0..bytes.len() {
                assert_eq!(Update::from_bytes(&bytes[..end]), None, "{end}");
            }
        }
        let mut unknown = with(NUMBERS).to_bytes();
        unknown[BODY_2.len() + 8 + 64] = 3;
        assert_eq!(Update::from_bytes(&unknown), None);
    }
}
