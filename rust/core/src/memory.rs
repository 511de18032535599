//! Does it fit, and how much KV cache is left? The ideal answer, and what an engine allocates.

use crate::error::{Error, Result};
use crate::groups::{Cut, cut};
use crate::kv::KvLayout;
use crate::layout::Layout;
use crate::lower::{Lowering, lower, stage_share};
use crate::model::{LayerGroup, Mixer, Model};
use crate::shape::Reaches;
use crate::step::Deployment;
use crate::technique::{Held, Store};
use crate::units::MIB;

/// What an engine keeps free for itself besides weights, activations and cache, as far as vLLM's own profile run sees
/// it: kernels, workspaces. Assumed.
pub const RUNTIME_BYTES: f64 = 300.0 * MIB;
/// Communication buffers once several devices work together (NCCL channels and custom all-reduce buffers). Assumed.
pub const COMMUNICATION_BYTES: f64 = 800.0 * MIB;
/// CUDA graphs, which vLLM has estimated and subtracted since v0.21. Assumed.
pub const GRAPH_BYTES: f64 = 500.0 * MIB;

/// fp32 copies of the logits alive at once in a profile run that samples with top-k and top-p: the logits, their
/// sorted copy, the permutation (64-bit: two), probabilities, cumulative sums, and the sort's double buffer (three).
const LOGIT_COPIES: f64 = 9.0;

/// What an engine's share of memory is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryShare {
    /// Of the device; weights, activations, runtime and KV cache lie within it (vLLM's `gpu_memory_utilization`).
    #[default]
    Device,
    /// Of the device after the runtime has started; weights and KV cache lie within it, activations and graphs outside
    /// (SGLang's `mem_fraction_static`).
    Static,
    /// Of what weights, activations and runtime leave; the KV cache alone (TensorRT-LLM's `free_gpu_memory_fraction`).
    Free,
}

/// Tokens of a KV block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockSize {
    /// As the user set it.
    Set(u64),
    /// As the engine chooses it.
    Own {
        /// What its kernels take as a rule.
        tokens: u64,
        /// What they take where keys and values are a latent vector.
        latent: u64,
    },
}

impl BlockSize {
    /// What vLLM chooses: 16, and 64 where keys and values are a latent vector, as the kernels for it ask (FlashMLA).
    pub const VLLM: BlockSize = BlockSize::Own { tokens: 16, latent: 64 };

    /// Tokens of a block for that model, allocated as techniques say.
    ///
    /// # Errors
    /// A size that was set beside a technique that has another.
    pub fn of(self, model: &Model, held: Held) -> Result<u64> {
        let paged = Some(held.block.max(held.reserved)).filter(|&tokens| tokens > 0);
        match (self, paged) {
            (BlockSize::Set(set), Some(paged)) if set != paged => {
                let must = format!("must not be given beside `paging`, which has blocks of {paged} tokens");
                Err(Error::spec("block_size", must, set, "give one of them"))
            }
            (BlockSize::Set(set), _) => Ok(set),
            (BlockSize::Own { .. }, Some(paged)) => Ok(paged),
            (BlockSize::Own { tokens, latent }, None) => {
                let is_latent = model.layers.iter().any(|group| matches!(group.mixer, Some(Mixer::Mla(_))));
                Ok(if is_latent { latent } else { tokens })
            }
        }
    }
}

/// How an engine cuts the cache of layers that keep theirs differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// A block holds its tokens in all layers; its bytes are those of a sequence of the length asked about, shared out
    /// over its blocks. What engines other than vLLM set apart for windows and states depends on more than this.
    Together,
    /// A block holds its tokens in one group of layers, as vLLM cuts them.
    Groups {
        /// Whether prefixes are found again: a sequence then keeps a state beside the one it computes with.
        caching: bool,
        /// Drafts a step, each with a state of its own, where no technique says how many.
        drafts: u32,
    },
}

/// How an engine divides a device's memory (vLLM's names and rules, 0.33).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineMemory {
    /// Share of memory the engine may use.
    pub gpu_memory_utilization: f64,
    /// What that is a share of.
    pub share: MemoryShare,
    /// Tokens of a KV block.
    pub block_size: BlockSize,
    /// How layers share blocks.
    pub pages: Pages,
    /// Tokens of the largest step, which the profile run allocates activations for.
    pub max_num_batched_tokens: u64,
    /// Sequences of the largest step, which the profile run allocates logits for.
    pub max_num_seqs: u64,
    /// Whether CUDA graphs are captured and their estimate subtracted.
    pub cuda_graphs: bool,
}

impl EngineMemory {
    /// What vLLM's server chooses on an H100 or H200 (0.33).
    pub const VLLM: EngineMemory = EngineMemory {
        gpu_memory_utilization: 0.92,
        share: MemoryShare::Device,
        block_size: BlockSize::VLLM,
        pages: Pages::Groups { caching: true, drafts: 0 },
        max_num_batched_tokens: 8192,
        max_num_seqs: 1024,
        cuda_graphs: true,
    };
}

/// The size of a block that holds a sequence whatever its length: that of states.
const WHOLE: u64 = u32::MAX as u64;

/// What lies in the memory of the busiest device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// What the driver reports.
    pub capacity: f64,
    /// Weights, embedding, head and vectors included.
    pub weights: f64,
    /// KV cache and state of the sequences asked about, not rounded to blocks.
    pub kv: f64,
    /// Peak of activations alive at once in the step asked about.
    pub activations: f64,
    /// What the engine may use.
    pub usable: f64,
    /// What the engine's profile run finds alive at its peak.
    pub engine_activations: f64,
    /// Runtime, communication buffers, graphs.
    pub runtime: f64,
    /// What is left for KV blocks.
    pub for_kv: f64,
    /// Tokens of a block; as many as asked about where a sequence takes one block whatever its length.
    pub block_size: u64,
    /// Bytes of one block.
    pub block_bytes: f64,
    /// KV blocks the engine allocates (block 0, which vLLM never uses, included); 0 if the weights do not fit.
    pub num_gpu_blocks: u64,
    /// Sequences of that context that fit by bytes alone.
    pub ideal_sequences: u64,
    /// Sequences of that context that fit in the engine's blocks.
    pub engine_sequences: u64,
    /// Blocks that the sequences asked about take in the engine.
    pub blocks_needed: u64,
    /// What lies in memory beside the device's.
    pub beside: Option<Beside>,
}

/// What lies in memory beside the device's own, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// What it is, in words.
    pub what: &'static str,
    /// How much there is.
    pub capacity: f64,
    /// What an engine leaves of it for weights and cache.
    pub usable: f64,
    /// Weights.
    pub weights: f64,
    /// KV cache and state of the sequences asked about.
    pub kv: f64,
}

impl Memory {
    /// Bytes in use ideally: weights, cache and activations.
    #[inline]
    pub fn ideal_bytes(&self) -> f64 {
        self.weights + self.kv + self.activations
    }

    /// Bytes in use as the engine allocates them for the sequences asked about.
    #[inline]
    pub fn engine_bytes(&self) -> f64 {
        let here = if self.beside.is_some_and(|beside| beside.kv > 0.0) { 0 } else { self.blocks_needed };
        self.weights + self.engine_activations + self.runtime + here as f64 * self.block_bytes
    }

    /// Whether the sequences asked about fit by bytes alone.
    pub fn fits_ideally(&self) -> bool {
        let beside = self.beside.is_none_or(|beside| beside.weights + beside.kv <= beside.capacity);
        self.ideal_bytes() <= self.capacity && beside
    }

    /// What is too small, the bytes it should hold and those it may: memory beside the device's where that is full, the
    /// device's otherwise.
    pub fn lacking(&self) -> (&'static str, f64, f64) {
        match self.beside.filter(|beside| beside.weights + beside.kv > beside.usable) {
            Some(beside) => (beside.what, beside.weights + beside.kv, beside.usable),
            None => ("GPU", self.engine_bytes(), self.usable),
        }
    }

    /// Sequences that the engine's blocks hold; nothing where the device keeps nothing of a sequence.
    pub fn concurrency(&self) -> Option<f64> {
        (self.block_bytes > 0.0).then_some(self.engine_sequences as f64)
    }

    /// Whether they fit in the engine; a model without a cache fits if its weights and activations do.
    #[inline]
    pub fn fits(&self) -> bool {
        if self.block_bytes > 0.0 { self.num_gpu_blocks > self.blocks_needed } else { self.for_kv > 0.0 }
    }
}

/// Bytes of weights on the busiest device: every matrix sharded as it is, vectors (norms, biases) on every device,
/// the vision tower on every device of the first stage.
pub fn weight_bytes(deployment: &Deployment) -> Result<f64> {
    let (model, precision) = (&deployment.model, &deployment.precision);
    let reaches = Reaches::of(model)?;
    let how = Lowering::default();
    let whole = lower(model, Layout::default(), precision, how, &reaches);
    let matrices: f64 = whole.iter().map(|op| op.repeat * op.work.resident.elements).sum();
    let vectors = (model.parameters() as f64 - matrices).max(0.0) * stage_share(model, deployment.layout);
    let mine = deployment.program()?.ops;
    let sharded: f64 = mine.iter().map(|op| op.stage_repeat * op.work.resident.bytes).sum();
    let width = precision.activation.bytes();
    Ok(sharded + (vectors + model.vision_parameters() as f64) * width)
}

/// Bytes of weights in memory beside the device's.
fn weight_bytes_beside(deployment: &Deployment) -> Result<f64> {
    let ops = deployment.program()?.ops;
    Ok(ops.iter().map(|op| op.stage_repeat * op.work.elsewhere.bytes).sum())
}

/// What does not depend on the sequences asked about: weights, cache geometry, what the engine keeps for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    capacity: f64,
    weights: f64,
    kv: KvLayout,
    usable: f64,
    engine_activations: f64,
    runtime: f64,
    block_size: u64,
    cut: Option<Cut>,
    beside: Option<Room>,
    held: Held,
}

/// Room in memory beside the device's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Room {
    store: Store,
    weights: f64,
    /// What an engine leaves for weights and cache.
    usable: f64,
}

impl MemoryPlan {
    /// Divides the memory of a deployment's busiest device.
    ///
    /// # Errors
    /// A device of unknown capacity, blocks that were set otherwise than a technique has them.
    pub fn of(deployment: &Deployment, engine: &EngineMemory) -> Result<MemoryPlan> {
        let capacity = deployment.hardware.memory.capacity.value.ok_or_else(|| {
            Error::spec(
                "hardware.memory.device.capacity",
                "must be known",
                "unknown",
                "give it in a hardware file",
            )
        })?;
        let most = engine.max_num_batched_tokens as f64;
        let rows = most.min(engine.max_num_seqs as f64);
        let several = if deployment.gpus() > 1.0 { COMMUNICATION_BYTES } else { 0.0 };
        let graphs = if engine.cuda_graphs { GRAPH_BYTES } else { 0.0 };
        let weights = weight_bytes(deployment)?;
        // Only vLLM's profile run samples as many rows as there may be.
        let copies = if engine.share == MemoryShare::Device { LOGIT_COPIES } else { 1.0 };
        let activations = activation_peak(deployment, most, rows, 0.0, copies);
        let share = engine.gpu_memory_utilization;
        let (usable, activations, runtime) = match engine.share {
            MemoryShare::Device => ((capacity * share).ceil(), activations, RUNTIME_BYTES + several + graphs),
            MemoryShare::Static => ((capacity - RUNTIME_BYTES - several) * share, 0.0, 0.0),
            MemoryShare::Free => {
                let runtime = RUNTIME_BYTES + several + graphs;
                let taken = weights + activations + runtime;
                (taken + (capacity - taken).max(0.0) * share, activations, runtime)
            }
        };
        let beside = match deployment.store()? {
            None => None,
            Some(store) => {
                let taken = if store.tokens > 0.0 {
                    runtime + activation_peak(deployment, most * store.tokens, 0.0, 0.0, 1.0)
                } else {
                    0.0
                };
                let usable = store.capacity * if store.tokens > 0.0 { share } else { 1.0 };
                Some(Room { store, weights: weight_bytes_beside(deployment)?, usable: usable - taken })
            }
        };
        let held = deployment.cache()?.held;
        let block_size = engine.block_size.of(&deployment.model, held)?;
        let cut = match engine.pages {
            Pages::Together => None,
            Pages::Groups { caching, drafts } => {
                let drafts = deployment.techniques.drafting().map_or(drafts, |drafting| drafting.tokens);
                let states = 1 + drafts + u32::from(caching && held.reserved == 0);
                let tokens = u32::try_from(block_size).unwrap_or(u32::MAX);
                cut(deployment, tokens)?.filter(Cut::differs).map(|cut| cut.with_states(states))
            }
        };
        Ok(MemoryPlan {
            beside,
            capacity,
            weights,
            kv: KvLayout::of_deployment(deployment)?,
            usable,
            engine_activations: activations,
            runtime,
            block_size: cut.map_or(block_size, |cut| u64::from(cut.block_size)),
            cut,
            held,
        })
    }

    /// Cache of one sequence.
    pub fn kv(&self) -> &KvLayout {
        &self.kv
    }

    /// How the cache is cut where its layers keep theirs differently, and the engine cuts it by layers.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Tokens of a block.
    pub fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Blocks that a sequence of `tokens` takes while it decodes, and their bytes each.
    ///
    /// Where layers share blocks, those bytes are the sequence's shared out over its blocks.
    fn blocks_of(&self, tokens: u64) -> (u64, f64) {
        if let Some(cut) = &self.cut {
            let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            return (u64::from(cut.blocks_of(tokens)), cut.block_bytes);
        }
        let each = tokens.div_ceil(self.block_size).max(1);
        (each, self.kv.bytes(each * self.block_size) / each as f64)
    }

    /// Blocks of a sequence of `tokens` that it has in common with others; none are counted where layers have their own.
    fn shared_blocks(&self, tokens: u64) -> u64 {
        let whole = if self.cut.is_none() { self.held.prefix.min(tokens) / self.block_size } else { 0 };
        if self.held.groups > 0 { whole } else { 0 }
    }

    /// Bytes for the cache, wherever it lies; none where something else does not fit.
    fn for_kv(&self) -> f64 {
        let own = (self.usable - self.weights - self.engine_activations - self.runtime).max(0.0);
        match self.beside {
            Some(room) if room.weights > room.usable => 0.0,
            Some(room) if room.store.cache && own > 0.0 => room.usable - room.weights,
            _ => own,
        }
    }

    /// Bytes for the cache where nothing but weights and `activations` lie beside it.
    fn left(&self, activations: f64) -> f64 {
        match self.beside {
            Some(room) if room.store.cache || room.weights > room.store.capacity => {
                (room.store.capacity - room.weights).max(0.0)
            }
            _ => (self.capacity - self.weights - activations).max(0.0),
        }
    }

    /// Memory with `sequences` of `context` tokens each, and `activations` bytes alive in the step.
    #[inline]
    pub fn with(&self, sequences: u64, context: u64, activations: f64) -> Memory {
        let a_sequence = self.kv.bytes(context);
        let (blocks_each, block_bytes) = self.blocks_of(context);
        let left = self.left(activations);
        let kv = self.kv.bytes_where(a_sequence, sequences, context);
        let cached_beside = self.beside.is_some_and(|room| room.store.cache);
        let beside = self.beside.map(|room| Beside {
            what: room.store.what,
            capacity: room.store.capacity,
            usable: room.usable,
            weights: room.weights,
            kv: if cached_beside { kv } else { 0.0 },
        });
        let shared = self.shared_blocks(context).min(blocks_each);
        let saved = shared * sequences.saturating_sub(self.held.groups);
        let num_gpu_blocks = if block_bytes > 0.0 { (self.for_kv() / block_bytes) as u64 } else { 0 };
        Memory {
            capacity: self.capacity,
            weights: self.weights,
            kv: if cached_beside { 0.0 } else { kv },
            activations,
            usable: self.usable,
            engine_activations: self.engine_activations,
            runtime: self.runtime,
            for_kv: self.for_kv(),
            block_size: if self.block_size == WHOLE { context.max(1) } else { self.block_size },
            block_bytes,
            num_gpu_blocks,
            ideal_sequences: self.kv.fitting(left, context),
            engine_sequences: most_of(
                num_gpu_blocks.saturating_sub(1),
                blocks_each,
                shared,
                self.held.groups,
            ),
            blocks_needed: if a_sequence > 0.0 { blocks_each * sequences - saved } else { 0 },
            beside,
        }
    }
}

/// Sequences of `each` blocks that so many blocks hold, `shared` of each of which lie there once for each of `groups`.
fn most_of(blocks: u64, each: u64, shared: u64, groups: u64) -> u64 {
    let alone = blocks / each.max(1);
    match blocks.checked_sub(groups * shared) {
        Some(left) if shared > 0 && alone > groups => {
            left.checked_div(each - shared).map_or(u64::MAX, |more| more)
        }
        _ => alone,
    }
}

/// Peak bytes of activations alive at once, per unit of what a step processes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivationPeak {
    /// Elements a token.
    token: f64,
    /// Elements a score.
    score: f64,
    /// Elements of a token's state.
    state: f64,
    /// Bytes an element.
    bytes: f64,
    /// Bytes of a row of logits.
    row: f64,
}

impl ActivationPeak {
    /// The peak of a deployment's steps; `logit_copies` of the logits are alive at once.
    pub fn of(deployment: &Deployment, logit_copies: f64) -> ActivationPeak {
        let (model, tp) = (&deployment.model, deployment.layout.tp as f64);
        let bytes = deployment.precision.activation.bytes();
        let widest = model.layers.iter().map(|group| widest_intermediate(group, tp)).fold(0.0, f64::max);
        let scores = if deployment.lowering.flash_attention { 0.0 } else { score_heads(model) / tp };
        let row = if logit_copies > 1.0 { bytes + 4.0 * logit_copies } else { bytes };
        ActivationPeak {
            token: 2.0 * model.hidden as f64 + widest,
            score: scores,
            state: model.hidden as f64,
            bytes,
            row: if model.head { model.vocab as f64 * row } else { 0.0 },
        }
    }

    /// Bytes of a step of so many tokens, sampled rows and (query, key) rectangles.
    #[inline]
    pub fn bytes(&self, tokens: f64, rows: f64, scores: f64) -> f64 {
        let layers = (tokens * self.token + scores * self.score) * self.bytes;
        layers.max(tokens * self.state * self.bytes + rows * self.row)
    }
}

/// Peak bytes of activations alive at once: residual and hidden state beside the widest intermediate of a layer, or
/// the logits, whichever is more (lifetimes do not overlap). `scores` (query, key) rectangles of one layer are alive too
/// where attention is not fused.
pub(crate) fn activation_peak(
    deployment: &Deployment,
    tokens: f64,
    rows: f64,
    scores: f64,
    logit_copies: f64,
) -> f64 {
    ActivationPeak::of(deployment, logit_copies).bytes(tokens, rows, scores)
}

/// Most heads of a layer that keep a row of scores a query.
fn score_heads(model: &Model) -> f64 {
    let heads = |group: &LayerGroup| match &group.mixer {
        Some(Mixer::Attention(attention)) => attention.heads,
        _ => 0,
    };
    model.layers.iter().map(heads).max().unwrap_or(0) as f64
}

/// Elements a token has alive in the widest place of a layer: gate, up and their product, or q, k, v and the output.
fn widest_intermediate(group: &LayerGroup, tp: f64) -> f64 {
    use crate::model::Ffn;
    let gated = |gated: bool| if gated { 3.0 } else { 2.0 };
    let ffn = match &group.ffn {
        Some(Ffn::Dense(dense)) => gated(dense.gated) * dense.intermediate as f64 / tp,
        Some(Ffn::Moe(moe)) => {
            let routed = gated(moe.gated) * (moe.top_k * moe.intermediate) as f64;
            (routed + gated(moe.gated) * moe.shared_intermediate as f64) / tp
        }
        None => 0.0,
    };
    let mixer = match &group.mixer {
        Some(Mixer::Attention(a)) => {
            (2.0 * (a.heads * a.head_dim) as f64 + (a.kv_heads * (a.head_dim + a.value_dim)) as f64) / tp
        }
        Some(Mixer::Mla(m)) => (m.heads * (2 * (m.nope_dim + m.rope_dim) + 2 * m.value_dim)) as f64 / tp,
        Some(Mixer::Mamba(m)) => 3.0 * m.inner as f64 / tp,
        Some(Mixer::Linear(l)) => (l.input_columns + l.value_heads * l.value_dim) as f64 / tp,
        None => 0.0,
    };
    ffn.max(mixer)
}
