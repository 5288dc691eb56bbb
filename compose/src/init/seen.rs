//! One value, as the file has it and as it is remembered.

use schemas::parse_rfc3339;

use super::looks;

/// A value as the file has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen<'a> {
    /// No value.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Microseconds since 1970.
    Time(i64),
    /// A text.
    Text(&'a str),
    /// A list or an object.
    Nested,
}

/// A value as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A number, or true (1) and false (0).
    Number(f64),
    /// Microseconds since 1970.
    Time(i64),
    /// The hash of a text, of a list or of an object.
    Text(u64),
}

impl<'a> Seen<'a> {
    /// Takes a text of a file with types: a point in time if it is RFC 3339.
    pub fn text(text: &'a str) -> Seen<'a> {
        match parse_rfc3339(text) {
            Some(time) => Seen::Time(time.0),
            None if text.is_empty() => Seen::Null,
            None => Seen::Text(text),
        }
    }

    /// Takes a text of a file without types (CSV): what it can be read as.
    pub fn untyped(text: &'a str) -> Seen<'a> {
        let plain = text.trim();
        if looks::is_missing(plain) {
            return Seen::Null;
        }
        match plain {
            "true" | "True" | "TRUE" => return Seen::Bool(true),
            "false" | "False" | "FALSE" => return Seen::Bool(false),
            _ => {}
        }
        // What begins with 0 or + is a code or a telephone number, and would lose that as a number.
        let unsigned = plain.strip_prefix('-').unwrap_or(plain);
        let code = unsigned.starts_with('+')
            || (unsigned.len() > 1
                && unsigned.starts_with('0')
                && unsigned.bytes().all(|byte| byte.is_ascii_digit()));
        if code || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Seen::text(text);
        }
        if let Ok(number) = plain.parse() {
            return Seen::Int(number);
        }
        match plain.parse::<f64>() {
            Ok(number) if number.is_finite() => Seen::Float(number),
            _ => Seen::text(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untyped_texts_are_what_they_can_be_read_as() {
        let check = |text, expected| assert_eq!(Seen::untyped(text), expected, "{text}");
        check("12", Seen::Int(12));
        check("-12", Seen::Int(-12));
        check(" 1.5 ", Seen::Float(1.5));
        check("0", Seen::Int(0));
        check("0.5", Seen::Float(0.5));
        check("00123", Seen::Text("00123"));
        check("+4420", Seen::Text("+4420"));
        check("inf", Seen::Text("inf"));
        check("infinity", Seen::Text("infinity"));
        check("True", Seen::Bool(true));
        check("NA", Seen::Null);
        check("", Seen::Null);
        check("1970-01-01T00:00:00Z", Seen::Time(0));
        check("1970-01-01", Seen::Text("1970-01-01"));
    }
}
