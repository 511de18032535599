//! What turns of a conversation repeat of what was said before, as hash paths where a file has no hashes.

use rustc_hash::FxHashMap;

use super::BlockHashes;
use super::carried::{Labels, Prefixes};
use super::format::History;
use super::policy::TurnLengths;
use super::prefix_groups::GroupPaths;
use super::sessions::Last;

/// Which turn each row follows, and how many of its tokens it begins with, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// A row each: the turn before it, or [`Repeats::NONE`].
    behind: Vec<u32>,
    tokens: Vec<u32>,
    /// Rows that begin with recorded tokens which no turn of their session said before.
    pub unknown: u64,
}

impl Repeats {
    const NONE: u32 = u32::MAX;

    /// Whether any row repeats something.
    pub fn any(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Notes that `row` begins with so many tokens of what was said up to the end of the turn `behind` it.
    pub fn note(&mut self, row: usize, behind: u32, tokens: u32) {
        self.behind.resize(row, Repeats::NONE);
        self.tokens.resize(row, 0);
        self.behind.push(behind);
        self.tokens.push(tokens);
    }

    /// The paths of prompts, in whole blocks of `block_size` tokens; those of prefix groups begin with what their group
    /// shares. An answer has no blocks until a later prompt repeats it.
    pub fn paths(&self, prompts: &[u32], prefixes: Option<&Prefixes>, block_size: u32) -> BlockHashes {
        let groups = prefixes.map_or(0, |prefixes| prefixes.group.names.len() as u32);
        let mut paths = GroupPaths::new(block_size, groups);
        let mut followed = vec![false; prompts.len()];
        self.behind
            .iter()
            .filter(|behind| **behind != Repeats::NONE)
            .for_each(|row| followed[*row as usize] = true);
        let mut said: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for (row, &prompt) in prompts.iter().enumerate() {
            let (group, shared) = prefixes.map_or((Labels::NONE, 0), |prefixes| {
                (prefixes.group.of[row], prefixes.tokens[row].min(prompt))
            });
            let before = self.behind.get(row).and_then(|behind| said.remove(behind));
            let mut own = before.unwrap_or_default();
            let kept = self.tokens.get(row).map_or(0, |tokens| tokens / block_size.max(1));
            own.truncate(kept.saturating_sub(shared / block_size.max(1)) as usize);
            paths.push_said(group, shared, &mut own, prompt);
            if followed[row] {
                said.insert(row as u32, own);
            }
        }
        paths.hashes
    }
}

/// How many tokens of what was said up to the end of the turn before it a prompt begins with; none where that is untold.
///
/// A user who says what lengths of turns count says it: all of what was said before. A prompt that is too short for the
/// last answer repeats the last prompt at most, and one shorter than that nothing: the conversation was cut.
pub(super) fn repeated(
    told: History,
    said: Option<TurnLengths>,
    last: Last,
    prompt: u32,
    recorded: Option<u32>,
) -> Option<u32> {
    let context = u32::try_from(last.context()).unwrap_or(u32::MAX);
    match (told, said) {
        (History::Recorded, _) => recorded.map(|tokens| tokens.min(context)),
        (History::All, _) | (_, Some(TurnLengths::Delta)) => Some(context.min(prompt)),
        (History::Untold, Some(TurnLengths::Full)) => {
            Some([context, last.prompt].into_iter().find(|tokens| *tokens <= prompt).unwrap_or(0))
        }
        (History::Untold, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_the_blocks_of_what_it_repeats_and_new_ones() {
        let mut repeats = Repeats::default();
        repeats.note(1, 0, 40);
        repeats.note(3, 1, 20);
        let hashes = repeats.paths(&[32, 64, 16, 48], None, 16);
        let paths: Vec<_> = (0..4).map(|row| hashes.path(row).to_vec()).collect();
        assert_eq!(paths, [vec![0, 1], vec![0, 1, 2, 3], vec![4], vec![0, 5, 6]]);
    }

    #[test]
    fn conversations_of_a_group_begin_with_what_it_shares() {
        let group = Labels { names: vec!["g".into()], of: vec![0, 0, 0] };
        let prefixes = Prefixes { group, tokens: vec![16, 16, 16] };
        let mut repeats = Repeats::default();
        repeats.note(2, 0, 40);
        let hashes = repeats.paths(&[40, 40, 64], Some(&prefixes), 16);
        let paths: Vec<_> = (0..3).map(|row| hashes.path(row).to_vec()).collect();
        assert_eq!(paths, [vec![0, 1], vec![0, 2], vec![0, 1, 3, 4]]);
    }
}
