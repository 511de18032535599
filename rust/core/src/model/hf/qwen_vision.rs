//! Qwen's models with a vision tower (2-VL, 2.5-VL, 3-VL), and those that mix linear with full attention (3-Next, 3.5).

use super::block::{Draft, Sizes, decoder, gated, layer};
use super::keys::Keys;
use super::quant::Modules;
use super::{Family, Source, mamba, qwen, vision};
use crate::error::Result;
use crate::model::{Attention, Ffn, LinearAttention, LinearKind, Mixer};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["qwen2_vl"], architectures: &["Qwen2VLForConditionalGeneration"], read: qwen2_vl },
    Family {
        types: &["qwen2_5_vl"],
        architectures: &["Qwen2_5_VLForConditionalGeneration"],
        read: qwen25_vl,
    },
    Family {
        types: &["qwen3_vl", "qwen3_vl_text"],
        architectures: &["Qwen3VLForConditionalGeneration"],
        read: qwen3_vl,
    },
    Family {
        types: &["qwen3_vl_moe", "qwen3_vl_moe_text"],
        architectures: &["Qwen3VLMoeForConditionalGeneration"],
        read: qwen3_vl_moe,
    },
    Family { types: &["qwen3_next"], architectures: &["Qwen3NextForCausalLM"], read: gated_delta },
    Family {
        types: &["qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"],
        architectures: &["Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"],
        read: gated_delta,
    },
];

fn qwen2_vl(source: &Source<'_>) -> Result<Draft> {
    let mut draft = qwen::qwen2(source)?;
    let hidden = draft.model.hidden;
    draft.model.vision = source.vision.as_ref().map(|keys| vision::qwen2(keys, hidden)).transpose()?;
    Ok(draft)
}

fn qwen25_vl(source: &Source<'_>) -> Result<Draft> {
    let mut draft = qwen::qwen2(source)?;
    let hidden = draft.model.hidden;
    draft.model.vision = source.vision.as_ref().map(|keys| vision::qwen25(keys, hidden)).transpose()?;
    Ok(draft)
}

fn qwen3_vl(source: &Source<'_>) -> Result<Draft> {
    let mut draft = qwen::qwen3(source)?;
    draft.model.vision = source.vision.as_ref().map(vision::qwen3).transpose()?;
    Ok(draft)
}

fn qwen3_vl_moe(source: &Source<'_>) -> Result<Draft> {
    let mut draft = qwen::qwen3_moe(source)?;
    draft.model.vision = source.vision.as_ref().map(vision::qwen3).transpose()?;
    Ok(draft)
}

/// Qwen 3-Next and 3.5: three layers of gated delta net to one of gated full attention.
fn gated_delta(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let delta = Mixer::Linear(delta_net(keys)?);
    let gate = keys.flag("attn_output_gate", true)?;
    let full = Mixer::Attention(Attention { output_gate: gate, ..qwen::normed(keys, &sizes)? });
    let is_full = full_layers(keys, sizes.layers)?;
    keys.ignore(&["mtp_use_dedicated_embeddings", "hidden_act"]);
    let sparse = match keys.optional_count("num_experts")?.unwrap_or(0) {
        0 => None,
        _ => Some(qwen::sparse(keys, &sizes)?),
    };
    let dense = match sparse {
        None => {
            keys.ignore(&["mlp_only_layers", "decoder_sparse_step"]);
            keys.size("intermediate_size")?
        }
        Some(_) => 0,
    };
    let layers = sizes.each(|index| {
        let mixer = if is_full[index as usize] { full.clone() } else { delta.clone() };
        let ffn: Ffn = sparse.as_ref().map_or_else(|| gated(dense), |sparse| sparse.of(index));
        Ok(layer(Some(mixer), Some(ffn), 2, 2 * sizes.hidden))
    })?;
    let mut draft = decoder(keys, &sizes, false, layers)?.with_modules(Modules::QWEN);
    draft.model.mtp_layers = keys.count_or("mtp_num_hidden_layers", draft.model.mtp_layers)?;
    draft.model.vision = source.vision.as_ref().map(vision::qwen3).transpose()?;
    Ok(draft)
}

/// Which layers have full attention: by `layer_types`, or every `full_attention_interval`-th.
fn full_layers(keys: &Keys<'_>, layers: u64) -> Result<Vec<bool>> {
    let interval = keys.size_or("full_attention_interval", 4)?;
    let every = || (0..layers).map(|layer| (layer + 1) % interval == 0).collect();
    Ok(keys.full_layers(layers)?.unwrap_or_else(every))
}

/// Projections of q, k, v and the output gate, two numbers a value head, a convolution over q, k and v, a norm.
fn delta_net(keys: &Keys<'_>) -> Result<LinearAttention> {
    let (key_heads, value_heads) = (keys.size("linear_num_key_heads")?, keys.size("linear_num_value_heads")?);
    let (key_dim, value_dim) = (keys.size("linear_key_head_dim")?, keys.size("linear_value_head_dim")?);
    let conv = keys.size("linear_conv_kernel_dim")?;
    if value_heads % key_heads != 0 {
        let must = format!("must be divisible by the {key_heads} key heads");
        return Err(keys.error("linear_num_value_heads", must, value_heads, ""));
    }
    let (keys_width, values_width) = (key_heads * key_dim, value_heads * value_dim);
    Ok(LinearAttention {
        kind: LinearKind::GatedDelta,
        key_heads,
        value_heads,
        key_dim,
        value_dim,
        conv,
        input_columns: 2 * keys_width + 2 * values_width + 2 * value_heads,
        other_parameters: (2 * keys_width + values_width) * conv + 2 * value_heads + value_dim,
        state_format: mamba::state_format(keys, "mamba_ssm_dtype")?,
    })
}
