//! Files that are in the lake go in, one file with the same rows comes out, in the same order.
//!
//! Values are copied as they are, sealed cells too; only encodings are chosen anew, as for any large file. A file
//! that lacks a column which the table has gained since gets nulls there, as every reader sees it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use schemas::{ColumnRole, Columns, system};

use crate::encode::{
    self, File, SAMPLE_ROWS, SOURCE_PARTITION, SOURCE_TOPIC_ID, has_few_values, widen,
};
use crate::error::SinkError;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8192;

/// Columns that no row lacks.
const REQUIRED: [&str; 4] = [
    SOURCE_TOPIC_ID,
    SOURCE_PARTITION,
    system::SOURCE_OFFSET,
    system::EVENT_TIME,
];

/// Puts the rows of several files into one.
pub(crate) struct Rewriter {
    schema: SchemaRef,
    sealed: Vec<bool>,
    /// Whether the file will be a large one.
    is_large: bool,
    writer: Option<ArrowWriter<Vec<u8>>>,
    /// Batches that are not written yet: fewer rows than a sample.
    pending: Vec<RecordBatch>,
    file: File,
}

impl Rewriter {
    /// Begins a file of the table's columns; `rows` is about how many there will be.
    pub(crate) fn new(table: &Schema, contract: &Columns, rows: u64) -> Rewriter {
        let fields = table.fields().iter().map(|field| {
            let required = REQUIRED.contains(&field.name().as_str());
            Field::new(field.name(), field.data_type().clone(), !required)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let sealed = schema
            .fields()
            .iter()
            .map(|field| is_sealed(field, contract))
            .collect();
        Rewriter {
            schema,
            sealed,
            is_large: encode::LARGE_FILE_ROWS_MIN as u64 <= rows,
            writer: None,
            pending: Vec::new(),
            file: File {
                bytes: Vec::new(),
                rows: 0,
                event_time: (i64::MAX, i64::MIN),
                source_offset: (i64::MAX, i64::MIN),
            },
        }
    }

    /// Takes all rows of a file, whose name is for errors.
    ///
    /// # Errors
    /// [`SinkError::Rewrite`] if it has other columns than the table; Parquet's, if it cannot be read.
    pub(crate) fn take(
        &mut self,
        name: &str,
        bytes: impl ChunkReader + 'static,
    ) -> Result<u64, SinkError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(BATCH_ROWS);
        let mut rows = 0;
        for batch in reader.build()? {
            let batch = self.conform(name, &batch?)?;
            rows += batch.num_rows() as u64;
            self.pending.push(batch);
            let pending: usize = self.pending.iter().map(RecordBatch::num_rows).sum();
            if SAMPLE_ROWS <= pending {
                self.write()?;
            }
        }
        Ok(rows)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Arrow's or Parquet's.
    pub(crate) fn finish(mut self) -> Result<File, SinkError> {
        self.write()?;
        if let Some(writer) = self.writer {
            self.file.bytes = writer.into_inner()?;
        }
        Ok(self.file)
    }

    /// Gives a batch the table's columns.
    fn conform(&self, name: &str, batch: &RecordBatch) -> Result<RecordBatch, SinkError> {
        let refuse = |reason: String| SinkError::Rewrite {
            file: name.to_owned(),
            reason,
        };
        let stranger = |field: &&Arc<Field>| self.schema.field_with_name(field.name()).is_err();
        if let Some(stranger) = batch.schema_ref().fields().iter().find(stranger) {
            let reason = format!("the table has no column {}", stranger.name());
            return Err(refuse(reason));
        }
        let column = |field: &Arc<Field>| -> Result<ArrayRef, SinkError> {
            match batch.column_by_name(field.name()) {
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                Some(array) if array.data_type() == field.data_type() => Ok(array.clone()),
                Some(array) => {
                    let (name, found) = (field.name(), array.data_type());
                    Err(refuse(format!("its column {name} is {found}")))
                }
            }
        };
        let columns = self.schema.fields().iter().map(column);
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Writes what is pending; the first of it decides encodings.
    fn write(&mut self) -> Result<(), SinkError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batch = concat_batches(&self.schema, &self.pending)?;
        self.pending.clear();
        self.file.rows += batch.num_rows();
        let times = column(&batch, system::EVENT_TIME)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        widen(&mut self.file.event_time, times.values());
        let offsets = column(&batch, system::SOURCE_OFFSET)?.as_primitive::<Int64Type>();
        widen(&mut self.file.source_offset, offsets.values());
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let writer = self.begin(&batch)?;
                self.writer.insert(writer)
            }
        };
        writer.write(&batch)?;
        Ok(())
    }

    fn begin(&self, batch: &RecordBatch) -> Result<ArrowWriter<Vec<u8>>, SinkError> {
        let sample = batch.slice(0, batch.num_rows().min(SAMPLE_ROWS));
        let few = |at: usize| has_few_values(sample.column(at));
        let properties = encode::properties(&self.schema, &self.sealed, &few, !self.is_large);
        let options = ArrowWriterOptions::new()
            .with_properties(WriterProperties::clone(&properties))
            .with_skip_arrow_metadata(true);
        Ok(ArrowWriter::try_new_with_options(
            Vec::new(),
            self.schema.clone(),
            options,
        )?)
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, SinkError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| SinkError::Rewrite {
            file: "the table".to_owned(),
            reason: format!("it has no column {name}"),
        })
}

/// Says whether a column has sealed cells; of a field that the contract does not know, any bytes may be.
fn is_sealed(field: &Field, contract: &Columns) -> bool {
    let known = contract
        .fields()
        .iter()
        .find(|column| contract.schema().field(column.at).name() == field.name());
    match known {
        Some(column) => column.role == ColumnRole::Sealed,
        None => field.data_type() == &DataType::Binary,
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn columns() -> Columns {
        let text = include_str!("../../schemas/fixtures/contract.toml");
        Columns::of(&schemas::Contract::parse("x", text).unwrap())
    }

    fn table() -> Schema {
        let time = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()));
        Schema::new(vec![
            Field::new(SOURCE_TOPIC_ID, DataType::Utf8, true),
            Field::new(SOURCE_PARTITION, DataType::Int32, true),
            Field::new(system::SOURCE_OFFSET, DataType::Int64, true),
            Field::new(system::EVENT_TIME, time, true),
            Field::new("gained", DataType::Int64, true),
        ])
    }

    /// Writes a file of these offsets, with a column more.
    fn file(offsets: &[i64], more: Option<(&str, ArrayRef)>) -> Vec<u8> {
        let times = TimestampMicrosecondArray::from(offsets.to_vec()).with_timezone("UTC");
        let rows = offsets.len();
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (
                SOURCE_TOPIC_ID,
                Arc::new(StringArray::from(vec!["t"; rows])),
            ),
            (SOURCE_PARTITION, Arc::new(Int32Array::from(vec![3; rows]))),
            (
                system::SOURCE_OFFSET,
                Arc::new(Int64Array::from(offsets.to_vec())),
            ),
            (system::EVENT_TIME, Arc::new(times)),
        ];
        columns.extend(more);
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn in_file(bytes: Vec<u8>) -> std::fs::File {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn rows_keep_their_order_and_gained_columns_are_null_before() {
        let mut rewriter = Rewriter::new(&table(), &columns(), 5);
        let gained: ArrayRef = Arc::new(Int64Array::from(vec![Some(8), None]));
        let first = in_file(file(&[4, 5, 2], None));
        let second = in_file(file(&[6, 3], Some(("gained", gained))));
        assert_eq!(rewriter.take("a", first).unwrap(), 3);
        assert_eq!(rewriter.take("b", second).unwrap(), 2);
        let written = rewriter.finish().unwrap();
        assert_eq!((written.rows, written.source_offset), (5, (2, 6)));
        let reader = ParquetRecordBatchReaderBuilder::try_new(in_file(written.bytes)).unwrap();
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        let of = |name: &str| -> Vec<Option<i64>> {
            batch[name].as_primitive::<Int64Type>().iter().collect()
        };
        let offsets = [4, 5, 2, 6, 3].map(Some);
        assert_eq!(of(system::SOURCE_OFFSET), offsets);
        assert_eq!(of("gained"), [None, None, None, Some(8), None]);
    }

    #[test]
    fn a_file_with_other_columns_is_left_alone() {
        let mut rewriter = Rewriter::new(&table(), &columns(), 5);
        let check = |error: SinkError, expected: &str| {
            assert!(error.to_string().contains(expected), "{error}");
        };
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let strange = in_file(file(&[1], Some(("strange", text.clone()))));
        check(
            rewriter.take("a", strange).unwrap_err(),
            "the table has no column strange",
        );
        let other = in_file(file(&[1], Some(("gained", text))));
        check(
            rewriter.take("a", other).unwrap_err(),
            "its column gained is Utf8",
        );
    }
}
