//! What happened to each request, written down while a replica runs and handed over as columns.

use roofline_core::cause::Causes;

use super::gaps::Gaps;
use super::journal::{Journal, Moments, Note};
pub use super::requests::{One, Outcome, Requests, Seconds};
use super::sink::Sink;
use super::steps::{Decisions, Record, Steps};
use crate::error::Result;
use crate::living::Living;
use crate::request::{Rows, Workload};
use crate::scheduler::Scheduler;
use crate::scheduler::sequence::Status;
use crate::step::Step;
use crate::time::{Clock, Period, Ticks, tick_seconds};

/// Sums over the steps of a simulation, all replicas together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Steps that processed something.
    pub steps: u64,
    /// Calls of the scheduler.
    pub calls: u64,
    /// Tokens processed, recomputed ones included.
    pub scheduled_tokens: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Time in steps that computed prompts only.
    pub prefill: Ticks,
    /// Time in steps that continued answers only.
    pub decode: Ticks,
    /// Time in steps that did both.
    pub mixed: Ticks,
    /// Largest share of the blocks in use after a call, over calls and replicas.
    pub kv_peak: f64,
    /// Most requests running at once in a replica.
    pub max_running: u32,
    /// Most requests waiting at once in a replica.
    pub max_waiting: u32,
    /// When the last step of the last replica ended, seconds since the trace began.
    pub end_s: f64,
}

impl Totals {
    /// Seconds in steps that computed prompts only, continued answers only, did both.
    pub fn busy_s(&self) -> [f64; 3] {
        [self.prefill, self.decode, self.mixed].map(tick_seconds)
    }

    /// The same of `total` seconds, at most as many: a step may outlast the last token.
    pub fn busy_within(&self, total: f64) -> [f64; 3] {
        let busy = self.busy_s();
        let over = busy.iter().sum::<f64>() / total;
        if over > 1.0 { busy.map(|seconds| seconds / over) } else { busy }
    }

    /// Adds those of another replica, or of a later epoch.
    pub fn append(&mut self, other: &Totals) {
        self.steps += other.steps;
        self.calls += other.calls;
        self.scheduled_tokens += other.scheduled_tokens;
        self.preemptions += other.preemptions;
        self.prefill += other.prefill;
        self.decode += other.decode;
        self.mixed += other.mixed;
        self.kv_peak = self.kv_peak.max(other.kv_peak);
        self.max_running = self.max_running.max(other.max_running);
        self.max_waiting = self.max_waiting.max(other.max_waiting);
        self.end_s = self.end_s.max(other.end_s);
    }
}

/// Instants of one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeline<T> {
    arrival: T,
    ready: T,
    first_scheduled: T,
    first_token: T,
    last_token: T,
    /// When the client was sent something last.
    last_sent: T,
    /// Tokens delivered, and those of them that were sent.
    delivered: u32,
    sent: u32,
    scheduled: bool,
    /// Whether it has ended, and what came of it was told.
    told: bool,
}

/// An epoch of a simulation: what comes before what is measured, what is measured, and what comes after.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Epoch {
    /// Gaps between deliveries, of the steps scheduled in it.
    pub gaps: Gaps,
    /// Sums over the steps scheduled in it.
    pub totals: Totals,
    /// What their seconds were spent on.
    pub spent: Causes,
}

impl Epoch {
    /// Adds what another replica noted in the same epoch, or what came later.
    pub fn append(&mut self, other: Epoch) {
        self.totals.append(&other.totals);
        self.spent.append(&other.spent);
        self.gaps.append(other.gaps);
    }
}

/// What one replica writes down.
#[derive(Debug)]
pub struct Recorder<'a, C: Clock> {
    record: Record,
    replica: u32,
    /// For each sequence its row of the trace.
    rows: Rows<'a>,
    workload: Workload<'a>,
    told: Sink,
    timelines: Living<Timeline<C::Instant>>,
    /// The last of them is the present one.
    epochs: Vec<Epoch>,
    /// Calls of the scheduler before the present epoch.
    calls_before: u64,
    /// What all steps were spent on, and those before the present epoch.
    spent: Causes,
    spent_before: Causes,
    steps: Steps,
    journal: Journal,
    /// When the last step ends.
    last_end: C::Instant,
}

/// What one replica has written down.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Records {
    /// What came of the sequences.
    pub told: Sink,
    /// What was noted in each epoch.
    pub epochs: Vec<Epoch>,
    /// The steps, if recorded.
    pub steps: Steps,
    /// Who gave way, and stretches of steps if recorded.
    pub journal: Journal,
}

/// When a step was scheduled, began and ended.
#[derive(Debug, Clone, Copy)]
pub struct Span<T> {
    /// Scheduled.
    pub scheduled: T,
    /// Began.
    pub start: T,
    /// Its result was there.
    pub end: T,
}

impl<'a, C: Clock> Recorder<'a, C> {
    /// Nothing has happened yet to the requests, these rows of the workload; what comes of them goes to `told`.
    pub fn new(
        record: Record,
        replica: u32,
        workload: Workload<'a>,
        rows: Rows<'a>,
        told: Sink,
    ) -> Recorder<'a, C> {
        let decisions = (record == Record::Decisions).then(Decisions::default);
        let mut journal = told.journal(record != Record::Summary);
        if journal.writes() {
            journal.moments.resize(rows.count(workload.len()), Moments::default());
        }
        Recorder {
            record,
            replica,
            rows,
            workload,
            timelines: Living::default(),
            epochs: vec![Epoch { gaps: told.gaps(), ..Epoch::default() }],
            calls_before: 0,
            spent: Causes::default(),
            spent_before: Causes::default(),
            steps: Steps { decisions, ..Steps::default() },
            journal,
            last_end: C::Instant::default(),
            told,
        }
    }

    /// A request was sent, having been ready for some time; what became of it at once.
    pub fn sent(&mut self, sequence: u32, at: C::Instant, ready: C::Instant, status: Status) {
        self.timelines.forget_while(|timeline| timeline.told);
        self.timelines.reach(sequence as usize, |_| Timeline::default());
        let timeline = &mut self.timelines[sequence as usize];
        (timeline.arrival, timeline.ready) = (at, ready);
        let accepted = status != Status::Rejected;
        self.told.sent(self.row(sequence), || C::seconds(at), accepted);
        if !accepted {
            self.tell(sequence, (status, 0, None));
        }
    }

    /// Passes on why a stream ended early, if it did.
    ///
    /// # Errors
    /// That.
    pub fn check_whole(&self) -> Result<()> {
        self.told.check_taken()?;
        self.workload.check_whole()
    }

    fn row(&self, sequence: u32) -> u32 {
        self.rows.row(sequence).unwrap_or(sequence)
    }

    /// Another epoch begins, after so many calls of the scheduler.
    pub fn mark(&mut self, calls: u64) {
        self.end_epoch(calls);
        self.epochs.push(Epoch { gaps: self.told.gaps(), ..Epoch::default() });
    }

    fn end_epoch(&mut self, calls: u64) {
        if let Some(epoch) = self.epochs.last_mut() {
            epoch.totals.calls = calls - self.calls_before;
            epoch.spent = self.spent.since(&self.spent_before);
        }
        self.spent_before = self.spent;
        self.calls_before = calls;
    }

    /// The number of the present epoch.
    pub fn epoch(&self) -> usize {
        self.epochs.len() - 1
    }

    /// A step was decided; `busy` is how long it occupies the device, `spent` what all steps so far were spent on.
    pub fn scheduled(
        &mut self,
        scheduler: &Scheduler<'_>,
        step: &Step,
        span: Span<C::Instant>,
        busy: Period,
        spent: Causes,
    ) {
        self.spent = spent;
        // The tokens of a request that gives way come with the steps still under way.
        let free = C::ticks(C::later(span.start, self.last_end));
        for &sequence in &step.preempted {
            // Replicas that step together begin a step later than they decide it: its last token may have come before.
            if self.timelines.get(sequence as usize).is_some_and(|timeline| !timeline.told) {
                self.journal.preempted(sequence, free);
            }
        }
        for &(sequence, _) in &step.admitted {
            let timeline = &mut self.timelines[sequence as usize];
            if timeline.scheduled {
                self.journal.readmitted(sequence, free);
            } else {
                (timeline.scheduled, timeline.first_scheduled) = (true, span.start);
            }
        }
        self.last_end = C::later(self.last_end, span.end);
        let (mut tokens, mut prefill, mut prefills) = (0u32, 0u32, 0usize);
        for entry in step.entries() {
            tokens += entry.tokens;
            if entry.prefill {
                prefill += entry.tokens;
                prefills += 1;
            }
        }
        let usable = scheduler.kv().usable();
        let used = f64::from(usable - scheduler.kv().free()) / f64::from(usable.max(1));
        let epoch = self.epoch();
        let totals = &mut self.epochs[epoch].totals;
        totals.steps += u64::from(!step.is_empty());
        totals.scheduled_tokens += u64::from(tokens);
        totals.preemptions += step.preempted.len() as u64;
        totals.kv_peak = totals.kv_peak.max(used);
        totals.max_running = totals.max_running.max(scheduler.running() as u32);
        totals.max_waiting = totals.max_waiting.max(scheduler.waiting() as u32);
        let share = match prefills {
            0 => &mut totals.decode,
            all if all == step.entries().len() => &mut totals.prefill,
            _ => &mut totals.mixed,
        };
        *share += busy.ticks;
        if self.journal.writes() {
            let used = usable - scheduler.kv().free();
            self.journal.note(
                Note {
                    start: C::ticks(span.start),
                    end: C::ticks(span.end),
                    steps: u64::from(!step.is_empty()),
                    sequences: step.entries().len() as u32,
                    scheduled_tokens: u64::from(tokens),
                    prefill_tokens: u64::from(prefill),
                    context_tokens: step.entries().iter().map(|entry| u64::from(entry.context)).sum(),
                    running: scheduler.running() as u32,
                    waiting: scheduler.waiting() as u32,
                    used_first: used,
                    used_last: used,
                    preempted: step.preempted.len() as u32,
                },
                spent,
            );
        }
        if matches!(self.record, Record::Steps | Record::Decisions) {
            self.write_row(scheduler, step, span, (tokens, prefill));
        }
    }

    fn write_row(
        &mut self,
        scheduler: &Scheduler<'_>,
        step: &Step,
        span: Span<C::Instant>,
        tokens: (u32, u32),
    ) {
        let rows = &mut self.steps;
        rows.call.push(scheduler.calls() - 1);
        rows.scheduled_s.push(C::seconds(span.scheduled));
        rows.start_s.push(C::seconds(span.start));
        rows.end_s.push(C::seconds(span.end));
        rows.scheduled_tokens.push(tokens.0);
        rows.prefill_tokens.push(tokens.1);
        rows.context_tokens.push(step.entries().iter().map(|entry| u64::from(entry.context)).sum());
        rows.running.push(scheduler.running() as u32);
        rows.waiting.push(scheduler.waiting() as u32);
        rows.free_blocks.push(scheduler.kv().free());
        rows.cached_hashes.push(scheduler.kv().cached());
        rows.preempted.push(step.preempted.len() as u32);
        rows.replica.push(self.replica);
        if let Some(decisions) = &mut rows.decisions {
            let request = |sequence: u32| self.rows.row(sequence).unwrap_or(sequence);
            decisions.request.push(step.entries().iter().map(|entry| request(entry.request)));
            decisions.tokens.push(step.entries().iter().map(|entry| entry.tokens));
            decisions.context.push(step.entries().iter().map(|entry| entry.context));
            decisions.drafts.push(step.entries().iter().map(|entry| entry.drafts));
            decisions.admitted.push(step.admitted.iter().map(|&(sequence, _)| request(sequence)));
            decisions.admitted_cached.push(step.admitted.iter().map(|&(_, cached)| cached));
            decisions.preempted.push(step.preempted.iter().map(|&sequence| request(sequence)));
        }
    }

    /// The result of a step (or of a call that only preempted) scheduled in that epoch was processed; it was there at
    /// `end`.
    pub fn delivered(&mut self, scheduler: &Scheduler<'_>, step: &Step, end: C::Instant, epoch: usize) {
        // Almost all of a step's requests were last given a token at the same instant.
        let mut previous = (end, 0.0);
        let together = scheduler.config().stream_interval;
        for delivery in &step.deliveries {
            let timeline = &mut self.timelines[delivery.request as usize];
            let is_first = timeline.delivered == 0;
            timeline.delivered += delivery.tokens;
            // As vLLM's output processor does: the first at once, then so many together, and what is left at the end.
            let is_sent = is_first || delivery.finished || timeline.delivered - timeline.sent >= together;
            if is_first {
                timeline.first_token = end;
            } else if is_sent {
                if timeline.last_sent != previous.0 {
                    previous = (timeline.last_sent, C::seconds_between(timeline.last_sent, end));
                }
                self.epochs[epoch].gaps.note(previous.1, 1);
            }
            if is_sent {
                (timeline.sent, timeline.last_sent) = (timeline.delivered, end);
            }
            timeline.last_token = end;
            self.journal.resumed(delivery.request, C::ticks(end));
            if delivery.finished
                && let Some(outcome) = scheduler.outcome(delivery.request)
            {
                self.tell(delivery.request, outcome);
            }
        }
        if let Some(decisions) = &mut self.steps.decisions
            && !(step.is_empty() && step.preempted.is_empty())
        {
            let finished = step.deliveries.iter().filter(|delivery| delivery.finished);
            let rows = self.rows;
            let row = |sequence: u32| rows.row(sequence).unwrap_or(sequence);
            decisions.finished.push(finished.map(|delivery| row(delivery.request)));
        }
    }

    /// Everything written down.
    ///
    /// # Errors
    /// Why a stream ended early.
    pub fn finish(mut self, scheduler: &Scheduler<'_>, end: C::Instant) -> Result<Records> {
        self.workload.check_whole()?;
        self.end_epoch(scheduler.calls());
        if let Some(epoch) = self.epochs.last_mut() {
            epoch.totals.end_s = C::seconds(end);
        }
        self.journal.usable_blocks = scheduler.kv().usable();
        for sequence in self.timelines.first() as u32..self.timelines.end() as u32 {
            let outcome = scheduler.outcome(sequence).filter(|(status, ..)| *status != Status::Expected);
            if let Some(outcome) = outcome.filter(|_| !self.timelines[sequence as usize].told) {
                self.tell(sequence, outcome);
            }
        }
        let sent = self.timelines.end() as u32;
        self.told.expect_others::<C>(self.workload, self.rows, sent)?;
        Ok(Records { told: self.told, epochs: self.epochs, steps: self.steps, journal: self.journal })
    }

    /// What came of a sequence: where it stands, how often it was preempted, the tokens it found cached.
    fn tell(&mut self, sequence: u32, (status, preemptions, cached): (Status, u32, Option<u32>)) {
        let timeline = &mut self.timelines[sequence as usize];
        timeline.told = true;
        let outcome = Outcome {
            first_scheduled: timeline.scheduled.then_some(timeline.first_scheduled),
            first_token: (timeline.delivered > 0).then_some(timeline.first_token),
            finish: (status == Status::Finished).then_some(timeline.last_token),
            delivered: timeline.delivered,
            cached: cached.unwrap_or(0),
            preemptions,
            status,
        };
        let sent = (timeline.arrival, timeline.ready);
        if self.journal.writes() {
            self.journal.moments[sequence as usize] = Moments::of::<C>(sent.0, &outcome);
        }
        let row = self.row(sequence);
        let lengths = (self.workload.prompt_tokens(row as usize), self.workload.output_tokens(row as usize));
        let deadline_s = self.workload.deadline_s(row as usize).into();
        let one = One::of::<C>(sent, &outcome, lengths, deadline_s);
        self.told.tell(sequence, row, &one, &mut self.journal);
    }
}
