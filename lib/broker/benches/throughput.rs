//! What the embedded broker costs: messages per CPU second of its process, latency, memory, start and idle.
//!
//! Starts `thalweg-broker` as a process of its own, produces and consumes messages of 200 bytes with librdkafka and
//! reads the process's CPU time from `/proc`. Run with `cargo bench -p broker`; `MESSAGES` and `THREADS` in the
//! environment change how many messages pass and how many worker threads the broker has.

#![allow(clippy::unwrap_used)] // a benchmark fails as a test does

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use support::{Clients, Process};

const TOPIC: &str = "throughput";
const PARTITIONS: i32 = 4;
const MESSAGE_BYTES: usize = 200;
const IDLE: Duration = Duration::from_secs(3);
const PINGS: usize = 5_000;
const PING_PAUSE: Duration = Duration::from_millis(1);

/// Linux counts CPU time of processes in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// CPU time of a process with all its threads.
fn cpu(process: &Process) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    TICK * ticks
}

/// A figure of `/proc/<pid>/status`, in MiB.
fn memory(process: &Process, figure: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with(figure))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

fn report(what: &str, messages: usize, wall: Duration, cpu: Duration) {
    let per = |time: Duration| messages as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{what}: {:.2}M a second, {:.2}M per CPU second of the broker",
        per(wall),
        per(cpu)
    );
}

fn produce(clients: &Clients, messages: usize) {
    let options = [
        ("linger.ms", "5"),
        ("queue.buffering.max.messages", "500000"),
    ];
    let producer: BaseProducer = clients.config(&options).create().unwrap();
    let value = [b'x'; MESSAGE_BYTES];
    for n in 0..messages {
        let partition = (n / 100 % PARTITIONS as usize) as i32;
        let mut record = BaseRecord::<[u8], [u8]>::to(TOPIC)
            .partition(partition)
            .payload(&value);
        while let Err((_, refused)) = producer.send(record) {
            record = refused;
            producer.poll(Duration::from_millis(1));
        }
        if n % 1_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(support::PATIENCE).unwrap();
}

fn consume(clients: &Clients, messages: usize) {
    let consumer: BaseConsumer = clients
        .config(&[("group.id", "throughput")])
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment
            .add_partition_offset(TOPIC, partition, Offset::Beginning)
            .unwrap();
    }
    rdkafka::consumer::Consumer::assign(&consumer, &assignment).unwrap();
    let (mut left, mut last) = (messages, Instant::now());
    while 0 < left {
        // A poll may come back early with nothing.
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            assert!(
                last.elapsed() < support::PATIENCE,
                "{left} messages are missing"
            );
            continue;
        };
        message.unwrap();
        left -= 1;
        if left % 1_000 == 0 {
            last = Instant::now();
        }
    }
}

/// Sends one message at a time at linger 0 and measures until the consumer has it.
fn ping(clients: &Clients) -> Vec<Duration> {
    clients.create("ping", 1);
    let consumer = clients.reader("ping", 0, Offset::Beginning, &[]);
    let producer: BaseProducer = clients.config(&[("linger.ms", "0")]).create().unwrap();
    let mut latencies = Vec::with_capacity(PINGS);
    for n in 0..PINGS + 100 {
        let sent = Instant::now();
        let record = BaseRecord::<[u8], [u8]>::to("ping")
            .partition(0)
            .payload(&[b'x'; MESSAGE_BYTES]);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        consumer
            .poll(support::PATIENCE)
            .expect("the message comes")
            .unwrap();
        if 100 <= n {
            latencies.push(sent.elapsed());
        }
        producer.poll(Duration::ZERO);
        std::thread::sleep(PING_PAUSE);
    }
    latencies.sort();
    latencies
}

fn main() {
    let messages = number("MESSAGES", 10_000_000);
    let threads = number("THREADS", 1).to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::command(folder.path(), "127.0.0.1:0");
    command.args(["--threads", &threads]);
    let started = Instant::now();
    let process = Process::spawn(command);
    println!("start: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let clients = process.clients();

    let before = cpu(&process);
    std::thread::sleep(IDLE);
    println!(
        "idle: {:?} of CPU in {IDLE:?}, {:.1} MiB resident",
        cpu(&process) - before,
        memory(&process, "VmRSS")
    );

    let latencies = ping(&clients);
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "produce to consume: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999)
    );

    clients.create(TOPIC, PARTITIONS);
    for (what, run) in [
        ("produced", produce as fn(&Clients, usize)),
        ("consumed", consume),
    ] {
        let (before, started) = (cpu(&process), Instant::now());
        run(&clients, messages);
        report(what, messages, started.elapsed(), cpu(&process) - before);
    }
    println!(
        "memory: {:.1} MiB resident, {:.1} MiB at most",
        memory(&process, "VmRSS"),
        memory(&process, "VmHWM")
    );

    process.kill();
    let started = Instant::now();
    let process = Process::start(folder.path());
    println!(
        "start after kill -9: {:.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    drop(process);
}
