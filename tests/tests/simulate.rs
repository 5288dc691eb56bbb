//! The simulator's suite: worlds in which everything goes wrong, and in which every promise holds all the same.
//!
//! `THALWEG_SIM_SEEDS` says how many worlds, `THALWEG_SIM_FROM` with which seed they begin; `THALWEG_SIM_SEED` replays
//! one and prints its story.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod simulator;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use simulator::{Plan, Sabotage, run};
use worker::{Dice, Story};

/// Worlds of a run in which nobody says how many: some minutes of two cores.
const SEEDS: u64 = 10_000;

/// Lines of a story that a failure shows; all of them are there when it is replayed.
const LINES: usize = 60;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Runs a seed; returns how its story ends if it ends badly.
fn failure(seed: u64) -> Option<String> {
    let (lived, _) = run(seed, Sabotage::Nothing, Plan::of, Story::default);
    let broken = lived.err()?;
    // The same world again, with somebody who listens.
    let (again, story) = run(seed, Sabotage::Nothing, Plan::of, Story::kept);
    let lines = story.lines();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let replayed = match again {
        Err(again) if again.what == broken.what => String::new(),
        other => format!("it replays otherwise: {other:?}\n"),
    };
    Some(format!(
        "seed {seed} breaks a promise: {}\n{replayed}replay it with\n  THALWEG_SIM_SEED={seed} cargo test --release --workspace \
         --test simulate replay -- --nocapture\nhow it ended:\n{last}",
        broken.what
    ))
}

#[test]
fn every_promise_holds_in_every_world() {
    let seeds = number("THALWEG_SIM_SEEDS").unwrap_or(SEEDS);
    let from = number("THALWEG_SIM_FROM").unwrap_or(0);
    let (next, began) = (AtomicU64::new(from), Instant::now());
    // A world is one thread's, and takes turns with another one: that of Delta.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if from + seeds <= seed {
                    return failures;
                }
                if let Some(failure) = failure(seed) {
                    eprintln!("{failure}\n");
                    failures.push(seed);
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let failures = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        failures.collect::<Vec<u64>>()
    });
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds in {seconds:.1} s: {:.0} seeds/s",
        seeds as f64 / seconds
    );
    assert!(failures.is_empty(), "promises are broken in {failures:?}");
}

#[test]
fn replay() {
    let seed = number("THALWEG_SIM_SEED").unwrap_or(1);
    let (lived, story) = run(seed, Sabotage::Nothing, Plan::of, Story::kept);
    for line in story.lines() {
        println!("{line}");
    }
    if let Err(broken) = lived {
        panic!("seed {seed} breaks a promise: {}", broken.what);
    }
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in 0..8 {
        let stories = [(); 2].map(|()| run(seed, Sabotage::Nothing, Plan::of, Story::kept).1);
        let [one, other] = stories.each_ref().map(Story::lines);
        let differs = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(stories[0].digest(), stories[1].digest(), "seed {seed}");
    }
}

/// Worlds in which something is broken on purpose, until one shows it.
const BROKEN_WORLDS: u64 = 400;

/// Breaks something on purpose, and expects that this promise is seen to be broken, and that without it all is well.
fn check_seen(sabotage: Sabotage, plan: fn(&Dice) -> Plan, promise: &str) {
    let mut others = Vec::new();
    for seed in 0..BROKEN_WORLDS {
        let Err(broken) = run(seed, sabotage, plan, Story::default).0 else {
            continue;
        };
        if broken.what.contains(promise) {
            let sound = run(seed, Sabotage::Nothing, plan, Story::default).0;
            assert!(sound.is_ok(), "seed {seed} is broken anyway: {sound:?}");
            return;
        }
        others.push(broken.what);
    }
    panic!("{sabotage:?} is not seen as `{promise}`, but as {others:#?}");
}

fn calm(dice: &Dice) -> Plan {
    Plan::calm(dice, 120)
}

#[test]
fn a_dead_letter_that_is_lost_is_seen() {
    check_seen(Sabotage::LoseLetter, calm, "is neither clean nor dead");
}

#[test]
fn rows_that_the_lake_lacks_are_seen() {
    check_seen(Sabotage::DropLakeCommit, calm, "the lake");
}

#[test]
fn labels_that_nobody_learns_are_seen() {
    check_seen(Sabotage::SwallowLabels, calm, "nothing waits for ever");
}

#[test]
fn events_that_leave_too_early_are_seen() {
    check_seen(
        Sabotage::Cramp,
        Plan::crowded,
        "every clean event is learned, waits or was crowded out",
    );
}

#[test]
fn events_are_crowded_out_in_worlds_where_all_goes_wrong() {
    let crowded = |seed| {
        let (lived, story) = run(seed, Sabotage::Nothing, Plan::of, Story::kept);
        assert!(lived.is_ok(), "seed {seed}: {lived:?}");
        let lines = story.lines();
        let has = |what: &str| lines.iter().any(|line| line.contains(what));
        has("crowded out") && has("trainer") && has("is killed")
    };
    assert!((0..200).any(crowded));
}

#[test]
fn a_score_that_is_lost_is_seen() {
    check_seen(Sabotage::LoseScore, calm, "the scored set is the clean set");
}

#[test]
fn offsets_that_are_committed_too_early_are_seen() {
    check_seen(
        Sabotage::CommitEarly,
        Plan::of,
        "the scored set is the clean set",
    );
}

#[test]
fn a_checkpoint_that_is_not_what_was_learned_is_seen() {
    check_seen(
        Sabotage::ChangeCheckpoint,
        calm,
        "a checkpoint is byte-equal to an undisturbed one",
    );
}

#[test]
fn offsets_that_go_back_are_seen() {
    check_seen(Sabotage::GoBack, calm, "offsets never go back");
}

#[test]
fn a_worker_that_takes_without_end_is_seen() {
    let many = |dice: &Dice| Plan::calm(dice, 6_000);
    check_seen(
        Sabotage::Hoard,
        many,
        "memory and queues stay within their bounds",
    );
}
