//! Early, late, second, unknown and crowded out.

use super::*;

const LAYOUT: Layout = Layout {
    slots: 1,
    numbers: 0,
    crosses: 0,
};
const WAIT: i64 = 100;

struct Case {
    join: Join,
    pairs: Pairs,
}

impl Case {
    fn new(max: usize) -> Case {
        let limits = Limits {
            events_max: max,
            labels_max: max,
            wait_micros_max: WAIT,
            learns_revised: false,
            negative_after: None,
        };
        Case::of(limits)
    }

    fn of(limits: Limits) -> Case {
        Case {
            join: Join::new(limits, LAYOUT),
            pairs: Pairs::new(LAYOUT),
        }
    }

    /// A join that learns revised labels, and takes events for no.
    fn eager(max: usize) -> Case {
        Case::of(Limits {
            events_max: max,
            labels_max: max,
            wait_micros_max: WAIT,
            learns_revised: true,
            negative_after: Some(40),
        })
    }

    /// Takes a label as the fitter does; returns what it revises.
    fn known(&mut self, id: u32, outcome: f64, time: i64) -> Option<f64> {
        let label = KnownLabel { outcome, time };
        let before = self.pairs.len();
        let id = EventId(id.into());
        let revision = self.join.label(id, label, &mut self.pairs);
        if before < self.pairs.len() {
            self.join.pass(Partition((id.0 % 2) as i32), time);
        }
        while self.join.ripen(&mut self.pairs) {}
        revision.map(|revision| revision.before)
    }

    fn event(&mut self, id: u32, time: i64) -> &mut Case {
        let row = Row {
            ids: &[id],
            numbers: &[],
        };
        self.join
            .event(EventId(id.into()), time, row, Mark(id), &mut self.pairs);
        self
    }

    fn label(&mut self, id: u32, time: i64) -> &mut Case {
        let label = KnownLabel { outcome: 1.0, time };
        self.join.label(EventId(id.into()), label, &mut self.pairs);
        self
    }

    fn check(&mut self, learned: &[u32], tally: Tally) {
        assert_eq!(self.pairs.dataset.records.ids(), learned);
        assert_eq!(self.join.take_tally(), tally);
    }
}

#[test]
fn a_label_meets_its_event_whichever_comes_first() {
    let mut case = Case::new(10);
    case.event(1, 0).label(1, 5).label(2, 7).event(2, 1);
    assert_eq!(case.pairs.waited, [5, 6]);
    let expected = Tally {
        events: 2,
        joined: 1,
        early: 1,
        learned: 2,
        ..Tally::default()
    };
    case.check(&[1, 2], expected);
    assert_eq!(
        (case.join.events_waiting(), case.join.labels_waiting()),
        (0, 0)
    );
}

#[test]
fn an_event_is_learned_once() {
    let mut case = Case::new(10);
    case.event(1, 0).event(1, 0).label(1, 5).label(1, 6);
    case.label(2, 7).label(2, 8).event(2, 1).event(2, 1);
    let expected = Tally {
        events: 4,
        joined: 1,
        early: 1,
        duplicate: 2,
        learned: 2,
        ..Tally::default()
    };
    case.check(&[1, 2], expected);
}

#[test]
fn a_label_that_comes_too_late_is_not_learned() {
    let mut case = Case::new(10);
    case.event(1, 0)
        .label(1, WAIT)
        .event(2, 0)
        .label(2, WAIT + 1);
    case.label(3, WAIT + 1).event(3, 0).label(2, 5);
    let expected = Tally {
        events: 3,
        joined: 2,
        early: 1,
        duplicate: 1,
        late: 2,
        learned: 1,
        ..Tally::default()
    };
    case.check(&[1], expected);
}

#[test]
fn how_far_partitions_are_apart_does_not_matter() {
    let mut case = Case::new(10);
    case.event(1, 0).event(2, 1_000_000).label(1, 50);
    assert_eq!(case.pairs.len(), 1);
}

#[test]
fn it_is_crowded_while_a_label_may_be_in_time_for_who_leaves_next() {
    let mut case = Case::new(2);
    case.event(1, 10);
    assert!(!case.join.is_crowded(20), "there is room");
    case.event(2, 20);
    assert!(case.join.is_crowded(10 + WAIT));
    assert!(!case.join.is_crowded(11 + WAIT), "it would be too late");
    case.known(1, 1.0, 30);
    assert!(!case.join.is_crowded(30), "there is room again");
}

#[test]
fn what_waited_longest_leaves_for_want_of_room() {
    let mut case = Case::new(2);
    case.event(1, 0).event(2, 0).event(3, 0).label(1, 1);
    case.label(2, 1).label(8, 1).label(9, 1).event(1, 0);
    let expected = Tally {
        events: 4,
        joined: 1,
        early: 3,
        crowded_out: 1,
        unknown: 1,
        learned: 1,
        ..Tally::default()
    };
    case.check(&[2], expected);
    assert_eq!(
        (case.join.events_waiting(), case.join.labels_waiting()),
        (2, 2)
    );
}

#[test]
fn memory_does_not_grow() {
    let mut case = Case::new(64);
    for id in 0..10_000 {
        case.event(id, 0).label(id + 5_000, 0);
    }
    assert!(case.join.index.len() <= 3 * 64);
    assert!(case.join.rows.len() <= 64 && case.join.settled.len() <= 64);
}

#[test]
fn what_waits_is_restored_in_its_order() {
    let mut case = Case::new(3);
    case.event(1, 10).event(2, 20).event(3, 30).label(2, 21);
    case.label(7, 70).label(8, 80);
    let mut again = Case::new(3);
    for (id, past, mark) in case.join.waiting() {
        again.join.restore_event(id, past, mark);
    }
    for (id, label) in case.join.early() {
        again.join.restore_label(id, label);
    }
    for (id, outcome, past) in case.join.settled() {
        again.join.restore_settled(id, outcome, past);
    }
    for case in [&mut case, &mut again] {
        case.pairs.clear();
        case.join.take_tally();
        case.label(2, 5).event(8, 79).event(4, 40).event(5, 50);
        case.label(1, 11).label(3, 31);
    }
    assert_eq!(case.pairs.dataset.records, again.pairs.dataset.records);
    assert_eq!(case.pairs.marks, again.pairs.marks);
    assert_eq!(case.join.take_tally(), again.join.take_tally());
}

#[test]
fn the_same_label_is_a_duplicate_and_another_a_revision() {
    let mut case = Case::new(10);
    case.event(1, 0).event(2, 0);
    let found = [(1, 1.0), (1, 1.0), (1, 0.0), (1, 1.0), (2, 0.0), (2, 1.0)]
        .map(|(id, outcome)| case.known(id, outcome, 5));
    assert_eq!(found, [None; 6], "the contract does not say to learn them");
    let expected = Tally {
        events: 2,
        joined: 2,
        duplicate: 2,
        revised: 2,
        learned: 2,
        ..Tally::default()
    };
    case.check(&[1, 2], expected);
}

#[test]
fn revised_labels_are_learned_again_in_time() {
    let mut case = Case::eager(10);
    case.event(1, 0);
    let found = [(1.0, 5), (1.0, 6), (0.0, 7), (0.0, 8), (1.0, WAIT + 1)]
        .map(|(outcome, time)| case.known(1, outcome, time));
    assert_eq!(found, [None, None, Some(1.0), None, None]);
    let tally = case.join.take_tally();
    assert_eq!((tally.duplicate, tally.revised, tally.late), (2, 1, 1));
    assert_eq!(tally.learned, 2);
    // Before its event has come, the newest counts.
    assert_eq!(case.known(2, 1.0, 5), None);
    assert_eq!(case.known(2, 0.0, 6), None);
    case.event(2, 0);
    let last = case.pairs.dataset.targets.last().map(|label| label.value);
    assert_eq!((last, case.pairs.known.last()), (Some(0.0), Some(&6)));
}

#[test]
fn events_without_a_label_are_taken_for_no_when_the_labels_are_past_them() {
    let mut case = Case::eager(10);
    for (id, time) in [(1, 0), (2, 10), (3, 5), (4, 30), (5, 31)] {
        case.event(id, time);
    }
    // A label that is ahead of its event moves no clock.
    case.known(9, 1.0, 1_000_000);
    assert_eq!(case.pairs.len(), 0);
    case.known(4, 1.0, 44);
    assert_eq!(case.pairs.dataset.records.ids(), [4, 1]);
    // The other partition's clock is behind.
    case.known(5, 1.0, 41);
    case.event(6, 41).known(6, 1.0, 90);
    assert_eq!(case.pairs.dataset.records.ids(), [4, 1, 5, 6]);
    case.event(7, 41).known(7, 1.0, 50);
    assert_eq!(case.pairs.dataset.records.ids(), [4, 1, 5, 6, 7, 3, 2]);
    let values: Vec<f64> = case.pairs.dataset.targets.iter().map(|l| l.value).collect();
    assert_eq!(values, [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(case.pairs.known[1], 40);
    assert_eq!(case.pairs.waited.len(), 4, "only labels were waited for");
    // The label that comes after all says something else.
    assert_eq!(case.known(2, 1.0, 60), Some(0.0));
    assert_eq!(case.join.take_tally().negative, 3);
}

#[test]
fn what_is_ripe_is_found_in_bounded_memory() {
    let mut case = Case::eager(64);
    for id in 0..20_000_u32 {
        case.event(id, i64::from(id)).known(id, 1.0, i64::from(id));
    }
    let ripening = case.join.ripening.as_ref().map_or(0, Ripening::len);
    assert!(ripening < 2048, "{ripening}");
}
