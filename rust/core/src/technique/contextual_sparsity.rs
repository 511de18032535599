//! Contextual sparsity: a token uses a share of the neurons; hot ones on the device, cold ones with the host.

use std::sync::Arc;

use super::hybrid::processor;
use super::ops::{
    Parts, apart, beside, decode_beside_prompts, in_lane, is_attention, projected_by, read_if_needed,
    replace, scale_tokens, share_of_tokens,
};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot};
use crate::error::Result;
use crate::hardware::Hardware;
use crate::model::{LayerGroup, Linear, Mixer};
use crate::op::linear::gemm;
use crate::site::Lane;
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
            about: "share of the FFN's neurons that lie on the device; the others lie with the host, whose processor computes them",
        },
        Parameter { key: "hits", default: "1", about: "share of a token's active neurons that are hot" },
        Parameter {
            key: "processor",
            default: "",
            about: "catalogue name of the host's processor (with hot < 1)",
        },
    ],
    changes: "F and KV read of decoding sequences, W where they run alone; with a hot/cold split capacity, and a processor beside",
    formula: "F·ρ; W of the union, 1 − (1−ρ)^T; keys and values of the heads that some query head needs, 1 − (1−ρ)^(H/K) of a \
              sequence's (with γ drafts, of γ+1 tokens); predictors 2T·r·(h + H) for heads and 2T·r·(h + I) for neurons, gated ones too; prompts run dense, and \
              beside one all weights are read. Hot share x with hits y: the device reads x·(1 − (1 − ρy/x)^T), the host (1−x)·(1 − (1 − ρ(1−y)/(1−x))^T) \
              beside it",
    source: "Deja Vu (arXiv 2310.17157), PowerInfer (arXiv 2312.12456); the survey",
    pays: "single sequences: > 2x in decode at 80 % sparsity (Deja Vu)",
    loses: "batches: tens of tokens together need all of the weights; only the cache of the heads that each leaves out stays unread",
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

/// What is left out of an operator.
enum Chosen {
    /// Neurons of an FFN.
    Neurons,
    /// Heads of its inputs or outputs; the share of them that a token uses.
    Heads(f64),
    /// Heads: queries that are asked, and heads of keys and values that any of them needs.
    Keys { queries: f64, keys: f64 },
}

impl Contextual {
    /// What is left out of `op`, if anything is.
    fn chooses(&self, op: &Op, context: &Context<'_>) -> Option<Chosen> {
        let heads = matches!(self.parts, Parts::All | Parts::Attention);
        let all = |heads: u64| 1.0 - (1.0 - self.active).powf(heads as f64);
        match op.name.as_str() {
            name if is_attention(op) => {
                let shares = context.model.layers.iter().find_map(|group| match &group.mixer {
                    Some(Mixer::Attention(own)) if op.family != Family::Mla => {
                        Some(own.heads / own.kv_heads.max(1))
                    }
                    Some(Mixer::Mla(latent)) if op.family == Family::Mla => Some(latent.heads),
                    _ => None,
                });
                let chosen = heads && !name.starts_with("indexer") && op.over != Over::Prefill;
                let keys = all(shares.unwrap_or(1) * context.width);
                chosen.then_some(Chosen::Keys { queries: self.active, keys })
            }
            "qkv_proj" if heads => {
                // Keys and values are projected where some query head of theirs is asked.
                let matrix = op.matrix?;
                let own = projected_by(context.model, matrix, context.layout)?;
                let gate = if own.output_gate { own.value_dim } else { 0 };
                let queries = (own.heads * (own.head_dim + gate)) as f64 / context.layout.tp as f64;
                let keys = all(own.heads / own.kv_heads.max(1));
                let kept = queries * self.active + (matrix.outputs - queries) * keys;
                Some(Chosen::Heads(kept / matrix.outputs))
            }
            "q_proj" | "q_b_proj" | "mla_absorb" | "o_proj" if heads => Some(Chosen::Heads(self.active)),
            _ if op.matrix.is_some() && Parts::Ffn.has(op) && self.parts.has(op) => Some(Chosen::Neurons),
            _ => None,
        }
    }

    /// What predicts the `of` heads or neurons of a layer that `op` is the first to use.
    fn predictor(&self, op: &Op, of: f64, context: &Context<'_>) -> Result<Op> {
        let (hidden, bytes) = (context.model.hidden as f64, context.activation_bytes());
        if self.predictor > hidden {
            let must = format!("must be at most {hidden}, the numbers of a token's state");
            return Err(self.settings.wrong("predictor", must, ""));
        }
        let plain = Linear::plain(context.precision.activation);
        let mut work = gemm(hidden, self.predictor, plain, bytes);
        let second = gemm(self.predictor, of, plain, bytes);
        let tokens = op.matrix.map_or(1.0, |matrix| share_of_tokens(op, matrix));
        work.flops = (work.flops + second.flops).times(tokens);
        work.weight_bytes = work.weight_bytes + second.weight_bytes;
        work.activation_bytes = (work.activation_bytes + second.activation_bytes).times(tokens);
        work.resident.bytes += second.resident.bytes;
        work.resident.elements += second.resident.elements;
        let predictor = beside(op, format!("predictor[{}]", op.name), Family::Gemm, work);
        Ok(Op { over: Over::Decode, ..predictor })
    }

    /// How many heads or neurons are chosen at `op`, if it is the first of its block.
    fn chosen_at(&self, op: &Op, context: &Context<'_>) -> Option<f64> {
        let matrix = op.matrix?;
        let heads = |group: &LayerGroup| match &group.mixer {
            Some(Mixer::Attention(attention)) => Some(attention.heads),
            Some(Mixer::Mla(latent)) => Some(latent.heads),
            _ => None,
        };
        match op.name.as_str() {
            "qkv_proj" | "q_proj" | "q_b_proj" => {
                let own = projected_by(context.model, matrix, context.layout).map(|own| own.heads);
                let heads = own.or_else(|| context.model.layers.iter().find_map(heads))?;
                Some(heads as f64 / context.layout.tp as f64)
            }
            // A gated neuron has its row of the gate and of up.
            name if name.ends_with("gate_up_proj") => Some(matrix.outputs / 2.0),
            name if name.ends_with("up_proj") => Some(matrix.outputs),
            _ => None,
        }
    }
}

/// Attention of decoding sequences over some of the heads: of queries, and of the keys and values that any of them needs.
fn over_heads(op: Op, queries: f64, keys: f64) -> Vec<Op> {
    decode_beside_prompts(op, |op| {
        let cached = op.work.kv_bytes.times(keys);
        scale_tokens(&mut op.work, queries);
        op.work.kv_bytes = cached;
    })
}

impl Effect for Contextual {
    fn decides(&self) -> Option<&'static [Slot]> {
        Some(if self.host.is_some() { &[Slot::FfnSite] } else { &[] })
    }

    fn parts(&self) -> Option<Parts> {
        Some(self.parts)
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.active == 1.0 && self.hot == 1.0 {
            return Ok(());
        }
        if self.host.is_some() {
            program.hides(Lane::Processor, 1.0);
        }
        replace(
            &mut program.ops,
            |op| self.chooses(op, context).is_some(),
            |op| {
                let mut all = Vec::new();
                if self.predictor > 0.0
                    && let Some(of) = self.chosen_at(&op, context)
                {
                    all.push(self.predictor(&op, of, context)?);
                }
                match (self.chooses(&op, context), &self.host) {
                    (None, _) => all.push(op),
                    (Some(Chosen::Keys { queries, keys }), _) => all.extend(over_heads(op, queries, keys)),
                    (Some(Chosen::Heads(active)), _) => all.extend(sparse(op, 1.0, active)),
                    (Some(Chosen::Neurons), None) => all.extend(sparse(op, 1.0, self.active)),
                    (Some(Chosen::Neurons), Some(host)) => {
                        let x = self.hot;
                        let mut cold = op.clone();
                        cold.name = format!("cold[{}]", op.name);
                        cold.work.resident = Resident::default();
                        let rates = super::hybrid::rates(host, op.format, 1.0)?;
                        let active = self.active * (1.0 - self.hits) / (1.0 - x).max(1e-12);
                        let cold = sparse(cold, 1.0 - x, active);
                        all.extend(cold.into_iter().map(|op| in_lane(op, Lane::Processor, rates)));
                        all.extend(sparse(op, x, self.active * self.hits / x));
                    }
                }
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
