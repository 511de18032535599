//! Mixture-of-experts options: another top-k, skewed routing, replicas of hot experts.

use std::sync::Arc;

use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot, Target};
use crate::error::{Error, Result};
use crate::model::{Ffn, Moe};
use crate::site::{SKEW_CLASSES, Skew};
use crate::work::{Family, Op};

use super::ops::scale_tokens;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "experts",
    aliases: &["moe", "expert-routing"],
    class: "mixture of experts",
    about: "changes how many experts a token visits, how unevenly, and which are replicated",
    parameters: &[
        Parameter { key: "top-k", default: "", about: "experts a token visits" },
        Parameter {
            key: "alpha",
            default: "0",
            about: "exponent of a power law of popularity: expert e is visited as (e+1)^−α; 0 is even",
        },
        Parameter {
            key: "loads",
            default: "",
            about: "instead of a power law: visits of each expert in a routing trace, separated by slashes, or @FILE",
        },
        Parameter { key: "replicas", default: "0", about: "hottest experts that every rank holds (ep > 1)" },
        Parameter {
            key: "placement",
            default: "dealt",
            about: "dealt (by popularity, in turn) or contiguous (hottest together)",
        },
    ],
    changes: "W (experts touched), F of the busiest rank, capacity (replicas)",
    formula: "E_touched = Σ_e 1 − (1 − k·p_e)^T on the busiest rank; its F and A, and what is exchanged, times (its visits)/(the mean rank's)",
    source: "Mixtral (arXiv 2401.04088), DeepSeek-V3's EPLB (arXiv 2412.19437); the survey",
    pays: "replicas: large ep with skewed routing; skew itself: small batches, which touch fewer experts",
    loses: "skew under expert parallelism: the busiest rank decides",
    slots: &[Slot::Routing],
    read: |settings| {
        let alpha = settings.number("alpha", 0.0, 100.0)?;
        let loads = settings.list("loads", 0.0, f64::INFINITY)?;
        if alpha > 0.0 && !loads.is_empty() {
            return Err(settings.wrong("alpha", "must not be given beside loads", "give one of them"));
        }
        if !loads.is_empty() && loads.iter().sum::<f64>() <= 0.0 {
            return Err(settings.wrong("loads", "must not all be 0", ""));
        }
        Ok(Arc::new(Experts {
            top_k: settings.maybe_count("top-k", 1, 1 << 20)?,
            alpha,
            loads,
            replicas: settings.count("replicas", 0, 1 << 20)?,
            contiguous: settings.choice("placement", &[("dealt", false), ("contiguous", true)])?,
            settings: settings.clone(),
        }))
    },
};

#[derive(Debug)]
struct Experts {
    top_k: Option<u64>,
    alpha: f64,
    loads: Vec<f64>,
    replicas: u64,
    contiguous: bool,
    settings: Settings,
}

fn moes(model: &crate::model::Model) -> impl Iterator<Item = &Moe> {
    model.layers.iter().filter_map(|group| match &group.ffn {
        Some(Ffn::Moe(moe)) => Some(moe),
        _ => None,
    })
}

/// Chances that one token visits each expert, hottest first: they add up to `top_k`, each at most 1.
fn visits(weights: &[f64], top_k: f64) -> Vec<f64> {
    let mut falling = weights.to_vec();
    falling.sort_by(|a, b| b.total_cmp(a));
    // Added up from the least on: the steepest law has weights that vanish beside the greatest.
    let mut rests = falling.clone();
    for place in (1..rests.len()).rev() {
        rests[place - 1] += rests[place];
    }
    let (count, mut left) = (weights.len(), top_k);
    let chance = |(place, (weight, rest)): (usize, (f64, f64))| {
        let even = left / (count - place) as f64;
        let share = if rest > 0.0 { left * weight / rest } else { even };
        left -= share.min(1.0);
        share.min(1.0)
    };
    falling.into_iter().zip(rests).enumerate().map(chance).collect()
}

/// What the busiest rank holds: the chance that a token of the whole group visits each of its experts.
struct Busiest {
    chances: Vec<f64>,
}

impl Experts {
    fn popularity(&self, moe: &Moe) -> Result<Vec<f64>> {
        if self.loads.is_empty() {
            return Ok((0..moe.experts).map(|expert| (expert as f64 + 1.0).powf(-self.alpha)).collect());
        }
        if self.loads.len() as u64 != moe.experts {
            let must = format!(
                "must have one number for each of the {} experts, not {}",
                moe.experts,
                self.loads.len()
            );
            return Err(self.settings.wrong("loads", must, ""));
        }
        Ok(self.loads.clone())
    }

    fn busiest(&self, moe: &Moe, ep: u64) -> Result<Busiest> {
        let chances = visits(&self.popularity(moe)?, moe.top_k as f64);
        let replicas = self.replicas.min(moe.experts) as usize;
        let (hot, cold) = chances.split_at(replicas);
        let each = cold.len().div_ceil(ep as usize);
        let own =
            |place: &usize| if self.contiguous { *place < each } else { place.is_multiple_of(ep as usize) };
        let held = cold.iter().enumerate().filter(|(place, _)| own(place)).map(|(_, chance)| *chance);
        let shared = hot.iter().map(|chance| chance / ep as f64);
        Ok(Busiest { chances: shared.chain(held).collect() })
    }
}

/// Experts gathered into classes, small ones for the hottest.
fn classes(mut chances: Vec<f64>) -> Skew {
    chances.sort_by(|a, b| b.total_cmp(a));
    let (count, mut sums) = (chances.len(), [(0usize, 0.0f64); SKEW_CLASSES]);
    for (place, chance) in chances.iter().enumerate() {
        let class = if count <= SKEW_CLASSES {
            place
        } else {
            let depth = (1.0 + place as f64).ln() / (1.0 + count as f64).ln();
            ((depth * SKEW_CLASSES as f64) as usize).min(SKEW_CLASSES - 1)
        };
        sums[class].0 += 1;
        sums[class].1 += chance;
    }
    let class = |(members, sum): (usize, f64)| match members {
        0 => (0.0, 1.0),
        _ => (members as f64 / count as f64, 1.0 - sum / members as f64),
    };
    Skew { classes: sums.map(class) }
}

impl Effect for Experts {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        let model = &mut *target.model;
        if moes(model).next().is_none() {
            let hint = "mixtral-8x7b, deepseek-v3 and others have them";
            return Err(Error::spec("experts", "must be used on a model with experts", &model.name, hint));
        }
        let Some(top_k) = self.top_k else { return Ok(()) };
        for group in &mut model.layers {
            if let Some(Ffn::Moe(moe)) = &mut group.ffn {
                if top_k > moe.experts {
                    let must = format!("must be at most the {} experts of `{}`", moe.experts, model.name);
                    return Err(self.settings.wrong("top-k", must, ""));
                }
                moe.top_k = top_k;
            }
        }
        Ok(())
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.alpha == 0.0 && self.loads.is_empty() && self.replicas == 0 {
            return Ok(());
        }
        let Some(moe) = moes(context.model).next() else { return Ok(()) };
        let ep = context.layout.ep;
        let busiest = self.busiest(moe, ep)?;
        let mean = moe.top_k as f64 / ep as f64;
        let imbalance = busiest.chances.iter().sum::<f64>() / mean;
        let held = busiest.chances.len() as f64;
        let skew = classes(busiest.chances);
        // What reaches the busiest rank, and leaves it, takes as much longer.
        let beside = ["experts_act_mul", "quantize[experts_", "dispatch", "combine"];
        let of_experts = |op: &&mut Op| {
            op.family == Family::MoeGemm || beside.iter().any(|name| op.name.starts_with(name))
        };
        for op in program.ops.iter_mut().filter(of_experts) {
            scale_tokens(&mut op.work, imbalance);
            if let Some(touched) = &mut op.work.touched {
                let more = held / touched.local;
                touched.local = held;
                touched.skew = Some(skew);
                op.work.resident.bytes *= more;
                op.work.resident.elements *= more;
            }
        }
        Ok(())
    }
}
