//! Measurements on their way in: fitted into efficiencies, or held against what is predicted for them.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use roofline_core::efficiency::Prediction;
use roofline_core::table::{Column, Table as Rows};
use roofline_plan::calibrate::check::Flaw;
use roofline_plan::calibrate::errors::Errors;
use roofline_plan::calibrate::frame::Frame;
use roofline_plan::calibrate::read::{self, Defaults};
use roofline_plan::calibrate::run::{self, Fate, Options};
use roofline_plan::calibrate::steps::{self, Settings};
use roofline_plan::error::Result as PlanResult;
use roofline_plan::validate::kernels::kernels;
use roofline_plan::validate::pairs::{Pairs, line, pairs};
use roofline_plan::validate::points::points;
use roofline_plan::validate::report::{Line, Report};

use crate::columns;
use crate::deployment::sets_of;
use crate::enter::{enter, enter_long};
use crate::hardware::Hardware;
use crate::table::Table;
use crate::whole::{self, Outcome};

/// Kernel timings of a frame, read once.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Measurements {
    found: read::Measurements,
}

#[pymethods]
impl Measurements {
    /// `columns` holds numbers (NaN for what is missing) and texts by name; `hw` and `engine` hold where no column says.
    #[new]
    #[pyo3(signature = (rows, columns, *, hw=None, engine=String::new()))]
    fn new(
        py: Python<'_>,
        rows: usize,
        columns: &Bound<'_, PyDict>,
        hw: Option<PyRef<'_, Hardware>>,
        engine: String,
    ) -> PyResult<Measurements> {
        let frame = frame_of(py, rows, columns)?;
        let device = hw.map(|hardware| hardware.device.clone());
        let found = enter(py, || read::read(&frame, &Defaults { device, engine }))?;
        Ok(Measurements { found })
    }

    /// Rows that cannot be used: what they measure, why, how many, the first of them and what stands there.
    #[getter]
    fn refused(&self, py: Python<'_>) -> PyResult<Table> {
        let found = &self.found;
        let text =
            |of: &dyn Fn(&(String, String)) -> String| Column::Str(found.refused.keys().map(of).collect());
        let rows = Rows::new()
            .with("op", text(&|(op, _)| op.clone()))
            .with("reason", text(&|(_, why)| why.clone()))
            .with("rows", Column::U64(found.refused.values().copied().collect()))
            .with("row", Column::U64(found.examples.values().map(|(row, _)| *row as u64).collect()))
            .with("was", Column::Str(found.examples.values().map(|(_, was)| was.clone()).collect()));
        Table::new(py, rows)
    }

    /// Seconds that clients wait outside the engine, as an efficiency file measured it; the first that did of several.
    #[staticmethod]
    fn api_latency_s(py: Python<'_>, efficiency: PathBuf) -> PyResult<Option<f64>> {
        Ok(sets_of(py, &efficiency)?.iter().find_map(|set| set.api_latency_s))
    }

    /// What whole steps of a frame are predicted to take, in seconds, and why not where they cannot be used.
    #[staticmethod]
    #[pyo3(signature = (rows, columns, *, hw=None, engine=String::new(), model=String::new(), efficiency=None),
        text_signature = "(rows, columns, *, hw=None, engine='', model='', efficiency=None)")]
    fn price_steps(
        py: Python<'_>,
        rows: usize,
        columns: &Bound<'_, PyDict>,
        hw: Option<PyRef<'_, Hardware>>,
        engine: String,
        model: String,
        efficiency: Option<PathBuf>,
    ) -> PyResult<Table> {
        let frame = frame_of(py, rows, columns)?;
        let sets = efficiency.map(|path| sets_of(py, &path)).transpose()?.unwrap_or_default();
        let defaults = Defaults { device: hw.map(|hardware| hardware.device.clone()), engine };
        let prediction = Prediction { sets, ..Prediction::default() };
        let settings = Settings { defaults, model, prediction, ..Settings::default() };
        let work = |_: &_| -> PlanResult<_> { Ok(steps::price(&frame, &settings)?) };
        Table::new(py, whole::priced_table(&enter_long(py, None, work)?))
    }

    /// Fits whole steps of a frame: numbers, errors, files by device, and rows that cannot be used.
    #[staticmethod]
    #[pyo3(signature = (rows, columns, *, source, date, remark=String::new(), hw=None, engine=String::new(),
        model=String::new(), efficiency=None, present=Vec::new()), text_signature = "(rows, columns, *, source, date, \
        remark='', hw=None, engine='', model='', efficiency=None, present=...)")]
    #[expect(clippy::too_many_arguments, reason = "keywords, one a setting")]
    fn steps(
        py: Python<'_>,
        rows: usize,
        columns: &Bound<'_, PyDict>,
        source: String,
        date: String,
        remark: String,
        hw: Option<PyRef<'_, Hardware>>,
        engine: String,
        model: String,
        efficiency: Option<PathBuf>,
        present: Vec<(String, String)>,
    ) -> PyResult<Answer> {
        let frame = frame_of(py, rows, columns)?;
        let sets = efficiency.map(|path| sets_of(py, &path)).transpose()?.unwrap_or_default();
        let defaults = Defaults { device: hw.map(|hardware| hardware.device.clone()), engine };
        let prediction = Prediction { sets, ..Prediction::default() };
        let settings = Settings { defaults, model, prediction, source, date, remark };
        let work = |_: &_| -> PlanResult<_> { Ok(steps::calibrate(&frame, &settings, &present)?) };
        let (fates, refused) = enter_long(py, None, work)?;
        answer(py, whole::of_steps(&fates, &refused))
    }

    /// Fits every group: a table of fits and refusals, and the files by device, changed from `present` where given.
    #[pyo3(signature = (*, source, date, remark=String::new(), prior=true, extrapolate=false, present=Vec::new()))]
    #[allow(clippy::too_many_arguments)]
    fn calibrate(
        &self,
        py: Python<'_>,
        source: String,
        date: String,
        remark: String,
        prior: bool,
        extrapolate: bool,
        present: Vec<(String, String)>,
    ) -> PyResult<(Table, Vec<(String, String)>)> {
        let options = Options { source, date, prior, extrapolate, remark };
        let work = |_: &_| -> PlanResult<_> {
            let fates = run::calibrate(&self.found, &options);
            let files = run::files(&self.found, &fates, &present);
            Ok((fates_table(&self.found, &fates), files))
        };
        let (table, files) = enter_long(py, None, work)?;
        Ok((Table::new(py, table)?, files))
    }

    /// Errors of what is predicted for these and those `beside` them, with the fits of `efficiency` before the shipped ones:
    /// a table of errors, and one of what was refused.
    #[pyo3(signature = (efficiency=None, beside=Vec::new()))]
    fn validate(
        &self,
        py: Python<'_>,
        efficiency: Option<PathBuf>,
        beside: Vec<PyRef<'_, Measurements>>,
    ) -> PyResult<(Table, Table)> {
        let sets = efficiency.map(|path| sets_of(py, &path)).transpose()?.unwrap_or_default();
        let frames: Vec<&read::Measurements> =
            std::iter::once(&self.found).chain(beside.iter().map(|other| &other.found)).collect();
        let work = |_: &_| -> PlanResult<_> { Ok(kernels(&frames, &sets)) };
        tables(py, &enter_long(py, None, work)?)
    }

    /// Errors of what is predicted for points of real servers; `hw` and `engine` hold where no column says.
    #[staticmethod]
    #[pyo3(signature = (rows, columns, *, hw=None, engine=String::new(), efficiency=None),
        text_signature = "(rows, columns, *, hw=None, engine='', efficiency=None)")]
    fn points(
        py: Python<'_>,
        rows: usize,
        columns: &Bound<'_, PyDict>,
        hw: Option<PyRef<'_, Hardware>>,
        engine: String,
        efficiency: Option<PathBuf>,
    ) -> PyResult<(Table, Table)> {
        let frame = frame_of(py, rows, columns)?;
        let sets = efficiency.map(|path| sets_of(py, &path)).transpose()?.unwrap_or_default();
        let defaults = Defaults { device: hw.map(|hardware| hardware.device.clone()), engine };
        let work = |_: &_| -> PlanResult<_> { Ok(points(&frame, &defaults, &sets)?) };
        tables(py, &enter_long(py, None, work)?)
    }

    /// What a line over sequences says of each row, from the other half of the rows of its group, with its 80 % band.
    #[staticmethod]
    fn line<'py>(
        py: Python<'py>,
        sequences: &Bound<'py, PyAny>,
        measured: &Bound<'py, PyAny>,
        groups: Vec<String>,
    ) -> PyResult<(Vec<f64>, Vec<f64>, Vec<f64>)> {
        let (sequences, measured) =
            (columns::floats(sequences, "sequences")?, columns::floats(measured, "measured")?);
        let [told, low, high] = enter(py, || line(&sequences, &measured, &groups))?;
        Ok((told, low, high))
    }

    /// Errors of predictions beside measurements, all columns of one length; `groups` holds names with a text a row.
    #[staticmethod]
    #[pyo3(signature = (metric, predicted, measured, *, band=None, ideal=None, groups=Vec::new()))]
    fn compare(
        py: Python<'_>,
        metric: String,
        predicted: &Bound<'_, PyAny>,
        measured: &Bound<'_, PyAny>,
        band: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        ideal: Option<Bound<'_, PyAny>>,
        groups: Vec<(String, Vec<String>)>,
    ) -> PyResult<(Table, Table)> {
        let floats = |value: &Bound<'_, PyAny>, name: &str| columns::floats(value, name);
        let band = band.map(|(low, high)| Ok::<_, PyErr>((floats(&low, "low")?, floats(&high, "high")?)));
        let held = Pairs {
            metric,
            predicted: floats(predicted, "predicted")?,
            measured: floats(measured, "measured")?,
            band: band.transpose()?,
            ideal: ideal.map(|ideal| floats(&ideal, "ideal")).transpose()?,
            groups,
        };
        tables(py, &enter(py, || pairs(&held))?)
    }
}

/// Numbers, errors, files by device, and rows that cannot be used.
pub type Answer = (Table, Table, Vec<(String, String)>, Table);

/// The tables of an outcome.
pub fn answer(py: Python<'_>, outcome: Outcome) -> PyResult<Answer> {
    let Outcome { numbers, errors, files, refused } = outcome;
    Ok((Table::new(py, numbers)?, Table::new(py, errors)?, files, Table::new(py, refused)?))
}

/// A frame of the columns of a dictionary.
fn frame_of(py: Python<'_>, rows: usize, columns: &Bound<'_, PyDict>) -> PyResult<Frame> {
    let mut frame = Frame::new(rows);
    for (name, column) in columns {
        let name: String = name.extract()?;
        let pushed = match columns::floats(&column, &name) {
            Ok(numbers) => frame.push_numbers(&name, numbers),
            Err(_) => frame.push_words(&name, columns::words(&column, &name)?),
        };
        enter(py, || pushed)?;
    }
    Ok(frame)
}

/// A report's two tables.
fn tables(py: Python<'_>, report: &Report) -> PyResult<(Table, Table)> {
    Ok((Table::new(py, lines_table(&report.lines))?, Table::new(py, refused_table(report))?))
}

fn fates_table(found: &read::Measurements, fates: &[Fate]) -> Rows {
    let text = |of: &dyn Fn(&Fate) -> String| Column::Str(fates.iter().map(of).collect());
    let errors = |of: &dyn Fn(&Errors) -> f64, ideal: bool| {
        let one = |fate: &Fate| {
            let fitting = fate.outcome.as_ref().ok().map(|(entry, _)| &entry.fitting)?;
            known(of(if ideal { &fitting.ideal } else { &fitting.errors }))
        };
        Column::OptF64(fates.iter().map(one).collect())
    };
    let odd = |of: &dyn Fn(&Errors) -> f64| {
        let one = |fate: &Fate| {
            let fitting = fate.outcome.as_ref().ok().map(|(entry, _)| &entry.fitting)?;
            fitting.odd_errors.as_ref().and_then(|errors| known(of(errors)))
        };
        Column::OptF64(fates.iter().map(one).collect())
    };
    let dropped = |flaws: &[Flaw]| {
        let count = |fate: &Fate| {
            let dropped = fate.group.dropped.iter().filter(|(flaw, _)| flaws.contains(flaw));
            dropped.map(|(_, count)| count).sum()
        };
        Column::U64(fates.iter().map(count).collect())
    };
    Rows::new()
        .with("hw", text(&|fate| found.devices.get(fate.group.device).hardware.name.clone()))
        .with("engine", text(&|fate| found.engines[fate.group.engine].clone()))
        .with("family", text(&|fate| fate.group.family.to_string()))
        .with("dtype", text(&|fate| fate.group.dtype.to_string()))
        .with("rows", Column::U64(fates.iter().map(|fate| fate.rows).collect()))
        .with("hot", Column::U64(fates.iter().map(|fate| fate.hot).collect()))
        .with("beats_roofline", dropped(&[Flaw::BeatsRoofline, Flaw::AmongFaster]))
        .with("unit_slip", dropped(&[Flaw::UnitSlip]))
        .with("launch_floor", dropped(&[Flaw::LaunchFloor]))
        .with("median_ape", errors(&|errors| errors.median_ape, false))
        .with("mape", errors(&|errors| errors.mape, false))
        .with("p90_ape", errors(&|errors| errors.p90_ape, false))
        .with("bias", errors(&|errors| errors.bias, false))
        .with("ideal_median_ape", errors(&|errors| errors.median_ape, true))
        .with("odd_median_ape", odd(&|errors| errors.median_ape))
        .with("odd_p90_ape", odd(&|errors| errors.p90_ape))
        .with("odd", odd(&|errors| errors.n as f64))
        .with(
            "drawn_to",
            Column::OptStr(
                fates.iter().map(|fate| fate.outcome.as_ref().ok().map(|(_, to)| to.clone())).collect(),
            ),
        )
        .with(
            "refused",
            Column::OptStr(fates.iter().map(|fate| fate.outcome.as_ref().err().cloned()).collect()),
        )
}

fn lines_table(lines: &[Line]) -> Rows {
    let errors = |of: &dyn Fn(&Errors) -> f64, ideal: bool| {
        let one = |line: &Line| {
            let errors = if ideal { &line.ideal } else { &line.errors };
            errors.as_ref().and_then(|errors| known(of(errors)))
        };
        Column::OptF64(lines.iter().map(one).collect())
    };
    Rows::new()
        .with("metric", Column::Str(lines.iter().map(|line| line.metric.clone()).collect()))
        .with("group", Column::Str(lines.iter().map(|line| line.group.clone()).collect()))
        .with("n", Column::U64(lines.iter().map(|line| line.errors.map_or(0, |errors| errors.n)).collect()))
        .with("refused", Column::U64(lines.iter().map(|line| line.refused).collect()))
        .with("median_ape", errors(&|errors| errors.median_ape, false))
        .with("mape", errors(&|errors| errors.mape, false))
        .with("p90_ape", errors(&|errors| errors.p90_ape, false))
        .with("bias", errors(&|errors| errors.bias, false))
        .with("coverage", errors(&|errors| errors.coverage, false))
        .with("ideal_median_ape", errors(&|errors| errors.median_ape, true))
}

fn refused_table(report: &Report) -> Rows {
    let of = |metric: bool| {
        let name = |(one, why): &(String, String)| if metric { one.clone() } else { why.clone() };
        Column::Str(report.refused.keys().map(name).collect())
    };
    Rows::new()
        .with("metric", of(true))
        .with("reason", of(false))
        .with("rows", Column::U64(report.refused.values().copied().collect()))
}

fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
