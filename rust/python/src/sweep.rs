//! Every combination of some axes, a range of points at a time.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use roofline_core::error::{Error as CoreError, Result as CoreResult};
use roofline_plan::error::Error as PlanError;
use roofline_plan::results::{Measure, Wanted};
use roofline_plan::sweep::{self as plan, Ask, Axis, Keep, Limit, Limits, Objective, Setting, Values};

use crate::analysis::EngineMemory;
use crate::columns;
use crate::deployment::{predicted, sets_of};
use crate::enter::{Progress, enter, enter_long};
use crate::errors;
use crate::hardware::Hardware;
use crate::model::Model;
use crate::table::Table;

/// The space of some axes: its points are numbers, in an order that depends on nothing but the axes' names.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Space {
    space: plan::Space,
}

/// Why points were left out: the reason, how many, and what was wrong with the first.
type Dropped = Vec<(String, u64, String)>;

#[pymethods]
impl Space {
    /// `axes` holds the values of each axis by name; `models` and `devices` are what the axes of these names list, and
    /// `engines` holds for each device every combination of the engine's settings.
    #[new]
    #[pyo3(signature = (axes, *, models, devices, engines, efficiency=None, act_quant=None, launch=None, p2p=None,
        host=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of a constructor, one a field")]
    fn new(
        py: Python<'_>,
        axes: &Bound<'_, PyDict>,
        models: Vec<PyRef<'_, Model>>,
        devices: Vec<PyRef<'_, Hardware>>,
        engines: Vec<PyRef<'_, EngineMemory>>,
        efficiency: Option<PathBuf>,
        act_quant: Option<&str>,
        launch: Option<&str>,
        p2p: Option<bool>,
        host: Option<(f64, f64, Option<f64>)>,
    ) -> PyResult<Space> {
        let sets = efficiency.map(|path| sets_of(py, &path)).transpose()?.unwrap_or_default();
        let mut read = Vec::new();
        for (name, values) in axes {
            read.push(axis(&name.extract::<String>()?, &values)?);
        }
        let models = models.iter().map(|model| model.model.clone()).collect();
        let devices = devices.iter().map(|hardware| hardware.device.clone()).collect();
        let engines = engines.iter().map(|engine| engine.division).collect();
        let names = read.iter().find(|axis| axis.setting == Setting::Engine).map(|axis| axis.values.clone());
        let names = names.unwrap_or_else(|| Setting::Engine.default());
        let space = enter(py, || {
            let of = |place: usize| predicted(names.name(place), sets.clone(), act_quant, launch, p2p, host);
            let predicted = (0..names.len()).map(of).collect::<CoreResult<_>>()?;
            plan::Space::new(models, devices, engines, predicted, read)
        })?;
        Ok(Space { space })
    }

    /// Every axis that there is, in the order of points.
    #[staticmethod]
    fn settings() -> Vec<&'static str> {
        Setting::ALL.map(Setting::name).to_vec()
    }

    /// Refuses a name that an axis cannot have, whatever the others are.
    #[staticmethod]
    fn check(py: Python<'_>, axis: &str, name: &str) -> PyResult<()> {
        enter(py, || plan::check_name(Setting::parse(axis)?, name))
    }

    /// Every result that there is, in the order of columns.
    #[staticmethod]
    fn results() -> Vec<&'static str> {
        Measure::ALL.map(Measure::name).to_vec()
    }

    /// How many points there are.
    #[getter]
    fn points(&self) -> u64 {
        self.space.points()
    }

    /// Its axes as given, in the order of points.
    #[getter]
    fn columns(&self) -> Vec<&'static str> {
        self.space.columns()
    }

    /// The values of an axis, as a column of their own.
    fn values(&self, py: Python<'_>, axis: &str) -> PyResult<Table> {
        let table = enter(py, || self.space.values(Setting::parse(axis)?))?;
        Table::new(py, table)
    }

    /// The rows that `keep` keeps of those with these objectives: to put together what ranges of points kept.
    #[staticmethod]
    fn pick(
        py: Python<'_>,
        columns: &Bound<'_, PyDict>,
        keep: &str,
        objectives: Vec<String>,
        top: usize,
    ) -> PyResult<Vec<usize>> {
        let mut lanes = Vec::new();
        for objective in &objectives {
            let (name, more) = enter(py, || plan::keep::direction(objective))?;
            let column = columns.get_item(name)?.ok_or_else(|| {
                errors::spec(py, "objectives", "must be columns", name, "name one of the rows' figures")
            })?;
            let lane = columns::floats(&column, name)?;
            lanes.push(lane.into_iter().map(|value| plan::keep::oriented(value, more)).collect::<Vec<f64>>());
        }
        let Some(first) = lanes.first() else {
            return Err(errors::spec(py, "objectives", "must name at least one", "none", ""));
        };
        let rows = first.len();
        enter(py, || match keep {
            "pareto" => Ok(plan::keep::front(&lanes, rows)),
            "topk" => Ok(plan::keep::top(first, top)),
            _ => Err(roofline_core::names::unknown("keep", keep, ["pareto", "topk"])),
        })
    }

    /// The same axes with only some values of one, by place.
    fn narrowed(&self, py: Python<'_>, axis: &str, places: Vec<usize>) -> PyResult<Space> {
        let space = enter(py, || self.space.narrowed(Setting::parse(axis)?, &places))?;
        Ok(Space { space })
    }

    /// The first point from `start` on whose deployment is possible; the number of points if there is none.
    #[pyo3(signature = (start, *, limits=None))]
    fn next_possible(&self, py: Python<'_>, start: u64, limits: Option<&Bound<'_, PyDict>>) -> PyResult<u64> {
        let ask = Ask { wanted: Wanted::default(), keep: Keep::Feasible, limits: limits_of(limits)? };
        enter(py, || Ok::<u64, CoreError>(plan::next_possible(&self.space, start, &ask)))
    }

    /// Prices points `start` to `stop`: the axes and results named of those that are kept, and why others were not.
    #[pyo3(signature = (start, stop, *, axes=None, results, keep="feasible", objectives=Vec::new(), top=10, limits=None,
        threads=None, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords, one a thing asked")]
    fn read(
        &self,
        py: Python<'_>,
        start: u64,
        stop: u64,
        axes: Option<Vec<String>>,
        results: Vec<String>,
        keep: &str,
        objectives: Vec<String>,
        top: usize,
        limits: Option<&Bound<'_, PyDict>>,
        threads: Option<usize>,
        progress: Option<&Progress>,
    ) -> PyResult<(Table, Dropped)> {
        let limits = limits_of(limits)?;
        let (table, dropped) = enter_long(py, progress, |shared| {
            let wanted = if results.is_empty() { Wanted::default() } else { Wanted::named(&results)? };
            let ask = Ask { wanted, keep: keep_of(keep, &objectives, top)?, limits };
            within(threads, || {
                let swept = plan::read(&self.space, start, stop, &ask, &shared.monitor)?;
                let dropped = swept.dropped.clone();
                Ok::<_, PlanError>((Table::of(swept.tables(&self.space, axes.as_deref(), &ask)?), dropped))
            })?
        })?;
        let reasons =
            dropped.iter().map(|(reason, points, example)| (reason.to_string(), points, example.to_string()));
        Ok((Table::checked(py, table)?, reasons.collect()))
    }

    fn __repr__(&self) -> String {
        format!("Space({} points: {})", self.space.points(), self.columns().join(", "))
    }
}

/// The values of an axis, of the kind its setting has.
fn axis(name: &str, values: &Bound<'_, PyAny>) -> PyResult<Axis> {
    let py = values.py();
    let setting = enter(py, || Setting::parse(name))?;
    let wrong = |kind: &Values| {
        let must = format!("must be {}", kind.kind());
        errors::spec(
            py,
            name,
            &must,
            values.repr().map_or_else(|_| "others".into(), |text| text.to_string()),
            "",
        )
    };
    let kind = setting.default();
    let values = match kind {
        Values::Counts(_) => match values.extract::<Vec<u64>>() {
            Ok(counts) => Values::Counts(counts),
            Err(_) if values.hasattr("dtype")? => Values::Counts(columns::counts(values, name)?),
            Err(_) => return Err(wrong(&kind)),
        },
        Values::Numbers(_) => Values::Numbers(values.extract().map_err(|_| wrong(&kind))?),
        Values::Names(_) => Values::Names(values.extract().map_err(|_| wrong(&kind))?),
        Values::Flags(_) => Values::Flags(values.extract().map_err(|_| wrong(&kind))?),
    };
    Ok(Axis { setting, values })
}

/// Limits by name: `min_gpus`, `max_gpus`, `within_context`, and `min_` or `max_` before the name of a result.
fn limits_of(limits: Option<&Bound<'_, PyDict>>) -> PyResult<Limits> {
    let mut found = Limits::default();
    let Some(limits) = limits else { return Ok(found) };
    for (name, value) in limits {
        let name: String = name.extract()?;
        match name.as_str() {
            "min_gpus" => found.min_gpus = Some(value.extract()?),
            "max_gpus" => found.max_gpus = Some(value.extract()?),
            "within_context" => found.within_context = value.extract()?,
            _ => {
                let (most, measure) = enter(limits.py(), || limit(&name))?;
                found.measures.push(Limit { measure, most, value: value.extract()? });
            }
        }
    }
    Ok(found)
}

fn limit(name: &str) -> roofline_plan::error::Result<(bool, Measure)> {
    for (prefix, most) in [("max_", true), ("min_", false)] {
        // `max_concurrency` is itself a result.
        if let Some(measure) = name.strip_prefix(prefix).filter(|_| name != Measure::MaxConcurrency.name()) {
            return Ok((most, Measure::parse(measure)?));
        }
    }
    let known = ["min_gpus", "max_gpus", "within_context", "max_ttft_s", "max_tpot_s", "max_e2e_s"];
    Err(roofline_core::names::unknown("limit", name, known).into())
}

fn keep_of(keep: &str, objectives: &[String], top: usize) -> roofline_plan::error::Result<Keep> {
    let objectives = objectives.iter().map(|text| Objective::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let given = |least: usize| -> CoreResult<()> {
        if objectives.len() >= least {
            return Ok(());
        }
        let hint = "for example tokens_per_gpu_s,tokens_per_user_s";
        let must = format!("must name at least {least} for keep = {keep}");
        Err(CoreError::spec("objectives", must, objectives.len(), hint))
    };
    match keep {
        "all" => Ok(Keep::All),
        "feasible" => Ok(Keep::Feasible),
        "pareto" => given(1).map(|()| Keep::Pareto(objectives.clone())).map_err(Into::into),
        "topk" => {
            given(1)?;
            Ok(Keep::TopK(objectives[0], top))
        }
        _ => Err(roofline_core::names::unknown("keep", keep, ["all", "feasible", "pareto", "topk"]).into()),
    }
}

/// Runs `work` on so many threads, which are kept for the next call; on all of the machine unless said, and never on more
/// than this process has cores.
fn within<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> CoreResult<T> {
    static POOLS: Mutex<BTreeMap<usize, Arc<rayon::ThreadPool>>> = Mutex::new(BTreeMap::new());
    let Some(threads) = threads else { return Ok(work()) };
    let threads = threads.min(std::thread::available_parallelism().map_or(threads, NonZero::get));
    let known = || POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known().get(&threads).cloned();
    let pool = match found {
        Some(pool) => pool,
        None => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let refused =
                |why: rayon::ThreadPoolBuildError| CoreError::spec("threads", "must be startable", why, "");
            let pool = Arc::new(pool.map_err(refused)?);
            known().insert(threads, Arc::clone(&pool));
            pool
        }
    };
    Ok(pool.install(work))
}
