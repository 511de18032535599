//! The scheduler of SGLang 0.5 (`managers/scheduler.py`, `schedule_policy.py`, `schedule_batch.py`): prompts before answers.
//!
//! Prompts start as long as memory holds them and an estimate of all answers still to come. The estimate falls with
//! every step that continues answers, and rises when memory was short and requests had to be retracted.

use std::cmp::Reverse;

use roofline_core::error::Error;
use roofline_core::groups::POOLS;

use super::config::{EngineConfig, Policy};
use super::decode;
use super::room::{Room, Share};
use super::rules::Sglang as Settings;
use crate::step::Step;

/// Share of the answers to come that is set aside at first (`SGLANG_INIT_NEW_TOKEN_RATIO`).
const INITIAL_RATIO: f64 = 0.7;
/// What of that share is kept at least (`SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR`).
const LEAST_FACTOR: f64 = 0.14;
/// Steps of decoding in which the share falls from the first to the least (`SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS`).
const DECAY_STEPS: f64 = 600.0;
/// Tokens a request is granted beyond its answer so far when the share is estimated anew (`SGLANG_RETRACT_DECODE_STEPS`).
const RETRACT_STEPS: f64 = 20.0;
/// Tokens of an answer that admission looks ahead at most (`SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION`).
const LONGEST_ESTIMATE: u32 = 4096;
/// Requests waiting beyond which the longest cached prefix is not looked for.
const LONGEST_SORTED_QUEUE: usize = 128;

/// What SGLang keeps from call to call.
#[derive(Debug, Clone)]
pub(super) struct Sglang {
    settings: Settings,
    /// Share of the answers to come that is set aside.
    ratio: f64,
    /// Whether admission found memory or slots used up, and nothing has ended since.
    full: bool,
    /// Requests running at the end of the last call.
    running: usize,
}

/// What a step that computes prompts may still take.
struct Budget {
    /// Tokens of memory, answers to come counted.
    total: f64,
    /// Tokens of memory.
    now: i64,
    /// Prompt tokens.
    input: i64,
    /// Prompt tokens while prompts are cut.
    chunk: i64,
}

impl Budget {
    fn take(&mut self, tokens: u32, answer: u32) {
        self.total -= f64::from(tokens) + f64::from(answer);
        self.now -= i64::from(tokens);
        self.input -= i64::from(tokens);
        self.chunk -= i64::from(tokens);
    }
}

impl Sglang {
    /// Before the first call.
    pub(super) fn new(settings: Settings) -> Sglang {
        let ratio = initial_ratio(&settings);
        Sglang { settings, ratio, full: false, running: 0 }
    }

    /// Fills a step with prompts if one can go on or start, else with all who decode.
    pub(super) fn fill(&mut self, room: &mut Room<'_>, step: &mut Step) {
        if room.running.len() < self.running {
            self.full = false;
        }
        if room.running.is_empty() && room.waiting.is_empty() {
            self.ratio = initial_ratio(&self.settings);
        }
        let decoding = room.running.len() - usize::from(partial(room).is_some());
        self.prefill(room, step);
        if step.is_empty() {
            self.decode(room, step);
        } else if self.settings.enable_mixed_chunk && decoding > 0 {
            for index in 0..decoding {
                let sequence = room.running[index];
                let tokens = room.wanted(sequence);
                let after = room.sequences[sequence as usize].computed + tokens;
                if tokens > 0 && !room.has_prompt_left(sequence) && room.can_hold(sequence, after) {
                    room.proceed(sequence, tokens, step);
                }
            }
        }
        self.running = room.running.len();
    }

    fn prefill(&mut self, room: &mut Room<'_>, step: &mut Step) {
        let chunked = partial(room);
        if chunked.is_none() && (self.full || room.waiting.is_empty()) {
            return;
        }
        if room.running.len() >= room.limits.running as usize && chunked.is_none() {
            self.full = true;
            return;
        }
        let mut budget = self.budget(room);
        if let Some(sequence) = chunked {
            let computed = room.sequences[sequence as usize].computed;
            room.kv.register(sequence, computed);
            if !proceed_with(room, sequence, &mut budget, step) {
                // It is still cut: it takes the whole step.
                return;
            }
        }
        if room.config.scheduling_policy == Policy::LongestPrefix {
            sort_by_prefix(room);
        }
        self.admit(room, &mut budget, step);
    }

    fn budget(&self, room: &Room<'_>) -> Budget {
        let free = room.kv.free_tokens();
        let mixed = if self.settings.enable_mixed_chunk { room.running.len() as i64 } else { 0 };
        let estimate: f64 = (room.running.iter())
            .filter(|&&sequence| !room.has_prompt_left(sequence))
            .map(|&sequence| f64::from(answer_to_come(room, sequence)) * self.ratio)
            .sum();
        let chunk = i64::from(room.limits.tokens);
        Budget {
            total: free as f64 - estimate - mixed as f64,
            now: free - mixed,
            input: i64::from(self.settings.max_prefill_tokens) - mixed,
            chunk: if room.config.enable_chunked_prefill { chunk - mixed } else { i64::MAX },
        }
    }

    fn admit(&mut self, room: &mut Room<'_>, budget: &mut Budget, step: &mut Step) {
        while budget.input > 0 && budget.chunk > 0 {
            let Some(sequence) = room.waiting.front() else { return };
            let state = &room.sequences[sequence as usize];
            if state.stale > 0 {
                return;
            }
            if room.running.len() >= room.limits.running as usize {
                self.full = true;
                return;
            }
            let alone = room.running.is_empty();
            let known = state.tokens;
            let answer = answer_to_come(room, sequence);
            let (hits, free_hits) = room.kv.look_up(sequence, known);
            let page = room.config.block_size;
            let cached = (hits * page).max(room.recorded(sequence));
            // What comes from outside takes memory, but is not computed.
            let outside = cached - hits * page;
            // Pages found again are no longer free once they are taken.
            let locked = free_hits * page;
            let wanted = known - cached;
            let total = f64::from(wanted + outside) + f64::from(answer);
            if total >= budget.total - f64::from(locked) && !alone {
                self.full = true;
                return;
            }
            if i64::from(wanted) >= budget.input && !step.is_empty() {
                return;
            }
            let cut = i64::from(wanted) > budget.chunk;
            let tokens = if cut { budget.chunk as u32 / page * page } else { wanted };
            if tokens == 0 || !room.fits(cached + tokens, hits, free_hits, 0) {
                return;
            }
            room.admit(sequence, Share { cached, tokens, padding: 0, reserve: cached + tokens }, step);
            let pages = tokens.div_ceil(page).saturating_mul(page);
            budget.take(pages, if cut { 0 } else { answer });
            budget.total -= f64::from(locked + outside);
            budget.now -= i64::from(locked + outside);
            if budget.total <= 0.0 || budget.now <= 0 {
                self.full = true;
                return;
            }
            if cut {
                return;
            }
        }
    }

    /// Continues all who decode, after retracting as many as their next tokens ask for.
    fn decode(&mut self, room: &mut Room<'_>, step: &mut Step) {
        if are_short(room) {
            self.retract(room, step);
            self.full = false;
        } else if !room.running.is_empty() {
            let first = initial_ratio(&self.settings);
            let least = (first * LEAST_FACTOR).min(1.0);
            self.ratio = (self.ratio - (first - least) / DECAY_STEPS).max(least);
        }
        decode::proceed(room, step);
    }

    /// Retracts those with the fewest tokens answered, of equals those with the longest prompt, until the rest can go on.
    fn retract(&mut self, room: &mut Room<'_>, step: &mut Step) {
        let mut first = true;
        while room.running.len() > 1 && (first || are_short(room)) {
            first = false;
            let answering =
                (0..room.running.len()).filter(|&place| !room.has_prompt_left(room.running[place]));
            let place = answering.min_by_key(|&place| {
                let state = &room.sequences[room.running[place] as usize];
                (state.tokens - state.prompt, u32::MAX - state.prompt, usize::MAX - place)
            });
            let Some(place) = place else { break };
            room.retract(place, step);
        }
        let (mut answered, mut longest) = (0.0, 1.0);
        for &sequence in &room.running {
            let state = &room.sequences[sequence as usize];
            answered += f64::from(state.tokens - state.prompt) + RETRACT_STEPS;
            longest += f64::from(state.end.saturating_sub(state.prompt));
        }
        self.ratio = (answered / longest).min(1.0);
    }
}

fn initial_ratio(settings: &Settings) -> f64 {
    (INITIAL_RATIO * settings.schedule_conservativeness).min(1.0)
}

/// The running request whose prompt is cut; there is at most one, the last admitted.
fn partial(room: &Room<'_>) -> Option<u32> {
    room.running.last().copied().filter(|&sequence| room.has_prompt_left(sequence))
}

fn answer_to_come(room: &Room<'_>, sequence: u32) -> u32 {
    let state = &room.sequences[sequence as usize];
    state.end.saturating_sub(state.tokens).min(LONGEST_ESTIMATE)
}

/// Whether the next tokens of all who decode take more pages than are free, of any pool.
fn are_short(room: &Room<'_>) -> bool {
    let mut taken = [0u32; POOLS];
    for &sequence in room.running.iter().filter(|&&sequence| !room.has_prompt_left(sequence)) {
        let after = room.sequences[sequence as usize].computed + room.wanted(sequence);
        let pages = room.next_blocks(sequence, after);
        taken.iter_mut().zip(pages).for_each(|(sum, pages)| *sum += pages);
    }
    taken.iter().zip(room.kv.free_of_each()).any(|(taken, free)| *taken > free)
}

/// Computes the next chunk of a prompt; whether it was the last.
fn proceed_with(room: &mut Room<'_>, sequence: u32, budget: &mut Budget, step: &mut Step) -> bool {
    let wanted = room.wanted(sequence);
    let before = room.sequences[sequence as usize].computed;
    // Its own pages have room left where drafts were looked ahead for.
    let held = i64::from(room.kv.capacity(sequence).saturating_sub(before));
    let most = budget.chunk.min(budget.total as i64 + held).max(0);
    let mut tokens = u32::try_from(i64::from(wanted).min(most)).unwrap_or(0);
    if tokens < wanted {
        tokens = tokens / room.config.block_size * room.config.block_size;
    }
    if tokens == 0 || !room.can_hold(sequence, before + tokens) {
        return false;
    }
    room.proceed(sequence, tokens, step);
    let last = tokens == wanted;
    budget.take(tokens, if last { answer_to_come(room, sequence) } else { 0 });
    last && budget.chunk > 0
}

/// Those with the longest cached prefix first; a long queue stays as it is.
fn sort_by_prefix(room: &mut Room<'_>) {
    if room.waiting.len() > LONGEST_SORTED_QUEUE {
        return;
    }
    let Room { kv, sequences, waiting, .. } = room;
    waiting.sort_by_key(|&sequence| Reverse(kv.look_up(sequence, sequences[sequence as usize].tokens).0));
}

/// What is wrong with the settings that only SGLang has.
pub(super) fn mistakes(settings: &Settings, config: &EngineConfig) -> Vec<Error> {
    let mut mistakes = Vec::new();
    if settings.max_prefill_tokens == 0 {
        mistakes.push(Error::spec("max_prefill_tokens", "must be at least 1", 0, ""));
    }
    let conservativeness = settings.schedule_conservativeness;
    if !(conservativeness.is_finite() && conservativeness >= 0.0) {
        let must = "must be finite and not negative";
        mistakes.push(Error::spec(
            "schedule_conservativeness",
            must,
            conservativeness,
            "1 is SGLang's default",
        ));
    }
    if config.enable_chunked_prefill && config.max_num_batched_tokens < config.block_size {
        let must = format!("must hold a page of {} tokens", config.block_size);
        mistakes.push(Error::spec("max_num_batched_tokens", must, config.max_num_batched_tokens, ""));
    }
    mistakes
}
