//! Results of steps: tokens are delivered, answers end.

use super::room::Room;
use super::rules::Found;
use super::sequence::Status;
use crate::step::{Delivery, Entry, Step};

impl Room<'_> {
    /// Takes in the result of a step: tokens are delivered, answers end, their blocks are free.
    pub(super) fn update(&mut self, step: &mut Step) {
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
        let lost = stale && self.config.rules.loses_tokens_under_way();
        if state.status == Status::Finished || lost {
            return None;
        }
        if !entry.samples {
            if !stale && self.config.rules.found() != Found::Scheduled {
                let computed = state.computed.saturating_sub(state.in_flight);
                self.kv.register(entry.request, computed);
            }
            return None;
        }
        let accepted = match &self.config.speculation {
            Some(speculation) if entry.drafts > 0 && !entry.padded => {
                let row = self.rows.row(entry.request).unwrap_or(entry.request);
                let request = self.workload.given_row(row);
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
        let (known, prompt, done) = (state.tokens, state.prompt, state.tokens == state.end);
        let computed = state.computed.saturating_sub(state.in_flight);
        if !self.config.async_scheduling && !stale && !done {
            state.drafts = self.limits.drafts;
        }
        self.kv.know(entry.request, known);
        let found = match self.config.rules.found() {
            Found::Scheduled if had_placeholders || self.limits.drafts > 0 => computed.min(known),
            Found::Scheduled => 0,
            Found::Complete if !done => computed.min(prompt),
            Found::Computed | Found::Complete => computed.min(known),
        };
        if !stale {
            self.kv.register(entry.request, found);
        }
        if done {
            self.finish(entry.request);
        }
        Some(Delivery { request: entry.request, tokens, finished: done })
    }

    pub(super) fn finish(&mut self, sequence: u32) {
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
}
