//! Reads a Hugging Face `config.json` into a [`Model`]: every key that costs is understood or refused by name.

mod json;
mod known;
mod keys;
mod lists;
mod pattern;
mod scheme;
mod method;
mod quant;
mod block;
mod vision;
mod llama;
mod qwen;
mod deepseek;
mod gemma;
mod mamba;
mod hybrid;
mod qwen_vision;
mod linear;
mod style;
mod relatives;
mod sparse;
mod legacy;
mod encoder;
mod dit;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::block::Draft;
use self::keys::Keys;
use self::scheme::Quantization;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::model::{LayerGroup, Linear, Model, Quant, parameters};
use crate::names;

/// A configuration taken apart: the decoder's object may lie inside the whole one.
struct Source<'a> {
    /// The whole document.
    root: Keys<'a>,
    /// `text_config`, where the decoder has an object of its own.
    inner: Option<Keys<'a>>,
    /// `vision_config`.
    vision: Option<Keys<'a>>,
    /// The `model_type` the family was found under.
    family: &'static str,
}

impl<'a> Source<'a> {
    /// The decoder's object.
    fn text(&self) -> &Keys<'a> {
        self.inner.as_ref().unwrap_or(&self.root)
    }

    fn keys(&self) -> impl Iterator<Item = &Keys<'a>> {
        [Some(&self.root), self.inner.as_ref(), self.vision.as_ref()].into_iter().flatten()
    }
}

/// A family of models that one function reads.
struct Family {
    /// Its `model_type`s.
    types: &'static [&'static str],
    /// Its `architectures`, for configurations without a known `model_type`.
    architectures: &'static [&'static str],
    /// Reads it.
    read: fn(&Source<'_>) -> Result<Draft>,
}

/// Every family, in reading order.
const FAMILIES: &[&[Family]] = &[
    llama::FAMILIES,
    qwen::FAMILIES,
    qwen_vision::FAMILIES,
    gemma::FAMILIES,
    deepseek::FAMILIES,
    mamba::FAMILIES,
    hybrid::FAMILIES,
    linear::FAMILIES,
    relatives::FAMILIES,
    sparse::FAMILIES,
    legacy::FAMILIES,
    encoder::FAMILIES,
    dit::FAMILIES,
];

fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().flat_map(|families| families.iter())
}

/// Families that are known, and why they are not read.
const REFUSED: &[(&str, &str)] = &[
    ("t5", ENCODER_DECODER),
    ("mt5", ENCODER_DECODER),
    ("umt5", ENCODER_DECODER),
    ("bart", ENCODER_DECODER),
    ("mbart", ENCODER_DECODER),
    ("whisper", ENCODER_DECODER),
    ("marian", ENCODER_DECODER),
    ("pegasus", ENCODER_DECODER),
    ("gemma3n", "per-layer embeddings and AltUp are not modelled"),
    ("mllama", "cross-attention to images is not modelled"),
    ("falcon_h1", "attention and Mamba side by side in one layer are not modelled"),
    ("phi3small", "block-sparse attention is not modelled"),
    ("rwkv", "RWKV is not modelled"),
];

const ENCODER_DECODER: &str = "an encoder with a decoder that attends to it is not modelled";

/// Names of the objects a decoder inside a larger model is configured by.
const TEXT_OBJECTS: &[&str] = &["text_config", "llm_config", "language_config"];

/// The model a `config.json` describes; `name` is its catalogue name or the file it was read from.
///
/// # Errors
/// Text that is not JSON, and everything [`model_from_config`] refuses.
pub fn model_from_json(name: &str, text: &str) -> Result<Model> {
    let config: Value = serde_json::from_str(&json::without_infinities(text)).map_err(|why| {
        Error::spec(
            name,
            "must be JSON",
            why,
            "give the model's own `config.json`, as published beside its weights",
        )
    })?;
    model_from_config(name, &config)
}

/// The model a parsed `config.json` describes; `name` is its catalogue name or the file it was read from.
///
/// # Errors
/// An unknown family (with the nearest known ones), a key that must be there and is not, a value that breaks a
/// rule, or a key that may change what a step costs and is not understood.
pub fn model_from_config(name: &str, config: &Value) -> Result<Model> {
    let root = Keys::new(if name.ends_with(".json") { name } else { "config.json" }, config)?;
    let family = find(&root)?;
    let mut inner = None;
    for key in TEXT_OBJECTS {
        inner = inner.or(root.child(key)?);
    }
    let vision = root.child("vision_config")?;
    let source = Source { root, inner, vision, family: family.1 };
    let draft = (family.0.read)(&source)?;
    finish(name, &source, draft)
}

/// The family of a configuration, and the `model_type` it goes by.
fn find(root: &Keys<'_>) -> Result<(&'static Family, &'static str)> {
    let kind = root.text("model_type")?;
    let by_type = families().find_map(|family| {
        let name = family.types.iter().find(|name| Some(**name) == kind)?;
        Some((family, *name))
    });
    if let Some(found) = by_type {
        return Ok(found);
    }
    if let Some((name, why)) = REFUSED.iter().find(|(name, _)| Some(*name) == kind) {
        let must = "must be a family that is modelled";
        return Err(root.error("model_type", must, name, why));
    }
    let mut architectures = root.texts("architectures")?.unwrap_or_default();
    architectures.extend(root.text("_class_name")?);
    let by_architecture = families().find_map(|family| {
        let known = |name: &&str| family.architectures.contains(name);
        architectures.iter().any(known).then_some((family, family.types[0]))
    });
    match (by_architecture, kind.or(architectures.first().copied())) {
        (Some(found), _) => Ok(found),
        (None, Some(name)) => Err(names::unknown(
            "model family",
            name,
            families().flat_map(|family| family.types.iter().copied()),
        )),
        (None, None) if root.has("patch_size") && root.has("depth") => Ok((&dit::FAMILIES[0], "dit")),
        (None, None) => Err(root.missing("model_type")),
    }
}

/// Completes a draft: names, formats, quantization, equal layers together, and no key passed over.
fn finish(name: &str, source: &Source<'_>, draft: Draft) -> Result<Model> {
    let Draft { mut model, modules } = draft;
    model.name = name.to_string();
    model.title = title(name);
    model.family = source.family.to_string();
    let whole = source.root.flag("tie_word_embeddings", model.tied_embeddings)?;
    if !source.text().has("tie_word_embeddings") {
        model.tied_embeddings = whole;
    }
    model.dtype = dtype(source, &mut model.notes)?;
    for layer in
        model.layers.iter_mut().chain(model.vision.iter_mut().flat_map(|tower| tower.layers.iter_mut()))
    {
        layer.quant = Quant::uniform(Linear::plain(model.dtype));
    }
    let quantization = match Quantization::read(&source.root, model.dtype)? {
        None => Quantization::read(source.text(), model.dtype)?,
        found => found,
    };
    match quantization {
        Some(mut quantization) => {
            quantization.apply(&mut model.layers, &modules, model.dtype);
            model.notes.append(&mut quantization.notes);
            model.kv_format = quantization.kv_format;
            model.quantization = Some(quantization.name);
        }
        None => model.notes.extend(unquantized_by_config(name, model.dtype)),
    }
    model.layers = together(model.layers);
    if let Some(tower) = &mut model.vision {
        tower.layers = together(std::mem::take(&mut tower.layers));
    }
    model.notes.extend(passed_over(source)?);
    countable(&model).map(|()| model)
}

/// Refuses a model whose parameters do not fit a 64-bit float exactly: no such model exists, and counts may be added.
fn countable(model: &Model) -> Result<()> {
    const MOST: u128 = 1 << 53;
    let layers = |groups: &[LayerGroup], hidden: u64| {
        let of =
            |group: &LayerGroup| u128::from(group.count) * u128::from(parameters::layer_total(group, hidden));
        groups.iter().map(of).sum::<u128>()
    };
    let tower = model.vision.as_ref().map_or(0, |tower| layers(&tower.layers, tower.hidden));
    let total = layers(&model.layers, model.hidden) + tower;
    match total {
        total if total > MOST => {
            Err(Error::spec("config.json", "must describe at most 2^53 parameters", total, "check its sizes"))
        }
        _ => Ok(()),
    }
}

/// `meta-llama--Llama-3.1-8B.json` → `Llama-3.1-8B`.
fn title(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = file.strip_suffix(".json").unwrap_or(file);
    stem.rsplit("--").next().unwrap_or(stem).to_string()
}

fn dtype(source: &Source<'_>, notes: &mut Vec<String>) -> Result<Format> {
    for keys in [source.text(), &source.root] {
        for key in ["dtype", "torch_dtype"] {
            match keys.text(key)? {
                None | Some("auto") => {}
                Some(name) => return Format::parse(name),
            }
        }
    }
    notes.push("config.json gives no dtype: bf16 assumed".into());
    Ok(Format::Bf16)
}

/// A warning where the name promises a quantization that the configuration does not hold.
fn unquantized_by_config(name: &str, dtype: Format) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let promised = ["nvfp4", "mxfp4", "fp4", "fp8", "awq", "gptq", "int8", "int4"];
    let promised = promised.iter().find(|method| name.contains(**method))?;
    Some(format!(
        "the name says {promised}, but config.json holds no quantization_config (it may lie in \
         hf_quant_config.json): read as {dtype}; choose a precision to price it as quantized"
    ))
}

/// Equal layers as one group, in order of first appearance.
fn together(layers: Vec<LayerGroup>) -> Vec<LayerGroup> {
    let mut groups: Vec<LayerGroup> = Vec::new();
    for layer in layers {
        let alike = |group: &&mut LayerGroup| LayerGroup { count: layer.count, ..(**group).clone() } == layer;
        match groups.iter_mut().find(alike) {
            Some(group) => group.count += layer.count,
            None => groups.push(layer),
        }
    }
    groups
}

/// The note on keys that are not known and do not look as if they cost.
fn passed_over(source: &Source<'_>) -> Result<Option<String>> {
    let (mut errors, mut unknown) = (Vec::new(), Vec::new());
    for keys in source.keys() {
        match keys.finish() {
            Ok(passed) => unknown.extend(passed),
            Err(Error::Many { errors: several, .. }) => errors.extend(several),
            Err(one) => errors.push(one),
        }
    }
    Error::all("config.json", errors)?;
    Ok((!unknown.is_empty()).then(|| format!("not understood, taken not to matter: {}", unknown.join(", "))))
}
