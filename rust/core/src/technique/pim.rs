//! Processing in memory: operators that only read run beside the banks.

use std::sync::Arc;

use super::hybrid::rates;
use super::ops::{Parts, apart, beside, by_sequence, in_lane, is_attention, known, link, replace};
use super::{Context, Effect, Kind, Parameter, Program, Slot, Store};
use crate::catalog;
use crate::error::{Error, Result};
use crate::hardware::{Hardware, Kind as DeviceKind};
use crate::site::{Lane, Limits, Rates, Site};
use crate::work::{Family, Op, Rate, Resident, Touched, Work};

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
        Parameter {
            key: "memory",
            default: "own",
            about: "own (the device's memory computes; its capacity stays) or added (beside it, and holds what is run there)",
        },
    ],
    changes: "P and B of single operators; capacity where it is added",
    formula: "t = min(max(F/P, Q/B), max(F/P_pim, Q/B_pim)) an operator, with N·(peak, bank bandwidth) of N stacks; added: the \
              cache (or weights) of what is run there fills N·C_pim instead of the device, and prompts, which stay on the device, \
              fetch it over N·pins, hidden behind the device's own time",
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
        let added = settings.choice("memory", &[("own", false), ("added", true)])?;
        settings.only_where(!added, "memory=own: what lies in added memory is run there", &["route"])?;
        Ok(Arc::new(Pim {
            device,
            stacks: settings.count("stacks", 1, 1 << 20)? as f64,
            ops: settings.choice("ops", &[("attention", 0), ("gemm", 1), ("all", 2)])?,
            always: added || settings.choice("route", &[("faster", false), ("always", true)])?,
            added,
        }))
    },
};

#[derive(Debug)]
struct Pim {
    device: Hardware,
    stacks: f64,
    ops: u8,
    always: bool,
    added: bool,
}

impl Pim {
    fn has(&self, op: &Op) -> bool {
        let attention = is_attention(op) && op.work.flops.pair + op.work.flops.key > 0.0;
        (self.ops != 1 && attention) || (self.ops != 0 && Parts::All.has(op))
    }

    /// What a prompt's operator needs of what lies in added memory.
    fn fetched(&self, op: &Op, pins: Rates) -> Op {
        let Work { weight_bytes, touched, .. } = op.work;
        let touched = touched.map(|touched| Touched { conversions_per_expert: 0.0, ..touched });
        let needed = if is_attention(op) {
            let cached = Rate { key: op.work.kv_bytes.key, token: op.work.kv_bytes.token, ..Rate::ZERO };
            Work { kv_bytes: cached, ..Work::default() }
        } else {
            Work { weight_bytes, touched, ..Work::default() }
        };
        in_lane(beside(op, format!("fetch[{}]", op.name), Family::Link, needed), Lane::Exchange, pins)
    }
}

impl Effect for Pim {
    fn decides(&self) -> Option<&'static [Slot]> {
        match (self.added, self.ops) {
            (false, _) => None,
            (true, 0) => Some(&[Slot::AttentionSite, Slot::CacheSite, Slot::Store]),
            (true, 1) => Some(&[Slot::AttentionSite, Slot::WeightSite, Slot::Store]),
            (true, _) => Some(&[Slot::AttentionSite, Slot::CacheSite, Slot::WeightSite, Slot::Store]),
        }
    }

    fn operators(&self, program: &mut Program, _: &Context<'_>) -> Result<()> {
        let pins = match self.added {
            true => known(self.device.host_link.bandwidth.value, "link.host.bandwidth", &self.device.name)?,
            false => f64::INFINITY,
        };
        let pins = link(self.stacks * pins);
        if self.added {
            program.hides(Lane::Exchange, 1.0);
        }
        replace(
            &mut program.ops,
            |op| self.has(op),
            |mut op| {
                let there = rates(&self.device, op.format, self.stacks)?;
                let limits = if self.always { Limits::Other(there) } else { Limits::Either(there) };
                if self.added {
                    op.work.elsewhere = std::mem::take(&mut op.work.resident);
                }
                let (mut decode, prompts) = if is_attention(&op) { by_sequence(op) } else { apart(op) };
                decode.iter_mut().for_each(|op| op.site = Site { limits, ..op.site });
                let prompts = prompts.map(|mut op| {
                    if decode.is_some() {
                        op.work.elsewhere = Resident::default();
                    }
                    op
                });
                let fetched = prompts.as_ref().filter(|_| self.added).map(|op| self.fetched(op, pins));
                Ok(decode.into_iter().chain(fetched).chain(prompts).collect())
            },
        )
    }

    fn store(&self, _: &Context<'_>) -> Result<Option<Store>> {
        if !self.added {
            return Ok(None);
        }
        let each = known(self.device.memory.capacity.value, "memory.device.capacity", &self.device.name)?;
        let cache = self.ops != 1;
        Ok(Some(Store { what: "PIM memory", capacity: self.stacks * each, cache, tokens: 0.0 }))
    }

    fn notes(&self) -> Vec<String> {
        let what = ["the cache", "the layers' weights", "cache and weights"][usize::from(self.ops)];
        let (stacks, title) = (self.stacks, &self.device.title);
        let verb = if self.ops == 0 { "is" } else { "are" };
        vec![match self.added {
            true => format!("{what} {verb} kept in {stacks} of {title} beside the device's memory"),
            false => {
                format!("{what} {verb} taken to lie in {stacks} of {title}, within the device's own capacity")
            }
        }]
    }
}
