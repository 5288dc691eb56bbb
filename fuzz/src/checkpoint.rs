//! Checkpoints of the trainer: a snapshot with sections, its checksum mended.
//!
//! A checkpoint is refused, or the trainer goes on from it: what it stores next reads back.

use std::sync::LazyLock;

use learn::features::FeatureSpace;
use schemas::Contract;
use trainer::checkpoint::{decode, encode};

static CONTRACTS: LazyLock<[Contract; 2]> = LazyLock::new(|| {
    [include_str!("linear.toml"), include_str!("blend.toml")]
        .map(|text| Contract::parse("fuzz.toml", text).expect("it is a contract"))
});

/// Reads a checkpoint as one of each contract.
pub fn run(data: &[u8]) {
    let bytes = super::snapshot::mended(data);
    for contract in &*CONTRACTS {
        let label = contract.label.as_ref().expect("it has a label");
        let space = FeatureSpace::new(contract).expect("it has features");
        let layout = space.layout();
        let Ok((fitter, model)) = decode(contract, label, layout, &bytes) else {
            continue;
        };
        let stored = encode(&fitter, model).expect("nothing has failed yet");
        let (again, after) =
            decode(contract, label, layout, &stored).expect("what was stored reads");
        assert_eq!(after, model);
        assert!(encode(&again, after).is_ok_and(|bytes| bytes == stored));
        let _ = fitter.metrics().prequential();
        let mut fitter = again;
        let _ = fitter.advance();
    }
}
