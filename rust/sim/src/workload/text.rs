//! How distributions and lists are written: `name(1, key=2)`, numbers, pieces between commas.

use roofline_core::error::{Error, Result};
use roofline_core::names;

/// Text like `lognormal(mean=300, std=200)`, apart.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// What it is the value of (`input_len`).
    field: String,
    /// The whole text.
    text: String,
    /// The name in one spelling (`skew-normal`).
    pub name: String,
    arguments: Vec<String>,
}

/// The arguments of a [`Call`] by name.
#[derive(Debug)]
pub(super) struct Arguments {
    field: String,
    text: String,
    values: Vec<(&'static str, String)>,
}

impl Call {
    /// The parts of `text`; a name alone has no arguments.
    ///
    /// # Errors
    /// Brackets that do not close.
    pub fn parse(field: &str, text: &str) -> Result<Call> {
        let text = text.trim();
        let (name, rest) = text.split_once('(').unwrap_or((text, ")"));
        let Some(inside) = rest.strip_suffix(')') else {
            let hint = "for example `lognormal(mean=300,std=200)`";
            return Err(Error::spec(field, "must close the bracket it opens", text, hint));
        };
        let arguments = split(inside, ',').into_iter().map(|part| part.trim().to_string());
        Ok(Call {
            field: field.to_string(),
            text: text.to_string(),
            name: names::normalise(name),
            arguments: arguments.filter(|part| !part.is_empty()).collect(),
        })
    }

    /// The arguments by name; those without a name are taken in the order of `known`.
    ///
    /// # Errors
    /// An argument that is not known, one given twice, too many.
    pub fn arguments(&self, known: &[&'static str]) -> Result<Arguments> {
        let refuse = |must: String, value: &str, hint: String| {
            Err(Error::spec(format!("{}: {}", self.field, self.name), must, value, hint))
        };
        let mut values: Vec<(&'static str, String)> = Vec::new();
        for (place, argument) in self.arguments.iter().enumerate() {
            let named = argument.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
            let (name, value) = match named {
                None => match known.get(place) {
                    Some(name) => (*name, argument.as_str()),
                    None => {
                        return refuse(
                            format!(
                                "must have {}{}",
                                if known.is_empty() { "" } else { "at most " },
                                list(known)
                            ),
                            &self.text,
                            String::new(),
                        );
                    }
                },
                Some((name, value)) => match known.iter().find(|known| **known == name) {
                    Some(name) => (*name, value),
                    None => {
                        let nearest = names::nearest(name, known.iter().copied(), 3).join(", ");
                        return refuse(
                            format!("must have only {}", list(known)),
                            name,
                            format!("nearest: {nearest}"),
                        );
                    }
                },
            };
            if values.iter().any(|(given, _)| *given == name) {
                return refuse(format!("must have `{name}` once"), &self.text, String::new());
            }
            values.push((name, value.to_string()));
        }
        Ok(Arguments { field: format!("{}: {}", self.field, self.name), text: self.text.clone(), values })
    }
}

impl Arguments {
    /// The text of an argument.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// An argument that must be given, as text.
    ///
    /// # Errors
    /// It is not given.
    pub fn required_text(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| {
            Error::spec(
                self.field.as_str(),
                format!("must have `{name}`"),
                &self.text,
                format!("add `{name}=…`"),
            )
        })
    }

    /// An argument that must be given, as a number within bounds.
    ///
    /// # Errors
    /// It is not given, no number, or out of bounds.
    pub fn required(&self, name: &str, low: f64, high: f64) -> Result<f64> {
        let text = self.required_text(name)?;
        within(&format!("{}: {name}", self.field), text, low, high)
    }

    /// An argument as a number within bounds, or what it is when left out.
    ///
    /// # Errors
    /// It is no number, or out of bounds.
    pub fn or(&self, name: &str, otherwise: f64, low: f64, high: f64) -> Result<f64> {
        match self.text(name) {
            None => Ok(otherwise),
            Some(text) => within(&format!("{}: {name}", self.field), text, low, high),
        }
    }

    /// An error about several arguments together.
    pub fn broken(&self, must: &str) -> Error {
        Error::spec(self.field.as_str(), must, &self.text, "")
    }
}

fn list(known: &[&str]) -> String {
    if known.is_empty() { "no arguments".to_string() } else { format!("the arguments {}", known.join(", ")) }
}

/// A finite number within bounds; `1e9` and `1_000` are numbers too.
///
/// # Errors
/// It is not.
pub(super) fn within(field: &str, text: &str, low: f64, high: f64) -> Result<f64> {
    let Ok(value) = text.trim().replace('_', "").parse::<f64>() else {
        return Err(Error::spec(field, "must be a number", text, ""));
    };
    if value >= low && value <= high && value.is_finite() {
        return Ok(value);
    }
    let must = match (low.is_finite(), high.is_finite()) {
        (true, false) if low == f64::MIN_POSITIVE => "must be above 0".to_string(),
        (true, false) if low == 0.0 => "must not be negative".to_string(),
        (true, false) => format!("must be at least {low}"),
        (true, true) if low == f64::MIN_POSITIVE => format!("must be above 0, at most {high}"),
        (true, true) => format!("must be between {low} and {high}"),
        _ => "must be finite".to_string(),
    };
    Err(Error::spec(field, must, text, ""))
}

/// A whole number within bounds; `1e9` is one.
///
/// # Errors
/// It is not.
pub(super) fn whole(field: &str, text: &str, low: u64, high: u64) -> Result<u64> {
    let plain = text.trim().replace('_', "");
    let scientific = || plain.parse::<f64>().ok().filter(|x| x.fract() == 0.0 && (0.0..1e18).contains(x));
    let read = plain.parse::<u64>().or_else(|why| scientific().map(|value| value as u64).ok_or(why));
    match read {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        Ok(_) => Err(Error::spec(field, format!("must be between {low} and {high}"), text, "")),
        Err(_) => Err(Error::spec(field, "must be a whole number", text, "")),
    }
}

/// The pieces between separators that stand outside of brackets.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut pieces, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (place, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if character == separator && depth == 0 => {
                pieces.push(&text[start..place]);
                start = place + character.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let known = ["mean", "std"];
        let done = Call::parse("input_len", text).and_then(|call| {
            let arguments = call.arguments(&known)?;
            arguments.required("mean", f64::MIN_POSITIVE, f64::INFINITY)?;
            arguments.or("std", 0.0, 0.0, 1e6)
        });
        done.unwrap_err().to_string()
    }

    #[test]
    fn arguments_come_in_order_or_by_name() {
        let call = Call::parse("input_len", " Log_Normal( 300 , std = 2e2 )").unwrap();
        assert_eq!(call.name, "log-normal");
        let arguments = call.arguments(&["mean", "std", "min"]).unwrap();
        assert_eq!(arguments.required("mean", 0.0, 1e9).unwrap(), 300.0);
        assert_eq!(arguments.or("std", 0.0, 0.0, 1e9).unwrap(), 200.0);
        assert_eq!(arguments.or("min", 1.0, 0.0, 1e9).unwrap(), 1.0);
    }

    #[test]
    fn every_mistake_names_its_argument() {
        let must = |text: &str, message: &str| assert_eq!(refused(text), message, "{text}");
        must("n(1", "input_len must close the bracket it opens: n(1");
        must("n(sd=1)", "input_len: n must have only the arguments mean, std: sd");
        must("n(1,2,3)", "input_len: n must have at most the arguments mean, std: n(1,2,3)");
        must("n(1,mean=2)", "input_len: n must have `mean` once: n(1,mean=2)");
        must("n(std=2)", "input_len: n must have `mean`: n(std=2)");
        must("n(x)", "input_len: n: mean must be a number: x");
        must("n(0)", "input_len: n: mean must be above 0: 0");
        must("n(NaN)", "input_len: n: mean must be above 0: NaN");
        must("n(1,-2)", "input_len: n: std must be between 0 and 1000000: -2");
    }

    #[test]
    fn bounds_are_said_as_they_are() {
        let message = |text, low, high| within("x", text, low, high).unwrap_err().to_string();
        assert_eq!(message("-1", 0.0, f64::INFINITY), "x must not be negative: -1");
        assert_eq!(message("1", 2.0, f64::INFINITY), "x must be at least 2: 1");
        assert_eq!(message("2", f64::MIN_POSITIVE, 1.0), "x must be above 0, at most 1: 2");
        assert_eq!(message("inf", f64::NEG_INFINITY, f64::INFINITY), "x must be finite: inf");
        assert_eq!(whole("n", "1.5", 0, 9).unwrap_err().to_string(), "n must be a whole number: 1.5");
        assert_eq!(whole("n", "10", 1, 9).unwrap_err().to_string(), "n must be between 1 and 9: 10");
        assert_eq!(whole("n", "1_000", 1, 9999).unwrap(), 1000);
    }

    #[test]
    fn separators_inside_brackets_do_not_separate() {
        assert_eq!(split("f(1,2),3", ','), ["f(1,2)", "3"]);
    }
}
