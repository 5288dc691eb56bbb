//! What one column of the sample has shown.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::looks::{self, Look};
use super::seen::{Seen, Value};

/// Different texts that are kept as they are written; beyond that a column has many.
pub const KEPT_MAX: usize = 64;

/// Longest text that is kept as it is written.
const KEPT_BYTES_MAX: usize = 256;

/// Milliseconds since 1970 of the years 2000 to 2099.
const MILLIS: std::ops::RangeInclusive<f64> = 946_684_800_000.0..=4_102_444_799_999.0;

/// What the values of a column are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There are none.
    Empty,
    /// true and false.
    Bool,
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// Points in time.
    Time,
    /// Texts, or values of several types.
    Text,
    /// Lists or objects, which a contract does not take.
    Nested,
}

/// How many of a column's texts look like something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Email addresses.
    pub emails: usize,
    /// IP addresses.
    pub ips: usize,
    /// Payment cards.
    pub cards: usize,
    /// IBANs.
    pub ibans: usize,
    /// Telephone numbers.
    pub phones: usize,
    /// Dates and times without a zone.
    pub local_times: usize,
    /// Texts of at least four words.
    pub sentences: usize,
    /// Texts with `|` in them.
    pub bars: usize,
    /// Texts with `;` in them.
    pub semicolons: usize,
}

/// What one column has shown.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name in the file.
    pub name: String,
    /// One value for each row.
    pub values: Vec<Value>,
    /// Values of each type.
    pub counts: Counts,
    /// Smallest number.
    pub min: f64,
    /// Largest number.
    pub max: f64,
    /// Bytes of the longest value as it is written.
    pub bytes_longest: usize,
    /// How often each of the first different values came, as they are written.
    pub kept: BTreeMap<String, usize>,
    /// What the texts look like.
    pub looks: Looks,
    /// Whether each value is at or after the one before it.
    pub sorted: bool,
    /// Whether every number is whole.
    pub whole: bool,
    /// Whether every time is at midnight, UTC.
    pub midnight: bool,
    distinct: HashSet<u64>,
    before: Option<Value>,
}

/// How many values of each type there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// No value.
    pub nulls: usize,
    /// true and false.
    pub bools: usize,
    /// Whole numbers.
    pub ints: usize,
    /// Other numbers.
    pub floats: usize,
    /// Points in time.
    pub times: usize,
    /// Texts.
    pub texts: usize,
    /// Lists and objects.
    pub nested: usize,
}

impl Column {
    /// Returns a column that has shown nothing yet but rows without a value.
    pub fn new(name: &str, rows: usize) -> Column {
        let mut column = Column {
            name: name.to_owned(),
            values: Vec::new(),
            counts: Counts::default(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            bytes_longest: 0,
            kept: BTreeMap::new(),
            looks: Looks::default(),
            sorted: true,
            whole: true,
            midnight: true,
            distinct: HashSet::new(),
            before: None,
        };
        column.pad(rows);
        column
    }

    /// Adds rows without a value until there are so many.
    pub fn pad(&mut self, rows: usize) {
        while self.values.len() < rows {
            self.add(Seen::Null);
        }
    }

    /// Adds the value of the next row.
    pub fn add(&mut self, seen: Seen<'_>) {
        let value = match seen {
            Seen::Float(number) if !number.is_finite() => Value::Null,
            Seen::Null => Value::Null,
            Seen::Bool(value) => self.number(
                f64::from(u8::from(value)),
                if value { "true" } else { "false" },
            ),
            Seen::Int(number) => {
                let written = number.to_string();
                self.looks.cards += usize::from(looks::look(&written) == Look::Card);
                self.number(number as f64, &written)
            }
            Seen::Float(number) => self.number(number, &number.to_string()),
            Seen::Time(micros) => {
                self.midnight &= micros.rem_euclid(86_400_000_000) == 0;
                // RFC 3339 with an offset and microseconds takes 32 bytes.
                self.bytes_longest = self.bytes_longest.max(32);
                self.distinct.insert(hash(&micros.to_string()));
                Value::Time(micros)
            }
            Seen::Text(text) => self.text(text),
            Seen::Nested => Value::Text(0),
        };
        let count = match (value, seen) {
            (Value::Null, _) => &mut self.counts.nulls,
            (_, Seen::Bool(_)) => &mut self.counts.bools,
            (_, Seen::Int(_)) => &mut self.counts.ints,
            (_, Seen::Float(_)) => &mut self.counts.floats,
            (_, Seen::Time(_)) => &mut self.counts.times,
            (_, Seen::Nested) => &mut self.counts.nested,
            _ => &mut self.counts.texts,
        };
        *count += 1;
        if value != Value::Null {
            let ordered = match (self.before, value) {
                (Some(Value::Number(before)), Value::Number(now)) => before <= now,
                (Some(Value::Time(before)), Value::Time(now)) => before <= now,
                (before, _) => before.is_none(),
            };
            self.sorted &= ordered;
            self.before = Some(value);
        }
        self.values.push(value);
    }

    fn number(&mut self, number: f64, written: &str) -> Value {
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        self.whole &= number.fract() == 0.0;
        self.keep(written);
        Value::Number(number)
    }

    fn text(&mut self, text: &str) -> Value {
        let looks = &mut self.looks;
        match looks::look(text) {
            Look::Email => looks.emails += 1,
            Look::Ip => looks.ips += 1,
            Look::Card => looks.cards += 1,
            Look::Iban => looks.ibans += 1,
            Look::Phone => looks.phones += 1,
            Look::LocalTime => looks.local_times += 1,
            Look::Plain => {}
        }
        looks.sentences += usize::from(text.split_whitespace().nth(3).is_some());
        looks.bars += usize::from(text.contains('|'));
        looks.semicolons += usize::from(text.contains(';'));
        self.keep(text)
    }

    fn keep(&mut self, written: &str) -> Value {
        self.bytes_longest = self.bytes_longest.max(written.len());
        let hash = hash(written);
        self.distinct.insert(hash);
        if let Some(count) = self.kept.get_mut(written) {
            *count += 1;
        } else if self.kept.len() < KEPT_MAX && written.len() <= KEPT_BYTES_MAX {
            self.kept.insert(written.to_owned(), 1);
        }
        Value::Text(hash)
    }

    /// Returns how many rows have a value.
    pub fn seen(&self) -> usize {
        self.values.len() - self.counts.nulls
    }

    /// Returns how many different values there are.
    pub fn distinct(&self) -> usize {
        self.distinct.len()
    }

    /// Says whether no value comes twice and none is missing.
    pub fn is_unique(&self) -> bool {
        self.counts.nulls == 0 && self.seen() > 0 && self.distinct() == self.seen()
    }

    /// Says whether its values are few enough to list them all, and which they are.
    pub fn all_kept(&self) -> Option<Vec<&str>> {
        let all = self.kept.len() == self.distinct();
        all.then(|| self.kept.keys().map(String::as_str).collect())
    }

    /// Says what its values are together.
    pub fn kind(&self) -> Kind {
        let Counts {
            bools,
            ints,
            floats,
            times,
            nested,
            ..
        } = self.counts;
        match self.seen() {
            0 => Kind::Empty,
            _ if nested > 0 => Kind::Nested,
            seen if seen == bools => Kind::Bool,
            seen if seen == ints => Kind::Int,
            seen if seen == ints + floats => Kind::Float,
            seen if seen == times => Kind::Time,
            _ => Kind::Text,
        }
    }

    /// Says whether its values can be a contract's timestamps: points in time, or milliseconds under a name that
    /// says so.
    pub fn is_time(&self) -> bool {
        match self.kind() {
            Kind::Time => true,
            Kind::Int => {
                MILLIS.contains(&self.min) && MILLIS.contains(&self.max) && self.named_time()
            }
            _ => false,
        }
    }

    /// Says whether the name speaks of a time.
    pub fn named_time(&self) -> bool {
        let words = looks::words(&self.name);
        let says = |word: &String| {
            matches!(
                word.as_str(),
                "time" | "timestamp" | "ts" | "date" | "datetime" | "day" | "when"
            )
        };
        words.iter().any(says) || words.last().is_some_and(|word| word == "at")
    }

    /// Returns a row's point in time, in microseconds.
    pub fn moment(&self, row: usize) -> Option<i64> {
        match self.values[row] {
            Value::Time(micros) => Some(micros),
            Value::Number(millis) => Some((millis * 1000.0) as i64),
            Value::Null | Value::Text(_) => None,
        }
    }

    /// Says whether its values are true and false, 1 and 0.
    pub fn is_yes_or_no(&self) -> bool {
        let binary = self.whole && self.min >= 0.0 && self.max <= 1.0;
        matches!(self.kind(), Kind::Bool | Kind::Int | Kind::Float) && binary
    }
}

fn hash(written: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    written.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(texts: &[&str]) -> Column {
        let mut column = Column::new("c", 0);
        for text in texts {
            column.add(Seen::untyped(text));
        }
        column
    }

    #[test]
    fn a_column_is_what_all_of_its_values_are() {
        let check =
            |texts: &[&str], expected| assert_eq!(column(texts).kind(), expected, "{texts:?}");
        check(&[], Kind::Empty);
        check(&["", "NA"], Kind::Empty);
        check(&["1", "", "2"], Kind::Int);
        check(&["1", "2.5"], Kind::Float);
        check(&["1", "a"], Kind::Text);
        check(&["true", "1"], Kind::Text);
        check(&["true", "false"], Kind::Bool);
        check(&["1970-01-01T00:00:00Z"], Kind::Time);
    }

    #[test]
    fn statistics_count_what_was_seen() {
        let numbers = column(&["3", "1", "", "3"]);
        assert_eq!(
            (numbers.min, numbers.max, numbers.distinct()),
            (1.0, 3.0, 2)
        );
        assert_eq!((numbers.counts.nulls, numbers.seen()), (1, 3));
        assert!(!numbers.sorted && !numbers.is_unique());
        assert_eq!(numbers.all_kept(), Some(vec!["1", "3"]));
        let ids = column(&["1", "2", "3"]);
        assert!(ids.sorted && ids.is_unique());
        assert!(column(&["0", "1", "1.0"]).is_yes_or_no());
        assert!(!column(&["0", "2"]).is_yes_or_no());
    }
}
