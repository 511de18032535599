//! The door: how Python asks. Each function extracts its arguments, enters the library once, and wraps the result.

mod errors;
mod enter;
mod table;
mod columns;

use pyo3::prelude::*;

/// The compiled half of `roofline_fast`; what it holds is spelled out in `_core.pyi`.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    enter::remember_panics();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEBUG", cfg!(debug_assertions))?;
    module.add_class::<enter::Progress>()?;
    module.add_class::<table::Table>()?;
    Ok(())
}
