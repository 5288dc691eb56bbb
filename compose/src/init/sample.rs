//! Reads a sample of a file: its first rows, as one [`Column`] of statistics for each column.
//!
//! Parquet, CSV with a header or JSON lines, by the end of the name, as `thalweg produce` reads them. What is read
//! is bounded in rows, bytes and columns, so that a file of any size takes a moment.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::{Array, RecordBatch};
use arrow_csv::reader::Format;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::column::Column;
use super::seen::Seen;
use crate::produce::cell::Cell;

/// Rows of a sample, at most: enough to see what is rare, and read in a second.
pub const ROWS_MAX: usize = 20_000;

/// Columns of a sample, at most: more than a contract takes.
const COLUMNS_MAX: usize = 2000;

/// Bytes of JSON lines that are read, at most, and of one line.
const BYTES_MAX: u64 = 256 << 20;
const LINE_BYTES_MAX: u64 = 8 << 20;

/// Rows of Parquet and CSV read at once.
const BATCH: usize = 2048;

/// The first rows of a file.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name of the file, as it was given.
    pub file: String,
    /// Rows that were read.
    pub rows: usize,
    /// Whether there may be more of them.
    pub cut: bool,
    /// The columns, in the order of the file.
    pub columns: Vec<Column>,
}

impl Sample {
    /// Reads the first rows of a file.
    ///
    /// # Errors
    /// A file that cannot be read, is of no known kind, or has no rows.
    pub fn read(path: &Path) -> Result<Sample> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let end = path
            .extension()
            .and_then(|end| end.to_str())
            .unwrap_or_default();
        let sample = match end.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => parquet(&name, file)?,
            "csv" => csv(&name, file)?,
            "jsonl" | "ndjson" | "json" => lines(&name, file)?,
            _ => bail!("{name}: the name must end in .parquet, .csv, .jsonl, .ndjson or .json"),
        };
        if sample.rows == 0 {
            bail!("{name} has no rows to guess from");
        }
        Ok(sample)
    }

    fn empty<'a>(file: &str, columns: impl Iterator<Item = &'a str>) -> Sample {
        Sample {
            file: file.to_owned(),
            rows: 0,
            cut: false,
            columns: columns
                .take(COLUMNS_MAX)
                .map(|name| Column::new(name, 0))
                .collect(),
        }
    }

    /// Returns a column.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn add(&mut self, batch: &RecordBatch, typed: bool) -> Result<()> {
        let rows = batch.num_rows().min(ROWS_MAX - self.rows);
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            let cell = if typed {
                Cell::typed(array)
                    .with_context(|| format!("column `{}` does not fit", column.name))?
            } else {
                Some(Cell::untyped(array, None))
            };
            for row in 0..rows {
                column.add(match &cell {
                    Some(cell) => seen(cell, row),
                    None if array.is_null(row) => Seen::Null,
                    None => Seen::Nested,
                });
            }
        }
        self.rows += rows;
        self.cut |= self.rows == ROWS_MAX;
        Ok(())
    }
}

fn seen(cell: &Cell, row: usize) -> Seen<'_> {
    if cell.is_null(row) {
        return Seen::Null;
    }
    match cell {
        Cell::Bool(array) => Seen::Bool(array.value(row)),
        Cell::Int(array) => Seen::Int(array.value(row)),
        Cell::Float32(array) => Seen::Float(f64::from(array.value(row))),
        Cell::Float(array) => Seen::Float(array.value(row)),
        Cell::Text(array) => Seen::text(array.value(row)),
        Cell::Time(array) => Seen::Time(array.value(row)),
        Cell::Untyped(array, _) => Seen::untyped(array.value(row)),
    }
}

fn parquet(name: &str, file: File) -> Result<Sample> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("{name} is not a Parquet file that can be read"))?;
    let schema = builder.schema().clone();
    let mut sample = Sample::empty(
        name,
        schema.fields().iter().map(|field| field.name().as_str()),
    );
    let reader = builder
        .with_batch_size(BATCH)
        .with_limit(ROWS_MAX)
        .build()
        .with_context(|| format!("{name} cannot be read"))?;
    for batch in reader {
        let at = || format!("{name}, after row {}: cannot be read", sample.rows);
        let batch = batch.with_context(at)?;
        sample.add(&batch, true).with_context(|| name.to_owned())?;
    }
    Ok(sample)
}

fn csv(name: &str, mut file: File) -> Result<Sample> {
    let header = Format::default()
        .with_header(true)
        .infer_schema(&mut file, Some(0));
    let (header, _) = header.with_context(|| format!("{name} has no header of column names"))?;
    file.rewind()?;
    let names: Vec<&str> = header
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let mut sample = Sample::empty(name, names.iter().copied());
    let text = |name: &&str| Field::new(*name, DataType::Utf8, true);
    let schema = Arc::new(Schema::new(names.iter().map(text).collect::<Vec<_>>()));
    let reader = arrow_csv::ReaderBuilder::new(schema)
        .with_header(true)
        .with_batch_size(BATCH)
        .build_buffered(BufReader::with_capacity(1 << 20, file))?;
    for batch in reader {
        let at = || format!("{name}, after row {}: cannot be read", sample.rows);
        let batch = batch.with_context(at)?;
        sample.add(&batch, false)?;
        if sample.cut {
            break;
        }
    }
    Ok(sample)
}

fn lines(name: &str, file: File) -> Result<Sample> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut sample = Sample::empty(name, std::iter::empty());
    let mut places = HashMap::new();
    let (mut line, mut bytes) = (Vec::new(), 0);
    loop {
        line.clear();
        let row = sample.rows + 1;
        let read = reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .with_context(|| format!("{name}, row {row}: cannot be read"))?;
        bytes += read as u64;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            bail!("{name}, row {row}: longer than {LINE_BYTES_MAX} bytes");
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let object =
            object(&line).with_context(|| format!("{name}, row {row}: not a JSON object"))?;
        add_object(&mut sample, &mut places, &object);
        if sample.rows == ROWS_MAX || bytes >= BYTES_MAX {
            sample.cut = true;
            break;
        }
    }
    for column in &mut sample.columns {
        column.pad(sample.rows);
    }
    Ok(sample)
}

/// Adds a row; a field that stands twice counts once.
fn add_object(
    sample: &mut Sample,
    places: &mut HashMap<String, usize>,
    object: &[(String, serde_json::Value)],
) {
    for (name, value) in object {
        let place = match places.get(name) {
            Some(place) => *place,
            None if sample.columns.len() == COLUMNS_MAX => continue,
            None => {
                places.insert(name.clone(), sample.columns.len());
                sample.columns.push(Column::new(name, sample.rows));
                sample.columns.len() - 1
            }
        };
        let column = &mut sample.columns[place];
        column.pad(sample.rows);
        if column.values.len() == sample.rows {
            column.add(json(value));
        }
    }
    sample.rows += 1;
}

fn json(value: &serde_json::Value) -> Seen<'_> {
    use serde_json::Value as J;
    match value {
        J::Null => Seen::Null,
        J::Bool(value) => Seen::Bool(*value),
        J::Number(number) => match number.as_i64() {
            Some(number) => Seen::Int(number),
            None => number.as_f64().map_or(Seen::Null, Seen::Float),
        },
        J::String(text) => Seen::text(text),
        J::Array(_) | J::Object(_) => Seen::Nested,
    }
}

/// Reads a JSON object; its fields stay in their order.
fn object(line: &[u8]) -> Result<Vec<(String, serde_json::Value)>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let object = deserializer.deserialize_map(InOrder)?;
    deserializer.end()?;
    Ok(object)
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Vec<(String, serde_json::Value)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order_and_need_not_have_the_same_fields() {
        let mut sample = Sample::empty("f.jsonl", std::iter::empty());
        let mut places = HashMap::new();
        for line in [r#"{"b":1,"a":"x"}"#, r#"{"c":[1],"b":2.5,"b":9}"#] {
            let object = object(line.as_bytes()).unwrap();
            add_object(&mut sample, &mut places, &object);
        }
        for column in &mut sample.columns {
            column.pad(sample.rows);
        }
        let shape: Vec<_> = sample
            .columns
            .iter()
            .map(|column| {
                (
                    column.name.as_str(),
                    column.counts.nulls,
                    column.values.len(),
                )
            })
            .collect();
        assert_eq!(shape, [("b", 0, 2), ("a", 1, 2), ("c", 1, 2)]);
        assert_eq!(sample.columns[0].max, 2.5);
        assert!(object(b"[1]").is_err());
        assert!(object(b"{} {}").is_err());
    }
}
