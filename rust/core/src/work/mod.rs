//! What an operator does, as coefficients of a step's sums: FLOPs, bytes of each kind, bytes over a link.

use crate::format::Format;
use crate::per_step::{Part, Parts as BlockParts};
use crate::shape::{Parts, PhaseSums};
use crate::site::{DrawnBy, Matrix, Site};

mod rate;
mod touched;
pub mod kernel;

pub use kernel::Kernel;
pub(crate) use rate::Counts;
pub use rate::Rate;
pub use touched::Touched;

/// Which collective an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collective {
    /// Everyone ends with the sum.
    AllReduce,
    /// Everyone ends with all shards.
    AllGather,
    /// Everyone ends with a shard of the sum.
    ReduceScatter,
    /// Everyone sends a part to everyone.
    AllToAll,
    /// One neighbour sends to the next.
    PointToPoint,
}

/// Bytes that cross links.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transfer {
    /// How.
    pub collective: Collective,
    /// Among how many devices.
    pub ranks: u64,
    /// How far apart neighbours of the group stand, in devices (1: next to each other).
    pub stride: u64,
    /// Bytes of the full buffer.
    pub bytes: Rate,
}

/// What an operator does in one occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Operations on the tensor unit (a multiply-add is two).
    pub flops: Rate,
    /// Operations on the vector unit.
    pub vector_flops: Rate,
    /// Bytes of weights read.
    pub weight_bytes: Rate,
    /// Bytes of weights read that depend on which experts are visited.
    pub touched: Option<Touched>,
    /// Bytes of activations read and written.
    pub activation_bytes: Rate,
    /// Bytes of KV cache or state read and written.
    pub kv_bytes: Rate,
    /// Bytes over links.
    pub transfer: Option<Transfer>,
    /// Weights that lie in this device's memory for it.
    pub resident: Resident,
    /// Weights that lie in memory beside it ([`crate::technique::Store`]).
    pub elsewhere: Resident,
    /// Whether it runs inside its neighbours' kernels: its operations are listed, its time is theirs.
    pub fused: bool,
}

impl Work {
    /// Bytes of weights that a step reads whose tokens are so many that together they need all of them.
    pub fn weights_of_many(&self) -> f64 {
        let drawn = self.touched.as_ref().filter(|touched| touched.drawn_by == DrawnBy::Token);
        let all = |touched: &Touched| {
            let missed = |missed: f64| if missed < 1.0 { 1.0 } else { 0.0 };
            let read = match &touched.skew {
                None => missed(touched.missed),
                Some(skew) => skew.classes.iter().map(|(share, chance)| share * missed(*chance)).sum(),
            };
            touched.local * read * touched.bytes_per_expert
        };
        self.weight_bytes.fixed + drawn.map_or(0.0, all)
    }
}

/// What decoding sequences leave out of an operator in a step whose prompts need all of its weights: rates of the sums of
/// those sequences.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Saved {
    /// Operations on the tensor unit.
    pub flops: Rate,
    /// Operations on the vector unit.
    pub vector_flops: Rate,
    /// Bytes of activations.
    pub activation_bytes: Rate,
    /// Bytes of KV cache or state.
    pub kv_bytes: Rate,
    /// Bytes over links.
    pub transfer_bytes: Rate,
    /// Share of their tokens that draw no weights.
    pub idle: f64,
}

impl Saved {
    /// What a `share` of the tokens brings of `work`: everything but what happens once a step.
    pub fn of(work: &Work, share: f64) -> Saved {
        let part = |rate: Rate| Rate { fixed: 0.0, ..rate.times(share) };
        Saved {
            flops: part(work.flops),
            vector_flops: part(work.vector_flops),
            activation_bytes: part(work.activation_bytes),
            kv_bytes: part(work.kv_bytes),
            transfer_bytes: part(work.transfer.map_or(Rate::ZERO, |transfer| transfer.bytes)),
            idle: share,
        }
    }
}

impl Work {
    /// All that is linear in a step's sums.
    pub(crate) fn rates(&self) -> [Rate; 6] {
        [
            self.flops,
            self.vector_flops,
            self.weight_bytes,
            self.activation_bytes,
            self.kv_bytes,
            self.transfer.map_or(Rate::ZERO, |transfer| transfer.bytes),
        ]
    }
}

/// Weights in memory.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resident {
    /// Numbers.
    pub elements: f64,
    /// Bytes, scales included.
    pub bytes: f64,
}

/// What family an operator belongs to: one efficiency model each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Dense matrix multiplication.
    Gemm,
    /// Grouped matrix multiplication over experts.
    MoeGemm,
    /// Softmax attention.
    Attention,
    /// Latent attention.
    Mla,
    /// State-space and linear attention.
    State,
    /// Norms, activations, rotary embedding, gathers.
    Elementwise,
    /// Collectives and point-to-point transfers.
    Link,
    /// The host's share of a step.
    Host,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 8] = [
        Family::Gemm,
        Family::MoeGemm,
        Family::Attention,
        Family::Mla,
        Family::State,
        Family::Elementwise,
        Family::Link,
        Family::Host,
    ];

    /// Its name in columns and files.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Gemm => "gemm",
            Family::MoeGemm => "moe",
            Family::Attention => "attention",
            Family::Mla => "mla",
            Family::State => "state",
            Family::Elementwise => "elementwise",
            Family::Link => "link",
            Family::Host => "host",
        }
    }
}

/// Which sequences of a step an operator runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// All of them.
    All,
    /// Prompts.
    Prefill,
    /// Decoding sequences.
    Decode,
    /// Decoding sequences, in steps that carry no prompt.
    DecodeAlone,
    /// All of them, in steps that carry a prompt.
    WithPrompts,
}

impl<'a> Parts<'a> {
    /// The sums of those sequences; those of nobody where it does not run.
    pub fn over(&self, over: Over) -> &'a PhaseSums {
        let prompts = self.prefill.tokens > 0.0;
        match over {
            Over::All => self.all,
            Over::Prefill => self.prefill,
            Over::Decode => self.decode,
            Over::DecodeAlone if !prompts => self.decode,
            Over::WithPrompts if prompts => self.all,
            Over::DecodeAlone | Over::WithPrompts => &PhaseSums::NOBODY,
        }
    }

    /// The same for an operator that sees those sequences alone.
    pub fn seen(&self, over: Over) -> Parts<'a> {
        match over {
            Over::Prefill => Parts { decode: &PhaseSums::NOBODY, all: self.prefill, ..*self },
            Over::Decode => Parts { prefill: &PhaseSums::NOBODY, all: self.decode, ..*self },
            Over::All | Over::DecodeAlone | Over::WithPrompts => *self,
        }
    }
}

impl<'a> BlockParts<'a> {
    /// The same for an operator that sees those sequences alone, as [`Parts::seen`].
    pub fn seen(&self, over: Over) -> BlockParts<'a> {
        match (over, self.prefill, self.decode) {
            (Over::Prefill, Some(prefill), _) => BlockParts { decode: None, all: prefill, ..*self },
            (Over::Decode, _, Some(decode)) => BlockParts { prefill: None, all: decode, ..*self },
            _ => *self,
        }
    }
}

/// One operator of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// Its name.
    pub name: String,
    /// Its family.
    pub family: Family,
    /// Occurrences in one pass through the whole model.
    pub repeat: f64,
    /// Occurrences on the busiest pipeline stage.
    pub stage_repeat: f64,
    /// Which sequences it runs over.
    pub over: Over,
    /// Which attention sums it reads.
    pub reach: usize,
    /// The format it multiplies in.
    pub format: Format,
    /// Whether it runs only in steps that need logits.
    pub needs_logits: bool,
    /// What one occurrence does.
    pub work: Work,
    /// What decoding sequences leave out of that beside prompts, if anything.
    pub saved: Option<Box<Saved>>,
    /// Where it runs.
    pub site: Site,
    /// Its matrix, if it is one dense multiplication.
    pub matrix: Option<Matrix>,
    /// What it was before a technique changed it, where that was measured.
    pub was: Option<Box<Op>>,
    /// What an engine launches for it.
    pub kernel: Kernel,
}

impl Op {
    /// An operator over all sequences that occurs once.
    pub fn new(name: impl Into<String>, family: Family, format: Format, work: Work) -> Op {
        Op {
            name: name.into(),
            family,
            repeat: 1.0,
            stage_repeat: 1.0,
            over: Over::All,
            reach: 0,
            format,
            needs_logits: false,
            work,
            saved: None,
            site: Site::default(),
            matrix: None,
            was: None,
            kernel: Kernel::Other,
        }
    }

    /// The operator whose work it does: `gate_up_proj` of `gate_up_proj[a]`, which a technique made of it; an operator that
    /// a technique put beside it is its own (`dequantize[gate_up_proj]`).
    pub fn stem(&self) -> &str {
        stem(&self.name)
    }

    /// The same, launched as `kernel`.
    #[must_use]
    pub fn run_as(mut self, kernel: Kernel) -> Op {
        self.kernel = kernel;
        self
    }

    /// The sums it reads; `None` if it does not run at all.
    pub fn sums<'a>(&self, parts: &Parts<'a>) -> Option<&'a PhaseSums> {
        let part = parts.over(self.over);
        self.runs_over(part).then_some(part)
    }

    /// The sums it reads of each step of a block, `samples` of which say whether any needs logits; `None` if it runs in none.
    pub fn sums_of_each<'a>(&self, parts: &BlockParts<'a>, samples: bool) -> Option<&'a Part> {
        if self.needs_logits && !samples {
            return None;
        }
        match self.over {
            Over::All => Some(parts.all),
            Over::Prefill => parts.prefill,
            Over::Decode => parts.decode,
            Over::DecodeAlone => parts.decode.filter(|_| parts.prefill.is_none()),
            Over::WithPrompts => parts.prefill.map(|_| parts.all),
        }
    }

    /// Whether it runs in a step where the sequences it runs over have these sums.
    pub fn runs_over(&self, part: &PhaseSums) -> bool {
        part.tokens > 0.0 && (!self.needs_logits || part.logits > 0.0)
    }

    /// Whether its price depends on how long contexts are, and not on counts alone.
    pub fn grows_with_context(&self) -> bool {
        self.kernel.grows_with_context() || self.work_grows_with_context()
    }

    pub(crate) fn work_grows_with_context(&self) -> bool {
        self.work.rates().iter().any(Rate::grows_with_context)
    }

    /// Whether it, or what it was made of, writes scores that the mask hides.
    pub(crate) fn has_areas(&self) -> bool {
        let kernel = match &self.kernel {
            Kernel::Gemm(gemm) => gemm.rows,
            Kernel::Pass(bytes) => *bytes,
            Kernel::Quantise(quantise) => quantise.bytes,
            _ => Rate::ZERO,
        };
        let mut rates = self.work.rates().to_vec();
        rates.push(kernel);
        if let Some(saved) = &self.saved {
            let Saved { flops, vector_flops, activation_bytes, kv_bytes, transfer_bytes, .. } = **saved;
            rates.extend([flops, vector_flops, activation_bytes, kv_bytes, transfer_bytes]);
        }
        rates.iter().any(|rate| rate.area != 0.0) || self.was.as_ref().is_some_and(|was| was.has_areas())
    }

    /// The counts that its price depends on.
    pub(crate) fn counts(&self) -> Counts {
        let work = self.work.rates().iter().map(Rate::counts).fold(self.kernel.counts(), Counts::or);
        let drawn = self.work.touched.map_or(Counts::default(), |touched| Counts {
            tokens: touched.drawn_by == DrawnBy::Token,
            sequences: touched.drawn_by == DrawnBy::Sequence,
            ..Counts::default()
        });
        work.or(drawn).or(self.was.as_ref().map_or(Counts::default(), |was| was.counts()))
    }
}

/// What techniques put beside an operator, whose name follows in brackets.
const BESIDE: [&str; 10] = [
    "quantize",
    "dequantize",
    "lora",
    "predictor",
    "cold",
    "host",
    "to_host",
    "fetch",
    "exchange",
    "exit_head",
];

/// See [`Op::stem`].
pub fn stem(name: &str) -> &str {
    match name.split_once('[') {
        Some((stem, _)) if !BESIDE.contains(&stem) => stem,
        _ => name,
    }
}
