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
    /// Medusa heads, one a position.
    Medusa,
    /// EAGLE heads.
    Eagle,
    /// A multi-token-prediction module of the model itself.
    Mtp,
    /// As many modules of the model itself, one a position.
    MtpModules,
    /// A block of drafts at once, by diffusion (DFlash).
    Dflash,
}

impl DraftMethod {
    /// Those that a user names: how many modules a model has, it says itself.
    const NAMED: [DraftMethod; 6] = [
        DraftMethod::Ngram,
        DraftMethod::DraftModel,
        DraftMethod::Medusa,
        DraftMethod::Eagle,
        DraftMethod::Mtp,
        DraftMethod::Dflash,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            DraftMethod::Ngram => "ngram",
            DraftMethod::DraftModel => "draft-model",
            DraftMethod::Medusa => "medusa",
            DraftMethod::Eagle => "eagle",
            DraftMethod::Mtp | DraftMethod::MtpModules => "mtp",
            DraftMethod::Dflash => "dflash",
        }
    }

    /// The method of that name.
    ///
    /// # Errors
    /// An unknown name, with the nearest known ones.
    pub fn parse(name: &str) -> Result<DraftMethod> {
        let plain = names::normalise(name);
        let known = DraftMethod::NAMED.into_iter().find(|method| method.name() == plain);
        known.ok_or_else(|| {
            names::unknown("speculation method", name, DraftMethod::NAMED.map(DraftMethod::name))
        })
    }
}

/// Draft tokens beyond which a number is taken for a slip.
const MOST_DRAFTS: u32 = 65_536;

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

impl Acceptance {
    /// Reads `0.7`, `0.8,0.6,0.5` or `pattern:A,B`; chances are drawn from `seed`.
    ///
    /// # Errors
    /// Another form; whether chances are chances is checked with the engine's settings.
    pub fn parse(text: &str, seed: u64) -> Result<Acceptance> {
        let wrong = || {
            let must = "must be a chance, a list of one a position, or `pattern:A,B`";
            let hint =
                "for example `0.7`, `0.8,0.6` (the last holds for all further positions) or `pattern:7,3`";
            Error::spec("spec_acceptance", must, format!("`{text}`"), hint)
        };
        if let Some(factors) = text.strip_prefix("pattern:") {
            let (request, count) = factors.split_once(',').ok_or_else(wrong)?;
            let factor = |digits: &str| digits.trim().parse().map_err(|_| wrong());
            return Ok(Acceptance::Pattern {
                request_factor: factor(request)?,
                count_factor: factor(count)?,
            });
        }
        let chances = text.split(',').map(|number| number.trim().parse().map_err(|_| wrong()));
        Ok(Acceptance::Chance { positions: chances.collect::<Result<_>>()?, seed })
    }
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
    /// What a user sets of it: nothing, or a method, how many drafts, and how many of them are accepted.
    ///
    /// # Errors
    /// An unknown method; one of the three without the others.
    pub fn of(
        method: Option<&str>,
        tokens: Option<u32>,
        acceptance: Option<Acceptance>,
    ) -> Result<Option<Speculation>> {
        let Some(method) = method.filter(|method| names::normalise(method) != "none") else {
            let without = |field: &str| {
                let hint = "for example `ngram`, `eagle` or `draft-model`";
                Err(Error::spec("spec_method", format!("must be given with {field}"), "none", hint))
            };
            return match (tokens.unwrap_or(0), acceptance) {
                (0, None) => Ok(None),
                (0, Some(_)) => without("spec_acceptance"),
                _ => without("num_speculative_tokens"),
            };
        };
        let method = DraftMethod::parse(method)?;
        let absent =
            |field: &str, hint: &str| Error::spec(field, "must be given with spec_method", "absent", hint);
        let tokens =
            tokens.ok_or_else(|| absent("num_speculative_tokens", "draft tokens a step, for example 3"));
        let acceptance = acceptance
            .ok_or_else(|| absent("spec_acceptance", "the chance that a draft is accepted, for example 0.7"));
        Ok(Some(Speculation { method, tokens: tokens?, acceptance: acceptance? }))
    }

    /// The same, drafted by a model that ships so many modules of multi-token prediction.
    #[must_use]
    pub fn by_modules(self, modules: u64) -> Speculation {
        let several = self.method == DraftMethod::Mtp && modules > 1;
        Speculation { method: if several { DraftMethod::MtpModules } else { self.method }, ..self }
    }

    /// KV slots reserved beyond the tokens of a step.
    pub fn lookahead(&self) -> u32 {
        // What keeps a cache of its own writes ahead of what is verified.
        match self.method {
            DraftMethod::Ngram | DraftMethod::Medusa => 0,
            DraftMethod::Dflash => self.tokens.saturating_add(1),
            _ => self.tokens,
        }
    }

    /// Tokens after a block that are part of its prefix.
    pub fn hash_lookahead(&self) -> u32 {
        match self.method {
            DraftMethod::Eagle | DraftMethod::Mtp => 1,
            DraftMethod::MtpModules => self.tokens,
            DraftMethod::Ngram | DraftMethod::DraftModel | DraftMethod::Medusa | DraftMethod::Dflash => 0,
        }
    }

    /// Inputs a sequence takes beyond its tokens: what is drafted at once takes an input a draft, of which the last
    /// token's is one.
    pub fn draft_slots(&self) -> u32 {
        match self.method {
            DraftMethod::DraftModel => 1,
            DraftMethod::Dflash => self.tokens.saturating_sub(1),
            _ => 0,
        }
    }

    /// Drafts accepted of `verified`, at the `count`-th verification of request `request`.
    pub fn accepted(&self, request: u32, count: u32, verified: u32) -> u32 {
        match &self.acceptance {
            Acceptance::Pattern { request_factor, count_factor } => {
                let product = |factor: u64, number: u32| u128::from(factor) * u128::from(number);
                let value = product(*request_factor, request) + product(*count_factor, count);
                verified.min((value % (u128::from(self.tokens) + 1)) as u32)
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

    /// The chance that the draft at each position is accepted, given that those before it were; of a pattern, which has as
    /// many verifications that accept one number of drafts as another.
    pub fn chances(&self) -> Vec<f64> {
        let last = |positions: &[f64], place: usize| {
            positions.get(place).or(positions.last()).copied().unwrap_or(0.0)
        };
        let drafts = self.tokens as usize;
        let chance = |place: usize| match &self.acceptance {
            Acceptance::Chance { positions, .. } => last(positions, place),
            Acceptance::Pattern { .. } => (drafts - place) as f64 / (drafts - place + 1) as f64,
        };
        (0..drafts).map(chance).collect()
    }

    /// Whether drafts and chances are possible.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn check(&self) -> Result<()> {
        Error::all("speculation", self.mistakes())
    }

    /// What is wrong with these settings.
    pub(crate) fn mistakes(&self) -> Vec<Error> {
        let mut mistakes = Vec::new();
        if !(1..=MOST_DRAFTS).contains(&self.tokens) {
            let hint = "leave speculation out to run without it";
            let must = format!("must be from 1 to {MOST_DRAFTS}");
            mistakes.push(Error::spec("num_speculative_tokens", must, self.tokens, hint));
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
    fn chances_are_one_a_draft() {
        assert_eq!(chance(vec![0.7]).chances(), [0.7; 4]);
        let pattern = Acceptance::parse("pattern:7,3", 0).unwrap();
        // 0 to 4 drafts are accepted equally often: 4 of 5 times the first, 3 of those 4 the second …
        let chances = Speculation { acceptance: pattern, ..chance(vec![]) }.chances();
        assert_eq!(chances, [4.0 / 5.0, 3.0 / 4.0, 2.0 / 3.0, 1.0 / 2.0]);
    }

    #[test]
    fn methods_reserve_what_vllm_reserves_for_them() {
        let of = |method| Speculation { method, ..chance(vec![0.5]) };
        for (method, lookahead, hashed, slots) in [
            (DraftMethod::Ngram, 0, 0, 0),
            (DraftMethod::DraftModel, 4, 0, 1),
            (DraftMethod::Medusa, 0, 0, 0),
            (DraftMethod::Eagle, 4, 1, 0),
            (DraftMethod::Mtp, 4, 1, 0),
            (DraftMethod::MtpModules, 4, 4, 0),
            (DraftMethod::Dflash, 5, 0, 3),
        ] {
            let drafts = of(method);
            let reserved = (drafts.lookahead(), drafts.hash_lookahead(), drafts.draft_slots());
            assert_eq!(reserved, (lookahead, hashed, slots), "{method:?}");
        }
        assert_eq!(of(DraftMethod::Mtp).by_modules(3).method, DraftMethod::MtpModules);
        assert_eq!(of(DraftMethod::Mtp).by_modules(1).method, DraftMethod::Mtp);
        assert_eq!(of(DraftMethod::Eagle).by_modules(3).method, DraftMethod::Eagle);
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
    fn acceptance_is_a_chance_one_a_position_or_a_pattern() {
        let chances = Acceptance::Chance { positions: vec![0.8, 0.5], seed: 4 };
        assert_eq!(Acceptance::parse("0.8, 0.5", 4).unwrap(), chances);
        let pattern = Acceptance::parse("pattern:7,3", 0).unwrap();
        let speculation = Speculation { acceptance: pattern, ..chance(vec![]) };
        assert_eq!((0..4).map(|v| speculation.accepted(2, v, 4)).collect::<Vec<_>>(), [4, 2, 0, 3]);
        assert_eq!(speculation.accepted(2, 0, 3), 3);
        let huge = Acceptance::Pattern { request_factor: u64::MAX, count_factor: u64::MAX };
        assert!(Speculation { acceptance: huge, ..chance(vec![]) }.accepted(u32::MAX, u32::MAX, 4) <= 4);
        for text in ["", "most", "pattern:7", "pattern:7,-3", "pattern:7,3,1"] {
            let error = Acceptance::parse(text, 0).unwrap_err();
            assert!(error.to_string().starts_with("spec_acceptance must be a chance"), "{error}");
            assert!(error.to_string().ends_with(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn what_is_set_of_speculation_must_be_complete() {
        let often = || Some(Acceptance::Chance { positions: vec![0.7], seed: 0 });
        assert_eq!(Speculation::of(None, None, None), Ok(None));
        assert_eq!(Speculation::of(Some("none"), Some(0), None), Ok(None));
        let speculation = Speculation::of(Some("draft_model"), Some(2), often()).unwrap().unwrap();
        assert_eq!((speculation.method, speculation.tokens), (DraftMethod::DraftModel, 2));
        for (method, tokens, acceptance, message) in [
            (None, Some(2), None, "spec_method must be given with num_speculative_tokens: none"),
            (None, None, often(), "spec_method must be given with spec_acceptance: none"),
            (Some("eagle"), None, often(), "num_speculative_tokens must be given with spec_method: absent"),
            (Some("eagle"), Some(2), None, "spec_acceptance must be given with spec_method: absent"),
        ] {
            assert_eq!(Speculation::of(method, tokens, acceptance).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn impossible_speculation_is_refused() {
        let none = Speculation { tokens: 0, ..chance(vec![1.5]) };
        let texts: Vec<String> = none.mistakes().iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "num_speculative_tokens must be from 1 to 65536: 0");
        assert!(texts[1].starts_with("spec_acceptance must be one chance"), "{}", texts[1]);
    }
}
