//! What a row of each operation measured: the geometry of its kernel, read from the columns that say it.

use roofline_core::efficiency::form::collective::CollectiveKernel;
use roofline_core::efficiency::form::decode::{DecodeKernel, usual_heads};
use roofline_core::efficiency::form::gemm::{GemmKernel, NARROW};
use roofline_core::efficiency::form::mla::MlaDecodeKernel;
use roofline_core::efficiency::form::moe::MoeKernel;
use roofline_core::efficiency::form::prefill::PrefillKernel;
use roofline_core::error::Result;

use super::{Measurement, Reader, Refused};
use crate::calibrate::devices::Known;
use crate::calibrate::dimensions::{at, pairs};
use crate::calibrate::frame::Words;
use crate::calibrate::kernel::Kernel;
use crate::calibrate::routing::{Case, GROUPED, Routing, UNGATED, load};
use crate::calibrate::vocabulary::{self, Numbers};

/// Width of a head and of the latent that heads are absorbed into, in every published model with latent attention.
pub(super) const MLA_HEAD: f64 = 128.0;
pub(super) const MLA_LORA: f64 = 512.0;

/// A dimension that must be there, and positive.
pub(super) fn positive(column: Option<&[f64]>, row: usize, name: &'static str) -> Result<f64, Refused> {
    at(column, row).filter(|value| *value > 0.0).ok_or(Refused::Missing(name))
}

impl Reader<'_> {
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

    pub(super) fn gemm(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
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
    pub(super) fn heads_gemm(
        &self,
        known: &Known,
        one: Measurement,
        n: f64,
        k: f64,
    ) -> Result<Measurement, Refused> {
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

    pub(super) fn decode(&self, one: Measurement) -> Result<Measurement, Refused> {
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

    pub(super) fn prefill(
        &self,
        known: &Known,
        one: Measurement,
        after_cached: bool,
    ) -> Result<Measurement, Refused> {
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
        // Where a window hides nothing, the plain kernel runs.
        let windowed = new + cached > window;
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

    pub(super) fn mla_decode(&self, one: Measurement) -> Result<Measurement, Refused> {
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

    pub(super) fn mla_prefill(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
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

    pub(super) fn case(&self, row: usize) -> Result<Case, Refused> {
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

    pub(super) fn moe(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
        let row = one.row;
        let (numbers, peak) = self.numbers(row, known)?;
        let case = self.case(row)?;
        let mut load = self.loads.get(&case).unwrap_or_else(|| load(&case));
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

    pub(super) fn nccl(
        &self,
        known: &Known,
        one: Measurement,
        kind: vocabulary::Kind,
    ) -> Result<Measurement, Refused> {
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

    pub(super) fn custom_all_reduce(&self, known: &Known, one: Measurement) -> Result<Measurement, Refused> {
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
}
