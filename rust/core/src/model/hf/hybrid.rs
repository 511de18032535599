//! Models of state-space layers among attention: Nemotron-H, Jamba, Granite 4.

use serde_json::Value;

use super::block::{Draft, Sizes, decoder, experts, gated, layer, plain};
use super::keys::Keys;
use super::mamba::{LONG, SHORT, dt_rank, original, second};
use super::quant::Modules;
use super::{Family, Source};
use crate::error::Result;
use crate::model::{Attention, Ffn, LayerGroup, Mixer, Moe};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["nemotron_h"], architectures: &["NemotronHForCausalLM"], read: nemotron },
    Family { types: &["jamba"], architectures: &["JambaForCausalLM"], read: jamba },
    Family { types: &["granitemoehybrid"], architectures: &["GraniteMoeHybridForCausalLM"], read: granite },
];

/// Nemotron-H and Nemotron 3: each layer is one thing only (`M` Mamba, `*` attention, `-` network, `E` experts).
fn nemotron(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let head_key = if keys.has("head_dim") { "head_dim" } else { "attention_head_dim" };
    let sizes = Sizes::with_head_key(keys, head_key)?;
    let mamba = second(keys, keys.size("mamba_num_heads")?, keys.size("mamba_head_dim")?, &LONG)?;
    // Inner width follows from the heads; ranks and chunks do not change what is multiplied.
    keys.ignore(&[
        "expand",
        "chunk_size",
        "time_step_rank",
        "mtp_hybrid_override_pattern",
        "mamba_proj_bias",
    ]);
    keys.ignore(&["attention_head_dim", "head_dim", "rescale_prenorm_residual", "moe_shared_expert_overlap"]);
    keys.only("sliding_window", &[])?;
    let bias = keys.flag("attention_bias", false)?;
    let attention = Attention { rope: false, qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let pattern = pattern(keys, sizes.layers)?;
    let network = match keys.optional_size("intermediate_size")? {
        Some(width) => Some(plain(width, keys.flag("mlp_bias", false)?)),
        None => None,
    };
    let moe = if pattern.contains(&'E') { Some(nemotron_experts(keys)?) } else { None };
    let layers = sizes.each(|index| {
        let (mixer, ffn) = match pattern[index as usize] {
            'M' => (Some(Mixer::Mamba(mamba.clone())), None),
            '*' => (Some(Mixer::Attention(attention.clone())), None),
            'E' => (None, moe.clone().map(Ffn::Moe)),
            _ => (None, Some(network.clone().ok_or_else(|| keys.missing("intermediate_size"))?)),
        };
        Ok(layer(mixer, ffn, 1, sizes.hidden))
    })?;
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(Modules::MIXER))
}

/// The kind of each layer, as one letter.
fn pattern(keys: &Keys<'_>, layers: u64) -> Result<Vec<char>> {
    let key = "hybrid_override_pattern";
    if let Some(types) = keys.texts_per_layer("layers_block_type", layers)? {
        keys.text(key)?;
        let letter = |kind: &str| match kind {
            "mamba" => Ok('M'),
            "attention" => Ok('*'),
            "mlp" => Ok('-'),
            "moe" => Ok('E'),
            other => {
                Err(keys.error("layers_block_type", "must hold mamba, attention, mlp or moe", other, ""))
            }
        };
        return types.into_iter().map(letter).collect();
    }
    let text = keys.text(key)?.ok_or_else(|| keys.missing(key))?;
    let letters: Vec<char> = text.chars().collect();
    if let Some(other) = letters.iter().find(|letter| !"M*-E".contains(**letter)) {
        return Err(keys.error(key, "must consist of M, *, - and E", other, ""));
    }
    if letters.len() as u64 != layers {
        let must = format!("must have one letter for each of the {layers} layers");
        return Err(keys.error(key, must, format!("{} letters", letters.len()), ""));
    }
    Ok(letters)
}

fn nemotron_experts(keys: &Keys<'_>) -> Result<Moe> {
    let width = keys.size("moe_intermediate_size")?;
    let moe = experts(keys, &["n_routed_experts"], &["num_experts_per_tok"], width)?;
    let shared = keys.count_or("n_shared_experts", 1)?;
    Ok(Moe {
        gated: false,
        router_other_parameters: moe.experts,
        shared_intermediate: shared * keys.count_or("moe_shared_expert_intermediate_size", 0)?,
        latent: keys.optional_size("moe_latent_size")?,
        ..moe
    })
}

/// Jamba: attention in one layer of `attn_layer_period`, experts in one of `expert_layer_period`, else Mamba-1.
fn jamba(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let inner = sizes.hidden * keys.size_or("mamba_expand", 2)?;
    let rank = dt_rank(keys, "mamba_dt_rank", sizes.hidden)?;
    let mamba = Mixer::Mamba(original(keys, inner, rank, &SHORT, true)?);
    let attention = Mixer::Attention(Attention { rope: false, ..sizes.attention() });
    let intermediate = keys.size("intermediate_size")?;
    let moe = experts(keys, &["num_experts"], &["num_experts_per_tok"], intermediate)?;
    keys.only("sliding_window", &[])?;
    let attends = period(keys, "attn_layer_period", "attn_layer_offset", (8, 4))?;
    let sparse = period(keys, "expert_layer_period", "expert_layer_offset", (2, 1))?;
    let layers = sizes.each(|index| {
        let mixer = if attends(index) { attention.clone() } else { mamba.clone() };
        let ffn = if sparse(index) && moe.experts > 1 { Ffn::Moe(moe.clone()) } else { gated(intermediate) };
        Ok(layer(Some(mixer), Some(ffn), 2, 2 * sizes.hidden))
    })?;
    let modules =
        Modules { state: "mamba", dense: "feed_forward", experts: "feed_forward.experts", ..Modules::LLAMA };
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(modules))
}

/// Whether a layer is the one at `offset` of each `period`.
fn period(
    keys: &Keys<'_>,
    period: &str,
    offset: &str,
    default: (u64, u64),
) -> Result<impl Fn(u64) -> bool + use<>> {
    let (every, at) = (keys.size_or(period, default.0)?, keys.count_or(offset, default.1)?);
    if at >= every {
        return Err(keys.error(offset, format!("must be less than the period {every}"), at, ""));
    }
    Ok(move |index: u64| index % every == at)
}

/// Granite 4: Mamba-2 or attention by `layer_types`, then experts and a shared network (or that alone).
fn granite(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let mamba = second(keys, keys.size("mamba_n_heads")?, mamba_width(keys, &sizes)?, &SHORT)?;
    keys.ignore(&["mamba_expand", "mamba_chunk_size", "normalization_function", "init_method", "mup_width"]);
    let bias = keys.flag("attention_bias", false)?;
    let rope = keys.text("position_embedding_type")?.is_none_or(|kind| kind == "rope");
    let attention = Attention { rope, qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let shared = keys.count_or("shared_intermediate_size", 0)?;
    let expert = keys.optional_size("intermediate_size")?;
    let ffn = match keys.count_or("num_local_experts", 0)? {
        0 => {
            keys.optional_count("num_experts_per_tok")?;
            gated(shared)
        }
        _ => {
            let width = expert.ok_or_else(|| keys.missing("intermediate_size"))?;
            let moe = experts(keys, &["num_local_experts"], &["num_experts_per_tok"], width)?;
            Ffn::Moe(Moe { shared_intermediate: shared, ..moe })
        }
    };
    let key = if keys.has("layer_types") { "layer_types" } else { "layers_block_type" };
    let types = keys.texts_per_layer(key, sizes.layers)?.ok_or_else(|| keys.missing("layer_types"))?;
    let layers: Result<Vec<LayerGroup>> = types
        .into_iter()
        .map(|kind| {
            let mixer = match kind {
                "mamba" => Mixer::Mamba(mamba.clone()),
                "attention" => Mixer::Attention(attention.clone()),
                other => return Err(keys.error(key, "must hold mamba or attention", other, "")),
            };
            Ok(layer(Some(mixer), Some(ffn.clone()), 2, 2 * sizes.hidden))
        })
        .collect();
    let modules =
        Modules { state: "mamba", experts: "block_sparse_moe", shared: "shared_mlp", ..Modules::LLAMA };
    Ok(decoder(keys, &sizes, false, layers?)?.with_modules(modules))
}

fn mamba_width(keys: &Keys<'_>, sizes: &Sizes) -> Result<u64> {
    match keys.get("mamba_d_head") {
        Some(Value::String(auto)) if auto == "auto" => {
            Ok(sizes.hidden * keys.size_or("mamba_expand", 2)? / keys.size("mamba_n_heads")?)
        }
        _ => keys.size("mamba_d_head"),
    }
}
