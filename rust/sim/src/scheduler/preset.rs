//! Engines by name: the settings a serving engine starts with when nothing is said.

use roofline_core::error::Result;
use roofline_core::names;
use roofline_core::units::GIB;

use super::config::{EngineConfig, Policy};
use super::rules::Rules;

/// The engines that can be simulated.
pub const ENGINES: [&str; 2] = ["vllm", "vllm-sync"];

/// Devices as vLLM's defaults tell them apart (0.33.0, `engine/arg_utils.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceClass {
    /// At least 160 GiB: B200, B300, MI300X and the like.
    Large,
    /// At least 70 GiB, but neither an A100 nor a GB10: H100, H200 and the like.
    Standard,
    /// Everything else.
    Small,
}

impl DeviceClass {
    /// The class of a device by its memory and its name.
    pub fn of(memory_bytes: f64, name: &str) -> DeviceClass {
        let name = names::normalise(name);
        if memory_bytes >= 160.0 * GIB {
            DeviceClass::Large
        } else if memory_bytes >= 70.0 * GIB && !name.contains("a100") && !name.contains("gb10") {
            DeviceClass::Standard
        } else {
            DeviceClass::Small
        }
    }
}

/// The settings of `vllm serve` 0.33.0 on such a device; `num_gpu_blocks` is 0 until memory is divided.
///
/// # Errors
/// An unknown engine, with the nearest known ones.
///
/// ```
/// use roofline_sim::scheduler::preset::{DeviceClass, preset};
/// let engine = preset("vllm", DeviceClass::Standard)?;
/// assert_eq!((engine.max_num_batched_tokens, engine.max_num_seqs), (8192, 1024));
/// assert!(preset("vlm", DeviceClass::Standard).unwrap_err().hint().contains("vllm"));
/// # Ok::<(), roofline_core::error::Error>(())
/// ```
pub fn preset(name: &str, device: DeviceClass) -> Result<EngineConfig> {
    let plain = names::normalise(name);
    if !ENGINES.contains(&plain.as_str()) {
        return Err(names::unknown("engine", name, ENGINES));
    }
    let (max_num_batched_tokens, max_num_seqs) = match device {
        DeviceClass::Large => (16384, 1024),
        DeviceClass::Standard => (8192, 1024),
        DeviceClass::Small => (2048, 256),
    };
    Ok(EngineConfig {
        rules: Rules::Vllm,
        max_num_seqs,
        max_num_batched_tokens,
        max_model_len: None,
        block_size: 16,
        num_gpu_blocks: 0,
        enable_chunked_prefill: true,
        enable_prefix_caching: true,
        async_scheduling: plain != "vllm-sync",
        scheduling_policy: Policy::Fcfs,
        watermark: 0.0,
        long_prefill_token_threshold: 0,
        long_prefill_token_threshold_adaptive: false,
        scheduler_reserve_full_isl: true,
        prefill_schedule_interval: 1,
        max_num_active_seqs: None,
        speculation: None,
        pipeline_parallel: 1,
        data_parallel: 1,
        data_parallel_lockstep: false,
    })
}

impl EngineConfig {
    /// Adjusts defaults to a model as vLLM does, where the user set neither limit: without chunked prefill a step
    /// takes a whole prompt, it never takes more than all sequences together, and has no more sequences than tokens.
    #[must_use]
    pub fn adjusted_to(mut self, max_model_len: u32) -> EngineConfig {
        if !self.enable_chunked_prefill {
            self.max_num_batched_tokens = self.max_num_batched_tokens.max(max_model_len);
        }
        self.max_num_batched_tokens =
            self.max_num_batched_tokens.min(self.max_num_seqs.saturating_mul(max_model_len));
        self.max_num_seqs = self.max_num_seqs.min(self.max_num_batched_tokens);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_a100_has_the_defaults_of_a_small_device_whatever_its_memory() {
        assert_eq!(DeviceClass::of(80.0 * GIB, "a100-sxm-80gb"), DeviceClass::Small);
        assert_eq!(DeviceClass::of(79.6 * GIB, "h100-sxm"), DeviceClass::Standard);
        assert_eq!(DeviceClass::of(178.0 * GIB, "b200"), DeviceClass::Large);
        assert_eq!(DeviceClass::of(119.0 * GIB, "NVIDIA GB10"), DeviceClass::Small);
        assert_eq!(preset("vllm", DeviceClass::Small).unwrap().max_num_seqs, 256);
    }

    #[test]
    fn engines_differ_in_what_they_are_named_for() {
        assert!(preset("vLLM", DeviceClass::Large).unwrap().async_scheduling);
        assert!(!preset("vllm_sync", DeviceClass::Large).unwrap().async_scheduling);
    }

    #[test]
    fn defaults_follow_the_model() {
        let engine = preset("vllm", DeviceClass::Standard).unwrap();
        let whole = EngineConfig { enable_chunked_prefill: false, ..engine.clone() };
        assert_eq!(whole.adjusted_to(32_768).max_num_batched_tokens, 32_768);
        let tiny = engine.adjusted_to(4);
        assert_eq!((tiny.max_num_batched_tokens, tiny.max_num_seqs), (4096, 1024));
    }
}
