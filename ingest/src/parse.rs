//! From the bytes of a raw record to one value for each field of the contract; strings stay borrowed.

use schemas::Contract;
use schemas::json::{self, Malformed, RawValue};

/// Largest record that is parsed; what is longer is no event.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// The values of one raw event, in the order of the contract's fields.
#[derive(Debug, Default)]
pub struct RawEvent<'a> {
    /// One value for each field.
    pub values: Vec<RawValue<'a>>,
    /// How many fields the contract does not name.
    pub unknown: u32,
}

/// The names of a contract's fields, in the order in which they are looked for.
#[derive(Debug)]
pub struct FieldNames {
    names: Vec<String>,
}

impl FieldNames {
    /// Takes the names from a contract.
    pub fn of(contract: &Contract) -> FieldNames {
        FieldNames {
            names: contract
                .fields
                .iter()
                .map(|field| field.name.clone())
                .collect(),
        }
    }

    /// Reads a JSON object; of a field that stands twice, the last one counts.
    ///
    /// # Errors
    /// [`Malformed`] for anything but one JSON object in UTF-8.
    pub fn parse<'a>(&self, json: &'a [u8], event: &mut RawEvent<'a>) -> Result<(), Malformed> {
        event.values.resize(self.names.len(), RawValue::Absent);
        event.unknown = json::read(&self.names, json, &mut event.values)?;
        Ok(())
    }
}
