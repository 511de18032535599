//! What a trace is like: its rate, its lengths, how bursty it is, how much of it a prefix cache could save.

use rustc_hash::FxHashMap;

use roofline_core::table::{Column, Table};

use super::report::Warning;
use super::{BlockHashes, Trace};

/// Mean and percentiles of a count; percentiles are interpolated between the nearest ranks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lengths {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: u32,
}

/// What a trace is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Requests.
    pub requests: u64,
    /// Seconds from the first arrival to the last.
    pub span_s: f64,
    /// Requests a second over the span; none where all arrive at once (the rate is infinite or undefined).
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
    /// Requests of the busiest 60 s window over those of the mean one; windows begin at the first arrival.
    pub peak_to_mean_60s: Option<f64>,
    /// Share of prompt tokens that an infinite prefix cache would hold already.
    pub prefix_hit: Option<f64>,
    /// Sessions, where the trace tells.
    pub sessions: Option<u64>,
    /// What reading repaired.
    pub warnings: Vec<Warning>,
}

/// Measures a trace; `warnings` is what reading it repaired.
pub fn inspect(trace: &Trace, warnings: &[Warning]) -> Inspection {
    let span_s = trace.arrival_ns.last().map_or(0.0, |last| (last - trace.arrival_ns[0]) as f64 / 1e9);
    Inspection {
        requests: trace.len() as u64,
        span_s,
        rate: (span_s > 0.0).then(|| trace.len() as f64 / span_s),
        prompt_tokens: lengths(&trace.prompt_tokens),
        output_tokens: lengths(&trace.output_tokens),
        prompt_tokens_total: trace.prompt_tokens.iter().copied().map(u64::from).sum(),
        output_tokens_total: trace.output_tokens.iter().copied().map(u64::from).sum(),
        gap_cv: gap_cv(&trace.arrival_ns),
        peak_to_mean_60s: peak_to_mean(&trace.arrival_ns, 60_000_000_000),
        prefix_hit: trace.hashes.as_ref().map(|hashes| prefix_hit(&trace.prompt_tokens, hashes)),
        sessions: trace.sessions.as_ref().map(|sessions| u64::from(sessions.count)),
        warnings: warnings.to_vec(),
    }
}

impl Inspection {
    /// The numbers by name, with their units; none where something is not known.
    pub fn rows(&self) -> Vec<(String, Option<f64>, &'static str)> {
        let mut rows: Vec<(String, Option<f64>, &'static str)> = vec![
            ("requests".into(), Some(self.requests as f64), ""),
            ("span".into(), Some(self.span_s), "s"),
            ("rate".into(), self.rate, "req/s"),
        ];
        for (name, lengths) in [("prompt_tokens", self.prompt_tokens), ("output_tokens", self.output_tokens)]
        {
            let Lengths { mean, p50, p95, p99, max } = lengths;
            let values = [("mean", mean), ("p50", p50), ("p95", p95), ("p99", p99), ("max", f64::from(max))];
            rows.extend(values.map(|(which, value)| (format!("{name}_{which}"), Some(value), "tokens")));
        }
        rows.push(("prompt_tokens_total".into(), Some(self.prompt_tokens_total as f64), "tokens"));
        rows.push(("output_tokens_total".into(), Some(self.output_tokens_total as f64), "tokens"));
        rows.push(("gap_cv".into(), self.gap_cv, ""));
        rows.push(("peak_to_mean_60s".into(), self.peak_to_mean_60s, ""));
        rows.push(("prefix_hit".into(), self.prefix_hit, "share"));
        rows.push(("sessions".into(), self.sessions.map(|count| count as f64), ""));
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

fn lengths(column: &[u32]) -> Lengths {
    let mut sorted = column.to_vec();
    sorted.sort_unstable();
    let Some(max) = sorted.last().copied() else { return Lengths::default() };
    let at = |share: f64| {
        let rank = share * (sorted.len() - 1) as f64;
        let (below, part) = (rank.floor() as usize, rank.fract());
        let above = (below + 1).min(sorted.len() - 1);
        f64::from(sorted[below]) * (1.0 - part) + f64::from(sorted[above]) * part
    };
    let total: u64 = sorted.iter().copied().map(u64::from).sum();
    Lengths { mean: total as f64 / sorted.len() as f64, p50: at(0.5), p95: at(0.95), p99: at(0.99), max }
}

fn gap_cv(arrival_ns: &[u64]) -> Option<f64> {
    let gaps = arrival_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
    let count = arrival_ns.len().saturating_sub(1) as f64;
    let mean = gaps.clone().sum::<f64>() / count;
    let variance = gaps.map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    (mean > 0.0).then(|| variance.sqrt() / mean)
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

/// The share of prompt tokens on the leading run of blocks that an earlier request had on the same path.
fn prefix_hit(prompt_tokens: &[u32], hashes: &BlockHashes) -> f64 {
    let mut children: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    let (mut hit, mut total) = (0u64, 0u64);
    for (request, prompt) in prompt_tokens.iter().enumerate() {
        let (mut node, mut known) = (0, 0u64);
        for id in hashes.path(request) {
            let next = children.len() as u32 + 1;
            let child = *children.entry((node, *id)).or_insert(next);
            known += u64::from(child != next);
            node = child;
        }
        hit += (known * u64::from(hashes.block_size)).min(u64::from(*prompt));
        total += u64::from(*prompt);
    }
    hit as f64 / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_as_held_only_on_the_same_path() {
        let hashes = BlockHashes { block_size: 10, offsets: vec![0, 2, 4, 6], ids: vec![1, 2, 3, 2, 1, 2] };
        let share = prefix_hit(&[20, 20, 15], &hashes);
        assert_eq!(share, 15.0 / 55.0);
    }

    #[test]
    fn one_request_has_no_rate_and_no_gaps() {
        assert_eq!(gap_cv(&[5]), None);
        assert_eq!(gap_cv(&[5, 5, 5]), None);
        assert_eq!(peak_to_mean(&[5], 60), None);
        assert_eq!(peak_to_mean(&[], 60), None);
    }

    #[test]
    fn percentiles_are_interpolated() {
        let of = lengths(&[1, 2, 3, 4]);
        assert_eq!((of.mean, of.p50, of.max), (2.5, 2.5, 4));
    }
}
