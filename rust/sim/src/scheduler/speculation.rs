//! Speculative decoding as the scheduler sees it: draft tokens to verify, and how many of them are accepted.

use roofline_core::error::{Error, Result};
use roofline_core::names;

/// Where drafts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DraftMethod {
    /// Looked up in the text so far.
    Ngram,
    /// A smaller model.
    DraftModel,
    /// EAGLE heads.
    Eagle,
    /// A multi-token-prediction module of the model itself.
    Mtp,
}

impl DraftMethod {
    const ALL: [(&'static str, DraftMethod); 4] = [
        ("ngram", DraftMethod::Ngram),
        ("draft-model", DraftMethod::DraftModel),
        ("eagle", DraftMethod::Eagle),
        ("mtp", DraftMethod::Mtp),
    ];

    /// The method of that name.
    ///
    /// # Errors
    /// An unknown name, with the nearest known ones.
    pub fn parse(name: &str) -> Result<DraftMethod> {
        let plain = names::normalise(name);
        let known = DraftMethod::ALL.iter().find(|(known, _)| *known == plain);
        known.map(|&(_, method)| method).ok_or_else(|| {
            names::unknown("speculation method", name, DraftMethod::ALL.iter().map(|(known, _)| *known))
        })
    }
}

/// How many drafts a verification accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum Acceptance {
    /// `(request_factor·i + count_factor·v) mod (drafts + 1)` at the `v`-th verification of request `i`: no chance in it.
    Pattern {
        /// Factor of the request's row.
        request_factor: u64,
        /// Factor of the number of its verifications so far.
        count_factor: u64,
    },
    /// The chance that the draft at each position is accepted, given that those before it were; the last one given
    /// stands for all further positions. Drawn from `seed`, the request and the verification, whatever the order.
    Chance {
        /// Chances, 0 to 1; at least one.
        positions: Vec<f64>,
        /// The seed of the draws.
        seed: u64,
    },
}

/// Speculative decoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Speculation {
    /// Where drafts come from.
    pub method: DraftMethod,
    /// Draft tokens a step.
    pub tokens: u32,
    /// How many are accepted.
    pub acceptance: Acceptance,
}

impl Speculation {
    /// KV slots reserved beyond the tokens of a step.
    pub fn lookahead(&self) -> u32 {
        if self.method == DraftMethod::Ngram { 0 } else { self.tokens }
    }

    /// Tokens after a block that are part of its prefix.
    pub fn hash_lookahead(&self) -> u32 {
        u32::from(matches!(self.method, DraftMethod::Eagle | DraftMethod::Mtp))
    }

    /// Inputs a sequence takes beyond its tokens.
    pub fn draft_slots(&self) -> u32 {
        u32::from(self.method == DraftMethod::DraftModel)
    }

    /// Drafts accepted of `verified`, at the `count`-th verification of request `request`.
    pub fn accepted(&self, request: u32, count: u32, verified: u32) -> u32 {
        match &self.acceptance {
            Acceptance::Pattern { request_factor, count_factor } => {
                let value = request_factor * u64::from(request) + count_factor * u64::from(count);
                verified.min((value % (u64::from(self.tokens) + 1)) as u32)
            }
            Acceptance::Chance { positions, seed } => {
                let mut state = mix(seed ^ mix((u64::from(request) << 32) | u64::from(count)));
                let accepted = (0..verified).take_while(|&position| {
                    state = mix(state);
                    let draw = (state >> 11) as f64 / (1u64 << 53) as f64;
                    draw < positions.get(position as usize).or(positions.last()).copied().unwrap_or(0.0)
                });
                accepted.count() as u32
            }
        }
    }

    /// What is wrong with these settings.
    pub(super) fn mistakes(&self) -> Vec<Error> {
        let mut mistakes = Vec::new();
        if self.tokens == 0 {
            let hint = "leave speculation out to run without it";
            mistakes.push(Error::spec("num_speculative_tokens", "must be at least 1", 0, hint));
        }
        if let Acceptance::Chance { positions, .. } = &self.acceptance
            && (positions.is_empty() || positions.iter().any(|chance| !(0.0..=1.0).contains(chance)))
        {
            let must = "must be one chance or one a position, each from 0 to 1";
            mistakes.push(Error::spec("spec_acceptance", must, format!("{positions:?}"), ""));
        }
        mistakes
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a number that looks random for each number.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chance(positions: Vec<f64>) -> Speculation {
        let acceptance = Acceptance::Chance { positions, seed: 3 };
        Speculation { method: DraftMethod::Eagle, tokens: 4, acceptance }
    }

    #[test]
    fn drawn_acceptance_has_the_chance_it_was_given() {
        let speculation = chance(vec![0.7]);
        let mean = |index: u32| {
            f64::from((0..2000).map(|v| speculation.accepted(index, v, 4)).sum::<u32>()) / 2000.0
        };
        let expected: f64 = (1..=4).map(|power| 0.7f64.powi(power)).sum();
        assert!((mean(5) - expected).abs() < 0.12, "{} {expected}", mean(5));
        assert_eq!(chance(vec![1.0]).accepted(1, 1, 3), 3);
        assert_eq!(chance(vec![1.0, 0.0]).accepted(1, 1, 3), 1);
    }

    #[test]
    fn an_unknown_method_names_the_nearest() {
        assert_eq!(DraftMethod::parse("draft_model").unwrap(), DraftMethod::DraftModel);
        let error = DraftMethod::parse("eagles").unwrap_err();
        assert!(
            error.to_string().contains("speculation method") && error.hint().contains("eagle"),
            "{error}"
        );
    }

    #[test]
    fn impossible_speculation_is_refused() {
        let none = Speculation { tokens: 0, ..chance(vec![1.5]) };
        let texts: Vec<String> = none.mistakes().iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "num_speculative_tokens must be at least 1: 0");
        assert!(texts[1].starts_with("spec_acceptance must be one chance"), "{}", texts[1]);
    }
}
