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
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text);
    let mut record = csv::ByteRecord::new();
    let mut header: Option<Vec<Option<u8>>> = None;
    // Bytes in memory cannot fail to be read, and rows of any length are accepted here: the end is the only way out.
    while let Ok(true) = reader.read_byte_record(&mut record) {
        let line = record.position().map_or(0, csv::Position::line);
        if record.iter().all(|cell| cell.trim_ascii().is_empty()) && record.len() <= 1 {
            continue;
        }
        let Some(header) = &header else {
            header = Some(aliases(origin, &record, columns)?);
            continue;
        };
        let goes_on = match row(line, &record, header, columns) {
            Ok(row) => columns.push(&row),
            Err(mistake) => columns.refuse(line, mistake),
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// What each column means.
fn aliases(origin: &str, header: &csv::ByteRecord, columns: &mut Columns) -> Result<Vec<Option<u8>>> {
    let mut found: Vec<Option<u8>> = Vec::with_capacity(header.len());
    for cell in header {
        let name = String::from_utf8_lossy(cell.trim_ascii()).into_owned();
        let known = columns.aliases().iter().find(|alias| alias.name.eq_ignore_ascii_case(&name));
        let alias = columns.alias_of(known.map_or(name.as_str(), |alias| alias.name), None);
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
        let must = format!("a row must have as many fields as the header ({})", header.len());
        return Err(Mistake::new("", must, record.len().to_string()));
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
