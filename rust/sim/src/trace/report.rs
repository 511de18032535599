//! What reading a trace found, assumed and repaired.

use super::format::Format;
use super::policy::TimeUnit;

/// Something repaired, said once with how often it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What was wrong and what was done about it.
    pub text: String,
    /// How many rows it concerns; 0 where it concerns the file.
    pub count: u64,
    /// The first line it concerns, counted from 1; 0 where it concerns the file.
    pub first_line: u64,
    /// What changes the reading, or empty.
    pub hint: String,
}

/// What reading a trace found, assumed and repaired.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The file as the user named it.
    pub origin: String,
    /// What it was read as.
    pub format: Format,
    /// By what it was recognised.
    pub why: String,
    /// The unit its arrivals were read in.
    pub time_unit: TimeUnit,
    /// Tokens of a hash id, where the file has hash ids.
    pub block_size: Option<u32>,
    /// Rows of the file.
    pub rows: u64,
    /// Requests read from them, before window, speedup and limit.
    pub kept: u64,
    /// Rows left out because they break a rule (with `on_error = skip`).
    pub dropped_broken: u64,
    /// Rows left out because they generate nothing (with `zero_output = drop`).
    pub dropped_zero_output: u64,
    /// The first arrival as the file has it, nanoseconds of its clock; the trace starts there at 0.
    pub origin_ns: i64,
    /// What was repaired.
    pub warnings: Vec<Warning>,
    /// What was assumed.
    pub information: Vec<String>,
}

impl Report {
    pub(super) fn warn(&mut self, text: impl Into<String>, count: u64, first_line: u64, hint: &str) {
        self.warnings.push(Warning { text: text.into(), count, first_line, hint: hint.to_string() });
    }

    pub(super) fn inform(&mut self, text: impl Into<String>) {
        self.information.push(text.into());
    }
}
