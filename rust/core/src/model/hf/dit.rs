//! Diffusion transformers (DiT, Peebles & Xie 2023): patches of a latent image, modulated by time step and class.

use super::block::{Draft, Sizes, decoder, layer, plain};
use super::{Family, Source};
use crate::error::Result;
use crate::model::{Attention, LayerGroup, Mixer, Task};

pub(super) const FAMILIES: &[Family] =
    &[Family { types: &["dit"], architectures: &["DiTTransformer2DModel", "DiT"], read: dit }];

/// Width of the sinusoidal time embedding.
const FREQUENCIES: u64 = 256;

/// Side of the latent of an image of 256 × 256 pixels.
const LATENT: u64 = 32;

/// DiT: six modulation vectors a layer, made once an image from its time step and class.
fn dit(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let heads = keys.size_of(&["num_heads", "num_attention_heads"])?;
    let hidden = match keys.optional_size("hidden_size")? {
        Some(hidden) => hidden,
        None => heads * keys.size("attention_head_dim")?,
    };
    let layers = keys.size_of(&["depth", "num_layers"])?;
    let sizes = Sizes { hidden, layers, vocab: 0, heads, kv_heads: heads, head_dim: 0 }.with_head_dim(
        keys,
        "attention_head_dim",
        "num_heads",
    )?;
    let ratio = keys.number_or("mlp_ratio", 4.0)?;
    if !(ratio > 0.0 && ratio < 1024.0) {
        return Err(keys.error("mlp_ratio", "must be positive", ratio, ""));
    }
    let channels = keys.size_within("in_channels", 4, 1024)?;
    let outputs = match keys.optional_size("out_channels")? {
        Some(outputs) => outputs,
        None if keys.flag("learn_sigma", true)? => 2 * channels,
        None => channels,
    };
    let classes = match keys.optional_size("num_classes")? {
        Some(classes) => classes,
        None => keys.size_or("num_embeds_ada_norm", 1000)?,
    };
    keys.ignore(&["class_dropout_prob", "norm_type", "norm_elementwise_affine"]);
    keys.ignore(&["attention_bias", "num_embeds_ada_norm", "norm_num_groups", "upcast_attention"]);
    let side = keys.size_within("patch_size", 2, 256)?;
    let size = if keys.has("input_size") { "input_size" } else { "sample_size" };
    let image = keys.size_within(size, LATENT, 16_384)?;
    if image % side != 0 {
        return Err(keys.error("patch_size", format!("must divide the latent's side {image}"), side, ""));
    }
    let (patch, patches) = (side * side, (image / side).pow(2));
    let attention =
        Attention { causal: false, rope: false, qkv_bias: true, output_bias: true, ..sizes.attention() };
    let network = plain((hidden as f64 * ratio) as u64, true);
    let columns = 6 * hidden;
    let group = layer(Some(Mixer::Attention(attention)), Some(network), 2, (hidden + 1) * columns);
    let group = LayerGroup { modulation: columns, ..group };
    let layers = sizes.all(&group)?;
    let input = (patch * channels + 1) * hidden;
    let time = (FREQUENCIES + 1) * hidden + (hidden + 1) * hidden;
    let class = (classes + 1) * hidden;
    let output = (hidden + 1) * 2 * hidden + (hidden + 1) * patch * outputs;
    // The table of positions is fixed, yet kept.
    let other = input + patches * hidden + time + class + output;
    let mut draft = decoder(keys, &sizes, false, layers)?.with_other(other);
    draft.model.max_context = Some(patches);
    draft.model.task = Task::Diffusion;
    draft.model.head = false;
    Ok(draft)
}
