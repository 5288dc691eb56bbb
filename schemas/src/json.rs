//! Flat JSON objects: one value for each name that somebody looks for; texts stay borrowed.
//!
//! The one reader of raw events and labels. It is bounded in depth, since parsers recurse.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Lists and objects within each other, at most; parsers recurse.
const DEPTH_MAX: usize = 64;

/// A value as it stands in the object.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RawValue<'a> {
    /// The name is not there, or null.
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

/// The bytes are not one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads a JSON object into one value for each name, and returns how many other names it has.
///
/// Of a name that stands twice, the last value counts.
///
/// # Panics
/// If there are not as many values as names.
/// # Errors
/// [`Malformed`] for anything but one JSON object in UTF-8.
pub fn read<'a, N: AsRef<str>>(
    names: &[N],
    json: &'a [u8],
    values: &mut [RawValue<'a>],
) -> Result<u32, Malformed> {
    assert_eq!(names.len(), values.len(), "one value for each name");
    values.fill(RawValue::Absent);
    let mut reader = sonic_rs::Deserializer::from_slice(json);
    let object = Object { names, values };
    let unknown = object.deserialize(&mut reader).map_err(|_| Malformed)?;
    reader.end().map_err(|_| Malformed)?;
    Ok(unknown)
}

struct Object<'n, 'e, 'a, N> {
    names: &'n [N],
    values: &'e mut [RawValue<'a>],
}

impl<'a, N: AsRef<str>> DeserializeSeed<'a> for Object<'_, '_, 'a, N> {
    type Value = u32;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, N: AsRef<str>> Visitor<'a> for Object<'_, '_, 'a, N> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<u32, A::Error> {
        let (mut next, mut unknown) = (0, 0);
        while let Some(name) = map.next_key_seed(Key {
            names: self.names,
            next,
        })? {
            match name {
                Some(at) => {
                    self.values[at] = map.next_value_seed(Value)?;
                    next = at + 1;
                }
                None => {
                    map.next_value_seed(Skip { depth: 0 })?;
                    unknown += 1;
                }
            }
        }
        Ok(unknown)
    }
}

/// Finds the place of a key; producers mostly keep one order, so the next name is tried first.
struct Key<'n, N> {
    names: &'n [N],
    next: usize,
}

impl<'a, N: AsRef<str>> DeserializeSeed<'a> for Key<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<N: AsRef<str>> Visitor<'_> for Key<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        let is_key = |name: &N| name.as_ref() == key;
        if self.names.get(self.next).is_some_and(is_key) {
            return Ok(Some(self.next));
        }
        Ok(self.names.iter().position(is_key))
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

    fn check(json: &[u8], expected: Result<[RawValue<'static>; 3], Malformed>) {
        let mut values = [const { RawValue::Absent }; 3];
        let done = read(&["a", "b", "c"], json, &mut values).map(|_| values);
        assert_eq!(done, expected, "{}", String::from_utf8_lossy(json));
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
            let deep = format!("{{\"a\":{}", open.repeat((1 << 20) / open.len()));
            check(deep.as_bytes(), Err(Malformed));
        }
    }
}
