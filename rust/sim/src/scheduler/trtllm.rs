//! The scheduler of TensorRT-LLM 1.0 (PyTorch backend, `pyexecutor/scheduler.py`): in-flight batching under a capacity policy.

use roofline_core::groups::POOLS;

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
    let mut promised = [0; POOLS];
    if capacity == Capacity::GuaranteedNoEvict {
        room.running.iter().for_each(|&sequence| add(&mut promised, room.to_come(sequence)));
    }
    while step.room() > 0 && room.running.len() < room.limits.running as usize {
        let Some(sequence) = room.waiting.front() else { return };
        let state = &room.sequences[sequence as usize];
        if state.stale > 0 {
            return;
        }
        let known = state.tokens;
        let needed = match capacity {
            // Blocks found again are not deducted: they may be those of a request that ends.
            Capacity::GuaranteedNoEvict => room.to_come(sequence),
            Capacity::MaxUtilization => room.to_come_now(sequence),
        };
        let free = room.kv.free_of_each();
        if (0..POOLS).any(|pool| promised[pool] + needed[pool] > free[pool]) {
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
            add(&mut promised, room.to_come(sequence));
        }
    }
}

fn add(promised: &mut [u32; POOLS], more: [u32; POOLS]) {
    promised.iter_mut().zip(more).for_each(|(sum, blocks)| *sum += blocks);
}
