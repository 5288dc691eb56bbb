//! The broker as a process: killed in the midst of work, started again, stopped politely, started wrongly.

#![allow(clippy::unwrap_used)] // helpers of tests fail as they do

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer};
use support::{Process, Sender, until};

const TOPIC: &str = "t";
const ROUNDS: usize = 4;

/// Returns a port that was free a moment ago, so that a broker can come back where it was.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Sends numbered records to two partitions by turns until so many have been acknowledged.
fn send_until(
    sender: &Sender,
    enough: usize,
    sent: &mut u64,
    acknowledged: &mut Vec<OwnedMessage>,
) {
    let deadline = Instant::now() + support::PATIENCE;
    while acknowledged.len() < enough {
        assert!(
            Instant::now() < deadline,
            "too few records were acknowledged"
        );
        let value = [&sent.to_be_bytes()[..], &[b'x'; 92]].concat();
        let record = BaseRecord::<[u8], [u8]>::to(TOPIC)
            .partition((*sent % 2) as i32)
            .payload(&value);
        if sender.producer.in_flight_count() < 10_000 && sender.producer.send(record).is_ok() {
            *sent += 1;
        }
        sender.producer.poll(Duration::ZERO);
        acknowledged.extend(sender.deliveries.try_iter().map(Result::unwrap));
    }
}

#[test]
fn every_acknowledged_record_is_there_once_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut process = Process::start_on(folder.path(), &listen);
    let clients = process.clients();
    clients.create(TOPIC, 2);
    let sender = clients.sender(&[
        ("enable.idempotence", "true"),
        ("linger.ms", "1"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "50"),
    ]);
    let (mut sent, mut acknowledged) = (0_u64, Vec::new());
    for round in 0..ROUNDS {
        // Killed while requests are under way, at another point in each round.
        let enough = acknowledged.len() + 2_000 + 777 * round;
        send_until(&sender, enough, &mut sent, &mut acknowledged);
        process.kill();
        process = Process::start_on(folder.path(), &listen);
    }
    sender.flush();
    acknowledged.extend(
        sender
            .deliveries
            .try_iter()
            .map(|delivery| delivery.unwrap()),
    );
    assert_eq!(
        acknowledged.len() as u64,
        sent,
        "idempotent producers lose nothing"
    );
    let clients = process.clients();
    for partition in 0..2 {
        let expected: Vec<u64> = (0..sent).filter(|n| n % 2 == partition).collect();
        let found = clients.read(TOPIC, partition as i32, expected.len());
        let number = |message: &OwnedMessage| {
            u64::from_be_bytes(message.payload().unwrap()[..8].try_into().unwrap())
        };
        assert_eq!(found.iter().map(number).collect::<Vec<_>>(), expected);
        for message in acknowledged
            .iter()
            .filter(|message| message.partition() == partition as i32)
        {
            assert_eq!(
                number(&found[message.offset() as usize]),
                number(message),
                "at its acknowledged offset"
            );
        }
    }
}

/// Reads a topic whose n-th record has the number n and one of 500 keys; returns the last of each key, and how many
/// records there are.
fn last_of_each_key(process: &Process) -> (Vec<Option<u64>>, u64) {
    let clients = process.clients();
    let options = [("enable.partition.eof", "true"), ("check.crcs", "true")];
    let reader = clients.reader(TOPIC, 0, rdkafka::Offset::Beginning, &options);
    let (mut last, mut count, mut ended) = (vec![None; 500], 0_u64, false);
    until("the end", || {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().unwrap());
                let (key, n) = (
                    number(message.key().unwrap()),
                    number(message.payload().unwrap()),
                );
                assert_eq!(n % 500, key);
                assert_eq!(message.offset() as u64, n, "offsets stay");
                last[key as usize] = Some(n);
                count += 1;
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ended = true,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
        ended
    });
    (last, count)
}

#[test]
fn a_compacted_topic_keeps_the_last_of_each_key_through_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let start = |listen: &str| {
        let mut command = Process::command(folder.path(), listen);
        command.args(["--upkeep-ms", "1"]);
        Process::spawn(command)
    };
    let mut process = start("127.0.0.1:0");
    let listen = process.address.to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0"),
        ("segment.bytes", "1048576"),
    ];
    process.clients().create_with(TOPIC, 1, &configs).unwrap();
    let sender = process.clients().sender(&[
        ("enable.idempotence", "true"),
        ("linger.ms", "1"),
        ("compression.codec", "lz4"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "50"),
    ]);
    let (mut sent, mut delivered) = (0_u64, 0);
    let noise: Vec<u8> = (0..40_000_u64)
        .map(|n| (n * n * 31 / 7 % 256) as u8)
        .collect();
    for round in 0..ROUNDS as u64 {
        // Killed while requests and most likely a compaction are under way, at another point in each round.
        let enough = delivered + 15_000 + 1_777 * round;
        until("enough acknowledgements", || {
            let at = (sent * 97 % 39_000) as usize;
            let value = [&sent.to_be_bytes()[..], &noise[at..at + 300]].concat();
            let key = (sent % 500).to_be_bytes();
            let record = BaseRecord::<[u8], [u8]>::to(TOPIC)
                .partition(0)
                .key(&key)
                .payload(&value);
            sent += u64::from(sender.producer.send(record).is_ok());
            sender.producer.poll(Duration::ZERO);
            let reports = sender.deliveries.try_iter();
            let sound = reports.inspect(|report| assert!(report.is_ok(), "{report:?}"));
            delivered += sound.count() as u64;
            enough <= delivered
        });
        process.kill();
        process = start(&listen);
    }
    sender.flush();
    let cleaned = folder.path().join("topics").join(TOPIC).join("0/cleaned");
    until("compaction", || cleaned.exists());
    let (last, count) = last_of_each_key(&process);
    let expected: Vec<_> = (0..500)
        .map(|key| Some(sent - 1 - (sent - 1 - key) % 500))
        .collect();
    assert_eq!(last, expected);
    assert!(count < sent / 2, "{count} of {sent} are left");
}

#[test]
fn a_torn_tail_is_cut_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path());
    let clients = process.clients();
    clients.create(TOPIC, 1);
    let sender = clients.sender(&[]);
    for n in 0..10 {
        sender.value(TOPIC, &[n]).unwrap();
    }
    process.kill();
    let log = folder
        .path()
        .join("topics")
        .join(TOPIC)
        .join("0/00000000000000000000.log");
    let sound = std::fs::read(&log).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(&sound[..sound.len() / 20]).unwrap(); // half a batch
    let process = Process::start(folder.path());
    assert_eq!(log.metadata().unwrap().len(), sound.len() as u64);
    let clients = process.clients();
    assert_eq!(clients.sender(&[]).value(TOPIC, &[10]).unwrap(), 10);
    let expected: Vec<Vec<u8>> = (0..=10).map(|n| vec![n]).collect();
    assert_eq!(support::payloads(&clients.read(TOPIC, 0, 11)), expected);
}

#[test]
fn producer_and_topic_ids_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let describe =
        || std::fs::read_to_string(folder.path().join("topics").join(TOPIC).join("topic")).unwrap();
    let process = Process::start(folder.path());
    process.clients().create(TOPIC, 3);
    let before = describe();
    process.kill();
    let process = Process::start(folder.path());
    assert_eq!(describe(), before);
    let metadata = process
        .clients()
        .sender(&[])
        .producer
        .client()
        .fetch_metadata(Some(TOPIC), support::PATIENCE);
    assert_eq!(metadata.unwrap().topics()[0].partitions().len(), 3);
}

#[test]
fn sigterm_ends_it_cleanly_with_clients_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path());
    let clients = process.clients();
    clients.create(TOPIC, 1);
    clients.sender(&[]).value(TOPIC, b"x").unwrap();
    let reader = clients.reader(
        TOPIC,
        0,
        rdkafka::Offset::Beginning,
        &[
            ("fetch.wait.max.ms", "60000"),
            ("socket.timeout.ms", "90000"),
        ],
    );
    support::take(&reader, 1);
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut status = None;
    until("the end of the process", || {
        status = process.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10));
    // A clean stop leaves an index for the last segment too, so that the next start need not check it.
    assert!(
        folder
            .path()
            .join("topics")
            .join(TOPIC)
            .join("0/00000000000000000000.index")
            .exists()
    );
    let process = Process::start(folder.path());
    assert_eq!(process.clients().sender(&[]).value(TOPIC, b"y").unwrap(), 1);
}

#[test]
fn a_folder_in_use_and_bad_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::start(folder.path());
    let second = Process::command(folder.path(), "127.0.0.1:0")
        .env("RUST_LOG", "error")
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another broker"));
    let wrong = Process::command(folder.path(), "nonsense")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(64));
}
