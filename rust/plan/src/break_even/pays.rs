//! Where each format and technique of a deployment pays, beside the same deployment without it.

use roofline_core::analysis::Analyst;
use roofline_core::error::Result;
use roofline_core::memory::EngineMemory;
use roofline_core::point::Point;
use roofline_core::step::Deployment;
use roofline_core::technique::{Slot, Technique};

use super::halving::stretch;
use super::{Answer, MOST, Made};

/// What shares out differently is equal.
const EQUAL: f64 = 1e-9;

/// One thing that can be left out, and what is left.
struct Without {
    name: String,
    stem: Deployment,
    techniques: Vec<Technique>,
}

/// The batches between which a token comes quicker with each format and technique than without it; for those by which a
/// step brings several tokens also how many it must bring, and the acceptance at which drafts do.
pub(super) fn answers(
    made: &Made<'_>,
    with: &Analyst,
    base: &Analyst,
    point: &Point,
    engine: &EngineMemory,
) -> Result<Vec<Answer>> {
    let parts = parts(made);
    let mut all = Vec::new();
    for part in &parts {
        let without =
            part.stem.clone().with(&part.techniques).and_then(|deployment| Analyst::new(deployment, engine));
        let mut found = match without {
            Ok(without) => compared(with, &without, point)?,
            Err(error) => {
                let about = format!("not to be compared with the same without it: {error}");
                vec![Answer::new("gain_gone_beyond", None, "sequences", about)]
            }
        };
        found.iter_mut().for_each(|answer| answer.technique.clone_from(&part.name));
        all.extend(found);
    }
    if parts.len() > 1 {
        let mut together = batches(with, base, point)?;
        together.iter_mut().for_each(|answer| answer.technique = "all together".to_string());
        all.extend(together);
    }
    Ok(all)
}

/// Everything that can be left out: the formats of the multiplications as one, the cache's, then each technique.
fn parts(made: &Made<'_>) -> Vec<Without> {
    let formats = |technique: &&Technique| {
        technique.kind().slots.iter().any(|slot| [Slot::Weights, Slot::Activations].contains(slot))
    };
    let rest = |kept: &dyn Fn(&&Technique) -> bool| -> Vec<Technique> {
        made.techniques.iter().filter(kept).cloned().collect()
    };
    let (base, stem) = (&made.base.precision, &made.stem.precision);
    let mut parts = Vec::new();
    let mut names: Vec<String> = made.techniques.iter().filter(formats).map(ToString::to_string).collect();
    let mut plain = base.clone();
    plain.kv = stem.kv;
    if plain != *stem {
        names.insert(0, format!("{} weights", stem.weights_name));
    }
    if !names.is_empty() {
        let stem = Deployment { precision: plain, ..made.stem.clone() };
        let techniques = rest(&|technique| !formats(technique));
        parts.push(Without { name: names.join(" + "), stem, techniques });
    }
    if base.kv != stem.kv {
        let mut precision = stem.clone();
        precision.kv = base.kv;
        let name = format!("{} KV cache", stem.kv.format);
        let stem = Deployment { precision, ..made.stem.clone() };
        parts.push(Without { name, stem, techniques: made.techniques.to_vec() });
    }
    for technique in made.techniques.iter().filter(|technique| !formats(technique)) {
        parts.push(Without {
            name: technique.to_string(),
            stem: made.stem.clone(),
            techniques: rest(&|other| *other != technique),
        });
    }
    parts
}

/// What is to be said of a deployment beside another one; nothing where steps cost the same.
fn compared(with: &Analyst, without: &Analyst, point: &Point) -> Result<Vec<Answer>> {
    let (width, before) = (with.generation().width, without.generation().width);
    if with.pricer() == without.pricer() && width == before {
        return Ok(Vec::new());
    }
    let mut all = if width > before { tokens(with, without, point)? } else { Vec::new() };
    all.extend(batches(with, without, point)?);
    Ok(all)
}

/// The batches from and up to which a token comes quicker with than without.
fn batches(with: &Analyst, without: &Analyst, point: &Point) -> Result<Vec<Answer>> {
    let seconds = |analyst: &Analyst, point: &Point| analyst.times(point).map(|times| times.tpot);
    // A deployment that such a point does not suit gains nothing at it.
    let gains = |batch_size: u64| {
        let point = Point { batch_size, ..*point };
        let (new, old) = (seconds(with, &point), seconds(without, &point));
        Ok(matches!((new, old), (Ok(Some(new)), Ok(Some(old))) if new < old * (1.0 - EQUAL)))
    };
    seconds(with, point)?;
    seconds(without, point)?;
    let found = stretch(MOST, gains)?;
    let mut all = Vec::new();
    if let Some((first, _)) = found.filter(|(first, _)| *first > 1) {
        let about = "from this batch on a token comes quicker than without, all else the same";
        all.push(Answer::new("gain_from", Some(first as f64), "sequences", about));
    }
    let last = match found {
        Some((_, MOST)) => None,
        Some((_, last)) => Some(last as f64),
        None => Some(0.0),
    };
    let about = "up to this batch a token comes quicker than without, all else the same (never: at every one, 0: at none)";
    all.push(Answer::new("gain_gone_beyond", last, "sequences", about));
    Ok(all)
}

/// How many tokens a step must bring so that one comes as quickly as without, all else the same and one token a step; and, of drafts, the least
/// chance of acceptance, the same at every position, at which it does: (1 − α^(γ+1))/(1 − α) = T_with/T_without for a
/// chain, solved by halving.
fn tokens(with: &Analyst, without: &Analyst, point: &Point) -> Result<Vec<Answer>> {
    let step = |analyst: &Analyst| analyst.times(point).map(|times| times.step.step.seconds);
    let ratio = step(with)? / step(without)?;
    let about = "tokens that a step must bring so that each comes as quickly as without";
    let mut all = vec![Answer::new("pays_from_tokens", Some(ratio), "tokens a sequence", about)];
    let techniques = &with.deployment().techniques;
    let Some(certain) = techniques.tokens_at(1.0) else { return Ok(all) };
    let brought = |chance: f64| techniques.tokens_at(chance).unwrap_or(certain);
    let value = if ratio > certain {
        None
    } else if ratio <= 1.0 {
        Some(0.0)
    } else {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle: f64 = f64::midpoint(low, high);
            if brought(middle) < ratio { low = middle } else { high = middle }
        }
        Some(high)
    };
    let about = "least chance, the same at every position, at which a token comes as quickly as without";
    all.push(Answer::new("speculation_pays_from", value, "chance of acceptance", about));
    Ok(all)
}
