//! Cutting JSON text into records: one a line, one array, objects one after another, or a list inside one object.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// One JSON value of the file that should be a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// Where it begins, counted from 1.
    pub line: u64,
    /// Its text, without surrounding blanks.
    pub text: &'a [u8],
    /// Whether the file ends with it, without a line end.
    pub unterminated: bool,
}

/// The records of a file.
pub(super) enum Records<'a> {
    /// One a line.
    Lines(&'a [u8]),
    /// Anything else, listed.
    Listed(Vec<Record<'a>>),
}

/// The non-blank lines of a text.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    line: u64,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Lines { rest: text, line: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', self.rest);
            let text = self.rest[..end.unwrap_or(self.rest.len())].trim_ascii();
            self.rest = end.map_or(&[][..], |end| &self.rest[end + 1..]);
            self.line += 1;
            if !text.is_empty() {
                return Some(Record { line: self.line, text, unterminated: end.is_none() });
            }
        }
        None
    }
}

impl<'a> Records<'a> {
    /// Cuts `text`, which is JSON; what was not one object a line is said in `information`.
    ///
    /// # Errors
    /// An array that is not complete.
    pub fn cut(origin: &str, text: &'a [u8], information: &mut Vec<String>) -> Result<Records<'a>> {
        let Some(first) = Lines::new(text).next() else { return Ok(Records::Lines(text)) };
        if first.text.starts_with(b"[") {
            information.push("the file is one JSON array, not JSON Lines".to_string());
            return elements(origin, text, text).map(Records::Listed);
        }
        let complete = serde_json::from_slice::<&RawValue>(first.text).is_ok();
        if complete {
            return Ok(Records::Lines(text));
        }
        let objects = one_after_another(text);
        if objects.is_empty() {
            return Ok(Records::Lines(text));
        }
        if objects.len() > 1 {
            information.push("the file is JSON objects over several lines each, not JSON Lines".to_string());
        }
        Ok(Records::Listed(objects))
    }

    /// The records, first to last.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Record<'a>> + '_> {
        match self {
            Records::Lines(text) => Box::new(Lines::new(text)),
            Records::Listed(records) => Box::new(records.iter().copied()),
        }
    }

    /// The objects listed under a key of the one object the file is, with that key.
    pub fn unwrapped(&self, text: &'a [u8]) -> Option<(String, Records<'a>)> {
        let mut records = self.iter();
        let (only, None) = (records.next()?, records.next()) else { return None };
        let (key, list) = fields(only.text).ok()?.into_iter().find(|(_, value)| {
            value.strip_prefix('[').is_some_and(|inside| inside.trim_start().starts_with('{'))
        })?;
        let records = elements("", list.as_bytes(), text).ok()?;
        Some((key, Records::Listed(records)))
    }
}

/// The names and JSON texts of an object's fields, in order.
pub(super) fn fields(text: &[u8]) -> serde_json::Result<Vec<(String, &str)>> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, &'de str)>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                fields.push((key, value.get()));
            }
            Ok(fields)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let fields = json.deserialize_map(Fields)?;
    json.end()?;
    Ok(fields)
}

/// The elements of the JSON array `array`, which is a part of `text` or all of it.
fn elements<'a>(origin: &str, array: &'a [u8], text: &'a [u8]) -> Result<Vec<Record<'a>>> {
    struct Elements;
    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("a JSON array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = sequence.next_element()? {
                elements.push(element);
            }
            Ok(elements)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(array);
    let elements = json.deserialize_seq(Elements).and_then(|elements| json.end().map(|()| elements));
    let elements = elements.map_err(|error| {
        // An end that comes too soon is told in the last line that holds anything.
        let held = array.trim_ascii_end();
        let last = 1 + memchr::memchr_iter(b'\n', held).count();
        let column = match error.line() > last {
            true => held.len() - memchr::memrchr(b'\n', held).map_or(0, |end| end + 1),
            false => error.column(),
        };
        let value = format!("{} (column {column})", plain(&error));
        Error::trace(
            origin,
            error.line().min(last) as u64,
            "",
            "the JSON array must be valid and complete",
            value,
        )
    })?;
    Ok(placed(elements.into_iter().map(|element| element.get().as_bytes()), text))
}

/// The JSON values that follow each other in `text`; the first that is broken is the last, with all that follows it.
fn one_after_another(text: &[u8]) -> Vec<Record<'_>> {
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    let mut values = Vec::new();
    loop {
        let start = stream.byte_offset();
        match stream.next() {
            Some(Ok(value)) => values.push(value.get().as_bytes()),
            Some(Err(_)) if !values.is_empty() => {
                values.push(text[start..].trim_ascii());
                break;
            }
            _ => break,
        }
    }
    placed(values.into_iter(), text)
}

/// Parts of `text`, in order, with their lines.
fn placed<'a>(parts: impl Iterator<Item = &'a [u8]>, text: &'a [u8]) -> Vec<Record<'a>> {
    let (mut line, mut at) = (1, 0);
    parts
        .map(|part| {
            let offset = part.as_ptr() as usize - text.as_ptr() as usize;
            line += memchr::memchr_iter(b'\n', &text[at..offset]).count() as u64;
            at = offset;
            Record { line, text: part, unterminated: false }
        })
        .collect()
}

/// The text of a JSON error without its place.
pub(super) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &str) -> (Vec<(u64, String)>, usize) {
        let mut information = Vec::new();
        let records = Records::cut("f", text.as_bytes(), &mut information).unwrap();
        let listed = records
            .iter()
            .map(|r| (r.line, String::from_utf8_lossy(r.text).into_owned()))
            .collect::<Vec<_>>();
        (listed, information.len())
    }

    #[test]
    fn every_way_of_laying_out_records_gives_the_same_records() {
        let expected = vec![(1, "{\"a\":1}".to_string()), (3, "{\"a\":2}".to_string())];
        assert_eq!(lines_of("{\"a\":1}\n\n{\"a\":2}\n"), (expected.clone(), 0));
        assert_eq!(lines_of("[{\"a\":1},\n\n{\"a\":2}]"), (expected, 1));
        let (pretty, told) = lines_of("{\n \"a\":1\n}\n{\n\"a\":2}");
        assert_eq!((pretty[1].0, told), (4, 1));
    }

    #[test]
    fn a_list_inside_one_object_is_found_with_its_key() {
        let text = b"{\"version\": 1,\n \"requests\": [{\"a\": 1},\n {\"a\": 2}]}";
        let records = Records::cut("f", text, &mut Vec::new()).unwrap();
        let (key, inside) = records.unwrapped(text).unwrap();
        assert_eq!(key, "requests");
        assert_eq!(inside.iter().map(|record| record.line).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn an_array_that_ends_too_soon_is_told_in_its_last_line() {
        let error = Records::cut("f.json", b"[[[\n", &mut Vec::new()).err().unwrap();
        let told = "f.json:1: the JSON array must be valid and complete: EOF while parsing a list (column 3)";
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn an_array_that_is_cut_off_is_refused_with_its_place() {
        let error = Records::cut("f.json", b"[{\"a\":1},\n{\"a\"", &mut Vec::new()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "f.json:2: the JSON array must be valid and complete: EOF while parsing an object (column 4)"
        );
    }
}
