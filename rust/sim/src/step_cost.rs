//! What a step costs, as the simulation asks it: from sums over what the step processes.

use roofline_core::cause::{Cause, Causes};
use roofline_core::error::{Error, Result};
pub use roofline_core::straight::Run;

use crate::images::Alike;
use crate::time::Period;

/// What a sequence does in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It computes (a chunk of) its prompt, or of what it must recompute after a preemption.
    Prefill,
    /// It continues its answer.
    Decode,
}

/// One sequence's share of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepItem {
    /// New tokens computed.
    pub new_tokens: u32,
    /// Tokens already in its KV cache.
    pub context: u32,
    /// What it does.
    pub phase: Phase,
    /// Rows of logits it needs: 0 for an unfinished chunk, else 1 and the drafts verified.
    pub sampled_rows: u32,
}

/// Sequences that each continue their answer by one token in a step.
#[derive(Debug, Clone, Copy)]
pub struct Decodes<'a> {
    /// Sequences.
    pub count: u64,
    /// Tokens in their KV caches together.
    pub context: u64,
    /// Tokens in the fullest of their KV caches; 0 where [`StepCost::needs_longest`] is false.
    pub longest: u64,
    /// Context of each, less `shift`; empty where [`StepCost::needs_each_context`] is false.
    pub bases: &'a [i64],
    /// What to add to each base.
    pub shift: i64,
}

impl<'a> Decodes<'a> {
    /// Tokens in the KV cache of each, in no particular order.
    pub fn contexts(&self) -> impl Iterator<Item = u64> + use<'a> {
        let shift = self.shift;
        self.bases.iter().map(move |base| (base + shift) as u64)
    }
}

/// Prices a step from sums, never from the list of its sequences.
pub trait StepCost {
    /// The sums the price depends on; the default is an empty step.
    type Sums: Default;

    /// Adds one sequence's share.
    fn add(&self, sums: &mut Self::Sums, item: StepItem);

    /// Adds sequences that continue their answers: the same as [`StepCost::add`] for each of them, to the bit.
    fn add_decodes(&self, sums: &mut Self::Sums, decodes: &Decodes<'_>) {
        for context in decodes.contexts() {
            let context = u32::try_from(context).unwrap_or(u32::MAX);
            self.add(sums, StepItem { new_tokens: 1, context, phase: Phase::Decode, sampled_rows: 1 });
        }
    }

    /// Whether [`StepCost::add_decodes`] needs each context, or only their number and their sum.
    fn needs_each_context(&self) -> bool {
        true
    }

    /// Whether [`StepCost::add_decodes`] needs the longest context.
    fn needs_longest(&self) -> bool {
        true
    }

    /// Seconds the step takes; finite and not negative.
    fn seconds(&self, sums: &Self::Sums) -> f64;

    /// What the step takes; the account of what was spent has it from now on.
    fn price(&self, sums: &Self::Sums) -> Period {
        Period::of_seconds(self.seconds(sums))
    }

    /// What steps take in which these sequences decode and nothing else happens, this one and those after it: one at
    /// least, `most` at most. `None` where that is no straight line; each is then priced by itself. In exact time it is what
    /// [`StepCost::price`] says of each.
    fn run(&self, _decodes: &Decodes<'_>, _most: u64) -> Option<Run> {
        None
    }

    /// The first `steps` of a run took place: the account of what was spent has them from now on.
    fn charge(&self, _decodes: &Decodes<'_>, _run: &Run, _steps: u64) {}

    /// What the steps priced so far were spent on; nothing where that is not known.
    fn spent(&self) -> Causes {
        Causes::default()
    }

    /// Whether images cost a pass of a vision tower.
    fn encodes(&self) -> bool {
        false
    }

    /// Seconds that a pass of these images through the vision tower takes, all together, before the step in which their
    /// prompts begin; the account of what was spent has it from now on.
    fn encode(&self, _images: &[Alike]) -> f64 {
        0.0
    }

    /// Takes into account that steps took so many seconds more, for that cause.
    fn spend(&self, _cause: Cause, _seconds: f64) {}

    /// The same price for another replica, which keeps account of its own steps only.
    #[must_use]
    fn fork(&self) -> Self
    where
        Self: Clone,
    {
        self.clone()
    }

    /// Takes over the account of a fork.
    fn join(&self, _fork: &Self) {}
}

/// `(a + b·tokens) + c·context` seconds, context counted after the step: for tests and parity with other simulators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearCost {
    /// Seconds a step.
    pub a: f64,
    /// Seconds a token computed.
    pub b: f64,
    /// Seconds a token of context.
    pub c: f64,
}

/// What [`LinearCost`] sums.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearSums {
    tokens: u64,
    context: u64,
}

impl LinearCost {
    /// Reads `linear:A,B,C`.
    ///
    /// # Errors
    /// Another form, or a coefficient that is negative or not finite.
    pub fn parse(text: &str) -> Result<LinearCost> {
        let wrong = || {
            Error::spec(
                "step_cost",
                "must read `linear:A,B,C` with three coefficients in seconds, none negative",
                format!("`{text}`"),
                "for example `linear:0.005,2e-5,2e-8`: 5 ms a step, 20 us a token, 20 ns a token of context",
            )
        };
        let numbers = text.strip_prefix("linear:").ok_or_else(wrong)?;
        let numbers: Vec<f64> = numbers
            .split(',')
            .map(|number| number.trim().parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        match numbers[..] {
            [a, b, c] => Ok(LinearCost { a, b, c }),
            _ => Err(wrong()),
        }
    }
}

impl StepCost for LinearCost {
    type Sums = LinearSums;

    fn add(&self, sums: &mut LinearSums, item: StepItem) {
        sums.tokens += u64::from(item.new_tokens);
        sums.context += u64::from(item.context) + u64::from(item.new_tokens);
    }

    fn add_decodes(&self, sums: &mut LinearSums, decodes: &Decodes<'_>) {
        sums.tokens += decodes.count;
        sums.context += decodes.context + decodes.count;
    }

    fn needs_each_context(&self) -> bool {
        false
    }

    fn needs_longest(&self) -> bool {
        false
    }

    fn seconds(&self, sums: &LinearSums) -> f64 {
        (self.a + self.b * sums.tokens as f64) + self.c * sums.context as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_cost_counts_context_after_the_step() {
        let cost = LinearCost::parse("linear:1, 0.5,0.25").unwrap();
        let mut sums = LinearSums::default();
        cost.add(&mut sums, StepItem { new_tokens: 2, context: 6, phase: Phase::Prefill, sampled_rows: 1 });
        assert_eq!(cost.seconds(&sums), 1.0 + 0.5 * 2.0 + 0.25 * 8.0);
    }

    #[test]
    fn a_linear_cost_of_another_form_is_refused_with_an_example() {
        for text in ["linear:1,2", "cubic:1,2,3", "linear:1,2,-3", "linear:1,2,nan", "linear:1,2,3,4"] {
            let error = LinearCost::parse(text).unwrap_err();
            assert!(
                error.to_string().contains("`linear:A,B,C`") && error.to_string().contains(text),
                "{error}"
            );
            assert!(error.hint().contains("linear:0.005"), "{}", error.hint());
        }
    }
}
