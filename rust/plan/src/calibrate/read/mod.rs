//! Rows of measurements as kernels: what each measured, on which device, under which engine; or why it cannot be used.

use std::collections::BTreeMap;

use rayon::prelude::*;
use roofline_core::efficiency::form::elementwise::ElementwiseKernel;
use roofline_core::error::{Error, Result};

use super::devices::Devices;
use super::dimensions::{Columns, at, engine_name};
use super::frame::{Frame, Words};
use super::kernel::Kernel;
use super::modules::{Module, modules};
use super::routing::{Case, Loads, Routing};
use super::vocabulary::{self, Op};

mod kernels;
mod refused;

use kernels::positive;
use refused::Refused;

/// One usable row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// The row it stands in.
    pub row: usize,
    /// Place of its device.
    pub device: usize,
    /// Place of its engine in [`Measurements::engines`].
    pub engine: usize,
    /// Which kernels of its family (`bf16`, `fp8-window`).
    pub dtype: &'static str,
    /// What was run.
    pub kernel: Kernel,
    /// How long it took.
    pub seconds: f64,
    /// Copies of the data it loops over, where that is known: fewer than fill the cache, and it is read from there.
    pub copies: f64,
    /// Whether it is of a shape that serving meets; odd ones count little in a fit.
    pub usual: bool,
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measurements {
    /// The devices that rows name.
    pub devices: Devices,
    /// The engines that rows name, as efficiency files call them.
    pub engines: Vec<String>,
    /// Versions of each engine on each device, as (device, engine, version).
    pub versions: Vec<(usize, usize, String)>,
    /// The usable rows, in their order.
    pub rows: Vec<Measurement>,
    /// What the others measured and why they cannot be used, with how many of each.
    pub refused: BTreeMap<(String, String), u64>,
    /// How many of each operation, device and engine, as far as they are known.
    pub refused_of: BTreeMap<[String; 3], u64>,
    /// The first row of each of these, from 1, and what stands there.
    pub examples: BTreeMap<(String, String), (usize, String)>,
    /// Whole modules, which count as refused: nothing is fitted to them.
    pub modules: Vec<(String, Result<Module, String>)>,
}

/// What holds where a frame does not say it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Defaults {
    /// The device, where no column names one.
    pub device: Option<roofline_core::hardware::Hardware>,
    /// The engine, where no column names one.
    pub engine: String,
}

/// Reads every row.
///
/// # Errors
/// A frame without rows, without a column of operations or of times, or without any device.
pub fn read(frame: &Frame, defaults: &Defaults) -> Result<Measurements> {
    if frame.rows() == 0 {
        return Err(Error::spec("measurements", "must have rows", "none", ""));
    }
    let (times, unit) = vocabulary::times(frame)?;
    let ops = frame.word(vocabulary::OP).ok_or_else(|| {
        let must = format!("must have a column `op` ({})", Op::names().join(", "));
        Error::spec("measurements", must, format!("columns {}", frame.names().join(", ")), "")
    })?;
    let mut reader = Reader::new(frame, defaults, ops)?;
    reader.learn_routings();
    let seconds = |row: usize| times[row] * unit;
    let outcomes: Vec<Result<Measurement, Refused>> =
        (0..frame.rows()).into_par_iter().map(|row| reader.row(row, seconds(row))).collect();
    let mut found = Measurements::default();
    for (row, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(measurement) => found.rows.push(measurement),
            Err(refused) => {
                let what = (ops.at(row).to_string(), reader.why(refused));
                let example = || (row + 1, reader.was(refused, row, times[row]));
                found.examples.entry(what.clone()).or_insert_with(example);
                *found.refused_of.entry(reader.whose(row)).or_default() += 1;
                *found.refused.entry(what).or_default() += 1;
            }
        }
    }
    found.modules = modules(frame, (defaults.device.as_ref(), &defaults.engine), &seconds);
    found.versions = reader.versions(&found.rows);
    found.devices = reader.devices;
    found.engines = reader.engines;
    Ok(found)
}

/// Columns of a frame, looked up once.
struct Reader<'a> {
    frame: &'a Frame,
    devices: Devices,
    engines: Vec<String>,
    ops: &'a Words,
    /// What each word of `ops` means.
    meanings: Vec<Option<Op>>,
    /// The device of each word, or the default one.
    device_words: Option<&'a Words>,
    device_of: Vec<Option<usize>>,
    engine_words: Option<&'a Words>,
    engine_of: Vec<usize>,
    dtypes: Option<&'a Words>,
    caches: Option<&'a Words>,
    kernels: Option<&'a Words>,
    nodes: Option<&'a Words>,
    routings: Option<&'a Words>,
    routing_of: Vec<Option<Routing>>,
    loads: Loads,
    columns: Columns<'a>,
}

impl<'a> Reader<'a> {
    fn new(frame: &'a Frame, defaults: &Defaults, ops: &'a Words) -> Result<Reader<'a>> {
        let mut devices = defaults.device.clone().map(Devices::with).unwrap_or_default();
        let device_words = frame.word(vocabulary::DEVICE);
        if device_words.is_none() && devices.list().is_empty() {
            return Err(Error::spec(
                "measurements",
                format!("must name a device, in a column ({}) or by `--hw`", vocabulary::DEVICE.join(", ")),
                "neither",
                "add `--hw h100-sxm`",
            ));
        }
        let default_device = (!devices.list().is_empty()).then_some(0);
        let device_of = device_words.map_or(Vec::new(), |words| {
            let learn = |word: &String| if word.is_empty() { default_device } else { devices.learn(word) };
            words.list.iter().map(learn).collect()
        });
        let engine_words = frame.word(vocabulary::ENGINE);
        let mut engines =
            vec![if defaults.engine.is_empty() { "vllm".into() } else { defaults.engine.clone() }];
        let engine_of = engine_words.map_or(Vec::new(), |words| {
            words.list.iter().map(|word| place_of(&mut engines, &engine_name(word))).collect()
        });
        let routings = frame.word(&["distribution", "routing"]);
        Ok(Reader {
            devices,
            engines,
            ops,
            meanings: ops.list.iter().map(|word| Op::parse(word).ok()).collect(),
            device_words,
            device_of,
            engine_words,
            engine_of,
            dtypes: frame.word(vocabulary::DTYPE),
            caches: frame.word(&["kv_dtype", "kv_cache_dtype"]),
            kernels: frame.word(&["kernel", "kernel_source"]),
            nodes: frame.word(&["node"]),
            routing_of: routings
                .map_or(Vec::new(), |w| w.list.iter().map(|word| Routing::parse(word)).collect()),
            routings,
            loads: Loads::default(),
            columns: Columns::of(frame),
            frame,
        })
    }

    /// Works out every routing the frame asks for, before rows are read side by side.
    fn learn_routings(&mut self) {
        let cases: std::collections::HashSet<Case> = (0..self.frame.rows())
            .into_par_iter()
            .filter(|row| self.op(*row) == Ok(Op::Moe))
            .filter_map(|row| self.case(row).ok())
            .collect();
        for case in cases {
            self.loads.learn(case);
        }
    }

    fn op(&self, row: usize) -> Result<Op, Refused> {
        let code = self.ops.codes[row];
        self.meanings[code as usize].ok_or(Refused::Op(code))
    }

    fn device(&self, row: usize) -> Result<usize, Refused> {
        match self.device_words {
            None => Ok(0),
            Some(words) => {
                let code = words.codes[row];
                self.device_of[code as usize].ok_or(Refused::Device(code))
            }
        }
    }

    /// The operation, the device and the engine of a row; empty where none is known.
    fn whose(&self, row: usize) -> [String; 3] {
        let device = self.device(row).map(|place| self.devices.get(place).hardware.name.clone());
        let engine = &self.engines[self.engine(row)];
        [self.ops.at(row).to_string(), device.unwrap_or_default(), engine.clone()]
    }

    fn engine(&self, row: usize) -> usize {
        self.engine_words.map_or(0, |words| self.engine_of[words.codes[row] as usize])
    }

    fn row(&self, row: usize, seconds: f64) -> Result<Measurement, Refused> {
        let op = self.op(row)?;
        let device = self.device(row)?;
        if !(seconds.is_finite() && seconds > 0.0) {
            return Err(Refused::Time);
        }
        let engine = self.engine(row);
        let known = self.devices.get(device);
        let one = Measurement {
            row,
            device,
            engine,
            dtype: "bf16",
            kernel: Kernel::Elementwise(ElementwiseKernel { bytes: 0.0 }),
            seconds,
            copies: 1.0,
            usual: true,
        };
        let read = match op {
            Op::Gemm => self.gemm(known, one),
            Op::MlaAbsorb => self.heads_gemm(known, one, kernels::MLA_LORA, kernels::MLA_HEAD),
            Op::MlaRelease => self.heads_gemm(known, one, kernels::MLA_HEAD, kernels::MLA_LORA),
            Op::Prefill | Op::PrefillAfterCached => self.prefill(known, one, op == Op::PrefillAfterCached),
            Op::Decode => self.decode(one),
            Op::MlaPrefill => self.mla_prefill(known, one),
            Op::MlaDecode => self.mla_decode(one),
            Op::Moe => self.moe(known, one),
            Op::Nccl(kind) => self.nccl(known, one, kind),
            Op::CustomAllReduce => self.custom_all_reduce(known, one),
            Op::Pass(tensors) => {
                let elements = positive(self.columns.m, row, "m")? * positive(self.columns.n, row, "n")?;
                let bytes = 2.0 * f64::from(tensors) * elements;
                Ok(Measurement { kernel: Kernel::Elementwise(ElementwiseKernel { bytes }), ..one })
            }
        };
        let copies = at(self.columns.copies, row).filter(|copies| *copies >= 1.0);
        read.map(|one| Measurement { copies: copies.unwrap_or(one.copies), ..one })
    }

    /// Every version of an engine on a device that usable rows name.
    fn versions(&self, rows: &[Measurement]) -> Vec<(usize, usize, String)> {
        let Some(words) = self.frame.word(vocabulary::VERSION) else { return Vec::new() };
        let seen: std::collections::BTreeSet<(usize, usize, u32)> =
            rows.iter().map(|one| (one.device, one.engine, words.codes[one.row])).collect();
        seen.into_iter()
            .map(|(device, engine, code)| (device, engine, words.list[code as usize].clone()))
            .collect()
    }
}

fn place_of(list: &mut Vec<String>, name: &str) -> usize {
    list.iter().position(|known| known == name).unwrap_or_else(|| {
        list.push(name.to_string());
        list.len() - 1
    })
}
