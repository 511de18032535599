//! KV compression and eviction: fewer tokens kept than were seen.

use std::sync::Arc;

use super::ops::{decode_beside_prompts, is_attention, replace};
use super::settings::LARGEST;
use super::{Cache, Context, Effect, Kind, Parameter, Program, Slot, Target};
use crate::error::{Error, Result};
use crate::lower::stage_share;
use crate::model::{Attention, LayerGroup, Mixer, Span};
use crate::shape::{MAX_REACHES, Reach, Reaches};
use crate::work::{Op, Rate, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "kv-evict",
    aliases: &["kv-compress", "kv-compression", "kv-eviction", "h2o", "snapkv", "streaming-llm"],
    class: "KV compression and eviction",
    about: "keeps a share of the cache, a budget of tokens (of each layer its own), or a window with sinks",
    parameters: &[
        Parameter { key: "ratio", default: "", about: "share of the tokens kept in decode" },
        Parameter {
            key: "budget",
            default: "",
            about: "tokens kept in decode; a list gives equal parts of the layers their own",
        },
        Parameter { key: "window", default: "", about: "last tokens kept, in prompts too" },
        Parameter { key: "sinks", default: "4", about: "first tokens kept beside the window" },
        Parameter {
            key: "score",
            default: "no",
            about: "whether attention scores are summed up to choose (H2O): 4 bytes a key and KV head, read and written, and an \
            operation",
        },
    ],
    changes: "KV read, pairs, capacity",
    formula: "ratio: KV·ratio; budget: min(len, budget) keys a decode step; window: pairs Σmin(c+j, w+s) everywhere; the \
              cache holds as much. Layers with a window of their own keep it",
    source: "H2O (arXiv 2306.14048), StreamingLLM (arXiv 2309.17453), SnapKV (arXiv 2404.14469), PyramidKV (arXiv 2406.02069); the survey",
    pays: "long contexts, and batches that did not fit",
    loses: "contexts below the budget; where many query heads share few keys, the scores that choose (score=yes) cost much of what evicted keys save",
    slots: &[Slot::CacheContent],
    read: |settings| {
        let ratio = settings.maybe("ratio", 0.0, 1.0)?;
        let budgets = settings.list("budget", 1.0, LARGEST as f64)?;
        let window = settings.maybe_count("window", 1, LARGEST)?;
        let said =
            [ratio.is_some(), !budgets.is_empty(), window.is_some()].iter().filter(|said| **said).count();
        if said > 1 {
            return Err(settings.wrong(
                "ratio",
                "must be given alone: ratio, budget or window",
                "give one of them",
            ));
        }
        if ratio == Some(0.0) {
            return Err(settings.wrong("ratio", "must be above 0 and at most 1", ""));
        }
        if budgets.iter().any(|budget| budget.fract() != 0.0) {
            return Err(settings.wrong("budget", "must be whole numbers of tokens", ""));
        }
        let score = settings.switch("score")?;
        settings.only_where(window.is_some(), "window", &["sinks"])?;
        settings.only_where(window.is_none() || !score, "ratio or budget", &["score"])?;
        let keeps = match (ratio, window) {
            (Some(ratio), _) => Keeps::Share(ratio),
            (_, Some(window)) => Keeps::Window(window + settings.count("sinks", 0, LARGEST)?),
            _ if budgets.is_empty() => Keeps::Share(1.0),
            _ => Keeps::Budgets(budgets.iter().map(|budget| *budget as u64).collect()),
        };
        Ok(Arc::new(Evict { keeps, score }))
    },
};

#[derive(Debug)]
enum Keeps {
    Share(f64),
    Budgets(Vec<u64>),
    Window(u64),
}

#[derive(Debug)]
struct Evict {
    keeps: Keeps,
    score: bool,
}

fn reach(budget: u64) -> Reach {
    Reach { span: Span::Window(budget), causal: true }
}

/// Attention of decoding sequences that reads the whole cache.
fn reads_all(op: &Op) -> bool {
    let Work { kv_bytes, flops, vector_flops, .. } = &op.work;
    is_attention(op) && op.reach == 0 && (kv_bytes.key > 0.0 || flops.pair + vector_flops.pair > 0.0)
}

impl Evict {
    /// What choosing costs: a sum of scores a key and head is read and written.
    fn scored(&self, mut op: Op, context: &Context<'_>) -> Op {
        if self.score && op.work.kv_bytes.key > 0.0 {
            let heads = heads(context);
            let moved = Rate { key: 2.0 * SCORE * heads, ..Rate::ZERO };
            op.work.activation_bytes = op.work.activation_bytes + moved;
            op.work.vector_flops = op.work.vector_flops + Rate { key: heads, ..Rate::ZERO };
        }
        op
    }
}

/// Bytes of a key's sum of scores, of each head.
const SCORE: f64 = 4.0;

/// KV heads of a device.
fn heads(context: &Context<'_>) -> f64 {
    let heads = context.model.layers.iter().find_map(|group| match &group.mixer {
        Some(Mixer::Attention(Attention { kv_heads, .. })) => Some(*kv_heads as f64),
        _ => None,
    });
    (heads.unwrap_or(1.0) / context.layout.tp as f64).ceil()
}

/// Layers of the busiest stage that would keep every token.
fn layers(context: &Context<'_>) -> f64 {
    let keeps_all = |group: &&LayerGroup| match &group.mixer {
        Some(Mixer::Attention(attention)) => {
            matches!(attention.span, Span::Full | Span::TopK(_)) && !attention.shares_kv
        }
        mixer => matches!(mixer, Some(Mixer::Mla(latent)) if latent.span == Span::Full),
    };
    let layers: u64 = context.model.layers.iter().filter(keeps_all).map(|group| group.count).sum();
    layers as f64 * stage_share(context.model, context.layout)
}

impl Effect for Evict {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        let Keeps::Window(window) = self.keeps else { return Ok(()) };
        let mut changed = false;
        for group in &mut target.model.layers {
            if let Some(span) = group.mixer.as_mut().and_then(Mixer::full_span) {
                *span = Span::Window(window);
                changed = true;
            }
        }
        if !changed {
            let must = "must be used where layers see every token before them";
            let hint = "the model, or another technique, gives each of them a window or a choice already";
            return Err(Error::spec("kv-evict:window", must, &target.model.name, hint));
        }
        Ok(())
    }

    fn reaches(&self, reaches: &mut Reaches) -> Result<()> {
        if let Keeps::Budgets(budgets) = &self.keeps {
            let others = reaches.iter().count();
            for budget in budgets {
                reaches.extend(reach(*budget)).map_err(|_| {
                    let most = MAX_REACHES - others;
                    let must = format!("must be at most {most} different budgets beside the model's own spans");
                    let given: Vec<String> = budgets.iter().map(u64::to_string).collect();
                    let hint = "give layers of like budgets one, the mean of theirs: contexts beyond all of them cost the same";
                    Error::spec("kv-evict:budget", must, given.join("/"), hint)
                })?;
            }
        }
        Ok(())
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        let reaches = program.reaches.clone();
        match &self.keeps {
            Keeps::Window(_) => Ok(()),
            Keeps::Share(1.0) => Ok(()),
            Keeps::Share(ratio) => replace(&mut program.ops, reads_all, |op| {
                let of = |rate: Rate| Rate {
                    pair: rate.pair * ratio,
                    key: rate.key * ratio,
                    area: rate.area * ratio,
                    ..rate
                };
                Ok(decode_beside_prompts(op, |op| {
                    let work = &mut op.work;
                    (work.flops, work.vector_flops) = (of(work.flops), of(work.vector_flops));
                    (work.activation_bytes, work.kv_bytes) = (of(work.activation_bytes), of(work.kv_bytes));
                    *op = self.scored(op.clone(), context);
                }))
            }),
            Keeps::Budgets(budgets) => replace(&mut program.ops, reads_all, |op| {
                let share = 1.0 / budgets.len() as f64;
                let mut all = Vec::new();
                let mut decodes = decode_beside_prompts(op, |_| {});
                if let Some(decode) = (!decodes.is_empty()).then(|| decodes.remove(0)) {
                    if decode.over == crate::work::Over::Prefill {
                        return Ok(vec![decode]);
                    }
                    for budget in budgets {
                        let mut part = decode.clone();
                        part.name = format!("{}[{budget} kept]", decode.name);
                        part.repeat *= share;
                        part.stage_repeat *= share;
                        part.reach = reaches.index(reach(*budget));
                        all.push(self.scored(part, context));
                    }
                }
                all.extend(decodes);
                Ok(all)
            }),
        }
    }

    fn cache(&self, cache: &mut Cache, context: &Context<'_>) -> Result<()> {
        let layers = layers(context);
        let scores = if self.score { SCORE * heads(context) * layers } else { 0.0 };
        match &self.keeps {
            // Windows keep what they see.
            _ if layers == 0.0 => {}
            Keeps::Window(_) => {}
            Keeps::Share(ratio) => {
                cache.kept_of_all *= ratio;
                cache.added.extend((scores > 0.0).then_some((scores * ratio, None)));
            }
            Keeps::Budgets(budgets) => {
                let share = 1.0 / budgets.len() as f64;
                cache.kept.extend(budgets.iter().map(|budget| (share, *budget)));
                let of = |budget: &u64| (scores * share, Some(*budget));
                cache.added.extend(budgets.iter().filter(|_| scores > 0.0).map(of));
            }
        }
        Ok(())
    }
}
