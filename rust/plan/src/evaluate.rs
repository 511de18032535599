//! A frame of configurations in, the same rows with results out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rayon::prelude::*;
use roofline_core::analysis::{Analyst, Outcome};
use roofline_core::efficiency::Efficiency;
use roofline_core::efficiency::switches::as_run_by;
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::model::Model;
use roofline_core::names;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::roof::Bound;
use roofline_core::step::Deployment;
use roofline_core::table::{Column, Table};
use roofline_core::technique::{Said, Technique};

use crate::error::{Error, Result};

/// One value for every row, or one a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<T> {
    /// The same everywhere.
    All(T),
    /// One a row.
    Each(Vec<T>),
}

impl<T> Values<T> {
    /// The value of a row.
    pub fn at(&self, row: usize) -> &T {
        match self {
            Values::All(value) => value,
            Values::Each(values) => &values[row],
        }
    }

    /// How many rows it prescribes, if any.
    pub fn rows(&self) -> Option<usize> {
        match self {
            Values::All(_) => None,
            Values::Each(values) => Some(values.len()),
        }
    }
}

/// The configurations of a frame, column by column. Models and devices are places in the lists beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Configurations {
    /// Rows.
    pub rows: usize,
    /// The distinct models.
    pub models: Vec<Model>,
    /// The distinct devices.
    pub devices: Vec<Hardware>,
    /// How each device's memory is divided by the engine.
    pub engines: Vec<EngineMemory>,
    /// Model of a row.
    pub model: Values<usize>,
    /// Device of a row.
    pub hw: Values<usize>,
    /// Tensor parallelism.
    pub tp: Values<u64>,
    /// Pipeline stages.
    pub pp: Values<u64>,
    /// Data-parallel ranks.
    pub dp: Values<u64>,
    /// Devices that share the experts.
    pub ep: Values<u64>,
    /// Scheme by name, or `auto`.
    pub quantization: Values<String>,
    /// KV cache format by name, or `auto`.
    pub kv_cache_dtype: Values<String>,
    /// Sequences a rank.
    pub batch_size: Values<u64>,
    /// Prompt tokens, or context for decode.
    pub input_len: Values<u64>,
    /// Tokens generated.
    pub output_len: Values<u64>,
    /// Tokens cached in front of the input.
    pub prefix_len: Values<u64>,
    /// Largest prompt chunk.
    pub chunk: Values<u64>,
    /// What is asked about.
    pub phase: Values<String>,
    /// Techniques, joined by `+`; `none` for none.
    pub techniques: Values<String>,
    /// `predicted` or `ideal`.
    pub mode: Values<String>,
    /// The engine's preset.
    pub engine: String,
    /// What predicts where `mode` says so.
    pub predicted: Efficiency,
}

/// Every result column, in order.
pub const RESULTS: [&str; 19] = [
    "step_s",
    "ideal_s",
    "low_s",
    "high_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "tokens_per_gpu_s",
    "tokens_per_user_s",
    "bound",
    "intensity",
    "weight_bytes",
    "kv_bytes",
    "memory_bytes",
    "engine_memory_bytes",
    "fits",
    "max_concurrency",
    "energy_j_per_token",
    "usd_per_mtok",
];

/// What must be compiled anew.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Key<'a> {
    model: usize,
    hw: usize,
    layout: Layout,
    quantization: &'a str,
    kv_cache_dtype: &'a str,
    techniques: &'a str,
    mode: &'a str,
}

impl Configurations {
    fn key(&self, row: usize) -> Key<'_> {
        Key {
            model: *self.model.at(row),
            hw: *self.hw.at(row),
            layout: Layout {
                tp: *self.tp.at(row),
                pp: *self.pp.at(row),
                dp: *self.dp.at(row),
                ep: *self.ep.at(row),
            },
            quantization: self.quantization.at(row),
            kv_cache_dtype: self.kv_cache_dtype.at(row),
            techniques: self.techniques.at(row),
            mode: self.mode.at(row),
        }
    }

    fn compile(&self, key: &Key<'_>) -> roofline_core::error::Result<Analyst> {
        let model = self.models[key.model].clone();
        let request = Request {
            quantization: Some(key.quantization.to_string()),
            kv_cache_dtype: Some(key.kv_cache_dtype.to_string()),
            ..Request::default()
        };
        let techniques = Technique::parse_all(&[key.techniques])?;
        let said = Said {
            quantization: request.quantization.clone(),
            kv_cache_dtype: request.kv_cache_dtype.clone(),
            ..Said::default()
        };
        said.once(&techniques)?;
        let precision = as_run_by(&self.engine, Precision::resolve(&model, &request)?, &request);
        let efficiency = match key.mode {
            "predicted" => self.predicted.clone(),
            "ideal" => Efficiency::Ideal,
            other => return Err(names::unknown("mode", other, ["predicted", "ideal"])),
        };
        let deployment = Deployment {
            precision,
            model,
            hardware: self.devices[key.hw].clone(),
            layout: key.layout,
            lowering: Lowering::default(),
            overlap: 0.0,
            efficiency,
            techniques: Default::default(),
        };
        Analyst::new(deployment.with(&techniques)?, &self.engines[key.hw])
    }

    fn point(&self, row: usize) -> roofline_core::error::Result<Point> {
        Ok(Point {
            question: Question::parse(self.phase.at(row))?,
            batch_size: *self.batch_size.at(row),
            input_len: *self.input_len.at(row),
            output_len: *self.output_len.at(row),
            prefix_len: *self.prefix_len.at(row),
            chunk: *self.chunk.at(row),
        })
    }
}

/// Prices every row; only `columns` are returned (all of [`RESULTS`] if empty).
///
/// # Errors
/// An unknown column; the first row that is not possible, with its number.
pub fn evaluate(configurations: &Configurations, columns: &[String]) -> Result<Table> {
    for column in columns {
        if !RESULTS.contains(&column.as_str()) {
            return Err(names::unknown("column", column, RESULTS).into());
        }
    }
    let mut compiled: HashMap<Key<'_>, Analyst> = HashMap::new();
    for row in 0..configurations.rows {
        let key = configurations.key(row);
        if let Entry::Vacant(place) = compiled.entry(key) {
            let analyst = configurations.compile(place.key()).map_err(|source| Error::Row { row, source })?;
            place.insert(analyst);
        }
    }
    let price = |row: usize| -> Result<Row> {
        let at = |source| Error::Row { row, source };
        let analyst = &compiled[&configurations.key(row)];
        let point = configurations.point(row).map_err(at)?;
        Ok(Row::of(&analyst.outcome(&point).map_err(at)?, analyst))
    };
    let rows: Vec<Result<Row>> = (0..configurations.rows).into_par_iter().map(price).collect();
    let rows = rows.into_iter().collect::<Result<Vec<Row>>>()?;
    let mut table = Table::new();
    for (index, name) in RESULTS.into_iter().enumerate() {
        if columns.is_empty() || columns.iter().any(|column| column == name) {
            table.push(name, column(index, &rows));
        }
    }
    Ok(table)
}

/// The results of one row, as numbers in the order of [`RESULTS`]; bound and fit apart.
struct Row {
    numbers: [Option<f64>; RESULTS.len()],
    bound: Bound,
    fits: bool,
}

impl Row {
    fn of(outcome: &Outcome, analyst: &Analyst) -> Row {
        let (times, memory) = (&outcome.times, &outcome.memory);
        let tokens = times.tokens * analyst.deployment().layout.dp as f64;
        let value = |name: &str| match name {
            "step_s" => Some(times.step.step.seconds),
            "ideal_s" => Some(times.step.ideal),
            "low_s" => times.step.step.low,
            "high_s" => times.step.step.high,
            "ttft_s" => times.ttft,
            "tpot_s" => times.tpot,
            "e2e_s" => times.e2e,
            "tokens_per_gpu_s" => Some(outcome.tokens_per_gpu_s),
            "tokens_per_user_s" => outcome.tokens_per_user_s,
            "intensity" => outcome.done.device().intensity(),
            "weight_bytes" => Some(memory.weights),
            "kv_bytes" => Some(memory.kv),
            "memory_bytes" => Some(memory.ideal_bytes()),
            "engine_memory_bytes" => Some(memory.engine_bytes()),
            "max_concurrency" => Some(memory.engine_sequences as f64),
            "energy_j_per_token" => outcome.energy_j.map(|joule| joule / tokens),
            "usd_per_mtok" => outcome.usd.map(|usd| usd / tokens * 1e6),
            _ => None,
        };
        Row { numbers: RESULTS.map(value), bound: outcome.done.bound(), fits: memory.fits() }
    }
}

fn column(index: usize, rows: &[Row]) -> Column {
    match RESULTS[index] {
        "bound" => Column::Str(rows.iter().map(|row| row.bound.name().to_string()).collect()),
        "fits" => Column::Bool(rows.iter().map(|row| row.fits).collect()),
        "max_concurrency" => {
            Column::U64(rows.iter().map(|row| row.numbers[index].unwrap_or(0.0) as u64).collect())
        }
        _ => Column::OptF64(rows.iter().map(|row| row.numbers[index]).collect()),
    }
}
