//! A whole simulation: a workload through the replicas of an engine, and what came of it.

use rayon::prelude::*;
use roofline_core::error::Error as CoreError;

use crate::client::{Client, Extent, Sender, Units};
use crate::engine::{Monitor, Replica};
use crate::error::Result;
use crate::fast::{FastReplica, covers};
use crate::lockstep::{self, Member};
use crate::metrics::gaps::Gaps;
use crate::metrics::journal::Journal;
use crate::metrics::load::Sent;
use crate::metrics::records::{Epoch, Records, Requests, Totals};
use crate::metrics::sink::Sink;
use crate::metrics::slo::Slo;
use crate::metrics::steps::{Decisions, Record, Steps};
use crate::metrics::summary::{Measured, Summary};
use crate::metrics::tally::{Asked, Ends, Tally, span_s};
use crate::request::{Rows, Workload};
use crate::scheduler::config::EngineConfig;
use crate::scheduler::sequence::Status;
use crate::step_cost::StepCost;
use crate::stream::{Source, Stream};
use crate::time::Clock;
use crate::trace::Trace;

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// One row a request, in the order of the trace; none of a stream.
    pub requests: Requests,
    /// The requests of a stream, added up.
    pub tally: Option<Box<Tally>>,
    /// One row a step, replica after replica; empty unless recorded.
    pub steps: Steps,
    /// Sums over the steps of all replicas.
    pub totals: Totals,
    /// Gaps between two deliveries of a request.
    pub gaps: Gaps,
    /// Replicas that served.
    pub replicas: u32,
    /// Who gave way, and stretches of steps if recorded, one a replica.
    pub journals: Vec<Journal>,
    /// What is measured, if not everything.
    pub window: Option<Window>,
    /// What is known of those who sent them.
    pub client: Sent,
}

/// The part of a simulation that is measured, between the warm-up and what comes after.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Where it begins and ends, as asked.
    pub extent: (Extent, Option<Extent>),
    /// When that was, seconds since the trace began; without an end it ends with the last token.
    pub ends_s: [Option<f64>; 2],
    /// The requests sent in it; none of a stream.
    pub rows: Vec<u32>,
    /// What was noted of the steps scheduled in it.
    pub epoch: Epoch,
}

impl Simulation {
    /// The same as a client sees it who waits `seconds` longer for each answer to begin: outside the engine, whose
    /// decisions do not change. A stream is told beforehand ([`Asked::outside_s`]).
    #[must_use]
    pub fn behind(mut self, seconds: f64) -> Simulation {
        self.requests.delay(seconds);
        self.client.outside_s += seconds;
        self
    }

    /// The simulation in numbers: of what is measured, if not everything is.
    ///
    /// Latencies are then those of the requests sent in the window, rates count what was answered in its time, and
    /// shares of time and gaps are those of the steps scheduled in it. What requests of a stream must meet was said
    /// beforehand ([`Asked::slo`]), and not by `slo`.
    pub fn summary(&self, slo: Option<&Slo>, percentiles: &[f64]) -> Summary {
        let counted;
        let tally = match &self.tally {
            Some(tally) => tally,
            None => {
                let window = self.window.as_ref();
                let asked = Asked {
                    slo: slo.cloned(),
                    window: window.map(|window| window.extent),
                    ..Asked::default()
                };
                let ends_s = window.map_or([None, None], |window| window.ends_s);
                counted = Tally::of(&self.requests, &self.journals, self.client.outside_s, &asked, ends_s);
                &counted
            }
        };
        let (totals, gaps) = match &self.window {
            Some(Window { epoch, .. }) => (&epoch.totals, &epoch.gaps),
            None => (&self.totals, &self.gaps),
        };
        let measured = Measured { tally, totals, gaps, replicas: self.replicas, client: self.client };
        Summary::of(measured, percentiles)
    }

    /// The first and the last second of what is measured.
    pub fn span_s(&self) -> (f64, f64) {
        let (ready, answered) = self.extremes();
        let window = self.window.as_ref().map(|window| match &self.tally {
            Some(tally) => tally.window_s(),
            None => window.ends_s,
        });
        span_s(window, ready, answered)
    }

    /// When the first and the last request could be sent, and when they were answered.
    fn extremes(&self) -> (Ends, Ends) {
        if let Some(tally) = &self.tally {
            return tally.extremes();
        }
        let answered = Ends::of(self.requests.finish_s.iter().filter_map(|finish| finish.get()));
        (Ends::of((0..self.requests.len()).map(|row| self.requests.one(row).ready_s())), answered)
    }

    /// Sentences about what was measured.
    pub fn notes(&self) -> Vec<String> {
        let Some(window) = &self.window else { return Vec::new() };
        let (count, all) = match &self.tally {
            Some(tally) => (tally.all(), tally.everyone()),
            None => (window.rows.len() as u64, self.requests.len() as u64),
        };
        let (from, to) = self.span_s();
        vec![format!(
            "measured: {count} of {all} requests, sent from {from:.3} s on; rates over {:.3} s",
            to - from
        )]
    }
}

/// How closely an engine is followed. All come to the same results, to the bit: two of them are there to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// From decision to decision.
    #[default]
    Decisions,
    /// Step by step, those who decode together.
    Steps,
    /// Step by step and request by request.
    Requests,
}

/// Serves a workload, as `client` sends it, with `config.data_parallel` replicas of an engine.
///
/// Sessions go to replicas in turn, in the order of their first requests, and stay there; so do requests without one.
/// Users and places in flight are divided evenly, and replicas without a user or a place get nothing: what happens on
/// one replica never depends on another, and they are simulated on all cores.
///
/// # Errors
/// Settings no engine could start with, a client that sends or measures nothing, a step cost that is negative or not
/// finite, a stop asked for.
pub fn simulate<C: Clock, P: StepCost + Clone + Send>(
    workload: Workload<'_>,
    client: &Client,
    config: &EngineConfig,
    cost: &P,
    record: Record,
    monitor: &Monitor,
) -> Result<Simulation> {
    simulate_at::<C, P>(Pace::default(), workload, client, config, cost, record, monitor)
}

/// The same, followed as closely as wanted, and request by request where nothing else is exact ([`covers`]).
///
/// # Errors
/// Those of [`simulate`].
pub fn simulate_at<C: Clock, P: StepCost + Clone + Send>(
    pace: Pace,
    workload: Workload<'_>,
    client: &Client,
    config: &EngineConfig,
    cost: &P,
    record: Record,
    monitor: &Monitor,
) -> Result<Simulation> {
    client.check(Some(workload.len()))?;
    let Some(whole) = workload.whole() else {
        let hint = "give its source to `stream`";
        return Err(CoreError::spec("trace", "must be all in memory", "a stream", hint).into());
    };
    let trace = whole.trace();
    let (units, served) = (Units::of(trace), client.replicas_served(config.data_parallel));
    let dealt = units.deal(served);
    let run = Run { pace, client, config, record, monitor, units: &units, dealt: dealt.as_deref(), served };
    let rows = |replica: u32| run.rows(replica);
    let told = |replica: u32| {
        Sink::Rows(Requests::expected_of(whole.into(), rows(replica), client.max_concurrency.is_some()))
    };
    let records = if run.in_lockstep() {
        let members = (0..served).map(|replica| run.member::<C>(whole.into(), replica, told(replica)));
        lockstep::run(config, members.collect(), cost, record, monitor)?
    } else {
        run.each(cost, false, |replica, cost| run.serve::<C, P>(whole.into(), replica, told(replica), cost))?
    };
    let (mut simulation, epochs) = merged(&run, trace, records);
    simulation.window = client.window().map(|extent| measured(&simulation.requests, extent, &epochs));
    let is_empty = simulation.window.as_ref().is_some_and(|window| window.rows.is_empty());
    completed(simulation, epochs, is_empty)
}

/// Serves requests as they are drawn, without keeping more of them than are under way: of any number of them, what a
/// [`Tally`] keeps. It is the tally of the same requests in a trace.
///
/// `budget` requests may be held at once, those between the oldest that is under way and the last that came.
///
/// # Errors
/// Those of [`simulate`] and of the source; more requests under way than the budget; a window of so many requests over
/// several replicas, each of which sees its own.
pub fn stream<C: Clock, P: StepCost + Clone + Send>(
    pace: Pace,
    source: &dyn Source,
    (asked, budget): (&Asked, u64),
    client: &Client,
    config: &EngineConfig,
    cost: &P,
    monitor: &Monitor,
) -> Result<Simulation> {
    client.check(None)?;
    let (units, served) = (Units::default(), client.replicas_served(config.data_parallel));
    let window = client.window();
    if served > 1 && matches!(window, Some((Extent::Requests(_), _))) {
        let must = "must be a time where requests are streamed to several replicas";
        let hint = "each replica sees its own requests alone: `30s` instead of a number";
        return Err(CoreError::spec("warmup", must, "a number of requests", hint).into());
    }
    let record = Record::Summary;
    let run = Run { pace, client, config, record, monitor, units: &units, dealt: None, served };
    let budget = (budget / u64::from(served)).max(1);
    let asked = Asked { window, ..asked.clone() };
    let told =
        |replica: u32| Sink::Tally(Box::new(Tally::new(asked.clone(), served > 1).of_replica(replica)));
    let records = if run.in_lockstep() {
        let mut parts = (0..served).map(|_| source.parts()).collect::<Result<Vec<_>>>()?;
        let streams = parts.iter_mut().map(|parts| Stream::new(&mut **parts, budget));
        let streams = streams.collect::<Result<Vec<_>>>()?;
        let member = |(replica, stream)| run.member::<C>(Workload::from(stream), replica, told(replica));
        let members = (0..served).zip(&streams).map(member).collect();
        lockstep::run(config, members, cost, record, monitor)?
    } else {
        run.each(cost, asked.taker.is_some(), |replica, cost| {
            let mut parts = source.parts()?;
            let stream = Stream::new(&mut *parts, budget)?;
            run.serve::<C, P>(Workload::from(&stream), replica, told(replica), cost)
        })?
    };
    let (mut simulation, epochs) = merged(&run, &Trace::default(), records);
    simulation.client.outside_s = asked.outside_s;
    let epoch = epochs.get(1).cloned().unwrap_or_default();
    simulation.window = window.map(|extent| Window { extent, ends_s: [None, None], rows: Vec::new(), epoch });
    let is_empty = simulation.tally.as_ref().is_some_and(|tally| tally.all() == 0);
    completed(simulation, epochs, window.is_some() && is_empty)
}

/// What all replicas of a simulation have in common.
struct Run<'a> {
    pace: Pace,
    client: &'a Client,
    config: &'a EngineConfig,
    record: Record,
    monitor: &'a Monitor,
    units: &'a Units,
    /// The requests of each replica, where they are not simply taken in turn.
    dealt: Option<&'a [Vec<u32>]>,
    /// Replicas that get requests.
    served: u32,
}

impl<'a> Run<'a> {
    fn rows(&self, replica: u32) -> Rows<'a> {
        Units::rows(self.dealt, replica, self.served)
    }

    fn in_lockstep(&self) -> bool {
        self.served > 1 && self.config.data_parallel_lockstep
    }

    fn member<'b, C: Clock>(&self, workload: Workload<'b>, replica: u32, told: Sink) -> Member<'b, C>
    where
        'a: 'b,
    {
        let rows = self.rows(replica);
        let client = Sender::new(self.client, workload, self.units, rows, (replica, self.served));
        Member { workload, rows, client, told }
    }

    /// One replica, alone.
    fn serve<'b, C: Clock, P: StepCost>(
        &self,
        workload: Workload<'b>,
        replica: u32,
        told: Sink,
        cost: &'b P,
    ) -> Result<Records>
    where
        'a: 'b,
    {
        let Run { config, record, monitor, .. } = *self;
        let Member { workload, rows, client, told } = self.member::<C>(workload, replica, told);
        let told = (record, told);
        if self.pace == Pace::Requests || !covers(config, workload, record) {
            Replica::new(config, workload, rows, client, replica, cost, told, monitor)?.run()
        } else {
            let jumps = self.pace == Pace::Decisions;
            FastReplica::new(config, workload, rows, client, cost, told, jumps, monitor)?.run()
        }
    }

    /// All replicas on all cores, or one after the other if they are to tell `in_turn`; in their order.
    fn each<P: StepCost + Clone + Send>(
        &self,
        cost: &P,
        in_turn: bool,
        serve: impl Fn(u32, &P) -> Result<Records> + Sync,
    ) -> Result<Vec<Records>> {
        if self.served == 1 {
            return Ok(vec![serve(0, cost)?]);
        }
        let forks: Vec<(u32, P)> = (0..self.served).map(|replica| (replica, cost.fork())).collect();
        let served = |(replica, fork): (u32, P)| (serve(replica, &fork), fork);
        let told: Vec<_> = match in_turn {
            true => forks.into_iter().map(served).collect(),
            false => forks.into_par_iter().map(served).collect(),
        };
        // In the order of the replicas, whichever was done first.
        let joined = told.into_iter().map(|(told, fork)| {
            cost.join(&fork);
            told
        });
        joined.collect()
    }
}

/// The whole of what was noted, and a refusal of a window without requests.
fn completed(mut simulation: Simulation, epochs: Vec<Epoch>, is_empty: bool) -> Result<Simulation> {
    if is_empty {
        let hint = "the simulated traffic ends earlier; make it shorter, or the traffic longer";
        let must = "must leave requests to be measured";
        return Err(CoreError::spec("warmup", must, "none sent after it", hint).into());
    }
    let mut whole = Epoch::default();
    epochs.into_iter().for_each(|epoch| whole.append(epoch));
    (simulation.totals, simulation.gaps) = (whole.totals, whole.gaps);
    Ok(simulation)
}

/// What is measured: of all that was noted, the epoch between the marks.
fn measured(requests: &Requests, extent: (Extent, Option<Extent>), epochs: &[Epoch]) -> Window {
    let sent = |row: &u32| requests.status[*row as usize] != Status::Expected;
    let arrival = |row: &u32| requests.arrival_s[*row as usize];
    let all = 0..requests.len() as u32;
    let earliest =
        |rows: std::ops::Range<u32>| rows.filter(sent).map(|row| arrival(&row)).min_by(f64::total_cmp);
    let (ends_s, rows): (_, Vec<u32>) = match extent {
        (Extent::Nanos(from), to) => {
            let from = from as f64 / 1e9;
            let to = match to {
                Some(Extent::Nanos(to)) => Some(to as f64 / 1e9),
                _ => None,
            };
            let inside = |row: &u32| sent(row) && (from..to.unwrap_or(f64::INFINITY)).contains(&arrival(row));
            ([Some(from), to], all.filter(inside).collect())
        }
        (Extent::Requests(from), to) => {
            let to = match to {
                Some(Extent::Requests(to)) => to.min(requests.len() as u64) as u32,
                _ => requests.len() as u32,
            };
            let rows = from as u32..to;
            let ends_s = [earliest(rows.clone()), earliest(to..requests.len() as u32)];
            (ends_s, rows.filter(sent).collect())
        }
    };
    Window { extent, ends_s, rows, epoch: epochs.get(1).cloned().unwrap_or_default() }
}

/// What all replicas have written down, in the order of the trace, and what was noted in each epoch.
fn merged(run: &Run<'_>, trace: &Trace, records: Vec<Records>) -> (Simulation, Vec<Epoch>) {
    let decisions = (run.record == Record::Decisions).then(Decisions::default);
    let mut simulation = Simulation {
        requests: Requests::default(),
        tally: None,
        steps: Steps { decisions, ..Steps::default() },
        totals: Totals::default(),
        gaps: Gaps::default(),
        replicas: run.config.data_parallel,
        journals: Vec::new(),
        window: None,
        client: Sent { closed: run.client.concurrency.is_some(), outside_s: 0.0 },
    };
    if run.served > 1 {
        simulation.requests = Requests::expected(trace, run.client.max_concurrency.is_some());
    }
    let mut epochs: Vec<Epoch> = Vec::new();
    for (replica, records) in (0..).zip(records) {
        let rows = run.rows(replica);
        match records.told {
            Sink::Rows(requests) if run.served == 1 => simulation.requests = requests,
            Sink::Rows(requests) => simulation.requests.scatter(rows, replica, &requests),
            Sink::Tally(tally) => match &mut simulation.tally {
                Some(known) => known.append(*tally),
                None => simulation.tally = Some(tally),
            },
        }
        for (place, epoch) in records.epochs.into_iter().enumerate() {
            match epochs.get_mut(place) {
                Some(known) => known.append(epoch),
                None => epochs.push(epoch),
            }
        }
        simulation.steps.append(&records.steps);
        let mut journal = records.journal;
        journal.close(rows);
        simulation.journals.push(journal);
    }
    (simulation, epochs)
}
