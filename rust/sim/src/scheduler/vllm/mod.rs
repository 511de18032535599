//! The scheduler of vLLM 0.33.0 (V1, `v1/core/sched/scheduler.py`), request by request and step by step.
//!
//! One full-attention KV group; no LoRA, multimodal input, KV connector or structured output. It is written to be
//! read beside the original and to decide exactly as it does; it is the twin any faster one is held against. vLLM gives and takes blocks while it decides, so this scheduler holds the
//! KV cache of its engine; clocks and measurements are not its business.

mod sequence;
mod running;
mod admission;
mod results;

use std::collections::{BTreeSet, VecDeque};

use roofline_core::error::Result;

use self::sequence::Sequence;
pub use self::sequence::Status;
use super::config::{EngineConfig, Limits, Policy};
use super::queue::Queue;
use crate::kv::cache::KvCache;
use crate::request::Workload;
use crate::step::Step;

/// Tokens of prompts as [`Vllm::schedule`] limits them in one call.
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

/// A vLLM scheduler with its queues and its KV cache.
#[derive(Debug, Clone)]
pub struct Vllm<'a> {
    config: &'a EngineConfig,
    limits: Limits,
    kv: KvCache<'a>,
    /// For each sequence its request in the workload.
    requests: &'a [u32],
    sequences: Vec<Sequence>,
    /// In order of admission.
    running: Vec<u32>,
    waiting: Queue,
    /// Requests waiting that were set aside.
    set_aside: usize,
    /// Calls of [`Vllm::schedule`] so far.
    calls: u64,
    executed_steps: i64,
    last_prefill_step: i64,
    /// Whether the last admission left requests waiting.
    capacity_bound: bool,
    /// Whether a request ended since the last call.
    unflushed: bool,
    /// Requests set aside in the present call.
    aside: Vec<u32>,
}

impl<'a> Vllm<'a> {
    /// An idle engine that is to serve `requests` (rows of the workload), which it numbers `0..requests.len()`.
    ///
    /// # Errors
    /// Settings no engine could start with.
    pub fn new(config: &'a EngineConfig, workload: Workload<'a>, requests: &'a [u32]) -> Result<Vllm<'a>> {
        let limits = config.limits()?;
        let sequence = |&row: &u32| Sequence::expected(&workload, row as usize, limits.model_len);
        let sequences = requests.iter().map(sequence).collect();
        Ok(Vllm {
            kv: KvCache::new(workload, requests, config.cache_shape()),
            sequences,
            requests,
            running: Vec::new(),
            waiting: match config.scheduling_policy {
                Policy::Fcfs => Queue::Fcfs(VecDeque::new()),
                Policy::Priority => Queue::Priority(BTreeSet::new()),
            },
            set_aside: 0,
            calls: 0,
            executed_steps: 0,
            last_prefill_step: -i64::from(config.prefill_schedule_interval),
            capacity_bound: false,
            unflushed: false,
            aside: Vec::new(),
            config,
            limits,
        })
    }

    /// A request arrives: it waits, or is rejected if its prompt leaves no room for an answer. `moment` numbers the
    /// instants at which requests arrive, in their order: what arrives at one instant has one number.
    pub fn arrive(&mut self, sequence: u32, moment: u64) -> Status {
        let state = &mut self.sequences[sequence as usize];
        state.moment = moment;
        if state.tokens >= self.limits.model_len {
            state.status = Status::Rejected;
            return Status::Rejected;
        }
        state.status = Status::Waiting;
        let tokens = state.tokens;
        self.kv.know(sequence, tokens);
        self.waiting.push(self.rank(sequence));
        Status::Waiting
    }

    fn rank(&self, sequence: u32) -> (i32, u64, u32) {
        let state = &self.sequences[sequence as usize];
        (state.priority, state.moment, sequence)
    }

    /// Whether there is anything to do: a request that is not done, or the end of one to be noted.
    pub fn has_requests(&self) -> bool {
        self.unflushed || self.has_unfinished()
    }

    /// Whether a request waits or runs.
    pub fn has_unfinished(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    /// Requests running.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests waiting.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Calls of [`Vllm::schedule`] so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The KV cache.
    pub fn kv(&self) -> &KvCache<'a> {
        &self.kv
    }

    /// The settings as resolved.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where a request stands, how often it was preempted, and the tokens it found cached at its first admission.
    pub fn outcome(&self, sequence: u32) -> (Status, u32, Option<u32>) {
        let state = &self.sequences[sequence as usize];
        (state.status, state.preemptions, state.cached)
    }

    /// Decides what the next step processes.
    pub fn schedule(&mut self, step: &mut Step) {
        step.reset(self.limits.tokens, self.limits.tokens, self.limits.draft_slots);
        self.calls += 1;
        self.unflushed = false;
        let pass = Pass { threshold: self.threshold(), deferring: self.deferring() };
        let chunk_scheduled = self.schedule_running(step, pass);
        let mut prefill_scheduled = chunk_scheduled;
        if step.preempted.is_empty() {
            prefill_scheduled |= self.admit(step, pass, chunk_scheduled);
            if !pass.deferring {
                self.capacity_bound = self.waiting.len() > self.set_aside;
            }
        }
        self.commit(step);
        if !step.is_empty() {
            self.executed_steps += 1;
        }
        if prefill_scheduled {
            self.last_prefill_step = self.executed_steps;
        }
    }

    fn threshold(&self) -> u32 {
        let requests = (self.running.len() + self.waiting.len()) as u32;
        match self.config.long_prefill_token_threshold {
            threshold if threshold > 0 && requests > 1 => {
                let share = self.limits.tokens / requests;
                if self.config.long_prefill_token_threshold_adaptive {
                    threshold.max(share)
                } else {
                    threshold
                }
            }
            _ => 0,
        }
    }

    fn deferring(&self) -> bool {
        let interval = i64::from(self.config.prefill_schedule_interval);
        interval > 1
            && !self.capacity_bound
            && self.executed_steps + 1 - self.last_prefill_step < interval
            && self.running.iter().any(|&sequence| !self.sequences[sequence as usize].chunk)
    }

    /// The step is decided: its tokens count as computed, its samples as under way.
    fn commit(&mut self, step: &mut Step) {
        let staggered = self.config.async_scheduling && self.config.pipeline_parallel > 1;
        let next_call = self.calls + u64::from(self.config.pipeline_parallel);
        for entry in step.entries_mut() {
            let state = &mut self.sequences[entry.request as usize];
            state.computed += entry.tokens;
            state.in_flight += entry.tokens;
            state.chunk = state.computed < state.tokens + state.placeholders;
            entry.samples = !state.chunk;
            if state.chunk {
                continue;
            }
            if staggered {
                state.next_call = next_call;
            }
            if self.config.async_scheduling {
                state.placeholders += 1 + entry.drafts;
                state.drafts = self.limits.drafts;
            }
        }
    }

    /// Checks what must always hold between two calls, when `arrived` requests have arrived.
    ///
    /// # Errors
    /// The law that is broken, in words.
    pub fn check(&self, arrived: usize) -> std::result::Result<(), String> {
        self.kv.check()?;
        if self.running.len() > self.limits.running as usize {
            return Err(format!("at most {} requests must run: {}", self.limits.running, self.running.len()));
        }
        let count = |status: Status| self.sequences.iter().filter(|state| state.status == status).count();
        if count(Status::Running) != self.running.len() || count(Status::Waiting) != self.waiting.len() {
            return Err("every living request must run or wait, once".into());
        }
        if count(Status::Expected) + arrived != self.sequences.len() {
            return Err(format!("every request that arrived must be known: {arrived}"));
        }
        Ok(())
    }
}
