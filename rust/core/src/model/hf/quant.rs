//! Quantization configurations: how each part of each layer of a checkpoint is stored.

use std::collections::BTreeSet;

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

    /// Paths of the matrices of `part`, below `layers.N.`, the largest first.
    fn paths(&self, part: Part, layer: &LayerGroup) -> Vec<String> {
        let network: &[&str] = &["gate_proj", "up_proj", "down_proj"];
        let attention = match &layer.mixer {
            Some(Mixer::Mla(mla)) if mla.q_lora.is_some() => {
                &["o_proj", "q_b_proj", "kv_b_proj", "q_a_proj", "kv_a_proj_with_mqa"][..]
            }
            Some(Mixer::Mla(_)) => &["o_proj", "q_proj", "kv_b_proj", "kv_a_proj_with_mqa"],
            _ => &["q_proj", "k_proj", "v_proj", "o_proj"],
        };
        let state: &[&str] = match &layer.mixer {
            Some(Mixer::Mamba(_)) => &["in_proj", "out_proj"],
            _ => &["in_proj_qkv", "in_proj_z", "out_proj"],
        };
        let expert =
            if self.experts.starts_with("block_sparse_moe") { &["w1", "w3", "w2"][..] } else { network };
        let (module, matrices) = match part {
            Part::Attention => (self.attention.to_string(), attention),
            Part::State => (self.state.to_string(), state),
            Part::Dense => (self.dense.to_string(), network),
            Part::Experts => (format!("{}.0", self.experts), expert),
            Part::Shared => (self.shared.to_string(), network),
            Part::Router => (self.dense.to_string(), &["gate"][..]),
            Part::Indexer => (format!("{}.indexer", self.attention), &["wq_b", "wk"][..]),
        };
        matrices.iter().map(|matrix| format!("{module}.{matrix}")).collect()
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

/// Parts of the names of modules that no engine quantizes, or that are no layer's.
const NEVER_QUANTIZED: &[&str] = &[
    "lm_head",
    "embed",
    "norm",
    "router",
    "visual",
    "vision",
    "mtp",
    "projector",
    "e_score_correction_bias",
    "conv1d",
    "indexers_proj",
];

/// Whether a module of this name is never quantized, or lies in a layer beyond the model's (one that predicts ahead).
fn is_never_quantized(name: &str, layers: usize) -> bool {
    let digits = name.strip_prefix("layers.").unwrap_or_default();
    let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let beyond = digits.parse::<usize>().is_ok_and(|layer| layer >= layers);
    let gate = name == "gate" || name.ends_with(".gate") || name.ends_with("expert_gate");
    beyond || gate || NEVER_QUANTIZED.iter().any(|part| name.contains(part))
}

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
        let (mut split, mut paths) = (BTreeSet::new(), Vec::new());
        for (index, layer) in layers.iter_mut().enumerate() {
            let mut stored = Vec::new();
            for part in parts_of(layer) {
                let matrices = modules.paths(part, layer);
                let matrices: Vec<String> =
                    matrices.iter().map(|path| format!("layers.{index}.{path}")).collect();
                let first = self.of(part, &matrices[0], dtype);
                if matrices[1..].iter().any(|path| self.of(part, path, dtype) != first) {
                    split.insert(format!("{part:?}").to_lowercase());
                }
                stored.push((part, first));
                paths.extend(matrices);
            }
            layer.quant = summary(stored, dtype);
        }
        if !split.is_empty() {
            let parts: Vec<String> = split.into_iter().collect();
            self.notes.push(format!(
                "some matrices of {} are stored otherwise than the largest one, as which all are priced",
                parts.join(", ")
            ));
        }
        self.notes.extend(self.unmatched(&paths, layers.len()));
    }

    /// The note on excluded modules that are none of the model's matrices, nor anything that is never quantized.
    fn unmatched(&self, paths: &[String], layers: usize) -> Option<String> {
        let mut unknown = self.excluded.iter().filter(|pattern| {
            !is_never_quantized(pattern.text(), layers) && !paths.iter().any(|path| pattern.matches(path))
        });
        let first = unknown.next()?.text();
        Some(format!("excluded modules that are not known here: {first} and {} more", unknown.count()))
    }

    /// How the matrix at `module` is stored; routers are never quantized, whatever engine runs them.
    fn of(&self, part: Part, module: &str, dtype: Format) -> Linear {
        if part == Part::Router {
            return Linear::plain(dtype);
        }
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
