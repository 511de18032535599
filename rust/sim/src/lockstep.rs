//! Replicas that share experts, in simulated time: a step of one is a step of all, as long as its slowest.
//!
//! As in vLLM 0.33's data-parallel engines of mixture-of-experts models (`v1/engine/core.py`, `DPEngineCoreProc`): every
//! step exchanges tokens between all replicas, so none can go ahead. Who has nothing to do takes part with a dummy row.
//! What a replica schedules, and when, is as in [`crate::engine`], but for the waiting.
//!
//! Steps that run together are a *wave*. With pipeline stages several waves are under way, each stage as long as its
//! slowest replica's; results are there, and decisions are taken, when a wave leaves the last stage.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use roofline_core::cause::Causes;

use crate::client::{Due, Sender};
use crate::engine::{Monitor, busy_with, encoded, host_is_full, moved, preempted_for_ever, price};
use crate::error::{Error, Result};
use crate::metrics::records::{Recorder, Records, Span};
use crate::metrics::sink::Sink;
use crate::metrics::steps::Record;
use crate::request::{Rows, Workload};
use crate::scheduler::Scheduler;
use crate::scheduler::config::EngineConfig;
use crate::scheduler::sequence::Status;
use crate::step::{Entry, Step};
use crate::step_cost::StepCost;
use crate::time::{Clock, Period};

/// A step that is scheduled and whose result was not yet processed.
struct Flight<T> {
    step: Step,
    scheduled: T,
    /// What it would take alone in each stage.
    busy: Period,
    epoch: usize,
    /// The wave it runs in, once it runs.
    wave: Option<u64>,
    /// Whether it is recorded that it preempted, and did nothing else.
    told: bool,
}

/// One of the replicas.
struct Rank<'a, C: Clock> {
    scheduler: Scheduler<'a>,
    recorder: Recorder<'a, C>,
    client: Sender<'a, C>,
    moments: u64,
    last_arrival: Option<C::Instant>,
    flights: VecDeque<Flight<C::Instant>>,
    /// What its own steps were spent on.
    spent: Causes,
    /// Calls since one scheduled or preempted something.
    idle_calls: u32,
    barren_preemptions: u64,
}

/// A replica that is to run in step with others.
pub struct Member<'a, C: Clock> {
    /// The requests.
    pub workload: Workload<'a>,
    /// Those that it serves.
    pub rows: Rows<'a>,
    /// Who sends them.
    pub client: Sender<'a, C>,
    /// Where what comes of them goes.
    pub told: Sink,
}

/// Serves each replica's requests as its client sends them, until all are done.
///
/// # Errors
/// Settings no engine could start with, a step cost that is negative or not finite, requests that preempt each other for
/// ever, a stop asked for.
pub fn run<'a, C: Clock, P: StepCost>(
    config: &'a EngineConfig,
    replicas: Vec<Member<'a, C>>,
    cost: &P,
    record: Record,
    monitor: &Monitor,
) -> Result<Vec<Records>> {
    let rank = |(number, member): (usize, Member<'a, C>)| {
        let Member { workload, rows, client, told } = member;
        Ok(Rank {
            scheduler: Scheduler::new(config, workload, rows)?,
            recorder: Recorder::new(record, number as u32, workload, rows, told),
            client,
            moments: 0,
            last_arrival: None,
            flights: VecDeque::new(),
            spent: Causes::default(),
            idle_calls: 0,
            barren_preemptions: 0,
        })
    };
    let mut ranks = replicas.into_iter().enumerate().map(rank).collect::<Result<Vec<_>>>()?;
    let idle = in_each_stage(price(cost, &dummy())?, config);
    let mut now = C::Instant::default();
    // When each stage is done with what it was given, and when the waves under way are done.
    let mut stages = vec![C::Instant::default(); config.pipeline_parallel as usize];
    let mut waves: VecDeque<C::Instant> = VecDeque::new();
    let mut done = 0u64;
    loop {
        if monitor.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        for rank in &mut ranks {
            rank.settle(now, cost, monitor)?;
        }
        // Nothing is decided before the first wave ends: whatever begins before then can begin now.
        loop {
            let start = C::later(now, stages[0]);
            let next = ranks.iter().map(Rank::next);
            let begins =
                next.clone().any(|step| step.is_some()) && waves.front().is_none_or(|end| start < *end);
            if !begins {
                break;
            }
            let alone = next.map(|step| step.map_or(idle, |flight| flight.busy));
            let longer = |most: Period, busy: Period| if busy.ticks > most.ticks { busy } else { most };
            let busy = alone.fold(Period::default(), longer);
            let mut end = start;
            for stage in &mut stages {
                end = C::after(C::later(end, *stage), busy);
                *stage = end;
            }
            let wave = done + waves.len() as u64;
            ranks.iter_mut().for_each(|rank| rank.begin(wave, start, end));
            waves.push_back(end);
        }
        let Some(end) = waves.pop_front() else {
            let dues = ranks.iter().filter_map(|rank| rank.client.due());
            let Some(next) = dues.reduce(|a, b| if b < a { b } else { a }) else { break };
            now = C::later(now, next);
            continue;
        };
        now = C::later(now, end);
        ranks.iter_mut().for_each(|rank| rank.complete(done, now, monitor));
        done += 1;
    }
    ranks.into_iter().map(|rank| rank.recorder.finish(&rank.scheduler, now)).collect()
}

impl<C: Clock> Rank<'_, C> {
    /// The next step that processes something and does not run yet.
    fn next(&self) -> Option<&Flight<C::Instant>> {
        self.flights.iter().find(|flight| flight.wave.is_none() && !flight.step.is_empty())
    }

    /// The next step runs, in that wave.
    fn begin(&mut self, wave: u64, start: C::Instant, end: C::Instant) {
        let next = self.flights.iter().position(|flight| flight.wave.is_none() && !flight.step.is_empty());
        let Some(next) = next else { return };
        (0..next).for_each(|place| self.tell_of_preemptions(place));
        let flight = &mut self.flights[next];
        flight.wave = Some(wave);
        let span = Span { scheduled: flight.scheduled, start, end };
        self.recorder.scheduled(&self.scheduler, &flight.step, span, flight.busy, self.spent);
    }

    /// Records a call that only preempted, once.
    fn tell_of_preemptions(&mut self, place: usize) {
        let flight = &mut self.flights[place];
        if !flight.step.is_empty() || flight.step.preempted.is_empty() || flight.told {
            return;
        }
        flight.told = true;
        let span = Span { scheduled: flight.scheduled, start: flight.scheduled, end: flight.scheduled };
        self.recorder.scheduled(&self.scheduler, &flight.step, span, Period::default(), self.spent);
    }

    /// A wave is done: the result of the step that ran in it, if one did, is processed.
    fn complete(&mut self, wave: u64, now: C::Instant, monitor: &Monitor) {
        if self.flights.front().is_some_and(|flight| flight.wave == Some(wave)) {
            self.process(now, monitor);
        }
    }

    /// Schedules as far ahead as the engine does, until a step that processes something is next, or nothing is.
    fn settle<P: StepCost>(&mut self, now: C::Instant, cost: &P, monitor: &Monitor) -> Result<()> {
        let ahead = self.scheduler.limits().batches_in_flight as usize;
        loop {
            self.enqueue(now, monitor);
            while self.flights.len() < ahead && self.scheduler.has_requests() {
                self.schedule(now, cost)?;
            }
            match self.flights.front() {
                Some(flight) if flight.step.is_empty() => {
                    self.tell_of_preemptions(0);
                    self.process(now, monitor);
                }
                _ => return Ok(()),
            }
            let nothing = self.flights.iter().all(|flight| flight.step.is_empty());
            if nothing && self.idle_calls > 2 * ahead as u32 {
                // Whoever waits cannot start before something else happens.
                self.flights.clear();
                self.idle_calls = 0;
                return Ok(());
            }
        }
    }

    fn enqueue(&mut self, now: C::Instant, monitor: &Monitor) {
        while let Some(due) = self.client.pop(now) {
            let Due::Send { sequence, at, ready } = due else {
                self.recorder.mark(self.scheduler.calls());
                continue;
            };
            self.moments += u64::from(self.last_arrival != Some(at));
            self.last_arrival = Some(at);
            let status = self.scheduler.arrive(sequence, self.moments);
            self.recorder.sent(sequence, at, ready, status);
            if status == Status::Rejected {
                self.client.completed(sequence, at);
                monitor.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn schedule<P: StepCost>(&mut self, now: C::Instant, cost: &P) -> Result<()> {
        let mut step = Step::default();
        self.scheduler.schedule(&mut step);
        self.barren_preemptions += step.preempted.len() as u64;
        let requests = (self.scheduler.running() + self.scheduler.waiting()) as u64;
        if self.barren_preemptions >= 1000 + 64 * requests {
            return Err(preempted_for_ever(self.barren_preemptions));
        }
        if step.host_is_full {
            return Err(host_is_full(self.scheduler.config().swap));
        }
        let mut busy = Period::default();
        if !step.is_empty() {
            let before = cost.spent();
            let config = self.scheduler.config();
            let all = busy_with(price(cost, &step)?, encoded(cost, &self.scheduler, &step));
            busy = in_each_stage(all, config);
            busy = busy_with(busy, moved(cost, &step, config.swap));
            for ((cause, after), (_, before)) in cost.spent().iter().zip(before.iter()) {
                self.spent.add(cause, after - before);
            }
        }
        let idle = step.is_empty() && step.preempted.is_empty();
        self.idle_calls = if idle { self.idle_calls + 1 } else { 0 };
        let epoch = self.recorder.epoch();
        self.flights.push_back(Flight { step, scheduled: now, busy, epoch, wave: None, told: false });
        Ok(())
    }

    /// The result of the oldest step is processed.
    fn process(&mut self, end: C::Instant, monitor: &Monitor) {
        let Some(mut flight) = self.flights.pop_front() else { return };
        self.scheduler.update(&mut flight.step);
        self.recorder.delivered(&self.scheduler, &flight.step, end, flight.epoch);
        if !flight.step.deliveries.is_empty() {
            self.barren_preemptions = 0;
        }
        for delivery in flight.step.deliveries.iter().filter(|delivery| delivery.finished) {
            self.client.completed(delivery.request, end);
            monitor.done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a step takes in each stage of the pipeline.
fn in_each_stage(busy: Period, config: &EngineConfig) -> Period {
    match config.pipeline_parallel {
        1 => busy,
        stages => Period::of_seconds(busy.seconds / f64::from(stages)),
    }
}

/// What a replica takes part with that has nothing to do: a row nobody reads.
fn dummy() -> Step {
    let mut step = Step::default();
    step.reset(1, 1, 0);
    step.add(Entry {
        request: 0,
        tokens: 1,
        drafts: 0,
        padded: true,
        prefill: false,
        context: 1,
        samples: false,
    });
    step
}
