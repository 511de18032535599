//! What a user sets of an engine, under vLLM's names; what is not set keeps the engine's own default.

use roofline_core::error::{Error, Result};
use roofline_core::hardware::Hardware;
use roofline_core::memory::{BlockSize, EngineMemory, Pages};
use roofline_core::model::Model;
use roofline_core::names;
use roofline_core::step::Deployment;

use crate::scheduler::config::{EngineConfig, Policy};
use crate::scheduler::preset::{DeviceClass, preset};
use crate::scheduler::rules::{Capacity, Rules};
use crate::scheduler::speculation::{DraftMethod, Speculation};

/// Tokens of a step where vLLM 0.33's `LLM` class starts it: on small devices, and on those that run 1,024 sequences.
const LLM_CLASS_TOKENS: u32 = 8192;
const LLM_CLASS_LARGE_TOKENS: u32 = 16384;
const LLM_CLASS_SEQUENCES: u32 = 1024;

/// What a user sets of an engine; what is absent keeps the preset's value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Knobs {
    /// Share of memory the engine may use; SGLang's `mem_fraction_static`, TensorRT-LLM's `free_gpu_memory_fraction`.
    pub gpu_memory_utilization: Option<f64>,
    /// Whether steps are launched one kernel at a time: no memory is kept for CUDA graphs.
    pub enforce_eager: Option<bool>,
    /// KV blocks instead of what memory gives.
    pub num_gpu_blocks_override: Option<u32>,
    /// Tokens of prompt and answer together.
    pub max_model_len: Option<u32>,
    /// Sequences that may run at once.
    pub max_num_seqs: Option<u32>,
    /// Tokens a step may process.
    pub max_num_batched_tokens: Option<u32>,
    /// Tokens a KV block holds.
    pub block_size: Option<u32>,
    /// Whether a prompt may be computed in several steps.
    pub enable_chunked_prefill: Option<bool>,
    /// Whether prefixes are found again.
    pub enable_prefix_caching: Option<bool>,
    /// Whether a step is scheduled while the one before it runs.
    pub async_scheduling: Option<bool>,
    /// `fcfs`, `priority` (vLLM) or `lpm` (SGLang).
    pub scheduling_policy: Option<String>,
    /// Share of the blocks left free when a request is admitted beside others.
    pub watermark: Option<f64>,
    /// Most tokens of one prompt a step takes while others run or wait.
    pub long_prefill_token_threshold: Option<u32>,
    /// Whether that limit rises to an equal share of the step's tokens.
    pub long_prefill_token_threshold_adaptive: Option<bool>,
    /// Whether a request is admitted only if its whole prompt fits.
    pub scheduler_reserve_full_isl: Option<bool>,
    /// Prompts are computed every this many steps while others decode.
    pub prefill_schedule_interval: Option<u32>,
    /// Sequences that may run at once, if fewer than `max_num_seqs`.
    pub max_num_active_seqs: Option<u32>,
    /// Most prompt tokens of a step over all its requests (SGLang).
    pub max_prefill_tokens: Option<u32>,
    /// How much of the answers to come is set aside at admission (SGLang).
    pub schedule_conservativeness: Option<f64>,
    /// Whether running requests continue in a step that computes prompts (SGLang).
    pub enable_mixed_chunk: Option<bool>,
    /// `guaranteed-no-evict` or `max-utilization` (TensorRT-LLM).
    pub capacity_scheduler_policy: Option<String>,
    /// `recompute` or `swap` (vLLM V0).
    pub preemption_mode: Option<String>,
    /// GiB of the host a device swaps to (vLLM V0).
    pub swap_space: Option<f64>,
    /// Tokens that layers with a window have room for, as a share of those of others (SGLang).
    pub swa_full_tokens_ratio: Option<f64>,
    /// Bytes of states as a share of those of the KV cache (SGLang).
    pub mamba_full_memory_ratio: Option<f64>,
    /// `api-server` or `llm`: which of vLLM's defaults a step's tokens have.
    pub usage_context: Option<String>,
    /// `balanced`, `interactivity` or `throughput` (vLLM).
    pub performance_mode: Option<String>,
    /// Bytes of the KV cache on a device, instead of what memory gives (vLLM).
    pub kv_cache_memory_bytes: Option<f64>,
    /// Tokens a step may process, if fewer than it may be fed (vLLM).
    pub max_num_scheduled_tokens: Option<u32>,
    /// Requests that may wait; others are refused (vLLM).
    pub max_num_queued_reqs: Option<u32>,
    /// Tokens of an answer that are sent together.
    pub stream_interval: Option<u32>,
    /// Speculative decoding.
    pub speculation: Option<Speculation>,
    /// The model that drafts, where a model of its own does.
    pub spec_model: Option<Model>,
    /// Seed of the draws of a technique that drafts.
    pub seed: u64,
}

impl Knobs {
    /// The engine of that name for a deployment, with what the user set; KV blocks and context length are not decided
    /// yet.
    ///
    /// # Errors
    /// An unknown engine or policy.
    pub fn engine(&self, name: &str, deployment: &Deployment) -> Result<EngineConfig> {
        let gpus = (deployment.layout.tp * deployment.layout.pp) as u32;
        let mut engine = self.on_several(name, &deployment.hardware, gpus)?;
        engine.pipeline_parallel = deployment.layout.pp as u32;
        engine.data_parallel = deployment.layout.dp as u32;
        Ok(engine)
    }

    /// The same for one replica of one stage on a device.
    ///
    /// # Errors
    /// An unknown engine or policy.
    pub fn on(&self, name: &str, hardware: &Hardware) -> Result<EngineConfig> {
        self.on_several(name, hardware, 1)
    }

    fn on_several(&self, name: &str, hardware: &Hardware, gpus: u32) -> Result<EngineConfig> {
        self.check()?;
        let memory = hardware.memory.capacity.value.unwrap_or(0.0);
        let mut engine = preset(name, DeviceClass::of(memory, &hardware.name))?;
        self.refuse_others(&names::normalise(name), engine.rules)?;
        let chunk = self.enable_chunked_prefill.unwrap_or(true);
        match &mut engine.rules {
            Rules::Sglang(settings) => {
                let set = &mut settings.max_prefill_tokens;
                *set = self.max_prefill_tokens.unwrap_or(*set);
                let set = &mut settings.schedule_conservativeness;
                *set = self.schedule_conservativeness.unwrap_or(*set);
                settings.enable_mixed_chunk = self.enable_mixed_chunk.unwrap_or(false);
                let largest =
                    if chunk { self.max_num_batched_tokens } else { Some(settings.max_prefill_tokens) };
                engine.max_num_batched_tokens = largest.unwrap_or(engine.max_num_batched_tokens);
                engine = engine.sglang_on(memory, gpus, largest.is_none());
                // SGLang overlaps no speculation that verifies a tree.
                engine.async_scheduling = self.speculation.is_none();
            }
            Rules::Trtllm(capacity) => {
                if let Some(policy) = &self.capacity_scheduler_policy {
                    *capacity = Capacity::parse(policy)?;
                }
            }
            _ => {}
        }
        self.start_as_asked(&mut engine)?;
        engine.gpu_memory_utilization = self.gpu_memory_utilization.unwrap_or(engine.gpu_memory_utilization);
        let set = |field: &mut u32, value: Option<u32>| *field = value.unwrap_or(*field);
        let switch = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
        set(&mut engine.max_num_seqs, self.max_num_seqs);
        set(&mut engine.max_num_batched_tokens, self.max_num_batched_tokens);
        set(&mut engine.block_size, self.block_size);
        set(&mut engine.long_prefill_token_threshold, self.long_prefill_token_threshold);
        set(&mut engine.prefill_schedule_interval, self.prefill_schedule_interval);
        set(&mut engine.stream_interval, self.stream_interval);
        switch(&mut engine.enable_chunked_prefill, self.enable_chunked_prefill);
        switch(&mut engine.enable_prefix_caching, self.enable_prefix_caching);
        switch(&mut engine.async_scheduling, self.async_scheduling);
        switch(&mut engine.long_prefill_token_threshold_adaptive, self.long_prefill_token_threshold_adaptive);
        switch(&mut engine.scheduler_reserve_full_isl, self.scheduler_reserve_full_isl);
        engine.max_num_active_seqs = self.max_num_active_seqs;
        engine.max_num_scheduled_tokens = self.max_num_scheduled_tokens;
        engine.max_num_queued_reqs = self.max_num_queued_reqs;
        engine.speculation.clone_from(&self.speculation);
        engine.watermark = self.watermark.unwrap_or(engine.watermark);
        if let Some(policy) = &self.scheduling_policy {
            engine.scheduling_policy = Policy::parse(policy)?;
        }
        if self.max_num_seqs.is_none() && engine.rules.counts_answers() {
            engine.max_num_seqs = engine.max_num_seqs.min(engine.max_num_batched_tokens);
        }
        Ok(engine)
    }

    /// vLLM's defaults for who starts it, and for what.
    fn start_as_asked(&self, engine: &mut EngineConfig) -> Result<()> {
        match self.usage_context.as_deref().map(names::normalise).as_deref() {
            None | Some("api-server" | "openai-api-server") => {}
            Some("llm" | "llm-class") => {
                engine.max_num_batched_tokens = engine.max_num_batched_tokens.max(LLM_CLASS_TOKENS);
                if engine.max_num_seqs >= LLM_CLASS_SEQUENCES {
                    engine.max_num_batched_tokens = LLM_CLASS_LARGE_TOKENS;
                }
            }
            Some(_) => {
                let name = self.usage_context.as_deref().unwrap_or_default();
                return Err(names::unknown("usage context", name, ["api-server", "llm"]));
            }
        }
        match self.performance_mode.as_deref() {
            None | Some("balanced" | "interactivity") => {}
            Some("throughput") => {
                engine.max_num_batched_tokens *= 2;
                engine.max_num_seqs *= 2;
            }
            Some(name) => {
                let known = ["balanced", "interactivity", "throughput"];
                return Err(names::unknown("performance mode", name, known));
            }
        }
        Ok(())
    }

    /// Whether who gives way keeps its blocks with the host.
    pub(crate) fn swaps(&self) -> Result<bool> {
        let swaps = match self.preemption_mode.as_deref() {
            None | Some("recompute") => false,
            Some("swap") => true,
            Some(name) => return Err(names::unknown("preemption mode", name, ["recompute", "swap"])),
        };
        match self.swap_space {
            Some(gib) if !swaps => {
                let hint = "requests are recomputed unless told otherwise";
                let must = "must be left out without preemption_mode swap";
                Err(Error::spec("swap_space", must, gib, hint))
            }
            _ => Ok(swaps),
        }
    }

    /// What is left out of the time that drafts take, if anything.
    pub(crate) fn drafting_note(&self) -> Option<String> {
        let note = match (self.speculation.as_ref()?.method, &self.spec_model) {
            (DraftMethod::Ngram, _) => "drafts are looked up on the host: no time of the device",
            (DraftMethod::DraftModel, None) => {
                "drafts cost nothing until they are verified: name the model that makes them (spec_model)"
            }
            _ => return None,
        };
        Some(note.to_string())
    }

    /// Refuses what is set but what the engine does not have.
    fn refuse_others(&self, name: &str, rules: Rules) -> Result<()> {
        let drafts = self.speculation.as_ref().is_some_and(|drafts| drafts.method == DraftMethod::DraftModel);
        if self.spec_model.is_some() && !drafts {
            let hint = "other methods draft without one";
            return Err(Error::spec(
                "spec_model",
                "must be given with spec_method draft-model only",
                "given",
                hint,
            ));
        }
        let set = [
            ("enable_chunked_prefill", self.enable_chunked_prefill.is_some()),
            ("enable_prefix_caching", self.enable_prefix_caching.is_some()),
            ("async_scheduling", self.async_scheduling.is_some()),
            ("scheduling_policy", self.scheduling_policy.is_some()),
            ("watermark", self.watermark.is_some()),
            ("long_prefill_token_threshold", self.long_prefill_token_threshold.is_some()),
            ("long_prefill_token_threshold_adaptive", self.long_prefill_token_threshold_adaptive.is_some()),
            ("scheduler_reserve_full_isl", self.scheduler_reserve_full_isl.is_some()),
            ("prefill_schedule_interval", self.prefill_schedule_interval.is_some()),
            ("max_num_active_seqs", self.max_num_active_seqs.is_some()),
            ("max_prefill_tokens", self.max_prefill_tokens.is_some()),
            ("schedule_conservativeness", self.schedule_conservativeness.is_some()),
            ("enable_mixed_chunk", self.enable_mixed_chunk.is_some()),
            ("capacity_scheduler_policy", self.capacity_scheduler_policy.is_some()),
            ("preemption_mode", self.preemption_mode.is_some()),
            ("swap_space", self.swap_space.is_some()),
            ("swa_full_tokens_ratio", self.swa_full_tokens_ratio.is_some()),
            ("mamba_full_memory_ratio", self.mamba_full_memory_ratio.is_some()),
            ("usage_context", self.usage_context.is_some()),
            ("performance_mode", self.performance_mode.is_some()),
            ("kv_cache_memory_bytes", self.kv_cache_memory_bytes.is_some()),
            ("max_num_scheduled_tokens", self.max_num_scheduled_tokens.is_some()),
            ("max_num_queued_reqs", self.max_num_queued_reqs.is_some()),
            ("stream_interval", self.stream_interval.is_some()),
            ("spec_method", self.speculation.is_some()),
        ];
        let known = rules.settings();
        let foreign =
            set.into_iter().filter(|(field, set)| *set && !known.contains(field)).map(|(field, _)| {
                let hint = match known {
                    [] => "beside sizes it has no settings".to_string(),
                    known => format!("beside sizes it has {}", known.join(", ")),
                };
                Error::spec(field, format!("must be a setting that the engine `{name}` has"), "given", hint)
            });
        Error::all("engine", foreign.collect())
    }

    /// Sizes that nothing else can be computed from.
    fn check(&self) -> Result<()> {
        let least = [
            ("max_num_seqs", self.max_num_seqs, 1),
            ("max_num_batched_tokens", self.max_num_batched_tokens, 1),
            ("block_size", self.block_size, 1),
            ("num_gpu_blocks_override", self.num_gpu_blocks_override, 2),
            ("max_model_len", self.max_model_len, 1),
            ("max_num_scheduled_tokens", self.max_num_scheduled_tokens, 1),
            ("max_num_queued_reqs", self.max_num_queued_reqs, 1),
            ("stream_interval", self.stream_interval, 1),
        ];
        let wrong = least.into_iter().filter_map(|(field, value, least)| {
            let value = value.filter(|value| *value < least)?;
            Some(Error::spec(field, format!("must be at least {least}"), value, ""))
        });
        Error::all("engine", wrong.collect())?;
        match self.kv_cache_memory_bytes {
            Some(bytes) if !(bytes.is_finite() && bytes > 0.0) => {
                let hint = "bytes on each device, for example 40e9";
                Err(Error::spec("kv_cache_memory_bytes", "must be above 0", bytes, hint))
            }
            _ => Ok(()),
        }
    }

    /// How that engine divides a device's memory.
    ///
    /// # Errors
    /// A utilization outside (0, 1].
    pub fn memory(&self, engine: &EngineConfig) -> Result<EngineMemory> {
        let utilization = engine.gpu_memory_utilization;
        if !(utilization > 0.0 && utilization <= 1.0) {
            return Err(Error::spec(
                "gpu_memory_utilization",
                "must be above 0 and at most 1",
                utilization,
                "",
            ));
        }
        Ok(EngineMemory {
            gpu_memory_utilization: utilization,
            share: engine.memory_share(),
            block_size: match (self.block_size, engine.rules) {
                (Some(set), _) => BlockSize::Set(u64::from(set)),
                (None, Rules::Vllm) => BlockSize::VLLM,
                (None, _) => {
                    let tokens = u64::from(engine.block_size);
                    BlockSize::Own { tokens, latent: tokens }
                }
            },
            pages: match engine.rules {
                Rules::Vllm => Pages::Groups {
                    caching: engine.enable_prefix_caching,
                    drafts: engine.speculation.as_ref().map_or(0, |speculation| speculation.tokens),
                },
                _ => Pages::Together,
            },
            max_num_batched_tokens: u64::from(engine.max_num_batched_tokens),
            max_num_seqs: u64::from(engine.max_num_seqs),
            cuda_graphs: !self.enforce_eager.unwrap_or(false),
        })
    }
}
