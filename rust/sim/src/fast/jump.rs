//! Stretches in which nothing is decided: everybody who runs decodes, nobody comes, leaves or gives way.
//!
//! Prices are not linear in time and rounded step by step, so a stretch is not a formula: each of its steps is priced
//! and added as the step-by-step engine would, but nothing else is looked at.

use std::sync::atomic::Ordering;

use super::FastReplica;
use crate::error::{Error, Result};
use crate::metrics::journal::Note;
use crate::step_cost::StepCost;
use crate::time::Clock;

/// Most steps of a stretch, so that a stop asked for is noticed.
const LONGEST: i64 = 4096;

/// What calls saw that the state after a stretch no longer tells.
struct Tally {
    /// Blocks in use after the first.
    used_first: u32,
    /// Requests waiting after the last.
    waiting: u32,
}

impl<C: Clock, P: StepCost> FastReplica<'_, C, P> {
    /// Runs through the calls before the next one that decides something.
    pub(super) fn jump_steps(&mut self) -> Result<()> {
        if !self.is_settled() {
            return Ok(());
        }
        let Some((leaving, _)) = self.decode.next_leaving(&self.sequences) else { return Ok(()) };
        let (before, start) = (self.calls, self.next_start());
        let tally = self.run_through(leaving.min(before + LONGEST))?;
        let steps = (self.calls - before) as u64;
        if steps == 0 {
            return Ok(());
        }
        self.noted.totals.steps += steps;
        self.noted.totals.scheduled_tokens += steps * u64::from(self.decode.count());
        self.idle_calls = 0;
        // Free blocks only became fewer and waiting requests more: the peaks are those of the last call.
        self.note_peaks();
        self.note_steps(|replica| {
            let decodes = replica.decode.as_priced(before);
            let rises = decodes.count * (steps * (steps - 1) / 2);
            Note {
                start: C::ticks(start),
                end: C::ticks(replica.busy_until),
                steps,
                sequences: decodes.count as u32,
                scheduled_tokens: steps * decodes.count,
                prefill_tokens: 0,
                context_tokens: steps * (decodes.context + decodes.count) + rises,
                running: replica.running,
                waiting: tally.waiting,
                used_first: tally.used_first,
                used_last: replica.used_blocks(),
                preempted: 0,
            }
        });
        if self.monitor.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Whether the engine is between two steps in which the same requests decode, and no other can be admitted.
    fn is_settled(&self) -> bool {
        let flights = self.limits.batches_in_flight as usize - 1;
        self.partial.is_none()
            && self.decode.count() > 0
            && (self.waiting.is_empty() || self.blocked)
            && self.flights.len() == flights
            && self.flights.iter().all(|flight| !flight.is_empty && flight.finishing.is_empty())
    }

    /// Schedules steps in which everybody decodes, and processes the oldest result after each, up to the call before
    /// `last`, the arrival of somebody who could be admitted, or a shortage of blocks.
    fn run_through(&mut self, last: i64) -> Result<Tally> {
        let count = u64::from(self.decode.count());
        let mut barren = self.barren_preemptions;
        let mut residue = self.decode.beginning_residue(self.calls);
        let used = self.used_blocks();
        let mut tally = Tally { used_first: used + self.decode.beginning_block(self.calls), waiting: 0 };
        while self.calls < last && self.may_go_on() {
            let needed = self.decode.beginning_next(&mut residue);
            if needed > self.cache.free() {
                break;
            }
            let mut sums = P::Sums::default();
            self.cost.add_decodes(&mut sums, &self.decode.as_priced(self.calls));
            let busy_s = self.seconds(&sums)?;
            self.cache.allocate(needed);
            tally.waiting = self.waiting.len() as u32;
            self.calls += 1;
            let before = self.busy_until;
            self.busy_until = C::after(C::later(self.now, before), busy_s);
            self.noted.note_gaps(C::seconds_between(before, self.busy_until), count);
            self.noted.totals.decode_s += busy_s;
            let (processed, delivers) = match self.flights.front_mut() {
                None => (self.busy_until, true),
                Some(flight) => {
                    let oldest = (flight.end, flight.delivers);
                    (flight.end, flight.delivers) = (self.busy_until, true);
                    oldest
                }
            };
            barren = if delivers { 0 } else { barren };
            self.now = C::later(self.now, processed);
        }
        self.barren_preemptions = barren;
        Ok(tally)
    }

    /// Whether nobody has come who could be admitted; others are taken in.
    #[inline]
    fn may_go_on(&mut self) -> bool {
        if self.client.due().is_none_or(|due| due > self.now) {
            return true;
        }
        // Where the statistics change, the steps so far must have been noted.
        if !self.blocked || self.client.has_marks() {
            return false;
        }
        self.enqueue();
        true
    }
}
