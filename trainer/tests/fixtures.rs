//! Every checkpoint that a published version wrote is read, and learning goes on from it as if nothing had been.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use learn::features::{Layout, Row};
use schemas::model::Input;
use schemas::{Contract, Offset, Partition};
use trainer::checkpoint::{self, Decoded};
use trainer::fit::{Fitter, Position};
use trainer::input::{Body, Part};
use trainer::join::{EventId, KnownLabel};

const LAYOUT: Layout = Layout {
    slots: 2,
    numbers: 1,
    crosses: 0,
};

fn contract() -> Contract {
    Contract::parse("contract.toml", include_str!("../fixtures/contract.toml")).unwrap()
}

/// Twenty events of partition 1.
fn events() -> Part {
    let mut part = Part::events(LAYOUT);
    part.partition = Partition(1);
    (part.first, part.last, part.message) = (Offset(0), Offset(19), Offset(3));
    for at in 0..20_i64 {
        part.offsets.push(at);
        part.ids.push(EventId::of(format!("e{at}").as_bytes()));
        if let Body::Events(times, rows) = &mut part.body {
            times.push(at * 1_000_000);
            rows.push(Row {
                ids: &[3, 10 + (at % 5) as u32],
                numbers: &[at as f64],
            });
        }
    }
    part
}

/// Labels of every other event, of which the last ones are ahead of theirs.
fn labels() -> Part {
    let mut part = Part::labels();
    (part.first, part.last) = (Offset(0), Offset(14));
    for at in 0..15_i64 {
        part.offsets.push(at);
        part.ids
            .push(EventId::of(format!("e{}", at * 2).as_bytes()));
        if let Body::Labels(labels) = &mut part.body {
            labels.push(KnownLabel {
                outcome: f64::from(u8::from(at % 3 == 0)),
                time: at * 2_000_000 + 500_000,
            });
        }
    }
    part
}

/// What every fixture was made of: version 1 after those events and labels.
fn made() -> Fitter {
    let contract = contract();
    let label = contract.label.as_ref().unwrap();
    let mut fitter = Fitter::new(&contract, label, LAYOUT).unwrap();
    for part in [events(), labels()] {
        fitter.take(&part, part.last, u64::MAX).unwrap();
    }
    fitter.advance().unwrap();
    fitter
}

/// Goes on: labels of events that wait, events of labels that wait, and labels that came before.
fn go_on(fitter: &mut Fitter) -> schemas::model::Update {
    let mut later = labels();
    (later.first, later.last) = (Offset(15), Offset(34));
    (later.offsets, later.ids) = (15..35)
        .map(|at| (at, EventId::of(format!("e{}", at - 15).as_bytes())))
        .unzip();
    if let Body::Labels(labels) = &mut later.body {
        let label = |at: i64| KnownLabel {
            outcome: f64::from(u8::from(at % 2 == 0)),
            time: at * 1_000_000 + 700_000,
        };
        *labels = (0..20).map(label).collect();
    }
    let mut more = events();
    (more.first, more.last, more.message) = (Offset(20), Offset(39), Offset(4));
    more.offsets.iter_mut().for_each(|offset| *offset += 20);
    more.ids = (20..40)
        .map(|at| EventId::of(format!("e{at}").as_bytes()))
        .collect();
    for part in [later, more] {
        fitter.take(&part, part.last, u64::MAX).unwrap();
    }
    fitter.advance().unwrap()
}

#[test]
fn every_published_checkpoint_still_reads() {
    let contract = contract();
    let label = contract.label.as_ref().unwrap();
    let expected = go_on(&mut made());
    for (version, bytes) in [
        (
            1,
            &include_bytes!("../fixtures/checkpoint-1.safetensors")[..],
        ),
        (2, include_bytes!("../fixtures/checkpoint-2.safetensors")),
        (3, include_bytes!("../fixtures/checkpoint-3.safetensors")),
        (4, include_bytes!("../fixtures/checkpoint-4.safetensors")),
    ] {
        let decoded = checkpoint::decode(&contract, label, LAYOUT, bytes).unwrap();
        let Decoded {
            mut fitter,
            model,
            dead,
        } = decoded;
        assert_eq!(model, Offset(1), "{version}");
        let ends: Vec<_> = dead.into_iter().collect();
        match version {
            3.. => assert_eq!(ends, [(Partition(0), Offset(7))]),
            _ => assert_eq!(ends, []),
        }
        assert_eq!((fitter.waiting(), fitter.early()), (10, 5), "{version}");
        assert_eq!(fitter.labels(), 10, "{version}");
        let position = fitter.positions()[&(Input::Clean, Partition(1))];
        let (passed, message) = (Offset(19), Offset(4));
        assert_eq!(position, Position { passed, message }, "{version}");
        assert_eq!(fitter.lineage(), made().lineage(), "{version}");
        assert_eq!(go_on(&mut fitter).digest(), expected.digest(), "{version}");
    }
}

#[test]
fn a_checkpoint_of_today_is_the_newest_fixture() {
    let dead = [(Partition(0), Offset(7))].into_iter().collect();
    let bytes = checkpoint::encode(&made(), Offset(1), &dead).unwrap();
    let newest = include_bytes!("../fixtures/checkpoint-4.safetensors");
    assert!(
        bytes == newest,
        "what a checkpoint is has changed: give it a new version and a fixture of its own"
    );
}
