//! The grammar `name:key=value,key=value`, and settings read with their ranges.

use crate::error::{Error, Result};
use crate::names;

/// One setting of a technique.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub key: &'static str,
    /// What holds where it is not given; empty where there is no such thing.
    pub default: &'static str,
    /// What it says, with its unit and range.
    pub about: &'static str,
}

/// The settings of one technique as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    name: &'static str,
    parameters: &'static [Parameter],
    given: Vec<(&'static str, String)>,
}

/// A text of the grammar cut into its name and its settings.
pub(super) struct Cut<'a> {
    pub name: &'a str,
    pub settings: Vec<(&'a str, &'a str)>,
}

/// Cuts `name:key=value,key=value`.
///
/// # Errors
/// A part that is no `key=value`.
pub(super) fn cut(text: &str) -> Result<Cut<'_>> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let wrong = |part: &str| {
        Error::spec(
            "techniques",
            "must read `name:key=value,key=value`",
            format!("`{text}`"),
            format!("`{part}` has no `=`; lists are written with slashes (`accept=0.8/0.6`)"),
        )
    };
    if name.trim().is_empty() {
        return Err(Error::spec(
            "techniques",
            "must begin with a technique's name",
            format!("`{text}`"),
            "for example `kv-quant:bits=4`; `none` is no technique",
        ));
    }
    let parts = rest.split(',').map(str::trim).filter(|part| !part.is_empty());
    let mut settings = Vec::new();
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
        settings.push((key.trim(), value.trim()));
    }
    Ok(Cut { name: name.trim(), settings })
}

impl Settings {
    /// The settings of the technique `name`, every key known and given once.
    ///
    /// # Errors
    /// An unknown key (with the nearest), one given twice.
    pub(super) fn of(
        name: &'static str,
        parameters: &'static [Parameter],
        written: &[(&str, &str)],
    ) -> Result<Settings> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for (key, value) in written {
            let plain = plain(key);
            let known = parameters.iter().find(|parameter| parameter.key == plain).ok_or_else(|| {
                let known: Vec<&str> = parameters.iter().map(|parameter| parameter.key).collect();
                let nearest = names::nearest(key, known, 3);
                let hint = if nearest.is_empty() {
                    format!("`{name}` has no settings")
                } else {
                    format!("nearest: {}; `catalog techniques {name}` explains them", nearest.join(", "))
                };
                Error::spec(format!("techniques.{name}"), "must be given settings it has", key, hint)
            })?;
            if given.iter().any(|(before, _)| *before == known.key) {
                let hint = "lists are written with slashes (`accept=0.8/0.6`)";
                return Err(Error::spec(field(name, known.key), "must be given once", value, hint));
            }
            given.push((known.key, (*value).to_string()));
        }
        let place = |key: &str| parameters.iter().position(|parameter| parameter.key == key);
        given.sort_by_key(|(key, _)| place(key));
        Ok(Settings { name, parameters, given })
    }

    /// As one writes it: the name and what was given.
    pub(super) fn text(&self) -> String {
        let settings: Vec<String> = self.given.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if settings.is_empty() {
            self.name.to_string()
        } else {
            format!("{}:{}", self.name, settings.join(","))
        }
    }

    /// Whether the user said it.
    pub fn said(&self, key: &str) -> bool {
        self.given.iter().any(|(known, _)| *known == key)
    }

    /// What was given or holds otherwise; `None` where neither is.
    pub fn get(&self, key: &str) -> Option<&str> {
        let given = self.given.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
        let default =
            || self.parameters.iter().find(|parameter| parameter.key == key).map(|known| known.default);
        given.or_else(default).filter(|value| !value.is_empty())
    }

    /// An error about one of the settings; without a `hint` it tells what the setting is.
    pub fn wrong(&self, key: &str, must: impl Into<String>, hint: impl Into<String>) -> Error {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        let hint = hint.unwrap_or_else(|| format!("{key}: {}", self.about(key)));
        Error::spec(field(self.name, key), must, self.get(key).unwrap_or("absent"), hint)
    }

    fn about(&self, key: &str) -> &'static str {
        self.parameters.iter().find(|parameter| parameter.key == key).map_or("not known", |known| known.about)
    }

    /// Whether settings that count only where something else `holds` (`kind=window`) are left out otherwise.
    ///
    /// # Errors
    /// The first of them that was given.
    pub fn only_where(&self, holds: bool, what: &str, keys: &[&'static str]) -> Result<()> {
        match keys.iter().find(|key| !holds && self.said(key)) {
            Some(key) => Err(self.wrong(key, format!("must be left out but with {what}"), "")),
            None => Ok(()),
        }
    }

    /// A number from `least` to `most`; `None` where it is not given and has no default.
    ///
    /// # Errors
    /// No number, or one out of range.
    pub fn maybe(&self, key: &str, least: f64, most: f64) -> Result<Option<f64>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let range = if most.is_finite() {
            format!("must be a number from {least} to {most}")
        } else {
            format!("must be a number of at least {least}")
        };
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && (least..=most).contains(&value) => Ok(Some(value)),
            _ => Err(self.wrong(key, range, "")),
        }
    }

    /// The same where it must be there.
    ///
    /// # Errors
    /// Absent, no number, or out of range.
    pub fn number(&self, key: &str, least: f64, most: f64) -> Result<f64> {
        self.maybe(key, least, most)?.ok_or_else(|| self.absent(key))
    }

    /// A share from 0 to 1.
    ///
    /// # Errors
    /// Absent, no number, or out of range.
    pub fn share(&self, key: &str) -> Result<f64> {
        self.number(key, 0.0, 1.0)
    }

    /// A share above 0, up to 1.
    ///
    /// # Errors
    /// Absent, no number, or out of range.
    pub fn part(&self, key: &str) -> Result<f64> {
        let share = self.share(key)?;
        if share > 0.0 { Ok(share) } else { Err(self.wrong(key, "must be above 0 and at most 1", "")) }
    }

    /// A whole number from `least` to `most`; `None` where it is not given and has no default.
    ///
    /// # Errors
    /// No whole number, or one out of range.
    pub fn maybe_count(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.replace('_', "").parse::<u64>() {
            Ok(value) if (least..=most).contains(&value) => Ok(Some(value)),
            _ if most == LARGEST => {
                Err(self.wrong(key, format!("must be a whole number of at least {least}"), ""))
            }
            _ => Err(self.wrong(key, format!("must be a whole number from {least} to {most}"), "")),
        }
    }

    /// The same where it must be there.
    ///
    /// # Errors
    /// Absent, no whole number, or out of range.
    pub fn count(&self, key: &str, least: u64, most: u64) -> Result<u64> {
        self.maybe_count(key, least, most)?.ok_or_else(|| self.absent(key))
    }

    /// One of `known`, by name.
    ///
    /// # Errors
    /// Another name.
    pub fn choice<T: Copy>(&self, key: &str, known: &[(&'static str, T)]) -> Result<T> {
        let text = self.get(key).ok_or_else(|| self.absent(key))?;
        let found = known.iter().find(|(name, _)| *name == names::normalise(text)).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.wrong(key, format!("must be one of {}", names.join(", ")), "")
        })
    }

    /// Yes or no.
    ///
    /// # Errors
    /// Another word.
    pub fn switch(&self, key: &str) -> Result<bool> {
        self.choice(
            key,
            &[("yes", true), ("no", false), ("on", true), ("off", false), ("true", true), ("false", false)],
        )
    }

    /// Numbers from `least` to `most`, separated by slashes; none where nothing is given.
    ///
    /// # Errors
    /// One that is no number, or out of range.
    pub fn list(&self, key: &str, least: f64, most: f64) -> Result<Vec<f64>> {
        let Some(text) = self.get(key) else { return Ok(Vec::new()) };
        let number = |part: &str| {
            let value = part.trim().parse::<f64>().ok().filter(|value| (least..=most).contains(value));
            let range = if most.is_finite() {
                format!("from {least} to {most}")
            } else {
                format!("of at least {least}")
            };
            value.ok_or_else(|| self.wrong(key, format!("must be numbers {range} separated by slashes"), ""))
        };
        text.split('/').map(number).collect()
    }

    /// Whole numbers from `least` to `most`, separated by slashes, each with how often it stands there (`2x30` thirty
    /// times); none where nothing is given.
    ///
    /// # Errors
    /// One that is no whole number, or out of range.
    pub fn counted(&self, key: &str, least: u64, most: u64) -> Result<Vec<(u64, u64)>> {
        let Some(text) = self.get(key) else { return Ok(Vec::new()) };
        let number = |part: &str| {
            let (value, times) = part.split_once('x').unwrap_or((part, "1"));
            let value = value.trim().parse().ok().filter(|value| (least..=most).contains(value));
            let range = format!(
                "must be whole numbers from {least} to {most} separated by slashes (`2x30` is thirty of 2)"
            );
            value.zip(times.trim().parse().ok()).ok_or_else(|| self.wrong(key, range, ""))
        };
        text.split('/').map(number).collect()
    }

    fn absent(&self, key: &str) -> Error {
        Error::spec(field(self.name, key), "must be given", "absent", self.about(key))
    }
}

/// The name of a setting as it is known: `part` for `parts` is no slip.
pub(super) fn plain(key: &str) -> String {
    match names::normalise(key).as_str() {
        "part" => "parts".to_string(),
        name => name.to_string(),
    }
}

/// The largest count that is no slip.
pub const LARGEST: u64 = 1 << 40;

/// How errors name a setting: as it is written.
pub(super) fn field(name: &str, key: &str) -> String {
    format!("{name}:{key}")
}
