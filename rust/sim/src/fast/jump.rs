//! Stretches in which nothing is decided: everybody who runs decodes, nobody comes, leaves or gives way.
//!
//! Where prices are straight lines in exact units ([`StepCost::run`]), a stretch is a formula: the sum of an arithmetic
//! series, and the arrival that ends it the root of a parabola. Otherwise each of its steps is priced and added as the
//! step-by-step engine would, but nothing else is looked at.

use std::sync::atomic::Ordering;

use super::FastReplica;
use crate::engine::checked;
use crate::error::{Error, Result};
use crate::metrics::journal::Note;
use crate::step_cost::{Run, StepCost};
use crate::time::{Clock, Ticks};

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
        if let Some(passes) = &mut self.passes {
            passes.skip(steps, tally.waiting);
        }
        // Free blocks only became fewer and waiting requests more: the peaks are those of the last call.
        self.note_peaks(tally.waiting);
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
        self.singles.is_empty()
            && self.decode.count() > 0
            && (self.waiting.is_empty() || self.blocked)
            && self.flights.len() == flights
            && self.flights.iter().all(|flight| !flight.is_empty && flight.finishing.is_empty())
    }

    /// Schedules steps in which everybody decodes, and processes the oldest result after each, up to the call before
    /// `last`, the arrival of somebody who could be admitted, or a shortage of blocks.
    fn run_through(&mut self, last: i64) -> Result<Tally> {
        let used = self.used_blocks();
        let mut tally = Tally { used_first: used + self.decode.beginning_block(self.calls), waiting: 0 };
        while self.calls < last && self.may_go_on() {
            if self.run_undisturbed(last, &mut tally)? {
                break;
            }
        }
        Ok(tally)
    }

    /// The same up to the next arrival, of whoever, or less far; whether blocks became short. At least one call is due.
    fn run_undisturbed(&mut self, last: i64, tally: &mut Tally) -> Result<bool> {
        let before = self.calls;
        let is_short = match self.straight_run(last) {
            Some(run) => self.run_at_once(&run),
            None => self.run_one_by_one(last)?,
        };
        if self.calls > before {
            tally.waiting = self.waiting.len() as u32;
        }
        Ok(is_short)
    }

    /// What the calls before `last` cost, where their sum is a formula.
    fn straight_run(&self, last: i64) -> Option<Run> {
        C::exactly(0)?;
        self.cost.run(&self.decode.as_priced(self.calls), (last - self.calls) as u64)
    }

    /// Takes all steps of a run at once, up to the arrival or the shortage that comes first; whether blocks became short.
    fn run_at_once(&mut self, run: &Run) -> bool {
        let start = self.next_start();
        let instant = |ticks: Ticks| C::exactly(C::ticks(start) + ticks).unwrap_or(start);
        let oldest = self.flights.front().map(|flight| (flight.end, flight.delivers));
        let reached = self.client.due().and_then(|due| match oldest {
            Some((end, _)) if end >= due => Some(1),
            _ => {
                let steps = run.steps_within(C::ticks(due) - C::ticks(start))?.max(1);
                // The result that is processed after a call is that of the call before, where one is under way.
                Some(steps + u64::from(oldest.is_some()))
            }
        });
        let most = reached.map_or(run.steps, |reached| reached.min(run.steps));
        let (steps, blocks) = self.decode.calls_within(self.calls, most, self.cache.free());
        if steps == 0 {
            return true;
        }
        let decodes = self.decode.as_priced(self.calls);
        self.cost.charge(&decodes, run, steps);
        let (waited, count) = (C::ticks(start) - C::ticks(self.busy_until), decodes.count);
        if waited == 0 {
            self.noted.gaps.note_rising(run.ticks, run.rise, steps, count);
        } else {
            self.noted.gaps.note_rising(waited + run.ticks, 0, 1, count);
            self.noted.gaps.note_rising(run.ticks + run.rise, run.rise, steps - 1, count);
        }
        self.cache.allocate(blocks);
        self.calls += steps as i64;
        let busy = run.sum(steps);
        self.noted.totals.decode += busy;
        let end = instant(busy);
        let (processed, delivers) = match self.flights.front_mut() {
            None => (end, true),
            Some(flight) => {
                let before = (flight.end, flight.delivers);
                (flight.end, flight.delivers) = (end, true);
                if steps == 1 { before } else { (instant(run.sum(steps - 1)), true) }
            }
        };
        if delivers {
            self.barren_preemptions = 0;
        }
        (self.now, self.busy_until) = (C::later(self.now, processed), end);
        steps < most
    }

    /// Takes one step after the other; whether blocks became short.
    fn run_one_by_one(&mut self, last: i64) -> Result<bool> {
        let (due, cost, first) = (self.client.due(), self.cost, self.calls);
        let mut residue = self.decode.beginning_residue(first);
        let mut decodes = self.decode.as_priced(first);
        let (mut now, mut busy_until) = (self.now, self.busy_until);
        let mut oldest = self.flights.front().map(|flight| (flight.end, flight.delivers));
        let is_short = loop {
            let needed = self.decode.beginning_next(&mut residue);
            if needed > self.cache.free() {
                break true;
            }
            let mut sums = P::Sums::default();
            cost.add_decodes(&mut sums, &decodes);
            let busy = checked(cost.price(&sums))?;
            self.cache.allocate(needed);
            self.calls += 1;
            (decodes.context, decodes.longest) = (decodes.context + decodes.count, decodes.longest + 1);
            decodes.shift += 1;
            let end = C::after(C::later(now, busy_until), busy);
            self.noted.gaps.note(C::seconds_between(busy_until, end), decodes.count);
            self.noted.totals.decode += busy.ticks;
            busy_until = end;
            let (processed, delivers) = match &mut oldest {
                None => (end, true),
                Some(flight) => std::mem::replace(flight, (end, true)),
            };
            if delivers {
                self.barren_preemptions = 0;
            }
            now = C::later(now, processed);
            if self.calls >= last || due.is_some_and(|due| due <= now) {
                break false;
            }
        };
        (self.now, self.busy_until) = (now, busy_until);
        if let (Some(flight), Some(oldest)) = (self.flights.front_mut(), oldest) {
            (flight.end, flight.delivers) = oldest;
        }
        Ok(is_short)
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
        self.blocked
    }
}
