//! What is wrong with a line that is no JSON object.

use super::mistakes::Mistake;
use super::records::{Record, fields, plain};

/// Whether a record is what other languages call a comment; JSON has none, so it is a mistake of its line alone.
pub(super) fn is_comment(record: &Record) -> bool {
    record.text.starts_with(b"#") || record.text.starts_with(b"//")
}

/// What is wrong with a record that is no JSON object.
pub(super) fn broken(record: &Record) -> Mistake {
    let text = record.text;
    if text.contains(&0) {
        return Mistake::new("", "a line must not hold NUL bytes", "NUL bytes")
            .hinted("the file was preallocated, or the disk filled up");
    }
    let utf8 = match std::str::from_utf8(text) {
        Ok(utf8) => utf8,
        Err(error) => {
            let value =
                format!("byte 0x{:02x} at column {}", text[error.valid_up_to()], error.valid_up_to() + 1);
            return Mistake::new("", "the line must be valid UTF-8", value);
        }
    };
    if is_comment(record) {
        return Mistake::new("", "the line must be JSON, which has no comments", utf8);
    }
    if let Some((field, value)) = not_finite(utf8) {
        return Mistake::new(field, "must be a finite number (JSON has no NaN or Infinity)", value).hinted(
            "Python's json.dumps writes these: give a number, or leave the line out with `--on-error skip`",
        );
    }
    if !text.starts_with(b"{") {
        return Mistake::new("", "the line must be a JSON object", utf8);
    }
    let error = match fields(text) {
        Err(error) => error,
        Ok(_) => return Mistake::new("", "the line must be valid JSON", utf8),
    };
    if record.unterminated && error.is_eof() {
        let value = format!("the last line is cut off at column {} and has no line end", error.column());
        return Mistake::new("", "the line must be complete JSON", value)
            .hinted("the writer was probably killed: `--on-error skip` keeps the complete requests");
    }
    let column = error.column() + usize::from(error.is_eof());
    Mistake::new("", "the line must be valid JSON", format!("{} at column {column}", plain(&error)))
}

/// The field with a value of NaN or Infinity as Python writes it, and that value.
fn not_finite(text: &str) -> Option<(&str, &'static str)> {
    text.match_indices(':').find_map(|(colon, _)| {
        let value = text[colon + 1..].trim_start();
        let name = ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| value.starts_with(name))?;
        let field = text[..colon].trim_end().strip_suffix('"')?.rsplit('"').next()?;
        Some((field, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (String, String) {
        let mistake = broken(&Record { line: 1, text: text.as_bytes(), unterminated: false });
        (format!("{} {}", mistake.field, mistake.must).trim().to_string(), mistake.value)
    }

    #[test]
    fn a_broken_line_is_told_with_its_column() {
        let (must, value) = told("{\"a\": 1,}");
        assert_eq!(
            (must.as_str(), value.as_str()),
            ("the line must be valid JSON", "trailing comma at column 9")
        );
        assert_eq!(told("5").0, "the line must be a JSON object");
        assert_eq!(told("// no").0, "the line must be JSON, which has no comments");
        assert_eq!(told("\0\0").0, "a line must not hold NUL bytes");
    }

    #[test]
    fn not_a_number_names_its_field() {
        let (must, value) = told("{\"a\": 1, \"b\" : -Infinity}");
        assert_eq!(must, "b must be a finite number (JSON has no NaN or Infinity)");
        assert_eq!(value, "-Infinity");
    }
}
