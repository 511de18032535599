//! Quantization configurations: how each part of each layer of a checkpoint is stored.

use serde_json::Value;

use super::keys::Keys;
use super::pattern::Pattern;
use super::scheme;
use crate::error::Result;
use crate::format::{Format, Storage};
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

/// Where a rule of a quantization applies.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Every linear layer.
    All,
    /// Routed experts only.
    Experts,
    /// Modules of these names.
    Modules(Vec<Pattern>),
}

/// A checkpoint's quantization.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    /// As users say it (`fp8`, `awq`).
    pub name: String,
    /// What is stored how; the first rule that applies counts.
    pub rules: Vec<(Target, Linear)>,
    /// Modules left as they were.
    pub excluded: Vec<Pattern>,
    /// KV cache format it asks for.
    pub kv_format: Option<Format>,
    /// Sentences about what was assumed.
    pub notes: Vec<String>,
}

/// Methods that are understood.
const METHODS: &[&str] =
    &["fp8", "fbgemm_fp8", "mxfp4", "gptq", "awq", "compressed-tensors", "modelopt", "bitsandbytes"];

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
        let quantization = match method.as_str() {
            "fp8" => scheme::fp8(&config)?,
            "fbgemm_fp8" => scheme::fbgemm(&config)?,
            "mxfp4" => scheme::mxfp4(&config, dtype)?,
            "gptq" => scheme::gptq(&config, dtype)?,
            "awq" => scheme::awq(&config, dtype)?,
            "compressed-tensors" => scheme::compressed_tensors(&config, dtype)?,
            "modelopt" | "modelopt_fp4" | "modelopt_mixed" => scheme::modelopt(&config, dtype)?,
            "bitsandbytes" => scheme::bitsandbytes(&config, dtype)?,
            other => return Err(names::unknown("quantization method", other, METHODS.iter().copied())),
        };
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

/// The storage of a float or integer of `bits` bits with a scale per `group` (0: per tensor or row).
///
/// # Errors
/// No format has so many bits.
pub fn storage(keys: &Keys<'_>, kind: &str, bits: u64, group: u32, zero_point: bool) -> Result<Storage> {
    let format = match (kind, bits) {
        ("float", 8) => Format::Fp8,
        ("float", 4) => Format::Fp4,
        ("int", 8) => Format::Int8,
        ("int", 4) => Format::Int4,
        ("int", 3) => Format::Int3,
        ("int", 2) => Format::Int2,
        _ => {
            let must = "must be 2, 3, 4 or 8 (int) or 4 or 8 (float)";
            return Err(keys.error("num_bits", must, format!("{bits} ({kind})"), ""));
        }
    };
    Ok(match (format, group) {
        (Format::Fp4, 32) => Storage::MXFP4,
        (Format::Fp4, _) => Storage::NVFP4,
        (_, 0) => Storage::plain(format),
        (_, group) => {
            let zero = if zero_point { bits as f64 } else { 0.0 };
            Storage::grouped(format, 16.0 + zero, group)
        }
    })
}

/// Patterns under any of `keys`.
///
/// # Errors
/// A list that holds something else than texts, or an expression that cannot be read.
pub fn patterns(config: &Keys<'_>, keys: &[&str]) -> Result<Vec<Pattern>> {
    let mut found = Vec::new();
    for key in keys {
        for text in config.texts(key)?.unwrap_or_default() {
            found.push(Pattern::parse(text).map_err(|why| config.error(key, why, text, ""))?);
        }
    }
    Ok(found)
}

/// A KV cache format written as a name (`FP8`) or as an object with `num_bits` and `type`.
///
/// # Errors
/// Neither of the two, or a format that is not known.
pub fn kv_format(config: &Keys<'_>, key: &str) -> Result<Option<Format>> {
    match config.get(key) {
        None => Ok(None),
        Some(Value::String(name)) => Format::parse(name).map(Some),
        Some(value) => {
            let scheme = Keys::new(&config.field(key), value)?;
            let kind = scheme.text("type")?.unwrap_or("float");
            storage(&scheme, kind, scheme.size("num_bits")?, 0, false).map(|storage| Some(storage.format))
        }
    }
}
