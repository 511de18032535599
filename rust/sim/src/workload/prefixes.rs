//! What prompts begin with: one of several texts that many requests share, so that a prefix cache has work.

use roofline_core::error::{Error, Result};

use super::draws::{Draws, Purpose, zipf};
use super::lengths::Length;

/// How much of a prompt is shared.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    /// Tokens before each prompt, drawn once a group; the prompt is longer by them (vLLM's `--random-prefix-len`,
    /// SGLang's `gsp-system-prompt-len`).
    Tokens(Length),
    /// A share of each prompt, whose length stays as it is (Dynamo's and AIPerf's ratio).
    Share(f64),
}

/// Texts that prompts begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefixes {
    /// How much.
    pub size: Size,
    /// Different texts.
    pub groups: u32,
    /// How unequally they are used: group `i` by 1/iᵃ; 0 is equally.
    pub zipf: f64,
    /// Tokens of a block hash; a shared prefix is cut to whole blocks, as engines cache them.
    pub block_size: u32,
}

/// What a request shares with the others of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shared {
    pub group: u32,
    /// Tokens before the prompt that was drawn.
    pub added: u32,
    /// Tokens shared, [`Shared::added`] included.
    pub tokens: u32,
}

/// Draws what each request shares.
#[derive(Debug, Clone)]
pub(super) struct PrefixDraws {
    stream: Draws,
    /// Zipf's weights; empty where groups are as likely.
    cumulative: Vec<f64>,
    /// Tokens of each group, for [`Size::Tokens`].
    lengths: Vec<u32>,
    groups: u32,
    share: f64,
}

/// Beyond, a table of groups would take gigabytes.
const GROUPS_MOST: u32 = 100_000_000;

impl Prefixes {
    /// Refuses what cannot be drawn.
    ///
    /// # Errors
    /// No group or too many; blocks without tokens.
    pub(super) fn check(&self) -> Result<()> {
        let limits =
            [("prefix_groups", self.groups, GROUPS_MOST), ("trace_block_size", self.block_size, u32::MAX)];
        for (field, value, most) in limits {
            if value == 0 || value > most {
                return Err(Error::spec(field, format!("must be between 1 and {most}"), value, ""));
            }
        }
        Ok(())
    }

    /// The stream of what requests share.
    pub(super) fn stream(&self, seed: u64) -> PrefixDraws {
        let mut drawn = Draws::new(seed, Purpose::PrefixLengths);
        let (lengths, share) = match &self.size {
            Size::Tokens(length) => ((0..self.groups).map(|_| length.draw(&mut drawn)).collect(), 0.0),
            Size::Share(share) => (Vec::new(), *share),
        };
        let cumulative = if self.zipf > 0.0 { zipf(self.groups as usize, self.zipf) } else { Vec::new() };
        let stream = Draws::new(seed, Purpose::Prefixes);
        PrefixDraws { stream, cumulative, lengths, groups: self.groups, share }
    }
}

impl PrefixDraws {
    /// What a request with this prompt shares.
    pub fn draw(&mut self, prompt: u32) -> Shared {
        let group = if self.cumulative.is_empty() {
            self.stream.below(u64::from(self.groups)) as usize
        } else {
            self.stream.weighted(&self.cumulative)
        };
        let added = self.lengths.get(group).copied();
        let tokens = added.unwrap_or((self.share * f64::from(prompt)).floor() as u32);
        Shared { group: group as u32, added: added.unwrap_or(0), tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(size: Size, groups: u32, zipf: f64) -> Prefixes {
        Prefixes { size, groups, zipf, block_size: 16 }
    }

    #[test]
    fn a_group_has_one_length() {
        let length = Length::parse("prefix_len", "100:200").unwrap();
        let mut stream = prefixes(Size::Tokens(length), 3, 0.0).stream(1);
        let mut of_group = [0; 3];
        for _ in 0..100 {
            let shared = stream.draw(10);
            assert!((100..=200).contains(&shared.tokens) && shared.added == shared.tokens);
            let known = &mut of_group[shared.group as usize];
            assert!(*known == 0 || *known == shared.tokens);
            *known = shared.tokens;
        }
        assert!(of_group.iter().all(|tokens| *tokens > 0));
    }

    #[test]
    fn a_share_adds_nothing() {
        let mut stream = prefixes(Size::Share(0.5), 1, 0.0).stream(1);
        assert_eq!(stream.draw(1001), Shared { group: 0, added: 0, tokens: 500 });
    }

    #[test]
    fn zipf_uses_the_first_group_most() {
        let mut stream = prefixes(Size::Share(0.5), 2, 1.0).stream(1);
        let first = (0..3000).filter(|_| stream.draw(10).group == 0).count();
        assert!((1900..2100).contains(&first), "{first}");
    }

    #[test]
    fn there_must_be_groups_and_tokens_in_blocks() {
        let none = prefixes(Size::Share(0.5), 0, 0.0).check().unwrap_err();
        assert_eq!(none.to_string(), "prefix_groups must be between 1 and 100000000: 0");
        let empty = Prefixes { block_size: 0, ..prefixes(Size::Share(0.5), 1, 0.0) };
        assert_eq!(
            empty.check().unwrap_err().to_string(),
            "trace_block_size must be between 1 and 4294967295: 0"
        );
    }
}
