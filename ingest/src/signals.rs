//! What `ingest` tells operators: one method per thing that happened.

use opentelemetry::KeyValue;
use schemas::Contract;
use schemas::dead::Reason;
use telemetry::{Counter, Instruments, names};

use crate::clean::Tally;

pub(crate) struct Signals {
    raw: Counter<u64>,
    clean: Counter<u64>,
    dead: Counter<u64>,
    missing: Counter<u64>,
    invalid: Counter<u64>,
    unknown: Counter<u64>,
    fields: Vec<KeyValue>,
}

impl Signals {
    pub(crate) fn new(instruments: &Instruments, contract: &Contract) -> Signals {
        let label = |field: &schemas::contract::Field| KeyValue::new("field", field.name.clone());
        Signals {
            raw: instruments.counter(names::INGEST_RAW),
            clean: instruments.counter(names::INGEST_CLEAN),
            dead: instruments.counter(names::INGEST_DEAD),
            missing: instruments.counter(names::INGEST_MISSING),
            invalid: instruments.counter(names::INGEST_INVALID),
            unknown: instruments.counter(names::INGEST_UNKNOWN),
            fields: contract.fields.iter().map(label).collect(),
        }
    }

    pub(crate) fn decided(&self, raw: usize, clean: usize) {
        self.raw.add(raw as u64, &[]);
        self.clean.add(clean as u64, &[]);
    }

    pub(crate) fn rejected(&self, reason: Reason) {
        self.dead.add(1, &[KeyValue::new("reason", reason.name())]);
    }

    pub(crate) fn tallied(&self, tally: &Tally) {
        self.unknown.add(tally.unknown, &[]);
        for (counter, counts) in [
            (&self.missing, &tally.missing),
            (&self.invalid, &tally.invalid),
        ] {
            for (field, count) in self
                .fields
                .iter()
                .zip(counts)
                .filter(|(_, count)| 0 < **count)
            {
                counter.add(*count, std::slice::from_ref(field));
            }
        }
    }
}
