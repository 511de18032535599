//! Flat JSON objects, which most rows are, cut into fields without a parser; any other text is left to the parser.

/// Hands on each field of `text` as its name and the JSON text of its value, in order; false if it is anything but one
/// valid object of numbers, plain strings, literals and lists of these. Then what was handed on does not count.
///
/// Whatever is accepted here the parser accepts too, with the same names and texts.
pub(super) fn fields<'a>(text: &'a str, mut field: impl FnMut(&'a str, &'a str)) -> bool {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'{') {
        return false;
    }
    let mut at = after_blanks(bytes, 1);
    loop {
        let Some(end) = string(bytes, at) else { return false };
        let name = &text[at + 1..end - 1];
        at = after_blanks(bytes, end);
        if bytes.get(at) != Some(&b':') {
            return false;
        }
        at = after_blanks(bytes, at + 1);
        let Some(end) = value(bytes, at) else { return false };
        field(name, &text[at..end]);
        at = after_blanks(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = after_blanks(bytes, at + 1),
            Some(b'}') => return at + 1 == bytes.len(),
            _ => return false,
        }
    }
}

/// The first place from `at` on that holds no JSON blank.
fn after_blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where the value at `at` ends, if it is a simple one.
fn value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'[' => list(bytes, at),
        _ => scalar(bytes, at),
    }
}

fn scalar(bytes: &[u8], at: usize) -> Option<usize> {
    let literal = |text: &[u8]| bytes[at..].starts_with(text).then_some(at + text.len());
    match bytes.get(at)? {
        b'"' => string(bytes, at),
        b'-' | b'0'..=b'9' => number(bytes, at),
        b'n' => literal(b"null"),
        b't' => literal(b"true"),
        b'f' => literal(b"false"),
        _ => None,
    }
}

/// Where a string without escapes ends.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let inside = &bytes[at + 1..];
    let end = inside.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
    (inside[end] == b'"').then_some(at + 1 + end + 1)
}

/// Where a number ends, by JSON's grammar: no sign but a minus, no leading zero, digits on both sides of a point.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let start = at + usize::from(bytes[at] == b'-');
    let whole = after_digits(bytes, start);
    if whole == start || (bytes[start] == b'0' && whole > start + 1) {
        return None;
    }
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        end = after_digits(bytes, whole + 1);
        if end == whole + 1 {
            return None;
        }
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let signed = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = after_digits(bytes, signed);
        if end == signed {
            return None;
        }
    }
    Some(end)
}

fn after_digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where a list of scalars ends.
fn list(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = after_blanks(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = after_blanks(bytes, scalar(bytes, at)?);
        match bytes.get(at)? {
            b',' => at = after_blanks(bytes, at + 1),
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::records;
    use proptest::prelude::*;

    fn cut(text: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        fields(text, |name, value| found.push((name.to_string(), value.to_string()))).then_some(found)
    }

    /// What the parser makes of it.
    fn parsed(text: &str) -> Option<Vec<(String, String)>> {
        let fields = records::fields(text.as_bytes()).ok()?;
        Some(fields.into_iter().map(|(name, value)| (name, value.to_string())).collect())
    }

    #[test]
    fn what_most_rows_are_is_cut_as_the_parser_does() {
        for text in [
            r#"{"a":1}"#,
            r#"{ "a" : -1.5e+3 , "b":"x y", "c": [1, 2 ,18446744073709551615], "d": [] }"#,
            r#"{"a": null, "b": true, "c": false, "d": ["x", 1, null], "é": "ü"}"#,
        ] {
            assert!(cut(text).is_some(), "{text}");
            assert_eq!(cut(text), parsed(text), "{text}");
        }
    }

    #[test]
    fn what_is_anything_else_is_left_to_the_parser() {
        for text in [
            "",
            "{",
            "{}",
            "[1]",
            "{\"a\":1",
            "{\"a\":1}x",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":{}}",
            "{\"a\":[[1]]}",
            "{\"a\":[1,]}",
            "{\"a\":\"\\n\"}",
            "{\"a\":nul}",
            "{\"a\":NaN}",
            "{\"a\":\"\n\"}",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\\u0062\":1}",
        ] {
            assert_eq!(cut(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_cut_the_parser_cuts_alike(text in r#"\{("[ab]" ?: ?(-?[0-9]{1,2}(\.[0-9]?)?(e[0-9+-]{0,2})?|"[a-c\\]{0,2}"|\[[0-9, ]{0,6}\]|null|tru|true) ?,? ?){0,3}\}?"#) {
            if let Some(found) = cut(&text) {
                prop_assert_eq!(Some(found), parsed(&text));
            }
        }
    }
}
