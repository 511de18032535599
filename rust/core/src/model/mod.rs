//! A model as groups of equal layers: what there is to multiply, read and keep, and nothing else.
//!
//! A Hugging Face `config.json` becomes a [`Model`] in [`hf`]; lowering (model → operators) and parameter counting
//! read only what stands here.

use crate::format::{Format, Storage};

pub mod parameters;
pub mod hf;

/// What the model is run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Generates token by token with a KV cache.
    Decoder,
    /// Reads a whole input at once (BERT): no cache, no decode.
    Encoder,
    /// Denoises patches step by step (DiT): no cache, no decode.
    Diffusion,
}

/// A model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Catalogue name, or the file it was read from.
    pub name: String,
    /// As printed on screens (`Llama-3.1-8B`).
    pub title: String,
    /// `model_type` of its configuration.
    pub family: String,
    /// What it is run as.
    pub task: Task,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Vocabulary (rows of the embedding); 0 where there is none (DiT).
    pub vocab: u64,
    /// Width of an embedding's row: `hidden`, but for models that project it (OPT-350m, ELECTRA).
    pub embedding_width: u64,
    /// Whether embedding and head are one tensor, stored once.
    pub tied_embeddings: bool,
    /// Whether there is a language-model head (encoders and DiT have none).
    pub head: bool,
    /// Whether the head has a bias.
    pub head_bias: bool,
    /// Parameters outside layers, embedding and head: learned positions, embedding norms, final norm, poolers, projections.
    pub other_parameters: u64,
    /// Longest context it was made for, tokens.
    pub max_context: Option<u64>,
    /// Format of everything that is not quantized.
    pub dtype: Format,
    /// KV cache format the checkpoint asks for, if it does (`kv_cache_scheme`).
    pub kv_format: Option<Format>,
    /// Name of the checkpoint's quantization as users say it (`fp8`, `mxfp4`, `awq`), or none.
    pub quantization: Option<String>,
    /// Groups of equal layers, in order of first appearance.
    pub layers: Vec<LayerGroup>,
    /// The vision tower, if any: part of the weights, run once an image.
    pub vision: Option<Tower>,
    /// Multi-token-prediction layers the checkpoint ships (not in [`parameters`](Self::parameters), not run unless asked for).
    pub mtp_layers: u64,
    /// Sentences about what was assumed or left out in reading it; printed wherever the model is used.
    pub notes: Vec<String>,
}

/// Layers that cost the same.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerGroup {
    /// How many there are.
    pub count: u64,
    /// Token mixing, if the layer has any (Nemotron-H has layers of one part only).
    pub mixer: Option<Mixer>,
    /// Channel mixing, if the layer has any.
    pub ffn: Option<Ffn>,
    /// Whether mixer and FFN read the same input (GPT-J, Falcon): one all-reduce instead of two.
    pub parallel: bool,
    /// Parameters of the norms of one layer, and of what else is neither `mixer` nor `ffn` (DiT: its modulation,
    /// multiplied once an image).
    pub norm_parameters: u64,
    /// Norms run in one layer (two, or four with pre- and post-norms as Gemma has).
    pub norms: u64,
    /// Columns of the `hidden × columns` product that makes a layer's scales and shifts once an image (DiT), else 0;
    /// its parameters are among `norm_parameters`.
    pub modulation: u64,
    /// How its matrices are stored and multiplied.
    pub quant: Quant,
}

/// Which earlier tokens a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Span {
    /// All of them.
    Full,
    /// The last `w`, itself included.
    Window(u64),
    /// Those of its own chunk of `c` positions (Llama 4).
    Chunk(u64),
    /// The best `k`, chosen by an indexer (DSA).
    TopK(u64),
}

/// What mixes tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Mixer {
    /// Softmax attention with a KV cache of heads.
    Attention(Attention),
    /// Multi-head latent attention: the cache holds one compressed vector a token.
    Mla(Mla),
    /// A selective state-space layer (Mamba-1 or Mamba-2).
    Mamba(Mamba),
    /// Linear attention with a matrix state (gated delta net, KDA, lightning attention).
    Linear(LinearAttention),
}

impl Mixer {
    /// Whether every query sees all tokens before it and keeps them cached: full causal attention, of heads or latents.
    pub fn sees_all(&self) -> bool {
        match self {
            Mixer::Attention(own) => own.causal && own.span == Span::Full,
            Mixer::Mla(own) => own.indexer.is_none() && own.span == Span::Full,
            Mixer::Mamba(_) | Mixer::Linear(_) => false,
        }
    }

    /// The span of such a mixer.
    pub fn full_span(&mut self) -> Option<&mut Span> {
        if !self.sees_all() {
            return None;
        }
        match self {
            Mixer::Attention(own) => Some(&mut own.span),
            Mixer::Mla(own) => Some(&mut own.span),
            Mixer::Mamba(_) | Mixer::Linear(_) => None,
        }
    }
}

/// Softmax attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Width of a query/key head.
    pub head_dim: u64,
    /// Width of a value head.
    pub value_dim: u64,
    /// What a query sees.
    pub span: Span,
    /// Whether later tokens are hidden (false in encoders and vision towers).
    pub causal: bool,
    /// Bias on q, k, v.
    pub qkv_bias: bool,
    /// Bias on o.
    pub output_bias: bool,
    /// Parameters of norms on q and k.
    pub qk_norm_parameters: u64,
    /// Whether the query projection also makes a gate of the output's width (Qwen3-Next).
    pub output_gate: bool,
    /// Other parameters (attention sinks, relative biases).
    pub other_parameters: u64,
    /// Whether values are the keys (Gemma 4 global layers): one projection makes both, the cache still holds both.
    pub value_is_key: bool,
    /// Whether the cache of an earlier layer is reused: no k/v projection, nothing written (Gemma 3n/4 KV sharing).
    pub shares_kv: bool,
    /// Whether rotary embedding is applied.
    pub rope: bool,
}

/// Multi-head latent attention (DeepSeek-V2, §2.1.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Mla {
    /// Heads.
    pub heads: u64,
    /// Rank of the query's compression; `None` where queries are projected directly.
    pub q_lora: Option<u64>,
    /// Rank of the cached latent.
    pub kv_lora: u64,
    /// Width of a head's part without positions.
    pub nope_dim: u64,
    /// Width of the rotary part (shared by heads in the cache).
    pub rope_dim: u64,
    /// Width of a value head.
    pub value_dim: u64,
    /// What a query sees, where no indexer chooses.
    pub span: Span,
    /// Bias on the projections.
    pub bias: bool,
    /// Sparse attention's indexer, if the layer has one.
    pub indexer: Option<Indexer>,
}

/// The lightning indexer of DeepSeek sparse attention: scores all tokens cheaply, keeps the best.
#[derive(Debug, Clone, PartialEq)]
pub struct Indexer {
    /// Its heads.
    pub heads: u64,
    /// Width of a head (one key of this width a token is cached).
    pub head_dim: u64,
    /// Tokens kept a query.
    pub top_k: u64,
    /// Whether this layer computes its own choice (false: it reuses an earlier layer's, and has no indexer weights).
    pub own: bool,
}

/// A Mamba layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Mamba {
    /// 1 or 2.
    pub version: u8,
    /// Inner width (heads × head width in Mamba-2).
    pub inner: u64,
    /// State width (`ssm_state_size`).
    pub state: u64,
    /// Heads (Mamba-2; 1 in Mamba-1).
    pub heads: u64,
    /// Groups that share B and C (Mamba-2; 1 in Mamba-1).
    pub groups: u64,
    /// Width of the causal convolution.
    pub conv: u64,
    /// Rank of the time step (Mamba-1; 0 in Mamba-2).
    pub dt_rank: u64,
    /// Bias on the in/out projections.
    pub proj_bias: bool,
    /// Bias on the convolution.
    pub conv_bias: bool,
    /// Parameters of inner norms.
    pub norm_parameters: u64,
    /// Format the state is kept in.
    pub state_format: Format,
}

/// Which linear attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearKind {
    /// Gated delta net (Qwen3-Next, Qwen3.5).
    GatedDelta,
    /// Kimi delta attention (per-channel decay).
    Kda,
    /// Lightning attention (MiniMax-01).
    Lightning,
}

/// Linear attention.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearAttention {
    /// Which one.
    pub kind: LinearKind,
    /// Key heads.
    pub key_heads: u64,
    /// Value heads (a state matrix each).
    pub value_heads: u64,
    /// Width of a key head.
    pub key_dim: u64,
    /// Width of a value head.
    pub value_dim: u64,
    /// Width of the causal convolution; 0 where there is none.
    pub conv: u64,
    /// Columns of all input projections together (q, k, v, gates).
    pub input_columns: u64,
    /// Parameters beside the projections (convolution, decay, norms, low-rank gates).
    pub other_parameters: u64,
    /// Format the state is kept in.
    pub state_format: Format,
}

/// What mixes channels.
#[derive(Debug, Clone, PartialEq)]
pub enum Ffn {
    /// One network for all tokens.
    Dense(Dense),
    /// A router and experts.
    Moe(Moe),
}

/// A feed-forward network.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Inner width.
    pub intermediate: u64,
    /// Three matrices (gate, up, down) or two.
    pub gated: bool,
    /// Biases.
    pub bias: bool,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Moe {
    /// Routed experts.
    pub experts: u64,
    /// Experts a token visits.
    pub top_k: u64,
    /// Inner width of one expert.
    pub intermediate: u64,
    /// Three matrices an expert or two.
    pub gated: bool,
    /// Biases of the experts.
    pub bias: bool,
    /// Parameters of the router beside hidden × experts (bias, correction).
    pub router_other_parameters: u64,
    /// Inner width of all shared experts together; 0 where there are none.
    pub shared_intermediate: u64,
    /// Whether the shared expert has a gate of its own (hidden × 1).
    pub shared_gate: bool,
    /// Inner width of a dense network beside the experts, run for every token (Gemma 4, Arctic); 0 where there is none.
    pub dense_intermediate: u64,
    /// Width the experts work in when it is not `hidden` (latent MoE of Nemotron-3 Super); adds a projection down and up.
    pub latent: Option<u64>,
}

/// A bidirectional tower beside the decoder (vision).
#[derive(Debug, Clone, PartialEq)]
pub struct Tower {
    /// Width.
    pub hidden: u64,
    /// Its layers.
    pub layers: Vec<LayerGroup>,
    /// Parameters outside the layers: patch embedding, positions, norms, merger/projector.
    pub other_parameters: u64,
    /// Multiply-accumulate parameters of the projector run once an output token (for FLOPs).
    pub projector_parameters: u64,
    /// Patches that become one token of the decoder.
    pub patches_per_token: u64,
    /// Parameters of the patch embedding (multiplied once a patch).
    pub patch_parameters: u64,
}

/// A part of a layer whose matrices are stored alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// q, k, v, o (and MLA's projections).
    Attention,
    /// Projections of Mamba and linear attention.
    State,
    /// Dense FFN, also the one beside experts.
    Dense,
    /// Routed experts.
    Experts,
    /// Shared experts, their gate, and the projections into and out of a latent width.
    Shared,
    /// Router.
    Router,
    /// Sparse attention's indexer.
    Indexer,
}

/// How a matrix is stored and what it is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// How the weight is stored.
    pub weight: Storage,
    /// The format activations enter the multiplication in.
    pub activation: Format,
}

impl Linear {
    /// Unquantized.
    pub const fn plain(format: Format) -> Linear {
        Linear { weight: Storage::plain(format), activation: format }
    }
}

/// How the parts of a layer are stored: the checkpoint's own choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Quant {
    /// Where a part has no entry below.
    pub default: Linear,
    /// Parts that differ.
    pub parts: Vec<(Part, Linear)>,
}

impl Quant {
    /// Everything alike.
    pub const fn uniform(linear: Linear) -> Quant {
        Quant { default: linear, parts: Vec::new() }
    }

    /// How `part` is stored.
    pub fn of(&self, part: Part) -> Linear {
        self.parts.iter().find(|(known, _)| *known == part).map_or(self.default, |(_, linear)| *linear)
    }

    /// Stores `parts` as `change` makes of what they are; all but routers where none are named.
    pub fn change(&mut self, parts: &[Part], change: impl Fn(Linear) -> Linear) {
        let unchanged = |linear: Linear| change(linear) == linear;
        if parts.is_empty()
            && unchanged(self.default)
            && self.parts.iter().all(|(_, linear)| unchanged(*linear))
        {
            return;
        }
        if parts.is_empty() {
            let router = self.of(Part::Router);
            self.default = change(self.default);
            self.parts.retain(|(part, _)| *part != Part::Router);
            self.parts.iter_mut().for_each(|(_, linear)| *linear = change(*linear));
            self.parts.push((Part::Router, router));
        }
        for part in parts {
            let changed = change(self.of(*part));
            self.parts.retain(|(known, _)| known != part);
            self.parts.push((*part, changed));
        }
    }
}
