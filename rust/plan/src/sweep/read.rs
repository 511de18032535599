//! A range of points, priced: which are kept, their results, and how many were dropped for which reason.

use std::sync::atomic::Ordering;

use rayon::prelude::*;
use roofline_core::batch::{BLOCK, Sizes};
use roofline_core::point::Question;
use roofline_core::table::{Column, Table};
use roofline_sim::engine::Monitor;

use super::axis::Setting;
use super::dropped::Dropped;
use super::keep::Keep;
use super::space::Space;
use crate::deployed::{Deployed, Desk};
use crate::error::{Error, Result};
use crate::results::{Block, Measure, Results, Wanted};

/// Points that one thread prices at a stretch.
const PIECE: u64 = 32 * BLOCK as u64;

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

/// What came of a range of points.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// The points that are kept, ascending.
    pub points: Vec<u64>,
    /// Their results.
    pub results: Results,
    /// For each, why it is impossible, as its place among `reasons`; only with [`Keep::All`].
    pub reason: Vec<u32>,
    /// Reasons by place.
    pub reasons: Vec<String>,
    /// What was dropped.
    pub dropped: Dropped,
}

impl Ask {
    /// Measures that must be known to answer.
    fn needed(&self) -> Wanted {
        let mut needed = self.keep.needs(self.wanted);
        if self.keep != Keep::All {
            needed = needed.and(Measure::Fits);
        }
        self.limits.measures.iter().fold(needed, |needed, limit| needed.and(limit.measure))
    }
}

/// Prices points `from..to` and keeps what is asked for.
///
/// # Errors
/// A range beyond the space; an interruption by way of `monitor`, which also counts the points done.
pub fn read(space: &Space, from: u64, to: u64, ask: &Ask, monitor: &Monitor) -> Result<Swept> {
    if from > to || to > space.points() {
        let must = format!("must lie within the {} points of the space", space.points());
        return Err(roofline_core::error::Error::spec("points", must, format!("{from}..{to}"), "").into());
    }
    let each = space.points_a_deployment();
    let needed = ask.needed();
    let deployments: Vec<(u64, u64)> = Ranges { from, to, each }.collect();
    let parts = deployments.into_par_iter().map(|(from, to)| -> Result<Swept> {
        let mut swept = Swept::default();
        let deployed = match possible(space, from, ask) {
            Ok(deployed) => deployed,
            Err((reason, example)) => {
                swept.leave_out(ask, needed, from..to, &reason, || example);
                monitor.done.fetch_add(to - from, Ordering::Relaxed);
                return Ok(swept);
            }
        };
        let pieces: Vec<(u64, u64)> = Ranges { from, to, each: PIECE }.collect();
        let priced = pieces.into_par_iter().map(|(from, to)| -> Result<Swept> {
            if monitor.cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let mut swept = Piece::new(space, &deployed, ask, needed).price(from, to);
            swept.narrow(&ask.keep);
            monitor.done.fetch_add(to - from, Ordering::Relaxed);
            Ok(swept)
        });
        for part in priced.collect::<Vec<_>>() {
            swept.append(part?);
        }
        Ok(swept)
    });
    let mut swept = Swept::default();
    for part in parts.collect::<Vec<_>>() {
        swept.append(part?);
    }
    swept.narrow(&ask.keep);
    Ok(swept)
}

/// The parts of `from..to`, cut at multiples of `each`.
struct Ranges {
    from: u64,
    to: u64,
    each: u64,
}

impl Iterator for Ranges {
    type Item = (u64, u64);
    fn next(&mut self) -> Option<(u64, u64)> {
        let start = self.from;
        self.from = (start / self.each + 1).saturating_mul(self.each).min(self.to);
        (start < self.to).then_some((start, self.from))
    }
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
        return Err((DOES_NOT_FIT.to_string(), example));
    }
    Ok(deployed)
}

/// Why points are dropped whose sequences do not fit.
const DOES_NOT_FIT: &str = "does not fit in memory";

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
            table.push("reason", Column::Names(self.reason, self.reasons));
        }
        Ok(table)
    }

    fn leave_out(
        &mut self,
        ask: &Ask,
        needed: Wanted,
        points: std::ops::Range<u64>,
        reason: &str,
        example: impl FnOnce() -> String,
    ) {
        let count = points.end - points.start;
        if ask.keep == Keep::All {
            self.results.append_unknown(needed, count as usize);
            self.points.extend(points);
            let place = self.place_of(reason);
            self.reason.resize(self.points.len(), place);
        }
        self.dropped.add(reason, count, example);
    }

    fn place_of(&mut self, reason: &str) -> u32 {
        let known = self.reasons.iter().position(|known| known == reason);
        known.unwrap_or_else(|| {
            self.reasons.push(reason.to_string());
            self.reasons.len() - 1
        }) as u32
    }

    fn append(&mut self, other: Swept) {
        if self.points.is_empty() && self.reasons.is_empty() {
            let dropped = std::mem::take(&mut self.dropped);
            *self = other;
            self.dropped.append(&dropped);
            return;
        }
        let places: Vec<u32> = other.reasons.iter().map(|reason| self.place_of(reason)).collect();
        let place = |place: u32| places.get(place as usize).copied().unwrap_or(u32::MAX);
        self.reason.extend(other.reason.into_iter().map(place));
        self.points.extend(other.points);
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
            self.points = rows.iter().map(|row| self.points[*row]).collect();
        }
    }
}

/// Points of one deployment while they are priced.
struct Piece<'a> {
    space: &'a Space,
    deployed: &'a Deployed,
    ask: &'a Ask,
    needed: Wanted,
    desk: Desk,
    block: Block,
    columns: [[u64; BLOCK]; 5],
    points: [u64; BLOCK],
    count: usize,
    question: Option<Question>,
    swept: Swept,
}

impl<'a> Piece<'a> {
    fn new(space: &'a Space, deployed: &'a Deployed, ask: &'a Ask, needed: Wanted) -> Piece<'a> {
        Piece {
            space,
            deployed,
            ask,
            needed,
            desk: Desk::default(),
            block: Block::default(),
            columns: [[0; BLOCK]; 5],
            points: [0; BLOCK],
            count: 0,
            question: None,
            swept: Swept::default(),
        }
    }

    /// Prices points `from..to`, run by run: within a run only one size changes.
    fn price(mut self, from: u64, to: u64) -> Swept {
        let (setting, values) = self.space.run();
        let length = values.len() as u64;
        // Every value of a size is as possible as its first one, except that some questions refuse 0.
        let each = if values.contains(&0) && setting != Setting::PrefixLen { 1 } else { length };
        let runs = Ranges { from, to, each };
        for (from, to) in runs {
            let first = self.space.point(from);
            let start = (from % length) as usize;
            let run = &values[start..start + (to - from) as usize];
            if let Err(error) = first.check(&self.deployed.analyst().deployment().model) {
                self.flush();
                let reason = format!("{} is not possible", error.field());
                self.swept.leave_out(self.ask, self.needed, from..to, &reason, || error.to_string());
                continue;
            }
            if self.question != Some(first.question) {
                self.flush();
                self.question = Some(first.question);
            }
            let mut done = 0;
            while done < run.len() {
                let more = (run.len() - done).min(BLOCK - self.count);
                let range = self.count..self.count + more;
                let [batch_size, input_len, output_len, prefix_len, chunk] = &mut self.columns;
                batch_size[range.clone()].fill(first.batch_size);
                input_len[range.clone()].fill(first.input_len);
                output_len[range.clone()].fill(first.output_len);
                prefix_len[range.clone()].fill(first.prefix_len);
                chunk[range.clone()].fill(first.chunk);
                let running = match setting {
                    Setting::BatchSize => batch_size,
                    Setting::OutputLen => output_len,
                    Setting::PrefixLen => prefix_len,
                    Setting::Chunk => chunk,
                    _ => input_len,
                };
                running[range.clone()].copy_from_slice(&run[done..done + more]);
                let start = from + done as u64;
                self.points[range].iter_mut().zip(start..).for_each(|(place, point)| *place = point);
                self.count += more;
                done += more;
                if self.count == BLOCK {
                    self.flush();
                }
            }
        }
        self.flush();
        self.swept
    }

    /// Prices the block and appends what is kept of it.
    fn flush(&mut self) {
        let count = std::mem::take(&mut self.count);
        let (Some(question), true) = (self.question, count > 0) else { return };
        let [batch_size, input_len, output_len, prefix_len, chunk] =
            self.columns.each_ref().map(|column| &column[..count]);
        let sizes = Sizes { batch_size, input_len, output_len, prefix_len, chunk };
        self.deployed.price(question, &sizes, self.needed, &mut self.desk, &mut self.block);
        if self.ask.keep == Keep::All {
            self.swept.results.append_block(self.needed, &self.block, count);
            self.swept.points.extend_from_slice(&self.points[..count]);
            self.swept.reason.resize(self.swept.points.len(), u32::MAX);
            return;
        }
        let kept: Vec<usize> = (0..count).filter(|at| self.holds(*at)).collect();
        if kept.len() == count {
            self.swept.results.append_block(self.needed, &self.block, count);
            self.swept.points.extend_from_slice(&self.points[..count]);
        } else {
            self.swept.results.append_some(self.needed, &self.block, &kept);
            self.swept.points.extend(kept.iter().map(|at| self.points[*at]));
        }
    }

    /// Whether a point of the block may stay; counts it if not.
    fn holds(&mut self, at: usize) -> bool {
        let lane = |measure: Measure| self.block.lane(measure)[at];
        if lane(Measure::Fits).is_nan() {
            self.swept.dropped.add("techniques are not possible", 1, String::new);
            return false;
        }
        if lane(Measure::Fits) != 1.0 {
            self.swept.dropped.add(DOES_NOT_FIT, 1, || {
                format!("batch_size {} at input_len {}", self.columns[0][at], self.columns[1][at])
            });
            return false;
        }
        if self.ask.limits.within_context {
            let model = self.space.model(self.points[at]);
            let context = self.space.point(self.points[at]).context();
            if let Some(most) = model.max_context.filter(|most| context > *most) {
                let example = || format!("{context} tokens, made for {most}: `{}`", model.name);
                self.swept.dropped.add("context is longer than the model was made for", 1, example);
                return false;
            }
        }
        for limit in &self.ask.limits.measures {
            let value = lane(limit.measure);
            let held = if limit.most { value <= limit.value } else { value >= limit.value };
            if !held {
                let side = if limit.most { "most" } else { "least" };
                let reason = format!("{} must be at {side} {}", limit.measure.name(), limit.value);
                self.swept.dropped.add(&reason, 1, || format!("{reason}: {value}"));
                return false;
            }
        }
        true
    }
}
