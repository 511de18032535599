//! Engines by name: the settings a serving engine starts with when nothing is said.

use roofline_core::error::Result;
use roofline_core::groups::Groups;
use roofline_core::memory::MemoryShare;
use roofline_core::names;
use roofline_core::units::{GIB, MIB};

use super::config::{EngineConfig, Policy};
use super::rules::{Capacity, Rules, Sglang};

/// The engines that can be simulated.
pub const ENGINES: [&str; 8] =
    ["vllm", "vllm-sync", "vllm-v0", "sarathi", "orca", "static", "sglang", "trtllm"];

/// Context length beyond which an engine that never cuts a prompt is started only if asked: its activations grow with
/// it. vLLM V0 turned to chunked prefill from there on.
pub const LONGEST_WHOLE_PROMPT: u32 = 32_768;

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

/// The settings an engine starts with on such a device; `num_gpu_blocks` is 0 until memory is divided.
///
/// `vllm` is `vllm serve` 0.33.0. Whose settings the others are, and of which version, says the first line of each
/// policy; what no source says is assumed: 128 sequences for Orca and static batches (as in Vidur), vLLM's share of
/// memory for engines before it.
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
    let vllm = vllm(device);
    // Engines that compute one step at a time, know no prefixes, and leave a share of memory to activations.
    let plainer = EngineConfig {
        gpu_memory_utilization: 0.90,
        max_num_seqs: 128,
        max_num_batched_tokens: 2048,
        enable_prefix_caching: false,
        async_scheduling: false,
        ..vllm.clone()
    };
    let whole = EngineConfig { enable_chunked_prefill: false, ..plainer.clone() };
    Ok(match plain.as_str() {
        "vllm" => vllm,
        "vllm-sync" => EngineConfig { async_scheduling: false, ..vllm },
        "vllm-v0" => EngineConfig { rules: Rules::VllmV0, max_num_seqs: 256, watermark: 0.01, ..whole },
        "sarathi" => {
            EngineConfig { rules: Rules::Sarathi, max_num_batched_tokens: 512, watermark: 0.01, ..plainer }
        }
        "orca" => EngineConfig { rules: Rules::Orca, ..whole },
        "static" => EngineConfig { rules: Rules::Static, ..whole },
        "sglang" => sglang(device, vllm),
        "trtllm" => EngineConfig {
            rules: Rules::Trtllm(Capacity::GuaranteedNoEvict),
            gpu_memory_utilization: 0.9,
            max_num_seqs: 2048,
            max_num_batched_tokens: 8192,
            block_size: 32,
            enable_chunked_prefill: false,
            ..vllm
        },
        _ => return Err(names::unknown("engine", name, ENGINES)),
    })
}

fn vllm(device: DeviceClass) -> EngineConfig {
    let (max_num_batched_tokens, max_num_seqs) = match device {
        DeviceClass::Large => (16384, 1024),
        DeviceClass::Standard => (8192, 1024),
        DeviceClass::Small => (2048, 256),
    };
    EngineConfig {
        rules: Rules::Vllm,
        gpu_memory_utilization: 0.92,
        max_num_seqs,
        max_num_batched_tokens,
        max_model_len: None,
        block_size: 16,
        num_gpu_blocks: 0,
        groups: Groups::default(),
        enable_chunked_prefill: true,
        enable_prefix_caching: true,
        async_scheduling: true,
        scheduling_policy: Policy::Fcfs,
        watermark: 0.0,
        long_prefill_token_threshold: 0,
        long_prefill_token_threshold_adaptive: false,
        scheduler_reserve_full_isl: true,
        prefill_schedule_interval: 1,
        max_num_active_seqs: None,
        max_num_scheduled_tokens: None,
        max_num_queued_reqs: None,
        stream_interval: 1,
        swap: None,
        speculation: None,
        pipeline_parallel: 1,
        data_parallel: 1,
        data_parallel_lockstep: false,
    }
}

fn sglang(device: DeviceClass, vllm: EngineConfig) -> EngineConfig {
    let settings =
        Sglang { max_prefill_tokens: 16384, schedule_conservativeness: 1.0, enable_mixed_chunk: false };
    let memory_bytes = match device {
        DeviceClass::Large => 180.0 * GIB,
        DeviceClass::Standard => 80.0 * GIB,
        DeviceClass::Small => 24.0 * GIB,
    };
    let engine = EngineConfig {
        rules: Rules::Sglang(settings),
        max_num_seqs: SGLANG_LEAST_SEQUENCES,
        block_size: 1,
        ..vllm
    };
    engine.sglang_on(memory_bytes, 1, true)
}

/// Sequences that SGLang lets run at least, where memory is small or contexts are long; twice as many at most.
const SGLANG_LEAST_SEQUENCES: u32 = 2048;

impl EngineConfig {
    /// The sizes SGLang 0.5 chooses by a device's memory (`server_args.py`): tokens of a chunk unless `chunk` is false, and
    /// the static share of memory, which leaves room for what a chunk and CUDA graphs need; `gpus` work together.
    #[must_use]
    pub fn sglang_on(mut self, memory_bytes: f64, gpus: u32, chunk: bool) -> EngineConfig {
        let gib = memory_bytes / GIB;
        let few = gpus < 4;
        let (tokens, graphs) = match gib {
            gib if gib < 20.0 => (2048, 8),
            gib if gib < 35.0 => (2048, if few { 24 } else { 80 }),
            gib if gib < 60.0 => (4096, if few { 32 } else { 160 }),
            gib if gib < 160.0 => (8192, if few { 256 } else { 512 }),
            _ => (16384, 512),
        };
        if chunk {
            self.max_num_batched_tokens = tokens;
        }
        let mib = memory_bytes / MIB;
        let largest = f64::from(self.max_num_batched_tokens.max(2048));
        let reserved = 512.0 + 1.5 * largest + 2.0 * f64::from(graphs) + 128.0 * f64::from(gpus);
        let reserved = if gib > 60.0 { reserved.max(10.0 * 1024.0) } else { reserved };
        self.gpu_memory_utilization = ((mib - reserved).max(0.0) / mib * 1000.0).round() / 1000.0;
        self
    }

    /// Sequences SGLang lets run at once for a model of that context length, once its pages are counted.
    pub fn sglang_sequences(&self, context: u32) -> u32 {
        let tokens = u64::from(self.num_gpu_blocks.saturating_sub(1)) * u64::from(self.block_size);
        let sequences = tokens * 512 / u64::from(context.max(1));
        let least = u64::from(SGLANG_LEAST_SEQUENCES);
        sequences.clamp(least, 2 * least) as u32
    }

    /// What its share of memory is a share of.
    pub fn memory_share(&self) -> MemoryShare {
        match self.rules {
            Rules::Sglang(_) => MemoryShare::Static,
            Rules::Trtllm(_) => MemoryShare::Free,
            _ => MemoryShare::Device,
        }
    }

    /// Adjusts defaults to a model as vLLM does, where the user set neither limit: without chunked prefill a step
    /// takes a whole prompt, it never takes more than all sequences together, and has no more sequences than tokens.
    #[must_use]
    pub fn adjusted_to(mut self, max_model_len: u32) -> EngineConfig {
        if matches!(self.rules, Rules::Sglang(_) | Rules::Trtllm(_)) {
            return self;
        }
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
        for name in ENGINES {
            let engine = EngineConfig {
                num_gpu_blocks: 5000,
                max_model_len: Some(2048),
                ..preset(name, DeviceClass::Standard).unwrap()
            };
            assert!(engine.limits().is_ok(), "{name}: {:?}", engine.limits());
        }
    }

    #[test]
    fn sglang_leaves_room_for_a_chunk_and_its_graphs() {
        let engine = |gib: f64, gpus: u32| {
            preset("sglang", DeviceClass::Standard).unwrap().sglang_on(gib * GIB, gpus, true)
        };
        // 81,559 MiB less 512 + 1.5 × 8192 + 2 × 256 + 128.
        let h100 = engine(81_559.0 / 1024.0, 1);
        assert_eq!((h100.max_num_batched_tokens, h100.gpu_memory_utilization), (8192, 0.835));
        assert_eq!(engine(180.0, 8).max_num_batched_tokens, 16384);
        assert_eq!(engine(24.0, 1).max_num_batched_tokens, 2048);
        let pool = EngineConfig { num_gpu_blocks: 400_001, ..h100 };
        assert_eq!(pool.sglang_sequences(131_072), 2048);
        assert_eq!((pool.sglang_sequences(65_536), pool.sglang_sequences(4096)), (3125, 4096));
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
