//! The scheduler of Sarathi-Serve (OSDI '24, `sarathi_scheduler.py`): answers first, chunks of prompts fill the step.

use super::decode::{self, Reserve, Terms};
use super::room::Room;
use crate::step::Step;

/// Fills a step with all who decode, then with prompts under way, then with new ones, up to its tokens.
///
/// The blocks of a whole prompt are taken at admission, so only answers can find memory short.
pub(super) fn fill(room: &mut Room<'_>, step: &mut Step) {
    decode::proceed(room, step);
    decode::proceed_with_prompts(room, step);
    if step.preempted.is_empty() {
        let watermark = room.limits.watermark_blocks;
        decode::admit(room, step, Terms { chunks: true, reserves: Reserve::Prompt, watermark });
    }
}
