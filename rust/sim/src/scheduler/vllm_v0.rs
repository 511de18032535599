//! The scheduler of vLLM 0.6 (V0, `vllm/core/scheduler.py`): prompts before answers, never both in a step.
//!
//! With chunked prefill V0 schedules answers first and fills the step with chunks, as [`super::sarathi`] does.

use super::decode::{self, Reserve, Terms};
use super::room::Room;
use super::sarathi;
use crate::step::Step;

/// Fills a step with whole prompts if one can start, else with all who decode.
pub(super) fn fill(room: &mut Room<'_>, step: &mut Step) {
    if room.config.enable_chunked_prefill {
        return sarathi::fill(room, step);
    }
    let watermark = room.limits.watermark_blocks;
    decode::admit(room, step, Terms { chunks: false, reserves: Reserve::Prompt, watermark });
    if step.is_empty() {
        decode::proceed(room, step);
    }
}
