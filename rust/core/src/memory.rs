//! Does it fit, and how much KV cache is left? The ideal answer, and what an engine allocates.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::lower::{Lowering, lower, stage_share};
use crate::model::{LayerGroup, Mixer, Model, Span};
use crate::op::mla::indexer_key_bytes;
use crate::op::state;
use crate::precision::Precision;
use crate::shape::Reaches;
use crate::step::Deployment;
use crate::technique::Held;
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

/// How an engine divides a device's memory (vLLM's names and rules, 0.33).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineMemory {
    /// Share of memory the engine may use.
    pub gpu_memory_utilization: f64,
    /// What that is a share of.
    pub share: MemoryShare,
    /// Tokens of a KV block.
    pub block_size: u64,
    /// Tokens of the largest step, which the profile run allocates activations for.
    pub max_num_batched_tokens: u64,
    /// Sequences of the largest step, which the profile run allocates logits for.
    pub max_num_seqs: u64,
    /// Whether CUDA graphs are captured and their estimate subtracted.
    pub cuda_graphs: bool,
}

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
    /// Bytes of one block over all layers of the device, at the context asked about.
    pub block_bytes: f64,
    /// KV blocks the engine allocates (block 0, which vLLM never uses, included); 0 if the weights do not fit.
    pub num_gpu_blocks: u64,
    /// Sequences of that context that fit by bytes alone.
    pub ideal_sequences: u64,
    /// Sequences of that context that fit in the engine's blocks.
    pub engine_sequences: u64,
    /// Blocks that the sequences asked about take in the engine.
    pub blocks_needed: u64,
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
        self.weights + self.engine_activations + self.runtime + self.blocks_needed as f64 * self.block_bytes
    }

    /// Whether the sequences asked about fit by bytes alone.
    pub fn fits_ideally(&self) -> bool {
        self.ideal_bytes() <= self.capacity
    }

    /// Whether they fit in the engine; a model without a cache fits if its weights and activations do.
    #[inline]
    pub fn fits(&self) -> bool {
        if self.block_bytes > 0.0 { self.num_gpu_blocks > self.blocks_needed } else { self.for_kv > 0.0 }
    }
}

/// Bytes of cache one sequence holds on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct KvLayout {
    /// (bytes a token, cap in tokens) of each kind of layer.
    growing: Vec<(f64, Option<u64>)>,
    /// Bytes a sequence, whatever its length.
    pub state: f64,
    /// What techniques do to its allocation.
    held: Held,
}

impl KvLayout {
    /// The cache of one sequence on the busiest device.
    pub fn of(model: &Model, layout: Layout, precision: &Precision) -> KvLayout {
        let share = stage_share(model, layout);
        let mut kv = KvLayout { growing: Vec::new(), state: 0.0, held: Held::default() };
        for group in &model.layers {
            kv.add(group, share * group.count as f64, layout, precision);
        }
        kv
    }

    /// The same with what techniques do to it.
    ///
    /// # Errors
    /// A technique that does not suit the model.
    pub fn of_deployment(deployment: &Deployment) -> Result<KvLayout> {
        let cache = deployment.cache()?;
        let (model, layout, precision) = (&deployment.model, deployment.layout, &deployment.precision);
        let mut kv = KvLayout::of(model, layout, precision);
        let own: Vec<(f64, Option<u64>)> = std::mem::take(&mut kv.growing);
        for (bytes, cap) in own {
            for (share, budget) in cache.budgets() {
                let most = cap.into_iter().chain(budget).min();
                kv.grow(bytes * share * cache.factor, most);
            }
        }
        for (bytes, cap) in &cache.added {
            kv.grow(*bytes, *cap);
        }
        // What drafts runs beside the last stage.
        let beside = Layout { pp: 1, ..layout };
        for (model, precision) in &cache.drafts {
            for (bytes, cap) in KvLayout::of(model, beside, precision).growing {
                kv.grow(bytes, cap);
            }
        }
        kv.held = cache.held;
        Ok(kv)
    }

    fn add(&mut self, group: &LayerGroup, layers: f64, layout: Layout, precision: &Precision) {
        let element = precision.kv.bytes(1.0);
        let tp = layout.tp as f64;
        let activation = precision.activation.bytes();
        match &group.mixer {
            Some(Mixer::Attention(a)) if a.causal && !a.shares_kv => {
                let heads = (a.kv_heads as f64 / tp).ceil();
                let bytes = layers * heads * (a.head_dim + a.value_dim) as f64 * element;
                let cap = match a.span {
                    Span::Window(w) | Span::Chunk(w) => Some(w),
                    Span::Full | Span::TopK(_) => None,
                };
                self.grow(bytes, cap);
            }
            Some(Mixer::Mla(m)) => {
                let own = m.indexer.as_ref().filter(|indexer| indexer.own).map_or(0.0, indexer_key_bytes);
                self.grow(layers * ((m.kv_lora + m.rope_dim) as f64 * element + own), None);
            }
            Some(Mixer::Mamba(m)) => self.state += layers * state::mamba_state_bytes(m, activation, tp),
            Some(Mixer::Linear(l)) => self.state += layers * state::linear_state_bytes(l, activation, tp),
            _ => {}
        }
    }

    fn grow(&mut self, bytes: f64, cap: Option<u64>) {
        match self.growing.iter_mut().find(|(_, known)| *known == cap) {
            Some((sum, _)) => *sum += bytes,
            None => self.growing.push((bytes, cap)),
        }
    }

    /// Bytes that one more token adds while every layer still grows.
    pub fn bytes_per_token(&self) -> f64 {
        self.growing.iter().map(|(bytes, _)| bytes).sum()
    }

    /// Bytes of a sequence of `tokens`, every layer holding at most its window.
    #[inline]
    pub fn bytes(&self, tokens: u64) -> f64 {
        let tokens = self.held.allocated(tokens);
        let held = |cap: &Option<u64>| cap.map_or(tokens, |cap| cap.min(tokens)) as f64;
        self.state + self.growing.iter().map(|(bytes, cap)| bytes * held(cap)).sum::<f64>()
    }

    /// Bytes of `sequences` of so many tokens each: what they share is stored once.
    pub fn bytes_of(&self, sequences: u64, tokens: u64) -> f64 {
        self.bytes_where(self.bytes(tokens), sequences, tokens)
    }

    /// The same where the bytes of one are known.
    #[inline]
    fn bytes_where(&self, one: f64, sequences: u64, tokens: u64) -> f64 {
        let (shared, copies) = self.held.shared(sequences, tokens);
        if shared == 0 {
            return one * sequences as f64;
        }
        let saved = one - self.bytes(tokens - shared) - self.held.table * shared as f64;
        one * sequences as f64 - saved * (sequences - copies) as f64
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
}

impl MemoryPlan {
    /// Divides the memory of a deployment's busiest device.
    ///
    /// # Errors
    /// A device of unknown capacity.
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
        Ok(MemoryPlan {
            capacity,
            weights,
            kv: KvLayout::of_deployment(deployment)?,
            usable,
            engine_activations: activations,
            runtime,
            block_size: engine.block_size,
        })
    }

    /// Cache of one sequence.
    pub fn kv(&self) -> &KvLayout {
        &self.kv
    }

    /// Blocks of the whole model that the engine allocates where sequences hold `context` tokens, block 0 included.
    ///
    /// A block is `block_size` tokens of one sequence over all layers. Where layers hold at most a window, or a state
    /// of constant size, its bytes are those of a sequence of that length shared out over the sequence's blocks.
    pub fn blocks(&self, context: u64) -> u64 {
        self.blocks_of(self.block_bytes(context))
    }

    fn blocks_of(&self, bytes: f64) -> u64 {
        if bytes > 0.0 { (self.for_kv() / bytes) as u64 } else { 0 }
    }

    fn block_bytes(&self, context: u64) -> f64 {
        self.block_bytes_where(context.div_ceil(self.block_size).max(1))
    }

    /// Bytes of a block where a sequence takes `each` of them.
    fn block_bytes_where(&self, each: u64) -> f64 {
        self.kv.bytes(each * self.block_size) / each as f64
    }

    fn for_kv(&self) -> f64 {
        (self.usable - self.weights - self.engine_activations - self.runtime).max(0.0)
    }

    /// Memory with `sequences` of `context` tokens each, and `activations` bytes alive in the step.
    #[inline]
    pub fn with(&self, sequences: u64, context: u64, activations: f64) -> Memory {
        let a_sequence = self.kv.bytes(context);
        let blocks_each = context.div_ceil(self.block_size).max(1);
        let left = (self.capacity - self.weights - activations).max(0.0);
        let fitting = |bytes: f64| if a_sequence > 0.0 { (bytes / a_sequence) as u64 } else { 0 };
        let block_bytes = self.block_bytes_where(blocks_each);
        let num_gpu_blocks = self.blocks_of(block_bytes);
        Memory {
            capacity: self.capacity,
            weights: self.weights,
            kv: self.kv.bytes_where(a_sequence, sequences, context),
            activations,
            usable: self.usable,
            engine_activations: self.engine_activations,
            runtime: self.runtime,
            for_kv: self.for_kv(),
            block_bytes,
            num_gpu_blocks,
            ideal_sequences: fitting(left),
            engine_sequences: num_gpu_blocks.saturating_sub(1) / blocks_each,
            blocks_needed: if a_sequence > 0.0 { blocks_each * sequences } else { 0 },
        }
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

    /// Whether it depends on how long contexts are.
    pub fn grows_with_context(&self) -> bool {
        self.score > 0.0
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
