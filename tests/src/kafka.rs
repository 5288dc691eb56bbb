//! Real Apache Kafka from its published jars: KRaft, on ports and in a folder of its own.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tempfile::TempDir;

use crate::thalweg;

/// How long a node may take to listen.
const DEADLINE: Duration = Duration::from_secs(90);

/// Between two looks whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a node may take to tell what it knows.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Name of the cluster: any 16 bytes in base64.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// A cluster of Apache Kafka.
pub struct Kafka {
    /// Bootstrap servers.
    pub brokers: String,
    nodes: Vec<Node>,
    folder: TempDir,
}

/// One process, broker and controller in one.
struct Node {
    settings: PathBuf,
    log: PathBuf,
    address: String,
    process: Option<Child>,
}

/// Returns the class path that `./test` has set up.
fn class_path() -> Result<String> {
    let launcher = thalweg()?;
    let target = launcher.ancestors().nth(2).context("a target folder")?;
    let jars = target.join("kafka");
    ensure!(
        jars.exists(),
        "{} is missing: run ./test, which sets it up",
        jars.display()
    );
    Ok(format!("{}/*", jars.display()))
}

fn java(main: &str) -> Result<Command> {
    let mut command = Command::new("java");
    // The heap is small, since several run side by side; the rest makes a short life cheap.
    command
        .args([
            "-Xmx512m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
        ])
        .arg(class_path()?)
        .arg(main)
        .stdin(Stdio::null());
    Ok(command)
}

impl Kafka {
    /// Starts a cluster of some nodes and waits until each listens.
    ///
    /// # Errors
    /// No Java, no jars, or a node that does not start: the error shows what it said.
    pub fn start(nodes: usize) -> Result<Kafka> {
        let folder = tempfile::tempdir()?;
        // Held until all are known, so that no two are the same.
        let ports: Vec<TcpListener> = (0..2 * nodes)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<std::io::Result<_>>()?;
        let addresses: Vec<String> = ports
            .iter()
            .map(|port| Ok(port.local_addr()?.to_string()))
            .collect::<Result<_>>()?;
        drop(ports);
        let (brokers, controllers) = addresses.split_at(nodes);
        let voters: Vec<String> = (1..)
            .zip(controllers)
            .map(|(id, address)| format!("{id}@{address}"))
            .collect();
        let mut cluster = Kafka {
            brokers: brokers.join(","),
            nodes: Vec::new(),
            folder,
        };
        for (at, (broker, controller)) in brokers.iter().zip(controllers).enumerate() {
            let node = cluster.node(at + 1, broker, controller, &voters)?;
            cluster.nodes.push(node);
        }
        for node in &mut cluster.nodes {
            node.start()?;
        }
        for node in &mut cluster.nodes {
            node.listens()?;
        }
        Ok(cluster)
    }

    /// Writes the settings of a node and formats its folder.
    fn node(&self, id: usize, broker: &str, controller: &str, voters: &[String]) -> Result<Node> {
        let folder = self.folder.path().join(id.to_string());
        std::fs::create_dir_all(&folder)?;
        let (voters, replicas) = (voters.join(","), voters.len());
        let settings = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://{broker},CONTROLLER://{controller}\n\
             advertised.listeners=PLAINTEXT://{broker}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={log}\n\
             auto.create.topics.enable=false\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.num.partitions=4\n\
             offsets.topic.replication.factor={replicas}\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr=1\n\
             group.min.session.timeout.ms=100\n\
             group.initial.rebalance.delay.ms=0\n",
            log = folder.join("log").display(),
            in_sync = replicas.div_ceil(2),
        );
        let node = Node {
            settings: folder.join("server.properties"),
            log: folder.join("server.log"),
            address: broker.to_owned(),
            process: None,
        };
        std::fs::write(&node.settings, settings)?;
        let formatted = java("kafka.tools.StorageTool")?
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(&node.settings)
            .output()
            .context("java does not start: run ./test, which installs it")?;
        ensure!(
            formatted.status.success(),
            "the folder was not formatted: {}{}",
            String::from_utf8_lossy(&formatted.stdout),
            String::from_utf8_lossy(&formatted.stderr)
        );
        Ok(node)
    }

    /// Returns how many nodes there are.
    #[allow(clippy::len_without_is_empty, reason = "a cluster has nodes")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Says whether every replica of every partition is in sync, by each node's own word.
    pub fn in_sync(&self) -> bool {
        let agrees = |node: &Node| -> Result<bool, KafkaError> {
            let client: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &node.address)
                .create()?;
            let metadata = client.fetch_metadata(None, ANSWER_MAX)?;
            let mut partitions = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions());
            Ok(partitions.all(|partition| partition.isr().len() == self.nodes.len()))
        };
        self.nodes.iter().all(|node| agrees(node).unwrap_or(false))
    }

    /// Ends a node as a crash would, starts it anew in the same folder, and waits until it listens.
    ///
    /// # Errors
    /// A node that does not start.
    pub fn crash(&mut self, at: usize) -> Result<()> {
        let node = self.nodes.get_mut(at).context("no such node")?;
        node.kill();
        node.start()?;
        node.listens()
    }

    /// Runs one of Kafka's own tools, such as `org.apache.kafka.tools.TopicCommand`, and returns what it prints.
    ///
    /// # Errors
    /// A tool that fails.
    pub fn tool(main: &str, arguments: &[&str]) -> Result<String> {
        let output = java(main)?.args(arguments).output()?;
        ensure!(
            output.status.success(),
            "{main} {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Node {
    fn start(&mut self) -> Result<()> {
        let log = std::fs::File::create(&self.log)?;
        let process = java("kafka.Kafka")?
            .arg(&self.settings)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.process = Some(process);
        Ok(())
    }

    fn listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(&self.address).is_err() {
            let ended = match &mut self.process {
                Some(process) => process.try_wait()?,
                None => None,
            };
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "Kafka does not start: {}",
                last_lines(&self.log)
            );
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that has ended already cannot be killed, and need not be.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
