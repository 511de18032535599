//! Who waits and is admitted, in the order of the queue, with which cached prefix.

use super::FastReplica;
use super::cache::Hits;
use super::schedule::Draft;
use super::sequence::Place;
use crate::scheduler::vllm::pass::Pass;
use crate::step_cost::StepCost;
use crate::time::Clock;

impl<C: Clock, P: StepCost> FastReplica<'_, C, P> {
    /// Admits from the front of the queue until somebody does not fit.
    pub(super) fn admit(&mut self, step: &mut Draft<P::Sums>, pass: Pass) {
        while step.room > 0 && self.running < self.limits.running {
            let Some((_, sequence)) = self.waiting.front() else { return };
            let known = self.sequences[sequence as usize].tokens;
            let hits = self.cache.look_up(sequence, known);
            let cached = (hits.blocks * self.config.block_size).max(self.recorded(sequence));
            let has_prompt = cached + 1 < known;
            if pass.deferring && has_prompt {
                return;
            }
            let mut tokens = pass.cap(known - cached);
            if !self.config.enable_chunked_prefill && tokens > step.room {
                return;
            }
            tokens = tokens.min(step.room);
            if !self.fits(known, cached + tokens, hits) {
                return;
            }
            self.cache.take_hits(sequence, hits);
            self.cache.allocate(self.cache.blocks_for(cached + tokens) - hits.blocks);
            self.cache.register(sequence, cached + tokens);
            self.waiting.pop();
            self.start(sequence, cached, step);
            step.prefills |= has_prompt;
            step.room -= tokens;
            if !self.compute(sequence, tokens, step) {
                self.singles.push(sequence);
            }
        }
    }

    /// Tokens of a request that count as cached because they were when it was recorded, in whole blocks and never the last
    /// token. Blocks are taken for them as for tokens that are computed.
    #[inline]
    fn recorded(&self, sequence: u32) -> u32 {
        let state = &self.sequences[sequence as usize];
        if state.recorded == 0 || !self.config.enable_prefix_caching {
            return 0;
        }
        let size = self.config.block_size;
        state.recorded.min(state.tokens - 1) / size * size
    }

    /// Whether blocks suffice for a request of `known` tokens that would hold `tokens` of them after this step.
    fn fits(&self, known: u32, tokens: u32, hits: Hits) -> bool {
        let watermark = if self.running == 0 { 0 } else { self.limits.watermark_blocks };
        let free = u64::from(self.cache.free());
        let enough = |slots: u32| {
            let needed = self.cache.blocks_for(slots.min(self.limits.model_len)).saturating_sub(hits.blocks);
            u64::from(needed) + u64::from(hits.free) + u64::from(watermark) <= free
        };
        (!self.config.scheduler_reserve_full_isl || enough(known)) && enough(tokens)
    }

    /// A request runs from now on, the last of all.
    fn start(&mut self, sequence: u32, cached: u32, step: &mut Draft<P::Sums>) {
        self.admissions += 1;
        self.running += 1;
        let state = &mut self.sequences[sequence as usize];
        if state.admission == 0 {
            state.cached = cached;
            step.newcomers.push(sequence);
            if self.cost.encodes() {
                state.images.encoded_beyond(cached, &mut step.images);
            }
        } else {
            self.journal.readmitted(state.number, C::ticks(C::later(self.now, self.busy_until)));
        }
        state.place = Place::Prefilling;
        state.computed = cached;
        state.admission = self.admissions;
        self.forget_the_ended();
        self.stack.push((sequence, self.admissions));
    }

    /// Keeps the stack of running requests from growing with those who have ended.
    fn forget_the_ended(&mut self) {
        if self.stack.len() < 64 + 2 * self.running as usize {
            return;
        }
        let sequences = &self.sequences;
        self.stack.retain(|&(sequence, admission)| {
            let state = &sequences[sequence as usize];
            state.place.runs() && state.admission == admission
        });
    }
}
