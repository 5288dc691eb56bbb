//! What cells, tokens and erasure promise, seen from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use schemas::{FieldId, Offset, Partition, SourceCoordinates, TopicId};
use seal::{
    CELL_OVERHEAD, CellBuffer, FileKeyStore, KeyRecord, KeyStore, KeyVersion, Keyring,
    MemoryKeyStore, OpenError, Opener, SealError, SealedField, Sealer, StreamId, StreamKeys, Token,
};

const FIELD: FieldId = FieldId(6);
const OTHER_FIELD: FieldId = FieldId(7);
const FIELDS: [SealedField; 2] = [
    SealedField {
        id: FIELD,
        pad_to: 16,
    },
    SealedField {
        id: OTHER_FIELD,
        pad_to: 1,
    },
];
const SOURCE: SourceCoordinates = SourceCoordinates {
    topic_id: TopicId([7; 16]),
    partition: Partition(3),
    offset: Offset(42),
};

fn keys_of(dataset: &str, store: &Arc<dyn KeyStore>) -> StreamKeys {
    let id = StreamId::new("demo", dataset).unwrap();
    StreamKeys::open_or_create(id, Arc::new(Keyring::of([1; 32])), Arc::clone(store)).unwrap()
}

fn keys() -> StreamKeys {
    let store: Arc<dyn KeyStore> = Arc::new(MemoryKeyStore::new());
    keys_of("flights", &store)
}

fn sealer(keys: &StreamKeys) -> Sealer {
    Sealer::new(keys.clone(), &FIELDS, 100).unwrap()
}

fn subject(keys: &StreamKeys, name: &str) -> Option<Token> {
    Some(
        keys.tokenizer(FIELD, StreamKeys::COLUMN)
            .token(name.as_bytes()),
    )
}

fn seal_one(
    sealer: &mut Sealer,
    field: FieldId,
    subject: Option<Token>,
    plaintext: &[u8],
) -> Vec<u8> {
    let (mut slots, mut cells) = (Vec::new(), CellBuffer::new());
    sealer.resolve(&[subject], &mut slots).unwrap();
    let mut column = sealer
        .column(field, SOURCE.topic_id, SOURCE.partition)
        .unwrap();
    column
        .seal(SOURCE.offset, slots[0], plaintext, &mut cells)
        .unwrap();
    cells.data
}

#[test]
fn a_cell_opens_to_what_was_sealed_and_is_padded() {
    let keys = keys();
    let mut sealer = sealer(&keys);
    let opener = Opener::new(keys.clone());
    for length in 0..100_usize {
        let plaintext: Vec<u8> = (0..length).map(|i| [0, 0x80, i as u8][i % 3]).collect();
        for who in [subject(&keys, "N1"), subject(&keys, "N2"), None] {
            let cell = seal_one(&mut sealer, FIELD, who, &plaintext);
            assert_eq!(
                cell.len(),
                CELL_OVERHEAD + (length + 1).next_multiple_of(16)
            );
            assert_eq!(opener.cell(FIELD, SOURCE, who, &cell).unwrap(), plaintext);
            let cell = seal_one(&mut sealer, OTHER_FIELD, who, &plaintext);
            assert_eq!(cell.len(), CELL_OVERHEAD + length + 1);
            assert_eq!(
                opener.cell(OTHER_FIELD, SOURCE, who, &cell).unwrap(),
                plaintext
            );
        }
    }
}

#[test]
fn a_replay_seals_to_the_same_bytes_and_nothing_else_does() {
    let store: Arc<dyn KeyStore> = Arc::new(MemoryKeyStore::new());
    let keys = keys_of("flights", &store);
    let who = subject(&keys, "N1");
    let cell = seal_one(&mut sealer(&keys), FIELD, who, b"N1");
    assert_eq!(
        seal_one(&mut sealer(&keys_of("flights", &store)), FIELD, who, b"N1"),
        cell
    );
    let nonce = |cell: &[u8]| cell[6..30].to_vec();
    let others = [
        seal_one(&mut sealer(&keys), FIELD, who, b"N2"),
        seal_one(&mut sealer(&keys), FIELD, subject(&keys, "N2"), b"N1"),
        seal_one(&mut sealer(&keys), OTHER_FIELD, who, b"N1"),
        seal_one(&mut sealer(&keys_of("trains", &store)), FIELD, who, b"N1"),
    ];
    for other in others {
        assert_ne!(nonce(&other), nonce(&cell));
    }
}

#[test]
fn a_moved_cell_does_not_open() {
    let store: Arc<dyn KeyStore> = Arc::new(MemoryKeyStore::new());
    let keys = keys_of("flights", &store);
    let (one, two) = (subject(&keys, "N1"), subject(&keys, "N2"));
    let mut sealer = sealer(&keys);
    seal_one(&mut sealer, FIELD, two, b"so that the subject is known");
    let cell = seal_one(&mut sealer, FIELD, one, b"N1");
    let opener = Opener::new(keys);
    assert!(opener.cell(FIELD, SOURCE, one, &cell).is_ok());
    let fails = |field, source, who| {
        assert!(matches!(
            opener.cell(field, source, who, &cell),
            Err(OpenError::Cell)
        ));
    };
    fails(OTHER_FIELD, SOURCE, one);
    fails(
        FIELD,
        SourceCoordinates {
            offset: Offset(43),
            ..SOURCE
        },
        one,
    );
    fails(
        FIELD,
        SourceCoordinates {
            partition: Partition(2),
            ..SOURCE
        },
        one,
    );
    fails(
        FIELD,
        SourceCoordinates {
            topic_id: TopicId([8; 16]),
            ..SOURCE
        },
        one,
    );
    fails(FIELD, SOURCE, two);
    fails(FIELD, SOURCE, None);
    fails(FIELD, SOURCE, Some(Token([0; 16])));
    assert!(opener.letter(SOURCE, &cell).is_err());
    let other_table = Opener::new(keys_of("trains", &store));
    assert!(other_table.cell(FIELD, SOURCE, one, &cell).is_err());
}

#[test]
fn no_changed_cell_opens_and_no_bytes_panic() {
    let keys = keys();
    let who = subject(&keys, "N1");
    let cell = seal_one(&mut sealer(&keys), FIELD, who, b"N12345");
    let opener = Opener::new(keys);
    for at in 0..cell.len() * 8 {
        let mut changed = cell.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let opened = opener.cell(FIELD, SOURCE, who, &changed);
        assert!(matches!(opened, Err(OpenError::Cell)), "bit {at}");
    }
    for cut in 0..cell.len() {
        assert!(opener.cell(FIELD, SOURCE, who, &cell[..cut]).is_err());
        assert!(opener.cell(FIELD, SOURCE, who, &cell[cut + 1..]).is_err());
    }
    let longer = [cell.as_slice(), &[0]].concat();
    assert!(opener.cell(FIELD, SOURCE, who, &longer).is_err());
}

#[test]
fn an_erased_subject_stays_unreadable_and_a_new_event_gets_a_new_key() {
    let keys = keys();
    let (who, bystander) = (subject(&keys, "N1"), subject(&keys, "N2"));
    let mut sealer = sealer(&keys);
    let opener = Opener::new(keys.clone());
    let old = seal_one(&mut sealer, FIELD, who, b"N1");
    let kept = seal_one(&mut sealer, FIELD, bystander, b"N2");
    assert!(keys.erase(who.unwrap()).unwrap());
    assert!(!keys.erase(who.unwrap()).unwrap());
    assert!(opener.cell(FIELD, SOURCE, who, &old).is_err());
    assert_eq!(
        keys.record(who.unwrap()).unwrap(),
        Some(KeyRecord::Erased(KeyVersion(1)))
    );

    // The sealer had the old key in its cache, and drops it.
    let new = seal_one(&mut sealer, FIELD, who, b"N1");
    assert_ne!(new[..6], old[..6]);
    assert_eq!(opener.cell(FIELD, SOURCE, who, &new).unwrap(), b"N1");
    assert!(opener.cell(FIELD, SOURCE, who, &old).is_err());
    assert_eq!(opener.cell(FIELD, SOURCE, bystander, &kept).unwrap(), b"N2");
}

#[test]
fn the_cache_forgets_and_finds_again() {
    let keys = keys();
    let mut small = Sealer::new(keys.clone(), &FIELDS, 10).unwrap();
    let mut large = sealer(&keys);
    for round in 0..5 {
        for batch in 0..20 {
            let names: Vec<String> = (0..7)
                .map(|i| format!("N{}", (batch * 3 + i * (round + 1)) % 40))
                .collect();
            let subjects: Vec<_> = names
                .iter()
                .map(|name| subject(&keys, name))
                .chain([None])
                .collect();
            let seal = |sealer: &mut Sealer| {
                let (mut slots, mut cells) = (Vec::new(), CellBuffer::new());
                sealer.resolve(&subjects, &mut slots).unwrap();
                let mut column = sealer
                    .column(OTHER_FIELD, SOURCE.topic_id, SOURCE.partition)
                    .unwrap();
                for (row, slot) in slots.iter().enumerate() {
                    column
                        .seal(Offset(row as i64), *slot, b"same", &mut cells)
                        .unwrap();
                }
                cells
            };
            assert_eq!(seal(&mut small), seal(&mut large));
        }
    }
}

#[test]
fn slots_end_with_their_batch() {
    let keys = keys();
    let mut sealer = sealer(&keys);
    let (mut slots, mut cells) = (Vec::new(), CellBuffer::new());
    sealer.resolve(&[None], &mut slots).unwrap();
    sealer.resolve(&[], &mut slots).unwrap();
    let mut column = sealer
        .column(FIELD, SOURCE.topic_id, SOURCE.partition)
        .unwrap();
    let stale = column.seal(SOURCE.offset, slots[0], b"", &mut cells);
    assert!(matches!(stale, Err(SealError::StaleSlot)));
    assert!(cells.is_empty());
    assert!(matches!(
        sealer
            .column(FieldId(9), SOURCE.topic_id, SOURCE.partition)
            .err(),
        Some(SealError::Field { field: FieldId(9) })
    ));
}

#[test]
fn letters_open_at_their_coordinates_alone() {
    let keys = keys();
    let sealer = sealer(&keys);
    let opener = Opener::new(keys);
    for length in [0, 1, 63, 64, 279, 2_000_000] {
        let raw = vec![0; length];
        let mut letter = Vec::new();
        sealer.seal_letter(SOURCE, &raw, &mut letter).unwrap();
        assert_eq!(opener.letter(SOURCE, &letter).unwrap(), raw);
        assert!(
            opener
                .letter(
                    SourceCoordinates {
                        offset: Offset(0),
                        ..SOURCE
                    },
                    &letter
                )
                .is_err()
        );
        assert!(opener.cell(FIELD, SOURCE, None, &letter).is_err());
    }
}

#[test]
fn tokens_are_equal_within_a_field_and_purpose_and_linked_to_nothing_else() {
    let store: Arc<dyn KeyStore> = Arc::new(MemoryKeyStore::new());
    let (keys, other) = (keys_of("flights", &store), keys_of("trains", &store));
    let token = keys.tokenizer(FIELD, "column").token(b"N1");
    assert_eq!(keys.tokenizer(FIELD, "column").token(b"N1"), token);
    assert_ne!(keys.tokenizer(FIELD, "column").token(b"N2"), token);
    assert_ne!(keys.tokenizer(FIELD, "join").token(b"N1"), token);
    assert_ne!(keys.tokenizer(OTHER_FIELD, "column").token(b"N1"), token);
    assert_ne!(other.tokenizer(FIELD, "column").token(b"N1"), token);
    assert_ne!(keys.subject(token).0, token.0);
}

#[test]
fn another_key_file_is_told_from_a_damaged_cell() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn KeyStore> =
        Arc::new(FileKeyStore::open(&folder.path().join("keys")).unwrap());
    let id = || StreamId::new("demo", "flights").unwrap();
    let open = |key| StreamKeys::open(id(), Arc::new(Keyring::of(key)), Arc::clone(&store));
    assert!(matches!(open([1; 32]), Err(SealError::NoStream { .. })));
    keys_of("flights", &store);
    assert!(open([1; 32]).is_ok());
    let error = open([2; 32]).unwrap_err();
    assert!(matches!(error, SealError::Unwrap { .. }), "{error}");
}

#[test]
fn nothing_secret_is_printed() {
    let keys = keys();
    let printed = format!(
        "{keys:?} {:?} {:?}",
        sealer(&keys),
        keys.tokenizer(FIELD, "column")
    );
    assert!(printed.contains("***"), "{printed}");
    assert!(!printed.contains("[1, 1"), "{printed}");
}
