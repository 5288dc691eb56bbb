//! What sealing costs: a cell in a column, a token, the look-up of a subject, and the first sight of one.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use schemas::{FieldId, Offset, Partition, SourceCoordinates, TopicId};
use seal::{
    CellBuffer, FileKeyStore, Keyring, MemoryKeyStore, Opener, SealedField, Sealer, StreamId,
    StreamKeys, Token,
};

const FIELD: FieldId = FieldId(6);
const TOPIC: TopicId = TopicId([7; 16]);
const ROWS: usize = 1000;
const SUBJECTS: usize = 4043;

fn keys() -> StreamKeys {
    let id = StreamId::new("demo", "flights").expect("short names");
    StreamKeys::open_or_create(
        id,
        Arc::new(Keyring::of([1; 32])),
        Arc::new(MemoryKeyStore::new()),
    )
    .expect("a store in memory does not fail")
}

/// A batch whose subjects repeat as those of a stream do: each of [`SUBJECTS`] once in [`SUBJECTS`] rows.
fn batch(keys: &StreamKeys, from: usize) -> Vec<Option<Token>> {
    let tokenizer = keys.tokenizer(FIELD, StreamKeys::COLUMN);
    (from..from + ROWS)
        .map(|row| Some(tokenizer.token(&(row * 37 % SUBJECTS).to_le_bytes())))
        .collect()
}

fn sealing(c: &mut Criterion) {
    let keys = keys();
    let mut group = c.benchmark_group("seal");
    group.throughput(Throughput::Elements(ROWS as u64));
    for bytes in [6, 16, 31, 40] {
        let field = SealedField {
            id: FIELD,
            pad_to: 16,
        };
        let mut sealer = Sealer::new(keys.clone(), &[field], 65_536).expect("one field");
        for from in (0..SUBJECTS).step_by(ROWS) {
            sealer
                .resolve(&batch(&keys, from), &mut Vec::new())
                .expect("in memory");
        }
        let subjects = batch(&keys, 0);
        let mut slots = Vec::new();
        sealer.resolve(&subjects, &mut slots).expect("in memory");
        let plaintext = vec![b'N'; bytes];
        let mut cells = CellBuffer::new();
        group.bench_function(format!("column of 1,000 cells, {bytes} bytes each"), |b| {
            b.iter(|| {
                cells.clear();
                let mut column = sealer
                    .column(FIELD, TOPIC, Partition(0))
                    .expect("the field is there");
                for (row, slot) in slots.iter().enumerate() {
                    column
                        .seal(Offset(row as i64), *slot, &plaintext, &mut cells)
                        .expect("short");
                }
                black_box(cells.data.len())
            });
        });
        group.bench_function(format!("resolve 1,000 known subjects ({bytes})"), |b| {
            b.iter(|| {
                slots.clear();
                sealer.resolve(&subjects, &mut slots).expect("in memory");
                black_box(slots.len())
            });
        });
    }
    let tokenizer = keys.tokenizer(FIELD, StreamKeys::COLUMN);
    group.bench_function("1,000 tokens", |b| {
        b.iter(|| {
            (0..ROWS as u64).fold(0, |sum, row| sum ^ tokenizer.token(&row.to_le_bytes()).0[0])
        });
    });
    group.finish();
}

fn first_sight(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = FileKeyStore::open(&folder.path().join("keys")).expect("a new file");
    let id = StreamId::new("demo", "flights").expect("short names");
    let keys = StreamKeys::open_or_create(id, Arc::new(Keyring::of([1; 32])), Arc::new(store))
        .expect("new");
    let field = SealedField {
        id: FIELD,
        pad_to: 16,
    };
    let mut sealer = Sealer::new(keys.clone(), &[field], 65_536).expect("one field");
    let tokenizer = keys.tokenizer(FIELD, StreamKeys::COLUMN);
    let mut next = 0_u64;
    let mut group = c.benchmark_group("first sight");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(10);
    group.bench_function("resolve 1,000 new subjects, durably", |b| {
        b.iter(|| {
            let subjects: Vec<_> = (next..next + ROWS as u64)
                .map(|subject| Some(tokenizer.token(&subject.to_le_bytes())))
                .collect();
            next += ROWS as u64;
            sealer
                .resolve(&subjects, &mut Vec::new())
                .expect("the file takes it");
        });
    });
    let known = vec![Some(tokenizer.token(&0_u64.to_le_bytes())); ROWS];
    group.bench_function("resolve 1,000 known subjects, keys in a file", |b| {
        b.iter(|| {
            sealer
                .resolve(&known, &mut Vec::with_capacity(ROWS))
                .expect("the file is there")
        });
    });
    group.finish();
}

fn opening(c: &mut Criterion) {
    let keys = keys();
    let field = SealedField {
        id: FIELD,
        pad_to: 16,
    };
    let mut sealer = Sealer::new(keys.clone(), &[field], 65_536).expect("one field");
    let (mut slots, mut cells) = (Vec::new(), CellBuffer::new());
    let subject = keys.tokenizer(FIELD, StreamKeys::COLUMN).token(b"N12345");
    sealer
        .resolve(&[Some(subject)], &mut slots)
        .expect("in memory");
    let mut column = sealer
        .column(FIELD, TOPIC, Partition(0))
        .expect("the field is there");
    column
        .seal(Offset(1), slots[0], b"N12345", &mut cells)
        .expect("short");
    let source = SourceCoordinates {
        topic_id: TOPIC,
        partition: Partition(0),
        offset: Offset(1),
    };
    let opener = Opener::new(keys);
    c.bench_function("open one cell", |b| {
        b.iter(|| {
            black_box(
                opener
                    .cell(FIELD, source, Some(subject), &cells.data)
                    .expect("it is ours"),
            )
        });
    });
}

criterion_group!(benches, sealing, first_sight, opening);
criterion_main!(benches);
