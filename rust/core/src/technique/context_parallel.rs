//! Context parallelism: the tokens of a prompt, and the keys of a cache, spread over devices.

use std::sync::Arc;

use super::ops::{beside, decode_beside_prompts, is_attention, replace, scale_tokens};
use super::{Cache, Context, Effect, Kind, Parameter, Program, Slot};
use crate::error::Result;
use crate::work::{Collective, Family, Op, Over, Rate, Resident, Transfer, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "context-parallel",
    aliases: &["cp", "sequence-parallel", "ring-attention"],
    class: "context parallelism",
    about: "cuts every prompt and every cache over several devices, each with all the weights",
    parameters: &[
        Parameter {
            key: "ranks",
            default: "1",
            about: "devices that share a sequence, on top of tp, pp and dp",
        },
        Parameter {
            key: "style",
            default: "ring",
            about: "how prompts exchange: ring (keys and values go round) or ulysses (heads are exchanged)",
        },
    ],
    changes: "F, A and KV of a device, capacity for KV; link; devices",
    formula: "prompts: T/cp tokens, pairs/cp; ring: (cp−1)/cp of the keys and values received a layer; ulysses: all-to-all of \
              q, k, v and the output; decode: keys/cp, and the partial outputs of T·H·d summed",
    source: "Ring Attention (arXiv 2310.01889), DeepSpeed-Ulysses (arXiv 2309.14509), Llama 3 (arXiv 2407.21783, §3.3.2)",
    pays: "prompts of 100k tokens and more, caches that do not fit",
    loses: "short contexts: every device reads all weights for a share of the tokens",
    slots: &[Slot::Contexts],
    read: |settings| {
        Ok(Arc::new(ContextParallel {
            ranks: settings.count("ranks", 1, 1 << 16)?,
            ulysses: settings.choice("style", &[("ring", false), ("ulysses", true)])?,
        }))
    },
};

#[derive(Debug)]
struct ContextParallel {
    ranks: u64,
    ulysses: bool,
}

impl ContextParallel {
    fn exchange(
        &self,
        op: &Op,
        context: &Context<'_>,
        collective: Collective,
        bytes: Rate,
        over: Over,
    ) -> Op {
        let transfer = Transfer { collective, ranks: self.ranks, stride: context.layout.tp, bytes };
        let work = Work { transfer: Some(transfer), ..Work::default() };
        Op { over, reach: op.reach, ..beside(op, format!("exchange[{}]", op.name), Family::Link, work) }
    }
}

/// An operator of which a device runs `share` of the tokens in steps that carry a prompt, and all of them otherwise.
fn prompts_shared(op: Op, share: f64) -> Vec<Op> {
    let mut prompts = op.clone();
    scale_tokens(&mut prompts.work, share);
    if op.over != Over::All {
        return if op.over == Over::Prefill { vec![prompts] } else { vec![op] };
    }
    prompts.over = Over::WithPrompts;
    prompts.work.resident = Resident::default();
    vec![Op { over: Over::DecodeAlone, ..op }, prompts]
}

impl Effect for ContextParallel {
    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.ranks == 1 {
            return Ok(());
        }
        let share = 1.0 / self.ranks as f64;
        let attends = |op: &Op| is_attention(op) && op.work.flops.pair > 0.0;
        replace(
            &mut program.ops,
            |_| true,
            |op| {
                if op.name == "lm_head" || op.name == "logits_all_gather" {
                    return Ok(vec![op]);
                }
                // Scores that lie apart are of a share of the keys, too.
                let scores = op.name.starts_with("softmax");
                if !attends(&op) && !scores {
                    return Ok(prompts_shared(op, share));
                }
                let (output, cached) = (op.work.activation_bytes.token / 2.0, op.work.kv_bytes);
                let sent = if self.ulysses {
                    Rate::token(op.work.activation_bytes.token + cached.token)
                } else {
                    Rate { key: cached.key, ..Rate::ZERO }
                };
                let how = if self.ulysses { Collective::AllToAll } else { Collective::AllGather };
                let before = self.exchange(&op, context, how, sent, Over::Prefill);
                let after =
                    self.exchange(&op, context, Collective::AllReduce, Rate::token(output), Over::Decode);
                let parts = decode_beside_prompts(op, |op| {
                    let of = |rate: Rate| Rate {
                        pair: rate.pair * share,
                        key: rate.key * share,
                        area: rate.area * share,
                        ..rate
                    };
                    let work = &mut op.work;
                    for rate in [
                        &mut work.flops,
                        &mut work.vector_flops,
                        &mut work.kv_bytes,
                        &mut work.activation_bytes,
                    ] {
                        *rate = of(*rate);
                    }
                });
                let mut all = Vec::new();
                for mut part in parts {
                    match part.over {
                        Over::Prefill => {
                            scale_tokens(&mut part.work, share);
                            all.extend((!scores).then(|| before.clone()).into_iter().chain([part]));
                        }
                        _ => all.extend([part].into_iter().chain((!scores).then(|| after.clone()))),
                    }
                }
                Ok(all)
            },
        )
    }

    fn cache(&self, cache: &mut Cache, _: &Context<'_>) -> Result<()> {
        // Each device has the table of its own blocks, and what goes with its own keys.
        let share = 1.0 / self.ranks as f64;
        cache.factor *= share;
        cache.held.table *= share;
        cache.added.iter_mut().for_each(|(bytes, _)| *bytes *= share);
        Ok(())
    }

    fn devices(&self) -> f64 {
        self.ranks as f64
    }
}
