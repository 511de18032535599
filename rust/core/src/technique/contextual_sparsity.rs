//! Contextual sparsity: a token uses a share of the neurons; hot ones on the device, cold ones with the host.

use std::sync::Arc;

use super::hybrid::processor;
use super::ops::{Parts, apart, beside, in_lane, read_if_needed, replace, scale_tokens};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot};
use crate::error::Result;
use crate::hardware::Hardware;
use crate::model::Linear;
use crate::op::linear::gemm;
use crate::site::{Lane, Matrix};
use crate::work::{Family, Op, Over, Rate, Resident, Saved};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "contextual-sparsity",
    aliases: &["deja-vu", "powerinfer", "activation-sparsity"],
    class: "contextual sparsity",
    about: "computes and reads only the neurons (or heads) that a predictor expects a token to use, in decode",
    parameters: &[
        Parameter { key: "active", default: "1", about: "share ρ of the neurons a token uses" },
        Parameter { key: "parts", default: "all", about: "all, attention or ffn" },
        Parameter {
            key: "predictor",
            default: "0",
            about: "rank of the predictor of each sparse layer; 0 leaves its cost out",
        },
        Parameter {
            key: "hot",
            default: "1",
            about: "share of the neurons that lie on the device; the others lie with the host, whose processor computes them",
        },
        Parameter { key: "hits", default: "1", about: "share of a token's active neurons that are hot" },
        Parameter {
            key: "processor",
            default: "",
            about: "catalogue name of the host's processor (with hot < 1)",
        },
    ],
    changes: "F of decoding sequences, W where they run alone; with a hot/cold split capacity, and a processor beside",
    formula: "F·ρ; W of the union, 1 − (1−ρ)^T; predictor 2T·r·(h + n) for n neurons, the I of a gated FFN too; prompts run dense, \
              and beside one all weights are read. Hot share x with hits y: the device reads x·(1 − (1 − ρy/x)^T), the host (1−x)·(1 − (1 − ρ(1−y)/(1−x))^T) \
              beside it",
    source: "Deja Vu (arXiv 2310.17157), PowerInfer (arXiv 2312.12456); the survey",
    pays: "single sequences: > 2x in decode at 80 % sparsity (Deja Vu)",
    loses: "batches: the union of what tens of tokens need is everything",
    slots: &[Slot::FfnSite],
    read: |settings| {
        let active = settings.part("active")?;
        let (hot, hits) = (settings.part("hot")?, settings.share("hits")?);
        let host = match settings.get("processor") {
            Some(name) => Some(processor(name)?),
            None if hot < 1.0 => {
                return Err(settings.wrong(
                    "processor",
                    "must be given with hot < 1",
                    "for example xeon-8592",
                ));
            }
            None => None,
        };
        settings.only_where(hot < 1.0, "hot below 1", &["processor"])?;
        if hot == 1.0 && hits < 1.0 {
            return Err(settings.wrong("hits", "must be 1 where all neurons are hot", "give hot as well"));
        }
        if active * hits > hot || active * (1.0 - hits) > 1.0 - hot + 1e-12 {
            let must = format!(
                "must leave room for the active neurons: {active} of all, {hits} of them among the {hot} hot"
            );
            return Err(settings.wrong("hits", must, ""));
        }
        Ok(Arc::new(Contextual {
            active,
            parts: settings.choice("parts", &Parts::NAMES)?,
            predictor: settings.number("predictor", 0.0, 1e9)?,
            hot,
            hits,
            host,
            settings: settings.clone(),
        }))
    },
};

#[derive(Debug)]
struct Contextual {
    active: f64,
    parts: Parts,
    predictor: f64,
    hot: f64,
    hits: f64,
    host: Option<Hardware>,
    settings: Settings,
}

/// An operator of which a share `of` the weights lies in one place, where a decoding token needs `active` of them: in steps
/// of decoding sequences alone, and beside prompts, which need all of them.
fn sparse(mut op: Op, of: f64, active: f64) -> Vec<Op> {
    let inputs_and_outputs = op.work.activation_bytes;
    scale_tokens(&mut op.work, of);
    op.work.activation_bytes = inputs_and_outputs;
    super::ops::scale_weights(&mut op.work, of, of);
    op.work.resident.elements *= of;
    let (mut alone, mut prompts) = apart(op);
    if let Some(op) = &mut alone {
        scale_tokens(&mut op.work, active);
        op.work.activation_bytes = inputs_and_outputs;
        read_if_needed(&mut op.work, active);
    }
    if let Some(op) = &mut prompts {
        let idle = Saved::of(&op.work, 1.0 - active);
        op.saved = Some(Box::new(Saved { activation_bytes: Rate::ZERO, idle: 0.0, ..idle }));
    }
    alone.into_iter().chain(prompts).collect()
}

/// Neurons that a predictor of `op` decides on: a gated one has its row of the gate and of up.
fn neurons(op: &Op, matrix: Matrix) -> f64 {
    if op.name.ends_with("gate_up_proj") { matrix.outputs / 2.0 } else { matrix.outputs }
}

impl Effect for Contextual {
    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.active == 1.0 && self.hot == 1.0 {
            return Ok(());
        }
        let bytes = context.activation_bytes();
        let host = self.host.as_ref();
        if host.is_some() {
            program.hides(Lane::Processor, 1.0);
        }
        replace(
            &mut program.ops,
            |op| self.parts.has(op) && op.matrix.is_some(),
            |op| {
                let (Some(matrix), x) = (op.matrix, self.hot) else { return Ok(vec![op]) };
                let mut all = Vec::new();
                if self.predictor > 0.0 && !op.name.ends_with("down_proj") && !op.name.ends_with("o_proj") {
                    let neurons = neurons(&op, matrix);
                    let most = matrix.inputs.min(neurons);
                    if self.predictor > most {
                        let must =
                            format!("must be at most {most}, the smaller side of {} on a device", op.name);
                        return Err(self.settings.wrong("predictor", must, ""));
                    }
                    let plain = Linear::plain(context.precision.activation);
                    let mut work = gemm(matrix.inputs, self.predictor, plain, bytes);
                    let second = gemm(self.predictor, neurons, plain, bytes);
                    work.flops = work.flops + second.flops;
                    work.weight_bytes = work.weight_bytes + second.weight_bytes;
                    work.activation_bytes = work.activation_bytes + second.activation_bytes;
                    work.resident.bytes += second.resident.bytes;
                    work.resident.elements += second.resident.elements;
                    let predictor = beside(&op, format!("predictor[{}]", op.name), Family::Gemm, work);
                    all.push(Op { over: Over::Decode, ..predictor });
                }
                if let Some(host) = host {
                    let mut cold = op.clone();
                    cold.name = format!("cold[{}]", op.name);
                    cold.work.resident = Resident::default();
                    let rates = super::hybrid::rates(host, op.format, 1.0)?;
                    let active = self.active * (1.0 - self.hits) / (1.0 - x).max(1e-12);
                    let cold = sparse(cold, 1.0 - x, active);
                    all.extend(cold.into_iter().map(|op| in_lane(op, Lane::Processor, rates)));
                }
                all.extend(sparse(op, x, self.active * self.hits / x));
                Ok(all)
            },
        )
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec!["prompts run dense".to_string()];
        if self.predictor == 0.0 && self.active < 1.0 {
            notes.push("the predictor's cost is left out (contextual-sparsity:predictor)".to_string());
        }
        if self.settings.said("processor") {
            notes.push("activations between device and host are small and left out".to_string());
        }
        notes
    }
}
