//! Qwen 2, 2.5 and 3, dense and with experts.

use super::block::{Draft, Sizes, decoder, experts, gated};
use super::keys::Keys;
use super::quant::Modules;
use super::{Family, Source, block};
use crate::error::Result;
use crate::model::{Attention, Ffn, Moe, Span};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        types: &["qwen2", "mimo"],
        architectures: &["Qwen2ForCausalLM", "MiMoForCausalLM"],
        read: qwen2,
    },
    Family { types: &["qwen2_moe"], architectures: &["Qwen2MoeForCausalLM"], read: qwen2_moe },
    Family { types: &["qwen3"], architectures: &["Qwen3ForCausalLM"], read: qwen3 },
    Family { types: &["qwen3_moe"], architectures: &["Qwen3MoeForCausalLM"], read: qwen3_moe },
];

/// What each layer sees: with `use_sliding_window`, a window from layer `max_window_layers` on.
fn spans(keys: &Keys<'_>, layers: u64) -> Result<Vec<Span>> {
    let window = keys.optional_count("sliding_window")?;
    let first = keys.count_or("max_window_layers", layers)?;
    let windowed = keys.flag("use_sliding_window", false)?;
    if let Some(given) = block::spans(keys, layers)? {
        return Ok(given);
    }
    let window = window.filter(|window| windowed && *window > 0);
    let span = |layer: u64| match window {
        Some(window) if layer >= first => Span::Window(window),
        _ => Span::Full,
    };
    Ok((0..layers).map(span).collect())
}

/// Layers whose attention has the biases and norms of `attention`; `ffn` makes the rest from the layer's index.
fn layers(keys: &Keys<'_>, sizes: &Sizes, attention: &Attention, ffn: impl Fn(u64) -> Ffn) -> Result<Draft> {
    let spans = spans(keys, sizes.layers)?;
    let layers = sizes.each(|index| {
        let span = spans[index as usize];
        Ok(sizes.layer(Attention { span, ..attention.clone() }, ffn(index)))
    })?;
    Ok(decoder(keys, sizes, false, layers)?.with_modules(Modules::QWEN))
}

/// Attention of Qwen 2: biases on q, k and v (`qkv_bias`; `attention_bias` in MiMo).
fn biased(keys: &Keys<'_>, sizes: &Sizes) -> Result<Attention> {
    let qkv_bias = keys.flag("attention_bias", true)? && keys.flag("qkv_bias", true)?;
    Ok(Attention { qkv_bias, ..sizes.attention() })
}

/// Attention of Qwen 3: a norm on each query and key head.
pub(super) fn normed(keys: &Keys<'_>, sizes: &Sizes) -> Result<Attention> {
    let bias = keys.flag("attention_bias", false)?;
    let norms = if keys.flag("use_qk_norm", true)? { 2 * sizes.head_dim } else { 0 };
    let qkv_bias = bias || keys.flag("qkv_bias", false)?;
    Ok(Attention { qkv_bias, output_bias: bias, qk_norm_parameters: norms, ..sizes.attention() })
}

pub(super) fn qwen2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let intermediate = keys.size("intermediate_size")?;
    layers(keys, &sizes, &biased(keys, &sizes)?, |_| gated(intermediate))
}

fn qwen2_moe(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let sparse = sparse(keys, &sizes)?;
    layers(keys, &sizes, &biased(keys, &sizes)?, |index| sparse.of(index))
}

pub(super) fn qwen3(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let intermediate = keys.size("intermediate_size")?;
    layers(keys, &sizes, &normed(keys, &sizes)?, |_| gated(intermediate))
}

pub(super) fn qwen3_moe(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let sparse = sparse(keys, &sizes)?;
    layers(keys, &sizes, &normed(keys, &sizes)?, |index| sparse.of(index))
}

/// Which layers have experts, and what both kinds of layer have.
pub(super) struct Sparse {
    moe: Moe,
    dense: Option<u64>,
    step: u64,
    dense_layers: Vec<u64>,
}

impl Sparse {
    /// The FFN of layer `index`.
    pub(super) fn of(&self, index: u64) -> Ffn {
        match self.dense {
            Some(intermediate) if !self.is_sparse(index) => gated(intermediate),
            _ => Ffn::Moe(self.moe.clone()),
        }
    }

    fn is_sparse(&self, index: u64) -> bool {
        (index + 1).is_multiple_of(self.step) && !self.dense_layers.contains(&index)
    }
}

/// Experts in every `decoder_sparse_step`-th layer that is not among `mlp_only_layers`.
pub(super) fn sparse(keys: &Keys<'_>, sizes: &Sizes) -> Result<Sparse> {
    let moe = experts(keys, &["num_experts"], &["num_experts_per_tok"], keys.size("moe_intermediate_size")?)?;
    let shared_intermediate = keys.count_or("shared_expert_intermediate_size", 0)?;
    let moe = Moe { shared_intermediate, shared_gate: shared_intermediate > 0, ..moe };
    let step = keys.size_or("decoder_sparse_step", 1)?;
    let dense_layers = keys.counts("mlp_only_layers")?.unwrap_or_default();
    let dense = keys.optional_size("intermediate_size")?;
    let sparse = Sparse { moe, dense, step, dense_layers };
    if dense.is_none() && (0..sizes.layers).any(|index| !sparse.is_sparse(index)) {
        return Err(keys.missing("intermediate_size"));
    }
    Ok(sparse)
}
