//! From the bytes of a raw record to one value for each field of the contract; strings stay borrowed.

use std::borrow::Cow;
use std::fmt;

use schemas::Contract;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Largest record that is parsed; what is longer is no event.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Lists and objects within each other, at most; parsers recurse.
const DEPTH_MAX: usize = 64;

/// A value as it stands in the raw event.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RawValue<'a> {
    /// The field is not there, or null.
    #[default]
    Absent,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A list, an object, or a number that nothing holds.
    Other,
}

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

/// The bytes are not one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

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
        event.values.clear();
        event.values.resize(self.names.len(), RawValue::Absent);
        event.unknown = 0;
        let mut reader = sonic_rs::Deserializer::from_slice(json);
        let object = Object {
            names: &self.names,
            event,
        };
        object.deserialize(&mut reader).map_err(|_| Malformed)?;
        reader.end().map_err(|_| Malformed)
    }
}

struct Object<'n, 'e, 'a> {
    names: &'n [String],
    event: &'e mut RawEvent<'a>,
}

impl<'a> DeserializeSeed<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut next = 0;
        while let Some(name) = map.next_key_seed(Key {
            names: self.names,
            next,
        })? {
            match name {
                Some(at) => {
                    self.event.values[at] = map.next_value_seed(Value)?;
                    next = at + 1;
                }
                None => {
                    map.next_value_seed(Skip { depth: 0 })?;
                    self.event.unknown += 1;
                }
            }
        }
        Ok(())
    }
}

/// Finds the field of a key; producers mostly keep the contract's order, so the next field is tried first.
struct Key<'n> {
    names: &'n [String],
    next: usize,
}

impl<'a> DeserializeSeed<'a> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        if self.names.get(self.next).is_some_and(|name| name == key) {
            return Ok(Some(self.next));
        }
        Ok(self.names.iter().position(|name| name == key))
    }
}

struct Value;

impl<'a> DeserializeSeed<'a> for Value {
    type Value = RawValue<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<RawValue<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Value {
    type Value = RawValue<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<RawValue<'a>, E> {
        Ok(RawValue::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue<'a>, E> {
        Ok(RawValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue<'a>, E> {
        Ok(RawValue::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue<'a>, E> {
        Ok(i64::try_from(value).map_or(RawValue::Float(value as f64), RawValue::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue<'a>, E> {
        Ok(if value.is_finite() {
            RawValue::Float(value)
        } else {
            RawValue::Other
        })
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<RawValue<'a>, E> {
        Ok(RawValue::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue<'a>, E> {
        Ok(RawValue::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, list: A) -> Result<RawValue<'a>, A::Error> {
        Skip { depth: 0 }.visit_seq(list)?;
        Ok(RawValue::Other)
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<RawValue<'a>, A::Error> {
        Skip { depth: 0 }.visit_map(map)?;
        Ok(RawValue::Other)
    }
}

/// Reads past a value that nobody wants, down to a depth at which no event is.
#[derive(Clone, Copy)]
struct Skip {
    depth: usize,
}

impl Skip {
    fn deeper<E: Error>(self) -> Result<Skip, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom("too deep"));
        }
        Ok(Skip {
            depth: self.depth + 1,
        })
    }
}

impl<'a> DeserializeSeed<'a> for Skip {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Skip {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        while list.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(inside)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> FieldNames {
        FieldNames {
            names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        }
    }

    fn check(json: &[u8], expected: Result<[RawValue<'static>; 3], Malformed>) {
        let mut event = RawEvent::default();
        let read = names().parse(json, &mut event).map(|()| event.values);
        assert_eq!(
            read,
            expected.map(|values| values.to_vec()),
            "{}",
            String::from_utf8_lossy(json)
        );
    }

    fn text(text: &'static str) -> RawValue<'static> {
        RawValue::Text(Cow::Borrowed(text))
    }

    #[test]
    fn reads_every_kind_of_value_in_any_order() {
        use RawValue::{Absent, Bool, Float, Int, Other};
        check(
            br#"{"a":1,"b":"x","c":true}"#,
            Ok([Int(1), text("x"), Bool(true)]),
        );
        check(
            br#" {"c":-1.5e3,"x":{"a":[1]},"a":null} "#,
            Ok([Absent, Absent, Float(-1500.0)]),
        );
        check(
            br#"{"a":[1,{"b":2}],"b":{"a":1},"a":"\u00e9\""}"#,
            Ok([text("é\""), Other, Absent]),
        );
        check(
            br#"{"a":18446744073709551615,"b":-9223372036854775808}"#,
            Ok([Float(18446744073709551615.0), Int(i64::MIN), Absent]),
        );
        check(b"{}", Ok([Absent, Absent, Absent]));
    }

    #[test]
    fn refuses_what_is_no_object() {
        for bad in [
            &b""[..],
            b"{",
            b"[1]",
            b"1",
            b"\"a\"",
            b"{\"a\":1",
            b"{\"a\":tru}",
            b"{\"a\":1}{",
            b"{\"a\" 1}",
            b"\xff",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":1,}",
        ] {
            check(bad, Err(Malformed));
        }
    }

    #[test]
    fn depth_does_not_overflow_the_stack() {
        for open in ["[", "{\"a\":"] {
            let deep = format!("{{\"a\":{}", open.repeat(EVENT_BYTES_MAX / open.len()));
            check(deep.as_bytes(), Err(Malformed));
        }
    }
}
