//! Records that are more than one flat row: each format's file turns its record into rows of named texts.

pub(super) mod aiperf;
pub(super) mod applied_compute;
pub(super) mod bench;
pub(super) mod dynamo;
pub(super) mod guidellm;
pub(super) mod llmservingsim;
pub(super) mod openai;
pub(super) mod otel;
pub(super) mod sagemaker;
pub(super) mod satf;
pub(super) mod tracelab;
pub(super) mod weka;

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::mistakes::{Mistake, shortened};
use super::records::{Record, plain};

/// Turns one record into rows.
///
/// # Errors
/// A record without the format's layout; what must hold of single values is checked later, as for any row.
pub(super) type Unfold = for<'a> fn(&Record<'a>, &mut Unfolding<'a>) -> Result<(), Mistake>;

/// The rows of a record.
#[derive(Debug, Default)]
pub(super) struct Unfolding<'a> {
    pub rows: Vec<Fields<'a>>,
    /// Parts of the record that are no requests, such as the events of tools.
    pub passed_over: u64,
}

/// The fields of one row: the name of an alias of the format's table, and its text as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub line: u64,
    pub values: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Fields<'a> {
    pub fn new(line: u64) -> Fields<'a> {
        Fields { line, values: Vec::new() }
    }

    /// Adds a field of the file; an absent one is left out.
    pub fn with(mut self, name: &'static str, value: Option<&'a RawValue>) -> Fields<'a> {
        self.values.extend(value.map(|value| (name, Cow::Borrowed(value.get()))));
        self
    }

    /// Adds a field that was worked out.
    pub fn made(mut self, name: &'static str, value: impl Into<String>) -> Fields<'a> {
        self.values.push((name, Cow::Owned(value.into())));
        self
    }
}

/// The record as the format lays it out.
///
/// # Errors
/// Another layout, in the words of the parser.
fn layout<'a, T: serde::Deserialize<'a>>(text: &'a [u8], format: &str) -> Result<T, Mistake> {
    serde_json::from_slice(text).map_err(|error| {
        Mistake::new("", format!("the record must have the layout of {format}"), shortened(&plain(&error)))
    })
}

/// Finds the lines on which the parts of a record stand; fastest where they are asked for in order.
struct Place<'a> {
    text: &'a [u8],
    line: u64,
    at: usize,
}

impl<'a> Place<'a> {
    fn new(record: &Record<'a>) -> Place<'a> {
        Place { text: record.text, line: record.line, at: 0 }
    }

    /// The line on which `part` of the record begins.
    fn line(&mut self, part: &RawValue) -> u64 {
        let offset = (part.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        if let Some(between) = self.text.get(self.at..offset) {
            self.line += memchr::memchr_iter(b'\n', between).count() as u64;
            self.at = offset;
        }
        self.line
    }
}

/// A JSON list of texts.
fn list(ids: &[String]) -> String {
    serde_json::Value::from(ids).to_string()
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What a part of a record is called: its own id without quotes, or what stands for it.
fn name_or(id: Option<&RawValue>, otherwise: impl FnOnce() -> String) -> String {
    id.map_or_else(otherwise, |id| {
        serde_json::from_str::<String>(id.get()).unwrap_or_else(|_| id.get().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a record as texts, for the tests of the formats.
    pub fn rows(unfold: Unfold, text: &str) -> Result<Vec<String>, Mistake> {
        let record = Record { line: 1, text: text.as_bytes(), unterminated: false };
        let mut unfolding = Unfolding::default();
        unfold(&record, &mut unfolding)?;
        let row = |fields: Fields| {
            let value = |(name, value): &(&str, Cow<str>)| format!("{name}={value}");
            format!("{}: {}", fields.line, fields.values.iter().map(value).collect::<Vec<_>>().join(" "))
        };
        Ok(unfolding.rows.into_iter().map(row).collect())
    }

    #[test]
    fn a_part_of_a_record_knows_its_line() {
        let text = "{\"a\": 1,\n \"b\": [2,\n 3]}";
        #[derive(serde::Deserialize)]
        struct Parts<'a> {
            #[serde(borrow)]
            b: Vec<&'a RawValue>,
        }
        let record = Record { line: 5, text: text.as_bytes(), unterminated: false };
        let parts: Parts = layout(record.text, "a test").unwrap();
        let mut place = Place::new(&record);
        assert_eq!([place.line(parts.b[0]), place.line(parts.b[1])], [6, 7]);
        let wrong = layout::<Parts>(b"{\"b\": 5}", "a test").err().unwrap();
        assert_eq!(wrong.must, "the record must have the layout of a test");
        assert!(wrong.value.contains("expected a sequence"), "{}", wrong.value);
    }
}
