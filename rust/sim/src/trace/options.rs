//! What a user may say about how a trace is to be read.

use super::format::Format;
use super::policy::{OnError, PriorityOrder, TimeUnit, ZeroOutput};
use crate::error::Result;
use roofline_core::error::Error;

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

impl ReadOptions {
    /// What must hold of the options by themselves.
    pub(super) fn check(&self) -> Result<()> {
        if self.trace_block_size == Some(0) {
            return Err(Error::spec("trace_block_size", "must be at least 1 token", 0, "").into());
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
