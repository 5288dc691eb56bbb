//! Real crashes on real processes, on the embedded broker and on a cluster of Apache Kafka.
//!
//! `THALWEG_CHAOS_ROUNDS` says how many faults come one after the other, `THALWEG_CHAOS_SEED` which.

use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::chaos::{self, Plant};

/// Rounds, unless the environment says otherwise.
const ROUNDS: usize = 20;

/// Nodes of the cluster; each partition has as many replicas, of which one may be missing.
const NODES: usize = 3;

/// Events that are there to be played, and how long a round takes at most on average: so the stream does not run dry.
const EVENTS: u64 = 300_000;
const ROUND_SECONDS: u64 = 12;

/// Events a second, at most.
const RATE_MAX: u64 = 500;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn chaos(plant: Plant) -> Result<()> {
    let rounds = setting("THALWEG_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    // Another seed each time: what is found is found again by the seed that is printed.
    let seed =
        setting("THALWEG_CHAOS_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let rate = (EVENTS / (ROUND_SECONDS * rounds as u64).max(1)).clamp(1, RATE_MAX);
    eprintln!("THALWEG_CHAOS_SEED={seed} THALWEG_CHAOS_ROUNDS={rounds}, {rate} events a second");
    chaos::run(plant, seed, rounds, rate)
}

#[test]
fn faults_on_the_embedded_broker_lose_and_double_nothing() -> Result<()> {
    chaos(Plant::on_embedded()?)
}

#[test]
fn faults_on_a_cluster_lose_and_double_nothing() -> Result<()> {
    chaos(Plant::on_cluster(NODES)?)
}

/// How soon a trainer that stands by is at work after the other one was killed: five seconds are promised, and the rest
/// is for a machine that is busy with other tests.
const TAKE_OVER_MAX: Duration = Duration::from_secs(8);

#[test]
fn a_trainer_that_stands_by_takes_over_and_goes_on_bit_for_bit() -> Result<()> {
    let took = chaos::kill_trainer(Plant::on_embedded()?, RATE_MAX)?;
    eprintln!("taken over after {:.1} s", took.as_secs_f64());
    ensure!(took < TAKE_OVER_MAX, "taken over after {took:?}");
    Ok(())
}
