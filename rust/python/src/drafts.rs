//! Flags of engines that draft, as the technique they stand for.

use pyo3::prelude::*;
use roofline_core::error::{Error, Result};
use roofline_core::technique::{Technique, expand};
use roofline_sim::scheduler::speculation::{Acceptance, DraftMethod, Speculation};

use crate::model::Model;

/// How many drafts are accepted, as it is written: a chance, one a position, or the text of a flag.
#[derive(FromPyObject)]
pub enum Accepted {
    Chance(f64),
    Chances(Vec<f64>),
    Text(String),
}

impl Accepted {
    /// The same for draws from a seed.
    ///
    /// # Errors
    /// A text of another form.
    pub fn by(self, seed: u64) -> Result<Acceptance> {
        match self {
            Accepted::Chance(chance) => Ok(Acceptance::Chance { positions: vec![chance], seed }),
            Accepted::Chances(positions) => Ok(Acceptance::Chance { positions, seed }),
            Accepted::Text(text) => Acceptance::parse(&text, seed),
        }
    }
}

/// Flags of engines that draft: method, drafts a step, how many are accepted, the model that drafts.
pub type Drafts<'py> = (Option<String>, Option<u32>, Option<Accepted>, Option<PyRef<'py, Model>>);

/// The technique that such flags stand for; `None` where nothing is drafted.
///
/// # Errors
/// Some of them without the others, an unknown method, chances that are none.
pub fn technique(
    method: Option<&str>,
    tokens: Option<u32>,
    acceptance: Option<Accepted>,
    model: Option<&roofline_core::model::Model>,
) -> Result<Option<Technique>> {
    let flags = flags(method, tokens, acceptance)?;
    drafter(flags.as_ref(), model.map(|model| model.name.as_str()))?;
    let drafts =
        |flags: Speculation| Technique::drafts(flags.method.name(), flags.tokens, &flags.chances(), model);
    flags.map(drafts).transpose()
}

/// Whether a model is named where one drafts, and only there: which one it is decides what a step costs.
fn drafter(flags: Option<&Speculation>, model: Option<&str>) -> Result<()> {
    let drafts = flags.is_some_and(|flags| flags.method == DraftMethod::DraftModel);
    match model {
        None if drafts => {
            let hint = "the model that drafts, for example llama-3.2-1b";
            Err(Error::spec("spec_model", "must be given with spec_method draft-model", "absent", hint))
        }
        Some(model) if !drafts => {
            let must = "must be given with spec_method draft-model only";
            Err(Error::spec("spec_model", must, model, "other methods draft without one"))
        }
        _ => Ok(()),
    }
}

/// The same as one writes it, by the name of the model that drafts; steps that are not `priced` need none.
///
/// # Errors
/// Some of them without the others, an unknown method, chances that are none.
pub fn text(
    method: Option<&str>,
    tokens: Option<u32>,
    acceptance: Option<Accepted>,
    model: Option<&str>,
    priced: bool,
) -> Result<Option<String>> {
    let flags = flags(method, tokens, acceptance)?;
    if priced || model.is_some() {
        drafter(flags.as_ref(), model)?;
    }
    let Some(flags) = flags else { return Ok(None) };
    let chances: Vec<String> = flags.chances().iter().map(ToString::to_string).collect();
    let drafts =
        expand(None, None, Some((flags.method.name(), flags.tokens.into(), &chances.join(",")))).concat();
    Ok(Some(model.map_or_else(|| drafts.clone(), |model| format!("{drafts},draft={model}"))))
}

/// What the flags say, if they say that something is drafted.
fn flags(
    method: Option<&str>,
    tokens: Option<u32>,
    acceptance: Option<Accepted>,
) -> Result<Option<Speculation>> {
    let flags = Speculation::of(method, tokens, acceptance.map(|given| given.by(0)).transpose()?)?;
    flags.iter().try_for_each(Speculation::check)?;
    Ok(flags)
}
