//! A deployment ready to serve: its KV cache sized as the engine sizes it, its steps priced by the cost model.

use std::cell::RefCell;

use roofline_core::analysis::Analyst;
use roofline_core::cause::Causes;
use roofline_core::error::{Error, Result};
use roofline_core::hardware::Hardware;
use roofline_core::memo::Memo;
use roofline_core::memory::EngineMemory;
use roofline_core::model::{Ffn, Task};
use roofline_core::shape::{Phase as CorePhase, Sums};
use roofline_core::step::{Deployment, Pricer};
use roofline_core::units::GIB;

use crate::scheduler::config::EngineConfig;
use crate::scheduler::preset::{DeviceClass, preset};
use crate::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use crate::step_cost::{Decodes, Phase, StepCost, StepItem};
use crate::trace::Trace;

/// Share of the device's memory that vLLM 0.33 uses unless told otherwise.
pub const GPU_MEMORY_UTILIZATION: f64 = 0.92;

/// Prices steps with the cost model, and keeps account of what they were spent on.
#[derive(Debug, Clone)]
pub struct ModelCost {
    pricer: Pricer,
    /// What steps of decoding sequences alone are known to cost.
    memo: RefCell<Memo>,
    ledger: RefCell<Ledger>,
}

/// Seconds of all steps priced so far.
#[derive(Debug, Clone, Default)]
struct Ledger {
    /// By what they were spent on.
    causes: Causes,
    /// Of each operator.
    operators: Vec<f64>,
    /// All.
    steps: f64,
}

impl ModelCost {
    /// Prices with a compiled deployment.
    pub fn new(pricer: Pricer) -> ModelCost {
        let ledger = Ledger { operators: vec![0.0; pricer.ops().count()], ..Ledger::default() };
        ModelCost { pricer, memo: RefCell::default(), ledger: RefCell::new(ledger) }
    }

    /// By which factors all steps priced so far could be shorter or longer together: P10 and P90; none where no error
    /// is known.
    pub fn band(&self) -> Option<(f64, f64)> {
        let ledger = self.ledger.borrow();
        let steps = self.pricer.estimate_of(ledger.steps, &ledger.operators, 0.0);
        let (low, high) = steps.low.zip(steps.high).filter(|_| ledger.steps > 0.0)?;
        Some((low / ledger.steps, high / ledger.steps))
    }

    /// The compiled deployment.
    pub fn pricer(&self) -> &Pricer {
        &self.pricer
    }
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

    fn seconds(&self, sums: &Sums) -> f64 {
        let mut ledger = self.ledger.borrow_mut();
        let Ledger { causes, operators, steps } = &mut *ledger;
        let note = |place: usize, seconds: f64| operators[place] += seconds;
        let seconds = self.memo.borrow_mut().seconds(&self.pricer, sums, causes, note);
        *steps += seconds;
        seconds
    }

    fn spent(&self) -> Causes {
        self.ledger.borrow().causes
    }

    fn fork(&self) -> ModelCost {
        ModelCost::new(self.pricer.clone())
    }

    fn join(&self, fork: &ModelCost) {
        let (mut all, one) = (self.ledger.borrow_mut(), fork.ledger.borrow());
        all.causes.append(&one.causes);
        all.operators.iter_mut().zip(&one.operators).for_each(|(sum, seconds)| *sum += seconds);
        all.steps += one.steps;
    }
}

/// What a user sets of an engine; what is absent keeps the preset's value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Knobs {
    /// Share of the device's memory the engine may use.
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
    /// `fcfs` or `priority`.
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
    /// Speculative decoding.
    pub speculation: Option<Speculation>,
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
        let mut engine = self.on(name, &deployment.hardware)?;
        engine.pipeline_parallel = deployment.layout.pp as u32;
        engine.data_parallel = deployment.layout.dp as u32;
        Ok(engine)
    }

    /// The same for one replica of one stage on a device.
    ///
    /// # Errors
    /// An unknown engine or policy.
    pub fn on(&self, name: &str, hardware: &Hardware) -> Result<EngineConfig> {
        self.check()?;
        let memory = hardware.memory.capacity.value.unwrap_or(0.0);
        let mut engine = preset(name, DeviceClass::of(memory, &hardware.name))?;
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
        if self.max_num_seqs.is_none() {
            engine.max_num_seqs = engine.max_num_seqs.min(engine.max_num_batched_tokens);
        }
        Ok(engine)
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
        let utilization = self.gpu_memory_utilization.unwrap_or(GPU_MEMORY_UTILIZATION);
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
    /// Sentences about what was decided.
    pub notes: Vec<String>,
}

impl Server {
    /// Sizes the cache and compiles the cost.
    ///
    /// Where layers hold at most a window or a constant state, blocks are sized for sequences of the trace's mean
    /// length (prompt and answer).
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
        let drafts_priced = engine.speculation.is_none();
        if let Some(drafting) = deployment.techniques.drafting() {
            let twice = |flag: &str| {
                let hint = "give the technique or the flags";
                Error::spec(flag, "must not be given beside a technique that drafts", drafting.method, hint)
            };
            if engine.speculation.is_some() {
                return Err(twice("spec_method"));
            }
            engine.speculation = Some(Speculation {
                method: DraftMethod::parse(drafting.method)?,
                tokens: drafting.tokens,
                acceptance: Acceptance::Chance { positions: drafting.acceptance, seed: knobs.seed },
            });
        }
        let analyst = Analyst::new(deployment, &knobs.memory(&engine)?)?;
        engine.num_gpu_blocks = match knobs.num_gpu_blocks_override {
            Some(blocks) => blocks,
            None => blocks(&analyst, &engine, trace)?,
        };
        let mut notes = analyst.deployment().model.notes.clone();
        notes.extend(analyst.deployment().techniques.notes());
        let experts =
            analyst.deployment().model.layers.iter().any(|group| matches!(group.ffn, Some(Ffn::Moe(_))));
        if engine.data_parallel > 1 && experts {
            notes.push(
                "replicas that share experts step apart here; real ones wait for the slowest".to_string(),
            );
        }
        if engine.speculation.is_some() && !drafts_priced {
            notes.push(
                "drafts cost nothing until they are verified: the time to make them is left out".to_string(),
            );
        }
        engine.max_model_len = Some(model_len(&analyst, &engine, knobs.max_model_len, &mut notes)?);
        if let (Some(length), None) = (engine.max_model_len, knobs.max_num_batched_tokens) {
            engine = engine.adjusted_to(length);
        }
        engine.limits()?;
        Ok(Server { engine, cost: ModelCost::new(analyst.pricer().clone()), notes })
    }
}

/// KV blocks that memory gives.
fn blocks(analyst: &Analyst, engine: &EngineConfig, trace: &Trace) -> Result<u32> {
    let sum = |lengths: &[u32]| -> u64 { lengths.iter().map(|&length| u64::from(length)).sum() };
    let mean = (sum(&trace.prompt_tokens) + sum(&trace.output_tokens)) / (trace.len() as u64).max(1);
    let context = mean.max(u64::from(engine.block_size));
    let blocks = analyst.memory().blocks(context);
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
    let holds = engine.num_gpu_blocks.saturating_sub(1).saturating_mul(engine.block_size);
    let own = analyst.deployment().model.max_context.map(|own| u32::try_from(own).unwrap_or(u32::MAX));
    match own {
        Some(own) if own <= holds => Ok(own),
        Some(own) => {
            notes.push(format!(
                "max-model-len {holds}: what the KV cache holds, less than the model's own {own}"
            ));
            Ok(holds)
        }
        None => Ok(holds),
    }
}
