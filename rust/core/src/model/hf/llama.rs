//! Llama and the families built like it: two RMS norms, rotary attention, three-matrix networks, or experts of them.

use serde_json::Value;

use super::block::{self, Draft, Sizes, decoder, experts, gated, rotary_layers};
use super::keys::Keys;
use super::quant::Modules;
use super::{Family, Source, vision};
use crate::error::Result;
use crate::model::{Attention, Dense, Ffn, Moe, Span};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["llama"], architectures: &["LlamaForCausalLM", "YiForCausalLM"], read: llama },
    Family { types: &["mistral"], architectures: &["MistralForCausalLM"], read: mistral },
    Family { types: &["mistral3"], architectures: &["Mistral3ForConditionalGeneration"], read: mistral3 },
    Family { types: &["mixtral"], architectures: &["MixtralForCausalLM"], read: mixtral },
    Family {
        types: &["llama4", "llama4_text"],
        architectures: &["Llama4ForConditionalGeneration", "Llama4ForCausalLM"],
        read: llama4,
    },
    Family { types: &["gpt_oss"], architectures: &["GptOssForCausalLM"], read: gpt_oss },
    Family { types: &["minimax_m2"], architectures: &["MiniMaxM2ForCausalLM"], read: minimax_m2 },
];

/// What every layer sees: its own type where given, else the same window everywhere, if any.
fn uniform_span(keys: &Keys<'_>) -> Result<Span> {
    Ok(keys.optional_tokens("sliding_window")?.map_or(Span::Full, Span::Window))
}

fn llama(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let attention = Attention { qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let network = Dense {
        intermediate: keys.size("intermediate_size")?,
        gated: true,
        bias: keys.flag("mlp_bias", false)?,
    };
    let layers = sizes.each(|_| Ok(sizes.layer(attention.clone(), Ffn::Dense(network.clone()))))?;
    decoder(keys, &sizes, false, layers)
}

fn mistral(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let intermediate = keys.size("intermediate_size")?;
    let everywhere = uniform_span(keys)?;
    let spans = block::spans(keys, sizes.layers)?;
    let layers = sizes.each(|index| {
        let span = spans.as_ref().map_or(everywhere, |spans| spans[index as usize]);
        Ok(sizes.layer(Attention { span, ..sizes.attention() }, gated(intermediate)))
    })?;
    decoder(keys, &sizes, false, layers)
}

/// Mistral Small 3.1 and later: Mistral with a vision tower.
fn mistral3(source: &Source<'_>) -> Result<Draft> {
    let mut draft = mistral(source)?;
    let hidden = draft.model.hidden;
    let tower = source.vision.as_ref().map(|keys| vision::pixtral(keys, &source.root, hidden));
    draft.model.vision = tower.transpose()?;
    Ok(draft)
}

fn mixtral(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let span = uniform_span(keys)?;
    let moe =
        experts(keys, &["num_local_experts"], &["num_experts_per_tok"], keys.size("intermediate_size")?)?;
    let attention = Attention { span, ..sizes.attention() };
    let layers = sizes.each(|_| Ok(sizes.layer(attention.clone(), Ffn::Moe(moe.clone()))))?;
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(Modules::MIXTRAL))
}

/// Llama 4: experts with one shared in every `interleave_moe_layer_step`-th layer, chunked attention with rotary
/// positions in three of four layers, full attention without positions in the fourth.
fn llama4(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let rope = rotary_layers(keys, sizes.layers)?;
    let chunk = keys.optional_tokens("attention_chunk_size")?;
    let spans = block::spans(keys, sizes.layers)?;
    let expert = keys.size("intermediate_size")?;
    let dense = keys.size_or("intermediate_size_mlp", 16384)?;
    let moe = experts(keys, &["num_local_experts"], &["num_experts_per_tok"], expert)?;
    let step = keys.size_or("interleave_moe_layer_step", 1)?;
    let listed = keys.counts("moe_layers")?;
    // The norm on queries and keys has no weights.
    keys.ignore(&[
        "use_qk_norm",
        "attn_temperature_tuning",
        "floor_scale",
        "attn_scale",
        "for_llm_compressor",
    ]);
    let layers = sizes.each(|index| {
        let at = index as usize;
        let by_rope = if rope[at] { chunk.map_or(Span::Full, Span::Chunk) } else { Span::Full };
        let span = spans.as_ref().map_or(by_rope, |spans| spans[at]);
        let attention =
            Attention { span, rope: rope[at], qkv_bias: bias, output_bias: bias, ..sizes.attention() };
        let sparse = listed.as_ref().map_or((index + 1) % step == 0, |listed| listed.contains(&index));
        let ffn =
            if sparse { Ffn::Moe(Moe { shared_intermediate: expert, ..moe.clone() }) } else { gated(dense) };
        Ok(sizes.layer(attention, ffn))
    })?;
    let mut draft = decoder(keys, &sizes, false, layers)?;
    draft.model.vision = source.vision.as_ref().map(|keys| vision::llama4(keys, sizes.hidden)).transpose()?;
    Ok(draft.with_modules(Modules::LLAMA4))
}

/// gpt-oss: biases everywhere, a sink a head, windows in every other layer.
fn gpt_oss(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", true)?;
    let intermediate = keys.size("intermediate_size")?;
    let moe = experts(
        keys,
        &["num_local_experts", "num_experts"],
        &["num_experts_per_tok", "experts_per_token"],
        intermediate,
    )?;
    let moe = Moe { bias: true, router_other_parameters: moe.experts, ..moe };
    keys.ignore(&["initial_context_length"]);
    let window = keys.optional_tokens("sliding_window")?;
    let spans = block::spans(keys, sizes.layers)?;
    let layers = sizes.each(|index| {
        let alternate = if index % 2 == 0 { window.map_or(Span::Full, Span::Window) } else { Span::Full };
        let attention = Attention {
            span: spans.as_ref().map_or(alternate, |spans| spans[index as usize]),
            qkv_bias: bias,
            output_bias: bias,
            other_parameters: sizes.heads,
            ..sizes.attention()
        };
        Ok(sizes.layer(attention, Ffn::Moe(moe.clone())))
    })?;
    decoder(keys, &sizes, false, layers)
}

/// MiniMax-M2: full attention with norms over all queries and all keys, sigmoid routing with a bias.
fn minimax_m2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let moe =
        experts(keys, &["num_local_experts"], &["num_experts_per_tok"], keys.size("intermediate_size")?)?;
    let correction = if keys.flag("use_routing_bias", true)? { moe.experts } else { 0 };
    let moe = Moe {
        router_other_parameters: correction,
        shared_intermediate: keys.count_or("shared_intermediate_size", 0)?,
        ..moe
    };
    keys.only("qk_norm_type", &[Value::from("per_layer")])?;
    let norms =
        if keys.flag("use_qk_norm", true)? { (sizes.heads + sizes.kv_heads) * sizes.head_dim } else { 0 };
    if let Some(kinds) = keys.counts_per_layer("attn_type_list", sizes.layers)?
        && let Some(other) = kinds.into_iter().find(|kind| *kind != 1)
    {
        let must = "must hold 1 (full attention) only";
        return Err(keys.error("attn_type_list", must, other, "lightning attention is read as `minimax`"));
    }
    let attention = Attention { qk_norm_parameters: norms, span: uniform_span(keys)?, ..sizes.attention() };
    let layers = sizes.each(|_| Ok(sizes.layer(attention.clone(), Ffn::Moe(moe.clone()))))?;
    let mut draft = decoder(keys, &sizes, false, layers)?.with_modules(Modules::MIXTRAL);
    let modules = keys.count_or("num_mtp_modules", 0)?;
    let each = keys.count_or("mtp_transformer_layers", 1)?;
    draft.model.mtp_layers = if keys.flag("use_mtp", false)? { modules * each } else { 0 };
    Ok(draft)
}
