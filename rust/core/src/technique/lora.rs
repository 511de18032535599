//! LoRA adapters: a thin pair of matrices beside each weight, of each adapter in the batch its own.

use std::sync::Arc;

use super::ops::{Parts, beside, projected_by, replace, share_of_tokens, smaller_side, unless_fused};
use super::{Context, Effect, Kind, Parameter, Program, Settings};
use crate::error::Result;
use crate::model::Attention;
use crate::site::{DrawnBy, Matrix};
use crate::work::{Family, Op, Rate, Resident, Touched, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "lora",
    aliases: &["adapters", "s-lora", "multi-lora"],
    class: "LoRA",
    about: "adds adapters that are not merged: several in a batch, all of them resident",
    parameters: &[
        Parameter { key: "rank", default: "0", about: "rank of an adapter; 0 is none" },
        Parameter { key: "adapters", default: "1", about: "adapters that sequences choose among, evenly" },
        Parameter {
            key: "resident",
            default: "",
            about: "adapters in the device's memory, at least those a batch draws; all unless said",
        },
        Parameter { key: "parts", default: "all", about: "all, attention or ffn; experts have none" },
    ],
    changes: "F, W, capacity; + an intermediate a token unless fused",
    formula: "a pair of r(m+n) numbers for each module that an engine runs as one (q, k and v; gate and up): r(j·m+n) for j of \
              them. F = 2T·r(j·m+n); W = r(j·m+n)·a for each distinct adapter of the batch, A·(1 − (1 − 1/A)^n) with n \
              sequences. Beside a matrix that tp cuts by columns a device keeps the whole first factor, as vLLM does",
    source: "LoRA (arXiv 2106.09685), S-LoRA (arXiv 2311.03285), Punica (arXiv 2310.18547)",
    pays: "against a model for each tenant: adapters of rank 16 are under 1 % of the weights",
    loses: "against merged weights: many adapters of a high rank in one batch add up",
    slots: &[],
    read: |settings| {
        let adapters = settings.count("adapters", 1, 1 << 32)?;
        let resident = settings.maybe_count("resident", 1, 1 << 32)?.unwrap_or(adapters);
        let rank = settings.number("rank", 0.0, 1e9)?;
        settings.only_where(rank > 0.0, "a rank", &["adapters", "resident"])?;
        if resident > adapters {
            return Err(settings.wrong("resident", format!("must be at most the {adapters} adapters"), ""));
        }
        Ok(Arc::new(Lora {
            rank,
            settings: settings.clone(),
            adapters: adapters as f64,
            resident: resident as f64,
            parts: settings.choice("parts", &Parts::NAMES)?,
        }))
    },
};

#[derive(Debug)]
struct Lora {
    rank: f64,
    settings: Settings,
    adapters: f64,
    resident: f64,
    parts: Parts,
}

/// How many modules `op` runs as one: an adapter has a pair of matrices of its own for each.
fn modules(op: &Op, matrix: Matrix, context: &Context<'_>) -> f64 {
    match op.stem().strip_prefix("shared_").unwrap_or(op.stem()) {
        "gate_up_proj" | "qkv_a_proj" => 2.0,
        "qkv_proj" => {
            let own = projected_by(context.model, matrix, context.layout);
            1.0 + own.map_or(2.0, key_value_modules)
        }
        _ => 1.0,
    }
}

fn key_value_modules(attention: &Attention) -> f64 {
    match (attention.shares_kv, attention.value_is_key) {
        (true, _) => 0.0,
        (false, true) => 1.0,
        (false, false) => 2.0,
    }
}

impl Effect for Lora {
    fn check(&self, sequences: u64, _: u64) -> Result<()> {
        let distinct = self.adapters * (1.0 - (1.0 - 1.0 / self.adapters).powf(sequences as f64));
        if self.rank == 0.0 || distinct <= self.resident {
            return Ok(());
        }
        let must =
            format!("must be at least the {distinct:.1} adapters that {sequences} sequences draw at once");
        Err(self.settings.wrong("resident", must, "adapters of running sequences lie in the device's memory"))
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.rank == 0.0 {
            return Ok(());
        }
        let bytes = context.activation_bytes();
        replace(
            &mut program.ops,
            |op| self.parts.has(op) && op.matrix.is_some(),
            |op| {
                let Some(matrix) = op.matrix else { return Ok(vec![op]) };
                let most = smaller_side(&op, matrix, context.layout);
                if self.rank > most {
                    let must = format!("must be at most {most}, the smaller side of {}", op.name);
                    return Err(self.settings.wrong("rank", must, ""));
                }
                let pairs = modules(&op, matrix, context);
                let numbers = self.rank * (pairs * matrix.inputs + matrix.outputs);
                let tokens = share_of_tokens(&op, matrix);
                let moved = tokens * (matrix.inputs + 2.0 * pairs * self.rank + 2.0 * matrix.outputs) * bytes;
                let work = Work {
                    flops: Rate::token(2.0 * tokens * numbers),
                    touched: Some(Touched {
                        bytes_per_expert: numbers * bytes,
                        conversions_per_expert: 0.0,
                        local: self.adapters,
                        missed: 1.0 - 1.0 / self.adapters,
                        ranks: 1.0,
                        drawn_by: DrawnBy::Sequence,
                        skew: None,
                    }),
                    activation_bytes: unless_fused(context.lowering, moved),
                    resident: Resident {
                        elements: self.resident * numbers,
                        bytes: self.resident * numbers * bytes,
                    },
                    ..Work::default()
                };
                let mut adapter = beside(&op, format!("lora[{}]", op.name), Family::Gemm, work);
                adapter.format = context.precision.activation;
                Ok(vec![op, adapter])
            },
        )
    }
}
