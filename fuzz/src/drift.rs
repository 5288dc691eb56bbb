//! The reference of drift, as it lies in the object store.
//!
//! It is refused, or events are watched by it: every index is a number, and what is stored next reads back.

use std::sync::OnceLock;

use learn::drift::DriftMonitor;
use learn::features::{ABSENT, FeatureSpace, Row, Rows};
use schemas::Contract;

/// Returns the features whose drift is watched: a number and a category.
fn space() -> &'static FeatureSpace {
    static SPACE: OnceLock<FeatureSpace> = OnceLock::new();
    SPACE.get_or_init(|| {
        let contract = Contract::parse("fuzz.toml", include_str!("linear.toml"));
        let contract = contract.expect("it is a contract");
        FeatureSpace::new(&contract).expect("it has features")
    })
}

/// Reads a reference, and watches events by it as the scorer does.
pub fn run(data: &[u8]) {
    let Ok(stored) = DriftMonitor::from_bytes(space(), data) else {
        return;
    };
    let Some(mut drift) = stored.reference() else {
        return;
    };
    let written = drift.to_bytes();
    let again = DriftMonitor::from_bytes(space(), &written).expect("what was written reads");
    assert_eq!(again.to_bytes(), written);
    drift.observe(&events(), &[0.5, f64::NAN, -1e300, 1.0]);
    for found in drift.current().iter().chain(drift.last()) {
        let psi = found.psi;
        assert!(psi.psi.is_finite() && psi.expected.is_finite() && psi.floor.is_finite());
        assert!(
            found
                .missing
                .iter()
                .all(|share| (0.0..=1.0).contains(share))
        );
    }
}

/// Makes events with odd numbers in them.
fn events() -> Rows {
    let layout = space().layout();
    let mut rows = Rows::new(layout);
    for (id, number) in [
        (0, 0.5),
        (7, f64::NAN),
        (u32::MAX, f64::INFINITY),
        (ABSENT, -1e300),
    ] {
        let (ids, numbers) = (vec![id; layout.slots], vec![number; layout.numbers]);
        rows.push(Row {
            ids: &ids,
            numbers: &numbers,
        });
    }
    rows
}
