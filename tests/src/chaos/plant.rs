//! What chaos comes over: a broker, two instances of each worker, and whoever starts them anew.

use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use schemas::topics::Topics;
use tempfile::TempDir;

use super::disk::Disk;
use super::fault::{Kind, Store};
use super::process::Process;
use crate::groups::{self, Members};
use crate::{Kafka, Outside, Places, flights, log, thalweg};

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(90);

/// Partitions of the topics.
const PARTITIONS: usize = 4;

/// Instances of each worker.
const INSTANCES: usize = 2;

/// A worker that is paused has lost its partitions after this time; the trainer has its own.
const SESSION: [&str; 2] = ["session.timeout.ms=2000", "heartbeat.interval.ms=500"];

/// Files close at this age, and not at the contract's ten seconds: so each fault meets a commit.
const RECORD_AGE_MAX: (&str, &str) = ("record_age_max = \"10s\"", "record_age_max = \"1s\"");

/// Seconds between checkpoints, likewise.
const CHECKPOINT_SECONDS: &str = "2";

/// A pipeline of several processes, each of which may die at any moment.
pub struct Plant {
    /// What users do to it.
    pub outside: Outside,
    /// The disk that has everything but a cluster's logs.
    pub disk: Disk,
    pub(super) workers: Vec<(Kind, Process)>,
    pub(super) broker: Broker,
    // Last, so that it outlives whoever writes there.
    logs: TempDir,
}

/// Who keeps the topics.
pub(super) enum Broker {
    /// The embedded broker.
    Embedded(Process),
    /// A cluster, and the node that is restarted next.
    Cluster(Kafka, usize),
}

/// How far everything has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    clean: u64,
    scores: u64,
    model: u64,
    lake: u64,
}

impl Plant {
    /// Starts everything on an embedded broker.
    ///
    /// # Errors
    /// A program that does not start.
    pub fn on_embedded() -> Result<Plant> {
        let (disk, logs) = (Disk::new()?, tempfile::tempdir()?);
        let brokers = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let folder = disk.path().join("broker");
        let arguments = words(&["broker", "--listen", &brokers, "--folder", &text(&folder)]);
        let mut broker = Process::new("broker", arguments, logs.path());
        broker.look()?;
        let broker = Broker::Embedded(broker);
        Plant::start(brokers, broker, disk, logs)
    }

    /// Starts everything on a cluster of Apache Kafka.
    ///
    /// # Errors
    /// A program that does not start.
    pub fn on_cluster(nodes: usize) -> Result<Plant> {
        let (disk, logs) = (Disk::new()?, tempfile::tempdir()?);
        let kafka = Kafka::start(nodes)?;
        let brokers = kafka.brokers.clone();
        Plant::start(brokers, Broker::Cluster(kafka, 0), disk, logs)
    }

    fn start(brokers: String, broker: Broker, disk: Disk, logs: TempDir) -> Result<Plant> {
        let folder = disk.path().to_owned();
        for part in ["lake", "checkpoints", "keys", "run"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let contract = folder.join("stream.toml");
        let original = std::fs::read_to_string(flights().join("stream.toml"))?;
        let (slow, fast) = RECORD_AGE_MAX;
        ensure!(original.contains(slow), "the contract has {slow}");
        std::fs::write(&contract, original.replace(slow, fast))?;
        let outside = Outside {
            brokers,
            contract,
            events: flights().join("flights.parquet"),
            places: Places::below(&folder),
        };
        let mut plant = Plant {
            outside,
            disk,
            workers: Vec::new(),
            broker,
            logs,
        };
        plant.until("the broker listens", |plant| Ok(plant.listens()))?;
        plant.prepare()?;
        for kind in Kind::ALL {
            for number in 1..=INSTANCES {
                let worker = plant.worker(kind, number);
                plant.workers.push((kind, worker));
            }
        }
        for kind in Kind::ALL {
            plant.settle(kind)?;
        }
        Ok(plant)
    }

    /// Makes topics and keys, as users do who start workers one by one.
    fn prepare(&self) -> Result<()> {
        let replicas = match &self.broker {
            Broker::Embedded(_) => 1,
            Broker::Cluster(kafka, _) => kafka.len(),
        };
        let prepared = std::process::Command::new(thalweg()?)
            .args(["prepare", "--brokers", &self.outside.brokers, "--contract"])
            .arg(&self.outside.contract)
            .args(["--partitions", &PARTITIONS.to_string()])
            .args(["--replication", &replicas.to_string(), "--key-file"])
            .arg(self.folder("keys/kek.key"))
            .output()?;
        ensure!(
            prepared.status.success(),
            "{}",
            String::from_utf8_lossy(&prepared.stderr)
        );
        Ok(())
    }

    fn worker(&self, kind: Kind, number: usize) -> Process {
        let name = format!("{}-{number}", kind.command());
        let contract = text(&self.outside.contract);
        let page = text(&self.folder("run").join(format!("{name}.http")));
        let client = format!("client.id={name}");
        let mut arguments = vec![
            kind.command(),
            "--brokers",
            &self.outside.brokers,
            "--contract",
            &contract,
            "--http-file",
            &page,
            "--kafka",
            &client,
        ];
        let (lake, checkpoints) = (self.store(Store::Lake), self.store(Store::Checkpoints));
        let (lake, checkpoints) = (text(&lake), text(&checkpoints));
        let (key, keys) = (
            text(&self.folder("keys/kek.key")),
            text(&self.folder("keys/subjects.redb")),
        );
        let own = match kind {
            Kind::Ingest => vec!["--key-file", &key, "--key-store", &keys],
            Kind::Sink => vec!["--lake", &lake],
            Kind::Scorer => vec!["--checkpoints", &checkpoints],
            Kind::Trainer => vec![
                "--checkpoints",
                &checkpoints,
                "--checkpoint-seconds",
                CHECKPOINT_SECONDS,
            ],
        };
        arguments.extend(own);
        if kind != Kind::Trainer {
            arguments.extend(SESSION.iter().flat_map(|property| ["--kafka", property]));
        }
        Process::new(&name, words(&arguments), self.logs.path())
    }

    /// Returns the folder of a store of objects.
    pub fn store(&self, store: Store) -> PathBuf {
        self.folder(match store {
            Store::Lake => "lake",
            Store::Checkpoints => "checkpoints",
        })
    }

    fn folder(&self, part: &str) -> PathBuf {
        self.disk.path().join(part)
    }

    /// Starts what is due, and notices what died.
    ///
    /// # Errors
    /// A program after whose end the launcher would give up.
    pub fn look(&mut self) -> Result<()> {
        if let Broker::Embedded(process) = &mut self.broker {
            process.look()?;
        }
        self.workers
            .iter_mut()
            .try_for_each(|(_, worker)| worker.look())
    }

    /// Waits until something holds, and looks after the programs meanwhile.
    ///
    /// # Errors
    /// If it does not within the deadline, or a look fails.
    pub fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Plant) -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.look()?;
            if holds(self)? {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "waited in vain until {what}\n{}",
                self.story()
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until every instance of a worker is in its group, and the group has shared its partitions out.
    ///
    /// # Errors
    /// As [`Plant::until`].
    pub fn settle(&mut self, kind: Kind) -> Result<()> {
        let what = format!("{} share their partitions", kind.command());
        self.until(&what, |plant| {
            let members = plant.members(kind);
            Ok(members.len() == INSTANCES && is_shared_out(kind, &members))
        })
    }

    /// Returns the instances of a worker and what each has; nobody while that is being settled.
    pub fn members(&self, kind: Kind) -> Members {
        let group = format!("flights.{}", kind.command());
        // Brokers come and go.
        groups::members(&self.outside.brokers, &group).unwrap_or_default()
    }

    /// Returns the place of the instance that has most; of several, another one every `turn`.
    ///
    /// # Errors
    /// If none has anything.
    pub fn busiest(&self, kind: Kind, turn: usize) -> Result<usize> {
        let members = self.members(kind);
        let most = members.values().map(Vec::len).max().unwrap_or_default();
        let busy: Vec<&String> = members
            .iter()
            .filter(|(_, partitions)| partitions.len() == most)
            .map(|(name, _)| name)
            .collect();
        let name = busy.get(turn % busy.len().max(1));
        let name = name.with_context(|| format!("no {} is in its group", kind.command()))?;
        self.place(name)
    }

    /// Returns the place of an instance.
    ///
    /// # Errors
    /// If there is none of that name.
    fn place(&self, name: &str) -> Result<usize> {
        let place = self
            .workers
            .iter()
            .position(|(_, worker)| worker.name == name);
        place.with_context(|| format!("no worker is called {name}"))
    }

    /// Says how far everything has come; `None` while nobody can tell.
    pub fn pulse(&self) -> Option<Pulse> {
        let topics = Topics::of("flights");
        let count = |topic: &str| log::count(&self.outside.brokers, topic).ok();
        Some(Pulse {
            clean: count(&topics.clean)?,
            scores: count(&topics.scores)?,
            model: count(&topics.model)?,
            lake: newest_version(&self.store(Store::Lake)),
        })
    }

    /// Waits until everything has come further than it is now.
    ///
    /// # Errors
    /// As [`Plant::until`].
    pub fn until_it_goes_on(&mut self) -> Result<()> {
        let mut before = None;
        self.until("everything goes on", |plant| {
            let now = plant.pulse();
            before = before.or(now);
            Ok(before
                .zip(now)
                .is_some_and(|(before, now)| before.is_before(now)))
        })
    }

    /// Says whether the brokers can be reached.
    pub(super) fn listens(&self) -> bool {
        self.outside
            .brokers
            .split(',')
            .all(|address| TcpStream::connect(address).is_ok())
    }

    /// Keeps all logs and what is on the disk, for whoever looks into what went wrong; returns where.
    ///
    /// # Errors
    /// What cannot be copied.
    pub fn keep(&mut self) -> Result<PathBuf> {
        for (_, worker) in &mut self.workers {
            // The one that nobody would start anew says so a second time.
            let _ = worker.kill();
        }
        self.logs.disable_cleanup(true);
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(self.disk.path())
            .arg(self.logs.path().join("disk"))
            .status()?;
        ensure!(copied.success(), "cannot copy the disk");
        Ok(self.logs.path().to_owned())
    }

    /// Stops the workers in good order.
    ///
    /// # Errors
    /// One that ends with a failure, or not at all.
    pub fn stop_workers(&mut self) -> Result<()> {
        for (_, worker) in &self.workers {
            worker.signal(libc::SIGTERM);
        }
        let deadline = Instant::now() + DEADLINE;
        for at in 0..self.workers.len() {
            while !self.workers[at].1.has_stopped()? {
                ensure!(
                    Instant::now() < deadline,
                    "workers do not stop\n{}",
                    self.story()
                );
                std::thread::sleep(LOOK_EVERY);
            }
        }
        self.workers.clear();
        Ok(())
    }

    /// Returns how often each worker has died.
    pub fn deaths(&self) -> String {
        let said = self
            .workers
            .iter()
            .map(|(_, worker)| format!("{} {}", worker.name, worker.deaths));
        said.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn story(&self) -> String {
        let said = self.workers.iter().map(|(_, worker)| worker.tail());
        said.collect::<Vec<_>>().join("\n")
    }
}

impl Pulse {
    fn is_before(self, later: Pulse) -> bool {
        self.clean < later.clean
            && self.scores < later.scores
            && self.model < later.model
            && self.lake < later.lake
    }
}

/// Says whether every partition is somebody's.
pub(super) fn is_shared_out(kind: Kind, members: &Members) -> bool {
    // Trainers share a lock only.
    let all = if kind == Kind::Trainer { 1 } else { PARTITIONS };
    members.values().map(Vec::len).sum::<usize>() == all
}

/// Returns the newest version of the table in a lake; 0 while there is none.
fn newest_version(lake: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(lake.join("flights/_delta_log")) else {
        return 0;
    };
    let version = |path: PathBuf| {
        path.file_name()?
            .to_str()?
            .strip_suffix(".json")?
            .parse()
            .ok()
    };
    entries
        .filter_map(|entry| version(entry.ok()?.path()))
        .max()
        .unwrap_or(0)
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
