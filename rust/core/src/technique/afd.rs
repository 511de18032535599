//! Attention and FFN on devices of their own, micro-batches going back and forth.

use std::sync::Arc;

use super::ops::{beside, in_layers, known, link, replace, scale_tokens};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot, Store};
use crate::error::{Error, Result};
use crate::hardware::Hardware;
use crate::model::{Ffn, LayerGroup};
use crate::site::{Lane, Limits, Site};
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
            about: "GB/s a device and direction between them; the scale-up link unless said, else scale-out",
        },
    ],
    changes: "W and capacity of a device, tokens of an FFN, link; devices",
    formula: "t = max(t_attention, t_ffn, t_link) from 3 micro-batches on; weights are read once a micro-batch; an FFN group runs \
              n_a/n_f times the tokens and holds all of its weights, which must fit; T·h·a a layer go there and as much back (up to k \
              copies where ep spreads experts), max(1, n_a/n_f) times that on the side with fewer links; from 3 micro-batches on \
              both directions at once",
    source: "MegaScale-Infer (arXiv 2504.02263), Step-3 (arXiv 2507.19427)",
    pays: "sparse experts: the batches of several attention groups together make experts busy",
    loses: "dense models of balanced size: half of the devices wait",
    slots: &[Slot::FfnSite, Slot::Store],
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

/// Whether it runs once a micro-batch: once a layer, and no part of drafting.
fn in_pieces(op: &Op) -> bool {
    let drafts = ["draft.", "medusa", "exit_head"].iter().any(|start| op.name.starts_with(start));
    in_layers(op) && op.name != "embedding" && !drafts
}

/// The last operator of a layer's FFN.
fn ends_a_layer(op: &Op) -> bool {
    ["down_proj", "experts_down"].contains(&op.stem())
        && op.family != Family::Link
        && !op.name.ends_with("[a]")
}

impl Disaggregated {
    /// Tokens of an FFN device for each of an attention device.
    fn tokens(&self) -> f64 {
        self.attention / self.ffn
    }

    fn bandwidth(&self, hardware: &Hardware) -> Result<f64> {
        let links = [&hardware.scale_up, &hardware.scale_out];
        let own = links.iter().find_map(|link| link.bandwidth.value.filter(|_| link.domain != 1));
        self.bandwidth.or(own).ok_or_else(|| {
            let must = format!("must be given: no link of `{}` is known", hardware.name);
            self.settings.wrong("gb-s", must, "for example gb-s=50")
        })
    }

    /// The same operator on the FFN devices.
    fn on_the_ffn(&self, op: &mut Op) {
        scale_tokens(&mut op.work, self.tokens());
        if let Some(touched) = &mut op.work.touched {
            touched.ranks *= self.tokens();
        }
        op.work.elsewhere = std::mem::take(&mut op.work.resident);
        op.site.lane = Lane::Peer;
    }

    /// Operators of the step in `micro_batches` pieces, those of FFNs on devices of their own.
    fn split(&self, op: Op, context: &Context<'_>) -> Vec<Op> {
        let (pieces, mut op) = (self.micro_batches, op);
        if in_pieces(&op) {
            op.work.weight_bytes = op.work.weight_bytes.times(pieces);
            op.work.vector_flops.fixed *= pieces;
            if let Some(touched) = &mut op.work.touched {
                touched.bytes_per_expert *= pieces;
                touched.conversions_per_expert *= pieces;
                touched.ranks /= pieces;
            }
        }
        let share = 1.0 / self.devices();
        op.site.devices = share;
        if op.name == "all_reduce" {
            // One of them ends each FFN.
            let ends = |group: &&LayerGroup| {
                let spread = matches!(group.ffn, Some(Ffn::Moe(_))) && context.layout.ep > context.layout.tp;
                group.ffn.is_some() && !group.parallel && !spread
            };
            let after_ffn: u64 = context.model.layers.iter().filter(ends).map(|group| group.count).sum();
            let mut theirs = op.clone();
            (theirs.repeat, theirs.stage_repeat) = (after_ffn as f64, after_ffn as f64);
            self.on_the_ffn(&mut theirs);
            theirs.site.devices = share * self.ffn / self.attention;
            op.repeat -= after_ffn as f64;
            op.stage_repeat -= after_ffn as f64;
            return if after_ffn > 0 { vec![op, theirs] } else { vec![op] };
        }
        if in_pieces(&op) && is_ffn(&op) {
            self.on_the_ffn(&mut op);
            op.site.devices = share * self.ffn / self.attention;
        }
        vec![op]
    }

    /// What a device sends behind the FFN that ends with `op`, there and back.
    fn exchange(&self, op: &Op, context: &Context<'_>, bandwidth: f64) -> Op {
        let layout = context.layout;
        let hidden = context.model.hidden as f64 * context.activation_bytes();
        // Where experts are spread beyond tensor-parallel groups, a device sends its share of the tokens to their experts.
        let spread = op.family == Family::MoeGemm && layout.ep > layout.tp;
        let top_k = context.model.layers.iter().filter_map(|group| match &group.ffn {
            Some(Ffn::Moe(moe)) => Some(moe.top_k.min(layout.ep) as f64),
            _ => None,
        });
        let copies = if spread { top_k.fold(1.0, f64::max) / layout.tp as f64 } else { 1.0 };
        // The side with fewer devices has the busier links; from three micro-batches on both directions are in use at once.
        let busier = self.tokens().max(1.0);
        let directions = if self.micro_batches >= 3.0 { 1.0 } else { 2.0 };
        let sent = Rate::token(directions * copies * busier * hidden);
        let sent = Work { activation_bytes: sent, ..Work::default() };
        let lane = if self.micro_batches >= 3.0 { Lane::Exchange } else { Lane::Device };
        let exchange = beside(op, "afd_exchange".to_string(), Family::Link, sent);
        Op { site: Site { lane, limits: Limits::Other(link(bandwidth)), devices: 1.0 }, ..exchange }
    }
}

impl Effect for Disaggregated {
    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        let (layout, pieces) = (context.layout, self.micro_batches);
        if layout.pp > 1 {
            let must = "must be used with pp = 1: its own groups are stages";
            return Err(Error::spec("afd", must, layout.pp, "use tp, dp and ep"));
        }
        let bandwidth = self.bandwidth(context.hardware)?;
        program.hides(Lane::Peer, if pieces >= 2.0 { 1.0 } else { 0.0 });
        if pieces >= 3.0 {
            program.hides(Lane::Exchange, 1.0);
        }
        // Tokens go to their experts and come back over this link, and over no other.
        program.ops.retain(|op| !["dispatch", "combine"].contains(&op.name.as_str()));
        replace(
            &mut program.ops,
            |_| true,
            |op| {
                let exchange = ends_a_layer(&op).then(|| self.exchange(&op, context, bandwidth));
                Ok(self.split(op, context).into_iter().chain(exchange).collect())
            },
        )
    }

    fn devices(&self) -> f64 {
        1.0 + self.ffn / self.attention
    }

    fn store(&self, context: &Context<'_>) -> Result<Option<Store>> {
        let hardware = context.hardware;
        let capacity = known(hardware.memory.capacity.value, "memory.device.capacity", &hardware.name)?;
        Ok(Some(Store { what: "FFN device", capacity, cache: false, tokens: self.tokens() }))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec!["memory/GPU is that of an attention device".to_string()];
        if self.attention > 1.0 {
            let groups = self.attention;
            notes
                .push(format!("figures are of one of {groups} attention groups, and its share of the FFN's"));
        }
        notes
    }
}
