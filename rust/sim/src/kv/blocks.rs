//! The pool of KV blocks: a free list with removal from the middle, and reference counts.
//!
//! As in vLLM (`v1/core/kv_cache_utils.py`, `v1/core/block_pool.py`): block 0 is the null block and never used;
//! blocks are taken from the head of the free list; what is released without content goes back to the head, what
//! holds a cached prefix to the tail, so that the list is in order of least recent use.

/// No block, no prefix.
pub const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Block {
    /// Neighbours in the free list; block 0 closes the ring.
    previous: u32,
    next: u32,
    /// Sequences that use it.
    references: u32,
    /// The prefix it holds, or [`NONE`].
    prefix: u32,
}

/// The blocks of an engine.
#[derive(Debug, Clone)]
pub struct Blocks {
    blocks: Vec<Block>,
    free: u32,
}

impl Blocks {
    /// `count` blocks (at least 1), of which block 0 is never used.
    pub fn new(count: u32) -> Blocks {
        let blocks = (0..count)
            .map(|block| Block {
                previous: if block == 0 { count - 1 } else { block - 1 },
                next: if block + 1 == count { 0 } else { block + 1 },
                references: 0,
                prefix: NONE,
            })
            .collect();
        Blocks { blocks, free: count - 1 }
    }

    /// Blocks that no sequence uses; some of them may hold cached prefixes.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// Blocks that can be used at all.
    pub fn usable(&self) -> u32 {
        self.blocks.len() as u32 - 1
    }

    /// The prefix a block holds, or [`NONE`].
    pub fn prefix(&self, block: u32) -> u32 {
        self.blocks[block as usize].prefix
    }

    /// Notes the prefix a block holds, [`NONE`] for nothing.
    pub fn set_prefix(&mut self, block: u32, prefix: u32) {
        self.blocks[block as usize].prefix = prefix;
    }

    /// Whether no sequence uses the block.
    pub fn is_free(&self, block: u32) -> bool {
        self.blocks[block as usize].references == 0
    }

    /// Takes the head of the free list for one sequence; `None` when it is empty. The prefix it held is still noted.
    pub fn take(&mut self) -> Option<u32> {
        let head = self.blocks[0].next;
        if head == 0 {
            return None;
        }
        self.unlink(head);
        self.blocks[head as usize].references = 1;
        Some(head)
    }

    /// One more sequence uses a block that holds a prefix.
    pub fn touch(&mut self, block: u32) {
        if self.is_free(block) {
            self.unlink(block);
        }
        self.blocks[block as usize].references += 1;
    }

    /// A sequence ends its use of `table`: in reverse order, content-free blocks to the head, cached ones to the tail.
    pub fn release(&mut self, table: &[u32]) {
        // The first content-free block released becomes the head, the next follows it.
        let mut after = 0;
        for &block in table.iter().rev() {
            let entry = &mut self.blocks[block as usize];
            entry.references -= 1;
            if entry.references > 0 {
                continue;
            }
            if entry.prefix == NONE {
                self.link(block, after);
                after = block;
            } else {
                self.link(block, self.blocks[0].previous);
            }
        }
    }

    fn unlink(&mut self, block: u32) {
        let Block { previous, next, .. } = self.blocks[block as usize];
        self.blocks[previous as usize].next = next;
        self.blocks[next as usize].previous = previous;
        self.free -= 1;
    }

    fn link(&mut self, block: u32, previous: u32) {
        let next = self.blocks[previous as usize].next;
        self.blocks[block as usize].previous = previous;
        self.blocks[block as usize].next = next;
        self.blocks[previous as usize].next = block;
        self.blocks[next as usize].previous = block;
        self.free += 1;
    }

    /// The free list from head to tail.
    pub fn free_list(&self) -> impl Iterator<Item = u32> + '_ {
        let next = |&block: &u32| Some(self.blocks[block as usize].next).filter(|&next| next != 0);
        std::iter::successors(next(&0), next)
    }

    /// Sequences that use a block.
    pub fn references(&self, block: u32) -> u32 {
        self.blocks[block as usize].references
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_blocks_are_taken_in_order_and_the_last_released_first() {
        let mut blocks = Blocks::new(6);
        let table: Vec<u32> = (0..3).map(|_| blocks.take().unwrap()).collect();
        assert_eq!(table, [1, 2, 3]);
        blocks.release(&table);
        assert_eq!(blocks.free_list().collect::<Vec<_>>(), [3, 2, 1, 4, 5]);
    }

    #[test]
    fn cached_blocks_are_evicted_last_and_the_end_of_a_sequence_first() {
        let mut blocks = Blocks::new(6);
        let table: Vec<u32> = (0..3).map(|_| blocks.take().unwrap()).collect();
        blocks.set_prefix(1, 10);
        blocks.set_prefix(2, 11);
        blocks.release(&table);
        assert_eq!(blocks.free_list().collect::<Vec<_>>(), [3, 4, 5, 2, 1]);
        blocks.touch(2);
        assert_eq!((blocks.free(), blocks.is_free(2)), (4, false));
    }

    #[test]
    fn an_empty_pool_gives_nothing() {
        let mut blocks = Blocks::new(2);
        assert_eq!((blocks.take(), blocks.take()), (Some(1), None));
    }
}
