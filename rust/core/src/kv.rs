//! What a sequence keeps between steps: keys and values of each kind of layer, states, and what techniques do to them.

use crate::error::Result;
use crate::layout::Layout;
use crate::lower::stage_share;
use crate::model::{LayerGroup, Mixer, Model, Span};
use crate::op::mla::indexer_key_bytes;
use crate::op::state;
use crate::precision::Precision;
use crate::step::Deployment;
use crate::technique::Held;

/// Bytes of cache one sequence holds on one device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KvLayout {
    /// (bytes a token, cap in tokens) of each kind of layer.
    growing: Vec<(f64, Option<u64>)>,
    /// Bytes a sequence, whatever its length.
    pub state: f64,
    /// What techniques do to its allocation.
    held: Held,
}

/// Tokens that stay cached at most.
fn kept(span: Span) -> Option<u64> {
    match span {
        Span::Window(w) | Span::Chunk(w) => Some(w),
        Span::Full | Span::TopK(_) => None,
    }
}

impl KvLayout {
    /// The cache of one sequence on the busiest device.
    pub fn of(model: &Model, layout: Layout, precision: &Precision) -> KvLayout {
        let share = stage_share(model, layout);
        let mut kv = KvLayout::default();
        for group in &model.layers {
            kv.add(group, share * group.count as f64, layout, precision);
        }
        kv
    }

    /// What one layer of a group adds to it.
    pub(crate) fn of_layer(group: &LayerGroup, layout: Layout, precision: &Precision) -> KvLayout {
        let mut kv = KvLayout::default();
        kv.add(group, 1.0, layout, precision);
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
                kv.grow(bytes * share * cache.share(cap.is_some()), cap.or(budget));
            }
        }
        for (bytes, cap) in &cache.added {
            kv.grow(*bytes, *cap);
        }
        // What drafts runs beside the last stage.
        let beside = Layout { pp: 1, ..layout };
        for (model, precision) in &cache.drafts {
            let draft = KvLayout::of(model, beside, precision);
            draft.growing.iter().for_each(|(bytes, cap)| kv.grow(*bytes, *cap));
            kv.state += draft.state;
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
                self.grow(bytes, kept(a.span));
            }
            Some(Mixer::Mla(m)) => {
                let own = m.indexer.as_ref().filter(|indexer| indexer.own).map_or(0.0, indexer_key_bytes);
                self.grow(layers * ((m.kv_lora + m.rope_dim) as f64 * element + own), kept(m.span));
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

    /// Sequences of so many tokens each that `bytes` hold; none where they keep nothing.
    pub(crate) fn fitting(&self, bytes: f64, tokens: u64) -> u64 {
        let one = self.bytes(tokens);
        if one <= 0.0 {
            return 0;
        }
        let (alone, (shared, copies)) = ((bytes / one) as u64, self.held.shared(u64::MAX, tokens));
        if shared == 0 || alone <= copies {
            return alone;
        }
        let saved = one - self.bytes(tokens - shared) - self.held.table * shared as f64;
        ((bytes - saved * copies as f64) / (one - saved)) as u64
    }

    /// As [`KvLayout::bytes_of`] where the bytes of one are known.
    #[inline]
    pub(crate) fn bytes_where(&self, one: f64, sequences: u64, tokens: u64) -> f64 {
        let (shared, copies) = self.held.shared(sequences, tokens);
        if shared == 0 {
            return one * sequences as f64;
        }
        let saved = one - self.bytes(tokens - shared) - self.held.table * shared as f64;
        one * sequences as f64 - saved * (sequences - copies) as f64
    }
}
