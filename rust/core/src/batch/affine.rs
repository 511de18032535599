//! Straight lines over columns of sums, and the loops that evaluate them over a block of points.

pub use crate::per_step::BLOCK;
pub(super) use crate::per_step::{PerStep, visited};
use crate::shape::MAX_REACHES;

/// Decoding sequences.
pub(super) const DECODES: usize = 0;
/// Keys that decoding sequences reach, by reach; a decoding token makes as many pairs.
pub(super) const DECODE_KEYS: usize = 1;
/// Prompts.
pub(super) const PROMPTS: usize = DECODE_KEYS + MAX_REACHES;
/// Prompt tokens.
pub(super) const PROMPT_TOKENS: usize = PROMPTS + 1;
/// (query, key) pairs of prompts, by reach.
pub(super) const PROMPT_PAIRS: usize = PROMPT_TOKENS + 1;
/// Keys that prompts read, by reach.
pub(super) const PROMPT_KEYS: usize = PROMPT_PAIRS + MAX_REACHES;
/// Scores of prompts where nothing is skipped.
pub(super) const PROMPT_AREA: usize = PROMPT_KEYS + MAX_REACHES;
/// From here on: shares of experts that a step visits.
pub(super) const VISITED: usize = PROMPT_AREA + 1;
/// Most columns: a program has at most eight different shares of experts.
pub(super) const COLUMNS: usize = VISITED + 8;

/// A block's columns, by the constants above.
pub(super) type Columns = Vec<PerStep>;

/// Columns for one block.
pub(super) fn columns(count: usize) -> Columns {
    vec![[0.0; BLOCK]; count]
}

/// Whether a column depends on how long contexts are, and not on counts alone.
pub(super) fn grows(column: usize) -> bool {
    (DECODE_KEYS..PROMPTS).contains(&column) || (PROMPT_PAIRS..=PROMPT_AREA).contains(&column)
}

/// A constant and coefficients of columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Affine {
    pub(super) fixed: f64,
    pub(super) terms: Vec<(usize, f64)>,
}

impl Affine {
    /// Adds a coefficient.
    pub(super) fn add(&mut self, column: usize, coefficient: f64) {
        if coefficient == 0.0 {
            return;
        }
        match self.terms.iter_mut().find(|(known, _)| *known == column) {
            Some((_, sum)) => *sum += coefficient,
            None => self.terms.push((column, coefficient)),
        }
    }

    /// Adds `times` another one.
    pub(super) fn plus(&mut self, other: &Affine, times: f64) {
        self.fixed += other.fixed * times;
        for (column, coefficient) in &other.terms {
            self.add(*column, coefficient * times);
        }
    }

    /// `times` as much.
    pub(super) fn times(&self, times: f64) -> Affine {
        let mut product = Affine::default();
        product.plus(self, times);
        product
    }

    /// The coefficient of a column.
    pub(super) fn of(&self, column: usize) -> f64 {
        self.terms.iter().find(|(known, _)| *known == column).map_or(0.0, |(_, coefficient)| *coefficient)
    }

    /// Whether it is nothing whatever the columns hold.
    pub(super) fn is_zero(&self) -> bool {
        self.fixed == 0.0 && self.terms.is_empty()
    }

    /// Whether it depends on how long contexts are.
    pub(super) fn grows(&self) -> bool {
        self.terms.iter().any(|(column, _)| grows(*column))
    }

    /// Whether it is at least `other` for all columns that are not negative.
    pub(super) fn covers(&self, other: &Affine) -> bool {
        self.fixed >= other.fixed
            && other.terms.iter().all(|(column, coefficient)| self.of(*column) >= *coefficient)
            && self.terms.iter().all(|(column, coefficient)| *coefficient >= other.of(*column))
    }

    /// Its value for each of the first `out.len()` points.
    pub(super) fn fill(&self, out: &mut [f64], columns: &[PerStep]) {
        let count = out.len();
        let fixed = self.fixed;
        let lane = |column: usize| &columns[column][..count];
        let rest = match *self.terms {
            [] => {
                out.fill(fixed);
                &[][..]
            }
            [(a, x)] => {
                out.iter_mut().zip(lane(a)).for_each(|(out, a)| *out = fixed + x * a);
                &[][..]
            }
            [(a, x), (b, y), ..] => {
                for ((out, a), b) in out.iter_mut().zip(lane(a)).zip(lane(b)) {
                    *out = fixed + x * a + y * b;
                }
                &self.terms[2..]
            }
        };
        for &(column, coefficient) in rest {
            out.iter_mut().zip(lane(column)).for_each(|(out, a)| *out += coefficient * a);
        }
    }

    /// Its value for one point.
    pub(super) fn at(&self, value: impl Fn(usize) -> f64) -> f64 {
        self.terms.iter().fold(self.fixed, |sum, (column, coefficient)| sum + coefficient * value(*column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_form_is_the_same_over_a_block_and_at_a_point(
            fixed in 0.0f64..9.0, terms in prop::collection::vec((0usize..6, 0.0f64..9.0), 0..6),
        ) {
            let mut form = Affine { fixed, terms: Vec::new() };
            terms.iter().for_each(|&(column, coefficient)| form.add(column, coefficient));
            let mut lanes = columns(6);
            for (index, lane) in lanes.iter_mut().enumerate() {
                lane.iter_mut().enumerate().for_each(|(at, value)| *value = (index * 31 + at * 7) as f64);
            }
            let mut out = [0.0; 5];
            form.fill(&mut out, &lanes);
            for (at, value) in out.iter().enumerate() {
                let expected = form.at(|column| lanes[column][at]);
                prop_assert!((value - expected).abs() <= 1e-13 * expected);
            }
        }
    }
}
