//! Weights that a step reads in part: of experts and adapters those that its tokens or sequences draw.

use crate::per_step::{Part, PerStep, visited};
use crate::shape::PhaseSums;
use crate::site::{DrawnBy, Skew};

/// Weights of which a step reads only the experts its tokens visit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Touched {
    /// Bytes of one expert's matrices on this device.
    pub bytes_per_expert: f64,
    /// Vector operations to bring one expert's weights into the format they are multiplied in.
    pub conversions_per_expert: f64,
    /// Experts on this device.
    pub local: f64,
    /// Chance that one token leaves a given expert alone: 1 − top_k/experts.
    pub missed: f64,
    /// Tokens that meet at the experts, per token of this rank.
    pub ranks: f64,
    /// What draws one of them: a token its experts, a sequence its adapter.
    pub drawn_by: DrawnBy,
    /// How popularity is spread where it is not even; `missed` is then that of the mean expert.
    pub skew: Option<Skew>,
}

impl Touched {
    /// Expected experts read: E·(1 − (1 − k/E)^T) under uniform routing, class by class otherwise; `idle` of
    /// the tokens draw none.
    pub fn experts(&self, sums: &PhaseSums, idle: f64) -> f64 {
        let draws = self.ranks
            * match self.drawn_by {
                DrawnBy::Token => sums.tokens - idle,
                DrawnBy::Sequence => sums.sequences,
            };
        match &self.skew {
            None => self.local * (1.0 - self.missed.powf(draws)),
            Some(skew) => {
                let read = |(share, missed): &(f64, f64)| share * (1.0 - missed.powf(draws));
                self.local * skew.classes.iter().map(read).sum::<f64>()
            }
        }
    }

    /// Expected experts read in each of the first `out.len()` steps, as [`Touched::experts`] says of one; a share of the
    /// tokens of some part draw none.
    pub fn experts_of_each(&self, part: &Part, idle: Option<(f64, &Part)>, out: &mut [f64]) {
        let mut draws: PerStep = match self.drawn_by {
            DrawnBy::Token => part.tokens,
            DrawnBy::Sequence => part.sequences,
        };
        if let (Some((share, idle)), DrawnBy::Token) = (idle, self.drawn_by) {
            draws.iter_mut().zip(&idle.tokens).for_each(|(draws, idle)| *draws -= share * idle);
        }
        draws[..out.len()].iter_mut().for_each(|draws| *draws *= self.ranks);
        match &self.skew {
            None => {
                visited(out, &draws, self.missed.ln());
                out.iter_mut().for_each(|share| *share *= self.local);
            }
            Some(skew) => {
                out.fill(0.0);
                let mut read = draws;
                for (share, missed) in skew.classes.iter().filter(|(share, _)| *share != 0.0) {
                    visited(&mut read[..out.len()], &draws, missed.ln());
                    out.iter_mut().zip(&read).for_each(|(out, read)| *out += self.local * share * read);
                }
            }
        }
    }
}
