//! What is asked about a range of points: results, limits, and which rows.

use super::keep::Keep;
use crate::results::{Measure, Wanted};

/// What points must hold besides being possible; `None` asks nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Fewest devices.
    pub min_gpus: Option<u64>,
    /// Most devices.
    pub max_gpus: Option<u64>,
    /// Whether contexts may not be longer than the model was made for.
    pub within_context: bool,
    /// Measures that may not be above, or below, a value.
    pub measures: Vec<Limit>,
}

/// A measure that must be on one side of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Of what.
    pub measure: Measure,
    /// Whether the value is the most it may be; the least otherwise.
    pub most: bool,
    /// The value.
    pub value: f64,
}

/// What is asked about a range of points.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Results that are returned.
    pub wanted: Wanted,
    /// Which rows.
    pub keep: Keep,
    /// What they must hold.
    pub limits: Limits,
}

impl Ask {
    /// Measures that are computed to answer.
    pub(super) fn needed(&self) -> Wanted {
        let needed = self.keep.needs(self.wanted);
        let fits = if self.keep == Keep::All { needed } else { needed.and(Measure::Fits) };
        self.limited(fits)
    }

    /// Measures without which a point is not kept: those that limits and objectives speak of.
    pub(super) fn required(&self) -> Wanted {
        if self.keep == Keep::All {
            Wanted::default()
        } else {
            self.limited(self.keep.needs(Wanted::default()))
        }
    }

    fn limited(&self, measures: Wanted) -> Wanted {
        self.limits.measures.iter().fold(measures, |measures, limit| measures.and(limit.measure))
    }
}
