//! Numbers of a CSV file: lengths as they were measured, rates as they were read off a graph.

use roofline_core::error::Error;

use crate::error::{Error as TraceError, Result};
use crate::trace::TOKENS_MAX;

/// What the column of a length may be called, whatever wrote the file.
const COLUMNS: [(&str, &[&str]); 2] = [
    (
        "input_len",
        &[
            "input_len",
            "prompt_tokens",
            "input_tokens",
            "input_length",
            "isl",
            "contexttokens",
            "num_prefill_tokens",
        ],
    ),
    (
        "output_len",
        &["output_len", "output_tokens", "output_length", "osl", "generatedtokens", "num_decode_tokens"],
    ),
];

/// The lengths in a column of a file: the one of that name, the only one, or the one that `field` is usually called.
///
/// # Errors
/// A file that cannot be read, no such column, a value that is no count of tokens, no rows.
pub(super) fn column(field: &str, path: &str, wanted: Option<&str>) -> Result<Vec<u32>> {
    let rows = rows(path)?;
    let first = rows.first().map(|(_, cells)| cells.as_slice()).unwrap_or_default();
    let headed = first.iter().any(|cell| cell.parse::<f64>().is_err());
    let place = place(field, path, wanted, if headed { first } else { &[] }, first.len())?;
    let values = rows.iter().skip(usize::from(headed)).map(|(line, cells)| {
        let text = cells.get(place).map_or("", String::as_str);
        let value = text.parse::<u32>().ok().filter(|value| *value <= TOKENS_MAX);
        value.ok_or_else(|| TraceError::trace(path, *line, field, "must be a whole number of tokens", text))
    });
    let values = values.collect::<Result<Vec<u32>>>()?;
    if values.is_empty() {
        return Err(TraceError::trace(path, 0, field, "must have lengths", "no rows"));
    }
    Ok(values)
}

fn place(field: &str, path: &str, wanted: Option<&str>, header: &[String], width: usize) -> Result<usize> {
    let find = |names: &[&str]| {
        header.iter().position(|cell| names.iter().any(|name| cell.trim().eq_ignore_ascii_case(name)))
    };
    let usual = COLUMNS.iter().find(|(name, _)| *name == field).map_or(&[][..], |(_, names)| names);
    let found = match wanted {
        Some(name) => find(&[name]),
        None if width == 1 => Some(0),
        None => find(usual),
    };
    found.ok_or_else(|| {
        let must = format!("must be a column of {path}");
        let hint = match header {
            [] => "give the file a header line, or one column".to_string(),
            names => format!("choose one with `column=`: {}", names.join(", ")),
        };
        Error::spec(field, must, wanted.unwrap_or("none with a usual name"), hint).into()
    })
}

/// Pairs of seconds and rates: the first two columns of a file with or without a header.
///
/// # Errors
/// A file that cannot be read, or rows that are no two numbers.
pub(super) fn pairs(field: &str, path: &str) -> Result<Vec<(f64, f64)>> {
    let mut pairs = Vec::new();
    for (row, (line, cells)) in rows(path)?.into_iter().enumerate() {
        let numbers: Vec<Option<f64>> = cells.iter().map(|cell| cell.parse().ok()).collect();
        match numbers[..] {
            [Some(seconds), Some(rate), ..] => pairs.push((seconds, rate)),
            _ if row == 0 => {}
            _ => {
                let must = "must be two numbers: seconds and requests a second";
                return Err(TraceError::trace(path, line, field, must, cells.join(",")));
            }
        }
    }
    Ok(pairs)
}

/// The cells of each row, with the number of its line.
fn rows(path: &str) -> Result<Vec<(u64, Vec<String>)>> {
    let broken =
        |line: u64, error: String| TraceError::trace(path, line, "", "the file must be readable", error);
    let bytes = std::fs::read(path).map_err(|error| broken(0, error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(&bytes[..]);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| broken(0, error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        rows.push((line, record.iter().map(str::to_string).collect()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> String {
        let path = std::env::temp_dir().join(format!("roofline-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    #[test]
    fn a_column_is_found_by_its_usual_name_its_own_or_alone() {
        let both = file("both.csv", "prompt_tokens, output_tokens\n10,1\n20,2\n");
        assert_eq!(column("input_len", &both, None).unwrap(), [10, 20]);
        assert_eq!(column("output_len", &both, None).unwrap(), [1, 2]);
        assert_eq!(column("input_len", &both, Some("output_tokens")).unwrap(), [1, 2]);
        assert_eq!(column("input_len", &file("one.csv", "7\n8\n"), None).unwrap(), [7, 8]);
    }

    #[test]
    fn what_a_file_lacks_is_named() {
        let path = file("odd.csv", "a,b\n1,2\n");
        let error = column("input_len", &path, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("input_len must be a column of {path}: none with a usual name")
        );
        assert_eq!(error.hint(), "choose one with `column=`: a, b");
        let path = file("word.csv", "n\n1\nx\n");
        let error = column("input_len", &path, None).unwrap_err();
        assert_eq!(error.to_string(), format!("{path}:3: input_len must be a whole number of tokens: x"));
        let path = file("empty.csv", "n\n");
        let error = column("input_len", &path, None).unwrap_err();
        assert_eq!(error.to_string(), format!("{path}: input_len must have lengths: no rows"));
        assert!(
            column("input_len", "no-such.csv", None).unwrap_err().to_string().contains("must be readable")
        );
    }

    #[test]
    fn pairs_skip_a_header_and_nothing_else() {
        assert_eq!(
            pairs("rate_series", &file("p.csv", "t,r,n\n0,1,7\n60,2.5,9\n")).unwrap(),
            [(0.0, 1.0), (60.0, 2.5)]
        );
        let path = file("q.csv", "0,1\n60\n");
        assert_eq!(
            pairs("rate_series", &path).unwrap_err().to_string(),
            format!("{path}:2: rate_series must be two numbers: seconds and requests a second: 60")
        );
    }
}
