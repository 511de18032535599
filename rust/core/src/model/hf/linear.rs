//! Models of linear attention outside Qwen (MiniMax-01 and M1, Kimi-Linear), and layers searched one by one (Nemotron-NAS).

use serde_json::Value;

use super::block::{Draft, Sizes, decoder, experts, gated, layer};
use super::keys::Keys;
use super::quant::Modules;
use super::{Family, Source, deepseek};
use crate::error::Result;
use crate::format::Format;
use crate::model::{Attention, Ffn, LinearAttention, LinearKind, Mixer, Moe};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        types: &["minimax", "minimax_text_01", "minimax_m1"],
        architectures: &["MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM", "MiniMaxForCausalLM"],
        read: minimax,
    },
    Family { types: &["kimi_linear"], architectures: &["KimiLinearForCausalLM"], read: kimi },
    Family { types: &["nemotron-nas"], architectures: &["DeciLMForCausalLM"], read: searched },
];

/// MiniMax-01 and M1: seven layers of lightning attention to one of full attention, experts everywhere.
fn minimax(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let width = sizes.heads * sizes.head_dim;
    let lightning = Mixer::Linear(LinearAttention {
        kind: LinearKind::Lightning,
        key_heads: sizes.heads,
        value_heads: sizes.heads,
        key_dim: sizes.head_dim,
        value_dim: sizes.head_dim,
        conv: 0,
        input_columns: 4 * width,
        other_parameters: width,
        state_format: Format::Fp32,
    });
    let full = Mixer::Attention(sizes.attention());
    let is_full = minimax_layers(keys, sizes.layers)?;
    let moe =
        experts(keys, &["num_local_experts"], &["num_experts_per_tok"], keys.size("intermediate_size")?)?;
    let moe = Moe { shared_intermediate: keys.count_or("shared_intermediate_size", 0)?, ..moe };
    // Weights of residual sums, and how lightning attention is cut for computing.
    let alphas: Vec<&str> = keys.names().filter(|key| key.starts_with("layernorm_")).collect();
    keys.ignore(&alphas);
    let factors: Vec<&str> = keys.names().filter(|key| key.ends_with("_factor")).collect();
    keys.ignore(&factors);
    keys.ignore(&["block_size", "postnorm", "shared_moe_mode", "max_model_len"]);
    let layers = sizes.each(|index| {
        let mixer = if is_full[index as usize] { full.clone() } else { lightning.clone() };
        Ok(layer(Some(mixer), Some(Ffn::Moe(moe.clone())), 2, 2 * sizes.hidden))
    })?;
    let modules = Modules { state: "self_attn", ..Modules::MIXTRAL };
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(modules))
}

/// Which layers have full attention: `attn_type_list` (1) or `layer_types`.
fn minimax_layers(keys: &Keys<'_>, layers: u64) -> Result<Vec<bool>> {
    if let Some(kinds) = keys.counts_per_layer("attn_type_list", layers)? {
        keys.ignore(&["layer_types"]);
        return Ok(kinds.into_iter().map(|kind| kind == 1).collect());
    }
    keys.full_layers(layers)?.ok_or_else(|| keys.missing("attn_type_list"))
}

/// Kimi-Linear: three layers of Kimi delta attention to one of latent attention without rotary positions.
fn kimi(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = deepseek::sizes(keys)?;
    let linear = keys.child("linear_attn_config")?.ok_or_else(|| keys.missing("linear_attn_config"))?;
    let delta = Mixer::Linear(delta_attention(&linear)?);
    let full = Mixer::Mla(deepseek::mla(keys, &sizes)?);
    let full_layers = linear.counts("full_attn_layers")?.ok_or_else(|| linear.missing("full_attn_layers"))?;
    let delta_layers = linear.counts("kda_layers")?.ok_or_else(|| linear.missing("kda_layers"))?;
    if (full_layers.len() + delta_layers.len()) as u64 != sizes.layers {
        let must = format!("must share the {} layers with full_attn_layers", sizes.layers);
        let was = format!("{} and {}", delta_layers.len(), full_layers.len());
        return Err(linear.error("kda_layers", must, was, ""));
    }
    linear.finish()?;
    let width = keys.size("moe_intermediate_size")?;
    let moe = experts(keys, &["num_experts"], &["num_experts_per_token", "num_experts_per_tok"], width)?;
    let moe = Moe {
        router_other_parameters: moe.experts,
        shared_intermediate: keys.count_or("num_shared_experts", 0)? * width,
        ..moe
    };
    let first = keys.count_or("first_k_dense_replace", 0)?;
    let every = keys.size_or("moe_layer_freq", 1)?;
    let dense = keys.size("intermediate_size")?;
    keys.ignore(&["mla_use_nope", "moe_renormalize", "moe_router_activation_func", "num_expert_group"]);
    keys.ignore(&["use_grouped_topk", "model_max_length"]);
    let layers = sizes.each(|index| {
        // Layers are numbered from one there.
        let mixer = if full_layers.contains(&(index + 1)) { full.clone() } else { delta.clone() };
        let sparse = index >= first && index % every == 0;
        let ffn = if sparse { Ffn::Moe(moe.clone()) } else { gated(dense) };
        Ok(layer(Some(mixer), Some(ffn), 2, 2 * sizes.hidden))
    })?;
    let modules = Modules { state: "self_attn", ..Modules::MIXTRAL };
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(modules))
}

/// Projections of q, k and v, two low-rank gates as wide, a number a head, three convolutions.
fn delta_attention(keys: &Keys<'_>) -> Result<LinearAttention> {
    let (heads, dim) = (keys.size("num_heads")?, keys.size("head_dim")?);
    let conv = keys.size("short_conv_kernel_size")?;
    let width = heads * dim;
    let gates = 2 * dim * width;
    Ok(LinearAttention {
        kind: LinearKind::Kda,
        key_heads: heads,
        value_heads: heads,
        key_dim: dim,
        value_dim: dim,
        conv,
        input_columns: 3 * width + 2 * dim + heads,
        other_parameters: gates + 3 * width * conv + heads + width + dim,
        state_format: Format::Fp32,
    })
}

/// Llama-Nemotron: each layer's attention and network searched for, some left out.
fn searched(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    keys.ignore(&["num_key_value_heads", "intermediate_size", "attention_bias", "mlp_bias"]);
    let heads = keys.size("num_attention_heads")?;
    let sizes = Sizes {
        hidden: keys.size("hidden_size")?,
        layers: keys.size("num_hidden_layers")?,
        vocab: keys.size("vocab_size")?,
        heads,
        kv_heads: heads,
        head_dim: 0,
    }
    .with_head_dim(keys, "head_dim", "num_attention_heads")?;
    let blocks = keys.list("block_configs")?.ok_or_else(|| keys.missing("block_configs"))?;
    if blocks.len() as u64 != sizes.layers {
        let must = format!("must have one entry for each of the {} layers", sizes.layers);
        return Err(keys.error("block_configs", must, format!("{} entries", blocks.len()), ""));
    }
    let layers = sizes.each(|index| {
        let path = format!("{}[{index}]", keys.field("block_configs"));
        let block = Keys::new(&path, &blocks[index as usize])?;
        let mixer = searched_attention(&block, &sizes)?.map(Mixer::Attention);
        let ffn = searched_network(&block, sizes.hidden)?;
        let norms = u64::from(mixer.is_some()) + u64::from(ffn.is_some());
        Ok(layer(mixer, ffn, norms, norms * sizes.hidden))
    })?;
    decoder(keys, &sizes, false, layers)
}

fn searched_attention(block: &Keys<'_>, sizes: &Sizes) -> Result<Option<Attention>> {
    let keys = block.child("attention")?.ok_or_else(|| block.missing("attention"))?;
    if keys.flag("no_op", false)? {
        return Ok(None);
    }
    for key in ["replace_with_linear", "unshifted_sink", "use_prefill_window_in_sink_attention"] {
        keys.only(key, &[Value::Bool(false)])?;
    }
    for key in ["sparsify", "window_length", "num_sink_tokens"] {
        keys.only(key, &[])?;
    }
    let group = keys.size("n_heads_in_group")?;
    if !sizes.heads.is_multiple_of(group) {
        let must = format!("must divide the {} heads", sizes.heads);
        return Err(keys.error("n_heads_in_group", must, group, ""));
    }
    Ok(Some(Attention { kv_heads: sizes.heads / group, ..sizes.attention() }))
}

/// A network of `ffn_mult` two-thirds of twice the width, rounded up to 256.
fn searched_network(block: &Keys<'_>, hidden: u64) -> Result<Option<Ffn>> {
    let keys = block.child("ffn")?.ok_or_else(|| block.missing("ffn"))?;
    if keys.flag("no_op", false)? {
        return Ok(None);
    }
    keys.only("replace_with_linear", &[Value::Bool(false)])?;
    keys.only("sparsify", &[])?;
    if !keys.has("ffn_mult") {
        return Err(keys.missing("ffn_mult"));
    }
    let multiple = keys.number_or("ffn_mult", 0.0)?;
    if !(multiple > 0.0 && multiple < 1e6) {
        return Err(keys.error("ffn_mult", "must be positive", multiple, ""));
    }
    let width = (2.0 * multiple * hidden as f64 / 3.0) as u64;
    Ok(Some(gated(width.div_ceil(256) * 256)))
}
