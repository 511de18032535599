//! What every policy works in: the sequences of an engine, who waits and who runs, and the KV blocks they hold.
//!
//! Engines give and take blocks while they decide, so the room holds the KV cache; clocks and measurements are not its
//! business. Its moves are those that all engines share: to continue, admit, preempt.

use roofline_core::error::Result;
use roofline_core::groups::POOLS;

use super::config::{EngineConfig, Limits, Policy};
use super::queue::Queue;
use super::rules::Found;
use super::sequence::{Sequence, Status};
use super::speculation::Speculation;
use super::swap::Swapped;
use crate::kv::cache::KvCache;
use crate::living::Living;
use crate::request::{Rows, Workload};
use crate::step::{Entry, Step};

/// What an admission takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Tokens found cached.
    pub(super) cached: u32,
    /// Tokens computed in this step.
    pub(super) tokens: u32,
    /// Drafts among them that only pad the row.
    pub(super) padding: u32,
    /// Tokens that are given blocks now.
    pub(super) reserve: u32,
}

/// Sequences, queues and blocks.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) limits: Limits,
    pub(super) kv: KvCache<'a>,
    pub(super) workload: Workload<'a>,
    /// For each sequence its request in the workload.
    pub(super) rows: Rows<'a>,
    /// Those that have come, from the oldest that is under way on.
    pub(super) sequences: Living<Sequence>,
    /// In order of admission.
    pub(super) running: Vec<u32>,
    pub(super) waiting: Queue<u32>,
    /// Those who wait with their blocks in the host's memory.
    pub(super) swapped: Swapped,
    /// Requests waiting that were set aside.
    pub(super) set_aside: usize,
    /// Calls of the scheduler so far.
    pub(super) calls: u64,
    /// Whether a request ended since the last call.
    pub(super) unflushed: bool,
}

impl<'a> Room<'a> {
    /// An empty room that is to serve these rows of the workload, numbered from 0 on.
    ///
    /// # Errors
    /// Settings no engine could start with.
    pub fn new(config: &'a EngineConfig, workload: Workload<'a>, rows: Rows<'a>) -> Result<Room<'a>> {
        let limits = config.limits()?;
        Ok(Room {
            kv: KvCache::new(workload, rows, config.cache_shape()),
            sequences: Living::default(),
            workload,
            rows,
            running: Vec::new(),
            waiting: Queue::of(config.scheduling_policy),
            swapped: Swapped::default(),
            set_aside: 0,
            calls: 0,
            unflushed: false,
            config,
            limits,
        })
    }

    /// A request arrives: it waits, or is rejected if its prompt leaves no room for an answer.
    pub(super) fn arrive(&mut self, sequence: u32, moment: u64) -> Status {
        self.sequences.forget_while(Sequence::is_gone);
        let (workload, rows, model_len) = (self.workload, self.rows, self.limits.model_len);
        self.sequences.reach(sequence as usize, |number| {
            let row = rows.row(number as u32).unwrap_or(number as u32);
            Sequence::expected(&workload, row as usize, model_len)
        });
        let oldest = self.sequences.first();
        self.kv.enter(sequence, oldest);
        self.workload.forget(|| rows.row(oldest as u32));
        self.workload.limit(self.sequences.end() - oldest);
        let state = &mut self.sequences[sequence as usize];
        state.moment = moment;
        let rules = self.config.rules;
        let cut = self.config.enable_chunked_prefill || !rules.refuses_long_prompts();
        let queued = self.waiting.len() + self.swapped.len();
        let full = self.config.max_num_queued_reqs.is_some_and(|most| queued >= most as usize);
        if full || state.tokens >= self.limits.model_len || (state.tokens > self.limits.tokens && !cut) {
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
        let tokens = self.config.max_num_scheduled_tokens.unwrap_or(u32::MAX).min(self.limits.step_tokens);
        step.reset(tokens, self.limits.step_tokens, self.limits.draft_slots);
        self.calls += 1;
        self.unflushed = false;
    }

    /// Tokens a running request could take in a step without limit.
    pub(super) fn wanted(&self, sequence: u32) -> u32 {
        let state = &self.sequences[sequence as usize];
        let ends = state.awaits_its_last_token() && !self.config.rules.overruns();
        if ends || self.calls < state.next_call {
            return 0;
        }
        state.to_compute().min(self.limits.model_len.saturating_sub(state.computed + 1))
    }

    /// Whether a running request has more of its prompt to compute than was scheduled.
    pub(super) fn has_prompt_left(&self, sequence: u32) -> bool {
        self.sequences[sequence as usize].chunk
    }

    /// Of `tokens` tokens that a request could take after `computed` ones, those after which a state can be kept: whole
    /// blocks of a prompt, then its rest (vLLM's `_mamba_block_aligned_split`).
    pub(super) fn to_the_end_of_a_block(&self, sequence: u32, computed: u32, tokens: u32) -> u32 {
        let state = &self.sequences[sequence as usize];
        if !self.config.keeps_states() || computed >= state.prompt.max(state.tokens.saturating_sub(1)) {
            return tokens;
        }
        let size = self.config.block_size;
        let drafted = self.config.speculation.as_ref().map_or(0, Speculation::hash_lookahead) * size;
        let last = (state.tokens - state.tokens % size).saturating_sub(drafted);
        let after = computed + tokens;
        if after < last {
            tokens / size * size
        } else if computed < last && last < after {
            last - computed
        } else {
            tokens
        }
    }

    /// Gives `sequence` blocks for `reserve` tokens, and lets others find the first `tokens` where that is the custom.
    fn hold(&mut self, sequence: u32, tokens: u32, reserve: u32) {
        self.kv.grow(sequence, self.slots(reserve));
        if self.config.rules.found() == Found::Scheduled {
            let known = self.sequences[sequence as usize].tokens;
            self.kv.register(sequence, tokens.min(known));
        }
    }

    /// Tokens of a waiting request that count as cached because they were when it was recorded, in whole blocks and never
    /// the last token. They come from outside: blocks are taken for them as for tokens that are computed.
    pub(super) fn recorded(&self, sequence: u32) -> u32 {
        if !self.config.enable_prefix_caching {
            return 0;
        }
        let state = &self.sequences[sequence as usize];
        let size = self.config.block_size.max(1);
        state.recorded.min(state.tokens.saturating_sub(1)) / size * size
    }

    /// Blocks of each pool that a request will still take, at most, until its answer is as long as it can be.
    pub(super) fn to_come(&self, sequence: u32) -> [u32; POOLS] {
        let state = &self.sequences[sequence as usize];
        let end = state.end.max(state.tokens).saturating_add(self.limits.drafts);
        self.kv.to_come(sequence, self.slots(end))
    }

    /// Blocks of each pool that a running request takes to have `tokens` tokens in all.
    pub(super) fn next_blocks(&self, sequence: u32, tokens: u32) -> [u32; POOLS] {
        self.kv.next_blocks(sequence, self.slots(tokens))
    }

    /// The same until the tokens that are known are computed.
    pub(super) fn to_come_now(&self, sequence: u32) -> [u32; POOLS] {
        self.kv.to_come(sequence, self.slots(self.sequences[sequence as usize].tokens))
    }

    /// Blocks that `tokens` tokens take, those for drafts among them.
    pub(super) fn blocks_to(&self, tokens: u32) -> u32 {
        self.kv.blocks_for(self.slots(tokens))
    }

    /// Whether a sequence can have room for `tokens` tokens in all.
    pub(super) fn can_hold(&self, sequence: u32, tokens: u32) -> bool {
        self.kv.can_hold(sequence, self.slots(tokens))
    }

    /// Whether blocks suffice for a waiting request of `tokens` tokens, `hits` of whose blocks were found, `free_hits` of
    /// them free, beside `watermark` blocks to be left.
    pub(super) fn fits(&self, tokens: u32, hits: u32, free_hits: u32, watermark: u32) -> bool {
        let needed = u64::from(self.blocks_to(tokens).saturating_sub(hits));
        needed + u64::from(free_hits) + u64::from(watermark) <= u64::from(self.kv.free())
            && self.kv.apart_fits(self.slots(tokens), hits * self.config.block_size)
    }

    /// KV slots a sequence of `tokens` tokens needs, those for drafts among them.
    fn slots(&self, tokens: u32) -> u32 {
        tokens.saturating_add(self.limits.lookahead).min(self.limits.model_len)
    }

    /// Continues a running request by `tokens` tokens, for which there is room.
    pub(super) fn proceed(&mut self, sequence: u32, tokens: u32, step: &mut Step) {
        let after = self.sequences[sequence as usize].computed + tokens;
        self.hold(sequence, after, after);
        let state = &mut self.sequences[sequence as usize];
        let known = state.tokens + state.placeholders;
        let drafts = after.saturating_sub(known).min(state.drafts);
        state.drafts = 0;
        step.add(Entry {
            request: sequence,
            tokens,
            drafts,
            padded: false,
            // A batch that is formed at once begins with whole prompts.
            prefill: state.chunk || after == tokens,
            context: after,
            samples: false,
        });
    }

    /// The request at the front of the queue runs: it takes the cached prefix that was just looked up and its share of
    /// the step.
    pub(super) fn admit(&mut self, sequence: u32, share: Share, step: &mut Step) {
        let Share { cached, tokens, padding, reserve } = share;
        self.kv.take_hits(sequence);
        self.hold(sequence, cached + tokens, reserve);
        self.waiting.pop();
        self.running.push(sequence);
        let state = &mut self.sequences[sequence as usize];
        self.set_aside -= usize::from(state.set_aside);
        state.set_aside = false;
        state.status = Status::Running;
        state.computed = cached;
        state.cached = state.cached.or(Some(cached));
        step.admitted.push((sequence, cached));
        if tokens == 0 {
            return;
        }
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
        while !self.can_hold(sequence, tokens) {
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
        if self.config.scheduling_policy != Policy::Priority {
            return last;
        }
        let rank = |place: usize| {
            let state = &self.sequences[self.running[place] as usize];
            (state.priority, state.moment)
        };
        // The first of equals, in order of admission.
        (1..=last).fold(0, |worst, place| if rank(place) > rank(worst) { place } else { worst })
    }

    /// Takes everything from a request that was running: its blocks go to the host where it has room for them, or its
    /// answer so far is kept and will be recomputed.
    pub(super) fn preempt(&mut self, place: usize, step: &mut Step) -> u32 {
        if let Some(swap) = self.config.swap {
            let sequence = self.running[place];
            let blocks = self.kv.held(sequence);
            if self.swapped.used() + blocks <= swap.blocks {
                self.swap_out(place, blocks, step);
                return sequence;
            }
            step.host_is_full = true;
        }
        let sequence = self.stop(place, step);
        self.waiting.put_back(self.rank(sequence));
        sequence
    }

    /// The same, but it waits behind all others.
    pub(super) fn retract(&mut self, place: usize, step: &mut Step) {
        let sequence = self.stop(place, step);
        self.waiting.push(self.rank(sequence));
    }

    fn swap_out(&mut self, place: usize, blocks: u32, step: &mut Step) {
        let sequence = self.running.remove(place);
        self.kv.release(sequence);
        self.sequences[sequence as usize].pause();
        self.swapped.push(sequence, blocks);
        step.moved_blocks += blocks;
        step.preempted.push(sequence);
    }

    /// Those whose blocks lie with the host return in order, as long as there is room, and go on in this step.
    pub(super) fn swap_in(&mut self, step: &mut Step, watermark: u32) {
        while let Some((sequence, blocks)) = self.swapped.front() {
            let tokens = self.wanted(sequence).min(step.room());
            if tokens == 0 || self.running.len() >= self.limits.running as usize {
                return;
            }
            let computed = self.sequences[sequence as usize].computed;
            let watermark = if self.running.is_empty() { 0 } else { watermark };
            let needed = self.blocks_to(computed + tokens).max(blocks);
            if u64::from(needed) + u64::from(watermark) > u64::from(self.kv.free()) {
                return;
            }
            self.swapped.pop();
            self.running.push(sequence);
            self.sequences[sequence as usize].status = Status::Running;
            step.moved_blocks += blocks;
            step.admitted.push((sequence, computed));
            self.proceed(sequence, tokens, step);
        }
    }

    fn stop(&mut self, place: usize, step: &mut Step) -> u32 {
        let sequence = self.running.remove(place);
        self.kv.release(sequence);
        self.sequences[sequence as usize].preempt();
        step.preempted.push(sequence);
        sequence
    }

    /// The step is decided: its tokens count as computed, its samples as under way.
    pub(super) fn commit(&mut self, step: &mut Step) {
        let staggered = self.config.async_scheduling && self.config.pipeline_parallel > 1;
        let next_call = self.calls + u64::from(self.config.pipeline_parallel);
        for entry in step.entries_mut().iter_mut().filter(|entry| !entry.is_idle()) {
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
        let waiting = self.waiting.len() + self.swapped.len();
        let count = |status: Status| self.sequences.iter().filter(|state| state.status == status).count();
        if count(Status::Running) != self.running.len() || count(Status::Waiting) != waiting {
            return Err("every living request must run or wait, once".into());
        }
        if self.sequences.end() - count(Status::Expected) != arrived {
            return Err(format!("every request that arrived must be known: {arrived}"));
        }
        Ok(())
    }
}
