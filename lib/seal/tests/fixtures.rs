//! What earlier versions sealed opens for ever: `fixtures/v1.txt` pins the bytes of key records, cells,
//! letters and tokens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use schemas::{FieldId, Offset, Partition, SourceCoordinates, TopicId};
use seal::{
    CellBuffer, KeyFile, KeyRecord, KeyStore, MakeKey, Opener, SealError, SealedField, Sealer,
    StreamId, StreamKeys, SubjectRef, WrappedKey,
};

const FIELD: FieldId = FieldId(6);
const SOURCE: SourceCoordinates = SourceCoordinates {
    topic_id: TopicId([7; 16]),
    partition: Partition(3),
    offset: Offset(42),
};

/// The lines `name = hexadecimal` of a file.
struct Fixture(HashMap<String, Vec<u8>>);

impl Fixture {
    fn read(path: &Path) -> Fixture {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(" = "));
        Fixture(
            lines
                .map(|(name, digits)| (name.to_owned(), bytes(digits)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> &[u8] {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("the fixture has no `{name}`"))
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// A store of the fixture's records.
struct FixtureStore(HashMap<SubjectRef, KeyRecord>);

impl FixtureStore {
    fn of(fixture: &Fixture) -> FixtureStore {
        let record = |name: &str| {
            let reference = fixture
                .get(&format!("{name} reference"))
                .try_into()
                .unwrap();
            let record = KeyRecord::decode(fixture.get(&format!("{name} record"))).unwrap();
            (SubjectRef(reference), record)
        };
        FixtureStore(HashMap::from([record("stream"), record("subject")]))
    }
}

impl KeyStore for FixtureStore {
    fn get(&self, subject: SubjectRef) -> Result<Option<KeyRecord>, SealError> {
        Ok(self.0.get(&subject).cloned())
    }

    fn get_or_create(
        &self,
        subjects: &[SubjectRef],
        _: &mut MakeKey<'_>,
    ) -> Result<Vec<WrappedKey>, SealError> {
        let key = |subject: &SubjectRef| match &self.0[subject] {
            KeyRecord::Live(key) => key.clone(),
            KeyRecord::Erased(_) => panic!("the fixture's keys are live"),
        };
        Ok(subjects.iter().map(key).collect())
    }

    fn destroy(&self, _: SubjectRef) -> Result<bool, SealError> {
        panic!("fixtures are not destroyed")
    }

    fn destroyed(&self) -> Result<u64, SealError> {
        Ok(0)
    }
}

#[test]
fn version_1_seals_and_opens_to_the_pinned_bytes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let fixture = Fixture::read(&folder.join("v1.txt"));
    let copy = tempfile::tempdir().unwrap();
    let ring = {
        // A checkout does not keep mode 0600.
        use std::os::unix::fs::PermissionsExt;
        let path = copy.path().join("kek");
        std::fs::copy(folder.join("v1.kek"), &path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        Arc::new(KeyFile::read(&path).unwrap())
    };
    let id = StreamId::new("demo", "flights").unwrap();
    let keys = StreamKeys::open(id, ring, Arc::new(FixtureStore::of(&fixture))).unwrap();
    let subject = keys.tokenizer(FIELD, StreamKeys::COLUMN).token(b"N12345");
    assert_eq!(subject.0, fixture.get("token"));
    assert_eq!(keys.subject(subject).0, fixture.get("subject reference"));

    let mut sealer = Sealer::new(
        keys.clone(),
        &[SealedField {
            id: FIELD,
            pad_to: 16,
        }],
        10,
    )
    .unwrap();
    let (mut slots, mut cells, mut letter) = (Vec::new(), CellBuffer::new(), Vec::new());
    sealer.resolve(&[Some(subject), None], &mut slots).unwrap();
    let mut column = sealer
        .column(FIELD, SOURCE.topic_id, SOURCE.partition)
        .unwrap();
    column
        .seal(SOURCE.offset, slots[0], b"N12345", &mut cells)
        .unwrap();
    column
        .seal(SOURCE.offset, slots[1], b"nobody's", &mut cells)
        .unwrap();
    sealer
        .seal_letter(SOURCE, b"{ not json", &mut letter)
        .unwrap();
    let first = cells.offsets[1] as usize;
    assert_eq!(&cells.data[..first], fixture.get("cell"));
    assert_eq!(&cells.data[first..], fixture.get("cell without subject"));
    assert_eq!(letter, fixture.get("letter"));

    let opener = Opener::new(keys);
    let open = |who, name| opener.cell(FIELD, SOURCE, who, fixture.get(name)).unwrap();
    assert_eq!(open(Some(subject), "cell"), b"N12345");
    assert_eq!(open(None, "cell without subject"), b"nobody's");
    assert_eq!(
        opener.letter(SOURCE, fixture.get("letter")).unwrap(),
        b"{ not json"
    );
}
