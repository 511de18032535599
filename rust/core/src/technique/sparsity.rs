//! Unstructured sparsity: zeros are not stored, but multiplied all the same.

use std::sync::Arc;

use super::ops::{Parts, elements, scale_weights};
use super::{Context, Effect, Kind, Parameter, Program, Slot};
use crate::error::Result;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "sparsity",
    aliases: &["unstructured-sparsity", "sparse"],
    class: "unstructured pruning",
    about: "stores the weights that are not zero, each with an index",
    parameters: &[
        Parameter { key: "zeros", default: "0", about: "share s of the weights that are zero" },
        Parameter {
            key: "format",
            default: "indexed",
            about: "indexed (an index a weight kept), bitmap (a bit a weight) or dense (zeros are stored)",
        },
        Parameter { key: "index", default: "16", about: "bits of an index (indexed)" },
        Parameter { key: "parts", default: "all", about: "all, attention, ffn or experts" },
    ],
    changes: "W, capacity; the peak and F stay dense",
    formula: "W = n·(1−s)·(bits + index)/8, with a bitmap n·((1−s)·bits + 1)/8; gains only where (1−s)(bits + index) < bits",
    source: "SparseGPT (arXiv 2301.00774), Flash-LLM (arXiv 2309.10285); the survey",
    pays: "small batches at high sparsity: with 16-bit indices from one half of 16-bit weights on",
    loses: "low sparsity (the index outweighs the zeros), and prefill: nothing is computed faster",
    slots: &[Slot::Sparsity],
    read: |settings| {
        let index = settings.number("index", 0.0, 64.0)?;
        let format = settings.choice(
            "format",
            &[("indexed", Layout::Indexed(index)), ("bitmap", Layout::Bitmap), ("dense", Layout::Dense)],
        )?;
        settings.only_where(matches!(format, Layout::Indexed(_)), "format=indexed", &["index"])?;
        let (zeros, parts) = (settings.share("zeros")?, settings.choice("parts", &Parts::NAMES)?);
        Ok(Arc::new(Sparsity { zeros, format, parts }))
    },
};

#[derive(Debug, Clone, Copy)]
enum Layout {
    Indexed(f64),
    Bitmap,
    Dense,
}

#[derive(Debug)]
struct Sparsity {
    zeros: f64,
    format: Layout,
    parts: Parts,
}

/// Bits an element of a matrix takes now, scales included.
pub(super) fn bits(op: &crate::work::Op) -> f64 {
    8.0 * op.work.resident.bytes / elements(op)
}

impl Effect for Sparsity {
    fn parts(&self) -> Option<Parts> {
        Some(self.parts)
    }

    fn operators(&self, program: &mut Program, _: &Context<'_>) -> Result<()> {
        for op in program.ops.iter_mut().filter(|op| self.parts.has(op) && elements(op) > 0.0) {
            let (bits, kept) = (bits(op), 1.0 - self.zeros);
            let stored = match self.format {
                Layout::Indexed(index) => kept * (bits + index),
                Layout::Bitmap => kept * bits + 1.0,
                Layout::Dense => bits,
            };
            let numbers = if matches!(self.format, Layout::Dense) { 1.0 } else { kept };
            scale_weights(&mut op.work, stored / bits, numbers);
        }
        Ok(())
    }
}
