//! What a trace is like, as something to draw from: its pairs of lengths, its rate window by window, its burstiness.

use roofline_core::error::Error;

use super::arrivals::Process;
use super::rates::{Rate, Stages};
use crate::error::Result;
use crate::trace::Trace;

/// A trace as distributions.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Prompt and answer of each request: a long prompt keeps the answers that long prompts had.
    pub lengths: Vec<(u32, u32)>,
    /// Requests a second, window by window, from the beginning again after the last.
    pub rate: Rate,
    /// Seconds of a window; 0 where all requests came at once.
    pub window_s: f64,
    /// Coefficient of variation of the gaps, where the rate is taken as it was in each window.
    pub cv: f64,
}

/// A window has this many requests on average, so that its rate is known to 14 %.
const WINDOW_REQUESTS: usize = 50;
const WINDOWS_MOST: usize = 1000;
/// Below, gaps are equal but for rounding.
const CV_LEAST: f64 = 0.01;

/// Fits a trace. Shared prefixes, sessions and priorities are not fitted.
///
/// # Errors
/// A trace of no requests.
pub fn fit(trace: &Trace) -> Result<Fitted> {
    let lengths: Vec<_> =
        trace.prompt_tokens.iter().copied().zip(trace.output_tokens.iter().copied()).collect();
    let (Some(first), Some(last)) = (trace.arrival_ns.first(), trace.arrival_ns.last()) else {
        return Err(Error::spec("like", "must be a trace with requests", "none", "").into());
    };
    let span_s = (last - first) as f64 / 1e9;
    if span_s == 0.0 {
        return Ok(Fitted { lengths, rate: Rate::Infinite, window_s: 0.0, cv: 1.0 });
    }
    let windows = (trace.len() / WINDOW_REQUESTS).clamp(1, WINDOWS_MOST);
    let window_s = span_s / windows as f64;
    let seconds = trace.arrival_ns.iter().map(|arrival| (arrival - first) as f64 / 1e9);
    let places: Vec<f64> = seconds.map(|second| second / window_s).collect();
    let mut counts = vec![0.0; windows];
    places.iter().for_each(|place| counts[(*place as usize).min(windows - 1)] += 1.0);
    let cv = variation(&places, &counts);
    // There is one gap fewer than there are requests.
    let share = (trace.len() - 1) as f64 / trace.len() as f64;
    let pieces = counts.iter().map(|count| (window_s, share * count / window_s)).collect();
    Ok(Fitted { lengths, rate: Rate::Stages(Stages::new("like", pieces, true)?), window_s, cv })
}

impl Fitted {
    /// Gamma gaps as bursty as the trace's.
    pub fn process(&self) -> Process {
        if self.cv < CV_LEAST { Process::Constant } else { Process::of_gamma(self.cv) }
    }
}

/// The coefficient of variation of gaps, on a clock that runs as fast as requests come in each window.
fn variation(places: &[f64], counts: &[f64]) -> f64 {
    let mut before = vec![0.0; counts.len()];
    (1..counts.len()).for_each(|window| before[window] = before[window - 1] + counts[window - 1]);
    let on_clock = |place: f64| {
        let window = (place as usize).min(counts.len() - 1);
        before[window] + counts[window] * (place - window as f64)
    };
    let gaps: Vec<f64> = places.windows(2).map(|pair| on_clock(pair[1]) - on_clock(pair[0])).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    if mean > 0.0 { variance.sqrt() / mean } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_gaps_are_constant_whatever_their_rate() {
        let arrival_ns = (0..101).map(|row| row * 10_000_000).collect();
        let trace = Trace {
            arrival_ns,
            prompt_tokens: vec![5; 101],
            output_tokens: vec![7; 101],
            ..Trace::default()
        };
        let fitted = fit(&trace).unwrap();
        assert_eq!(fitted.lengths[100], (5, 7));
        assert!((fitted.window_s - 0.5).abs() < 1e-12 && fitted.cv < 0.02, "{fitted:?}");
    }

    #[test]
    fn requests_at_once_have_an_infinite_rate_and_none_cannot_be_fitted() {
        let trace = Trace {
            arrival_ns: vec![3, 3],
            prompt_tokens: vec![1, 2],
            output_tokens: vec![1, 2],
            ..Trace::default()
        };
        assert_eq!(fit(&trace).unwrap().rate, Rate::Infinite);
        assert_eq!(
            fit(&Trace::default()).unwrap_err().to_string(),
            "like must be a trace with requests: none"
        );
    }
}
