//! N:M sparsity: of every M weights N are kept, and some tensor units skip the others.

use std::sync::Arc;

use super::ops::{Parts, elements, scale_weights};
use super::sparsity::bits;
use super::{Context, Effect, Kind, Parameter, Program, Slot};
use crate::error::Result;
use crate::site::Limits;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "n-m",
    aliases: &["nm", "n:m", "semi-structured"],
    class: "N:M sparsity",
    about: "keeps N of every M weights, with the place of each",
    parameters: &[
        Parameter { key: "n", default: "2", about: "weights kept of every m" },
        Parameter { key: "m", default: "4", about: "weights of a group" },
        Parameter { key: "parts", default: "all", about: "all, attention, ffn or experts" },
    ],
    changes: "W, capacity, and the peak for 2:4 where the device has sparse tensor units",
    formula: "W = n·(N/M)·(bits + ⌈log₂M⌉)/8; the sparse peak for 2:4; N = M is dense",
    source: "Mishra et al. 2021 (arXiv 2104.08378), NVIDIA Ampere whitepaper; the survey",
    pays: "2:4 on Ampere and later: weights 9/16 of 16-bit ones, twice the peak",
    loses: "other patterns gain in memory alone; 4-bit weights gain a quarter only",
    slots: &[Slot::Sparsity],
    read: |settings| {
        let (n, m) = (settings.count("n", 1, 1 << 16)?, settings.count("m", 1, 1 << 16)?);
        if n > m {
            return Err(settings.wrong("n", format!("must be at most m = {m}"), "for example n=2,m=4"));
        }
        Ok(Arc::new(NOfM { n, m, parts: settings.choice("parts", &Parts::NAMES)? }))
    },
};

#[derive(Debug)]
struct NOfM {
    n: u64,
    m: u64,
    parts: Parts,
}

impl Effect for NOfM {
    fn parts(&self) -> Option<Parts> {
        Some(self.parts)
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.n == self.m {
            return Ok(());
        }
        let (kept, place) = (self.n as f64 / self.m as f64, (self.m as f64).log2().ceil());
        for op in program.ops.iter_mut().filter(|op| self.parts.has(op) && elements(op) > 0.0) {
            let bits = bits(op);
            scale_weights(&mut op.work, kept * (bits + place) / bits, kept);
            let peak = |sparse| context.hardware.tensor_peak(op.format, sparse);
            if let ((2, 4), Some(sparse), Some(dense)) = ((self.n, self.m), peak(true), peak(false)) {
                op.site.limits = Limits::Faster(sparse / dense);
            }
        }
        Ok(())
    }
}
