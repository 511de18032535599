//! Which rows a sweep keeps: all, those that are possible, those that nothing beats, the best few.

use roofline_core::error::Error;

use crate::error::Result;
use crate::results::{Measure, Results, Wanted};

/// A measure, and which way it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objective {
    /// Of what.
    pub measure: Measure,
    /// Whether more of it is better.
    pub more: bool,
}

impl Objective {
    /// Reads `step_s`, `min:step_s` or `max:intensity`; which way most measures are better is known.
    ///
    /// # Errors
    /// An unknown measure, a direction that is neither, and none where both could be meant.
    pub fn parse(text: &str) -> Result<Objective> {
        let name = text.split_once(':').map_or(text, |(_, name)| name);
        let measure = Measure::parse(name.trim())?;
        Ok(Objective { measure, more: direction(text)?.1 })
    }
}

/// Which rows are kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Keep {
    /// Every point, possible or not.
    All,
    /// Points that are possible, fit, and hold the limits.
    Feasible,
    /// Those among them that no other is better than in every objective.
    Pareto(Vec<Objective>),
    /// The best so many of them.
    TopK(Objective, usize),
}

impl Keep {
    /// Whether only the best rows are kept, which depends on all of them.
    #[must_use]
    pub fn picks(&self) -> bool {
        matches!(self, Keep::Pareto(_) | Keep::TopK(..))
    }

    /// Measures that it looks at.
    #[must_use]
    pub fn needs(&self, mut wanted: Wanted) -> Wanted {
        let objectives = match self {
            Keep::All | Keep::Feasible => &[][..],
            Keep::Pareto(objectives) => objectives,
            Keep::TopK(objective, _) => std::slice::from_ref(objective),
        };
        for objective in objectives {
            wanted = wanted.and(objective.measure);
        }
        wanted
    }

    /// The rows that stay, ascending.
    pub fn pick(&self, results: &Results) -> Vec<usize> {
        let rows = results.len();
        let lane = |objective: &Objective| -> Vec<f64> {
            results.lane(objective.measure).map(|value| oriented(value, objective.more)).collect()
        };
        match self {
            Keep::All | Keep::Feasible => (0..rows).collect(),
            Keep::Pareto(objectives) => front(&objectives.iter().map(lane).collect::<Vec<_>>(), rows),
            Keep::TopK(objective, count) => top(&lane(objective), *count),
        }
    }
}

/// A value as a number that is better where it is greater.
pub fn oriented(value: f64, more: bool) -> f64 {
    if more { value } else { -value }
}

/// The direction in which figures of that name are better, told by `max:` or `min:` before it, else by what is known of
/// results and of the summaries of simulations (`p99_ttft_ms`, `request_goodput`).
///
/// # Errors
/// A direction that is neither, and none where both could be meant.
pub fn direction(text: &str) -> Result<(&str, bool)> {
    let (way, name) = text.split_once(':').map_or((None, text), |(way, name)| (Some(way), name.trim()));
    let known = match way.map(str::trim) {
        Some("max") => Some(true),
        Some("min") => Some(false),
        Some(other) => {
            let must = "must be preceded by min: or max:";
            return Err(Error::spec(name, must, format!("{other}:"), "").into());
        }
        None => match Measure::parse(name) {
            Ok(measure) => measure.more_is_better(),
            Err(_) if name.contains("throughput") || name.contains("goodput") => Some(true),
            Err(_) if name.ends_with("_ms") || name.ends_with("_s") => Some(false),
            Err(_) => None,
        },
    };
    let must = "must say which way it is better";
    let hint = format!("min:{name} or max:{name}");
    Ok((name, known.ok_or_else(|| Error::spec(name, must, text, hint))?))
}

/// The rows with the most, ascending; those without a value are never among them.
pub fn top(lane: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lane.len()).filter(|row| !lane[*row].is_nan()).collect();
    order.sort_by(|a, b| lane[*b].total_cmp(&lane[*a]).then(a.cmp(b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Rows that no other is at least as good as in every lane and better in one; rows without a value are never among them.
///
/// Rows are looked at in the order of their first lane, best first, so that only rows already found can beat one; with
/// two lanes the best of them in the second lane is enough to know.
pub fn front(lanes: &[Vec<f64>], rows: usize) -> Vec<usize> {
    let compare = |a: usize, b: usize| {
        let each = lanes.iter().map(|lane| lane[b].total_cmp(&lane[a]));
        each.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    let mut order: Vec<usize> =
        (0..rows).filter(|row| lanes.iter().all(|lane| !lane[*row].is_nan())).collect();
    order.sort_by(|a, b| compare(*a, *b).then(a.cmp(b)));
    let mut found: Vec<usize> = Vec::new();
    for row in order {
        let beats = |other: &usize| {
            lanes.iter().all(|lane| lane[*other] >= lane[row])
                && lanes.iter().any(|lane| lane[*other] > lane[row])
        };
        let beaten = match lanes {
            // The last one found has the best second lane of all so far.
            [_, _] => found.last().is_some_and(beats),
            _ => found.iter().any(beats),
        };
        if !beaten {
            found.push(row);
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_front_is_what_nothing_beats(
            rows in prop::collection::vec(prop::collection::vec(0u8..6, 3), 0..60), lanes in 1usize..4,
        ) {
            let lanes: Vec<Vec<f64>> =
                (0..lanes).map(|lane| rows.iter().map(|row| f64::from(row[lane])).collect()).collect();
            let beats = |a: usize, b: usize| {
                lanes.iter().all(|lane| lane[a] >= lane[b]) && lanes.iter().any(|lane| lane[a] > lane[b])
            };
            let expected: Vec<usize> =
                (0..rows.len()).filter(|row| (0..rows.len()).all(|other| !beats(other, *row))).collect();
            prop_assert_eq!(front(&lanes, rows.len()), expected);
        }
    }

    #[test]
    fn an_objective_says_which_way_it_is_better() {
        assert_eq!(Objective::parse("step_s").map(|o| o.more), Ok(false));
        assert_eq!(Objective::parse("tokens_per_gpu_s").map(|o| o.more), Ok(true));
        assert_eq!(Objective::parse("max:step_s").map(|o| o.more), Ok(true));
        let error = |text: &str| Objective::parse(text).unwrap_err().to_string();
        assert_eq!(error("intensity"), "intensity must say which way it is better: intensity");
        assert_eq!(error("top:step_s"), "step_s must be preceded by min: or max:: top:");
        assert_eq!(error("steps"), "no column is called `steps`");
    }
}
