//! Groups of layers that keep their cache alike, and how many blocks of the common pool a sequence takes in each.
//!
//! As vLLM 0.33's hybrid KV cache manager (`v1/core/kv_cache_utils.py`): layers of a kind are parted into groups of
//! equal size, so that a block of any group has the same bytes. Layers that keep every token take a block for each
//! `block_size` tokens, layers with a window only for what the next queries reach, layers with a state one block.

use crate::error::Result;
use crate::kv::KvLayout;
use crate::layout::Layout;
use crate::model::{LayerGroup, Mixer, Span};
use crate::precision::Precision;
use crate::step::Deployment;

/// Kinds of windows one model may mix beside layers that keep every token.
const MOST_WINDOWS: usize = 3;

/// A group takes one size of layers if the most numerous kind has not a quarter more of them than the least.
const ALIKE: f64 = 1.25;

/// Blocks of layers with states are multiples of this many tokens.
const ALIGNMENT: u32 = 16;

/// Pools a model's cache may be in: the common one, and one for each kind of window.
pub const POOLS: usize = 1 + MOST_WINDOWS;

/// Groups of layers that keep a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Groups.
    pub groups: u32,
    /// Tokens a query reaches, itself included.
    pub tokens: u32,
    /// Tokens of a block in these layers.
    pub block_size: u32,
}

impl Window {
    /// Blocks of a sequence of `tokens` tokens, `before` of which were computed before this step.
    fn held(&self, tokens: u32, before: u32) -> u32 {
        if self.groups == 0 {
            return 0;
        }
        let passed = (before + 1).saturating_sub(self.tokens) / self.block_size;
        self.groups * (tokens.div_ceil(self.block_size).saturating_sub(passed))
    }

    /// The same at most, where a step computes at most `step` tokens.
    fn held_at_most(&self, tokens: u32, step: u32) -> u32 {
        if self.groups == 0 {
            return 0;
        }
        let reach = (self.tokens - 1).saturating_add(step).div_ceil(self.block_size) + 1;
        self.groups * tokens.div_ceil(self.block_size).min(reach)
    }
}

/// Memory set apart for layers that keep a window: no other layer can use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Apart {
    /// What a sequence takes of it.
    pub window: Window,
    /// Blocks it has.
    pub blocks: u32,
    /// Whether all tokens of a step lie in it until the step is done; where not, never more than the window.
    pub keeps_steps: bool,
}

impl Apart {
    /// Blocks of a sequence of `tokens` tokens, `before` of which were computed before this step.
    pub fn held(&self, tokens: u32, before: u32) -> u32 {
        if self.keeps_steps { self.window.held(tokens, before) } else { self.held_at_most(tokens, 0) }
    }

    /// The same at most, where a step computes at most `step` tokens.
    pub fn held_at_most(&self, tokens: u32, step: u32) -> u32 {
        self.window.held_at_most(tokens, if self.keeps_steps { step } else { 0 })
    }
}

/// What a sequence takes beside the blocks of the main group, which keeps every token or is the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Groups {
    /// Further groups that keep every token.
    pub full: u32,
    /// Groups that keep a window.
    pub windows: [Window; MOST_WINDOWS],
    /// Groups that keep a state.
    pub states: u32,
    /// The window of the main group, 0 if it keeps every token.
    pub main_window: u32,
    /// Memory of layers with a window that is apart from the blocks of all others.
    pub apart: [Apart; MOST_WINDOWS],
    /// Whether sequences also have states, in memory of their own: prefixes are found only where one was kept.
    pub states_apart: bool,
}

impl Groups {
    /// Whether all layers keep every token in one group.
    pub fn are_plain(&self) -> bool {
        *self == Groups::default()
    }

    /// Whether memory that is apart can hold a sequence of `tokens` tokens, where a step computes at most `step`.
    pub fn apart_holds(&self, tokens: u32, step: u32) -> bool {
        self.apart.iter().all(|apart| apart.held_at_most(tokens, step) <= apart.blocks)
    }

    /// Blocks beside the main group's that a sequence of `tokens` tokens takes, `before` of which were computed before
    /// this step; `block_size` is the main group's.
    pub fn held(&self, tokens: u32, before: u32, block_size: u32) -> u32 {
        let windows: u32 = self.windows.iter().map(|window| window.held(tokens, before)).sum();
        self.full * tokens.div_ceil(block_size) + windows + self.states
    }

    /// Blocks of all groups that a sequence of `tokens` tokens takes at most, where a step computes at most `step`.
    pub fn blocks_for(&self, tokens: u32, block_size: u32, step: u32) -> u32 {
        let windows: u32 = self.windows.iter().map(|window| window.held_at_most(tokens, step)).sum();
        let main = tokens.div_ceil(block_size).min(self.most_main(block_size, step));
        main + self.full * tokens.div_ceil(block_size) + windows + self.states
    }

    /// Most blocks of the main group a sequence takes.
    pub fn most_main(&self, block_size: u32, step: u32) -> u32 {
        match self.main_window {
            0 => u32::MAX,
            tokens => Window { groups: 1, tokens, block_size }.held_at_most(u32::MAX, step),
        }
    }
}

/// How a model's cache is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// Tokens of a block of the main group.
    pub block_size: u32,
    /// Bytes of a block of any group, on the busiest device.
    pub block_bytes: f64,
    /// What a sequence takes beside the main group.
    pub groups: Groups,
}

impl Cut {
    /// Whether it is anything but blocks of one size in which all layers keep every token.
    pub fn differs(&self) -> bool {
        !self.groups.are_plain() || self.block_size == u32::MAX
    }

    /// The same where a sequence keeps so many states in each layer that has one.
    #[must_use]
    pub fn with_states(mut self, states: u32) -> Cut {
        self.groups.states = self.groups.states.saturating_mul(states);
        self
    }

    /// Blocks that a sequence of `tokens` tokens takes while it decodes, the last of them being computed.
    pub fn blocks_of(&self, tokens: u32) -> u32 {
        let (tokens, block_size) = (tokens.max(1), self.block_size);
        let main = match self.groups.main_window {
            0 => tokens.div_ceil(block_size),
            window => Window { groups: 1, tokens: window, block_size }.held(tokens, tokens - 1),
        };
        main + self.groups.held(tokens, tokens - 1, self.block_size)
    }
}

/// Layers that keep their cache alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    /// How many.
    pub layers: u64,
    /// What each keeps of a token.
    pub bytes_per_token: f64,
    /// What each keeps of a sequence, however long it is.
    pub state_bytes: f64,
    /// Tokens that a query reaches, 0 for every token.
    pub window: u32,
}

/// Cuts the cache of a deployment into blocks of `block_size` tokens, or more where a state needs them; `None` for a
/// model whose layers mix more than [`MOST_WINDOWS`] windows, or that caches nothing.
///
/// # Errors
/// A technique that does not suit the model.
pub fn cut(deployment: &Deployment, block_size: u32) -> Result<Option<Cut>> {
    Ok(cut_kinds(&kinds(deployment)?, deployment.layout.pp.max(1), block_size))
}

fn cut_kinds(kinds: &[Kind], share: u64, block_size: u32) -> Option<Cut> {
    let counts: Vec<u64> = kinds.iter().map(|kind| kind.layers.div_ceil(share)).collect();
    let (least, most) = (*counts.iter().min()?, *counts.iter().max()?);
    let size = if (most as f64) < ALIKE * least as f64 { most } else { least };
    let state = kinds.iter().map(|kind| kind.state_bytes).fold(0.0, f64::max);
    let densest = kinds.iter().map(|kind| kind.bytes_per_token).fold(0.0, f64::max);
    if densest == 0.0 {
        // States alone: a sequence has one block, however long it is.
        let groups = counts.iter().map(|count| count.div_ceil(size) as u32).sum::<u32>() - 1;
        let groups = Groups { states: groups, ..Groups::default() };
        return Some(Cut { block_size: u32::MAX, block_bytes: state * size as f64, groups });
    }
    if kinds.iter().all(|kind| kind.window == 0 && kind.state_bytes == 0.0) {
        // A token takes the same bytes wherever it stands.
        let each = |(kind, count): (&Kind, &u64)| kind.bytes_per_token * *count as f64;
        let bytes: f64 = kinds.iter().zip(&counts).map(each).sum();
        let block_bytes = bytes * f64::from(block_size);
        return Some(Cut { block_size, block_bytes, groups: Groups::default() });
    }
    let needed = (state / (densest * f64::from(ALIGNMENT))).ceil() as u32 * ALIGNMENT;
    let block_size = block_size.max(needed);
    let page = densest * f64::from(block_size);
    let mut groups = Groups::default();
    let mut main = None;
    let mut windows = 0;
    for (kind, count) in kinds.iter().zip(&counts) {
        let number = count.div_ceil(size) as u32;
        if kind.state_bytes > 0.0 {
            groups.states += number;
        } else if kind.window == 0 {
            let own = (page / kind.bytes_per_token).floor() as u32;
            match main {
                None => (main, groups.full) = (Some(own), groups.full + number - 1),
                Some(size) if size == own => groups.full += number,
                // Narrower layers, such as a draft model's: their blocks hold more tokens, and are never given back.
                Some(_) => {
                    *groups.windows.get_mut(windows)? =
                        Window { groups: number, tokens: u32::MAX, block_size: own };
                    windows += 1;
                }
            }
        } else {
            let own = (page / kind.bytes_per_token).floor() as u32;
            *groups.windows.get_mut(windows)? =
                Window { groups: number, tokens: kind.window, block_size: own };
            windows += 1;
        }
    }
    if main.is_none() {
        // Nothing keeps every token: the first window's first group is the main one.
        let first = &mut groups.windows[0];
        (main, groups.main_window) = (Some(first.block_size), first.tokens);
        first.groups -= 1;
        if first.groups == 0 {
            groups.windows.rotate_left(1);
            groups.windows[MOST_WINDOWS - 1] = Window::default();
        }
    }
    Some(Cut { block_size: main.unwrap_or(block_size), block_bytes: page * size as f64, groups })
}

/// The kinds of layers that keep a cache: the model's as techniques change them, and those of models that draft.
pub fn kinds(deployment: &Deployment) -> Result<Vec<Kind>> {
    let cache = deployment.cache()?;
    let layout = Layout { pp: 1, ..deployment.layout };
    let mut kinds = Vec::new();
    for group in &deployment.model.layers {
        let mut kind = kind(layout, &deployment.precision, group);
        kind.bytes_per_token *= cache.share(kind.window > 0);
        for part in within_budgets(kind, &cache.budgets()) {
            add(&mut kinds, part);
        }
    }
    // What techniques keep beside, in proportion.
    let own: f64 = kinds.iter().map(|kind| kind.bytes_per_token * kind.layers as f64).sum();
    let added: f64 = cache.added.iter().map(|(bytes, _)| bytes).sum::<f64>() * deployment.layout.pp as f64;
    if own > 0.0 {
        kinds.iter_mut().for_each(|kind| kind.bytes_per_token *= 1.0 + added / own);
    }
    for (model, precision) in &cache.drafts {
        for group in &model.layers {
            add(&mut kinds, kind(layout, precision, group));
        }
    }
    Ok(kinds)
}

fn add(kinds: &mut Vec<Kind>, kind: Kind) {
    if kind.layers == 0 || (kind.bytes_per_token == 0.0 && kind.state_bytes == 0.0) {
        return;
    }
    let alike = |known: &&mut Kind| Kind { layers: kind.layers, ..**known } == kind;
    match kinds.iter_mut().find(alike) {
        Some(known) => known.layers += kind.layers,
        None => kinds.push(kind),
    }
}

/// Layers that a technique gives budgets of tokens, each share its own: they keep a window of as many.
fn within_budgets(kind: Kind, budgets: &[(f64, Option<u64>)]) -> Vec<Kind> {
    let (mut given, mut share) = (0, 0.0);
    let cut = budgets.iter().map(|(part, budget)| {
        share += part;
        let until = (share * kind.layers as f64).round() as u64;
        let layers = until.saturating_sub(std::mem::replace(&mut given, until));
        let kept = budget.and_then(|budget| u32::try_from(budget).ok()).filter(|_| kind.state_bytes == 0.0);
        let window = if kind.window > 0 { kind.window } else { kept.unwrap_or(0) };
        Kind { layers, window, ..kind }
    });
    cut.collect()
}

fn kind(layout: Layout, precision: &Precision, group: &LayerGroup) -> Kind {
    let layer = KvLayout::of_layer(group, layout, precision);
    let span = match &group.mixer {
        Some(Mixer::Attention(attention)) => attention.span,
        Some(Mixer::Mla(latent)) => latent.span,
        _ => Span::Full,
    };
    let window = match span {
        Span::Window(tokens) | Span::Chunk(tokens) => u32::try_from(tokens).unwrap_or(0),
        Span::Full | Span::TopK(_) => 0,
    };
    Kind { layers: group.count, bytes_per_token: layer.bytes_per_token(), state_bytes: layer.state, window }
}
