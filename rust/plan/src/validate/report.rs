//! Errors gathered by metric and group, as every validation reports them.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::calibrate::errors::{Errors, Outcome};

/// Errors of one metric over one group of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What was predicted (`kernel:gemm`).
    pub metric: String,
    /// Which rows (`all`, `gpu=h100-sxm`).
    pub group: String,
    /// Rows that were not priced.
    pub refused: u64,
    /// Errors of the predictions; `None` where no row was priced.
    pub errors: Option<Errors>,
    /// Errors of the pure roofline on the same rows.
    pub ideal: Option<Errors>,
}

/// Errors by metric and group, and why rows were refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// One for each metric and group.
    pub lines: Vec<Line>,
    /// How many rows of which metric were refused for which reason.
    pub refused: BTreeMap<(String, String), u64>,
}

/// Outcomes while they are gathered.
#[derive(Debug, Default)]
pub struct Tally {
    cells: BTreeMap<(String, usize, String), Cell>,
    refused: BTreeMap<(String, String), u64>,
}

#[derive(Debug, Default)]
struct Cell {
    predicted: Vec<Outcome>,
    ideal: Vec<Outcome>,
    refused: u64,
}

impl Tally {
    /// Counts rows of a metric under `all` and under each of `groups`, with how many more of them were refused.
    pub fn add(
        &mut self,
        metric: &str,
        groups: &[String],
        predicted: &[Outcome],
        ideal: &[Outcome],
        refused: u64,
    ) {
        for (place, group) in std::iter::once("all").chain(groups.iter().map(String::as_str)).enumerate() {
            let cell = self.cells.entry((metric.to_string(), place, group.to_string())).or_default();
            cell.predicted.extend(predicted);
            cell.ideal.extend(ideal);
            cell.refused += refused;
        }
    }

    /// Notes why rows of a metric were refused, and counts them under each of `groups`.
    pub fn refuse(&mut self, metric: &str, groups: &[String], why: &str, rows: u64) {
        *self.refused.entry((metric.to_string(), why.to_string())).or_default() += rows;
        if !groups.is_empty() {
            self.add(metric, groups, &[], &[], rows);
        }
    }

    /// The errors of everything that was counted.
    pub fn report(self) -> Report {
        let lines = self
            .cells
            .into_par_iter()
            .map(|((metric, _, group), cell)| Line {
                metric,
                group,
                refused: cell.refused,
                errors: Errors::of(&cell.predicted),
                ideal: Errors::of(&cell.ideal),
            })
            .collect();
        Report { lines, refused: self.refused }
    }
}
