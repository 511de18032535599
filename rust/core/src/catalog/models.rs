//! The models known by name, each read from its file only when it is asked for.

use serde::Deserialize;
use serde_json::Value;

use super::model_files::FILES;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::hf::model_from_config;
use crate::names;
use crate::table::{Column, Table};

/// Words of a repository's name that say how a model was tuned or packed, not what it costs.
const WORDS_OF_TUNING: &[&str] = &["hf", "instruct", "chat", "it", "pt"];

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
/// `aliases` find it too.
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
    let (name, text) = find(name)?;
    load(name, text)
}

/// The configuration of the model of that name, as the text of a `config.json`.
///
/// # Errors
/// A name that nothing is known under, with the nearest three.
pub fn model_config(name: &str) -> Result<String> {
    let (name, text) = find(name)?;
    let body: Body = toml::from_str(text).map_err(|why| unreadable(name, &why))?;
    Ok(body.config.to_string())
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
    let (name, text) = find(name)?;
    Ok(head(name, text)?.source)
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

/// Name and text of the file that `name` means: its own name first, then the aliases.
fn find(name: &str) -> Result<(&'static str, &'static str)> {
    let (given, wanted) = (names::normalise(name), key(name));
    if let Some(found) = FILES.iter().find(|(known, _)| *known == given || *known == wanted) {
        return Ok(*found);
    }
    for (known, text) in FILES {
        if head(known, text)?.aliases.iter().any(|alias| key(alias) == wanted) {
            return Ok((known, text));
        }
    }
    let nearest = names::nearest(&wanted, FILES.iter().map(|(known, _)| *known), 3);
    Err(Error::UnknownName { kind: "model", name: name.to_string(), nearest })
}

/// What two names of one model have in common: `meta-llama/Meta-Llama-3.1-8B-Instruct` → `llama-3.1-8b`.
fn key(name: &str) -> String {
    let repository = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    let plain = names::normalise(repository);
    let plain = plain.strip_prefix("meta-").unwrap_or(&plain);
    plain.split('-').filter(|word| !WORDS_OF_TUNING.contains(word)).collect::<Vec<_>>().join("-")
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
