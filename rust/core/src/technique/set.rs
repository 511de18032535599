//! Techniques together: which go with which, and applied one after another.

use super::{Cache, Context, Drafting, Generation, Program, Store, Target, Technique};
use crate::error::{Error, Result};
use crate::shape::Reaches;

/// Two kinds that do not go together, why, and what to do.
struct Clash {
    pair: [&'static str; 2],
    why: &'static str,
    hint: &'static str,
}

const CLASHES: [Clash; 10] = [
    Clash {
        pair: ["early-exit", "spec"],
        why: "drafts are verified by the whole depth, which early exit leaves",
        hint: "use one of them; self-speculation is `spec:method=draft-model` with a shallow draft",
    },
    Clash {
        pair: ["early-exit", "parallel-decoding"],
        why: "its tokens are verified by the whole depth, which early exit leaves",
        hint: "use one of them",
    },
    Clash {
        pair: ["kv-evict", "prefix-sharing"],
        why: "what is evicted differs from sequence to sequence, so a prefix cannot be stored once",
        hint: "use one of them",
    },
    Clash {
        pair: ["prefix-sharing", "context-parallel"],
        why: "a cascade reads the prefix on one device, which context parallelism cuts up",
        hint: "use one of them",
    },
    Clash {
        pair: ["contextual-sparsity", "early-exit"],
        why: "both say which weights a token skips, and how they do it together is not known",
        hint: "use one of them",
    },
    Clash {
        pair: ["contextual-sparsity", "low-rank"],
        why: "neurons of a factored layer are not rows of either factor",
        hint: "use one of them",
    },
    Clash { pair: ["n-m", "low-rank"], why: "factors of a low rank are dense", hint: "use one of them" },
    Clash {
        pair: ["afd", "context-parallel"],
        why: "attention on devices of its own already has them to itself",
        hint: "use `parallel:tp=…` on the attention devices",
    },
    Clash {
        pair: ["afd", "early-exit"],
        why: "tokens that leave empty the micro-batches, and how they are filled again is not known",
        hint: "use one of them",
    },
    Clash {
        pair: ["distill", "prune"],
        why: "the student's shapes are its own",
        hint: "prune the model, or name another student",
    },
];

/// Kinds that change nothing until they are told what to do, and what tells them.
const WANTS: [(&str, &[&str]); 13] = [
    ("prune", &["ffn", "heads", "layers"]),
    ("experts", &["top-k", "alpha", "loads", "replicas"]),
    ("parallel", &["tp", "pp", "dp", "ep"]),
    ("lora", &["rank"]),
    ("low-rank", &["rank", "keep"]),
    ("sparsity", &["zeros", "format", "index"]),
    ("kv-evict", &["ratio", "budget", "window"]),
    ("prefix-sharing", &["tokens"]),
    ("context-parallel", &["ranks"]),
    ("contextual-sparsity", &["active", "hot"]),
    ("early-exit", &["share"]),
    ("spec", &["gamma"]),
    ("parallel-decoding", &["width"]),
];

/// Techniques applied to one deployment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Techniques {
    list: Vec<Technique>,
}

impl Techniques {
    /// These and `more`, which are applied to `target` in the order of the catalogue.
    ///
    /// # Errors
    /// Two that contradict; one that does not suit the deployment.
    pub fn and(&self, more: &[Technique], target: &mut Target<'_>) -> Result<Techniques> {
        let mut fresh = more.to_vec();
        fresh.sort_by_key(Technique::rank);
        let mut list: Vec<Technique> = self.list.iter().chain(&fresh).cloned().collect();
        list.sort_by_key(Technique::rank);
        contradictions(&list)?;
        for technique in &fresh {
            technique.effect().apply(target)?;
        }
        Ok(Techniques { list })
    }

    /// Each of them, in the order in which they are applied.
    pub fn list(&self) -> &[Technique] {
        &self.list
    }

    /// As one writes them.
    pub fn texts(&self) -> Vec<String> {
        self.list.iter().map(ToString::to_string).collect()
    }

    /// The same without those that decide how many tokens a step brings.
    #[must_use]
    pub fn token_by_token(&self) -> Techniques {
        let list = self.list.iter().filter(|technique| technique.effect().generation().is_none());
        Techniques { list: list.cloned().collect() }
    }

    /// Adds what attention reaches besides the model's own spans.
    ///
    /// # Errors
    /// Too many spans.
    pub fn reaches(&self, reaches: &mut Reaches) -> Result<()> {
        self.list.iter().try_for_each(|technique| technique.effect().reaches(reaches))
    }

    /// Changes the operators of one device.
    ///
    /// # Errors
    /// A technique that does not suit them.
    pub fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        self.list.iter().try_for_each(|technique| technique.effect().operators(program, context))
    }

    /// What they do to the cache of a sequence.
    ///
    /// # Errors
    /// A technique that does not suit the model.
    pub fn cache(&self, context: &Context<'_>) -> Result<Cache> {
        let mut cache = Cache::default();
        self.list.iter().try_for_each(|technique| technique.effect().cache(&mut cache, context))?;
        Ok(cache)
    }

    /// What a decode step takes and brings.
    pub fn generation(&self) -> Generation {
        self.list.iter().find_map(|technique| technique.effect().generation()).unwrap_or_default()
    }

    /// The same as a serving engine verifies it.
    pub fn drafting(&self) -> Option<Drafting> {
        self.list.iter().find_map(|technique| technique.effect().drafting())
    }

    /// Devices of the deployment, per device of its layout.
    pub fn devices(&self) -> f64 {
        self.list.iter().map(|technique| technique.effect().devices()).product()
    }

    /// Devices whose work together is what operators say.
    pub fn together(&self) -> f64 {
        self.list.iter().map(|technique| technique.effect().together()).product()
    }

    /// Memory beside the device's own.
    ///
    /// # Errors
    /// A capacity that is not known.
    pub fn store(&self, context: &Context<'_>) -> Result<Option<Store>> {
        self.list.iter().find_map(|technique| technique.effect().store(context).transpose()).transpose()
    }

    /// Whether they suit a step of so many sequences of so much context each, which continue their answers.
    ///
    /// # Errors
    /// One that does not.
    pub fn check(&self, sequences: u64, context: u64) -> Result<()> {
        self.list.iter().try_for_each(|technique| technique.effect().check(sequences, context))
    }

    /// Whether traffic can be served with them.
    ///
    /// # Errors
    /// One with which it cannot, and why.
    pub fn served(&self) -> Result<()> {
        let reason =
            |technique: &Technique| technique.effect().unserved().map(|why| (technique.clone(), why));
        match self.list.iter().find_map(reason) {
            None => Ok(()),
            Some((technique, why)) => Err(Error::spec(
                "techniques",
                format!("must be ones that traffic can be served with: {why}"),
                format!("`{technique}`"),
                "use `analyze`, or leave it out",
            )),
        }
    }

    /// Sentences about what they assume.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.list.iter().flat_map(|technique| idle(technique).into_iter().chain(technique.effect().notes()))
    }
}

/// What is said of one that was not told what to do.
fn idle(technique: &Technique) -> Option<String> {
    let (name, keys) = WANTS.iter().find(|(name, _)| *name == technique.kind.name)?;
    let said = keys
        .iter()
        .any(|key| [':', ','].iter().any(|before| technique.text.contains(&format!("{before}{key}="))));
    (!said).then(|| {
        format!(
            "`{technique}` changes nothing until it is given {} (`{name}:{}=…`)",
            keys.join(" or "),
            keys[0]
        )
    })
}

/// Two that decide the same thing, or that are known not to go together.
fn contradictions(list: &[Technique]) -> Result<()> {
    for (place, second) in list.iter().enumerate() {
        for first in &list[..place] {
            if second.is_apart_from(first) {
                continue;
            }
            let shared = first.slots().iter().find(|slot| second.slots().contains(slot));
            if let Some(slot) = shared {
                let must = format!("must not be combined with `{first}`: both decide {}", slot.decides());
                let hint = match first.effect().parts().and(second.effect().parts()) {
                    Some(_) => {
                        "keep one of them, or give each its own matrices (`parts=attention` and `parts=ffn`)"
                    }
                    None => "keep one of them",
                };
                return Err(Error::spec("techniques", must, format!("`{second}`"), hint));
            }
            let names = [first.kind.name, second.kind.name];
            let clash = CLASHES.iter().find(|clash| names.iter().all(|name| clash.pair.contains(name)));
            if let (Some(clash), true) = (clash, names[0] != names[1]) {
                let must = format!("must not be combined with `{first}`: {}", clash.why);
                return Err(Error::spec("techniques", must, format!("`{second}`"), clash.hint));
            }
        }
    }
    Ok(())
}
