//! Shows clean batches: columns in, one JSON object for each event out.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use schemas::clean::{CleanDecoder, CleanError, CleanHeader};
use schemas::{ColumnRole, Columns};

use crate::produce::cell::Cell;
use crate::produce::render;

/// Reads clean batches of one contract.
pub struct ColumnsReader {
    columns: Columns,
    decoder: CleanDecoder,
}

/// A column, ready to be shown.
enum Shown {
    Plain(Cell),
    Sealed(arrow_array::BinaryArray),
    Token(arrow_array::BinaryArray),
}

impl ColumnsReader {
    /// Makes a reader of these columns.
    pub fn new(columns: Columns) -> ColumnsReader {
        let decoder = CleanDecoder::new(columns.schema().clone());
        ColumnsReader { columns, decoder }
    }

    /// Returns the events of a batch: sealed cells as `{"sealed": BYTES}`, tokens as hexadecimal digits.
    ///
    /// # Errors
    /// A payload that is not a batch of this contract.
    pub fn read(&self, header: &CleanHeader, payload: &[u8]) -> Result<Vec<String>, CleanError> {
        let batch = self.decoder.decode(payload)?;
        let shown = self.shown(&batch)?;
        let lines = (0..batch.num_rows()).map(|row| {
            let mut out = Vec::with_capacity(512);
            out.extend_from_slice(b"{\"_source_partition\":");
            render::integer(i64::from(header.partition.0), &mut out);
            for (name, column) in &shown {
                out.push(b',');
                render::text(name, &mut out);
                out.push(b':');
                column.render(row, &mut out);
            }
            out.push(b'}');
            String::from_utf8_lossy(&out).into_owned()
        });
        Ok(lines.collect())
    }

    fn shown(&self, batch: &RecordBatch) -> Result<Vec<(String, Shown)>, CleanError> {
        let schema = batch.schema();
        let columns =
            schema
                .fields()
                .iter()
                .zip(batch.columns())
                .enumerate()
                .map(|(at, (field, array))| {
                    let role = self
                        .columns
                        .fields()
                        .iter()
                        .find(|column| column.at == at)
                        .map(|column| column.role);
                    let shown = match (role, array.data_type()) {
                        (Some(ColumnRole::Token), DataType::Binary) => {
                            Shown::Token(array.as_binary::<i32>().clone())
                        }
                        (_, DataType::Binary) => Shown::Sealed(array.as_binary::<i32>().clone()),
                        _ => match Cell::typed(array) {
                            Ok(Some(cell)) => Shown::Plain(cell),
                            _ => {
                                return Err(CleanError::Payload(format!(
                                    "column {} cannot be shown",
                                    field.name()
                                )));
                            }
                        },
                    };
                    Ok((field.name().clone(), shown))
                });
        columns.collect()
    }
}

impl Shown {
    fn render(&self, row: usize, out: &mut Vec<u8>) {
        use arrow_array::Array;
        use std::io::Write;
        let written = match self {
            Shown::Plain(cell) => {
                cell.render(row, out);
                Ok(())
            }
            Shown::Sealed(array) | Shown::Token(array) if array.is_null(row) => {
                out.write_all(b"null")
            }
            Shown::Sealed(array) => write!(out, "{{\"sealed\":{}}}", array.value(row).len()),
            Shown::Token(array) => {
                let digits: String = array
                    .value(row)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                write!(out, "\"{digits}\"")
            }
        };
        debug_assert!(written.is_ok(), "a vector takes what it is given");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
    };
    use schemas::clean::CleanEncoder;
    use schemas::{Contract, Digest, Offset, Partition, TopicId};

    use super::*;

    #[test]
    fn events_are_shown_one_by_one_and_sealed_cells_stay_sealed() {
        let contract =
            Contract::parse("flights", include_str!("../../streams/flights/stream.toml")).unwrap();
        let columns = Columns::of(&contract);
        let arrays = columns.schema().fields().iter().map(|field| -> ArrayRef {
            match (field.name().as_str(), field.data_type()) {
                ("tail_number", _) => Arc::new(BinaryArray::from_vec(vec![&[7; 66], &[7; 66]])),
                ("tail_number_token", _) => {
                    Arc::new(BinaryArray::from_vec(vec![&[0xab; 16], &[1; 16]]))
                }
                (_, DataType::Int64) => Arc::new(Int64Array::from(vec![5, 6])),
                (_, DataType::Timestamp(..)) if !field.is_nullable() => {
                    Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("+00:00"))
                }
                (_, DataType::Utf8) if !field.is_nullable() => {
                    Arc::new(StringArray::from(vec!["a", "b"]))
                }
                (_, DataType::Float64) => Arc::new(arrow_array::Float64Array::from(vec![1.5, 2.0])),
                (_, kind) => new_null_array(kind, 2),
            }
        });
        let batch = RecordBatch::try_new(columns.schema().clone(), arrays.collect()).unwrap();
        let mut payload = Vec::new();
        CleanEncoder::default()
            .encode(&batch, &mut payload)
            .unwrap();
        let header = CleanHeader {
            topic_id: TopicId([7; 16]),
            partition: Partition(3),
            first: Offset(5),
            last: Offset(6),
            contract: Digest([1; 32]),
            ingest_state: Vec::new(),
        };
        let reader = ColumnsReader::new(columns);
        let lines = reader.read(&header, &payload).unwrap();
        assert_eq!(lines.len(), 2);
        let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(first["_source_partition"], 3);
        assert_eq!(first["_event_time"], "1970-01-01T00:00:00Z");
        assert_eq!(first["tail_number"]["sealed"], 66);
        assert_eq!(first["tail_number_token"], "ab".repeat(16));
        assert_eq!(first["carrier"], "a");
        assert!(reader.read(&header, b"other").is_err());
    }
}
