//! Stretches in which nothing is decided: everybody who runs decodes, nobody comes, leaves or gives way.
//!
//! Prices are not linear in time and rounded step by step, so a stretch is not a formula: each of its steps is priced
//! and added as the step-by-step engine would, but nothing else is looked at.

use std::sync::atomic::Ordering;

use super::FastReplica;
use crate::error::{Error, Result};
use crate::step_cost::StepCost;
use crate::time::Clock;

/// Most steps of a stretch, so that a stop asked for is noticed.
const LONGEST: i64 = 4096;

impl<C: Clock, P: StepCost> FastReplica<'_, C, P> {
    /// Runs through the calls before the next one that decides something.
    pub(super) fn jump_steps(&mut self) -> Result<()> {
        if !self.is_settled() {
            return Ok(());
        }
        let Some((leaving, _)) = self.decode.next_leaving(&self.sequences) else { return Ok(()) };
        let before = self.calls;
        self.run_through(leaving.min(before + LONGEST))?;
        let steps = (self.calls - before) as u64;
        if steps == 0 {
            return Ok(());
        }
        self.noted.totals.steps += steps;
        self.noted.totals.scheduled_tokens += steps * u64::from(self.decode.count());
        self.idle_calls = 0;
        // Free blocks only became fewer and waiting requests more: the peaks are those of the last call.
        self.note_peaks();
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
    fn run_through(&mut self, last: i64) -> Result<()> {
        let count = u64::from(self.decode.count());
        let mut barren = self.barren_preemptions;
        let mut residue = self.decode.beginning_residue(self.calls);
        while self.calls < last && self.may_go_on() {
            let needed = self.decode.beginning_next(&mut residue);
            if needed > self.cache.free() {
                break;
            }
            let mut sums = P::Sums::default();
            self.cost.add_decodes(&mut sums, &self.decode.as_priced(self.calls));
            let busy_s = self.seconds(&sums)?;
            self.cache.allocate(needed);
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
        Ok(())
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
