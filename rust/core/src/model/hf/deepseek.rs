//! DeepSeek and those built like it (Kimi, GLM-5): latent attention, sparse attention, experts after dense layers.

use super::block::{Draft, Sizes, decoder, experts, gated, layer};
use super::keys::Keys;
use super::{Family, Source, vision};
use crate::error::Result;
use crate::model::{Attention, Ffn, Indexer, Mixer, Mla, Moe, Span};

pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["deepseek_v2"], architectures: &["DeepseekV2ForCausalLM"], read: latent },
    Family { types: &["deepseek_v3", "kimi_k2"], architectures: &["DeepseekV3ForCausalLM"], read: latent },
    Family { types: &["kimi_k25"], architectures: &["KimiK25ForConditionalGeneration"], read: kimi_vision },
    Family { types: &["deepseek_v32"], architectures: &["DeepseekV32ForCausalLM"], read: latent },
    Family { types: &["glm_moe_dsa"], architectures: &["GlmMoeDsaForCausalLM"], read: latent },
    Family { types: &["glm4_moe_lite"], architectures: &["Glm4MoeLiteForCausalLM"], read: latent },
    Family { types: &["deepseek"], architectures: &["DeepseekForCausalLM"], read: first },
];

/// DeepSeek V2 and later: latent attention.
pub(super) fn latent(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = sizes(keys)?;
    let mla = mla(keys, &sizes)?;
    let sparse = Sparse::read(keys, &sizes)?;
    let sparse = if source.family == "glm4_moe_lite" { sparse.corrected() } else { sparse };
    let owners = indexer_owners(keys, sizes.layers)?;
    if let Some(other) = keys.texts_per_layer("layer_types", sizes.layers)?.and_then(|types| {
        types.into_iter().find(|kind| !matches!(*kind, "deepseek_sparse_attention" | "full_attention"))
    }) {
        let must = "must hold full_attention or deepseek_sparse_attention here";
        return Err(keys.error("layer_types", must, other, ""));
    }
    let layers = sizes.each(|index| {
        let mut mla = mla.clone();
        if let Some(indexer) = &mut mla.indexer {
            indexer.own = owners.as_ref().is_none_or(|owners| owners[index as usize]);
        }
        Ok(layer(Some(Mixer::Mla(mla)), Some(sparse.of(index)), 2, 2 * sizes.hidden))
    })?;
    decoder(keys, &sizes, false, layers)
}

/// Kimi-K2.5: Kimi-K2 with a vision tower.
fn kimi_vision(source: &Source<'_>) -> Result<Draft> {
    let mut draft = latent(source)?;
    let hidden = draft.model.hidden;
    draft.model.vision = source.vision.as_ref().map(|keys| vision::moonvit(keys, hidden)).transpose()?;
    source.root.ignore(&["use_unified_vision_chunk"]);
    Ok(draft)
}

/// DeepSeek V1: plain attention.
fn first(source: &Source<'_>) -> Result<Draft> {
    let keys = source.text();
    let sizes = Sizes::read(keys)?;
    let bias = keys.flag("attention_bias", false)?;
    let sparse = Sparse::read(keys, &sizes)?;
    let attention = Attention { qkv_bias: bias, output_bias: bias, ..sizes.attention() };
    let layers = sizes.each(|index| Ok(sizes.layer(attention.clone(), sparse.of(index))))?;
    decoder(keys, &sizes, false, layers)
}

/// Sizes of a model whose head widths stand under names of their own (`head_dim` says nothing then).
pub(super) fn sizes(keys: &Keys<'_>) -> Result<Sizes> {
    keys.ignore(&["head_dim", "num_key_value_heads", "qk_head_dim"]);
    let heads = keys.size("num_attention_heads")?;
    Ok(Sizes {
        hidden: keys.size("hidden_size")?,
        layers: keys.size("num_hidden_layers")?,
        vocab: keys.size("vocab_size")?,
        heads,
        kv_heads: heads,
        head_dim: keys.size("v_head_dim")?,
    })
}

pub(super) fn mla(keys: &Keys<'_>, sizes: &Sizes) -> Result<Mla> {
    let indexer = match keys.optional_size("index_topk")? {
        None => None,
        Some(top_k) => Some(Indexer {
            heads: keys.size("index_n_heads")?,
            head_dim: keys.size("index_head_dim")?,
            top_k,
            own: true,
        }),
    };
    Ok(Mla {
        heads: sizes.heads,
        q_lora: keys.optional_size("q_lora_rank")?,
        kv_lora: keys.size("kv_lora_rank")?,
        nope_dim: keys.size("qk_nope_head_dim")?,
        rope_dim: keys.size("qk_rope_head_dim")?,
        value_dim: sizes.head_dim,
        span: Span::Full,
        bias: keys.flag("attention_bias", false)?,
        indexer,
    })
}

/// Which layers choose for themselves (`full`), and which reuse the choice before them (`shared`).
fn indexer_owners(keys: &Keys<'_>, layers: u64) -> Result<Option<Vec<bool>>> {
    let types = keys.texts_per_layer("indexer_types", layers)?;
    let frequency = keys.size_or("index_topk_freq", 1)?;
    let offset = keys.count_or("index_skip_topk_offset", 0)?;
    keys.ignore(&["index_share_for_mtp_iteration"]);
    let Some(types) = types else {
        let by_frequency = |layer: u64| layer < offset || (layer + 1).saturating_sub(offset) % frequency == 0;
        return Ok((frequency > 1).then(|| (0..layers).map(by_frequency).collect()));
    };
    let owns = |kind: &str| match kind {
        "full" => Ok(true),
        "shared" => Ok(false),
        other => Err(keys.error("indexer_types", "must hold full or shared", other, "")),
    };
    types.into_iter().map(owns).collect::<Result<_>>().map(Some)
}

/// Which layers have experts, and what both kinds of layer have.
pub(super) struct Sparse {
    moe: Option<Moe>,
    dense: u64,
    is_sparse: Vec<bool>,
}

impl Sparse {
    /// The FFN of layer `index`.
    pub(super) fn of(&self, index: u64) -> Ffn {
        match &self.moe {
            Some(moe) if self.is_sparse[index as usize] => Ffn::Moe(moe.clone()),
            _ => gated(self.dense),
        }
    }

    /// The same with a correction an expert (families that have it without saying so).
    pub(super) fn corrected(mut self) -> Sparse {
        if let Some(moe) = &mut self.moe {
            moe.router_other_parameters = moe.experts;
        }
        self
    }

    /// Experts after the first `first_k_dense_replace` layers, in every `moe_layer_freq`-th one.
    pub(super) fn read(keys: &Keys<'_>, sizes: &Sizes) -> Result<Sparse> {
        let dense = keys.size("intermediate_size")?;
        keys.flag("mlp_bias", false)?;
        if keys.optional_count("n_routed_experts")?.is_none() {
            return Ok(Sparse { moe: None, dense, is_sparse: Vec::new() });
        }
        let width = keys.size("moe_intermediate_size")?;
        let count = &["n_routed_experts", "num_experts", "num_local_experts"];
        let moe = experts(keys, count, &["num_experts_per_tok"], width)?;
        // Selection by a learned correction (`noaux_tc`, the only method of V3 and later) stores one number an expert.
        let corrected = match keys.text("topk_method")? {
            Some(method) => method == "noaux_tc",
            None => keys.text("scoring_func")? == Some("sigmoid"),
        };
        let moe = Moe {
            router_other_parameters: if corrected { moe.experts } else { 0 },
            shared_intermediate: keys.count_or("n_shared_experts", 0)? * width,
            ..moe
        };
        Ok(Sparse { moe: Some(moe), dense, is_sparse: sparse_layers(keys, sizes.layers)? })
    }
}

fn sparse_layers(keys: &Keys<'_>, layers: u64) -> Result<Vec<bool>> {
    let first = keys.count_or("first_k_dense_replace", 0)?;
    let listed = keys.get("moe_layer_freq").is_some_and(serde_json::Value::is_array);
    let by_list = if listed { keys.counts_per_layer("moe_layer_freq", layers)? } else { None };
    let every = if listed { 1 } else { keys.size_or("moe_layer_freq", 1)? };
    let by_type = keys.texts_per_layer("mlp_layer_types", layers)?;
    if let Some(other) = by_type.iter().flatten().find(|kind| !matches!(**kind, "dense" | "sparse")) {
        return Err(keys.error("mlp_layer_types", "must hold dense or sparse", other, ""));
    }
    let is_sparse = |layer: u64| match (&by_type, &by_list) {
        (Some(types), _) => types[layer as usize] == "sparse",
        (None, Some(list)) => list[layer as usize] != 0,
        (None, None) => layer >= first && layer.is_multiple_of(every),
    };
    Ok((0..layers).map(is_sparse).collect())
}
