//! The scheduler of vLLM 0.33.0 (V1, `v1/core/sched/scheduler.py`), request by request and step by step.
//!
//! One full-attention KV group; no LoRA, multimodal input, KV connector or structured output. It is written to be
//! read beside the original and to decide exactly as it does; it is the twin any faster one is held against.

use std::collections::{BTreeSet, VecDeque};

use roofline_core::error::Result;

use super::config::{EngineConfig, Limits, Policy};
use super::queue::Queue;
use crate::kv::cache::KvCache;
use crate::request::Workload;
use crate::step::{Delivery, Entry, Step};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not arrived.
    Expected,
    /// It waits, for the first time or after a preemption.
    Waiting,
    /// It runs.
    Running,
    /// Its answer is complete.
    Finished,
    /// It was refused: no engine of this length could ever answer it.
    Rejected,
}

impl Status {
    /// As written in results.
    pub fn name(self) -> &'static str {
        match self {
            Status::Expected => "expected",
            Status::Waiting => "waiting",
            Status::Running => "running",
            Status::Finished => "finished",
            Status::Rejected => "rejected",
        }
    }
}

/// What the scheduler keeps of a request.
#[derive(Debug, Clone)]
struct Sequence {
    /// Tokens of prompt and longest answer.
    limit: u32,
    /// Tokens at which it ends: the limit, or the model's.
    end: u32,
    /// Tokens known: the prompt, and what was delivered.
    tokens: u32,
    /// Tokens in KV, or on the way there.
    computed: u32,
    /// Tokens sampled but not yet delivered (asynchronous scheduling).
    placeholders: u32,
    /// Draft tokens attached for the next step.
    drafts: u32,
    /// Tokens scheduled whose result was not yet processed.
    in_flight: u32,
    /// Those of them that a preemption made worthless.
    stale: u32,
    /// Verifications of drafts so far.
    verifications: u32,
    /// The first call of the scheduler that may schedule it again (pipeline stages, asynchronous).
    next_call: u64,
    preemptions: u32,
    /// Tokens found cached at the first admission.
    cached: Option<u32>,
    arrival_ns: u64,
    priority: i32,
    status: Status,
    /// Whether the last chunk scheduled left known tokens to compute.
    chunk: bool,
    /// Whether it was passed over because results of it are still under way.
    set_aside: bool,
}

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
        let trace = workload.trace();
        let sequence = |&request: &u32| {
            let row = request as usize;
            let limit = trace.prompt_tokens[row].saturating_add(trace.output_tokens[row].max(1));
            Sequence {
                limit,
                end: limit.min(limits.model_len),
                tokens: trace.prompt_tokens[row],
                computed: 0,
                placeholders: 0,
                drafts: 0,
                in_flight: 0,
                stale: 0,
                verifications: 0,
                next_call: 0,
                preemptions: 0,
                cached: None,
                arrival_ns: trace.arrival_ns[row],
                priority: workload.priority(row),
                status: Status::Expected,
                chunk: false,
                set_aside: false,
            }
        };
        Ok(Vllm {
            kv: KvCache::new(workload, requests, config.cache_shape()),
            sequences: requests.iter().map(sequence).collect(),
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

    /// A request arrives: it waits, or is rejected if its prompt leaves no room for an answer.
    pub fn arrive(&mut self, sequence: u32) -> Status {
        let state = &mut self.sequences[sequence as usize];
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
        (state.priority, state.arrival_ns, sequence)
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

    /// Continues running requests in order of admission; whether one with an unfinished prompt was among them.
    fn schedule_running(&mut self, step: &mut Step, pass: Pass) -> bool {
        let mut chunk_scheduled = false;
        let mut index = 0;
        while index < self.running.len() && step.room() > 0 {
            let sequence = self.running[index];
            let tokens = self.wanted(sequence, pass).min(step.room());
            if tokens == 0 {
                index += 1;
                continue;
            }
            let state = &self.sequences[sequence as usize];
            let after = state.computed + tokens;
            if !self.make_room(sequence, after, &mut index, step) {
                // It gave way itself: nobody behind it is tried, unless priority rules.
                match self.config.scheduling_policy {
                    Policy::Fcfs => break,
                    Policy::Priority => continue,
                }
            }
            self.hold(sequence, after);
            let state = &mut self.sequences[sequence as usize];
            let known = state.tokens + state.placeholders;
            let drafts = after.saturating_sub(known).min(state.drafts);
            state.drafts = 0;
            chunk_scheduled |= state.chunk;
            step.add(Entry {
                request: sequence,
                tokens,
                drafts,
                padded: false,
                prefill: state.chunk,
                context: after,
                samples: false,
            });
            index += 1;
        }
        chunk_scheduled
    }

    /// Tokens a running request could take in a step without limit.
    fn wanted(&self, sequence: u32, pass: Pass) -> u32 {
        let state = &self.sequences[sequence as usize];
        let last_is_under_way =
            state.placeholders > 0 && state.computed + 2 >= state.limit.saturating_add(state.placeholders);
        let staggered = self.calls < state.next_call;
        if last_is_under_way || staggered || (pass.deferring && state.chunk) {
            return 0;
        }
        let known = state.tokens + state.drafts + state.placeholders;
        let room = self.limits.model_len.saturating_sub(state.computed + 1);
        pass.cap(known.saturating_sub(state.computed)).min(room)
    }

    /// Gives `sequence` blocks for `tokens` tokens, and lets others find them.
    fn hold(&mut self, sequence: u32, tokens: u32) {
        let slots = (tokens + self.limits.lookahead).min(self.limits.model_len);
        self.kv.grow(sequence, slots);
        let known = self.sequences[sequence as usize].tokens;
        self.kv.register(sequence, tokens.min(known));
    }

    /// Preempts until `sequence` can have `tokens` tokens; whether it still runs. `index` follows its place.
    fn make_room(&mut self, sequence: u32, tokens: u32, index: &mut usize, step: &mut Step) -> bool {
        let slots = (tokens + self.limits.lookahead).min(self.limits.model_len);
        while !self.kv.can_hold(sequence, slots) {
            let place = self.victim();
            let victim = self.running.remove(place);
            self.preempt(victim, step);
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
            (state.priority, state.arrival_ns)
        };
        // The first of equals, in order of admission.
        (1..=last).fold(0, |worst, place| if rank(place) > rank(worst) { place } else { worst })
    }

    /// Takes everything from a request that was running; its answer so far is kept and will be recomputed.
    fn preempt(&mut self, sequence: u32, step: &mut Step) {
        self.kv.release(sequence);
        let state = &mut self.sequences[sequence as usize];
        (state.computed, state.drafts, state.placeholders) = (0, 0, 0);
        state.stale = state.in_flight;
        state.status = Status::Waiting;
        state.preemptions += 1;
        self.waiting.put_back(self.rank(sequence));
        step.preempted.push(sequence);
    }

    /// Admits waiting requests in their order; whether one has more to compute than its last token.
    fn admit(&mut self, step: &mut Step, pass: Pass, chunk_scheduled: bool) -> bool {
        let decoding = !step.is_empty();
        let mut prefill_scheduled = false;
        while step.room() > 0 && self.running.len() < self.limits.running as usize {
            let Some(sequence) = self.waiting.front() else { break };
            let state = &mut self.sequences[sequence as usize];
            if state.stale > 0 {
                self.set_aside += usize::from(!state.set_aside);
                state.set_aside = true;
                self.waiting.pop();
                self.aside.push(sequence);
                continue;
            }
            let Some(entry) = self.try_admit(sequence, step.room(), pass, chunk_scheduled, decoding) else {
                break;
            };
            self.waiting.pop();
            self.running.push(sequence);
            let state = &mut self.sequences[sequence as usize];
            let cached = entry.context - entry.tokens;
            self.set_aside -= usize::from(state.set_aside);
            state.set_aside = false;
            state.status = Status::Running;
            state.computed = cached;
            state.cached = state.cached.or(Some(cached));
            prefill_scheduled |= cached + 1 < state.tokens;
            step.admitted.push((sequence, cached));
            step.add(entry);
        }
        while let Some(sequence) = self.aside.pop() {
            self.waiting.put_back(self.rank(sequence));
        }
        prefill_scheduled
    }

    /// Finds a waiting request's cached prefix and gives it blocks; `None` stops admission.
    fn try_admit(
        &mut self,
        sequence: u32,
        room: u32,
        pass: Pass,
        chunk_scheduled: bool,
        decoding: bool,
    ) -> Option<Entry> {
        let known = self.sequences[sequence as usize].tokens;
        let (hits, free_hits) = self.kv.look_up(sequence, known);
        let cached = hits * self.config.block_size;
        if pass.deferring && cached + 1 < known {
            return None;
        }
        let mut tokens = known - cached;
        // A row that computes one token beside decodes is padded to their shape.
        let padded = self.limits.drafts > 0
            && tokens == 1
            && !chunk_scheduled
            && (decoding || cached > 0)
            && cached + 2 + self.limits.drafts <= self.limits.model_len;
        if padded {
            tokens += self.limits.drafts;
            if tokens > room {
                return None;
            }
        }
        tokens = pass.cap(tokens);
        if !self.config.enable_chunked_prefill && tokens > room {
            return None;
        }
        tokens = tokens.min(room);
        if !self.fits(known, cached + tokens, hits, free_hits) {
            return None;
        }
        self.kv.take_hits(sequence);
        self.hold(sequence, cached + tokens);
        Some(Entry {
            request: sequence,
            tokens,
            drafts: if padded { tokens - 1 } else { 0 },
            padded,
            prefill: true,
            context: cached + tokens,
            samples: false,
        })
    }

    /// Whether blocks suffice for a request of `known` tokens that would hold `tokens` of them after this step.
    fn fits(&self, known: u32, tokens: u32, hits: u32, free_hits: u32) -> bool {
        let watermark = if self.running.is_empty() { 0 } else { self.limits.watermark_blocks };
        let free = u64::from(self.kv.free());
        let enough = |slots: u32| {
            let needed = self.kv.blocks_for(slots.min(self.limits.model_len)).saturating_sub(hits);
            u64::from(needed) + u64::from(free_hits) + u64::from(watermark) <= free
        };
        (!self.config.scheduler_reserve_full_isl || enough(known)) && enough(tokens + self.limits.lookahead)
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

    /// Takes in the result of a step: tokens are delivered, answers end, their blocks are free.
    pub fn update(&mut self, step: &mut Step) {
        let mut finished = false;
        for place in 0..step.entries().len() {
            let entry = step.entries()[place];
            if let Some(delivery) = self.deliver(entry) {
                finished |= delivery.finished;
                step.deliveries.push(delivery);
            }
        }
        if finished {
            self.unflushed = true;
            let sequences = &self.sequences;
            self.running.retain(|&sequence| sequences[sequence as usize].status == Status::Running);
        }
    }

    fn deliver(&mut self, entry: Entry) -> Option<Delivery> {
        let state = &mut self.sequences[entry.request as usize];
        state.in_flight -= entry.tokens;
        let stale = state.stale > 0;
        if stale {
            state.stale -= entry.tokens;
        }
        if state.status == Status::Finished || !entry.samples {
            return None;
        }
        let accepted = match &self.config.speculation {
            Some(speculation) if entry.drafts > 0 && !entry.padded => {
                let request = self.requests[entry.request as usize];
                state.verifications += 1;
                speculation.accepted(request, state.verifications - 1, entry.drafts)
            }
            _ => 0,
        };
        let had_placeholders = state.placeholders > 0;
        let returned = 1 + accepted;
        let tokens = returned.min(state.end - state.tokens);
        state.tokens += tokens;
        if !stale {
            let rejected = entry.drafts - accepted;
            state.computed -= rejected + (returned - tokens);
            state.placeholders = state.placeholders.saturating_sub(rejected + returned);
        }
        let (known, done) = (state.tokens, state.tokens == state.end);
        let computed = state.computed.saturating_sub(state.in_flight);
        if !self.config.async_scheduling && !stale && !done {
            state.drafts = self.limits.drafts;
        }
        self.kv.know(entry.request, known);
        if !stale && (had_placeholders || self.limits.drafts > 0) {
            self.kv.register(entry.request, computed.min(known));
        }
        if done {
            self.finish(entry.request);
        }
        Some(Delivery { request: entry.request, tokens, finished: done })
    }

    fn finish(&mut self, sequence: u32) {
        let rank = self.rank(sequence);
        let state = &mut self.sequences[sequence as usize];
        if state.status == Status::Waiting {
            self.waiting.remove(rank);
            self.set_aside -= usize::from(state.set_aside);
        }
        state.set_aside = false;
        state.status = Status::Finished;
        self.kv.finish(sequence);
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
