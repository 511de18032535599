//! What a user may say about how a trace is to be read.

use super::format::Format;
use super::number::TOKENS_MAX;
use super::policy::{OnError, PriorityOrder, TimeUnit, TurnLengths, ZeroOutput};
use super::schemas;
use super::time_format::TimeFormat;
use crate::error::Result;
use roofline_core::error::Error;

/// One field of a file and what it holds: `arrival=ts:s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMap {
    /// What it holds, as the native schema calls it: `prompt_tokens`, `arrival_ms`.
    pub native: String,
    /// The field of the file.
    pub field: String,
}

impl FieldMap {
    /// Reads `what=field`, or `arrival=field:unit`. What is `arrival`, `input` (or `prompt`), `output`, or any field of
    /// the native schema; a unit is s, ms, us, ns or datetime.
    ///
    /// ```
    /// use roofline_sim::trace::FieldMap;
    /// let map = FieldMap::parse("arrival=ts:ms")?;
    /// assert_eq!((map.native.as_str(), map.field.as_str()), ("arrival_ms", "ts"));
    /// let error = FieldMap::parse("arrival=ts").unwrap_err();
    /// assert_eq!(error.to_string(), "map must tell the unit of arrivals: arrival=ts");
    /// # Ok::<(), roofline_sim::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Texts of another shape, an arrival without a unit, and names that the native schema does not have.
    pub fn parse(text: &str) -> Result<FieldMap> {
        let refuse = |must: &str, hint: &str| Err(Error::spec("map", must, text, hint).into());
        let hint = "for example `arrival=ts:s`, `input=prompt`, `output=gen`";
        let Some((what, field)) =
            text.split_once('=').filter(|(what, field)| !what.is_empty() && !field.is_empty())
        else {
            return refuse("must read what=field", hint);
        };
        let (what, field) = (what.trim(), field.trim());
        let native = match what {
            "arrival" => {
                let unit =
                    field.rsplit_once(':').and_then(|(field, unit)| Some((field, TimeUnit::named(unit)?)));
                let Some((field, unit)) = unit else {
                    return refuse("must tell the unit of arrivals", "add :s, :ms, :us, :ns or :datetime");
                };
                let native = match unit {
                    TimeUnit::DateTime => "arrival".to_string(),
                    unit => format!("arrival_{}", unit.name()),
                };
                return Ok(FieldMap { native, field: field.to_string() });
            }
            "input" | "prompt" => "prompt_tokens",
            "output" => "output_tokens",
            other => other,
        };
        if !schemas::native().any(|alias| alias == native) {
            let names: Vec<&str> =
                ["arrival", "input", "output"].into_iter().chain(schemas::native()).collect();
            return Err(roofline_core::names::unknown("field of a trace", what, names).into());
        }
        Ok(FieldMap { native: native.to_string(), field: field.to_string() })
    }
}

/// How a trace is read; the default trusts detection and refuses what would change the numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadOptions {
    /// The format, instead of the detected one (`--trace-format`).
    pub format: Option<Format>,
    /// The unit of the format's times, instead of its own (`--time-unit`); a name such as `delay_ms` keeps its unit.
    pub time_unit: Option<TimeUnit>,
    /// What happens to a row that breaks a rule (`--on-error`).
    pub on_error: OnError,
    /// What no output means, instead of the format's own rule (`--zero-output`).
    pub zero_output: Option<ZeroOutput>,
    /// Output tokens of requests that do not say (`--default-output-tokens`).
    pub default_output_tokens: Option<u32>,
    /// What the prompt lengths of a session's turns count, instead of the format's rule (`--turn-lengths`).
    pub turn_lengths: Option<TurnLengths>,
    /// Which fields hold what (`--map`); they stand in for the format's own fields of
    /// that meaning, and a file of no known format is read as native.
    pub map: Vec<FieldMap>,
    /// The names of a CSV file's columns, which then has no header (`--columns`).
    pub columns: Vec<String>,
    /// How arrivals are written that are dates (`--time-format`).
    pub time_format: Option<TimeFormat>,
    /// Arrivals come from elsewhere: requests and sessions without any are at 0.
    pub arrivals_elsewhere: bool,
    /// Refuses whatever would be repaired with a warning (`--strict`).
    pub strict: bool,
    /// Tokens of a hash id, instead of the format's (`--trace-block-size`).
    pub trace_block_size: Option<u32>,
    /// Refuses arrivals that go back in time instead of sorting them (`--require-sorted`).
    pub require_sorted: bool,
    /// Which priorities are served first (`--priority-order`).
    pub priority_order: PriorityOrder,
    /// The character between columns, instead of the one seen (`--csv-delimiter`).
    pub csv_delimiter: Option<u8>,
    /// Numbers have a decimal comma (`--csv-decimal ","`).
    pub decimal_comma: bool,
    /// Keeps requests that arrive in `[start, end)`, seconds (`--window`); applied first.
    pub window_s: Option<(f64, f64)>,
    /// Divides every time by this (`--speedup`, above 1 is faster); applied after the window.
    pub speedup: Option<f64>,
    /// Keeps the first so many requests (`--limit`); applied last.
    pub limit: Option<usize>,
}

impl ReadOptions {
    /// The same with `--columns`: `arrival=ts:s,input=n_in,output=n_out` says which column holds what, as `map` does;
    /// `ts,n_in,n_out` names the columns of a CSV file without a header.
    ///
    /// # Errors
    /// Names beside maps, a name that is empty or given twice, and those of [`FieldMap::parse`].
    pub fn with_columns(mut self, text: &str) -> Result<ReadOptions> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let maps = parts.iter().filter(|part| part.contains('=')).count();
        let refuse =
            |must: &str, value: &str, hint: &str| Err(Error::spec("columns", must, value, hint).into());
        if maps == parts.len() {
            for part in parts {
                self.map.push(FieldMap::parse(part)?);
            }
            return Ok(self);
        }
        if maps > 0 {
            let hint =
                "`arrival=ts:s,input=n_in,output=n_out`, or `ts,n_in,n_out` for a file without a header";
            return refuse("must all be WHAT=COLUMN, or all be names", text, hint);
        }
        for (place, name) in parts.iter().enumerate() {
            if name.is_empty() {
                return refuse("must name every column", text, "any name does for one that is not needed");
            }
            if parts[..place].contains(name) {
                return refuse("must name a column once", name, "");
            }
        }
        self.columns = parts.into_iter().map(String::from).collect();
        Ok(self)
    }

    /// What must hold of the options by themselves.
    pub(super) fn check(&self) -> Result<()> {
        if self.trace_block_size == Some(0) {
            return Err(Error::spec("trace_block_size", "must be at least 1 token", 0, "").into());
        }
        if self.default_output_tokens.is_some_and(|tokens| tokens > TOKENS_MAX) {
            let must = format!("must be at most {TOKENS_MAX}");
            let value = self.default_output_tokens.unwrap_or_default();
            return Err(Error::spec("default_output_tokens", must, value, "").into());
        }
        if let Some(format) = &self.time_format {
            let unit = self.time_unit.filter(|unit| *unit != TimeUnit::DateTime);
            let mapped = self.map.iter().find_map(|map| schemas::unit_of_arrival(&map.native));
            if let Some(unit) = unit.or(mapped).filter(|unit| *unit != TimeUnit::DateTime) {
                let hint = format!("{} is how dates are written", format.text());
                let must = "must be datetime, or be left out, with time_format";
                return Err(Error::spec("time_unit", must, unit.name(), hint).into());
            }
        }
        for (place, map) in self.map.iter().enumerate() {
            if self.map[..place].iter().any(|before| before.field == map.field) {
                return Err(Error::spec("map", "must name a field once", &map.field, "").into());
            }
        }
        let quoting = |byte: u8| matches!(byte, b'"' | b'\n' | b'\r');
        match self.csv_delimiter {
            Some(byte) if quoting(byte) || !byte.is_ascii() => {
                let must = "must be one ASCII character that is no quote and no line end";
                Err(Error::spec("csv_delimiter", must, format!("0x{byte:02x}"), "").into())
            }
            _ => Ok(()),
        }
    }
}
