//! A step: which sequences an engine processes together, filled within budgets that cannot be exceeded.

/// A sequence's place in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The request.
    pub request: u32,
    /// Tokens computed for it.
    pub tokens: u32,
    /// Draft tokens verified among them.
    pub drafts: u32,
    /// Whether the drafts only pad the row and are always rejected, or the whole row only pads the batch.
    pub padded: bool,
    /// Whether it computes a prompt (or recomputes after a preemption).
    pub prefill: bool,
    /// Its tokens in KV after the step, unverified drafts included.
    pub context: u32,
    /// Whether it yields a token when done.
    pub samples: bool,
}

impl Entry {
    /// Whether nothing comes of it: a row of a batch whose shape is fixed.
    pub fn is_idle(&self) -> bool {
        self.padded && self.drafts == 0
    }
}

/// Tokens a request was given when a step's result arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The request.
    pub request: u32,
    /// Tokens delivered together.
    pub tokens: u32,
    /// Whether they complete its answer.
    pub finished: bool,
}

/// One decision of a scheduler, and later its result.
#[derive(Debug, Clone, Default)]
pub struct Step {
    entries: Vec<Entry>,
    /// Tokens that may still be scheduled.
    token_budget: u32,
    /// Tokens the model may still be fed, drafting included.
    input_budget: u32,
    /// Inputs each sequence takes beyond its tokens, for the draft model.
    draft_slots: u32,
    /// Requests admitted, with the tokens they found cached, in order.
    pub admitted: Vec<(u32, u32)>,
    /// Requests preempted, in order.
    pub preempted: Vec<u32>,
    /// Blocks that go to the host or come from there before it runs.
    pub moved_blocks: u32,
    /// Whether the host had no room for the blocks of a request that had to give way.
    pub host_is_full: bool,
    /// What arrived with its result, in order.
    pub deliveries: Vec<Delivery>,
}

impl Step {
    /// Empties the step for another decision.
    pub fn reset(&mut self, token_budget: u32, input_budget: u32, draft_slots: u32) {
        self.entries.clear();
        self.admitted.clear();
        self.preempted.clear();
        (self.moved_blocks, self.host_is_full) = (0, false);
        self.deliveries.clear();
        (self.token_budget, self.input_budget, self.draft_slots) = (token_budget, input_budget, draft_slots);
    }

    /// Tokens that fit for one more sequence; 0 when the step is full.
    pub fn room(&self) -> u32 {
        self.token_budget.min(self.input_budget.saturating_sub(self.draft_slots))
    }

    /// Adds a sequence.
    ///
    /// # Panics
    /// If it does not fit the room left: a mistake of a scheduler, never of an input.
    pub fn add(&mut self, entry: Entry) {
        assert!(entry.tokens > 0 && entry.tokens <= self.room(), "a step must not exceed its token budget");
        self.token_budget -= entry.tokens;
        self.input_budget -= entry.tokens + self.draft_slots;
        self.entries.push(entry);
    }

    /// Takes a sequence out again, its budget given back; whether it was in.
    pub fn withdraw(&mut self, request: u32) -> bool {
        let Some(place) = self.entries.iter().position(|entry| entry.request == request) else {
            return false;
        };
        let entry = self.entries.remove(place);
        self.token_budget += entry.tokens;
        self.input_budget += entry.tokens + self.draft_slots;
        true
    }

    /// The sequences of the step, those that were running first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The same, for what is known only when the step is complete.
    pub fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// Whether it processes nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(request: u32, tokens: u32) -> Entry {
        Entry { request, tokens, drafts: 0, padded: false, prefill: true, context: 0, samples: true }
    }

    #[test]
    fn a_withdrawn_sequence_gives_its_budget_back() {
        let mut step = Step::default();
        step.reset(10, 10, 1);
        step.add(entry(0, 4));
        step.add(entry(1, 3));
        assert_eq!(step.room(), 0);
        assert!(step.withdraw(0));
        assert!(!step.withdraw(0));
        assert_eq!((step.room(), step.entries().len()), (5, 1));
    }

    #[test]
    #[should_panic(expected = "must not exceed its token budget")]
    fn a_step_cannot_be_overfilled() {
        let mut step = Step::default();
        step.reset(10, 100, 0);
        step.add(entry(0, 11));
    }
}
