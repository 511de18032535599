//! Waiting requests of a vLLM scheduler: who is admitted, with which cached prefix.

use super::{Pass, Status, Vllm};
use crate::step::{Entry, Step};

impl Vllm<'_> {
    /// Admits waiting requests in their order; whether one has more to compute than its last token.
    pub(super) fn admit(&mut self, step: &mut Step, pass: Pass, chunk_scheduled: bool) -> bool {
        let decoding = !step.is_empty();
        let mut prefill_scheduled = false;
        while step.room() > 0 && self.running.len() < self.limits.running as usize {
            let Some(sequence) = self.waiting.front() else { break };
            let state = &mut self.sequences[sequence as usize];
            if state.stale > 0 {
                self.set_aside += usize::from(!state.set_aside);
                state.set_aside = true;
                self.waiting.pop();
                self.aside.push(sequence);
                continue;
            }
            let Some(entry) = self.try_admit(sequence, step.room(), pass, chunk_scheduled, decoding) else {
                break;
            };
            self.waiting.pop();
            self.running.push(sequence);
            let state = &mut self.sequences[sequence as usize];
            let cached = entry.context - entry.tokens;
            self.set_aside -= usize::from(state.set_aside);
            state.set_aside = false;
            state.status = Status::Running;
            state.computed = cached;
            state.cached = state.cached.or(Some(cached));
            prefill_scheduled |= cached + 1 < state.tokens;
            step.admitted.push((sequence, cached));
            step.add(entry);
        }
        while let Some(sequence) = self.aside.pop() {
            self.waiting.put_back(self.rank(sequence));
        }
        prefill_scheduled
    }

    /// Finds a waiting request's cached prefix and gives it blocks; `None` stops admission.
    fn try_admit(
        &mut self,
        sequence: u32,
        room: u32,
        pass: Pass,
        chunk_scheduled: bool,
        decoding: bool,
    ) -> Option<Entry> {
        let known = self.sequences[sequence as usize].tokens;
        let (hits, free_hits) = self.kv.look_up(sequence, known);
        let cached = hits * self.config.block_size;
        if pass.deferring && cached + 1 < known {
            return None;
        }
        let mut tokens = known - cached;
        // A row that computes one token beside decodes is padded to their shape.
        let padded = self.limits.drafts > 0
            && tokens == 1
            && !chunk_scheduled
            && (decoding || cached > 0)
            && cached + 2 + self.limits.drafts <= self.limits.model_len;
        if padded {
            tokens += self.limits.drafts;
            if tokens > room {
                return None;
            }
        }
        tokens = pass.cap(tokens);
        if !self.config.enable_chunked_prefill && tokens > room {
            return None;
        }
        tokens = tokens.min(room);
        if !self.fits(known, cached + tokens, hits, free_hits) {
            return None;
        }
        self.kv.take_hits(sequence);
        self.hold(sequence, cached + tokens);
        Some(Entry {
            request: sequence,
            tokens,
            drafts: if padded { tokens - 1 } else { 0 },
            padded,
            prefill: true,
            context: cached + tokens,
            samples: false,
        })
    }

    /// Whether blocks suffice for a request of `known` tokens that would hold `tokens` of them after this step.
    fn fits(&self, known: u32, tokens: u32, hits: u32, free_hits: u32) -> bool {
        let watermark = if self.running.is_empty() { 0 } else { self.limits.watermark_blocks };
        let free = u64::from(self.kv.free());
        let enough = |slots: u32| {
            let needed = self.kv.blocks_for(slots.min(self.limits.model_len)).saturating_sub(hits);
            u64::from(needed) + u64::from(free_hits) + u64::from(watermark) <= free
        };
        (!self.config.scheduler_reserve_full_isl || enough(known)) && enough(tokens + self.limits.lookahead)
    }
}
