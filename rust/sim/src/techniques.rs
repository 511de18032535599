//! What techniques of a deployment mean to the engine that serves it: how it drafts, how it allocates, what prompts share.

use roofline_core::error::{Error, Result};
use roofline_core::model::Model;
use roofline_core::step::Deployment;
use roofline_core::technique::{Held, Technique};

use crate::assemble::Assembled;
use crate::scheduler::config::EngineConfig;
use crate::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use crate::trace::prefix_groups::GroupPaths;
use crate::trace::{BlockHashes, Trace};

/// Tokens of a hash where an engine's blocks hold whole sequences.
const HASHED: u32 = 16;

/// The deployment and what its engine drafts: a technique and an engine's flags say the same thing, and steps cost the same
/// whichever of them said it. `draft` is the model that flags name.
///
/// # Errors
/// Both at once; a draft model that cannot be spread as the model is.
pub fn drafting(
    deployment: Deployment,
    engine: &mut EngineConfig,
    draft: Option<&Model>,
    seed: u64,
) -> Result<Deployment> {
    let modules = deployment.model.mtp_layers;
    engine.speculation = engine.speculation.take().map(|drafts| drafts.by_modules(modules));
    match (deployment.techniques.drafting(), &engine.speculation) {
        (None, None) => Ok(deployment),
        (Some(drafting), Some(_)) => {
            let must = "must not be given beside a technique that drafts";
            let hint = "give the technique or the flags";
            Err(Error::spec("spec_method", must, drafting.method, hint))
        }
        (Some(drafting), None) => {
            let drafts = Speculation {
                method: DraftMethod::parse(drafting.method)?,
                tokens: drafting.tokens,
                acceptance: Acceptance::Chance { positions: drafting.acceptance, seed },
            };
            engine.speculation = Some(drafts.by_modules(modules));
            Ok(deployment)
        }
        // Nobody said which model drafts: it is taken to cost nothing, and a note says so.
        (None, Some(flags)) if flags.method == DraftMethod::DraftModel && draft.is_none() => Ok(deployment),
        (None, Some(flags)) => {
            Error::all("engine", flags.mistakes())?;
            let chances = flags.chances();
            deployment.with(&[Technique::drafts(flags.method.name(), flags.tokens, &chances, draft)?])
        }
    }
}

/// What is said where as many sequences as may run draw more adapters than lie in memory: an engine would fetch them.
pub fn swapped(deployment: &Deployment, sequences: u32) -> Option<String> {
    match deployment.techniques.check(u64::from(sequences), u64::MAX) {
        Err(error @ Error::Spec { .. }) if error.to_string().starts_with("lora:resident") => {
            Some(format!("{error}; fetching others is left out where so many run"))
        }
        _ => None,
    }
}

/// Reserves a longest context for every sequence, where techniques say so. `max_model_len` is what the user set.
///
/// # Errors
/// Sequences longer than what is reserved for them.
pub fn reserve(engine: &mut EngineConfig, held: Held, max_model_len: Option<u32>) -> Result<()> {
    if held.reserved == 0 {
        return Ok(());
    }
    if let Some(set) = max_model_len.filter(|&set| u64::from(set) > held.reserved) {
        let must = format!("must be at most the {} tokens reserved for a sequence", held.reserved);
        return Err(Error::spec("max_model_len", must, set, "raise paging:contiguous"));
    }
    engine.enable_prefix_caching = false;
    Ok(())
}

/// The requests with the prefix that a technique says they share; `None` where it says nothing, or they tell it themselves.
///
/// # Errors
/// An engine that keeps no prefixes, prompts shorter than the prefix, requests that share something else.
pub fn prefixed(held: Held, engine: &EngineConfig, requests: &Assembled) -> Result<Option<Assembled>> {
    if held.prefix == 0 {
        return Ok(None);
    }
    let wrong =
        |must: String, hint: &str| Error::spec("prefix-sharing:tokens", must, held.prefix, hint.to_string());
    if !engine.enable_prefix_caching {
        let must = "must be used with an engine that keeps prefixes".to_string();
        return Err(wrong(must, "set enable_prefix_caching, or leave the technique out"));
    }
    let trace = &requests.trace;
    let shortest = trace.prompt_tokens.iter().copied().min().unwrap_or(0);
    if held.prefix > u64::from(shortest) {
        let must = format!("must be at most the shortest prompt's {shortest} tokens");
        return Err(wrong(must, "every prompt begins with the prefix"));
    }
    let (tokens, groups) = (held.prefix as u32, held.groups.min(trace.len() as u64) as u32);
    if requests.segments.is_some() {
        let must = "must be left out where prompts are told by segments".to_string();
        return Err(wrong(must, "they say themselves what prompts share"));
    }
    if let Some(hashes) = &trace.hashes {
        let different = beginnings(hashes, trace, tokens);
        if different > groups as usize {
            let must =
                format!("must be a prefix of which the requests have at most {groups}, as their hashes tell");
            return Err(wrong(
                must,
                &format!("they begin in {different} ways; lower tokens, or raise groups"),
            ));
        }
        return Ok(None);
    }
    let size = if engine.block_size == u32::MAX { HASHED } else { engine.block_size };
    let mut paths = GroupPaths::new(size, groups);
    (0..trace.len()).for_each(|request| paths.push(request as u32 % groups.max(1), tokens));
    let trace = Trace { hashes: Some(paths.hashes), ..trace.clone() };
    Ok(Some(Assembled { trace, ..requests.clone() }))
}

/// In how many ways requests begin, as far as whole hashes of so many tokens tell.
fn beginnings(hashes: &BlockHashes, trace: &Trace, tokens: u32) -> usize {
    let blocks = (tokens / hashes.block_size.max(1)) as usize;
    let path = |request: usize| {
        let path = hashes.path(request);
        &path[..blocks.min(path.len())]
    };
    let mut paths: Vec<&[u32]> = (0..trace.len()).map(path).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.len()
}
