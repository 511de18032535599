//! A range of points, priced: which are kept, their results, and how many were dropped for which reason.

use std::sync::atomic::Ordering;

use rayon::prelude::*;
use roofline_core::batch::BLOCK;
use roofline_core::table::Table;
use roofline_sim::engine::Monitor;

use super::ask::Ask;
use super::dropped::Dropped;
use super::grid::Ranges;
use super::keep::Keep;
use super::part::{Part, Piece};
use super::space::Space;
use crate::deployed::{Deployed, at_desk};
use crate::error::{Error, Result};
use crate::results::Wanted;

/// Points that one thread prices at a stretch, at least: whole blocks, so that what a block shares is shared on any number
/// of threads.
const PIECE: u64 = 32 * BLOCK as u64;
/// As many at most: columns of a part are then some hundred kilobytes each.
const LARGEST: u64 = 8 * PIECE;
/// Into so many pieces a range is cut, where they stay between the two: many enough that no core waits long for the last.
const PIECES: u64 = 32;

/// What came of a range of points.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// What was kept, part by part, in order; small neighbours together.
    pub parts: Vec<Part>,
    /// What was dropped.
    pub dropped: Dropped,
}

/// Prices points `from..to` and keeps what is asked for.
///
/// Each piece of a deployment is priced into columns of its own, which stay where they are: to put together columns of
/// millions of rows takes as long as to price them.
///
/// # Errors
/// A range beyond the space; an interruption by way of `monitor`, which also counts the points done.
pub fn read(space: &Space, from: u64, to: u64, ask: &Ask, monitor: &Monitor) -> Result<Swept> {
    if from > to || to > space.points() {
        let must = format!("must lie within the {} points of the space", space.points());
        return Err(roofline_core::error::Error::spec("points", must, format!("{from}..{to}"), "").into());
    }
    let piece = ((to - from) / PIECES).next_power_of_two().clamp(PIECE, LARGEST);
    let reading = Reading { space, ask, needed: ask.needed(), piece, monitor };
    let each = space.points_a_deployment();
    let deployments: Vec<(u64, u64)> = Ranges { from, to, each }.collect();
    let parts = deployments.into_par_iter().map(|(from, to)| reading.deployment(from, to));
    let mut parts = together(parts.collect::<Result<_>>()?, ask);
    let mut dropped = Dropped::default();
    parts.iter_mut().for_each(|part| dropped.append(&std::mem::take(&mut part.dropped)));
    Ok(Swept { parts, dropped })
}

/// What every part of a range is read by.
struct Reading<'a> {
    space: &'a Space,
    ask: &'a Ask,
    needed: Wanted,
    /// Points of a piece.
    piece: u64,
    monitor: &'a Monitor,
}

impl Reading<'_> {
    /// Points of one deployment.
    fn deployment(&self, from: u64, to: u64) -> Result<Vec<Part>> {
        let deployed = match possible(self.space, from, self.ask) {
            Ok(deployed) => deployed,
            Err((reason, example)) => {
                let mut part = Part::room(self.needed, 0);
                part.leave_out(self.ask, from..to, &reason, || example);
                self.monitor.done.fetch_add(to - from, Ordering::Relaxed);
                return Ok(vec![part]);
            }
        };
        let pieces: Vec<(u64, u64)> = Ranges { from, to, each: self.piece }.collect();
        let parts =
            pieces.into_par_iter().map(|(from, to)| self.price(&deployed, from, to).map(|part| vec![part]));
        Ok(together(parts.collect::<Result<_>>()?, self.ask))
    }

    fn price(&self, deployed: &Deployed, from: u64, to: u64) -> Result<Part> {
        if self.monitor.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let mut part = at_desk(|desk, block| {
            Piece::new(self.space, deployed, self.ask, self.needed, (desk, block)).price(from, to)
        });
        part.narrow(&self.ask.keep);
        self.monitor.done.fetch_add(to - from, Ordering::Relaxed);
        Ok(part)
    }
}

/// Parts that follow one another, small neighbours put together; where only the best rows are kept, the best of them all.
fn together(parts: Vec<Vec<Part>>, ask: &Ask) -> Vec<Part> {
    let mut done: Vec<Part> = Vec::new();
    for part in parts.into_iter().flatten() {
        match done.last_mut() {
            Some(last) if ask.keep.picks() || last.points.len() + part.points.len() <= PIECE as usize => {
                last.append(part);
            }
            _ => done.push(part),
        }
    }
    done.iter_mut().for_each(|part| part.narrow(&ask.keep));
    done
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
    /// How many points were kept.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.points.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tables of the kept points, one a part and at least one: the axes named (all that were given if `None`), then the
    /// wanted results.
    ///
    /// # Errors
    /// An axis that the space does not have.
    pub fn tables(self, space: &Space, axes: Option<&[String]>, ask: &Ask) -> Result<Vec<Table>> {
        let mut parts = self.parts;
        if parts.is_empty() {
            parts.push(Part::default());
        }
        parts.into_par_iter().map(|part| part.table(space, axes, ask)).collect()
    }
}
