//! The Arrow schema that a contract implies for clean batches.

use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};

use crate::contract::{Contract, FieldType};

/// Names of the columns that every clean batch has, before those of the fields.
pub mod system {
    /// Offset of the raw record (Int64).
    pub const SOURCE_OFFSET: &str = "_source_offset";
    /// When the event happened (timestamp in microseconds, UTC).
    pub const EVENT_TIME: &str = "_event_time";
    /// When Kafka took the raw record: its record timestamp (timestamp in microseconds, UTC).
    pub const INGEST_TIME: &str = "_ingest_time";
    /// W3C trace parent of the raw record, where it had one (Utf8).
    pub const TRACE_PARENT: &str = "_trace_parent";
}

/// Index of the column [`system::SOURCE_OFFSET`] in every clean batch.
const SOURCE_OFFSET_AT: usize = 0;
/// Index of the column [`system::EVENT_TIME`].
const EVENT_TIME_AT: usize = 1;
/// Index of the column [`system::INGEST_TIME`].
const INGEST_TIME_AT: usize = 2;
/// Index of the column [`system::TRACE_PARENT`].
const TRACE_PARENT_AT: usize = 3;
const SYSTEM_COLUMNS: usize = 4;

/// What a field's column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnRole {
    /// The value itself.
    Open,
    /// A sealed cell (Binary).
    Sealed,
    /// A keyed pseudonym (Binary, 16 bytes).
    Token,
}

/// One column made of a field.
#[derive(Clone, Debug)]
pub struct Column {
    /// Index of the field in [`Contract::fields`].
    pub field: usize,
    /// What the column holds.
    pub role: ColumnRole,
    /// Index of the column in the batch.
    pub at: usize,
}

/// The columns of a stream's clean batches: the system's, then one or two for each field.
#[derive(Clone, Debug)]
pub struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
}

impl Columns {
    /// Index of the column of raw offsets.
    pub const SOURCE_OFFSET: usize = SOURCE_OFFSET_AT;
    /// Index of the column of event times.
    pub const EVENT_TIME: usize = EVENT_TIME_AT;
    /// Index of the column of ingest times.
    pub const INGEST_TIME: usize = INGEST_TIME_AT;
    /// Index of the column of trace parents.
    pub const TRACE_PARENT: usize = TRACE_PARENT_AT;

    /// Derives the columns from a contract.
    pub fn of(contract: &Contract) -> Columns {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let mut fields = vec![
            ArrowField::new(system::SOURCE_OFFSET, DataType::Int64, false),
            ArrowField::new(system::EVENT_TIME, time(), false),
            ArrowField::new(system::INGEST_TIME, time(), false),
            ArrowField::new(system::TRACE_PARENT, DataType::Utf8, true),
        ];
        debug_assert_eq!(fields.len(), SYSTEM_COLUMNS);
        let mut columns = Vec::new();
        for (index, field) in contract.fields.iter().enumerate() {
            let kind = match field.kind {
                FieldType::String => DataType::Utf8,
                FieldType::Int64 => DataType::Int64,
                FieldType::Float64 => DataType::Float64,
                FieldType::Bool => DataType::Boolean,
                FieldType::Timestamp => time(),
            };
            let nullable = !field.required && field.default.is_none();
            let mut add = |name: String, kind, role| {
                columns.push(Column {
                    field: index,
                    role,
                    at: fields.len(),
                });
                fields.push(ArrowField::new(name, kind, nullable));
            };
            let privacy = field.privacy;
            if privacy.open {
                add(field.name.clone(), kind, ColumnRole::Open);
            }
            if privacy.seal {
                add(field.name.clone(), DataType::Binary, ColumnRole::Sealed);
            }
            if privacy.token {
                add(
                    format!("{}_token", field.name),
                    DataType::Binary,
                    ColumnRole::Token,
                );
            }
        }
        Columns {
            schema: Arc::new(Schema::new(fields)),
            columns,
        }
    }

    /// Returns the Arrow schema of a clean batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the columns made of fields, in order.
    pub fn fields(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the index of a field's column in the batch.
    pub fn index(&self, field: usize, role: ColumnRole) -> Option<usize> {
        self.columns
            .iter()
            .find(|column| column.field == field && column.role == role)
            .map(|column| column.at)
    }
}
