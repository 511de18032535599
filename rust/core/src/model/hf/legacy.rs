//! Decoders from before Llama: two-matrix networks, norms with biases, keys under older names.

use serde_json::Value;

use super::block::{Draft, Sizes, decoder, gated, layer, plain};
use super::keys::Keys;
use super::quant::Modules;
use super::{Family, Source};
use crate::error::Result;
use crate::model::{Attention, Ffn, LayerGroup, Mixer, Span};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["opt"], architectures: &["OPTForCausalLM"], read: opt },
    Family { types: &["gpt2"], architectures: &["GPT2LMHeadModel"], read: gpt2 },
    Family { types: &["gpt_bigcode"], architectures: &["GPTBigCodeForCausalLM"], read: gpt_bigcode },
    Family { types: &["gptj"], architectures: &["GPTJForCausalLM"], read: gptj },
    Family { types: &["gpt_neox"], architectures: &["GPTNeoXForCausalLM"], read: gpt_neox },
    Family {
        types: &["falcon", "RefinedWeb", "RefinedWebModel"],
        architectures: &["FalconForCausalLM"],
        read: falcon,
    },
    Family { types: &["bloom"], architectures: &["BloomForCausalLM"], read: bloom },
    Family { types: &["phi", "phi-msft"], architectures: &["PhiForCausalLM"], read: phi },
    Family { types: &["starcoder2"], architectures: &["Starcoder2ForCausalLM"], read: starcoder2 },
    Family {
        types: &["chatglm"],
        architectures: &["ChatGLMModel", "ChatGLMForConditionalGeneration"],
        read: chatglm,
    },
];

const HIDDEN: &[&str] = &["n_embd", "hidden_size", "n_embed"];
const LAYERS: &[&str] = &["n_layer", "num_hidden_layers"];
const HEADS: &[&str] = &["n_head", "num_attention_heads"];

/// Sizes under GPT-2's names, every query head with keys of its own.
fn sizes(keys: &Keys<'_>) -> Result<Sizes> {
    let heads = keys.size_of(HEADS)?;
    Sizes {
        hidden: keys.size_of(HIDDEN)?,
        layers: keys.size_of(LAYERS)?,
        vocab: keys.size("vocab_size")?,
        heads,
        kv_heads: heads,
        head_dim: 0,
    }
    .with_head_dim(keys, "head_dim", "n_head")
}

/// Attention with biases on all its projections, or on none.
fn biased(sizes: &Sizes, bias: bool, rope: bool) -> Attention {
    Attention { qkv_bias: bias, output_bias: bias, rope, ..sizes.attention() }
}

/// A layer of `norms` norms with biases.
fn normed(sizes: &Sizes, attention: Attention, ffn: Ffn, norms: u64) -> LayerGroup {
    layer(Some(Mixer::Attention(attention)), Some(ffn), norms, norms * 2 * sizes.hidden)
}

/// OPT: learned positions (two more than the context), and in OPT-350m an embedding narrower than the model.
fn opt(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let before = keys.flag("do_layer_norm_before", true)?;
    let bias = keys.flag("enable_bias", true)?;
    let weights = keys.flag("layer_norm_elementwise_affine", true)?;
    let without_final = keys.flag("_remove_final_layer_norm", false)?;
    let positions = keys.size("max_position_embeddings")? + 2;
    let narrow = keys.size_or("word_embed_proj_dim", sizes.hidden)?;
    let mut group = normed(&sizes, biased(&sizes, bias, false), plain(keys.size("ffn_dim")?, bias), 2);
    if !weights {
        group.norm_parameters = 0;
    }
    let norm = if before && weights && !without_final { 2 * sizes.hidden } else { 0 };
    let projections = if narrow == sizes.hidden { 0 } else { 2 * narrow * sizes.hidden };
    let other = positions * sizes.hidden + norm + projections;
    let mut draft = decoder(keys, &sizes, true, sizes.all(&group)?)?.with_other(other);
    draft.model.embedding_width = narrow;
    Ok(draft)
}

fn gpt2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = sizes(keys)?;
    learned(keys, &sizes, biased(&sizes, true, false))
}

/// StarCoder: GPT-2 whose query heads may share one key head.
fn gpt_bigcode(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = sizes(keys)?;
    let kv_heads = if keys.flag("multi_query", true)? { 1 } else { sizes.heads };
    let sizes = Sizes { kv_heads, ..sizes };
    keys.ignore(&[
        "attention_softmax_in_fp32",
        "inference_runner",
        "pre_allocate_kv_cache",
        "max_sequence_length",
    ]);
    keys.ignore(&["max_batch_size", "scale_attention_softmax_in_fp32", "runner_max_sequence_length"]);
    learned(keys, &sizes, biased(&sizes, true, false))
}

/// A decoder with learned positions, biases everywhere and a network four times as wide.
fn learned(keys: &Keys<'_>, sizes: &Sizes, attention: Attention) -> Result<Draft> {
    let context = keys.size_of(&["n_positions", "max_position_embeddings"])?;
    let intermediate = keys.size_or("n_inner", 4 * sizes.hidden)?;
    keys.ignore(&["n_ctx"]);
    let group = normed(sizes, attention, plain(intermediate, true), 2);
    let mut draft = decoder(keys, sizes, true, sizes.all(&group)?)?;
    draft.model.max_context = Some(context);
    Ok(draft.with_other(context * sizes.hidden + 2 * sizes.hidden))
}

/// GPT-J: attention without biases and network with, side by side behind one norm; the head has a bias.
fn gptj(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = sizes(keys)?;
    let intermediate = keys.size_or("n_inner", 4 * sizes.hidden)?;
    keys.ignore(&["n_ctx"]);
    let group = normed(&sizes, biased(&sizes, false, true), plain(intermediate, true), 1);
    let layers = sizes.all(&LayerGroup { parallel: true, ..group })?;
    let mut draft = decoder(keys, &sizes, false, layers)?.with_other(2 * sizes.hidden);
    draft.model.max_context = keys.optional_size("n_positions")?;
    draft.model.head_bias = true;
    Ok(draft)
}

/// GPT-NeoX and Pythia: side by side, yet behind a norm each.
fn gpt_neox(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", true)?;
    let parallel = keys.flag("use_parallel_residual", true)?;
    let group = normed(&sizes, biased(&sizes, bias, true), plain(keys.size("intermediate_size")?, true), 2);
    let layers = sizes.all(&LayerGroup { parallel, ..group })?;
    Ok(decoder(keys, &sizes, false, layers)?.with_other(2 * sizes.hidden))
}

/// Falcon: one key head (7B) or several (`new_decoder_architecture`), side by side behind one norm or two.
fn falcon(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = sizes(keys)?;
    let new = keys.flag("new_decoder_architecture", false)?;
    let multi_query = keys.flag("multi_query", true)?;
    let given = keys.optional_size("num_kv_heads")?.or(keys.optional_size("n_head_kv")?);
    let kv_heads = match (new, multi_query) {
        (true, _) | (false, false) => given.unwrap_or(sizes.heads),
        (false, true) => 1,
    };
    let sizes = Sizes { kv_heads, ..sizes }.checked(keys)?;
    let bias = keys.flag("bias", false)?;
    let alibi = keys.flag("alibi", false)?;
    let parallel = keys.flag("parallel_attn", true)? || new;
    let norms = match keys.optional_size("num_ln_in_parallel_attn")? {
        Some(norms) if new => norms,
        _ if new || !parallel => 2,
        _ => 1,
    };
    let intermediate = keys.size_or("ffn_hidden_size", 4 * sizes.hidden)?;
    keys.ignore(&["apply_residual_connection_post_layernorm"]);
    let group = normed(&sizes, biased(&sizes, bias, !alibi), plain(intermediate, bias), norms);
    let layers = sizes.all(&LayerGroup { parallel, ..group })?;
    Ok(decoder(keys, &sizes, true, layers)?.with_other(2 * sizes.hidden))
}

/// BLOOM: scores biased by distance, a norm behind the embedding.
fn bloom(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = sizes(keys)?;
    keys.ignore(&[
        "apply_residual_connection_post_layernorm",
        "offset_alibi",
        "bias_dropout_fusion",
        "skip_bias_add",
    ]);
    keys.ignore(&["skip_bias_add_qkv", "slow_but_exact", "masked_softmax_fusion"]);
    let group = normed(&sizes, biased(&sizes, true, false), plain(4 * sizes.hidden, true), 2);
    Ok(decoder(keys, &sizes, true, sizes.all(&group)?)?.with_other(4 * sizes.hidden))
}

/// Phi-1 and 2: biases everywhere (the head too), side by side behind one norm.
fn phi(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.only("qk_layernorm", &[Value::Bool(false)])?;
    let intermediate = keys.size_or("intermediate_size", 4 * sizes.hidden)?;
    let group = normed(&sizes, biased(&sizes, true, true), plain(intermediate, true), 1);
    let layers = sizes.all(&LayerGroup { parallel: true, ..group })?;
    let mut draft = decoder(keys, &sizes, false, layers)?.with_other(2 * sizes.hidden);
    draft.model.head_bias = true;
    Ok(draft)
}

fn starcoder2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("use_bias", true)?;
    keys.only("norm_type", &[Value::from("layer_norm")])?;
    keys.only("mlp_type", &[Value::from("default")])?;
    let span = keys.optional_tokens("sliding_window")?.map_or(Span::Full, Span::Window);
    let attention = Attention { span, ..biased(&sizes, bias, true) };
    let group = normed(&sizes, attention, plain(keys.size("intermediate_size")?, bias), 2);
    Ok(decoder(keys, &sizes, true, sizes.all(&group)?)?.with_other(2 * sizes.hidden))
}

/// ChatGLM 2 and 3, and GLM-4-9B as first published: Llama's layer under Megatron's names.
fn chatglm(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let heads = keys.size("num_attention_heads")?;
    let grouped = keys.flag("multi_query_attention", false)?;
    let groups = keys.size_or("multi_query_group_num", 1)?;
    let sizes = Sizes {
        hidden: keys.size("hidden_size")?,
        layers: keys.size_of(&["num_layers", "num_hidden_layers"])?,
        vocab: keys.size_of(&["padded_vocab_size", "vocab_size"])?,
        heads,
        kv_heads: if grouped { groups } else { heads },
        head_dim: 0,
    }
    .with_head_dim(keys, "kv_channels", "num_attention_heads")?;
    keys.only("rmsnorm", &[Value::Bool(true)])?;
    keys.only("post_layer_norm", &[Value::Bool(true)])?;
    keys.only("add_bias_linear", &[Value::Bool(false)])?;
    keys.only("quantization_bit", &[Value::from(0)])?;
    keys.ignore(&[
        "apply_query_key_layer_scaling",
        "apply_residual_connection_post_layernorm",
        "fp32_residual_connection",
    ]);
    keys.ignore(&["attention_softmax_in_fp32", "bias_dropout_fusion", "interleaved_qkv", "original_rope"]);
    let attention = Attention { qkv_bias: keys.flag("add_qkv_bias", false)?, ..sizes.attention() };
    let group = sizes.layer(attention, gated(keys.size("ffn_hidden_size")?));
    let mut draft = decoder(keys, &sizes, false, sizes.all(&group)?)?;
    draft.model.max_context = keys.optional_size("seq_length")?;
    Ok(draft.with_modules(Modules { attention: "self_attention", ..Modules::LLAMA }))
}
