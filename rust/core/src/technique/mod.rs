//! Techniques of efficient inference: each is data and one formula family, applied to a deployment by name.
//!
//! One grammar everywhere: `name:key=value,key=value`, several joined by `+`. A technique changes the model, device,
//! layout, formats or lowering before operators are made ([`Effect::apply`]), the operators once they are
//! ([`Effect::operators`]), the cache ([`Effect::cache`]) and how many tokens a step brings ([`Effect::generation`]).
//! Whatever order they are written in, they are applied in the order of [`KINDS`], so writing order never matters.

mod settings;
mod target;
mod ops;
mod set;
mod shorthand;
mod distill;
mod prune;
mod attention;
mod experts;
mod parallel;
mod spatial;
mod weight_quant;
mod activation_quant;
mod kv_quant;
mod fusion;
mod flash;
mod overlap;
mod low_rank;
mod sparsity;
mod n_m;
mod early_exit;
mod contextual_sparsity;
mod lora;
mod kv_evict;
mod prefix_sharing;
mod paging;
mod spec;
mod parallel_decoding;
mod context_parallel;
mod afd;
mod pim;
mod hybrid;
mod offload;
mod mistakes;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::names;
use crate::shape::Reaches;
use crate::table::{Column, Table};
use ops::Parts;

pub use mistakes::{Mistake, mistakes};
pub use set::{Techniques, of_no_use};
pub use settings::{Parameter, Settings};
pub use shorthand::{Said, expand};
pub use spec::expected_tokens;
pub use target::{Cache, Context, Drafting, Generation, Held, Program, Store, Target};

/// What a technique decides; two that decide the same thing contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// How weights are stored.
    Weights,
    /// What multiplications run in.
    Activations,
    /// Which weights are left out.
    Sparsity,
    /// How the cache is stored.
    CacheFormat,
    /// Which tokens the cache keeps.
    CacheContent,
    /// How the cache is allocated.
    CacheBlocks,
    /// Which part of the cache sequences share.
    CacheSharing,
    /// Tokens a step brings.
    Generation,
    /// Which tokens a query sees.
    Attention,
    /// Which model is run.
    Model,
    /// How much of its layers is kept.
    Shapes,
    /// Which layers are run.
    Depth,
    /// Which experts are visited.
    Routing,
    /// Fusion of elementwise work.
    Fusion,
    /// The attention kernel.
    AttentionKernel,
    /// Hidden communication.
    Overlap,
    /// How the model is spread.
    Layout,
    /// How many chips are one machine.
    Machine,
    /// Over how many devices contexts are cut.
    Contexts,
    /// On what attention runs.
    AttentionSite,
    /// On what the FFN runs.
    FfnSite,
    /// What the host's processor computes.
    HostWork,
    /// Where the cache lies.
    CacheSite,
    /// Where the weights lie.
    WeightSite,
    /// What memory beside the device's holds.
    Store,
}

impl Slot {
    /// What deciding it means, for sentences.
    const fn decides(self) -> &'static str {
        match self {
            Slot::Weights => "how weights are stored",
            Slot::Activations => "what multiplications run in",
            Slot::Sparsity => "which weights are left out",
            Slot::CacheFormat => "how the KV cache is stored",
            Slot::CacheContent => "which tokens the KV cache keeps",
            Slot::CacheBlocks => "how the KV cache is allocated",
            Slot::CacheSharing => "which part of the KV cache sequences share",
            Slot::Generation => "how many tokens a step brings",
            Slot::Attention => "which tokens a query sees",
            Slot::Model => "which model is run",
            Slot::Shapes => "how much of the layers is kept",
            Slot::Depth => "which layers are run",
            Slot::Routing => "which experts are visited",
            Slot::Fusion => "what is fused",
            Slot::AttentionKernel => "the attention kernel",
            Slot::Overlap => "how much communication is hidden",
            Slot::Layout => "how the model is spread",
            Slot::Machine => "how many chips are one machine",
            Slot::Contexts => "over how many devices contexts are cut",
            Slot::AttentionSite => "where attention runs",
            Slot::FfnSite => "where the FFN runs",
            Slot::HostWork => "what the host's processor computes",
            Slot::CacheSite => "where the KV cache lies",
            Slot::WeightSite => "where the weights lie",
            Slot::Store => "what memory beside the device's holds",
        }
    }
}

/// A kind of technique: what the catalogue says of it, and how its settings become an effect.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// The survey's class.
    pub class: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its settings.
    pub parameters: &'static [Parameter],
    /// Which quantities it changes (F, W, A, KV, capacity, peak, link, tokens a step, …).
    pub changes: &'static str,
    /// How.
    pub formula: &'static str,
    /// Paper or engine.
    pub source: &'static str,
    /// Where it pays.
    pub pays: &'static str,
    /// Where it does not.
    pub loses: &'static str,
    /// What it decides alone; with some settings only a part of it.
    pub slots: &'static [Slot],
    /// Its effect, from its settings.
    pub(crate) read: fn(&Settings) -> Result<Arc<dyn Effect>>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

/// Every kind, in the order in which they are applied.
pub static KINDS: [&Kind; 28] = [
    &distill::KIND,
    &prune::KIND,
    &attention::KIND,
    &experts::KIND,
    &parallel::KIND,
    &spatial::KIND,
    &fusion::KIND,
    &flash::KIND,
    &overlap::KIND,
    &lora::KIND,
    &low_rank::KIND,
    &sparsity::KIND,
    &n_m::KIND,
    &weight_quant::KIND,
    &activation_quant::KIND,
    &kv_quant::KIND,
    &kv_evict::KIND,
    &paging::KIND,
    &prefix_sharing::KIND,
    &context_parallel::KIND,
    &contextual_sparsity::KIND,
    &early_exit::KIND,
    &spec::KIND,
    &parallel_decoding::KIND,
    &afd::KIND,
    &pim::KIND,
    &hybrid::KIND,
    &offload::KIND,
];

/// What a technique does. Every method changes nothing unless it is given.
pub trait Effect: fmt::Debug + Send + Sync {
    /// What it decides alone, where its settings leave a part of what its kind may decide to others.
    fn decides(&self) -> Option<&'static [Slot]> {
        None
    }

    /// Which matrices it is about, where it may leave the others alone.
    #[expect(private_interfaces, reason = "effects are written in this module alone")]
    fn parts(&self) -> Option<Parts> {
        None
    }

    /// Changes model, device, layout, formats or lowering, before operators are made.
    ///
    /// # Errors
    /// Something the deployment does not allow.
    fn apply(&self, _target: &mut Target<'_>) -> Result<()> {
        Ok(())
    }

    /// Adds what attention reaches besides the model's own spans.
    ///
    /// # Errors
    /// Too many spans.
    fn reaches(&self, _reaches: &mut Reaches) -> Result<()> {
        Ok(())
    }

    /// Changes the operators of one device.
    ///
    /// # Errors
    /// Something the operators do not allow.
    fn operators(&self, _program: &mut Program, _context: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Changes the cache of a sequence on one device.
    ///
    /// # Errors
    /// Something the model does not allow.
    fn cache(&self, _cache: &mut Cache, _context: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// What a decode step takes and brings, where that is not one token.
    fn generation(&self) -> Option<Generation> {
        None
    }

    /// The same as a serving engine verifies it.
    fn drafting(&self) -> Option<Drafting> {
        None
    }

    /// Tokens a step brings where drafts are accepted with this chance at every position; `None` where none are drafted.
    fn tokens_at(&self, _chance: f64) -> Option<f64> {
        None
    }

    /// Devices of the deployment, per device of its layout.
    fn devices(&self) -> f64 {
        1.0
    }

    /// Devices whose work together is what operators say.
    fn together(&self) -> f64 {
        1.0
    }

    /// Memory beside the device's own that holds a part of what the device would.
    ///
    /// # Errors
    /// A capacity that is not known.
    fn store(&self, _context: &Context<'_>) -> Result<Option<Store>> {
        Ok(None)
    }

    /// Whether a step of so many sequences of so much context each, which continue their answers, can be priced.
    ///
    /// # Errors
    /// A step it does not suit.
    fn check(&self, _sequences: u64, _context: u64) -> Result<()> {
        Ok(())
    }

    /// Why traffic cannot be served with it, if that is so.
    fn unserved(&self) -> Option<&'static str> {
        None
    }

    /// Sentences about what it assumes.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A technique with its settings.
#[derive(Clone)]
pub struct Technique {
    kind: &'static Kind,
    text: String,
    effect: Arc<dyn Effect>,
}

impl fmt::Debug for Technique {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl fmt::Display for Technique {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl PartialEq for Technique {
    fn eq(&self, other: &Technique) -> bool {
        self.text == other.text
    }
}

impl Technique {
    /// Reads `name:key=value,key=value`.
    ///
    /// # Errors
    /// An unknown name or setting (with the nearest), a value out of range.
    ///
    /// ```
    /// use roofline_core::technique::Technique;
    /// let technique = Technique::parse("kv-quant:bits=4")?;
    /// assert_eq!(technique.to_string(), "kv-quant:bits=4");
    /// let error = Technique::parse("kv-quant:bits=0").unwrap_err();
    /// assert_eq!(error.to_string(), "kv-quant:bits must be a number from 1 to 8, or 16: 0");
    /// # Ok::<(), roofline_core::error::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Technique> {
        let cut = settings::cut(text.trim())?;
        let kind = kind(cut.name)?;
        let settings = Settings::of(kind.name, kind.parameters, &cut.settings)?;
        Ok(Technique { kind, text: settings.text(), effect: (kind.read)(&settings)? })
    }

    /// Reads several, joined by `+`; `none` is no technique.
    ///
    /// # Errors
    /// As [`Technique::parse`], all at once; a text, or a part of one, that says nothing.
    pub fn parse_all<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Technique>> {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        let parts = texts.iter().flat_map(|text| text.as_ref().split('+')).map(str::trim);
        for part in parts.filter(|part| *part != "none") {
            match Technique::parse(part) {
                Ok(technique) => found.push(technique),
                Err(error) => wrong.push(error),
            }
        }
        Error::all("techniques", wrong)?;
        Ok(found)
    }

    /// Drafts as flags of engines say them: so many a step by that method, each accepted with its chance if those before
    /// it were; by `draft` where a model of its own drafts.
    ///
    /// # Errors
    /// As for `spec`: an unknown method, a draft model that is absent or not wanted.
    pub fn drafts(method: &str, tokens: u32, acceptance: &[f64], draft: Option<&Model>) -> Result<Technique> {
        let chances: Vec<String> = acceptance.iter().map(ToString::to_string).collect();
        let (tokens, chances) = (tokens.to_string(), chances.join("/"));
        let written = [("method", method), ("gamma", tokens.as_str()), ("accept", chances.as_str())];
        let settings = Settings::of(spec::KIND.name, spec::KIND.parameters, &written)?;
        let mut text = settings.text();
        if let Some(model) = draft {
            text = format!("{text},draft={}", model.name);
        }
        let effect = Arc::new(spec::Spec::with(&settings, draft.cloned())?);
        Ok(Technique { kind: &spec::KIND, text, effect })
    }

    /// Several as one writes them where their order is to say nothing: joined by `+`, in the order in which they are
    /// applied, and `none` for none.
    ///
    /// # Errors
    /// As [`Technique::parse_all`].
    ///
    /// ```
    /// use roofline_core::technique::Technique;
    /// let turned = ["kv-quant:bits=4 + weight-quant:bits=8"];
    /// assert_eq!(Technique::canonical(&turned)?, "weight-quant:bits=8+kv-quant:bits=4");
    /// # Ok::<(), roofline_core::error::Error>(())
    /// ```
    pub fn canonical<T: AsRef<str>>(texts: &[T]) -> Result<String> {
        let mut found = Technique::parse_all(texts)?;
        found.sort_by(Technique::order);
        let texts: Vec<&str> = found.iter().map(|technique| technique.text.as_str()).collect();
        Ok(if texts.is_empty() { "none".to_string() } else { texts.join("+") })
    }

    /// What kind it is.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// What it does.
    pub(crate) fn effect(&self) -> &dyn Effect {
        self.effect.as_ref()
    }

    /// What it decides alone, as it is set.
    fn slots(&self) -> &'static [Slot] {
        self.effect.decides().unwrap_or(self.kind.slots)
    }

    /// Whether it and `other` are about different matrices.
    fn is_apart_from(&self, other: &Technique) -> bool {
        let both = self.effect.parts().zip(other.effect.parts());
        both.is_some_and(|(own, others)| !own.meets(others))
    }

    /// Which of two is applied first, whatever order they are written in: by kind, then by what they say.
    fn order(&self, other: &Technique) -> Ordering {
        (self.rank(), &self.text).cmp(&(other.rank(), &other.text))
    }

    fn rank(&self) -> usize {
        KINDS.iter().position(|kind| kind.name == self.kind.name).unwrap_or(KINDS.len())
    }
}

/// The kind of that name.
///
/// # Errors
/// An unknown name, with the nearest.
pub fn kind(name: &str) -> Result<&'static Kind> {
    let plain = names::normalise(name);
    let answers = |kind: &&&'static Kind| kind.name == plain || kind.aliases.contains(&plain.as_str());
    let all = || KINDS.iter().flat_map(|kind| std::iter::once(kind.name).chain(kind.aliases.iter().copied()));
    KINDS.iter().find(answers).copied().ok_or_else(|| names::unknown("technique", name, all()))
}

/// Every kind, one row each.
pub fn catalog() -> Table {
    let text = |of: fn(&Kind) -> String| Column::Str(KINDS.iter().map(|kind| of(kind)).collect());
    let settings = |kind: &Kind| {
        let keys: Vec<&str> = kind.parameters.iter().map(|parameter| parameter.key).collect();
        keys.join(", ")
    };
    Table::new()
        .with("name", text(|kind| kind.name.to_string()))
        .with("class", text(|kind| kind.class.to_string()))
        .with("about", text(|kind| kind.about.to_string()))
        .with("changes", text(|kind| kind.changes.to_string()))
        .with("settings", Column::Str(KINDS.iter().map(|kind| settings(kind)).collect()))
        .with("source", text(|kind| kind.source.to_string()))
}

/// One kind as rows of `field, value`.
///
/// # Errors
/// An unknown name, with the nearest.
pub fn page(name: &str) -> Result<Table> {
    let kind = kind(name)?;
    let mut rows: Vec<(String, String)> = [
        ("name", kind.name),
        ("class", kind.class),
        ("about", kind.about),
        ("changes", kind.changes),
        ("formula", kind.formula),
        ("source", kind.source),
        ("pays", kind.pays),
        ("loses", kind.loses),
    ]
    .map(|(field, value)| (field.to_string(), value.to_string()))
    .into();
    rows.push(("aliases".into(), kind.aliases.join(", ")));
    rows.push((
        "decides".into(),
        kind.slots.iter().map(|slot| slot.decides()).collect::<Vec<_>>().join("; "),
    ));
    for Parameter { key, default, about } in kind.parameters {
        let default = if default.is_empty() { String::new() } else { format!(" (default {default})") };
        rows.push((format!("{}:{key}", kind.name), format!("{about}{default}")));
    }
    rows.retain(|(_, value)| !value.is_empty());
    let (fields, values) = rows.into_iter().unzip();
    Ok(Table::new().with("field", Column::Str(fields)).with("value", Column::Str(values)))
}
