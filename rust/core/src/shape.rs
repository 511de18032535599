//! What a step processes, as sums: pricing reads these and never the list of requests.

use crate::error::{Error, Result};
use crate::model::{Attention, Mixer, Model, Span};

/// Most distinct attention reaches one deployment may mix: a model's (Gemma 4 and its vision tower mix three), and those of
/// techniques that give layers budgets of their own.
pub const MAX_REACHES: usize = 8;

/// Which keys a query reaches: a span, and whether later tokens are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// What a query sees.
    pub span: Span,
    /// Whether later tokens are hidden.
    pub causal: bool,
}

/// The distinct reaches of a model; the first is always causal and full.
#[derive(Debug, Clone, PartialEq)]
pub struct Reaches(Vec<Reach>);

impl Reaches {
    /// Collects them from the layers.
    ///
    /// # Errors
    /// A model that mixes more than [`MAX_REACHES`].
    pub fn of(model: &Model) -> Result<Reaches> {
        let mut reaches = Reaches(vec![Reach { span: Span::Full, causal: true }]);
        let tower = model.vision.iter().flat_map(|tower| &tower.layers);
        for group in model.layers.iter().chain(tower) {
            match &group.mixer {
                Some(Mixer::Attention(Attention { span, causal, .. })) => {
                    reaches.add(Reach { span: *span, causal: *causal });
                }
                Some(Mixer::Mla(mla)) => {
                    let span = mla.indexer.as_ref().map_or(mla.span, |indexer| Span::TopK(indexer.top_k));
                    reaches.add(Reach { span, causal: true });
                }
                _ => {}
            }
        }
        reaches.check()?;
        Ok(reaches)
    }

    fn add(&mut self, reach: Reach) {
        if !self.0.contains(&reach) {
            self.0.push(reach);
        }
    }

    fn check(&self) -> Result<()> {
        if self.0.len() > MAX_REACHES {
            return Err(Error::spec(
                "model.layers",
                format!("must mix at most {MAX_REACHES} kinds of attention span"),
                self.0.len(),
                "",
            ));
        }
        Ok(())
    }

    /// Where `reach` stands, added if it is new.
    ///
    /// # Errors
    /// More than [`MAX_REACHES`].
    pub fn extend(&mut self, reach: Reach) -> Result<usize> {
        self.add(reach);
        self.check()?;
        Ok(self.index(reach))
    }

    /// Every reach, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Reach> {
        self.0.iter()
    }

    /// Where `reach` stands, or 0 (full) if it is not among them.
    pub fn index(&self, reach: Reach) -> usize {
        self.0.iter().position(|known| *known == reach).unwrap_or(0)
    }

    /// Sums of an empty step.
    pub fn empty(&self) -> Sums {
        Sums::default()
    }

    /// Adds `count` sequences that each bring `new` tokens on top of `context` tokens already in their cache.
    pub fn add_item(&self, sums: &mut Sums, phase: Phase, count: f64, new: u64, context: u64, sampled: u64) {
        let part = match phase {
            Phase::Prefill => &mut sums.prefill,
            Phase::Decode => &mut sums.decode,
        };
        part.tokens += count * new as f64;
        part.sequences += count;
        part.logits += count * sampled as f64;
        part.longest = part.longest.max((context + new) as f64);
        for (reach, sum) in self.0.iter().zip(&mut part.reach) {
            let (pairs, keys) = reach.sums(new, context);
            sum.pairs += count * pairs;
            sum.keys += count * keys;
            sum.area += count * new as f64 * (context + new) as f64;
        }
    }

    /// Adds `count` sequences that each continue their answer by one token, `context` tokens in their caches together:
    /// and `longest` of them in the fullest: the same as [`Reaches::add_item`] for each of `contexts`, which is asked
    /// only where a reach is not full.
    pub fn add_decodes<I: Iterator<Item = u64>>(
        &self,
        sums: &mut Sums,
        count: u64,
        context: u64,
        longest: u64,
        contexts: impl Fn() -> I,
    ) {
        let part = &mut sums.decode;
        part.tokens += count as f64;
        part.sequences += count as f64;
        part.logits += count as f64;
        if count > 0 {
            part.longest = part.longest.max((longest + 1) as f64);
        }
        let all = (context + count) as f64;
        for (reach, sum) in self.0.iter().zip(&mut part.reach) {
            let (pairs, keys) = match reach.span {
                Span::Full => (all, all),
                _ => contexts()
                    .map(|context| reach.sums(1, context))
                    .fold((0.0, 0.0), |(pairs, keys), one| (pairs + one.0, keys + one.1)),
            };
            sum.pairs += pairs;
            sum.keys += keys;
            sum.area += all;
        }
    }

    /// Whether every query reaches all keys before it: then sums over contexts are linear in their sum.
    pub fn are_full(&self) -> bool {
        self.0.iter().all(|reach| reach.span == Span::Full)
    }
}

impl Reach {
    /// (query, key) pairs, and distinct keys read, of `q` new tokens on top of `c` in the cache (causal
    /// attention counts `q·(c + (q+1)/2)` pairs, not `q·(c+q)`).
    pub fn sums(self, q: u64, c: u64) -> (f64, f64) {
        let (new, context) = (q as f64, c as f64);
        if !self.causal {
            return bidirectional(self.span, new, context);
        }
        match self.span {
            Span::Full => (new * (context + (new + 1.0) / 2.0), context + new),
            Span::Window(w) => {
                let w = w as f64;
                (capped_pairs(new, context, w), (context + new).min(w + new - 1.0))
            }
            Span::TopK(k) => {
                let pairs = capped_pairs(new, context, k as f64);
                (pairs, (context + new).min(pairs))
            }
            Span::Chunk(size) => {
                let upto = |n: u64| {
                    let (whole, rest) = ((n / size) as f64, (n % size) as f64);
                    let size = size as f64;
                    whole * size * (size + 1.0) / 2.0 + rest * (rest + 1.0) / 2.0
                };
                (upto(c + q) - upto(c), (c + q - c / size * size) as f64)
            }
        }
    }
}

/// Σ_{j=1..q} min(c + j, w).
fn capped_pairs(q: f64, c: f64, w: f64) -> f64 {
    let growing = (w - c).clamp(0.0, q);
    growing * c + growing * (growing + 1.0) / 2.0 + (q - growing) * w
}

/// Every query sees both sides: within half a window each way where there is one, within its chunk where there are
/// chunks (the windows of a vision tower).
fn bidirectional(span: Span, q: f64, c: f64) -> (f64, f64) {
    match span {
        Span::Window(w) if (w as f64) < c + q => {
            let half = (w as f64 / 2.0).floor().min(q - 1.0).max(0.0);
            let one_side = half * (half - 1.0) / 2.0 + (q - half) * half;
            (q + 2.0 * one_side, c + q)
        }
        Span::Chunk(size) => {
            let size = size as f64;
            let opened = (c / size).floor() * size;
            let (whole, rest) = (((c + q - opened) / size).floor(), (c + q - opened) % size);
            let before = c - opened;
            let absent = before * if whole > 0.0 { size } else { rest };
            (whole * size * size + rest * rest - absent, c + q - opened)
        }
        _ => (q * (c + q), c + q),
    }
}

/// The two kinds of work a sequence brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Prompt tokens.
    Prefill,
    /// One token (and drafts, if any) after the prompt.
    Decode,
}

/// Sums over the attention of one reach.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReachSums {
    /// (query, key) pairs.
    pub pairs: f64,
    /// Keys (and values) read once each.
    pub keys: f64,
    /// Σ q·(c + q): scores that a kernel writes which does not skip what the mask hides.
    pub area: f64,
}

/// Sums over the sequences of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PhaseSums {
    /// New tokens.
    pub tokens: f64,
    /// Sequences.
    pub sequences: f64,
    /// Rows whose logits are needed.
    pub logits: f64,
    /// Keys of the longest sequence after the step.
    pub longest: f64,
    /// Attention, per reach of the model.
    pub reach: [ReachSums; MAX_REACHES],
}

/// What a step processes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// Prompt tokens and their attention.
    pub prefill: PhaseSums,
    /// Decoding sequences and their attention.
    pub decode: PhaseSums,
}

impl PhaseSums {
    /// A phase in which nobody takes part.
    pub const NOBODY: PhaseSums = PhaseSums {
        tokens: 0.0,
        sequences: 0.0,
        logits: 0.0,
        longest: 0.0,
        reach: [ReachSums { pairs: 0.0, keys: 0.0, area: 0.0 }; MAX_REACHES],
    };

    fn plus(&self, other: &PhaseSums) -> PhaseSums {
        let mut sum = *self;
        sum.tokens += other.tokens;
        sum.sequences += other.sequences;
        sum.logits += other.logits;
        sum.longest = sum.longest.max(other.longest);
        for (mine, theirs) in sum.reach.iter_mut().zip(&other.reach) {
            mine.pairs += theirs.pairs;
            mine.keys += theirs.keys;
            mine.area += theirs.area;
        }
        sum
    }
}

/// The sums of a step as operators read them: of prompts, of decoding sequences, and of both together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts<'a> {
    /// Prompt tokens and their attention.
    pub prefill: &'a PhaseSums,
    /// Decoding sequences and their attention.
    pub decode: &'a PhaseSums,
    /// Both.
    pub all: &'a PhaseSums,
}

impl Sums {
    /// The same as operators read them; `all` is [`Sums::all`], added up once for all operators.
    pub fn parts<'a>(&'a self, all: &'a PhaseSums) -> Parts<'a> {
        Parts { prefill: &self.prefill, decode: &self.decode, all }
    }

    /// Prefill and decode together.
    pub fn all(&self) -> PhaseSums {
        self.prefill.plus(&self.decode)
    }

    /// Whether nothing is processed.
    pub fn is_empty(&self) -> bool {
        self.prefill.tokens + self.decode.tokens == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(reach: Reach, q: u64, c: u64) -> (f64, f64) {
        let mut pairs = 0;
        let mut keys = std::collections::BTreeSet::new();
        for position in c..c + q {
            let from = match reach.span {
                Span::Full => 0,
                Span::Window(w) => (position + 1).saturating_sub(w),
                Span::Chunk(size) => position / size * size,
                Span::TopK(k) => (position + 1).saturating_sub(k),
            };
            pairs += position + 1 - from;
            keys.extend(from..=position);
        }
        (pairs as f64, keys.len() as f64)
    }

    proptest! {
        #[test]
        fn closed_forms_equal_counting_every_pair(q in 1u64..60, c in 0u64..90, size in 1u64..50) {
            for span in [Span::Full, Span::Window(size), Span::Chunk(size)] {
                let reach = Reach { span, causal: true };
                prop_assert_eq!(reach.sums(q, c), counted(reach, q, c));
            }
            let top = Reach { span: Span::TopK(size), causal: true };
            prop_assert_eq!(top.sums(q, c).0, counted(top, q, c).0);
        }

        #[test]
        fn decoding_sequences_add_up_one_by_one_or_together(
            contexts in prop::collection::vec(0u64..90, 0..20), size in 1u64..50,
        ) {
            let spans = [Span::Full, Span::Window(size), Span::Chunk(size), Span::TopK(size)];
            let reaches = Reaches(spans.map(|span| Reach { span, causal: true }).to_vec());
            let (mut together, mut apart) = (Sums::default(), Sums::default());
            let all = || contexts.iter().copied();
            let longest = all().max().unwrap_or(0);
            reaches.add_decodes(&mut together, contexts.len() as u64, all().sum(), longest, all);
            for context in all() {
                reaches.add_item(&mut apart, Phase::Decode, 1.0, 1, context, 1);
            }
            prop_assert_eq!(together.decode, apart.decode);
        }

        #[test]
        fn splitting_a_prompt_into_chunks_keeps_its_pairs(q in 2u64..500, cut in 1u64..499, size in 1u64..300) {
            prop_assume!(cut < q);
            for span in [Span::Full, Span::Window(size), Span::Chunk(size), Span::TopK(size)] {
                let reach = Reach { span, causal: true };
                prop_assert_eq!(reach.sums(q, 0).0, reach.sums(cut, 0).0 + reach.sums(q - cut, cut).0);
            }
        }

        #[test]
        fn a_two_sided_window_equals_counting(q in 1u64..80, w in 1u64..60) {
            let half = w / 2;
            let counted: u64 = (0..q).map(|i| (i + half).min(q - 1) + 1 - i.saturating_sub(half)).sum();
            let reach = Reach { span: Span::Window(w), causal: false };
            let expected = if w < q { counted } else { q * q };
            prop_assert_eq!(reach.sums(q, 0).0, expected as f64);
        }
    }

    proptest! {
        #[test]
        fn a_two_sided_chunk_equals_counting(q in 1u64..80, c in 0u64..60, size in 1u64..40) {
            let seen = |position: u64| (position / size * size + size).min(c + q) - position / size * size;
            let counted: u64 = (c..c + q).map(seen).sum();
            let reach = Reach { span: Span::Chunk(size), causal: false };
            prop_assert_eq!(reach.sums(q, c), (counted as f64, (c + q - c / size * size) as f64));
        }
    }

    #[test]
    fn a_decode_token_sees_its_context_and_itself() {
        let reach = Reach { span: Span::Full, causal: true };
        assert_eq!(reach.sums(1, 2048), (2049.0, 2049.0));
        assert_eq!(reach.sums(2048, 0), (2048.0 * 2049.0 / 2.0, 2048.0));
    }
}
