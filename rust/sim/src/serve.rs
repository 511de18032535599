//! A deployment ready to serve: its KV cache sized as the engine sizes it, its steps priced by the cost model.

use std::cell::RefCell;

use roofline_core::analysis::Analyst;
use roofline_core::cause::Causes;
use roofline_core::error::{Error, Result};
use roofline_core::hardware::Hardware;
use roofline_core::memo::Memo;
use roofline_core::memory::EngineMemory;
use roofline_core::model::{Ffn, Mixer, Model, Task};
use roofline_core::names;
use roofline_core::shape::{Phase as CorePhase, Sums};
use roofline_core::step::{Deployment, Pricer};
use roofline_core::straight::Keys;
use roofline_core::technique::Held;
use roofline_core::units::GIB;

use crate::kv::groups::{Cut, cut};
use crate::scheduler::config::EngineConfig;
use crate::scheduler::preset::{DeviceClass, LONGEST_WHOLE_PROMPT, preset};
use crate::scheduler::rules::{Capacity, Rules};
use crate::scheduler::speculation::{DraftMethod, Speculation};
use crate::step_cost::{Decodes, Phase, Run, StepCost, StepItem};
use crate::techniques;
use crate::time::Period;
use crate::trace::Trace;

/// Tokens of a block where keys and values are a latent vector, as the kernels for it ask (FlashMLA).
const MLA_BLOCK_SIZE: u32 = 64;

/// Context of models of states alone that name none: no request is meant to be longer.
const LONGEST_UNNAMED: u32 = 1 << 20;

/// Prices steps with the cost model, and keeps account of what they were spent on.
#[derive(Debug, Clone)]
pub struct ModelCost {
    pricer: Pricer,
    memo: RefCell<Memo>,
}

impl ModelCost {
    /// Prices with a compiled deployment.
    pub fn new(pricer: Pricer) -> ModelCost {
        let memo = RefCell::new(Memo::new(&pricer));
        ModelCost { pricer, memo }
    }

    /// By which factors all steps priced so far could be shorter or longer together: P10 and P90; none where no error
    /// is known.
    pub fn band(&self) -> Option<(f64, f64)> {
        let memo = self.memo.borrow();
        let all = memo.seconds();
        let steps = self.pricer.estimate_of(all, &memo.operators(&self.pricer), 0.0);
        let (low, high) = steps.low.zip(steps.high).filter(|_| all > 0.0)?;
        Some((low / all, high / all))
    }

    /// Seconds of all steps priced so far by operator, in order; what runs beside the device counts as far as it shows.
    pub fn operators(&self) -> Vec<(String, f64)> {
        let memo = self.memo.borrow();
        let seconds = memo.operators(&self.pricer);
        let mut named: Vec<(String, f64)> = Vec::new();
        for (op, seconds) in self.pricer.ops().zip(&seconds).filter(|(_, seconds)| **seconds != 0.0) {
            match named.iter_mut().find(|(name, _)| name == op.stem()) {
                Some((_, sum)) => *sum += seconds,
                None => named.push((op.stem().to_string(), *seconds)),
            }
        }
        let hidden = memo.seconds() - seconds.iter().sum::<f64>();
        if hidden.abs() > 1e-9 * memo.seconds() {
            named.push(("hidden behind the device".to_string(), hidden));
        }
        named
    }

    /// The compiled deployment.
    pub fn pricer(&self) -> &Pricer {
        &self.pricer
    }
}

/// Keys that sequences read in a step in which each of them decodes.
fn keys(decodes: &Decodes<'_>) -> Keys {
    Keys { all: decodes.context + decodes.count, longest: decodes.longest + 1 }
}

impl StepCost for ModelCost {
    type Sums = Sums;

    fn add(&self, sums: &mut Sums, item: StepItem) {
        let phase = match item.phase {
            Phase::Prefill => CorePhase::Prefill,
            Phase::Decode => CorePhase::Decode,
        };
        let (new, context, rows) =
            (u64::from(item.new_tokens), u64::from(item.context), u64::from(item.sampled_rows));
        self.pricer.reaches().add_item(sums, phase, 1.0, new, context, rows);
    }

    fn add_decodes(&self, sums: &mut Sums, decodes: &Decodes<'_>) {
        let Decodes { count, context, longest, .. } = *decodes;
        self.pricer.reaches().add_decodes(sums, count, context, longest, || decodes.contexts());
    }

    fn needs_each_context(&self) -> bool {
        !self.pricer.reaches().are_full()
    }

    fn needs_longest(&self) -> bool {
        self.pricer.is_predicted()
    }

    fn seconds(&self, sums: &Sums) -> f64 {
        self.price(sums).seconds
    }

    fn price(&self, sums: &Sums) -> Period {
        self.memo.borrow_mut().price(&self.pricer, sums)
    }

    fn run(&self, decodes: &Decodes<'_>, most: u64) -> Option<Run> {
        self.memo.borrow_mut().run(&self.pricer, decodes.count as usize, keys(decodes), most)
    }

    fn charge(&self, decodes: &Decodes<'_>, run: &Run, steps: u64) {
        self.memo.borrow_mut().charge(&self.pricer, decodes.count as usize, keys(decodes), run, steps);
    }

    fn spent(&self) -> Causes {
        self.memo.borrow().spent(&self.pricer)
    }

    fn fork(&self) -> ModelCost {
        ModelCost::new(self.pricer.clone())
    }

    fn join(&self, fork: &ModelCost) {
        self.memo.borrow_mut().append(&self.pricer, &fork.memo.borrow());
    }
}

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
        engine.gpu_memory_utilization = self.gpu_memory_utilization.unwrap_or(engine.gpu_memory_utilization);
        let set = |field: &mut u32, value: Option<u32>| *field = value.unwrap_or(*field);
        let switch = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
        set(&mut engine.max_num_seqs, self.max_num_seqs);
        set(&mut engine.max_num_batched_tokens, self.max_num_batched_tokens);
        set(&mut engine.block_size, self.block_size);
        set(&mut engine.long_prefill_token_threshold, self.long_prefill_token_threshold);
        set(&mut engine.prefill_schedule_interval, self.prefill_schedule_interval);
        switch(&mut engine.enable_chunked_prefill, self.enable_chunked_prefill);
        switch(&mut engine.enable_prefix_caching, self.enable_prefix_caching);
        switch(&mut engine.async_scheduling, self.async_scheduling);
        switch(&mut engine.long_prefill_token_threshold_adaptive, self.long_prefill_token_threshold_adaptive);
        switch(&mut engine.scheduler_reserve_full_isl, self.scheduler_reserve_full_isl);
        engine.max_num_active_seqs = self.max_num_active_seqs;
        engine.speculation.clone_from(&self.speculation);
        engine.watermark = self.watermark.unwrap_or(engine.watermark);
        if let Some(policy) = &self.scheduling_policy {
            engine.scheduling_policy = crate::scheduler::config::Policy::parse(policy)?;
        }
        if self.max_num_seqs.is_none() && engine.rules.counts_answers() {
            engine.max_num_seqs = engine.max_num_seqs.min(engine.max_num_batched_tokens);
        }
        Ok(engine)
    }

    /// What is left out of the time that drafts take, if anything.
    fn drafting_note(&self) -> Option<String> {
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
        ];
        let wrong = least.into_iter().filter_map(|(field, value, least)| {
            let value = value.filter(|value| *value < least)?;
            Some(Error::spec(field, format!("must be at least {least}"), value, ""))
        });
        Error::all("engine", wrong.collect())
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
            block_size: u64::from(engine.block_size),
            max_num_batched_tokens: u64::from(engine.max_num_batched_tokens),
            max_num_seqs: u64::from(engine.max_num_seqs),
            cuda_graphs: !self.enforce_eager.unwrap_or(false),
        })
    }
}

/// A deployment ready to serve a trace.
#[derive(Debug, Clone)]
pub struct Server {
    /// The engine, its KV blocks and context length decided.
    pub engine: EngineConfig,
    /// What a step costs.
    pub cost: ModelCost,
    /// How techniques allocate the cache, and what they say that sequences share.
    pub held: Held,
    /// Sentences about what was decided.
    pub notes: Vec<String>,
}

impl Server {
    /// Sizes the cache and compiles the cost.
    ///
    /// Where layers hold at most a window or a constant state, vLLM's blocks are cut as its hybrid manager cuts them
    /// ([`crate::kv::groups`]); those of other engines are sized for sequences of the trace's mean length.
    ///
    /// # Errors
    /// A model that generates nothing, weights that do not fit, settings no engine could start with.
    pub fn new(deployment: Deployment, name: &str, knobs: &Knobs, trace: &Trace) -> Result<Server> {
        if deployment.model.task != Task::Decoder {
            return Err(Error::spec(
                "model",
                "must generate tokens to be served",
                &deployment.model.name,
                "use `analyze` for encoders and diffusion models",
            ));
        }
        deployment.techniques.served()?;
        let mut engine = knobs.engine(name, &deployment)?;
        let deployment =
            techniques::drafting(deployment, &mut engine, knobs.spec_model.as_ref(), knobs.seed)?;
        let held = deployment.cache()?.held;
        techniques::allocate(&mut engine, held, knobs.block_size, knobs.max_model_len)?;
        let block_size = knobs.block_size.or((held.block + held.reserved > 0).then_some(engine.block_size));
        let cut = cut_cache(&mut engine, &deployment, block_size)?;
        let own = deployment.model.max_context.map_or(u32::MAX, |own| u32::try_from(own).unwrap_or(u32::MAX));
        if !engine.rules.cuts_prompts()
            && !engine.enable_chunked_prefill
            && knobs.max_num_batched_tokens.is_none()
        {
            let longest = knobs.max_model_len.unwrap_or(own.min(LONGEST_WHOLE_PROMPT));
            engine.max_num_batched_tokens = engine.max_num_batched_tokens.max(longest);
        }
        let analyst = Analyst::new(deployment, &knobs.memory(&engine)?)?;
        engine.num_gpu_blocks = match knobs.num_gpu_blocks_override {
            Some(blocks) => blocks,
            None => blocks(&analyst, &engine, cut.as_ref(), trace)?,
        };
        let mut notes = analyst.deployment().model.notes.clone();
        notes.extend(analyst.deployment().techniques.notes());
        let experts =
            analyst.deployment().model.layers.iter().any(|group| matches!(group.ffn, Some(Ffn::Moe(_))));
        if engine.data_parallel > 1 && experts {
            engine.data_parallel_lockstep = engine.pipeline_parallel == 1;
            notes.push(
                match engine.data_parallel_lockstep {
                    true => "replicas share experts: a step of one is a step of all, as long as the slowest",
                    false => "replicas that share experts step apart here; real ones wait for the slowest",
                }
                .to_string(),
            );
        }
        notes.extend(knobs.drafting_note());
        let reserved = u32::try_from(held.reserved).ok().filter(|&tokens| tokens > 0);
        let set = knobs.max_model_len.or(reserved.map(|tokens| tokens.min(own)));
        let length = model_len(&analyst, &engine, set, &mut notes)?;
        engine.max_model_len = Some(length);
        // States alone take a block a sequence, as vLLM writes it: of the longest context.
        engine.block_size = engine.block_size.min(length);
        if let (Some(length), None) = (engine.max_model_len, knobs.max_num_batched_tokens) {
            engine = engine.adjusted_to(length);
        }
        if matches!(engine.rules, Rules::Sglang(_)) && knobs.max_num_seqs.is_none() {
            engine.max_num_seqs = engine.sglang_sequences(own);
        }
        let most = engine.max_num_batched_tokens;
        if matches!(engine.rules, Rules::Trtllm(_)) && !engine.enable_chunked_prefill {
            let long = trace.prompt_tokens.iter().filter(|&&tokens| tokens > most).count();
            if long > 0 {
                notes.push(format!(
                    "{long} prompts are longer than the {most} tokens of a step: refused without chunked prefill"
                ));
            }
        }
        engine.limits()?;
        Ok(Server { engine, cost: ModelCost::new(analyst.pricer().clone()), held, notes })
    }
}

/// Cuts the cache of layers that differ as vLLM does; `None` where a block is the same for all.
fn cut_cache(
    engine: &mut EngineConfig,
    deployment: &Deployment,
    block_size: Option<u32>,
) -> Result<Option<Cut>> {
    let latent = deployment.model.layers.iter().any(|group| matches!(group.mixer, Some(Mixer::Mla(_))));
    if engine.rules != Rules::Vllm {
        return Ok(None);
    }
    if latent && block_size.is_none() {
        engine.block_size = MLA_BLOCK_SIZE;
    }
    let cut = cut(deployment, engine.block_size)?;
    let Some(cut) = cut.filter(|cut| !cut.groups.are_plain() || cut.block_size == u32::MAX) else {
        return Ok(None);
    };
    let caching = u32::from(engine.enable_prefix_caching);
    let drafts = engine.speculation.as_ref().map_or(0, |speculation| speculation.tokens);
    (engine.block_size, engine.groups) = (cut.block_size, cut.groups);
    engine.groups.states = engine.groups.states.saturating_mul(1 + caching + drafts);
    Ok(Some(cut))
}

/// KV blocks that memory gives.
fn blocks(analyst: &Analyst, engine: &EngineConfig, cut: Option<&Cut>, trace: &Trace) -> Result<u32> {
    let sum = |lengths: &[u32]| -> u64 { lengths.iter().map(|&length| u64::from(length)).sum() };
    let mean = (sum(&trace.prompt_tokens) + sum(&trace.output_tokens)) / (trace.len() as u64).max(1);
    let context = if cut.is_some() { mean.max(1) } else { mean.max(u64::from(engine.block_size)) };
    let blocks = match cut {
        None if analyst.memory().kv().bytes(context) == 0.0
            && analyst.memory().with(1, 1, 0.0).for_kv > 0.0 =>
        {
            // All of it lies elsewhere: what the device holds limits nothing.
            let longest = analyst.deployment().model.max_context.unwrap_or(context).max(context);
            1 + longest.div_ceil(u64::from(engine.block_size)) * u64::from(engine.max_num_seqs)
        }
        Some(cut) => (analyst.memory().with(1, context, 0.0).for_kv / cut.block_bytes).floor() as u64,
        None => analyst.memory().blocks(context),
    };
    if blocks < 2 {
        let memory = analyst.memory().with(1, context, 0.0);
        let deployment = analyst.deployment();
        return Err(Error::DoesNotFit {
            what: format!(
                "{} ({}) on {}x {}",
                deployment.model.title,
                deployment.precision.weights_name,
                deployment.gpus(),
                deployment.hardware.title
            ),
            needed_gib: memory.engine_bytes() / GIB,
            available_gib: memory.usable / GIB,
            hint: "use more devices (tp, pp), fewer bits (quantization), a smaller max_num_batched_tokens, or more \
                   memory"
                .to_string(),
        });
    }
    Ok(u32::try_from(blocks).unwrap_or(u32::MAX))
}

/// Context length: as set, or the model's own, or what the cache holds if that is less (said aloud).
fn model_len(
    analyst: &Analyst,
    engine: &EngineConfig,
    set: Option<u32>,
    notes: &mut Vec<String>,
) -> Result<u32> {
    if let Some(length) = set {
        return Ok(length);
    }
    let holds = engine.longest_held();
    let own = analyst.deployment().model.max_context.map(|own| u32::try_from(own).unwrap_or(u32::MAX));
    let whole = !engine.rules.cuts_prompts() && !engine.enable_chunked_prefill;
    match own {
        Some(own) if whole && own.min(holds) > LONGEST_WHOLE_PROMPT => {
            notes.push(format!(
                "max-model-len {LONGEST_WHOLE_PROMPT}: this engine computes prompts whole; the model's own is {own}"
            ));
            Ok(LONGEST_WHOLE_PROMPT)
        }
        Some(own) if own <= holds => Ok(own),
        Some(own) => {
            notes.push(format!(
                "max-model-len {holds}: what the KV cache holds, less than the model's own {own}"
            ));
            Ok(holds)
        }
        None if engine.block_size == u32::MAX => {
            notes.push(format!(
                "max-model-len {LONGEST_UNNAMED}: the model names no longest context, nor does its cache"
            ));
            Ok(LONGEST_UNNAMED)
        }
        None => Ok(holds),
    }
}
