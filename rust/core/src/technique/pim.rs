//! Processing in memory: operators that only read run beside the banks.

use std::sync::Arc;

use super::hybrid::rates;
use super::ops::{Parts, apart, decode_beside_prompts, is_attention, replace};
use super::{Context, Effect, Kind, Parameter, Program, Slot};
use crate::catalog;
use crate::error::{Error, Result};
use crate::hardware::{Hardware, Kind as DeviceKind};
use crate::site::{Limits, Site};
use crate::work::{Op, Over};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "pim",
    aliases: &["near-memory", "processing-in-memory"],
    class: "PIM and near-memory computing",
    about: "runs operators of decode beside the memory's banks, where that is faster",
    parameters: &[
        Parameter {
            key: "device",
            default: "hbm-pim",
            about: "catalogue name of one stack or chip (hbm-pim, gddr6-aim)",
        },
        Parameter { key: "stacks", default: "5", about: "stacks or chips of one device, working together" },
        Parameter { key: "ops", default: "attention", about: "attention, gemm or all" },
        Parameter {
            key: "route",
            default: "faster",
            about: "faster (each operator where it takes less) or always",
        },
    ],
    changes: "P and B of single operators",
    formula: "t = min(max(F/P, Q/B), max(F/P_pim, Q/B_pim)) an operator, with N·(peak, bank bandwidth) of N stacks",
    source: "HBM-PIM (ISCA 2021), AiM (ISSCC 2022), AttAcc (ASPLOS 2024), NeuPIMs (arXiv 2403.00579); the survey",
    pays: "decode attention: about 1 FLOP a byte for each query head of a KV head",
    loses: "anything with reuse: batched multiplications, prefill",
    slots: &[Slot::AttentionSite],
    read: |settings| {
        let name = settings.get("device").unwrap_or("hbm-pim");
        let device = catalog::hardware::hardware(name)?.item;
        if device.kind != DeviceKind::Pim {
            let must = "must name memory that computes";
            return Err(Error::spec("pim:device", must, name, "hbm-pim or gddr6-aim"));
        }
        Ok(Arc::new(Pim {
            device,
            stacks: settings.count("stacks", 1, 1 << 20)? as f64,
            ops: settings.choice("ops", &[("attention", 0), ("gemm", 1), ("all", 2)])?,
            always: settings.choice("route", &[("faster", false), ("always", true)])?,
        }))
    },
};

#[derive(Debug)]
struct Pim {
    device: Hardware,
    stacks: f64,
    ops: u8,
    always: bool,
}

impl Pim {
    fn has(&self, op: &Op) -> bool {
        let attention = is_attention(op) && op.work.flops.pair + op.work.flops.key > 0.0;
        let gemm = Parts::All.has(op);
        op.over != Over::Prefill && ((self.ops != 1 && attention) || (self.ops != 0 && gemm))
    }
}

impl Effect for Pim {
    fn operators(&self, program: &mut Program, _: &Context<'_>) -> Result<()> {
        replace(
            &mut program.ops,
            |op| self.has(op),
            |op| {
                let there = rates(&self.device, op.format, self.stacks)?;
                let limits = if self.always { Limits::Other(there) } else { Limits::Either(there) };
                let go = |op: &mut Op| op.site = Site { limits, ..op.site };
                if is_attention(&op) {
                    return Ok(decode_beside_prompts(op, go));
                }
                let (mut alone, prompts) = apart(op);
                alone.iter_mut().for_each(go);
                Ok(alone.into_iter().chain(prompts).collect())
            },
        )
    }

    fn notes(&self) -> Vec<String> {
        vec![format!("cache and weights are taken to lie in {} of {}", self.stacks, self.device.title)]
    }
}
