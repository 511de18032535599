//! What came of serving a trace: figures, tables and files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use roofline_core::cause::Causes;
use roofline_core::error::{Error as CoreError, Result as CoreResult};
use roofline_sim::metrics::band::{self, Band};
use roofline_sim::metrics::explain::{self, Slowness};
use roofline_sim::metrics::slo::Slo;
use roofline_sim::metrics::summary::Value;
use roofline_sim::metrics::times;
use roofline_sim::run::Simulation as Served;
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::rules::Rules;
use roofline_sim::serve::Server;
use roofline_sim::step_cost::StepCost;

use crate::enter::enter;
use crate::files;
use crate::result_files::{self};
use crate::row_groups::RowGroups;
use crate::table::Table;

/// What came of serving a trace.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Simulation {
    /// Steps and requests.
    pub served: Served,
    engine: EngineConfig,
    /// Seconds of all steps by what they were spent on.
    spent: Causes,
    /// The same by operator.
    operators: Vec<(String, f64)>,
    /// By which factors all steps may be shorter or longer.
    band: Option<Band>,
    notes: Vec<String>,
}

#[pymethods]
impl Simulation {
    /// Some fifty numbers under the names `vllm bench serve` writes; an unknown one is `None`.
    #[pyo3(signature = (slo=None, percentiles=vec![50.0, 90.0, 95.0, 99.0]), text_signature = "(self, slo=None, percentiles=...)")]
    fn summary<'py>(&self, py: Python<'py>, slo: Option<&str>, percentiles: Vec<f64>) -> PyResult<Dict<'py>> {
        let summary = enter(py, || {
            percentiles.iter().try_for_each(|percent| in_range(*percent))?;
            Ok::<_, CoreError>(self.served.summary(slo.map(Slo::parse).transpose()?.as_ref(), &percentiles))
        })?;
        let dict = PyDict::new(py);
        let bands = self.band.map(|band| band::of_summary(&summary, band)).unwrap_or_default();
        for (name, value) in summary.entries().iter().chain(&bands) {
            match value {
                Value::Count(count) => dict.set_item(name, count)?,
                Value::Number(number) => dict.set_item(name, number)?,
                Value::Truth(truth) => dict.set_item(name, truth)?,
                Value::Word(word) => dict.set_item(name, word)?,
                Value::Unknown => dict.set_item(name, py.None())?,
            }
        }
        Ok(dict)
    }

    /// One row a request, in the order of the trace.
    #[getter]
    fn requests(&self, py: Python<'_>) -> PyResult<Table> {
        enter(py, || self.needs_requests())?;
        Table::new(py, result_files::of_requests(&self.served.requests, self.band))
    }

    /// One row a stretch of steps that decode alike, or any other step.
    #[getter]
    fn stretches(&self, py: Python<'_>) -> PyResult<Table> {
        Table::new(py, enter(py, || self.served.stretches())?)
    }

    /// One row an interval of so many seconds.
    fn timeline(&self, py: Python<'_>, interval_s: f64) -> PyResult<Table> {
        Table::new(py, enter(py, || self.served.timeline(interval_s).map(|timeline| timeline.to_table()))?)
    }

    /// One row a request: where its time went.
    #[getter]
    fn times(&self, py: Python<'_>) -> PyResult<Table> {
        let ids = || self.served.requests.ids();
        Table::new(py, enter(py, || self.served.times().map(|times| times::to_table(ids(), &times)))?)
    }

    /// The slowest requests and why, one row each.
    fn explain(&self, py: Python<'_>, count: usize, by: &str) -> PyResult<Table> {
        let table = enter(py, || {
            let slowest = self.served.explain(&self.engine, count, Slowness::parse(by)?)?;
            Ok::<_, CoreError>(explain::to_table(&self.served.requests, &slowest))
        })?;
        Table::new(py, table)
    }

    /// Writes one of its tables to a Parquet file, part by part; how many rows it has. A timeline has one row an interval
    /// of so many seconds.
    fn write_parquet(&self, py: Python<'_>, table: &str, path: PathBuf, interval_s: f64) -> PyResult<usize> {
        enter(py, || self.needs_requests())?;
        enter(py, || result_files::write(RowGroups::new(&path), &self.served, self.band, table, interval_s))
    }

    /// Writes a Chrome trace to a file.
    fn write_perfetto(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let written = py.detach(|| {
            let mut file = BufWriter::new(File::create(&path)?);
            self.served.write_perfetto(&mut file)?;
            file.flush()
        });
        written.map_err(|error| files::failure(&path, &error))
    }

    /// One row a step; none unless recorded.
    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<Table> {
        Table::new(py, band::of_steps(self.served.steps.to_table(), self.band))
    }

    /// The engine's settings as they were, under vLLM's names.
    #[getter]
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Dict<'py>> {
        let (engine, dict) = (&self.engine, PyDict::new(py));
        dict.set_item("gpu_memory_utilization", engine.gpu_memory_utilization)?;
        dict.set_item("max_num_seqs", engine.max_num_seqs)?;
        dict.set_item("max_num_batched_tokens", engine.max_num_batched_tokens)?;
        dict.set_item("max_model_len", engine.max_model_len)?;
        dict.set_item("block_size", engine.block_size)?;
        dict.set_item("num_gpu_blocks", engine.num_gpu_blocks)?;
        dict.set_item("enable_chunked_prefill", engine.enable_chunked_prefill)?;
        dict.set_item("enable_prefix_caching", engine.enable_prefix_caching)?;
        dict.set_item("async_scheduling", engine.async_scheduling)?;
        dict.set_item("scheduling_policy", engine.scheduling_policy.name())?;
        dict.set_item("watermark", engine.watermark)?;
        dict.set_item("long_prefill_token_threshold", engine.long_prefill_token_threshold)?;
        dict.set_item("scheduler_reserve_full_isl", engine.scheduler_reserve_full_isl)?;
        dict.set_item("prefill_schedule_interval", engine.prefill_schedule_interval)?;
        dict.set_item("max_num_active_seqs", engine.max_num_active_seqs)?;
        let adaptive = engine.long_prefill_token_threshold_adaptive;
        dict.set_item("long_prefill_token_threshold_adaptive", adaptive)?;
        match engine.rules {
            Rules::Sglang(settings) => {
                dict.set_item("max_prefill_tokens", settings.max_prefill_tokens)?;
                dict.set_item("schedule_conservativeness", settings.schedule_conservativeness)?;
                dict.set_item("enable_mixed_chunk", settings.enable_mixed_chunk)?;
            }
            Rules::Vllm => {
                dict.set_item("max_num_scheduled_tokens", engine.max_num_scheduled_tokens)?;
                dict.set_item("max_num_queued_reqs", engine.max_num_queued_reqs)?;
            }
            Rules::VllmV0 => {
                let swaps = engine.swap.is_some();
                dict.set_item("preemption_mode", if swaps { "swap" } else { "recompute" })?;
                dict.set_item("num_cpu_blocks", engine.swap.map_or(0, |swap| swap.blocks))?;
            }
            Rules::Trtllm(capacity) => dict.set_item("capacity_scheduler_policy", capacity.name())?,
            _ => {}
        }
        let speculation = engine.speculation.as_ref();
        dict.set_item("spec_method", speculation.map(|speculation| speculation.method.name()))?;
        dict.set_item("num_speculative_tokens", speculation.map_or(0, |speculation| speculation.tokens))?;
        dict.set_item("stream_interval", engine.stream_interval)?;
        dict.set_item("pipeline_parallel_size", engine.pipeline_parallel)?;
        dict.set_item("data_parallel_size", engine.data_parallel)?;
        Ok(dict)
    }

    /// Seconds of all replicas by what they were spent on, idle ones included.
    #[getter]
    fn bounds(&self) -> Vec<(&'static str, f64)> {
        self.served.bounds(&self.spent)
    }

    /// Seconds of all replicas by operator, idle ones included.
    #[getter]
    fn operators(&self) -> Vec<(String, f64)> {
        self.served.operators(self.operators.clone())
    }

    /// By which factors all steps may be shorter or longer together: P10 and P90; `None` where no error is known.
    #[getter]
    fn band(&self) -> Option<(f64, f64)> {
        self.band
    }

    /// Sentences to print with it.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

type Dict<'py> = pyo3::Bound<'py, PyDict>;

impl Simulation {
    /// What an engine did, with what its steps were priced by.
    pub fn of(served: Served, server: Server) -> Simulation {
        let Server { engine, cost, notes, .. } = server;
        let (spent, operators, band) = (cost.spent(), cost.operators(), cost.band());
        Simulation { served, spent, operators, band, engine, notes }
    }

    /// The same for clients who wait so many seconds longer for each answer to begin.
    pub fn behind(self, seconds: f64) -> Simulation {
        Simulation { served: self.served.behind(seconds), ..self }
    }

    /// Refuses to show requests that were forgotten as they were served.
    fn needs_requests(&self) -> CoreResult<()> {
        if self.served.tally.is_none() {
            return Ok(());
        }
        let hint = "simulate fewer requests (num_prompts), which memory holds";
        Err(CoreError::spec("requests", "must be kept to be shown", "drawn as they were served", hint))
    }
}

fn in_range(percent: f64) -> CoreResult<()> {
    if (0.0..=100.0).contains(&percent) {
        return Ok(());
    }
    Err(CoreError::spec("percentiles", "must be between 0 and 100", percent, ""))
}
