//! The scheduler of vLLM 0.33.0 (V1, `v1/core/sched/scheduler.py`), request by request and step by step.
//!
//! One full-attention KV group; no LoRA, multimodal input, KV connector or structured output. It is written to be
//! read beside the original and to decide exactly as it does; it is the twin any faster one is held against.

mod running;
mod admission;

use super::config::EngineConfig;
use super::room::Room;
use crate::step::Step;

/// Tokens of prompts as one call limits them.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// Most tokens of one prompt; 0 for no limit.
    threshold: u32,
    /// Whether prompts have to wait for the next interval.
    deferring: bool,
}

impl Pass {
    fn cap(self, tokens: u32) -> u32 {
        if self.threshold > 0 { tokens.min(self.threshold) } else { tokens }
    }
}

/// What vLLM keeps from call to call.
#[derive(Debug, Clone)]
pub(super) struct Vllm {
    executed_steps: i64,
    last_prefill_step: i64,
    /// Whether the last admission left requests waiting.
    capacity_bound: bool,
    /// Requests set aside in the present call.
    aside: Vec<u32>,
}

impl Vllm {
    /// Before the first call.
    pub(super) fn new(config: &EngineConfig) -> Vllm {
        let last_prefill_step = -i64::from(config.prefill_schedule_interval);
        Vllm { executed_steps: 0, last_prefill_step, capacity_bound: false, aside: Vec::new() }
    }

    /// Fills a step: running requests first, then waiting ones if nobody had to give way.
    pub(super) fn fill(&mut self, room: &mut Room<'_>, step: &mut Step) {
        let pass = Pass { threshold: threshold(room), deferring: self.deferring(room) };
        let chunk_scheduled = running::proceed(room, step, pass);
        let mut prefill_scheduled = chunk_scheduled;
        if step.preempted.is_empty() {
            prefill_scheduled |= self.admit(room, step, pass, chunk_scheduled);
            if !pass.deferring {
                self.capacity_bound = room.waiting.len() > room.set_aside;
            }
        }
        if !step.is_empty() {
            self.executed_steps += 1;
        }
        if prefill_scheduled {
            self.last_prefill_step = self.executed_steps;
        }
    }

    fn deferring(&self, room: &Room<'_>) -> bool {
        let interval = i64::from(room.config.prefill_schedule_interval);
        interval > 1
            && !self.capacity_bound
            && self.executed_steps + 1 - self.last_prefill_step < interval
            && room.running.iter().any(|&sequence| !room.sequences[sequence as usize].chunk)
    }
}

fn threshold(room: &Room<'_>) -> u32 {
    let requests = (room.running.len() + room.waiting.len()) as u32;
    match room.config.long_prefill_token_threshold {
        threshold if threshold > 0 && requests > 1 => {
            let share = room.limits.tokens / requests;
            if room.config.long_prefill_token_threshold_adaptive { threshold.max(share) } else { threshold }
        }
        _ => 0,
    }
}
