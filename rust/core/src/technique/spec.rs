//! Speculative decoding: drafts that the model verifies together.

use std::sync::Arc;

use super::settings::LARGEST;
use super::{Cache, Context, Drafting, Effect, Generation, Kind, Parameter, Program, Settings, Slot};
use crate::catalog;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::lower::{Lowering, lower, multiplied};
use crate::model::{Dense, Ffn, LayerGroup, Mixer, Model, Span, Task};
use crate::op::linear::gemm;
use crate::precision::{Precision, Request};
use crate::shape::Reaches;
use crate::site::DrawnBy;
use crate::work::{Family, Op, Over, Rate, Resident, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "spec",
    aliases: &["speculation", "speculative-decoding", "speculative"],
    class: "speculative decoding",
    about: "drafts γ tokens cheaply and verifies them in one step",
    parameters: &[
        Parameter {
            key: "method",
            default: "ngram",
            about: "ngram, draft-model, medusa, eagle, mtp, dflash or lookahead",
        },
        Parameter { key: "gamma", default: "0", about: "drafts a step (depth of the tree); 0 is none" },
        Parameter {
            key: "accept",
            default: "",
            about: "chance that a draft is accepted if those before it were: one, or one a position (0.8/0.6, or @FILE)",
        },
        Parameter {
            key: "recorded",
            default: "",
            about: "instead of accept: accepted drafts of each verification of a trace, separated by slashes (2x30: thirty of 2), \
                    or @FILE",
        },
        Parameter {
            key: "tree",
            default: "",
            about: "candidates at each depth for every one above (4/2/1); one each unless said",
        },
        Parameter { key: "draft", default: "", about: "catalogue name of the draft model (draft-model)" },
        Parameter {
            key: "window",
            default: "15",
            about: "n-grams grown at once (lookahead), of γ+1 tokens each",
        },
        Parameter {
            key: "guesses",
            default: "",
            about: "n-grams verified a step (lookahead); the window unless said",
        },
    ],
    changes: "tokens a step; F, A and KV of γ+1 tokens a sequence; + the draft's own F, W, KV, capacity",
    formula: "tokens a step (1 − α^(γ+1))/(1 − α), with a list 1 + Σ Π α_i; time γ·draft + target(γ+1); a tree verifies \
              Σ Π k_i tokens and accepts at depth i with 1 − (1−α)^k_i; an EAGLE head is a layer with a dense FFN, MTP's the \
              model's own, experts included; lookahead computes (W + G)·γ tokens and brings \
              γ + 1 − Σ_i (1 − α^i)^G",
    source: "Leviathan et al. 2023 (arXiv 2211.17192), Medusa (arXiv 2401.10774), EAGLE (arXiv 2401.15077), SpecInfer (arXiv 2305.09781), DFlash (arXiv 2602.06036), Lookahead (arXiv 2402.02057, §4.1), DeepSeek-V3's MTP; the survey",
    pays: "small batches of dense models: verifying reads the weights once",
    loses: "large batches (verification is computed, not read), mixtures of experts (γ+1 tokens touch more of them)",
    slots: &[Slot::Generation],
    read: |settings| Ok(Arc::new(Spec::read(settings)?)),
};

/// Layers of a DFlash drafter, as published for Qwen3 and Llama; it reads hidden states of as many depths of the model.
const DFLASH_LAYERS: u64 = 5;

/// Tokens a step brings where a draft is accepted with these chances, each given that those before it were.
///
/// For one chance α and γ drafts that is (1 − α^(γ+1))/(1 − α).
pub fn expected_tokens(acceptance: &[f64]) -> f64 {
    let mut reached = 1.0;
    1.0 + acceptance
        .iter()
        .map(|chance| {
            reached *= chance;
            reached
        })
        .sum::<f64>()
}

#[derive(Debug)]
enum Method {
    /// Looked up in the text: costs nothing on the device.
    Ngram,
    /// A smaller model.
    Draft(Box<Model>),
    /// A head a position: a residual block and a vocabulary projection.
    Medusa,
    /// One layer like the model's, with a dense FFN, behind a projection of two states, run once a draft.
    Eagle,
    /// A layer of the model itself, experts included, shipped with it.
    Mtp,
    /// A few layers like EAGLE's that draft a block of tokens in one pass, by diffusion.
    Dflash,
    /// N-grams that the model itself grows in a window beside the verification of earlier ones.
    Lookahead {
        /// Tokens computed a sequence.
        width: u64,
    },
}

/// Drafts and their verification.
#[derive(Debug)]
pub(super) struct Spec {
    method: Method,
    gamma: u64,
    acceptance: Vec<f64>,
    /// Candidates at each depth, for every one above it.
    tree: Vec<u64>,
    settings: Settings,
}

impl Spec {
    fn read(settings: &Settings) -> Result<Spec> {
        Spec::with(settings, settings.get("draft").map(catalog::models::model).transpose()?)
    }

    /// The same, whatever model drafts.
    pub(super) fn with(settings: &Settings, draft: Option<Model>) -> Result<Spec> {
        let gamma = settings.count("gamma", 0, 4096)?;
        let tree: Vec<f64> = settings.list("tree", 1.0, 4096.0)?;
        if !tree.is_empty() && tree.len() as u64 != gamma {
            return Err(settings.wrong(
                "tree",
                format!("must have one number for each of the {gamma} depths"),
                "",
            ));
        }
        let tree: Vec<u64> =
            if tree.is_empty() { vec![1; gamma as usize] } else { tree.iter().map(|k| *k as u64).collect() };
        let known = [
            ("ngram", 0),
            ("draft-model", 1),
            ("medusa", 2),
            ("eagle", 3),
            ("mtp", 4),
            ("lookahead", 5),
            ("dflash", 6),
        ];
        let method = settings.choice("method", &known)?;
        settings.only_where(method == 5, "method=lookahead", &["window", "guesses"])?;
        settings.only_where(method != 5, "another method than lookahead", &["tree"])?;
        let window = settings.count("window", 1, 65_536)?;
        let guesses = settings.maybe_count("guesses", 1, 65_536)?.unwrap_or(window);
        let method = match (method, draft) {
            (1, Some(draft)) => Method::Draft(Box::new(draft)),
            (1, None) => {
                return Err(settings.wrong(
                    "draft",
                    "must be given for draft-model",
                    "for example llama-3.2-1b",
                ));
            }
            (_, Some(_)) => {
                return Err(settings.wrong("draft", "must be left out but for method=draft-model", ""));
            }
            (0, None) => Method::Ngram,
            (2, None) => Method::Medusa,
            (3, None) => Method::Eagle,
            (4, None) => Method::Mtp,
            (6, None) => Method::Dflash,
            (_, None) => Method::Lookahead { width: (window + guesses) * gamma },
        };
        let mut acceptance = acceptance(settings, gamma, &tree)?;
        if matches!(method, Method::Lookahead { .. }) && !settings.said("recorded") {
            acceptance = any_of(&acceptance, guesses as f64);
        }
        let spec = Spec { method, gamma, acceptance, tree, settings: settings.clone() };
        if spec.width() > LARGEST / 2 || spec.width() > 65_536 {
            let most = "must have at most 65,536 tokens";
            return match spec.method {
                Method::Lookahead { .. } => {
                    Err(settings.wrong("window", most, "(window + guesses)·gamma are computed a step"))
                }
                _ => Err(settings.wrong("tree", most, "")),
            };
        }
        Ok(spec)
    }

    /// Candidates at each depth.
    fn nodes(&self) -> impl Iterator<Item = u64> {
        self.tree.iter().scan(1u64, |nodes, candidates| {
            *nodes = nodes.saturating_mul(*candidates);
            Some(*nodes)
        })
    }

    /// Tokens computed a sequence: all candidates and the last accepted token, with which a window begins.
    fn width(&self) -> u64 {
        if let Method::Lookahead { width } = self.method {
            return width.max(1);
        }
        self.nodes().fold(1, u64::saturating_add)
    }

    /// Passes of what drafts, a step: one a depth, or one for the whole block.
    fn rounds(&self) -> f64 {
        if matches!(self.method, Method::Dflash) { 1.0 } else { self.gamma as f64 }
    }

    /// Tokens a draft pass runs over, a sequence: the last token, then the candidates of each depth but the last; of a
    /// block the last token and every draft.
    fn breadth(&self) -> f64 {
        if matches!(self.method, Method::Dflash) {
            return self.width() as f64;
        }
        let last = self.nodes().last().unwrap_or(0);
        (self.width() - last) as f64 / self.gamma.max(1) as f64
    }

    /// The model that drafts, if it is one with a cache of its own.
    fn drafter(&self, model: &Model) -> Result<Option<Model>> {
        match &self.method {
            Method::Draft(draft) if draft.task != Task::Decoder => {
                let must = "must be a model that generates tokens";
                Err(Error::spec("spec:draft", must, &draft.name, "for example llama-3.2-1b"))
            }
            Method::Draft(draft) => Ok(Some(Model { vision: None, ..(**draft).clone() })),
            Method::Mtp => Ok(Some(layers_like_last(model, 1))),
            Method::Eagle => Ok(Some(dense(layers_like_last(model, 1)))),
            Method::Dflash => Ok(Some(dense(layers_like_last(model, DFLASH_LAYERS)))),
            Method::Ngram | Method::Medusa | Method::Lookahead { .. } => Ok(None),
        }
    }

    /// Hidden states that what drafts makes one of: the last one and its own token's, or one of several depths of the model.
    fn states(&self) -> f64 {
        if matches!(self.method, Method::Dflash) { DFLASH_LAYERS as f64 } else { 2.0 }
    }

    fn draft_precision(&self, drafter: &Model, context: &Context<'_>) -> Result<Precision> {
        match self.method {
            Method::Draft(_) => Precision::resolve(drafter, &Request::default()),
            _ => Ok(context.precision.clone()),
        }
    }

    /// The passes of a drafting model: prompts as they are, and one pass a depth over decoding sequences. In a pipeline the
    /// last stage drafts.
    fn passes(&self, drafter: &Model, reaches: &Reaches, context: &Context<'_>) -> Result<Vec<Op>> {
        let own = matches!(self.method, Method::Draft(_));
        // Experts that the model ships to draft with are spread as its own.
        let shipped = matches!(self.method, Method::Mtp);
        let layout = Layout { pp: 1, ep: if shipped { context.layout.ep } else { 1 }, ..context.layout };
        layout.check(drafter)?;
        let precision = self.draft_precision(drafter, context)?;
        let mut ops = lower(
            drafter,
            layout,
            &precision,
            Lowering { flash_attention: true, ..context.lowering },
            reaches,
        );
        if !own {
            let linear = crate::model::Linear::plain(precision.activation);
            let hidden = drafter.hidden as f64;
            let inputs = self.states() * hidden;
            let work = gemm(inputs, hidden, linear, context.activation_bytes());
            let kernel = multiplied(Rate::token(1.0), inputs, hidden, linear);
            ops.push(Op::new("fuse_proj", Family::Gemm, linear.activation, work).run_as(kernel));
        }
        let mut passes = Vec::new();
        for mut op in ops {
            if !own && ["embedding", "lm_head"].contains(&op.name.as_str()) {
                // Embedding and head are the model's own.
                op.work.resident = Resident::default();
            }
            op.name = format!("draft.{}", op.name);
            if op.over != Over::Decode {
                passes.push(Op { over: Over::Prefill, ..op.clone() });
                op.work.resident = Resident::default();
            }
            if op.over != Over::Prefill {
                passes.push(self.over_sequences(op, reaches));
            }
        }
        Ok(passes)
    }

    /// A pass of one new token a sequence (`breadth` in a tree), written in the sums of the verifying step, in which each
    /// sequence has `width` new tokens. Where a query sees everything, c + width keys there are c + (γ+1)/2 in the mean
    /// pass; elsewhere a query of the pass sees as many keys as the mean query there. All
    /// of a block see all of it.
    fn over_sequences(&self, mut op: Op, reaches: &Reaches) -> Op {
        let (breadth, rounds, width) = (self.breadth(), self.rounds(), self.width() as f64);
        let fewer =
            if matches!(self.method, Method::Dflash) { 0.0 } else { width - (self.gamma as f64 + 1.0) / 2.0 };
        let sees_all = reaches.iter().nth(op.reach).is_none_or(|reach| reach.span == Span::Full);
        let of = |rate: Rate| {
            let new = breadth * (rate.token + rate.logit);
            let keys = breadth * rate.pair + rate.key;
            let once = Rate { fixed: rate.fixed, sequence: rate.sequence + new, ..Rate::ZERO };
            if sees_all {
                Rate { sequence: once.sequence - fewer * keys, key: keys, ..once }
            } else {
                Rate { pair: keys / width, ..once }
            }
        };
        let work = &mut op.work;
        *work = Work {
            flops: of(work.flops),
            vector_flops: of(work.vector_flops),
            weight_bytes: of(work.weight_bytes),
            activation_bytes: of(work.activation_bytes),
            kv_bytes: of(work.kv_bytes),
            ..*work
        };
        if let Some(transfer) = &mut work.transfer {
            transfer.bytes = of(transfer.bytes);
        }
        if let Some(touched) = &mut work.touched {
            touched.drawn_by = DrawnBy::Sequence;
            touched.ranks *= breadth;
        }
        op.kernel = op.kernel.of_each(breadth / width, of);
        (op.over, op.needs_logits) = (Over::Decode, false);
        op.repeat *= rounds;
        op.stage_repeat *= rounds;
        op
    }

    /// Medusa's heads: a residual block and a projection to the vocabulary for each position, once a step.
    fn heads(&self, context: &Context<'_>) -> Vec<Op> {
        let model = context.model;
        let (hidden, rows) = (model.hidden as f64, model.vocab as f64 / context.layout.tp as f64);
        let linear = context.precision.vocabulary();
        let once = |rate: Rate| Rate { fixed: rate.fixed, sequence: rate.token, ..Rate::ZERO };
        let head = |name: &str, outputs: f64| {
            let work = gemm(hidden, outputs, linear, context.activation_bytes());
            let work =
                Work { flops: once(work.flops), activation_bytes: once(work.activation_bytes), ..work };
            let kernel = multiplied(once(Rate::token(1.0)), hidden, outputs, linear);
            let mut op = Op::new(name, Family::Gemm, linear.activation, work).run_as(kernel);
            (op.over, op.repeat, op.stage_repeat) = (Over::Decode, self.gamma as f64, self.gamma as f64);
            op
        };
        vec![head("medusa_block", hidden), head("medusa_head", rows)]
    }
}

/// The layers that an EAGLE head, a multi-token-prediction module or a diffusion drafter is: each as the last one that
/// attends, to everything before it, with the model's embedding and head.
fn layers_like_last(model: &Model, count: u64) -> Model {
    let attends = |group: &&LayerGroup| matches!(group.mixer, Some(Mixer::Attention(_) | Mixer::Mla(_)));
    let whole = |group: &&LayerGroup| group.mixer.is_some() && group.ffn.is_some();
    let mut layers = model.layers.iter().rev().filter(whole);
    let last = layers.clone().find(attends).or_else(|| layers.next()).or(model.layers.last());
    let layers = last.map(|last| {
        let mut layer = LayerGroup { count, ..last.clone() };
        match &mut layer.mixer {
            Some(Mixer::Attention(attention)) => (attention.span, attention.shares_kv) = (Span::Full, false),
            Some(Mixer::Mla(latent)) => latent.span = Span::Full,
            _ => {}
        }
        layer
    });
    Model { layers: layers.into_iter().collect(), vision: None, ..model.clone() }
}

/// The same with an FFN for every token in place of experts, as wide as those that a token visits: drafters are trained
/// so (the head of DeepSeek-V3 would have the 18,432 of its dense layers). What a model ships keeps its experts.
fn dense(mut drafter: Model) -> Model {
    for layer in &mut drafter.layers {
        if let Some(Ffn::Moe(moe)) = &layer.ffn {
            let visited = moe.top_k * moe.intermediate + moe.shared_intermediate + moe.dense_intermediate;
            layer.ffn = Some(Ffn::Dense(Dense { intermediate: visited, gated: moe.gated, bias: moe.bias }));
        }
    }
    drafter
}

/// The chance that one of so many candidates is accepted where each has this chance.
fn one_of(chance: f64, candidates: u64) -> f64 {
    1.0 - (1.0 - chance).powf(candidates as f64)
}

/// The chance of each depth.
fn acceptance(settings: &Settings, gamma: u64, tree: &[u64]) -> Result<Vec<f64>> {
    let (chances, recorded) = (settings.list("accept", 0.0, 1.0)?, settings.counted("recorded", 0, 4096)?);
    match (chances.as_slice(), recorded.as_slice()) {
        ([_, ..], [_, ..]) => {
            Err(settings.wrong("recorded", "must not be given beside accept", "give one of them"))
        }
        ([], []) if gamma > 0 => Err(settings.wrong(
            "accept",
            "must be given",
            "the chance that a draft is accepted, for example 0.7",
        )),
        ([], []) => Ok(Vec::new()),
        (chances @ [.., last], []) => {
            if chances.len() as u64 > gamma.max(1) {
                let must = format!("must have at most one chance for each of the {gamma} drafts");
                return Err(settings.wrong("accept", must, ""));
            }
            let one = |place: usize| chances.get(place).copied().unwrap_or(*last);
            let of = |(place, candidates): (usize, &u64)| one_of(one(place), *candidates);
            Ok(tree.iter().enumerate().map(of).collect())
        }
        (_, recorded) => {
            let at_least = |depth: u64| {
                let times =
                    recorded.iter().filter(|(accepted, _)| *accepted >= depth).map(|(_, times)| times);
                times.sum::<u64>() as f64
            };
            let chance = |depth: u64| match at_least(depth - 1) {
                0.0 => 0.0,
                before => at_least(depth) / before,
            };
            Ok((1..=gamma).map(chance).collect())
        }
    }
}

/// The chance of each depth, given the one before, where one of so many independent guesses needs to hold: i tokens hold of
/// one with p_i = Π α, of any with 1 − (1 − p_i)^guesses.
fn any_of(one: &[f64], guesses: f64) -> Vec<f64> {
    let (mut held, mut before) = (1.0, 1.0);
    let any = one.iter().map(|chance| {
        held *= chance;
        let any: f64 = 1.0 - (1.0 - held).powf(guesses);
        let given = if before > 0.0 { any / before } else { 0.0 };
        before = any;
        given
    });
    any.collect()
}

impl Effect for Spec {
    fn reaches(&self, reaches: &mut Reaches) -> Result<()> {
        let Method::Draft(draft) = &self.method else { return Ok(()) };
        Reaches::of(draft)?.iter().try_for_each(|reach| reaches.extend(*reach).map(|_| ()))
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.gamma == 0 {
            return Ok(());
        }
        if matches!(self.method, Method::Mtp) && context.model.mtp_layers == 0 {
            let must = format!(
                "must be one that `{}` has: it ships no multi-token-prediction layer",
                context.model.name
            );
            return Err(self.settings.wrong("method", must, "use eagle or ngram"));
        }
        let drafts = match self.drafter(context.model)? {
            Some(drafter) => self.passes(&drafter, &program.reaches, context)?,
            None if matches!(self.method, Method::Medusa) => self.heads(context),
            None => Vec::new(),
        };
        program.ops.extend(drafts);
        Ok(())
    }

    fn cache(&self, cache: &mut Cache, context: &Context<'_>) -> Result<()> {
        if self.gamma > 0
            && let Some(drafter) = self.drafter(context.model)?
        {
            let precision = self.draft_precision(&drafter, context)?;
            cache.drafts.push((drafter, precision));
        }
        Ok(())
    }

    fn generation(&self) -> Option<Generation> {
        let tokens = expected_tokens(&self.acceptance);
        (self.gamma > 0).then(|| Generation { width: self.width(), tokens })
    }

    fn tokens_at(&self, chance: f64) -> Option<f64> {
        let depths: Vec<f64> = self.tree.iter().map(|candidates| one_of(chance, *candidates)).collect();
        (self.gamma > 0).then(|| expected_tokens(&depths))
    }

    fn drafting(&self) -> Option<Drafting> {
        let method = match self.method {
            Method::Ngram | Method::Lookahead { .. } => "ngram",
            Method::Draft(_) => "draft-model",
            Method::Medusa => "medusa",
            Method::Eagle => "eagle",
            Method::Mtp => "mtp",
            Method::Dflash => "dflash",
        };
        // Whatever the tree, it is the number of depths accepted that counts: no chance for the other candidates.
        let drafts = self.width() - 1;
        let mut acceptance = self.acceptance.clone();
        acceptance.resize(drafts as usize, 0.0);
        let tokens = u32::try_from(drafts).unwrap_or(u32::MAX);
        (self.gamma > 0).then_some(Drafting { method, tokens, acceptance })
    }

    fn notes(&self) -> Vec<String> {
        let tokens = expected_tokens(&self.acceptance);
        if self.gamma == 0 {
            Vec::new()
        } else {
            vec![format!("{tokens:.2} tokens come of a step of {} a sequence", self.width())]
        }
    }
}
