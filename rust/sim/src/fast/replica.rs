//! One replica of an engine in simulated time, its steps aggregated: the loop of [`crate::engine`] and its measurements.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use roofline_core::cause::Causes;

use super::cache::Cache;
use super::decode::DecodeSet;
use super::sequence::{Place, Sequence, Timeline};
use super::tree::Tree;
use crate::client::{Due, Sender};
use crate::engine::Monitor;
use crate::error::Result;
use crate::metrics::journal::{Journal, Moments, Note};
use crate::metrics::records::{Epoch, One, Outcome, Records};
use crate::metrics::sink::Sink;
use crate::metrics::steps::Record;
use crate::request::{Rows, Workload};
use crate::scheduler::config::{EngineConfig, Limits, Policy};
use crate::scheduler::queue::Queue;
use crate::scheduler::sequence::Status;
use crate::scheduler::vllm::pass::Passes;
use crate::step_cost::StepCost;
use crate::time::Clock;

/// Calls of the scheduler between two looks at [`Monitor::cancel`].
pub(super) const CALLS_PER_LOOK: u64 = 256;

/// A step that is scheduled and whose result was not yet processed.
#[derive(Debug, Clone)]
pub(super) struct Flight<T> {
    pub(super) end: T,
    /// Whether it processes nothing.
    pub(super) is_empty: bool,
    /// Whether some request is given a token.
    pub(super) delivers: bool,
    /// Requests whose answer it completes, in batch order.
    pub(super) finishing: Vec<u32>,
}

/// A replica while it runs.
pub struct FastReplica<'a, C: Clock, P: StepCost> {
    pub(super) config: &'a EngineConfig,
    pub(super) limits: Limits,
    pub(super) cost: &'a P,
    pub(super) monitor: &'a Monitor,
    /// Whether stretches in which nothing is decided are run through at once.
    pub(super) jumps: bool,
    pub(super) workload: Workload<'a>,
    /// The rows of the workload that it serves.
    rows: Rows<'a>,
    pub(super) client: Sender<'a, C>,
    /// Requests from their arrival to their end, each in a slot that others use after it; what follows names them by it.
    pub(super) sequences: Vec<Sequence>,
    pub(super) timelines: Vec<Timeline<C::Instant>>,
    vacant: Vec<u32>,
    /// Requests that were sent.
    sent: u32,
    pub(super) told: Sink,
    pub(super) decode: DecodeSet,
    pub(super) cache: Cache,
    /// Requests running, the last admitted on top, each with its admission; some have ended.
    pub(super) stack: Vec<(u32, u32)>,
    pub(super) running: u32,
    /// Who runs but does not decode with the others, in order of admission: prompts partly computed, and the late.
    pub(super) singles: Vec<u32>,
    /// Running requests that are looked at one by one, and those of them that were given tokens.
    pub(super) lined_up: Vec<u32>,
    pub(super) taken: Vec<(u32, u32)>,
    /// Those who wait: their numbers and slots.
    pub(super) waiting: Queue<(u32, u32)>,
    /// What calls keep for those that limit prompts; absent where none does.
    pub(super) passes: Option<Passes>,
    /// The instants at which requests arrived, and the last of them.
    moments: u32,
    last_arrival: Option<C::Instant>,
    pub(super) admissions: u32,
    /// Calls of the scheduler so far.
    pub(super) calls: i64,
    /// Whether a request ended since the last call.
    pub(super) unflushed: bool,
    /// Whether the last call changed nothing and could not admit who waits, nor will the next ones.
    pub(super) blocked: bool,
    pub(super) now: C::Instant,
    /// When the last step that processes something ends.
    pub(super) busy_until: C::Instant,
    pub(super) flights: VecDeque<Flight<C::Instant>>,
    pub(super) spare: Vec<Vec<u32>>,
    /// Requests whose prompt the present step completes.
    pub(super) completing: Vec<u32>,
    pub(super) idle_calls: u64,
    /// Preemptions since a token was delivered.
    pub(super) barren_preemptions: u64,
    /// What is noted of the present epoch.
    pub(super) noted: Epoch,
    /// What was noted of those before it, and the calls up to its beginning.
    epochs: Vec<Epoch>,
    calls_before: i64,
    /// What steps before the present epoch were spent on.
    spent_before: Causes,
    /// Fewest blocks free after a call of the present epoch.
    least_free: u32,
    pub(super) journal: Journal,
}

impl<'a, C: Clock, P: StepCost> FastReplica<'a, C, P> {
    /// An idle replica that is to serve these rows of the workload as `client` sends them, under settings that
    /// [`super::covers`]; what comes of them goes to `told`.
    ///
    /// # Errors
    /// Settings no engine could start with.
    pub fn new(
        config: &'a EngineConfig,
        workload: Workload<'a>,
        rows: Rows<'a>,
        client: Sender<'a, C>,
        cost: &'a P,
        (record, told): (Record, Sink),
        jumps: bool,
        monitor: &'a Monitor,
    ) -> Result<FastReplica<'a, C, P>> {
        let limits = config.limits()?;
        let tree = config.enable_prefix_caching.then(|| match workload.hashed_block() {
            Some(hashed) if workload.whole().is_none() => Tree::growing(hashed, config.block_size),
            _ => Tree::of(&workload, rows, config.block_size),
        });
        let gaps = told.gaps();
        Ok(FastReplica {
            workload,
            rows,
            sequences: Vec::new(),
            timelines: Vec::new(),
            vacant: Vec::new(),
            sent: 0,
            decode: DecodeSet::new(config.block_size, cost.needs_each_context(), cost.needs_longest()),
            cache: Cache::new(config.num_gpu_blocks, config.block_size, tree),
            config,
            limits,
            cost,
            monitor,
            jumps,
            client,
            stack: Vec::new(),
            running: 0,
            singles: Vec::new(),
            lined_up: Vec::new(),
            taken: Vec::new(),
            waiting: Queue::of(config.scheduling_policy),
            passes: Passes::matter(config).then(|| Passes::new(config)),
            moments: 0,
            last_arrival: None,
            admissions: 0,
            calls: 0,
            unflushed: false,
            blocked: false,
            now: C::Instant::default(),
            busy_until: C::Instant::default(),
            flights: VecDeque::new(),
            spare: Vec::new(),
            completing: Vec::new(),
            idle_calls: 0,
            barren_preemptions: 0,
            noted: Epoch { gaps, ..Epoch::default() },
            epochs: Vec::new(),
            calls_before: 0,
            spent_before: Causes::default(),
            least_free: config.num_gpu_blocks - 1,
            journal: match record {
                Record::Summary => told.journal(false),
                _ => Journal::keeping(rows.count(workload.len())),
            },
            told,
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

    /// Moves on to the next decision or result; `false` when nothing is left to happen.
    fn advance(&mut self) -> Result<bool> {
        self.enqueue();
        if self.unflushed || self.has_unfinished() {
            if self.jumps {
                self.jump_steps()?;
                self.enqueue();
            }
            self.schedule()?;
            let full = self.flights.len() >= self.limits.batches_in_flight as usize;
            let empty = self.flights.back().is_none_or(|flight| flight.is_empty);
            if !full && (!empty || self.has_unfinished()) {
                return Ok(true);
            }
        }
        if self.process() {
            return Ok(!self.is_stuck() || self.jump_to_arrival());
        }
        Ok(self.jump_to_arrival())
    }

    fn has_unfinished(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }

    fn is_stuck(&self) -> bool {
        let calls = if self.limits.batches_in_flight == 1 { 1 } else { 4 };
        self.idle_calls >= calls && self.has_unfinished() && self.flights.iter().all(|flight| flight.is_empty)
    }

    /// Takes in what the client has sent.
    #[inline]
    pub(super) fn enqueue(&mut self) {
        while let Some(due) = self.client.pop(self.now) {
            match due {
                Due::Send { sequence, at, ready } => self.arrive(sequence, at, ready),
                Due::Mark => self.end_epoch(),
            }
        }
    }

    /// The request of that number is sent: it waits, or is refused.
    fn arrive(&mut self, number: u32, at: C::Instant, ready: C::Instant) {
        let row = self.row(number);
        let mut sequence = Sequence::waiting(&self.workload, number, row as usize, self.limits.model_len);
        let by_rank = self.config.scheduling_policy == Policy::Priority;
        if by_rank {
            self.moments += u32::from(self.last_arrival != Some(at));
            self.last_arrival = Some(at);
            (sequence.priority, sequence.moment) = (self.workload.priority(row as usize), self.moments);
        }
        let timeline = Timeline { arrival: at, ready, ..Timeline::default() };
        let full = self.config.max_num_queued_reqs.is_some_and(|most| self.waiting.len() >= most as usize);
        let accepted = !full && sequence.prompt < self.limits.model_len;
        self.sent = self.sent.max(number + 1);
        let content = self.cache.grows().then(|| self.workload.hashed_prompt(row as usize));
        self.told.sent(row, || C::seconds(at), accepted);
        self.workload.forget(|| self.client.oldest_unsent().and_then(|number| self.rows.row(number)));
        if !accepted {
            self.tell(&sequence, &timeline, Status::Rejected);
            self.client.completed(number, at);
            self.monitor.done.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.sequences[slot as usize] = sequence;
                self.timelines[slot as usize] = timeline;
                slot
            }
            None => {
                self.sequences.push(sequence);
                self.timelines.push(timeline);
                self.sequences.len() as u32 - 1
            }
        };
        self.workload.limit(self.sequences.len() - self.vacant.len());
        self.cache.enter(slot, number, content);
        self.waiting.push(self.sequences[slot as usize].rank(slot));
        if by_rank && self.waiting.front() == Some((number, slot)) {
            // It may fit where others do not.
            self.blocked = false;
        }
    }

    /// The row of the workload of a request.
    fn row(&self, number: u32) -> u32 {
        self.rows.row(number).unwrap_or(number)
    }

    /// Writes down what came of a request.
    fn tell(&mut self, sequence: &Sequence, timeline: &Timeline<C::Instant>, status: Status) {
        let delivered = sequence.tokens - sequence.prompt;
        let outcome = Outcome {
            first_scheduled: (sequence.admission > 0).then_some(timeline.first_scheduled),
            first_token: (delivered > 0).then_some(timeline.first_token),
            finish: (status == Status::Finished).then_some(timeline.last_token),
            delivered,
            cached: sequence.cached,
            preemptions: sequence.preemptions,
            status,
        };
        if self.journal.writes() {
            self.journal.moments[sequence.number as usize] = Moments::of::<C>(timeline.arrival, &outcome);
        }
        let lengths = (sequence.prompt, sequence.asked);
        let one = One::of::<C>((timeline.arrival, timeline.ready), &outcome, lengths, sequence.deadline_s);
        self.told.tell(sequence.number, self.row(sequence.number), &one, &mut self.journal);
    }

    /// What is noted from now on belongs to another epoch.
    fn end_epoch(&mut self) {
        self.noted.totals.calls = (self.calls - self.calls_before) as u64;
        self.calls_before = self.calls;
        let spent = self.cost.spent();
        self.noted.spent = spent.since(&std::mem::replace(&mut self.spent_before, spent));
        let usable = self.cache.usable();
        self.noted.totals.kv_peak = f64::from(usable - self.least_free) / f64::from(usable.max(1));
        self.least_free = usable;
        let next = Epoch { gaps: self.told.gaps(), ..Epoch::default() };
        self.epochs.push(std::mem::replace(&mut self.noted, next));
    }

    fn jump_to_arrival(&mut self) -> bool {
        match self.client.due() {
            Some(due) => {
                self.now = C::later(self.now, due);
                self.idle_calls = 0;
                true
            }
            None => false,
        }
    }

    /// Processes the oldest result under way; `false` if none is.
    fn process(&mut self) -> bool {
        let Some(mut flight) = self.flights.pop_front() else { return false };
        self.now = C::later(self.now, flight.end);
        if flight.delivers {
            self.barren_preemptions = 0;
        }
        if !flight.finishing.is_empty() {
            self.unflushed = true;
            self.blocked = false;
            self.monitor.done.fetch_add(flight.finishing.len() as u64, Ordering::Relaxed);
        }
        for slot in flight.finishing.drain(..) {
            let number = self.sequences[slot as usize].number;
            self.end(slot);
            self.client.completed(number, flight.end);
        }
        self.spare.push(flight.finishing);
        true
    }

    /// An answer is complete: its blocks are free, and its slot.
    fn end(&mut self, slot: u32) {
        let state = &self.sequences[slot as usize];
        if state.place == Place::Waiting {
            // Preempted while its last token was under way.
            self.waiting.remove(state.rank(slot));
        } else {
            let computed = state.end - 1;
            self.running -= 1;
            self.cache.release(slot, computed, computed, false);
        }
        self.sequences[slot as usize].place = Place::Finished;
        let (state, timeline) = (self.sequences[slot as usize].clone(), self.timelines[slot as usize]);
        self.tell(&state, &timeline, Status::Finished);
        self.vacant.push(slot);
    }

    /// Notes what is in use after a call that scheduled or preempted something and left so many waiting.
    pub(super) fn note_peaks(&mut self, waiting: u32) {
        self.least_free = self.least_free.min(self.cache.free());
        self.noted.totals.max_running = self.noted.totals.max_running.max(self.running);
        self.noted.totals.max_waiting = self.noted.totals.max_waiting.max(waiting);
    }

    /// When a step decided now begins.
    pub(super) fn next_start(&self) -> C::Instant {
        C::later(self.now, self.busy_until)
    }

    /// Writes steps down, if they are kept; `note` makes the note.
    #[inline]
    pub(super) fn note_steps(&mut self, note: impl FnOnce(&Self) -> Note) {
        if self.journal.writes() {
            let (note, spent) = (note(self), self.cost.spent());
            self.journal.note(note, spent);
        }
    }

    /// Blocks in use.
    pub(super) fn used_blocks(&self) -> u32 {
        self.cache.usable() - self.cache.free()
    }

    /// Everything written down.
    ///
    /// # Errors
    /// Why a stream ended early.
    fn finish(mut self) -> Result<Records> {
        self.workload.check_whole()?;
        self.noted.totals.end_s = C::seconds(self.now);
        self.end_epoch();
        self.journal.usable_blocks = self.cache.usable();
        for slot in 0..self.sequences.len() {
            let (state, timeline) = (self.sequences[slot].clone(), self.timelines[slot]);
            if state.place != Place::Finished {
                self.tell(&state, &timeline, state.place.status());
            }
        }
        self.told.expect_others::<C>(self.workload, self.rows, self.sent)?;
        Ok(Records { told: self.told, epochs: self.epochs, journal: self.journal, ..Records::default() })
    }
}
