//! Early exit: some tokens leave before the last layer.

use std::sync::Arc;

use super::ops::{apart, beside, in_layers, is_attention, read_if_needed, replace, scale_tokens};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot};
use crate::error::Result;
use crate::model::Mixer;
use crate::op::vocabulary;
use crate::site::DrawnBy;
use crate::work::{Family, Op, Over, Resident, Saved, Touched, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "early-exit",
    aliases: &["calm", "layer-skip"],
    class: "early exit",
    about: "lets tokens leave the model at given depths, in decode",
    parameters: &[
        Parameter {
            key: "at",
            default: "0.5",
            about: "depths at which tokens may leave, as shares of the layers, ascending, separated by slashes",
        },
        Parameter { key: "share", default: "0", about: "share of the tokens that leaves at each" },
        Parameter {
            key: "head",
            default: "none",
            about: "what decides: none (its cost is left out) or lm (the head, read again at each exit)",
        },
        Parameter {
            key: "kv",
            default: "fill",
            about: "fill (skipped layers get the keys and values of the last state) or skip",
        },
    ],
    changes: "F, A and KV read of the layers behind an exit; W only if every token of the step has left",
    formula: "behind an exit that a share s has left: F·(1−s), W·(1 − s^T) with T tokens: the weight is read as long as one \
              sequence needs it, and always beside a prompt, which runs the whole depth; kv=fill: 2·h·2Kd FLOPs a token \
              that left, and its keys and values written",
    source: "CALM (arXiv 2207.07061), LayerSkip (arXiv 2404.16710), EE-LLM (arXiv 2312.04916); the survey",
    pays: "single sequences: time falls with the mean depth",
    loses: "batches: with 16 tokens of which half leave, 1 − 2^−16 of the weights is read all the same",
    slots: &[Slot::Depth],
    read: |settings| {
        let (at, share) = (settings.list("at", 0.0, 1.0)?, settings.list("share", 0.0, 1.0)?);
        if at.len() != share.len() {
            return Err(settings.wrong(
                "share",
                format!("must have one number for each of the {} depths", at.len()),
                "",
            ));
        }
        if at.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(settings.wrong("at", "must ascend", "for example at=0.5/0.75"));
        }
        if share.iter().sum::<f64>() > 1.0 {
            return Err(settings.wrong("share", "must add up to at most 1", ""));
        }
        Ok(Arc::new(EarlyExit {
            exits: at.into_iter().zip(share).filter(|(at, share)| *at < 1.0 && *share > 0.0).collect(),
            head: settings.choice("head", &[("none", false), ("lm", true)])?,
            fill: settings.choice("kv", &[("fill", true), ("skip", false)])?,
            settings: settings.clone(),
        }))
    },
};

#[derive(Debug)]
struct EarlyExit {
    /// (depth, share that leaves), ascending; who leaves at the end leaves nothing out.
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

    /// What is left of a stretch's operators in a step of decoding sequences alone.
    fn alone(&self, mut op: Op, alive: f64, kept: f64) -> Vec<Op> {
        let filled = (kept > 0.0).then(|| filled(&op, alive, kept));
        let written = op.work.kv_bytes.token;
        scale_tokens(&mut op.work, alive);
        if self.fill && is_attention(&op) {
            op.work.kv_bytes.token = written;
        }
        read_if_needed(&mut op.work, alive);
        filled.into_iter().chain([op]).collect()
    }

    /// The same beside prompts, which need all of its weights.
    fn with_prompts(&self, mut op: Op, alive: f64, kept: f64) -> Op {
        let mut saved = Saved::of(&op.work, 1.0 - alive);
        if self.fill && is_attention(&op) {
            saved.kv_bytes.token = 0.0;
        }
        if kept > 0.0 {
            let filled = key_values(&op, kept);
            saved.flops.token -= filled.flops.token * (1.0 - alive);
            saved.activation_bytes.token -= filled.activation_bytes.token * (1.0 - alive);
        }
        op.saved = Some(Box::new(saved));
        op
    }

    /// The layers of `op` one stretch after another.
    fn cut(&self, op: &Op, outside: f64, act: impl Fn(Op, &Stretch) -> Vec<Op>) -> Vec<Op> {
        let mut all = Vec::new();
        for (place, stretch) in self.stretches().iter().enumerate() {
            let mut part = op.clone();
            let own = if place == 0 { outside } else { 0.0 };
            let share = (stretch.layers * (op.repeat - outside) + own) / op.repeat;
            part.repeat *= share;
            part.stage_repeat *= share;
            if place == 0 {
                all.push(part);
                continue;
            }
            part.name = format!("{}[{:.0}% of tokens]", op.name, 100.0 * stretch.alive);
            all.extend(act(part, stretch));
        }
        all
    }
}

/// Share of the outputs of a projection that are keys and values to be cached; 0 for other operators. Of two factors the
/// first is needed whole.
fn cached_outputs(op: &Op, context: &Context<'_>) -> f64 {
    if op.stem() != "qkv_proj" || op.family != Family::Gemm {
        return 0.0;
    }
    if op.name.contains("[a]") {
        return 1.0;
    }
    let own = context.model.layers.iter().find_map(|group| match &group.mixer {
        Some(Mixer::Attention(attention)) if !attention.shares_kv => Some(attention),
        _ => None,
    });
    let tp = context.layout.tp as f64;
    let width = own.map_or(0.0, |attention| {
        (attention.kv_heads as f64 / tp).ceil() * (attention.head_dim + attention.value_dim) as f64
    });
    op.matrix.map_or(0.0, |matrix| (width / matrix.outputs).min(1.0))
}

/// The projection to keys and values alone, a share `kept` of the outputs of `op`.
fn key_values(op: &Op, kept: f64) -> Work {
    let read = op.matrix.map_or(1.0, |matrix| matrix.inputs / (matrix.inputs + matrix.outputs));
    Work {
        flops: op.work.flops.times(kept),
        weight_bytes: op.work.weight_bytes.times(kept),
        activation_bytes: op.work.activation_bytes.times(read + (1.0 - read) * kept),
        ..Work::default()
    }
}

/// Keys and values of the layers that tokens have skipped, made from the state they left with: weights are read where
/// nobody else reads them.
fn filled(op: &Op, alive: f64, kept: f64) -> Op {
    let mut work = key_values(op, kept);
    scale_tokens(&mut work, 1.0 - alive);
    work.touched = Some(Touched {
        bytes_per_expert: -work.weight_bytes.fixed,
        conversions_per_expert: 0.0,
        local: 1.0,
        missed: 1.0 - alive,
        ranks: 1.0,
        drawn_by: DrawnBy::Token,
        skew: None,
    });
    beside(op, "kv_fill".to_string(), Family::Gemm, work)
}

impl Effect for EarlyExit {
    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.exits.is_empty() {
            return Ok(());
        }
        let vocabulary = context.precision.vocabulary();
        replace(
            &mut program.ops,
            |op| in_layers(op) && op.over != Over::Prefill,
            |op| {
                // One all-reduce is the embedding's, outside the layers.
                let outside = if op.name == "all_reduce" && context.model.vocab > 0 { 1.0 } else { 0.0 };
                let kept = if self.fill { cached_outputs(&op, context) } else { 0.0 };
                let (alone, beside) = apart(op);
                let mut all = Vec::new();
                if let Some(op) = alone {
                    all.extend(self.cut(&op, outside, |op, stretch| self.alone(op, stretch.alive, kept)));
                }
                if let Some(op) = beside {
                    let with_prompts =
                        |op, stretch: &Stretch| vec![self.with_prompts(op, stretch.alive, kept)];
                    all.extend(self.cut(&op, outside, with_prompts));
                }
                Ok(all)
            },
        )?;
        if self.head && context.model.head {
            let tp = context.layout.tp as f64;
            let rows = context.model.vocab as f64 / tp;
            let mut alive = 1.0;
            for (depth, share) in &self.exits {
                let mut work = vocabulary::head(
                    context.model.embedding_width as f64,
                    rows,
                    vocabulary,
                    context.activation_bytes(),
                );
                work.resident = Resident::default();
                scale_tokens(&mut work, alive);
                let mut op =
                    Op::new(format!("exit_head[{depth}]"), Family::Gemm, vocabulary.activation, work);
                (op.over, op.needs_logits) = (Over::Decode, true);
                program.ops.push(op);
                alive -= share;
            }
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec!["prompts run the whole depth".to_string()];
        if !self.head && self.settings.said("share") {
            notes.push("what decides to leave costs nothing here (early-exit:head)".to_string());
        }
        notes
    }
}
