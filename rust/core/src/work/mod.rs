//! What an operator does, as coefficients of a step's sums: FLOPs, bytes of each kind, bytes over a link.

use crate::format::Format;
use crate::lanes::{Lane, Part, Parts as Lanes, visited};
use crate::shape::{Parts, PhaseSums};
use crate::site::{DrawnBy, Matrix, Site, Skew};
use crate::straight::Straight;

pub mod kernel;

pub use kernel::Kernel;

/// A quantity that is linear in a step's sums.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Once a step in which the operator runs at all.
    pub fixed: f64,
    /// Per new token.
    pub token: f64,
    /// Per row whose logits are needed.
    pub logit: f64,
    /// Per sequence.
    pub sequence: f64,
    /// Per (query, key) pair of the operator's reach.
    pub pair: f64,
    /// Per key read, of the operator's reach.
    pub key: f64,
    /// Per score of a kernel that does not skip what the mask hides.
    pub area: f64,
}

impl Rate {
    /// Nothing.
    pub const ZERO: Rate =
        Rate { fixed: 0.0, token: 0.0, logit: 0.0, sequence: 0.0, pair: 0.0, key: 0.0, area: 0.0 };

    /// Once a step.
    pub const fn fixed(value: f64) -> Rate {
        Rate { fixed: value, ..Rate::ZERO }
    }

    /// Per new token.
    pub const fn token(value: f64) -> Rate {
        Rate { token: value, ..Rate::ZERO }
    }

    /// Per row whose logits are needed.
    pub const fn logit(value: f64) -> Rate {
        Rate { logit: value, ..Rate::ZERO }
    }

    /// Whether it depends on how long contexts are, and not on counts alone.
    pub fn grows_with_context(&self) -> bool {
        self.pair != 0.0 || self.key != 0.0 || self.area != 0.0
    }

    /// Whether it depends on tokens, if anything.
    pub fn is_by_token(&self) -> bool {
        *self == Rate { fixed: self.fixed, token: self.token, ..Rate::ZERO }
    }

    /// Its value for the sums of one phase and one reach.
    pub fn of(&self, sums: &PhaseSums, reach: usize) -> f64 {
        let attention = &sums.reach[reach];
        self.fixed
            + self.token * sums.tokens
            + self.logit * sums.logits
            + self.sequence * sums.sequences
            + self.pair * attention.pairs
            + self.key * attention.keys
            + self.area * attention.area
    }

    /// Its value where so many sequences decode alone, over the keys that they read.
    pub(crate) fn over_keys(&self, sequences: f64) -> Straight {
        let counts = self.token + self.logit + self.sequence;
        Straight { key: self.pair + self.key + self.area, ..Straight::fixed(self.fixed + counts * sequences) }
    }

    /// Which counts of a step it depends on.
    pub(super) fn counts(&self) -> Counts {
        Counts { tokens: self.token != 0.0, logits: self.logit != 0.0, sequences: self.sequence != 0.0 }
    }

    /// Its value for each of the first `out.len()` steps, as [`Rate::of`] says of one.
    pub fn of_each(&self, part: &Part, reach: usize, out: &mut [f64]) {
        let attention = &part.reach[reach];
        out.fill(self.fixed);
        for (rate, lane) in [
            (self.token, &part.tokens),
            (self.logit, &part.logits),
            (self.sequence, &part.sequences),
            (self.pair, &attention.pairs),
            (self.key, &attention.keys),
            (self.area, &attention.area),
        ] {
            if rate != 0.0 {
                out.iter_mut().zip(lane).for_each(|(out, value)| *out += rate * value);
            }
        }
    }

    /// Every coefficient times `factor`.
    #[must_use]
    pub fn times(self, factor: f64) -> Rate {
        Rate {
            fixed: self.fixed * factor,
            token: self.token * factor,
            logit: self.logit * factor,
            sequence: self.sequence * factor,
            pair: self.pair * factor,
            key: self.key * factor,
            area: self.area * factor,
        }
    }
}

impl std::ops::Add for Rate {
    type Output = Rate;
    fn add(self, other: Rate) -> Rate {
        Rate {
            fixed: self.fixed + other.fixed,
            token: self.token + other.token,
            logit: self.logit + other.logit,
            sequence: self.sequence + other.sequence,
            pair: self.pair + other.pair,
            key: self.key + other.key,
            area: self.area + other.area,
        }
    }
}

/// Weights of which a step reads only the experts its tokens visit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Touched {
    /// Bytes of one expert's matrices on this device.
    pub bytes_per_expert: f64,
    /// Vector operations to bring one expert's weights into the format they are multiplied in.
    pub conversions_per_expert: f64,
    /// Experts on this device.
    pub local: f64,
    /// Chance that one token leaves a given expert alone: 1 − top_k/experts.
    pub missed: f64,
    /// Tokens that meet at the experts, per token of this rank.
    pub ranks: f64,
    /// What draws one of them: a token its experts, a sequence its adapter.
    pub drawn_by: DrawnBy,
    /// How popularity is spread where it is not even; `missed` is then that of the mean expert.
    pub skew: Option<Skew>,
}

impl Touched {
    /// Expected experts read: E·(1 − (1 − k/E)^T) (PHYSICS §2) under uniform routing, class by class otherwise; `idle` of
    /// the tokens draw none.
    pub fn experts(&self, sums: &PhaseSums, idle: f64) -> f64 {
        let draws = self.ranks
            * match self.drawn_by {
                DrawnBy::Token => sums.tokens - idle,
                DrawnBy::Sequence => sums.sequences,
            };
        match &self.skew {
            None => self.local * (1.0 - self.missed.powf(draws)),
            Some(skew) => {
                let read = |(share, missed): &(f64, f64)| share * (1.0 - missed.powf(draws));
                self.local * skew.classes.iter().map(read).sum::<f64>()
            }
        }
    }
}

impl Touched {
    /// Expected experts read in each of the first `out.len()` steps, as [`Touched::experts`] says of one; a share of the
    /// tokens of some part draw none.
    pub fn experts_of_each(&self, part: &Part, idle: Option<(f64, &Part)>, out: &mut [f64]) {
        let mut draws: Lane = match self.drawn_by {
            DrawnBy::Token => part.tokens,
            DrawnBy::Sequence => part.sequences,
        };
        if let (Some((share, idle)), DrawnBy::Token) = (idle, self.drawn_by) {
            draws.iter_mut().zip(&idle.tokens).for_each(|(draws, idle)| *draws -= share * idle);
        }
        draws[..out.len()].iter_mut().for_each(|draws| *draws *= self.ranks);
        match &self.skew {
            None => {
                visited(out, &draws, self.missed.ln());
                out.iter_mut().for_each(|share| *share *= self.local);
            }
            Some(skew) => {
                out.fill(0.0);
                let mut read = draws;
                for (share, missed) in skew.classes.iter().filter(|(share, _)| *share != 0.0) {
                    visited(&mut read[..out.len()], &draws, missed.ln());
                    out.iter_mut().zip(&read).for_each(|(out, read)| *out += self.local * share * read);
                }
            }
        }
    }
}

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
    /// Bytes of the full buffer (PHYSICS §4's M).
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

impl<'a> Lanes<'a> {
    /// The same for an operator that sees those sequences alone, as [`Parts::seen`].
    pub fn seen(&self, over: Over) -> Lanes<'a> {
        match (over, self.prefill, self.decode) {
            (Over::Prefill, Some(prefill), _) => Lanes { decode: None, all: prefill, ..*self },
            (Over::Decode, _, Some(decode)) => Lanes { prefill: None, all: decode, ..*self },
            _ => *self,
        }
    }
}

/// Counts of a step that a price depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// New tokens.
    pub(crate) tokens: bool,
    /// Rows whose logits are needed.
    pub(crate) logits: bool,
    /// Sequences.
    pub(crate) sequences: bool,
}

impl Counts {
    fn or(self, other: Counts) -> Counts {
        Counts {
            tokens: self.tokens || other.tokens,
            logits: self.logits || other.logits,
            sequences: self.sequences || other.sequences,
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

    /// The lanes it reads of a block of steps, `samples` of which say whether any needs logits; `None` if it runs in none.
    pub fn lanes<'a>(&self, parts: &Lanes<'a>, samples: bool) -> Option<&'a Part> {
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
