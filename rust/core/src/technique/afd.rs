//! Attention and FFN on devices of their own, micro-batches going back and forth.

use std::sync::Arc;

use super::ops::{beside, in_lane, link, replace, scale_tokens};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot};
use crate::error::{Error, Result};
use crate::model::Ffn;
use crate::site::Lane;
use crate::work::{Family, Op, Rate, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "afd",
    aliases: &["attention-ffn-disaggregation", "disaggregate"],
    class: "attention–FFN disaggregation",
    about: "runs attention on some groups of devices and FFNs on others, with micro-batches in flight between them",
    parameters: &[
        Parameter {
            key: "attention",
            default: "1",
            about: "groups (of the layout's devices) that hold attention and cache",
        },
        Parameter { key: "ffn", default: "1", about: "groups that hold the FFNs" },
        Parameter {
            key: "micro-batches",
            default: "3",
            about: "1: both wait for each other; 2: they work at the same time; 3: the exchange is hidden too",
        },
        Parameter {
            key: "gb-s",
            default: "",
            about: "GB/s a device between them; the scale-up link unless said, else scale-out",
        },
    ],
    changes: "W and capacity of a device, tokens of an FFN, link; devices",
    formula: "t = max(t_attention, t_ffn, t_link) from 3 micro-batches on; weights are read once a micro-batch; an FFN group runs \
              n_a/n_f times the tokens; 2·T·h·a a layer cross the link (k copies with experts)",
    source: "MegaScale-Infer (arXiv 2504.02263), Step-3 (arXiv 2507.19427)",
    pays: "sparse experts: the batches of several attention groups together make experts busy",
    loses: "dense models of balanced size: half of the devices wait",
    slots: &[Slot::FfnSite],
    read: |settings| {
        Ok(Arc::new(Disaggregated {
            attention: settings.count("attention", 1, 1 << 20)? as f64,
            ffn: settings.count("ffn", 1, 1 << 20)? as f64,
            micro_batches: settings.count("micro-batches", 1, 1 << 10)? as f64,
            bandwidth: settings.maybe("gb-s", 1e-9, f64::INFINITY)?.map(|gb| gb * 1e9),
            settings: settings.clone(),
        }))
    },
};

#[derive(Debug)]
struct Disaggregated {
    attention: f64,
    ffn: f64,
    micro_batches: f64,
    bandwidth: Option<f64>,
    settings: Settings,
}

/// Whether it belongs to the FFN of a layer.
fn is_ffn(op: &Op) -> bool {
    const ENDS: [&str; 4] = ["gate_up_proj", "up_proj", "down_proj", "act_mul"];
    const BEGINS: [&str; 4] = ["router", "shared_", "experts_", "latent_"];
    let stem = op.stem();
    let of = stem.split_once('[').map_or(stem, |(_, of)| of.trim_end_matches(']'));
    ENDS.iter().any(|end| of.ends_with(end)) || BEGINS.iter().any(|start| of.starts_with(start))
}

impl Effect for Disaggregated {
    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if context.layout.pp > 1 {
            let must = "must be used with pp = 1: its own groups are stages";
            return Err(Error::spec("afd", must, context.layout.pp, "use tp, dp and ep"));
        }
        let hardware = context.hardware;
        let links = [&hardware.scale_up, &hardware.scale_out];
        let own = links.iter().find_map(|link| link.bandwidth.value.filter(|_| link.domain != 1));
        let bandwidth = self.bandwidth.or(own).ok_or_else(|| {
            let must = format!("must be given: no link of `{}` is known", hardware.name);
            self.settings.wrong("gb-s", must, "for example gb-s=50")
        })?;
        let (pieces, tokens) = (self.micro_batches, self.attention / self.ffn);
        let beside_both = if pieces >= 3.0 { Lane::Exchange } else { Lane::Device };
        if pieces >= 2.0 {
            program.hides(Lane::Peer, 1.0);
        }
        if pieces >= 3.0 {
            program.hides(beside_both, 1.0);
        }
        for op in program.ops.iter_mut().filter(|op| super::ops::in_layers(op)) {
            op.work.weight_bytes = op.work.weight_bytes.times(pieces);
            op.work.vector_flops.fixed *= pieces;
            if let Some(touched) = &mut op.work.touched {
                touched.bytes_per_expert *= pieces;
                touched.conversions_per_expert *= pieces;
                touched.ranks /= pieces;
            }
            if is_ffn(op) {
                scale_tokens(&mut op.work, tokens);
                if let Some(touched) = &mut op.work.touched {
                    touched.ranks *= tokens;
                }
                op.work.resident = Default::default();
                if pieces >= 2.0 {
                    op.site.lane = Lane::Peer;
                }
            }
        }
        let copies = context.model.layers.iter().map(|group| match &group.ffn {
            Some(Ffn::Moe(moe)) => moe.top_k as f64,
            _ => 1.0,
        });
        let copies = copies.fold(1.0, f64::max);
        let hidden = context.model.hidden as f64 * context.activation_bytes();
        let last = |op: &Op| ["down_proj", "experts_down"].contains(&op.name.as_str());
        replace(&mut program.ops, last, |op| {
            let sent = Work { activation_bytes: Rate::token((copies + copies) * hidden), ..Work::default() };
            let exchange = beside(&op, "afd_exchange".to_string(), Family::Link, sent);
            Ok(vec![op, in_lane(exchange, beside_both, link(bandwidth))])
        })
    }

    fn devices(&self) -> f64 {
        1.0 + self.ffn / self.attention
    }

    fn notes(&self) -> Vec<String> {
        vec!["memory is that of an attention device; FFN devices hold the other weights".to_string()]
    }
}
