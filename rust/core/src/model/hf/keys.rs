//! Reads a configuration key by key, remembering which were read, so that none that costs is passed over.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::known;
use crate::error::{Error, Result};

/// No size of a model comes near it; products of three such sizes still fit 64 bits.
const LARGEST: u64 = 1 << 20;

/// One object of a configuration, and which of its keys have been read.
#[derive(Debug)]
pub struct Keys<'a> {
    path: String,
    map: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    /// The object `value`, called `path` in errors.
    ///
    /// # Errors
    /// `value` is not an object.
    pub fn new(path: &str, value: &'a Value) -> Result<Keys<'a>> {
        match value {
            Value::Object(map) => Ok(Keys { path: path.to_string(), map, read: RefCell::default() }),
            other => Err(Error::spec(path, "must be an object", kind(other), "")),
        }
    }

    /// The key as errors name it: `config.json: text_config.hidden_size`.
    pub fn field(&self, key: &str) -> String {
        match self.path.split_once(": ") {
            Some(_) => format!("{}.{key}", self.path),
            None => format!("{}: {key}", self.path),
        }
    }

    /// A broken rule of `key`.
    pub fn error(
        &self,
        key: &str,
        must: impl Into<String>,
        was: impl std::fmt::Display,
        hint: &str,
    ) -> Error {
        Error::spec(self.field(key), must, was, hint)
    }

    /// The value of `key`, marked as read; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_string());
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is there with a value, read or not.
    pub fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Every key, in document order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.map.keys().map(String::as_str)
    }

    /// Marks keys as understood: they do not change what a step costs in this family.
    pub fn ignore(&self, keys: &[&str]) {
        self.read.borrow_mut().extend(keys.iter().map(|key| (*key).to_string()));
    }

    /// A whole number of at least 1.
    ///
    /// # Errors
    /// The key is absent, or no positive whole number.
    pub fn size(&self, key: &str) -> Result<u64> {
        self.size_of(&[key])
    }

    /// A whole number of at least 1 under the first of several names that is there.
    ///
    /// # Errors
    /// None of them is there (the first is named), or the value is no positive whole number.
    pub fn size_of(&self, keys: &[&str]) -> Result<u64> {
        let mut found = None;
        for key in keys {
            if let Some(size) = self.optional_size(key)? {
                found = found.or(Some(size));
            }
        }
        found.ok_or_else(|| self.missing(keys[0]))
    }

    /// The error for a key that must be there.
    pub fn missing(&self, key: &str) -> Error {
        self.error(key, "must be given", "absent", "")
    }

    /// A whole number of at least 1, if the key is there.
    ///
    /// # Errors
    /// The value is no positive whole number.
    pub fn optional_size(&self, key: &str) -> Result<Option<u64>> {
        match self.optional_count(key)? {
            Some(0) => Err(self.error(key, "must be at least 1", 0, "")),
            other => Ok(other),
        }
    }

    /// A whole number of at least 1, or `default` where the key is absent.
    ///
    /// # Errors
    /// The value is no positive whole number.
    pub fn size_or(&self, key: &str, default: u64) -> Result<u64> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    /// A whole number, zero allowed, or `default` where the key is absent.
    ///
    /// # Errors
    /// The value is no whole number.
    pub fn count_or(&self, key: &str, default: u64) -> Result<u64> {
        Ok(self.optional_count(key)?.unwrap_or(default))
    }

    /// A whole number, zero allowed, if the key is there.
    ///
    /// # Errors
    /// The value is no whole number.
    pub fn optional_count(&self, key: &str) -> Result<Option<u64>> {
        self.get(key).map(|value| self.whole(key, value)).transpose()
    }

    /// A number of tokens of at least 1 (which may be larger than any width), if the key is there.
    ///
    /// # Errors
    /// The value is no positive whole number.
    pub fn optional_tokens(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match self.whole_below(key, value, LARGEST << 10)? {
            0 => Err(self.error(key, "must be at least 1", 0, "")),
            tokens => Ok(Some(tokens)),
        }
    }

    pub(super) fn whole(&self, key: &str, value: &Value) -> Result<u64> {
        self.whole_below(key, value, LARGEST)
    }

    fn whole_below(&self, key: &str, value: &Value, largest: u64) -> Result<u64> {
        let whole = value.as_u64().or_else(|| {
            let number = value.as_f64()?;
            (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
        });
        match whole {
            None => Err(self.error(key, "must be a whole number, not negative", value, "")),
            Some(whole) if whole > largest => {
                Err(self.error(key, format!("must be at most {largest}"), whole, ""))
            }
            Some(whole) => Ok(whole),
        }
    }

    /// A whole number of at least 1 and at most `most`, or `default` where the key is absent.
    ///
    /// # Errors
    /// The value is none.
    pub fn size_within(&self, key: &str, default: u64, most: u64) -> Result<u64> {
        match self.size_or(key, default)? {
            size if size > most => Err(self.error(key, format!("must be at most {most}"), size, "")),
            size => Ok(size),
        }
    }

    /// A number, or `default` where the key is absent.
    ///
    /// # Errors
    /// The value is no number.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.error(key, "must be a number", kind(value), "")),
        }
    }

    /// A truth value, or `default` where the key is absent.
    ///
    /// # Errors
    /// The value is neither true nor false.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.error(key, "must be true or false", other, "")),
        }
    }

    /// A text, if the key is there.
    ///
    /// # Errors
    /// The value is no text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(key, "must be a text", kind(other), "")),
        }
    }

    /// The object under `key`, if it is there.
    ///
    /// # Errors
    /// The value is no object.
    pub fn child(&self, key: &str) -> Result<Option<Keys<'a>>> {
        self.get(key).map(|value| Keys::new(&self.field(key), value)).transpose()
    }

    /// Refuses a value of `key` that is not among those this family is understood with.
    ///
    /// # Errors
    /// The key is there with another value.
    pub fn only(&self, key: &str, understood: &[Value]) -> Result<()> {
        match self.get(key) {
            Some(value) if !understood.contains(value) => {
                let list = understood.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
                let must = match list.as_str() {
                    "" => "must not be given, since it is not understood".to_string(),
                    _ => format!("must be {list}, the only value that is understood"),
                };
                Err(self.error(key, must, shorten(value), "open an issue with the model's name"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses keys that nobody read and that may cost; hands back the other unread ones.
    ///
    /// # Errors
    /// Every key that smells of cost and was not understood, all at once.
    pub fn finish(&self) -> Result<Vec<String>> {
        let read = self.read.borrow();
        let (mut errors, mut unknown) = (Vec::new(), Vec::new());
        for (key, value) in self.map.iter().filter(|(key, value)| {
            !read.contains(*key) && !known::is_switched_off(value) && !known::is_harmless(key)
        }) {
            if known::smells_of_cost(key) {
                let must = "must be understood, since it may change what a step costs";
                let hint = "remove the key if it does not matter, or open an issue with the model's name";
                errors.push(self.error(key, must, shorten(value), hint));
            } else {
                unknown.push(self.field(key));
            }
        }
        Error::all(&self.path, errors).map(|()| unknown)
    }
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
