//! What a technique may change: the deployment, its operators, its cache, and how it generates.

use crate::hardware::Hardware;
use crate::layout::Layout;
use crate::lower::Lowering;
use crate::model::Model;
use crate::precision::Precision;
use crate::shape::Reaches;
use crate::site::{LANES_BESIDE, Lane, Limits};
use crate::work::{Kernel, Op};

/// A deployment while techniques are applied to it.
pub struct Target<'a> {
    /// The model.
    pub model: &'a mut Model,
    /// The device.
    pub hardware: &'a mut Hardware,
    /// How the model is spread.
    pub layout: &'a mut Layout,
    /// In which formats it runs.
    pub precision: &'a mut Precision,
    /// Fusion and kernels.
    pub lowering: &'a mut Lowering,
    /// Share of the computing time that hides communication.
    pub overlap: &'a mut f64,
}

/// A deployment as it was before a technique.
pub(super) struct Before {
    model: Model,
    hardware: Hardware,
    layout: Layout,
    precision: Precision,
    lowering: Lowering,
    overlap: f64,
}

impl Target<'_> {
    pub(super) fn remembered(&self) -> Before {
        Before {
            model: self.model.clone(),
            hardware: self.hardware.clone(),
            layout: *self.layout,
            precision: self.precision.clone(),
            lowering: *self.lowering,
            overlap: *self.overlap,
        }
    }

    /// Whether it is another than it was.
    pub(super) fn differs(&self, before: &Before) -> bool {
        let formats = (&before.precision, before.lowering, before.overlap);
        *self.model != before.model
            || *self.hardware != before.hardware
            || *self.layout != before.layout
            || (&*self.precision, *self.lowering, *self.overlap) != formats
    }
}

/// A deployment as techniques read it once its model, device and formats are settled.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The model.
    pub model: &'a Model,
    /// The device.
    pub hardware: &'a Hardware,
    /// How the model is spread.
    pub layout: Layout,
    /// In which formats it runs.
    pub precision: &'a Precision,
    /// Fusion and kernels.
    pub lowering: Lowering,
    /// New tokens of a sequence that goes on with its answer.
    pub width: u64,
}

impl Context<'_> {
    /// Bytes of an activation.
    pub fn activation_bytes(&self) -> f64 {
        self.precision.activation.bytes()
    }
}

/// The operators of a step on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// In order.
    pub ops: Vec<Op>,
    /// What their attention reaches.
    pub reaches: Reaches,
    /// Share of the device's time that hides each lane beside it.
    pub beside: [f64; LANES_BESIDE],
    /// Tokens of a block of the cache; 0 allocates token by token.
    pub block: u64,
}

impl Program {
    /// Says of every operator that techniques have changed what it was `before`, so that what was measured of that carries
    /// over; what was never measured keeps its roofline.
    pub(crate) fn remember(&mut self, before: &[Op]) {
        for op in &mut self.ops {
            let elsewhere = !matches!(op.site.lane, Lane::Device | Lane::Peer)
                || matches!(op.site.limits, Limits::Other(_) | Limits::Either(_));
            if elsewhere {
                op.kernel = Kernel::Bound;
                continue;
            }
            let same = |old: &Op| (&old.name, old.kernel, old.work) == (&op.name, op.kernel, op.work);
            if op.saved.is_none() && before.iter().any(same) {
                continue;
            }
            op.kernel = match op.kernel {
                Kernel::Other if op.work.transfer.is_some() => Kernel::Transfer,
                Kernel::Other => Kernel::Bound,
                kernel => kernel,
            };
            if !matches!(op.kernel, Kernel::Bound | Kernel::Transfer | Kernel::Inside) {
                op.was = before.iter().find(|old| old.kernel == op.kernel).cloned().map(Box::new);
            }
        }
    }

    /// Share of the device's time that hides what runs in `lane`, if anything does.
    pub fn hidden_in(&self, lane: Lane) -> Option<f64> {
        let place = lane.beside().filter(|_| self.ops.iter().any(|op| op.site.lane == lane));
        place.map(|place| self.beside[place])
    }

    /// Says that `share` of the device's time hides what runs in `lane`.
    pub fn hides(&mut self, lane: Lane, share: f64) {
        if let Some(place) = lane.beside() {
            self.beside[place] = share;
        }
    }
}

/// Memory beside the device's own: of other devices of the deployment, or memory that computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Store {
    /// What it is, in words.
    pub what: &'static str,
    /// Bytes.
    pub capacity: f64,
    /// Whether the whole cache lies there.
    pub cache: bool,
    /// Tokens whose activations it holds, for each that the device runs; 0 where an engine keeps nothing of its own there.
    pub tokens: f64,
}

/// What techniques do to the cache of a sequence on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Share of the bytes a token that stay on the device.
    pub factor: f64,
    /// Share of the tokens kept by layers that would keep every one.
    pub kept_of_all: f64,
    /// (share of the layers, tokens they keep at most); what is missing to 1 keeps everything.
    pub kept: Vec<(f64, u64)>,
    /// (bytes a token, cap in tokens) beside the layers' own.
    pub added: Vec<(f64, Option<u64>)>,
    /// Draft models, whose caches grow beside it.
    pub drafts: Vec<(Model, Precision)>,
    /// How it is allocated.
    pub held: Held,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            factor: 1.0,
            kept_of_all: 1.0,
            kept: Vec::new(),
            added: Vec::new(),
            drafts: Vec::new(),
            held: Held::default(),
        }
    }
}

impl Cache {
    /// Share of the bytes a token that a layer keeps on the device, which keeps a window at most or everything.
    pub fn share(&self, window: bool) -> f64 {
        if window { self.factor } else { self.factor * self.kept_of_all }
    }

    /// Every share of the layers with its budget, where they would keep everything; the shares add up to 1.
    pub fn budgets(&self) -> Vec<(f64, Option<u64>)> {
        let kept: f64 = self.kept.iter().map(|(share, _)| share).sum();
        let mut all: Vec<_> = self.kept.iter().map(|(share, budget)| (*share, Some(*budget))).collect();
        if kept < 1.0 - 1e-12 {
            all.push((1.0 - kept, None));
        }
        all
    }
}

/// How the cache of a sequence is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Held {
    /// Tokens of a block; 0 allocates token by token.
    pub block: u64,
    /// Bytes of the table of blocks, a token: each sequence has its own.
    pub table: f64,
    /// Tokens reserved however short the sequence.
    pub reserved: u64,
    /// Tokens at the beginning that sequences of a group have in common.
    pub prefix: u64,
    /// Groups.
    pub groups: u64,
}

impl Held {
    /// Tokens allocated for a sequence of `tokens`.
    #[inline]
    pub fn allocated(&self, tokens: u64) -> u64 {
        let whole = if self.block > 0 { tokens.div_ceil(self.block) * self.block } else { tokens };
        whole.max(self.reserved)
    }

    /// Tokens of each of `sequences` that are stored in common, in whole blocks, and how often they are stored.
    #[inline]
    pub fn shared(&self, sequences: u64, tokens: u64) -> (u64, u64) {
        let prefix = whole_blocks(self.prefix.min(tokens), self.block);
        if prefix == 0 { (0, sequences) } else { (prefix, self.groups.min(sequences)) }
    }
}

/// Those of `tokens` that fill blocks of `block`; all of them where that is 0.
#[inline]
pub(super) fn whole_blocks(tokens: u64, block: u64) -> u64 {
    tokens - tokens.checked_rem(block).unwrap_or(0)
}

/// What a decode step takes and brings, a sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generation {
    /// New tokens computed: 1, and the drafts to verify.
    pub width: u64,
    /// Expected tokens that come of it.
    pub tokens: f64,
}

impl Default for Generation {
    fn default() -> Generation {
        Generation { width: 1, tokens: 1.0 }
    }
}

impl Generation {
    /// Whole steps that bring `tokens`.
    pub fn steps(&self, tokens: u64) -> u64 {
        (tokens as f64 / self.tokens).ceil() as u64
    }

    /// Tokens there are after so many steps.
    pub fn tokens_after(&self, steps: u64) -> u64 {
        (steps as f64 * self.tokens).floor() as u64
    }

    /// Tokens in the cache that may still be thrown away.
    pub fn drafted(&self, decodes: bool) -> u64 {
        if decodes { self.width - 1 } else { 0 }
    }
}

/// Drafts as a serving engine verifies them.
#[derive(Debug, Clone, PartialEq)]
pub struct Drafting {
    /// Where they come from (`eagle`).
    pub method: &'static str,
    /// How many a step.
    pub tokens: u32,
    /// The chance that each is accepted if those before it were.
    pub acceptance: Vec<f64>,
}
