//! Structured pruning: narrower layers, fewer heads, fewer layers.

use std::sync::Arc;

use super::{Effect, Kind, Parameter, Settings, Slot, Target};
use crate::error::{Error, Result};
use crate::model::{Ffn, Mixer};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "prune",
    aliases: &["pruning", "structured-pruning"],
    class: "structured pruning",
    about: "keeps a share of the FFN's channels, of the heads, of the layers",
    parameters: &[
        Parameter {
            key: "ffn",
            default: "1",
            about: "share of the inner channels of every FFN (and expert) kept",
        },
        Parameter { key: "heads", default: "1", about: "share of the query and KV heads kept" },
        Parameter { key: "layers", default: "1", about: "share of the layers kept" },
    ],
    changes: "shapes: F, W, A, KV, capacity",
    formula: "I' = round(ffn·I), H' = heads·H and K' = heads·K (whole), L' = round(layers·L)",
    source: "LLM-Pruner (arXiv 2305.11627); the survey",
    pays: "everywhere, on any hardware: what is left is dense",
    loses: "nowhere in time; quality has to be trained back",
    slots: &[Slot::Shapes],
    read: |settings| {
        let (ffn, heads, layers) = (settings.part("ffn")?, settings.part("heads")?, settings.part("layers")?);
        Ok(Arc::new(Prune { ffn, heads, layers, settings: settings.clone() }))
    },
};

#[derive(Debug)]
struct Prune {
    ffn: f64,
    heads: f64,
    layers: f64,
    settings: Settings,
}

impl Prune {
    fn whole(&self, heads: u64, what: &str) -> Result<u64> {
        let kept = heads as f64 * self.heads;
        if (kept - kept.round()).abs() < 1e-9 && kept >= 1.0 {
            return Ok(kept.round() as u64);
        }
        let must = format!("must leave a whole number of the {heads} {what}");
        Err(self.settings.wrong("heads", must, "for example 0.5"))
    }
}

/// The nearest whole number, at least 1.
fn kept(count: u64, share: f64) -> u64 {
    ((count as f64 * share).round() as u64).max(1)
}

impl Effect for Prune {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        for group in &mut target.model.layers {
            group.count = kept(group.count, self.layers);
            match &mut group.ffn {
                Some(Ffn::Dense(dense)) => dense.intermediate = kept(dense.intermediate, self.ffn),
                Some(Ffn::Moe(moe)) => {
                    moe.intermediate = kept(moe.intermediate, self.ffn);
                    if moe.shared_intermediate > 0 {
                        moe.shared_intermediate = kept(moe.shared_intermediate, self.ffn);
                    }
                    if moe.dense_intermediate > 0 {
                        moe.dense_intermediate = kept(moe.dense_intermediate, self.ffn);
                    }
                }
                None => {}
            }
            match &mut group.mixer {
                Some(Mixer::Attention(attention)) => {
                    attention.heads = self.whole(attention.heads, "attention heads")?;
                    attention.kv_heads = self.whole(attention.kv_heads, "KV heads")?;
                }
                Some(Mixer::Mla(mla)) => mla.heads = self.whole(mla.heads, "attention heads")?,
                _ if self.heads < 1.0 => {
                    let must = "must be 1 where layers have no attention heads";
                    return Err(Error::spec("prune:heads", must, self.heads, "prune `ffn` or `layers`"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
