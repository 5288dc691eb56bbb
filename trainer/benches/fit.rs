//! The inner step of `trainer`: events and labels joined, tested and learned. `cargo bench -p trainer`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use learn::features::{FeatureSpace, Layout, Row};
use schemas::label::LabelEvent;
use schemas::{Contract, Offset};
use trainer::fit::Fitter;
use trainer::input::{Body, Part};
use trainer::join::{EventId, KnownLabel};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Events of a part.
const EVENTS: usize = 1024;

/// Parts of events that wait before their labels come.
const WAITING: usize = 16;

fn contract() -> Contract {
    let text = include_str!("../../compose/streams/flights/stream.toml");
    Contract::parse("stream.toml", text).expect("the contract of the repository is good")
}

fn draw(at: usize, column: usize) -> u64 {
    xxh3_64_with_seed(&at.to_le_bytes(), column as u64)
}

fn offsets(part: &mut Part, number: usize) {
    let first = number * EVENTS;
    part.first = Offset(first as i64);
    part.last = Offset((first + EVENTS - 1) as i64);
    for at in first..first + EVENTS {
        part.offsets.push(at as i64);
        part.ids.push(EventId::of(format!("event-{at}").as_bytes()));
    }
}

/// Made-up rows, of which most ids are frequent, as those of real categories are.
fn events(layout: Layout, number: usize) -> Part {
    let mut part = Part::events(layout);
    offsets(&mut part, number);
    if let Body::Events(times, rows) = &mut part.body {
        for at in number * EVENTS..(number + 1) * EVENTS {
            let id = |slot| (draw(at, slot) as u32 % 1000).wrapping_mul(2_654_435_761) >> 14;
            let ids: Vec<u32> = (0..layout.slots).map(id).collect();
            let numbers: Vec<f64> = (0..layout.numbers)
                .map(|number| (draw(at, 100 + number) % 100) as f64)
                .collect();
            rows.push(Row {
                ids: &ids,
                numbers: &numbers,
            });
            times.push(at as i64);
        }
    }
    part
}

fn labels(number: usize) -> Part {
    let mut part = Part::labels();
    offsets(&mut part, number);
    if let Body::Labels(labels) = &mut part.body {
        let outcome = |at: usize| draw(at, 99).is_multiple_of(4);
        labels.extend(
            (number * EVENTS..(number + 1) * EVENTS).map(|at| KnownLabel {
                outcome: f64::from(u8::from(outcome(at))),
                time: at as i64,
            }),
        );
    }
    part
}

fn bench(criterion: &mut Criterion) {
    let contract = contract();
    let label = contract.label.as_ref().expect("flights have labels");
    let layout = FeatureSpace::new(&contract)
        .expect("flights have features")
        .layout();
    let mut group = criterion.benchmark_group("trainer");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let mut fitter = Fitter::new(&contract, label, layout).expect("flights can be learned");
    let take = |fitter: &mut Fitter, part: &Part| {
        fitter
            .take(part, part.last, u64::MAX)
            .expect("parts follow each other");
    };
    for number in 0..WAITING {
        take(&mut fitter, &events(layout, number));
    }
    let mut number = WAITING;
    group.bench_function("join, test and learn", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                (events(layout, number - 1), labels(number - 1 - WAITING))
            },
            |(events, labels)| {
                take(&mut fitter, &events);
                take(&mut fitter, &labels);
                black_box(fitter.take_tally())
            },
            BatchSize::PerIteration,
        );
    });
    let json =
        r#"{"id":"2013-01-01-UA-1545-EWR-0515","late":false,"arrival":"2013-01-01T16:30:00Z"}"#;
    group.bench_function("read labels", |bencher| {
        bencher.iter(|| {
            for _ in 0..EVENTS {
                let read = LabelEvent::parse(label, black_box(json.as_bytes()));
                black_box(read.map(|read| EventId::of(read.event_id.as_bytes()))).ok();
            }
        });
    });
    group.bench_function("make a version", |bencher| {
        bencher.iter_batched_ref(
            || {
                number += 1;
                take(&mut fitter, &events(layout, number - 1));
                take(&mut fitter, &labels(number - 1 - WAITING));
                fitter.advance().expect("the learner is sound")
            },
            |update| black_box(update.to_messages()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
