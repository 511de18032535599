//! What a user may say about how a trace is to be read.

use super::format::Format;

/// What one unit of a number that stands for time is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// No number at all: a date with a time of day.
    DateTime,
}

impl TimeUnit {
    /// Its short name: `s`, `ms`, `us`, `ns` or `datetime`.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "s",
            TimeUnit::Millis => "ms",
            TimeUnit::Micros => "us",
            TimeUnit::Nanos => "ns",
            TimeUnit::DateTime => "datetime",
        }
    }

    /// The unit of that short name.
    pub fn named(name: &str) -> Option<TimeUnit> {
        [TimeUnit::Seconds, TimeUnit::Millis, TimeUnit::Micros, TimeUnit::Nanos, TimeUnit::DateTime]
            .into_iter()
            .find(|unit| unit.name() == name)
    }

    /// The power of ten that turns it into nanoseconds; a date has none and gives 0.
    pub(super) fn nanos_exponent(self) -> i32 {
        match self {
            TimeUnit::Seconds => 9,
            TimeUnit::Millis => 6,
            TimeUnit::Micros => 3,
            TimeUnit::Nanos | TimeUnit::DateTime => 0,
        }
    }
}

/// What happens to a row that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The file is refused.
    #[default]
    Stop,
    /// The row is left out, and counted.
    Skip,
}

/// What a request that generates no token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroOutput {
    /// A failed call: left out, and counted.
    Drop,
    /// A prompt that is processed and answered with nothing.
    Prefill,
    /// One token.
    One,
}

/// Which end of the file's priorities is served first; a [`Trace`](super::Trace) holds lower first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PriorityOrder {
    /// Lower first, as in vLLM: taken as written.
    #[default]
    LowerFirst,
    /// Higher first, as in SGLang and Dynamo: negated.
    HigherFirst,
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
