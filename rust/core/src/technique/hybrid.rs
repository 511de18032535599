//! A host's processor beside the device: attention or FFN on it, or a share of either.

use std::sync::Arc;

use super::ops::{Parts, beside, by_sequence, in_lane, is_attention, known, link, replace, scale_tokens};
use super::{Cache, Context, Effect, Kind, Parameter, Program, Slot};
use crate::catalog;
use crate::error::Result;
use crate::format::Format;
use crate::hardware::Hardware;
use crate::site::{Lane, Rates};
use crate::work::{Family, Op, Rate, Resident, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "hybrid",
    aliases: &["cpu", "cpu-gpu"],
    class: "CPU + GPU hybrids",
    about: "computes attention, or a share of the FFN, on the host's processor, where its cache or weights lie",
    parameters: &[
        Parameter { key: "processor", default: "", about: "catalogue name (xeon-8592, epyc-9654, grace)" },
        Parameter { key: "ops", default: "attention", about: "attention, ffn or experts" },
        Parameter {
            key: "share",
            default: "1",
            about: "share of the sequences (attention) or of the matrix (ffn, experts)",
        },
        Parameter {
            key: "overlap",
            default: "0",
            about: "share of the device's time that hides the processor's: 0 one after another, 1 both at once",
        },
        Parameter {
            key: "gb-s",
            default: "",
            about: "GB/s of the link to the host; the device's own unless said",
        },
    ],
    changes: "F, W or KV of the device; P and B of the processor beside it; link; capacity",
    formula: "t = t_device + max(0, t_processor − overlap·t_device), with max(F/P_cpu, Q/B_ddr) an operator; over the link \
              q, k, v and the output of attention, or T·h·a to an FFN and as much back; a prompt's attention stays on the device, which sends its keys and values to the host",
    source: "FastDecode (arXiv 2403.11421), KTransformers (SOSP 2025), PowerInfer (arXiv 2312.12456); the survey",
    pays: "caches or experts that do not fit the device: DDR is read where it is, not sent over PCIe",
    loses: "whatever fits: HBM is ten times DDR",
    slots: &[Slot::HostWork, Slot::CacheSite, Slot::FfnSite],
    read: |settings| {
        let name = settings.get("processor");
        let name =
            name.ok_or_else(|| settings.wrong("processor", "must be given", "for example xeon-8592"))?;
        Ok(Arc::new(Hybrid {
            host: processor(name)?,
            ops: settings.choice(
                "ops",
                &[("attention", None), ("ffn", Some(Parts::Ffn)), ("experts", Some(Parts::Experts))],
            )?,
            share: settings.share("share")?,
            overlap: settings.share("overlap")?,
            bandwidth: settings.maybe("gb-s", 1e-9, f64::INFINITY)?.map(|gb| gb * 1e9),
        }))
    },
};

/// The processor of that name.
pub(super) fn processor(name: &str) -> Result<Hardware> {
    Ok(catalog::hardware::hardware(name)?.item)
}

/// What `count` of a device do a second when they multiply in `format`.
pub(super) fn rates(device: &Hardware, format: Format, count: f64) -> Result<Rates> {
    Ok(Rates {
        flops: count
            * known(device.tensor_peak(format, false), &format!("tensor.dense.{format}"), &device.name)?,
        vector: count * device.vector_peak(Format::Fp32),
        bandwidth: count * known(device.memory.bandwidth.value, "memory.device.bandwidth", &device.name)?,
    })
}

/// Bytes a second between device and host.
pub(super) fn host_link(given: Option<f64>, device: &Hardware) -> Result<f64> {
    match given {
        Some(bandwidth) => Ok(bandwidth),
        None => known(device.host_link.bandwidth.value, "link.host.bandwidth", &device.name),
    }
}

#[derive(Debug)]
struct Hybrid {
    host: Hardware,
    /// `None` for attention.
    ops: Option<Parts>,
    share: f64,
    overlap: f64,
    bandwidth: Option<f64>,
}

impl Hybrid {
    fn has(&self, op: &Op) -> bool {
        match self.ops {
            None => is_attention(op) && op.work.flops.pair > 0.0,
            Some(parts) => parts.has(op),
        }
    }
}

/// A share of an operator: of its tokens and of its weights.
fn part(op: &Op, share: f64) -> Op {
    let mut part = op.clone();
    let moved = part.work.activation_bytes;
    scale_tokens(&mut part.work, share);
    let matrices = op.family == Family::Gemm || op.family == Family::MoeGemm;
    if matrices {
        part.work.activation_bytes = moved;
    }
    super::ops::scale_weights(&mut part.work, share, share);
    part.work.resident.elements *= share;
    part
}

impl Hybrid {
    /// What the host does of `op`, what crosses the link for it, and what is left to the device.
    fn split(&self, op: &Op, link_rates: Rates, hidden: f64) -> Result<Vec<Op>> {
        let mut theirs = part(op, self.share);
        theirs.name = format!("host[{}]", op.name);
        theirs.work.resident = Resident::default();
        let moved = match self.ops {
            None => theirs.work.activation_bytes.token + theirs.work.kv_bytes.token,
            // A token's state goes there and a sum comes back; what lies between stays with the host.
            Some(_) => hidden,
        };
        let moved = Rate::token(moved);
        let sent = Work { activation_bytes: moved, ..Work::default() };
        let sent = beside(op, format!("to_host[{}]", op.name), Family::Link, sent);
        let rates = rates(&self.host, op.format, 1.0)?;
        let mut all =
            vec![in_lane(sent, Lane::Processor, link_rates), in_lane(theirs, Lane::Processor, rates)];
        if self.share < 1.0 {
            all.push(part(op, 1.0 - self.share));
        }
        Ok(all)
    }

    /// A prompt's attention, which stays on the device: its keys and values go to where they will be read, and those of
    /// the context before it come from there.
    fn of_prompts(&self, op: Op, link_rates: Rates) -> [Op; 2] {
        let cached = op.work.kv_bytes;
        let moved = Rate { token: cached.token - cached.key, key: cached.key, ..Rate::ZERO };
        let sent = Work { kv_bytes: moved.times(self.share), ..Work::default() };
        let sent = beside(&op, format!("to_host[{}]", op.name), Family::Link, sent);
        [in_lane(sent, Lane::Processor, link_rates), op]
    }
}

impl Effect for Hybrid {
    fn decides(&self) -> Option<&'static [Slot]> {
        Some(match self.ops {
            Some(_) => &[Slot::HostWork, Slot::FfnSite],
            None => &[Slot::HostWork, Slot::CacheSite],
        })
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.share == 0.0 {
            return Ok(());
        }
        let link_rates = link(host_link(self.bandwidth, context.hardware)?);
        let hidden = context.model.hidden as f64 * context.activation_bytes();
        program.hides(Lane::Processor, self.overlap);
        replace(
            &mut program.ops,
            |op| self.has(op),
            |op| {
                if self.ops.is_some() {
                    return self.split(&op, link_rates, hidden);
                }
                let (decode, prompts) = by_sequence(op);
                let mut all = decode.map_or(Ok(Vec::new()), |op| self.split(&op, link_rates, hidden))?;
                all.extend(prompts.into_iter().flat_map(|op| self.of_prompts(op, link_rates)));
                Ok(all)
            },
        )
    }

    fn cache(&self, cache: &mut Cache, _: &Context<'_>) -> Result<()> {
        if self.ops.is_none() {
            cache.factor *= 1.0 - self.share;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        vec![format!("{} is taken to serve one device alone", self.host.title)]
    }
}
