//! Records that hold more than one flat row: each is unfolded, and its rows read as those of any file.

use super::columns::Columns;
use super::detect;
use super::diagnose::broken;
use super::mistakes::Mistake;
use super::records::{Record, fields};
use super::report::Report;
use super::row::Row;
use super::unfold::{Fields, Unfold, Unfolding};

/// Reads the records into columns; stops early once there are too many kinds of mistakes.
pub(super) fn read<'a>(
    records: impl Iterator<Item = Record<'a>>,
    unfold: Unfold,
    columns: &mut Columns,
    report: &mut Report,
) {
    let mut passed_over = 0;
    'records: for record in records {
        let mut unfolding = Unfolding::default();
        let unfolded = whole(&record, columns).and_then(|()| unfold(&record, &mut unfolding));
        if let Err(mistake) = unfolded {
            if columns.refuse(record.line, mistake) {
                continue;
            }
            break;
        }
        passed_over += unfolding.passed_over;
        if columns.values.schema.local_hashes {
            columns.begin_hash_scope();
        }
        for fields in &unfolding.rows {
            let row = row(fields, columns);
            if !columns.push(&row) {
                break 'records;
            }
        }
    }
    if passed_over > 0 {
        report.inform(format!(
            "{passed_over} entries that are no answered requests are passed over (tools, other spans, failures)"
        ));
    }
}

/// Whether a record is a JSON object of the file's format.
fn whole(record: &Record, columns: &Columns) -> Result<(), Mistake> {
    let fields = fields(record.text).map_err(|_| broken(record))?;
    let own = columns.format();
    match detect::of_record(fields).filter(|other| *other != own && !columns.forced()) {
        Some(other) => {
            let must = format!("every line must be of one format ({})", own.name());
            Err(Mistake::new("", must, other.name()).hinted("formats differ in units: split the file"))
        }
        None => Ok(()),
    }
}

/// The row of these fields; the names are those of the format's table.
fn row<'f>(fields: &'f Fields, columns: &mut Columns) -> Row<'f> {
    let mut row = Row::new(fields.line);
    for (name, text) in &fields.values {
        if let Some(alias) = columns.alias_of(name, None) {
            row.set(columns.aliases(), alias, text);
        }
    }
    row
}
