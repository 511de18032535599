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
        let steps = (leaving - self.calls).min(LONGEST);
        let mut done = 0;
        while done < steps && self.step_on()? {
            done += 1;
        }
        if done == 0 {
            return Ok(());
        }
        let tokens = done as u64 * u64::from(self.decode.count());
        self.totals.steps += done as u64;
        self.totals.scheduled_tokens += tokens;
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

    /// Schedules a step in which everybody decodes and processes the oldest result; `false`, and nothing done, if
    /// somebody could be admitted or would have to give way.
    fn step_on(&mut self) -> Result<bool> {
        if self.arrivals.get(self.arrived).is_some_and(|&arrival| arrival <= self.now) {
            if !self.blocked {
                return Ok(false);
            }
            self.enqueue();
        }
        let needed = self.decode.beginning_block(self.calls);
        if needed > self.cache.free() {
            return Ok(false);
        }
        let mut sums = P::Sums::default();
        self.cost.add_decodes(&mut sums, &self.decode.as_priced(self.calls));
        let busy_s = self.seconds(&sums)?;
        self.cache.allocate(needed);
        self.calls += 1;
        let start = C::later(self.now, self.busy_until);
        let end = C::after(start, busy_s);
        self.note_gaps(C::seconds_between(self.busy_until, end), u64::from(self.decode.count()));
        self.totals.decode_s += busy_s;
        self.busy_until = end;
        let processed = match self.flights.front_mut() {
            None => end,
            Some(flight) => {
                if flight.delivers {
                    self.barren_preemptions = 0;
                }
                flight.delivers = true;
                std::mem::replace(&mut flight.end, end)
            }
        };
        if self.flights.is_empty() {
            self.barren_preemptions = 0;
        }
        self.now = C::later(self.now, processed);
        Ok(true)
    }
}
