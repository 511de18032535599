//! Rows of measurements as kernels: what each measured, on which device, under which engine; or why it cannot be used.

use std::collections::BTreeMap;

use rayon::prelude::*;
use roofline_core::efficiency::form::collective::CollectiveKernel;
use roofline_core::efficiency::form::decode::{DecodeKernel, usual_heads};
use roofline_core::efficiency::form::elementwise::ElementwiseKernel;
use roofline_core::efficiency::form::gemm::{GemmKernel, NARROW};
use roofline_core::efficiency::form::mla::MlaDecodeKernel;
use roofline_core::efficiency::form::moe::MoeKernel;
use roofline_core::efficiency::form::prefill::PrefillKernel;
use roofline_core::error::{Error, Result};

use super::devices::{Devices, Known};
use super::dimensions::{Columns, at, engine_name, pairs};
use super::frame::{Frame, Words};
use super::kernel::Kernel;
use super::modules::{Module, modules};
use super::routing::{Case, GROUPED, Loads, Routing, UNGATED};
use super::vocabulary::{self, Numbers, Op};

mod refused;
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

/// Width of a head and of the latent that heads are absorbed into, in every published model with latent attention.
const MLA_HEAD: f64 = 128.0;
const MLA_LORA: f64 = 512.0;

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

/// A dimension that must be there, and positive.
fn positive(column: Option<&[f64]>, row: usize, name: &'static str) -> Result<f64, Refused> {
    at(column, row).filter(|value| *value > 0.0).ok_or(Refused::Missing(name))
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
            Op::MlaAbsorb => self.heads_gemm(known, one, MLA_LORA, MLA_HEAD),
            Op::MlaRelease => self.heads_gemm(known, one, MLA_HEAD, MLA_LORA),
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

    fn numbers(&self, row: usize, known: &Known) -> Result<(Numbers, f64), Refused> {
        let numbers = match self.dtypes {
            None => Numbers::parse("bf16"),
            Some(words) => Numbers::parse(words.at(row)),
        };
        let numbers =
            numbers.ok_or_else(|| Refused::NotAFormat(self.dtypes.map_or(0, |words| words.codes[row])))?;
        let peak = known.peak(numbers.format).ok_or(Refused::NoPeak(numbers.name))?;
        Ok((numbers, peak))
    }

    fn gemm(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
        let (numbers, peak) = self.numbers(one.row, known)?;
        let m = positive(self.columns.m, one.row, "m")?;
        let n = positive(self.columns.n, one.row, "n")?;
        let k = positive(self.columns.k, one.row, "k")?;
        let Numbers { weight_bytes, input_bytes, .. } = numbers;
        Ok(Measurement {
            dtype: numbers.name,
            kernel: Kernel::Gemm(GemmKernel { batch: 1.0, m, n, k, peak, weight_bytes, input_bytes }),
            copies: numbers.copies,
            usual: n >= NARROW && k >= NARROW && m <= 32768.0 && (m <= 16.0 || m % 8.0 == 0.0),
            ..one
        })
    }

    /// A product for every head of latent attention, each with a weight of its own.
    fn heads_gemm(&self, known: &Known, one: Measurement, n: f64, k: f64) -> Result<Measurement, Refused> {
        let (numbers, peak) = self.numbers(one.row, known)?;
        let m = positive(self.columns.m, one.row, "m")?;
        let batch = positive(self.columns.heads, one.row, "heads")?;
        let Numbers { weight_bytes, input_bytes, .. } = numbers;
        Ok(Measurement {
            dtype: if input_bytes < 2.0 { "fp8-heads" } else { "bf16-heads" },
            kernel: Kernel::Gemm(GemmKernel { batch, m, n, k, peak, weight_bytes, input_bytes }),
            ..one
        })
    }

    /// Whether queries, and whether the cache, are in 8 bits.
    fn narrow(&self, row: usize) -> (bool, bool) {
        let is_fp8 = |words: Option<&Words>| words.is_some_and(|words| vocabulary::is_fp8(words.at(row)));
        (is_fp8(self.dtypes), is_fp8(self.caches))
    }

    fn heads(&self, row: usize) -> Result<(f64, f64, f64), Refused> {
        let heads = positive(self.columns.heads, row, "heads")?;
        let kv_heads = positive(self.columns.kv_heads, row, "kv_heads")?;
        Ok((heads, kv_heads, positive(self.columns.head_dim, row, "head_dim")?))
    }

    fn decode(&self, one: Measurement) -> Result<Measurement, Refused> {
        let row = one.row;
        let sequences = positive(self.columns.batch, row, "batch")?;
        let context = positive(self.columns.kv_len, row, "kv_len")?;
        let (heads, kv_heads, width) = self.heads(row)?;
        let window = at(self.columns.window, row).filter(|window| *window > 0.0);
        let longest = window.map_or(context, |window| context.min(window));
        let (_, narrow) = self.narrow(row);
        let kv_bytes = if narrow { 1.0 } else { 2.0 };
        let kernel = DecodeKernel {
            sequences,
            keys: sequences * longest,
            pairs: sequences * longest,
            longest,
            heads,
            kv_heads,
            key_dim: width,
            value_dim: width,
            kv_bytes,
        };
        Ok(Measurement {
            dtype: match (narrow, window.is_some()) {
                (false, false) => "bf16",
                (false, true) => "bf16-window",
                (true, false) => "fp8",
                (true, true) => "fp8-window",
            },
            kernel: Kernel::Decode(kernel),
            usual: context >= 128.0 && sequences <= 512.0 && usual_heads(heads, kv_heads, width),
            ..one
        })
    }

    fn prefill(&self, known: &Known, one: Measurement, after_cached: bool) -> Result<Measurement, Refused> {
        let row = one.row;
        let sequences = positive(self.columns.batch, row, "batch")?;
        let new = positive(self.columns.q_len, row, "q_len")?;
        let keys = at(self.columns.kv_len, row).unwrap_or(if after_cached { 0.0 } else { new });
        let cached = if after_cached { keys } else { (keys - new).max(0.0) };
        let (heads, kv_heads, width) = self.heads(row)?;
        let window = at(self.columns.window, row).filter(|window| *window > 0.0).unwrap_or(f64::INFINITY);
        let (fp8, narrow) = self.narrow(row);
        let format =
            if fp8 { roofline_core::format::Format::Fp8 } else { roofline_core::format::Format::Bf16 };
        let kernel = PrefillKernel {
            sequences,
            tokens: sequences * new,
            pairs: sequences * pairs(new, cached, window),
            keys: sequences * (new + cached.min(window)),
            longest: (new + cached).min(window + 128.0),
            heads,
            kv_heads,
            key_dim: width,
            value_dim: width,
            activation_bytes: 2.0,
            kv_bytes: if narrow { 1.0 } else { 2.0 },
            peak: known.peak(format).ok_or(Refused::NoPeak("fp8"))?,
        };
        let windowed = window.is_finite();
        Ok(Measurement {
            dtype: match (fp8, narrow, windowed) {
                (true, _, false) => "fp8",
                (true, _, true) => "fp8-window",
                (false, true, false) => "bf16-fp8kv",
                (false, true, true) => "bf16-fp8kv-window",
                (false, false, false) => "bf16",
                (false, false, true) => "bf16-window",
            },
            kernel: Kernel::Prefill(kernel),
            usual: new >= 64.0 && sequences * new <= 65536.0 && usual_heads(heads, kv_heads, width),
            ..one
        })
    }

    fn mla_decode(&self, one: Measurement) -> Result<Measurement, Refused> {
        let row = one.row;
        let sequences = positive(self.columns.batch, row, "batch")?;
        let context = positive(self.columns.kv_len, row, "kv_len")?;
        let heads = positive(self.columns.heads, row, "heads")?;
        let (_, narrow) = self.narrow(row);
        let kernel = MlaDecodeKernel {
            sequences,
            keys: sequences * context,
            pairs: sequences * context,
            longest: context,
            heads,
            latent: MLA_LORA + 64.0,
            lora: MLA_LORA,
            kv_bytes: if narrow { 1.0 } else { 2.0 },
        };
        Ok(Measurement {
            dtype: if narrow { "fp8" } else { "bf16" },
            kernel: Kernel::MlaDecode(kernel),
            usual: context >= 128.0 && sequences <= 512.0,
            ..one
        })
    }

    fn mla_prefill(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
        let row = one.row;
        let sequences = positive(self.columns.batch, row, "batch")?;
        let new = positive(self.columns.q_len, row, "q_len")?;
        let keys = at(self.columns.kv_len, row).unwrap_or(new).max(new);
        let heads = positive(self.columns.heads, row, "heads")?;
        let (_, narrow) = self.narrow(row);
        let kernel = PrefillKernel {
            sequences,
            tokens: sequences * new,
            pairs: sequences * pairs(new, keys - new, f64::INFINITY),
            keys: sequences * keys,
            longest: keys,
            heads,
            kv_heads: heads,
            key_dim: 192.0,
            value_dim: 128.0,
            activation_bytes: 2.0,
            kv_bytes: 2.0,
            peak: known.device.peak16,
        };
        Ok(Measurement {
            dtype: if narrow { "bf16-fp8kv" } else { "bf16" },
            kernel: Kernel::MlaPrefill(kernel),
            usual: new >= 64.0,
            copies: f64::INFINITY,
            ..one
        })
    }

    fn case(&self, row: usize) -> Result<Case, Refused> {
        let columns = &self.columns;
        let routing = match self.routings {
            None => Routing::Uniform,
            Some(words) => {
                let code = words.codes[row];
                self.routing_of[code as usize].ok_or(Refused::Routing(code))?
            }
        };
        Ok(Case {
            tokens: positive(columns.m, row, "m")? as u64,
            experts: positive(columns.experts, row, "experts")? as u64,
            top_k: positive(columns.top_k, row, "topk")? as u64,
            ep: at(columns.moe_ep, row).unwrap_or(1.0).max(1.0) as u64,
            routing,
        })
    }

    fn moe(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
        let row = one.row;
        let (numbers, peak) = self.numbers(row, known)?;
        let case = self.case(row)?;
        let mut load = self.loads.get(&case).unwrap_or_else(|| super::routing::load(&case));
        let hidden = positive(self.columns.hidden, row, "hidden")?;
        let balanced = case.routing == Routing::Balanced;
        if balanced && (hidden, case.experts, case.top_k) == GROUPED && self.engines[one.engine] != "trtllm" {
            load.active = load.active.min(0.5 * GROUPED.1 as f64 / case.ep as f64).max(1.0);
        }
        let inner = positive(self.columns.inner, row, "inter")?
            / at(self.columns.moe_tp, row).unwrap_or(1.0).max(1.0);
        let kernel_name = self.kernels.map_or("", |words| words.at(row));
        let gated = !kernel_name.contains("nongated")
            && !UNGATED.contains(&(hidden as u64, case.experts, case.top_k));
        let kernel = MoeKernel {
            tokens: case.tokens as f64,
            visits: load.visits,
            meeting: (case.tokens * case.top_k) as f64,
            experts: case.experts as f64 / case.ep as f64,
            active: load.active,
            hidden,
            inner,
            matrices: if gated { 3.0 } else { 2.0 },
            peak,
            weight_bytes: numbers.weight_bytes,
            input_bytes: numbers.input_bytes,
        };
        let dtype = vocabulary::experts(numbers.name, kernel_name, &self.engines[one.engine]);
        let usual =
            case.ep == 1 && !balanced && inner >= 128.0 && case.tokens <= 16384 && gated && case.top_k <= 16;
        Ok(Measurement { dtype, kernel: Kernel::Moe(kernel), usual, ..one })
    }

    fn exchange(&self, known: &Known, row: usize) -> Result<CollectiveKernel, Refused> {
        if self.nodes.is_some_and(|nodes| !matches!(nodes.at(row), "" | "a100_dgx" | "h100_dgx")) {
            return Err(Refused::Links);
        }
        let ranks = positive(self.columns.ranks, row, "num_gpus")?;
        let bytes = positive(self.columns.bytes, row, "message_bytes")?;
        let link = known.link.ok_or(Refused::NoPeak("link"))?;
        if ranks < 2.0 {
            return Err(Refused::Missing("num_gpus"));
        }
        Ok(CollectiveKernel { bytes, ranks, crossing: 0.0, link })
    }

    fn nccl(&self, known: &Known, one: Measurement, kind: vocabulary::Kind) -> Result<Measurement, Refused> {
        let exchange = self.exchange(known, one.row)?;
        let crossing = kind.crossing(exchange.ranks);
        let kernel = Kernel::Nccl(CollectiveKernel { crossing, ..exchange });
        Ok(Measurement {
            dtype: kind.name(),
            kernel,
            copies: f64::INFINITY,
            usual: exchange.ranks <= 8.0,
            ..one
        })
    }

    fn custom_all_reduce(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
        let exchange = self.exchange(known, one.row)?;
        let crossing = vocabulary::Kind::AllReduce.crossing(exchange.ranks);
        let eager = self.kernels.is_some_and(|words| words.at(one.row).ends_with("eager"));
        Ok(Measurement {
            dtype: if eager { "bf16-eager" } else { "bf16" },
            kernel: Kernel::CustomAllReduce(CollectiveKernel { crossing, ..exchange }),
            copies: f64::INFINITY,
            usual: exchange.ranks <= 8.0,
            ..one
        })
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
