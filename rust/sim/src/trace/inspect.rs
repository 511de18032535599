//! What a trace is like: its rate, its lengths, how bursty it is, what its prompts and turns share.

use roofline_core::table::{Column, Table};

use super::carried::NOT_OBSERVED;
use super::report::Warning;
use super::sharing::{BLOCKS, Sharing};
use super::{Sessions, Trace};

/// Mean and percentiles of a count; percentiles are interpolated between the nearest ranks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lengths {
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: u32,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: u32,
}

/// Requests under way at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InFlight {
    /// Over the time from the first arrival to the last answer.
    pub mean: f64,
    /// At most.
    pub peak: u64,
    /// Whether the trace tells how long answers took; a token is taken for [`TOKEN_S`] otherwise.
    pub observed: bool,
}

/// Seconds of a token of an answer where a trace does not tell: 50 tokens a second, what readers are content with.
pub const TOKEN_S: f64 = 0.02;

/// Conversations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turns {
    /// How many there are.
    pub sessions: u64,
    /// Requests of one.
    pub turns: Lengths,
    /// Median of the seconds from an answer to the request that waits for it; none where none waits.
    pub delay_s: Option<f64>,
}

/// How often requests come in windows of a length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Windowed {
    /// Seconds of a window.
    pub seconds: f64,
    /// Requests a second: the median window's, and the busiest one's.
    pub rate: (f64, f64),
    /// Variation of the gaps of a window, likewise; none where no window has ten requests.
    pub gap_cv: Option<(f64, f64)>,
}

/// What a trace is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Requests.
    pub requests: u64,
    /// Seconds from the first arrival to the last.
    pub span_s: f64,
    /// Gaps between arrivals over the span, requests a second; none where all arrive at once (it is infinite or
    /// undefined).
    pub rate: Option<f64>,
    /// Lengths of prompts, tokens.
    pub prompt_tokens: Lengths,
    /// Lengths of outputs, tokens.
    pub output_tokens: Lengths,
    /// Sum of prompt lengths.
    pub prompt_tokens_total: u64,
    /// Sum of output lengths.
    pub output_tokens_total: u64,
    /// Standard deviation of the gaps between arrivals over their mean: 1 for a Poisson process.
    pub gap_cv: Option<f64>,
    /// The same and the rate, window by window; none of a trace too short for two windows.
    pub windowed: Option<Windowed>,
    /// Requests of the busiest 60 s window over those of the mean one; windows begin at the first arrival.
    pub peak_to_mean_60s: Option<f64>,
    /// Requests under way.
    pub in_flight: Option<InFlight>,
    /// Share of prompt tokens that an infinite prefix cache would hold already.
    pub prefix_hit: Option<f64>,
    /// What prompts share, where the trace tells.
    pub sharing: Option<Sharing>,
    /// Share of prompt tokens that were found in a cache when the trace was recorded.
    pub recorded_hit: Option<f64>,
    /// Conversations, where the trace tells.
    pub turns: Option<Turns>,
    /// What reading repaired.
    pub warnings: Vec<Warning>,
}

/// Measures a trace; `warnings` is what reading it repaired.
pub fn inspect(trace: &Trace, warnings: &[Warning]) -> Inspection {
    let (span_s, rate) = pace(&trace.arrival_ns);
    let sharing = trace.hashes.as_ref().map(|hashes| Sharing::of(&trace.prompt_tokens, hashes));
    let prompt_tokens_total = total(&trace.prompt_tokens);
    let cached = &trace.carried.cached_tokens;
    Inspection {
        requests: trace.len() as u64,
        span_s,
        rate,
        prompt_tokens: lengths(trace.prompt_tokens.clone()),
        output_tokens: lengths(trace.output_tokens.clone()),
        prompt_tokens_total,
        output_tokens_total: total(&trace.output_tokens),
        gap_cv: gap_cv(&trace.arrival_ns),
        windowed: windowed(trace),
        peak_to_mean_60s: peak_to_mean(&trace.arrival_ns, 60_000_000_000),
        in_flight: in_flight(trace),
        prefix_hit: sharing.as_ref().map(|sharing| sharing.hit),
        sharing,
        recorded_hit: (!cached.is_empty()).then(|| total(cached) as f64 / prompt_tokens_total.max(1) as f64),
        turns: trace.sessions.as_ref().map(turns),
        warnings: warnings.to_vec(),
    }
}

/// A number by its name, with its unit; none where it is not known.
pub type Row = (String, Option<f64>, &'static str);

impl Trace {
    /// What one line about it says: `requests, span, rate, prompt_tokens_mean, output_tokens_mean`, at little cost.
    pub fn outline(&self) -> Vec<Row> {
        let (span_s, rate) = pace(&self.arrival_ns);
        let mean = |column: &[u32]| Some(total(column) as f64 / column.len().max(1) as f64);
        vec![
            ("requests".into(), Some(self.len() as f64), ""),
            ("span".into(), Some(span_s), "s"),
            ("rate".into(), rate, "req/s"),
            ("prompt_tokens_mean".into(), mean(&self.prompt_tokens), "tokens"),
            ("output_tokens_mean".into(), mean(&self.output_tokens), "tokens"),
        ]
    }
}

impl Inspection {
    /// The numbers by name, with their units; none where something is not known.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = vec![
            ("requests".into(), Some(self.requests as f64), ""),
            ("span".into(), Some(self.span_s), "s"),
            ("rate".into(), self.rate, "req/s"),
        ];
        let of_lengths = |name: &str, lengths: Lengths, unit: &'static str| {
            let Lengths { mean, min, p50, p90, p95, p99, max } = lengths;
            let (min, max) = (f64::from(min), f64::from(max));
            let values = [mean, min, p50, p90, p95, p99, max].into_iter();
            let names = ["mean", "min", "p50", "p90", "p95", "p99", "max"];
            let row = |(which, value)| (format!("{name}_{which}"), Some(value), unit);
            names.into_iter().zip(values).map(row).collect::<Vec<Row>>()
        };
        rows.extend(of_lengths("prompt_tokens", self.prompt_tokens, "tokens"));
        rows.extend(of_lengths("output_tokens", self.output_tokens, "tokens"));
        let mut push =
            |name: &str, value: Option<f64>, unit: &'static str| rows.push((name.into(), value, unit));
        let per_s = |total: u64| (self.span_s > 0.0).then(|| total as f64 / self.span_s);
        push("prompt_tokens_total", Some(self.prompt_tokens_total as f64), "tokens");
        push("output_tokens_total", Some(self.output_tokens_total as f64), "tokens");
        push("prompt_tokens_per_s", per_s(self.prompt_tokens_total), "tokens/s");
        push("output_tokens_per_s", per_s(self.output_tokens_total), "tokens/s");
        push("gap_cv", self.gap_cv, "");
        push("burstiness", self.gap_cv.filter(|cv| *cv > 0.0).map(|cv| 1.0 / (cv * cv)), "");
        push("window", self.windowed.map(|windowed| windowed.seconds), "s");
        push("window_rate_p50", self.windowed.map(|windowed| windowed.rate.0), "req/s");
        push("window_rate_max", self.windowed.map(|windowed| windowed.rate.1), "req/s");
        let cv = self.windowed.and_then(|windowed| windowed.gap_cv);
        push("window_gap_cv_p50", cv.map(|cv| cv.0), "");
        push("window_gap_cv_max", cv.map(|cv| cv.1), "");
        push("peak_to_mean_60s", self.peak_to_mean_60s, "");
        for (observed, word) in [(true, "observed_in_flight"), (false, "in_flight_at_20ms_a_token")] {
            let known = self.in_flight.filter(|known| known.observed == observed);
            push(&format!("{word}_mean"), known.map(|known| known.mean), "");
            push(&format!("{word}_peak"), known.map(|known| known.peak as f64), "");
        }
        push("prefix_hit", self.prefix_hit, "share");
        for (place, block) in BLOCKS.into_iter().enumerate() {
            let hit = self.sharing.as_ref().map(|sharing| sharing.by_block[place]);
            push(&format!("prefix_hit_block_{block}"), hit, "share");
        }
        push("prefix_requests", self.sharing.as_ref().map(|sharing| sharing.requests), "share");
        let unique = self.sharing.as_ref().map(|sharing| sharing.unique_tokens as f64);
        push("unique_prompt_tokens", unique, "tokens");
        push("recorded_hit", self.recorded_hit, "share");
        push("sessions", self.turns.map(|turns| turns.sessions as f64), "");
        push("turns_mean", self.turns.map(|turns| turns.turns.mean), "");
        push("turns_p50", self.turns.map(|turns| turns.turns.p50), "");
        push("turns_max", self.turns.map(|turns| f64::from(turns.turns.max)), "");
        push("turn_delay_p50", self.turns.and_then(|turns| turns.delay_s), "s");
        rows
    }

    /// The same as a table of `metric`, `value` and `unit`; what is not known is null.
    pub fn table(&self) -> Table {
        let rows = self.rows();
        Table::new()
            .with("metric", Column::Str(rows.iter().map(|row| row.0.clone()).collect()))
            .with("value", Column::OptF64(rows.iter().map(|row| row.1).collect()))
            .with("unit", Column::Str(rows.iter().map(|row| row.2.to_string()).collect()))
    }
}

fn total(column: &[u32]) -> u64 {
    column.iter().copied().map(u64::from).sum()
}

/// Seconds from the first arrival to the last, and gaps between arrivals a second.
fn pace(arrival_ns: &[u64]) -> (f64, Option<f64>) {
    let span_s = arrival_ns.last().map_or(0.0, |last| (last - arrival_ns[0]) as f64 / 1e9);
    (span_s, (span_s > 0.0).then(|| (arrival_ns.len() - 1) as f64 / span_s))
}

/// The value at a share of the ranks of a sorted column, between the nearest two.
fn at<T: Copy + Into<f64>>(sorted: &[T], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let rank = share * last as f64;
    let (below, part) = (rank.floor() as usize, rank.fract());
    sorted[below].into() * (1.0 - part) + sorted[(below + 1).min(last)].into() * part
}

fn lengths(mut column: Vec<u32>) -> Lengths {
    column.sort_unstable();
    let (Some(&min), Some(&max)) = (column.first(), column.last()) else { return Lengths::default() };
    let [p50, p90, p95, p99] = [0.5, 0.9, 0.95, 0.99].map(|share| at(&column, share));
    Lengths { mean: total(&column) as f64 / column.len() as f64, min, p50, p90, p95, p99, max }
}

fn gap_cv(arrival_ns: &[u64]) -> Option<f64> {
    let gaps = arrival_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
    let count = arrival_ns.len().saturating_sub(1) as f64;
    let mean = gaps.clone().sum::<f64>() / count;
    let variance = gaps.map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

fn windowed(trace: &Trace) -> Option<Windowed> {
    let seconds = trace.telling_window_s()?;
    let windows = trace.windows(seconds).ok()?;
    let middle_and_most = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values.last().copied().map(|most| (at(&values, 0.5), most))
    };
    let rates = windows.iter().map(|window| window.requests as f64 / seconds).collect();
    let gap_cv = middle_and_most(windows.iter().filter_map(|window| window.gap_cv).collect());
    Some(Windowed { seconds, rate: middle_and_most(rates)?, gap_cv })
}

fn peak_to_mean(arrival_ns: &[u64], window_ns: u64) -> Option<f64> {
    let first = *arrival_ns.first()?;
    let (mut window, mut count, mut peak) = (0, 0u64, 0u64);
    for arrival in arrival_ns {
        let now = (arrival - first) / window_ns;
        count = if now == window { count + 1 } else { 1 };
        window = now;
        peak = peak.max(count);
    }
    let windows = window + 1;
    (windows > 1).then(|| peak as f64 * windows as f64 / arrival_ns.len() as f64)
}

/// Requests under way if each lasted as long as was measured, or as its answer at [`TOKEN_S`] a token.
fn in_flight(trace: &Trace) -> Option<InFlight> {
    let first = *trace.arrival_ns.first()?;
    let e2e = &trace.carried.e2e_ns;
    let observed = !e2e.is_empty() && e2e.iter().all(|nanos| *nanos != NOT_OBSERVED);
    let lasts = |row: usize| match observed {
        true => e2e[row],
        false => (f64::from(trace.output_tokens[row]) * TOKEN_S * 1e9) as u64,
    };
    let mut ends: Vec<u64> =
        trace.arrival_ns.iter().enumerate().map(|(row, now)| now.saturating_add(lasts(row))).collect();
    let busy: f64 = ends.iter().zip(&trace.arrival_ns).map(|(end, arrival)| (end - arrival) as f64).sum();
    ends.sort_unstable();
    let (mut ended, mut peak) = (0, 0);
    for (row, arrival) in trace.arrival_ns.iter().enumerate() {
        while ended < row && ends[ended] <= *arrival {
            ended += 1;
        }
        peak = peak.max(row + 1 - ended);
    }
    let span = ends.last().map_or(0.0, |end| (end - first) as f64);
    (span > 0.0).then(|| InFlight { mean: busy / span, peak: peak as u64, observed })
}

fn turns(sessions: &Sessions) -> Turns {
    let mut each = vec![0u32; sessions.count as usize];
    let of = sessions.session.iter().filter(|session| **session != Sessions::NONE);
    of.for_each(|session| each[*session as usize] += 1);
    let mut delays: Vec<f64> = sessions.delay_ns.iter().map(|nanos| *nanos as f64 / 1e9).collect();
    delays.sort_unstable_by(f64::total_cmp);
    let delay_s = (!delays.is_empty()).then(|| at(&delays, 0.5));
    Turns { sessions: u64::from(sessions.count), turns: lengths(each), delay_s }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Carried;

    fn trace(arrival_s: &[u64], output_tokens: &[u32]) -> Trace {
        Trace {
            arrival_ns: arrival_s.iter().map(|second| second * 1_000_000_000).collect(),
            prompt_tokens: vec![10; arrival_s.len()],
            output_tokens: output_tokens.to_vec(),
            ..Trace::default()
        }
    }

    #[test]
    fn one_request_has_no_rate_and_no_gaps() {
        assert_eq!(gap_cv(&[5]), None);
        assert_eq!(gap_cv(&[5, 5, 5]), None);
        assert_eq!(peak_to_mean(&[5], 60), None);
        assert_eq!(peak_to_mean(&[], 60), None);
        assert_eq!(pace(&[5]), (0.0, None));
    }

    #[test]
    fn the_rate_is_that_of_the_gaps() {
        assert_eq!(pace(&[0, 1_000_000_000, 2_000_000_000]), (2.0, Some(1.0)));
    }

    #[test]
    fn percentiles_are_interpolated() {
        let of = lengths(vec![4, 1, 3, 2]);
        assert_eq!((of.mean, of.min, of.p50, of.max), (2.5, 1, 2.5, 4));
        assert_eq!(lengths(Vec::new()), Lengths::default());
    }

    #[test]
    fn requests_are_under_way_as_long_as_they_took_or_as_their_answers_are() {
        let estimated = in_flight(&trace(&[0, 1, 10], &[500, 50, 50])).unwrap();
        assert_eq!((estimated.peak, estimated.observed), (2, false));
        assert!((estimated.mean - 12.0 / 11.0).abs() < 1e-9, "{estimated:?}");
        let carried = Carried { e2e_ns: vec![20_000_000_000; 3], ..Carried::default() };
        let observed = in_flight(&Trace { carried, ..trace(&[0, 1, 10], &[1, 1, 1]) }).unwrap();
        assert_eq!((observed.peak, observed.observed, observed.mean), (3, true, 2.0));
        assert_eq!(in_flight(&trace(&[0], &[0])), None);
    }

    #[test]
    fn an_outline_is_what_an_inspection_says() {
        let trace = trace(&[0, 1, 10], &[500, 50, 50]);
        let all = inspect(&trace, &[]).rows();
        assert!(trace.outline().iter().all(|row| all.contains(row)));
    }
}
