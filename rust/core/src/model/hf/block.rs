//! The pieces most families are built of: sizes under their usual names, plain attention, a layer, a decoder.

use super::keys::Keys;
use super::quant::Modules;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::model::{Attention, Dense, Ffn, LayerGroup, Linear, Mixer, Model, Moe, Quant, Span, Task};

/// A model as its family reads it: one group a layer, nothing quantized yet.
#[derive(Debug)]
pub struct Draft {
    /// The model.
    pub model: Model,
    /// What its checkpoint calls the parts of a layer.
    pub modules: Modules,
}

impl Draft {
    /// The same with the final norm (and whatever else stands outside the layers) of `parameters`.
    #[must_use]
    pub fn with_other(mut self, parameters: u64) -> Draft {
        self.model.other_parameters = parameters;
        self
    }

    /// The same with other names for the parts of a layer.
    #[must_use]
    pub fn with_modules(mut self, modules: Modules) -> Draft {
        self.modules = modules;
        self
    }
}

/// More layers than any model has.
pub const MOST_LAYERS: u64 = 4096;

/// The sizes every decoder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Width of the residual stream.
    pub hidden: u64,
    /// Layers.
    pub layers: u64,
    /// Vocabulary.
    pub vocab: u64,
    /// Query heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
}

impl Sizes {
    /// The sizes under the names Llama gave them.
    ///
    /// # Errors
    /// One is absent or not positive, or the heads do not share out.
    pub fn read(keys: &Keys<'_>) -> Result<Sizes> {
        Sizes::with_head_key(keys, "head_dim")
    }

    /// The same where the width of a head has another name.
    ///
    /// # Errors
    /// Those of [`Sizes::read`].
    pub fn with_head_key(keys: &Keys<'_>, key: &str) -> Result<Sizes> {
        let heads = keys.size("num_attention_heads")?;
        Sizes {
            hidden: keys.size("hidden_size")?,
            layers: keys.size("num_hidden_layers")?,
            vocab: keys.size("vocab_size")?,
            heads,
            kv_heads: keys.size_or("num_key_value_heads", heads)?,
            head_dim: 0,
        }
        .with_head_dim(keys, key, "num_attention_heads")
    }

    /// The same with the head width under `key`, or hidden ÷ heads where that is absent; checks that heads share out.
    ///
    /// # Errors
    /// The width is neither given nor whole, or the query heads do not share the key/value heads evenly.
    pub fn with_head_dim(mut self, keys: &Keys<'_>, key: &str, heads_key: &str) -> Result<Sizes> {
        self.head_dim = match keys.optional_size(key)? {
            Some(given) => given,
            None if self.hidden.is_multiple_of(self.heads) => self.hidden / self.heads,
            None => {
                let must = format!("must divide the hidden width {} where no `{key}` is given", self.hidden);
                return Err(keys.error(heads_key, must, self.heads, "give the head width"));
            }
        };
        self.checked_as(keys, heads_key)
    }

    /// The same, if every key/value head serves equally many query heads.
    ///
    /// # Errors
    /// It does not.
    pub fn checked(self, keys: &Keys<'_>) -> Result<Sizes> {
        self.checked_as(keys, "num_attention_heads")
    }

    fn checked_as(self, keys: &Keys<'_>, heads_key: &str) -> Result<Sizes> {
        if self.heads.is_multiple_of(self.kv_heads) {
            return Ok(self);
        }
        let must = format!("must be divisible by the {} key/value heads", self.kv_heads);
        Err(keys.error(heads_key, must, self.heads, ""))
    }

    /// Causal attention of these heads over everything before, without biases, with rotary positions.
    pub fn attention(&self) -> Attention {
        Attention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            value_dim: self.head_dim,
            span: Span::Full,
            causal: true,
            qkv_bias: false,
            output_bias: false,
            qk_norm_parameters: 0,
            output_gate: false,
            other_parameters: 0,
            value_is_key: false,
            shares_kv: false,
            rope: true,
        }
    }

    /// A layer of two RMS norms.
    pub fn layer(&self, attention: Attention, ffn: Ffn) -> LayerGroup {
        layer(Some(Mixer::Attention(attention)), Some(ffn), 2, 2 * self.hidden)
    }

    /// Every layer, made from its index.
    ///
    /// # Errors
    /// More layers than any model has, or the first error of `make`.
    pub fn each(&self, make: impl FnMut(u64) -> Result<LayerGroup>) -> Result<Vec<LayerGroup>> {
        if self.layers > MOST_LAYERS {
            let must = format!("must be at most {MOST_LAYERS}");
            return Err(Error::spec("config.json: number of layers", must, self.layers, ""));
        }
        (0..self.layers).map(make).collect()
    }

    /// Every layer, all like this one.
    ///
    /// # Errors
    /// More layers than any model has.
    pub fn all(&self, layer: &LayerGroup) -> Result<Vec<LayerGroup>> {
        self.each(|_| Ok(layer.clone()))
    }
}

/// One layer, unquantized.
pub fn layer(mixer: Option<Mixer>, ffn: Option<Ffn>, norms: u64, norm_parameters: u64) -> LayerGroup {
    let quant = Quant::uniform(Linear::plain(Format::Bf16));
    LayerGroup { count: 1, mixer, ffn, parallel: false, norm_parameters, norms, modulation: 0, quant }
}

/// The usual three-matrix network without biases.
pub fn gated(intermediate: u64) -> Ffn {
    Ffn::Dense(Dense { intermediate, gated: true, bias: false })
}

/// The older two-matrix network.
pub fn plain(intermediate: u64, bias: bool) -> Ffn {
    Ffn::Dense(Dense { intermediate, gated: false, bias })
}

/// A decoder of these layers with a final RMS norm, whose head is the embedding where the configuration says so
/// (or, where it is silent, if `tied`: each family's own default).
///
/// # Errors
/// A key of the wrong kind.
pub fn decoder(keys: &Keys<'_>, sizes: &Sizes, tied: bool, layers: Vec<LayerGroup>) -> Result<Draft> {
    let model = Model {
        name: String::new(),
        title: String::new(),
        family: String::new(),
        task: Task::Decoder,
        hidden: sizes.hidden,
        vocab: sizes.vocab,
        embedding_width: sizes.hidden,
        tied_embeddings: keys.flag("tie_word_embeddings", tied)?,
        head: true,
        head_bias: false,
        other_parameters: sizes.hidden,
        max_context: keys.optional_tokens("max_position_embeddings")?,
        dtype: Format::Bf16,
        kv_format: None,
        quantization: None,
        layers,
        vision: None,
        mtp_layers: keys.count_or("num_nextn_predict_layers", 0)?,
        notes: Vec::new(),
    };
    Ok(Draft { model, modules: Modules::LLAMA })
}

/// What each layer sees, from `layer_types` and `sliding_window`; full attention where neither says otherwise.
///
/// # Errors
/// A layer type that is not understood, or a window that is needed and absent.
pub fn spans(keys: &Keys<'_>, layers: u64) -> Result<Option<Vec<Span>>> {
    let Some(types) = keys.texts_per_layer("layer_types", layers)? else { return Ok(None) };
    types.into_iter().map(|name| span(keys, name)).collect::<Result<_>>().map(Some)
}

fn span(keys: &Keys<'_>, name: &str) -> Result<Span> {
    match name {
        "full_attention" | "attention" | "global_attention" => Ok(Span::Full),
        "sliding_attention" | "local_attention" => needed(keys, "sliding_window").map(Span::Window),
        "chunked_attention" => needed(keys, "attention_chunk_size").map(Span::Chunk),
        other => {
            let must = "must hold full_attention, sliding_attention or chunked_attention here";
            Err(keys.error("layer_types", must, other, ""))
        }
    }
}

fn needed(keys: &Keys<'_>, key: &str) -> Result<u64> {
    keys.optional_tokens(key)?.ok_or_else(|| keys.missing(key))
}

/// The window of every layer that has one by a repeating pattern: of each `period` layers the last sees everything.
pub fn every_nth_full(layer: u64, period: u64, window: u64) -> Span {
    if (layer + 1).is_multiple_of(period) { Span::Full } else { Span::Window(window) }
}

/// Experts without anything beside them, their number and the number a token visits under the first name that is there.
///
/// # Errors
/// A number is absent or not positive, or a token visits more experts than there are.
pub fn experts(keys: &Keys<'_>, count: &[&str], top_k: &[&str], intermediate: u64) -> Result<Moe> {
    let experts = keys.size_of(count)?;
    let visited = keys.size_of(top_k)?;
    if visited > experts {
        let must = format!("must be at most the {experts} experts");
        return Err(keys.error(top_k[0], must, visited, ""));
    }
    Ok(Moe {
        experts,
        top_k: visited,
        intermediate,
        gated: true,
        bias: false,
        router_other_parameters: 0,
        shared_intermediate: 0,
        shared_gate: false,
        dense_intermediate: 0,
        latent: None,
    })
}

/// Which layers use rotary positions: `no_rope_layers` (1: they do), or all but every
/// `no_rope_layer_interval`-th.
///
/// # Errors
/// A list that is not as long as there are layers.
pub fn rotary_layers(keys: &Keys<'_>, layers: u64) -> Result<Vec<bool>> {
    let interval = keys.size_or("no_rope_layer_interval", 4)?;
    let listed = keys.list("no_rope_layers")?.is_some_and(|list| !list.is_empty());
    let given = if listed { keys.counts_per_layer("no_rope_layers", layers)? } else { None };
    Ok(match given {
        Some(given) => given.into_iter().map(|rotary| rotary != 0).collect(),
        None => (0..layers).map(|layer| (layer + 1) % interval != 0).collect(),
    })
}
