//! Dense decoders that differ from Llama in biases, in norms or in what a layer sees: OLMo, Phi-3, GLM, Granite, …

use serde_json::Value;

use super::block::{self, Draft, Sizes, every_nth_full, rotary_layers};
use super::keys::Keys;
use super::style::{Style, spanned, uniform};
use super::{Family, Source};
use crate::error::Result;
use crate::model::Span;

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["granite"], architectures: &["GraniteForCausalLM"], read: granite },
    Family { types: &["seed_oss"], architectures: &["SeedOssForCausalLM"], read: seed_oss },
    Family { types: &["olmo"], architectures: &["OlmoForCausalLM"], read: olmo },
    Family {
        types: &["olmo2", "olmo3"],
        architectures: &["Olmo2ForCausalLM", "Olmo3ForCausalLM"],
        read: olmo2,
    },
    Family { types: &["smollm3"], architectures: &["SmolLM3ForCausalLM"], read: smollm3 },
    Family { types: &["exaone4"], architectures: &["Exaone4ForCausalLM"], read: exaone4 },
    Family {
        types: &["internlm", "internlm2"],
        architectures: &["InternLMForCausalLM", "InternLM2ForCausalLM"],
        read: internlm,
    },
    Family { types: &["internlm3"], architectures: &["InternLM3ForCausalLM"], read: internlm3 },
    Family {
        types: &["baichuan"],
        architectures: &["BaichuanForCausalLM", "BaiChuanForCausalLM"],
        read: baichuan,
    },
    Family {
        types: &["ernie4_5"],
        architectures: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
        read: ernie,
    },
    Family { types: &["hunyuan_v1_dense"], architectures: &["HunYuanDenseV1ForCausalLM"], read: hunyuan },
    Family { types: &["glm"], architectures: &["GlmForCausalLM"], read: glm },
    Family { types: &["glm4"], architectures: &["Glm4ForCausalLM"], read: glm4 },
    Family { types: &["phi3"], architectures: &["Phi3ForCausalLM"], read: phi3 },
    Family { types: &["cohere"], architectures: &["CohereForCausalLM"], read: cohere },
    Family { types: &["cohere2"], architectures: &["Cohere2ForCausalLM"], read: cohere2 },
    Family { types: &["nemotron"], architectures: &["NemotronForCausalLM"], read: nemotron },
];

fn granite(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let style = Style::llama(&sizes).attention_bias(keys.flag("attention_bias", false)?);
    uniform(keys, &sizes, Style { mlp_bias: keys.flag("mlp_bias", false)?, ..style })
}

fn seed_oss(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let style = Style {
        qkv_bias: keys.flag("attention_bias", true)?,
        output_bias: keys.flag("attention_out_bias", false)?,
        mlp_bias: keys.flag("mlp_bias", false)?,
        ..Style::llama(&sizes)
    };
    uniform(keys, &sizes, style)
}

/// OLMo: norms without weights.
fn olmo(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.ignore(&["clip_qkv"]);
    let style = Style::llama(&sizes).attention_bias(keys.flag("attention_bias", false)?);
    uniform(keys, &sizes, Style { norm: 0, ..style })
}

/// OLMo 2 and 3: norms after each part, and over all queries and all keys; OLMo 3 has windows in three of four layers.
fn olmo2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let style = Style::llama(&sizes).attention_bias(keys.flag("attention_bias", false)?);
    let style = Style { qk_norm: (sizes.heads + sizes.kv_heads) * sizes.head_dim, ..style };
    let spans = block::spans(keys, sizes.layers)?;
    let window = keys.optional_tokens("sliding_window")?;
    spanned(keys, &sizes, style, |index| {
        let by_pattern = window.map_or(Span::Full, |window| every_nth_full(index, 4, window));
        (spans.as_ref().map_or(by_pattern, |spans| spans[index as usize]), true)
    })
}

/// SmolLM3: no rotary positions in every fourth layer.
fn smollm3(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.only("use_sliding_window", &[Value::Bool(false)])?;
    keys.ignore(&["max_window_layers", "sliding_window"]);
    let style = Style::llama(&sizes).attention_bias(keys.flag("attention_bias", false)?);
    let style = Style { mlp_bias: keys.flag("mlp_bias", false)?, tied: true, ..style };
    let rope = rotary_layers(keys, sizes.layers)?;
    let spans = block::spans(keys, sizes.layers)?;
    spanned(keys, &sizes, style, |index| {
        (spans.as_ref().map_or(Span::Full, |spans| spans[index as usize]), rope[index as usize])
    })
}

/// Exaone 4: norms after each part and on heads; with windows, full layers have no rotary positions.
fn exaone4(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let window = keys.optional_tokens("sliding_window")?;
    let period = match keys.get("sliding_window_pattern") {
        Some(Value::String(pattern)) => (pattern.len() as u64).max(1),
        _ => keys.size_or("sliding_window_pattern", 4)?,
    };
    let spans = block::spans(keys, sizes.layers)?;
    let style = Style { qk_norm: 2 * sizes.head_dim, ..Style::llama(&sizes) };
    spanned(keys, &sizes, style, |index| {
        let by_pattern = window.map_or(Span::Full, |window| every_nth_full(index, period, window));
        let span = spans.as_ref().map_or(by_pattern, |spans| spans[index as usize]);
        (span, window.is_none() || span != Span::Full)
    })
}

fn internlm(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    uniform(keys, &sizes, Style::llama(&sizes).attention_bias(keys.flag("bias", true)?))
}

fn internlm3(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("bias", false)?;
    let qkv_bias = keys.flag("qkv_bias", false)?;
    uniform(keys, &sizes, Style { qkv_bias, output_bias: bias, mlp_bias: bias, ..Style::llama(&sizes) })
}

/// Baichuan: 13B has biases on scores by distance (ALiBi) instead of rotary positions.
fn baichuan(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let rope = !keys.has("model_max_length") || sizes.layers <= 32;
    keys.ignore(&["z_loss_weight"]);
    let length = keys.optional_size("model_max_length")?;
    let mut draft = spanned(keys, &sizes, Style::llama(&sizes), |_| (Span::Full, rope))?;
    draft.model.max_context = draft.model.max_context.or(length);
    Ok(draft)
}

fn ernie(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("use_bias", false)?;
    let style = Style::llama(&sizes).attention_bias(bias);
    uniform(keys, &sizes, Style { mlp_bias: bias, tied: true, ..style })
}

/// Hunyuan: norms on query and key heads.
fn hunyuan(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.ignore(&["attention_head_dim", "org_vocab_size", "norm_type", "use_rotary_pos_emb"]);
    keys.only("use_cla", &[Value::Bool(false)])?;
    let style = Style::llama(&sizes).attention_bias(keys.flag("attention_bias", false)?);
    let qk_norm = if keys.flag("use_qk_norm", true)? { 2 * sizes.head_dim } else { 0 };
    uniform(keys, &sizes, Style { qk_norm, mlp_bias: keys.flag("mlp_bias", false)?, ..style })
}

/// GLM-4-9B: biases on q, k and v.
fn glm(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    uniform(keys, &sizes, Style { qkv_bias: keys.flag("attention_bias", false)?, ..Style::llama(&sizes) })
}

/// GLM-4-0414: norms after each part too.
fn glm4(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let qkv_bias = keys.flag("attention_bias", false)?;
    uniform(keys, &sizes, Style { qkv_bias, norms: 4, ..Style::llama(&sizes) })
}

/// Phi-3 and 4: one matrix makes q, k and v, one gate and up, which costs the same as several.
fn phi3(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let style = Style::llama(&sizes).attention_bias(bias);
    keys.only("full_attn_mod", &[Value::from(1)])?;
    keys.ignore(&["original_max_position_embeddings", "interpolate_factor"]);
    let span = keys.optional_tokens("sliding_window")?.map_or(Span::Full, Span::Window);
    spanned(keys, &sizes, Style { mlp_bias: keys.flag("mlp_bias", false)?, ..style }, |_| (span, true))
}

/// Command-R: attention and network side by side behind one norm.
fn cohere(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    uniform(keys, &sizes, side_by_side(keys, &sizes)?)
}

fn side_by_side(keys: &Keys<'_>, sizes: &Sizes) -> Result<Style> {
    keys.ignore(&[
        "use_embedding_sharing",
        "use_parallel_block",
        "use_parallel_embedding",
        "use_gated_activation",
    ]);
    keys.ignore(&[
        "layer_switch",
        "position_embedding_type",
        "order_of_interleaved_layers",
        "cache_implementation",
    ]);
    let normed = keys.flag("use_qk_norm", false)?;
    let style = Style::llama(sizes).attention_bias(keys.flag("attention_bias", false)?);
    let qk_norm = if normed { (sizes.heads + sizes.kv_heads) * sizes.head_dim } else { 0 };
    Ok(Style { qk_norm, norms: 1, parallel: true, tied: true, ..style })
}

/// Command-R7B and A: windows with rotary positions in three of four layers, full without in the fourth.
fn cohere2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let window = keys.size("sliding_window")?;
    let period = keys.size_or("sliding_window_pattern", 4)?;
    let spans = block::spans(keys, sizes.layers)?;
    spanned(keys, &sizes, side_by_side(keys, &sizes)?, |index| {
        let by_pattern = every_nth_full(index, period, window);
        let span = spans.as_ref().map_or(by_pattern, |spans| spans[index as usize]);
        (span, span != Span::Full)
    })
}

/// Nemotron 4 and Minitron: two matrices with squared ReLU between, norms with biases.
fn nemotron(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let style = Style::llama(&sizes).attention_bias(keys.flag("attention_bias", false)?);
    let mlp_bias = keys.flag("mlp_bias", false)?;
    uniform(keys, &sizes, Style { gated: false, mlp_bias, norm: 2 * sizes.hidden, ..style })
}
