//! A serving engine by name, what is set of it, and the traces it serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
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
use roofline_sim::metrics::slo::Slo;
use roofline_sim::metrics::steps::Record;
use roofline_sim::metrics::tally::{Asked, Taker};
use roofline_sim::run;
use roofline_sim::scheduler::speculation::Speculation;
use roofline_sim::serve::Server;
use roofline_sim::step_cost::LinearCost;
use roofline_sim::stream::cut_notes;
use roofline_sim::techniques;
use roofline_sim::time::{F64Clock, FixedClock};
use roofline_sim::trace::OverContext;

use crate::analysis::EngineMemory;
use crate::columns;
use crate::deployment::Deployment;
use crate::drafts::Accepted;
use crate::enter::{Progress, enter, enter_long};
use crate::hardware::Hardware;
use crate::measured::{Answer, answer};
use crate::model::Model;
use crate::result_files::Appended;
use crate::simulation::Simulation;
use crate::streamed::Streamed;
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
    #[pyo3(signature = (name="vllm".to_string(), *, spec_method=None, spec_model=None, num_speculative_tokens=None,
        spec_acceptance=None, seed=0, **settings), text_signature = "(name='vllm', *, spec_method=None, \
        spec_model=None, num_speculative_tokens=None, spec_acceptance=None, seed=0, **settings)")]
    fn new(
        py: Python<'_>,
        name: String,
        spec_method: Option<&str>,
        spec_model: Option<&Model>,
        num_speculative_tokens: Option<u32>,
        spec_acceptance: Option<Accepted>,
        seed: u64,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Engine> {
        let speculation = enter(py, || {
            let acceptance = spec_acceptance.map(|accepted| accepted.by(seed)).transpose()?;
            Speculation::of(spec_method, num_speculative_tokens, acceptance)
        })?;
        let spec_model = spec_model.map(|drafter| drafter.model.clone());
        let knobs = Knobs { speculation, spec_model, seed, ..knobs_of(settings)? };
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

/// Settings by their names, read as keywords of a function are.
fn knobs_of(settings: Option<&Bound<'_, PyDict>>) -> PyResult<Knobs> {
    macro_rules! read {
        ($($name:ident),* $(,)?) => {{
            refuse_others(settings, &[$(stringify!($name)),*])?;
            Knobs { $($name: setting(settings, stringify!($name))?,)* ..Knobs::default() }
        }};
    }
    Ok(read!(
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
        stream_interval
    ))
}

/// The value of a setting, if it is given and not `None`.
fn setting<'py, T: FromPyObjectOwned<'py>>(
    settings: Option<&Bound<'py, PyDict>>,
    name: &str,
) -> PyResult<Option<T>> {
    let Some(value) = settings.map(|settings| settings.get_item(name)).transpose()?.flatten() else {
        return Ok(None);
    };
    let error: PyErr = match value.extract::<Option<T>>() {
        Ok(value) => return Ok(value),
        Err(error) => error.into(),
    };
    error.value(value.py()).call_method1("add_note", (format!("while processing '{name}'"),))?;
    Err(error)
}

/// Refuses a name that no engine has, as a function refuses a keyword.
fn refuse_others(settings: Option<&Bound<'_, PyDict>>, known: &[&str]) -> PyResult<()> {
    for name in settings.iter().flat_map(|settings| settings.keys()) {
        let name: String = name.extract()?;
        if !known.contains(&name.as_str()) {
            let said = format!("Engine.__new__() got an unexpected keyword argument '{name}'");
            return Err(PyTypeError::new_err(said));
        }
    }
    Ok(())
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
