//! Messages of the model topic: parts, each with its length before it.
//!
//! What is no message is refused; an update that is put together is the one that was cut up, and a model takes it in or
//! stays as it was.

use std::sync::LazyLock;

use learn::features::FeatureSpace;
use learn::model::ServedModel;
use schemas::Contract;
use schemas::model::{Assembler, ModelMessage, Update};

static CONTRACTS: LazyLock<[Contract; 2]> = LazyLock::new(|| {
    [include_str!("linear.toml"), include_str!("blend.toml")]
        .map(|text| Contract::parse("fuzz.toml", text).expect("it is a contract"))
});

/// Reads messages one after the other.
pub fn run(mut data: &[u8]) {
    let (whole, mut assembler) = (data, Assembler::default());
    while !data.is_empty() {
        if let Ok(ModelMessage::Chunk(chunk)) = ModelMessage::parse(super::part(&mut data))
            && let Ok(Some((update, digest))) = assembler.take(chunk)
        {
            assert_eq!(update.digest(), digest);
            check(&update);
        }
    }
    // A digest cannot be guessed, so the whole is tried as an update too.
    if let Some(update) = Update::from_bytes(whole) {
        assert_eq!(update.to_bytes(), whole);
        check(&update);
    }
}

/// Cuts an update up and puts it together, and gives it to a model of each shape.
fn check(update: &Update) {
    let mut assembler = Assembler::default();
    let mut again = None;
    for message in update.to_messages() {
        let Ok(ModelMessage::Chunk(chunk)) = ModelMessage::parse(&message) else {
            panic!("a chunk of an update is no message");
        };
        again = assembler.take(chunk).expect("chunks follow each other");
    }
    let (again, _) = again.expect("all chunks were there");
    assert_eq!(again.to_bytes(), update.to_bytes());
    for contract in &*CONTRACTS {
        let space = FeatureSpace::new(contract).expect("it has features");
        let mut model = ServedModel::new(contract, space.layout());
        let mut next = update.clone();
        next.version.0 = 1;
        (next.parent, next.contract) = (model.lineage().digest, model.lineage().contract);
        let before = model.clone();
        if model.apply(&next).is_err() {
            assert!(
                model == before,
                "an update that was refused changed the model"
            );
        }
        super::snapshot::try_out(&model);
    }
}
