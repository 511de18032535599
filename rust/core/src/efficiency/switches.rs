//! Configuration truth: what decides a step's time and no roofline knows, each with the default of its engine.

use crate::error::{Error, Result};
use crate::format::{Format, Storage};
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
/// 20 µs so (H100; FIDELITY §2).
pub const EAGER_S: f64 = 20e-6;

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
        for (field, value) in [("host.h0", h0_s), ("host.h1", h1_s)] {
            if !(0.0..=10.0).contains(&value) {
                return Err(Error::spec(field, "must be seconds from 0 to 10", value, ""));
            }
        }
        Ok(HostTime { h0_s, h1_s })
    }
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
    fn the_hosts_share_is_a_time() {
        assert!(HostTime::of(1e-3, 0.0).is_ok());
        let error = HostTime::of(1e-3, f64::NAN).unwrap_err().to_string();
        assert_eq!(error, "host.h1 must be seconds from 0 to 10: NaN");
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
