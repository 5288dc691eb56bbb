//! The scorer's model follows the trainer's to the last bit, and refuses what does not belong to it.

use linfa::ParamGuard;

use schemas::contract::LabelType;

use super::*;
use crate::features::{Layout, Row, Rows};
use crate::learners::{Blend, Ftrl, Label, Linear, Model, NonFinite, Params, Weight};

const CONTRACT: &str = include_str!("../../../../schemas/fixtures/contract.toml");
const LAYOUT: Layout = Layout {
    slots: 4,
    numbers: 1,
    crosses: 0,
};

/// How far the sum of a score's parts may be from it: a blend's experts sum in f32.
const TOLERANCE: f64 = 1e-6;

/// The contract of a linear model, that of the default, and that of the default with classes.
fn contracts() -> [Contract; 3] {
    let learner = CONTRACT.find("[learner]").unwrap();
    let decision = CONTRACT.find("[decision]").unwrap();
    let default = format!("{}{}", &CONTRACT[..learner], &CONTRACT[decision..]);
    let classes = "type = \"class\"\nclasses = [\"on time\", \"late\", \"lost\"]";
    let classed = default.replace("type = \"bool\"\nevent", &format!("{classes}\nevent"));
    [CONTRACT, &default, &classed].map(|text| Contract::parse("contract.toml", text).unwrap())
}

fn learner(contract: &Contract) -> Learner {
    Learner::new(Params::of(&contract.learner).check().unwrap(), LAYOUT)
}

fn rows(seed: u64, count: u64) -> Rows {
    let mut rows = Rows::new(LAYOUT);
    for at in 0..count {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed);
        let id = |shift: u32| (hash >> shift) as u32 % 1000;
        let number = if hash.is_multiple_of(7) {
            f64::NAN
        } else {
            (hash % 1000) as f64
        };
        rows.push(Row {
            ids: &[1, id(10), id(20), id(30)],
            numbers: &[number],
        });
    }
    rows
}

fn train(learner: &mut Learner, rows: &Rows) {
    for (at, row) in rows.iter().enumerate() {
        learner.learn(row, Label::yes_or_no(at % 3 == 0)).unwrap();
    }
}

fn advance(lineage: &mut Lineage, learner: &mut Learner) -> Update {
    lineage.advance(learner, Vec::new(), Prequential::default())
}

#[test]
fn a_served_model_predicts_the_trainers_bits() {
    for contract in contracts() {
        let (mut learner, mut lineage) = (learner(&contract), Lineage::root(&contract));
        let mut served = ServedModel::new(&contract, LAYOUT);
        for seed in 0..5 {
            let rows = rows(seed, 200);
            train(&mut learner, &rows);
            let update = advance(&mut lineage, &mut learner);
            assert!(update.weights.is_sorted_by_key(|(id, _)| *id));
            assert_eq!(served.apply(&update), Ok(Applied::New));
            assert_eq!(served.apply(&update), Ok(Applied::Known));
            assert_eq!(served.lineage(), lineage);
            for row in rows.iter() {
                let expected = learner.predict_row(row).to_bits();
                assert_eq!(served.predict_row(row).to_bits(), expected);
                assert_eq!(served.score(row).probability.to_bits(), expected);
            }
        }
        assert!(
            advance(&mut lineage, &mut learner).weights.is_empty(),
            "nothing moved since"
        );
    }
}

#[test]
fn equal_histories_have_equal_digests_and_others_do_not() {
    for contract in contracts() {
        let digest = |seeds: &[u64]| {
            let (mut learner, mut lineage) = (learner(&contract), Lineage::root(&contract));
            for seed in seeds {
                train(&mut learner, &rows(*seed, 50));
                advance(&mut lineage, &mut learner);
            }
            lineage.digest
        };
        assert_eq!(digest(&[1, 2]), digest(&[1, 2]));
        assert_ne!(digest(&[1, 2]), digest(&[2, 1]));
    }
}

#[test]
fn what_does_not_continue_the_model_is_refused_and_changes_nothing() {
    for contract in contracts() {
        let (mut learner, mut lineage) = (learner(&contract), Lineage::root(&contract));
        train(&mut learner, &rows(1, 100));
        let first = advance(&mut lineage, &mut learner);
        train(&mut learner, &rows(2, 100));
        let second = advance(&mut lineage, &mut learner);
        let mut served = ServedModel::new(&contract, LAYOUT);
        let before = served.clone();
        let error = served.apply(&second).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&second.parent.to_string()), "{text}");
        assert!(
            text.contains(&before.lineage().digest.to_string()),
            "{text}"
        );
        let spoilt = |spoil: &dyn Fn(&mut Update)| {
            let mut update = first.clone();
            spoil(&mut update);
            update
        };
        let mut refuse = |update: Update| assert!(served.apply(&update).is_err());
        refuse(spoilt(&|update| update.contract = Digest([0; 32])));
        refuse(spoilt(&|update| update.weights.push((u32::MAX, 1.0))));
        refuse(spoilt(&|update| update.weights[0].1 = f32::NAN));
        refuse(spoilt(&|update| update.dense[0] = f64::INFINITY));
        refuse(spoilt(&|update| update.dense.push(0.0)));
        refuse(spoilt(&|update| update.dense.clear()));
        refuse(spoilt(&|update| update.version = ModelVersion(7)));
        assert!(served == before);
    }
}

#[test]
fn reasons_are_the_strongest_parts_of_the_log_odds() {
    for contract in contracts() {
        let (mut learner, mut lineage) = (learner(&contract), Lineage::root(&contract));
        let rows = rows(1, 300);
        train(&mut learner, &rows);
        let mut served = ServedModel::new(&contract, LAYOUT);
        served.apply(&advance(&mut lineage, &mut learner)).unwrap();
        let mut scored = Vec::new();
        served.score_all(&rows, &mut scored);
        for (row, scored) in rows.iter().zip(scored) {
            let (rest, mut parts) = served.contributions(row);
            let logit = rest + parts.iter().map(|part| part.contribution).sum::<f64>();
            if contract.label.as_ref().unwrap().kind == LabelType::Bool {
                assert!((scored.probability - crate::math::sigmoid(logit)).abs() < TOLERANCE);
            }
            let strength = |reason: &Reason| (reason.contribution as f32).abs();
            parts.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
            parts.truncate(3);
            let told: Vec<Reason> = scored.reasons.into_iter().flatten().collect();
            assert_eq!(told, parts);
        }
        let unknown = served.score(Row {
            ids: &[999_999; 4],
            numbers: &[f64::NAN],
        });
        if contract.learner.update != schemas::contract::Update::Blend {
            assert_eq!(unknown.reasons, [None; 3]);
        }
    }
}

#[test]
fn a_snapshot_serves_and_learns_on() {
    for contract in contracts() {
        let (mut learner, mut lineage) = (learner(&contract), Lineage::root(&contract));
        let mut served = ServedModel::new(&contract, LAYOUT);
        train(&mut learner, &rows(1, 100));
        served.apply(&advance(&mut lineage, &mut learner)).unwrap();
        let bytes = Snapshot {
            learner,
            lineage,
            sections: [("pending".to_owned(), vec![7])].into(),
        }
        .to_bytes();
        assert!(ServedModel::from_snapshot(&bytes).unwrap() == served);
        let Snapshot {
            mut learner,
            mut lineage,
            sections,
        } = Snapshot::from_bytes(&bytes).unwrap();
        assert_eq!(sections["pending"], [7]);
        train(&mut learner, &rows(2, 100));
        assert_eq!(
            served.apply(&advance(&mut lineage, &mut learner)),
            Ok(Applied::New)
        );
    }
}

#[test]
fn a_snapshot_keeps_what_moved_since_the_last_update() {
    for contract in contracts() {
        let (mut learner, mut lineage) = (learner(&contract), Lineage::root(&contract));
        train(&mut learner, &rows(1, 100));
        let bytes = Snapshot {
            learner: learner.clone(),
            lineage,
            sections: Default::default(),
        }
        .to_bytes();
        let mut again = Snapshot::from_bytes(&bytes).unwrap();
        let update = advance(&mut lineage, &mut learner);
        assert_eq!(advance(&mut again.lineage, &mut again.learner), update);
    }
}

#[test]
fn broken_and_foreign_snapshots_are_refused() {
    for contract in contracts() {
        let (mut learner, lineage) = (learner(&contract), Lineage::root(&contract));
        train(&mut learner, &rows(1, 100));
        let bytes = Snapshot {
            learner,
            lineage,
            sections: Default::default(),
        }
        .to_bytes();
        for cut in [0, 7, 100, bytes.len() - 1] {
            assert!(
                matches!(
                    Snapshot::from_bytes(&bytes[..cut]),
                    Err(SnapshotError::NotSafetensors(_))
                ),
                "{cut}"
            );
        }
        let mut flipped = bytes.clone();
        let at = bytes.len() - 10;
        flipped[at] ^= 1;
        assert_eq!(Snapshot::from_bytes(&flipped), Err(SnapshotError::Checksum));
        assert_eq!(
            ServedModel::from_snapshot(&flipped),
            Err(SnapshotError::Checksum)
        );
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![1], &[0]).unwrap();
        let foreign = safetensors::serialize([("weights", view)], None).unwrap();
        assert_eq!(Snapshot::from_bytes(&foreign), Err(SnapshotError::Foreign));
    }
}

/// Puts another text into the header of a snapshot, which its checksum does not cover.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = str::from_utf8(header).unwrap();
    assert!(header.contains(from), "{header}");
    let header = header.replacen(from, to, 1);
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), tensors].concat()
}

#[test]
fn snapshots_that_lie_about_themselves_are_refused_before_there_is_room_for_them() {
    let linear = include_bytes!("../../fixtures/snapshot-1.safetensors");
    let blend = include_bytes!("../../fixtures/snapshot-2.safetensors");
    let check = |bytes: &[u8], from: &str, to: &str, part: &str| {
        let refused = Err(SnapshotError::Broken {
            part: part.to_owned(),
        });
        let bytes = edited(bytes, from, to);
        assert_eq!(Snapshot::from_bytes(&bytes).map(|_| ()), refused, "{to}");
        let served = ServedModel::from_snapshot(&bytes);
        assert_eq!(served.map(|_| ()), refused, "{to}");
    };
    let many = "slots=16000000\\nnumbers=16000000";
    check(linear, "slots=4\\nnumbers=1", many, "scalers");
    check(blend, "slots=4\\nnumbers=1", many, "state");
    check(blend, "bits=4", "bits=24", "features");
    let most = usize::MAX.to_string();
    check(blend, "slots=4", &format!("slots={most}"), "slots");
    for wrong in ["softmax\\nloss_parameter=0", "huber\\nloss_parameter=-1"] {
        let loss = format!("loss={wrong}");
        check(blend, "loss=logistic", &loss, "loss_parameter");
    }
}

#[test]
fn weights_that_moved_are_weights() {
    for mut snapshot in [published(), published_blend()] {
        match &mut snapshot.learner.model {
            Model::Ftrl(linear) => linear.moved[0] = 1 << 16,
            Model::Blend(blend) => blend.tables.moved_features[0] = 1 << 17,
            _ => unreachable!("these two are published"),
        }
        let read = Snapshot::from_bytes(&snapshot.to_bytes());
        let part = "moved".to_owned();
        assert_eq!(read, Err(SnapshotError::Broken { part }));
    }
}

#[test]
fn weights_are_such_as_learning_leads_to() {
    let lies: [fn(&mut Linear<Ftrl>); 2] = [
        |linear| linear.table[3] = Weight::restore(0.5, &[0.0, -64.0]),
        |linear| linear.bias = Weight::restore(0.5, &[0.0, -1e-9]),
    ];
    type Lie = fn(&mut Blend);
    let blended_lies: [(Lie, &str); 6] = [
        (
            |blend| blend.tables.features[3].steady.mean = -1e38,
            "features",
        ),
        (
            |blend| blend.tables.features[3].factors[1] = 1e38,
            "features",
        ),
        (
            |blend| blend.tables.features[3].nimble.variance = -1.0,
            "features",
        ),
        (
            |blend| blend.tables.features[3].coin.reward = 1e38,
            "features",
        ),
        (|blend| blend.scalers[0].count = -2.0, "state"),
        (|blend| blend.spreads[1] = 0.0, "state"),
    ];
    let check = |snapshot: Snapshot, part: &str| {
        let part = part.to_owned();
        let read = Snapshot::from_bytes(&snapshot.to_bytes());
        assert_eq!(read, Err(SnapshotError::Broken { part }));
    };
    let mut endless = published();
    assert_eq!(endless.learner.check_finite(), Ok(()));
    match &mut endless.learner.model {
        Model::Ftrl(linear) => linear.table[3] = Weight::restore(0.5, &[0.0, f32::INFINITY]),
        _ => unreachable!("that is what is published"),
    }
    assert_eq!(endless.learner.check_finite(), Err(NonFinite));
    for lie in lies {
        let mut snapshot = published();
        match &mut snapshot.learner.model {
            Model::Ftrl(linear) => lie(linear),
            _ => unreachable!("that is what is published"),
        }
        check(snapshot, "weights");
    }
    for (lie, part) in blended_lies {
        let mut snapshot = published_blend();
        match &mut snapshot.learner.model {
            Model::Blend(blend) => lie(blend),
            _ => unreachable!("that is what is published"),
        }
        check(snapshot, part);
    }
}

/// The learner in the published snapshot: 16 weights, 50 examples.
fn published() -> Snapshot {
    let params = Params::new(schemas::contract::Update::Ftrl).bits(4);
    let mut learner = Learner::new(params.check().unwrap(), LAYOUT);
    for (at, row) in rows(1, 50).iter().enumerate() {
        let ids: Vec<u32> = row.ids.iter().map(|id| id % 16).collect();
        let row = Row {
            ids: &ids,
            numbers: row.numbers,
        };
        learner.learn(row, Label::yes_or_no(at % 3 == 0)).unwrap();
    }
    let lineage = Lineage {
        version: ModelVersion(5),
        digest: Digest([5; 32]),
        contract: Digest([6; 32]),
    };
    Snapshot {
        learner,
        lineage,
        sections: [("pending".to_owned(), vec![1, 2, 3])].into(),
    }
}

#[test]
fn every_published_snapshot_still_reads_and_learning_gives_its_bits() {
    let bytes = include_bytes!("../../fixtures/snapshot-1.safetensors");
    let read = Snapshot::from_bytes(bytes).unwrap();
    let mut published = published();
    // The first snapshots did not say how tables were used.
    if let Model::Ftrl(linear) = &mut published.learner.model {
        linear.usage = Default::default();
    }
    assert!(
        read == published,
        "the same examples no longer give the same bits"
    );
    let probability = read.learner.predict_row(Row {
        ids: &[1, 2, 3, 4],
        numbers: &[500.0],
    });
    assert_eq!(
        format!("{:016x}", probability.to_bits()),
        "3fdc4341bf3d4fdb"
    );
}

/// The blend in the published snapshot: 16 features, 2,500 examples, so that edges of bins are placed for good.
fn published_blend() -> Snapshot {
    let params = Params::new(schemas::contract::Update::Blend).bits(4);
    let mut learner = Learner::new(params.check().unwrap(), LAYOUT);
    train(&mut learner, &rows(1, 2500));
    let lineage = Lineage {
        version: ModelVersion(5),
        digest: Digest([5; 32]),
        contract: Digest([6; 32]),
    };
    Snapshot {
        learner,
        lineage,
        sections: [("pending".to_owned(), vec![1, 2, 3])].into(),
    }
}

#[test]
fn every_published_blend_still_reads_and_learning_gives_its_bits() {
    let bytes = include_bytes!("../../fixtures/snapshot-2.safetensors");
    let read = Snapshot::from_bytes(bytes).unwrap();
    assert!(
        read == published_blend(),
        "the same examples no longer give the same bits"
    );
    let probability = read.learner.predict_row(Row {
        ids: &[1, 2, 3, 4],
        numbers: &[500.0],
    });
    assert_eq!(
        format!("{:016x}", probability.to_bits()),
        "3fd6a6fe235475a0"
    );
}
