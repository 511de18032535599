//! A trace that comes part by part, and the law that nothing is told of it that is not told of the whole.

use proptest::prelude::*;
use roofline_core::cause::Causes;
use roofline_sim::client::{Client, Extent};
use roofline_sim::engine::Monitor;
use roofline_sim::error::Result;
use roofline_sim::metrics::slo::Slo;
use roofline_sim::metrics::steps::Record;
use roofline_sim::metrics::summary::{Summary, Value};
use roofline_sim::metrics::tally::Asked;
use roofline_sim::request::Workload;
use roofline_sim::run::{Pace, simulate_at, stream};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::step_cost::StepCost;
use roofline_sim::stream::Source;
use roofline_sim::time::Clock;
use roofline_sim::trace::{BlockHashes, Carried, Trace};

/// The requests of a trace, so many at a time.
#[derive(Debug)]
pub struct Split<'a> {
    pub trace: &'a Trace,
    pub part: usize,
}

impl Source for Split<'_> {
    fn parts(&self) -> Result<Box<dyn Iterator<Item = Result<Trace>> + '_>> {
        let Split { trace, part } = *self;
        Ok(Box::new((0..trace.len()).step_by(part).map(move |first| {
            let rows = first..trace.len().min(first + part);
            let hashes = trace.hashes.as_ref().map(|hashes| {
                let mut own =
                    BlockHashes { block_size: hashes.block_size, offsets: vec![0], ids: Vec::new() };
                for row in rows.clone() {
                    own.ids.extend_from_slice(hashes.path(row));
                    own.offsets.push(own.ids.len() as u64);
                }
                own
            });
            Ok(Trace {
                arrival_ns: trace.arrival_ns[rows.clone()].to_vec(),
                prompt_tokens: trace.prompt_tokens[rows.clone()].to_vec(),
                output_tokens: trace.output_tokens[rows.clone()].to_vec(),
                priority: trace.priority.get(rows.clone()).map_or(Vec::new(), <[i32]>::to_vec),
                hashes,
                carried: Carried {
                    deadline_ns: trace.carried.deadline_ns.get(rows).map_or(Vec::new(), <[u64]>::to_vec),
                    ..Carried::default()
                },
                ..Trace::default()
            })
        })))
    }
}

const RANKS: [f64; 5] = [0.0, 10.0, 50.0, 99.0, 100.0];
const OUTSIDE_S: f64 = 0.0045;

/// Requests that do not wait for each other, whole and part by part: the same to the bit as long as they are few, the
/// same but for the error of a sketch where they are more than `few`.
pub fn streamed_is_whole<C: Clock, P: StepCost + Clone + Send>(
    pace: Pace,
    (trace, part): (&Trace, usize),
    client: &Client,
    config: &EngineConfig,
    cost: &P,
    few: usize,
) -> std::result::Result<(), TestCaseError> {
    let monitor = Monitor::default();
    let by_number = matches!(client.warmup.or(client.measure), Some(Extent::Requests(_)));
    let source = Split { trace, part };
    let slo = Slo::parse("ttft:200 tpot:20 e2e@p90:900").unwrap();
    let streamed = |most: usize| {
        let asked = Asked { slo: Some(slo.clone()), outside_s: OUTSIDE_S, most, ..Asked::default() };
        stream::<C, P>(pace, &source, (&asked, 1 << 20), client, config, cost, &monitor)
            .map_err(|error| error.to_string())
    };
    if by_number && client_replicas(client, config) > 1 {
        let must =
            "warmup must be a time where requests are streamed to several replicas: a number of requests";
        prop_assert_eq!(streamed(few).unwrap_err(), must);
        return Ok(());
    }
    let workload = Workload::new(trace, None).unwrap();
    let record = Record::Summary;
    let whole = simulate_at::<C, P>(pace, workload, client, config, cost, record, &monitor);
    let whole = whole.map(|whole| whole.behind(OUTSIDE_S)).map_err(|error| error.to_string());
    let exact = streamed(1 << 20);
    let (whole, exact) = match (whole, exact) {
        (Ok(whole), Ok(exact)) => (whole, exact),
        (Err(error), exact) => {
            // How many requests there are is not known of a stream beforehand.
            let said = exact.unwrap_err();
            prop_assert!(said == error || error.starts_with("warmup must leave some"), "{} {}", said, error);
            return Ok(());
        }
        (_, Err(error)) => return Err(TestCaseError::fail(error)),
    };
    prop_assert_eq!(&exact.totals, &whole.totals);
    prop_assert_eq!(&exact.gaps, &whole.gaps);
    prop_assert_eq!(exact.span_s(), whole.span_s());
    prop_assert_eq!(exact.notes(), whole.notes());
    prop_assert_eq!(exact.bounds(&Causes::default()), whole.bounds(&Causes::default()));
    prop_assert_eq!(exact.operators(Vec::new()), whole.operators(Vec::new()));
    let summary = whole.summary(Some(&slo), &RANKS);
    prop_assert_eq!(&exact.summary(None, &RANKS), &summary);
    let sketched = streamed(few).map_err(TestCaseError::fail)?;
    prop_assert_eq!(&sketched.totals, &whole.totals);
    agree(&sketched.summary(None, &RANKS), &summary)
}

fn client_replicas(client: &Client, config: &EngineConfig) -> u32 {
    let most = client.concurrency.unwrap_or(u32::MAX).min(client.max_concurrency.unwrap_or(u32::MAX));
    config.data_parallel.min(most)
}

fn number(summary: &Summary, name: &str) -> Option<f64> {
    summary.entries().iter().find(|(known, _)| known == name).and_then(|(_, value)| match value {
        Value::Number(number) => Some(*number),
        _ => None,
    })
}

/// Counts and sums are the same; what is sketched is within its error, or a place beside in the order.
fn agree(sketched: &Summary, exact: &Summary) -> std::result::Result<(), TestCaseError> {
    for ((name, found), (known, expected)) in sketched.entries().iter().zip(exact.entries()) {
        prop_assert_eq!(name, known);
        let ranked = name.starts_with('p') && name.ends_with("_ms") || name.starts_with("median");
        let told = ["percentile_error", "queue_growth_per_s", "overloaded", "load", "slo_percentiles_met"];
        if ranked
            || told.contains(&name.as_str())
            || name == "max_concurrent_requests" && *found == Value::Unknown
        {
            continue;
        }
        match (found, expected) {
            (Value::Number(found), Value::Number(expected)) => {
                let mean = name.strip_prefix("std").and_then(|rest| number(exact, &format!("mean{rest}")));
                let size = expected.abs().max(1e-3);
                let slack = 1e-6 * size + mean.map_or(0.0, |mean| spread_slack(*expected, mean));
                prop_assert!((found - expected).abs() <= slack, "{}: {} {}", name, found, expected);
            }
            (found, expected) => prop_assert_eq!(found, expected, "{}", name),
        }
    }
    Ok(())
}

/// How far off a standard deviation may be, in milliseconds, that comes of a mean and of squares in units of 2⁻⁶⁴ s²: what a
/// variance of that size may lose to both roundings.
fn spread_slack(deviation: f64, mean: f64) -> f64 {
    let variance = 1e6 * 2f64.powi(-63) + 8.0 * f64::EPSILON * (mean * mean + deviation * deviation);
    (deviation * deviation + variance).sqrt() - (deviation * deviation - variance).max(0.0).sqrt()
}
