//! A whole simulation: a workload through the replicas of an engine, and what came of it.

use rayon::prelude::*;
use roofline_core::error::Error as CoreError;

use crate::client::{Client, Extent, Sender, Units};
use crate::engine::{Monitor, Replica};
use crate::error::Result;
use crate::fast::{FastReplica, covers};
use crate::lockstep;
use crate::metrics::gaps::Gaps;
use crate::metrics::journal::Journal;
use crate::metrics::load::Sent;
use crate::metrics::records::{Epoch, Records, Requests, Totals};
use crate::metrics::slo::Slo;
use crate::metrics::steps::{Decisions, Record, Steps};
use crate::metrics::summary::{Measured, Served, Summary};
use crate::request::Workload;
use crate::scheduler::config::EngineConfig;
use crate::scheduler::sequence::Status;
use crate::step_cost::StepCost;
use crate::time::Clock;

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// One row a request, in the order of the trace.
    pub requests: Requests,
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
    /// When it begins and ends, seconds since the trace began.
    pub span_s: (f64, f64),
    /// The requests sent in it.
    pub rows: Vec<u32>,
    /// What was noted of the steps scheduled in it.
    pub epoch: Epoch,
}

impl Simulation {
    /// The same as a client sees it who waits `seconds` longer for each answer to begin: outside the engine, whose
    /// decisions do not change.
    #[must_use]
    pub fn behind(mut self, seconds: f64) -> Simulation {
        self.requests.delay(seconds);
        self.client.outside_s += seconds;
        self
    }

    /// The simulation in numbers: of what is measured, if not everything is.
    ///
    /// Latencies are then those of the requests sent in the window, rates count what was answered in its time, and
    /// shares of time and gaps are those of the steps scheduled in it.
    pub fn summary(&self, slo: Option<&Slo>, percentiles: &[f64]) -> Summary {
        let Simulation { requests, totals, gaps, replicas, window, journals, .. } = self;
        let whole = Measured {
            requests,
            totals,
            gaps,
            replicas: *replicas,
            served: None,
            journals,
            rows: None,
            client: self.client,
        };
        let Some(window) = window else { return Summary::of(whole, slo, percentiles) };
        let requests = &requests.select(&window.rows);
        let Epoch { totals, gaps, .. } = &window.epoch;
        let served = Some(Served::within(&self.requests, window.span_s));
        Summary::of(
            Measured { requests, totals, gaps, served, rows: Some(&window.rows), ..whole },
            slo,
            percentiles,
        )
    }

    /// Sentences about what was measured.
    pub fn notes(&self) -> Vec<String> {
        let Some(Window { span_s: (from, to), rows, .. }) = &self.window else { return Vec::new() };
        let (count, all) = (rows.len(), self.requests.len());
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
    config.limits()?;
    client.check(workload.len())?;
    let (units, served) = (Units::of(workload.trace()), client.replicas_served(config.data_parallel));
    let dealt = units.deal(workload.len(), served);
    let sender = |replica: u32| {
        Sender::<C>::new(client, workload, &units, &dealt[replica as usize], (replica, served))
    };
    let serve = |replica: u32, cost: &P| {
        let rows = &dealt[replica as usize];
        let sender = sender(replica);
        if pace == Pace::Requests || !covers(config, workload, record) {
            Replica::new(config, workload, rows, sender, replica, cost, record, monitor)?.run()
        } else {
            let jumps = pace == Pace::Decisions;
            FastReplica::new(config, workload, rows, sender, cost, record, jumps, monitor)?.run()
        }
    };
    let records = if served == 1 {
        vec![serve(0, cost)?]
    } else if config.data_parallel_lockstep {
        let ranks = (0..served).map(|replica| (dealt[replica as usize].as_slice(), sender(replica)));
        lockstep::run(config, workload, ranks.collect(), cost, record, monitor)?
    } else {
        let forks: Vec<(u32, P)> = (0..served).map(|replica| (replica, cost.fork())).collect();
        let told: Vec<_> =
            forks.into_par_iter().map(|(replica, fork)| (serve(replica, &fork), fork)).collect();
        // In the order of the replicas, whichever was done first.
        let joined = told.into_iter().map(|(told, fork)| {
            cost.join(&fork);
            told
        });
        joined.collect::<Result<_>>()?
    };
    let (mut simulation, epochs) = merged(workload, &dealt, records, config.data_parallel, record);
    simulation.client.closed = client.concurrency.is_some();
    simulation.window = client.window().map(|window| measured(&simulation.requests, window, &epochs));
    if simulation.window.as_ref().is_some_and(|window| window.rows.is_empty()) {
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
fn measured(requests: &Requests, window: (Extent, Option<Extent>), epochs: &[Epoch]) -> Window {
    let sent = |row: &u32| requests.status[*row as usize] != Status::Expected;
    let arrival = |row: &u32| requests.arrival_s[*row as usize];
    let all = 0..requests.len() as u32;
    let last_s = requests.finish_s.iter().filter_map(|finish| finish.get()).fold(0.0, f64::max);
    let earliest = |rows: &mut dyn Iterator<Item = u32>| {
        rows.filter(sent).map(|row| arrival(&row)).min_by(f64::total_cmp)
    };
    let (span_s, rows): (_, Vec<u32>) = match window {
        (Extent::Nanos(from), to) => {
            let from = from as f64 / 1e9;
            let to = match to {
                Some(Extent::Nanos(to)) => to as f64 / 1e9,
                _ => f64::INFINITY,
            };
            let inside = |row: &u32| sent(row) && (from..to).contains(&arrival(row));
            ((from, to.min(last_s).max(from)), all.filter(inside).collect())
        }
        (Extent::Requests(from), to) => {
            let to = match to {
                Some(Extent::Requests(to)) => to.min(requests.len() as u64) as u32,
                _ => requests.len() as u32,
            };
            let rows = from as u32..to;
            let begin = earliest(&mut rows.clone()).unwrap_or(0.0);
            let end = earliest(&mut (to..requests.len() as u32)).unwrap_or(last_s);
            ((begin, end.max(begin)), rows.filter(sent).collect())
        }
    };
    let epoch = epochs.get(1).cloned().unwrap_or_default();
    Window { span_s, rows, epoch }
}

/// What all replicas have written down, in the order of the trace, and what was noted in each epoch.
fn merged(
    workload: Workload<'_>,
    dealt: &[Vec<u32>],
    records: Vec<Records>,
    replicas: u32,
    record: Record,
) -> (Simulation, Vec<Epoch>) {
    let decisions = (record == Record::Decisions).then(Decisions::default);
    let mut simulation = Simulation {
        requests: Requests::default(),
        steps: Steps { decisions, ..Steps::default() },
        totals: Totals::default(),
        gaps: Gaps::default(),
        replicas,
        journals: Vec::new(),
        window: None,
        client: Sent::default(),
    };
    if let [_, _, ..] = dealt {
        let all: Vec<u32> = (0..workload.len() as u32).collect();
        let held = records.iter().any(|records| !records.requests.held_s.is_empty());
        simulation.requests = Requests::expected(workload, &all, held);
    }
    let mut epochs: Vec<Epoch> = Vec::new();
    for (replica, (records, rows)) in records.into_iter().zip(dealt).enumerate() {
        if dealt.len() == 1 {
            simulation.requests = records.requests;
        } else {
            simulation.requests.scatter(rows, replica as u32, &records.requests);
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
