//! Runs the programs.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::kafka::Kafka;
use crate::outside::{Outside, Places, Produced};
use crate::s3::S3;

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a pipeline may take to be ready, or to stop.
const DEADLINE: Duration = Duration::from_secs(60);

/// The workers, by the command that runs them.
pub const WORKERS: [&str; 4] = ["ingest", "sink", "trainer", "scorer"];

/// Returns the folder of the flights stream: contract and data.
pub fn flights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose/streams/flights")
}

/// Returns the launcher, which stands beside the test's own program.
///
/// # Errors
/// If it was not built: run `cargo build --release --bin thalweg`, or the tests of the whole workspace.
pub fn thalweg() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("thalweg"))
        .find(|path| path.exists());
    found.with_context(|| format!("no `thalweg` beside {}: build it first", own.display()))
}

/// Returns the Python that `./test` has set up, with the peers' packages.
///
/// # Errors
/// If it is not there.
pub fn python() -> Result<PathBuf> {
    let launcher = thalweg()?;
    let python = launcher
        .ancestors()
        .nth(2)
        .context("a target folder")?
        .join("peers/bin/python");
    ensure!(
        python.exists(),
        "{} is missing: run ./test, which sets it up",
        python.display()
    );
    Ok(python)
}

/// What is to be started, and where.
struct Plan {
    folder: TempDir,
    contract: PathBuf,
    events: PathBuf,
    brokers: String,
    options: Vec<String>,
    places: Places,
    kafka: Option<Kafka>,
}

impl Plan {
    /// Plans the flights stream on a broker, in a new folder.
    fn new(brokers: String) -> Result<Plan> {
        let folder = tempfile::tempdir()?;
        Ok(Plan {
            contract: flights().join("stream.toml"),
            events: flights().join("flights.parquet"),
            brokers,
            options: Vec::new(),
            places: Places::below(folder.path()),
            kafka: None,
            folder,
        })
    }

    /// Plans it on an embedded broker, which the launcher runs on a free port.
    fn embedded() -> Result<Plan> {
        let brokers = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let plan = Plan::new(brokers.clone())?;
        Ok(plan.with(&["--listen", &brokers]))
    }

    /// Adds options of `thalweg up`.
    fn with(mut self, options: &[&str]) -> Plan {
        self.options
            .extend(options.iter().map(|word| (*word).to_owned()));
        self
    }
}

/// A pipeline on a broker of its own, in a folder that goes with it.
pub struct Sandbox {
    folder: TempDir,
    contract: PathBuf,
    /// What is played.
    events: PathBuf,
    up: Child,
    places: Places,
    /// `None` is the embedded broker, which the launcher runs.
    kafka: Option<Kafka>,
    /// Kafka's bootstrap servers.
    pub brokers: String,
}

impl Sandbox {
    /// Starts `thalweg up` for the flights stream on an embedded broker and waits until every worker is ready.
    ///
    /// # Errors
    /// A program that does not start in time.
    pub fn start() -> Result<Sandbox> {
        Sandbox::start_with(&[])
    }

    /// Starts `thalweg up` on an embedded broker, with more options.
    ///
    /// # Errors
    /// As [`Sandbox::start`].
    pub fn start_with(options: &[&str]) -> Result<Sandbox> {
        Sandbox::up(Plan::embedded()?.with(options))
    }

    /// Starts `thalweg up` on an embedded broker, for another stream and its file of events.
    ///
    /// # Errors
    /// As [`Sandbox::start`].
    pub fn start_for(contract: &Path, events: &Path) -> Result<Sandbox> {
        let plan = Plan::embedded()?;
        Sandbox::up(Plan {
            contract: contract.to_owned(),
            events: events.to_owned(),
            ..plan
        })
    }

    /// Starts `thalweg up` on real Apache Kafka of one node.
    ///
    /// # Errors
    /// As [`Sandbox::start`], and as [`Kafka::start`].
    pub fn start_on_kafka() -> Result<Sandbox> {
        let kafka = Kafka::start(1)?;
        let plan = Plan::new(kafka.brokers.clone())?.with(&["--brokers", &kafka.brokers]);
        Sandbox::up(Plan {
            kafka: Some(kafka),
            ..plan
        })
    }

    /// Starts `thalweg up` on an embedded broker, with lake and checkpoints on an S3 server.
    ///
    /// # Errors
    /// As [`Sandbox::start`], and as [`S3::start`].
    pub fn start_on_s3() -> Result<(Sandbox, S3)> {
        let plan = Plan::embedded()?;
        let s3 = S3::start(plan.folder.path())?;
        let places = s3.places();
        let named = ["--lake", &places.lake, "--checkpoints", &places.checkpoints];
        let plan = plan.with(&named);
        Ok((Sandbox::up(Plan { places, ..plan })?, s3))
    }

    fn up(plan: Plan) -> Result<Sandbox> {
        let folder = plan.folder;
        let log = std::fs::File::create(folder.path().join("up.log"))?;
        let up = Command::new(thalweg()?)
            .args(["up", "--http-port", "0", "--contract"])
            .arg(&plan.contract)
            .arg("--data")
            .arg(folder.path())
            .args(plan.options)
            .envs(plan.places.environment.clone())
            // So that the sink lands rows of one day in several commits.
            .env("THALWEG_SINK_BUFFER_MB", "1")
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let sandbox = Sandbox {
            folder,
            contract: plan.contract,
            events: plan.events,
            up,
            places: plan.places,
            kafka: plan.kafka,
            brokers: plan.brokers,
        };
        for worker in WORKERS {
            sandbox
                .until(&format!("{worker} is ready"), || sandbox.ready(worker))
                .context(sandbox.story())?;
        }
        Ok(sandbox)
    }

    /// Returns the folder in which the pipeline keeps what it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Begins to play the stream's file; [`Sandbox::produced`] waits for the end.
    ///
    /// # Errors
    /// A program that does not start.
    pub fn produce(&self, options: &[&str]) -> Result<Child> {
        self.outside().produce(options)
    }

    /// Waits for a producer and returns what it says.
    ///
    /// # Errors
    /// A producer that failed.
    pub fn produced(&self, producer: Child) -> Result<Produced> {
        Produced::of(producer)
    }

    /// Runs `thalweg verify --complete` on the topics, the lake and the checkpoints; returns its exit code and report.
    ///
    /// # Errors
    /// A program that does not run, or says something else than a report.
    pub fn verify(&self) -> Result<(i32, serde_json::Value)> {
        self.outside().verify()
    }

    /// Starts `thalweg verify --every 1s`, whose pages [`Sandbox::metric`] then finds as those of `audit`.
    ///
    /// # Errors
    /// A program that does not start.
    pub fn watch(&self) -> Result<Child> {
        let watching = Command::new(thalweg()?)
            .args(["verify", "--every", "1s", "--contract"])
            .arg(&self.contract)
            .args(["--brokers", &self.brokers, "--lake", &self.places.lake])
            .envs(self.places.environment.clone())
            .arg("--http-file")
            .arg(self.folder().join("run/audit.http"))
            .spawn()?;
        Ok(watching)
    }

    /// Runs `thalweg compact` on the lake; returns what it says.
    ///
    /// # Errors
    /// A program that fails.
    pub fn compact(&self) -> Result<serde_json::Value> {
        let output = Command::new(thalweg()?)
            .args(["compact", "--json", "--contract"])
            .arg(&self.contract)
            .args(["--lake", &self.places.lake])
            .envs(self.places.environment.clone())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(
            output.status.success(),
            "compact ended with {}",
            output.status
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs `thalweg recompute`; returns its exit code and what it says.
    ///
    /// # Errors
    /// A program that does not start, or says no JSON.
    pub fn recompute(&self, options: &[&str]) -> Result<(Option<i32>, serde_json::Value)> {
        self.outside().look("recompute", options)
    }

    /// Runs `thalweg replay`; returns its exit code and what it says.
    ///
    /// # Errors
    /// As [`Sandbox::recompute`].
    pub fn replay(&self, options: &[&str]) -> Result<(Option<i32>, serde_json::Value)> {
        self.outside().look("replay", options)
    }

    fn outside(&self) -> Outside {
        Outside {
            brokers: self.brokers.clone(),
            contract: self.contract.clone(),
            events: self.events.clone(),
            places: self.places.clone(),
        }
    }

    /// Ends a program of the pipeline as a crash would; the launcher starts it anew.
    ///
    /// # Errors
    /// If no such program runs.
    pub fn kill(&self, program: &str) -> Result<()> {
        let pid = self
            .pid(program)?
            .with_context(|| format!("no {program} runs"))?;
        // SAFETY: sends a signal to a process that this sandbox started.
        ensure!(
            unsafe { libc::kill(pid, libc::SIGKILL) } == 0,
            "cannot kill {program}"
        );
        self.until(&format!("{program} is gone"), || {
            Ok(self.pid(program)? != Some(pid))
        })
    }

    /// Ends the broker as a crash would; it is started anew in the same folder.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn crash_broker(&mut self) -> Result<()> {
        match &mut self.kafka {
            Some(kafka) => kafka.crash(0),
            None => self.kill("broker"),
        }
    }

    /// Waits until something holds.
    ///
    /// # Errors
    /// If it does not within a minute, or the look fails.
    pub fn until(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !holds()? {
            if deadline < Instant::now() {
                bail!("waited in vain until {what}\n{}", self.story());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Returns a worker's metric, summed over its series; 0 while it has none.
    ///
    /// # Errors
    /// A page that cannot be read.
    pub fn metric(&self, worker: &str, name: &str) -> Result<f64> {
        let page = self.page(worker, "/metrics")?;
        let of_name = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        let values = page
            .lines()
            .filter(of_name)
            .filter_map(|line| line.rsplit(' ').next());
        Ok(values.filter_map(|value| value.parse::<f64>().ok()).sum())
    }

    /// Tells the pipeline to stop, as an operator does, and waits.
    ///
    /// # Errors
    /// If it does not drain in time, or ends with a failure.
    pub fn stop(mut self) -> Result<TempDir> {
        // SAFETY: sends a signal to the process that this sandbox started.
        unsafe { libc::kill(self.up.id() as i32, libc::SIGTERM) };
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.up.try_wait()? {
                ensure!(
                    status.success(),
                    "the pipeline ended with {status}\n{}",
                    self.story()
                );
                let kept = tempfile::tempdir()?;
                return Ok(std::mem::replace(&mut self.folder, kept));
            }
            ensure!(
                Instant::now() < deadline,
                "the pipeline does not stop\n{}",
                self.story()
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn ready(&self, worker: &str) -> Result<bool> {
        Ok(self
            .page(worker, "/readyz")
            .is_ok_and(|page| page.starts_with("ready")))
    }

    /// Reads a page of a worker.
    fn page(&self, worker: &str, path: &str) -> Result<String> {
        use std::io::{Read, Write};
        let address = std::fs::read_to_string(self.folder().join(format!("run/{worker}.http")))?;
        let mut stream = std::net::TcpStream::connect(address.trim())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\n\r\n"
        )?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let (_, body) = page.split_once("\r\n\r\n").context("an HTTP answer")?;
        Ok(body.to_owned())
    }

    /// Finds a program among the launcher's children.
    fn pid(&self, program: &str) -> Result<Option<i32>> {
        for entry in std::fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            // Processes come and go while we look.
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
                continue;
            };
            let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let mut fields = fields.split(' ');
            let (state, parent) = (fields.next(), fields.next());
            let ours = parent.and_then(|parent| parent.parse().ok()) == Some(self.up.id());
            let called = command.split(|byte| *byte == 0).nth(1) == Some(program.as_bytes());
            if ours && called && state != Some("Z") {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }

    /// Returns the end of what the pipeline said.
    fn story(&self) -> String {
        let log = std::fs::read_to_string(self.folder().join("up.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The children die with the launcher. One that has ended already cannot be killed, and need not be.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}
