//! How the rate and the burstiness of arrivals change, window by window.

use roofline_core::error::Error;
use roofline_core::table::{Column, Table};

use super::Trace;
use crate::error::Result;

/// Requests of a window from which its gaps tell how bursty they are.
const TELLING: u64 = 10;
/// A window of its own choice has this many requests on average, and there are at most so many windows.
const WANTED: f64 = 30.0;
const MOST: f64 = 1000.0;
/// Seconds that windows of their own choice may last.
const NICE_S: [f64; 16] =
    [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0];
/// Windows of one table.
const TABLE_MOST: u64 = 10_000_000;

/// What happens in one window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Window {
    /// Requests that arrive in it.
    pub requests: u64,
    /// Tokens of their prompts, and of their answers.
    pub tokens: (u64, u64),
    /// Standard deviation of the gaps that end in it over their mean; none of fewer than ten, or of none at all.
    pub gap_cv: Option<f64>,
}

/// What arrives in a window so far: gaps as their mean and the sum of squares around it (Welford, 1962).
#[derive(Default)]
struct Sums {
    window: Window,
    mean: f64,
    squares: f64,
}

impl Sums {
    fn window(self) -> Window {
        let variance = self.squares / self.window.requests as f64;
        let tells = self.window.requests >= TELLING && self.mean > 0.0;
        Window { gap_cv: tells.then(|| variance.sqrt() / self.mean), ..self.window }
    }
}

impl Trace {
    /// Consecutive windows of `seconds` each, from the first arrival on to the last.
    ///
    /// # Errors
    /// A length that is not above 0, or makes more windows than a table holds.
    pub fn windows(&self, seconds: f64) -> Result<Vec<Window>> {
        if !(seconds > 0.0 && seconds.is_finite()) {
            return Err(
                Error::spec("window_s", "must be above 0 and finite", seconds, "60 is a minute").into()
            );
        }
        let (Some(&first), Some(&last)) = (self.arrival_ns.first(), self.arrival_ns.last()) else {
            return Ok(Vec::new());
        };
        let place = |arrival: u64| ((arrival - first) as f64 / 1e9 / seconds) as u64;
        let count = place(last) + 1;
        if count > TABLE_MOST {
            let must = format!("must make at most {TABLE_MOST} windows");
            return Err(Error::spec("window_s", must, seconds, "longer windows are fewer").into());
        }
        let mut sums: Vec<Sums> = (0..count).map(|_| Sums::default()).collect();
        let mut before = first;
        for (row, &arrival) in self.arrival_ns.iter().enumerate() {
            let sum = &mut sums[place(arrival) as usize];
            let gap = (arrival - before) as f64 / 1e9;
            before = arrival;
            sum.window.requests += 1;
            sum.window.tokens.0 += u64::from(self.prompt_tokens[row]);
            sum.window.tokens.1 += u64::from(self.output_tokens[row]);
            let off = gap - sum.mean;
            sum.mean += off / sum.window.requests as f64;
            sum.squares += off * (gap - sum.mean);
        }
        Ok(sums.into_iter().map(Sums::window).collect())
    }

    /// Seconds of a window that tells how bursty arrivals are: a round number with thirty requests in it on average, so
    /// that there are at most a thousand windows, and two at least; none where that cannot be.
    pub fn telling_window_s(&self) -> Option<f64> {
        let span_s = (self.arrival_ns.last()? - self.arrival_ns[0]) as f64 / 1e9;
        let least = (WANTED * span_s / self.len() as f64).max(span_s / MOST);
        NICE_S.into_iter().find(|seconds| *seconds >= least).filter(|seconds| *seconds <= span_s / 2.0)
    }

    /// Windows as a table: `start_s, requests, rate, gap_cv, prompt_tokens, output_tokens`.
    ///
    /// # Errors
    /// Those of [`Trace::windows`].
    pub fn window_table(&self, seconds: f64) -> Result<Table> {
        let windows = self.windows(seconds)?;
        let starts = (0..windows.len()).map(|place| place as f64 * seconds).collect();
        let each = |of: fn(&Window) -> u64| Column::U64(windows.iter().map(of).collect());
        Ok(Table::new()
            .with("start_s", Column::F64(starts))
            .with("requests", each(|window| window.requests))
            .with(
                "rate",
                Column::F64(windows.iter().map(|window| window.requests as f64 / seconds).collect()),
            )
            .with("gap_cv", Column::OptF64(windows.iter().map(|window| window.gap_cv).collect()))
            .with("prompt_tokens", each(|window| window.tokens.0))
            .with("output_tokens", each(|window| window.tokens.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(arrival_ms: impl IntoIterator<Item = u64>) -> Trace {
        let arrival_ns: Vec<u64> = arrival_ms.into_iter().map(|ms| ms * 1_000_000).collect();
        let count = arrival_ns.len();
        Trace { arrival_ns, prompt_tokens: vec![2; count], output_tokens: vec![1; count], ..Trace::default() }
    }

    #[test]
    fn windows_hold_every_request_once() {
        let trace = arriving([0, 10, 999, 1000, 3500]);
        let windows = trace.windows(1.0).unwrap();
        assert_eq!(windows.iter().map(|window| window.requests).collect::<Vec<_>>(), [3, 1, 0, 1]);
        assert_eq!((windows[0].tokens, windows[0].gap_cv), ((6, 3), None));
        let refused = |seconds| trace.windows(seconds).unwrap_err().to_string();
        assert_eq!(refused(0.0), "window_s must be above 0 and finite: 0");
        assert_eq!(refused(1e-9), "window_s must make at most 10000000 windows: 0.000000001");
        assert!(Trace::default().windows(1.0).unwrap().is_empty());
    }

    #[test]
    fn equal_gaps_do_not_vary_and_bursts_do() {
        let even = arriving((0..200).map(|place| place * 50));
        assert!(even.windows(5.0).unwrap()[1].gap_cv.unwrap() < 1e-9);
        let bursts = arriving((0..200).map(|place| place / 10 * 500));
        assert!((bursts.windows(5.0).unwrap()[1].gap_cv.unwrap() - 3.0).abs() < 0.01);
    }

    #[test]
    fn a_window_of_its_own_choice_is_round_and_leaves_two() {
        assert_eq!(arriving((0..600).map(|place| place * 1000)).telling_window_s(), Some(30.0));
        assert_eq!(arriving([0, 1000]).telling_window_s(), None);
        assert_eq!(arriving([5, 5, 5]).telling_window_s(), Some(0.1).filter(|_| false));
        assert_eq!(Trace::default().telling_window_s(), None);
    }
}
