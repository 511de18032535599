//! What a prefix cache without limits would hold of a trace's prompts.

use rustc_hash::FxHashMap;

use super::BlockHashes;

/// Sizes of an engine's blocks that are looked at.
pub const BLOCKS: [u32; 6] = [16, 32, 64, 128, 256, 512];

/// What prompts share.
#[derive(Debug, Clone, PartialEq)]
pub struct Sharing {
    /// Share of prompt tokens that an earlier prompt had on the same path.
    pub hit: f64,
    /// The same where an engine finds whole blocks only, and computes a prompt's last token itself; by [`BLOCKS`].
    pub by_block: [f64; BLOCKS.len()],
    /// Share of requests that begin with what an earlier one had.
    pub requests: f64,
    /// Prompt tokens that no earlier prompt had.
    pub unique_tokens: u64,
}

impl Sharing {
    /// What prompts of so many tokens share, in this order.
    pub fn of(prompt_tokens: &[u32], hashes: &BlockHashes) -> Sharing {
        let mut children: FxHashMap<(u32, u32), u32> = FxHashMap::default();
        let (mut hit, mut total, mut requests) = (0u64, 0u64, 0u64);
        let mut whole = [0u64; BLOCKS.len()];
        for (request, prompt) in prompt_tokens.iter().enumerate() {
            let (mut node, mut known) = (0, 0u64);
            for id in hashes.path(request) {
                let next = children.len() as u32 + 1;
                let child = *children.entry((node, *id)).or_insert(next);
                known += u64::from(child != next);
                node = child;
            }
            let found = (known * u64::from(hashes.block_size)).min(u64::from(*prompt));
            for (sum, block) in whole.iter_mut().zip(BLOCKS.map(u64::from)) {
                *sum += found.min(u64::from(*prompt).saturating_sub(1)) / block * block;
            }
            hit += found;
            total += u64::from(*prompt);
            requests += u64::from(found > 0);
        }
        let share = |tokens: u64| tokens as f64 / total.max(1) as f64;
        Sharing {
            hit: share(hit),
            by_block: whole.map(share),
            requests: requests as f64 / prompt_tokens.len().max(1) as f64,
            unique_tokens: total - hit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_as_held_only_on_the_same_path() {
        let hashes = BlockHashes { block_size: 10, offsets: vec![0, 2, 4, 6], ids: vec![1, 2, 3, 2, 1, 2] };
        let sharing = Sharing::of(&[20, 20, 15], &hashes);
        assert_eq!((sharing.hit, sharing.unique_tokens), (15.0 / 55.0, 40));
        assert_eq!(sharing.requests, 1.0 / 3.0);
    }

    #[test]
    fn an_engine_finds_whole_blocks_and_computes_the_last_token() {
        let hashes = BlockHashes { block_size: 32, offsets: vec![0, 2, 4], ids: vec![1, 2, 1, 2] };
        let sharing = Sharing::of(&[64, 64], &hashes);
        assert_eq!(sharing.hit, 0.5);
        assert_eq!(sharing.by_block, [48.0, 32.0, 0.0, 0.0, 0.0, 0.0].map(|tokens| tokens / 128.0));
    }
}
