//! The one way into the library: every call that computes passes [`enter`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use roofline_sim::engine::Monitor;

use crate::errors::{self, IntoPyErr};

/// How often a running call looks for Ctrl-C.
const POLL: Duration = Duration::from_millis(50);

/// What the last panic said and where, for the report that replaces it.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// How far a long call has come: handed in as `progress=`, read from another thread while the call runs.
#[pyclass(frozen, module = "roofline_fast._core")]
#[derive(Default)]
pub struct Progress {
    shared: Arc<Shared>,
}

/// The counters of a [`Progress`] as the working thread sees them.
#[derive(Default)]
pub struct Shared {
    /// Units of work finished, and whether the user pressed Ctrl-C: the work should then return soon.
    pub monitor: Monitor,
    /// Units of work in all; 0 until known.
    pub total: AtomicU64,
}

#[pymethods]
impl Progress {
    #[new]
    fn new() -> Progress {
        Progress::default()
    }

    /// Units of work finished.
    #[getter]
    fn done(&self) -> u64 {
        self.shared.monitor.done.load(Ordering::Relaxed)
    }

    /// Units of work in all; 0 until known.
    #[getter]
    fn total(&self) -> u64 {
        self.shared.total.load(Ordering::Relaxed)
    }

    fn __repr__(&self) -> String {
        format!("Progress({} of {})", self.done(), self.total())
    }
}

/// Runs short `work` in place with the interpreter released; an error or a panic becomes a Python exception.
///
/// # Errors
/// What the work reports, as its Python exception.
pub fn enter<T: Send, E: IntoPyErr + Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T> {
    settle(py, py.detach(|| caught(work)))
}

/// Runs long `work` on a thread of its own, while this one looks for Ctrl-C; the counters move as it goes.
///
/// # Errors
/// What the work reports, as its Python exception, or `KeyboardInterrupt`.
pub fn enter_long<T: Send, E: IntoPyErr + Send>(
    py: Python<'_>,
    progress: Option<&Progress>,
    work: impl FnOnce(&Shared) -> Result<T, E> + Send,
) -> PyResult<T> {
    let shared = progress.map_or_else(Arc::default, |progress| Arc::clone(&progress.shared));
    let mut interrupted = None;
    let outcome = py.detach(|| {
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let counters = &*shared;
            scope.spawn(move || {
                // The receiver outlives this thread: it stands in the scope that waits for it.
                let _ = sender.send(caught(|| work(counters)));
            });
            loop {
                match receiver.recv_timeout(POLL) {
                    Ok(outcome) => return outcome,
                    Err(RecvTimeoutError::Disconnected) => return Err(last_panic()),
                    Err(RecvTimeoutError::Timeout) if interrupted.is_some() => {}
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(signal) = Python::attach(|py| py.check_signals()) {
                            shared.monitor.cancel.store(true, Ordering::Relaxed);
                            interrupted = Some(signal);
                        }
                    }
                }
            }
        })
    });
    match interrupted {
        Some(signal) => Err(signal),
        None => settle(py, outcome),
    }
}

/// Keeps what a panic says for [`errors::internal`] instead of printing it to stderr.
///
/// The hook belongs to this library's own copy of the Rust runtime: no other extension module is touched.
pub fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }));
}

fn settle<T, E: IntoPyErr>(py: Python<'_>, outcome: Result<Result<T, E>, String>) -> PyResult<T> {
    match outcome {
        Ok(result) => result.map_err(|error| error.into_py_err(py)),
        Err(report) => Err(errors::internal(py, &report)),
    }
}

/// The result of `work`, or what its panic said.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| last_panic())
}

fn last_panic() -> String {
    let kept = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
    kept.unwrap_or_else(|| "the library stopped without saying why".to_string())
}
