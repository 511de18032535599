//! The models known by name, each read from its file only when it is asked for.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use super::model_files::FILES;
use super::packed::{self, Packing};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::hf::model_from_config;
use crate::names;
use crate::table::{Column, Table};

/// Words of a repository's name that say how a model was tuned or packed, not what it costs.
const WORDS_OF_TUNING: &[&str] = &["hf", "instruct", "chat", "it", "pt"];

/// What makers put before the name itself.
const OWNERS: &[&str] = &["meta-", "nvidia-"];

/// What stands above the tables of a file.
#[derive(Deserialize)]
struct Head {
    title: String,
    aliases: Vec<String>,
    source: String,
}

/// What a model is made from.
#[derive(Deserialize)]
struct Body {
    config: Value,
}

/// The model of that name.
///
/// The name is forgiving: case, the owner before `/`, a leading `meta-` and the words `hf`, `instruct`, `chat`, `it`
/// and `pt` do not count, so `meta-llama/Llama-2-7b-chat-hf` finds `llama-2-7b`. The repositories in a file's
/// `aliases` find it too. A format at the end of a name of which no file is known (`RedHatAI/Qwen3-14B-FP8-dynamic`) is
/// that of the weights, everything else the architecture's; a note says what was assumed.
///
/// # Errors
/// A name that nothing is known under, with the nearest three.
///
/// ```
/// let model = roofline_core::catalog::models::model("meta-llama/Llama-2-7b-chat-hf")?;
/// assert_eq!(model.name, "llama-2-7b");
/// let error = roofline_core::catalog::models::model("llama-2-8b").unwrap_err();
/// assert!(error.hint().starts_with("nearest: llama-2-7"), "{}", error.hint());
/// # Ok::<(), roofline_core::error::Error>(())
/// ```
pub fn model(name: &str) -> Result<Model> {
    let found = find(name)?;
    let Some(packing) = &found.packing else { return load(found.name, found.text) };
    let called = format!("{}-{}", found.name, packing.label);
    let mut model = model_from_config(&called, &found.config()?)?;
    model.title = format!("{} {}", head(found.name, found.text)?.title, packing.label.to_uppercase());
    let (base, about) = (found.name, packing.about);
    model.notes.insert(
        0,
        format!("`{name}` taken as `{base}` with {about}: which matrices are stored otherwise is assumed"),
    );
    Ok(model)
}

/// The configuration of the model of that name, as the text of a `config.json`.
///
/// # Errors
/// A name that nothing is known under, with the nearest three.
pub fn model_config(name: &str) -> Result<String> {
    Ok(find(name)?.config()?.to_string())
}

/// The name of every model, relatives beside each other.
pub fn model_names() -> Vec<&'static str> {
    FILES.iter().map(|(name, _)| *name).collect()
}

/// Where the facts of the model of that name come from.
///
/// # Errors
/// A name that nothing is known under, with the nearest three.
pub fn model_source(name: &str) -> Result<String> {
    let found = find(name)?;
    let source = head(found.name, found.text)?.source;
    Ok(found
        .packing
        .map_or(source.clone(), |packing| format!("{source}; {} as the name says", packing.about)))
}

/// One row a model: what it is, how large, and where the facts come from.
///
/// `parameters` counts the decoder with embedding and head, `vision_parameters` the tower beside it; `layers` counts
/// blocks of any kind, `max_context` is in tokens.
///
/// # Errors
/// A file that cannot be read: a mistake of this library, not of its user.
pub fn model_table() -> Result<Table> {
    let models = FILES.iter().map(|(name, text)| load(name, text)).collect::<Result<Vec<_>>>()?;
    let sources = FILES.iter().map(|(name, text)| Ok(head(name, text)?.source)).collect::<Result<_>>()?;
    let texts = |of: fn(&Model) -> String| Column::Str(models.iter().map(of).collect());
    let counts = |of: fn(&Model) -> u64| Column::U64(models.iter().map(of).collect());
    Ok(Table::new()
        .with("name", texts(|model| model.name.clone()))
        .with("title", texts(|model| model.title.clone()))
        .with("family", texts(|model| model.family.clone()))
        .with("parameters", counts(Model::parameters))
        .with("active_parameters", counts(Model::active_parameters))
        .with("vision_parameters", counts(Model::vision_parameters))
        .with("layers", counts(|model| model.layers.iter().map(|group| group.count).sum()))
        .with("hidden", counts(|model| model.hidden))
        .with("max_context", Column::OptU64(models.iter().map(|model| model.max_context).collect()))
        .with("dtype", texts(|model| model.dtype.to_string()))
        .with("quantization", Column::OptStr(models.iter().map(|model| model.quantization.clone()).collect()))
        .with("source", Column::Str(sources)))
}

/// What a name means: a file, stored as it says or as the end of the name does.
struct Found {
    name: &'static str,
    text: &'static str,
    packing: Option<Packing>,
}

impl Found {
    fn config(&self) -> Result<Value> {
        let Body { mut config } = toml::from_str(self.text).map_err(|why| unreadable(self.name, &why))?;
        if let Some(packing) = &self.packing {
            packing.apply(&mut config);
        }
        Ok(config)
    }
}

/// What `name` means: a file by its own name first, then by its aliases, then by the architecture it begins with.
fn find(name: &str) -> Result<Found> {
    let (given, wanted) = (names::normalise(name), key(name));
    if let Some((known, text)) = file(&given, &wanted) {
        return Ok(Found { name: known, text, packing: None });
    }
    for (base, suffix) in packed::splits(&wanted) {
        if let Some((known, text)) = file(&base, &base) {
            let packing = suffix.packing(&load(known, text)?, &owner(name));
            return Ok(Found { name: known, text, packing });
        }
    }
    let nearest = names::nearest(&wanted, FILES.iter().map(|(known, _)| *known), 3);
    Err(Error::UnknownName { kind: "model", name: name.to_string(), nearest })
}

/// Name and text of the file of that name, or one of whose aliases has that key.
fn file(given: &str, wanted: &str) -> Option<(&'static str, &'static str)> {
    static ALIASES: OnceLock<HashMap<String, usize>> = OnceLock::new();
    if let Some(found) = FILES.iter().find(|(known, _)| *known == given || *known == wanted) {
        return Some(*found);
    }
    let aliases = ALIASES.get_or_init(|| {
        let heads = FILES
            .iter()
            .enumerate()
            .filter_map(|(place, (name, text))| Some((place, head(name, text).ok()?)));
        heads
            .flat_map(|(place, head)| head.aliases.into_iter().map(move |alias| (key(&alias), place)))
            .collect()
    });
    aliases.get(wanted).map(|place| FILES[*place])
}

/// What two names of one model have in common: `meta-llama/Meta-Llama-3.1-8B-Instruct` → `llama-3.1-8b`.
fn key(name: &str) -> String {
    let repository = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    let plain = names::normalise(&repository.replace("quantized.", "quantized-").replace(':', "-"));
    let plain = OWNERS.iter().find_map(|owner| plain.strip_prefix(owner)).unwrap_or(&plain);
    let words = plain.split('-').filter(|word| !WORDS_OF_TUNING.contains(word));
    words.map(apart).collect::<Vec<_>>().join("-")
}

/// `llama3.1` as `llama-3.1`.
fn apart(word: &str) -> String {
    match word.strip_prefix("llama") {
        Some(version) if version.starts_with(|c: char| c.is_ascii_digit()) => format!("llama-{version}"),
        _ => word.to_string(),
    }
}

/// Whose repository a name is of; empty where it does not say.
fn owner(name: &str) -> String {
    let before = name.trim_end_matches('/').rsplit_once('/').map_or("", |(before, _)| before);
    before.rsplit('/').next().unwrap_or_default().to_ascii_lowercase()
}

fn load(name: &str, text: &str) -> Result<Model> {
    let body: Body = toml::from_str(text).map_err(|why| unreadable(name, &why))?;
    let mut model = model_from_config(name, &body.config)?;
    model.title = head(name, text)?.title;
    Ok(model)
}

/// Reads the lines above the first table alone, so that searching the aliases stays cheap.
fn head(name: &str, text: &str) -> Result<Head> {
    let lines = text.split("\n[").next().unwrap_or(text);
    toml::from_str(lines).map_err(|why| unreadable(name, &why))
}

fn unreadable(name: &str, why: &toml::de::Error) -> Error {
    Error::spec(format!("data/models/{name}.toml"), "must be a model file", why.message(), "")
}

#[cfg(test)]
mod tests;
