//! How a model is spread over devices: tensor, pipeline, data and expert parallelism.

use crate::error::{Error, Result};
use crate::model::{Ffn, Mixer, Model};

/// Degrees of parallelism of one deployment.
///
/// `dp` is attention data parallelism: batch sizes, token budgets and KV blocks are counted per rank. `ep` is the
/// number of devices that share the routed experts: 1 shards each expert by `tp`, `tp·dp` spreads whole experts
/// (vLLM's `--enable-expert-parallel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Tensor parallelism.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Data-parallel ranks.
    pub dp: u64,
    /// Devices that share the experts.
    pub ep: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { tp: 1, pp: 1, dp: 1, ep: 1 }
    }
}

impl Layout {
    /// Devices of the whole deployment.
    pub fn gpus(self) -> u64 {
        self.tp * self.pp * self.dp
    }

    /// Data-parallel ranks whose tokens meet at one expert.
    pub fn ranks_sharing_experts(self) -> u64 {
        (self.ep / self.tp).max(1)
    }

    /// Into how many parts one expert's matrices are cut.
    pub fn expert_tp(self) -> u64 {
        (self.tp / self.ep).max(1)
    }

    /// Layers of the busiest pipeline stage.
    pub fn busiest_stage_layers(self, layers: u64) -> u64 {
        layers.div_ceil(self.pp)
    }

    /// Checks the degrees against each other and against the model.
    ///
    /// # Errors
    /// Every rule that is broken, all at once: zero degrees, heads that `tp` does not divide, more stages than
    /// layers, experts that `ep` does not divide, an `ep` that is not made of whole ranks.
    pub fn check(self, model: &Model) -> Result<()> {
        let mut errors = Vec::new();
        for (field, value) in [("tp", self.tp), ("pp", self.pp), ("dp", self.dp), ("ep", self.ep)] {
            if value == 0 {
                errors.push(Error::spec(format!("layout.{field}"), "must be at least 1", 0, ""));
            }
        }
        Error::all("layout", errors)?;
        let mut errors = Vec::new();
        let layers: u64 = model.layers.iter().map(|group| group.count).sum();
        if self.pp > layers {
            errors.push(Error::spec(
                "layout.pp",
                format!("must be at most the {layers} layers of `{}`", model.name),
                self.pp,
                "",
            ));
        }
        for group in &model.layers {
            self.check_heads(model, group.mixer.as_ref(), &mut errors);
            self.check_experts(model, group.ffn.as_ref(), &mut errors);
        }
        errors.dedup();
        Error::all("layout", errors)
    }

    fn check_heads(self, model: &Model, mixer: Option<&Mixer>, errors: &mut Vec<Error>) {
        let (count, kv, what) = match mixer {
            Some(Mixer::Attention(attention)) => (attention.heads, attention.kv_heads, "attention heads"),
            Some(Mixer::Mla(mla)) => (mla.heads, mla.heads, "attention heads"),
            Some(Mixer::Mamba(mamba)) if mamba.version == 1 => (mamba.inner, mamba.inner, "inner channels"),
            Some(Mixer::Mamba(mamba)) => (mamba.heads, mamba.heads, "state-space heads"),
            Some(Mixer::Linear(linear)) => (linear.value_heads, linear.value_heads, "linear-attention heads"),
            None => return,
        };
        // KV heads are shared out, or each is held by several devices.
        let possible = |tp: u64| count.is_multiple_of(tp) && (kv.is_multiple_of(tp) || tp.is_multiple_of(kv));
        if !possible(self.tp) {
            let usable: Vec<String> =
                (1..=count.min(64)).filter(|tp| possible(*tp)).map(|tp| tp.to_string()).collect();
            let shared =
                if kv == count { String::new() } else { format!(", shared out over its {kv} KV heads") };
            errors.push(Error::spec(
                "layout.tp",
                format!("must divide the {count} {what} of `{}`{shared}", model.name),
                self.tp,
                format!("use one of {}", usable.join(", ")),
            ));
        }
    }

    fn check_experts(self, model: &Model, ffn: Option<&Ffn>, errors: &mut Vec<Error>) {
        if self.ep == 1 {
            return;
        }
        let whole = if self.ep > self.tp {
            self.ep.is_multiple_of(self.tp) && (self.tp * self.dp).is_multiple_of(self.ep)
        } else {
            self.tp.is_multiple_of(self.ep)
        };
        if !whole {
            errors.push(Error::spec(
                "layout.ep",
                format!(
                    "must be 1, a divisor of tp, or a multiple of tp that divides tp·dp = {}",
                    self.tp * self.dp
                ),
                self.ep,
                format!("use 1 or {}", self.tp * self.dp),
            ));
        }
        match ffn {
            Some(Ffn::Moe(moe)) if !moe.experts.is_multiple_of(self.ep) => errors.push(Error::spec(
                "layout.ep",
                format!("must divide the {} experts of `{}`", moe.experts, model.name),
                self.ep,
                "",
            )),
            Some(Ffn::Moe(_)) => {}
            _ if model.layers.iter().any(|group| matches!(group.ffn, Some(Ffn::Moe(_)))) => {}
            _ => errors.push(Error::spec(
                "layout.ep",
                format!("must be 1 for `{}`, which has no experts", model.name),
                self.ep,
                "",
            )),
        }
    }
}
