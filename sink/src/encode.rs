//! Parquet: rows of one day go in, a file comes out.
//!
//! Encodings follow the data. Columns of few distinct values get a dictionary; the others none, for it would cost more
//! time than it saves space. Offsets and times are delta-packed. Sealed cells are noise: no dictionary, statistics
//! or compression for them. The rest is compressed with zstd; in small files only what has neither dictionary
//! nor packing, since setting the compressor up costs more there than it saves.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::concat::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::ColumnPath;
use schemas::{ColumnRole, Columns, system};

use crate::error::SinkError;
use crate::lander::Source;

/// Id of the raw topic (Utf8).
pub const SOURCE_TOPIC_ID: &str = "_source_topic_id";
/// Partition of the raw topic (Int32).
pub const SOURCE_PARTITION: &str = "_source_partition";
/// Columns of the lake before those of the clean batch.
const OWN_COLUMNS: usize = 2;

/// Rows that are looked at to choose encodings.
pub(crate) const SAMPLE_ROWS: usize = 2048;
/// A dictionary pays from this many rows per distinct value on.
const ROWS_PER_VALUE_MIN: usize = 8;
/// Batches below this size are put together before they are written.
const BATCH_ROWS_MIN: usize = 512;

/// Files below this size are small.
pub(crate) const LARGE_FILE_ROWS_MIN: usize = 8192;

/// Rows of one source partition.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where they came from.
    pub source: Source,
    /// The rows, as they were in the clean batch.
    pub rows: RecordBatch,
}

/// An encoded file.
#[derive(Clone, Debug)]
pub struct File {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many rows it has.
    pub rows: usize,
    /// Smallest and largest event time, in microseconds.
    pub event_time: (i64, i64),
    /// Smallest and largest source offset.
    pub source_offset: (i64, i64),
}

/// Encodes files of one stream.
pub struct Encoder {
    schema: SchemaRef,
    sealed: Vec<bool>,
    /// How small files are written, and large ones.
    small: WriterPropertiesPtr,
    large: WriterPropertiesPtr,
}

impl Encoder {
    /// Makes an encoder of clean batches with these columns.
    pub fn new(columns: &Columns) -> Encoder {
        let mut fields = vec![
            Field::new(SOURCE_TOPIC_ID, DataType::Utf8, false),
            Field::new(SOURCE_PARTITION, DataType::Int32, false),
        ];
        fields.extend(columns.schema().fields().iter().map(|field| {
            let kind = match field.data_type() {
                DataType::Timestamp(..) => {
                    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
                }
                other => other.clone(),
            };
            field.as_ref().clone().with_data_type(kind)
        }));
        let schema = Arc::new(Schema::new(fields));
        let mut sealed = vec![false; schema.fields().len()];
        for column in columns.fields() {
            sealed[OWN_COLUMNS + column.at] = column.role == ColumnRole::Sealed;
        }
        let small = properties(&schema, &sealed, &|_| false, true);
        let large = properties(&schema, &sealed, &|_| false, false);
        Encoder {
            schema,
            sealed,
            small,
            large,
        }
    }

    /// Returns the schema of the files.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Chooses encodings by a sample of what is to be written.
    ///
    /// # Errors
    /// Arrow's, if the sample has other columns than it should.
    pub fn choose(&mut self, sample: &Piece) -> Result<(), SinkError> {
        let sample = self.lake_batch(sample)?;
        let sample = sample.slice(0, sample.num_rows().min(SAMPLE_ROWS));
        let few = |at: usize| has_few_values(sample.column(at));
        self.small = properties(&self.schema, &self.sealed, &few, true);
        self.large = properties(&self.schema, &self.sealed, &few, false);
        Ok(())
    }

    /// Encodes the rows of one day.
    ///
    /// # Errors
    /// Arrow's or Parquet's, if the rows have other columns than they should.
    pub fn encode(&self, pieces: Vec<Piece>) -> Result<File, SinkError> {
        let rows: usize = pieces.iter().map(|piece| piece.rows.num_rows()).sum();
        let batches = pieces.len().max(1);
        let mut file = File {
            bytes: Vec::new(),
            rows,
            event_time: (i64::MAX, i64::MIN),
            source_offset: (i64::MAX, i64::MIN),
        };
        let properties = if rows < LARGE_FILE_ROWS_MIN {
            &self.small
        } else {
            &self.large
        };
        let options = ArrowWriterOptions::new()
            .with_properties(WriterProperties::clone(properties))
            .with_skip_arrow_metadata(true);
        let mut writer =
            ArrowWriter::try_new_with_options(&mut file.bytes, self.schema.clone(), options)?;
        let small = rows / batches < BATCH_ROWS_MIN;
        let mut gathered = Vec::new();
        for piece in pieces {
            let batch = self.lake_batch(&piece)?;
            widen(
                &mut file.event_time,
                batch
                    .column(OWN_COLUMNS + 1)
                    .as_primitive::<TimestampMicrosecondType>()
                    .values(),
            );
            widen(
                &mut file.source_offset,
                batch
                    .column(OWN_COLUMNS)
                    .as_primitive::<Int64Type>()
                    .values(),
            );
            match small {
                true => gathered.push(batch),
                false => writer.write(&batch)?,
            }
        }
        if small {
            writer.write(&concat_batches(&self.schema, &gathered)?)?;
        }
        writer.close()?;
        Ok(file)
    }

    /// Adds the lake's own columns to rows.
    fn lake_batch(&self, piece: &Piece) -> Result<RecordBatch, SinkError> {
        let rows = piece.rows.num_rows();
        let topic = piece.source.topic_id.to_string();
        let topics = StringArray::from_iter_values(std::iter::repeat_n(topic.as_str(), rows));
        let partitions = Int32Array::from_value(piece.source.partition.0, rows);
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(topics), Arc::new(partitions)];
        arrays.extend(piece.rows.columns().iter().map(|array| {
            match array.data_type() {
                DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Arc::new(
                    array
                        .as_primitive::<TimestampMicrosecondType>()
                        .clone()
                        .with_timezone("UTC"),
                )
                    as ArrayRef,
                _ => array.clone(),
            }
        }));
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

/// Widens a range of smallest and largest.
pub(crate) fn widen(range: &mut (i64, i64), values: &[i64]) {
    for value in values {
        range.0 = range.0.min(*value);
        range.1 = range.1.max(*value);
    }
}

/// Returns how files are written: which columns are sealed, and which of the others have few values.
pub(crate) fn properties(
    schema: &Schema,
    sealed: &[bool],
    few: &dyn Fn(usize) -> bool,
    small: bool,
) -> WriterPropertiesPtr {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd"));
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("thalweg-sink ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(zstd)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for (at, field) in schema.fields().iter().enumerate() {
        let path = || ColumnPath::from(field.name().as_str());
        let has_dictionary = !sealed[at] && (at < OWN_COLUMNS || few(at));
        let is_packed = !has_dictionary
            && matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..));
        let is_plain = !has_dictionary && !is_packed && field.data_type() != &DataType::Boolean;
        if has_dictionary {
            properties = properties.set_column_dictionary_enabled(path(), true);
        }
        if is_packed {
            properties = properties.set_column_encoding(path(), Encoding::DELTA_BINARY_PACKED);
        }
        if sealed[at] || (small && !is_plain) {
            properties = properties.set_column_compression(path(), Compression::UNCOMPRESSED);
        }
        if sealed[at] || field.name() == system::TRACE_PARENT {
            properties = properties.set_column_statistics_enabled(path(), EnabledStatistics::None);
        }
    }
    Arc::new(properties.build())
}

/// Returns whether a column repeats its values often enough for a dictionary.
pub(crate) fn has_few_values(column: &ArrayRef) -> bool {
    let rows = column.len() - column.null_count();
    let distinct_max = rows / ROWS_PER_VALUE_MIN;
    match column.data_type() {
        DataType::Utf8 => few(column.as_string::<i32>().iter().flatten(), distinct_max),
        DataType::Binary => few(column.as_binary::<i32>().iter().flatten(), distinct_max),
        DataType::Int64 => few(
            column.as_primitive::<Int64Type>().iter().flatten(),
            distinct_max,
        ),
        DataType::Float64 => {
            let values = column
                .as_primitive::<arrow_array::types::Float64Type>()
                .iter()
                .flatten();
            few(values.map(f64::to_bits), distinct_max)
        }
        _ => false,
    }
}

fn few<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>, distinct_max: usize) -> bool {
    let mut distinct = HashSet::new();
    for value in values {
        if distinct.insert(value) && distinct_max < distinct.len() {
            return false;
        }
    }
    true
}
