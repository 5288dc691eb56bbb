//! Drift of made-up streams.

use schemas::Contract;

use super::*;
use crate::features::Row;

const WINDOW: u32 = 10_000;

fn space() -> FeatureSpace {
    let contract = include_str!("../../../../compose/streams/flights/stream.toml");
    FeatureSpace::new(&Contract::parse("stream.toml", contract).unwrap()).unwrap()
}

/// Random-looking numbers in [0, 1), by event and slot.
fn uniform(event: usize, slot: usize, seed: u64) -> f64 {
    let bytes = [event.to_le_bytes(), slot.to_le_bytes()].concat();
    (xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, seed) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Events from `start` on. Numbers have many ties and 5 % missing values; categories are Zipf-like; from
/// `change` on the first number is shifted and the first category is another.
fn events(space: &FeatureSpace, start: usize, count: usize, change: usize) -> (Rows, Vec<f64>) {
    let layout = space.layout();
    let mut rows = Rows::new(layout);
    let mut scores = Vec::new();
    for event in start..start + count {
        let changed = change <= event;
        let number = |slot: usize| match uniform(event, slot, 1) {
            draw if draw < 0.05 => f64::NAN,
            draw if draw < 0.5 => 0.0,
            draw => (draw * 40.0).floor() + if changed && slot == 0 { 4.0 } else { 0.0 },
        };
        let numbers: Vec<f64> = (0..layout.numbers).map(number).collect();
        let category = |slot: usize| match uniform(event, slot, 2) {
            _ if changed && slot == layout.numbers => 77,
            draw if draw < 0.02 => space.missing_id(slot),
            draw => (1.0 / (draw + 1e-4)) as u32,
        };
        let ids: Vec<u32> = (0..layout.slots).map(category).collect();
        rows.push(Row {
            ids: &ids,
            numbers: &numbers,
        });
        scores.push(uniform(event, 99, 3));
    }
    (rows, scores)
}

fn observe(
    monitor: &mut DriftMonitor,
    space: &FeatureSpace,
    start: usize,
    count: usize,
    change: usize,
) {
    let (rows, scores) = events(space, start, count, change);
    monitor.observe(&rows, &scores);
}

#[test]
fn without_a_change_all_stay_below_the_floor() {
    let space = space();
    let mut monitor = DriftMonitor::new(&space, WINDOW);
    observe(&mut monitor, &space, 0, 4 * WINDOW as usize, usize::MAX);
    assert_eq!(monitor.windows(), 3);
    for drift in monitor.last() {
        assert!(drift.psi.psi < drift.psi.floor, "{drift:?}");
        assert!(0.0 < drift.psi.expected && drift.psi.expected < drift.psi.floor);
        assert!(
            (drift.missing[0] - drift.missing[1]).abs() < 0.02,
            "{drift:?}"
        );
    }
}

#[test]
fn what_changes_is_found_and_nothing_else() {
    let space = space();
    let window = WINDOW as usize;
    let mut monitor = DriftMonitor::new(&space, WINDOW);
    observe(&mut monitor, &space, 0, 3 * window, 2 * window);
    let moved = |drift: &&Drift| drift.psi.floor < drift.psi.psi;
    let found: Vec<Subject> = monitor
        .last()
        .iter()
        .filter(moved)
        .map(|drift| drift.subject)
        .collect();
    assert_eq!(
        found,
        [Subject::Slot(0), Subject::Slot(space.layout().numbers)]
    );
}

#[test]
fn noise_is_about_what_is_expected() {
    let space = space();
    let mut monitor = DriftMonitor::new(&space, 1000);
    observe(&mut monitor, &space, 0, 1000, usize::MAX);
    let (mut sum, mut expected, mut windows) = (0.0, 0.0, 0.0);
    for at in 1..40 {
        observe(&mut monitor, &space, at * 1000, 1000, usize::MAX);
        sum += monitor
            .last()
            .iter()
            .map(|drift| drift.psi.psi)
            .sum::<f64>();
        expected += monitor
            .last()
            .iter()
            .map(|drift| drift.psi.expected)
            .sum::<f64>();
        windows += 1.0;
    }
    let ratio = sum / expected;
    assert!(
        (0.7..1.3).contains(&ratio),
        "{ratio} over {windows} windows"
    );
}

#[test]
fn batches_and_snapshots_change_no_bit() {
    let space = space();
    let mut straight = DriftMonitor::new(&space, 6000);
    let mut broken = DriftMonitor::new(&space, 6000);
    let mut start = 0;
    for size in [1, 4094, 1, 1, 700, 5000, 9000, 1] {
        observe(&mut straight, &space, start, size, usize::MAX);
        for part in [start..start + size / 2, start + size / 2..start + size] {
            observe(&mut broken, &space, part.start, part.len(), usize::MAX);
            broken = DriftMonitor::from_bytes(&space, &broken.to_bytes()).unwrap();
        }
        start += size;
        assert!(
            straight.to_bytes() == broken.to_bytes(),
            "differs after {start} events"
        );
    }
    assert_eq!(straight.last(), broken.last());
    let bytes = straight.to_bytes();
    for cut in [0, 5, 40, bytes.len() / 2, bytes.len() - 1] {
        assert!(DriftMonitor::from_bytes(&space, &bytes[..cut]).is_err());
    }
}

#[test]
fn nothing_seen_and_scores_left_out_are_no_trouble() {
    let space = space();
    let mut monitor = DriftMonitor::new(&space, 10);
    assert!(monitor.last().is_empty() && monitor.current().is_empty());
    let (rows, _) = events(&space, 0, 25, usize::MAX);
    monitor.observe(&rows, &[]);
    let score = monitor.last().last().copied().unwrap();
    assert_eq!((score.subject, score.psi.psi), (Subject::Score, 0.0));
}

#[test]
fn a_reference_goes_on_without_what_made_it() {
    let space = space();
    let mut monitor = DriftMonitor::new(&space, WINDOW);
    observe(&mut monitor, &space, 0, WINDOW as usize - 1, usize::MAX);
    assert!(monitor.reference().is_none());
    observe(&mut monitor, &space, WINDOW as usize - 1, 3_000, usize::MAX);
    let reference = monitor.reference().unwrap();
    let mut restored = DriftMonitor::from_bytes(&space, &reference.to_bytes()).unwrap();
    assert_eq!((restored.windows(), restored.last()), (0, [].as_slice()));
    // Both see the same whole window next: one that began anew, and one that had seen a part of another.
    let next = 2 * WINDOW as usize;
    let mut whole = monitor.clone();
    observe(
        &mut whole,
        &space,
        WINDOW as usize + 2_999,
        next - WINDOW as usize - 2_999,
        0,
    );
    for monitor in [&mut restored, &mut whole] {
        observe(monitor, &space, next, WINDOW as usize, 0);
    }
    assert_eq!(restored.last(), whole.last());
}
