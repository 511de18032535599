//! Paged or contiguous allocation of the cache.

use std::sync::Arc;

use super::ops::{is_attention, replace};
use super::settings::LARGEST;
use super::{Cache, Context, Effect, Kind, Parameter, Program, Slot};
use crate::error::Result;
use crate::lower::stage_share;
use crate::model::{LayerGroup, Mixer};
use crate::work::{Op, Rate};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "paging",
    aliases: &["paged-attention", "pagedattention"],
    class: "PagedAttention",
    about: "allocates the cache in blocks, or reserves a longest context for every sequence as engines did before",
    parameters: &[
        Parameter { key: "block", default: "16", about: "tokens of a block; 1 wastes nothing" },
        Parameter {
            key: "contiguous",
            default: "",
            about: "instead of blocks: tokens reserved for every sequence",
        },
    ],
    changes: "KV allocated; + the block table, 4 bytes a block and layer held and read",
    formula: "⌈len/block⌉·block tokens a sequence: half a block is wasted on average; sequences share whole \
              blocks (prefix-sharing); contiguous: max(len, reserved)",
    source: "PagedAttention (arXiv 2309.06180); the survey",
    pays: "against contiguous reservation: several times the sequences",
    loses: "blocks of hundreds of tokens waste as much as short sequences hold",
    slots: &[Slot::CacheBlocks, Slot::CacheSharing],
    read: |settings| {
        let reserved = settings.maybe_count("contiguous", 1, LARGEST)?;
        if reserved.is_some() && settings.said("block") {
            return Err(settings.wrong("contiguous", "must not be given beside block", "give one of them"));
        }
        let block = settings.count("block", 1, LARGEST)?;
        Ok(Arc::new(Paging {
            block: if reserved.is_some() { 0 } else { block },
            reserved: reserved.unwrap_or(0),
        }))
    },
};

/// Bytes of a block's entry in the table.
const ENTRY: f64 = 4.0;

#[derive(Debug)]
struct Paging {
    /// 0 for contiguous allocation.
    block: u64,
    reserved: u64,
}

impl Paging {
    /// Bytes of the table a token of one layer.
    fn table(&self) -> f64 {
        if self.block > 1 { ENTRY / self.block as f64 } else { 0.0 }
    }
}

impl Effect for Paging {
    fn decides(&self) -> Option<&'static [Slot]> {
        (self.reserved == 0).then_some(&[Slot::CacheBlocks])
    }

    fn operators(&self, program: &mut Program, _: &Context<'_>) -> Result<()> {
        program.block = self.block;
        let reads = |op: &Op| is_attention(op) && op.work.kv_bytes.key > 0.0;
        replace(&mut program.ops, reads, |mut op| {
            op.work.kv_bytes = op.work.kv_bytes + Rate { key: self.table(), ..Rate::ZERO };
            Ok(vec![op])
        })
    }

    fn cache(&self, cache: &mut Cache, context: &Context<'_>) -> Result<()> {
        (cache.held.block, cache.held.reserved) = (self.block, self.reserved);
        // States lie in no blocks.
        let in_blocks = |group: &&LayerGroup| match &group.mixer {
            Some(Mixer::Attention(attention)) => attention.causal,
            mixer => matches!(mixer, Some(Mixer::Mla(_))),
        };
        let layers: u64 = context.model.layers.iter().filter(in_blocks).map(|group| group.count).sum();
        if self.block > 1 {
            cache.held.table = layers as f64 * stage_share(context.model, context.layout) * self.table();
            cache.added.push((cache.held.table, None));
        }
        Ok(())
    }
}
