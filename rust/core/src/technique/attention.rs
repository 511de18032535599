//! Another kind of attention on a model that has full attention: a window, sparse, or linear, as a what-if.

use std::sync::Arc;

use super::ops::{beside, replace};
use super::settings::LARGEST;
use super::{Cache, Context, Effect, Kind, Parameter, Program, Slot, Target};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::lower::stage_share;
use crate::model::{
    Attention, Indexer, LayerGroup, Linear, LinearAttention, LinearKind, Mixer, Mla, Part, Span,
};
use crate::op::attention::{Heads, fused};
use crate::op::linear::gemm;
use crate::op::mla::{index, indexer_key_bytes};
use crate::work::{Family, Op, Rate, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "attention",
    aliases: &["attention-variant"],
    class: "attention variants",
    about: "replaces full attention by a window, by sparse attention (DSA, NSA) or by linear attention",
    parameters: &[
        Parameter { key: "kind", default: "", about: "full, window, sparse (DSA), nsa or linear" },
        Parameter { key: "layers", default: "1", about: "share of the layers that are changed" },
        Parameter {
            key: "window",
            default: "4096",
            about: "tokens a query sees (window), or sees beside its choice (nsa: 512)",
        },
        Parameter { key: "sinks", default: "0", about: "first tokens every query sees beside the window" },
        Parameter { key: "top-k", default: "2048", about: "tokens a query chooses (sparse)" },
        Parameter {
            key: "index-heads",
            default: "64",
            about: "heads of the indexer (sparse); 0 leaves it out",
        },
        Parameter { key: "index-dim", default: "128", about: "width of a head of the indexer" },
        Parameter { key: "blocks", default: "16", about: "blocks of 64 tokens a query chooses (nsa)" },
        Parameter { key: "stride", default: "16", about: "tokens that become one compressed key (nsa)" },
        Parameter {
            key: "rule",
            default: "gated-delta",
            about: "update of the state (linear): lightning or gated-delta",
        },
    ],
    changes: "F, KV read; window and linear: capacity too",
    formula: "window: pairs Σmin(c+j, w), cache min(len, w); sparse: pairs over top-k, + indexer 2·H_i·d_i FLOPs a pair and \
              its keys (latent attention becomes DeepSeek-V3.2's); nsa: pairs over 64·blocks + window, + 1/stride of the full pairs; linear: a state of H·d_k·d_v \
              read and written a sequence, whatever the context",
    source: "Longformer (arXiv 2004.05150); DeepSeek-V3.2 (DSA); NSA (arXiv 2502.11089); Gated DeltaNet (arXiv 2412.06464)",
    pays: "long contexts: KV traffic and pairs stop growing",
    loses: "short contexts: an indexer or a state costs more than the keys it saves",
    slots: &[Slot::Attention],
    read: |settings| {
        let window = settings.count("window", 1, LARGEST)?;
        let kind = settings
            .choice("kind", &[("full", 0), ("window", 1), ("sparse", 2), ("nsa", 3), ("linear", 4)])?;
        settings.only_where(kind == 1 || kind == 3, "kind=window or kind=nsa", &["window"])?;
        settings.only_where(kind == 1, "kind=window", &["sinks"])?;
        settings.only_where(kind == 2, "kind=sparse", &["top-k", "index-heads", "index-dim"])?;
        settings.only_where(kind == 3, "kind=nsa", &["blocks", "stride"])?;
        settings.only_where(kind == 4, "kind=linear", &["rule"])?;
        let kind = match kind {
            0 => Variant::Full,
            1 => Variant::Window(window + settings.count("sinks", 0, LARGEST)?),
            2 => {
                let heads = settings.count("index-heads", 0, 1 << 20)?;
                Variant::Sparse(Indexer {
                    heads,
                    head_dim: settings.count("index-dim", 1, 1 << 20)?,
                    top_k: settings.count("top-k", 1, LARGEST)?,
                    own: heads > 0,
                })
            }
            3 => {
                let window = if settings.said("window") { window } else { NSA_WINDOW };
                let chosen = NSA_BLOCK * settings.count("blocks", 1, 1 << 20)? + window;
                Variant::Nsa { chosen, stride: settings.count("stride", 1, 1 << 20)? }
            }
            _ => Variant::Linear(settings.choice(
                "rule",
                &[("lightning", LinearKind::Lightning), ("gated-delta", LinearKind::GatedDelta)],
            )?),
        };
        Ok(Arc::new(What { kind, layers: settings.share("layers")? }))
    },
};

/// Tokens of a block that native sparse attention chooses.
const NSA_BLOCK: u64 = 64;
/// Its window where none is given.
const NSA_WINDOW: u64 = 512;

#[derive(Debug)]
enum Variant {
    Full,
    Window(u64),
    Sparse(Indexer),
    Nsa { chosen: u64, stride: u64 },
    Linear(LinearKind),
}

#[derive(Debug)]
struct What {
    kind: Variant,
    layers: f64,
}

impl What {
    fn span(&self) -> Option<Span> {
        match &self.kind {
            Variant::Window(window) => Some(Span::Window(*window)),
            Variant::Sparse(indexer) => Some(Span::TopK(indexer.top_k)),
            Variant::Nsa { chosen, .. } => Some(Span::TopK(*chosen)),
            Variant::Full | Variant::Linear(_) => None,
        }
    }

    /// What becomes of full attention, if this kind of it can.
    fn mixer(&self, full: &Mixer) -> Option<Mixer> {
        match (full, &self.kind, self.span()) {
            (full, _, _) if !full.sees_all() => None,
            (Mixer::Attention(own), Variant::Linear(rule), _) => Some(Mixer::Linear(linear(own, *rule))),
            (Mixer::Attention(own), _, Some(span)) => {
                Some(Mixer::Attention(Attention { span, ..own.clone() }))
            }
            (Mixer::Mla(own), Variant::Window(_), Some(span)) => {
                Some(Mixer::Mla(Mla { span, ..own.clone() }))
            }
            (Mixer::Mla(own), Variant::Sparse(indexer), _) => {
                Some(Mixer::Mla(Mla { indexer: Some(indexer.clone()), ..own.clone() }))
            }
            _ => None,
        }
    }

    /// Changed layers of the model that keep keys and values of heads.
    fn changed<'a>(
        &'a self,
        model: &'a crate::model::Model,
    ) -> impl Iterator<Item = (&'a LayerGroup, &'a Attention)> {
        model.layers.iter().filter_map(move |group| match &group.mixer {
            Some(Mixer::Attention(attention)) if Some(attention.span) == self.span() => {
                Some((group, attention))
            }
            _ => None,
        })
    }
}

/// Linear attention with the same projections, a state a query head.
fn linear(attention: &Attention, kind: LinearKind) -> LinearAttention {
    let (heads, keys) = (attention.heads, attention.head_dim);
    LinearAttention {
        kind,
        key_heads: heads,
        value_heads: heads,
        key_dim: keys,
        value_dim: attention.value_dim,
        conv: 0,
        input_columns: heads * keys + attention.kv_heads * (keys + attention.value_dim),
        other_parameters: 0,
        state_format: Format::Fp32,
    }
}

impl Effect for What {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        if matches!(self.kind, Variant::Full) || self.layers == 0.0 {
            return Ok(());
        }
        let model = &mut *target.model;
        let becomes = |group: &LayerGroup| group.mixer.as_ref().and_then(|mixer| self.mixer(mixer));
        if !model.layers.iter().any(|group| becomes(group).is_some()) {
            let latent =
                |group: &LayerGroup| matches!(&group.mixer, Some(full @ Mixer::Mla(_)) if full.sees_all());
            let (must, hint) = if model.layers.iter().any(latent) {
                ("must be one that latent attention has a form of", "use window or sparse")
            } else {
                ("must be used on a model with full causal attention", "it has its own kind already")
            };
            return Err(Error::spec("attention:kind", must, &model.name, hint));
        }
        let mut layers = Vec::new();
        for group in std::mem::take(&mut model.layers) {
            let Some(mixer) = becomes(&group) else {
                layers.push(group);
                continue;
            };
            let changed = (group.count as f64 * self.layers).round() as u64;
            if changed > 0 {
                layers.push(LayerGroup { count: changed, mixer: Some(mixer), ..group.clone() });
            }
            if changed < group.count {
                layers.push(LayerGroup { count: group.count - changed, ..group });
            }
        }
        model.layers = layers;
        Ok(())
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        let bytes = context.activation_bytes();
        let Some((group, attention)) = self.changed(context.model).next() else { return Ok(()) };
        let name = match self.kind {
            Variant::Sparse(Indexer { top_k, heads: 1.., .. }) => format!("attention[top {top_k}]"),
            Variant::Nsa { chosen, .. } => format!("attention[top {chosen}]"),
            _ => return Ok(()),
        };
        let linear = context.precision.of(group, Part::Indexer);
        replace(
            &mut program.ops,
            |op| op.name == name,
            |op| {
                let mut more = match &self.kind {
                    Variant::Sparse(indexer) => indexing(indexer, context.model.hidden as f64, linear, bytes),
                    Variant::Nsa { stride, .. } => {
                        vec![(
                            "attention[compressed]",
                            Family::Attention,
                            compressed(attention, context, *stride as f64),
                        )]
                    }
                    _ => Vec::new(),
                }
                .into_iter()
                .map(|(name, family, work)| Op { reach: 0, ..beside(&op, name.to_string(), family, work) })
                .collect::<Vec<_>>();
                more.push(op);
                Ok(more)
            },
        )
    }

    fn cache(&self, cache: &mut Cache, context: &Context<'_>) -> Result<()> {
        if let Variant::Sparse(indexer @ Indexer { heads: 1.., .. }) = &self.kind {
            let layers: u64 = self.changed(context.model).map(|(group, _)| group.count).sum();
            let share = stage_share(context.model, context.layout);
            cache.added.push((layers as f64 * share * indexer_key_bytes(indexer), None));
        }
        if let Variant::Nsa { stride, .. } = &self.kind {
            let (element, tp) = (context.precision.kv.bytes(1.0), context.layout.tp as f64);
            let of = |(group, own): (&LayerGroup, &Attention)| {
                let heads = (own.kv_heads as f64 / tp).ceil();
                group.count as f64 * heads * (own.head_dim + own.value_dim) as f64
            };
            let numbers: f64 = self.changed(context.model).map(of).sum();
            let share = stage_share(context.model, context.layout);
            cache.added.push((numbers * share * element / *stride as f64, None));
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        vec!["another attention than the model was trained with: a what-if, for cost alone".to_string()]
    }
}

/// The indexer's projections and its scores over all tokens.
fn indexing(indexer: &Indexer, hidden: f64, linear: Linear, bytes: f64) -> Vec<(&'static str, Family, Work)> {
    let (heads, dim) = (indexer.heads as f64, indexer.head_dim as f64);
    vec![
        ("indexer_q_proj", Family::Gemm, gemm(hidden, heads * dim, linear, bytes)),
        ("indexer_k_proj", Family::Gemm, gemm(hidden, dim + heads, linear, bytes)),
        ("indexer", Family::Mla, index(indexer, bytes)),
    ]
}

/// Attention over keys of which each stands for `stride` tokens.
fn compressed(attention: &Attention, context: &Context<'_>, stride: f64) -> Work {
    let tp = context.layout.tp as f64;
    let work = fused(Heads {
        query: attention.heads as f64 / tp,
        kv: (attention.kv_heads as f64 / tp).ceil(),
        key_dim: attention.head_dim as f64,
        value_dim: attention.value_dim as f64,
        activation_bytes: context.activation_bytes(),
        kv_bytes: context.precision.kv.bytes(1.0),
        writes: false,
    });
    let of = |rate: Rate| Rate { pair: rate.pair / stride, key: rate.key / stride, ..rate };
    Work { flops: of(work.flops), vector_flops: of(work.vector_flops), kv_bytes: of(work.kv_bytes), ..work }
}
