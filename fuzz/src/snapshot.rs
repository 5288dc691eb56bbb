//! Snapshots of models: a safetensors object, whose checksum is mended so that more than the checksum is tried.
//!
//! What is read is written back as it was read, predicts for any row, and learns from any label. What is refused has
//! taken no more memory than its own size explains.

use learn::features::{ABSENT, Row};
use learn::learners::Label;
use learn::model::{ServedModel, Snapshot};
use safetensors::SafeTensors;
use xxhash_rust::xxh3::Xxh3;

/// Reads a snapshot, as the trainer does and as the scorer does.
pub fn run(data: &[u8]) {
    let bytes = mended(data);
    let served = ServedModel::from_snapshot(&bytes);
    let snapshot = Snapshot::from_bytes(&bytes);
    if let Ok(model) = &served {
        try_out(model);
    }
    let Ok(snapshot) = snapshot else {
        return;
    };
    let served = served.expect("what can learn can predict");
    let layout = snapshot.learner.layout();
    assert_eq!(served.layout(), layout);
    let again = Snapshot::from_bytes(&snapshot.to_bytes()).expect("what was written reads");
    assert_eq!(again.to_bytes(), snapshot.to_bytes());
    let mut learner = snapshot.learner;
    for (label, number) in [(0.0, 1.5), (1.0, f64::NAN), (1e300, -1e300)] {
        let (ids, numbers) = (vec![7; layout.slots], vec![number; layout.numbers]);
        let row = Row {
            ids: &ids,
            numbers: &numbers,
        };
        let foreseen = learner.foresee(row);
        let label = Label {
            foreseen,
            ..Label::new(label)
        };
        if learner.learn(row, label).is_err() {
            return; // numbers without bounds, which ends a trainer
        }
    }
}

/// Has a model score rows with odd numbers in them.
pub fn try_out(model: &ServedModel) {
    let layout = model.layout();
    for (id, number) in [(0, 0.5), (u32::MAX - 1, f64::NAN), (ABSENT, f64::INFINITY)] {
        let (ids, numbers) = (vec![id; layout.slots], vec![number; layout.numbers]);
        let row = Row {
            ids: &ids,
            numbers: &numbers,
        };
        let scored = model.score(row);
        let predicted = model.predict_row(row);
        assert_eq!(scored.probability.to_bits(), predicted.to_bits());
        let _ = model.contributions(row);
    }
}

/// Returns the object with the checksum that its tensors have.
pub fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mark = b"checksum=";
    let place = data.windows(mark.len()).position(|found| found == mark);
    let (Some(at), Ok(object)) = (place, SafeTensors::deserialize(data)) else {
        return bytes;
    };
    let mut tensors = object.tensors();
    tensors.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let mut hasher = Xxh3::new();
    for (name, view) in tensors {
        hasher.update(name.as_bytes());
        hasher.update(&(view.data().len() as u64).to_le_bytes());
        hasher.update(view.data());
    }
    let checksum = format!("{:032x}", hasher.digest128());
    let from = at + mark.len();
    if let Some(place) = bytes.get_mut(from..from + checksum.len()) {
        place.copy_from_slice(checksum.as_bytes());
    }
    bytes
}
