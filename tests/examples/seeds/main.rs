//! Writes the corpora's first inputs, from which libFuzzer goes on: `cargo run --release -p tests --example seeds`.
//!
//! Run it when a wire form changes; what the fuzzer found stays beside the seeds.

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;
mod requests;

use std::path::Path;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::DataType;
use broker::log::batch;
use broker::log::codec::Codec;
use broker::services::Services;
use ingest::Moments;
use learn::features::FeatureSpace;
use learn::learners::{Learner, Params};
use learn::model::{Lineage, Snapshot};
use linfa::ParamGuard;
use schemas::clean::{CleanEncoder, CleanHeader};
use schemas::{Columns, Contract, Offset, Partition, TopicId};
use seal::{Opener, Sealer};
use trainer::fit::Fitter;

const FLIGHTS: &str = include_str!("../../../schemas/fixtures/contract.toml");
const LINEAR: &str = include_str!("../../../fuzz/src/linear.toml");
const BLEND: &str = include_str!("../../../fuzz/src/blend.toml");
const SLICES: &str = include_str!("../../../fuzz/src/slices.toml");

fn main() {
    clean();
    events();
    contracts();
    cells();
    models();
    batches();
    folders();
    requests::save_all();
}

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    std::fs::create_dir_all(&folder).expect("the corpus can be written");
    std::fs::write(folder.join(format!("seed-{name}")), bytes).expect("the seed can be written");
    let own = fuzz::TARGETS.iter().find(|(of, _)| *of == target);
    own.expect("it is a target").1(bytes);
}

fn fixture(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read(path).expect("the fixture is there")
}

fn contract(text: &str) -> Contract {
    Contract::parse("seed.toml", text).expect("it is a contract")
}

/// Puts parts behind each other, each with its length before it.
fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let framed = |part: &&[u8]| [&(part.len() as u16).to_be_bytes()[..], part].concat();
    parts.iter().flat_map(framed).collect()
}

fn column(kind: &DataType, rows: usize, nullable: bool) -> ArrayRef {
    let array: ArrayRef = match kind {
        _ if nullable && rows == 1 => new_null_array(kind, rows),
        DataType::Int64 => std::sync::Arc::new(Int64Array::from_iter_values(0..rows as i64)),
        DataType::Float64 => std::sync::Arc::new(Float64Array::from(vec![0.5; rows])),
        DataType::Boolean => std::sync::Arc::new(BooleanArray::from(vec![true; rows])),
        DataType::Utf8 => std::sync::Arc::new(StringArray::from(vec!["é"; rows])),
        DataType::Binary => {
            std::sync::Arc::new(BinaryArray::from(vec![&b"0123456789abcdef"[..]; rows]))
        }
        _ => {
            let times = TimestampMicrosecondArray::from(vec![1_357_035_300_000_000; rows]);
            std::sync::Arc::new(times.with_timezone("+00:00"))
        }
    };
    array
}

fn clean() {
    let contract = contract(FLIGHTS);
    let columns = Columns::of(&contract);
    let header = CleanHeader {
        topic_id: TopicId([7; 16]),
        partition: Partition(3),
        first: Offset(0),
        last: Offset(9),
        contract: contract.digest(),
        ingest_state: vec![1, 0, 255],
    };
    let mut head = Vec::new();
    for (name, value) in header.to_headers() {
        head.extend([name.as_bytes(), b": ", &value[..], b"\n"].concat());
    }
    save("clean", "header", &head);
    for version in [1, 2] {
        let letter = fixture(&format!("schemas/fixtures/dead-{version}.txt"));
        save("clean", &format!("dead-{version}"), &letter);
    }
    for rows in [0, 1, 9] {
        let schema = columns.schema();
        let arrays = schema.fields().iter();
        let arrays = arrays.map(|field| column(field.data_type(), rows, field.is_nullable()));
        let batch = RecordBatch::try_new(schema.clone(), arrays.collect()).expect("it fits");
        let mut payload = b"\n\n".to_vec();
        let encoded = CleanEncoder::default().encode(&batch, &mut payload);
        encoded.expect("it can be encoded");
        save("clean", &format!("rows-{rows}"), &payload);
    }
}

fn events() {
    let event = r#"{"id":"a","scheduled_departure":"2013-01-01T10:15:00Z","scheduled_arrival":1357045140000,
        "carrier":" ua ","flight":7,"tail_number":"N12345","origin":"EWR","destination":"IAH","distance":1400,
        "temperature":39.02,"humidity":59.37,"wind_direction":270,"wind_speed":1e9,"precipitation":0,
        "pressure":null,"visibility":10}"#;
    let event: String = event.lines().map(str::trim).collect();
    let next = event
        .replace(r#""id":"a""#, r#""id":"b""#)
        .replace("N12345", "");
    let lines = [&event, &event, &next, "{}", "[]"].join("\n");
    let moments = [Moments::default(); 2];
    save(
        "event",
        "fresh",
        &[&parts(&[b""]), lines.as_bytes()].concat(),
    );
    let shown = Moments::write_all(&moments);
    save(
        "event",
        "shown",
        &[&parts(&[&shown]), event.as_bytes()].concat(),
    );
    save(
        "event",
        "short",
        &[
            &parts(&[b""]),
            &br#"{"id":"a","flight":1e3,"carrier":7}"#[..],
        ]
        .concat(),
    );
}

fn contracts() {
    for (name, text) in [
        ("flights", FLIGHTS),
        ("linear", LINEAR),
        ("blend", BLEND),
        ("slices", SLICES),
    ] {
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim_end());
        let short: Vec<&str> = lines.collect();
        save("contract", name, short.join("\n").as_bytes());
    }
    save(
        "contract",
        "bad",
        &fixture("schemas/fixtures/bad-contract.toml"),
    );
    save("json", "score", &fixture("schemas/fixtures/score-1.json"));
    save(
        "json",
        "label",
        br#"{"id":"a\u00e9","late":true,"time":"2013-01-01T05:15:00.25-05:00"}"#,
    );
    save(
        "json",
        "event",
        br#" {"time":5,"late":-0.5e3,"more":[1,{"a":null}],"id":"\n"} "#,
    );
    save(
        "json",
        "numbers",
        br#"{"id":18446744073709551615,"late":-9223372036854775808,"time":1e308}"#,
    );
    save(
        "json",
        "surrogates",
        br#"{"id":"\ud83d\ude00\ud800","late":1e999,"time":-0}"#,
    );
    save(
        "json",
        "twice",
        br#"{"id":1,"\u0069d":"b","late":0.1e-400,"time":9223372036854775808}"#,
    );
    save(
        "json",
        "deep",
        format!("{{\"x\":{}{}}}", "[".repeat(65), "]".repeat(65)).as_bytes(),
    );
    save("json", "time", b"2024-02-29 23:59:60.123456789+23:59");
}

fn cells() {
    let fixture = String::from_utf8(fixture("lib/seal/fixtures/v1.txt")).expect("it is text");
    let value = |name: &str| {
        let line = fixture
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        let digits = line.expect("the fixture has it").as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16);
        let bytes: Result<Vec<u8>, _> = digits.chunks(2).map(byte).collect();
        bytes.expect("it is hexadecimal")
    };
    let kek =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../lib/seal/fixtures/v1.kek"));
    let kek = kek.expect("the fixture is there");
    let record = value("stream record");
    save(
        "cell",
        "cell",
        &[parts(&[&record, &kek]), value("cell")].concat(),
    );
    save(
        "cell",
        "erased",
        &parts(&[b"\x01\x02\0\0\0\x07", b"thalweg-kek 1\n1 zz\n"]),
    );
    let keys = fuzz::cell::KEYS.clone();
    let sealer = Sealer::new(keys.clone(), &[], 1).expect("no field is wrong");
    let mut letter = Vec::new();
    sealer
        .seal_letter(fuzz::cell::SOURCE, b"{}", &mut letter)
        .expect("it is short");
    assert!(
        Opener::new(keys)
            .letter(fuzz::cell::SOURCE, &letter)
            .is_ok()
    );
    save("cell", "letter", &[parts(&[b"", b""]), letter].concat());
}

fn models() {
    for (name, text) in [("linear", LINEAR), ("blend", BLEND), ("slices", SLICES)] {
        let contract = contract(text);
        let label = contract.label.as_ref().expect("it has a label");
        let layout = FeatureSpace::new(&contract)
            .expect("it has features")
            .layout();
        let mut fitter = Fitter::new(&contract, label, layout).expect("its learner can be");
        fuzz::checkpoint::learn(&mut fitter, layout, 0).expect("nothing is missing");
        let update = fitter.advance().expect("it has learned");
        save("model", name, &update.to_bytes());
        let messages = update.to_messages();
        save("model", &format!("{name}-chunks"), &parts(&[&messages[0]]));
        let dead = [(Partition(0), Offset(7))].into_iter().collect();
        let stored = trainer::checkpoint::encode(&fitter, Offset(7), &dead);
        save("checkpoint", name, &stored.expect("it has not failed"));
    }
    for version in 1..=3 {
        let path = format!("trainer/fixtures/checkpoint-{version}.safetensors");
        save("checkpoint", &format!("fixture-{version}"), &fixture(&path));
    }
    save(
        "model",
        "update-1",
        &fixture("schemas/fixtures/update-1.bin"),
    );
    let zeros = "0".repeat(64);
    let told = format!(
        r#"{{"kind":"snapshot","wire":1,"version":3,"digest":"{zeros}","contract":"{zeros}","object":"m/3"}}"#
    );
    save("model", "announcement", &parts(&[told.as_bytes()]));
    for name in ["snapshot-1", "snapshot-2"] {
        save(
            "snapshot",
            name,
            &fixture(&format!("lib/learn/fixtures/{name}.safetensors")),
        );
    }
    for (name, learner) in [
        ("sgd", "update = \"sgd\"\nbits = 2"),
        (
            "adagrad",
            "update = \"adagrad\"\nbits = 2\ncrosses = \"auto\"",
        ),
        ("coin", "update = \"coin\"\nbits = 2"),
        ("normalised", "update = \"normalised\"\nbits = 2"),
        ("blend", "update = \"blend\"\nbits = 1"),
    ] {
        let head = LINEAR.split("[learner]").next().unwrap_or_default();
        let contract = contract(&format!("{head}[learner]\n{learner}\n"));
        let layout = FeatureSpace::new(&contract)
            .expect("it has features")
            .layout();
        let params = Params::of(&contract.learner)
            .check()
            .expect("they were checked");
        let snapshot = Snapshot {
            learner: Learner::new(params, layout),
            lineage: Lineage::root(&contract),
            sections: [("more".to_owned(), vec![1, 2])].into(),
        };
        save("snapshot", name, &snapshot.to_bytes());
    }
}

/// Builds a batch of two records with keys, the second a tombstone.
fn records(codec: i16) -> Vec<u8> {
    let plain = b"\x16\0\0\0\x04ab\x06cde\0\x10\0\x02\x02\x04ab\x01\0";
    let body = Codec::of(codec)
        .expect("it is a codec")
        .close(plain)
        .expect("it can be compressed");
    let mut raw = vec![0; batch::HEADER_BYTES];
    raw[16] = 2;
    raw[22] = codec as u8;
    raw[26] = 1;
    raw[43..57].fill(0xff);
    raw[60] = 2;
    raw.extend(body);
    fuzz::batch::mend(&mut raw);
    raw
}

fn batches() {
    for codec in 0..5 {
        let raw = records(codec);
        let header = batch::check(&raw, 1 << 20).expect("the batch is sound");
        broker::log::records::check_keys(&header, &raw).expect("its records are too");
        save("batch", &format!("codec-{codec}"), &raw);
    }
}

fn folders() {
    for (name, policy, flags) in [
        ("kept", "delete", 1),
        ("compacted", "compact", 3),
        ("torn", "delete", 0),
    ] {
        let folder = tempfile::tempdir().expect("there is a folder for temporary files");
        let path = folder.path();
        std::fs::create_dir_all(path.join("topics/t/0")).expect("the folder can be made");
        let about = format!(
            "id 550e8400-e29b-41d4-a716-446655440000\npartitions 1\nconfig cleanup.policy={policy}\n"
        );
        std::fs::write(path.join("topics/t/topic"), about).expect("the file can be written");
        let mut config = broker::Config::new(path, ([127, 0, 0, 1], 0).into());
        config.limits.segment_bytes = 100;
        let services = Services::open(config).expect("the folder opens");
        let topic = services.catalog.by_name("t").expect("it is there");
        let partition = topic.partition(0).expect("it has one");
        for codec in [0, 4] {
            let raw = records(codec);
            let header = batch::check(&raw, 1 << 20).expect("the batch is sound");
            partition
                .append(&header, &raw, None)
                .expect("there is room");
        }
        services.producer_ids.next().expect("there are ids");
        if flags != 0 {
            services.close().expect("everything can be stored");
        }
        let files =
            fuzz::folder::FILES.map(|file| std::fs::read(path.join(file)).unwrap_or_default());
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        save("folder", name, &[&[flags], &parts(&files)[..]].concat());
    }
}
