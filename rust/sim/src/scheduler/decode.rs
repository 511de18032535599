//! What most engines do alike: all who decode continue, and waiting requests are admitted whole or in chunks.

use super::room::{Room, Share};
use crate::step::Step;

/// Continues every running request whose prompt is computed, in order of admission; the last gives way where memory is
/// short.
pub(super) fn proceed(room: &mut Room<'_>, step: &mut Step) {
    let mut index = 0;
    while index < room.running.len() {
        let sequence = room.running[index];
        let tokens = if room.has_prompt_left(sequence) { 0 } else { room.wanted(sequence) };
        if tokens == 0 || tokens > step.room() {
            index += 1;
            continue;
        }
        let after = room.sequences[sequence as usize].computed + tokens;
        if !room.make_room(sequence, after, &mut index, step) {
            return;
        }
        room.proceed(sequence, tokens, step);
        index += 1;
    }
}

/// Continues the prompts of running requests, as far as the step has room.
pub(super) fn proceed_with_prompts(room: &mut Room<'_>, step: &mut Step) {
    let mut index = 0;
    while index < room.running.len() && step.room() > 0 {
        let sequence = room.running[index];
        let tokens = if room.has_prompt_left(sequence) { room.wanted(sequence).min(step.room()) } else { 0 };
        if tokens > 0 {
            let after = room.sequences[sequence as usize].computed + tokens;
            if !room.make_room(sequence, after, &mut index, step) {
                return;
            }
            room.proceed(sequence, tokens, step);
        }
        index += 1;
    }
}

/// What an engine asks of a waiting request before it runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Whether its prompt may be computed in several steps.
    pub(super) chunks: bool,
    /// Whether its whole prompt, or its longest answer too, is given blocks at once.
    pub(super) reserves: Reserve,
    /// Blocks to be left free beside others.
    pub(super) watermark: u32,
}

/// What is given blocks at admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserve {
    /// The whole prompt.
    Prompt,
    /// The prompt and the longest answer.
    Answer,
}

/// Admits waiting requests in their order, until one does not meet the terms.
pub(super) fn admit(room: &mut Room<'_>, step: &mut Step, terms: Terms) {
    while step.room() > 0 && room.running.len() < room.limits.running as usize {
        let Some(sequence) = room.waiting.front() else { return };
        let state = &room.sequences[sequence as usize];
        if state.stale > 0 {
            return;
        }
        let (known, end) = (state.tokens, state.end);
        let (hits, free_hits) = room.kv.look_up(sequence, known);
        let cached = (hits * room.config.block_size).max(room.recorded(sequence));
        let wanted = known - cached;
        if wanted > step.room() && !terms.chunks {
            return;
        }
        let reserve = if terms.reserves == Reserve::Answer { end.max(known) } else { known };
        let watermark = if room.running.is_empty() { 0 } else { terms.watermark };
        if !room.fits(reserve, hits, free_hits, watermark) {
            return;
        }
        room.admit(sequence, Share { cached, tokens: wanted.min(step.room()), padding: 0, reserve }, step);
    }
}
