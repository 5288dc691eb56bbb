//! One column of a file, in the few types that JSON knows.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use schemas::contract::{FieldType, LabelType};
use schemas::parse_rfc3339;

use super::label_value::LabelValue;
use super::render;

/// A column.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Bool(BooleanArray),
    Int(Int64Array),
    Float32(Float32Array),
    Float(Float64Array),
    Text(StringArray),
    Time(TimestampMicrosecondArray),
    /// Text from a file without types (CSV); what the contract expects there.
    Untyped(StringArray, Option<FieldType>),
}

impl Cell {
    /// Takes a typed column; `None` if its type has no plain JSON form.
    pub(crate) fn typed(array: &ArrayRef) -> Result<Option<Cell>, ArrowError> {
        use DataType as T;
        let to = |kind: &DataType| {
            let strict = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(array, kind, &strict)
        };
        let cell = match array.data_type() {
            T::Boolean => Cell::Bool(array.as_boolean().clone()),
            kind if kind.is_integer() => {
                Cell::Int(to(&T::Int64)?.as_primitive::<Int64Type>().clone())
            }
            T::Float16 | T::Float32 => {
                Cell::Float32(to(&T::Float32)?.as_primitive::<Float32Type>().clone())
            }
            T::Float64
            | T::Decimal32(..)
            | T::Decimal64(..)
            | T::Decimal128(..)
            | T::Decimal256(..) => {
                Cell::Float(to(&T::Float64)?.as_primitive::<Float64Type>().clone())
            }
            T::Timestamp(_, zone) => {
                let micros = to(&T::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                Cell::Time(micros.as_primitive::<TimestampMicrosecondType>().clone())
            }
            T::Date32 | T::Date64 => {
                let micros = to(&T::Timestamp(TimeUnit::Microsecond, None))?;
                Cell::Time(micros.as_primitive::<TimestampMicrosecondType>().clone())
            }
            T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Dictionary(..) | T::Null => {
                Cell::Text(to(&T::Utf8)?.as_string::<i32>().clone())
            }
            _ => return Ok(None),
        };
        Ok(Some(cell))
    }

    /// Takes whole numbers as text where the contract has a string, such as an id.
    pub(crate) fn for_field(self, kind: Option<FieldType>) -> Cell {
        match (self, kind) {
            (Cell::Int(numbers), Some(FieldType::String)) => {
                let text = |number: Option<i64>| number.map(|number| number.to_string());
                Cell::Text(numbers.iter().map(text).collect())
            }
            (cell, _) => cell,
        }
    }

    /// Takes a column of text of which the contract may know more.
    pub(crate) fn untyped(array: &ArrayRef, kind: Option<FieldType>) -> Cell {
        Cell::Untyped(array.as_string::<i32>().clone(), kind)
    }

    fn array(&self) -> &dyn Array {
        match self {
            Cell::Bool(array) => array,
            Cell::Int(array) => array,
            Cell::Float32(array) => array,
            Cell::Float(array) => array,
            Cell::Text(array) | Cell::Untyped(array, _) => array,
            Cell::Time(array) => array,
        }
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.array().is_null(row)
    }

    /// Appends the value as JSON.
    pub(crate) fn render(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match self {
            Cell::Bool(array) => render::boolean(array.value(row), out),
            Cell::Int(array) => render::integer(array.value(row), out),
            Cell::Float32(array) => match array.value(row) {
                value if value.is_finite() => {
                    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
                }
                _ => out.extend_from_slice(b"null"),
            },
            Cell::Float(array) => render::float(array.value(row), out),
            Cell::Text(array) => render::text(array.value(row), out),
            Cell::Time(array) => render::time(array.value(row), out),
            Cell::Untyped(array, kind) => untyped(array.value(row), *kind, out),
        }
    }

    /// Returns the value as an event's id.
    pub(crate) fn id<'a>(&'a self, row: usize, scratch: &'a mut String) -> Option<&'a str> {
        if self.is_null(row) {
            return None;
        }
        match self {
            Cell::Text(array) | Cell::Untyped(array, _) => Some(array.value(row)),
            Cell::Int(array) => {
                scratch.clear();
                scratch.push_str(itoa::Buffer::new().format(array.value(row)));
                Some(scratch)
            }
            _ => None,
        }
    }

    /// Returns the value as a point in time, in microseconds: a timestamp, RFC 3339 or milliseconds.
    pub(crate) fn moment(&self, row: usize) -> Option<i64> {
        if self.is_null(row) {
            return None;
        }
        match self {
            Cell::Time(array) => Some(array.value(row)),
            Cell::Int(array) => array.value(row).checked_mul(1000),
            Cell::Text(array) | Cell::Untyped(array, _) => moment_of(array.value(row)),
            _ => None,
        }
    }

    /// Returns the value as a label of a type.
    pub(crate) fn label(&self, row: usize, kind: LabelType) -> Option<LabelValue> {
        if self.is_null(row) {
            return None;
        }
        match self {
            Cell::Bool(array) if kind == LabelType::Bool => {
                Some(LabelValue::YesOrNo(array.value(row)))
            }
            Cell::Int(array) if kind == LabelType::Class => {
                let text = array.value(row).to_string();
                LabelValue::read(&text, kind)
            }
            Cell::Int(array) => LabelValue::number(array.value(row) as f64, kind),
            Cell::Float(array) => LabelValue::number(array.value(row), kind),
            Cell::Float32(array) => LabelValue::number(f64::from(array.value(row)), kind),
            Cell::Text(array) | Cell::Untyped(array, _) => LabelValue::read(array.value(row), kind),
            _ => None,
        }
    }
}

/// Reads RFC 3339 or integer milliseconds.
pub(crate) fn moment_of(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(millis) => millis.checked_mul(1000),
        Err(_) => parse_rfc3339(text).map(|time| time.0),
    }
}

/// Writes what a file without types has, as what the contract expects if it is that, else as text: whether
/// that is an error is for the contract to say, downstream.
fn untyped(value: &str, kind: Option<FieldType>, out: &mut Vec<u8>) {
    match kind {
        Some(FieldType::Int64 | FieldType::Timestamp) => match value.trim().parse::<i64>() {
            Ok(number) => render::integer(number, out),
            Err(_) => render::text(value, out),
        },
        Some(FieldType::Float64) => match value.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => render::float(number, out),
            _ => render::text(value, out),
        },
        Some(FieldType::Bool) => match value.trim() {
            "true" | "True" | "TRUE" => render::boolean(true, out),
            "false" | "False" | "FALSE" => render::boolean(false, out),
            _ => render::text(value, out),
        },
        Some(FieldType::String) | None => render::text(value, out),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int8Array, TimestampSecondArray, UInt64Array};

    use super::*;

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn check(cell: &Cell, expected: &[&str]) {
        for (row, json) in expected.iter().enumerate() {
            let mut out = Vec::new();
            cell.render(row, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), *json);
        }
    }

    fn typed(array: impl Array + 'static) -> Cell {
        let array: ArrayRef = Arc::new(array);
        Cell::typed(&array).unwrap().unwrap()
    }

    #[test]
    fn typed_columns_keep_their_type() {
        check(
            &typed(Int8Array::from(vec![Some(-3), None])),
            &["-3", "null"],
        );
        check(
            &typed(Float32Array::from(vec![0.1, f32::NAN])),
            &["0.1", "null"],
        );
        check(
            &typed(BooleanArray::from(vec![true, false])),
            &["true", "false"],
        );
        check(
            &typed(TimestampSecondArray::from(vec![0])),
            &["\"1970-01-01T00:00:00Z\""],
        );
        let ids = || typed(Int8Array::from(vec![Some(7), None]));
        check(
            &ids().for_field(Some(FieldType::String)),
            &["\"7\"", "null"],
        );
        check(&ids().for_field(Some(FieldType::Int64)), &["7", "null"]);
        let too_large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(Cell::typed(&too_large).is_err());
        let nested: ArrayRef = Arc::new(arrow_array::StructArray::new_empty_fields(1, None));
        assert!(Cell::typed(&nested).unwrap().is_none());
    }

    #[test]
    fn untyped_columns_follow_the_contract_where_they_can() {
        let array = texts(&[Some("007"), Some("1e3"), Some("far"), Some("inf"), None]);
        let cell = |kind| Cell::untyped(&array, kind);
        check(
            &cell(Some(FieldType::Int64)),
            &["7", "\"1e3\"", "\"far\"", "\"inf\"", "null"],
        );
        check(
            &cell(Some(FieldType::Float64)),
            &["7.0", "1000.0", "\"far\"", "\"inf\"", "null"],
        );
        check(&cell(None), &["\"007\"", "\"1e3\""]);
        check(
            &Cell::untyped(&texts(&[Some("True")]), Some(FieldType::Bool)),
            &["true"],
        );
    }

    #[test]
    fn ids_times_and_labels_are_found_in_what_files_have() {
        let mut scratch = String::new();
        assert_eq!(
            typed(Int64Array::from(vec![7])).id(0, &mut scratch),
            Some("7")
        );
        assert_eq!(
            typed(BooleanArray::from(vec![true])).id(0, &mut scratch),
            None
        );
        let times = Cell::untyped(
            &texts(&[Some("1970-01-01T00:00:01Z"), Some("5"), Some("soon")]),
            None,
        );
        assert_eq!(
            [times.moment(0), times.moment(1), times.moment(2)],
            [Some(1_000_000), Some(5000), None]
        );
        let labels = typed(Float64Array::from(vec![1.0, 0.0, 0.5]));
        let (yes, no) = (LabelValue::YesOrNo(true), LabelValue::YesOrNo(false));
        assert_eq!(
            [0, 1, 2].map(|row| labels.label(row, LabelType::Bool)),
            [Some(yes), Some(no), None]
        );
        let number = LabelValue::Number(0.5);
        assert_eq!(labels.label(2, LabelType::Number), Some(number));
    }
}
