//! Checkpoints: everything that learning has come to, as one safetensors object.
//!
//! Beside the learner's tensors lie sections, little-endian: `waiting` and `rows` (events without a label, the
//! oldest first), `foreseen` (what experts said of them), `marks` (which slices they are in), `early` (labels without an event), `settled` (the last events
//! that had their label, and what was learned), `again` and its like (what it takes to learn those anew, if the
//! contract wants that), `metrics`, `board` (figures by window and slice), `positions` (how far each partition was taken, and where the model topic went on),
//! `dead` (where the dead topic went on), `clocks` (how late it is for events without a label) and `cohorts` (how many
//! events of each hour have their label).

use learn::features::{Layout, Row};
use learn::learners::{LearnError, Opinions};
use learn::metrics::{Malformed, Mark, Metrics};
use learn::model::{Snapshot, SnapshotError};
use schemas::contract::Label;
use schemas::model::Input;
use schemas::{Contract, Digest, Offset, Partition, TopicId};

use crate::cohorts::Cohorts;
use crate::fit::{FitError, Fitter, Position, metrics_config};
use crate::join::{EventId, KnownLabel, Past};
use crate::letters::DeadEnds;

/// Version of the sections; since 4 there is `cohorts`.
const VERSION: u32 = 4;

/// Since this version there are `dead`, `clocks`, `again`, `marks`, `board`, and outcomes in `settled`.
const VERSION_OF_REVISIONS: u32 = 3;

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
/// [`FitError::Broken`]; [`FitError::Learn`] instead of a checkpoint that would not be read.
pub fn encode(fitter: &Fitter, model: Offset, dead: &DeadEnds) -> Result<Vec<u8>, FitError> {
    let learner = fitter.learner()?;
    learner.check_finite().map_err(LearnError::from)?;
    let ends = dead.iter().map(|(partition, end)| (*partition, end.0));
    let waiting = fitter.join.waiting();
    let waiting = Events::of(waiting.map(|(id, past, _)| (id, past)));
    let marks = fitter.join.waiting();
    let marks = marks.flat_map(|(_, _, mark)| mark.0.to_le_bytes());
    let mut early = Vec::new();
    for (id, label) in fitter.join.early() {
        early.extend_from_slice(&id.0.to_le_bytes());
        early.extend_from_slice(&label.time.to_le_bytes());
        early.extend_from_slice(&label.outcome.to_le_bytes());
    }
    let settled = fitter.join.settled();
    let settled = settled.flat_map(|(id, outcome, _)| {
        let outcome = outcome.to_le_bytes();
        id.0.to_le_bytes().into_iter().chain(outcome)
    });
    let again = fitter.join.settled();
    let again = Events::of(again.filter_map(|(id, _, past)| Some((id, past?))));
    let sections = [
        ("waiting", waiting.times),
        ("rows", waiting.rows),
        ("foreseen", waiting.foreseen),
        ("marks", marks.collect()),
        ("early", early),
        ("settled", settled.collect()),
        ("again", again.times),
        ("again_rows", again.rows),
        ("again_foreseen", again.foreseen),
        ("metrics", fitter.metrics.to_bytes()),
        ("board", fitter.board.to_bytes()),
        ("positions", positions(fitter, model)),
        ("dead", offsets(ends)),
        ("clocks", offsets(fitter.join.clocks())),
        ("cohorts", fitter.cohorts.to_bytes()),
    ];
    let snapshot = Snapshot {
        learner: learner.clone(),
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
    if version == VERSION {
        let cohorts = Cohorts::from_bytes(section("cohorts")?.rest);
        fitter.cohorts = cohorts.ok_or(CheckpointError::Section("cohorts"))?;
    }
    let foreseen = match version {
        VERSION_OF_YES_AND_NO => None,
        _ => Some(section("foreseen")?),
    };
    let mut waiting = EventsReader {
        times: section("waiting")?,
        rows: section("rows")?,
        foreseen,
    };
    let mut buffer = Buffer::new(layout);
    let mut marks = match version {
        VERSION_OF_REVISIONS.. => Some(section("marks")?),
        _ => None,
    };
    while let Some((id, past)) = waiting.next(&mut buffer)? {
        let mark = match &mut marks {
            Some(marks) => Mark(u32::from_le_bytes(marks.take()?)),
            None => Mark::default(),
        };
        fitter.join.restore_event(id, past, mark);
    }
    waiting.rows.finish()?;
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
    let mut again = match version {
        VERSION_OF_REVISIONS.. => Some(EventsReader {
            times: section("again")?,
            rows: section("again_rows")?,
            foreseen: Some(section("again_foreseen")?),
        }),
        _ => None,
    };
    while !settled.rest.is_empty() {
        let id = EventId(u128::from_le_bytes(settled.take()?));
        let outcome = match version {
            VERSION_OF_REVISIONS.. => f64::from_le_bytes(settled.take()?),
            _ => f64::NAN,
        };
        let past = match &mut again {
            Some(again) => again.next(&mut buffer)?.map(|(_, past)| past),
            None => None,
        };
        if fitter.join.learns_revised() && past.is_none() {
            return Err(CheckpointError::Section("again"));
        }
        fitter.join.restore_settled(id, outcome, past);
    }
    fitter.take_tally();
    fitter.resume(snapshot.learner, snapshot.lineage);
    let dead = match version {
        VERSION_OF_REVISIONS.. => read_offsets(section("dead")?)?
            .into_iter()
            .map(|(partition, offset)| (partition, Offset(offset)))
            .collect(),
        _ => DeadEnds::new(),
    };
    if VERSION_OF_REVISIONS <= version {
        fitter.board.read(section("board")?.rest)?;
        for (partition, time) in read_offsets(section("clocks")?)? {
            fitter.join.pass(partition, time);
        }
    }
    Ok(Decoded {
        fitter,
        model,
        dead,
    })
}

/// Events as they lie in three sections.
#[derive(Default)]
struct Events {
    /// Id and time of each.
    times: Vec<u8>,
    rows: Vec<u8>,
    foreseen: Vec<u8>,
}

impl Events {
    fn of<'a>(events: impl Iterator<Item = (EventId, Past<'a>)>) -> Events {
        let mut out = Events::default();
        for (id, past) in events {
            let row = past.row;
            out.times.extend_from_slice(&id.0.to_le_bytes());
            out.times.extend_from_slice(&past.time.to_le_bytes());
            out.rows
                .extend(row.ids.iter().flat_map(|id| id.to_le_bytes()));
            out.rows
                .extend(row.numbers.iter().flat_map(|number| number.to_le_bytes()));
            out.foreseen.push(u8::from(past.foreseen.is_some()));
            let opinions = past.foreseen.iter().flatten();
            out.foreseen
                .extend(opinions.flat_map(|opinion| opinion.to_le_bytes()));
        }
        out
    }
}

/// Room for one row.
struct Buffer {
    ids: Vec<u32>,
    numbers: Vec<f64>,
}

impl Buffer {
    fn new(layout: Layout) -> Buffer {
        Buffer {
            ids: vec![0; layout.slots],
            numbers: vec![0.0; layout.numbers],
        }
    }
}

/// Takes events off their sections.
struct EventsReader<'a> {
    times: Reader<'a>,
    rows: Reader<'a>,
    foreseen: Option<Reader<'a>>,
}

impl EventsReader<'_> {
    fn next<'b>(
        &mut self,
        buffer: &'b mut Buffer,
    ) -> Result<Option<(EventId, Past<'b>)>, CheckpointError> {
        if self.times.rest.is_empty() {
            return Ok(None);
        }
        let id = EventId(u128::from_le_bytes(self.times.take()?));
        let time = i64::from_le_bytes(self.times.take()?);
        for id in &mut buffer.ids {
            *id = u32::from_le_bytes(self.rows.take()?);
        }
        for number in &mut buffer.numbers {
            *number = f64::from_le_bytes(self.rows.take()?);
        }
        let row = Row {
            ids: &buffer.ids,
            numbers: &buffer.numbers,
        };
        let foreseen = self.foreseen.as_mut().map(read_opinions);
        let past = Past {
            time,
            row,
            foreseen: foreseen.transpose()?.flatten(),
        };
        Ok(Some((id, past)))
    }
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
    let source = fitter.source();
    out.push(u8::from(source.is_some()));
    out.extend_from_slice(&source.unwrap_or(TopicId([0; 16])).0);
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

/// Writes a number of each partition.
fn offsets(of: impl Iterator<Item = (Partition, i64)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (partition, number) in of {
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }
    out
}

fn read_offsets(mut reader: Reader<'_>) -> Result<Vec<(Partition, i64)>, CheckpointError> {
    let mut found = Vec::new();
    while !reader.rest.is_empty() {
        let partition = Partition(i32::from_le_bytes(reader.take()?));
        found.push((partition, i64::from_le_bytes(reader.take()?)));
    }
    Ok(found)
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
