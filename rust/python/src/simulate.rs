//! An engine that serves a trace, and what came of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use roofline_core::cause::Causes;
use roofline_core::error::{Error as CoreError, Result as CoreResult};
use roofline_core::names;
use roofline_core::step::Deployment as Deployed;
use roofline_core::table::{Column, Table as Rows};
use roofline_sim::assemble::Assembled;
use roofline_sim::client::{Client, Extent, SessionMode};
use roofline_sim::engine::Monitor;
use roofline_sim::error::{Error as SimError, Result};
use roofline_sim::images;
use roofline_sim::knobs::Knobs;
use roofline_sim::metrics::band::{self, Band};
use roofline_sim::metrics::explain::{self, Slowness};
use roofline_sim::metrics::slo::Slo;
use roofline_sim::metrics::steps::Record;
use roofline_sim::metrics::summary::Value;
use roofline_sim::metrics::tally::{Asked, Taker};
use roofline_sim::metrics::times;
use roofline_sim::run::{self, Simulation as Served};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::rules::Rules;
use roofline_sim::scheduler::speculation::Speculation;
use roofline_sim::serve::Server;
use roofline_sim::step_cost::{LinearCost, StepCost};
use roofline_sim::stream::cut_notes;
use roofline_sim::techniques;
use roofline_sim::time::{F64Clock, FixedClock};
use roofline_sim::trace::OverContext;

use crate::analysis::EngineMemory;
use crate::columns;
use crate::deployment::Deployment;
use crate::drafts::Accepted;
use crate::enter::{Progress, enter, enter_long};
use crate::files;
use crate::hardware::Hardware;
use crate::measured::{Answer, answer};
use crate::model::Model;
use crate::result_files::{self, Appended};
use crate::row_groups::RowGroups;
use crate::streamed::Streamed;
use crate::table::Table;
use crate::trace::Trace;
use crate::whole::{self, Notes};

/// A serving engine by name, and what is set of it; what is left out keeps its default.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Engine {
    name: String,
    knobs: Knobs,
}

#[pymethods]
impl Engine {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keywords of a constructor, one a field")]
    #[pyo3(signature = (name="vllm".to_string(), *, gpu_memory_utilization=None, num_gpu_blocks_override=None,
        enforce_eager=None, max_model_len=None, max_num_seqs=None, max_num_batched_tokens=None, block_size=None,
        enable_chunked_prefill=None, enable_prefix_caching=None, async_scheduling=None, scheduling_policy=None,
        watermark=None, long_prefill_token_threshold=None, scheduler_reserve_full_isl=None,
        prefill_schedule_interval=None, max_num_active_seqs=None, long_prefill_token_threshold_adaptive=None,
        max_prefill_tokens=None, schedule_conservativeness=None, enable_mixed_chunk=None,
        capacity_scheduler_policy=None, spec_method=None, spec_model=None, num_speculative_tokens=None,
        spec_acceptance=None, seed=0, preemption_mode=None, swap_space=None, swa_full_tokens_ratio=None,
        mamba_full_memory_ratio=None, usage_context=None, performance_mode=None, kv_cache_memory_bytes=None,
        max_num_scheduled_tokens=None, max_num_queued_reqs=None, stream_interval=None),
        text_signature = "(name='vllm', *, gpu_memory_utilization=None, num_gpu_blocks_override=None, \
        enforce_eager=None, max_model_len=None, max_num_seqs=None, max_num_batched_tokens=None, block_size=None, \
        enable_chunked_prefill=None, enable_prefix_caching=None, async_scheduling=None, scheduling_policy=None, \
        watermark=None, long_prefill_token_threshold=None, scheduler_reserve_full_isl=None, \
        prefill_schedule_interval=None, max_num_active_seqs=None, long_prefill_token_threshold_adaptive=None, \
        max_prefill_tokens=None, schedule_conservativeness=None, enable_mixed_chunk=None, \
        capacity_scheduler_policy=None, spec_method=None, spec_model=None, num_speculative_tokens=None, \
        spec_acceptance=None, seed=0, preemption_mode=None, swap_space=None, swa_full_tokens_ratio=None, \
        mamba_full_memory_ratio=None, usage_context=None, performance_mode=None, kv_cache_memory_bytes=None, \
        max_num_scheduled_tokens=None, max_num_queued_reqs=None, stream_interval=None)")]
    fn new(
        py: Python<'_>,
        name: String,
        gpu_memory_utilization: Option<f64>,
        num_gpu_blocks_override: Option<u32>,
        enforce_eager: Option<bool>,
        max_model_len: Option<u32>,
        max_num_seqs: Option<u32>,
        max_num_batched_tokens: Option<u32>,
        block_size: Option<u32>,
        enable_chunked_prefill: Option<bool>,
        enable_prefix_caching: Option<bool>,
        async_scheduling: Option<bool>,
        scheduling_policy: Option<String>,
        watermark: Option<f64>,
        long_prefill_token_threshold: Option<u32>,
        scheduler_reserve_full_isl: Option<bool>,
        prefill_schedule_interval: Option<u32>,
        max_num_active_seqs: Option<u32>,
        long_prefill_token_threshold_adaptive: Option<bool>,
        max_prefill_tokens: Option<u32>,
        schedule_conservativeness: Option<f64>,
        enable_mixed_chunk: Option<bool>,
        capacity_scheduler_policy: Option<String>,
        spec_method: Option<&str>,
        spec_model: Option<&Model>,
        num_speculative_tokens: Option<u32>,
        spec_acceptance: Option<Accepted>,
        seed: u64,
        preemption_mode: Option<String>,
        swap_space: Option<f64>,
        swa_full_tokens_ratio: Option<f64>,
        mamba_full_memory_ratio: Option<f64>,
        usage_context: Option<String>,
        performance_mode: Option<String>,
        kv_cache_memory_bytes: Option<f64>,
        max_num_scheduled_tokens: Option<u32>,
        max_num_queued_reqs: Option<u32>,
        stream_interval: Option<u32>,
    ) -> PyResult<Engine> {
        let speculation = enter(py, || {
            let acceptance = spec_acceptance.map(|accepted| accepted.by(seed)).transpose()?;
            Speculation::of(spec_method, num_speculative_tokens, acceptance)
        })?;
        let knobs = Knobs {
            gpu_memory_utilization,
            num_gpu_blocks_override,
            enforce_eager,
            max_model_len,
            max_num_seqs,
            max_num_batched_tokens,
            block_size,
            enable_chunked_prefill,
            enable_prefix_caching,
            async_scheduling,
            scheduling_policy,
            watermark,
            long_prefill_token_threshold,
            scheduler_reserve_full_isl,
            prefill_schedule_interval,
            max_num_active_seqs,
            long_prefill_token_threshold_adaptive,
            max_prefill_tokens,
            schedule_conservativeness,
            enable_mixed_chunk,
            capacity_scheduler_policy,
            preemption_mode,
            swap_space,
            swa_full_tokens_ratio,
            mamba_full_memory_ratio,
            usage_context,
            performance_mode,
            kv_cache_memory_bytes,
            max_num_scheduled_tokens,
            max_num_queued_reqs,
            stream_interval,
            speculation,
            spec_model: spec_model.map(|drafter| drafter.model.clone()),
            seed,
        };
        Ok(Engine { name, knobs })
    }

    /// How it divides the memory of a device.
    fn memory(&self, py: Python<'_>, hardware: &Hardware) -> PyResult<EngineMemory> {
        let division = enter(py, || self.knobs.memory(&self.knobs.on(&self.name, &hardware.device)?))?;
        Ok(EngineMemory { division })
    }

    /// Checks the text of a keyword of `simulate`.
    #[staticmethod]
    fn check(py: Python<'_>, word: &str, text: &str) -> PyResult<()> {
        enter(py, || match word {
            "slo" => Slo::parse(text).map(drop).map_err(SimError::from),
            "session_mode" => SessionMode::parse(text).map(drop).map_err(SimError::from),
            "over_context" => over_context_named(text).map(drop).map_err(SimError::from),
            "step_cost" => LinearCost::parse(text).map(drop).map_err(SimError::from),
            "warmup" | "measure" => Extent::parse(word, text).map(drop).map_err(SimError::from),
            _ => Ok(()),
        })
    }

    /// Serves the trace; a `step_cost` of `linear:A,B,C` replaces the cost model, and clients wait `api_latency_s` longer
    /// for each answer to begin.
    #[expect(clippy::too_many_arguments, reason = "keywords, one a setting")]
    #[pyo3(signature = (deployment, trace, *, record="summary", step_cost=None, api_latency_s=0.0, progress=None,
        session_mode="closed", concurrency=None, think_time_ms=0.0, max_concurrency=None, warmup=None, measure=None,
        over_context="reject", use_recorded_cache=false, slo=None, requests_file=None))]
    fn simulate(
        &self,
        py: Python<'_>,
        deployment: &Deployment,
        trace: &Trace,
        record: &str,
        step_cost: Option<&str>,
        api_latency_s: f64,
        progress: Option<&Progress>,
        session_mode: &str,
        concurrency: Option<u32>,
        think_time_ms: f64,
        max_concurrency: Option<u32>,
        warmup: Option<&str>,
        measure: Option<&str>,
        over_context: &str,
        use_recorded_cache: bool,
        slo: Option<&str>,
        requests_file: Option<PathBuf>,
    ) -> PyResult<Simulation> {
        let rows = requests_file.map(|path| Arc::new(Appended::to(&path)));
        let served = enter_long(py, progress, |shared| {
            let taken = Taken { over_context: over_context_named(over_context)?, use_recorded_cache };
            let all = trace.drawn.as_ref().map_or(Some(trace.requests.trace.len() as u64), |spec| spec.count);
            shared.total.store(all.unwrap_or(0), Ordering::Relaxed);
            let client = Client {
                sessions: SessionMode::parse(session_mode)?,
                concurrency,
                think_ns: nanos("think_time", think_time_ms)?,
                answer_ns: nanos("api_latency", api_latency_s * 1e3)?,
                max_concurrency,
                warmup: warmup.map(|text| Extent::parse("warmup", text)).transpose()?,
                measure: measure.map(|text| Extent::parse("measure", text)).transpose()?,
            };
            let record = record_named(record)?;
            if let Some(spec) = &trace.drawn {
                let asked = Asked {
                    slo: slo.map(Slo::parse).transpose()?,
                    outside_s: api_latency_s,
                    taker: rows.clone().map(|to| Taker { to, held: client.max_concurrency.is_some() }),
                    ..Asked::default()
                };
                let first = &trace.requests.trace;
                let drawn =
                    Streamed { spec, first, over_context: taken.over_context, asked: &asked, step_cost };
                let mut server = Server::new(deployment.deployed.clone(), &self.name, &self.knobs, first)?;
                let model = &deployment.deployed.model;
                server.notes.extend(images::notes(first, model, step_cost.is_none()));
                let served = drawn.serve(&mut server, &client, record, &shared.monitor)?;
                return Ok(Simulation::of(served, server));
            }
            if rows.is_some() {
                let hint = "requests in memory are written when all were served";
                let must = "must be left out where requests are not drawn as they are served";
                return Err(CoreError::spec("requests_file", must, "a file", hint).into());
            }
            let served =
                self.serve(&deployment.deployed, trace, &taken, &client, record, step_cost, &shared.monitor)?;
            Ok::<_, SimError>(served.behind(api_latency_s))
        });
        // What the system says of the file is why serving ended, if it did.
        rows.map_or(Ok(()), |rows| enter(py, || rows.finish()))?;
        served
    }

    /// Finds what the host, clients and each family of operators take so that requests are served as they were observed:
    /// numbers, errors, files by device, and rows that cannot be used.
    #[expect(clippy::too_many_arguments, reason = "keywords, one a setting")]
    #[pyo3(signature = (deployment, trace, tpot_s, ttft_s, *, source, date, remark=String::new(), present=None,
        api_latency_s=0.0, load=(32, 1024), concurrency=None, max_concurrency=None),
        text_signature = "($self, deployment, trace, tpot_s, ttft_s, *, source, date, remark='', present=None, \
        api_latency_s=0.0, load=(32, 1024), concurrency=None, max_concurrency=None)")]
    fn calibrate(
        &self,
        py: Python<'_>,
        deployment: &Deployment,
        trace: &Trace,
        tpot_s: &Bound<'_, PyAny>,
        ttft_s: &Bound<'_, PyAny>,
        source: String,
        date: String,
        remark: String,
        present: Option<String>,
        api_latency_s: f64,
        load: (u64, u64),
        concurrency: Option<u32>,
        max_concurrency: Option<u32>,
    ) -> PyResult<Answer> {
        let observed = [columns::floats(tpot_s, "tpot_s")?, columns::floats(ttft_s, "ttft_s")?];
        let notes = Notes { source, date, remark };
        let client = Client { concurrency, max_concurrency, ..Client::default() };
        let taken = Taken { over_context: OverContext::Reject, use_recorded_cache: false };
        let outcome = enter_long(py, None, |shared| {
            whole::of_requests(
                &deployment.deployed,
                observed,
                load,
                api_latency_s,
                &notes,
                present.as_deref(),
                |deployed, api_s| {
                    let record = Record::Summary;
                    let served =
                        self.serve(&deployed, trace, &taken, &client, record, None, &shared.monitor)?;
                    let table = served.behind(api_s).served.requests.to_table();
                    Ok::<_, SimError>(["tpot_s", "ttft_s"].map(|name| seconds_of(&table, name)))
                },
            )
        })?;
        answer(py, outcome)
    }
}

/// Seconds a column of requests holds, NaN where there are none.
fn seconds_of(table: &Rows, name: &str) -> Vec<f64> {
    match table.column(name) {
        Some(Column::F64(rows) | Column::NanF64(rows)) => rows.clone(),
        _ => Vec::new(),
    }
}

impl Engine {
    fn serve(
        &self,
        deployment: &Deployed,
        trace: &Trace,
        taken: &Taken,
        client: &Client,
        record: Record,
        step_cost: Option<&str>,
        monitor: &Monitor,
    ) -> Result<Simulation> {
        let mut server = Server::new(deployment.clone(), &self.name, &self.knobs, &trace.requests.trace)?;
        let cost = step_cost.map(LinearCost::parse).transpose()?;
        server.notes.extend(images::notes(&trace.requests.trace, &deployment.model, cost.is_none()));
        // Decisions at a linear cost are compared with recorded schedules, which add seconds as floats do.
        let recorded = cost.is_some() && record == Record::Decisions;
        let cut = taken.within_context(trace, &mut server)?;
        let requests = cut.as_ref().unwrap_or(&trace.requests);
        let prefixed = techniques::prefixed(server.held, &server.engine, requests)?;
        let (requests, engine) = (prefixed.as_ref().unwrap_or(requests), &server.engine);
        let workload = requests.workload(recorded)?.with_recorded_cache(taken.use_recorded_cache);
        let served = match cost {
            Some(cost) if recorded => {
                run::simulate::<F64Clock, _>(workload, client, engine, &cost, record, monitor)?
            }
            Some(cost) => run::simulate::<FixedClock, _>(workload, client, engine, &cost, record, monitor)?,
            None => run::simulate::<FixedClock, _>(workload, client, engine, &server.cost, record, monitor)?,
        };
        server.notes.extend(client.notes(&trace.requests.trace, engine.data_parallel));
        server.notes.extend(served.notes());
        Ok(Simulation::of(served, server))
    }
}

impl Simulation {
    fn of(served: Served, server: Server) -> Simulation {
        let Server { engine, cost, notes, .. } = server;
        let (spent, operators, band) = (cost.spent(), cost.operators(), cost.band());
        Simulation { served, spent, operators, band, engine, notes }
    }

    fn behind(self, seconds: f64) -> Simulation {
        Simulation { served: self.served.behind(seconds), ..self }
    }
}

/// How the requests of a trace are taken.
struct Taken {
    /// What becomes of those that are too long.
    over_context: OverContext,
    /// Whether what a cache held when they were recorded counts as cached.
    use_recorded_cache: bool,
}

impl Taken {
    /// The requests cut to the engine's context, where they are; and says how many were.
    fn within_context(&self, trace: &Trace, server: &mut Server) -> Result<Option<Assembled>> {
        let longest = server.engine.max_model_len.unwrap_or(u32::MAX);
        let cut = trace.requests.trace.within_context(longest, self.over_context)?;
        let answers = cut.as_ref().map_or(&trace.requests.trace, |(cut, _)| cut).answers_cut(longest);
        let prompts = cut.as_ref().map_or(0, |(_, count)| *count);
        server.notes.extend(cut_notes(longest, prompts as u64, answers as u64));
        let Some((cut, _)) = cut else { return Ok(None) };
        if trace.requests.segments.is_some() {
            let hint = "prompts told by segments cannot be cut";
            return Err(CoreError::spec("over_context", "must be reject or fail", "truncate", hint).into());
        }
        Ok(Some(cut.into()))
    }
}

fn over_context_named(name: &str) -> CoreResult<OverContext> {
    match name {
        "reject" => Ok(OverContext::Reject),
        "truncate" => Ok(OverContext::Truncate),
        "fail" => Ok(OverContext::Fail),
        _ => Err(names::unknown("over_context", name, ["reject", "truncate", "fail"])),
    }
}

/// What came of serving a trace.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Simulation {
    served: Served,
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
    /// Refuses to show requests that were forgotten as they were served.
    fn needs_requests(&self) -> CoreResult<()> {
        if self.served.tally.is_none() {
            return Ok(());
        }
        let hint = "simulate fewer requests (num_prompts), which memory holds";
        Err(CoreError::spec("requests", "must be kept to be shown", "drawn as they were served", hint))
    }
}

fn record_named(name: &str) -> CoreResult<Record> {
    match name {
        "summary" => Ok(Record::Summary),
        "stretches" => Ok(Record::Stretches),
        "steps" => Ok(Record::Steps),
        "decisions" => Ok(Record::Decisions),
        _ => Err(names::unknown("record", name, ["summary", "stretches", "steps", "decisions"])),
    }
}

fn nanos(field: &str, milliseconds: f64) -> CoreResult<u64> {
    let nanos = (milliseconds * 1e6).round();
    if (0.0..=i64::MAX as f64).contains(&nanos) {
        return Ok(nanos as u64);
    }
    let must = "must be milliseconds, none negative";
    Err(CoreError::spec(field, must, milliseconds, "for example 2000 for two seconds"))
}

fn in_range(percent: f64) -> CoreResult<()> {
    if (0.0..=100.0).contains(&percent) {
        return Ok(());
    }
    Err(CoreError::spec("percentiles", "must be between 0 and 100", percent, ""))
}
