//! Everything a summary needs of requests, added up as they end: in memory that does not grow with their number.
//!
//! Sums are whole numbers and percentiles come from lists that are sorted, or from sketches: the same requests are the
//! same tally in whatever order they end, replica by replica or all together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use super::at_once::AtOnce;
use super::journal::{Interruption, Journal};
use super::load::{Queue, Span};
use super::percentiles::{Gathered, MOST_EXACT};
use super::requests::{One, Requests};
use super::slo::Slo;
use super::times::{PhaseSums, by_request};
use crate::client::Extent;
use crate::error::{Error, Result};
use crate::scheduler::sequence::Status;
use crate::time::{Ticks, tick_seconds, ticks_in};

/// What is asked of a tally before the first request ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// What requests must meet.
    pub slo: Option<Slo>,
    /// Seconds by which answers begin later for clients than in the engine.
    pub outside_s: f64,
    /// Where what is measured begins and ends; `None` if everything is.
    pub window: Option<(Extent, Option<Extent>)>,
    /// Requests up to which percentiles are exact.
    pub most: usize,
    /// Where rows of requests go.
    pub taker: Option<Taker>,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked { slo: None, outside_s: 0.0, window: None, most: MOST_EXACT, taker: None }
    }
}

/// Takes rows of requests in the order in which they end, and keeps or writes them.
pub trait TakeRequests: Send + Sync {
    /// Takes some.
    ///
    /// # Errors
    /// Why no more can be taken.
    fn take(&self, requests: Requests) -> Result<()>;
}

/// Whoever takes rows of requests.
#[derive(Clone)]
pub struct Taker {
    /// Who.
    pub to: Arc<dyn TakeRequests>,
    /// Whether some requests may be held back, which rows then tell.
    pub held: bool,
}

impl fmt::Debug for Taker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Taker")
    }
}

impl PartialEq for Taker {
    fn eq(&self, other: &Taker) -> bool {
        Arc::ptr_eq(&self.to, &other.to) && self.held == other.held
    }
}

/// Rows that are handed on together.
const ROWS_HANDED_ON: usize = 1 << 16;

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Requests.
    pub requests: u64,
    /// Tokens of their prompts.
    pub input: u64,
    /// Tokens of their answers.
    pub output: u64,
}

impl Served {
    fn add(&mut self, one: &One) {
        self.requests += 1;
        self.input += u64::from(one.prompt_tokens);
        self.output += u64::from(one.output_tokens);
    }

    fn append(&mut self, other: Served) {
        self.requests += other.requests;
        self.input += other.input;
        self.output += other.output;
    }
}

/// Requests that say by when their answers must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// How many.
    pub all: u64,
    /// Those whose answers were there in time.
    pub met: u64,
}

/// The first and the last of some instants, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ends {
    first: f64,
    last: f64,
}

impl Ends {
    /// Of no instants.
    pub const NONE: Ends = Ends { first: f64::INFINITY, last: f64::NEG_INFINITY };

    /// Of these instants.
    pub fn of(seconds: impl Iterator<Item = f64>) -> Ends {
        seconds.fold(Ends::NONE, |mut ends, second| {
            ends.add(Ends::at(second));
            ends
        })
    }

    fn add(&mut self, other: Ends) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    fn at(second: f64) -> Ends {
        Ends { first: second, last: second }
    }
}

/// Requests, added up.
#[derive(Debug, Clone)]
pub struct Tally {
    asked: Asked,
    /// All that were sent, measured or not.
    everyone: u64,
    /// Those that are measured, and how many of them stand where.
    all: u64,
    stand: [u64; 5],
    /// When requests could be sent, and when they were answered.
    ready: Ends,
    answered: Ends,
    finished: Served,
    /// TTFT, TPOT and E2E of those that finished.
    latencies: [Gathered; 3],
    /// How many met every objective, and their own deadlines.
    met: u64,
    deadlines: Deadlines,
    /// Prompt tokens of those that ran, and how many of them were found cached.
    prompts: u64,
    cached: u64,
    queue: Queue,
    e2e: (Ticks, u64),
    phases: PhaseSums,
    at_once: AtOnce,
    /// Where what is measured begins and ends, if that is so: by then so much had been answered.
    window: [Option<f64>; 2],
    /// Whether that is still to be seen as requests are sent.
    looks_out: bool,
    within: Served,
    /// Answers that came after the last request was sent, the first on top: seconds as bits, prompt and answer.
    recent: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// The replica, and what came of its requests that is still to be handed on.
    replica: u32,
    kept: Vec<(u32, One)>,
    failure: Option<Error>,
}

/// Requests that one thread adds up at a time, where all are known.
const ROWS_OF_A_PART: usize = 1 << 20;

impl PartialEq for Tally {
    fn eq(&self, other: &Tally) -> bool {
        let counts =
            |tally: &Tally| (tally.all, tally.stand, tally.met, tally.prompts, tally.cached, tally.e2e);
        let spans =
            |tally: &Tally| (tally.ready, tally.answered, tally.finished, tally.within, tally.span_s());
        (counts(self), spans(self), self.phases) == (counts(other), spans(other), other.phases)
            && self.latencies == other.latencies
            && self.deadlines == other.deadlines
            && self.most_at_once() == other.most_at_once()
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new(Asked::default(), false)
    }
}

impl Tally {
    /// Of no request yet; `several` if there are other replicas whose requests will be added.
    pub fn new(asked: Asked, several: bool) -> Tally {
        let gathered = || Gathered::within(asked.most);
        Tally {
            everyone: 0,
            all: 0,
            stand: [0; 5],
            ready: Ends::NONE,
            answered: Ends::NONE,
            finished: Served::default(),
            latencies: [gathered(), gathered(), gathered()],
            met: 0,
            deadlines: Deadlines::default(),
            prompts: 0,
            cached: 0,
            queue: Queue::within(asked.most),
            e2e: (0, 0),
            phases: PhaseSums::default(),
            at_once: if several { AtOnce::listed(asked.most) } else { AtOnce::default() },
            window: match asked.window {
                Some((Extent::Nanos(from), to)) => {
                    let to = to.and_then(|to| if let Extent::Nanos(to) = to { Some(to) } else { None });
                    [Some(from as f64 / 1e9), to.map(|to| to as f64 / 1e9)]
                }
                _ => [None, None],
            },
            looks_out: matches!(asked.window, Some((Extent::Requests(_), _))),
            within: Served::default(),
            recent: BinaryHeap::new(),
            replica: 0,
            kept: Vec::new(),
            failure: None,
            asked,
        }
    }

    /// The same, of the requests of that replica.
    #[must_use]
    pub fn of_replica(self, replica: u32) -> Tally {
        Tally { replica, ..self }
    }

    /// Hands on what came of requests, if somebody takes it.
    ///
    /// # Errors
    /// Why it was not taken, now or before.
    pub fn hand_on(&mut self) -> Result<()> {
        if let (Some(taker), false) = (&self.asked.taker, self.kept.is_empty()) {
            let requests = Requests::listed(&std::mem::take(&mut self.kept), self.replica, taker.held);
            if let Err(error) = taker.to.take(requests) {
                self.failure.get_or_insert(error);
            }
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Why somebody took no more, if that is so.
    ///
    /// # Errors
    /// That.
    pub fn check_taken(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// All requests of a simulation, as clients see them who wait `outside_s` seconds longer than the engine takes; where
    /// what is measured begins and ends, if not everything is, is known.
    pub fn of(
        requests: &Requests,
        journals: &[Journal],
        outside_s: f64,
        asked: &Asked,
        window: [Option<f64>; 2],
    ) -> Tally {
        let gave_way: Vec<_> = journals.iter().map(by_request).collect();
        let interruptions = |row: u32| {
            let known = gave_way.iter().find_map(|of_replica| of_replica.get(&row));
            known.map_or(&[][..], Vec::as_slice)
        };
        let part = |first: usize| {
            let listed = AtOnce::listed(usize::MAX);
            let mut tally =
                Tally { at_once: listed, window, looks_out: false, ..Tally::new(asked.clone(), true) };
            for row in first..requests.len().min(first + ROWS_OF_A_PART) {
                let (one, row) = (requests.one(row), row as u32);
                let is_there = !matches!(one.status, Status::Rejected | Status::Expected);
                if is_there && tally.measures(row, one.arrival_s) {
                    tally.at_once.came(one.arrival_s);
                }
                tally.count(row, &one, outside_s, interruptions(row));
            }
            tally
        };
        let parts: Vec<usize> = (0..requests.len().max(1)).step_by(ROWS_OF_A_PART).collect();
        let mut tallies = parts.into_par_iter().map(part).collect::<Vec<_>>().into_iter();
        let mut whole = tallies.next().unwrap_or_default();
        tallies.for_each(|tally| whole.append(tally));
        whole
    }

    /// Whether a request that was sent at that second is measured.
    fn measures(&self, row: u32, arrival_s: f64) -> bool {
        match self.asked.window {
            None => true,
            Some((Extent::Requests(from), to)) => {
                let before = !matches!(to, Some(Extent::Requests(to)) if u64::from(row) >= to);
                u64::from(row) >= from && before
            }
            Some((Extent::Nanos(_), _)) => {
                self.window[0].is_none_or(|from| from <= arrival_s)
                    && self.window[1].is_none_or(|to| arrival_s < to)
            }
        }
    }

    /// A request is sent, which one replica sees in the order of rows, before what came of it is known; `accepted` unless
    /// the engine refuses it.
    pub fn sent(&mut self, row: u32, at_s: f64, accepted: bool) {
        while self.recent.peek().is_some_and(|Reverse((end, ..))| f64::from_bits(*end) <= at_s) {
            self.recent.pop();
        }
        if let (true, Some((Extent::Requests(from), to))) = (self.looks_out, self.asked.window) {
            self.pass(row, at_s, from, to);
        }
        if accepted && self.measures(row, at_s) {
            self.at_once.came(at_s);
        }
    }

    /// Notes where what is measured begins and ends; what was answered in between came after the last request before.
    fn pass(&mut self, row: u32, at_s: f64, from: u64, to: Option<Extent>) {
        let sum = |recent: &BinaryHeap<Reverse<(u64, u32, u32)>>| {
            recent.iter().fold(Served::default(), |mut sum, Reverse((_, prompt, output))| {
                sum.append(Served { requests: 1, input: u64::from(*prompt), output: u64::from(*output) });
                sum
            })
        };
        if u64::from(row) >= from && self.window[0].is_none() {
            self.window[0] = Some(at_s);
            self.within = sum(&self.recent);
        }
        if let Some(Extent::Requests(to)) = to
            && u64::from(row) >= to
            && self.window[1].is_none()
        {
            self.window[1] = Some(at_s);
            let late = sum(&self.recent);
            self.within.requests -= late.requests;
            self.within.input -= late.input;
            self.within.output -= late.output;
        }
    }

    /// What came of a request, in the engine's own time; and how it gave way, if it did.
    pub fn add(&mut self, row: u32, one: &One, interruptions: &[Interruption]) {
        let outside_s = self.asked.outside_s;
        let one = one.delayed(outside_s);
        self.count(row, &one, outside_s, interruptions);
        if self.asked.taker.is_some() {
            self.kept.push((row, one));
            if self.kept.len() == ROWS_HANDED_ON {
                // What fails is told where it can be ([`Tally::check_taken`]).
                let _ = self.hand_on();
            }
        }
    }

    /// The same of a request as a client sees it who waits `outside_s` seconds longer than the engine takes.
    fn count(&mut self, row: u32, one: &One, outside_s: f64, interruptions: &[Interruption]) {
        if let Some(finish) = one.finish_s.get() {
            self.answered.add(Ends::at(finish));
            self.serve(one, finish);
        }
        let sent = one.status != Status::Expected;
        self.everyone += u64::from(sent);
        self.ready.add(Ends::at(one.ready_s()));
        if self.asked.window.is_some() && !(sent && self.measures(row, one.arrival_s)) {
            return;
        }
        self.all += 1;
        self.stand[one.status as usize] += 1;
        if !sent {
            return;
        }
        if let Some(met) = one.meets_deadline() {
            self.deadlines.all += 1;
            self.deadlines.met += u64::from(met);
        }
        self.queue.add(Span {
            ready: one.ready_s(),
            scheduled: one.first_scheduled_s.get().map_or(f64::INFINITY, |at| at - outside_s),
            refused: one.status == Status::Rejected,
        });
        if one.first_scheduled_s.is_some() {
            self.cached += u64::from(one.cached_tokens);
            self.prompts += u64::from(one.prompt_tokens);
        }
        if one.status == Status::Finished {
            self.finish(one, outside_s, interruptions);
        }
    }

    /// Counts an answer that came in the time that is measured.
    fn serve(&mut self, one: &One, finish_s: f64) {
        let [begin, end] = self.window;
        if self.looks_out {
            self.recent.push(Reverse((finish_s.to_bits(), one.prompt_tokens, one.output_tokens)));
            if begin.is_some() && end.is_none_or(|end| finish_s <= end) {
                self.within.add(one);
            }
        } else if begin.is_none_or(|from| from < finish_s) && end.is_none_or(|to| finish_s <= to) {
            self.within.add(one);
        }
    }

    fn finish(&mut self, one: &One, outside_s: f64, interruptions: &[Interruption]) {
        self.finished.add(one);
        let latencies = [one.ttft_s(), one.tpot_s(), one.e2e_s()];
        for (gathered, seconds) in self.latencies.iter_mut().zip(latencies) {
            seconds.into_iter().for_each(|seconds| gathered.add(seconds, 1));
        }
        if let [Some(ttft), tpot, Some(e2e)] = latencies {
            let in_time = one.meets_deadline() != Some(false);
            let slo = self.asked.slo.as_ref();
            self.met += u64::from(in_time && slo.is_none_or(|slo| slo.is_met_by(ttft, tpot, e2e)));
            self.e2e.0 = self.e2e.0.saturating_add(ticks_in(e2e));
            self.e2e.1 += 1;
        }
        if let Some(finish) = one.finish_s.get() {
            self.at_once.went(finish);
        }
        self.phases.add(one, interruptions, outside_s);
    }

    /// Adds the requests of another replica.
    pub fn append(&mut self, other: Tally) {
        self.everyone += other.everyone;
        self.all += other.all;
        self.stand.iter_mut().zip(other.stand).for_each(|(mine, theirs)| *mine += theirs);
        self.ready.add(other.ready);
        self.answered.add(other.answered);
        self.finished.append(other.finished);
        for (mine, theirs) in self.latencies.iter_mut().zip(other.latencies) {
            mine.append(theirs);
        }
        self.met += other.met;
        self.deadlines.all += other.deadlines.all;
        self.deadlines.met += other.deadlines.met;
        self.prompts += other.prompts;
        self.cached += other.cached;
        self.queue.append(other.queue);
        self.e2e = (self.e2e.0.saturating_add(other.e2e.0), self.e2e.1 + other.e2e.1);
        self.phases.append(&other.phases);
        self.at_once.append(other.at_once);
        self.within.append(other.within);
    }

    /// What was asked of it.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// All requests.
    pub fn all(&self) -> u64 {
        self.all
    }

    /// How many stand there.
    pub fn standing(&self, status: Status) -> u64 {
        self.stand[status as usize]
    }

    /// Those that finished.
    pub fn finished(&self) -> Served {
        self.finished
    }

    /// What was answered in the time that is measured, of whomever.
    pub fn within(&self) -> Served {
        self.within
    }

    /// TTFT, TPOT and E2E of those that finished.
    pub fn latencies(&self) -> &[Gathered; 3] {
        &self.latencies
    }

    /// Requests with a deadline.
    pub fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// How many met every objective, and their own deadlines.
    pub fn met(&self) -> u64 {
        self.met
    }

    /// Prompt tokens found cached, and all prompt tokens, of those that ran.
    pub fn cached(&self) -> (u64, u64) {
        (self.cached, self.prompts)
    }

    /// Who waited when.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The mean time from arrival to last token, seconds; `None` where nothing finished.
    pub fn mean_e2e_s(&self) -> Option<f64> {
        let (sum, count) = self.e2e;
        (count > 0).then(|| tick_seconds(sum) / count as f64)
    }

    /// Where their time went.
    pub fn phases(&self) -> &PhaseSums {
        &self.phases
    }

    /// Most requests that had arrived and were not finished; `None` where they are too many to tell.
    pub fn most_at_once(&self) -> Option<u64> {
        self.at_once.most()
    }

    /// The first and the last second of what is measured.
    pub fn span_s(&self) -> (f64, f64) {
        span_s(self.asked.window.map(|_| self.window), self.ready, self.answered)
    }

    /// When what is measured begins and ends, if not everything is.
    pub fn window_s(&self) -> [Option<f64>; 2] {
        self.window
    }

    /// When the first and the last request could be sent, and when they were answered.
    pub fn extremes(&self) -> (Ends, Ends) {
        (self.ready, self.answered)
    }

    /// All requests that were sent, measured or not.
    pub fn everyone(&self) -> u64 {
        self.everyone
    }
}

/// The first and the last second of what is measured: from the first request that could be sent to the last token, or the
/// last such request if that is later; or from where a window begins to where it ends, or the last token if that is
/// earlier.
pub fn span_s(window: Option<[Option<f64>; 2]>, ready: Ends, answered: Ends) -> (f64, f64) {
    let last = answered.last.max(0.0);
    if let Some([begin, end]) = window {
        let from = begin.unwrap_or(0.0);
        return (from, end.unwrap_or(f64::INFINITY).min(last).max(from));
    }
    let from = if ready.first.is_finite() { ready.first } else { 0.0 };
    (from, ready.last.max(last))
}
