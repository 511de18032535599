//! Offloading: weights, experts or cache with the host or on storage, fetched over a link each step.

use std::sync::Arc;

use super::hybrid::host_link;
use super::ops::{Parts, beside, in_lane, is_attention, link, replace};
use super::{Cache, Context, Effect, Kind, Parameter, Program, Settings, Slot};
use crate::error::Result;
use crate::site::Lane;
use crate::work::{Family, Op, Rate, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "offload",
    aliases: &["offloading", "cpu-offload", "flexgen"],
    class: "offloading",
    about: "keeps a share of weights, experts or cache with the host or on storage, and fetches it each step",
    parameters: &[
        Parameter {
            key: "what",
            default: "weights",
            about: "weights (of the layers), experts (those touched) or kv",
        },
        Parameter { key: "share", default: "1", about: "share that is not on the device" },
        Parameter { key: "to", default: "host", about: "host or ssd" },
        Parameter { key: "overlap", default: "1", about: "share of the device's time that hides fetching" },
        Parameter {
            key: "gb-s",
            default: "",
            about: "GB/s of the link; the device's link to the host unless said, for an SSD 7 (assumed: PCIe 4.0 x4)",
        },
    ],
    changes: "bytes over the link beside the device, capacity",
    formula: "t = max(t_device, bytes/B_link) with full overlap, both added up without; the link's ridge is P/B_link: PCIe \
              counts, which the survey's figure 18 leaves out. Two layers' weights stay on the device as buffers. Weights and \
              cache, each offloaded, share the link; the host and an SSD deliver at the same time",
    source: "FlexGen (arXiv 2303.06865), ZeRO-Inference (arXiv 2207.00032); the survey, figure 18",
    pays: "models that do not fit, at batches beyond the link's ridge",
    loses: "latency: a decode step waits for the link, whose bandwidth is a twentieth to a hundredth of the device's memory",
    slots: &[Slot::WeightSite, Slot::CacheSite],
    read: |settings| {
        let gb_s = settings.maybe("gb-s", 1e-9, f64::INFINITY)?;
        let ssd = settings.choice("to", &[("host", false), ("ssd", true)])?;
        let slower = if ssd { Some(gb_s.unwrap_or(SSD_GB_S)) } else { gb_s };
        Ok(Arc::new(Offload {
            what: settings.choice(
                "what",
                &[("weights", What::Weights), ("experts", What::Experts), ("kv", What::Kv)],
            )?,
            share: settings.share("share")?,
            ssd,
            assumed: ssd && gb_s.is_none(),
            overlap: settings.share("overlap")?,
            bandwidth: slower.map(|gb| gb * 1e9),
            settings: settings.clone(),
        }))
    },
};

/// Sequential reads of a PCIe 4.0 x4 drive, GB/s. Assumed.
const SSD_GB_S: f64 = 7.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Weights,
    Experts,
    Kv,
}

#[derive(Debug)]
struct Offload {
    what: What,
    share: f64,
    ssd: bool,
    assumed: bool,
    overlap: f64,
    bandwidth: Option<f64>,
    settings: Settings,
}

impl Offload {
    fn has(&self, op: &Op) -> bool {
        match self.what {
            What::Weights => Parts::All.has(op) && matches!(op.site.lane, Lane::Device | Lane::Peer),
            What::Experts => Parts::Experts.has(op),
            What::Kv => is_attention(op) && op.work.kv_bytes.key > 0.0,
        }
    }

    /// What crosses the link for one occurrence.
    fn fetched(&self, op: &Op) -> Work {
        if self.what == What::Kv {
            let cached = Rate { key: op.work.kv_bytes.key, token: op.work.kv_bytes.token, ..Rate::ZERO };
            return Work { kv_bytes: cached.times(self.share), ..Work::default() };
        }
        let touched = op.work.touched.map(|touched| crate::work::Touched {
            bytes_per_expert: touched.bytes_per_expert * self.share,
            conversions_per_expert: 0.0,
            ..touched
        });
        Work { weight_bytes: op.work.weight_bytes.times(self.share), touched, ..Work::default() }
    }
}

impl Effect for Offload {
    fn decides(&self) -> Option<&'static [Slot]> {
        Some(if self.what == What::Kv { &[Slot::CacheSite] } else { &[Slot::WeightSite] })
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.share == 0.0 {
            return Ok(());
        }
        let host = host_link(self.bandwidth.filter(|_| !self.ssd), context.hardware)?;
        let bandwidth = self.bandwidth.filter(|_| self.ssd).map_or(host, |ssd| ssd.min(host));
        let lane = if self.ssd { Lane::Storage } else { Lane::Host };
        if let Some(other) = program.hidden_in(lane).filter(|&other| other != self.overlap) {
            let must = format!("must be the same for all that comes over one link, {other} for the rest");
            return Err(self.settings.wrong("overlap", must, "give both the same"));
        }
        program.hides(lane, self.overlap);
        replace(
            &mut program.ops,
            |op| self.has(op),
            |mut op| {
                let fetch = beside(&op, format!("fetch[{}]", op.name), Family::Link, self.fetched(&op));
                if self.what != What::Kv {
                    let buffers = (2.0 / op.stage_repeat.max(2.0)).min(1.0);
                    let stays = 1.0 - self.share + self.share * buffers;
                    for lying in [&mut op.work.resident, &mut op.work.elsewhere] {
                        lying.bytes *= stays;
                        lying.elements *= stays;
                    }
                }
                Ok(vec![in_lane(fetch, lane, link(bandwidth)), op])
            },
        )
    }

    fn cache(&self, cache: &mut Cache, _: &Context<'_>) -> Result<()> {
        if self.what == What::Kv {
            cache.factor *= 1.0 - self.share;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        if self.assumed { vec![format!("the SSD is taken to deliver {SSD_GB_S} GB/s")] } else { Vec::new() }
    }
}
