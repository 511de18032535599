//! One question about a deployment, and its answer operator by operator.

use pyo3::prelude::*;
use roofline_core::accumulate::Totals;
use roofline_core::analysis::{Analysis as Answer, Analyst};
use roofline_core::memory::EngineMemory as Division;
use roofline_core::names;
use roofline_core::point::{Point as Asked, Question};
use roofline_core::table::{Column, Table as Rows};
use roofline_plan::break_even::{self, Made};
use roofline_plan::compare::{By, compare};

use crate::deployment::Deployment;
use crate::enter::enter;
use crate::table::Table;

/// What is asked about, and how large it is.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Point {
    pub asked: Asked,
}

#[pymethods]
impl Point {
    #[new]
    #[pyo3(signature = (phase, *, batch_size, input_len, output_len=0, prefix_len=0, chunk=0))]
    fn new(
        py: Python<'_>,
        phase: &str,
        batch_size: u64,
        input_len: u64,
        output_len: u64,
        prefix_len: u64,
        chunk: u64,
    ) -> PyResult<Point> {
        let question = enter(py, || Question::parse(phase))?;
        Ok(Point { asked: Asked { question, batch_size, input_len, output_len, prefix_len, chunk } })
    }
}

/// How an engine divides a device's memory.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct EngineMemory {
    pub division: Division,
}

#[pymethods]
impl EngineMemory {
    /// Share of the device's memory that the engine may use.
    #[getter]
    fn gpu_memory_utilization(&self) -> f64 {
        self.division.gpu_memory_utilization
    }

    /// Tokens of the largest step.
    #[getter]
    fn max_num_batched_tokens(&self) -> u64 {
        self.division.max_num_batched_tokens
    }

    /// Sequences of the largest step.
    #[getter]
    fn max_num_seqs(&self) -> u64 {
        self.division.max_num_seqs
    }
}

/// Answers one question.
#[pyfunction]
pub fn analyze(
    py: Python<'_>,
    deployment: &Deployment,
    point: &Point,
    engine: &EngineMemory,
) -> PyResult<Analysis> {
    let deployed = deployment.deployed.clone();
    let answer = enter(py, || Analyst::new(deployed, &engine.division)?.analyze(&point.asked))?;
    Ok(Analysis { answer, question: point.asked.question })
}

/// The answer to one question; times in seconds.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Analysis {
    answer: Answer,
    question: Question,
}

#[pymethods]
impl Analysis {
    /// What was asked about: a step, or the whole request for `chat`.
    #[getter]
    fn step_s(&self) -> f64 {
        self.answer.outcome.times.step.step.seconds
    }

    /// The same by the datasheet alone.
    #[getter]
    fn ideal_s(&self) -> f64 {
        self.answer.outcome.times.step.ideal
    }

    /// P10 of the prediction; `None` where no error was measured.
    #[getter]
    fn low_s(&self) -> Option<f64> {
        self.answer.outcome.times.step.step.low
    }

    /// P90 of the prediction; `None` where no error was measured.
    #[getter]
    fn high_s(&self) -> Option<f64> {
        self.answer.outcome.times.step.step.high
    }

    /// Time to first token (prefill, chat).
    #[getter]
    fn ttft_s(&self) -> Option<f64> {
        self.answer.outcome.times.ttft
    }

    /// P10 and P90 of the time to first token.
    #[getter]
    fn ttft_band_s(&self) -> Option<(f64, f64)> {
        self.answer.outcome.times.ttft_band
    }

    /// P10 and P90 of the time per output token.
    #[getter]
    fn tpot_band_s(&self) -> Option<(f64, f64)> {
        self.answer.outcome.times.tpot_band
    }

    /// Time per output token (decode, mixed, chat).
    #[getter]
    fn tpot_s(&self) -> Option<f64> {
        self.answer.outcome.times.tpot
    }

    /// The whole request (chat).
    #[getter]
    fn e2e_s(&self) -> Option<f64> {
        self.answer.outcome.times.e2e
    }

    /// Tokens that enter (prefill, encode) or leave (otherwise) one rank in that time.
    #[getter]
    fn tokens(&self) -> f64 {
        self.answer.outcome.times.tokens
    }

    /// Tokens a second and device of the whole deployment.
    #[getter]
    fn tokens_per_gpu_s(&self) -> f64 {
        self.answer.outcome.tokens_per_gpu_s
    }

    /// Tokens a second that one sequence sees (decode, mixed, chat).
    #[getter]
    fn tokens_per_user_s(&self) -> Option<f64> {
        self.answer.outcome.tokens_per_user_s
    }

    /// What bounds most of the time.
    #[getter]
    fn bound(&self) -> &'static str {
        self.answer.outcome.done.bound().name()
    }

    /// Share of the time each bound takes, largest first.
    #[getter]
    fn bounds(&self) -> Vec<(&'static str, f64)> {
        self.answer.bounds().into_iter().map(|(bound, share)| (bound.name(), share)).collect()
    }

    /// One row an operator: of the busiest device, all occurrences together.
    #[getter]
    fn ops(&self, py: Python<'_>) -> PyResult<Table> {
        Table::new(py, self.answer.ops_table())
    }

    /// One row: what lies in the memory of the busiest device, bytes, and how much more would fit.
    #[getter]
    fn memory(&self, py: Python<'_>) -> PyResult<Table> {
        Table::new(py, self.memory_table())
    }

    /// Two rows: work and traffic of the busiest device and of the whole deployment.
    #[getter]
    fn totals(&self, py: Python<'_>) -> PyResult<Table> {
        Table::new(py, totals_table([("gpu", &self.answer.per_gpu), ("deployment", &self.answer.deployment)]))
    }

    /// FLOP/B at which multiplication turns from memory- to compute-bound, and the format it is in.
    #[getter]
    fn ridge(&self) -> (f64, &'static str) {
        (self.answer.ridge, self.answer.ridge_format.name())
    }

    /// FLOP/B of the same format over the slowest link that a technique uses; `None` without one.
    #[getter]
    fn link_ridge(&self) -> Option<f64> {
        self.answer.link_ridge
    }

    /// Tokens a step from which the dense multiplications are compute-bound; `None`: never.
    #[getter]
    fn compute_bound_tokens(&self) -> Option<f64> {
        self.answer.compute_bound_tokens
    }

    /// Relative change of the time for +10 % of a resource.
    #[getter]
    fn sensitivity(&self) -> Vec<(&'static str, f64)> {
        let faster = &self.answer.sensitivity;
        vec![("bandwidth", faster.bandwidth), ("compute", faster.compute), ("link", faster.link)]
    }

    /// Energy of the deployment, J; `None` where the device's power is unknown.
    #[getter]
    fn energy_j(&self) -> Option<f64> {
        self.answer.outcome.energy_j
    }

    /// Indicative price, USD; `None` where unknown.
    #[getter]
    fn usd(&self) -> Option<f64> {
        self.answer.outcome.usd
    }

    /// What lies between this answer and another one to the same question: `by` `piece`, `op` or `resource`.
    #[pyo3(signature = (other, by="piece"))]
    fn compare(&self, py: Python<'_>, other: &Analysis, by: &str) -> PyResult<Table> {
        let rows = enter(py, || {
            let by = match by {
                "piece" => By::Piece,
                "op" => By::Op,
                "resource" => By::Resource,
                _ => return Err(names::unknown("waterfall", by, ["piece", "op", "resource"])),
            };
            Ok(compare(&self.answer, &other.answer, self.question).table(by))
        })?;
        Table::new(py, rows)
    }

    /// Where a deployment's techniques begin and cease to pay against `base`: rows of `name, value, unit, about`.
    #[staticmethod]
    fn break_even(
        py: Python<'_>,
        deployment: &Deployment,
        stem: &Deployment,
        base: &Deployment,
        point: &Point,
        engine: &EngineMemory,
    ) -> PyResult<Table> {
        let techniques = deployment.deployed.techniques.list();
        let made = Made { base: &base.deployed, stem: &stem.deployed, techniques };
        let answers = enter(py, || break_even::answers(&made, &point.asked, &engine.division))?;
        Table::new(py, break_even::table(&answers))
    }

    /// What bounds a deployment's decode steps, for every batch and context.
    #[staticmethod]
    fn bound_map(
        py: Python<'_>,
        deployment: &Deployment,
        engine: &EngineMemory,
        batches: Vec<u64>,
        contexts: Vec<u64>,
    ) -> PyResult<Table> {
        let map = enter(py, || {
            let analyst = Analyst::new(deployment.deployed.clone(), &engine.division)?;
            break_even::bound_map(&analyst, &batches, &contexts)
        })?;
        Table::new(py, map)
    }

    /// Sentences to print with it.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.answer.notes.clone()
    }
}

impl Analysis {
    fn memory_table(&self) -> Rows {
        let memory = &self.answer.outcome.memory;
        let bytes = [
            ("capacity_bytes", memory.capacity),
            ("usable_bytes", memory.usable),
            ("weight_bytes", memory.weights),
            ("kv_bytes", memory.kv),
            ("activation_bytes", memory.activations),
            ("engine_activation_bytes", memory.engine_activations),
            ("runtime_bytes", memory.runtime),
            ("for_kv_bytes", memory.for_kv),
            ("block_bytes", memory.block_bytes),
            ("memory_bytes", memory.ideal_bytes()),
            ("engine_memory_bytes", memory.engine_bytes()),
        ];
        let counts = [
            ("block_size", memory.block_size),
            ("num_gpu_blocks", memory.num_gpu_blocks),
            ("blocks_needed", memory.blocks_needed),
            ("ideal_sequences", memory.ideal_sequences),
            ("engine_sequences", memory.engine_sequences),
        ];
        let mut table = Rows::new();
        bytes.into_iter().for_each(|(name, value)| table.push(name, Column::F64(vec![value])));
        counts.into_iter().for_each(|(name, value)| table.push(name, Column::U64(vec![value])));
        if let Some(beside) = memory.beside {
            table.push("beside", Column::Str(vec![beside.what.to_string()]));
            let bytes = [
                ("beside_capacity_bytes", beside.capacity),
                ("beside_usable_bytes", beside.usable),
                ("beside_weight_bytes", beside.weights),
                ("beside_kv_bytes", beside.kv),
            ];
            bytes.into_iter().for_each(|(name, value)| table.push(name, Column::F64(vec![value])));
        }
        table
            .with("fits_ideally", Column::Bool(vec![memory.fits_ideally()]))
            .with("fits", Column::Bool(vec![memory.fits()]))
    }
}

fn totals_table(scopes: [(&str, &Totals); 2]) -> Rows {
    let number = |of: fn(&Totals) -> f64| Column::F64(scopes.iter().map(|(_, totals)| of(totals)).collect());
    Rows::new()
        .with("scope", Column::Str(scopes.iter().map(|(scope, _)| (*scope).to_string()).collect()))
        .with("flops", number(|totals| totals.flops))
        .with("vector_flops", number(|totals| totals.vector_flops))
        .with("bytes", number(Totals::bytes))
        .with("weight_bytes", number(|totals| totals.weight_bytes))
        .with("activation_bytes", number(|totals| totals.activation_bytes))
        .with("kv_bytes", number(|totals| totals.kv_bytes))
        .with("link_bytes", number(|totals| totals.link_bytes))
        .with("intensity", Column::OptF64(scopes.iter().map(|(_, totals)| totals.intensity()).collect()))
}
