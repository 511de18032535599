//! What an engine launches for an operator: the geometry that fitted forms read, beside the ideal work.

use super::{Counts, Rate};
use crate::format::{Format, Storage};

/// The kernel an engine runs for one occurrence of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Kernel {
    /// One of no measured kind.
    #[default]
    Other,
    /// One that nothing is known of but its roofline: what a technique adds, or runs elsewhere.
    Bound,
    /// None of its own: it runs inside a neighbour's.
    Inside,
    /// Dense multiplication.
    Gemm(Gemm),
    /// Softmax attention: one kernel for prompts and decoding sequences where the engine mixes them.
    Attention(Attention),
    /// Latent attention over the cached latent.
    Absorbed(Absorbed),
    /// A share of both grouped multiplications of a layer's experts.
    Experts(Experts),
    /// A pass through memory of so many bytes.
    Pass(Rate),
    /// Activations brought into a narrower format.
    Quantise(Quantise),
    /// State-space or linear attention.
    State,
    /// A collective; its geometry is the operator's transfer.
    Transfer,
    /// What the host does in a step that no kernel hides.
    Host,
    /// What the host does beside the device: launching the kernels of a step with prompts one by one.
    Launching,
}

/// Rows times a resident weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gemm {
    /// Rows, as a rate of the step's sums.
    pub rows: Rate,
    /// Inputs on this device.
    pub inputs: f64,
    /// Outputs on this device.
    pub outputs: f64,
    /// Heads that have a part of the weight of their own, brought in by one launch and out by another; 0 where all rows
    /// meet the whole.
    pub heads: f64,
    /// How the weight is stored.
    pub weight: Storage,
    /// The format it multiplies in.
    pub input: Format,
}

/// Activations narrowed for a multiplication.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantise {
    /// Bytes read and written.
    pub bytes: Rate,
    /// How the weight they meet is stored.
    pub weight: Storage,
    /// The format they are brought into.
    pub input: Format,
}

/// Attention over keys and values, for every head its own or shared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Query heads on this device.
    pub heads: f64,
    /// KV heads on this device.
    pub kv_heads: f64,
    /// Width of a query/key head.
    pub key_dim: f64,
    /// Width of a value head.
    pub value_dim: f64,
    /// Bytes of an activation.
    pub activation_bytes: f64,
    /// How a cached element is stored.
    pub kv: Format,
    /// Most keys a query sees; infinite without a window.
    pub window: f64,
    /// Whether keys and values are expanded from a latent first.
    pub latent: bool,
    /// Share of a decoding sequence's new tokens that attend in one launch: less than 1 where they come one after another,
    /// as a drafting model's.
    pub at_once: f64,
}

/// Attention of every head over one cached vector a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Absorbed {
    /// Heads on this device.
    pub heads: f64,
    /// Width of the cached vector.
    pub latent: f64,
    /// Width of its part without positions.
    pub lora: f64,
    /// Most keys a query sees; infinite where it sees all.
    pub window: f64,
    /// How a cached element is stored.
    pub kv: Format,
    /// As [`Attention::at_once`].
    pub at_once: f64,
}

/// The experts of a layer on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// This operator's share of the whole.
    pub share: f64,
    /// Share of the step's tokens that meet the experts in one launch, as [`Attention::at_once`].
    pub at_once: f64,
    /// Experts on this device.
    pub experts: f64,
    /// Chance that one token leaves a given expert alone.
    pub missed: f64,
    /// Tokens that meet at the experts, per token of this rank.
    pub ranks: f64,
    /// Visits to this device's experts a token of this rank.
    pub visits: f64,
    /// Width the experts read and write.
    pub width: f64,
    /// Inner width of an expert on this device.
    pub inner: f64,
    /// Matrices of an expert.
    pub matrices: f64,
    /// How weights are stored.
    pub weight: Storage,
    /// The format they multiply in.
    pub input: Format,
}

impl Kernel {
    /// Whether its time depends on how long contexts are, and not on counts alone.
    pub fn grows_with_context(&self) -> bool {
        match self {
            Kernel::Attention(_) | Kernel::Absorbed(_) => true,
            Kernel::Gemm(gemm) => gemm.rows.grows_with_context(),
            Kernel::Pass(bytes) => bytes.grows_with_context(),
            Kernel::Quantise(quantise) => quantise.bytes.grows_with_context(),
            _ => false,
        }
    }

    /// Launches that an engine needs for it: experts are gated, chosen, sorted, quantised and multiplied twice; latent
    /// attention has norms, rotary parts, copies of heads and the writing of the cache around it.
    pub fn launches(&self) -> f64 {
        match self {
            Kernel::Host | Kernel::Launching | Kernel::Inside => 0.0,
            Kernel::Experts(_) | Kernel::Absorbed(_) => 6.0,
            Kernel::Attention(attention) if attention.latent => 6.0,
            _ => 1.0,
        }
    }

    /// The counts that its time depends on, beside those of the operator's work.
    pub(super) fn counts(&self) -> Counts {
        match self {
            Kernel::Gemm(gemm) => gemm.rows.counts(),
            Kernel::Pass(bytes) => bytes.counts(),
            Kernel::Quantise(quantise) => quantise.bytes.counts(),
            Kernel::Attention(_) => Counts { tokens: true, logits: false, sequences: true },
            Kernel::Absorbed(_) | Kernel::Host => Counts { sequences: true, ..Counts::default() },
            Kernel::Experts(_) | Kernel::Launching => Counts { tokens: true, ..Counts::default() },
            Kernel::Other | Kernel::Bound | Kernel::Inside | Kernel::State | Kernel::Transfer => {
                Counts::default()
            }
        }
    }

    /// The same over so many times the new tokens of each decoding sequence, whose rates `of` tells.
    #[must_use]
    pub fn of_each(self, at_once: f64, of: impl Fn(Rate) -> Rate) -> Kernel {
        match self {
            Kernel::Gemm(gemm) => Kernel::Gemm(Gemm { rows: of(gemm.rows), ..gemm }),
            Kernel::Pass(bytes) => Kernel::Pass(of(bytes)),
            Kernel::Quantise(quantise) => {
                Kernel::Quantise(Quantise { bytes: of(quantise.bytes), ..quantise })
            }
            Kernel::Attention(attention) => Kernel::Attention(Attention { at_once, ..attention }),
            Kernel::Absorbed(absorbed) => Kernel::Absorbed(Absorbed { at_once, ..absorbed }),
            Kernel::Experts(experts) => Kernel::Experts(Experts { at_once, ..experts }),
            same => same,
        }
    }

    /// The same for a rank that runs only a share of the step's tokens.
    #[must_use]
    pub fn of_tokens(mut self, share: f64) -> Kernel {
        match &mut self {
            Kernel::Gemm(gemm) => gemm.rows.token *= share,
            Kernel::Pass(bytes) => bytes.token *= share,
            Kernel::Quantise(quantise) => quantise.bytes.token *= share,
            _ => {}
        }
        self
    }
}
