//! The KV cache by runs of blocks: how many are free, which prefixes are found, what is evicted first.
//!
//! The order of free blocks without content is unobservable, so they are a number. Free blocks with content form a
//! list of runs, least recently used first; what a run loses, it loses from its end. This is the block-by-block cache
//! of [`crate::kv`] seen from further away.

use super::tree::{Cut, Tree};
use crate::kv::blocks::NONE;

/// Blocks in a row with content, used by the same sequences.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The node of the tree it is (the beginning of), or [`NONE`] for content of one sequence.
    node: u32,
    /// The slot of the preempted sequence whose content it is, or [`NONE`].
    owner: u32,
    /// Its blocks.
    present: u32,
    /// Sequences that use it.
    references: u32,
    /// Neighbours among the free runs; run 0 closes the ring.
    previous: u32,
    next: u32,
    /// Neighbours among the runs of its node.
    older: u32,
    newer: u32,
}

const EMPTY: Run = Run {
    node: NONE,
    owner: NONE,
    present: 0,
    references: 0,
    previous: 0,
    next: 0,
    older: NONE,
    newer: NONE,
};

/// What the last look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hits {
    /// Blocks.
    pub(super) blocks: u32,
    /// Those of them that nobody uses.
    pub(super) free: u32,
}

/// Blocks and prefixes of one engine, whose sequences are named by their slots.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    prefix_caching: bool,
    block_size: u32,
    usable: u32,
    /// Free blocks without content.
    blank: u32,
    /// Free blocks with content.
    cached: u32,
    tree: Tree,
    /// For each node its oldest and newest run.
    runs_of: Vec<(u32, u32)>,
    runs: Vec<Run>,
    spare: Vec<u32>,
    /// For each slot the number of the sequence in it.
    numbers: Vec<u32>,
    /// For each slot the runs of its sequence's path that it uses, in order.
    held: Vec<Vec<u32>>,
    /// Lists that held such runs, and are empty.
    unused: Vec<Vec<u32>>,
    /// For each slot of a preempted sequence what is left of its own content.
    left: Vec<u32>,
    /// The runs that the last look-up found.
    found: Vec<u32>,
}

impl Cache {
    /// An empty cache of `blocks` blocks (the null block included) for sequences whose shared prefixes are `tree`; `None`
    /// where prefixes are not found again.
    pub(super) fn new(blocks: u32, block_size: u32, tree: Option<Tree>) -> Cache {
        let prefix_caching = tree.is_some();
        let tree = tree.unwrap_or_default();
        Cache {
            prefix_caching,
            block_size,
            usable: blocks - 1,
            blank: blocks - 1,
            cached: 0,
            runs_of: vec![(NONE, NONE); tree.nodes().len()],
            runs: vec![EMPTY],
            spare: Vec::new(),
            numbers: Vec::new(),
            held: Vec::new(),
            unused: Vec::new(),
            left: Vec::new(),
            found: Vec::new(),
            tree,
        }
    }

    /// Whether it must be told the content of sequences when they enter.
    pub(super) fn grows(&self) -> bool {
        self.tree.grows()
    }

    /// A sequence takes a slot, whose last one is done; `content` are the hashed blocks of its prompt and its tokens, if
    /// they are not known.
    pub(super) fn enter(&mut self, slot: u32, number: u32, content: Option<(Vec<u32>, u32)>) {
        if !self.prefix_caching {
            return;
        }
        if let Some((ids, prompt)) = content {
            for cut in self.tree.grow(slot, &ids, prompt) {
                self.runs_of.resize(self.tree.nodes().len(), (NONE, NONE));
                self.cut(cut);
            }
            self.runs_of.resize(self.tree.nodes().len(), (NONE, NONE));
        }
        if slot as usize == self.numbers.len() {
            self.numbers.push(number);
            self.held.push(Vec::new());
            self.left.push(NONE);
            return;
        }
        self.numbers[slot as usize] = number;
        let left = std::mem::replace(&mut self.left[slot as usize], NONE);
        if left != NONE {
            self.runs[left as usize].owner = NONE;
        }
    }

    /// The nodes of the prompt of the sequence in a slot.
    fn path(&self, slot: u32) -> &[u32] {
        self.numbers.get(slot as usize).map_or(&[], |&number| self.tree.path(slot, number))
    }

    /// The runs of a node that was cut become those of its two parts: there is one at most, for only single blocks are in
    /// the cache twice. Its end is evicted first, as it was.
    fn cut(&mut self, Cut { upper, lower }: Cut) {
        let whole = self.runs_of[lower as usize].0;
        if whole == NONE {
            return;
        }
        let extent = self.tree.nodes()[upper as usize];
        let kept = extent.end - extent.start;
        let Run { present, references, next, .. } = self.runs[whole as usize];
        if present <= kept {
            self.runs[whole as usize].node = upper;
            self.runs_of[upper as usize] = (whole, whole);
            self.runs_of[lower as usize] = (NONE, NONE);
            return;
        }
        let first = self.put(Run { node: upper, present: kept, references, ..EMPTY });
        self.runs_of[upper as usize] = (first, first);
        self.runs[whole as usize].present = present - kept;
        if references == 0 {
            (self.runs[first as usize].previous, self.runs[first as usize].next) = (whole, next);
            self.runs[whole as usize].next = first;
            self.runs[next as usize].previous = first;
            return;
        }
        for held in &mut self.held {
            if let Some(place) = held.iter().position(|&run| run == whole) {
                held.insert(place, first);
            }
        }
    }

    /// Blocks no sequence uses.
    pub(super) fn free(&self) -> u32 {
        self.blank + self.cached
    }

    /// Blocks that can be used at all.
    pub(super) fn usable(&self) -> u32 {
        self.usable
    }

    /// Blocks that `tokens` tokens take.
    pub(super) fn blocks_for(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.block_size)
    }

    /// The longest cached beginning of a sequence of `tokens` tokens; the last token is never taken from the cache.
    pub(super) fn look_up(&mut self, slot: u32, tokens: u32) -> Hits {
        self.found.clear();
        let mut hits = Hits::default();
        if !self.prefix_caching {
            return hits;
        }
        self.tree.refresh(slot);
        let most = (tokens - 1) / self.block_size;
        for place in 0..self.path(slot).len() {
            let node = self.path(slot)[place];
            let node_end = self.tree.nodes()[node as usize].end;
            let oldest = self.runs_of[node as usize].0;
            if oldest == NONE || node_end > most {
                return hits;
            }
            let run = &self.runs[oldest as usize];
            hits.blocks += run.present;
            hits.free += if run.references == 0 { run.present } else { 0 };
            self.found.push(oldest);
            if hits.blocks < node_end {
                return hits;
            }
        }
        let left = self.left[slot as usize];
        if left != NONE {
            let present = self.runs[left as usize].present.min(most - hits.blocks);
            (hits.blocks, hits.free) = (hits.blocks + present, hits.free + present);
        }
        hits
    }

    /// Gives a sequence the blocks that its look-up has just found.
    pub(super) fn take_hits(&mut self, slot: u32, hits: Hits) {
        if hits.blocks == 0 {
            self.check_nothing_left(slot);
            return;
        }
        let mut blocks = 0;
        for place in 0..self.found.len() {
            let run = self.found[place];
            blocks += self.runs[run as usize].present;
            if self.runs[run as usize].references == 0 {
                self.unlink(run);
            }
            self.runs[run as usize].references += 1;
            self.hold(slot, run);
        }
        if blocks < hits.blocks {
            let run = std::mem::replace(&mut self.left[slot as usize], NONE);
            self.unlink(run);
            self.spare.push(run);
        }
        self.check_nothing_left(slot);
    }

    /// A sequence that runs has nothing left of what it lost: it took it when it was admitted, or it was evicted before.
    ///
    /// For what is left of it is found behind all of its path, and all of its path is there as long as anything is left: a
    /// sequence gives up its own content first and the runs of its path after it, so these are used more recently, and
    /// what is evicted is what was used least recently. Were it not so, another preemption would forget what was left
    /// ([`Cache::release`]), and its eviction would take away what is left then ([`Cache::forget`]).
    fn check_nothing_left(&self, slot: u32) {
        debug_assert_eq!(self.left.get(slot as usize).copied().unwrap_or(NONE), NONE);
    }

    /// Takes `count` free blocks (there must be so many), those without content first.
    #[inline]
    pub(super) fn allocate(&mut self, count: u32) {
        let blank = count.min(self.blank);
        self.blank -= blank;
        if blank < count {
            self.evict(count - blank);
        }
    }

    fn evict(&mut self, mut count: u32) {
        self.cached -= count;
        while count > 0 {
            let first = self.runs[0].next;
            let run = &mut self.runs[first as usize];
            let lost = count.min(run.present);
            run.present -= lost;
            count -= lost;
            if run.present == 0 {
                self.forget(first);
            }
        }
    }

    /// A free run has lost its last block.
    fn forget(&mut self, run: u32) {
        let Run { node, owner, older, newer, .. } = self.runs[run as usize];
        self.unlink(run);
        if node != NONE {
            match older {
                NONE => self.runs_of[node as usize].0 = newer,
                older => self.runs[older as usize].newer = newer,
            }
            match newer {
                NONE => self.runs_of[node as usize].1 = older,
                newer => self.runs[newer as usize].older = older,
            }
        } else if owner != NONE {
            self.left[owner as usize] = NONE;
        }
        self.spare.push(run);
    }

    /// The first `tokens` tokens of a sequence's prompt, for which it has blocks, can now be found by others.
    pub(super) fn register(&mut self, slot: u32, tokens: u32) {
        if self.prefix_caching {
            self.tree.refresh(slot);
        }
        if self.path(slot).is_empty() {
            return;
        }
        let blocks = tokens / self.block_size;
        let mut place = self.held[slot as usize].len().saturating_sub(1);
        while let Some(&node) = self.path(slot).get(place) {
            let extent = self.tree.nodes()[node as usize];
            if extent.start >= blocks {
                return;
            }
            let present = extent.end.min(blocks) - extent.start;
            match self.held[slot as usize].get(place) {
                Some(&run) => self.runs[run as usize].present = self.runs[run as usize].present.max(present),
                None => {
                    let run = self.create(node, present);
                    self.hold(slot, run);
                }
            }
            place += 1;
        }
    }

    /// A sequence uses one more run of its path.
    fn hold(&mut self, slot: u32, run: u32) {
        let held = &mut self.held[slot as usize];
        if held.capacity() == 0 {
            *held = self.unused.pop().unwrap_or_default();
        }
        held.push(run);
    }

    /// A new run of a node, used by one sequence.
    fn create(&mut self, node: u32, present: u32) -> u32 {
        let newest = self.runs_of[node as usize].1;
        let run = self.put(Run { node, present, references: 1, older: newest, ..EMPTY });
        match newest {
            NONE => self.runs_of[node as usize].0 = run,
            newest => self.runs[newest as usize].newer = run,
        }
        self.runs_of[node as usize].1 = run;
        run
    }

    fn put(&mut self, run: Run) -> u32 {
        if let Some(place) = self.spare.pop() {
            self.runs[place as usize] = run;
            return place;
        }
        self.runs.push(run);
        self.runs.len() as u32 - 1
    }

    /// Takes the blocks of `computed` tokens from a sequence, of which the first `registered` can be found again;
    /// `returns` if it was only preempted.
    pub(super) fn release(&mut self, slot: u32, computed: u32, registered: u32, returns: bool) {
        let blocks = self.blocks_for(computed);
        if !self.prefix_caching {
            self.blank += blocks;
            return;
        }
        self.tree.refresh(slot);
        let registered = registered / self.block_size;
        self.blank += blocks - registered;
        let own = registered.saturating_sub(self.shared_blocks(slot));
        if own > 0 {
            let owner = if returns { slot } else { NONE };
            let run = self.put(Run { owner, present: own, ..EMPTY });
            self.link(run);
            if returns {
                self.check_nothing_left(slot);
                self.left[slot as usize] = run;
            }
        }
        let Some(held) = self.held.get_mut(slot as usize) else { return };
        let mut held = std::mem::take(held);
        for run in held.drain(..).rev() {
            self.runs[run as usize].references -= 1;
            if self.runs[run as usize].references == 0 {
                self.link(run);
            }
        }
        if returns {
            self.held[slot as usize] = held;
        } else if held.capacity() > 0 {
            self.unused.push(held);
        }
    }

    /// Blocks of the prompt of the sequence in a slot that others may have, too.
    fn shared_blocks(&self, slot: u32) -> u32 {
        self.path(slot).last().map_or(0, |&leaf| self.tree.nodes()[leaf as usize].end)
    }

    /// A run that nobody uses becomes the most recently used.
    fn link(&mut self, run: u32) {
        let last = self.runs[0].previous;
        let entry = &mut self.runs[run as usize];
        (entry.previous, entry.next) = (last, 0);
        self.cached += entry.present;
        self.runs[last as usize].next = run;
        self.runs[0].previous = run;
    }

    /// A free run is used again, or no more.
    fn unlink(&mut self, run: u32) {
        let Run { previous, next, present, .. } = self.runs[run as usize];
        self.cached -= present;
        self.runs[previous as usize].next = next;
        self.runs[next as usize].previous = previous;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Rows, Workload};
    use crate::trace::{BlockHashes, Trace};

    /// Of prompts of 40 tokens whose first 32 are shared, in blocks of 4: 8 blocks of the path, then their own.
    fn cache(blocks: u32) -> Cache {
        let trace = Trace {
            arrival_ns: vec![0; 2],
            prompt_tokens: vec![40; 2],
            output_tokens: vec![20; 2],
            hashes: Some(BlockHashes { block_size: 16, offsets: vec![0, 2, 4], ids: vec![1, 2, 1, 2] }),
            ..Trace::default()
        };
        let tree = Tree::of(&Workload::new(&trace, None).unwrap(), Rows::ALL, 4);
        let mut cache = Cache::new(blocks, 4, Some(tree));
        (0..2).for_each(|slot| cache.enter(slot, slot, None));
        cache
    }

    /// Admits the sequence in a slot and gives way after `tokens` tokens; what it found.
    fn comes_and_goes(cache: &mut Cache, slot: u32, tokens: u32) -> u32 {
        let hits = cache.look_up(slot, tokens + 1);
        cache.take_hits(slot, hits);
        cache.allocate(cache.blocks_for(tokens) - hits.blocks);
        cache.register(slot, tokens);
        cache.release(slot, tokens, tokens, true);
        hits.blocks
    }

    #[test]
    fn who_gives_way_twice_finds_what_is_left_of_the_second_time() {
        let mut cache = cache(31);
        assert_eq!(comes_and_goes(&mut cache, 0, 48), 0);
        assert_eq!(comes_and_goes(&mut cache, 0, 56), 12);
        assert_eq!(comes_and_goes(&mut cache, 0, 56), 14);
        assert_eq!((cache.free(), cache.cached), (30, 14));
    }

    #[test]
    fn what_is_left_of_a_sequence_goes_before_its_path() {
        // Another one takes its blocks, one more every time: its own go from their end, then those of its path.
        for taken in 0..=30 {
            let mut cache = cache(31);
            comes_and_goes(&mut cache, 0, 56);
            cache.allocate(taken);
            let there = 14 - taken.saturating_sub(16).min(14);
            assert_eq!(cache.look_up(0, 57), Hits { blocks: there, free: there });
            cache.blank += taken;
            assert_eq!(comes_and_goes(&mut cache, 0, 60), there);
            assert_eq!(comes_and_goes(&mut cache, 0, 60), 15);
        }
    }

    #[test]
    fn a_path_that_others_use_outlives_what_is_left() {
        let mut cache = cache(31);
        let first = cache.look_up(1, 40);
        cache.take_hits(1, first);
        cache.allocate(10);
        cache.register(1, 40);
        comes_and_goes(&mut cache, 0, 48);
        cache.allocate(cache.free() - 2);
        assert_eq!(cache.look_up(0, 49), Hits { blocks: 10, free: 2 });
        comes_and_goes(&mut cache, 0, 40);
        assert_eq!(cache.look_up(0, 49).blocks, 10);
    }
}
