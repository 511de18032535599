//! The scheduler of vLLM 0.6 (V0, `vllm/core/scheduler.py`): prompts before answers, never both in a step.
//!
//! With chunked prefill V0 schedules answers first and fills the step with chunks, as [`super::sarathi`] does. Sink to
//! swap (`preemption_mode`), it starts no prompt while blocks of others lie with the host, unless prompts are cut.

use super::decode::{self, Reserve, Terms};
use super::room::Room;
use crate::step::Step;

/// Fills a step with whole prompts if one can start, else with all who decode.
pub(super) fn fill(room: &mut Room<'_>, step: &mut Step) {
    let watermark = room.limits.watermark_blocks;
    let chunks = room.config.enable_chunked_prefill;
    let terms = Terms { chunks, reserves: Reserve::Prompt, watermark };
    if !chunks && room.swapped.is_empty() {
        decode::admit(room, step, terms);
    }
    if !step.is_empty() {
        return;
    }
    decode::proceed(room, step);
    if chunks {
        decode::proceed_with_prompts(room, step);
    }
    if step.preempted.is_empty() {
        room.swap_in(step, watermark);
        if chunks {
            decode::admit(room, step, terms);
        }
    }
}
