//! Operator fusion: how much elementwise work runs inside its neighbours.

use std::sync::Arc;

use super::{Effect, Kind, Parameter, Slot, Target};
use crate::error::Result;
use crate::op::elementwise::Fusion as Level;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "fusion",
    aliases: &["operator-fusion"],
    class: "operator fusion",
    about: "runs norms, activations, residuals and RoPE inside their neighbours, or as kernels of their own",
    parameters: &[Parameter {
        key: "level",
        default: "full",
        about: "full, engine (add+norm, act·mul, RoPE with the KV write) or none",
    }],
    changes: "A",
    formula: "Q = ΣQ − 2·intermediate: a fused tensor is neither written nor read again; only memory-bound operators gain",
    source: "the survey; vLLM's fused kernels (engine)",
    pays: "prefill: elementwise traffic is a tenth of the time, of small models a fifth",
    loses: "nowhere",
    slots: &[Slot::Fusion],
    read: |settings| {
        let levels = [("full", Level::Full), ("engine", Level::Engine), ("none", Level::None)];
        Ok(Arc::new(Fusion { level: settings.choice("level", &levels)? }))
    },
};

#[derive(Debug)]
struct Fusion {
    level: Level,
}

impl Effect for Fusion {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        target.lowering.fusion = self.level;
        Ok(())
    }
}
