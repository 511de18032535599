//! How an engine's memory becomes blocks: which layers share a pool, and what the host has room for.

use roofline_core::analysis::Analyst;
use roofline_core::error::{Error, Result};
use roofline_core::groups::{Apart, Groups, Kind, Window, kinds};
use roofline_core::memory::{Memory, MemoryShare};
use roofline_core::step::Deployment;
use roofline_core::units::GIB;

use crate::knobs::Knobs;
use crate::scheduler::config::EngineConfig;
use crate::scheduler::rules::Rules;
use crate::scheduler::swap::Swap;
use crate::trace::Trace;

/// GiB of the host that vLLM V0 takes for each device (`swap_space`).
const SWAP_GIB: f64 = 4.0;
/// States that SGLang keeps for each running request while it finds prefixes
/// (`MAMBA_CACHE_SIZE_MAX_RUNNING_REQUESTS_RATIO`).
const SGLANG_STATES_A_REQUEST: f64 = 3.0;
/// Models whose windows SGLang 0.5 keeps apart (`is_hybrid_swa_model`), by `model_type`.
const SGLANG_WINDOWS_APART: [&str; 5] = ["gpt_oss", "llama4", "llama4_text", "mimo_v2_flash", "step3p5"];

/// Divides what memory is left among pools, and says how; blocks, their size and what lies apart are then decided.
///
/// # Errors
/// Weights and states that leave no room, a technique that does not suit the model, a link of unknown bandwidth to swap over.
pub(crate) fn divide(
    engine: &mut EngineConfig,
    analyst: &Analyst,
    knobs: &Knobs,
    trace: &Trace,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let deployment = analyst.deployment();
    engine.block_size = u32::try_from(analyst.memory().block_size()).unwrap_or(u32::MAX);
    let cut = analyst.memory().cut();
    engine.groups = cut.map_or_else(Groups::default, |cut| cut.groups);
    let sum = |lengths: &[u32]| -> u64 { lengths.iter().map(|&length| u64::from(length)).sum() };
    let mean = (sum(&trace.prompt_tokens) + sum(&trace.output_tokens)) / (trace.len() as u64).max(1);
    let context = if cut.is_some() { mean.max(1) } else { mean.max(u64::from(engine.block_size)) };
    let memory = analyst.memory().with(1, context, 0.0);
    let bytes = knobs.kv_cache_memory_bytes.unwrap_or(memory.for_kv);
    let mut left = Left { bytes, taken: 0.0 };
    let kinds = kinds(deployment)?;
    check_ratios(knobs)?;
    let alike = kinds.iter().all(|kind| kind.window == 0 && kind.state_bytes == 0.0);
    // Budgets of techniques are windows of their own, which these engines' pools know nothing of.
    let budgets = deployment.cache()?.budgets().iter().any(|(_, budget)| budget.is_some());
    let own = cut.is_none() && !alike && !budgets;
    let block_bytes = match cut {
        Some(cut) => cut.block_bytes,
        None if own && kinds.iter().any(|kind| kind.bytes_per_token > 0.0) => {
            left.by_kinds(engine, &Kinds::of(&kinds, deployment), knobs, &mut notes)
        }
        None => memory.block_bytes,
    };
    if block_bytes == 0.0 && memory.for_kv > 0.0 && knobs.num_gpu_blocks_override.is_none() {
        // All of it lies elsewhere: what the device holds limits nothing.
        let longest = deployment.model.max_context.unwrap_or(context).max(context);
        let blocks = longest.div_ceil(u64::from(engine.block_size)) * u64::from(engine.max_num_seqs);
        engine.num_gpu_blocks = u32::try_from(1 + blocks).unwrap_or(u32::MAX);
        return Ok(notes);
    }
    let computed = (left.bytes / block_bytes).floor().min(f64::from(u32::MAX)) as u32;
    engine.num_gpu_blocks = knobs.num_gpu_blocks_override.unwrap_or(computed);
    if let Some(set) = knobs.num_gpu_blocks_override {
        for apart in &mut engine.groups.apart {
            let scaled = f64::from(apart.blocks) * f64::from(set) / f64::from(computed.max(1));
            apart.blocks = scaled as u32;
        }
    } else if computed < 2 {
        let (place, needed, usable) = memory.lacking();
        let least = if place == "GPU" { least_share(engine, &memory, left.taken) } else { None };
        let larger = least.map_or_else(String::new, |least| {
            format!("set gpu_memory_utilization to at least {least:.3}; or ")
        });
        let hint = format!(
            "{larger}use more devices (tp, pp), fewer bits (quantization), a smaller max_num_batched_tokens or \
             max_num_seqs, or more memory"
        );
        let place = if place == "GPU" { String::new() } else { format!(", {place}") };
        return Err(Error::DoesNotFit {
            what: format!(
                "{} ({}) on {}x {}{place}",
                deployment.model.title,
                deployment.precision.weights_name,
                deployment.gpus(),
                deployment.hardware.title
            ),
            needed_gib: (needed + left.taken) / GIB,
            available_gib: usable / GIB,
            hint,
        });
    }
    notes.extend(idle_ratios(engine, knobs));
    engine.swap = swap(engine, deployment, knobs, block_bytes, &mut notes)?;
    Ok(notes)
}

/// The least share of memory with which all fits, `beside` the cache among it, if there is one.
fn least_share(engine: &EngineConfig, memory: &Memory, beside: f64) -> Option<f64> {
    let share = engine.gpu_memory_utilization;
    // What one more of the share is worth: shares of what is free take nothing of what is taken.
    let worth = match engine.memory_share() {
        MemoryShare::Free => memory.capacity - (memory.weights + memory.engine_activations + memory.runtime),
        MemoryShare::Device | MemoryShare::Static => memory.usable / share,
    };
    // One block more than requests take, which vLLM never uses.
    let needed = memory.engine_bytes() + memory.block_bytes + beside;
    let least = ((share + (needed - memory.usable) / worth) * 1e3).ceil() / 1e3;
    (worth > 0.0 && least > share && least <= 1.0).then_some(least)
}

/// The error of a cache too small for the longest request, with the share of memory that would do, if there is one.
///
/// Nothing is added where blocks were set, or where states or pools of their own take memory before the cache does.
pub(crate) fn hinted(error: Error, engine: &EngineConfig, analyst: &Analyst, knobs: &Knobs) -> Error {
    let set = knobs.num_gpu_blocks_override.is_some() || knobs.kv_cache_memory_bytes.is_some();
    let plain = analyst.memory().cut().is_none()
        && kinds(analyst.deployment())
            .is_ok_and(|kinds| kinds.iter().all(|kind| kind.window == 0 && kind.state_bytes == 0.0));
    match error {
        Error::Spec { field, must, value, hint } if field == "num_gpu_blocks" && plain && !set => {
            let memory = analyst.memory().with(1, u64::from(engine.model_len()), 0.0);
            let more = least_share(engine, &memory, 0.0).map_or_else(String::new, |least| {
                format!("; gpu_memory_utilization {least:.3} leaves enough")
            });
            Error::Spec { field, must, value, hint: hint + &more }
        }
        other => other,
    }
}

/// Shares of memory that no engine could start with.
fn check_ratios(knobs: &Knobs) -> Result<()> {
    let (windows, states) = (knobs.swa_full_tokens_ratio, knobs.mamba_full_memory_ratio);
    if let Some(ratio) = windows.filter(|&ratio| !(ratio > 0.0 && ratio <= 1.0)) {
        let must = "must be above 0 and at most 1";
        return Err(Error::spec("swa_full_tokens_ratio", must, ratio, "0.8 is SGLang's default"));
    }
    match states.filter(|&ratio| !(ratio > 0.0 && ratio.is_finite())) {
        Some(ratio) => {
            let must = "must be above 0 and finite";
            Err(Error::spec("mamba_full_memory_ratio", must, ratio, "0.9 is SGLang's default"))
        }
        None => Ok(()),
    }
}

/// What is said where a ratio has nothing to divide.
fn idle_ratios(engine: &EngineConfig, knobs: &Knobs) -> Vec<String> {
    let apart = engine.groups.apart.iter().any(|apart| apart.blocks > 0);
    let idle = [
        ("swa_full_tokens_ratio", knobs.swa_full_tokens_ratio.is_some() && !apart, "keeps windows apart"),
        (
            "mamba_full_memory_ratio",
            knobs.mamba_full_memory_ratio.is_some() && !engine.groups.states_apart,
            "finds states",
        ),
    ];
    idle.into_iter()
        .filter(|(_, idle, _)| *idle)
        .map(|(name, _, what)| format!("{name} changes nothing: of this model the engine {what} nowhere"))
        .collect()
}

/// Layers by how they keep their cache, bytes of one stage.
struct Kinds {
    /// Bytes a token of layers that keep every one.
    full: f64,
    /// Windows and bytes a token.
    windows: Vec<(u32, f64)>,
    /// Bytes of a sequence's states.
    states: f64,
    family: String,
    /// Tokens of the model's own context.
    longest: u32,
}

impl Kinds {
    fn of(kinds: &[Kind], deployment: &Deployment) -> Kinds {
        let stages = deployment.layout.pp.max(1);
        let layers = |kind: &Kind| kind.layers.div_ceil(stages) as f64;
        let bytes = |kind: &Kind| layers(kind) * kind.bytes_per_token;
        Kinds {
            full: kinds.iter().filter(|kind| kind.window == 0).map(bytes).sum(),
            windows: (kinds.iter().filter(|kind| kind.window > 0))
                .map(|kind| (kind.window, bytes(kind)))
                .collect(),
            states: kinds.iter().map(|kind| layers(kind) * kind.state_bytes).sum(),
            family: deployment.model.family.clone(),
            longest: deployment
                .model
                .max_context
                .map_or(u32::MAX, |own| u32::try_from(own).unwrap_or(u32::MAX)),
        }
    }

    /// Bytes a token where every layer keeps every one.
    fn every_token(&self) -> f64 {
        self.full + self.windowed()
    }

    /// Bytes a token of layers with windows.
    fn windowed(&self) -> f64 {
        self.windows.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Bytes that are left for the cache.
struct Left {
    bytes: f64,
    /// What was taken from them, whether or not they were as many.
    taken: f64,
}

impl Left {
    fn take(&mut self, bytes: f64) {
        self.taken += bytes;
        self.bytes = (self.bytes - bytes).max(0.0);
    }

    /// Takes the states' share away, sets pools apart, and returns the bytes of a block of the common pool.
    fn by_kinds(
        &mut self,
        engine: &mut EngineConfig,
        kinds: &Kinds,
        knobs: &Knobs,
        notes: &mut Vec<String>,
    ) -> f64 {
        self.set_states_apart(engine, kinds, knobs, notes);
        let block = f64::from(engine.block_size);
        let windowed = kinds.windowed();
        let apart = match engine.rules {
            Rules::Sglang(_) if SGLANG_WINDOWS_APART.contains(&kinds.family.as_str()) => {
                let ratio = knobs.swa_full_tokens_ratio.unwrap_or(0.8);
                let tokens = self.bytes / (kinds.full + ratio * windowed);
                kinds.windows.iter().map(|&(window, bytes)| (window, bytes, ratio * tokens)).collect()
            }
            Rules::Trtllm(_) => self.shares_by_window(kinds, knobs.max_model_len.unwrap_or(kinds.longest)),
            _ => Vec::new(),
        };
        if apart.is_empty() || kinds.full == 0.0 {
            if windowed > 0.0 {
                notes.push("layers with a window keep every token under this engine".to_string());
            }
            return kinds.every_token() * block;
        }
        let keeps_steps = matches!(engine.rules, Rules::Sglang(_));
        for (slot, &(window, bytes, tokens)) in engine.groups.apart.iter_mut().zip(&apart) {
            let window = Window { groups: 1, tokens: window, block_size: engine.block_size };
            *slot = Apart { window, blocks: (tokens / block) as u32, keeps_steps };
            self.bytes -= tokens * bytes;
            notes.push(format!(
                "layers with a window of {} tokens have {} blocks of their own",
                window.tokens, slot.blocks
            ));
        }
        kinds.full * block
    }

    /// TensorRT-LLM's pools: memory in proportion to a window times its bytes a token, the longest context being the
    /// window of layers that keep every token (`BlockManager::calculateWindowSizeToShare`). Windows, bytes and tokens.
    fn shares_by_window(&self, kinds: &Kinds, longest: u32) -> Vec<(u32, f64, f64)> {
        let weighed = |window: u32, bytes: f64| f64::from(window.min(longest)) * bytes;
        let windows: f64 = kinds.windows.iter().map(|&(window, bytes)| weighed(window, bytes)).sum();
        let all = windows + f64::from(longest) * kinds.full;
        let tokens = |window: u32| self.bytes * f64::from(window.min(longest)) / all;
        kinds.windows.iter().map(|&(window, bytes)| (window, bytes, tokens(window))).collect()
    }

    /// States lie in memory of their own, for as many sequences as an engine lets run.
    fn set_states_apart(
        &mut self,
        engine: &mut EngineConfig,
        kinds: &Kinds,
        knobs: &Knobs,
        notes: &mut Vec<String>,
    ) {
        if kinds.states == 0.0 {
            return;
        }
        let mut sequences = f64::from(engine.max_num_seqs);
        match engine.rules {
            Rules::Sglang(_) if engine.enable_prefix_caching => {
                let ratio = knobs.mamba_full_memory_ratio.unwrap_or(0.9);
                let states = (self.bytes * ratio / (1.0 + ratio) / kinds.states).floor();
                engine.max_num_seqs =
                    engine.max_num_seqs.min((states / SGLANG_STATES_A_REQUEST) as u32).max(1);
                engine.groups.states_apart = true;
                sequences = states;
            }
            Rules::Trtllm(_) if engine.enable_prefix_caching => {
                engine.enable_prefix_caching = false;
                notes.push("this engine finds no prefixes of models with states".to_string());
            }
            _ => {}
        }
        self.take(sequences * kinds.states);
        notes.push(format!(
            "states of {sequences:.0} sequences take {:.1} GiB",
            sequences * kinds.states / GIB
        ));
    }
}

/// vLLM V0's room with the host, where it is told to swap.
fn swap(
    engine: &EngineConfig,
    deployment: &Deployment,
    knobs: &Knobs,
    block_bytes: f64,
    notes: &mut Vec<String>,
) -> Result<Option<Swap>> {
    if engine.rules != Rules::VllmV0 || !knobs.swaps()? {
        return Ok(None);
    }
    let gib = knobs.swap_space.unwrap_or(SWAP_GIB);
    if !(gib.is_finite() && gib >= 0.0) {
        let must = "must be GiB of the host for each device, not negative";
        return Err(Error::spec("swap_space", must, gib, "4 is vLLM's default"));
    }
    let link = &deployment.hardware.host_link;
    let Some(bandwidth) = link.bandwidth.value else {
        let hint = "give it in a hardware file, or let requests be recomputed";
        return Err(Error::spec("link.host.bandwidth", "must be known to swap over", "unknown", hint));
    };
    let blocks = (gib * GIB / block_bytes).min(f64::from(u32::MAX)) as u32;
    notes.push(format!(
        "swapping: {blocks} blocks of the host, {:.2} ms each way for a request of 1,000 tokens",
        (1000.0 / f64::from(engine.block_size)).ceil() * block_bytes / bandwidth * 1e3
    ));
    Ok(Some(Swap { blocks, block_s: block_bytes / bandwidth }))
}
