//! Decoders with experts outside the large families: GLM-4.5, dots, Ernie, Granite, Phi, DBRX, Arctic.

use super::block::{Draft, Sizes, decoder, experts, gated, layer};
use super::quant::Modules;
use super::{Family, Source, deepseek};
use crate::error::Result;
use crate::model::{Attention, Ffn, Mixer, Moe, Span};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["glm4_moe"], architectures: &["Glm4MoeForCausalLM"], read: glm4_moe },
    Family { types: &["dots1"], architectures: &["Dots1ForCausalLM"], read: dots },
    Family {
        types: &["ernie4_5_moe"],
        architectures: &["Ernie4_5_MoeForCausalLM", "Ernie4_5_MoEForCausalLM"],
        read: ernie,
    },
    Family {
        types: &["granitemoe", "granitemoeshared"],
        architectures: &["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
        read: granite,
    },
    Family { types: &["phimoe"], architectures: &["PhiMoEForCausalLM", "PhimoeForCausalLM"], read: phi },
    Family { types: &["dbrx"], architectures: &["DbrxForCausalLM"], read: dbrx },
    Family { types: &["arctic"], architectures: &["ArcticForCausalLM"], read: arctic },
    Family { types: &["olmoe"], architectures: &["OlmoeForCausalLM"], read: olmoe },
];

/// GLM-4.5 and later: DeepSeek's experts behind plain attention, selection always corrected.
fn glm4_moe(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let sparse = deepseek::Sparse::read(keys, &sizes)?.corrected();
    let qk_norm = if keys.flag("use_qk_norm", false)? { 2 * sizes.head_dim } else { 0 };
    let qkv_bias = keys.flag("attention_bias", false)?;
    let attention = Attention { qkv_bias, qk_norm_parameters: qk_norm, ..sizes.attention() };
    let layers = sizes.each(|index| Ok(sizes.layer(attention.clone(), sparse.of(index))))?;
    decoder(keys, &sizes, false, layers)
}

fn dots(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let sparse = deepseek::Sparse::read(keys, &sizes)?.corrected();
    let bias = keys.flag("attention_bias", false)?;
    let windowed = keys.flag("use_sliding_window", false)?;
    let window = keys.optional_tokens("sliding_window")?;
    let first = keys.count_or("max_window_layers", sizes.layers)?;
    let spans = super::block::spans(keys, sizes.layers)?;
    let layers = sizes.each(|index| {
        let by_window = match window {
            Some(window) if windowed && index >= first => Span::Window(window),
            _ => Span::Full,
        };
        let attention = Attention {
            span: spans.as_ref().map_or(by_window, |spans| spans[index as usize]),
            qkv_bias: bias,
            output_bias: bias,
            qk_norm_parameters: 2 * sizes.head_dim,
            ..sizes.attention()
        };
        Ok(sizes.layer(attention, sparse.of(index)))
    })?;
    decoder(keys, &sizes, false, layers)
}

/// Ernie 4.5: experts from `moe_layer_start_index` to `moe_layer_end_index`, every `moe_layer_interval`-th.
fn ernie(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("use_bias", false)?;
    let width = keys.size("moe_intermediate_size")?;
    let moe = experts(keys, &["moe_num_experts"], &["moe_k"], width)?;
    let moe = Moe {
        bias,
        router_other_parameters: if keys.flag("moe_use_aux_free", true)? { moe.experts } else { 0 },
        shared_intermediate: keys.count_or("moe_num_shared_experts", 0)? * width,
        ..moe
    };
    let start = keys.count_or("moe_layer_start_index", 1)?;
    let end = if keys.get("moe_layer_end_index").and_then(serde_json::Value::as_i64) == Some(-1) {
        sizes.layers
    } else {
        keys.count_or("moe_layer_end_index", sizes.layers)?
    };
    let every = keys.size_or("moe_layer_interval", 1)?;
    keys.ignore(&["moe_capacity", "moe_gate", "moe_norm_min"]);
    let dense = keys.size("intermediate_size")?;
    let attention = Attention { qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let layers = sizes.each(|index| {
        let sparse = index >= start && index <= end && (index + 1) % every == 0;
        let ffn = if sparse { Ffn::Moe(moe.clone()) } else { gated(dense) };
        Ok(sizes.layer(attention.clone(), ffn))
    })?;
    decoder(keys, &sizes, true, layers)
}

fn granite(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let moe =
        experts(keys, &["num_local_experts"], &["num_experts_per_tok"], keys.size("intermediate_size")?)?;
    let moe = Moe { shared_intermediate: keys.count_or("shared_intermediate_size", 0)?, ..moe };
    let attention = Attention { qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let layers = sizes.each(|_| Ok(sizes.layer(attention.clone(), Ffn::Moe(moe.clone()))))?;
    let modules = Modules { shared: "shared_mlp", ..Modules::MIXTRAL };
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(modules))
}

/// Phi-3.5-MoE: biases on all of attention and on the head, norms with biases.
fn phi(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let span = keys.optional_tokens("sliding_window")?.map_or(Span::Full, Span::Window);
    let moe =
        experts(keys, &["num_local_experts"], &["num_experts_per_tok"], keys.size("intermediate_size")?)?;
    keys.ignore(&["original_max_position_embeddings", "input_jitter_noise"]);
    let attention = Attention { span, qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let layers = sizes.each(|_| {
        let mixer = Some(Mixer::Attention(attention.clone()));
        Ok(layer(mixer, Some(Ffn::Moe(moe.clone())), 2, 4 * sizes.hidden))
    })?;
    let mut draft = decoder(keys, &sizes, false, layers)?.with_other(2 * sizes.hidden);
    draft.model.head_bias = keys.flag("lm_head_bias", false)?;
    Ok(draft.with_modules(Modules::MIXTRAL))
}

/// DBRX: sizes of attention and network in objects of their own.
fn dbrx(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let attention = keys.child("attn_config")?.ok_or_else(|| keys.missing("attn_config"))?;
    let network = keys.child("ffn_config")?.ok_or_else(|| keys.missing("ffn_config"))?;
    let heads = keys.size("n_heads")?;
    let sizes = Sizes {
        hidden: keys.size("d_model")?,
        layers: keys.size("n_layers")?,
        vocab: keys.size("vocab_size")?,
        heads,
        kv_heads: attention.size_or("kv_n_heads", heads)?,
        head_dim: 0,
    }
    .with_head_dim(keys, "head_dim", "n_heads")?;
    let moe = experts(&network, &["moe_num_experts"], &["moe_top_k"], network.size("ffn_hidden_size")?)?;
    let layers = sizes.each(|_| Ok(sizes.layer(sizes.attention(), Ffn::Moe(moe.clone()))))?;
    let mut draft = decoder(keys, &sizes, false, layers)?;
    draft.model.max_context = keys.optional_size("max_seq_len")?;
    attention.ignore(&["clip_qkv", "attn_pdrop"]);
    network.ignore(&[
        "ffn_act_fn",
        "moe_loss_weight",
        "moe_normalize_expert_weights",
        "uniform_expert_assignment",
    ]);
    network.ignore(&["moe_jitter_eps"]);
    draft.model.notes.extend(attention.finish()?);
    draft.model.notes.extend(network.finish()?);
    Ok(draft)
}

/// Arctic: a dense network as wide as the model beside the experts, in every `moe_layer_frequency`-th layer.
fn arctic(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let span = keys.optional_tokens("sliding_window")?.map_or(Span::Full, Span::Window);
    let intermediate = keys.size("intermediate_size")?;
    let moe = experts(keys, &["num_local_experts"], &["num_experts_per_tok"], intermediate)?;
    let every = keys.size_or("moe_layer_frequency", 2)?;
    let beside = keys.flag("parallel_attn_mlp_res", false)? && keys.flag("use_residual", true)?;
    keys.ignore(&["moe_train_capacity_factor", "moe_eval_capacity_factor", "moe_min_capacity", "enc_index"]);
    keys.ignore(&["moe_token_dropping", "enable_expert_tensor_parallelism", "max_sequence_length"]);
    let attention = Attention { span, qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let layers = sizes.each(|index| {
        let sparse = (index + 1) % every == 0;
        let dense_intermediate = if beside { sizes.hidden } else { 0 };
        let ffn =
            if sparse { Ffn::Moe(Moe { dense_intermediate, ..moe.clone() }) } else { gated(intermediate) };
        let norms = if sparse && beside { 3 } else { 2 };
        Ok(layer(Some(Mixer::Attention(attention.clone())), Some(ffn), norms, norms * sizes.hidden))
    })?;
    let modules = Modules { dense: "residual_mlp", ..Modules::MIXTRAL };
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(modules))
}

/// OLMoE: norms over all queries and all keys.
fn olmoe(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.ignore(&["clip_qkv"]);
    let bias = keys.flag("attention_bias", false)?;
    let moe = experts(keys, &["num_experts"], &["num_experts_per_tok"], keys.size("intermediate_size")?)?;
    let attention = Attention {
        qkv_bias: bias,
        output_bias: bias,
        qk_norm_parameters: (sizes.heads + sizes.kv_heads) * sizes.head_dim,
        ..sizes.attention()
    };
    let layers = sizes.each(|_| Ok(sizes.layer(attention.clone(), Ffn::Moe(moe.clone()))))?;
    decoder(keys, &sizes, false, layers)
}
