//! Request-level batching as in FasterTransformer 5.3 behind Triton (Orca, section 3.1): a batch starts and ends together.
//!
//! All prompts of a batch are computed before its answers. A member whose answer is complete keeps its memory and its
//! row, and is returned with the last of its batch.

use super::room::{Room, Share};
use crate::step::{Delivery, Entry, Step};

/// Fills a step with prompts of the batch, or else with all its members; forms a batch when there is none.
pub(super) fn fill(room: &mut Room<'_>, step: &mut Step) {
    if room.running.is_empty() {
        form(room, step);
    }
    let members = room.running.clone();
    for &sequence in &members {
        let prompt = room.wanted(sequence);
        if room.sequences[sequence as usize].computed > 0 || prompt == 0 {
            continue;
        }
        if prompt > step.room() {
            break;
        }
        room.proceed(sequence, prompt, step);
    }
    let computed = |&sequence: &u32| room.sequences[sequence as usize].computed > 0;
    if !step.is_empty() || !members.iter().all(computed) {
        return;
    }
    for &sequence in &members {
        if !is_complete(room, sequence) && room.wanted(sequence) > 0 {
            room.proceed(sequence, 1, step);
        }
    }
    if step.is_empty() {
        return;
    }
    for &sequence in members.iter().filter(|&&sequence| is_complete(room, sequence)) {
        step.add(idle(sequence));
    }
}

/// Takes in who waits, as many as there is room for with their longest answers.
fn form(room: &mut Room<'_>, step: &mut Step) {
    while room.running.len() < room.limits.running as usize {
        let Some(sequence) = room.waiting.front() else { return };
        let (hits, free_hits) = room.kv.look_up(sequence, room.sequences[sequence as usize].tokens);
        let reserve = room.sequences[sequence as usize].end;
        if !room.fits(reserve, hits, free_hits, 0) {
            return;
        }
        room.admit(sequence, Share { cached: 0, tokens: 0, padding: 0, reserve }, step);
    }
}

/// The row of a member that has nothing left to do: its matrices are multiplied, its attention is skipped.
fn idle(sequence: u32) -> Entry {
    Entry {
        request: sequence,
        tokens: 1,
        drafts: 0,
        padded: true,
        prefill: false,
        context: 1,
        samples: false,
    }
}

/// Whether the last token of an answer is known.
fn is_complete(room: &Room<'_>, sequence: u32) -> bool {
    let state = &room.sequences[sequence as usize];
    state.computed + 1 >= state.end && state.in_flight == 0
}

/// Takes in a result: tokens are delivered as they come, but for the last ones, which return with the whole batch.
pub(super) fn update(room: &mut Room<'_>, step: &mut Step) {
    for place in 0..step.entries().len() {
        let entry = step.entries()[place];
        if entry.is_idle() {
            continue;
        }
        let state = &mut room.sequences[entry.request as usize];
        state.in_flight -= entry.tokens;
        if state.tokens + 1 < state.end {
            state.tokens += 1;
            step.deliveries.push(Delivery { request: entry.request, tokens: 1, finished: false });
        }
    }
    if room.running.iter().all(|&sequence| is_complete(room, sequence)) {
        for sequence in std::mem::take(&mut room.running) {
            room.sequences[sequence as usize].tokens += 1;
            room.finish(sequence);
            room.unflushed = true;
            step.deliveries.push(Delivery { request: sequence, tokens: 1, finished: true });
        }
    }
}
