//! A deployment ready to serve: its KV cache sized as the engine sizes it, its steps priced by the cost model.

use std::cell::{Cell, RefCell};

use roofline_core::analysis::Analyst;
use roofline_core::cause::{Cause, Causes};
use roofline_core::error::{Error, Result};
use roofline_core::memo::Memo;
use roofline_core::model::{Ffn, Task};
use roofline_core::shape::{Phase as CorePhase, Sums};
use roofline_core::step::{Deployment, Pricer};
use roofline_core::straight::Keys;
use roofline_core::technique::Held;

use crate::images::Alike;
use crate::knobs::Knobs;
use crate::scheduler::config::EngineConfig;
use crate::scheduler::preset::LONGEST_WHOLE_PROMPT;
use crate::scheduler::rules::Rules;
use crate::sizing::{divide, hinted};
use crate::step_cost::{Decodes, Phase, Run, StepCost, StepItem};
use crate::techniques;
use crate::time::Period;
use crate::trace::Trace;

/// Context of models of states alone that name none: no request is meant to be longer.
const LONGEST_UNNAMED: u32 = 1 << 20;

/// Prices steps with the cost model, and keeps account of what they were spent on.
#[derive(Debug, Clone)]
pub struct ModelCost {
    pricer: Pricer,
    memo: RefCell<Memo>,
    /// What steps took beside their price: blocks that are swapped.
    beside: Cell<Causes>,
    tower: Option<TowerCost>,
}

/// Prices passes of images through the vision tower, and keeps account of what they were spent on.
#[derive(Debug, Clone)]
struct TowerCost {
    pricer: Pricer,
    memo: RefCell<Memo>,
    patches_per_token: u64,
}

impl TowerCost {
    fn new(pricer: Pricer, patches_per_token: u64) -> TowerCost {
        TowerCost { memo: RefCell::new(Memo::new(&pricer)), pricer, patches_per_token }
    }
}

impl ModelCost {
    /// Prices with a compiled deployment.
    pub fn new(pricer: Pricer) -> ModelCost {
        let memo = RefCell::new(Memo::new(&pricer));
        ModelCost { pricer, memo, beside: Cell::default(), tower: None }
    }

    /// The same for a model whose images pass a compiled tower, so many patches of them becoming one token.
    #[must_use]
    pub fn seeing(self, tower: Pricer, patches_per_token: u64) -> ModelCost {
        ModelCost { tower: Some(TowerCost::new(tower.within_a_step(), patches_per_token)), ..self }
    }

    /// By which factors all steps priced so far could be shorter or longer together: P10 and P90; none where no error
    /// is known.
    pub fn band(&self) -> Option<(f64, f64)> {
        let of = |pricer: &Pricer, memo: &Memo| {
            let all = memo.seconds();
            let steps = pricer.estimate_of(all, &memo.operators(pricer), 0.0);
            Some([steps.low?, steps.high?, all])
        };
        let [mut low, mut high, mut all] = of(&self.pricer, &self.memo.borrow())?;
        if let Some(tower) = &self.tower
            && let Some([lower, higher, more]) = of(&tower.pricer, &tower.memo.borrow())
        {
            // The families of its operators are those of the model's, and wrong together.
            (low, high, all) = (low + lower, high + higher, all + more);
        }
        (all > 0.0).then(|| (low / all, high / all))
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
        let encoding = self.tower.as_ref().map_or(0.0, |tower| tower.memo.borrow().seconds());
        if encoding > 0.0 {
            named.push(("encode".to_string(), encoding));
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
        let mut spent = self.memo.borrow().spent(&self.pricer);
        spent.append(&self.beside.get());
        if let Some(tower) = &self.tower {
            spent.append(&tower.memo.borrow().spent(&tower.pricer));
        }
        spent
    }

    fn encodes(&self) -> bool {
        self.tower.is_some()
    }

    fn encode(&self, images: &[Alike]) -> f64 {
        let Some(tower) = &self.tower else { return 0.0 };
        let mut sums = tower.pricer.reaches().empty();
        for alike in images {
            let patches = u64::from(alike.tokens) * tower.patches_per_token;
            let (reaches, phase) = (tower.pricer.reaches(), CorePhase::Prefill);
            reaches.add_item(&mut sums, phase, f64::from(alike.count), patches, 0, 0);
        }
        tower.memo.borrow_mut().price(&tower.pricer, &sums).seconds
    }

    fn spend(&self, cause: Cause, seconds: f64) {
        let mut beside = self.beside.get();
        beside.add(cause, seconds);
        self.beside.set(beside);
    }

    fn fork(&self) -> ModelCost {
        let tower = self.tower.as_ref();
        let tower = tower.map(|tower| TowerCost::new(tower.pricer.clone(), tower.patches_per_token));
        ModelCost { tower, ..ModelCost::new(self.pricer.clone()) }
    }

    fn join(&self, fork: &ModelCost) {
        self.memo.borrow_mut().append(&self.pricer, &fork.memo.borrow());
        let mut beside = self.beside.get();
        beside.append(&fork.beside.get());
        self.beside.set(beside);
        if let (Some(tower), Some(fork)) = (&self.tower, &fork.tower) {
            tower.memo.borrow_mut().append(&tower.pricer, &fork.memo.borrow());
        }
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
    /// Where layers hold at most a window or a constant state, memory is divided as the engine divides it (`sizing`).
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
        techniques::reserve(&mut engine, held, knobs.max_model_len)?;
        let own = deployment.model.max_context.map_or(u32::MAX, |own| u32::try_from(own).unwrap_or(u32::MAX));
        let reserved = u32::try_from(held.reserved).ok().filter(|&tokens| tokens > 0);
        let set = knobs.max_model_len.or(reserved.map(|tokens| tokens.min(own)));
        // Memory is sized for the largest step, so that is decided first, as far as the longest request is known.
        let most = if engine.computes_prompts_whole() { LONGEST_WHOLE_PROMPT } else { u32::MAX };
        if let Some(longest) = set.or(Some(own.min(most)).filter(|&longest| longest < u32::MAX)) {
            adjust(&mut engine, knobs, longest);
        }
        let analyst = Analyst::new(deployment, &knobs.memory(&engine)?)?;
        let started = engine.max_num_seqs;
        let divided = divide(&mut engine, &analyst, knobs, trace)?;
        let mut notes = analyst.deployment().model.notes.clone();
        notes.extend(divided);
        notes.extend(analyst.deployment().techniques.notes());
        notes.extend(analyst.deployment().idle()?);
        notes.extend(techniques::swapped(analyst.deployment(), engine.max_num_seqs));
        let experts =
            analyst.deployment().model.layers.iter().any(|group| matches!(group.ffn, Some(Ffn::Moe(_))));
        if engine.data_parallel > 1 && experts {
            engine.data_parallel_lockstep = true;
            notes.push(
                "replicas share experts: a step of one is a step of all, as long as the slowest".to_string(),
            );
        }
        notes.extend(knobs.drafting_note());
        let length = model_len(&analyst, &engine, set, &mut notes)?;
        engine.max_model_len = Some(length);
        // States alone take a block a sequence, as vLLM writes it: of the longest context.
        engine.block_size = engine.block_size.min(length);
        // The cache may hold less than the model could, and fewer sequences.
        adjust(&mut engine, knobs, length);
        if matches!(engine.rules, Rules::Sglang(_)) && knobs.max_num_seqs.is_none() {
            // Fewer where states have no room for more.
            let most = if engine.max_num_seqs < started { engine.max_num_seqs } else { u32::MAX };
            engine.max_num_seqs = engine.sglang_sequences(own).min(most);
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
        engine.limits().map_err(|error| hinted(error, &engine, &analyst, knobs))?;
        let mut cost = ModelCost::new(analyst.pricer().clone());
        if let (Some(pricer), Some(tower)) = (analyst.tower(), &analyst.deployment().model.vision) {
            cost = cost.seeing(pricer.clone(), tower.patches_per_token.max(1));
        }
        Ok(Server { engine, cost, held, notes })
    }
}

/// Tokens of a step and its sequences, for requests of at most `longest` tokens, unless the user set the tokens.
fn adjust(engine: &mut EngineConfig, knobs: &Knobs, longest: u32) {
    if knobs.max_num_batched_tokens.is_none() {
        *engine = engine.clone().adjusted_to(longest);
    }
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
    let whole = engine.computes_prompts_whole();
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
