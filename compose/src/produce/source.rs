//! Opens a file of events: Parquet, CSV or JSON lines, by the end of its name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, TimestampSecondArray};
use arrow_csv::reader::Format;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;
use schemas::Contract;

use super::cell::Cell;
use super::render;
use super::rows::{Body, Columns, Layout, Object, Rows};

/// Rows read at once: enough to pay for a read, few enough to hold.
const ROWS: usize = 8192;
/// Objects read at once, and the longest line.
const OBJECTS: usize = 256;
const LINE_BYTES_MAX: u64 = 8 << 20;

/// A file of events, read a few thousand rows at a time.
pub struct Source {
    file: Arc<str>,
    layout: Arc<Layout>,
    contract: Arc<Contract>,
    next_row: u64,
    rows_total: Option<u64>,
    reader: Reader,
}

enum Reader {
    Parquet(ParquetRecordBatchReader),
    Csv(Box<arrow_csv::Reader<File>>),
    Lines(BufReader<File>),
}

impl Source {
    /// Opens a file; the end of its name says what it is.
    ///
    /// # Errors
    /// A file that cannot be read, of no known kind, or without a column that is needed.
    pub fn open(path: &Path, contract: Arc<Contract>, layout: Layout) -> Result<Source> {
        let name: Arc<str> = path.display().to_string().into();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let end = path
            .extension()
            .and_then(|end| end.to_str())
            .unwrap_or_default();
        match end.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Source::parquet(&name, file, contract, layout),
            "csv" => Source::csv(name, file, contract, layout),
            "jsonl" | "ndjson" | "json" => {
                let reader = Reader::Lines(BufReader::with_capacity(1 << 20, file));
                Ok(Source {
                    file: name,
                    layout: layout.into(),
                    contract,
                    next_row: 0,
                    rows_total: None,
                    reader,
                })
            }
            _ => bail!("{name}: the name must end in .parquet, .csv, .jsonl, .ndjson or .json"),
        }
    }

    /// Opens Parquet that is in a file or in memory.
    ///
    /// # Errors
    /// What is not Parquet, or lacks a column that is needed.
    pub fn parquet(
        name: &str,
        input: impl ChunkReader + 'static,
        contract: Arc<Contract>,
        layout: Layout,
    ) -> Result<Source> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(input)
            .with_context(|| format!("{name} is not a Parquet file that can be read"))?;
        let rows_total = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
        let schema = builder.schema().clone();
        let reader = builder.with_batch_size(ROWS).build()?;
        require(name, &schema, &layout)?;
        let reader = Reader::Parquet(reader);
        Ok(Source {
            file: name.into(),
            layout: layout.into(),
            contract,
            next_row: 0,
            rows_total,
            reader,
        })
    }

    fn csv(
        name: Arc<str>,
        mut file: File,
        contract: Arc<Contract>,
        layout: Layout,
    ) -> Result<Source> {
        let header = Format::default()
            .with_header(true)
            .infer_schema(&mut file, Some(0));
        let (header, _) =
            header.with_context(|| format!("{name} has no header of column names"))?;
        file.rewind()?;
        let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
        let schema: SchemaRef = Arc::new(Schema::new(
            header.fields().iter().map(text).collect::<Vec<_>>(),
        ));
        require(&name, &schema, &layout)?;
        let builder = arrow_csv::ReaderBuilder::new(schema)
            .with_header(true)
            .with_batch_size(ROWS);
        let reader = Reader::Csv(Box::new(
            builder.build_buffered(BufReader::with_capacity(1 << 20, file))?,
        ));
        Ok(Source {
            file: name,
            layout: layout.into(),
            contract,
            next_row: 0,
            rows_total: None,
            reader,
        })
    }

    /// Returns the number of rows, where the file says.
    pub fn rows_total(&self) -> Option<u64> {
        self.rows_total
    }

    /// Returns the names of the columns, where the file says.
    pub fn columns(&self) -> Option<Vec<String>> {
        let schema = match &self.reader {
            Reader::Parquet(reader) => arrow_array::RecordBatchReader::schema(reader),
            Reader::Csv(reader) => reader.schema(),
            Reader::Lines(_) => return None,
        };
        Some(
            schema
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect(),
        )
    }

    /// Reads the next rows; `None` at the end.
    ///
    /// # Errors
    /// What cannot be read or has no plain JSON form.
    pub fn next_rows(&mut self) -> Result<Option<Rows>> {
        let at = || format!("{}, after row {}: cannot be read", self.file, self.next_row);
        let body = match &mut self.reader {
            Reader::Parquet(reader) => match reader.next().transpose().with_context(at)? {
                None => return Ok(None),
                Some(batch) => {
                    let batch = numbered(batch, &self.layout, self.next_row, true)?;
                    Body::Columns(self.columns_of(&batch, true)?.into())
                }
            },
            Reader::Csv(reader) => match reader.next().transpose().with_context(at)? {
                None => return Ok(None),
                Some(batch) => {
                    let batch = numbered(batch, &self.layout, self.next_row, false)?;
                    Body::Columns(self.columns_of(&batch, false)?.into())
                }
            },
            Reader::Lines(reader) => match read_objects(reader, &self.file, self.next_row)? {
                objects if objects.is_empty() => return Ok(None),
                objects => Body::Objects(objects),
            },
        };
        let layout = self.layout.clone();
        let rows = Rows {
            file: self.file.clone(),
            first_row: self.next_row,
            layout,
            body,
        };
        self.next_row += rows.len() as u64;
        Ok(Some(rows))
    }

    fn columns_of(&self, batch: &RecordBatch, typed: bool) -> Result<Columns> {
        let layout = &self.layout;
        let cell = |name: &str| self.cell_of(batch, name, typed);
        let optional = |name: &Option<Arc<str>>| match name {
            Some(name) if batch.column_by_name(name).is_some() => cell(name).map(Some),
            _ => Ok(None),
        };
        let mut sent = Vec::new();
        for field in batch.schema_ref().fields() {
            if layout.is_label(field.name()) {
                continue;
            }
            let mut before = vec![if sent.is_empty() { b'{' } else { b',' }];
            render::text(field.name(), &mut before);
            before.push(b':');
            sent.push((
                Arc::from(field.name().as_str()),
                before,
                cell(field.name())?,
            ));
        }
        Ok(Columns {
            len: batch.num_rows(),
            sent,
            id: cell(&layout.id)?,
            time: cell(&layout.time)?,
            label: optional(&layout.label)?,
            label_time: optional(&layout.label_time)?,
        })
    }

    fn cell_of(&self, batch: &RecordBatch, name: &str, typed: bool) -> Result<Cell> {
        let file = &self.file;
        let array = batch
            .column_by_name(name)
            .ok_or_else(|| anyhow!("{file}: no column `{name}`"))?;
        let field = self
            .contract
            .field_index(name)
            .map(|at| self.contract.fields[at].kind);
        if !typed {
            return Ok(Cell::untyped(array, field));
        }
        Cell::typed(array)
            .with_context(|| format!("{file}, after row {}: column `{name}` does not fit", self.next_row))?
            .map(|cell| cell.for_field(field))
            .ok_or_else(|| {
                let kind = array.data_type();
                anyhow!("{file}: column `{name}` is a {kind}, which has no plain JSON form; leave it out or flatten it")
            })
    }
}

/// Adds an id and a time where a file has none and the layout says that rows are numbered.
fn numbered(
    batch: RecordBatch,
    layout: &Layout,
    first_row: u64,
    typed: bool,
) -> Result<RecordBatch> {
    let lacks = |name: &str| batch.column_by_name(name).is_none();
    if !layout.number_rows || !(lacks(&layout.id) || lacks(&layout.time)) {
        return Ok(batch);
    }
    let rows = first_row..first_row + batch.num_rows() as u64;
    let texts = |times: u64| {
        let texts = rows.clone().map(|row| (row * times).to_string());
        Arc::new(StringArray::from_iter_values(texts)) as ArrayRef
    };
    let mut fields: Vec<Arc<Field>> = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    let mut add = |name: &str, column: ArrayRef| {
        fields.push(Arc::new(Field::new(
            name,
            column.data_type().clone(),
            false,
        )));
        columns.push(column);
    };
    if lacks(&layout.id) {
        add(&layout.id, texts(1));
    }
    if lacks(&layout.time) {
        let seconds = rows.clone().map(|row| row as i64);
        add(
            &layout.time,
            match typed {
                true => Arc::new(TimestampSecondArray::from_iter_values(seconds)),
                false => texts(1000),
            },
        );
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

/// Refuses a file that lacks a column, naming those that it has.
fn require(file: &str, schema: &Schema, layout: &Layout) -> Result<()> {
    let label_time = layout
        .label_time
        .as_ref()
        .filter(|_| layout.label_time_required);
    let numbered = [&layout.id, &layout.time]
        .into_iter()
        .filter(|_| !layout.number_rows);
    for name in numbered.chain(label_time) {
        if schema.field_with_name(name).is_err() {
            let names: Vec<&str> = schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            bail!("{file} has no column `{name}`; it has {}", names.join(", "));
        }
    }
    Ok(())
}

fn read_objects(
    reader: &mut BufReader<File>,
    file: &Arc<str>,
    first_row: u64,
) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    let mut line = Vec::new();
    while objects.len() < OBJECTS {
        line.clear();
        let read = reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        let row = first_row + objects.len() as u64 + 1;
        let bytes = read.with_context(|| format!("{file}, row {row}: cannot be read"))?;
        if bytes == 0 {
            break;
        }
        if bytes as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            bail!("{file}, row {row}: longer than {LINE_BYTES_MAX} bytes");
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let object = Object::parse(&line)
            .with_context(|| format!("{file}, row {row}: not a JSON object"))?;
        objects.push(object);
    }
    Ok(objects)
}
