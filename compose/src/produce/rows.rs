//! Rows of a file, as events and labels: columns of Parquet and CSV, objects of JSON lines.

use std::sync::Arc;

use schemas::Contract;
use schemas::contract::LabelType;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::cell::{Cell, moment_of};
use super::label_value::LabelValue;
use super::render;

/// What is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, row {row}: column `{column}` {what}")]
pub struct BadRow {
    /// Name of the file.
    pub file: Arc<str>,
    /// Number of the row, from 1 (for CSV without the header).
    pub row: u64,
    /// Name of the column.
    pub column: Arc<str>,
    /// What it is, and what it should be.
    pub what: &'static str,
}

/// Which columns are an event's id, time and label.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Column of the event's id.
    pub id: Arc<str>,
    /// Column of the event's time.
    pub time: Arc<str>,
    /// Column of the label, if there is one.
    pub label: Option<Arc<str>>,
    /// Type of the label.
    pub label_type: LabelType,
    /// Column that says when the label became known.
    pub label_time: Option<Arc<str>>,
    /// Whether a file without that column is refused; else its labels are sent with their events.
    pub label_time_required: bool,
    /// Whether labels are sent; events do not have them either way.
    pub send_labels: bool,
    /// Whether rows of a file without an id or a time are numbered, a second apart, in the order of the file.
    pub number_rows: bool,
}

impl Layout {
    /// Lays a file out as the contract says; another column than the contract's may tell when labels became
    /// known, which the file must then have.
    pub fn of(contract: &Contract, label_time: Option<&str>) -> Layout {
        let label = contract.label.as_ref();
        Layout {
            id: contract.id_field().name.as_str().into(),
            time: contract.fields[contract.event.time].name.as_str().into(),
            label: label.map(|label| label.name.as_str().into()),
            label_type: label.map_or(LabelType::Bool, |label| label.kind),
            label_time: label.map(|label| label_time.unwrap_or(&label.time).into()),
            label_time_required: label_time.is_some(),
            send_labels: true,
            number_rows: false,
        }
    }

    pub(crate) fn is_label(&self, column: &str) -> bool {
        [&self.label, &self.label_time]
            .into_iter()
            .flatten()
            .any(|name| **name == *column)
    }
}

/// When a label becomes known.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// There is none, or it never does.
    Never,
    /// With the event.
    WithEvent(LabelValue),
    /// At a time, in microseconds.
    At(LabelValue, i64),
}

/// A change to one field of an event as it is rendered.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'a> {
    /// A field gets another value, given as JSON.
    Replace(&'a str, &'a str),
    /// A field is added, its value given as JSON.
    Add(&'a str, &'a str),
}

/// Consecutive rows of a file.
#[derive(Debug)]
pub struct Rows {
    pub(crate) file: Arc<str>,
    pub(crate) first_row: u64,
    pub(crate) layout: Arc<Layout>,
    pub(crate) body: Body,
}

/// How rows are held.
#[derive(Debug)]
pub(crate) enum Body {
    Columns(Box<Columns>),
    Objects(Vec<Object>),
}

/// Rows as columns.
#[derive(Debug)]
pub(crate) struct Columns {
    pub(crate) len: usize,
    /// Of each column that is sent: its name, the JSON up to its value, its values.
    pub(crate) sent: Vec<(Arc<str>, Vec<u8>, Cell)>,
    pub(crate) id: Cell,
    pub(crate) time: Cell,
    pub(crate) label: Option<Cell>,
    pub(crate) label_time: Option<Cell>,
}

/// One JSON object, its values as they were written.
#[derive(Debug, Default)]
pub(crate) struct Object {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Rows {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Columns(columns) => columns.len,
            Body::Objects(objects) => objects.len(),
        }
    }

    /// Says whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the event's id.
    ///
    /// # Errors
    /// A row without one.
    pub fn id<'a>(&'a self, row: usize, scratch: &'a mut String) -> Result<&'a str, BadRow> {
        let id = match &self.body {
            Body::Columns(columns) => columns.id.id(row, scratch),
            Body::Objects(objects) => objects[row].id(&self.layout.id, scratch),
        };
        id.ok_or_else(|| {
            self.bad(
                row,
                &self.layout.id,
                "is not a text or whole number, but names the event",
            )
        })
    }

    /// Returns the event's time, in microseconds.
    ///
    /// # Errors
    /// A row without one.
    pub fn time(&self, row: usize) -> Result<i64, BadRow> {
        let time = match &self.body {
            Body::Columns(columns) => columns.time.moment(row),
            Body::Objects(objects) => objects[row].moment(&self.layout.time),
        };
        time.ok_or_else(|| {
            self.bad(
                row,
                &self.layout.time,
                "is not a timestamp, RFC 3339 with a zone, or milliseconds",
            )
        })
    }

    /// Returns the event's label.
    ///
    /// # Errors
    /// A label that is not of its type, or a time that is none.
    pub fn label(&self, row: usize) -> Result<Known, BadRow> {
        let Some(name) = self
            .layout
            .label
            .as_ref()
            .filter(|_| self.layout.send_labels)
        else {
            return Ok(Known::Never);
        };
        let (label, time) = match &self.body {
            Body::Columns(columns) => columns.label(row, self.layout.label_type),
            Body::Objects(objects) => objects[row].label(name, &self.layout),
        };
        let label = match label {
            Part::Absent | Part::Null => return Ok(Known::Never),
            Part::Bad => {
                let what = match self.layout.label_type {
                    LabelType::Bool => "is not true or false, 1 or 0",
                    LabelType::Number => "is not a finite number",
                    LabelType::Class => "is not the name of a class",
                };
                return Err(self.bad(row, name, what));
            }
            Part::Is(label) => label,
        };
        let column = self.layout.label_time.as_ref().unwrap_or(name);
        match time {
            Part::Is(micros) => Ok(Known::At(label, micros)),
            Part::Null => Ok(Known::Never),
            Part::Absent if self.layout.label_time_required => {
                Err(self.bad(row, column, "is missing"))
            }
            Part::Absent => Ok(Known::WithEvent(label)),
            Part::Bad => Err(self.bad(
                row,
                column,
                "is not a timestamp, RFC 3339 with a zone, or milliseconds",
            )),
        }
    }

    /// Appends the event as JSON: every column but those of the label.
    pub fn render(&self, row: usize, out: &mut Vec<u8>) {
        match &self.body {
            Body::Columns(columns) => {
                for (_, before, cell) in &columns.sent {
                    out.extend_from_slice(before);
                    cell.render(row, out);
                }
                out.push(b'}');
            }
            Body::Objects(_) => self.render_fields(row, None, out),
        }
    }

    /// Appends the event as JSON with one field changed.
    pub fn render_edited(&self, row: usize, edit: Edit<'_>, out: &mut Vec<u8>) {
        self.render_fields(row, Some(edit), out);
    }

    fn render_fields(&self, row: usize, edit: Option<Edit<'_>>, out: &mut Vec<u8>) {
        let mut before = b'{';
        let mut field = |name: &str, value: &mut dyn FnMut(&mut Vec<u8>), out: &mut Vec<u8>| {
            out.push(std::mem::replace(&mut before, b','));
            render::text(name, out);
            out.push(b':');
            match edit {
                Some(Edit::Replace(edited, json)) if edited == name => {
                    out.extend_from_slice(json.as_bytes())
                }
                _ => value(out),
            }
        };
        match &self.body {
            Body::Columns(columns) => {
                for (name, _, cell) in &columns.sent {
                    field(name, &mut |out| cell.render(row, out), out);
                }
            }
            Body::Objects(objects) => {
                for (name, value) in objects[row]
                    .fields
                    .iter()
                    .filter(|(name, _)| !self.layout.is_label(name))
                {
                    field(
                        name,
                        &mut |out| out.extend_from_slice(value.get().as_bytes()),
                        out,
                    );
                }
            }
        }
        if let Some(Edit::Add(name, json)) = edit {
            field(name, &mut |out| out.extend_from_slice(json.as_bytes()), out);
        }
        if before == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }

    fn bad(&self, row: usize, column: &Arc<str>, what: &'static str) -> BadRow {
        let row = self.first_row + row as u64 + 1;
        BadRow {
            file: self.file.clone(),
            row,
            column: column.clone(),
            what,
        }
    }
}

/// What a row has in a column.
enum Part<T> {
    Absent,
    Null,
    Bad,
    Is(T),
}

impl<T> Part<T> {
    fn read(is_null: bool, value: Option<T>) -> Part<T> {
        match value {
            Some(value) => Part::Is(value),
            None if is_null => Part::Null,
            None => Part::Bad,
        }
    }
}

impl Columns {
    fn label(&self, row: usize, kind: LabelType) -> (Part<LabelValue>, Part<i64>) {
        let label = match &self.label {
            None => Part::Absent,
            Some(cell) => Part::read(cell.is_null(row), cell.label(row, kind)),
        };
        let time = match &self.label_time {
            None => Part::Absent,
            Some(cell) => Part::read(cell.is_null(row), cell.moment(row)),
        };
        (label, time)
    }
}

impl Object {
    /// Reads a JSON object; the order of its fields and the text of its values stay.
    pub(crate) fn parse(line: &[u8]) -> Result<Object, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let object = deserializer.deserialize_map(Fields)?;
        deserializer.end()?;
        Ok(object)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        Some(value.get())
    }

    fn id<'a>(&self, name: &str, scratch: &'a mut String) -> Option<&'a str> {
        let json = self.get(name)?;
        *scratch = match serde_json::from_str::<String>(json) {
            Ok(text) => text,
            Err(_) => json.parse::<i64>().ok()?.to_string(),
        };
        Some(scratch)
    }

    fn moment(&self, name: &str) -> Option<i64> {
        moment_of(plain(self.get(name)?))
    }

    fn label(&self, name: &str, layout: &Layout) -> (Part<LabelValue>, Part<i64>) {
        let label = self.get(name).map_or(Part::Absent, |json| {
            Part::read(
                json == "null",
                LabelValue::read(plain(json), layout.label_type),
            )
        });
        let time = layout.label_time.as_deref();
        let time = match time.and_then(|name| self.get(name)) {
            None => Part::Absent,
            Some(json) => Part::read(json == "null", moment_of(plain(json))),
        };
        (label, time)
    }
}

/// Returns what is between the quotes; times and labels have nothing to unescape.
fn plain(json: &str) -> &str {
    json.strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'))
        .unwrap_or(json)
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
        let mut object = Object::default();
        while let Some(entry) = map.next_entry()? {
            object.fields.push(entry);
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(line: &str) -> Rows {
        let layout = Layout {
            id: "id".into(),
            time: "at".into(),
            label: Some("late".into()),
            label_type: LabelType::Bool,
            label_time: Some("arrival".into()),
            label_time_required: false,
            send_labels: true,
            number_rows: false,
        };
        let body = Body::Objects(vec![Object::parse(line.as_bytes()).unwrap()]);
        Rows {
            file: "f.jsonl".into(),
            first_row: 41,
            layout: Arc::new(layout),
            body,
        }
    }

    fn rendered(rows: &Rows, edit: Option<Edit<'_>>) -> String {
        let mut out = Vec::new();
        match edit {
            None => rows.render(0, &mut out),
            Some(edit) => rows.render_edited(0, edit, &mut out),
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_known_later_is_not_sent() {
        let rows = rows(
            r#"{ "id" : "a\n", "at":5, "late":true,"n":1.50, "arrival":"1970-01-01T00:00:09Z" }"#,
        );
        assert_eq!(rendered(&rows, None), r#"{"id":"a\n","at":5,"n":1.50}"#);
        assert_eq!(rows.id(0, &mut String::new()), Ok("a\n"));
        assert_eq!(rows.time(0), Ok(5_000));
        assert_eq!(
            rows.label(0),
            Ok(Known::At(LabelValue::YesOrNo(true), 9_000_000))
        );
    }

    #[test]
    fn edits_change_one_field() {
        let rows = rows(r#"{"id":1,"at":5}"#);
        assert_eq!(
            rendered(&rows, Some(Edit::Replace("at", "{}"))),
            r#"{"id":1,"at":{}}"#
        );
        assert_eq!(
            rendered(&rows, Some(Edit::Add("x", "[1]"))),
            r#"{"id":1,"at":5,"x":[1]}"#
        );
    }

    #[test]
    fn bad_rows_name_file_row_and_column() {
        let bad = rows(r#"{"id":null,"at":"soon","late":"maybe"}"#);
        let error = bad.time(0).unwrap_err().to_string();
        assert!(
            error.starts_with("f.jsonl, row 42: column `at` is not"),
            "{error}"
        );
        assert!(bad.id(0, &mut String::new()).is_err());
        assert!(bad.label(0).is_err());
        let early = rows(r#"{"late":0}"#);
        assert_eq!(
            early.label(0),
            Ok(Known::WithEvent(LabelValue::YesOrNo(false)))
        );
        assert_eq!(
            rows(r#"{"late":1,"arrival":null}"#).label(0),
            Ok(Known::Never)
        );
        assert!(Object::parse(b"{} {}").is_err());
        assert!(Object::parse(b"[1]").is_err());
    }
}
