//! A frame of configurations in, the same rows with results out.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use roofline_plan::evaluate::{self as plan, Names, Values};

use crate::analysis::EngineMemory;
use crate::columns;
use crate::deployment::{predicted, sets_of};
use crate::enter::{Progress, enter, enter_long};
use crate::errors;
use crate::hardware::Hardware;
use crate::model::Model;
use crate::table::Table;

/// The configurations of a frame: each of its columns is one value for all rows, or one a row.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Configurations {
    configurations: plan::Configurations,
}

#[pymethods]
impl Configurations {
    /// `columns` holds every axis by name; `model` and `hw` are places in `models` and `devices`, and `engines` says
    /// for each device how an engine divides its memory.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keywords of a constructor, one a field")]
    #[pyo3(signature = (rows, columns, *, models, devices, engines, engine="vllm", efficiency=None, act_quant=None,
        launch=None, p2p=None, host=None))]
    fn new(
        py: Python<'_>,
        rows: usize,
        columns: &Bound<'_, PyDict>,
        models: Vec<PyRef<'_, Model>>,
        devices: Vec<PyRef<'_, Hardware>>,
        engines: Vec<PyRef<'_, EngineMemory>>,
        engine: &str,
        efficiency: Option<PathBuf>,
        act_quant: Option<&str>,
        launch: Option<&str>,
        p2p: Option<bool>,
        host: Option<(f64, f64, Option<f64>)>,
    ) -> PyResult<Configurations> {
        let sets = efficiency.map(|path| sets_of(py, &path)).transpose()?.unwrap_or_default();
        let predicted = enter(py, || predicted(engine, sets, act_quant, launch, p2p, host))?;
        let axes = Axes { rows, columns };
        let configurations = plan::Configurations {
            rows,
            mode: axes.texts("mode", "predicted")?,
            engine: engine.to_string(),
            predicted,
            model: axes.places("model", models.len())?,
            hw: axes.places("hw", devices.len().min(engines.len()))?,
            models: models.iter().map(|model| model.model.clone()).collect(),
            devices: devices.iter().map(|hardware| hardware.device.clone()).collect(),
            engines: engines.iter().map(|engine| engine.division).collect(),
            tp: axes.counts("tp", 1)?,
            pp: axes.counts("pp", 1)?,
            dp: axes.counts("dp", 1)?,
            ep: axes.counts("ep", 1)?,
            quantization: axes.texts("quantization", "auto")?,
            kv_cache_dtype: axes.texts("kv_cache_dtype", "auto")?,
            batch_size: axes.counts("batch_size", 1)?,
            input_len: axes.counts("input_len", 1)?,
            output_len: axes.counts("output_len", 1)?,
            prefix_len: axes.counts("prefix_len", 0)?,
            chunk: axes.counts("chunk", 0)?,
            phase: axes.texts("phase", "decode")?,
            techniques: axes.texts("techniques", "none")?,
        };
        Ok(Configurations { configurations })
    }

    /// Prices every row; only the `results` named are computed into columns, all of them where none is named.
    #[pyo3(signature = (results, progress=None))]
    fn evaluate(&self, py: Python<'_>, results: Vec<String>, progress: Option<&Progress>) -> PyResult<Table> {
        let work = |_: &_| plan::evaluate(&self.configurations, &results).map(Table::of);
        Table::checked(py, enter_long(py, progress, work)?)
    }
}

/// The columns of a frame while they are taken apart.
struct Axes<'a, 'py> {
    rows: usize,
    columns: &'a Bound<'py, PyDict>,
}

impl Axes<'_, '_> {
    fn counts(&self, name: &str, default: u64) -> PyResult<Values<u64>> {
        match self.columns.get_item(name)? {
            None => Ok(Values::All(default)),
            Some(value) => match value.extract::<u64>() {
                Ok(one) => Ok(Values::All(one)),
                Err(_) => self.each(name, columns::counts(&value, name)?),
            },
        }
    }

    fn texts(&self, name: &str, default: &str) -> PyResult<Names> {
        let one = |name: String| Names { places: Values::All(0), names: vec![name] };
        match self.columns.get_item(name)? {
            None => Ok(one(default.to_string())),
            Some(value) => match value.extract::<String>() {
                Ok(text) => Ok(one(text)),
                Err(_) => {
                    let (places, names) = columns::names(&value, name)?;
                    Ok(Names { places: self.each(name, places)?, names })
                }
            },
        }
    }

    /// Places in a list of `count` things.
    fn places(&self, name: &str, count: usize) -> PyResult<Values<u64>> {
        let places = self.counts(name, 0)?;
        let inside = match &places {
            Values::All(_) if self.rows == 0 => true,
            Values::All(one) => *one < count as u64,
            Values::Each(each) => each.iter().all(|place| *place < count as u64),
        };
        if inside {
            return Ok(places);
        }
        let must = format!("must be a place in a list of {count}");
        Err(errors::spec(self.columns.py(), name, &must, "a larger one", ""))
    }

    fn each<T>(&self, name: &str, values: Vec<T>) -> PyResult<Values<T>> {
        if values.len() == self.rows {
            return Ok(Values::Each(values));
        }
        let must = format!("must have one value, or one for each of the {} rows", self.rows);
        Err(errors::spec(self.columns.py(), name, &must, values.len(), ""))
    }
}
