//! Low-rank decomposition: a matrix becomes two thin ones.

use std::sync::Arc;

use super::ops::{Parts, replace, share_of_tokens, smaller_side, unless_fused};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot};
use crate::error::Result;
use crate::layout::Layout;
use crate::site::Matrix;
use crate::work::{Kernel, Op, Rate};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "low-rank",
    aliases: &["svd", "asvd"],
    class: "low-rank decomposition",
    about: "replaces dense matrices, as they are run (q, k and v as one, gate and up as one), by two of rank r",
    parameters: &[
        Parameter { key: "rank", default: "", about: "rank of every matrix" },
        Parameter {
            key: "keep",
            default: "",
            about: "instead of a rank: share of the dense cost, r = keep·mn/(m+n)",
        },
        Parameter { key: "parts", default: "all", about: "all, attention or ffn; experts stay dense" },
    ],
    changes: "F, W, capacity; + an intermediate of rank r a token unless fused",
    formula: "F = 2T·r(m+n), W = r(m+n)·bits/8; pays where r < mn/(m+n)",
    source: "ASVD (arXiv 2312.05821), LoRD (arXiv 2309.14021); the survey",
    pays: "ranks below mn/(m+n), half of a square matrix' width",
    loses: "higher ranks: both factors together are larger than the matrix",
    slots: &[Slot::Sparsity],
    read: |settings| {
        let (rank, keep) = (settings.maybe_count("rank", 1, 1 << 32)?, settings.maybe("keep", 1e-9, 1.0)?);
        if rank.is_some() && keep.is_some() {
            return Err(settings.wrong("keep", "must not be given beside rank", "give one of them"));
        }
        let parts = settings.choice("parts", &Parts::NAMES)?;
        Ok(Arc::new(LowRank { rank: rank.map(|rank| rank as f64), keep, parts, settings: settings.clone() }))
    },
};

#[derive(Debug)]
struct LowRank {
    rank: Option<f64>,
    keep: Option<f64>,
    parts: Parts,
    settings: Settings,
}

impl LowRank {
    fn rank_of(&self, op: &Op, matrix: Matrix, layout: Layout) -> Result<Option<f64>> {
        let (most, Matrix { inputs, outputs }) = (smaller_side(op, matrix, layout), matrix);
        match (self.rank, self.keep) {
            (Some(rank), _) if rank > most => {
                let must = format!("must be at most {most}, the smaller side of {}", op.name);
                Err(self.settings.wrong("rank", must, "use `keep`, or `parts` to leave small matrices dense"))
            }
            (Some(rank), _) => Ok(Some(rank)),
            (None, Some(keep)) => Ok(Some(keep * inputs * outputs / (inputs + outputs))),
            (None, None) => Ok(None),
        }
    }
}

/// One of the two factors: its share of weights and operations, and what enters or leaves it.
fn factor(op: &Op, side: &str, matrix: Matrix, moved: Rate) -> Op {
    let dense = op.matrix.map_or(1.0, |matrix| matrix.inputs * matrix.outputs);
    let share = matrix.inputs * matrix.outputs / dense;
    let mut new = op.clone();
    new.name = format!("{}[{side}]", op.name);
    new.matrix = Some(matrix);
    if let Kernel::Gemm(gemm) = &mut new.kernel {
        (gemm.inputs, gemm.outputs) = (matrix.inputs, matrix.outputs);
    }
    new.work.flops = op.work.flops.times(share);
    new.work.vector_flops = op.work.vector_flops.times(share);
    new.work.weight_bytes = op.work.weight_bytes.times(share);
    new.work.resident.bytes *= share;
    new.work.resident.elements *= share;
    new.work.activation_bytes = moved;
    new
}

impl Effect for LowRank {
    fn parts(&self) -> Option<Parts> {
        Some(self.parts)
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        let bytes = context.activation_bytes();
        let wanted = |op: &Op| self.parts.has(op) && op.matrix.is_some();
        replace(&mut program.ops, wanted, |op| {
            let Some(matrix @ Matrix { inputs, outputs }) = op.matrix else { return Ok(vec![op]) };
            let Some(rank) = self.rank_of(&op, matrix, context.layout)? else { return Ok(vec![op]) };
            let tokens = share_of_tokens(&op, matrix);
            let written = tokens * outputs * bytes;
            let read = op.work.activation_bytes.token - written;
            let between = unless_fused(context.lowering, tokens * rank * bytes);
            Ok(vec![
                factor(&op, "a", Matrix { inputs, outputs: rank }, Rate::token(read) + between),
                factor(&op, "b", Matrix { inputs: rank, outputs }, Rate::token(written) + between),
            ])
        })
    }
}
