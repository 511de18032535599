//! Where each request's time went: queueing, prefill, decode, preempted; and what bound the engine while it ran.

use std::ops::Range;

use roofline_core::table::{Column, Table, Texts};
use rustc_hash::FxHashMap;

use super::account::{KINDS, Meter, Split, kind_names};
use super::journal::{Interruption, Journal, Moments};
use super::requests::One;
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
        let mut times = Times::by_phase(moments, setbacks)?;
        let mut reading = meter.reading();
        for (moment, ends) in bounds_of(moments, setbacks) {
            times.running.shift(&reading.at(moment), ends);
        }
        Some(times)
    }

    /// The same, without what bound the engine while it ran.
    fn by_phase(moments: &Moments, setbacks: &[Setback]) -> Option<Times> {
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
            running: Split::default(),
        };
        for setback in setbacks {
            let early = setback.to.min(first) - setback.from.min(first);
            times.prefill -= early;
            times.decode -= setback.to - setback.from - early;
            times.preempted += setback.to - setback.from;
            times.waiting += setback.runs - setback.from;
        }
        Some(times)
    }
}

/// When a request that finished began to run, and when (`true`) it ended to.
fn bounds_of<'a>(
    moments: &Moments,
    setbacks: &'a [Setback],
) -> impl Iterator<Item = (Ticks, bool)> + use<'a> {
    let (scheduled, finish) = (moments.scheduled.unwrap_or_default(), moments.finish.unwrap_or_default());
    let back = setbacks.iter().flat_map(|back| [(back.from, true), (back.runs, false)]);
    [(scheduled, false)].into_iter().chain(back).chain([(finish, true)])
}

/// The setbacks of each request that gave way, in order and without overlap, within its life; of those that have a `finish`.
pub fn setbacks(journal: &Journal, finish: impl Fn(u32) -> Option<Ticks>) -> FxHashMap<u32, Vec<Setback>> {
    let mut found: FxHashMap<u32, (Ticks, Vec<Interruption>)> = FxHashMap::default();
    for interruption in &journal.interruptions {
        if let Some((_, known)) = found.get_mut(&interruption.request) {
            known.push(*interruption);
        } else if let Some(finish) = finish(interruption.request) {
            found.insert(interruption.request, (finish, vec![*interruption]));
        }
    }
    found.into_iter().map(|(row, (finish, known))| (row, setbacks_of(&known, finish))).collect()
}

/// How each request that gave way did so, in order.
pub fn by_request(journal: &Journal) -> FxHashMap<u32, Vec<Interruption>> {
    let mut found: FxHashMap<u32, Vec<Interruption>> = FxHashMap::default();
    for interruption in &journal.interruptions {
        found.entry(interruption.request).or_default().push(*interruption);
    }
    found
}

/// The setbacks of one request that ended at `finish`.
pub fn setbacks_of(interruptions: &[Interruption], finish: Ticks) -> Vec<Setback> {
    let mut known: Vec<Setback> = Vec::with_capacity(interruptions.len());
    // From the last to the first: what follows an interruption ends it.
    for interruption in interruptions.iter().rev() {
        let next = known.last().map_or(finish, |next| next.from).min(finish);
        let from = interruption.preempted.min(next);
        let to = interruption.resumed.unwrap_or(next).clamp(from, next);
        let runs = interruption.readmitted.unwrap_or(to).clamp(from, to);
        known.push(Setback { from, runs, to });
    }
    known.reverse();
    known
}

/// Divides the time of requests: made once, and asked for as many of them at a time as one likes.
#[derive(Debug, Clone)]
pub struct Divider<'a> {
    journals: &'a [Journal],
    meters: Vec<Meter<'a>>,
    outside: Ticks,
}

impl<'a> Divider<'a> {
    /// For requests of a simulation that began at `origin`, whose clients wait `outside` longer. Needs journals with
    /// stretches.
    pub fn new(journals: &'a [Journal], origin: Ticks, outside: Ticks) -> Divider<'a> {
        let meters = journals.iter().map(|journal| Meter::new(journal, origin)).collect();
        Divider { journals, meters, outside }
    }

    /// The times of these requests of the trace, in its order; `None` where one did not finish.
    pub fn of(&self, rows: Range<usize>) -> Vec<Option<Times>> {
        let mut times = vec![None; rows.len()];
        for (journal, meter) in self.journals.iter().zip(&self.meters) {
            let number = |row: usize| journal.rows.partition_point(|&known| (known as usize) < row);
            let numbers = number(rows.start)..number(rows.end);
            let within = |row: u32| rows.contains(&(row as usize));
            let setbacks = setbacks(journal, |row| journal.moments_of(row).filter(|_| within(row))?.finish);
            let mut bounds: Vec<(Ticks, u32, bool)> = Vec::with_capacity(2 * numbers.len());
            for (&row, moments) in journal.rows[numbers.clone()].iter().zip(&journal.moments[numbers]) {
                let back = setbacks.get(&row).map_or(&[][..], Vec::as_slice);
                let Some(of) = Times::by_phase(moments, back) else { continue };
                let place = (row as usize - rows.start) as u32;
                times[place as usize] = Some(Times { outside: self.outside, ..of });
                bounds.extend(bounds_of(moments, back).map(|(moment, ends)| (moment, place, ends)));
            }
            bounds.sort_unstable();
            let mut reading = meter.reading();
            for (moment, place, ends) in bounds {
                if let Some(of) = &mut times[place as usize] {
                    of.running.shift(&reading.at(moment), ends);
                }
            }
        }
        times
    }
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
}

/// The time of finished requests by phase, added up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PhaseSums {
    count: u64,
    /// In whole units, which add up alike in any order; each may be less than nothing by a rounding.
    queue: Ticks,
    prefill: Ticks,
    decode: Ticks,
    preempted: Ticks,
}

impl PhaseSums {
    /// Adds a request as a client sees it who waits `outside_s` seconds longer; nothing of one that did not finish.
    pub fn add(&mut self, one: &One, interruptions: &[Interruption], outside_s: f64) {
        let (Some(scheduled), Some(first), Some(finish)) =
            (one.first_scheduled_s.get(), one.first_token_s.get(), one.finish_s.get())
        else {
            return;
        };
        self.count += 1;
        let queue = ticks_in(scheduled) - ticks_in(one.arrival_s) - ticks_in(outside_s);
        self.queue = self.queue.saturating_add(queue);
        self.prefill = self.prefill.saturating_add(ticks_in(first) - ticks_in(scheduled));
        self.decode = self.decode.saturating_add(ticks_in(finish) - ticks_in(first));
        if interruptions.is_empty() {
            return;
        }
        let in_engine = |seconds: f64| ticks_in((seconds - outside_s).max(0.0));
        let first = in_engine(first);
        for Setback { from, to, .. } in setbacks_of(interruptions, in_engine(finish)) {
            let early = to.min(first) - from.min(first);
            self.prefill -= early;
            self.decode -= to - from - early;
            self.preempted += to - from;
        }
    }

    /// Adds those of other requests.
    pub fn append(&mut self, other: &PhaseSums) {
        self.count += other.count;
        self.queue = self.queue.saturating_add(other.queue);
        self.prefill = self.prefill.saturating_add(other.prefill);
        self.decode = self.decode.saturating_add(other.decode);
        self.preempted = self.preempted.saturating_add(other.preempted);
    }

    /// The means over finished requests, which add up to their mean E2E; `None` without any.
    pub fn mean(&self, outside_s: f64) -> Option<Phases> {
        let mean = |ticks: Ticks| tick_seconds(ticks) / self.count as f64;
        (self.count > 0).then(|| Phases {
            queue_s: mean(self.queue).max(0.0),
            prefill_s: mean(self.prefill),
            decode_s: mean(self.decode),
            preempted_s: mean(self.preempted),
            outside_s,
        })
    }
}

/// One row a request: its phases, which add up to its E2E, and what bound the engine while it ran, which adds up to it
/// with `waiting_s` and `outside_s`.
pub fn to_table(ids: Texts, times: &[Option<Times>]) -> Table {
    let column = |of: &dyn Fn(&Times) -> Ticks| {
        let seconds =
            |times: &Option<Times>| times.as_ref().map_or(f64::NAN, |times| tick_seconds(of(times)));
        Column::NanF64(times.iter().map(seconds).collect())
    };
    let mut table = Table::new()
        .with("request_id", Column::Texts(ids))
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
