//! Where each request's time went: queueing, prefill, decode, preempted; and what bound the engine while it ran.

use roofline_core::table::{Column, Table};
use rustc_hash::FxHashMap;

use super::account::{KINDS, Meter, Split, kind_names};
use super::journal::{Journal, Moments};
use super::records::Requests;
use crate::time::{Ticks, tick_seconds, ticks_in};

/// A span of a request's life after it gave way: until it ran again, until its next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// It gave way.
    pub from: Ticks,
    /// It ran again, or ended.
    pub runs: Ticks,
    /// It was given its next token, gave way again, or ended.
    pub to: Ticks,
}

/// One request's time; both ways to divide it add up to its E2E, in exact units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Until the first step it was in.
    pub queue: Ticks,
    /// From there to its first token, less setbacks.
    pub prefill: Ticks,
    /// From there to its last token, less setbacks.
    pub decode: Ticks,
    /// After it gave way, until the next token.
    pub preempted: Ticks,
    /// Outside the engine, before the answer began.
    pub outside: Ticks,
    /// Not running: queueing, and waiting to run again.
    pub waiting: Ticks,
    /// Running, by what the engine's time was spent on.
    pub running: Split,
}

impl Times {
    /// Arrival to last token.
    pub fn total(&self) -> Ticks {
        self.queue + self.prefill + self.decode + self.preempted + self.outside
    }

    /// Of a request with those instants and setbacks; `None` if it did not finish.
    pub fn of(moments: &Moments, setbacks: &[Setback], meter: &Meter<'_>) -> Option<Times> {
        let (Some(scheduled), Some(first), Some(finish)) =
            (moments.scheduled, moments.first_token, moments.finish)
        else {
            return None;
        };
        let queue = scheduled - moments.arrival;
        let mut times = Times {
            queue,
            prefill: first - scheduled,
            decode: finish - first,
            preempted: 0,
            outside: 0,
            waiting: queue,
            running: meter.between(scheduled, finish),
        };
        for setback in setbacks {
            let early = setback.to.min(first) - setback.from.min(first);
            times.prefill -= early;
            times.decode -= setback.to - setback.from - early;
            times.preempted += setback.to - setback.from;
            times.waiting += setback.runs - setback.from;
            times.running = times.running.since(&meter.between(setback.from, setback.runs));
        }
        Some(times)
    }
}

/// The setbacks of each request that gave way, in order and without overlap, within its life.
pub fn setbacks(journal: &Journal, finish: impl Fn(u32) -> Option<Ticks>) -> FxHashMap<u32, Vec<Setback>> {
    let mut found: FxHashMap<u32, Vec<Setback>> = FxHashMap::default();
    // From the last to the first: what follows an interruption ends it.
    for interruption in journal.interruptions.iter().rev() {
        let Some(finish) = finish(interruption.request) else { continue };
        let known = found.entry(interruption.request).or_default();
        let next = known.last().map_or(finish, |next| next.from).min(finish);
        let from = interruption.preempted.min(next);
        let to = interruption.resumed.unwrap_or(next).clamp(from, next);
        let runs = interruption.readmitted.unwrap_or(to).clamp(from, to);
        known.push(Setback { from, runs, to });
    }
    found.values_mut().for_each(|of_one| of_one.reverse());
    found
}

/// The time of each request of the trace, in its order; `None` where it did not finish. Needs journals with stretches.
pub fn of_requests(
    requests: usize,
    journals: &[Journal],
    origin: Ticks,
    outside: Ticks,
) -> Vec<Option<Times>> {
    let mut times = vec![None; requests];
    for journal in journals {
        let meter = Meter::new(journal, origin);
        let ends: FxHashMap<u32, Option<Ticks>> = match journal.interruptions.is_empty() {
            true => FxHashMap::default(),
            false => journal.rows.iter().zip(&journal.moments).map(|(&row, of)| (row, of.finish)).collect(),
        };
        let setbacks = setbacks(journal, |row| ends.get(&row).copied().flatten());
        for (&row, moments) in journal.rows.iter().zip(&journal.moments) {
            let of_one = setbacks.get(&row).map_or(&[][..], Vec::as_slice);
            times[row as usize] = Times::of(moments, of_one, &meter).map(|of| Times { outside, ..of });
        }
    }
    times
}

/// Mean seconds of finished requests by phase.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Phases {
    /// Until the first step.
    pub queue_s: f64,
    /// From there to the first token, less setbacks.
    pub prefill_s: f64,
    /// From there to the last token, less setbacks.
    pub decode_s: f64,
    /// After a request gave way, until its next token.
    pub preempted_s: f64,
    /// Outside the engine, before the answer began.
    pub outside_s: f64,
}

impl Phases {
    /// Their names and seconds, in order.
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("queue", self.queue_s),
            ("prefill", self.prefill_s),
            ("decode", self.decode_s),
            ("preempted", self.preempted_s),
            ("outside", self.outside_s),
        ]
    }

    /// The means over finished requests, which add up to their mean E2E; `None` without any. Any journal will do;
    /// `rows` says which the requests are in it, where they are not all.
    pub fn mean(
        requests: &Requests,
        journals: &[Journal],
        rows: Option<&[u32]>,
        outside_s: f64,
    ) -> Option<Phases> {
        let places: Option<FxHashMap<u32, usize>> =
            rows.map(|rows| rows.iter().enumerate().map(|(place, &row)| (row, place)).collect());
        let place = |row: u32| match &places {
            Some(places) => places.get(&row).copied(),
            None => Some(row as usize),
        };
        let mut sum = Phases::default();
        let mut count = 0u64;
        for row in 0..requests.len() {
            if let (Some(scheduled), Some(first), Some(finish)) = (
                requests.first_scheduled_s[row].get(),
                requests.first_token_s[row].get(),
                requests.finish_s[row].get(),
            ) {
                count += 1;
                sum.queue_s += scheduled - requests.arrival_s[row] - outside_s;
                sum.prefill_s += first - scheduled;
                sum.decode_s += finish - first;
            }
        }
        for journal in journals {
            let in_engine = |seconds: f64| ticks_in((seconds - outside_s).max(0.0));
            let finish = |row: u32| requests.finish_s[place(row)?].get().map(in_engine);
            let mut by_request: Vec<_> = setbacks(journal, finish).into_iter().collect();
            by_request.sort_unstable_by_key(|&(row, _)| row);
            for (row, of_one) in by_request {
                let first =
                    place(row).and_then(|place| requests.first_token_s[place].get()).map_or(0, in_engine);
                for Setback { from, to, .. } in of_one {
                    let early = tick_seconds(to.min(first) - from.min(first));
                    let whole = tick_seconds(to - from);
                    sum.prefill_s -= early;
                    sum.decode_s -= whole - early;
                    sum.preempted_s += whole;
                }
            }
        }
        let mean = |seconds: f64| seconds / count as f64;
        (count > 0).then(|| Phases {
            // The place in the queue is a difference of sums in floats, which may end just below nothing.
            queue_s: mean(sum.queue_s).max(0.0),
            prefill_s: mean(sum.prefill_s),
            decode_s: mean(sum.decode_s),
            preempted_s: mean(sum.preempted_s),
            outside_s,
        })
    }
}

/// One row a request: its phases, which add up to its E2E, and what bound the engine while it ran, which adds up to it
/// with `waiting_s` and `outside_s`.
pub fn to_table(requests: &Requests, times: &[Option<Times>]) -> Table {
    let column = |of: &dyn Fn(&Times) -> Ticks| {
        Column::OptF64(
            times.iter().map(|times| times.as_ref().map(|times| tick_seconds(of(times)))).collect(),
        )
    };
    let mut table = Table::new()
        .with("request_id", Column::Texts(requests.ids()))
        .with("e2e_s", column(&|times| times.total()))
        .with("queue_s", column(&|times| times.queue))
        .with("prefill_s", column(&|times| times.prefill))
        .with("decode_s", column(&|times| times.decode))
        .with("preempted_s", column(&|times| times.preempted))
        .with("outside_s", column(&|times| times.outside))
        .with("waiting_s", column(&|times| times.waiting));
    for (kind, name) in kind_names().into_iter().enumerate().take(KINDS) {
        table.push(format!("{name}_s"), column(&|times| times.running.0[kind]));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::journal::Interruption;

    #[test]
    fn setbacks_follow_each_other_within_a_request_s_life() {
        let at = |preempted, readmitted, resumed| Interruption { request: 3, preempted, readmitted, resumed };
        let mut journal = Journal::new(false);
        journal.interruptions = vec![at(10, Some(12), Some(15)), at(20, Some(22), None), at(30, None, None)];
        let found = setbacks(&journal, |_| Some(33));
        let spans: Vec<_> = found[&3].iter().map(|back| (back.from, back.runs, back.to)).collect();
        assert_eq!(spans, [(10, 12, 15), (20, 22, 30), (30, 33, 33)]);
        assert!(setbacks(&journal, |_| None).is_empty());
    }
}
