//! Checkpoints: everything that learning has come to, as one safetensors object.
//!
//! Beside the learner's tensors lie sections, little-endian: `waiting` and `rows` (events without a label, the
//! oldest first), `foreseen` (what experts said of them), `early` (labels without an event), `settled` (the last events learned), `metrics`, and
//! `positions` (how far each partition was taken, and where the model topic went on), and `dead` (where the dead topic
//! went on).

use learn::features::{Layout, Row};
use learn::learners::Opinions;
use learn::metrics::{Malformed, Metrics};
use learn::model::{Snapshot, SnapshotError};
use schemas::contract::Label;
use schemas::model::Input;
use schemas::{Contract, Digest, Offset, Partition, TopicId};

use crate::fit::{FitError, Fitter, Position, metrics_config};
use crate::join::{EventId, KnownLabel};
use crate::letters::DeadEnds;

/// Version of the sections. Since 3 there is `dead`.
const VERSION: u32 = 3;

/// The version before labels could be numbers, and experts foresaw; still read.
const VERSION_OF_YES_AND_NO: u32 = 1;

/// What a checkpoint comes to.
pub struct Decoded {
    /// Everything that learning had come to.
    pub fitter: Fitter,
    /// Where the model topic goes on.
    pub model: Offset,
    /// Where the dead topic goes on; where nothing is said, at its beginning.
    pub dead: DeadEnds,
}

/// A checkpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// No snapshot, or not as it was written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Metrics are not as they were written.
    #[error(transparent)]
    Metrics(#[from] Malformed),
    /// It is of another contract.
    #[error("it is of contract {found}, and this worker has {expected}")]
    OtherContract {
        /// Digest in the checkpoint.
        found: Digest,
        /// Digest of the worker's contract.
        expected: Digest,
    },
    /// A section is missing or impossible.
    #[error("section `{0}` is missing or impossible")]
    Section(&'static str),
    /// Nothing can be learned with the contract.
    #[error("the contract's learner cannot be")]
    Learner,
}

/// Returns the bytes of a checkpoint; `model` is where the model topic goes on after the fitter's version, `dead` where
/// the dead topic does.
///
/// # Errors
/// [`FitError::Broken`].
pub fn encode(fitter: &Fitter, model: Offset, dead: &DeadEnds) -> Result<Vec<u8>, FitError> {
    let (mut waiting, mut rows, mut foreseen) = (Vec::new(), Vec::new(), Vec::new());
    for (id, time, row, opinions) in fitter.join.waiting() {
        waiting.extend_from_slice(&id.0.to_le_bytes());
        waiting.extend_from_slice(&time.to_le_bytes());
        rows.extend(row.ids.iter().flat_map(|id| id.to_le_bytes()));
        rows.extend(row.numbers.iter().flat_map(|number| number.to_le_bytes()));
        foreseen.push(u8::from(opinions.is_some()));
        foreseen.extend(
            opinions
                .iter()
                .flatten()
                .flat_map(|opinion| opinion.to_le_bytes()),
        );
    }
    let mut early = Vec::new();
    for (id, label) in fitter.join.early() {
        early.extend_from_slice(&id.0.to_le_bytes());
        early.extend_from_slice(&label.time.to_le_bytes());
        early.extend_from_slice(&label.outcome.to_le_bytes());
    }
    let settled = fitter
        .join
        .settled()
        .flat_map(|id| id.0.to_le_bytes())
        .collect();
    let sections = [
        ("waiting", waiting),
        ("rows", rows),
        ("foreseen", foreseen),
        ("early", early),
        ("settled", settled),
        ("metrics", fitter.metrics.to_bytes()),
        ("positions", positions(fitter, model)),
        ("dead", dead_ends(dead)),
    ];
    let snapshot = Snapshot {
        learner: fitter.learner()?.clone(),
        lineage: fitter.lineage(),
        sections: sections
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .into(),
    };
    Ok(snapshot.to_bytes())
}

/// Reads a checkpoint.
///
/// # Errors
/// [`CheckpointError`], the first thing that is wrong.
pub fn decode(
    contract: &Contract,
    label: &Label,
    layout: Layout,
    bytes: &[u8],
) -> Result<Decoded, CheckpointError> {
    let snapshot = Snapshot::from_bytes(bytes)?;
    let (found, expected) = (snapshot.lineage.contract, contract.digest());
    if found != expected {
        return Err(CheckpointError::OtherContract { found, expected });
    }
    if snapshot.learner.layout() != layout {
        return Err(CheckpointError::Section("rows"));
    }
    let section = |name: &'static str| {
        let bytes = snapshot.sections.get(name);
        let rest = bytes.map(Vec::as_slice);
        rest.map(|rest| Reader { rest, name })
            .ok_or(CheckpointError::Section(name))
    };
    let mut fitter = Fitter::new(contract, label, layout).map_err(|_| CheckpointError::Learner)?;
    fitter.metrics = Metrics::from_bytes(metrics_config(contract), section("metrics")?.rest)?;
    let (model, version) = read_positions(&mut fitter, section("positions")?)?;
    let foreseen = match version {
        VERSION_OF_YES_AND_NO => None,
        _ => Some(section("foreseen")?),
    };
    read_waiting(
        &mut fitter,
        layout,
        section("waiting")?,
        section("rows")?,
        foreseen,
    )?;
    let mut early = section("early")?;
    while !early.rest.is_empty() {
        let id = EventId(u128::from_le_bytes(early.take()?));
        let time = i64::from_le_bytes(early.take()?);
        let outcome = match version {
            VERSION_OF_YES_AND_NO => f64::from(early.take::<1>()?[0]),
            _ => f64::from_le_bytes(early.take()?),
        };
        let label = KnownLabel { outcome, time };
        fitter.join.restore_label(id, label);
    }
    let mut settled = section("settled")?;
    while !settled.rest.is_empty() {
        let id = EventId(u128::from_le_bytes(settled.take()?));
        fitter.join.restore_settled(id);
    }
    fitter.take_tally();
    fitter.resume(snapshot.learner, snapshot.lineage);
    let dead = match version {
        VERSION => read_dead_ends(section("dead")?)?,
        _ => DeadEnds::new(),
    };
    Ok(Decoded {
        fitter,
        model,
        dead,
    })
}

fn read_waiting(
    fitter: &mut Fitter,
    layout: Layout,
    mut waiting: Reader<'_>,
    mut rows: Reader<'_>,
    mut foreseen: Option<Reader<'_>>,
) -> Result<(), CheckpointError> {
    let (mut ids, mut numbers) = (vec![0; layout.slots], vec![0.0; layout.numbers]);
    while !waiting.rest.is_empty() {
        let id = EventId(u128::from_le_bytes(waiting.take()?));
        let time = i64::from_le_bytes(waiting.take()?);
        for id in &mut ids {
            *id = u32::from_le_bytes(rows.take()?);
        }
        for number in &mut numbers {
            *number = f64::from_le_bytes(rows.take()?);
        }
        let row = Row {
            ids: &ids,
            numbers: &numbers,
        };
        let opinions = foreseen.as_mut().map(read_opinions).transpose()?.flatten();
        fitter.join.restore_event(id, time, row, opinions);
    }
    rows.finish()
}

fn read_opinions(reader: &mut Reader<'_>) -> Result<Option<Opinions>, CheckpointError> {
    if reader.take()? == [0] {
        return Ok(None);
    }
    let mut opinions = Opinions::default();
    for opinion in &mut opinions {
        *opinion = f64::from_le_bytes(reader.take()?);
        if !opinion.is_finite() {
            return Err(reader.refuse());
        }
    }
    Ok(Some(opinions))
}

fn positions(fitter: &Fitter, model: Offset) -> Vec<u8> {
    let mut out = VERSION.to_le_bytes().to_vec();
    out.extend_from_slice(&model.0.to_le_bytes());
    out.push(u8::from(fitter.source.is_some()));
    out.extend_from_slice(&fitter.source.unwrap_or(TopicId([0; 16])).0);
    for ((input, partition), position) in fitter.positions() {
        out.push(u8::from(*input == Input::Labels));
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&position.passed.0.to_le_bytes());
        out.extend_from_slice(&position.message.0.to_le_bytes());
    }
    out
}

/// Returns where the model topic goes on, and the version of the sections.
fn read_positions(
    fitter: &mut Fitter,
    mut reader: Reader<'_>,
) -> Result<(Offset, u32), CheckpointError> {
    let version = u32::from_le_bytes(reader.take()?);
    if !(VERSION_OF_YES_AND_NO..=VERSION).contains(&version) {
        return Err(reader.refuse());
    }
    let model = Offset(i64::from_le_bytes(reader.take()?));
    let [known] = reader.take()?;
    let source = TopicId(reader.take()?);
    fitter.source = (known != 0).then_some(source);
    while !reader.rest.is_empty() {
        let input = match reader.take()? {
            [0] => Input::Clean,
            [1] => Input::Labels,
            _ => return Err(reader.refuse()),
        };
        let partition = Partition(i32::from_le_bytes(reader.take()?));
        let passed = Offset(i64::from_le_bytes(reader.take()?));
        let message = Offset(i64::from_le_bytes(reader.take()?));
        let position = Position { passed, message };
        fitter.positions.insert((input, partition), position);
    }
    Ok((model, version))
}

fn dead_ends(ends: &DeadEnds) -> Vec<u8> {
    let mut out = Vec::new();
    for (partition, offset) in ends {
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&offset.0.to_le_bytes());
    }
    out
}

fn read_dead_ends(mut reader: Reader<'_>) -> Result<DeadEnds, CheckpointError> {
    let mut ends = DeadEnds::new();
    while !reader.rest.is_empty() {
        let partition = Partition(i32::from_le_bytes(reader.take()?));
        ends.insert(partition, Offset(i64::from_le_bytes(reader.take()?)));
    }
    Ok(ends)
}

/// Takes numbers off a section.
struct Reader<'a> {
    rest: &'a [u8],
    name: &'static str,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.refuse())?;
        self.rest = rest;
        Ok(*head)
    }

    fn refuse(&self) -> CheckpointError {
        CheckpointError::Section(self.name)
    }

    fn finish(self) -> Result<(), CheckpointError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.refuse())
        }
    }
}
