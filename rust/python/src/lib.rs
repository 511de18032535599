//! The door: how Python asks. Each function extracts its arguments, enters the library once, and wraps the result.

mod errors;
mod enter;
mod table;
mod columns;
mod probe;
mod files;
mod hardware;
mod model;
mod drafts;
mod deployment;
mod analysis;
mod evaluate;
mod sweep;
mod whole;
mod measured;
mod workload;
mod trace;
mod row_groups;
mod result_files;
mod streamed;
mod simulation;
mod engine;
mod llm_viewer;

use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;

/// Columns of millions of rows come and go with every call. The system's allocator gives them back each time, and the next
/// call pays for their pages again; this one keeps them for a while, and takes huge ones.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The compiled half of `roofline_fast`; what it holds is spelled out in `_core.pyi`.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    enter::remember_panics();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<enter::Progress>()?;
    module.add_class::<table::Table>()?;
    module.add_function(wrap_pyfunction!(probe::_probe, module)?)?;
    module.add_class::<hardware::Hardware>()?;
    module.add_class::<model::Model>()?;
    module.add_class::<deployment::Layout>()?;
    module.add_class::<deployment::Precision>()?;
    module.add_class::<deployment::Deployment>()?;
    module.add_class::<analysis::Point>()?;
    module.add_class::<analysis::EngineMemory>()?;
    module.add_class::<analysis::Analysis>()?;
    module.add_function(wrap_pyfunction!(analysis::analyze, module)?)?;
    module.add_class::<evaluate::Configurations>()?;
    module.add_class::<sweep::Space>()?;
    module.add_class::<measured::Measurements>()?;
    module.add_class::<trace::TraceOptions>()?;
    module.add_class::<trace::Trace>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<simulation::Simulation>()?;
    module.add_class::<llm_viewer::ViewerInputs>()?;
    module.add_function(wrap_pyfunction!(llm_viewer::llm_viewer_analyze, module)?)?;
    module.add_function(wrap_pyfunction!(llm_viewer::llm_viewer_generate, module)?)?;
    if cfg!(debug_assertions) { warn_of_debug_build(module.py()) } else { Ok(()) }
}

/// A debug build is right but ten times slower: whoever times it should know.
fn warn_of_debug_build(py: Python<'_>) -> PyResult<()> {
    let text = c"this is a debug build of roofline_fast, an order of magnitude slower than a release build";
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), text, 1)
}
