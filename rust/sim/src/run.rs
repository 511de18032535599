//! A whole simulation: a workload through the replicas of an engine, and what came of it.

use crate::engine::{Monitor, Replica};
use crate::error::Result;
use crate::fast::{FastReplica, covers};
use crate::metrics::journal::Journal;
use crate::metrics::records::{Records, Requests, Totals};
use crate::metrics::slo::Slo;
use crate::metrics::steps::{Decisions, Record, Steps};
use crate::metrics::summary::{Measured, Summary};
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
    /// Seconds between two deliveries of a request, and how often each came.
    pub gaps: Vec<(f64, u64)>,
    /// Replicas that served.
    pub replicas: u32,
    /// Who gave way, and stretches of steps if recorded, one a replica.
    pub journals: Vec<Journal>,
}

impl Simulation {
    /// The simulation in numbers.
    pub fn summary(&self, slo: Option<&Slo>, percentiles: &[f64]) -> Summary {
        let Simulation { requests, totals, gaps, replicas, journals, .. } = self;
        Summary::of(Measured { requests, totals, gaps, replicas: *replicas, journals }, slo, percentiles)
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

/// Serves a workload with `config.data_parallel` replicas of an engine; request `i` goes to replica `i mod replicas`.
///
/// # Errors
/// Settings no engine could start with, a step cost that is negative or not finite, a stop asked for.
pub fn simulate<C: Clock, P: StepCost>(
    workload: Workload<'_>,
    config: &EngineConfig,
    cost: &P,
    record: Record,
    monitor: &Monitor,
) -> Result<Simulation> {
    simulate_at::<C, P>(Pace::default(), workload, config, cost, record, monitor)
}

/// The same, followed as closely as wanted, and request by request where nothing else is exact ([`covers`]).
///
/// # Errors
/// Those of [`simulate`].
pub fn simulate_at<C: Clock, P: StepCost>(
    pace: Pace,
    workload: Workload<'_>,
    config: &EngineConfig,
    cost: &P,
    record: Record,
    monitor: &Monitor,
) -> Result<Simulation> {
    config.limits()?;
    let mut simulation = empty::<C>(workload, config.data_parallel, record);
    let replicas = config.data_parallel as usize;
    for replica in 0..replicas {
        let rows: Vec<u32> = (replica..workload.len()).step_by(replicas).map(|row| row as u32).collect();
        let records = if pace == Pace::Requests || !covers(config, workload, record) {
            Replica::<C, P>::new(config, workload, &rows, replica as u32, cost, record, monitor)?.run()?
        } else {
            let jumps = pace == Pace::Decisions;
            FastReplica::<C, P>::new(config, workload, &rows, cost, record, jumps, monitor)?.run()?
        };
        merge(&mut simulation, &workload.trace().output_tokens, &rows, replica as u32, records);
    }
    Ok(simulation)
}

fn empty<C: Clock>(workload: Workload<'_>, replicas: u32, record: Record) -> Simulation {
    let trace = workload.trace();
    let count = workload.len();
    let decisions = (record == Record::Decisions).then(Decisions::default);
    Simulation {
        requests: Requests {
            request_id: (0..count)
                .map(|row| trace.ids.get(row).cloned().unwrap_or_else(|| row.to_string()))
                .collect(),
            // As the clock has them: nothing is scheduled before it arrives, not even by a rounding.
            arrival_s: (0..count).map(|row| C::seconds(workload.arrival::<C>(row))).collect(),
            first_scheduled_s: vec![None; count],
            first_token_s: vec![None; count],
            finish_s: vec![None; count],
            prompt_tokens: trace.prompt_tokens.clone(),
            output_tokens: vec![0; count],
            cached_tokens: vec![0; count],
            preemptions: vec![0; count],
            ttft_s: vec![None; count],
            tpot_s: vec![None; count],
            e2e_s: vec![None; count],
            replica: vec![0; count],
            status: vec![Status::Expected; count],
        },
        steps: Steps { decisions, ..Steps::default() },
        totals: Totals::default(),
        gaps: Vec::new(),
        replicas,
        journals: Vec::new(),
    }
}

fn merge(simulation: &mut Simulation, asked: &[u32], rows: &[u32], replica: u32, records: Records) {
    let requests = &mut simulation.requests;
    for (place, &row) in rows.iter().enumerate() {
        let row = row as usize;
        let [ttft, e2e] = records.latencies[place];
        let delivered = records.delivered[place];
        let (status, preemptions, cached) = records.outcomes[place];
        [requests.first_scheduled_s[row], requests.first_token_s[row], requests.finish_s[row]] =
            records.instants[place];
        (requests.ttft_s[row], requests.e2e_s[row]) = (ttft, e2e);
        requests.tpot_s[row] = match (ttft, e2e) {
            (Some(ttft), Some(e2e)) if delivered > 1 => Some((e2e - ttft) / f64::from(delivered - 1)),
            _ => None,
        };
        // A request for no output ends with the token its prompt yields, which nobody asked for.
        requests.output_tokens[row] = delivered.min(asked[row]);
        requests.cached_tokens[row] = cached.unwrap_or(0);
        (requests.preemptions[row], requests.replica[row], requests.status[row]) =
            (preemptions, replica, status);
    }
    simulation.totals.append(&records.totals);
    if simulation.gaps.is_empty() {
        simulation.gaps = records.gaps;
    } else {
        simulation.gaps.extend(records.gaps);
    }
    simulation.steps.append(&records.steps);
    let mut journal = records.journal;
    journal.close(rows);
    simulation.journals.push(journal);
}
