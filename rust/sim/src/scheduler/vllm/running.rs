//! Running requests of a vLLM scheduler: each continues, in order of admission, and some give way to others.

use super::{Pass, Vllm};
use crate::scheduler::config::Policy;
use crate::step::{Entry, Step};

impl Vllm<'_> {
    /// Continues running requests in order of admission; whether one with an unfinished prompt was among them.
    pub(super) fn schedule_running(&mut self, step: &mut Step, pass: Pass) -> bool {
        let mut chunk_scheduled = false;
        let mut index = 0;
        while index < self.running.len() && step.room() > 0 {
            let sequence = self.running[index];
            let tokens = self.wanted(sequence, pass).min(step.room());
            if tokens == 0 {
                index += 1;
                continue;
            }
            let state = &self.sequences[sequence as usize];
            let after = state.computed + tokens;
            if !self.make_room(sequence, after, &mut index, step) {
                // It gave way itself: nobody behind it is tried, unless priority rules.
                match self.config.scheduling_policy {
                    Policy::Fcfs => break,
                    Policy::Priority => continue,
                }
            }
            self.hold(sequence, after);
            let state = &mut self.sequences[sequence as usize];
            let known = state.tokens + state.placeholders;
            let drafts = after.saturating_sub(known).min(state.drafts);
            state.drafts = 0;
            chunk_scheduled |= state.chunk;
            step.add(Entry {
                request: sequence,
                tokens,
                drafts,
                padded: false,
                prefill: state.chunk,
                context: after,
                samples: false,
            });
            index += 1;
        }
        chunk_scheduled
    }

    /// Tokens a running request could take in a step without limit.
    fn wanted(&self, sequence: u32, pass: Pass) -> u32 {
        let state = &self.sequences[sequence as usize];
        let staggered = self.calls < state.next_call;
        if state.awaits_its_last_token() || staggered || (pass.deferring && state.chunk) {
            return 0;
        }
        let room = self.limits.model_len.saturating_sub(state.computed + 1);
        pass.cap(state.to_compute()).min(room)
    }

    /// Gives `sequence` blocks for `tokens` tokens, and lets others find them.
    pub(super) fn hold(&mut self, sequence: u32, tokens: u32) {
        let slots = (tokens + self.limits.lookahead).min(self.limits.model_len);
        self.kv.grow(sequence, slots);
        let known = self.sequences[sequence as usize].tokens;
        self.kv.register(sequence, tokens.min(known));
    }

    /// Preempts until `sequence` can have `tokens` tokens; whether it still runs. `index` follows its place.
    fn make_room(&mut self, sequence: u32, tokens: u32, index: &mut usize, step: &mut Step) -> bool {
        let slots = (tokens + self.limits.lookahead).min(self.limits.model_len);
        while !self.kv.can_hold(sequence, slots) {
            let place = self.victim();
            let victim = self.running.remove(place);
            self.preempt(victim, step);
            if victim == sequence {
                return false;
            }
            if place < *index {
                step.withdraw(victim);
                *index -= 1;
            }
        }
        true
    }

    /// The place in the running list of who gives way.
    fn victim(&self) -> usize {
        let last = self.running.len() - 1;
        if self.config.scheduling_policy == Policy::Fcfs {
            return last;
        }
        let rank = |place: usize| {
            let state = &self.sequences[self.running[place] as usize];
            (state.priority, state.moment)
        };
        // The first of equals, in order of admission.
        (1..=last).fold(0, |worst, place| if rank(place) > rank(worst) { place } else { worst })
    }

    /// Takes everything from a request that was running; its answer so far is kept and will be recomputed.
    fn preempt(&mut self, sequence: u32, step: &mut Step) {
        self.kv.release(sequence);
        self.sequences[sequence as usize].preempt();
        self.waiting.put_back(self.rank(sequence));
        step.preempted.push(sequence);
    }
}
