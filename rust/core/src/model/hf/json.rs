//! JSON as Python writes it.

/// The same JSON with `Infinity` and `NaN`, which Python writes and JSON does not know, as `null`.
pub fn without_infinities(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'I', 'N', '-']) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let word = ["-Infinity", "Infinity", "NaN"].iter().find(|word| rest.starts_with(**word));
        let length = match word {
            Some(word) => {
                clean.push_str("null");
                word.len()
            }
            None => {
                let length = if rest.starts_with('"') { string_length(rest) } else { 1 };
                clean.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    clean.push_str(rest);
    clean
}

/// Bytes of the JSON string at the start of `text`, quotes included; all of it where it does not end.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
