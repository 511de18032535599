//! Gemma 1 to 4: tied embeddings, wide heads, windows between full layers, norms on both sides of each part.

use serde_json::Value;

use super::block::{self, Draft, Sizes, decoder, every_nth_full, experts, gated, layer};
use super::keys::Keys;
use super::quant::Modules;
use super::{Family, Source, vision};
use crate::error::Result;
use crate::model::{Attention, Ffn, Mixer, Moe, Span};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["gemma"], architectures: &["GemmaForCausalLM"], read: gemma1 },
    Family { types: &["gemma2"], architectures: &["Gemma2ForCausalLM"], read: gemma2 },
    Family {
        types: &["gemma3", "gemma3_text"],
        architectures: &["Gemma3ForConditionalGeneration", "Gemma3ForCausalLM"],
        read: gemma3,
    },
    Family {
        types: &["gemma4", "gemma4_text"],
        architectures: &["Gemma4ForConditionalGeneration", "Gemma4ForCausalLM"],
        read: gemma4,
    },
];

fn gemma1(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let attention = Attention { qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let intermediate = keys.size("intermediate_size")?;
    let layers = sizes.each(|_| Ok(sizes.layer(attention.clone(), gated(intermediate))))?;
    decoder(keys, &sizes, true, layers)
}

/// Gemma 2: every other layer, the first included, sees a window.
fn gemma2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.ignore(&["cache_implementation"]);
    windowed(keys, &sizes, keys.size("sliding_window")?, 2, 0)
}

/// Gemma 3: five windows to one full layer, norms on queries and keys. Published files leave out what is usual.
fn gemma3(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    keys.ignore(&["cache_implementation"]);
    let sizes = Sizes {
        hidden: keys.size("hidden_size")?,
        layers: keys.size("num_hidden_layers")?,
        vocab: keys.size_or("vocab_size", 262_208)?,
        heads: keys.size_or("num_attention_heads", 8)?,
        kv_heads: keys.size_or("num_key_value_heads", 4)?,
        head_dim: 0,
    };
    let sizes = Sizes { head_dim: keys.size_or("head_dim", 256)?, ..sizes }.checked(keys)?;
    let period = pattern(keys, 6)?;
    let mut draft =
        windowed(keys, &sizes, keys.size_or("sliding_window", 4096)?, period, 2 * sizes.head_dim)?;
    let tokens = source.root.size_or("mm_tokens_per_image", 256)?;
    draft.model.vision =
        source.vision.as_ref().map(|keys| vision::siglip(keys, sizes.hidden, tokens)).transpose()?;
    Ok(draft)
}

/// The repeating pattern's length, under the two names it has had.
fn pattern(keys: &Keys<'_>, default: u64) -> Result<u64> {
    match keys.optional_size("sliding_window_pattern")? {
        Some(period) => Ok(period),
        None => keys.size_or("_sliding_window_pattern", default),
    }
}

fn windowed(keys: &Keys<'_>, sizes: &Sizes, window: u64, period: u64, qk_norm: u64) -> Result<Draft> {
    let bias = keys.flag("attention_bias", false)?;
    let intermediate = keys.size("intermediate_size")?;
    let spans = block::spans(keys, sizes.layers)?;
    keys.only("use_bidirectional_attention", &[Value::Bool(false)])?;
    let layers = sizes.each(|index| {
        let attention = Attention {
            span: spans
                .as_ref()
                .map_or_else(|| every_nth_full(index, period, window), |spans| spans[index as usize]),
            qkv_bias: bias,
            output_bias: bias,
            qk_norm_parameters: qk_norm,
            ..sizes.attention()
        };
        Ok(layer(Some(Mixer::Attention(attention)), Some(gated(intermediate)), 4, 4 * sizes.hidden))
    })?;
    decoder(keys, sizes, true, layers)
}

/// Gemma 4: full layers have wider heads, fewer of them for keys, and may use keys as values; experts may stand
/// beside the dense network; the last layers may reuse an earlier layer's cache.
fn gemma4(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let side = "a table of per-layer embeddings is not modelled yet";
    if let Some(width) = keys.optional_count("hidden_size_per_layer_input")?.filter(|width| *width > 0) {
        return Err(keys.error("hidden_size_per_layer_input", "must be 0", width, side));
    }
    keys.ignore(&["vocab_size_per_layer_input", "use_bidirectional_attention"]);
    let spans = block::spans(keys, sizes.layers)?.ok_or_else(|| keys.missing("layer_types"))?;
    let shared_from = sizes.layers.saturating_sub(keys.count_or("num_kv_shared_layers", 0)?);
    let double = keys.flag("use_double_wide_mlp", false)?;
    let intermediate = keys.size("intermediate_size")?;
    let moe = beside(keys, intermediate)?;
    let full = full_layers(keys, &sizes)?;
    let bias = keys.flag("attention_bias", false)?;
    let layers = sizes.each(|index| {
        let span = spans[index as usize];
        let shares_kv = index >= shared_from;
        let base = if span == Span::Full { full.clone() } else { sizes.attention() };
        // Values are normed too, without weights.
        let norms = if shares_kv { base.head_dim } else { 2 * base.head_dim };
        let attention = Attention {
            span,
            shares_kv,
            qkv_bias: bias,
            output_bias: bias,
            qk_norm_parameters: norms,
            ..base
        };
        let wide = if double && shares_kv { 2 * intermediate } else { intermediate };
        let (ffn, norms) = match &moe {
            Some(moe) => (Ffn::Moe(Moe { dense_intermediate: wide, ..moe.clone() }), 7),
            None => (gated(wide), 4),
        };
        Ok(layer(Some(Mixer::Attention(attention)), Some(ffn), norms, norms * sizes.hidden))
    })?;
    let mut draft = decoder(keys, &sizes, true, layers)?.with_modules(Modules::GEMMA);
    source.root.ignore(&["vision_soft_tokens_per_image"]);
    draft.model.vision = source.vision.as_ref().map(|keys| vision::gemma4(keys, sizes.hidden)).transpose()?;
    Ok(draft)
}

/// Attention of Gemma 4's full layers.
fn full_layers(keys: &Keys<'_>, sizes: &Sizes) -> Result<Attention> {
    let value_is_key = keys.flag("attention_k_eq_v", false)?;
    let global = keys.optional_size("num_global_key_value_heads")?;
    let sizes = Sizes {
        kv_heads: if value_is_key { global.unwrap_or(sizes.kv_heads) } else { sizes.kv_heads },
        head_dim: keys.size_or("global_head_dim", sizes.head_dim)?,
        ..*sizes
    }
    .checked(keys)?;
    Ok(Attention { value_is_key, ..sizes.attention() })
}

/// The experts beside the dense network: a router that scales its input (hidden) and its experts (one number each).
fn beside(keys: &Keys<'_>, dense: u64) -> Result<Option<Moe>> {
    if !keys.flag("enable_moe_block", false)? {
        keys.ignore(&["num_experts", "top_k_experts", "moe_intermediate_size"]);
        return Ok(None);
    }
    let width = keys.size("moe_intermediate_size")?;
    let moe = experts(keys, &["num_experts"], &["top_k_experts"], width)?;
    let scales = keys.size("hidden_size")? + moe.experts;
    Ok(Some(Moe { router_other_parameters: scales, dense_intermediate: dense, ..moe }))
}
