//! The tree of all shared prompt prefixes of a workload: runs of blocks that are always met together, built once, or as
//! requests come of which not all are known.
//!
//! A node is a run of blocks between two points where paths part or prompts end. Where a prompt ends with its last
//! block, that block is a run of its own: it is always computed again, so it alone can be in the cache twice.

use rustc_hash::FxHashMap;

use crate::kv::blocks::NONE;
use crate::request::{Rows, Workload};
use crate::trace::BlockHashes;

/// A run of blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// Blocks before it on its path.
    pub(super) start: u32,
    /// Blocks behind its last on its path.
    pub(super) end: u32,
    parent: u32,
    /// A prompt that passes through it, to know its content by.
    witness: u32,
}

/// The hashed blocks of prompts, which nodes know their content by.
trait Contents {
    /// Those of a prompt.
    fn ids(&self, witness: u32) -> &[u32];
}

/// The shared prefixes of a workload.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// For each sequence where its path begins in `steps`, and one more.
    offsets: Vec<u32>,
    /// Nodes from the root down, path after path.
    steps: Vec<u32>,
    /// What a tree that grows keeps beside.
    growing: Option<Box<Growing>>,
}

/// A tree that grows as requests come; sequences are named by their slots.
#[derive(Debug, Clone)]
struct Growing {
    /// The nodes are lent to it while one is inserted.
    builder: Builder<Witnesses>,
    block_size: u32,
    /// Where the path of each slot ends; what nodes are cut into keeps the end.
    leaves: Vec<u32>,
    /// The path of each slot, and how many nodes there were when it was followed.
    paths: Vec<(usize, Vec<u32>)>,
}

/// Copies of prompts through which nodes pass.
#[derive(Debug, Clone, Default)]
struct Witnesses(Vec<Box<[u32]>>);

impl Contents for Witnesses {
    fn ids(&self, witness: u32) -> &[u32] {
        &self.0[witness as usize]
    }
}

/// A node was cut in two: the new one above the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) upper: u32,
    pub(super) lower: u32,
}

impl Tree {
    /// The tree of the prompts of `requests` (rows of the workload), in blocks of `block_size` tokens, of which trace
    /// blocks are whole multiples.
    pub(super) fn of(workload: &Workload<'_>, rows: Rows<'_>, block_size: u32) -> Tree {
        let Some((trace, hashes)) = workload.trace().and_then(|trace| Some((trace, trace.hashes.as_ref()?)))
        else {
            return Tree::default();
        };
        let requests: Vec<u32> = rows.iter(trace.len()).collect();
        let all = All { hashes, requests: &requests };
        let mut builder = Builder::new(all, hashes.block_size, block_size, requests.len());
        let mut leaves = Vec::with_capacity(requests.len());
        for (sequence, &request) in requests.iter().enumerate() {
            let prompt = trace.prompt_tokens[request as usize];
            leaves.push(builder.insert_prompt(sequence as u32, prompt, block_size));
        }
        let mut tree = Tree { nodes: builder.nodes, offsets: vec![0], ..Tree::default() };
        for &leaf in &leaves {
            follow(&tree.nodes, leaf, &mut tree.steps);
            tree.offsets.push(tree.steps.len() as u32);
        }
        tree
    }

    /// The tree of requests that come one by one, whose trace blocks have `hashed` tokens: whole multiples of `block_size`.
    pub(super) fn growing(hashed: u32, block_size: u32) -> Tree {
        let builder = Builder::new(Witnesses::default(), hashed, block_size, 0);
        let growing = Growing { builder, block_size, leaves: Vec::new(), paths: Vec::new() };
        Tree { growing: Some(Box::new(growing)), ..Tree::default() }
    }

    /// Whether it grows, by [`Tree::grow`].
    pub(super) fn grows(&self) -> bool {
        self.growing.is_some()
    }

    /// A prompt of so many tokens and these hashed blocks takes a slot; which nodes are cut for it, one after the other.
    pub(super) fn grow(&mut self, slot: u32, ids: &[u32], prompt: u32) -> Vec<Cut> {
        let Some(growing) = &mut self.growing else { return Vec::new() };
        let Growing { builder, block_size, leaves, paths } = &mut **growing;
        std::mem::swap(&mut builder.nodes, &mut self.nodes);
        builder.contents.0.push(ids.into());
        let witness = builder.contents.0.len() as u32 - 1;
        let leaf = builder.insert_prompt(witness, prompt, *block_size);
        if !builder.was_kept {
            builder.contents.0.pop();
        }
        builder.was_kept = false;
        std::mem::swap(&mut builder.nodes, &mut self.nodes);
        if slot as usize == leaves.len() {
            leaves.push(leaf);
            paths.push((0, Vec::new()));
        }
        leaves[slot as usize] = leaf;
        paths[slot as usize].0 = 0;
        std::mem::take(&mut builder.cuts)
    }

    /// Follows the path of a slot again, if nodes came since it was followed last.
    pub(super) fn refresh(&mut self, slot: u32) {
        let Some(growing) = &mut self.growing else { return };
        let (known, path) = &mut growing.paths[slot as usize];
        if *known != self.nodes.len() {
            *known = self.nodes.len();
            path.clear();
            follow(&self.nodes, growing.leaves[slot as usize], path);
        }
    }

    /// The nodes.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes of the prompt of a sequence in a slot, from its beginning.
    pub(super) fn path(&self, slot: u32, sequence: u32) -> &[u32] {
        if let Some(growing) = &self.growing {
            return &growing.paths[slot as usize].1;
        }
        match self.offsets.get(sequence as usize..sequence as usize + 2) {
            Some(&[from, to]) => &self.steps[from as usize..to as usize],
            _ => &[],
        }
    }
}

/// Appends the nodes from the root to a leaf.
fn follow(nodes: &[Node], leaf: u32, path: &mut Vec<u32>) {
    let first = path.len();
    let mut node = leaf;
    while node != NONE {
        path.push(node);
        node = nodes[node as usize].parent;
    }
    path[first..].reverse();
}

/// All prompts of a trace, those of a replica by their numbers.
struct All<'a> {
    hashes: &'a BlockHashes,
    requests: &'a [u32],
}

impl Contents for All<'_> {
    fn ids(&self, sequence: u32) -> &[u32] {
        self.hashes.path(self.requests[sequence as usize] as usize)
    }
}

#[derive(Debug, Clone)]
struct Builder<C> {
    contents: C,
    /// Tokens of a trace block, and the blocks it holds.
    hashed: u32,
    ratio: u32,
    nodes: Vec<Node>,
    /// The child of a node ([`NONE`]: the root) that begins in a trace block.
    children: FxHashMap<(u32, u32), u32>,
    /// Nodes that were cut since somebody looked.
    cuts: Vec<Cut>,
    /// Whether a node knows its content by the last prompt inserted.
    was_kept: bool,
}

impl<C: Contents> Builder<C> {
    fn new(contents: C, hashed: u32, block_size: u32, requests: usize) -> Builder<C> {
        Builder {
            contents,
            hashed,
            ratio: (hashed / block_size).max(1),
            // A prompt adds a node at its end, and one at most where it parts from another.
            nodes: Vec::with_capacity(2 * requests),
            children: FxHashMap::with_capacity_and_hasher(2 * requests, Default::default()),
            cuts: Vec::new(),
            was_kept: false,
        }
    }

    fn ids(&self, sequence: u32) -> &[u32] {
        self.contents.ids(sequence)
    }

    /// Leading blocks whose tokens are all hashed.
    fn shared_blocks(&self, sequence: u32, prompt: u32, block_size: u32) -> u32 {
        let ids = self.ids(sequence);
        let named = ids.iter().position(|&id| id == NONE).unwrap_or(ids.len()) as u64;
        ((named * u64::from(self.hashed)).min(u64::from(prompt)) / u64::from(block_size)) as u32
    }

    /// Makes what is shared of a prompt a path; the node it ends with.
    fn insert_prompt(&mut self, sequence: u32, prompt: u32, block_size: u32) -> u32 {
        let blocks = self.shared_blocks(sequence, prompt, block_size);
        if blocks > 0 && u64::from(blocks) * u64::from(block_size) == u64::from(prompt) {
            self.insert(sequence, blocks - 1);
        }
        self.insert(sequence, blocks)
    }

    /// Makes the first `blocks` blocks of a sequence's prompt a path that ends with a node; that node.
    fn insert(&mut self, sequence: u32, blocks: u32) -> u32 {
        let (mut parent, mut reached) = (NONE, 0);
        while reached < blocks {
            let id = self.ids(sequence)[(reached / self.ratio) as usize];
            let Some(&child) = self.children.get(&(parent, id)) else {
                let node = self.nodes.len() as u32;
                self.nodes.push(Node { start: reached, end: blocks, parent, witness: sequence });
                self.children.insert((parent, id), node);
                self.was_kept = true;
                return node;
            };
            let node = self.nodes[child as usize];
            let common = self.common(sequence, node.witness, reached, node.end.min(blocks));
            parent = if common < node.end { self.split(child, common) } else { child };
            reached = common;
        }
        parent
    }

    /// Up to which block, `limit` at most, two prompts equal from `from` on (they do up to there).
    fn common(&self, one: u32, other: u32, from: u32, limit: u32) -> u32 {
        let (one, other) = (self.ids(one), self.ids(other));
        let mut place = (from / self.ratio) as usize;
        while place * (self.ratio as usize) < limit as usize && one[place] == other[place] {
            place += 1;
        }
        limit.min(place as u32 * self.ratio)
    }

    /// Cuts a node before block `at`; the new node above, which takes its place among its siblings.
    fn split(&mut self, lower: u32, at: u32) -> u32 {
        let upper = self.nodes.len() as u32;
        let node = self.nodes[lower as usize];
        let first = self.ids(node.witness)[(node.start / self.ratio) as usize];
        let next = self.ids(node.witness)[(at / self.ratio) as usize];
        self.nodes.push(Node { end: at, ..node });
        let cut = &mut self.nodes[lower as usize];
        (cut.start, cut.parent) = (at, upper);
        self.children.insert((node.parent, first), upper);
        self.children.insert((upper, next), lower);
        self.cuts.push(Cut { upper, lower });
        upper
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    fn tree(prompts: &[(u32, &[u32])], block_size: u32) -> Tree {
        let mut hashes = BlockHashes { block_size: 8, offsets: vec![0], ids: Vec::new() };
        for (_, ids) in prompts {
            hashes.ids.extend_from_slice(ids);
            hashes.offsets.push(hashes.ids.len() as u64);
        }
        let trace = Trace {
            arrival_ns: vec![0; prompts.len()],
            prompt_tokens: prompts.iter().map(|prompt| prompt.0).collect(),
            output_tokens: vec![1; prompts.len()],
            hashes: Some(hashes),
            ..Trace::default()
        };
        Tree::of(&Workload::new(&trace, None).unwrap(), Rows::ALL, block_size)
    }

    fn shared_blocks(tree: &Tree, sequence: u32) -> u32 {
        tree.path(0, sequence).last().map_or(0, |&leaf| tree.nodes()[leaf as usize].end)
    }

    fn cuts(tree: &Tree, sequence: u32) -> Vec<u32> {
        tree.path(0, sequence).iter().map(|&node| tree.nodes()[node as usize].end).collect()
    }

    #[test]
    fn paths_part_where_their_contents_do() {
        let tree = tree(&[(30, &[1, 2, 3, 4]), (30, &[1, 2, 5, 4]), (30, &[6, 2, 3, 4])], 4);
        assert_eq!((cuts(&tree, 0), cuts(&tree, 1), cuts(&tree, 2)), (vec![4, 7], vec![4, 7], vec![7]));
        assert_eq!(tree.path(0, 0)[0], tree.path(0, 1)[0]);
        assert_ne!(tree.path(0, 0)[1], tree.path(0, 1)[1]);
        assert_eq!(shared_blocks(&tree, 0), 7);
    }

    #[test]
    fn a_prompt_that_fills_its_blocks_ends_with_a_block_of_its_own() {
        let tree = tree(&[(23, &[1, 2, 3]), (16, &[1, 2])], 4);
        assert_eq!((cuts(&tree, 0), cuts(&tree, 1)), (vec![3, 4, 5], vec![3, 4]));
        assert_eq!(tree.path(0, 0)[..2], *tree.path(0, 1));
    }

    #[test]
    fn without_hashes_nothing_is_shared() {
        let tree = tree(&[(23, &[]), (16, &[1, NONE])], 4);
        assert_eq!((tree.path(0, 0), shared_blocks(&tree, 1)), (&[][..], 2));
        assert_eq!(Tree::default().path(0, 7), &[] as &[u32]);
    }
}
