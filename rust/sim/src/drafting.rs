//! What speculation costs beside the verification: the time in which a step's sequences are given their next drafts.
//!
//! Drafting `k` tokens is `k` passes of whatever drafts: the first over all tokens of the step (the drafter keeps a
//! cache of its own), the others over one token a sequence. What drafts is in [`crate::drafter`]. Looking drafts up in
//! the text (n-gram) takes the host some time, the device none.

use roofline_core::cause::{Cause, Causes};
use roofline_core::error::Result;
use roofline_core::model::Model;
use roofline_core::shape::Sums;
use roofline_core::step::Deployment;

use crate::drafter::drafter;
use crate::scheduler::speculation::Speculation;
use crate::serve::ModelCost;
use crate::step_cost::{Phase, StepCost, StepItem};

/// Prices steps with the cost model, drafting included.
#[derive(Debug, Clone)]
pub struct DraftedCost {
    target: ModelCost,
    drafter: ModelCost,
    /// Passes of the drafter a step.
    passes: u32,
}

/// What [`DraftedCost`] sums.
#[derive(Debug, Clone, Default)]
pub struct DraftedSums {
    target: Sums,
    /// The drafter's first pass, and each of the others.
    first: Sums,
    next: Sums,
    drafts: bool,
}

impl DraftedCost {
    /// What the model's own part of the steps priced so far is known of.
    pub fn target(&self) -> &ModelCost {
        &self.target
    }

    /// Adds the time of drafting to what steps of `target` cost; `None` where it takes none, or nobody said which model
    /// drafts.
    ///
    /// # Errors
    /// A draft model that cannot be spread as the model is.
    pub fn new(
        target: &ModelCost,
        deployment: &Deployment,
        speculation: &Speculation,
        draft_model: Option<&Model>,
    ) -> Result<Option<DraftedCost>> {
        let drafter = drafter(deployment, speculation, draft_model)?;
        let Some(drafter) = drafter else { return Ok(None) };
        let drafter = ModelCost::new(drafter.compile()?);
        Ok(Some(DraftedCost { target: target.fork(), drafter, passes: speculation.tokens }))
    }
}

impl StepCost for DraftedCost {
    type Sums = DraftedSums;

    fn add(&self, sums: &mut DraftedSums, item: StepItem) {
        self.target.add(&mut sums.target, item);
        let rows = item.sampled_rows.min(1);
        self.drafter.add(&mut sums.first, StepItem { sampled_rows: rows, ..item });
        if rows > 0 {
            sums.drafts = true;
            let context = item.context.saturating_add(item.new_tokens);
            let next = StepItem { new_tokens: 1, context, phase: Phase::Decode, sampled_rows: 1 };
            self.drafter.add(&mut sums.next, next);
        }
    }

    fn seconds(&self, sums: &DraftedSums) -> f64 {
        let verified = self.target.seconds(&sums.target);
        let first = self.drafter.seconds(&sums.first);
        let others = if sums.drafts { self.passes.saturating_sub(1) } else { 0 };
        (0..others).fold(verified + first, |seconds, _| seconds + self.drafter.seconds(&sums.next))
    }

    fn spent(&self) -> Causes {
        let mut spent = self.target.spent();
        self.drafter.spent().iter().for_each(|(cause, seconds)| spent.add(cause, seconds));
        spent
    }

    fn charge(&self, cause: Cause, seconds: f64) {
        self.target.charge(cause, seconds);
    }

    fn fork(&self) -> DraftedCost {
        DraftedCost { target: self.target.fork(), drafter: self.drafter.fork(), passes: self.passes }
    }

    fn join(&self, fork: &DraftedCost) {
        self.target.join(&fork.target);
        self.drafter.join(&fork.drafter);
    }
}
