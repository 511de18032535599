//! Vision towers: what runs once an image, and the projector that makes tokens of its patches.

use serde_json::Value;

use super::block::{MOST_LAYERS, layer};
use super::keys::Keys;
use crate::error::{Error, Result};
use crate::model::{Attention, Dense, Ffn, LayerGroup, Mixer, Span, Tower};

/// A plain vision transformer.
#[derive(Debug, Clone, Copy)]
struct Vit {
    hidden: u64,
    layers: u64,
    heads: u64,
    intermediate: u64,
    gated: bool,
    bias: bool,
    /// Parameters of one norm.
    norm: u64,
}

impl Vit {
    fn read(keys: &Keys<'_>, layers: &str, heads: &str, intermediate: u64) -> Result<Vit> {
        let hidden = keys.size("hidden_size")?;
        let vit = Vit {
            hidden,
            layers: keys.size(layers)?,
            heads: keys.size(heads)?,
            intermediate,
            gated: false,
            bias: true,
            norm: 2 * hidden,
        };
        vit.check(keys, heads)
    }

    fn check(self, keys: &Keys<'_>, heads: &str) -> Result<Vit> {
        if !self.hidden.is_multiple_of(self.heads) {
            let must = format!("must divide the tower's width {}", self.hidden);
            return Err(keys.error(heads, must, self.heads, ""));
        }
        if self.layers > MOST_LAYERS {
            let must = format!("must have at most {MOST_LAYERS} layers");
            return Err(Error::spec("config.json: vision_config", must, self.layers, ""));
        }
        Ok(self)
    }

    fn layer(&self, span: Span) -> LayerGroup {
        let head_dim = self.hidden / self.heads;
        let attention = Attention {
            heads: self.heads,
            kv_heads: self.heads,
            head_dim,
            value_dim: head_dim,
            span,
            causal: false,
            qkv_bias: self.bias,
            output_bias: self.bias,
            qk_norm_parameters: 0,
            output_gate: false,
            other_parameters: 0,
            value_is_key: false,
            shares_kv: false,
            rope: true,
        };
        let network = Dense { intermediate: self.intermediate, gated: self.gated, bias: self.bias };
        layer(Some(Mixer::Attention(attention)), Some(Ffn::Dense(network)), 2, 2 * self.norm)
    }

    fn all_full(&self) -> Vec<LayerGroup> {
        (0..self.layers).map(|_| self.layer(Span::Full)).collect()
    }
}

/// A matrix with its bias.
fn affine(from: u64, to: u64) -> u64 {
    (from + 1) * to
}

/// Qwen 3-VL and 3.5: a merger of 2×2 patches, and one more for each layer whose features reach the decoder early.
pub(super) fn qwen3(keys: &Keys<'_>) -> Result<Tower> {
    let vit = Vit::read(keys, "depth", "num_heads", keys.size("intermediate_size")?)?;
    let merged = keys.size_within("spatial_merge_size", 2, 16)?.pow(2);
    let patch = affine(patch_inputs(keys)?, vit.hidden);
    let positions = keys.count_or("num_position_embeddings", 0)? * vit.hidden;
    let wide = merged * vit.hidden;
    let projection = affine(wide, wide) + affine(wide, keys.size("out_hidden_size")?);
    let early = keys.list("deepstack_visual_indexes")?.map_or(0, <[Value]>::len) as u64;
    let projector = (1 + early) * projection;
    Ok(Tower {
        hidden: vit.hidden,
        layers: vit.all_full(),
        other_parameters: patch + positions + projector + vit.norm + early * 2 * wide,
        projector_parameters: projector,
        patches_per_token: merged,
        patch_parameters: patch,
    })
}

/// Pixels along one side of a patch.
fn patch_side(keys: &Keys<'_>) -> Result<u64> {
    keys.size("patch_size")?;
    keys.size_within("patch_size", 16, 256)
}

/// Numbers in one patch: channels × frames × height × width.
fn patch_inputs(keys: &Keys<'_>) -> Result<u64> {
    let channels = keys.size_within(if keys.has("in_chans") { "in_chans" } else { "in_channels" }, 3, 64)?;
    Ok(channels * keys.size_within("temporal_patch_size", 2, 64)? * patch_side(keys)?.pow(2))
}

/// Qwen 2-VL: two-matrix networks of `mlp_ratio`, full attention.
pub(super) fn qwen2(keys: &Keys<'_>, text_hidden: u64) -> Result<Tower> {
    let hidden = keys.size("embed_dim")?;
    let intermediate = hidden * keys.size_within("mlp_ratio", 4, 64)?;
    let vit = Vit {
        hidden,
        layers: keys.size("depth")?,
        heads: keys.size("num_heads")?,
        intermediate,
        gated: false,
        bias: true,
        norm: 2 * hidden,
    }
    .check(keys, "num_heads")?;
    keys.ignore(&["hidden_size", "spatial_patch_size"]);
    qwen2_tower(keys, vit, vit.all_full(), text_hidden)
}

/// Qwen 2.5-VL: three-matrix networks, attention inside windows but for `fullatt_block_indexes`.
pub(super) fn qwen25(keys: &Keys<'_>, text_hidden: u64) -> Result<Tower> {
    let read = Vit::read(keys, "depth", "num_heads", keys.size("intermediate_size")?)?;
    let vit = Vit { gated: true, norm: read.hidden, ..read };
    keys.ignore(&["spatial_patch_size", "tokens_per_second", "out_hidden_size"]);
    let full = keys.counts("fullatt_block_indexes")?.unwrap_or_else(|| vec![7, 15, 23, 31]);
    let side = keys.size_or("window_size", 112)? / patch_side(keys)?;
    let window = Span::Chunk((side * side).max(1));
    let layers =
        (0..vit.layers).map(|index| vit.layer(if full.contains(&index) { Span::Full } else { window }));
    qwen2_tower(keys, vit, layers.collect(), text_hidden)
}

fn qwen2_tower(keys: &Keys<'_>, vit: Vit, layers: Vec<LayerGroup>, text_hidden: u64) -> Result<Tower> {
    let merged = keys.size_within("spatial_merge_size", 2, 16)?.pow(2);
    let patch = patch_inputs(keys)? * vit.hidden;
    let wide = merged * vit.hidden;
    let projector = affine(wide, wide) + affine(wide, text_hidden);
    Ok(Tower {
        hidden: vit.hidden,
        layers,
        other_parameters: patch + projector + vit.norm,
        projector_parameters: projector,
        patches_per_token: merged,
        patch_parameters: patch,
    })
}

/// SigLIP as Gemma 3 uses it: learned positions, patches averaged down to `mm_tokens_per_image`.
pub(super) fn siglip(keys: &Keys<'_>, text_hidden: u64, tokens: u64) -> Result<Tower> {
    let vit = Vit::read(keys, "num_hidden_layers", "num_attention_heads", keys.size("intermediate_size")?)?;
    keys.only("vision_use_head", &[Value::Bool(false)])?;
    let side = keys.size_within("image_size", 224, 16_384)? / patch_side(keys)?;
    let patches = side * side;
    let patch = affine(keys.size_within("num_channels", 3, 64)? * patch_side(keys)?.pow(2), vit.hidden);
    let projector = vit.hidden * text_hidden;
    Ok(Tower {
        hidden: vit.hidden,
        layers: vit.all_full(),
        other_parameters: patch + patches * vit.hidden + vit.norm + projector + vit.hidden,
        projector_parameters: projector,
        patches_per_token: (patches / tokens).max(1),
        patch_parameters: patch,
    })
}

/// Gemma 4: norms before and after both parts, on queries and keys too, three-matrix networks without biases.
pub(super) fn gemma4(keys: &Keys<'_>, text_hidden: u64) -> Result<Tower> {
    let intermediate = keys.size("intermediate_size")?;
    let read = Vit::read(keys, "num_hidden_layers", "num_attention_heads", intermediate)?;
    let vit = Vit { gated: true, bias: keys.flag("attention_bias", false)?, norm: 2 * read.hidden, ..read };
    let head_dim = keys.size_or("head_dim", vit.hidden / vit.heads)?;
    keys.only("num_key_value_heads", &[Value::from(vit.heads)])?;
    keys.ignore(&["global_head_dim", "default_output_length", "max_position_embeddings"]);
    keys.only("use_clipped_linears", &[Value::Bool(false)])?;
    let patch = 3 * patch_side(keys)?.pow(2) * vit.hidden;
    let positions = 2 * keys.count_or("position_embedding_size", 10240)? * vit.hidden;
    let standardization = if keys.flag("standardize", false)? { 2 * vit.hidden } else { 0 };
    let projector = vit.hidden * text_hidden;
    let mut layers = vit.all_full();
    for group in &mut layers {
        group.norms = 4;
        if let Some(Mixer::Attention(attention)) = &mut group.mixer {
            attention.head_dim = head_dim;
            attention.value_dim = head_dim;
            attention.qk_norm_parameters = 2 * head_dim;
        }
    }
    Ok(Tower {
        hidden: vit.hidden,
        layers,
        other_parameters: patch + positions + standardization + projector,
        projector_parameters: projector,
        patches_per_token: keys.size_within("pooling_kernel_size", 3, 64)?.pow(2),
        patch_parameters: patch,
    })
}

/// MoonViT as Kimi-K2.5 uses it: learned positions of a grid, a merger of 2×2 patches.
pub(super) fn moonvit(keys: &Keys<'_>, text_hidden: u64) -> Result<Tower> {
    let hidden = keys.size("vt_hidden_size")?;
    let vit = Vit {
        hidden,
        layers: keys.size("vt_num_hidden_layers")?,
        heads: keys.size("vt_num_attention_heads")?,
        intermediate: keys.size("vt_intermediate_size")?,
        gated: false,
        bias: true,
        norm: 2 * hidden,
    }
    .check(keys, "vt_num_attention_heads")?;
    keys.only("mm_projector_type", &[Value::from("patchmerger")])?;
    keys.only("mm_hidden_size", &[Value::from(hidden)])?;
    keys.ignore(&["init_pos_emb_time", "merge_type", "pos_emb_type", "video_attn_type", "text_hidden_size"]);
    let merged = match keys.counts("merge_kernel_size")?.as_deref() {
        None => 4,
        Some([rows, columns]) if (1..=16).contains(rows) && (1..=16).contains(columns) => rows * columns,
        Some(other) => {
            let must = "must be two numbers from 1 to 16";
            return Err(keys.error("merge_kernel_size", must, format!("{other:?}"), ""));
        }
    };
    let patch = affine(3 * patch_side(keys)?.pow(2), hidden);
    let positions = keys.size("init_pos_emb_height")? * keys.size("init_pos_emb_width")? * hidden;
    let wide = merged * hidden;
    let projector = affine(wide, wide) + affine(wide, text_hidden);
    Ok(Tower {
        hidden,
        layers: vit.all_full(),
        other_parameters: patch + positions + vit.norm + projector + vit.norm,
        projector_parameters: projector,
        patches_per_token: merged,
        patch_parameters: patch,
    })
}

/// Llama 4: a class token, learned positions, pixels shuffled into an adapter of two matrices.
pub(super) fn llama4(keys: &Keys<'_>, text_hidden: u64) -> Result<Tower> {
    let intermediate = keys.size("intermediate_size")?;
    let vit = Vit::read(keys, "num_hidden_layers", "num_attention_heads", intermediate)?;
    keys.ignore(&["vision_feature_layer", "vision_feature_select_strategy", "multi_modal_projector_bias"]);
    let pixels = keys.size_within("num_channels", 3, 64)? * patch_side(keys)?.pow(2);
    let side = keys.size_within("image_size", 336, 16_384)? / patch_side(keys)?;
    let shrink = keys.number_or("pixel_shuffle_ratio", 0.5)?;
    if !(0.05..=1.0).contains(&shrink) {
        return Err(keys.error("pixel_shuffle_ratio", "must be from 0.05 to 1", shrink, ""));
    }
    let merged = (1.0 / (shrink * shrink)).round() as u64;
    let (middle, output) = (keys.size("projector_input_dim")?, keys.size("projector_output_dim")?);
    let width = keys.size_or("vision_output_dim", output)?;
    let projector = intermediate * middle + middle * output + width * text_hidden;
    let patch = pixels * vit.hidden;
    Ok(Tower {
        hidden: vit.hidden,
        layers: vit.all_full(),
        other_parameters: patch + vit.hidden + (side * side + 1) * vit.hidden + 2 * vit.norm + projector,
        projector_parameters: projector,
        patches_per_token: merged,
        patch_parameters: patch,
    })
}

/// Pixtral as Mistral Small 3.1 uses it: three-matrix networks, a merger of 2×2 patches, a projector of two matrices.
pub(super) fn pixtral(keys: &Keys<'_>, root: &Keys<'_>, text_hidden: u64) -> Result<Tower> {
    let intermediate = keys.size("intermediate_size")?;
    let read = Vit::read(keys, "num_hidden_layers", "num_attention_heads", intermediate)?;
    let vit = Vit { gated: true, bias: false, norm: read.hidden, ..read };
    keys.only("head_dim", &[Value::from(vit.hidden / vit.heads)])?;
    keys.ignore(&["image_size"]);
    root.ignore(&["vision_feature_layer"]);
    root.only("multimodal_projector_bias", &[Value::Bool(false)])?;
    let merged = root.size_within("spatial_merge_size", 2, 16)?.pow(2);
    let patch = keys.size_within("num_channels", 3, 64)? * patch_side(keys)?.pow(2) * vit.hidden;
    let projector = merged * vit.hidden * vit.hidden + vit.hidden * text_hidden + text_hidden * text_hidden;
    Ok(Tower {
        hidden: vit.hidden,
        layers: vit.all_full(),
        other_parameters: patch + 2 * vit.norm + projector,
        projector_parameters: projector,
        patches_per_token: merged,
        patch_parameters: patch,
    })
}
