//! What the tests share: a broker in a fresh folder, in this process or its own, and clients for it.

#![allow(dead_code)] // no test file uses all of it
#![allow(clippy::unwrap_used)] // a helper of tests fails as they do

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use broker::{Broker, Config};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

/// How long a test waits for something that should happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done` or panics.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        std::thread::yield_now();
    }
}

/// Runs a future to its end.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A broker in this process, on a thread of its own.
pub struct Sandbox {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a broker on any port.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(Config::new(folder, "127.0.0.1:0".parse().unwrap()))
    }

    pub fn start_with(config: Config) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (started, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            wait(async move {
                let running = Broker::start(config).await.unwrap();
                started.send(running.address()).unwrap();
                let _ = stopped.await;
                running.shutdown().await.unwrap();
            });
        });
        let address = address.recv_timeout(PATIENCE).unwrap();
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn clients(&self) -> Clients {
        Clients::new(self.address)
    }

    /// Stops the broker cleanly.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.into_iter().for_each(|ended| ended.unwrap());
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
    }
}

/// A broker in a process of its own.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
}

impl Process {
    pub fn command(folder: &Path, listen: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg-broker"));
        command
            .args(["--listen", listen, "--folder"])
            .arg(folder)
            .env("RUST_LOG", "warn");
        command
    }

    pub fn start(folder: &Path) -> Self {
        Self::start_on(folder, "127.0.0.1:0")
    }

    pub fn start_on(folder: &Path, listen: &str) -> Self {
        Self::spawn(Self::command(folder, listen))
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .parse()
            .unwrap();
        Self { child, address }
    }

    pub fn clients(&self) -> Clients {
        Clients::new(self.address)
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what the broker acknowledged and what not.
pub struct Deliveries(mpsc::Sender<Result<OwnedMessage, (KafkaError, OwnedMessage)>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let result = match result {
            Ok(message) => Ok(message.detach()),
            Err((error, message)) => Err((error.clone(), message.detach())),
        };
        let _ = self.0.send(result);
    }
}

/// A producer with its deliveries.
pub struct Sender {
    pub producer: BaseProducer<Deliveries>,
    pub deliveries: mpsc::Receiver<Result<OwnedMessage, (KafkaError, OwnedMessage)>>,
}

impl Sender {
    /// Sends one message and waits for its offset.
    pub fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<i64, KafkaError> {
        self.producer.send(record).map_err(|(error, _)| error)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.producer.poll(Duration::from_millis(5));
            if let Ok(delivery) = self.deliveries.try_recv() {
                return delivery
                    .map(|message| message.offset())
                    .map_err(|(error, _)| error);
            }
        }
        panic!("no delivery report came");
    }

    /// Sends one value to partition 0 and waits for its offset.
    pub fn value(&self, topic: &str, value: &[u8]) -> Result<i64, KafkaError> {
        self.send(
            BaseRecord::<[u8], [u8]>::to(topic)
                .partition(0)
                .payload(value),
        )
    }

    pub fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }
}

/// Makes clients of one broker.
pub struct Clients {
    address: SocketAddr,
}

impl Clients {
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub fn config(&self, options: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address.to_string());
        for (key, value) in options {
            config.set(*key, *value);
        }
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config(&[]).create().unwrap()
    }

    pub fn create(&self, topic: &str, partitions: i32) {
        self.create_with(topic, partitions, &[]).unwrap();
    }

    pub fn create_with(
        &self,
        topic: &str,
        partitions: i32,
        options: &[(&str, &str)],
    ) -> Result<(), RDKafkaErrorCode> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in options {
            new = new.set(key, value);
        }
        let results = wait(self.admin().create_topics([&new], &AdminOptions::new())).unwrap();
        results
            .into_iter()
            .next()
            .unwrap()
            .map(|_| ())
            .map_err(|(_, code)| code)
    }

    pub fn delete(&self, topic: &str) -> Result<(), RDKafkaErrorCode> {
        let results = wait(self.admin().delete_topics(&[topic], &AdminOptions::new())).unwrap();
        results
            .into_iter()
            .next()
            .unwrap()
            .map(|_| ())
            .map_err(|(_, code)| code)
    }

    pub fn sender(&self, options: &[(&str, &str)]) -> Sender {
        let (sender, deliveries) = mpsc::channel();
        let producer = self
            .config(options)
            .create_with_context(Deliveries(sender))
            .unwrap();
        Sender {
            producer,
            deliveries,
        }
    }

    /// A consumer of one partition from an offset on.
    pub fn reader(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        options: &[(&str, &str)],
    ) -> BaseConsumer {
        let mut config = self.config(&[("group.id", "reader"), ("enable.auto.commit", "false")]);
        for (key, value) in options {
            config.set(*key, *value);
        }
        let consumer: BaseConsumer = config.create().unwrap();
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, from)
            .unwrap();
        consumer.assign(&assignment).unwrap();
        consumer
    }

    /// Reads `count` messages of one partition from its beginning.
    pub fn read(&self, topic: &str, partition: i32, count: usize) -> Vec<OwnedMessage> {
        let consumer = self.reader(topic, partition, Offset::Beginning, &[]);
        take(&consumer, count)
    }
}

/// Takes `count` messages off a consumer.
pub fn take(consumer: &BaseConsumer, count: usize) -> Vec<OwnedMessage> {
    let deadline = Instant::now() + PATIENCE;
    let mut messages = Vec::new();
    while messages.len() < count {
        assert!(
            Instant::now() < deadline,
            "only {} of {count} messages came",
            messages.len()
        );
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            messages.push(message.unwrap().detach());
        }
    }
    messages
}

pub fn payloads(messages: &[OwnedMessage]) -> Vec<Vec<u8>> {
    messages
        .iter()
        .map(|message| message.payload().unwrap_or_default().to_vec())
        .collect()
}

/// Puts the length before a request.
pub fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

/// Sends a request and returns the answer, without its length.
pub fn ask(stream: &mut TcpStream, body: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&frame(body)).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer
}
