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
    /// Those that changed the deployment before operators were made.
    applied: Vec<Technique>,
}

impl Techniques {
    /// These and `more`, which are applied to `target` in the order of the catalogue.
    ///
    /// # Errors
    /// Two that contradict; one that does not suit the deployment.
    pub fn and(&self, more: &[Technique], target: &mut Target<'_>) -> Result<Techniques> {
        let mut list: Vec<Technique> = self.list.iter().chain(more).cloned().collect();
        list.sort_by_key(Technique::rank);
        contradictions(&list)?;
        let mut fresh = more.to_vec();
        fresh.sort_by(Technique::order);
        list.sort_by(Technique::order);
        let mut applied = self.applied.clone();
        for technique in &fresh {
            let before = target.remembered();
            technique.effect().apply(target)?;
            if target.differs(&before) {
                applied.push(technique.clone());
            }
        }
        Ok(Techniques { list, applied })
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
        Techniques { list: list.cloned().collect(), applied: self.applied.clone() }
    }

    /// Those that change nothing in a deployment whose operators were `program` before them.
    ///
    /// # Errors
    /// A technique that does not suit the operators.
    pub fn idle(&self, mut program: Program, context: &Context<'_>) -> Result<Vec<&Technique>> {
        let (mut idle, mut cache) = (Vec::new(), Cache::default());
        for technique in &self.list {
            let (effect, before) = (technique.effect(), (program.ops.clone(), cache.clone()));
            effect.operators(&mut program, context)?;
            effect.cache(&mut cache, context)?;
            let same = before.0 == program.ops && before.1 == cache && !self.applied.contains(technique);
            if same && effect.generation().is_none() && effect.devices() == 1.0 {
                idle.push(technique);
            }
        }
        Ok(idle)
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

    /// Tokens a step brings where drafts are accepted with this chance at every position; `None` where none are drafted.
    pub fn tokens_at(&self, chance: f64) -> Option<f64> {
        self.list.iter().find_map(|technique| technique.effect().tokens_at(chance))
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
        self.list.iter().flat_map(|technique| technique.effect().notes())
    }
}

/// What is said of one that changes nothing.
pub fn of_no_use(technique: &Technique) -> String {
    let wants = WANTS.iter().find(|(name, _)| *name == technique.kind.name).map(|(_, keys)| *keys);
    let said = |key: &str| {
        technique.text.contains(&format!(":{key}=")) || technique.text.contains(&format!(",{key}="))
    };
    match wants {
        Some(keys) if !keys.iter().any(|key| said(key)) => {
            let (name, keys, first) = (technique.kind.name, keys.join(" or "), keys[0]);
            format!("`{technique}` changes nothing until it is given {keys} (`{name}:{first}=…`)")
        }
        _ => format!("`{technique}` changes nothing here"),
    }
}

/// Whether no two decide the same thing, or are known not to go together.
fn contradictions(list: &[Technique]) -> Result<()> {
    for (place, second) in list.iter().enumerate() {
        if let Some(error) = list[..place].iter().find_map(|first| contradiction(first, second)) {
            return Err(error);
        }
    }
    Ok(())
}

/// Why two do not go together, if that is so.
pub(super) fn contradiction(first: &Technique, second: &Technique) -> Option<Error> {
    let against = |why: String, hint: &str| {
        let must = format!("must not be combined with `{first}`: {why}");
        Some(Error::spec("techniques", must, format!("`{second}`"), hint))
    };
    if second.is_apart_from(first) {
        return None;
    }
    if let Some(slot) = first.slots().iter().find(|slot| second.slots().contains(slot)) {
        let hint = match first.effect().parts().and(second.effect().parts()) {
            Some(_) => "keep one of them, or give each its own matrices (`parts=attention` and `parts=ffn`)",
            None => "keep one of them",
        };
        return against(format!("both decide {}", slot.decides()), hint);
    }
    let names = [first.kind.name, second.kind.name];
    let clash = CLASHES.iter().find(|clash| names.iter().all(|name| clash.pair.contains(name)));
    clash.filter(|_| names[0] != names[1]).and_then(|clash| against(clash.why.to_string(), clash.hint))
}
