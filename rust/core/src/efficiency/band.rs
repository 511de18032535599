//! How errors add up: those of one family are one common factor, families are independent of each other.

use super::Estimate;
use crate::work::Family;

/// Families whose errors are independent of each other.
pub const FAMILIES: usize = 9;

/// Seconds of a step, with what they could be less or more by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Band {
    low: [f64; FAMILIES],
    high: [f64; FAMILIES],
}

/// Half an 80 % band around one: measured over predicted, P10 and P90.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// P10 of measured over predicted; at most 1.
    pub low: f64,
    /// P90 of measured over predicted; at least 1.
    pub high: f64,
}

impl Spread {
    /// No error known or none possible.
    pub const NONE: Spread = Spread { low: 1.0, high: 1.0 };

    /// The same with log half-widths `factor` times as wide.
    #[must_use]
    pub fn widened(self, factor: f64) -> Spread {
        Spread { low: self.low.min(1.0).powf(factor), high: self.high.max(1.0).powf(factor) }
    }

    /// As wide on both sides as on the wider one.
    #[must_use]
    pub fn evenly(self) -> Spread {
        let widest = self.high.max(1.0).max(1.0 / self.low.min(1.0));
        Spread { low: 1.0 / widest, high: widest }
    }

    /// The wider of two, end by end.
    #[must_use]
    pub fn or_wider(self, other: Spread) -> Spread {
        Spread { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

impl Band {
    /// Counts `seconds` of a family with that spread.
    #[inline]
    pub fn add(&mut self, family: Family, seconds: f64, spread: Spread) {
        let place = family as usize;
        self.low[place] += seconds * (1.0 - spread.low);
        self.high[place] += seconds * (spread.high - 1.0);
    }

    /// Counts what another holds.
    pub fn merge(&mut self, other: &Band) {
        for (mine, theirs) in self.low.iter_mut().zip(other.low) {
            *mine += theirs;
        }
        for (mine, theirs) in self.high.iter_mut().zip(other.high) {
            *mine += theirs;
        }
    }

    /// `seconds` with their band, never below `ideal`.
    pub fn around(&self, seconds: f64, ideal: f64) -> Estimate {
        let root = |widths: &[f64; FAMILIES]| widths.iter().map(|width| width * width).sum::<f64>().sqrt();
        let (low, high) = within(seconds, ideal, root(&self.low), root(&self.high));
        Estimate { seconds, low: Some(low), high: Some(high) }
    }
}

/// P10 and P90 of `seconds` that could be so much less or more, never below `ideal`.
#[inline]
pub fn within(seconds: f64, ideal: f64, less: f64, more: f64) -> (f64, f64) {
    ((seconds - less).max(ideal).min(seconds), seconds + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Spread = Spread { low: 0.9, high: 1.1 };

    #[test]
    fn errors_of_one_family_add_up_and_those_of_two_partly_cancel() {
        let (mut one, mut two) = (Band::default(), Band::default());
        one.add(Family::Gemm, 1.0, TENTH);
        one.add(Family::Gemm, 1.0, TENTH);
        two.add(Family::Gemm, 1.0, TENTH);
        two.add(Family::Link, 1.0, TENTH);
        let high = |band: &Band| band.around(2.0, 0.0).high.unwrap();
        assert!((high(&one) - 2.2).abs() < 1e-12);
        assert!((high(&two) - (2.0 + 0.02f64.sqrt())).abs() < 1e-12);
    }

    #[test]
    fn no_band_reaches_below_the_roofline() {
        let mut band = Band::default();
        band.add(Family::Gemm, 1.0, TENTH.widened(3.0));
        assert_eq!(band.around(1.0, 0.95).low, Some(0.95));
    }
}
