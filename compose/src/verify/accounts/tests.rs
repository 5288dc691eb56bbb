//! Each promise broken once, and what looks like it and is harmless.

use super::*;

/// What is told of a partition of ten raw offsets, 10 to 19.
struct Story {
    begin: Begin,
    raw: Vec<i64>,
    letters: Vec<i64>,
    /// First and last offset, and rows; rows whose offset is above 1000 are `offset - 1000` with another id.
    batches: Vec<(i64, i64, Vec<i64>)>,
    scores: Vec<i64>,
    rows: Vec<i64>,
    claim: Option<i64>,
}

/// A story in which every promise holds: 13 is dead, and 16 is a hole.
fn story() -> Story {
    let good = vec![10, 11, 12, 14, 15, 17, 18, 19];
    Story {
        begin: Begin {
            partition: 3,
            raw: 10..20,
            compacted: false,
            clean_cut: false,
            dead_cut: false,
            scores_cut: false,
            complete: true,
        },
        raw: (10..20).filter(|offset| *offset != 16).collect(),
        letters: vec![13],
        batches: vec![
            (10, 13, vec![10, 11, 12]),
            (14, 16, vec![14, 15]),
            (17, 19, vec![17, 18, 19]),
        ],
        scores: good.clone(),
        rows: good,
        claim: Some(19),
    }
}

/// Tells an offset from its id.
fn told(offset: i64) -> (i64, u16) {
    match offset {
        1000.. => (offset - 1000, 7),
        _ => (offset, offset as u16 + 100),
    }
}

fn audit(story: &Story) -> Ledger {
    let mut account = Account::open(story.begin.clone());
    story.raw.iter().for_each(|offset| account.raw(*offset));
    story
        .letters
        .iter()
        .for_each(|offset| account.letter(*offset));
    for (first, last, rows) in &story.batches {
        let (offsets, tags): (Vec<i64>, Vec<u16>) = rows.iter().map(|row| told(*row)).unzip();
        let rows = Rows {
            offsets: &offsets,
            tags: &tags,
        };
        account.batch(*first, *last, Some(rows));
    }
    account.settle();
    for score in &story.scores {
        let (offset, tag) = told(*score);
        account.score(offset, tag);
    }
    account.settle_scores();
    account.claims(story.claim);
    story.rows.iter().for_each(|offset| account.row(*offset));
    account.settle_lake();
    account.close()
}

/// Changes the good story, and expects these promises to be broken, first at these offsets.
fn check(change: impl FnOnce(&mut Story), expected: &[(Promise, i64)]) -> Ledger {
    let mut story = story();
    change(&mut story);
    let ledger = audit(&story);
    let firsts: Vec<(Promise, i64)> = Promise::ALL
        .iter()
        .flat_map(|promise| ledger.firsts(*promise))
        .map(|finding| (finding.promise, finding.offset.unwrap()))
        .collect();
    assert_eq!(firsts, expected, "{ledger:?}");
    ledger
}

#[test]
fn a_good_story_holds() {
    let ledger = check(|_| {}, &[]);
    assert!(ledger.holds());
    assert_eq!(ledger.tally(Promise::Conservation).looked_at, 9);
    assert_eq!(ledger.tally(Promise::Coverage).looked_at, 3);
    assert_eq!(ledger.tally(Promise::Lake).looked_at, 8);
}

#[test]
fn each_raw_record_is_clean_or_dead() {
    let promise = Promise::Conservation;
    check(|story| story.letters.clear(), &[(promise, 13)]);
    check(|story| story.letters.push(15), &[(promise, 15)]);
    check(|story| story.letters.push(16), &[(promise, 16)]);
    check(|story| story.letters.push(77), &[(promise, 77)]);
    let ledger = check(
        |story| story.letters = vec![13, 18, 11, 12],
        &[(promise, 11)],
    );
    assert_eq!(ledger.broken(promise), 3);
}

#[test]
fn what_batches_claim_is_contiguous() {
    check(|story| story.batches[1].1 = 15, &[(Promise::Coverage, 16)]);
    check(|story| story.batches[2].1 = 25, &[(Promise::Coverage, 20)]);
    check(
        |story| story.batches[0].2 = vec![10, 12, 11],
        &[
            (Promise::Conservation, 10),
            (Promise::Coverage, 11),
            (Promise::Lake, 10),
            (Promise::Scores, 10),
        ],
    );
}

#[test]
fn empty_batches_cover_holes_and_letters() {
    let ledger = check(
        |story| {
            story.batches[0] = (10, 12, vec![10, 11, 12]);
            story.batches.insert(1, (13, 13, Vec::new()));
        },
        &[],
    );
    assert_eq!(ledger.tally(Promise::Coverage).looked_at, 4);
}

#[test]
fn repeats_that_say_the_same_do_no_harm() {
    let ledger = check(
        |story| {
            story.batches.insert(2, (12, 15, vec![12, 14, 15]));
            story.batches.push((15, 19, vec![15, 17, 18, 19]));
            story.letters.push(13);
            story.scores.extend([12, 14]);
        },
        &[],
    );
    assert_eq!(ledger.tally(Promise::Conservation).repeated, 3 + 4 + 1);
    assert_eq!(ledger.tally(Promise::Coverage).repeated, 2);
    assert_eq!(ledger.tally(Promise::Scores).repeated, 2);
}

#[test]
fn repeats_that_say_something_else_are_named() {
    let again =
        |rows: &'static [i64]| move |story: &mut Story| story.batches.push((12, 15, rows.to_vec()));
    check(again(&[12, 13, 14, 15]), &[(Promise::Conservation, 13)]);
    check(again(&[12, 15]), &[(Promise::Conservation, 14)]);
    check(again(&[12, 1014, 15]), &[(Promise::Conservation, 14)]);
}

#[test]
fn scores_are_those_of_the_clean_events() {
    let promise = Promise::Scores;
    check(
        |story| story.scores.retain(|at| *at != 14),
        &[(promise, 14)],
    );
    check(|story| story.scores.push(13), &[(promise, 13)]);
    check(|story| story.scores.push(99), &[(promise, 99)]);
    check(|story| story.scores.push(1015), &[(promise, 15)]);
}

#[test]
fn the_lake_has_the_clean_rows_once() {
    let promise = Promise::Lake;
    check(|story| story.rows.retain(|at| *at != 12), &[(promise, 12)]);
    check(|story| story.rows.push(17), &[(promise, 17)]);
    check(|story| story.rows.push(13), &[(promise, 13)]);
    check(|story| story.rows.push(99), &[(promise, 99)]);
}

#[test]
fn commits_claim_what_is_there() {
    check(|story| story.claim = Some(18), &[(Promise::Commits, 19)]);
    check(|story| story.claim = Some(25), &[(Promise::Commits, 20)]);
}

#[test]
fn what_is_still_to_come_is_pending_unless_all_should_be_there() {
    let young = |complete: bool| {
        move |story: &mut Story| {
            story.begin.complete = complete;
            story.batches.pop();
            story.scores.truncate(3);
            story.rows.truncate(4);
            story.claim = Some(14);
        }
    };
    let ledger = check(young(false), &[]);
    let pending = |promise| ledger.tally(promise).pending;
    assert_eq!(pending(Promise::Conservation), 3);
    assert_eq!(pending(Promise::Scores), 2);
    assert_eq!(pending(Promise::Lake), 1);
    check(
        young(true),
        &[
            (Promise::Conservation, 17),
            (Promise::Lake, 15),
            (Promise::Scores, 14),
        ],
    );
}

#[test]
fn accounts_begin_where_retention_has_left_something() {
    let ledger = check(
        |story| {
            story.begin.raw = 14..20;
            story.raw.retain(|offset| 14 <= *offset);
        },
        &[],
    );
    assert_eq!(ledger.tally(Promise::Lake).expired, 3);
    assert_eq!(ledger.tally(Promise::Scores).expired, 3);
    check(
        |story| {
            (story.begin.clean_cut, story.begin.dead_cut) = (true, true);
            story.begin.scores_cut = true;
            story.batches.remove(0);
            story.letters.clear();
            story.scores.drain(..5);
        },
        &[],
    );
}

#[test]
fn a_compacted_raw_topic_may_have_lost_what_was_clean() {
    let ledger = check(
        |story| {
            story.begin.compacted = true;
            story.raw.retain(|offset| *offset != 12);
        },
        &[],
    );
    assert_eq!(ledger.tally(Promise::Conservation).expired, 1);
}

#[test]
fn batches_of_another_contract_are_taken_on_trust() {
    let mut account = Account::open(story().begin);
    (10..20).for_each(|offset| account.raw(offset));
    account.batch(10, 14, None);
    let rows = Rows {
        offsets: &[15, 16, 17, 18, 19],
        tags: &[],
    };
    account.batch(15, 19, Some(rows));
    account.settle();
    (10..20).for_each(|offset| account.score(offset, 0));
    account.settle_scores();
    let ledger = account.close();
    assert!(ledger.holds(), "{ledger:?}");
    assert_eq!(ledger.tally(Promise::Scores).expired, 5);
}
