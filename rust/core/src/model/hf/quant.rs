//! Quantization configurations: how each part of each layer of a checkpoint is stored.

use super::keys::Keys;
use super::method;
use super::scheme::{Quantization, Target};
use crate::error::Result;
use crate::format::Format;
use crate::model::{Ffn, LayerGroup, Linear, Mixer, Part, Quant};
use crate::names;

/// What a checkpoint calls the parts of a layer, below `layers.N.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modules {
    /// Attention.
    pub attention: &'static str,
    /// Mamba or linear attention.
    pub state: &'static str,
    /// Dense FFN.
    pub dense: &'static str,
    /// Routed experts, above their number.
    pub experts: &'static str,
    /// Shared experts.
    pub shared: &'static str,
}

impl Modules {
    /// The names most families use.
    pub const LLAMA: Modules = Modules {
        attention: "self_attn",
        state: "linear_attn",
        dense: "mlp",
        experts: "mlp.experts",
        shared: "mlp.shared_experts",
    };
    /// Mixtral's and MiniMax's.
    pub const MIXTRAL: Modules = Modules { experts: "block_sparse_moe.experts", ..Modules::LLAMA };
    /// Families whose every part is the layer's one `mixer` (Nemotron-H).
    pub const MIXER: Modules = Modules {
        attention: "mixer",
        state: "mixer",
        dense: "mixer",
        experts: "mixer.experts",
        shared: "mixer.shared_experts",
    };
    /// Qwen's, whose shared expert is one.
    pub const QWEN: Modules = Modules { shared: "mlp.shared_expert", ..Modules::LLAMA };
    /// Gemma 4's, whose experts stand beside the dense network.
    pub const GEMMA: Modules = Modules { experts: "experts", ..Modules::LLAMA };
    /// Llama 4's.
    pub const LLAMA4: Modules = Modules {
        dense: "feed_forward",
        experts: "feed_forward.experts",
        shared: "feed_forward.shared_expert",
        ..Modules::LLAMA
    };

    /// The matrices of `part`, the largest first.
    fn names(&self, part: Part, layer: &LayerGroup) -> (String, &'static [&'static str]) {
        const GATED: &[&str] = &["gate_proj", "up_proj", "down_proj"];
        const EXPERT: &[&str] = &["w1", "w3", "w2"];
        match part {
            Part::Attention => match &layer.mixer {
                Some(Mixer::Mla(mla)) if mla.q_lora.is_some() => (
                    self.attention.into(),
                    &["o_proj", "q_b_proj", "kv_b_proj", "q_a_proj", "kv_a_proj_with_mqa"],
                ),
                Some(Mixer::Mla(_)) => {
                    (self.attention.into(), &["o_proj", "q_proj", "kv_b_proj", "kv_a_proj_with_mqa"])
                }
                _ => (self.attention.into(), &["q_proj", "k_proj", "v_proj", "o_proj"]),
            },
            Part::State => match &layer.mixer {
                Some(Mixer::Mamba(_)) => (self.state.into(), &["in_proj", "out_proj"]),
                _ => (self.state.into(), &["in_proj_qkv", "in_proj_z", "out_proj"]),
            },
            Part::Dense => (self.dense.into(), GATED),
            Part::Experts if self.experts.starts_with("block_sparse_moe") => {
                (format!("{}.0", self.experts), EXPERT)
            }
            Part::Experts => (format!("{}.0", self.experts), GATED),
            Part::Shared => (self.shared.into(), GATED),
            Part::Router => (format!("{}.gate", self.dense), &["weight"]),
            Part::Indexer => (format!("{}.indexer", self.attention), &["wq_b", "wk"]),
        }
    }
}

/// Methods that are understood.
const METHODS: &[&str] =
    &["fp8", "fbgemm_fp8", "mxfp4", "gptq", "awq", "compressed-tensors", "modelopt", "bitsandbytes"];

/// Keys of quantizations that change neither what is stored nor how it is multiplied.
const WITHOUT_EFFECT: &[&str] = &[
    "activation_scheme",
    "activation_scale_ub",
    "backend",
    "block_name_to_quantize",
    "bnb_4bit_compute_dtype",
    "bnb_4bit_quant_storage",
    "bnb_4bit_quant_type",
    "cache_block_outputs",
    "checkpoint_format",
    "damp_percent",
    "dataset",
    "desc_act",
    "exllama_config",
    "fmt",
    "format",
    "global_compression_ratio",
    "group_size",
    "is_marlin_format",
    "meta",
    "model_file_base_name",
    "model_seqlen",
    "module_name_preceding_first_block",
    "pad_token_id",
    "producer",
    "quantization_status",
    "quantized_layers",
    "scale_fmt",
    "static_groups",
    "sym",
    "true_sequential",
    "use_exllama",
    "version",
];

impl Quantization {
    /// The quantization under `quantization_config` (or `compression_config`), if there is one.
    ///
    /// # Errors
    /// A method or a scheme that is not understood.
    pub fn read(keys: &Keys<'_>, dtype: Format) -> Result<Option<Quantization>> {
        let found = match keys.child("quantization_config")? {
            None => keys.child("compression_config")?,
            found => found,
        };
        let Some(config) = found else { return Ok(None) };
        let method = match config.text("quant_method")? {
            Some(method) => method.to_ascii_lowercase(),
            None if config.has("quant_algo") => "modelopt".into(),
            None if config.has("config_groups") => "compressed-tensors".into(),
            None if config.has("load_in_4bit") || config.has("load_in_8bit") => "bitsandbytes".into(),
            None => return Err(config.missing("quant_method")),
        };
        let mut quantization = match method.as_str() {
            "fp8" => method::fp8(&config)?,
            "fbgemm_fp8" => method::fbgemm(&config)?,
            "mxfp4" => method::mxfp4(&config, dtype)?,
            "gptq" => method::gptq(&config, dtype)?,
            "awq" => method::awq(&config, dtype)?,
            "compressed-tensors" => method::compressed_tensors(&config, dtype)?,
            "modelopt" | "modelopt_fp4" | "modelopt_mixed" => method::modelopt(&config, dtype)?,
            "bitsandbytes" => method::bitsandbytes(&config, dtype)?,
            other => return Err(names::unknown("quantization method", other, METHODS.iter().copied())),
        };
        if config.flag("lm_head", false)? {
            quantization.notes.push("the checkpoint quantizes the head too; it is priced unquantized".into());
        }
        config.only("dynamic", &[])?;
        if let Some(sparsity) = config.child("sparsity_config")? {
            sparsity.only("format", &["dense".into()])?;
        }
        config.ignore(WITHOUT_EFFECT);
        quantization.notes.extend(unread(config.finish()?));
        Ok(Some(quantization))
    }

    /// Stores the layers as this quantization says; layer `index` is the `index`-th.
    pub fn apply(&mut self, layers: &mut [LayerGroup], modules: &Modules, dtype: Format) {
        let mut split = std::collections::BTreeSet::new();
        for (index, layer) in layers.iter_mut().enumerate() {
            let parts = parts_of(layer);
            let mut stored = Vec::new();
            for part in parts {
                let (linear, uniform) = self.linear_of(part, index, layer, modules, dtype);
                if !uniform {
                    split.insert(part);
                }
                stored.push((part, linear));
            }
            layer.quant = summary(stored, dtype);
        }
        if !split.is_empty() {
            let parts: Vec<String> = split.iter().map(|part| format!("{part:?}").to_lowercase()).collect();
            self.notes.push(format!(
                "some matrices of {} are stored otherwise than the largest one, as which all are priced",
                parts.join(", ")
            ));
        }
    }

    /// How `part` is stored, and whether all its matrices are stored alike.
    fn linear_of(
        &self,
        part: Part,
        index: usize,
        layer: &LayerGroup,
        modules: &Modules,
        dtype: Format,
    ) -> (Linear, bool) {
        if part == Part::Router {
            return (Linear::plain(dtype), true);
        }
        let (base, leaves) = modules.names(part, layer);
        let of = |leaf: &&str| self.of(part, &format!("layers.{index}.{base}.{leaf}"), dtype);
        let first = of(&leaves[0]);
        (first, leaves[1..].iter().all(|leaf| of(leaf) == first))
    }

    fn of(&self, part: Part, module: &str, dtype: Format) -> Linear {
        let applies = |target: &Target| match target {
            Target::All => true,
            Target::Experts => part == Part::Experts,
            Target::Modules(patterns) => patterns.iter().any(|pattern| pattern.matches(module)),
        };
        if self.excluded.iter().any(|pattern| pattern.matches(module)) {
            return Linear::plain(dtype);
        }
        let rule = self.rules.iter().find(|(target, _)| applies(target));
        rule.map_or(Linear::plain(dtype), |(_, linear)| *linear)
    }
}

/// The parts a layer has, in the order they run.
pub fn parts_of(layer: &LayerGroup) -> Vec<Part> {
    let mut parts = Vec::new();
    match &layer.mixer {
        Some(Mixer::Attention(_)) => parts.push(Part::Attention),
        Some(Mixer::Mla(mla)) => {
            parts.push(Part::Attention);
            if mla.indexer.as_ref().is_some_and(|indexer| indexer.own) {
                parts.push(Part::Indexer);
            }
        }
        Some(Mixer::Mamba(_) | Mixer::Linear(_)) => parts.push(Part::State),
        None => {}
    }
    match &layer.ffn {
        Some(Ffn::Dense(_)) => parts.push(Part::Dense),
        Some(Ffn::Moe(moe)) => {
            parts.extend([Part::Router, Part::Experts]);
            if moe.shared_intermediate > 0 || moe.latent.is_some() {
                parts.push(Part::Shared);
            }
            if moe.dense_intermediate > 0 {
                parts.push(Part::Dense);
            }
        }
        None => {}
    }
    parts
}

/// The shortest way to say how the parts are stored: what most have, and those that differ.
fn summary(stored: Vec<(Part, Linear)>, dtype: Format) -> Quant {
    let often = |linear: &Linear| stored.iter().filter(|(_, other)| other == linear).count();
    let main = stored.iter().filter(|(part, _)| *part != Part::Router).map(|(_, linear)| *linear);
    let default = main.fold(None, |best: Option<Linear>, linear| match best {
        Some(best) if often(&best) >= often(&linear) => Some(best),
        _ => Some(linear),
    });
    let default = default.unwrap_or(Linear::plain(dtype));
    Quant { default, parts: stored.into_iter().filter(|(_, linear)| *linear != default).collect() }
}

fn unread(keys: Vec<String>) -> Option<String> {
    (!keys.is_empty()).then(|| format!("not understood, taken not to matter: {}", keys.join(", ")))
}
