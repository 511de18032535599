//! Rows of comma-separated values: columns are found by the names in the header, never by position.

use super::columns::Columns;
use super::mistakes::Mistake;
use super::row::Row;
use crate::error::{Error, Result};

/// Reads the rows into columns; stops early once there are too many kinds of mistakes.
///
/// # Errors
/// A header that names a column twice.
pub(super) fn read(origin: &str, text: &[u8], delimiter: u8, columns: &mut Columns) -> Result<()> {
    match std::str::from_utf8(text) {
        Ok(text) if is_simple(text.as_bytes()) => read_simple(origin, text, delimiter, columns),
        _ => read_any(origin, text, delimiter, columns),
    }
}

/// Whether a line is a row and a delimiter always ends a cell: no quotes, no carriage return but before a line end.
fn is_simple(text: &[u8]) -> bool {
    memchr::memchr(b'"', text).is_none()
        && memchr::memchr_iter(b'\r', text).all(|place| text.get(place + 1) == Some(&b'\n'))
}

/// Reads a text in which every line is a row and every delimiter ends a cell, as [`read_any`] would.
fn read_simple(origin: &str, text: &str, delimiter: u8, columns: &mut Columns) -> Result<()> {
    let (mut header, mut row) = (told_header(origin, columns)?, Row::new(0));
    let (mut rest, mut line) = (text, 0);
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let text = rest[..end].strip_suffix('\r').unwrap_or(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
        line += 1;
        if text.trim_ascii().is_empty() && !text.as_bytes().contains(&delimiter) {
            continue;
        }
        let Some(header) = &header else {
            let cells: csv::ByteRecord =
                Cells::of(text, delimiter).map(str::as_bytes).collect::<Vec<_>>().into();
            header = Some(aliases(origin, &cells, columns)?);
            continue;
        };
        row.begin(line);
        let mut cells = 0;
        for cell in Cells::of(text, delimiter) {
            if let Some(Some(alias)) = header.get(cells) {
                row.set(columns.aliases(), *alias, trimmed(cell));
            }
            cells += 1;
        }
        let goes_on = if cells == header.len() {
            columns.push(&row)
        } else {
            columns.refuse(line, wrong_width(header.len(), cells))
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// The cells of a line without quotes.
struct Cells<'a> {
    rest: Option<&'a str>,
    delimiter: u8,
}

impl<'a> Cells<'a> {
    fn of(line: &'a str, delimiter: u8) -> Cells<'a> {
        Cells { rest: Some(line), delimiter }
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        match memchr::memchr(self.delimiter, rest.as_bytes()) {
            Some(end) => {
                self.rest = Some(&rest[end + 1..]);
                Some(&rest[..end])
            }
            None => self.rest.take(),
        }
    }
}

/// A cell without blanks around it; most have none, which two bytes tell.
fn trimmed(cell: &str) -> &str {
    match cell.as_bytes() {
        [b'!'..=b'~'] | [b'!'..=b'~', .., b'!'..=b'~'] => cell,
        _ => cell.trim(),
    }
}

fn wrong_width(header: usize, cells: usize) -> Mistake {
    Mistake::new("", format!("a row must have as many fields as the header ({header})"), cells.to_string())
}

/// Reads any text: quoted cells, with delimiters and line ends in them, and bytes that are no text.
fn read_any(origin: &str, text: &[u8], delimiter: u8, columns: &mut Columns) -> Result<()> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text);
    let mut record = csv::ByteRecord::new();
    let mut header = told_header(origin, columns)?;
    // Bytes in memory cannot fail to be read, and rows of any length are accepted here: the end is the only way out.
    while let Ok(true) = reader.read_byte_record(&mut record) {
        let line = record.position().map_or(0, |position| line_of(text, position));
        if record.iter().all(|cell| cell.trim_ascii().is_empty()) && record.len() <= 1 {
            continue;
        }
        let Some(header) = &header else {
            header = Some(aliases(origin, &record, columns)?);
            continue;
        };
        let goes_on = match row(line, &record, header, columns) {
            Ok(row) => columns.push(&row),
            Err(_) if is_open(&record, &reader, text) => columns.refuse(line, unended()),
            Err(mistake) => columns.refuse(line, mistake),
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// Whether a row runs to the end of the text because a quote is never closed.
fn is_open(record: &csv::ByteRecord, reader: &csv::Reader<&[u8]>, text: &[u8]) -> bool {
    let Some(start) = record.position().map(|position| position.byte() as usize) else { return false };
    let at_end = reader.position().byte() as usize == text.len();
    let quotes = memchr::memchr_iter(b'"', text.get(start..).unwrap_or_default()).count();
    at_end && quotes % 2 == 1
}

fn unended() -> Mistake {
    Mistake::new("", "a quoted cell must end with a quote", "the file ends within it")
        .hinted("remove the quote that opens it, or close it")
}

/// The line a row begins in: the parser places it before the line ends that it passes over.
fn line_of(text: &[u8], position: &csv::Position) -> u64 {
    let rest = text.get(position.byte() as usize..).unwrap_or_default();
    let passed = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + passed.filter(|byte| **byte == b'\n').count() as u64
}

/// What each column means where the user names them, and the file does not.
fn told_header(origin: &str, columns: &mut Columns) -> Result<Option<Vec<Option<u8>>>> {
    let names = columns.values.options.columns.clone();
    if names.is_empty() {
        return Ok(None);
    }
    aliases(origin, &csv::ByteRecord::from(names), columns).map(Some)
}

/// What each column means.
fn aliases(origin: &str, header: &csv::ByteRecord, columns: &mut Columns) -> Result<Vec<Option<u8>>> {
    let mut found: Vec<Option<u8>> = Vec::with_capacity(header.len());
    for cell in header {
        let name = String::from_utf8_lossy(cell.trim_ascii()).into_owned();
        let alias = columns.alias_of_column(&name);
        if alias.is_some() && found.contains(&alias) {
            return Err(Error::trace(origin, 1, name, "must be the name of one column", "it appears twice")
                .hinted("remove one of the two columns"));
        }
        found.push(alias);
    }
    Ok(found)
}

fn row<'a>(
    line: u64,
    record: &'a csv::ByteRecord,
    header: &[Option<u8>],
    columns: &Columns,
) -> std::result::Result<Row<'a>, Mistake> {
    if record.len() != header.len() {
        return Err(wrong_width(header.len(), record.len()));
    }
    let mut row = Row::new(line);
    for (cell, alias) in record.iter().zip(header) {
        let Some(alias) = alias else { continue };
        let text = std::str::from_utf8(cell)
            .map_err(|_| Mistake::new("", "the row must be valid UTF-8", String::from_utf8_lossy(cell)))?;
        row.set(columns.aliases(), *alias, text.trim());
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::schemas;
    use crate::trace::{Format, OnError, ReadOptions};
    use proptest::prelude::*;

    type Seen = (Vec<i64>, Vec<u32>, Vec<u32>, u64, String);

    fn seen(text: &str, read: impl Fn(&mut Columns) -> Result<()>) -> Option<Seen> {
        let mut columns = Columns::new(schemas::of(Format::Vidur)?, &ReadOptions::default());
        let failed = read(&mut columns).err().map_or(String::new(), |error| error.to_string());
        let mistakes = std::mem::take(&mut columns.mistakes);
        let told = if mistakes.is_empty() {
            failed
        } else {
            mistakes.into_error(text, columns.rows, OnError::Stop).to_string()
        };
        Some((columns.arrival, columns.prompt, columns.output, columns.rows, told))
    }

    proptest! {
        #[test]
        fn rows_without_quotes_are_read_as_the_parser_reads_them(
            rows in proptest::collection::vec("( ?[0-9]{1,3}(\\.[0-9])?,[0-9a]{0,2} ,[0-9]{1,2}(,)?)|", 0..8),
            end in "\r?\n",
        ) {
            let text = format!("arrived_at,num_prefill_tokens,num_decode_tokens{end}{}", rows.join(&end));
            let simple = seen("f", |columns| read_simple("f", &text, b',', columns));
            let any = seen("f", |columns| read_any("f", text.as_bytes(), b',', columns));
            prop_assert!(is_simple(text.as_bytes()));
            prop_assert_eq!(simple, any);
        }
    }
}
