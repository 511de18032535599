//! A call of the scheduler: all who decode together, the one partial prompt, and who gives way to them.

use std::sync::atomic::Ordering;

use super::FastReplica;
use super::replica::{CALLS_PER_LOOK, Flight};
use super::sequence::Place;
use crate::engine::{busy_with, checked, preempted_for_ever};
use crate::error::{Error, Result};
use crate::images::Alike;
use crate::metrics::journal::Note;
use crate::scheduler::config::Policy;
use crate::scheduler::vllm::pass::Pass;
use crate::step_cost::{Phase, StepCost, StepItem};
use crate::time::Clock;

/// A step while it is decided.
#[derive(Debug)]
pub(super) struct Draft<S> {
    pub(super) sums: S,
    /// Tokens that still fit.
    pub(super) room: u32,
    /// Tokens in it.
    pub(super) tokens: u32,
    /// Those who decode in it together.
    pub(super) decoding: u32,
    /// Those who decode in it, but did not in the step before.
    pub(super) late: u32,
    /// Those whose prompt it computes.
    pub(super) prefilling: u32,
    /// Tokens in the KV caches of all of them afterwards.
    pub(super) context: u64,
    pub(super) preempted: u32,
    /// Whether it computes prompts that are not all but cached.
    pub(super) prefills: bool,
    /// Whether others decode after somebody who does not decode with them.
    pub(super) mixes: bool,
    /// Those it admits for the first time.
    pub(super) newcomers: Vec<u32>,
    pub(super) finishing: Vec<u32>,
    /// Images that pass the vision tower before it.
    pub(super) images: Vec<Alike>,
}

impl<C: Clock, P: StepCost> FastReplica<'_, C, P> {
    /// Decides what the next step processes, and writes down what will come of it.
    pub(super) fn schedule(&mut self) -> Result<()> {
        let mut step = Draft {
            sums: P::Sums::default(),
            room: self.config.max_num_scheduled_tokens.unwrap_or(u32::MAX).min(self.limits.tokens),
            tokens: 0,
            decoding: 0,
            late: 0,
            prefilling: 0,
            context: 0,
            preempted: 0,
            prefills: false,
            mixes: false,
            newcomers: self.spare.pop().unwrap_or_default(),
            finishing: self.spare.pop().unwrap_or_default(),
            images: Vec::new(),
        };
        self.unflushed = false;
        self.blocked = false;
        let pass = self.pass();
        self.proceed(&mut step, pass);
        self.calls += 1;
        self.take_leave(&mut step);
        if step.preempted == 0 {
            let before = self.admissions;
            self.admit(&mut step, pass);
            if let Some(passes) = &mut self.passes {
                passes.admitted(pass, self.waiting.len());
            }
            // A limit that follows how many wait may let them in yet.
            self.blocked = self.admissions == before
                && self.singles.is_empty()
                && step.finishing.is_empty()
                && self.completing.is_empty()
                && !self.waiting.is_empty()
                && !pass.deferring
                && !self.config.long_prefill_token_threshold_adaptive;
        }
        if let Some(passes) = &mut self.passes {
            passes.close(step.tokens == 0, step.prefills);
        }
        if (self.calls as u64).is_multiple_of(CALLS_PER_LOOK) {
            self.told.check_taken()?;
            self.workload.check_whole()?;
            if self.monitor.cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
        }
        self.check_progress(&step)?;
        self.launch(&mut step)
    }

    /// How this call limits the tokens of prompts.
    #[inline]
    fn pass(&self) -> Pass {
        let Some(passes) = &self.passes else { return Pass::default() };
        let requests = self.running + self.waiting.len() as u32;
        let chunks = self.singles.iter().filter(|&&single| self.place(single) == Place::Prefilling).count();
        passes.open(self.config, requests, self.running > chunks as u32)
    }

    /// Running requests continue, in order of admission; some give way to others.
    #[inline]
    fn proceed(&mut self, step: &mut Draft<P::Sums>, pass: Pass) {
        let single = self.singles.first().copied();
        let is_last = |single: u32| self.stack.last().is_some_and(|&(top, _)| top == single);
        let in_order = self.singles.len() <= 1 && single.is_none_or(is_last);
        let by_rank = self.config.scheduling_policy == Policy::Priority;
        if !in_order || (by_rank && !self.have_blocks(step.room, pass)) {
            self.proceed_one_by_one(step, pass);
            return;
        }
        self.continue_answers(step);
        if let Some(single) = single {
            self.continue_single(single, step, pass);
        }
    }

    /// Where a sequence stands.
    #[inline]
    pub(super) fn place(&self, sequence: u32) -> Place {
        self.sequences[sequence as usize].place
    }

    /// Everybody who decodes gets a token, and a block where one begins.
    fn continue_answers(&mut self, step: &mut Draft<P::Sums>) {
        let needed = self.decode.beginning_block(self.calls);
        if needed <= self.cache.free() {
            self.cache.allocate(needed);
        } else {
            self.make_room(needed, u32::MAX, step);
        }
        step.room -= self.decode.count();
        self.decode_together(step);
    }

    /// Puts those who decode together into the step.
    #[inline]
    pub(super) fn decode_together(&mut self, step: &mut Draft<P::Sums>) {
        step.decoding = self.decode.count();
        step.tokens += step.decoding;
        if step.decoding > 0 {
            let decodes = self.decode.as_priced(self.calls);
            self.cost.add_decodes(&mut step.sums, &decodes);
            step.context += decodes.context + decodes.count;
        }
    }

    /// The first in order take what is free, then the last admitted give way, until all that are left have a block, of
    /// those who were admitted before `until`.
    pub(super) fn make_room(&mut self, mut needed: u32, until: u32, step: &mut Draft<P::Sums>) {
        loop {
            let taken = needed.min(self.cache.free());
            self.cache.allocate(taken);
            needed -= taken;
            if needed == 0 {
                return;
            }
            let Some(victim) = self.last_running() else { return };
            let state = &self.sequences[victim as usize];
            // The last of those who need a block has none yet.
            let is_one = state.place == Place::Decoding && state.admission < until;
            if is_one && self.decode.begins_block(state.base, self.calls) {
                needed -= 1;
            }
            self.preempt(victim, 0, step);
            if needed == 0 {
                return;
            }
        }
    }

    /// The last admitted of those who run, taken off the stack.
    pub(super) fn last_running(&mut self) -> Option<u32> {
        while let Some((sequence, admission)) = self.stack.pop() {
            let state = &self.sequences[sequence as usize];
            if state.place.runs() && state.admission == admission {
                return Some(sequence);
            }
        }
        None
    }

    /// Takes everything from a request that was running, `given` tokens of this step among it; its answer so far is kept
    /// and will be recomputed.
    pub(super) fn preempt(&mut self, sequence: u32, given: u32, step: &mut Draft<P::Sums>) {
        if self.place(sequence) == Place::Decoding {
            self.part(sequence);
        } else {
            self.singles.retain(|&single| single != sequence);
        }
        let state = &mut self.sequences[sequence as usize];
        let is_single = matches!(state.place, Place::Prefilling | Place::Late);
        state.computed += given;
        // With results under way, the block filled last is not yet found by others.
        let under_way = u32::from(self.config.async_scheduling);
        let registered =
            if is_single { state.computed } else { state.prefilled.max(state.computed - under_way) };
        let number = state.number;
        self.journal.preempted(number, C::ticks(C::later(self.now, self.busy_until)));
        self.cache.release(sequence, state.computed, registered, true);
        state.computed = 0;
        state.place = Place::Waiting;
        state.preemptions += 1;
        self.running -= 1;
        self.waiting.put_back(self.sequences[sequence as usize].rank(sequence));
        step.preempted += 1;
    }

    /// A sequence does not decode with the others from now on.
    pub(super) fn part(&mut self, sequence: u32) {
        self.decode.leave(sequence, &self.sequences);
        let state = &mut self.sequences[sequence as usize];
        state.computed = (state.base + self.calls) as u32;
        state.tokens = state.computed + 1;
        self.timelines[sequence as usize].last_token = self.busy_until;
    }

    /// The only one who does not decode with the others, and was admitted after them, goes on or gives way.
    #[inline]
    fn continue_single(&mut self, sequence: u32, step: &mut Draft<P::Sums>, pass: Pass) {
        let tokens = self.share(sequence, step.room, pass);
        if tokens == 0 {
            return;
        }
        let needed = self.blocks_of_share(sequence, tokens);
        if needed > self.cache.free() {
            self.stack.pop();
            self.preempt(sequence, 0, step);
            return;
        }
        self.give(sequence, tokens, needed);
        step.prefills |= self.place(sequence) == Place::Prefilling;
        step.room -= tokens;
        if self.compute(sequence, tokens, step) {
            self.singles.clear();
        }
    }

    /// Puts the next `tokens` tokens of a sequence into the step; whether all it knows are computed then.
    pub(super) fn compute(&mut self, sequence: u32, tokens: u32, step: &mut Draft<P::Sums>) -> bool {
        let state = &mut self.sequences[sequence as usize];
        let context = state.computed;
        state.computed += tokens;
        let completes = state.computed == state.tokens;
        if completes {
            self.completing.push(sequence);
        }
        step.tokens += tokens;
        step.context += u64::from(state.computed);
        let phase = match state.place {
            Place::Late => Phase::Decode,
            _ => Phase::Prefill,
        };
        match phase {
            Phase::Decode => step.late += 1,
            Phase::Prefill => step.prefilling += 1,
        }
        let sampled_rows = u32::from(completes);
        self.cost.add(&mut step.sums, StepItem { new_tokens: tokens, context, phase, sampled_rows });
        completes
    }

    /// Whose answer this step completes decodes no more.
    fn take_leave(&mut self, step: &mut Draft<P::Sums>) {
        while let Some((call, sequence)) = self.decode.next_leaving(&self.sequences) {
            if call >= self.calls {
                return;
            }
            self.decode.leave(sequence, &self.sequences);
            let state = &mut self.sequences[sequence as usize];
            state.place = Place::Leaving;
            state.computed = state.end - 1;
            state.tokens = state.end;
            step.finishing.push(sequence);
        }
    }

    /// Requests can take each other's blocks for ever, none ever reaching its next token.
    fn check_progress(&mut self, step: &Draft<P::Sums>) -> Result<()> {
        self.barren_preemptions += u64::from(step.preempted);
        let requests = u64::from(self.running) + self.waiting.len() as u64;
        if self.barren_preemptions < 1000 + 64 * requests {
            return Ok(());
        }
        Err(preempted_for_ever(self.barren_preemptions))
    }

    /// The step is decided: when it runs, and what it delivers to whom.
    fn launch(&mut self, step: &mut Draft<P::Sums>) -> Result<()> {
        let is_empty = step.tokens == 0;
        let delivers = step.decoding > 0 || !self.completing.is_empty();
        let (start, mut end) = (self.next_start(), self.now);
        if is_empty && step.preempted == 0 {
            self.idle_calls += 1;
        } else {
            self.idle_calls = 0;
            if !is_empty {
                end = self.occupy(step)?;
            }
            self.noted.totals.scheduled_tokens += u64::from(step.tokens);
            self.noted.totals.preemptions += u64::from(step.preempted);
            self.note_peaks(self.waiting.len() as u32);
            self.note_steps(|replica| {
                let used = replica.used_blocks();
                Note {
                    start: C::ticks(start),
                    end: C::ticks(end),
                    steps: u64::from(!is_empty),
                    sequences: step.decoding + step.late + step.prefilling,
                    scheduled_tokens: u64::from(step.tokens),
                    prefill_tokens: u64::from(step.tokens - step.decoding - step.late),
                    context_tokens: step.context,
                    running: replica.running,
                    waiting: replica.waiting.len() as u32,
                    used_first: used,
                    used_last: used,
                    preempted: step.preempted,
                }
            });
        }
        for place in 0..self.completing.len() {
            self.deliver_first(self.completing[place], end, step);
        }
        self.completing.clear();
        if step.mixes {
            step.finishing.sort_by_key(|&sequence| self.sequences[sequence as usize].admission);
        }
        let mut newcomers = std::mem::take(&mut step.newcomers);
        newcomers.clear();
        self.spare.push(newcomers);
        let finishing = std::mem::take(&mut step.finishing);
        self.flights.push_back(Flight { end, is_empty, delivers, finishing });
        Ok(())
    }

    /// The device takes the step; when it ends. Those who decode have their tokens then.
    fn occupy(&mut self, step: &Draft<P::Sums>) -> Result<C::Instant> {
        let mut busy = checked(self.cost.price(&step.sums))?;
        if !step.images.is_empty() {
            busy = busy_with(busy, self.cost.encode(&step.images));
        }
        let start = C::later(self.now, self.busy_until);
        let end = C::after(start, busy);
        for &sequence in &step.newcomers {
            self.timelines[sequence as usize].first_scheduled = start;
        }
        if step.decoding > 0 {
            self.noted.gaps.note(C::seconds_between(self.busy_until, end), u64::from(step.decoding));
        }
        for &sequence in &step.finishing {
            self.timelines[sequence as usize].last_token = end;
        }
        let share = match (step.prefilling, step.decoding + step.late) {
            (0, _) => &mut self.noted.totals.decode,
            (_, 0) => &mut self.noted.totals.prefill,
            _ => &mut self.noted.totals.mixed,
        };
        *share += busy.ticks;
        self.noted.totals.steps += 1;
        self.busy_until = end;
        Ok(end)
    }

    /// A prompt is complete at the end of this step, and yields a token.
    fn deliver_first(&mut self, sequence: u32, end: C::Instant, step: &mut Draft<P::Sums>) {
        let timeline = &mut self.timelines[sequence as usize];
        let before = std::mem::replace(&mut timeline.last_token, end);
        let state = &mut self.sequences[sequence as usize];
        let is_first = state.has_no_token();
        state.prefilled = state.tokens;
        state.tokens += 1;
        if state.tokens == state.end {
            state.place = Place::Leaving;
            step.finishing.push(sequence);
        } else {
            self.decode.join(sequence, state, self.calls);
        }
        if state.preemptions > 0 {
            self.journal.resumed(state.number, C::ticks(end));
        }
        if is_first {
            timeline.first_token = end;
        } else {
            self.noted.gaps.note(C::seconds_between(before, end), 1);
        }
    }
}
