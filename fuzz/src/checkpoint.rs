//! Checkpoints of the trainer: a snapshot with sections, its checksum mended.
//!
//! A checkpoint is refused, or the trainer goes on from it: what it stores next reads back.

use std::sync::{Arc, LazyLock};

use arrow_array::StringArray;
use learn::features::{FeatureSpace, Layout, Row};
use schemas::{Contract, Offset, Partition};
use trainer::checkpoint::{Decoded, decode, encode};
use trainer::fit::{FitError, Fitter};
use trainer::input::{Body, Part};
use trainer::join::{EventId, KnownLabel};

static CONTRACTS: LazyLock<[Contract; 4]> = LazyLock::new(|| {
    [
        include_str!("linear.toml"),
        include_str!("blend.toml"),
        include_str!("slices.toml"),
        include_str!("../../trainer/fixtures/contract.toml"),
    ]
    .map(|text| Contract::parse("fuzz.toml", text).expect("it is a contract"))
});

/// Reads a checkpoint as one of each contract.
pub fn run(data: &[u8]) {
    let bytes = super::snapshot::mended(data);
    for contract in &*CONTRACTS {
        let label = contract.label.as_ref().expect("it has a label");
        let layout = FeatureSpace::new(contract)
            .expect("it has features")
            .layout();
        let read = |bytes: &[u8]| decode(contract, label, layout, bytes);
        let Ok(read_once) = read(&bytes) else {
            continue;
        };
        let stored = write(&read_once).expect("nothing has failed yet");
        let mut again = read(&stored).expect("what was stored reads");
        assert!(write(&again).is_ok_and(|bytes| bytes == stored));
        let _ = again.fitter.metrics().prequential();
        assert!(again.fitter.board().figures().all(|_| true));
        for turn in 0..2 {
            if learn(&mut again.fitter, layout, turn).is_err() {
                return; // numbers without bounds, which ends a trainer
            }
        }
        let Ok(stored) = write(&again) else {
            return; // likewise
        };
        let later = read(&stored).expect("what was learned reads");
        assert!(write(&later).is_ok_and(|bytes| bytes == stored));
    }
}

fn write(of: &Decoded) -> Result<Vec<u8>, FitError> {
    encode(&of.fitter, of.model, &of.dead)
}

/// Has a fitter take events, and then labels: of these and of others, by turns no and yes.
///
/// # Errors
/// [`FitError`], if a number grows without bounds or offsets have a gap.
pub fn learn(fitter: &mut Fitter, layout: Layout, turn: u8) -> Result<(), FitError> {
    let mut events = Part::events(layout);
    let mut labels = Part::labels();
    let first = i64::from(turn) * 4;
    for part in [&mut events, &mut labels] {
        part.partition = Partition(7);
        (part.first, part.last) = (Offset(first), Offset(first + 3));
        part.offsets = (first..first + 4).collect();
    }
    let id = |letter: u8| EventId::of(&[b'a' + turn + letter]);
    events.ids = [0, 1, 2, 3].map(id).to_vec();
    labels.ids = [1, 0, 5, 1].map(id).to_vec();
    events.slices = vec![Arc::new(StringArray::from(vec![
        Some("é"),
        None,
        Some("b"),
        Some("é"),
    ]))];
    if let Body::Events(times, rows) = &mut events.body {
        for at in 0..4 {
            times.push(first + i64::from(at));
            rows.push(Row {
                ids: &vec![at + 1; layout.slots],
                numbers: &vec![f64::from(at); layout.numbers],
            });
        }
    }
    if let Body::Labels(known) = &mut labels.body {
        *known = [1.0, 0.0, 1.0, 0.0]
            .map(|outcome| KnownLabel {
                outcome,
                time: 2_000_000 * i64::from(turn),
            })
            .to_vec();
    }
    for part in [&events, &labels] {
        fitter.take(part, part.last, u64::MAX)?;
    }
    fitter.advance().map(|_| ())
}
