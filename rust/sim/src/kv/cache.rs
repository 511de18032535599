//! The KV cache of one engine: which blocks each sequence has, and which prefixes can be found in them.

use roofline_core::groups::{Groups, POOLS};

use super::blocks::{Blocks, NONE};
use super::prefix::Prefixes;
use crate::living::Living;
use crate::request::{Cursor, Piece, Rows, Workload};

/// What a sequence has in the cache.
#[derive(Debug, Clone, Default)]
struct Table {
    /// Those that have left the window of the main group are [`NONE`]: they keep their place.
    blocks: Vec<u32>,
    /// Leading blocks that have left it.
    passed: u32,
    /// Blocks of further groups of layers; what they hold is not found again.
    others: Vec<u32>,
    /// Blocks of each kind of memory that is apart.
    apart: [u32; POOLS - 1],
    /// Tokens it had room for before.
    before: u32,
    /// Tokens its blocks hold.
    capacity: u32,
    /// Leading blocks whose prefixes are registered.
    registered: u32,
    /// The prefix of each of its leading blocks whose tokens are known.
    prefixes: Vec<u32>,
    /// Where the next block's tokens begin.
    cursor: Cursor,
}

impl Table {
    fn held(&self) -> u32 {
        (self.blocks.len() + self.others.len()) as u32 - self.passed
    }
}

/// The shape of a KV cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheShape {
    /// Tokens a block holds.
    pub block_size: u32,
    /// Blocks, the null block included.
    pub blocks: u32,
    /// Whether prefixes are found again.
    pub prefix_caching: bool,
    /// Tokens after a block that are part of its prefix (EAGLE and MTP drafts depend on them).
    pub hash_lookahead: u32,
    /// Whether a block whose prefix another one holds already is given up for that one.
    pub merges: bool,
    /// Blocks of further groups of layers.
    pub groups: Groups,
    /// Tokens a step may compute.
    pub step_tokens: u32,
}

impl CacheShape {
    /// Whether sequences have states, which prefixes need.
    fn has_states(&self) -> bool {
        self.groups.states > 0 || self.groups.states_apart
    }
}

/// Blocks, tables and prefixes of one engine.
#[derive(Debug, Clone)]
pub struct KvCache<'a> {
    workload: Workload<'a>,
    /// For each sequence its request in the workload.
    rows: Rows<'a>,
    shape: CacheShape,
    /// Whether all layers cache alike: then a sequence takes a block for so many tokens, and keeps it.
    is_plain: bool,
    blocks: Blocks,
    prefixes: Prefixes,
    tables: Living<Table>,
    /// The blocks the last lookup found.
    hits: Vec<u32>,
    /// The pieces of the block that is being hashed.
    content: Vec<Piece>,
    /// For each block whether a state was kept at its end; empty for models without states.
    states: Vec<bool>,
    /// Blocks of each kind of memory that is apart which no sequence uses.
    apart: [u32; POOLS - 1],
}

impl<'a> KvCache<'a> {
    /// An empty cache for sequences that are these rows of the workload.
    pub fn new(workload: Workload<'a>, rows: Rows<'a>, shape: CacheShape) -> KvCache<'a> {
        KvCache {
            workload,
            rows,
            is_plain: shape.groups.are_plain(),
            shape,
            blocks: Blocks::new(shape.blocks),
            prefixes: Prefixes::new(if shape.prefix_caching { shape.blocks } else { 0 }),
            tables: Living::default(),
            hits: Vec::new(),
            content: Vec::new(),
            states: vec![false; if shape.has_states() { shape.blocks as usize } else { 0 }],
            apart: shape.groups.apart.map(|apart| apart.blocks),
        }
    }

    /// A sequence comes; all before the oldest that is under way are forgotten.
    pub fn enter(&mut self, sequence: u32, oldest: usize) {
        self.tables.forget_before(oldest);
        self.tables.reach(sequence as usize, |_| Table::default());
    }

    /// The first `tokens` tokens of a sequence are known: prefixes of full blocks follow.
    pub fn know(&mut self, sequence: u32, tokens: u32) {
        if !self.shape.prefix_caching {
            return;
        }
        let CacheShape { block_size, hash_lookahead, .. } = self.shape;
        let table = &mut self.tables[sequence as usize];
        let needed = |known: usize| (known as u64 + 1) * u64::from(block_size) + u64::from(hash_lookahead);
        if needed(table.prefixes.len()) > u64::from(tokens) {
            return;
        }
        let request = self.rows.row(sequence).unwrap_or(sequence) as usize;
        while needed(table.prefixes.len()) <= u64::from(tokens) {
            self.content.clear();
            let next = collect(&self.workload, request, table.cursor, block_size, &mut self.content);
            collect(&self.workload, request, next, hash_lookahead, &mut self.content);
            let parent = table.prefixes.last().copied().unwrap_or(NONE);
            table.prefixes.push(self.prefixes.intern(parent, &self.content));
            table.cursor = next;
        }
    }

    /// Looks for the longest cached beginning of a sequence of `tokens` tokens: (blocks, those of them that are free).
    ///
    /// The last token is never taken from the cache: its logits are needed.
    pub fn look_up(&mut self, sequence: u32, tokens: u32) -> (u32, u32) {
        self.hits.clear();
        if !self.shape.prefix_caching {
            return (0, 0);
        }
        let most = ((tokens - 1) / self.shape.block_size) as usize;
        let table = &self.tables[sequence as usize];
        let mut free = 0;
        for &prefix in table.prefixes.iter().take(most) {
            let block = self.prefixes.block(prefix);
            if block == NONE {
                break;
            }
            free += u32::from(self.blocks.is_free(block));
            self.hits.push(block);
        }
        // A state is found only where one was kept.
        while let Some(&last) = self.hits.last()
            && self.states.get(last as usize) == Some(&false)
        {
            free -= u32::from(self.blocks.is_free(last));
            self.hits.pop();
        }
        (self.hits.len() as u32, free)
    }

    /// Gives a sequence the blocks found by the last [`KvCache::look_up`], which must have been its own.
    pub fn take_hits(&mut self, sequence: u32) {
        let table = &mut self.tables[sequence as usize];
        for &block in &self.hits {
            self.blocks.touch(block);
        }
        table.blocks.extend_from_slice(&self.hits);
        table.registered = self.hits.len() as u32;
        table.capacity = self.hits.len() as u32 * self.shape.block_size;
        table.before = table.capacity;
    }

    /// Blocks a sequence has.
    pub fn held(&self, sequence: u32) -> u32 {
        self.tables[sequence as usize].held()
    }

    /// Tokens that a sequence's blocks have room for.
    pub fn capacity(&self, sequence: u32) -> u32 {
        self.tables[sequence as usize].capacity
    }

    /// Blocks that a sequence of `tokens` tokens takes at most.
    pub fn blocks_for(&self, tokens: u32) -> u32 {
        let CacheShape { block_size, groups, step_tokens, .. } = &self.shape;
        groups.blocks_for(tokens, *block_size, *step_tokens)
    }

    /// Whether a sequence can have room for `tokens` tokens in all.
    pub fn can_hold(&self, sequence: u32, tokens: u32) -> bool {
        let table = &self.tables[sequence as usize];
        if self.is_plain {
            let missing = u64::from(tokens).saturating_sub(u64::from(table.capacity));
            return missing <= u64::from(self.free()) * u64::from(self.shape.block_size);
        }
        let main = tokens.div_ceil(self.shape.block_size).max(table.blocks.len() as u32) - self.passed(table);
        let others = self.others_for(table, tokens);
        main + others <= table.held() + self.blocks.free()
            && (self.apart_for(table, tokens).into_iter().zip(table.apart).zip(self.apart))
                .all(|((needed, held), free)| needed <= held + free)
    }

    /// Blocks of memory that is apart which a sequence needs to have room for `tokens` tokens.
    fn apart_for(&self, table: &Table, tokens: u32) -> [u32; POOLS - 1] {
        self.shape.groups.apart.map(|apart| apart.held(tokens.max(table.before), table.before))
    }

    /// Whether memory that is apart has room for another sequence of `tokens` tokens, `cached` of which are found.
    pub fn apart_fits(&self, tokens: u32, cached: u32) -> bool {
        let needed = self.shape.groups.apart.map(|apart| apart.held(tokens, cached.min(tokens)));
        needed.into_iter().zip(self.apart).all(|(needed, free)| needed <= free)
    }

    /// Free blocks of each pool, the common one first.
    pub fn free_of_each(&self) -> [u32; POOLS] {
        let mut free = [self.free(); POOLS];
        free[1..].copy_from_slice(&self.apart);
        free
    }

    /// Tokens for which every pool has free blocks.
    pub fn free_tokens(&self) -> i64 {
        let tokens = |blocks: u32, size: u32| i64::from(blocks) * i64::from(size);
        let apart = self.shape.groups.apart.iter().zip(self.apart);
        let apart = apart.filter(|(apart, _)| apart.window.groups > 0);
        let free = apart.map(|(apart, free)| tokens(free, apart.window.block_size));
        free.fold(tokens(self.free(), self.shape.block_size), i64::min)
    }

    /// Blocks of each pool that a sequence takes at most, beyond those it has, to have `tokens` tokens in all.
    pub fn to_come(&self, sequence: u32, tokens: u32) -> [u32; POOLS] {
        let table = &self.tables[sequence as usize];
        let CacheShape { groups, step_tokens, .. } = &self.shape;
        let mut blocks = [self.blocks_for(tokens).saturating_sub(self.held(sequence)); POOLS];
        for (pool, apart) in groups.apart.iter().enumerate() {
            blocks[pool + 1] = apart.held_at_most(tokens, *step_tokens).saturating_sub(table.apart[pool]);
        }
        blocks
    }

    /// Blocks of each pool that a sequence takes to have `tokens` tokens in all, others given back before.
    pub fn next_blocks(&self, sequence: u32, tokens: u32) -> [u32; POOLS] {
        let table = &self.tables[sequence as usize];
        let mut blocks = [self.blocks_for(tokens).saturating_sub(self.held(sequence)); POOLS];
        for (pool, needed) in self.apart_for(table, tokens).into_iter().enumerate() {
            blocks[pool + 1] = needed.saturating_sub(table.apart[pool]);
        }
        blocks
    }

    /// Blocks of further groups that a sequence needs to have room for `tokens` tokens.
    fn others_for(&self, table: &Table, tokens: u32) -> u32 {
        if self.is_plain {
            return 0;
        }
        self.shape.groups.held(tokens.max(table.before), table.before, self.shape.block_size)
    }

    /// Leading blocks of the main group that no query of a sequence reaches any more.
    fn passed(&self, table: &Table) -> u32 {
        let passed = match self.shape.groups.main_window {
            0 => 0,
            window => (table.before + 1).saturating_sub(window) / self.shape.block_size,
        };
        passed.clamp(table.passed, table.blocks.len() as u32)
    }

    /// Gives back what has left the window of the main group.
    fn pass(&mut self, sequence: u32) {
        let passed = self.passed(&self.tables[sequence as usize]);
        let table = &mut self.tables[sequence as usize];
        let gone = &mut table.blocks[table.passed as usize..passed as usize];
        self.blocks.release(gone);
        gone.fill(NONE);
        table.passed = passed;
    }

    /// Gives a sequence room for `tokens` tokens in all, as far as there are blocks.
    pub fn grow(&mut self, sequence: u32, tokens: u32) {
        if !self.is_plain {
            self.pass(sequence);
            self.grow_others(sequence, tokens);
        }
        while self.tables[sequence as usize].capacity < tokens {
            let Some(block) = self.take() else { return };
            let table = &mut self.tables[sequence as usize];
            table.blocks.push(block);
            table.capacity = table.capacity.saturating_add(self.shape.block_size);
        }
    }

    /// The same for further groups: what has left a window is given back first.
    fn grow_others(&mut self, sequence: u32, tokens: u32) {
        let table = &self.tables[sequence as usize];
        let needed = self.others_for(table, tokens) as usize;
        let apart = self.apart_for(table, tokens);
        let table = &mut self.tables[sequence as usize];
        for (pool, needed) in apart.into_iter().enumerate() {
            self.apart[pool] += table.apart[pool];
            table.apart[pool] = needed.min(self.apart[pool]);
            self.apart[pool] -= table.apart[pool];
        }
        let table = &mut self.tables[sequence as usize];
        table.before = table.before.max(tokens);
        if table.others.len() > needed {
            let passed = table.others.split_off(needed);
            self.blocks.release(&passed);
        }
        while self.tables[sequence as usize].others.len() < needed {
            let Some(block) = self.take() else { return };
            self.tables[sequence as usize].others.push(block);
        }
    }

    /// Takes a free block; the prefix it held is forgotten.
    fn take(&mut self) -> Option<u32> {
        let block = self.blocks.take()?;
        let evicted = self.blocks.prefix(block);
        if evicted != NONE {
            self.prefixes.forget(evicted, block);
            self.blocks.set_prefix(block, NONE);
        }
        if let Some(state) = self.states.get_mut(block as usize) {
            *state = false;
        }
        Some(block)
    }

    /// The first `tokens` tokens of a sequence can now be found by others, in whole blocks.
    pub fn register(&mut self, sequence: u32, tokens: u32) {
        if !self.shape.prefix_caching {
            return;
        }
        let table = &mut self.tables[sequence as usize];
        while (u64::from(table.registered) + 1) * u64::from(self.shape.block_size) <= u64::from(tokens) {
            let place = table.registered as usize;
            let (Some(&prefix), Some(&block)) = (table.prefixes.get(place), table.blocks.get(place)) else {
                return;
            };
            table.registered += 1;
            if block == NONE {
                continue;
            }
            let known = self.prefixes.block(prefix);
            if self.shape.merges && known != NONE {
                self.blocks.touch(known);
                self.blocks.release(&[block]);
                table.blocks[place] = known;
                continue;
            }
            self.prefixes.register(prefix, block);
            self.blocks.set_prefix(block, prefix);
            // The state is kept where the step ends, if that is the end of a block.
            if u64::from(table.registered) * u64::from(self.shape.block_size) == u64::from(tokens)
                && !self.states.is_empty()
            {
                let oldest = self.prefixes.block(prefix);
                (self.states[block as usize], self.states[oldest as usize]) = (true, true);
            }
        }
    }

    /// Takes all blocks from a sequence; its tokens stay known.
    pub fn release(&mut self, sequence: u32) {
        let table = &mut self.tables[sequence as usize];
        self.blocks.release(&table.blocks[table.passed as usize..]);
        self.blocks.release(&table.others);
        table.blocks.clear();
        table.others.clear();
        (table.capacity, table.registered, table.before, table.passed) = (0, 0, 0, 0);
        self.apart.iter_mut().zip(std::mem::take(&mut table.apart)).for_each(|(free, held)| *free += held);
    }

    /// Takes all blocks from a sequence that will not return.
    pub fn finish(&mut self, sequence: u32) {
        self.release(sequence);
        let table = std::mem::take(&mut self.tables[sequence as usize]);
        self.prefixes.retire(&table.prefixes);
    }

    /// Blocks no sequence uses; some of them may hold cached prefixes.
    pub fn free(&self) -> u32 {
        self.blocks.free()
    }

    /// Blocks that can be used at all.
    pub fn usable(&self) -> u32 {
        self.blocks.usable()
    }

    /// Distinct prefixes that can be found.
    pub fn cached(&self) -> u32 {
        self.prefixes.cached()
    }

    /// Checks what must always hold: every block is free or used, used as often as tables name it, never both.
    ///
    /// # Errors
    /// The law that is broken, in words.
    pub fn check(&self) -> Result<(), String> {
        for (pool, apart) in self.shape.groups.apart.iter().enumerate() {
            let held: u32 = self.tables.iter().map(|table| table.apart[pool]).sum();
            if held + self.apart[pool] != apart.blocks {
                return Err(format!("free and used blocks of memory apart must be all {}", apart.blocks));
            }
        }
        let mut uses = vec![0u32; self.blocks.usable() as usize + 1];
        for table in self.tables.iter() {
            for &block in table.blocks.iter().skip(table.passed as usize).chain(&table.others) {
                uses[block as usize] += 1;
            }
            if table.capacity != (table.blocks.len() as u32).saturating_mul(self.shape.block_size) {
                return Err("a table's capacity must be that of its blocks".into());
            }
        }
        let mut free = 0;
        for block in self.blocks.free_list() {
            free += 1;
            if uses[block as usize] != 0 {
                return Err(format!("a free block must have no user: block {block}"));
            }
        }
        if free != self.blocks.free() {
            return Err(format!("the free list must hold the {} free blocks: {free}", self.blocks.free()));
        }
        let used = uses.iter().filter(|&&count| count > 0).count() as u32;
        if free + used != self.blocks.usable() {
            let all = self.blocks.usable();
            return Err(format!("free and used blocks must be all {all} blocks: {free} and {used}"));
        }
        match (1..uses.len()).find(|&block| uses[block] != self.blocks.references(block as u32)) {
            Some(block) => Err(format!("a block must be counted once for each user: block {block}")),
            None => Ok(()),
        }
    }
}

/// Appends the next `tokens` tokens of a request to `content`; the place behind them.
fn collect(
    workload: &Workload<'_>,
    request: usize,
    mut cursor: Cursor,
    mut tokens: u32,
    content: &mut Vec<Piece>,
) -> Cursor {
    while tokens > 0 {
        let (piece, next) = workload.piece(request, cursor, tokens);
        (cursor, tokens) = (next, tokens - piece.length);
        match content.last_mut() {
            Some(last) if last.segment == piece.segment && last.start + last.length == piece.start => {
                last.length += piece.length;
            }
            _ => content.push(piece),
        }
    }
    cursor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{BlockHashes, Trace};

    #[test]
    fn blocks_of_any_size_are_found_under_coarser_hashes() {
        let hashes = BlockHashes { block_size: 8, offsets: vec![0, 3, 6], ids: vec![0, 1, 2, 0, 1, 3] };
        let trace = Trace {
            arrival_ns: vec![0; 2],
            prompt_tokens: vec![20; 2],
            output_tokens: vec![1; 2],
            hashes: Some(hashes),
            ..Trace::default()
        };
        let workload = Workload::new(&trace, None).unwrap();
        for (block_size, expected) in [(4, 4), (8, 2), (3, 5), (16, 1)] {
            let shape = CacheShape {
                block_size,
                blocks: 30,
                prefix_caching: true,
                hash_lookahead: 0,
                merges: false,
                groups: Groups::default(),
                step_tokens: 64,
            };
            let mut cache = KvCache::new(workload, Rows::ALL, shape);
            for sequence in [0, 1] {
                cache.enter(sequence, 0);
                cache.know(sequence, 20);
            }
            assert_eq!(cache.look_up(1, 20), (0, 0));
            cache.grow(0, 20);
            cache.register(0, 20);
            assert_eq!(cache.look_up(1, 20), (expected, 0), "blocks of {block_size}");
            cache.take_hits(1);
            cache.grow(1, 20);
            cache.check().unwrap();
            cache.finish(0);
            cache.release(1);
            cache.check().unwrap();
            assert_eq!((cache.free(), cache.look_up(1, 20).1), (29, expected));
        }
    }

    #[test]
    fn the_last_token_is_always_computed() {
        let hashes = BlockHashes { block_size: 4, offsets: vec![0, 2], ids: vec![0, 1] };
        let trace = Trace {
            arrival_ns: vec![0],
            prompt_tokens: vec![8],
            output_tokens: vec![1],
            hashes: Some(hashes),
            ..Trace::default()
        };
        let shape = CacheShape {
            block_size: 4,
            blocks: 9,
            prefix_caching: true,
            hash_lookahead: 0,
            merges: false,
            groups: Groups::default(),
            step_tokens: 64,
        };
        let mut cache = KvCache::new(Workload::new(&trace, None).unwrap(), Rows::ALL, shape);
        cache.enter(0, 0);
        cache.know(0, 8);
        cache.grow(0, 8);
        cache.register(0, 8);
        cache.release(0);
        assert_eq!((cache.look_up(0, 8).0, cache.look_up(0, 9).0), (1, 2));
    }
}
