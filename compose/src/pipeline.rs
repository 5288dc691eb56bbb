//! The four workers and, if wanted, the embedded broker, as programs to supervise; and the folder they share.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use schemas::Contract;
use schemas::topics::Topics;

use crate::supervise::{Event, Program, Supervisor};
use crate::topics;

/// The workers, in the order in which events pass them.
pub const WORKERS: [&str; 4] = ["ingest", "sink", "trainer", "scorer"];

const BROKER_DEADLINE: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The folder in which a pipeline keeps what it keeps.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, and a key-encryption key (mode 0600) if it has none.
    ///
    /// # Errors
    /// A folder or key that cannot be made.
    pub fn open(path: &Path) -> Result<Folder> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot use {}", path.display()))?;
        let folder = Folder(path);
        for part in [
            folder.keys(),
            folder.logs(),
            folder.run(),
            folder.lake(),
            folder.checkpoints(),
        ] {
            std::fs::create_dir_all(&part)
                .with_context(|| format!("cannot make {}", part.display()))?;
        }
        let key = folder.key_file();
        if !key.exists() {
            seal::KeyFile::create(&key)
                .with_context(|| format!("cannot make {}", key.display()))?;
        }
        Ok(folder)
    }

    /// Returns the folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns where the embedded broker keeps topics.
    pub fn broker(&self) -> PathBuf {
        self.0.join("broker")
    }

    /// Returns where the lake is, unless it is in an object store.
    pub fn lake(&self) -> PathBuf {
        self.0.join("lake")
    }

    /// Returns where checkpoints are, unless they are in an object store.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// Returns where logs are.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Returns the file that has the address of a worker's pages.
    pub fn address(&self, worker: &str) -> PathBuf {
        self.run().join(format!("{worker}.http"))
    }

    /// Returns the file of the key-encryption key.
    pub fn key_file(&self) -> PathBuf {
        self.keys().join("kek.key")
    }

    fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    fn run(&self) -> PathBuf {
        self.0.join("run")
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The contract's file.
    pub contract: PathBuf,
    /// Where it keeps what it keeps.
    pub folder: Folder,
    /// Kafka's bootstrap servers; `None` is the embedded broker.
    pub brokers: Option<String>,
    /// Where the embedded broker listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Settings of librdkafka, `NAME=VALUE`.
    pub kafka: Vec<String>,
    /// Partitions of topics that are made.
    pub partitions: i32,
    /// Replicas of topics that are made; -1 is the brokers' default.
    pub replication: i32,
    /// Where the lake is; `None` is the folder.
    pub lake: Option<String>,
    /// Where checkpoints are; `None` is the folder.
    pub checkpoints: Option<String>,
    /// Port of the first worker's pages, the others' following; 0 takes free ones.
    pub http_port: u16,
    /// OTLP endpoint.
    pub otlp: Option<String>,
    /// Whether output goes to files in the folder, not where the launcher's goes.
    pub log_files: bool,
}

/// A pipeline that runs.
pub struct Pipeline {
    /// Kafka's bootstrap servers.
    pub brokers: String,
    workers: Supervisor,
    broker: Option<Supervisor>,
}

/// Gets what happens to children.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

impl Pipeline {
    /// Starts the broker (if it is the embedded one), makes the topics, starts the workers.
    ///
    /// # Errors
    /// A broker that does not answer, or topics that cannot be made.
    pub fn start(plan: &Plan, contract: &Contract, on_event: &OnEvent) -> Result<Pipeline> {
        let (brokers, broker, replication) = match &plan.brokers {
            Some(brokers) => (brokers.clone(), None, plan.replication),
            None => {
                let address = free(plan.listen)?;
                let broker =
                    Supervisor::start(vec![broker_program(plan, address)], heard(on_event));
                if let Err(error) = answers(address, &broker) {
                    return Err(broker.stop().err().unwrap_or(error));
                }
                (address.to_string(), Some(broker), 1)
            }
        };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers);
        for (name, value) in plan.kafka.iter().filter_map(|pair| pair.split_once('=')) {
            config.set(name, value);
        }
        let topics = Topics::of(&contract.stream.name);
        if let Err(error) = topics::create(&config, &topics, plan.partitions, replication) {
            broker.map(Supervisor::stop).transpose()?;
            return Err(error);
        }
        let programs = WORKERS
            .iter()
            .enumerate()
            .map(|(at, worker)| worker_program(plan, &brokers, worker, at));
        let workers = Supervisor::start(programs.collect(), heard(on_event));
        Ok(Pipeline {
            brokers,
            workers,
            broker,
        })
    }

    /// Says whether all of it still runs; if not, [`Pipeline::stop`] says why.
    pub fn is_running(&self) -> bool {
        self.workers.is_running() && self.broker.as_ref().is_none_or(Supervisor::is_running)
    }

    /// Returns what workers and broker have used.
    pub fn usage(&self) -> Vec<(&'static str, crate::supervise::Usage)> {
        let mut usage = self.workers.usage();
        usage.extend(self.broker.iter().flat_map(Supervisor::usage));
        usage
    }

    /// Drains and stops the workers, then the broker.
    ///
    /// # Errors
    /// A program that gave up or had to be killed.
    pub fn stop(self) -> Result<()> {
        let workers = self.workers.stop();
        let broker = self.broker.map_or(Ok(()), Supervisor::stop);
        workers.and(broker)
    }
}

fn heard(on_event: &OnEvent) -> Box<dyn Fn(Event) + Send> {
    let on_event = on_event.clone();
    Box::new(move |event| on_event(event))
}

fn broker_program(plan: &Plan, address: SocketAddr) -> Program {
    let options = options(&[
        ("--listen", &address.to_string()),
        ("--folder", &text(&plan.folder.broker())),
    ]);
    Program {
        name: "broker",
        options,
        log: log(plan, "broker"),
    }
}

fn worker_program(plan: &Plan, brokers: &str, worker: &'static str, at: usize) -> Program {
    let folder = &plan.folder;
    let port = if plan.http_port == 0 {
        0
    } else {
        plan.http_port.saturating_add(at as u16)
    };
    let mut all = options(&[
        ("--contract", &text(&plan.contract)),
        ("--brokers", brokers),
        ("--http", &format!("127.0.0.1:{port}")),
        ("--http-file", &text(&folder.address(worker))),
    ]);
    for pair in &plan.kafka {
        all.extend(options(&[("--kafka", pair)]));
    }
    if let Some(otlp) = &plan.otlp {
        all.extend(options(&[("--otlp", otlp)]));
    }
    let lake = plan.lake.clone().unwrap_or_else(|| text(&folder.lake()));
    let checkpoints = plan
        .checkpoints
        .clone()
        .unwrap_or_else(|| text(&folder.checkpoints()));
    all.extend(match worker {
        "ingest" => options(&[
            ("--key-file", &text(&folder.key_file())),
            ("--key-store", &text(&folder.keys().join("subjects.redb"))),
        ]),
        "sink" => options(&[("--lake", &lake)]),
        _ => options(&[("--checkpoints", &checkpoints)]),
    });
    Program {
        name: worker,
        options: all,
        log: log(plan, worker),
    }
}

fn log(plan: &Plan, name: &str) -> Option<PathBuf> {
    plan.log_files
        .then(|| plan.folder.logs().join(format!("{name}.log")))
}

fn options(pairs: &[(&str, &str)]) -> Vec<OsString> {
    pairs
        .iter()
        .flat_map(|(name, value)| [OsString::from(name), OsString::from(value)])
        .collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Settles for a port, so that a broker that is started anew has the same.
fn free(listen: SocketAddr) -> Result<SocketAddr> {
    let probe = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    Ok(probe.local_addr()?)
}

/// Waits until a broker answers.
fn answers(address: SocketAddr, broker: &Supervisor) -> Result<()> {
    let deadline = Instant::now() + BROKER_DEADLINE;
    while TcpStream::connect_timeout(&address, LOOK_EVERY).is_err() {
        if !broker.is_running() || deadline <= Instant::now() {
            bail!("the broker does not answer on {address}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_gets_one_key_that_only_its_owner_reads() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let folder = Folder::open(&path).unwrap();
        let key = std::fs::read(folder.key_file()).unwrap();
        assert_eq!(
            std::fs::metadata(folder.key_file())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        Folder::open(&path).unwrap();
        assert_eq!(
            std::fs::read(folder.key_file()).unwrap(),
            key,
            "a key that is there stays"
        );
    }

    #[test]
    fn every_worker_gets_its_own_options() {
        let place = tempfile::tempdir().unwrap();
        let plan = Plan {
            contract: "c.toml".into(),
            folder: Folder::open(place.path()).unwrap(),
            brokers: None,
            listen: ([127, 0, 0, 1], 0).into(),
            kafka: vec!["a=b".to_owned()],
            partitions: 4,
            replication: 1,
            lake: Some("s3://lake".to_owned()),
            checkpoints: None,
            http_port: 9470,
            otlp: None,
            log_files: true,
        };
        let line = |worker, at| {
            let options = worker_program(&plan, "k:1", worker, at).options;
            options
                .iter()
                .map(|option| option.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(
            line("ingest", 0).contains("--http 127.0.0.1:9470 ")
                && line("ingest", 0).contains("--key-store")
        );
        assert!(
            line("sink", 1).contains("--lake s3://lake") && line("sink", 1).contains("--kafka a=b")
        );
        assert!(
            line("scorer", 3).contains("127.0.0.1:9473")
                && line("scorer", 3).contains("checkpoints")
        );
    }
}
