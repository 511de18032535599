//! Rows of JSON objects: each field is found by name and handed on as the text it has in the file.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::Columns;
use super::detect;
use super::diagnose::broken;
use super::flat;
use super::mistakes::Mistake;
use super::records::{Record, fields};
use super::row::Row;

/// How deep a value may be nested.
const DEPTH_MAX: usize = 128;

/// Reads the records into columns; stops early once there are too many kinds of mistakes.
pub(super) fn read<'a>(records: impl Iterator<Item = Record<'a>>, columns: &mut Columns) {
    let (mut order, mut row) = (Vec::new(), Row::new(0));
    for record in records {
        row.begin(record.line);
        let whole = if read_flat(record.text, columns, &mut order, &mut row) {
            Ok(())
        } else {
            row.begin(record.line);
            let mut json = serde_json::Deserializer::from_slice(record.text);
            json.deserialize_map(RowVisitor { columns, order: &mut order, row: &mut row })
                .and_then(|()| json.end())
        };
        let goes_on = match whole {
            Ok(()) if row.is_complete() || columns.is_mapped() => columns.push(&row),
            Ok(()) => match other_format(&record, columns) {
                Some(mistake) => columns.refuse(record.line, mistake),
                None => columns.push(&row),
            },
            Err(_) => columns.refuse(record.line, broken(&record)),
        };
        if !goes_on {
            return;
        }
    }
}

/// Reads a row that is flat; false if it is not, and whatever is set does not count.
fn read_flat<'a>(text: &'a [u8], columns: &mut Columns, order: &mut Vec<u8>, row: &mut Row<'a>) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut place = 0;
    flat::fields(text, |name, value| {
        let alias = columns.alias_of(name, order.get(place).copied());
        remember(order, &mut place, alias);
        if let Some(alias) = alias {
            row.set(columns.aliases(), alias, value);
        }
    })
}

/// Notes which alias stood at a place, for the next row.
fn remember(order: &mut Vec<u8>, place: &mut usize, alias: Option<u8>) {
    let alias = alias.unwrap_or(u8::MAX);
    match order.get_mut(*place) {
        Some(known) => *known = alias,
        None => order.push(alias),
    }
    *place += 1;
}

/// The mistake of a record that lacks a field because it has the layout of another format.
fn other_format(record: &Record, columns: &Columns) -> Option<Mistake> {
    let fields = fields(record.text).ok()?;
    let (own, other) = (columns.format(), detect::of_record(fields)?);
    (other != own && !columns.forced()).then(|| {
        Mistake::new("", format!("every line must be of one format ({})", own.name()), other.name())
            .hinted("formats differ in units: split the file")
    })
}

struct RowVisitor<'c, 'o, 'de> {
    columns: &'c mut Columns,
    /// Which alias stood at each place of the last row: rows mostly repeat it.
    order: &'o mut Vec<u8>,
    row: &'o mut Row<'de>,
}

impl<'de> Visitor<'de> for RowVisitor<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let RowVisitor { columns, order, row } = self;
        let mut place = 0;
        while let Some(alias) = map.next_key_seed(Key { columns, guess: order.get(place).copied() })? {
            let text = map.next_value::<&RawValue>()?.get();
            remember(order, &mut place, alias);
            match alias {
                Some(alias) => row.set(columns.aliases(), alias, text),
                None if too_deep(text) => row.too_deep = true,
                None => {}
            }
        }
        Ok(())
    }
}

/// A field's name, turned into its place among the aliases of the format.
struct Key<'c> {
    columns: &'c mut Columns,
    guess: Option<u8>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<u8>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.columns.alias_of(name, self.guess))
    }
}

/// Whether brackets outside of strings go deeper than any trace needs.
fn too_deep(text: &str) -> bool {
    if !text.starts_with(['[', '{']) || text.len() < DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    text.bytes().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        depth > DEPTH_MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_outside_of_strings_nest() {
        assert!(too_deep(&"[".repeat(200)));
        assert!(!too_deep(&format!("[\"{}\"]", "[".repeat(200))));
        assert!(!too_deep(&format!("[\"\\\"{}\"]", "[".repeat(200))));
    }
}
