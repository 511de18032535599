//! How many requests arrive a second, and how that changes: with time, or from request to request.
//!
//! A process of mean-1 gaps becomes one of changing rate by running its clock at that rate: a gap of `g` lasts until the
//! rate has added up to `g`. So burstiness stays what it was wherever the rate moves.

use std::f64::consts::TAU;

use roofline_core::error::Error;

use super::empirical;
use super::text::{split, within};
use crate::error::Result;

/// Requests a second.
#[derive(Debug, Clone, PartialEq)]
pub enum Rate {
    /// All at once.
    Infinite,
    /// The same always.
    Constant(f64),
    /// From one rate for the first request to another for the last, in equal steps or equal ratios
    /// (`vllm bench serve --ramp-up-strategy`).
    Ramp {
        /// Rates of the first request and of the last.
        ends: [f64; 2],
        /// Equal ratios instead of equal steps.
        exponential: bool,
    },
    /// Pieces of constant rate.
    Stages(Stages),
    /// Between `low` and `high` and back as a cosine, from `low` on.
    Diurnal {
        /// Least, and at second 0.
        low: f64,
        /// Most, half a period later.
        high: f64,
        /// Seconds from one least to the next.
        period_s: f64,
    },
}

/// Pieces of constant rate, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// Seconds and requests a second of each.
    pieces: Vec<(f64, f64)>,
    /// Begins again after the last; otherwise the last goes on.
    repeats: bool,
}

impl Stages {
    /// Pieces of seconds and rates.
    ///
    /// # Errors
    /// None, none with requests, a last piece without any that would go on for ever.
    pub(super) fn new(field: &str, pieces: Vec<(f64, f64)>, repeats: bool) -> Result<Stages> {
        if !pieces.iter().any(|(seconds, rate)| seconds * rate > 0.0) {
            return Err(Error::spec(field, "must have requests", "none", "").into());
        }
        Ok(Stages { pieces, repeats })
    }

    /// Seconds of all pieces.
    pub(super) fn seconds(&self) -> f64 {
        self.pieces.iter().map(|(seconds, _)| seconds).sum()
    }

    /// The rate of the last piece.
    pub(super) fn last(&self) -> f64 {
        self.pieces.last().map_or(0.0, |(_, rate)| *rate)
    }
}

impl Rate {
    /// Reads `10`, `0.5` or `inf`.
    ///
    /// # Errors
    /// No positive number.
    pub(super) fn parse(field: &str, text: &str) -> Result<Rate> {
        if text.contains(',') {
            let hint = "each of several rates makes traffic of its own; `simulate --request-rate 1,2,4` serves them all";
            return Err(Error::spec(field, "must be one rate", text, hint).into());
        }
        if matches!(text.trim(), "inf" | "infinity" | "+inf") {
            return Ok(Rate::Infinite);
        }
        let rate = within(field, text, f64::MIN_POSITIVE, f64::MAX).map_err(|error| match error {
            Error::Spec { field, value, .. } => {
                Error::spec(field, "must be above 0, or `inf`", value, "`inf` sends all requests at once")
            }
            other => other,
        })?;
        Ok(Rate::Constant(rate))
    }

    /// Reads `10:60,20:60`: requests a second, and for how many seconds.
    ///
    /// # Errors
    /// Pieces that are not written so, or without requests.
    pub(super) fn stages(field: &str, text: &str) -> Result<Rate> {
        let mut pieces = Vec::new();
        for piece in split(text, ',') {
            let Some((rate, seconds)) = piece.split_once(':') else {
                let hint = "for example `10:60,20:60`";
                return Err(Error::spec(field, "must be pieces of RATE:SECONDS", piece, hint).into());
            };
            let rate = within(field, rate, 0.0, f64::INFINITY)?;
            pieces.push((within(field, seconds, f64::MIN_POSITIVE, f64::INFINITY)?, rate));
        }
        Ok(Rate::Stages(Stages::new(field, pieces, false)?))
    }

    /// Reads a CSV file of seconds and rates; each rate holds until the next row, the last one goes on.
    ///
    /// # Errors
    /// A file that is none, times that do not rise, negative rates.
    pub(super) fn series(field: &str, path: &str) -> Result<Rate> {
        let rows = empirical::pairs(field, path)?;
        if rows.len() < 2 {
            return Err(Error::spec(field, "must have at least two rows", rows.len(), "").into());
        }
        if let Some((_, rate)) = rows.iter().find(|(_, rate)| !(rate.is_finite() && *rate >= 0.0)) {
            return Err(Error::spec(field, "must have rates that are not negative", rate, "").into());
        }
        let mut pieces = Vec::new();
        for pair in rows.windows(2) {
            let [(start, rate), (end, _)] = pair else { continue };
            if !(end > start && end.is_finite()) {
                return Err(Error::spec(field, "must have seconds that rise", end, "").into());
            }
            pieces.push((end - start, *rate));
        }
        pieces.push((0.0, rows[rows.len() - 1].1));
        Ok(Rate::Stages(Stages::new(field, pieces, false)?))
    }

    /// Reads `LOW,HIGH,PERIOD`.
    ///
    /// # Errors
    /// Not three numbers, or LOW above HIGH.
    pub(super) fn diurnal(field: &str, text: &str) -> Result<Rate> {
        let Ok([low, high, period]) = <[&str; 3]>::try_from(split(text, ',')) else {
            let hint = "for example `2,20,86400`";
            return Err(Error::spec(field, "must be LOW,HIGH,SECONDS", text, hint).into());
        };
        let (low, high) =
            (within(field, low, 0.0, f64::INFINITY)?, within(field, high, f64::MIN_POSITIVE, f64::INFINITY)?);
        if low > high {
            return Err(Error::spec(field, "must have LOW <= HIGH", text, "").into());
        }
        Ok(Rate::Diurnal { low, high, period_s: within(field, period, f64::MIN_POSITIVE, f64::INFINITY)? })
    }
}

/// The clock of a rate: where it is, and how far a gap brings it.
#[derive(Debug, Clone)]
pub(super) struct RateClock<'a> {
    rate: &'a Rate,
    /// Requests in all, for a ramp.
    count: u64,
    now_s: f64,
    /// The piece of [`Stages`] it is in, and what is left of it.
    piece: usize,
    left_s: f64,
}

impl RateClock<'_> {
    pub fn new(rate: &Rate, count: u64) -> RateClock<'_> {
        let left_s = match rate {
            Rate::Stages(stages) => stages.pieces.first().map_or(0.0, |(seconds, _)| *seconds),
            _ => 0.0,
        };
        RateClock { rate, count, now_s: 0.0, piece: 0, left_s }
    }

    /// The second at which request `index` arrives, a mean-1 `gap` after the one before it.
    pub fn advance(&mut self, gap: f64, index: u64) -> f64 {
        self.now_s = match self.rate {
            Rate::Infinite => 0.0,
            Rate::Constant(rate) => self.now_s + gap / rate,
            Rate::Ramp { ends: [start, end], exponential } => {
                let progress = index as f64 / self.count.saturating_sub(1).max(1) as f64;
                let rate = if *exponential {
                    start * libm::exp(progress * libm::log(end / start))
                } else {
                    start + (end - start) * progress
                };
                self.now_s + gap / rate
            }
            Rate::Stages(stages) => self.through(stages, gap),
            Rate::Diurnal { low, high, period_s } => diurnal(self.now_s, gap, *low, *high, *period_s),
        };
        self.now_s
    }

    /// Walks through pieces until their requests add up to `gap`; a last piece without requests is never left.
    fn through(&mut self, stages: &Stages, mut gap: f64) -> f64 {
        let mut now = self.now_s;
        loop {
            let (_, rate) = stages.pieces[self.piece];
            let goes_on = self.piece + 1 == stages.pieces.len() && !stages.repeats;
            if goes_on || (rate > 0.0 && gap < self.left_s * rate) {
                let passed = gap / rate;
                self.left_s -= passed;
                return if passed.is_nan() { f64::INFINITY } else { now + passed };
            }
            (now, gap) = (now + self.left_s, gap - self.left_s * rate);
            self.piece = (self.piece + 1) % stages.pieces.len();
            self.left_s = stages.pieces[self.piece].0;
        }
    }
}

/// The second until which a rate of `m − a·cos(2πt/P)` adds up to `gap`, found by halving.
fn diurnal(now: f64, gap: f64, low: f64, high: f64, period: f64) -> f64 {
    let (middle, swing) = ((low + high) / 2.0, (high - low) / 2.0);
    let phase = now % period;
    let sum = |t: f64| middle * t - swing * period / TAU * libm::sin(TAU * t / period);
    let wanted = sum(phase) + gap;
    // The sum is never more than a swing away from its straight line.
    let (mut from, mut to) = (phase, phase.max(wanted / middle + swing * period / TAU / middle));
    for _ in 0..64 {
        let half = (from + to) / 2.0;
        if sum(half) < wanted { from = half } else { to = half }
    }
    now + (to - phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(rate: &Rate, count: u64) -> Vec<f64> {
        let mut clock = RateClock::new(rate, count);
        (0..count).map(|index| clock.advance(if index == 0 { 0.0 } else { 1.0 }, index)).collect()
    }

    #[test]
    fn stages_have_their_rates() {
        let rate = Rate::stages("stages", "0:5,2:3,1:2").unwrap();
        assert_eq!(arrivals(&rate, 9), [5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 9.0, 10.0]);
        let silent = Rate::stages("stages", "1:2,0:5").unwrap();
        assert_eq!(arrivals(&silent, 4), [0.0, 1.0, f64::INFINITY, f64::INFINITY]);
    }

    #[test]
    fn stages_that_repeat_begin_again() {
        let stages = Stages::new("", vec![(2.0, 1.0), (3.0, 0.0)], true).unwrap();
        assert_eq!(arrivals(&Rate::Stages(stages), 5), [0.0, 1.0, 5.0, 6.0, 10.0]);
    }

    #[test]
    fn a_ramp_ends_at_its_last_rate() {
        let linear = Rate::Ramp { ends: [1.0, 4.0], exponential: false };
        let times = arrivals(&linear, 4);
        assert_eq!(times[1], 0.5);
        assert!((times[3] - times[2] - 0.25).abs() < 1e-12);
        let times = arrivals(&Rate::Ramp { ends: [1.0, 4.0], exponential: true }, 3);
        assert!((times[1] - 0.5).abs() < 1e-12 && (times[2] - 0.75).abs() < 1e-12, "{times:?}");
    }

    #[test]
    fn a_diurnal_rate_adds_up_to_its_mean_each_period() {
        let rate = Rate::diurnal("diurnal", "0,20,100").unwrap();
        let times = arrivals(&rate, 3001);
        assert!((times[1000] - 100.0).abs() < 0.5, "{}", times[1000]);
        assert!((times[3000] - 300.0).abs() < 0.5, "{}", times[3000]);
        assert!(times.windows(2).all(|pair| pair[1] > pair[0]));
        let within = |from: f64, to: f64| times.iter().filter(|t| (from..to).contains(*t)).count();
        assert!(within(25.0, 75.0) > 4 * within(0.0, 25.0), "busiest in the middle of its period");
    }

    #[test]
    fn every_mistake_says_what_must_hold() {
        let must = |done: Result<Rate>, message: &str| assert_eq!(done.unwrap_err().to_string(), message);
        must(Rate::parse("request_rate", "0"), "request_rate must be above 0, or `inf`: 0");
        must(Rate::parse("request_rate", "fast"), "request_rate must be above 0, or `inf`: fast");
        must(Rate::stages("stages", "10,20:60"), "stages must be pieces of RATE:SECONDS: 10");
        must(Rate::stages("stages", "-1:60"), "stages must not be negative: -1");
        must(Rate::stages("stages", "1:0"), "stages must be above 0: 0");
        must(Rate::stages("stages", "0:60"), "stages must have requests: none");
        must(Rate::diurnal("diurnal", "1,2"), "diurnal must be LOW,HIGH,SECONDS: 1,2");
        must(Rate::diurnal("diurnal", "5,2,60"), "diurnal must have LOW <= HIGH: 5,2,60");
    }

    #[test]
    fn a_series_holds_each_rate_until_the_next_row() {
        let path = std::env::temp_dir().join(format!("roofline-series-{}.csv", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Rate::series("rate_series", &path.display().to_string())
        };
        assert_eq!(arrivals(&read("s,r\n0,1\n2,2\n").unwrap(), 5), [0.0, 1.0, 2.0, 2.5, 3.0]);
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(message("0,1\n"), "rate_series must have at least two rows: 1");
        assert_eq!(message("0,1\n0,2\n"), "rate_series must have seconds that rise: 0");
        assert_eq!(message("0,-1\n9,2\n"), "rate_series must have rates that are not negative: -1");
    }
}
