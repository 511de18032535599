//! A simulation in some fifty numbers, under the names `vllm bench serve` writes into its result files.

use super::gaps::Gaps;
use super::journal::Journal;
use super::load::{Load, Sent};
use super::percentiles::Distribution;
use super::records::{Requests, Totals};
use super::sketch::RELATIVE_ERROR;
use super::slo::{Metric, Slo};
use super::times::Phases;
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

/// What is to be summarised, and how.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// The requests.
    pub requests: &'a Requests,
    /// Sums over steps.
    pub totals: &'a Totals,
    /// Gaps between deliveries in seconds, and how often each came.
    pub gaps: &'a Gaps,
    /// Replicas that served.
    pub replicas: u32,
    /// Who gave way, one a replica.
    pub journals: &'a [Journal],
    /// The rows that the requests are in them, where these are not all.
    pub rows: Option<&'a [u32]>,
    /// What is known of those who sent them.
    pub client: Sent,
    /// What was answered in the time that is measured, where that is not all of it.
    pub served: Option<Served>,
}

/// What was answered in a span of time, whenever it was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// Seconds.
    pub duration_s: f64,
    /// Requests whose last token came in it.
    pub requests: u64,
    /// Tokens of their prompts.
    pub input: u64,
    /// Tokens of their answers.
    pub output: u64,
}

impl Served {
    /// What was answered after the first and up to the second instant.
    pub fn within(requests: &Requests, (from_s, to_s): (f64, f64)) -> Served {
        let mut served = Served { duration_s: to_s - from_s, requests: 0, input: 0, output: 0 };
        for (row, finish) in requests.finish_s.iter().enumerate() {
            if finish.get().is_some_and(|finish| from_s < finish && finish <= to_s) {
                served.requests += 1;
                served.input += u64::from(requests.prompt_tokens[row]);
                served.output += u64::from(requests.output_tokens[row]);
            }
        }
        served
    }
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
    pub fn of(measured: Measured<'_>, slo: Option<&Slo>, percentiles: &[f64]) -> Summary {
        let latencies = latencies(&measured);
        let window = Window::of(measured.requests);
        let duration_s = measured.served.map_or(window.duration_s(), |served| served.duration_s);
        let mut summary = Summary::default();
        summary.counts(&measured);
        summary.rates(&measured, duration_s);
        for (place, (name, _)) in Metric::ALL.iter().enumerate() {
            summary.latency(name, &latencies[place], percentiles);
        }
        let exact = latencies.iter().all(Distribution::is_exact);
        summary.push("percentile_error", Value::Number(if exact { 0.0 } else { RELATIVE_ERROR }));
        summary.objectives(&measured, slo, &latencies, duration_s);
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
        let requests = measured.requests;
        let unsent = requests.count(Status::Expected);
        self.push("injected", Value::Count((requests.len() - unsent) as u64));
        self.push("completed", Value::Count(requests.count(Status::Finished) as u64));
        self.push("running", Value::Count(requests.count(Status::Running) as u64));
        self.push("waiting", Value::Count(requests.count(Status::Waiting) as u64));
        self.push("rejected", Value::Count(requests.count(Status::Rejected) as u64));
    }

    fn rates(&mut self, measured: &Measured<'_>, duration_s: f64) {
        let requests = measured.requests;
        let sum = |column: &[u32]| -> u64 {
            let finished =
                requests.status.iter().zip(column).filter(|(status, _)| **status == Status::Finished);
            finished.map(|(_, &tokens)| u64::from(tokens)).sum()
        };
        let (input, output) = (sum(&requests.prompt_tokens), sum(&requests.output_tokens));
        let completed = requests.count(Status::Finished) as u64;
        let served = measured.served.unwrap_or(Served { duration_s, requests: completed, input, output });
        let rate = |count: u64| Value::from(ratio(count as f64, duration_s));
        let most = most_at_once(requests);
        self.push("duration", Value::Number(duration_s));
        self.push("total_input_tokens", Value::Count(input));
        self.push("total_output_tokens", Value::Count(output));
        self.push("request_throughput", rate(served.requests));
        self.push("output_throughput", rate(served.output));
        self.push("total_token_throughput", rate(served.input + served.output));
        self.push("max_concurrent_requests", Value::Count(most));
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

    fn objectives(
        &mut self,
        measured: &Measured<'_>,
        slo: Option<&Slo>,
        latencies: &[Distribution; 4],
        duration_s: f64,
    ) {
        let Some(slo) = slo else {
            self.push("request_goodput", Value::Unknown);
            return;
        };
        let requests = measured.requests;
        let met = (0..requests.len()).filter(|&row| match (requests.ttft_s(row), requests.e2e_s(row)) {
            (Some(ttft), Some(e2e)) => slo.is_met_by(ttft, requests.tpot_s(row), e2e),
            _ => false,
        });
        let met = met.count() as f64;
        let percentiles_met = slo.objectives.iter().all(|objective| {
            let place = Metric::ALL.iter().position(|(_, metric)| *metric == objective.metric);
            match (objective.percentile, place) {
                (Some(percent), Some(place)) => latencies[place]
                    .percentile(percent)
                    .is_none_or(|seconds| seconds * 1e3 <= objective.limit_ms),
                _ => true,
            }
        });
        let attainment = ratio(met, requests.len() as f64);
        self.push("request_goodput", ratio(met, duration_s).into());
        self.push("slo_attainment", attainment.into());
        self.push("slo_percentiles_met", Value::Truth(percentiles_met));
    }

    fn device(&mut self, measured: &Measured<'_>, duration_s: f64) {
        let totals = measured.totals;
        let requests = measured.requests;
        let total = duration_s * f64::from(measured.replicas);
        let share = |seconds: f64| Value::from(ratio(seconds, total));
        let [prefill_s, decode_s, mixed_s] = totals.busy_within(total);
        let busy = prefill_s + decode_s + mixed_s;
        let scheduled = (0..requests.len()).filter(|&row| requests.first_scheduled_s[row].is_some());
        let (cached, prompt) = scheduled.fold((0u64, 0u64), |(cached, prompt), row| {
            (cached + u64::from(requests.cached_tokens[row]), prompt + u64::from(requests.prompt_tokens[row]))
        });
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
        let load = Load::of(measured.requests, measured.client);
        self.push("offered_rate", load.offered.into());
        self.push("queue_growth_per_s", load.growth.into());
        self.push("overloaded", load.overloaded().map_or(Value::Unknown, Value::Truth));
        self.push("load", Value::Word(load.verdict.name()));
    }

    /// Where the time of a request goes: the means add up to that of E2E.
    fn phases(&mut self, measured: &Measured<'_>) {
        let phases =
            Phases::mean(measured.requests, measured.journals, measured.rows, measured.client.outside_s);
        for (name, seconds) in phases.unwrap_or_default().named() {
            self.push(format!("mean_{name}_ms"), phases.map(|_| seconds * 1e3).into());
        }
    }
}

/// The time a simulation covers, seconds since the trace began.
struct Window {
    first_arrival_s: f64,
    end_s: f64,
}

impl Window {
    fn of(requests: &Requests) -> Window {
        let fold = |least: f64, better: fn(f64, f64) -> f64| {
            (0..requests.len()).map(|row| requests.ready_s(row)).fold(least, better)
        };
        let (first, last_arrival_s) = (fold(f64::INFINITY, f64::min), fold(0.0, f64::max));
        Window {
            first_arrival_s: if first.is_finite() { first } else { 0.0 },
            end_s: requests.finish_s.iter().filter_map(|finish| finish.get()).fold(last_arrival_s, f64::max),
        }
    }

    /// From the first arrival to the last token, or the last arrival if that is later.
    fn duration_s(&self) -> f64 {
        self.end_s - self.first_arrival_s
    }
}

/// Most requests that had arrived and were not finished; one that ends when another arrives is gone.
fn most_at_once(requests: &Requests) -> u64 {
    let accepted = |row: &usize| !matches!(requests.status[*row], Status::Rejected | Status::Expected);
    let mut starts: Vec<f64> =
        (0..requests.len()).filter(accepted).map(|row| requests.arrival_s[row]).collect();
    starts.sort_unstable_by(f64::total_cmp);
    let mut ends: Vec<f64> = requests.finish_s.iter().filter_map(|finish| finish.get()).collect();
    ends.sort_unstable_by(f64::total_cmp);
    let (mut gone, mut most) = (0, 0);
    for (arrived, start) in starts.into_iter().enumerate() {
        while ends.get(gone).is_some_and(|&end| end <= start) {
            gone += 1;
        }
        most = most.max(arrived + 1 - gone);
    }
    most as u64
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then_some(part / whole)
}

/// In the order of [`Metric::ALL`]; latencies are those of completed requests, as a client measures them.
fn latencies(measured: &Measured<'_>) -> [Distribution; 4] {
    let requests = measured.requests;
    let of = |latency: fn(&Requests, usize) -> Option<f64>| {
        let finished = (0..requests.len()).filter(|&row| requests.status[row] == Status::Finished);
        Distribution::of(finished.filter_map(|row| latency(requests, row)).map(|seconds| (seconds, 1)))
    };
    // Sorting millions of values takes as long as simulating them: one after the other on one core, else at once.
    let ((ttft, tpot), (gaps, e2e)) = rayon::join(
        || rayon::join(|| of(Requests::ttft_s), || of(Requests::tpot_s)),
        || rayon::join(|| Distribution::of(measured.gaps.iter()), || of(Requests::e2e_s)),
    );
    [ttft, tpot, gaps, e2e]
}
