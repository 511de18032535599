//! Configuration truth: what decides a step's time and no roofline knows, each with the default of its engine.

use crate::error::{Error, Result};
use crate::format::{Format, Storage};
use crate::hardware::Hardware;
use crate::names;
use crate::precision::{Precision, Request};

/// How activations are brought into the narrow format they are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActQuant {
    /// Inside the kernels before the multiplication: no time of its own.
    #[default]
    Fused,
    /// A kernel of its own, with scales that are known.
    Static,
    /// Kernels of their own that find the scales first.
    Dynamic,
}

/// How kernels are launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Launch {
    /// Recorded once, replayed as a graph.
    #[default]
    Graph,
    /// One by one by the host.
    Eager,
}

/// Seconds below which no kernel gets that the host launches one by one: an all-reduce that takes 4 µs in a graph takes
/// 20 µs so (H100).
pub const EAGER_S: f64 = 20e-6;

/// What the host needs to launch the kernels of a step with prompts, which are not replayed as a graph: however quick the
/// device, such a step takes as long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Launching {
    /// Seconds a kernel.
    pub kernel_s: f64,
    /// Tokens up to which steps with prompts are recorded as graphs, too.
    pub captured: f64,
}

/// Seconds a kernel, where an engine compiles what lies between its own kernels (vLLM), and where it runs that as written
/// (SGLang, TensorRT-LLM). An all-reduce launched so takes 20 µs under vLLM and 29 to 50 under SGLang whatever its size, a
/// multiplication with its quantisation 60 to 190 (tables of kernels launched by hosts); chosen within that on the served
/// MiniMax-M2.5.
const COMPILED_S: f64 = 30e-6;
const AS_WRITTEN_S: f64 = 45e-6;

/// Tokens up to which vLLM records steps with prompts: the largest size it captures (`compilation_config`, 512).
const CAPTURED: f64 = 512.0;

/// Share of its peaks that data-centre Blackwell holds while it serves, of what it holds in the loops in which kernels are
/// timed: their weights are one number repeated, which draws less power than a model's, and no data-centre GPU has less
/// power for its rate (0.44 W for 1 TFLOP/s in 16 bits; an H100 has 0.71, an RTX PRO 6000 1.28). Chosen on the served
/// MiniMax-M2.5.
const UNDER_LOAD: f64 = 0.8;

/// The host's share of a step that no kernel hides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostTime {
    /// Seconds a step.
    pub h0_s: f64,
    /// Seconds a sequence of it.
    pub h1_s: f64,
}

/// What configuration decides.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Switches {
    /// How activations are quantised; `None`: as the engine does for each kind of weight.
    pub act_quant: Option<ActQuant>,
    /// How kernels are launched.
    pub launch: Launch,
    /// Whether devices that talk over PCIe reach each other's memory; `None`: as far as is known of the device.
    pub p2p: Option<bool>,
    /// The host's share; `None`: that of the engine's fit.
    pub host: Option<HostTime>,
    /// Seconds the host needs to launch a kernel of a step with prompts; `None`: the engine's.
    pub launch_s: Option<f64>,
    /// Share of its peaks that the device holds under load; `None`: as far as is known of its architecture.
    pub under_load: Option<f64>,
}

/// The engine whose kernels the preset of that name runs.
pub fn kernels_of(preset: &str) -> &'static str {
    match names::normalise(preset).as_str() {
        name if name.starts_with("sglang") => "sglang",
        name if name.starts_with("trt") || name.starts_with("tensorrt") => "trtllm",
        _ => "vllm",
    }
}

/// The precision an engine really runs: TensorRT-LLM keeps the cache of fp8 and nvfp4 checkpoints in fp8 unless told
/// otherwise.
pub fn as_run_by(preset: &str, mut precision: Precision, request: &Request) -> Precision {
    let open = request.kv_cache_dtype.as_deref().is_none_or(|kv| kv == "auto");
    let narrow = ["fp8", "nvfp4"].iter().any(|name| precision.weights_name.starts_with(name));
    if open && narrow && kernels_of(preset) == "trtllm" && precision.kv.format.bytes() > 1.0 {
        precision.kv = Storage::plain(Format::Fp8);
    }
    precision
}

impl Switches {
    /// What launching the kernels of a step with prompts takes the host under `engine`.
    pub fn launching(&self, engine: &str) -> Launching {
        let vllm = engine == "vllm";
        let captured = if vllm && self.launch == Launch::Graph { CAPTURED } else { 0.0 };
        let kernel_s = self.launch_s.unwrap_or(if vllm { COMPILED_S } else { AS_WRITTEN_S });
        Launching { kernel_s, captured }
    }

    /// Share of its peaks that a device holds while it serves, of what timed kernels hold.
    pub fn under_load(&self, hardware: &Hardware) -> f64 {
        let throttles = ["blackwell", "blackwell-ultra"].contains(&hardware.architecture.as_str());
        self.under_load.unwrap_or(if throttles { UNDER_LOAD } else { 1.0 })
    }

    /// How activations are quantised for weights stored so. TensorRT-LLM folds scales into the kernels before, and vLLM's
    /// compiler does where a scale is a tensor's or a token's; for blocks of FP8 both launch kernels of their own, and for
    /// NVFP4 vLLM does: modules of latent attention, measured whole, are 14 to 22 % short without them. SGLang launches one
    /// for tensors; its kernels for blocks begin while the one before ends, so that those measured alone would be
    /// counted twice (chosen with the served DeepSeek rows in view).
    pub fn act_quant(&self, engine: &str, weight: Storage) -> ActQuant {
        let blocks = weight.format == Format::Fp8 && weight.group > 0;
        self.act_quant.unwrap_or(match engine {
            "trtllm" if !blocks => ActQuant::Fused,
            "vllm" if !blocks && weight.format != Format::Fp4 => ActQuant::Fused,
            "sglang" if blocks => ActQuant::Fused,
            _ => ActQuant::Dynamic,
        })
    }
}

impl HostTime {
    /// Seconds a step and seconds a sequence of it.
    ///
    /// # Errors
    /// One that is negative or not finite.
    pub fn of(h0_s: f64, h1_s: f64) -> Result<HostTime> {
        Ok(HostTime { h0_s: time("host.h0", h0_s)?, h1_s: time("host.h1", h1_s)? })
    }
}

/// Seconds in which the host launches a kernel.
///
/// # Errors
/// One that is negative or not finite.
pub fn launch_time(seconds: f64) -> Result<f64> {
    time("host.launch", seconds)
}

fn time(field: &str, seconds: f64) -> Result<f64> {
    if (0.0..=10.0).contains(&seconds) {
        return Ok(seconds);
    }
    Err(Error::spec(field, "must be seconds from 0 to 10", seconds, ""))
}

impl ActQuant {
    /// Every way, by name.
    pub const ALL: [(&'static str, ActQuant); 3] =
        [("fused", ActQuant::Fused), ("static", ActQuant::Static), ("dynamic", ActQuant::Dynamic)];

    /// The way of that name.
    ///
    /// # Errors
    /// Another name, with the nearest.
    pub fn parse(name: &str) -> Result<ActQuant> {
        named("act_quant", name, &ActQuant::ALL)
    }
}

impl Launch {
    /// Every way, by name.
    pub const ALL: [(&'static str, Launch); 2] = [("graph", Launch::Graph), ("eager", Launch::Eager)];

    /// The way of that name.
    ///
    /// # Errors
    /// Another name, with the nearest.
    pub fn parse(name: &str) -> Result<Launch> {
        named("launch", name, &Launch::ALL)
    }
}

fn named<T: Copy>(kind: &'static str, name: &str, all: &[(&'static str, T)]) -> Result<T> {
    let wanted = names::normalise(name);
    let found = all.iter().find(|(known, _)| *known == wanted).map(|(_, value)| *value);
    found.ok_or_else(|| names::unknown(kind, name, all.iter().map(|(known, _)| *known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_found_under_its_name_or_refused_with_the_nearest() {
        assert_eq!(ActQuant::parse("Dynamic").unwrap(), ActQuant::Dynamic);
        assert_eq!(Launch::parse("eager").unwrap(), Launch::Eager);
        assert_eq!(ActQuant::parse("statik").unwrap_err().to_string(), "no act_quant is called `statik`");
        assert!(Launch::parse("grap").unwrap_err().hint().contains("graph"));
    }

    #[test]
    fn an_engine_quantises_as_it_does_unless_told_otherwise() {
        let of = |engine: &str, weight| Switches::default().act_quant(engine, weight);
        assert_eq!(of("vllm", Storage::plain(Format::Fp8)), ActQuant::Fused);
        assert_eq!(of("vllm", Storage::FP8_BLOCK), ActQuant::Dynamic);
        assert_eq!(of("trtllm", Storage::plain(Format::Fp8)), ActQuant::Fused);
        assert_eq!(of("trtllm", Storage::FP8_BLOCK), ActQuant::Dynamic);
        assert_eq!(of("vllm", Storage::plain(Format::Fp4)), ActQuant::Dynamic);
        assert_eq!(of("trtllm", Storage::plain(Format::Fp4)), ActQuant::Fused);
        assert_eq!(of("sglang", Storage::plain(Format::Fp8)), ActQuant::Dynamic);
        assert_eq!(of("sglang", Storage::FP8_BLOCK), ActQuant::Fused);
        let told = Switches { act_quant: Some(ActQuant::Static), ..Switches::default() };
        assert_eq!(told.act_quant("trtllm", Storage::FP8_BLOCK), ActQuant::Static);
    }

    #[test]
    fn what_is_compiled_is_launched_sooner_and_small_steps_are_recorded() {
        let of = |engine: &str| Switches::default().launching(engine);
        assert!(of("vllm").kernel_s < of("trtllm").kernel_s && of("sglang") == of("trtllm"));
        assert_eq!((of("vllm").captured, of("sglang").captured), (CAPTURED, 0.0));
        let eager = Switches { launch: Launch::Eager, ..Switches::default() }.launching("vllm");
        assert_eq!(eager, Launching { captured: 0.0, ..of("vllm") });
        let told = Switches { launch_s: Some(1e-5), ..Switches::default() }.launching("vllm");
        assert_eq!(told, Launching { kernel_s: 1e-5, captured: CAPTURED });
    }

    #[test]
    fn devices_with_little_power_for_their_rate_are_slower_under_load() {
        let of = |name: &str| {
            let hardware = crate::catalog::hardware::hardware(name).unwrap().item;
            Switches::default().under_load(&hardware)
        };
        assert_eq!(["b200-sxm", "b300-sxm"].map(of), [UNDER_LOAD; 2]);
        assert_eq!(["h100-sxm", "rtx-pro-6000-server", "a100-80gb-sxm"].map(of), [1.0; 3]);
    }

    #[test]
    fn the_hosts_share_is_a_time() {
        assert!(HostTime::of(1e-3, 0.0).is_ok());
        let error = HostTime::of(1e-3, f64::NAN).unwrap_err().to_string();
        assert_eq!(error, "host.h1 must be seconds from 0 to 10: NaN");
        let error = launch_time(-1.0).unwrap_err().to_string();
        assert_eq!(error, "host.launch must be seconds from 0 to 10: -1");
    }

    #[test]
    fn an_fp8_checkpoint_has_an_fp8_cache_under_tensorrt_llm_unless_told_otherwise() {
        let model = crate::catalog::models::model("llama-3.1-70b-fp8").unwrap();
        let kv = |preset: &str, kv: Option<&str>| {
            let request = Request { kv_cache_dtype: kv.map(str::to_string), ..Request::default() };
            as_run_by(preset, Precision::resolve(&model, &request).unwrap(), &request).kv.format
        };
        assert_eq!(kv("trtllm", None), Format::Fp8);
        assert_eq!(kv("trtllm", Some("bf16")), Format::Bf16);
        assert_eq!(kv("vllm", None), Format::Bf16);
    }

    #[test]
    fn every_preset_runs_the_kernels_of_some_engine() {
        let kernels = ["vllm-sync", "sglang", "trtllm", "TensorRT-LLM", "sarathi"].map(kernels_of);
        assert_eq!(kernels, ["vllm", "sglang", "trtllm", "trtllm", "vllm"]);
    }
}
