//! Longer or shorter shared prefixes: what prompts have in common is stretched, what is their own stays.

use roofline_core::error::Error;
use rustc_hash::FxHashMap;

use crate::error::Result;
use crate::trace::{BlockHashes, TOKENS_MAX, Trace};

/// Where the blocks of prompts stand in the tree of their paths.
struct Tree {
    /// The node of each block, in the order of the ids.
    nodes: Vec<u32>,
    /// How many prompts go through each node.
    visits: Vec<u32>,
}

impl Tree {
    fn of(hashes: &BlockHashes, requests: usize) -> Tree {
        let mut children: FxHashMap<(u32, u32), u32> = FxHashMap::default();
        let mut tree = Tree { nodes: Vec::with_capacity(hashes.ids.len()), visits: vec![0] };
        for request in 0..requests {
            let mut node = 0;
            for id in hashes.path(request) {
                let next = tree.visits.len() as u32;
                node = *children.entry((node, *id)).or_insert(next);
                if node == next {
                    tree.visits.push(0);
                }
                tree.visits[node as usize] += 1;
                tree.nodes.push(node);
            }
        }
        tree
    }
}

impl Trace {
    /// The same requests; what prompts share with others is `scale` times as long, and they by so much more.
    ///
    /// A block is shared if another prompt goes through it on the same path. Paths keep their branches: prompts that had
    /// `n` tokens in common have `scale · n`, to a block. Blocks of one prompt alone have no ids afterwards.
    ///
    /// # Errors
    /// A trace whose prompts have no paths.
    pub(super) fn scale_prefixes(&mut self, scale: f64) -> Result<()> {
        let Some(hashes) = &self.hashes else {
            let hint = "the trace has neither hash ids, prefix groups nor turns that repeat what was said";
            let must = "must be left out for a trace that does not say what prompts share";
            return Err(Error::spec("prefix_scale", must, scale, hint).into());
        };
        let size = hashes.block_size.max(1);
        let tree = Tree::of(hashes, self.prompt_tokens.len());
        let scaled = |tokens: u32| (f64::from(tokens) * scale).round().min(f64::from(TOKENS_MAX)) as u32;
        let mut stretched = BlockHashes { block_size: size, offsets: vec![0], ids: Vec::new() };
        let mut dense: FxHashMap<(u32, u32), u32> = FxHashMap::default();
        for (request, prompt) in self.prompt_tokens.iter_mut().enumerate() {
            let path = hashes.offsets[request] as usize..hashes.offsets[request + 1] as usize;
            let nodes = &tree.nodes[path];
            let blocks = nodes.iter().take_while(|node| tree.visits[**node as usize] > 1).count() as u32;
            let shared = (u64::from(blocks) * u64::from(size)).min(u64::from(*prompt)) as u32;
            let longer = scaled(shared);
            let new = if shared == *prompt && shared > 0 { longer.div_ceil(size) } else { longer / size };
            for block in 0..new {
                // The first old block whose end, stretched and rounded, reaches that of the new one.
                let end = f64::from(block + 1) * f64::from(size) - 0.5;
                let reached = (end / (f64::from(size) * scale)).ceil().max(1.0) as u32 - 1;
                let old = nodes[reached.min(blocks - 1) as usize];
                let next = dense.len() as u32;
                stretched.ids.push(*dense.entry((old, block)).or_insert(next));
            }
            stretched.offsets.push(stretched.ids.len() as u64);
            *prompt = (*prompt - shared).saturating_add(longer).clamp(1, TOKENS_MAX);
        }
        self.hashes = Some(stretched);
        if let Some(prefixes) = &mut self.carried.prefixes {
            prefixes.tokens.iter_mut().for_each(|tokens| *tokens = scaled(*tokens));
        }
        self.carried.cached_tokens.iter_mut().for_each(|tokens| *tokens = scaled(*tokens));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reshape;
    use super::*;
    use proptest::prelude::*;

    fn trace(prompts: &[u32], paths: &[&[u32]], block_size: u32) -> Trace {
        let mut hashes = BlockHashes { block_size, offsets: vec![0], ids: Vec::new() };
        for path in paths {
            hashes.ids.extend_from_slice(path);
            hashes.offsets.push(hashes.ids.len() as u64);
        }
        let count = prompts.len();
        Trace {
            arrival_ns: vec![0; count],
            prompt_tokens: prompts.to_vec(),
            output_tokens: vec![1; count],
            hashes: Some(hashes),
            ..Trace::default()
        }
    }

    fn scaled(trace: &Trace, scale: f64) -> Trace {
        trace.reshaped(&Reshape { prefix_scale: Some(scale), ..Reshape::default() }).unwrap()
    }

    /// Tokens that two prompts have in common, as whole blocks tell it.
    fn common(trace: &Trace, one: usize, other: usize) -> u32 {
        let hashes = trace.hashes.as_ref().unwrap();
        let pairs = hashes.path(one).iter().zip(hashes.path(other));
        pairs.take_while(|(a, b)| a == b).count() as u32 * hashes.block_size
    }

    #[test]
    fn what_is_shared_is_stretched_and_what_is_not_stays() {
        let trace = trace(&[50, 45, 20], &[&[1, 2, 3], &[1, 2, 9], &[7]], 16);
        let twice = scaled(&trace, 2.0);
        assert_eq!(twice.prompt_tokens, [82, 77, 20]);
        assert_eq!((common(&twice, 0, 1), common(&twice, 0, 2)), (64, 0));
        let half = scaled(&trace, 0.5);
        assert_eq!((half.prompt_tokens.clone(), common(&half, 0, 1)), (vec![34, 29, 20], 16));
        assert_eq!(scaled(&trace, 1.0).prompt_tokens, trace.prompt_tokens);
    }

    #[test]
    fn a_scale_needs_prefixes_and_must_be_positive() {
        let mut trace = trace(&[5], &[&[]], 16);
        let refused = |trace: &Trace, scale: f64| {
            let reshape = Reshape { prefix_scale: Some(scale), ..Reshape::default() };
            trace.reshaped(&reshape).unwrap_err().to_string()
        };
        assert_eq!(refused(&trace, 0.0), "prefix_scale must be above 0 and finite: 0");
        trace.hashes = None;
        let must = "prefix_scale must be left out for a trace that does not say what prompts share: 2";
        assert_eq!(refused(&trace, 2.0), must);
    }

    proptest! {
        #[test]
        fn prompts_have_so_many_times_as_much_in_common(
            paths in proptest::collection::vec(proptest::collection::vec(0u32..3, 0..6), 2..8),
            scale in 0.3f64..4.0,
        ) {
            let prompts: Vec<u32> = paths.iter().map(|path| path.len() as u32 * 8 + 5).collect();
            let paths: Vec<&[u32]> = paths.iter().map(Vec::as_slice).collect();
            let before = trace(&prompts, &paths, 8);
            let after = scaled(&before, scale);
            for one in 0..prompts.len() {
                for other in 0..one {
                    let expected = (f64::from(common(&before, one, other)) * scale).round() as u32 / 8 * 8;
                    prop_assert_eq!(common(&after, one, other), expected);
                }
            }
        }
    }
}
