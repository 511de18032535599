//! A simulation in some fifty numbers, under the names `vllm bench serve` writes into its result files.

use super::gaps::Gaps;
use super::load::{Load, Sent};
use super::percentiles::Distribution;
use super::records::Totals;
use super::sketch::RELATIVE_ERROR;
use super::slo::Metric;
use super::tally::Tally;
use crate::scheduler::sequence::Status;

/// A value of a summary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A number, with the unit its name says.
    Number(f64),
    /// A verdict.
    Truth(bool),
    /// A verdict in words.
    Word(&'static str),
    /// Not known: nothing to measure it on.
    Unknown,
}

impl From<Option<f64>> for Value {
    fn from(number: Option<f64>) -> Value {
        number.map_or(Value::Unknown, Value::Number)
    }
}

/// What is to be summarised.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// The requests.
    pub tally: &'a Tally,
    /// Sums over steps.
    pub totals: &'a Totals,
    /// Gaps between deliveries in seconds, and how often each came.
    pub gaps: &'a Gaps,
    /// Replicas that served.
    pub replicas: u32,
    /// What is known of those who sent the requests.
    pub client: Sent,
}

/// The percentiles of a summary where none are asked for.
pub const PERCENTILES: [f64; 4] = [50.0, 90.0, 95.0, 99.0];

/// A simulation in numbers, in the order in which they are read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    entries: Vec<(String, Value)>,
}

impl Summary {
    /// Summarises; `percentiles` are between 0 and 100.
    pub fn of(measured: Measured<'_>, percentiles: &[f64]) -> Summary {
        let latencies = latencies(&measured);
        let (from_s, to_s) = measured.tally.span_s();
        let duration_s = to_s - from_s;
        let mut summary = Summary::default();
        summary.counts(&measured);
        summary.rates(&measured, duration_s);
        for (place, (name, _)) in Metric::ALL.iter().enumerate() {
            summary.latency(name, &latencies[place], percentiles);
        }
        let exact = latencies.iter().all(Distribution::is_exact);
        summary.push("percentile_error", Value::Number(if exact { 0.0 } else { RELATIVE_ERROR }));
        summary.objectives(&measured, &latencies, duration_s);
        summary.device(&measured, duration_s);
        summary.phases(&measured);
        summary.load(&measured);
        summary
    }

    /// Names and values, in order.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.entries
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.entries.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }

    fn push(&mut self, name: impl Into<String>, value: Value) {
        self.entries.push((name.into(), value));
    }

    fn counts(&mut self, measured: &Measured<'_>) {
        let tally = measured.tally;
        let standing = |status: Status| Value::Count(tally.standing(status));
        self.push("injected", Value::Count(tally.all() - tally.standing(Status::Expected)));
        self.push("completed", standing(Status::Finished));
        self.push("running", standing(Status::Running));
        self.push("waiting", standing(Status::Waiting));
        self.push("rejected", standing(Status::Rejected));
    }

    fn rates(&mut self, measured: &Measured<'_>, duration_s: f64) {
        let (finished, within) = (measured.tally.finished(), measured.tally.within());
        let rate = |count: u64| Value::from(ratio(count as f64, duration_s));
        self.push("duration", Value::Number(duration_s));
        self.push("total_input_tokens", Value::Count(finished.input));
        self.push("total_output_tokens", Value::Count(finished.output));
        self.push("request_throughput", rate(within.requests));
        self.push("output_throughput", rate(within.output));
        self.push("total_token_throughput", rate(within.input + within.output));
        let most = measured.tally.most_at_once();
        self.push("max_concurrent_requests", most.map_or(Value::Unknown, Value::Count));
    }

    fn latency(&mut self, name: &str, seconds: &Distribution, percentiles: &[f64]) {
        let ms = |seconds: Option<f64>| Value::from(seconds.map(|seconds| seconds * 1e3));
        self.push(format!("mean_{name}_ms"), ms(seconds.mean()));
        self.push(format!("median_{name}_ms"), ms(seconds.percentile(50.0)));
        self.push(format!("std_{name}_ms"), ms(seconds.deviation()));
        for &percent in percentiles {
            self.push(format!("p{percent}_{name}_ms"), ms(seconds.percentile(percent)));
        }
        self.push(format!("max_{name}_ms"), ms(seconds.max()));
    }

    fn objectives(&mut self, measured: &Measured<'_>, latencies: &[Distribution; 4], duration_s: f64) {
        let (slo, deadlines) = (&measured.tally.asked().slo, measured.tally.deadlines());
        if slo.is_none() && deadlines.all == 0 {
            self.push("request_goodput", Value::Unknown);
            return;
        }
        let met = measured.tally.met() as f64;
        let percentiles_met = slo.iter().flat_map(|slo| &slo.objectives).all(|objective| {
            let place = Metric::ALL.iter().position(|(_, metric)| *metric == objective.metric);
            match (objective.percentile, place) {
                (Some(percent), Some(place)) => latencies[place]
                    .percentile(percent)
                    .is_none_or(|seconds| seconds * 1e3 <= objective.limit_ms),
                _ => true,
            }
        });
        let attainment = ratio(met, measured.tally.all() as f64);
        self.push("request_goodput", ratio(met, duration_s).into());
        self.push("slo_attainment", attainment.into());
        self.push("slo_percentiles_met", Value::Truth(percentiles_met));
        if deadlines.all > 0 {
            self.push("deadlines", Value::Count(deadlines.all));
            self.push("deadlines_missed", Value::Count(deadlines.all - deadlines.met));
            self.push("deadline_attainment", ratio(deadlines.met as f64, deadlines.all as f64).into());
        }
    }

    fn device(&mut self, measured: &Measured<'_>, duration_s: f64) {
        let totals = measured.totals;
        let total = duration_s * f64::from(measured.replicas);
        let share = |seconds: f64| Value::from(ratio(seconds, total));
        let [prefill_s, decode_s, mixed_s] = totals.busy_within(total);
        let busy = prefill_s + decode_s + mixed_s;
        let (cached, prompt) = measured.tally.cached();
        self.push("steps", Value::Count(totals.steps));
        self.push("schedule_calls", Value::Count(totals.calls));
        self.push("scheduled_tokens", Value::Count(totals.scheduled_tokens));
        self.push("preemptions", Value::Count(totals.preemptions));
        self.push("prefix_hit_rate", ratio(cached as f64, prompt as f64).into());
        self.push("kv_peak", Value::Number(totals.kv_peak));
        self.push("max_running", Value::Count(u64::from(totals.max_running)));
        self.push("max_waiting", Value::Count(u64::from(totals.max_waiting)));
        self.push("prefill_time_share", share(prefill_s));
        self.push("decode_time_share", share(decode_s));
        self.push("mixed_time_share", share(mixed_s));
        self.push("idle_time_share", share((total - busy).max(0.0)));
    }

    fn load(&mut self, measured: &Measured<'_>) {
        let load = Load::of(measured.tally.queue(), measured.tally.mean_e2e_s(), measured.client);
        self.push("offered_rate", load.offered.into());
        self.push("queue_growth_per_s", load.growth.into());
        self.push("overloaded", load.overloaded().map_or(Value::Unknown, Value::Truth));
        self.push("load", Value::Word(load.verdict.name()));
    }

    /// Where the time of a request goes: the means add up to that of E2E.
    fn phases(&mut self, measured: &Measured<'_>) {
        let phases = measured.tally.phases().mean(measured.client.outside_s);
        for (name, seconds) in phases.unwrap_or_default().named() {
            self.push(format!("mean_{name}_ms"), phases.map(|_| seconds * 1e3).into());
        }
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then_some(part / whole)
}

/// In the order of [`Metric::ALL`]; latencies are those of completed requests, as a client measures them.
fn latencies(measured: &Measured<'_>) -> [Distribution; 4] {
    let [ttft, tpot, e2e] = measured.tally.latencies();
    // Sorting millions of values takes as long as simulating them: one after the other on one core, else at once.
    let ((ttft, tpot), (gaps, e2e)) = rayon::join(
        || rayon::join(|| ttft.distribution(), || tpot.distribution()),
        || rayon::join(|| measured.gaps.distribution(), || e2e.distribution()),
    );
    [ttft, tpot, gaps, e2e]
}
