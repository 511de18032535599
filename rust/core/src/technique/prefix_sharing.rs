//! Prefix sharing: what sequences have in common is stored once, and read once with a cascade.

use std::sync::Arc;

use super::ops::{is_attention, replace};
use super::settings::LARGEST;
use super::{Cache, Context, Effect, Kind, Parameter, Program, Slot};
use crate::error::{Error, Result};
use crate::work::{Op, Over, Rate, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "prefix-sharing",
    aliases: &["prefix-caching", "shared-prefix", "cascade"],
    class: "prefix sharing",
    about: "stores the prefix that the sequences of a batch have in common once, and reads it once a step",
    parameters: &[
        Parameter { key: "tokens", default: "0", about: "tokens of the common prefix, part of each context" },
        Parameter { key: "groups", default: "1", about: "different prefixes among the sequences" },
        Parameter { key: "cascade", default: "yes", about: "whether decode reads the prefix once a group (cascade attention), not once a sequence" },
    ],
    changes: "capacity; with a cascade KV read",
    formula: "KV stored: groups·P + n·(len − P); KV read in decode, with a cascade: groups·P + Σ(len − P)",
    source: "SGLang's RadixAttention (arXiv 2312.07104), Hydragen (arXiv 2402.05099), FlashInfer's cascade; survey §5.1",
    pays: "many sequences behind one long prompt",
    loses: "nowhere; a cascade merges partial results, which a roofline does not show",
    slots: &[Slot::CacheBlocks],
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
        let prefix = self.tokens as f64;
        let groups = self.groups as f64;
        let reads = |op: &Op| is_attention(op) && op.reach == 0 && op.work.kv_bytes.key > 0.0;
        replace(&mut program.ops, reads, |op| {
            let key = op.work.kv_bytes.key;
            if op.over == Over::Prefill {
                return Ok(vec![op]);
            }
            let once = Rate { fixed: groups * prefix * key, sequence: -prefix * key, ..Rate::ZERO };
            let mut decode = op.clone();
            decode.over = Over::Decode;
            decode.work = Work { kv_bytes: op.work.kv_bytes + once, ..op.work };
            let prompts = Op { over: Over::Prefill, ..op.clone() };
            Ok(if op.over == Over::All { vec![decode, prompts] } else { vec![decode] })
        })
    }

    fn cache(&self, cache: &mut Cache, _: &Context<'_>) -> Result<()> {
        (cache.held.prefix, cache.held.groups) = (self.tokens, self.groups);
        Ok(())
    }

    fn check(&self, decodes: bool, context: u64) -> Result<()> {
        if decodes && self.tokens > context {
            let must = format!("must be at most the {context} tokens of a sequence");
            return Err(Error::spec("prefix-sharing:tokens", must, self.tokens, "it is part of each context"));
        }
        Ok(())
    }

    fn unserved(&self) -> Option<&'static str> {
        Some("a simulated engine finds common prefixes in the trace itself (enable_prefix_caching)")
    }
}
