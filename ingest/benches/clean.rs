//! The inner step of `ingest`: JSON to clean columns, with one field sealed and one token.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ingest::clean::Cleaner;
use ingest::columns::{ColumnWriter, sealer};
use ingest::parse::RawEvent;
use schemas::{Contract, Offset, Partition, TopicId};
use seal::{Keyring, MemoryKeyStore, StreamId, StreamKeys};

const EVENTS: usize = 1024;

fn events() -> Vec<String> {
    let event = |at: usize| {
        format!(
            r#"{{"id":"2013-01-01-UA-{at}-EWR","scheduled_departure":"2013-01-01T10:15:00Z","scheduled_arrival":"2013-01-01T13:19:00Z","carrier":"UA","flight":{},"tail_number":"N{:05}","origin":"EWR","destination":"IAH","distance":1400,"temperature":39.02,"humidity":59.37,"wind_direction":270,"wind_speed":10.35702,"precipitation":0,"pressure":1012,"visibility":10}}"#,
            at % 9998 + 1,
            at % 4000
        )
    };
    (0..EVENTS).map(event).collect()
}

fn bench(criterion: &mut Criterion) {
    let contract = include_str!("../../compose/streams/flights/stream.toml");
    let contract =
        Contract::parse("stream.toml", contract).expect("the contract of the repository is good");
    let ring = Keyring::generate().expect("the system has randomness");
    let id = StreamId::new("demo", "flights").expect("short names");
    let keys = StreamKeys::open_or_create(id, Arc::new(ring), Arc::new(MemoryKeyStore::new()))
        .expect("a fresh store");
    let mut columns = ColumnWriter::new(&contract, &keys);
    let (mut sealer, mut slots) = (sealer(&contract, keys).expect("fresh keys"), Vec::new());
    let mut cleaner = Cleaner::new(&contract);
    let events = events();
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("json to sealed columns", |bencher| {
        bencher.iter(|| {
            let mut memory = cleaner.fresh_memory();
            let (mut event, mut clean) = (RawEvent::default(), Vec::new());
            for (at, json) in events.iter().enumerate() {
                let decided =
                    cleaner.decide(Some(json.as_bytes()), &mut memory, &mut event, &mut clean);
                decided.expect("every event is clean");
                columns.push(Offset(at as i64), 0, None, &clean);
            }
            slots.clear();
            sealer
                .resolve(columns.subjects(), &mut slots)
                .expect("a store in memory");
            black_box(
                columns
                    .finish(&sealer, &slots, TopicId([1; 16]), Partition(0))
                    .expect("columns of one length"),
            )
        });
    });
    group.bench_function("json to decisions", |bencher| {
        bencher.iter(|| {
            let mut memory = cleaner.fresh_memory();
            let (mut event, mut clean) = (RawEvent::default(), Vec::new());
            for json in &events {
                let decided =
                    cleaner.decide(Some(json.as_bytes()), &mut memory, &mut event, &mut clean);
                black_box(decided).expect("every event is clean");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
