//! Errors of the library as Python exceptions, whose classes are written in `roofline_fast.errors`.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use roofline_core::error::Error as CoreError;
use roofline_plan::error::Error as PlanError;
use roofline_sim::error::Error as SimError;

/// The Python exception for an error: its class, its message and its attributes.
pub trait IntoPyErr {
    /// The exception.
    fn into_py_err(self, py: Python<'_>) -> PyErr;
}

impl IntoPyErr for CoreError {
    fn into_py_err(self, py: Python<'_>) -> PyErr {
        core_exception(py, &self.to_string(), &self)
    }
}

impl IntoPyErr for SimError {
    fn into_py_err(self, py: Python<'_>) -> PyErr {
        match self {
            SimError::Core(error) => error.into_py_err(py),
            SimError::Interrupted => PyKeyboardInterrupt::new_err(()),
            SimError::Trace { ref file, line, ref field, ref value, ref hint, .. } => {
                let attributes = [
                    ("field", field.clone()),
                    ("value", value.clone()),
                    ("hint", hint.to_string()),
                    ("file", file.clone()),
                ];
                exception(py, "TraceError", &self.to_string(), &attributes, Some(line))
            }
            SimError::Traces { ref file, .. } => {
                exception(py, "TraceError", &self.to_string(), &[("file", file.clone())], None)
            }
            other => exception(py, "RooflineError", &other.to_string(), &[("hint", other.hint())], None),
        }
    }
}

impl IntoPyErr for PlanError {
    fn into_py_err(self, py: Python<'_>) -> PyErr {
        match self.source() {
            Some(mistake) => core_exception(py, &self.to_string(), mistake),
            None => PyKeyboardInterrupt::new_err(()),
        }
    }
}

/// The library broke one of its own rules: `report` is what the panic said and where.
pub fn internal(py: Python<'_>, report: &str) -> PyErr {
    exception(py, "InternalError", report, &[], None)
}

/// A rule of an argument of the door itself: `spec(py, "batch_size", "must be whole numbers", "float64", "")`.
pub fn spec(py: Python<'_>, field: &str, must: &str, value: impl std::fmt::Display, hint: &str) -> PyErr {
    CoreError::spec(field, must, value, hint).into_py_err(py)
}

/// The exception of a mistake under a message that may say more, such as the row it stands in.
fn core_exception(py: Python<'_>, message: &str, mistake: &CoreError) -> PyErr {
    let class = match mistake {
        CoreError::UnknownName { .. } => "UnknownNameError",
        CoreError::DoesNotFit { .. } => "DoesNotFitError",
        _ => "SpecError",
    };
    let attributes = [("field", mistake.field()), ("value", mistake.value()), ("hint", mistake.hint())];
    exception(py, class, message, &attributes, None)
}

/// `roofline_fast.errors.<class>(message, **attributes)`; if even that fails, the reason it did.
fn exception(
    py: Python<'_>,
    class: &str,
    message: &str,
    attributes: &[(&str, String)],
    line: Option<u64>,
) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let keywords = PyDict::new(py);
        for (name, text) in attributes {
            keywords.set_item(name, text)?;
        }
        if let Some(line) = line {
            keywords.set_item("line", line)?;
        }
        let class = py.import("roofline_fast.errors")?.getattr(class)?;
        Ok(PyErr::from_value(class.call((message,), Some(&keywords))?))
    };
    build().unwrap_or_else(|failure| failure)
}
