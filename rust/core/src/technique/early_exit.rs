//! Early exit: some tokens leave before the last layer.

use std::sync::Arc;

use super::ops::{beside, decode_apart, in_layers, is_attention, read_if_needed, replace, scale_tokens};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot};
use crate::error::Result;
use crate::model::{Mixer, Part};
use crate::op::{linear::gemm, vocabulary};
use crate::site::DrawnBy;
use crate::work::{Family, Op, Over, Rate, Resident, Touched};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "early-exit",
    aliases: &["calm", "layer-skip"],
    class: "early exit",
    about: "lets tokens leave the model at given depths, in decode",
    parameters: &[
        Parameter { key: "at", default: "0.5", about: "depths at which tokens may leave, as shares of the layers, ascending, separated by slashes" },
        Parameter { key: "share", default: "0", about: "share of the tokens that leaves at each" },
        Parameter { key: "head", default: "none", about: "what decides: none (its cost is left out) or lm (the head, read again at each exit)" },
        Parameter { key: "kv", default: "fill", about: "fill (skipped layers get the keys and values of the last state) or skip" },
    ],
    changes: "F, A and KV read of the layers behind an exit; W only if every token of the step has left",
    formula: "behind an exit that a share s has left: F·(1−s), W·(1 − s^T) with T tokens: the weight is read as long as one \
              sequence needs it; kv=fill: 2·h·2Kd FLOPs a token that left, and its keys and values written",
    source: "CALM (arXiv 2207.07061), LayerSkip (arXiv 2404.16710), EE-LLM (arXiv 2312.04916); survey §4.1",
    pays: "single sequences: time falls with the mean depth",
    loses: "batches: with 16 tokens of which half leave, 1 − 2^−16 of the weights is read all the same",
    slots: &[Slot::Depth],
    read: |settings| {
        let (at, share) = (settings.list("at", 0.0, 1.0)?, settings.list("share", 0.0, 1.0)?);
        if at.len() != share.len() {
            return Err(settings.wrong("share", format!("must have one number for each of the {} depths", at.len()), ""));
        }
        if at.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(settings.wrong("at", "must ascend", "for example at=0.5/0.75"));
        }
        if share.iter().sum::<f64>() > 1.0 {
            return Err(settings.wrong("share", "must add up to at most 1", ""));
        }
        Ok(Arc::new(EarlyExit {
            exits: at.into_iter().zip(share).filter(|(_, share)| *share > 0.0).collect(),
            head: settings.choice("head", &[("none", false), ("lm", true)])?,
            fill: settings.choice("kv", &[("fill", true), ("skip", false)])?,
            settings: settings.clone(),
        }))
    },
};

#[derive(Debug)]
struct EarlyExit {
    /// (depth, share that leaves), ascending.
    exits: Vec<(f64, f64)>,
    head: bool,
    fill: bool,
    settings: Settings,
}

/// A stretch of layers: its share of the depth, and of the tokens that get there.
struct Stretch {
    layers: f64,
    alive: f64,
}

impl EarlyExit {
    fn stretches(&self) -> Vec<Stretch> {
        let (mut from, mut alive, mut all) = (0.0, 1.0, Vec::new());
        for (depth, share) in &self.exits {
            all.push(Stretch { layers: depth - from, alive });
            (from, alive) = (*depth, alive - share);
        }
        all.push(Stretch { layers: 1.0 - from, alive });
        all.retain(|stretch| stretch.layers > 0.0);
        all
    }

    /// Keys and values of the layers that tokens have skipped, made from the state they left with: weights are read
    /// where nobody else reads them.
    fn filled(&self, op: &Op, alive: f64, context: &Context<'_>) -> Option<Op> {
        let (group, attention) = context.model.layers.iter().find_map(|group| match &group.mixer {
            Some(Mixer::Attention(attention)) if !attention.shares_kv => Some((group, attention)),
            _ => None,
        })?;
        let heads = (attention.kv_heads as f64 / context.layout.tp as f64).ceil();
        let width = heads * (attention.head_dim + attention.value_dim) as f64;
        let linear = context.precision.of(group, Part::Attention);
        let mut work = gemm(context.model.hidden as f64, width, linear, context.activation_bytes());
        let weight = work.weight_bytes.fixed;
        work.flops = work.flops.times(1.0 - alive);
        work.activation_bytes = work.activation_bytes.times(1.0 - alive);
        work.vector_flops = Rate::ZERO;
        work.resident = Resident::default();
        work.touched = Some(Touched {
            bytes_per_expert: -weight,
            conversions_per_expert: 0.0,
            local: 1.0,
            missed: 1.0 - alive,
            ranks: 1.0,
            drawn_by: DrawnBy::Token,
            skew: None,
        });
        Some(beside(op, "kv_fill".to_string(), Family::Gemm, work))
    }
}

impl Effect for EarlyExit {
    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.exits.is_empty() {
            return Ok(());
        }
        let stretches = self.stretches();
        let vocabulary = context.precision.vocabulary();
        replace(&mut program.ops, |op| in_layers(op) && op.over != Over::Prefill, |op| {
            // One all-reduce is the embedding's, outside the layers.
            let outside = if op.name == "all_reduce" && context.model.vocab > 0 { 1.0 } else { 0.0 };
            let mut all = Vec::new();
            let mut change = |decode: &Op| {
                for (place, stretch) in stretches.iter().enumerate() {
                    let mut part = decode.clone();
                    let share = (stretch.layers * (decode.repeat - outside) + if place == 0 { outside } else { 0.0 })
                        / decode.repeat;
                    part.repeat *= share;
                    part.stage_repeat *= share;
                    if place > 0 {
                        part.name = format!("{}[{:.0}% of tokens]", decode.name, 100.0 * stretch.alive);
                        let written = part.work.kv_bytes.token;
                        scale_tokens(&mut part.work, stretch.alive);
                        if self.fill && is_attention(&part) {
                            part.work.kv_bytes.token = written;
                        }
                        read_if_needed(&mut part.work, stretch.alive);
                        if self.fill && decode.name.starts_with("qkv_proj") {
                            all.extend(self.filled(&part, stretch.alive, context));
                        }
                    }
                    all.push(part);
                }
            };
            let mut parts = decode_apart(op, |_| {}).into_iter();
            if let Some(decode) = parts.next() {
                change(&decode);
            }
            all.extend(parts);
            Ok(all)
        })?;
        if self.head && context.model.head {
            let tp = context.layout.tp as f64;
            let rows = context.model.vocab as f64 / tp;
            let mut alive = 1.0;
            for (depth, share) in &self.exits {
                let mut work =
                    vocabulary::head(context.model.embedding_width as f64, rows, vocabulary, context.activation_bytes());
                work.resident = Resident::default();
                scale_tokens(&mut work, alive);
                let mut op = Op::new(format!("exit_head[{depth}]"), Family::Gemm, vocabulary.activation, work);
                (op.over, op.needs_logits) = (Over::DecodeAlone, true);
                program.ops.push(op);
                alive -= share;
            }
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec!["early exit acts in steps of decoding sequences alone".to_string()];
        if !self.head && self.settings.said("share") {
            notes.push("what decides to leave costs nothing here (early-exit:head)".to_string());
        }
        notes
    }
}
