//! Raw events: what a partition has shown before (with its length before it), then an event a line.
//!
//! Each is refused with a reason or is clean; what is clean becomes a batch of the contract with a row for each. What
//! was shown before is as the clean topic says it, so it may be anything.

use ingest::clean::Cleaner;
use ingest::columns::{ColumnWriter, sealer};
use ingest::parse::RawEvent;
use ingest::{Moments, Window};
use schemas::clean::{CleanDecoder, CleanEncoder};
use schemas::{Offset, Partition, TopicId};

use super::cell::KEYS;
use super::clean::CONTRACT;

/// Cleans events.
pub fn run(mut data: &[u8]) {
    let shown = super::part(&mut data);
    let mut cleaner = Cleaner::new(&CONTRACT);
    let mut memory = cleaner.fresh_memory();
    memory.window = Window::new(4);
    if let Some(moments) = Moments::read_all(shown, memory.moments.len()) {
        assert_eq!(Moments::write_all(&moments), shown);
        memory.moments = moments;
    }
    let mut columns = ColumnWriter::new(&CONTRACT, &KEYS);
    let (mut event, mut clean, mut accepted) = (RawEvent::default(), Vec::new(), 0);
    for (at, json) in data.split(|byte| *byte == b'\n').enumerate() {
        let decided = cleaner.decide(Some(json), &mut memory, &mut event, &mut clean);
        if decided.is_ok() {
            columns.push(Offset(at as i64), 0, None, &clean);
            accepted += 1;
        }
    }
    let mut sealer = sealer(&CONTRACT, KEYS.clone()).expect("the contract's fields are sound");
    let mut slots = Vec::new();
    let resolved = sealer.resolve(columns.subjects(), &mut slots);
    resolved.expect("a store in memory does not fail");
    let batch = columns.finish(&sealer, &slots, TopicId([7; 16]), Partition(0));
    let batch = batch.expect("columns are of one length");
    assert_eq!(batch.num_rows(), accepted);
    let mut payload = Vec::new();
    let encoded = CleanEncoder::default().encode(&batch, &mut payload);
    encoded.expect("a batch can be encoded");
    let read = CleanDecoder::new(batch.schema()).decode(&payload);
    assert_eq!(read.expect("what was encoded decodes").num_rows(), accepted);
}
