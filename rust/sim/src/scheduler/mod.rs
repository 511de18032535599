//! How an engine chooses what each step processes.
//!
//! The [`room`] is common to all engines: sequences, queues, KV blocks, and what a result does to them. A policy, one a
//! file, only chooses: it fills a [`Step`] from what the room holds.

pub mod speculation;
pub mod rules;
pub mod swap;
pub mod config;
pub mod preset;
pub mod queue;
pub mod sequence;
pub mod room;
mod results;
mod decode;
pub(crate) mod vllm;
mod sarathi;
mod vllm_v0;
mod orca;
mod static_batch;
mod sglang;
mod trtllm;

use roofline_core::error::Result;

use self::config::{EngineConfig, Limits};
use self::room::Room;
use self::rules::{Capacity, Rules};
use self::sequence::Status;
use self::sglang::Sglang;
use self::vllm::Vllm;
use crate::images::Alike;
use crate::kv::cache::KvCache;
use crate::request::{Rows, Workload};
use crate::step::Step;

/// Who chooses, with what it keeps from call to call.
#[derive(Debug, Clone)]
enum Policy {
    Vllm(Vllm),
    VllmV0,
    Sarathi,
    Orca,
    Static,
    Sglang(Sglang),
    Trtllm(Capacity),
}

/// A scheduler with its queues and its KV cache.
#[derive(Debug, Clone)]
pub struct Scheduler<'a> {
    room: Room<'a>,
    policy: Policy,
}

impl<'a> Scheduler<'a> {
    /// An idle engine that is to serve these rows of the workload, which it numbers from 0 on.
    ///
    /// # Errors
    /// Settings no engine could start with.
    pub fn new(config: &'a EngineConfig, workload: Workload<'a>, rows: Rows<'a>) -> Result<Scheduler<'a>> {
        let policy = match config.rules {
            Rules::Vllm => Policy::Vllm(Vllm::new(config)),
            Rules::VllmV0 => Policy::VllmV0,
            Rules::Sarathi => Policy::Sarathi,
            Rules::Orca => Policy::Orca,
            Rules::Static => Policy::Static,
            Rules::Sglang(settings) => Policy::Sglang(Sglang::new(settings)),
            Rules::Trtllm(capacity) => Policy::Trtllm(capacity),
        };
        Ok(Scheduler { room: Room::new(config, workload, rows)?, policy })
    }

    /// Decides what the next step processes.
    pub fn schedule(&mut self, step: &mut Step) {
        self.room.open(step);
        let room = &mut self.room;
        match &mut self.policy {
            Policy::Vllm(vllm) => vllm.fill(room, step),
            Policy::VllmV0 => vllm_v0::fill(room, step),
            Policy::Sarathi => sarathi::fill(room, step),
            Policy::Orca => orca::fill(room, step),
            Policy::Static => static_batch::fill(room, step),
            Policy::Sglang(sglang) => sglang.fill(room, step),
            Policy::Trtllm(capacity) => trtllm::fill(room, step, *capacity),
        }
        self.room.commit(step);
    }

    /// Takes in the result of a step: tokens are delivered, answers end, their blocks are free.
    pub fn update(&mut self, step: &mut Step) {
        match self.policy {
            Policy::Static => static_batch::update(&mut self.room, step),
            _ => self.room.update(step),
        }
    }

    /// A request arrives: it waits, or is rejected if its prompt leaves no room for an answer. `moment` numbers the
    /// instants at which requests arrive, in their order: what arrives at one instant has one number.
    pub fn arrive(&mut self, sequence: u32, moment: u64) -> Status {
        self.room.arrive(sequence, moment)
    }

    /// Whether there is anything to do: a request that is not done, or the end of one to be noted.
    pub fn has_requests(&self) -> bool {
        self.room.unflushed || self.has_unfinished()
    }

    /// Whether a request waits or runs.
    pub fn has_unfinished(&self) -> bool {
        !self.room.running.is_empty() || self.waiting() > 0
    }

    /// Requests running.
    pub fn running(&self) -> usize {
        self.room.running.len()
    }

    /// Requests waiting, those whose blocks lie with the host among them.
    pub fn waiting(&self) -> usize {
        self.room.waiting.len() + self.room.swapped.len()
    }

    /// Calls of [`Scheduler::schedule`] so far.
    pub fn calls(&self) -> u64 {
        self.room.calls
    }

    /// The KV cache.
    pub fn kv(&self) -> &KvCache<'a> {
        &self.room.kv
    }

    /// The settings.
    pub fn config(&self) -> &'a EngineConfig {
        self.room.config
    }

    /// The settings as resolved.
    pub fn limits(&self) -> &Limits {
        &self.room.limits
    }

    /// Where a request stands that has come, how often it was preempted, and the tokens it found cached at its first
    /// admission; `None` for one that is long gone.
    pub fn outcome(&self, sequence: u32) -> Option<(Status, u32, Option<u32>)> {
        let state = self.room.sequences.get(sequence as usize)?;
        Some((state.status, state.preemptions, state.cached))
    }

    /// The images whose prompts begin in a step, as far as they were not found cached.
    pub fn images_of(&self, step: &Step) -> Vec<Alike> {
        let mut images = Vec::new();
        for &(sequence, cached) in &step.admitted {
            // What was encoded for a request outlasts its preemption.
            if self.outcome(sequence).is_some_and(|(_, preemptions, _)| preemptions == 0) {
                let row = self.room.rows.row(sequence).unwrap_or(sequence);
                self.room.workload.images(row as usize).encoded_beyond(cached, &mut images);
            }
        }
        images
    }

    /// Checks what must always hold between two calls, when `arrived` requests have arrived.
    ///
    /// # Errors
    /// The law that is broken, in words.
    pub fn check(&self, arrived: usize) -> std::result::Result<(), String> {
        self.room.check(arrived)
    }
}
