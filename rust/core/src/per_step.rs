//! The sums of many steps side by side: what [`shape`](crate::shape) says of one step, a number a step.

use crate::model::Span;
use crate::shape::{MAX_REACHES, Reach};

/// Steps that are priced together: their numbers stay in the processor's nearest caches.
pub const BLOCK: usize = 256;

/// One number a step.
pub type PerStep = [f64; BLOCK];

/// Attention of one reach, as [`ReachSums`](crate::shape::ReachSums).
#[derive(Debug, Clone)]
pub struct ReachPerStep {
    /// (query, key) pairs.
    pub pairs: PerStep,
    /// Keys read once each.
    pub keys: PerStep,
    /// Scores of a kernel that does not skip what the mask hides.
    pub area: PerStep,
}

/// Sums over the sequences of one phase, as [`PhaseSums`](crate::shape::PhaseSums).
#[derive(Debug, Clone)]
pub struct Part {
    /// New tokens.
    pub tokens: PerStep,
    /// Sequences.
    pub sequences: PerStep,
    /// Rows whose logits are needed.
    pub logits: PerStep,
    /// Keys of the longest sequence after the step.
    pub longest: PerStep,
    /// Attention, per reach of the model.
    pub reach: [ReachPerStep; MAX_REACHES],
}

/// The sums of a block of steps as operators read them; `None` where nobody is of that phase in any of them.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Prompt tokens and their attention.
    pub prefill: Option<&'a Part>,
    /// Decoding sequences and their attention.
    pub decode: Option<&'a Part>,
    /// Both.
    pub all: &'a Part,
}

impl Default for Part {
    fn default() -> Part {
        let zeros = [0.0; BLOCK];
        let reach = ReachPerStep { pairs: zeros, keys: zeros, area: zeros };
        Part {
            tokens: zeros,
            sequences: zeros,
            logits: zeros,
            longest: zeros,
            reach: std::array::from_fn(|_| reach.clone()),
        }
    }
}

impl Part {
    /// Fills in the steps in which `sequences` bring `new` tokens each on top of `context` tokens in their caches;
    /// `sampled` of them need logits. The same as [`Reaches::add_item`](crate::shape::Reaches::add_item) for each; areas only
    /// where something reads `areas`.
    pub fn fill<'a>(
        &mut self,
        reaches: impl Iterator<Item = &'a Reach>,
        sequences: &[u64],
        new: &[u64],
        context: &[u64],
        sampled: impl Fn(u64) -> u64,
        areas: bool,
    ) {
        let items = || sequences.iter().zip(new).zip(context);
        let counts = self.tokens.iter_mut().zip(&mut self.sequences).zip(&mut self.logits);
        for (((tokens, count), logits), (sequences, new)) in counts.zip(sequences.iter().zip(new)) {
            *count = *sequences as f64;
            *tokens = *count * *new as f64;
            *logits = *count * sampled(*new) as f64;
        }
        for (longest, ((_, new), context)) in self.longest.iter_mut().zip(items()) {
            *longest = (context + new) as f64;
        }
        for (reach, seen) in reaches.zip(&mut self.reach) {
            let sums = seen.pairs.iter_mut().zip(&mut seen.keys);
            let each = sums.zip(self.sequences.iter().zip(new.iter().zip(context)));
            // Told apart outside the loop, so that the common reach is a loop without branches.
            if (reach.span, reach.causal) == (Span::Full, true) {
                for ((pairs, keys), (count, (new, context))) in each {
                    let (new, context) = (*new as f64, *context as f64);
                    *pairs = count * (new * (context + (new + 1.0) / 2.0));
                    *keys = count * (context + new);
                }
            } else {
                for ((pairs, keys), (count, (new, context))) in each {
                    let (own_pairs, own_keys) = reach.sums(*new, *context);
                    (*pairs, *keys) = (count * own_pairs, count * own_keys);
                }
            }
            if areas {
                let each = seen.area.iter_mut().zip(self.sequences.iter().zip(new.iter().zip(context)));
                for (area, (count, (new, context))) in each {
                    *area = count * *new as f64 * (context + new) as f64;
                }
            }
        }
    }

    /// Fills in the first `count` steps with the sums of two other parts together, over so many reaches.
    pub fn add_up(&mut self, one: &Part, other: &Part, reaches: usize, count: usize) {
        let add = |sum: &mut PerStep, a: &PerStep, b: &PerStep| {
            sum[..count].iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum = a + b);
        };
        add(&mut self.tokens, &one.tokens, &other.tokens);
        add(&mut self.sequences, &one.sequences, &other.sequences);
        add(&mut self.logits, &one.logits, &other.logits);
        let longest = self.longest[..count].iter_mut().zip(&one.longest).zip(&other.longest);
        longest.for_each(|((sum, a), b)| *sum = a.max(*b));
        for (sum, (a, b)) in self.reach.iter_mut().zip(one.reach.iter().zip(&other.reach)).take(reaches) {
            add(&mut sum.pairs, &a.pairs, &b.pairs);
            add(&mut sum.keys, &a.keys, &b.keys);
            add(&mut sum.area, &a.area, &b.area);
        }
    }
}

/// `1 − e^(rate·x)` of each `x`, for rates below zero: the share of experts that a step visits.
///
/// The exponential is 2^k·e^r with |r| ≤ ln 2 / 2, and e^r a polynomial, because a loop over the library's function
/// cannot be vectorised. Its error is below 1e-15 of the exponential.
pub fn visited(out: &mut [f64], x: &[f64], rate: f64) {
    /// Adding it leaves a number's nearest whole one in the lowest bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    /// `1/n!`.
    const SERIES: [f64; 13] = {
        let (mut series, mut n) = ([1.0; 13], 1);
        while n < series.len() {
            series[n] = series[n - 1] / n as f64;
            n += 1;
        }
        series
    };
    for (out, x) in out.iter_mut().zip(x) {
        let y = (rate * x).max(-700.0);
        let shifted = y * std::f64::consts::LOG2_E + SHIFT;
        let k = shifted - SHIFT;
        let r = (y - k * LN_2_HIGH) - k * LN_2_LOW;
        let e = SERIES.iter().rev().fold(0.0, |sum, term| sum * r + term);
        let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
        *out = 1.0 - e * power;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Phase, Reaches, Sums};
    use proptest::prelude::*;

    fn reaches(size: u64) -> Reaches {
        let mut reaches = Reaches::of(&crate::catalog::models::model("llama-3.1-8b").unwrap()).unwrap();
        for (span, causal) in
            [(Span::Window(size), true), (Span::Chunk(size), true), (Span::Window(size), false)]
        {
            reaches.extend(Reach { span, causal }).unwrap();
        }
        reaches
    }

    proptest! {
        #[test]
        fn the_share_visited_is_that_of_the_power(missed in 0.0f64..0.9999, tokens in 1.0f64..20_000.0) {
            let mut share = [0.0];
            visited(&mut share, &[tokens], missed.ln());
            let expected = 1.0 - missed.powf(tokens);
            prop_assert!((share[0] - expected).abs() <= 1e-12 * expected, "{} {expected}", share[0]);
        }

        #[test]
        fn a_block_holds_the_sums_of_each_step(
            items in prop::collection::vec((1u64..90, 1u64..40, 0u64..300), 1..9), size in 1u64..60,
        ) {
            let reaches = reaches(size);
            let column = |of: fn(&(u64, u64, u64)) -> u64| items.iter().map(of).collect::<Vec<u64>>();
            let (sequences, new, context) = (column(|i| i.0), column(|i| i.1), column(|i| i.2));
            let mut part = Part::default();
            part.fill(reaches.iter(), &sequences, &new, &context, |new| new, true);
            let mut both = Part::default();
            both.add_up(&part, &part, reaches.iter().count(), items.len());
            for (at, (sequences, new, context)) in items.into_iter().enumerate() {
                let mut sums = Sums::default();
                reaches.add_item(&mut sums, Phase::Decode, sequences as f64, new, context, new);
                let one = sums.decode;
                prop_assert_eq!((part.tokens[at], part.sequences[at]), (one.tokens, one.sequences));
                prop_assert_eq!((part.logits[at], part.longest[at]), (one.logits, one.longest));
                prop_assert_eq!(both.longest[at], one.longest);
                for (found, sums) in part.reach.iter().zip(one.reach) {
                    let seen = (found.pairs[at], found.keys[at], found.area[at]);
                    prop_assert_eq!(seen, (sums.pairs, sums.keys, sums.area));
                }
                for (found, sums) in both.reach.iter().zip(one.reach) {
                    prop_assert_eq!(found.keys[at], 2.0 * sums.keys);
                }
            }
        }
    }
}
