//! A range of points, priced: which are kept, their results, and how many were dropped for which reason.

use std::sync::atomic::Ordering;

use rayon::prelude::*;
use roofline_core::table::{Column, Table};
use roofline_sim::engine::Monitor;

use super::ask::Ask;
use super::dropped::Dropped;
use super::grid::Ranges;
use super::keep::Keep;
use super::part::{Part, Piece};
use super::runs::Runs;
use super::space::Space;
use crate::deployed::{Deployed, at_desk};
use crate::error::{Error, Result};
use crate::results::{Results, Rows, Wanted};

/// Points that one thread prices at a stretch: whole blocks, so that what a block shares is shared on any number of threads.
const PIECE: u64 = 32 * roofline_core::batch::BLOCK as u64;

/// What came of a range of points.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// The points that are kept.
    pub points: Runs,
    /// Their results.
    pub results: Results,
    /// Why neighbours among them are impossible, as a place among `reasons`; only with [`Keep::All`].
    pub reason: Vec<(u32, usize)>,
    /// Reasons by place.
    pub reasons: Vec<String>,
    /// What was dropped.
    pub dropped: Dropped,
}

/// Prices points `from..to` and keeps what is asked for.
///
/// Rows of results are written where they stay: each deployment, and each piece of it, has its share of the columns.
///
/// # Errors
/// A range beyond the space; an interruption by way of `monitor`, which also counts the points done.
pub fn read(space: &Space, from: u64, to: u64, ask: &Ask, monitor: &Monitor) -> Result<Swept> {
    if from > to || to > space.points() {
        let must = format!("must lie within the {} points of the space", space.points());
        return Err(roofline_core::error::Error::spec("points", must, format!("{from}..{to}"), "").into());
    }
    let reading = Reading { space, ask, needed: ask.needed(), monitor };
    let mut swept = if matches!(ask.keep, Keep::Pareto(_) | Keep::TopK(..)) {
        reading.best(from, to)?
    } else {
        reading.whole(from, to)?
    };
    swept.narrow(&ask.keep);
    Ok(swept)
}

/// What every part of a range is read by.
struct Reading<'a> {
    space: &'a Space,
    ask: &'a Ask,
    needed: Wanted,
    monitor: &'a Monitor,
}

impl Reading<'_> {
    /// Every row that may stay, in one piece of memory.
    fn whole(&self, from: u64, to: u64) -> Result<Swept> {
        let mut results = Results::room(self.needed, (to - from) as usize);
        let each = self.space.points_a_deployment();
        let deployments = shares(Ranges { from, to, each }, results.rows_mut(self.needed));
        let parts = deployments.into_par_iter().map(|(from, to, rows)| -> Result<Vec<Part>> {
            let deployed = match possible(self.space, from, self.ask) {
                Ok(deployed) => deployed,
                Err((reason, example)) => return Ok(vec![self.impossible(from, to, &reason, example)]),
            };
            let pieces = shares(Ranges { from, to, each: PIECE }, rows);
            let price = |(from, to, rows)| self.price(&deployed, from, to, rows);
            pieces.into_par_iter().map(price).collect()
        });
        let parts: Vec<Part> = parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let written: Vec<_> =
            parts.iter().map(|part| (part.share, part.points.len(), part.unknown)).collect();
        results.close_up(self.needed, &written);
        let mut swept = Swept { results, ..Swept::default() };
        parts.into_iter().for_each(|part| swept.add(part));
        Ok(swept)
    }

    /// The best rows alone: of each piece, of each deployment, of all.
    fn best(&self, from: u64, to: u64) -> Result<Swept> {
        let each = self.space.points_a_deployment();
        let deployments: Vec<(u64, u64)> = Ranges { from, to, each }.collect();
        let best = deployments.into_par_iter().map(|(from, to)| -> Result<Swept> {
            let deployed = match possible(self.space, from, self.ask) {
                Ok(deployed) => deployed,
                Err((reason, example)) => {
                    let mut swept = Swept::default();
                    swept.add(self.impossible(from, to, &reason, example));
                    return Ok(swept);
                }
            };
            let pieces: Vec<(u64, u64)> = Ranges { from, to, each: PIECE }.collect();
            let priced = pieces.into_par_iter().map(|(from, to)| -> Result<Swept> {
                let mut results = Results::room(self.needed, (to - from) as usize);
                let part = self.price(&deployed, from, to, results.rows_mut(self.needed))?;
                results.close_up(self.needed, &[(part.share, part.points.len(), part.unknown)]);
                let mut swept = Swept { results: results.spelled_out(), ..Swept::default() };
                swept.add(part);
                swept.narrow(&self.ask.keep);
                Ok(swept)
            });
            together(priced.collect::<Result<_>>()?, &self.ask.keep)
        });
        together(best.collect::<Result<_>>()?, &self.ask.keep)
    }

    fn price(&self, deployed: &Deployed, from: u64, to: u64, rows: Rows<'_>) -> Result<Part> {
        if self.monitor.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let part = at_desk(|desk, block| {
            Piece::new(self.space, deployed, self.ask, self.needed, rows, (desk, block)).price(from, to)
        });
        self.monitor.done.fetch_add(to - from, Ordering::Relaxed);
        Ok(part)
    }

    /// Points whose deployment is impossible.
    fn impossible(&self, from: u64, to: u64, reason: &str, example: String) -> Part {
        let mut part = Part { share: (to - from) as usize, unknown: self.needed, ..Part::default() };
        part.leave_out(self.ask, from..to, reason, || example);
        self.monitor.done.fetch_add(to - from, Ordering::Relaxed);
        part
    }
}

/// The rows of each range.
fn shares(ranges: Ranges, rows: Rows<'_>) -> Vec<(u64, u64, Rows<'_>)> {
    let mut left = rows;
    let mut shares = Vec::new();
    for (from, to) in ranges {
        let (mine, others) = left.split((to - from) as usize);
        shares.push((from, to, mine));
        left = others;
    }
    shares
}

/// What ranges that follow one another left, and the best of it.
fn together(parts: Vec<Swept>, keep: &Keep) -> Result<Swept> {
    let mut swept = Swept::default();
    parts.into_iter().for_each(|part| swept.append(part));
    swept.narrow(keep);
    Ok(swept)
}

/// The first point from `from` on whose deployment is possible; the end of the space if there is none.
pub fn next_possible(space: &Space, from: u64, ask: &Ask) -> u64 {
    let mut point = from;
    while point < space.points() && possible(space, point, ask).is_err() {
        point = (point / space.points_a_deployment() + 1) * space.points_a_deployment();
    }
    point.min(space.points())
}

/// The deployment of a point, or the reason why there is none and an example of it.
fn possible(space: &Space, point: u64, ask: &Ask) -> Result<Deployed, (String, String)> {
    let gpus = space.layout(point).gpus();
    let must = |reason: &str| Err((reason.to_string(), format!("{reason}: {gpus}")));
    if let Some(most) = ask.limits.max_gpus.filter(|most| gpus > *most) {
        return must(&format!("gpus must be at most {most}"));
    }
    if let Some(least) = ask.limits.min_gpus.filter(|least| gpus < *least) {
        return must(&format!("gpus must be at least {least}"));
    }
    let deployed = space.deployed(point).map_err(|error| {
        let first = match &error {
            roofline_core::error::Error::Many { errors, .. } => errors.first().unwrap_or(&error),
            _ => &error,
        };
        (format!("{} is not possible", first.field()), first.to_string())
    })?;
    let memory = deployed.analyst().memory().with(0, 1, 0.0);
    if ask.keep != Keep::All && memory.for_kv <= 0.0 {
        // Not one sequence fits, whatever its sizes.
        let gib = |bytes: f64| bytes / roofline_core::units::GIB;
        let (weights, usable) = (gib(memory.weights), gib(memory.usable));
        let example = format!("{weights:.1} GiB of weights in {usable:.1} GiB");
        return Err((super::part::DOES_NOT_FIT.to_string(), example));
    }
    Ok(deployed)
}

impl Swept {
    /// The table of the kept points: the axes named (all that were given if `None`), then the wanted results.
    ///
    /// # Errors
    /// An axis that the space does not have.
    pub fn table(self, space: &Space, axes: Option<&[String]>, ask: &Ask) -> Result<Table> {
        let mut table = Table::new();
        space.settings(&self.points, axes, &mut table)?;
        self.results.into_table(ask.wanted, &mut table);
        if ask.keep == Keep::All {
            table.push("reason", Column::name_runs(self.reason, self.reasons));
        }
        Ok(table)
    }

    /// Appends a part, all but its results.
    fn add(&mut self, part: Part) {
        let places: Vec<u32> = part.reasons.iter().map(|reason| self.place_of(reason)).collect();
        let place = |place: u32| places.get(place as usize).copied().unwrap_or(u32::MAX);
        for (reason, rows) in part.reason {
            match self.reason.last_mut() {
                Some((last, more)) if *last == place(reason) => *more += rows,
                _ => self.reason.push((place(reason), rows)),
            }
        }
        self.points.append(part.points);
        self.dropped.append(&part.dropped);
    }

    fn place_of(&mut self, reason: &str) -> u32 {
        let known = self.reasons.iter().position(|known| known == reason);
        known.unwrap_or_else(|| {
            self.reasons.push(reason.to_string());
            self.reasons.len() - 1
        }) as u32
    }

    /// Appends what other points left, which has no reasons.
    fn append(&mut self, other: Swept) {
        self.points.append(other.points);
        self.results.append(&other.results);
        self.dropped.append(&other.dropped);
    }

    /// Keeps only what is asked for among the rows there are.
    fn narrow(&mut self, keep: &Keep) {
        if matches!(keep, Keep::All | Keep::Feasible) {
            return;
        }
        let rows = keep.pick(&self.results, self.points.len());
        if rows.len() < self.points.len() {
            self.results = self.results.take(&rows);
            let points: Vec<u64> = self.points.points().collect();
            self.points = rows.iter().map(|row| points[*row]).collect();
        }
    }
}
