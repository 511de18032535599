//! Lets the tests see a panic and a Ctrl-C pass through the door: nothing else breaks on demand.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;
use roofline_core::error::{Error, Result};

use crate::enter::{Progress, enter, enter_long};

/// Breaks in a chosen way: `panic` in place, `panic-long` on a thread, `wait` until Ctrl-C.
#[pyfunction]
#[pyo3(signature = (what, progress=None))]
pub fn _probe(py: Python<'_>, what: &str, progress: Option<&Progress>) -> PyResult<()> {
    match what {
        "panic" => enter(py, || -> Result<()> { panic!("a probe was asked to panic") }),
        "panic-long" => enter_long(py, progress, |_| -> Result<()> { panic!("a probe was asked to panic") }),
        "wait" => enter_long(py, progress, |counters| -> Result<()> {
            while !counters.monitor.cancel.load(Ordering::Relaxed) {
                counters.monitor.done.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }),
        other => enter(py, || Err(Error::spec("what", "must be `panic`, `panic-long` or `wait`", other, ""))),
    }
}
