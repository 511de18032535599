//! An operator's price under fitted forms, compiled: geometry and datasheet facts stand ready, sums come in.

use super::band::Spread;
use super::choose::{Chooser, Chosen, Like};
use super::file::Set;
use super::form::collective::{CollectiveKernel, CustomAllReduce, Nccl};
use super::form::decode::{Decode, DecodeKernel, usual_heads};
use super::form::elementwise::{ComputeScale, Elementwise, ElementwiseKernel, ScaleMatrix, State};
use super::form::gemm::{Gemm, GemmKernel, NARROW};
use super::form::host::{Host, HostKernel};
use super::form::mla::{MlaDecode, MlaDecodeKernel, MlaPrefill};
use super::form::moe::{Moe, MoeKernel};
use super::form::prefill::{Prefill, PrefillKernel};
use super::form::{Device, Form};
use super::switches::{ActQuant, EAGER_S, Launch, Launching};
use super::{Prediction, Source};
use crate::format::{Format, Storage};
use crate::hardware::Hardware;
use crate::roof::{Cost, Priced, Roof};
use crate::shape::{Parts, PhaseSums};
use crate::work::kernel::{self, Kernel};
use crate::work::{Collective, Op, Rate};

mod beyond;
mod called;
mod each;
mod prompts;
mod straight;

use called::{
    answers_as, exchanged_as, experts_as, float_peak, is_own, multiplied_as, prompts_as, with_scales,
};
use prompts::{Prompts, prompts_of};

/// How much longer bytes take on their way between devices that do not reach each other's memory: they pass through the
/// host's, once in and once out. Assumed.
const THROUGH_HOST: f64 = 2.0;

/// The price of one operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    price: Price,
    device: Device,
    /// Seconds below which it does not get.
    floor: f64,
    /// Seconds of it that do not depend on sizes.
    launch: f64,
    /// By what whole steps say its family is longer.
    factor: f64,
    /// The largest problems that were measured: of prompts or of all, and of answers.
    largest: [f64; 2],
    /// Its 80 % band.
    pub spread: Spread,
    /// Where it is from.
    pub source: Source,
}

/// What the host needs to launch the kernels of a step with prompts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Launched {
    /// Seconds.
    pub seconds: f64,
    /// Tokens up to which such a step is recorded as a graph.
    pub captured: f64,
}

/// A form with what is known of its geometry before sums are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Price {
    /// It runs inside another kernel.
    Nothing,
    Gemm(Gemm, GemmKernel, Rate),
    Attention(Option<Prompts>, Option<(Decode, DecodeKernel)>, Seen),
    Expanded(MlaPrefill, PrefillKernel),
    Absorbed(MlaDecode, MlaDecodeKernel, Seen),
    /// With the kernels that the engine would rather launch where they are quicker.
    Experts(Moe, Option<Moe>, kernel::Experts, MoeKernel),
    Pass(Elementwise, Rate),
    Scale(ScaleMatrix, Rate),
    FindAndScale(ComputeScale, ScaleMatrix, Rate),
    State(State),
    Nccl(Nccl, CollectiveKernel),
    CustomAllReduce(CustomAllReduce, CollectiveKernel),
    Host(Host),
    /// Seconds of launching the kernels of a step of more tokens than are captured.
    Launching(f64, f64),
}

/// What one launch of attention sees.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    /// Most keys of a query.
    window: f64,
    /// Share of a decoding sequence's new tokens.
    at_once: f64,
}

/// A price with what is known of it.
struct Compiled {
    price: Price,
    spread: Spread,
    source: Source,
    like: Like,
    largest: [f64; 2],
}

impl Compiled {
    /// What runs inside another kernel.
    const NOTHING: Compiled = Compiled {
        price: Price::Nothing,
        spread: Spread::NONE,
        source: Source::Datasheet,
        like: Like::SAME,
        largest: [f64::INFINITY; 2],
    };
}

/// Compiles the prices of a deployment's operators.
#[derive(Debug, Clone, Copy)]
pub struct Predictor<'a> {
    prediction: &'a Prediction,
    chooser: Chooser<'a>,
    hardware: &'a Hardware,
    roof: &'a Roof,
    device: Device,
    /// Share of its peaks that the device holds under load.
    under_load: f64,
}

impl<'a> Predictor<'a> {
    /// For a device with these ceilings.
    pub fn new(prediction: &'a Prediction, hardware: &'a Hardware, roof: &'a Roof) -> Predictor<'a> {
        let under_load = prediction.switches.under_load(hardware);
        let peak16 = roof.peak(Format::Bf16).unwrap_or(f64::INFINITY) * under_load;
        let device = Device::of(hardware, peak16, roof.bandwidth());
        let chooser = Chooser::new(prediction, hardware);
        Predictor { prediction, chooser, hardware, roof, device, under_load }
    }

    /// The price of an operator; `None` where there is no fit to price it by.
    pub fn predict(&self, priced: &Priced) -> Option<Predicted> {
        let op = priced.op();
        let eager = self.prediction.switches.launch == Launch::Eager;
        let Compiled { price, mut spread, source, like, largest } = self.price(op, priced)?;
        let launch = price.launch();
        let alone = !matches!(price, Price::Nothing | Price::Host(_));
        let floor = if eager && alone { EAGER_S } else { 0.0 };
        let device = Device {
            bandwidth: self.device.bandwidth * like.bandwidth,
            peak16: self.device.peak16 * like.peak,
            ..self.device
        };
        let (factor, left) = self.chooser.factor(op.family).unwrap_or((1.0, None));
        if let Some(left) = left.filter(|_| alone) {
            // A factor found on another's fits makes up for what they share, not for what each kernel is off.
            let own = matches!(source, Source::Fitted(_));
            spread = if own { left } else { left.or_wider(spread.widened(0.5)) };
        }
        Some(Predicted { price, device, floor, launch, factor, largest, spread, source })
    }

    /// The peak of an operator's multiplications that the device holds under load, FLOP/s.
    fn peak_of(&self, priced: &Priced) -> f64 {
        priced.peak() * self.under_load
    }

    fn price(&self, op: &Op, priced: &Priced) -> Option<Compiled> {
        match op.kernel {
            Kernel::Bound => None,
            Kernel::Inside => Some(Compiled::NOTHING),
            Kernel::Gemm(gemm) => self.gemm(&gemm, priced),
            Kernel::Attention(attention) => self.attention(&attention),
            Kernel::Absorbed(absorbed) => self.absorbed(&absorbed),
            Kernel::Experts(experts) => self.experts(&experts, priced),
            Kernel::Pass(bytes) => {
                let chosen = self.chooser.choose::<Elementwise>(&["bf16"], None)?;
                Some(chosen.priced(|form| Price::Pass(form, bytes)))
            }
            Kernel::Quantise(quantise) => self.quantise(&quantise),
            Kernel::State | Kernel::Other => {
                Some(self.chooser.choose::<State>(&["bf16"], None)?.priced(Price::State))
            }
            Kernel::Transfer => self.transfer(priced),
            Kernel::Host => self.host(),
            // Known once all the others are.
            Kernel::Launching => None,
        }
    }

    /// What the host needs to launch so many kernels one by one; `None` where it does not count.
    pub fn launching(&self, launches: f64) -> Option<Predicted> {
        let Launching { kernel_s, captured } = self.prediction.switches.launching(&self.prediction.engine);
        let seconds = launches * kernel_s;
        (seconds > 0.0).then_some(Predicted {
            price: Price::Launching(seconds, captured),
            device: self.device,
            floor: 0.0,
            launch: 0.0,
            factor: 1.0,
            largest: [f64::INFINITY; 2],
            spread: Spread::NONE,
            source: Source::Assumed,
        })
    }

    fn act_quant(&self, weight: Storage) -> ActQuant {
        self.prediction.switches.act_quant(&self.prediction.engine, weight)
    }

    /// The products of heads with their own parts of a weight: two launches of as many products each.
    fn heads(&self, gemm: &kernel::Gemm, priced: &Priced) -> Option<Compiled> {
        // vLLM keeps these weights in 16 bits, whatever the checkpoint.
        let narrow = gemm.input.bytes() < 2.0 && self.prediction.engine != "vllm";
        let dtypes: &[&str] =
            if narrow { &["fp8-heads", "bf16-heads", "bf16"] } else { &["bf16-heads", "bf16"] };
        let chosen = self.chooser.choose::<Gemm>(dtypes, None)?;
        let peak = if narrow { self.peak_of(priced) } else { self.device.peak16 };
        let kernel = GemmKernel {
            batch: 2.0 * gemm.heads,
            m: 0.0,
            n: gemm.inputs,
            k: 0.5 * gemm.outputs / gemm.heads,
            peak: peak * float_peak(chosen.like, gemm.input),
            weight_bytes: if narrow { gemm.weight.bits() / 8.0 } else { 2.0 },
            input_bytes: if narrow { gemm.input.bytes() } else { 2.0 },
        };
        let twice = |form: Gemm| Gemm { t0_s: 2.0 * form.t0_s, w_tile: 2.0 * form.w_tile, ..form };
        Some(chosen.priced(|form| Price::Gemm(twice(form), kernel, gemm.rows)))
    }

    fn gemm(&self, gemm: &kernel::Gemm, priced: &Priced) -> Option<Compiled> {
        if gemm.heads > 0.0 {
            return self.heads(gemm, priced);
        }
        let dtypes = multiplied_as(gemm.weight, gemm.input);
        let usual = gemm.outputs >= NARROW && gemm.inputs >= NARROW;
        let dimensions = [("n", gemm.outputs), ("k", gemm.inputs)];
        let engine = self.timed_bare(dtypes, gemm.weight);
        let mut chosen = self.chooser.choose::<Gemm>(dtypes, engine)?.held(usual, &dimensions);
        if gemm.input.bytes() < 2.0 && self.act_quant(gemm.weight) != ActQuant::Dynamic {
            // What was measured may hold the kernels that quantise; launch them apart, or not at all.
            chosen.form.c_quant = 0.0;
            if let Some(plain) = self.chooser.choose::<Gemm>(&["bf16"], None) {
                chosen.form.t0_s = chosen.form.t0_s.min(plain.form.t0_s);
            }
        }
        let kernel = GemmKernel {
            batch: 1.0,
            m: 0.0,
            n: gemm.outputs,
            k: gemm.inputs,
            peak: self.peak_of(priced) * float_peak(chosen.like, gemm.input),
            weight_bytes: gemm.weight.bits() / 8.0,
            input_bytes: with_scales(gemm.input),
        };
        Some(chosen.priced(|form| Price::Gemm(form, kernel, gemm.rows)))
    }

    /// Whose kernels stand for the engine's own in a multiplication. TensorRT-LLM's NVFP4 was timed as a module that
    /// quantises its input first; where it folds that into the kernel before, vLLM's, which were timed bare, are nearer
    /// (1.4 times quicker at up to 64 tokens on a B200). What a user measured stands for itself.
    fn timed_bare(&self, dtypes: &[&str], weight: Storage) -> Option<&'static str> {
        let engine = self.prediction.engine.as_str();
        let measured = |set: &Set| set.fits.iter().any(|fit| is_own(fit, engine, dtypes[0]));
        let module = engine == "trtllm" && dtypes[0] == "nvfp4" && self.act_quant(weight) == ActQuant::Fused;
        (module && !self.prediction.sets.iter().any(measured)).then_some("vllm")
    }

    fn attention(&self, attention: &kernel::Attention) -> Option<Compiled> {
        let narrow = attention.kv.bytes() < 2.0;
        let peak = self.roof.peak(if narrow { Format::Fp8 } else { Format::Bf16 }).ok()? * self.under_load;
        let kernel = PrefillKernel {
            sequences: 0.0,
            tokens: 0.0,
            pairs: 0.0,
            keys: 0.0,
            longest: 0.0,
            heads: attention.heads,
            kv_heads: attention.kv_heads,
            key_dim: attention.key_dim,
            value_dim: attention.value_dim,
            activation_bytes: attention.activation_bytes,
            kv_bytes: attention.kv.bytes(),
            peak: self.device.peak16,
        };
        if attention.latent {
            let dimensions = [("heads", attention.heads)];
            let chosen = self.chooser.choose::<MlaPrefill>(&["bf16"], None)?.held(true, &dimensions);
            let kernel = PrefillKernel { peak: kernel.peak * chosen.like.peak, ..kernel };
            return Some(chosen.priced(|form| Price::Expanded(form, kernel)));
        }
        let windowed = attention.window.is_finite();
        let in_fp8 = narrow && self.prediction.engine == "trtllm";
        let decodes = answers_as(windowed, narrow);
        let usual = usual_heads(attention.heads, attention.kv_heads, attention.key_dim);
        let dimensions = [("heads", attention.heads), ("kv_heads", attention.kv_heads)];
        let prompts = |windowed| {
            let chosen = self.chooser.choose::<Prefill>(prompts_as(windowed, narrow, in_fp8), None);
            chosen.map(|chosen| chosen.held(usual, &dimensions))
        };
        let prefill = prompts(windowed);
        let plain = if windowed { prompts(false) } else { None };
        // Both kernels are held against one datasheet.
        let plain = plain.filter(|plain| prefill.as_ref().is_some_and(|prefill| prefill.like == plain.like));
        let decode =
            self.chooser.choose::<Decode>(decodes, None).map(|chosen| chosen.held(usual, &dimensions));
        let like = prefill.as_ref().map(|one| one.like);
        let like = like.or(decode.as_ref().map(|one| one.like)).unwrap_or(Like::SAME);
        let peak = like.peak * if in_fp8 { peak } else { kernel.peak };
        let kernel = PrefillKernel { peak, ..kernel };
        let answers = DecodeKernel {
            sequences: 0.0,
            keys: 0.0,
            pairs: 0.0,
            longest: 0.0,
            heads: attention.heads,
            kv_heads: attention.kv_heads,
            key_dim: attention.key_dim,
            value_dim: attention.value_dim,
            kv_bytes: attention.kv.bytes(),
        };
        let prompts = prefill.iter().chain(&plain).map(Chosen::trust);
        let known = prompts.chain(decode.iter().map(Chosen::trust));
        let (spread, source) = known.reduce(|one, other| (one.0.or_wider(other.0), one.1.max(other.1)))?;
        let largest = [prefill.as_ref().map(Chosen::largest), decode.as_ref().map(Chosen::largest)]
            .map(|known| known.unwrap_or(f64::INFINITY));
        let price = Price::Attention(
            prefill.map(|chosen| Prompts {
                form: chosen.form,
                plain: plain.map(|plain| plain.form),
                kernel,
                window: attention.window,
            }),
            decode.map(|chosen| (chosen.form, answers)),
            Seen { window: attention.window, at_once: attention.at_once },
        );
        Some(Compiled { price, spread, source, like, largest })
    }

    fn absorbed(&self, absorbed: &kernel::Absorbed) -> Option<Compiled> {
        let dtypes: &[&str] = if absorbed.kv.bytes() < 2.0 { &["fp8", "bf16"] } else { &["bf16"] };
        let chosen = self.chooser.choose::<MlaDecode>(dtypes, None)?.held(true, &[("heads", absorbed.heads)]);
        let kernel = MlaDecodeKernel {
            sequences: 0.0,
            keys: 0.0,
            pairs: 0.0,
            longest: 0.0,
            heads: absorbed.heads,
            latent: absorbed.latent,
            lora: absorbed.lora,
            kv_bytes: absorbed.kv.bytes(),
        };
        let seen = Seen { window: absorbed.window, at_once: absorbed.at_once };
        Some(chosen.priced(|form| Price::Absorbed(form, kernel, seen)))
    }

    fn experts(&self, experts: &kernel::Experts, priced: &Priced) -> Option<Compiled> {
        let flashinfer =
            self.prediction.engine == "sglang" && self.hardware.architecture.starts_with("blackwell");
        let dtypes = experts_as(experts.weight, experts.input, flashinfer);
        let usual = experts.ranks == 1.0 && experts.inner >= 128.0 && experts.matrices == 3.0;
        let dimensions = [("experts", experts.experts), ("hidden", experts.width), ("inner", experts.inner)];
        let chosen = self.chooser.choose::<Moe>(dtypes, None)?.held(usual, &dimensions);
        let kernel = MoeKernel {
            tokens: 0.0,
            visits: 0.0,
            meeting: 0.0,
            active: 0.0,
            experts: experts.experts,
            hidden: experts.width,
            inner: experts.inner,
            matrices: experts.matrices,
            peak: self.peak_of(priced) * float_peak(chosen.like, experts.input),
            weight_bytes: experts.weight.bits() / 8.0,
            input_bytes: with_scales(experts.input),
        };
        let quick = (self.prediction.engine == "trtllm").then(|| self.quick_experts(dtypes[0])).flatten();
        Some(chosen.priced(|form| Price::Experts(form, quick, *experts, kernel)))
    }

    /// Kernels for few tokens. TensorRT-LLM times all of its kernels for experts when it starts, and launches the quickest.
    fn quick_experts(&self, dtype: &str) -> Option<Moe> {
        let name = match dtype {
            "nvfp4" => "nvfp4-min-latency",
            "fp8_block" => "fp8_block-min-latency",
            _ => return None,
        };
        self.chooser.choose::<Moe>(&[name], None).map(|chosen| chosen.form)
    }

    fn quantise(&self, quantise: &kernel::Quantise) -> Option<Compiled> {
        let bytes = quantise.bytes;
        match self.act_quant(quantise.weight) {
            ActQuant::Fused => Some(Compiled::NOTHING),
            ActQuant::Static => {
                let chosen = self.chooser.choose::<ScaleMatrix>(&["bf16"], None)?;
                Some(chosen.priced(|form| Price::Scale(form, bytes)))
            }
            ActQuant::Dynamic => {
                // Where multiplications were measured with the kernels that quantise, those are not counted twice.
                let gemm = self.chooser.choose::<Gemm>(multiplied_as(quantise.weight, quantise.input), None);
                if gemm.is_some_and(|gemm| gemm.form.c_quant > 0.0) {
                    return Some(Compiled::NOTHING);
                }
                let find = self.chooser.choose::<ComputeScale>(&["bf16"], None)?;
                let scale = self.chooser.choose::<ScaleMatrix>(&["bf16"], None)?;
                Some(scale.priced(|form| Price::FindAndScale(find.form, form, bytes)))
            }
        }
    }

    fn transfer(&self, priced: &Priced) -> Option<Compiled> {
        let (transfer, group) = priced.group()?;
        let ranks = transfer.ranks as f64;
        let crossing = match transfer.collective {
            Collective::AllReduce => 2.0 * (ranks - 1.0) / ranks,
            Collective::PointToPoint => 1.0,
            _ => (ranks - 1.0) / ranks,
        };
        // The link that moves the share that crosses in the roofline's time, however many machines it spans.
        let per_byte = group.cost(transfer.collective, 1e9).seconds / 1e9;
        let through_host = !self.prediction.switches.p2p.unwrap_or(!self.hardware.scale_up.through_host);
        let slower = if through_host && group.machines == 1 { THROUGH_HOST } else { 1.0 };
        let kernel = CollectiveKernel { bytes: 0.0, ranks, crossing, link: crossing / per_byte / slower };
        let near = group.machines == 1 && !through_host;
        if transfer.collective == Collective::AllReduce && near {
            let eager = self.prediction.switches.launch == Launch::Eager;
            let dtypes: &[&str] = if eager { &["bf16-eager", "bf16"] } else { &["bf16"] };
            if let Some(chosen) = self.chooser.choose::<CustomAllReduce>(dtypes, None) {
                return Some(chosen.priced(|form| Price::CustomAllReduce(form, kernel)));
            }
        }
        let kinds = exchanged_as(transfer.collective);
        let chosen = self.chooser.choose::<Nccl>(kinds, Some("nccl"))?;
        Some(chosen.priced(|form| Price::Nccl(form, kernel)))
    }

    fn host(&self) -> Option<Compiled> {
        let mut chosen = self.chooser.choose::<Host>(&["bf16"], None)?;
        if let Some(host) = self.prediction.switches.host {
            chosen =
                Chosen { form: Host { h0_s: host.h0_s, h1_s: host.h1_s }, spread: Spread::NONE, ..chosen };
        }
        Some(chosen.priced(Price::Host))
    }
}

impl<F> Chosen<F> {
    /// Its band, and where it is from.
    fn trust(&self) -> (Spread, Source) {
        (self.spread, self.source.clone())
    }

    fn priced(self, price: impl FnOnce(F) -> Price) -> Compiled {
        let largest = [self.largest(); 2];
        Compiled {
            price: price(self.form),
            spread: self.spread,
            source: self.source,
            like: self.like,
            largest,
        }
    }
}

impl Price {
    /// Seconds that it takes however small it is.
    fn launch(&self) -> f64 {
        match self {
            Price::Nothing | Price::Host(_) | Price::Launching(..) => 0.0,
            Price::Gemm(form, ..) => form.t0_s,
            Price::Attention(prefill, decode, _) => {
                let prefill = prefill.map_or(0.0, |prompts| prompts.launch());
                decode.map_or(prefill, |(form, _)| form.t0_s)
            }
            Price::Expanded(form, _) => form.t0_s,
            Price::Absorbed(form, ..) => form.t0_s,
            Price::Experts(form, quick, experts, _) => {
                quick.map_or(form.t0_s, |quick| quick.t0_s.min(form.t0_s)) * experts.share
            }
            Price::Pass(form, _) => form.t0_s,
            Price::Scale(form, _) => form.t0_s,
            Price::FindAndScale(find, scale, _) => find.t0_s + scale.t0_s,
            Price::State(form) => form.t0_s,
            Price::Nccl(form, kernel) => form.a0_s + form.a1_s * (kernel.ranks - 1.0),
            Price::CustomAllReduce(form, kernel) => {
                (form.a0_s + form.a1_s * (kernel.ranks - 1.0)).max(form.host_s)
            }
        }
    }
}

impl Predicted {
    /// Seconds of one occurrence in a step of these sums, never fewer than its roofline's.
    #[inline]
    pub fn seconds(&self, op: &Op, parts: &Parts<'_>, part: &PhaseSums, ideal: &Cost) -> f64 {
        let device = &self.device;
        let pass = |rate: &Rate| ElementwiseKernel { bytes: rate.of(part, op.reach) };
        let seconds = match &self.price {
            Price::Nothing => return ideal.seconds,
            Price::Gemm(form, kernel, rows) => {
                form.seconds(device, &GemmKernel { m: rows.of(part, op.reach), ..*kernel })
            }
            Price::Attention(prefill, decode, seen) => {
                let prompts = (parts.prefill.tokens > 0.0).then_some(prefill.as_ref()).flatten();
                let answers = (parts.decode.tokens > 0.0).then_some(decode.as_ref()).flatten();
                let prompts = prompts.map_or((0.0, 0.0), |prompts| {
                    (prompts.seconds(device, parts.prefill, op.reach), prompts.launch())
                });
                let answers = answers.map_or((0.0, 0.0), |(form, kernel)| {
                    let sums = &parts.decode.reach[op.reach];
                    let kernel = DecodeKernel {
                        sequences: parts.decode.sequences,
                        keys: sums.keys,
                        pairs: sums.pairs * seen.at_once,
                        longest: parts.decode.longest.min(seen.window),
                        ..*kernel
                    };
                    (form.seconds(device, &kernel), form.t0_s)
                });
                // One launch serves both.
                prompts.0 + answers.0 - prompts.1.min(answers.1)
            }
            Price::Expanded(form, kernel) => {
                form.seconds(device, &prompts_of(kernel, part, op.reach, f64::INFINITY))
            }
            Price::Absorbed(form, kernel, seen) => {
                let sums = &part.reach[op.reach];
                let (sequences, keys, pairs) = (part.sequences, sums.keys, sums.pairs * seen.at_once);
                let longest = part.longest.min(seen.window);
                form.seconds(device, &MlaDecodeKernel { sequences, keys, pairs, longest, ..*kernel })
            }
            Price::Experts(form, quick, experts, kernel) => {
                let own = part.tokens * experts.at_once;
                let tokens = own * experts.ranks;
                let active = experts.experts * (1.0 - experts.missed.powf(tokens));
                let visits = own * experts.visits;
                let meeting = visits * experts.ranks;
                let kernel = MoeKernel { tokens, visits, meeting, active, ..*kernel };
                let usual = form.seconds(device, &kernel);
                experts.share * quick.map_or(usual, |quick| quick.seconds(device, &kernel).min(usual))
            }
            Price::Pass(form, bytes) => form.seconds(device, &pass(bytes)),
            Price::Scale(form, bytes) => form.seconds(device, &pass(bytes)),
            Price::FindAndScale(find, scale, bytes) => {
                let kernel = pass(bytes);
                find.seconds(device, &kernel) + scale.seconds(device, &kernel)
            }
            Price::State(form) => {
                form.seconds(device, &ElementwiseKernel { bytes: ideal.seconds * device.bandwidth })
            }
            Price::Nccl(form, kernel) => {
                form.seconds(device, &CollectiveKernel { bytes: ideal.buffer_bytes, ..*kernel })
            }
            Price::CustomAllReduce(form, kernel) => {
                form.seconds(device, &CollectiveKernel { bytes: ideal.buffer_bytes, ..*kernel })
            }
            Price::Host(form) => form.seconds(device, &HostKernel { sequences: part.sequences }),
            Price::Launching(seconds, captured) => {
                return if part.tokens > *captured { *seconds } else { 0.0 };
            }
        };
        (self.factor * seconds).max(self.floor).max(ideal.seconds)
    }

    /// Seconds below which most of it is launching, and whether it is nothing else.
    pub fn launching(&self) -> (f64, bool) {
        (2.0 * self.launch.max(self.floor), matches!(self.price, Price::Host(_) | Price::Launching(..)))
    }

    /// What launching a step's kernels takes; `None` for everything else.
    pub fn launched(&self) -> Option<Launched> {
        match self.price {
            Price::Launching(seconds, captured) => Some(Launched { seconds, captured }),
            _ => None,
        }
    }

    /// Whether most of so many seconds is launching.
    #[inline]
    pub fn is_launching(&self, seconds: f64) -> bool {
        let (below, only) = self.launching();
        below > seconds || only
    }
}
