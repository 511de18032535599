//! The scheduler of vLLM 0.33.0 (V1, `v1/core/sched/scheduler.py`), request by request and step by step.
//!
//! One full-attention KV group; no LoRA, multimodal input, KV connector or structured output. It is written to be
//! read beside the original and to decide exactly as it does; it is the twin any faster one is held against.

pub(crate) mod pass;
mod running;
mod admission;

use self::pass::Passes;
use super::config::EngineConfig;
use super::room::Room;
use crate::step::Step;

/// What vLLM keeps from call to call.
#[derive(Debug, Clone)]
pub(super) struct Vllm {
    passes: Passes,
    /// Requests set aside in the present call.
    aside: Vec<u32>,
}

impl Vllm {
    /// Before the first call.
    pub(super) fn new(config: &EngineConfig) -> Vllm {
        Vllm { passes: Passes::new(config), aside: Vec::new() }
    }

    /// Fills a step: running requests first, then waiting ones if nobody had to give way.
    pub(super) fn fill(&mut self, room: &mut Room<'_>, step: &mut Step) {
        let requests = (room.running.len() + room.waiting.len()) as u32;
        let decodes = room.config.prefill_schedule_interval > 1
            && room.running.iter().any(|&sequence| !room.sequences[sequence as usize].chunk);
        let pass = self.passes.open(room.config, requests, decodes);
        let chunk_scheduled = running::proceed(room, step, pass);
        let mut prefill_scheduled = chunk_scheduled;
        if step.preempted.is_empty() {
            prefill_scheduled |= self.admit(room, step, pass, chunk_scheduled);
            self.passes.admitted(pass, room.waiting.len().saturating_sub(room.set_aside));
        }
        self.passes.close(step.is_empty(), prefill_scheduled);
    }
}
