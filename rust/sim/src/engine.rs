//! One replica of an engine in simulated time: schedule, run, process the result, with several steps under way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roofline_core::cause::Cause;
use roofline_core::error::Error as CoreError;

use crate::client::{Due, Sender};
use crate::error::{Error, Result};
use crate::metrics::records::{Recorder, Records, Span};
use crate::metrics::sink::Sink;
use crate::metrics::steps::Record;
use crate::request::{Rows, Workload};
use crate::scheduler::Scheduler;
use crate::scheduler::config::EngineConfig;
use crate::scheduler::sequence::Status;
use crate::scheduler::swap::Swap;
use crate::step::Step;
use crate::step_cost::{Phase, StepCost, StepItem};
use crate::time::{Clock, Period};

/// How a caller on another thread follows a simulation, and stops it.
#[derive(Debug, Default)]
pub struct Monitor {
    /// Requests done so far.
    pub done: AtomicU64,
    /// Set to stop.
    pub cancel: AtomicBool,
}

/// Calls of the scheduler between two looks at [`Monitor::cancel`].
const CALLS_PER_LOOK: u64 = 256;

/// A step that is scheduled and whose result was not yet processed.
struct Flight<T> {
    step: Step,
    end: T,
    /// The epoch of the statistics it was scheduled in.
    epoch: usize,
}

/// A replica while it runs.
pub struct Replica<'a, C: Clock, P: StepCost> {
    scheduler: Scheduler<'a>,
    recorder: Recorder<'a, C>,
    cost: &'a P,
    monitor: &'a Monitor,
    client: Sender<'a, C>,
    /// Requests that have arrived, and the instants at which some did.
    arrived: usize,
    moments: u64,
    /// When the last one arrived.
    last_arrival: Option<C::Instant>,
    now: C::Instant,
    /// For each pipeline stage when it is done with what it was given.
    stages: Vec<C::Instant>,
    flights: VecDeque<Flight<C::Instant>>,
    /// Steps to be used again.
    spare: Vec<Step>,
    /// Calls since one scheduled or preempted something.
    idle_calls: u64,
    /// Preemptions since a token was delivered.
    barren_preemptions: u64,
}

impl<'a, C: Clock, P: StepCost> Replica<'a, C, P> {
    /// An idle replica that is to serve these rows of the workload as `client` sends them; what comes of them goes to
    /// `told`.
    ///
    /// # Errors
    /// Settings no engine could start with.
    pub fn new(
        config: &'a EngineConfig,
        workload: Workload<'a>,
        rows: Rows<'a>,
        client: Sender<'a, C>,
        replica: u32,
        cost: &'a P,
        (record, told): (Record, Sink),
        monitor: &'a Monitor,
    ) -> Result<Replica<'a, C, P>> {
        Ok(Replica {
            scheduler: Scheduler::new(config, workload, rows)?,
            recorder: Recorder::new(record, replica, workload, rows, told),
            cost,
            monitor,
            client,
            arrived: 0,
            moments: 0,
            last_arrival: None,
            now: C::Instant::default(),
            stages: vec![C::Instant::default(); config.pipeline_parallel as usize],
            flights: VecDeque::new(),
            spare: Vec::new(),
            idle_calls: 0,
            barren_preemptions: 0,
        })
    }

    /// Serves all requests.
    ///
    /// # Errors
    /// A step cost that is negative or not finite; requests that preempt each other for ever; a stop asked for; a stream
    /// that ends early.
    pub fn run(mut self) -> Result<Records> {
        while self.advance()? {}
        self.finish()
    }

    /// What was recorded, complete or not.
    ///
    /// # Errors
    /// Why a stream ended early.
    pub fn finish(self) -> Result<Records> {
        self.recorder.finish(&self.scheduler, self.now)
    }

    /// Checks what must hold between any two moves: blocks and requests are conserved.
    ///
    /// # Errors
    /// The law that is broken, in words.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.scheduler.check(self.arrived)
    }

    /// Moves on to the next decision or result; `false` when nothing is left to happen.
    ///
    /// # Errors
    /// A step cost that is negative or not finite; requests that preempt each other for ever; a stop asked for.
    pub fn advance(&mut self) -> Result<bool> {
        self.enqueue();
        if self.scheduler.has_requests() {
            self.schedule()?;
            let full = self.flights.len() >= self.scheduler.limits().batches_in_flight as usize;
            let empty = self.flights.back().is_none_or(|flight| flight.step.is_empty());
            if !full && (!empty || self.scheduler.has_requests()) {
                return Ok(true);
            }
        }
        if self.process() {
            return Ok(!self.is_stuck() || self.jump());
        }
        Ok(self.jump())
    }

    /// Requests wait, nothing is under way, and the scheduler has had every chance to start them.
    fn is_stuck(&self) -> bool {
        let stages = self.stages.len() as u64;
        let calls = if self.scheduler.limits().batches_in_flight == 1 { 1 } else { 2 * (stages + 1) };
        self.idle_calls >= calls
            && self.scheduler.has_unfinished()
            && self.flights.iter().all(|flight| flight.step.is_empty())
    }

    /// Takes in what the client has sent.
    fn enqueue(&mut self) {
        while let Some(due) = self.client.pop(self.now) {
            let Due::Send { sequence, at, ready } = due else {
                self.recorder.mark(self.scheduler.calls());
                continue;
            };
            self.moments += u64::from(self.last_arrival != Some(at));
            self.last_arrival = Some(at);
            self.arrived += 1;
            let status = self.scheduler.arrive(sequence, self.moments);
            self.recorder.sent(sequence, at, ready, status);
            if status == Status::Rejected {
                self.client.completed(sequence, at);
                self.monitor.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Moves to what the client does next; `false` if there is nothing.
    fn jump(&mut self) -> bool {
        match self.client.due() {
            Some(due) => {
                self.now = C::later(self.now, due);
                self.idle_calls = 0;
                true
            }
            None => false,
        }
    }

    fn schedule(&mut self) -> Result<()> {
        let mut step = self.spare.pop().unwrap_or_default();
        self.scheduler.schedule(&mut step);
        if self.scheduler.calls().is_multiple_of(CALLS_PER_LOOK) {
            self.recorder.check_whole()?;
            if self.monitor.cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
        }
        if step.host_is_full {
            return Err(host_is_full(self.scheduler.config().swap));
        }
        self.check_progress(&step)?;
        let mut span = Span { scheduled: self.now, start: self.now, end: self.now };
        let mut busy = Period::default();
        if !step.is_empty() {
            busy = busy_with(price(self.cost, &step)?, encoded(self.cost, &self.scheduler, &step));
            if self.stages.len() > 1 {
                busy = Period::of_seconds(busy.seconds / self.stages.len() as f64);
            }
            busy = busy_with(busy, moved(self.cost, &step, self.scheduler.config().swap));
            (span.start, span.end) = self.occupy(busy);
        }
        if step.is_empty() && step.preempted.is_empty() {
            self.idle_calls += 1;
        } else {
            self.idle_calls = 0;
            let spent = self.cost.spent();
            self.recorder.scheduled(&self.scheduler, &step, span, busy, spent);
        }
        self.flights.push_back(Flight { step, end: span.end, epoch: self.recorder.epoch() });
        Ok(())
    }

    /// Requests of equal rank can take each other's blocks for ever, none ever reaching its next token.
    fn check_progress(&mut self, step: &Step) -> Result<()> {
        self.barren_preemptions += step.preempted.len() as u64;
        let requests = (self.scheduler.running() + self.scheduler.waiting()) as u64;
        if self.barren_preemptions < 1000 + 64 * requests {
            return Ok(());
        }
        Err(preempted_for_ever(self.barren_preemptions))
    }

    /// Passes a step through the stages, as long in each; when it begins and ends.
    fn occupy(&mut self, busy: Period) -> (C::Instant, C::Instant) {
        let start = C::later(self.now, self.stages[0]);
        let mut end = start;
        for stage in &mut self.stages {
            end = C::after(C::later(end, *stage), busy);
            *stage = end;
        }
        (start, end)
    }

    /// Processes the oldest result under way; `false` if none is.
    fn process(&mut self) -> bool {
        let Some(mut flight) = self.flights.pop_front() else { return false };
        self.now = C::later(self.now, flight.end);
        self.scheduler.update(&mut flight.step);
        self.recorder.delivered(&self.scheduler, &flight.step, flight.end, flight.epoch);
        if !flight.step.deliveries.is_empty() {
            self.barren_preemptions = 0;
        }
        for delivery in flight.step.deliveries.iter().filter(|delivery| delivery.finished) {
            self.client.completed(delivery.request, flight.end);
            self.monitor.done.fetch_add(1, Ordering::Relaxed);
        }
        self.spare.push(flight.step);
        true
    }
}

/// Why a replica stops that only preempts.
pub(crate) fn preempted_for_ever(count: u64) -> Error {
    let hint = "as the real engine would, they preempt each other for ever; \
                set scheduler_reserve_full_isl, or give them more blocks";
    let must = "must let some request reach its next token between preemptions";
    let value = format!("{count} preemptions without one");
    Error::Core(CoreError::spec("num_gpu_blocks", must, value, hint))
}

/// Why a replica stops whose host has no room for the blocks of those who give way, as vLLM V0 does.
pub(crate) fn host_is_full(swap: Option<Swap>) -> Error {
    let hint = "give it more (swap_space), or let requests be recomputed (preemption_mode recompute)";
    let must = "must hold the blocks of every request that gives way";
    let value = format!("room for {} blocks", swap.map_or(0, |swap| swap.blocks));
    Error::Core(CoreError::spec("swap_space", must, value, hint))
}

/// Seconds that blocks take to the host and back, before a step; taken into account.
pub(crate) fn moved<P: StepCost>(cost: &P, step: &Step, swap: Option<Swap>) -> f64 {
    let seconds = swap.map_or(0.0, |swap| f64::from(step.moved_blocks) * swap.block_s);
    if seconds > 0.0 {
        cost.spend(Cause::Link, seconds);
    }
    seconds
}

/// Seconds that the images of prompts that begin in a step pass the vision tower before it; taken into account.
pub(crate) fn encoded<P: StepCost>(cost: &P, scheduler: &Scheduler<'_>, step: &Step) -> f64 {
    if !cost.encodes() {
        return 0.0;
    }
    let images = scheduler.images_of(step);
    if images.is_empty() { 0.0 } else { cost.encode(&images) }
}

/// A period longer by so many seconds.
pub(crate) fn busy_with(busy: Period, seconds: f64) -> Period {
    if seconds > 0.0 { Period::of_seconds(busy.seconds + seconds) } else { busy }
}

/// What a step takes.
///
/// # Errors
/// A step cost that is negative or not finite.
pub(crate) fn price<P: StepCost>(cost: &P, step: &Step) -> Result<Period> {
    let mut sums = P::Sums::default();
    for entry in step.entries() {
        let item = StepItem {
            new_tokens: entry.tokens,
            context: entry.context - entry.tokens,
            phase: if entry.prefill { Phase::Prefill } else { Phase::Decode },
            sampled_rows: if entry.samples { 1 + entry.drafts } else { 0 },
        };
        cost.add(&mut sums, item);
    }
    checked(cost.price(&sums))
}

/// A price that is a time.
///
/// # Errors
/// One that is negative or not finite.
#[inline]
pub(crate) fn checked(price: Period) -> Result<Period> {
    if price.seconds.is_finite() && price.seconds >= 0.0 {
        return Ok(price);
    }
    let must = "must be finite and not negative, in seconds";
    Err(Error::Core(CoreError::spec("step_cost", must, price.seconds, "")))
}
