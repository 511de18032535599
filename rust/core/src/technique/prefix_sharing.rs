//! Prefix sharing: what sequences have in common is stored once, and read once with a cascade.

use std::sync::Arc;

use super::ops::{decode_beside_prompts, is_attention, replace};
use super::settings::LARGEST;
use super::target::whole_blocks;
use super::{Cache, Context, Effect, Kind, Parameter, Program, Slot};
use crate::error::{Error, Result};
use crate::work::{Op, Rate};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "prefix-sharing",
    aliases: &["prefix-caching", "shared-prefix", "cascade"],
    class: "prefix sharing",
    about: "stores the prefix that the sequences of a batch have in common once, and reads it once a step",
    parameters: &[
        Parameter { key: "tokens", default: "0", about: "tokens of the common prefix, part of each context" },
        Parameter { key: "groups", default: "1", about: "different prefixes among the sequences" },
        Parameter {
            key: "cascade",
            default: "yes",
            about: "whether decode reads the prefix once a group (cascade attention), not once a sequence",
        },
    ],
    changes: "capacity; with a cascade KV read",
    formula: "KV stored: groups·P + n·(len − P); KV read in decode, with a cascade: groups·P + Σ(len − P); in blocks \
              (paging) of whole blocks, P = ⌊tokens/block⌋·block",
    source: "SGLang's RadixAttention (arXiv 2312.07104), Hydragen (arXiv 2402.05099), FlashInfer's cascade; the survey",
    pays: "many sequences behind one long prompt",
    loses: "nowhere; a cascade merges partial results, which a roofline does not show",
    slots: &[Slot::CacheSharing],
    read: |settings| {
        let tokens = settings.count("tokens", 0, LARGEST)?;
        let (groups, cascade) = (settings.count("groups", 1, LARGEST)?, settings.switch("cascade")?);
        Ok(Arc::new(Sharing { tokens, groups, cascade }))
    },
};

#[derive(Debug)]
struct Sharing {
    tokens: u64,
    groups: u64,
    cascade: bool,
}

impl Effect for Sharing {
    fn operators(&self, program: &mut Program, _: &Context<'_>) -> Result<()> {
        if self.tokens == 0 || !self.cascade {
            return Ok(());
        }
        let prefix = whole_blocks(self.tokens, program.block) as f64;
        let groups = self.groups as f64;
        let reads = |op: &Op| is_attention(op) && op.reach == 0 && op.work.kv_bytes.key > 0.0;
        replace(&mut program.ops, reads, |op| {
            let key = op.work.kv_bytes.key;
            let once = Rate { fixed: groups * prefix * key, sequence: -prefix * key, ..Rate::ZERO };
            Ok(decode_beside_prompts(op, |op| op.work.kv_bytes = op.work.kv_bytes + once))
        })
    }

    fn cache(&self, cache: &mut Cache, _: &Context<'_>) -> Result<()> {
        if self.tokens > 0 {
            (cache.held.prefix, cache.held.groups) = (self.tokens, self.groups);
        }
        Ok(())
    }

    fn check(&self, sequences: u64, context: u64) -> Result<()> {
        let limits = [
            ("tokens", self.tokens, context, "tokens of a sequence", "it is part of each context"),
            ("groups", self.groups, sequences, "sequences of a step", "each sequence has one prefix"),
        ];
        let beyond = |(_, value, most, ..): &(_, u64, u64, _, _)| self.tokens > 0 && value > most;
        let wrong = limits.into_iter().filter(beyond).map(|(key, value, most, what, hint)| {
            Error::spec(
                format!("prefix-sharing:{key}"),
                format!("must be at most the {most} {what}"),
                value,
                hint,
            )
        });
        Error::all("techniques", wrong.collect())
    }

    fn unserved(&self) -> Option<&'static str> {
        let unknown = "how many of several prefixes the sequences of a step have differs from step to step";
        (self.tokens > 0 && self.cascade && self.groups > 1).then_some(unknown)
    }
}
