//! Encoders: every token sees every other (or a window around itself), no cache, no language-model head.

use serde_json::Value;

use super::block::{Draft, Sizes, decoder, layer, plain};
use super::keys::Keys;
use super::{Family, Source};
use crate::error::Result;
use crate::model::{Attention, Dense, Ffn, LayerGroup, Mixer, Span, Task};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["bert"], architectures: &["BertModel", "BertForMaskedLM"], read: bert },
    Family {
        types: &["roberta", "xlm-roberta", "camembert"],
        architectures: &["RobertaModel", "RobertaForMaskedLM", "XLMRobertaModel", "XLMRobertaForMaskedLM"],
        read: bert,
    },
    Family {
        types: &["distilbert"],
        architectures: &["DistilBertModel", "DistilBertForMaskedLM"],
        read: distilbert,
    },
    Family {
        types: &["modernbert"],
        architectures: &["ModernBertModel", "ModernBertForMaskedLM"],
        read: modernbert,
    },
    Family {
        types: &["deberta-v2"],
        architectures: &["DebertaV2Model", "DebertaV2ForMaskedLM"],
        read: deberta,
    },
];

/// An encoder of these layers with `other` parameters around them.
fn encoder(keys: &Keys<'_>, sizes: &Sizes, layers: Vec<LayerGroup>, other: u64) -> Result<Draft> {
    let mut draft = decoder(keys, sizes, true, layers)?.with_other(other);
    draft.model.task = Task::Encoder;
    draft.model.head = false;
    // Which head sits on top (or none) changes nothing below it.
    keys.ignore(&["num_labels"]);
    Ok(draft)
}

/// BERT's layer: biases everywhere, a norm with bias behind each part.
fn layers(sizes: &Sizes, intermediate: u64) -> Result<Vec<LayerGroup>> {
    let attention =
        Attention { causal: false, rope: false, qkv_bias: true, output_bias: true, ..sizes.attention() };
    let mixer = Mixer::Attention(attention);
    let group = layer(Some(mixer), Some(plain(intermediate, true)), 2, 4 * sizes.hidden);
    sizes.all(&group)
}

/// BERT and RoBERTa: words, positions and sentence types added up; a pooler over the first token.
fn bert(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.only("position_embedding_type", &[Value::from("absolute")])?;
    keys.only("is_decoder", &[Value::Bool(false)])?;
    keys.ignore(&pooler_keys(keys));
    keys.ignore(&["directionality"]);
    let positions = keys.size("max_position_embeddings")? + keys.count_or("type_vocab_size", 2)?;
    let pooler = (sizes.hidden + 1) * sizes.hidden;
    let other = positions * sizes.hidden + 2 * sizes.hidden + pooler;
    encoder(keys, &sizes, layers(&sizes, keys.size("intermediate_size")?)?, other)
}

/// Settings of the pooler, which is a matrix as wide as the model whatever they say.
fn pooler_keys<'a>(keys: &Keys<'a>) -> Vec<&'a str> {
    keys.names().filter(|key| key.starts_with("pooler_")).collect()
}

/// DistilBERT: neither sentence types nor a pooler.
fn distilbert(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let heads = keys.size("n_heads")?;
    let sizes = Sizes {
        hidden: keys.size("dim")?,
        layers: keys.size("n_layers")?,
        vocab: keys.size("vocab_size")?,
        heads,
        kv_heads: heads,
        head_dim: 0,
    }
    .with_head_dim(keys, "head_dim", "n_heads")?;
    keys.ignore(&["sinusoidal_pos_embds", "tie_weights_"]);
    let other = keys.size("max_position_embeddings")? * sizes.hidden + 2 * sizes.hidden;
    encoder(keys, &sizes, layers(&sizes, keys.size("hidden_dim")?)?, other)
}

/// ModernBERT: gated networks, rotary positions, windows in two of three layers, no biases.
fn modernbert(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    for key in ["attention_bias", "mlp_bias", "norm_bias", "decoder_bias"] {
        keys.only(key, if key == "decoder_bias" { &[Value::Bool(true)] } else { &[Value::Bool(false)] })?;
    }
    let every = keys.size_or("global_attn_every_n_layers", 3)?;
    let window = keys.size_or("local_attention", 128)?;
    keys.ignore(&["classifier_bias", "classifier_pooling", "deterministic_flash_attn", "embedding_dropout"]);
    keys.ignore(&[
        "reference_compile",
        "repad_logits_with_grad",
        "sparse_pred_ignore_index",
        "sparse_prediction",
    ]);
    keys.ignore(&["position_embedding_type", "layer_norm_eps"]);
    let network = Dense { intermediate: keys.size("intermediate_size")?, gated: true, bias: false };
    let layers = sizes.each(|index| {
        let span = if index % every == 0 { Span::Full } else { Span::Window(window) };
        let attention = Attention { span, causal: false, ..sizes.attention() };
        // The embedding's norm stands in for the first layer's first.
        let norms = if index == 0 { 1 } else { 2 };
        Ok(layer(
            Some(Mixer::Attention(attention)),
            Some(Ffn::Dense(network.clone())),
            norms,
            norms * sizes.hidden,
        ))
    })?;
    encoder(keys, &sizes, layers, 2 * sizes.hidden)
}

/// DeBERTa-v2 and v3: a table of relative positions, shared by all layers.
fn deberta(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    keys.only("share_att_key", &[Value::Bool(true)])?;
    keys.only("conv_kernel_size", &[])?;
    keys.only("embedding_size", &[Value::from(sizes.hidden)])?;
    keys.ignore(&pooler_keys(keys));
    keys.ignore(&["pos_att_type", "legacy", "max_relative_positions"]);
    let positions = keys.size("max_position_embeddings")?;
    let types = keys.count_or("type_vocab_size", 0)?;
    let absolute = if keys.flag("position_biased_input", true)? { positions } else { 0 };
    let relative = if keys.flag("relative_attention", false)? {
        let buckets = keys.optional_size("position_buckets")?.unwrap_or(positions);
        let norm = if keys.text("norm_rel_ebd")? == Some("layer_norm") { 2 } else { 0 };
        2 * buckets + norm
    } else {
        0
    };
    let other = (absolute + types + relative + 2) * sizes.hidden;
    let mut draft = encoder(keys, &sizes, layers(&sizes, keys.size("intermediate_size")?)?, other)?;
    draft.model.notes.push("scores by relative position (disentangled attention) are not priced".into());
    Ok(draft)
}
