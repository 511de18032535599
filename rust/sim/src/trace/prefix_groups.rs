//! Prompts that begin alike, told by the name of what they share and its length, as hash paths.

use rustc_hash::FxHashMap;

use super::BlockHashes;
use super::carried::{Labels, Prefixes};

/// Hash ids of shared prefixes: block `k` of group `g` has one id, given when it is first seen.
#[derive(Debug)]
pub(crate) struct GroupPaths {
    /// The paths so far.
    pub hashes: BlockHashes,
    of_group: Vec<Vec<u32>>,
    known: u32,
}

impl GroupPaths {
    /// No requests yet, for ids of `block_size` tokens in so many groups.
    pub fn new(block_size: u32, groups: u32) -> GroupPaths {
        GroupPaths {
            hashes: BlockHashes { block_size, offsets: vec![0], ids: Vec::new() },
            of_group: vec![Vec::new(); groups as usize],
            known: 0,
        }
    }

    /// A request that begins with `tokens` of a group's text, as far as they fill blocks.
    pub fn push(&mut self, group: u32, tokens: u32) {
        self.share(group, tokens);
        self.hashes.offsets.push(self.hashes.ids.len() as u64);
    }

    /// The paths since they were last taken.
    pub fn take(&mut self) -> BlockHashes {
        let block_size = self.hashes.block_size;
        let empty = BlockHashes { block_size, offsets: vec![0], ids: Vec::new() };
        std::mem::replace(&mut self.hashes, empty)
    }

    /// A request of a conversation: `shared` tokens of a group's text, then what was `said`, `tokens` in all.
    pub fn push_said(&mut self, group: u32, shared: u32, said: &mut Vec<u32>, tokens: u32) {
        let shared = self.share(group, shared.min(tokens));
        let blocks = (tokens / self.hashes.block_size.max(1)) as usize - shared;
        while said.len() < blocks {
            said.push(self.known);
            self.known += 1;
        }
        self.hashes.ids.extend_from_slice(&said[..blocks]);
        self.hashes.offsets.push(self.hashes.ids.len() as u64);
    }

    /// The beginning of a path; how many blocks it has.
    fn share(&mut self, group: u32, tokens: u32) -> usize {
        let blocks = (tokens / self.hashes.block_size.max(1)) as usize;
        let Some(ids) = self.of_group.get_mut(group as usize) else { return 0 };
        while ids.len() < blocks {
            ids.push(self.known);
            self.known += 1;
        }
        self.hashes.ids.extend_from_slice(&ids[..blocks]);
        blocks
    }
}

/// The paths of prompts that share what their groups say, in whole blocks.
pub(super) fn paths(prefixes: &Prefixes, block_size: u32) -> BlockHashes {
    let mut paths = GroupPaths::new(block_size, prefixes.group.names.len() as u32);
    for (group, tokens) in prefixes.group.of.iter().zip(&prefixes.tokens) {
        paths.push(*group, *tokens);
    }
    paths.hashes
}

/// Keeps prompts for different adapters apart: what an adapter made of a prefix serves no other one.
#[derive(Debug, Default)]
pub(crate) struct Adapters {
    dense: FxHashMap<(u32, u32), u32>,
}

impl Adapters {
    /// Gives the blocks of each request an id for its adapter alone, the same whenever they come again.
    pub fn part(&mut self, hashes: &mut BlockHashes, lora: &Labels) {
        for (request, adapter) in lora.of.iter().enumerate() {
            let path = hashes.offsets[request] as usize..hashes.offsets[request + 1] as usize;
            for id in &mut hashes.ids[path] {
                let next = self.dense.len() as u32;
                *id = *self.dense.entry((*adapter, *id)).or_insert(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_a_group_share_its_blocks_and_no_others() {
        let group = Labels { names: vec!["a".into(), "b".into()], of: vec![0, 1, 0, Labels::NONE] };
        let hashes = paths(&Prefixes { group, tokens: vec![40, 32, 16, 0] }, 16);
        assert_eq!((hashes.path(0), hashes.path(1)), (&[0, 1][..], &[2, 3][..]));
        assert_eq!((hashes.path(2), hashes.path(3)), (&[0][..], &[][..]));
    }

    #[test]
    fn adapters_share_no_blocks() {
        let mut hashes = BlockHashes { block_size: 16, offsets: vec![0, 1, 2, 3], ids: vec![5, 5, 5] };
        Adapters::default()
            .part(&mut hashes, &Labels { names: vec!["x".into()], of: vec![0, Labels::NONE, 0] });
        assert_eq!(hashes.ids, [0, 1, 0]);
    }
}
