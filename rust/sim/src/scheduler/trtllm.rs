//! The scheduler of TensorRT-LLM 1.0 (PyTorch backend, `pyexecutor/scheduler.py`): in-flight batching under a capacity policy.

use super::decode;
use super::room::{Room, Share};
use super::rules::Capacity;
use crate::step::Step;

/// Fills a step with all who generate, then with prompts, up to its tokens.
pub(super) fn fill(room: &mut Room<'_>, step: &mut Step, capacity: Capacity) {
    decode::proceed(room, step);
    decode::proceed_with_prompts(room, step);
    if step.preempted.is_empty() {
        admit(room, step, capacity);
    }
}

fn admit(room: &mut Room<'_>, step: &mut Step, capacity: Capacity) {
    let mut promised = match capacity {
        Capacity::GuaranteedNoEvict => room.running.iter().map(|&sequence| to_come(room, sequence)).sum(),
        Capacity::MaxUtilization => 0,
    };
    while step.room() > 0 && room.running.len() < room.limits.running as usize {
        let Some(sequence) = room.waiting.front() else { return };
        let state = &room.sequences[sequence as usize];
        if state.stale > 0 {
            return;
        }
        let known = state.tokens;
        let needed = match capacity {
            // Blocks found again are not deducted: they may be those of a request that ends.
            Capacity::GuaranteedNoEvict => room.blocks_at_end(sequence),
            Capacity::MaxUtilization => room.blocks_to(known),
        };
        if promised + needed > room.kv.free() {
            return;
        }
        let (hits, _) = room.kv.look_up(sequence, known);
        let cached = (hits * room.config.block_size).max(room.recorded(sequence));
        let wanted = known - cached;
        // Who was paused may be longer by now than any prompt a step takes.
        let chunks = room.config.enable_chunked_prefill || wanted > room.limits.tokens;
        if wanted > step.room() && !chunks {
            return;
        }
        let tokens = wanted.min(step.room());
        room.admit(sequence, Share { cached, tokens, padding: 0, reserve: cached + tokens }, step);
        if capacity == Capacity::GuaranteedNoEvict {
            promised += to_come(room, sequence);
        }
    }
}

/// Blocks that a running request will still take, at most.
fn to_come(room: &Room<'_>, sequence: u32) -> u32 {
    room.blocks_at_end(sequence).saturating_sub(room.kv.held(sequence))
}
