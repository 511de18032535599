//! Mamba layers, and the models that consist of nothing else: Mamba, Mamba-2, Falcon-Mamba.

use serde_json::Value;

use super::block::{Draft, Sizes, decoder, layer};
use super::keys::Keys;
use super::quant::Modules;
use super::{Family, Source};
use crate::error::Result;
use crate::format::Format;
use crate::model::{Mamba, Mixer};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["mamba"], architectures: &["MambaForCausalLM"], read: mamba1 },
    Family { types: &["falcon_mamba"], architectures: &["FalconMambaForCausalLM"], read: falcon_mamba },
    Family { types: &["mamba2"], architectures: &["Mamba2ForCausalLM"], read: mamba2 },
];

/// The format states are kept in: as `key` says, or like activations.
pub(super) fn state_format(keys: &Keys<'_>, key: &str) -> Result<Format> {
    keys.text(key)?.map_or(Ok(Format::Bf16), Format::parse)
}

/// A Mamba-2 layer of `heads` heads of `width`, under the names given for the rest.
pub(super) fn second(keys: &Keys<'_>, heads: u64, width: u64, names: &Names) -> Result<Mamba> {
    let inner = heads * width;
    let groups = keys.size_or(names.groups, 1)?;
    if !heads.is_multiple_of(groups) {
        return Err(keys.error(names.groups, format!("must divide the {heads} Mamba heads"), groups, ""));
    }
    Ok(Mamba {
        version: 2,
        inner,
        state: keys.size(names.state)?,
        heads,
        groups,
        conv: keys.size(names.conv)?,
        dt_rank: 0,
        proj_bias: keys.flag(names.proj_bias, false)?,
        conv_bias: keys.flag(names.conv_bias, true)?,
        norm_parameters: inner,
        state_format: state_format(keys, "mamba_ssm_cache_dtype")?,
    })
}

/// What a family calls the sizes of its Mamba layers.
pub(super) struct Names {
    state: &'static str,
    conv: &'static str,
    groups: &'static str,
    conv_bias: &'static str,
    proj_bias: &'static str,
}

pub(super) const LONG: Names = Names {
    state: "ssm_state_size",
    conv: "conv_kernel",
    groups: "n_groups",
    conv_bias: "use_conv_bias",
    proj_bias: "use_bias",
};
pub(super) const SHORT: Names = Names {
    state: "mamba_d_state",
    conv: "mamba_d_conv",
    groups: "mamba_n_groups",
    conv_bias: "mamba_conv_bias",
    proj_bias: "mamba_proj_bias",
};

/// A Mamba-1 layer; `norms` counts the weights of inner norms on time step, B and C.
pub(super) fn original(
    keys: &Keys<'_>,
    inner: u64,
    dt_rank: u64,
    names: &Names,
    norms: bool,
) -> Result<Mamba> {
    let state = keys.size(names.state)?;
    Ok(Mamba {
        version: 1,
        inner,
        state,
        heads: 1,
        groups: 1,
        conv: keys.size(names.conv)?,
        dt_rank,
        proj_bias: keys.flag(names.proj_bias, false)?,
        conv_bias: keys.flag(names.conv_bias, true)?,
        norm_parameters: if norms { dt_rank + 2 * state } else { 0 },
        state_format: state_format(keys, "mamba_ssm_cache_dtype")?,
    })
}

/// The rank of the time step; `auto` is a sixteenth of the width.
pub(super) fn dt_rank(keys: &Keys<'_>, key: &str, hidden: u64) -> Result<u64> {
    match keys.get(key) {
        None => Ok(hidden.div_ceil(16)),
        Some(Value::String(auto)) if auto == "auto" => Ok(hidden.div_ceil(16)),
        Some(_) => keys.size(key),
    }
}

/// Sizes of a model without attention.
fn attentionless(keys: &Keys<'_>) -> Result<Sizes> {
    let hidden = keys.size_of(&["hidden_size", "d_model"])?;
    let layers = keys.size_of(&["num_hidden_layers", "n_layer"])?;
    Ok(Sizes { hidden, layers, vocab: keys.size("vocab_size")?, heads: 1, kv_heads: 1, head_dim: hidden })
}

const PLAIN: Names = Names {
    state: "state_size",
    conv: "conv_kernel",
    groups: "n_groups",
    conv_bias: "use_conv_bias",
    proj_bias: "use_bias",
};

fn mamba1(source: &Source<'_>) -> Result<Draft> {
    all_mamba1(source, true)
}

/// Falcon-Mamba: norms on time step, B and C, without weights.
fn falcon_mamba(source: &Source<'_>) -> Result<Draft> {
    source.text().ignore(&["mixer_rms_eps", "use_mambapy", "use_falcon_mambapy"]);
    all_mamba1(source, false)
}

fn all_mamba1(source: &Source<'_>, tied: bool) -> Result<Draft> {
    let keys = source.text();
    let sizes = attentionless(keys)?;
    let expanded = sizes.hidden * keys.size_or("expand", 2)?;
    let inner =
        keys.optional_size("intermediate_size")?.or(keys.optional_size("d_inner")?).unwrap_or(expanded);
    let rank = dt_rank(keys, "time_step_rank", sizes.hidden)?;
    let mamba = Mixer::Mamba(original(keys, inner, rank, &PLAIN, false)?);
    keys.ignore(&["fused_add_norm", "rms_norm", "pad_vocab_size_multiple", "ssm_cfg", "use_mambapy"]);
    let layers = sizes.each(|_| Ok(layer(Some(mamba.clone()), None, 1, sizes.hidden)))?;
    Ok(decoder(keys, &sizes, tied, layers)?.with_modules(Modules::MIXER))
}

fn mamba2(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = attentionless(keys)?;
    let (heads, width) = (keys.size("num_heads")?, keys.size("head_dim")?);
    let inner = sizes.hidden * keys.size_or("expand", 2)?;
    if heads * width != inner {
        let must = format!("must make the inner width {inner} with heads of {width}");
        return Err(keys.error("num_heads", must, heads, ""));
    }
    let mamba = Mixer::Mamba(second(keys, heads, width, &PLAIN)?);
    keys.ignore(&["chunk_size", "rms_norm", "norm_before_gate", "time_step_rank"]);
    let layers = sizes.each(|_| Ok(layer(Some(mamba.clone()), None, 1, sizes.hidden)))?;
    Ok(decoder(keys, &sizes, false, layers)?.with_modules(Modules::MIXER))
}
