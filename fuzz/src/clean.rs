//! Headers of clean batches and dead letters, and payloads of clean batches: lines `name: value`, an empty line, then
//! the payload.
//!
//! What is read is written back as it was read; a payload that is a batch of the contract gives rows; anything else is
//! refused.

use std::sync::LazyLock;

use learn::features::{FeatureSpace, Rows};
use schemas::clean::{CleanDecoder, CleanEncoder, CleanHeader};
use schemas::dead::DeadHeader;
use schemas::{Columns, Contract};

/// The contract of events, and of clean batches.
pub static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let text = include_str!("../../schemas/fixtures/contract.toml");
    Contract::parse("contract.toml", text).expect("the fixture is a contract")
});

/// Reads a message of the clean topic and one of the dead topic.
pub fn run(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, payload) = data.split_at(end.unwrap_or(data.len()));
    let headers = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.windows(2).position(|pair| pair == b": ")?;
        Some((std::str::from_utf8(&line[..at]).ok()?, &line[at + 2..]))
    });
    let _ = DeadHeader::from_headers(headers.clone());
    if let Ok(header) = CleanHeader::from_headers(headers) {
        let written = header.to_headers();
        let again = written.iter().map(|(name, value)| (*name, &value[..]));
        assert_eq!(CleanHeader::from_headers(again).ok(), Some(header));
    }
    decode(payload.get(2..).unwrap_or_default());
}

fn decode(payload: &[u8]) {
    let columns = Columns::of(&CONTRACT);
    let decoder = CleanDecoder::new(columns.schema().clone());
    let _ = CleanDecoder::with_projection(columns.schema().clone(), vec![2, 0]).decode(payload);
    let Ok(batch) = decoder.decode(payload) else {
        return;
    };
    let encode = |batch| {
        let mut bytes = Vec::new();
        let encoded = CleanEncoder::default().encode(batch, &mut bytes);
        encoded.expect("what was decoded can be encoded");
        bytes
    };
    let bytes = encode(&batch);
    let again = decoder.decode(&bytes).expect("what was encoded decodes");
    assert_eq!(encode(&again), bytes);
    let mut space = FeatureSpace::new(&CONTRACT).expect("the fixture has features");
    let mut rows = Rows::new(space.layout());
    space
        .encode(&batch, &mut rows)
        .expect("the columns are the contract's");
    assert_eq!(rows.len(), batch.num_rows());
}
