//! What every policy works in: the sequences of an engine, who waits and who runs, and the KV blocks they hold.
//!
//! Engines give and take blocks while they decide, so the room holds the KV cache; clocks and measurements are not its
//! business. Its moves are those that all engines share: to continue, admit, preempt.

use std::collections::{BTreeSet, VecDeque};

use roofline_core::error::Result;

use super::config::{EngineConfig, Limits, Policy};
use super::queue::Queue;
use super::sequence::{Sequence, Status};
use crate::kv::cache::KvCache;
use crate::request::Workload;
use crate::step::{Entry, Step};

/// Sequences, queues and blocks.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) limits: Limits,
    pub(super) kv: KvCache<'a>,
    /// For each sequence its request in the workload.
    pub(super) requests: &'a [u32],
    pub(super) sequences: Vec<Sequence>,
    /// In order of admission.
    pub(super) running: Vec<u32>,
    pub(super) waiting: Queue,
    /// Requests waiting that were set aside.
    pub(super) set_aside: usize,
    /// Calls of the scheduler so far.
    pub(super) calls: u64,
    /// Whether a request ended since the last call.
    pub(super) unflushed: bool,
}

impl<'a> Room<'a> {
    /// An empty room that is to serve `requests` (rows of the workload), numbered `0..requests.len()`.
    ///
    /// # Errors
    /// Settings no engine could start with.
    pub fn new(config: &'a EngineConfig, workload: Workload<'a>, requests: &'a [u32]) -> Result<Room<'a>> {
        let limits = config.limits()?;
        let sequence = |&row: &u32| Sequence::expected(&workload, row as usize, limits.model_len);
        let sequences = requests.iter().map(sequence).collect();
        Ok(Room {
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
            unflushed: false,
            config,
            limits,
        })
    }

    /// A request arrives: it waits, or is rejected if its prompt leaves no room for an answer.
    pub(super) fn arrive(&mut self, sequence: u32, moment: u64) -> Status {
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

    pub(super) fn rank(&self, sequence: u32) -> (i32, u64, u32) {
        let state = &self.sequences[sequence as usize];
        (state.priority, state.moment, sequence)
    }

    /// A call of the scheduler begins: an empty step, its budgets whole.
    pub(super) fn open(&mut self, step: &mut Step) {
        step.reset(self.limits.tokens, self.limits.tokens, self.limits.draft_slots);
        self.calls += 1;
        self.unflushed = false;
    }

    /// Tokens a running request could take in a step without limit.
    pub(super) fn wanted(&self, sequence: u32) -> u32 {
        let state = &self.sequences[sequence as usize];
        if state.awaits_its_last_token() || self.calls < state.next_call {
            return 0;
        }
        state.to_compute().min(self.limits.model_len.saturating_sub(state.computed + 1))
    }

    /// Gives `sequence` blocks for `tokens` tokens, and lets others find them.
    pub(super) fn hold(&mut self, sequence: u32, tokens: u32) {
        self.kv.grow(sequence, self.slots(tokens));
        let known = self.sequences[sequence as usize].tokens;
        self.kv.register(sequence, tokens.min(known));
    }

    /// KV slots a sequence of `tokens` tokens needs, those for drafts among them.
    fn slots(&self, tokens: u32) -> u32 {
        (tokens + self.limits.lookahead).min(self.limits.model_len)
    }

    /// Continues a running request by `tokens` tokens, for which there is room.
    pub(super) fn proceed(&mut self, sequence: u32, tokens: u32, step: &mut Step) {
        let after = self.sequences[sequence as usize].computed + tokens;
        self.hold(sequence, after);
        let state = &mut self.sequences[sequence as usize];
        let known = state.tokens + state.placeholders;
        let drafts = after.saturating_sub(known).min(state.drafts);
        state.drafts = 0;
        step.add(Entry {
            request: sequence,
            tokens,
            drafts,
            padded: false,
            prefill: state.chunk,
            context: after,
            samples: false,
        });
    }

    /// The request at the front of the queue runs: it takes the cached prefix that was just looked up and `tokens`
    /// tokens more, `padding` of them drafts that will be rejected.
    pub(super) fn admit(&mut self, sequence: u32, cached: u32, tokens: u32, padding: u32, step: &mut Step) {
        self.kv.take_hits(sequence);
        self.hold(sequence, cached + tokens);
        self.waiting.pop();
        self.running.push(sequence);
        let state = &mut self.sequences[sequence as usize];
        self.set_aside -= usize::from(state.set_aside);
        state.set_aside = false;
        state.status = Status::Running;
        state.computed = cached;
        state.cached = state.cached.or(Some(cached));
        step.admitted.push((sequence, cached));
        step.add(Entry {
            request: sequence,
            tokens,
            drafts: padding,
            padded: padding > 0,
            prefill: true,
            context: cached + tokens,
            samples: false,
        });
    }

    /// Preempts until `sequence`, at `index` of the running list, can have `tokens` tokens; whether it still runs.
    /// `index` follows its place.
    pub(super) fn make_room(
        &mut self,
        sequence: u32,
        tokens: u32,
        index: &mut usize,
        step: &mut Step,
    ) -> bool {
        let slots = self.slots(tokens);
        while !self.kv.can_hold(sequence, slots) {
            let place = self.victim();
            let victim = self.preempt(place, step);
            if victim == sequence {
                return false;
            }
            if place < *index {
                step.withdraw(victim);
                *index -= 1;
            }
        }
        true
    }

    /// The place in the running list of who gives way.
    fn victim(&self) -> usize {
        let last = self.running.len() - 1;
        if self.config.scheduling_policy == Policy::Fcfs {
            return last;
        }
        let rank = |place: usize| {
            let state = &self.sequences[self.running[place] as usize];
            (state.priority, state.moment)
        };
        // The first of equals, in order of admission.
        (1..=last).fold(0, |worst, place| if rank(place) > rank(worst) { place } else { worst })
    }

    /// Takes everything from a request that was running; its answer so far is kept and will be recomputed.
    pub(super) fn preempt(&mut self, place: usize, step: &mut Step) -> u32 {
        let sequence = self.running.remove(place);
        self.kv.release(sequence);
        self.sequences[sequence as usize].preempt();
        self.waiting.put_back(self.rank(sequence));
        step.preempted.push(sequence);
        sequence
    }

    /// The step is decided: its tokens count as computed, its samples as under way.
    pub(super) fn commit(&mut self, step: &mut Step) {
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
    pub(super) fn check(&self, arrived: usize) -> std::result::Result<(), String> {
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
