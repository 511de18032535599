//! LLM-Viewer's figures, for those who move over from it.

use pyo3::prelude::*;
use roofline_core::error::{Error, Result};
use roofline_core::llm_viewer::{self, Version};

use crate::enter::enter;
use crate::table::Table;

/// The tool's arguments, under its names.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct ViewerInputs {
    inputs: llm_viewer::Inputs,
}

#[pymethods]
impl ViewerInputs {
    #[new]
    #[pyo3(signature = (*, batchsize=1, seqlen=1, w_bit=16, a_bit=16, kv_bit=16, use_flashattention=false, tp_size=1))]
    fn new(
        batchsize: u32,
        seqlen: u32,
        w_bit: u32,
        a_bit: u32,
        kv_bit: u32,
        use_flashattention: bool,
        tp_size: u32,
    ) -> ViewerInputs {
        let inputs =
            llm_viewer::Inputs { batchsize, seqlen, w_bit, a_bit, kv_bit, use_flashattention, tp_size };
        ViewerInputs { inputs }
    }
}

/// What the tool's `analyze` returns: its operators, and its totals of prefill and decode.
#[pyfunction]
pub fn llm_viewer_analyze(
    py: Python<'_>,
    config: &str,
    hardware: &str,
    inputs: &ViewerInputs,
    version: &str,
) -> PyResult<(Table, Table)> {
    let (ops, totals) = enter(py, || {
        let version: Version = version.parse()?;
        let analysis = llm_viewer::analyze(version, &parse(config)?, hardware, &inputs.inputs)?;
        Ok::<_, Error>((analysis.ops_table(), analysis.totals_table()))
    })?;
    Ok((Table::new(py, ops)?, Table::new(py, totals)?))
}

/// What the tool's `analyze_generate_task` returns.
#[pyfunction]
pub fn llm_viewer_generate(
    py: Python<'_>,
    config: &str,
    hardware: &str,
    inputs: &ViewerInputs,
    gen_len: u32,
    version: &str,
) -> PyResult<Table> {
    let (prompt, inputs) = (inputs.inputs.seqlen, &inputs.inputs);
    let generation = enter(py, || {
        let (version, config) = (version.parse()?, parse(config)?);
        llm_viewer::analyze_generate_task(version, &config, hardware, inputs, prompt, gen_len)
    })?;
    Table::new(py, generation.totals_table())
}

/// Reads the text of a `config.json`.
fn parse(config: &str) -> Result<serde_json::Value> {
    serde_json::from_str(config).map_err(|why| {
        let hint = "give the model's own `config.json`, as published beside its weights";
        Error::spec("config.json", "must be JSON", why, hint)
    })
}
