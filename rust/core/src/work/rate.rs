//! A quantity as coefficients of a step's sums, and which of the sums it depends on.

use crate::per_step::Part;
use crate::shape::PhaseSums;
use crate::straight::Straight;

/// A quantity that is linear in a step's sums.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Once a step in which the operator runs at all.
    pub fixed: f64,
    /// Per new token.
    pub token: f64,
    /// Per row whose logits are needed.
    pub logit: f64,
    /// Per sequence.
    pub sequence: f64,
    /// Per (query, key) pair of the operator's reach.
    pub pair: f64,
    /// Per key read, of the operator's reach.
    pub key: f64,
    /// Per score of a kernel that does not skip what the mask hides.
    pub area: f64,
}

impl Rate {
    /// Nothing.
    pub const ZERO: Rate =
        Rate { fixed: 0.0, token: 0.0, logit: 0.0, sequence: 0.0, pair: 0.0, key: 0.0, area: 0.0 };

    /// Once a step.
    pub const fn fixed(value: f64) -> Rate {
        Rate { fixed: value, ..Rate::ZERO }
    }

    /// Per new token.
    pub const fn token(value: f64) -> Rate {
        Rate { token: value, ..Rate::ZERO }
    }

    /// Per row whose logits are needed.
    pub const fn logit(value: f64) -> Rate {
        Rate { logit: value, ..Rate::ZERO }
    }

    /// Whether it depends on how long contexts are, and not on counts alone.
    pub fn grows_with_context(&self) -> bool {
        self.pair != 0.0 || self.key != 0.0 || self.area != 0.0
    }

    /// Whether it depends on tokens, if anything.
    pub fn is_by_token(&self) -> bool {
        *self == Rate { fixed: self.fixed, token: self.token, ..Rate::ZERO }
    }

    /// Its value for the sums of one phase and one reach.
    pub fn of(&self, sums: &PhaseSums, reach: usize) -> f64 {
        let attention = &sums.reach[reach];
        self.fixed
            + self.token * sums.tokens
            + self.logit * sums.logits
            + self.sequence * sums.sequences
            + self.pair * attention.pairs
            + self.key * attention.keys
            + self.area * attention.area
    }

    /// Its value where so many sequences decode alone, over the keys that they read.
    pub(crate) fn over_keys(&self, sequences: f64) -> Straight {
        let counts = self.token + self.logit + self.sequence;
        Straight { key: self.pair + self.key + self.area, ..Straight::fixed(self.fixed + counts * sequences) }
    }

    /// Which counts of a step it depends on.
    pub(super) fn counts(&self) -> Counts {
        Counts { tokens: self.token != 0.0, logits: self.logit != 0.0, sequences: self.sequence != 0.0 }
    }

    /// Its value for each of the first `out.len()` steps, as [`Rate::of`] says of one.
    pub fn of_each(&self, part: &Part, reach: usize, out: &mut [f64]) {
        let attention = &part.reach[reach];
        out.fill(self.fixed);
        for (rate, lane) in [
            (self.token, &part.tokens),
            (self.logit, &part.logits),
            (self.sequence, &part.sequences),
            (self.pair, &attention.pairs),
            (self.key, &attention.keys),
            (self.area, &attention.area),
        ] {
            if rate != 0.0 {
                out.iter_mut().zip(lane).for_each(|(out, value)| *out += rate * value);
            }
        }
    }

    /// Every coefficient times `factor`.
    #[must_use]
    pub fn times(self, factor: f64) -> Rate {
        Rate {
            fixed: self.fixed * factor,
            token: self.token * factor,
            logit: self.logit * factor,
            sequence: self.sequence * factor,
            pair: self.pair * factor,
            key: self.key * factor,
            area: self.area * factor,
        }
    }
}

impl std::ops::Add for Rate {
    type Output = Rate;
    fn add(self, other: Rate) -> Rate {
        Rate {
            fixed: self.fixed + other.fixed,
            token: self.token + other.token,
            logit: self.logit + other.logit,
            sequence: self.sequence + other.sequence,
            pair: self.pair + other.pair,
            key: self.key + other.key,
            area: self.area + other.area,
        }
    }
}

/// Counts of a step that a price depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// New tokens.
    pub(crate) tokens: bool,
    /// Rows whose logits are needed.
    pub(crate) logits: bool,
    /// Sequences.
    pub(crate) sequences: bool,
}

impl Counts {
    pub(super) fn or(self, other: Counts) -> Counts {
        Counts {
            tokens: self.tokens || other.tokens,
            logits: self.logits || other.logits,
            sequences: self.sequences || other.sequences,
        }
    }
}
