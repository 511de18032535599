//! Everything that is wrong with texts of the grammar, each mistake by the setting it is about.

use super::settings::{self, Settings};
use super::{Kind, Technique, kind, set};
use crate::error::{Error, Result};

/// One mistake of some texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// Which of the texts it is in, counted from 0.
    pub text: usize,
    /// Its place among the techniques that the text joins.
    pub part: usize,
    /// The setting, as it was written; empty where the whole technique is meant.
    pub key: String,
    /// What is wrong.
    pub error: Error,
}

/// What is said of a setting whatever the others are: worth saying beside other mistakes of the same technique.
const ALONE: [&str; 7] = [
    "must be given settings it has",
    "must be given once",
    "must be one of",
    "must be a number",
    "must be a whole number",
    "must be numbers",
    "must be 16, or a number",
];

/// All mistakes of techniques that are applied together, each text one or several joined by `+`; none if all is well.
///
/// ```
/// use roofline_core::technique::mistakes;
/// let found = mistakes(&["kv-quant:bits=9", "spec:methode=eagle,gamma=x,accept=0.7"]);
/// let keys: Vec<(usize, &str)> = found.iter().map(|one| (one.text, one.key.as_str())).collect();
/// assert_eq!(keys, [(0, "bits"), (1, "methode"), (1, "gamma")]);
/// ```
pub fn mistakes<T: AsRef<str>>(texts: &[T]) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut sound: Vec<(usize, usize, Technique)> = Vec::new();
    for (text, joined) in texts.iter().enumerate() {
        let parts = joined.as_ref().split('+').map(str::trim);
        for (part, written) in parts.filter(|part| *part != "none").enumerate() {
            // What a file says (`accept=@rates.csv`) is put in its place by who reads files.
            if written.contains("=@") {
                continue;
            }
            match Technique::parse(written) {
                Ok(technique) => sound.push((text, part, technique)),
                Err(first) => {
                    let each = of_part(written, first).into_iter();
                    found.extend(each.map(|(key, error)| Mistake { text, part, key, error }));
                }
            }
        }
    }
    for (place, (text, part, second)) in sound.iter().enumerate() {
        let against = sound[..place].iter().find_map(|(_, _, first)| set::contradiction(first, second));
        let key = String::new();
        found.extend(against.map(|error| Mistake { text: *text, part: *part, key, error }));
    }
    found.sort_by_key(|mistake| (mistake.text, mistake.part));
    found
}

/// The mistakes of one technique whose first one is known: settings that are wrong are taken out one by one.
fn of_part(written: &str, first: Error) -> Vec<(String, Error)> {
    let whole = |error: Error| vec![(String::new(), error)];
    let Ok(cut) = settings::cut(written) else { return whole(first) };
    let Ok(kind) = kind(cut.name) else { return whole(first) };
    let mut left = cut.settings.clone();
    let mut found: Vec<(String, Error)> = Vec::new();
    while let Err(error) = read(kind, &left) {
        let said = error.to_string();
        if !found.is_empty() && !ALONE.iter().any(|must| said.contains(must)) {
            break;
        }
        let place = about(kind, &error, &left);
        found.push((place.map_or_else(|| missing(kind, &error), |place| left[place].0.to_string()), error));
        match place {
            Some(place) => left.remove(place),
            None => break,
        };
    }
    found.sort_by_key(|(key, _)| cut.settings.iter().position(|(written, _)| written == key));
    found
}

fn read(kind: &'static Kind, written: &[(&str, &str)]) -> Result<()> {
    let settings = Settings::of(kind.name, kind.parameters, written)?;
    (kind.read)(&settings).map(|_| ())
}

/// Which of the settings an error is about: the last one it fits, as the second of two is the mistake.
fn about(kind: &Kind, error: &Error, written: &[(&str, &str)]) -> Option<usize> {
    let (field, value) = (error.field(), error.value());
    let fits = |(key, given): &(&str, &str)| match error {
        Error::UnknownName { .. } => *given == value,
        _ if field == format!("techniques.{}", kind.name) => *key == value,
        _ => field == settings::field(kind.name, &settings::plain(key)),
    };
    written.iter().rposition(fits)
}

/// The setting that is missing.
fn missing(kind: &Kind, error: &Error) -> String {
    let field = error.field();
    field.strip_prefix(&format!("{}:", kind.name)).unwrap_or_default().to_string()
}
