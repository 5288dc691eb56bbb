//! Walks a TOML table: takes typed values out, and notes every problem with its line instead of stopping.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// One thing that is wrong with a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

/// Everything that is wrong with a contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ContractErrors {
    /// Name of the file.
    pub file: String,
    /// The problems, by line.
    pub problems: Vec<Problem>,
}

impl ContractErrors {
    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> ContractErrors {
        let what = format!("cannot read the file: {error}");
        let remedy = "name a readable contract file".to_owned();
        ContractErrors {
            file: file.to_owned(),
            problems: vec![Problem {
                line: 1,
                what,
                remedy,
            }],
        }
    }
}

impl fmt::Display for ContractErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "problem" } else { "problems" };
        write!(f, "{}: {count} {plural}", self.file)?;
        for Problem { line, what, remedy } in &self.problems {
            write!(f, "\n{}:{line}: {what}; {remedy}", self.file)?;
        }
        Ok(())
    }
}

/// Collects problems while tables are walked.
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<Problem>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Problems {
            text,
            found: Vec::new(),
        }
    }

    /// Notes a problem at a place in the text.
    pub(super) fn note(
        &mut self,
        at: &Range<usize>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        self.found.push(Problem {
            line,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_errors(mut self, file: &str) -> ContractErrors {
        self.found.sort_by_key(|problem| problem.line);
        self.found.dedup();
        ContractErrors {
            file: file.to_owned(),
            problems: self.found,
        }
    }
}

/// A table of which every key must be taken.
pub(super) struct Walk<'a> {
    name: String,
    table: Option<&'a DeTable<'a>>,
    /// Where the table stands.
    pub(super) span: Range<usize>,
    taken: Vec<&'static str>,
}

/// A value and where it stands.
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        name: impl Into<String>,
        table: Option<&'a DeTable<'a>>,
        span: Range<usize>,
    ) -> Self {
        Walk {
            name: name.into(),
            table,
            span,
            taken: Vec::new(),
        }
    }

    /// Takes a raw value.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.taken.push(key);
        self.table?.get(key)
    }

    /// Takes a sub-table; an absent one is empty.
    pub(super) fn table(&mut self, key: &'static str, problems: &mut Problems) -> Walk<'a> {
        let name = self.path(key);
        match self.value(key) {
            None => Walk::new(name, None, self.span.clone()),
            Some(value) => match value.get_ref().as_table() {
                Some(table) => Walk::new(name, Some(table), value.span()),
                None => {
                    self.mistyped(value, key, "a table", problems);
                    Walk::new(name, None, value.span())
                }
            },
        }
    }

    /// Says whether the table stands in the file.
    pub(super) fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Takes an array of tables.
    pub(super) fn tables(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Walk<'a>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.mistyped(value, key, &format!("tables headed [[{key}]]"), problems);
            return Vec::new();
        };
        let mut walks = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => walks.push(Walk::new(key, Some(table), item.span())),
                None => self.mistyped(item, key, "a table", problems),
            }
        }
        walks
    }

    /// Takes a text.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<&'a str>> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(At {
                value: text,
                span: value.span(),
            }),
            None => {
                self.mistyped(value, key, "a text in quotes", problems);
                None
            }
        }
    }

    /// Takes a text that must be there.
    pub(super) fn required_text(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<&'a str>> {
        if self.table.is_none_or(|table| !table.contains_key(key)) {
            self.missing(key, problems);
        }
        self.text(key, problems)
    }

    /// Takes one word of a closed list.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        default: Option<T>,
        problems: &mut Problems,
    ) -> Option<T> {
        let present = self.table.is_some_and(|table| table.contains_key(key));
        if !present {
            if default.is_none() {
                self.missing(key, problems);
            }
            self.taken.push(key);
            return default;
        }
        let At { value, span } = self.text(key, problems)?;
        one_of(&self.path(key), value, &span, words, problems)
    }

    /// Takes a whole number within bounds.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        bounds: Range<i64>,
        default: i64,
        problems: &mut Problems,
    ) -> i64 {
        let Some(value) = self.value(key) else {
            return default;
        };
        match integer_of(value.get_ref()) {
            Some(number) if bounds.contains(&number) => number,
            Some(number) => {
                let remedy = format!("write a number from {} to {}", bounds.start, bounds.end - 1);
                problems.note(
                    &value.span(),
                    format!("`{}` is {number}", self.path(key)),
                    remedy,
                );
                default
            }
            None => {
                self.mistyped(value, key, "a whole number", problems);
                default
            }
        }
    }

    /// Takes a number that satisfies a condition.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        condition: (&str, fn(f64) -> bool),
        problems: &mut Problems,
    ) -> Option<f64> {
        let value = self.value(key)?;
        let (right, holds) = condition;
        match number_of(value.get_ref()) {
            Some(number) if number.is_finite() && holds(number) => Some(number),
            Some(number) => {
                let what = format!("`{}` is {number}", self.path(key));
                problems.note(&value.span(), what, format!("write {right}"));
                None
            }
            None => {
                self.mistyped(value, key, right, problems);
                None
            }
        }
    }

    /// Takes a list of numbers that satisfy a condition.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        (right, holds): (&str, fn(f64) -> bool),
        problems: &mut Problems,
    ) -> Vec<f64> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.mistyped(value, key, "a list of numbers", problems);
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for item in array.iter() {
            match number_of(item.get_ref()) {
                Some(number) if number.is_finite() && holds(number) => numbers.push(number),
                Some(number) => {
                    let what = format!("`{}` has {number}", self.path(key));
                    problems.note(&item.span(), what, format!("write {right}"));
                }
                None => self.mistyped(item, key, right, problems),
            }
        }
        numbers
    }

    /// Takes a list of texts, or one text as a list of one.
    pub(super) fn texts(&mut self, key: &'static str, problems: &mut Problems) -> Vec<At<&'a str>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        if let Some(text) = value.get_ref().as_str() {
            return vec![At {
                value: text,
                span: value.span(),
            }];
        }
        let Some(array) = value.get_ref().as_array() else {
            self.mistyped(value, key, "a list of texts", problems);
            return Vec::new();
        };
        self.texts_of(array, key, problems)
    }

    fn texts_of(
        &self,
        array: &'a DeArray<'a>,
        key: &str,
        problems: &mut Problems,
    ) -> Vec<At<&'a str>> {
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(At {
                    value: text,
                    span: item.span(),
                }),
                None => self.mistyped(item, key, "a text in quotes", problems),
            }
        }
        texts
    }

    /// Notes every key that nobody took.
    pub(super) fn finish(self, problems: &mut Problems) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !self.taken.contains(&name) {
                let what = format!("`{}` is not a key of a contract", self.path(name));
                problems.note(
                    &key.span(),
                    what,
                    format!("write one of {}", list(&self.taken)),
                );
            }
        }
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, key: &str, problems: &mut Problems) {
        problems.note(
            &self.span,
            format!("`{}` is missing", self.path(key)),
            format!("add `{key} = …`"),
        );
    }

    /// Notes that the text of a key that is there says too much or too little.
    pub(super) fn refuse(&self, key: &str, remedy: &str, problems: &mut Problems) {
        let Some(value) = self.table.and_then(|table| table.get(key)) else {
            return;
        };
        let text = value.get_ref().as_str().unwrap_or_default();
        let what = format!("`{}` is \"{text}\"", self.path(key));
        problems.note(&value.span(), what, remedy);
    }

    pub(super) fn mistyped(
        &self,
        value: &Spanned<DeValue>,
        key: &str,
        right: &str,
        problems: &mut Problems,
    ) {
        let what = format!("`{}` is a {}", self.path(key), value.get_ref().type_str());
        problems.note(&value.span(), what, format!("write {right}"));
    }

    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

/// Finds a word in a closed list.
pub(super) fn one_of<T: Copy>(
    path: &str,
    word: &str,
    span: &Range<usize>,
    words: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    if let Some((_, meaning)) = words.iter().find(|(name, _)| *name == word) {
        return Some(*meaning);
    }
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    problems.note(
        span,
        format!("`{path}` is \"{word}\""),
        format!("write one of {}", list(&names)),
    );
    None
}

pub(super) fn integer_of(value: &DeValue) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

pub(super) fn number_of(value: &DeValue) -> Option<f64> {
    if let Some(integer) = integer_of(value) {
        return Some(integer as f64);
    }
    value.as_float()?.as_str().replace('_', "").parse().ok()
}

fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
