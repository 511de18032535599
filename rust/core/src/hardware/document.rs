//! Walking a TOML document with every mistake kept under its path, so that all are reported at once.

use toml::{Table, Value};

use super::Fact;
use super::quantity::Quantity;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::names;

/// One table of the document, empty where the document has none.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    path: String,
    table: Option<&'a Table>,
}

impl<'a> Section<'a> {
    /// The document itself.
    pub(super) fn root(table: &'a Table) -> Section<'a> {
        Section { path: String::new(), table: Some(table) }
    }

    /// Whether the document has it.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.table.and_then(|table| table.get(key))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }
}

/// Reads values out of sections and keeps what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    origin: &'a str,
    errors: Vec<Error>,
}

impl<'a> Reader<'a> {
    /// A reader of the document `origin` without mistakes so far.
    pub(super) fn new(origin: &'a str) -> Reader<'a> {
        Reader { origin, errors: Vec::new() }
    }

    /// How many mistakes were found so far.
    pub(super) fn mistakes(&self) -> usize {
        self.errors.len()
    }

    /// Whether the document was without mistakes.
    ///
    /// # Errors
    /// All of them.
    pub(super) fn finish(self) -> Result<()> {
        Error::all(self.origin, self.errors)
    }

    /// Keeps a mistake at `path`.
    pub(super) fn fail(&mut self, path: &str, must: &str, value: impl std::fmt::Display, hint: &str) {
        self.errors.push(Error::spec(format!("{}: {path}", self.origin), must, value, hint));
    }

    /// The table `key` of `parent`; an empty one where there is none.
    pub(super) fn section<'t>(&mut self, parent: &Section<'t>, key: &str) -> Section<'t> {
        let path = parent.path_of(key);
        let table = match parent.get(key) {
            None => None,
            Some(Value::Table(table)) => Some(table),
            Some(other) => {
                self.fail(&path, "must be a table", other, "");
                None
            }
        };
        Section { path, table }
    }

    /// Refuses every key of `section` that is not among `known`.
    pub(super) fn only(&mut self, section: &Section<'_>, known: &[&str]) {
        let Some(table) = section.table else { return };
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let must = format!("must be one of {}", known.join(", "));
            self.fail(&section.path_of(key), &must, key, &did_you_mean(key, known));
        }
    }

    /// The text under `key`, if there is one.
    pub(super) fn text(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        match section.get(key)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            other => {
                self.fail(&section.path_of(key), "must be a text that is not empty", other, "");
                None
            }
        }
    }

    /// Refuses a section without `key`.
    pub(super) fn required(&mut self, section: &Section<'_>, key: &str) {
        if section.get(key).is_none() {
            self.fail(&section.path_of(key), "must be given", "missing", "");
        }
    }

    /// The list of texts under `key`; empty where there is none.
    pub(super) fn texts(&mut self, section: &Section<'_>, key: &str) -> Vec<String> {
        let Some(value) = section.get(key) else { return Vec::new() };
        let texts = value
            .as_array()
            .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_string)).collect());
        texts.unwrap_or_else(|| {
            self.fail(&section.path_of(key), "must be a list of texts", value, "");
            Vec::new()
        })
    }

    /// The truth value under `key`; false where there is none.
    pub(super) fn truth(&mut self, section: &Section<'_>, key: &str) -> bool {
        let Some(value) = section.get(key) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.fail(&section.path_of(key), "must be true or false", value, "");
            false
        })
    }

    /// The whole number of at least one under `key`, if there is one.
    pub(super) fn whole(&mut self, section: &Section<'_>, key: &str) -> Option<u32> {
        let value = section.get(key)?;
        let whole = value.as_integer().and_then(|number| u32::try_from(number).ok()).filter(|n| *n > 0);
        if whole.is_none() {
            self.fail(&section.path_of(key), "must be a whole number of at least 1", value, "");
        }
        whole
    }

    /// The one of `choices` that `key` names, if there is one.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(section, key)?;
        let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.fail(&section.path_of(key), &format!("must be one of {}", names.join(", ")), &text, "");
        }
        chosen
    }

    /// The peaks of a table whose keys are number formats, widest format first.
    pub(super) fn peaks(&mut self, section: &Section<'_>) -> Vec<(Format, Fact)> {
        self.only(section, &Format::ALL.map(Format::name));
        let present = Format::ALL.into_iter().filter(|format| section.get(format.name()).is_some());
        present.map(|format| (format, self.fact(section, format.name(), Quantity::Rate))).collect()
    }

    /// The fact under `key`; unknown where there is none.
    ///
    /// It is written `{ value = 3.35, unit = "TB/s", source = "..." }`, or `{ unknown = true, source = "..." }`
    /// where nobody published it. A fact without a source has the document as its source.
    pub(super) fn fact(&mut self, section: &Section<'_>, key: &str, quantity: Quantity) -> Fact {
        let path = section.path_of(key);
        let fact = match section.get(key) {
            None => return Fact::default(),
            Some(Value::Table(table)) => Section { path, table: Some(table) },
            Some(other) => {
                let hint = r#"write it as `{ value = ..., unit = "...", source = "..." }`"#;
                self.fail(&path, "must be a table", other, hint);
                return Fact::default();
            }
        };
        self.only(&fact, &["value", "unit", "source", "unknown"]);
        let source = self.text(&fact, "source").unwrap_or_else(|| self.origin.to_string());
        let unknown = self.truth(&fact, "unknown");
        match (unknown, fact.get("value")) {
            (true, None) => Fact { value: None, source },
            (true, Some(value)) => {
                self.fail(&fact.path_of("value"), "must not be given where `unknown = true`", value, "");
                Fact::default()
            }
            (false, value) => Fact { value: self.quantity(&fact, value, quantity), source },
        }
    }

    /// A value with its unit, in SI units.
    fn quantity(&mut self, fact: &Section<'_>, value: Option<&Value>, quantity: Quantity) -> Option<f64> {
        let number =
            value.and_then(|value| value.as_float().or(value.as_integer().map(|whole| whole as f64)));
        let number = number.filter(|number| number.is_finite() && *number > 0.0);
        match value {
            None => {
                let hint = "write `unknown = true` where nobody published it";
                self.fail(&fact.path_of("value"), "must be given", "missing", hint);
            }
            Some(value) if number.is_none() => {
                self.fail(&fact.path_of("value"), "must be a positive number", value, "");
            }
            Some(_) => {}
        }
        let units: Vec<&str> = quantity.units().iter().map(|(unit, _)| *unit).collect();
        let must = format!("must be one of {}", units.join(", "));
        let unit = match fact.get("unit") {
            None => {
                self.fail(&fact.path_of("unit"), &must, "missing", "");
                None
            }
            Some(_) => self.text(fact, "unit"),
        };
        let size = unit.and_then(|unit| {
            let size = quantity.size_of(&unit);
            if size.is_none() {
                self.fail(&fact.path_of("unit"), &must, &unit, &did_you_mean(&unit, &units));
            }
            size
        });
        Some(number? * size?)
    }
}

/// A question after the nearest of `known`, if that begins like `given`.
fn did_you_mean(given: &str, known: &[&str]) -> String {
    let given = names::normalise(given);
    let plain: Vec<String> = known.iter().map(|name| names::normalise(name)).collect();
    let nearest = names::nearest(&given, plain.iter().map(String::as_str), 1).concat();
    let position =
        plain.iter().position(|name| *name == nearest && name.chars().next() == given.chars().next());
    position.map(|index| format!("did you mean `{}`?", known[index])).unwrap_or_default()
}
