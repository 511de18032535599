//! Waiting requests of a vLLM scheduler: who is admitted, with which cached prefix.

use super::Vllm;
use super::pass::Pass;
use crate::scheduler::room::{Room, Share};
use crate::step::Step;

impl Vllm {
    /// Admits waiting requests in their order; whether one has more to compute than its last token.
    pub(super) fn admit(
        &mut self,
        room: &mut Room<'_>,
        step: &mut Step,
        pass: Pass,
        chunk_scheduled: bool,
    ) -> bool {
        let decoding = !step.is_empty();
        let mut prefill_scheduled = false;
        while step.room() > 0 && room.running.len() < room.limits.running as usize {
            let Some(sequence) = room.waiting.front() else { break };
            let state = &mut room.sequences[sequence as usize];
            if state.stale > 0 {
                room.set_aside += usize::from(!state.set_aside);
                state.set_aside = true;
                room.waiting.pop();
                self.aside.push(sequence);
                continue;
            }
            let known = state.tokens;
            let Some(share) = share(room, sequence, step.room(), pass, chunk_scheduled, decoding) else {
                break;
            };
            room.admit(sequence, share, step);
            prefill_scheduled |= share.cached + 1 < known;
        }
        while let Some(sequence) = self.aside.pop() {
            room.waiting.put_back(room.rank(sequence));
        }
        prefill_scheduled
    }
}

/// Finds a waiting request's cached prefix and what of the rest fits a step; `None` stops admission.
fn share(
    room: &mut Room<'_>,
    sequence: u32,
    free: u32,
    pass: Pass,
    chunk_scheduled: bool,
    decoding: bool,
) -> Option<Share> {
    let known = room.sequences[sequence as usize].tokens;
    let (hits, free_hits) = room.kv.look_up(sequence, known);
    let cached = (hits * room.config.block_size).max(room.recorded(sequence));
    if pass.deferring && cached + 1 < known {
        return None;
    }
    let mut tokens = known - cached;
    // A row that computes one token beside decodes is padded to their shape.
    let padded = room.limits.drafts > 0
        && tokens == 1
        && !chunk_scheduled
        && (decoding || cached > 0)
        && cached + 2 + room.limits.drafts <= room.limits.model_len;
    if padded {
        tokens += room.limits.drafts;
        if tokens > free {
            return None;
        }
    }
    tokens = pass.cap(tokens);
    if !room.config.enable_chunked_prefill && tokens > free {
        return None;
    }
    tokens = room.to_the_end_of_a_block(sequence, cached, tokens.min(free));
    if tokens == 0 || !fits(room, known, cached + tokens, hits, free_hits) {
        return None;
    }
    let padding = if padded { tokens - 1 } else { 0 };
    Some(Share { cached, tokens, padding, reserve: cached + tokens })
}

/// Whether blocks suffice for a request of `known` tokens that would hold `tokens` of them after this step.
fn fits(room: &Room<'_>, known: u32, tokens: u32, hits: u32, free_hits: u32) -> bool {
    let watermark = if room.running.is_empty() { 0 } else { room.limits.watermark_blocks };
    let free = u64::from(room.kv.free());
    let enough = |slots: u32| {
        let needed = room.kv.blocks_for(slots.min(room.limits.model_len)).saturating_sub(hits);
        u64::from(needed) + u64::from(free_hits) + u64::from(watermark) <= free
    };
    (!room.config.scheduler_reserve_full_isl || enough(known)) && enough(tokens + room.limits.lookahead)
}
