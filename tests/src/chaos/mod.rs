//! Real crashes of real processes: a stream flows, and in each round something goes wrong and has to be overcome.
//!
//! ```text
//! seed ──► plan: one fault a round ──► Plant: broker, 2 ingest, 2 sinks, 2 scorers, 2 trainers ──► verify, replay,
//!                                        ▲ events all the while                                    recompute, audit
//! ```
//!
//! Everything is judged from outside: by what is in groups, topics and lake. Whoever dies is started anew as the
//! launcher would; a worker that ends with a code after which the launcher gives up fails the run.

mod disk;
mod fault;
mod plant;
mod process;

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use schemas::Contract;
use schemas::topics::Topics;

use crate::audit::{self, Audit};
use crate::{Produced, log};

pub use fault::{Fault, Kind, Store, plan};
pub use plant::Plant;

use plant::{Broker, is_shared_out};

/// What the system says of a folder that has become a file.
const NO_STORE: [&str; 2] = ["Not a directory", "File exists"];

/// What it says of a disk that is full, and of a file that may not grow.
const FULL: [&str; 2] = ["No space left", "File too large"];

/// Lets one fault after the other come over a plant on which a stream flows; then everything must come to rest and
/// be whole.
///
/// # Errors
/// What was lost, doubled, or not overcome.
pub fn run(mut plant: Plant, seed: u64, rounds: usize, rate: u64) -> Result<()> {
    let ran = go_through(&mut plant, seed, rounds, rate);
    ran.inspect_err(|_| eprintln!("{}", plant.story()))
        .map_err(|error| match plant.keep() {
            Ok(kept) => error.context(format!("logs and disk are kept in {}", kept.display())),
            Err(lost) => error.context(format!("logs and disk are lost: {lost:#}")),
        })
}

/// Kills the trainer that is at work; returns how long it took until another one had published a version, and then
/// checks everything.
///
/// # Errors
/// As [`run`].
pub fn kill_trainer(mut plant: Plant, rate: u64) -> Result<Duration> {
    let producer = plant.outside.produce(&["--rate", &rate.to_string()])?;
    let producer = Stream(Some(producer));
    plant.until_it_goes_on()?;
    plant.settle(Kind::Trainer)?;
    let at = plant.busiest(Kind::Trainer, 0)?;
    let killed = Instant::now();
    plant.workers[at].1.kill()?;
    plant.until_moved_from(Kind::Trainer, at)?;
    // Whatever the one that died had sent is in the topic by now.
    let topic = Topics::of("flights").model;
    let before = log::count(&plant.outside.brokers, &topic)?;
    plant.until("another trainer publishes", |plant| {
        Ok(before < log::count(&plant.outside.brokers, &topic)?)
    })?;
    let took = killed.elapsed();
    let produced = producer.end()?;
    plant.come_to_rest(produced)?;
    Ok(took)
}

fn go_through(plant: &mut Plant, seed: u64, rounds: usize, rate: u64) -> Result<()> {
    let (rate, dirt_seed) = (rate.to_string(), seed.to_string());
    let producer = plant
        .outside
        .produce(&["--rate", &rate, "--dirt", "0.01", "--seed", &dirt_seed])?;
    let mut producer = Stream(Some(producer));
    plant.until_it_goes_on()?;
    for (round, fault) in plan(seed, rounds).into_iter().enumerate() {
        let began = Instant::now();
        let told =
            |error: anyhow::Error| error.context(format!("seed {seed}, round {round}: {fault}"));
        plant.suffer(fault, round).map_err(told)?;
        ensure!(
            producer.flows()?,
            "the stream ended in round {round}: let it flow slower"
        );
        plant.until_it_goes_on().map_err(told)?;
        eprintln!(
            "round {round}: {fault}: {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }
    eprintln!("deaths: {}", plant.deaths());
    let produced = producer.end()?;
    plant.come_to_rest(produced)
}

impl Plant {
    /// Lets a fault happen, and ends it.
    fn suffer(&mut self, fault: Fault, round: usize) -> Result<()> {
        match fault {
            Fault::Kill(kind) => {
                self.settle(kind)?;
                let at = self.busiest(kind, round)?;
                self.workers[at].1.kill()?;
                self.until_moved_from(kind, at)
            }
            Fault::Freeze(kind) => {
                self.settle(kind)?;
                let at = self.busiest(kind, round)?;
                self.workers[at].1.signal(libc::SIGSTOP);
                let moved = self.until_moved_from(kind, at);
                self.workers[at].1.signal(libc::SIGCONT);
                moved
            }
            Fault::Broker => self.crash_broker(),
            Fault::Break(store) => {
                let (folder, said) = (self.store(store), self.said());
                disk::exchange(&folder)?;
                let heard = self.until_complained(said, &NO_STORE);
                disk::exchange(&folder)?;
                heard
            }
            Fault::FillDisk if self.disk.is_mounted() => {
                let said = self.said();
                self.disk.fill()?;
                let heard = self.until_complained(said, &FULL);
                self.disk.free()?;
                heard
            }
            Fault::FillDisk => {
                // Mounting is not permitted here: files that may not grow stand for a disk that is full.
                eprintln!(
                    "no disk of our own can be mounted: files of sinks and trainers may not grow instead"
                );
                let said = self.said();
                self.limit_files(Some(0))?;
                let heard = self.until_complained(said, &FULL);
                self.limit_files(None)?;
                heard
            }
        }
    }

    /// Waits until all partitions of a worker's group are with others than one instance, whatever life of its it is.
    fn until_moved_from(&mut self, kind: Kind, at: usize) -> Result<()> {
        let (name, deaths) = (self.workers[at].1.name.clone(), self.workers[at].1.deaths);
        let had = self.workers[at].1.pid();
        self.until(&format!("the partitions of {name} move"), |plant| {
            let members = plant.members(kind);
            let worker = &plant.workers[at].1;
            ensure!(
                had.is_none() || worker.deaths == deaths,
                "{name} died while it was paused"
            );
            // One that was killed comes again, and may have its share by now.
            let gone = had.is_none() || !members.contains_key(&name);
            Ok(gone && is_shared_out(kind, &members))
        })
    }

    fn crash_broker(&mut self) -> Result<()> {
        match &mut self.broker {
            Broker::Embedded(process) => {
                process.kill()?;
                self.until("the broker listens again", |plant| Ok(plant.listens()))
            }
            Broker::Cluster(kafka, next) => {
                kafka.crash(*next)?;
                *next = (*next + 1) % kafka.len();
                self.until("all replicas are in sync", |plant| match &plant.broker {
                    Broker::Cluster(kafka, _) => Ok(kafka.in_sync()),
                    Broker::Embedded(_) => Ok(true),
                })
            }
        }
    }

    /// Returns how long each worker's log is.
    fn said(&self) -> Vec<u64> {
        self.workers
            .iter()
            .map(|(_, worker)| worker.said())
            .collect()
    }

    /// Waits until a worker complains with one of these words, after what each had said already.
    fn until_complained(&mut self, said: Vec<u64>, of: &[&str]) -> Result<()> {
        self.until("a worker meets the fault", |plant| {
            let mut workers = plant.workers.iter().zip(&said);
            Ok(workers.any(|((_, worker), said)| worker.complained(*said, of)))
        })
    }

    fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let writes = |kind: &Kind| matches!(kind, Kind::Sink | Kind::Trainer);
        let workers = self.workers.iter().filter(|(kind, _)| writes(kind));
        workers
            .into_iter()
            .try_for_each(|(_, worker)| worker.limit_files(bytes))
    }

    /// Waits until nothing is left to do, stops the workers, and checks everything.
    fn come_to_rest(&mut self, produced: Produced) -> Result<()> {
        let (brokers, lake) = (self.outside.brokers.clone(), self.store(Store::Lake));
        self.until("every raw record is clean or dead, and scored", |_| {
            audit::is_decided(&brokers, produced.raw)
        })?;
        self.until("every clean event is in the lake", |_| {
            audit::is_landed(&brokers, &lake)
        })?;
        let audit = Audit::read(&brokers, &lake)?;
        let (labelled, contract) = (
            audit.labelled() as u64,
            Contract::read(&self.outside.contract)?,
        );
        self.until("every label is learned", |_| {
            Ok(labelled <= audit::learned(&brokers, &contract)?)
        })?;
        self.stop_workers()?;
        let learned = audit::learned(&brokers, &contract)?;
        ensure!(
            learned == labelled,
            "{learned} labels learned of {labelled}"
        );
        Audit::read(&brokers, &lake)?
            .without_repeats()
            .check(produced)?;
        let (code, verified) = self.outside.verify()?;
        ensure!(
            code == 0 && verified["holds"] == true,
            "{code}: {verified:#}"
        );
        let (code, replayed) = self.outside.look("replay", &[])?;
        let whole = replayed["first"].is_null() && replayed["from"] == 0;
        ensure!(code == Some(0) && whole, "{replayed:#}");
        let (code, scores) = self.outside.look("recompute", &[])?;
        let whole = scores["different"] == 0 && 0 < scores["equal"].as_u64().unwrap_or(0);
        ensure!(code == Some(0) && whole, "{scores:#}");
        eprintln!(
            "{} raw, {} clean, {} dead, {learned} learned",
            audit.raw.len(),
            audit.clean.len(),
            audit.dead.len()
        );
        Ok(())
    }
}

/// A producer that ends with us.
struct Stream(Option<Child>);

impl Stream {
    /// Says whether it still produces.
    fn flows(&mut self) -> Result<bool> {
        let producer = self.0.as_mut().context("a producer")?;
        Ok(producer.try_wait()?.is_none())
    }

    /// Tells it to end, and returns what it says was acknowledged.
    fn end(mut self) -> Result<Produced> {
        let producer = self.0.take().context("a producer")?;
        // SAFETY: sends a signal to a process that we started and have not waited for yet.
        unsafe { libc::kill(producer.id() as i32, libc::SIGTERM) };
        Produced::of(producer)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(producer) = &mut self.0 {
            // One that has ended already cannot be killed, and need not be.
            let _ = producer.kill();
            let _ = producer.wait();
        }
    }
}
