//! Points of one deployment at a stretch: priced block by block, judged, and written to their share of the rows.

use std::ops::Range;

use roofline_core::batch::{BLOCK, Sizes};
use roofline_core::point::Question;
use roofline_core::table::{Column, Table};

use super::ask::Ask;
use super::axis::Setting;
use super::dropped::Dropped;
use super::grid::Ranges;
use super::keep::Keep;
use super::runs::Runs;
use super::space::Space;
use crate::deployed::{Deployed, Desk};
use crate::error::Result;
use crate::results::{Block, Measure, Results, Wanted};

/// Why points are dropped whose sequences do not fit.
pub(super) const DOES_NOT_FIT: &str = "does not fit in memory";

/// What came of points that follow one another.
#[derive(Debug, Clone, Default)]
pub struct Part {
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

impl Part {
    /// Nothing yet, but room for so many rows.
    pub(super) fn room(needed: Wanted, rows: usize) -> Part {
        Part { results: Results::room(needed, rows), ..Part::default() }
    }

    /// Drops points, or with [`Keep::All`] keeps them with the reason.
    pub(super) fn leave_out(
        &mut self,
        ask: &Ask,
        points: Range<u64>,
        reason: &str,
        example: impl FnOnce() -> String,
    ) {
        let count = points.end - points.start;
        if ask.keep == Keep::All {
            let place = self.place_of(reason);
            self.because(place, count as usize);
            self.results.push_unknown(count as usize);
            self.points.push(points);
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

    /// Notes why the next rows are impossible, by the reason's place; possible ones have none.
    fn because(&mut self, place: u32, rows: usize) {
        match self.reason.last_mut() {
            Some((last, more)) if *last == place => *more += rows,
            _ => self.reason.push((place, rows)),
        }
    }

    /// Appends what came of the points behind.
    pub(super) fn append(&mut self, other: Part) {
        let places: Vec<u32> = other.reasons.iter().map(|reason| self.place_of(reason)).collect();
        let place = |place: u32| places.get(place as usize).copied().unwrap_or(u32::MAX);
        other.reason.iter().for_each(|(reason, rows)| self.because(place(*reason), *rows));
        self.points.append(other.points);
        self.results.append(&other.results);
        self.dropped.append(&other.dropped);
    }

    /// The table of the kept points: the axes named (all that were given if `None`), then the wanted results.
    ///
    /// # Errors
    /// An axis that the space does not have.
    pub(super) fn table(self, space: &Space, axes: Option<&[String]>, ask: &Ask) -> Result<Table> {
        let mut table = Table::new();
        space.settings(&self.points, axes, &mut table)?;
        self.results.into_table(ask.wanted, &mut table);
        if ask.keep == Keep::All {
            table.push("reason", Column::name_runs(self.reason, self.reasons));
        }
        Ok(table)
    }

    /// Keeps only the best of its rows, where only those are asked for.
    pub(super) fn narrow(&mut self, keep: &Keep) {
        if !keep.picks() {
            return;
        }
        let rows = keep.pick(&self.results);
        if rows.len() < self.points.len() {
            self.results = self.results.take(&rows);
            let points: Vec<u64> = self.points.points().collect();
            self.points = rows.iter().map(|row| points[*row]).collect();
        }
    }
}

/// Points of one deployment while they are priced.
pub(super) struct Piece<'a> {
    space: &'a Space,
    deployed: &'a Deployed,
    ask: &'a Ask,
    needed: Wanted,
    /// Measures without which no point is kept.
    required: Wanted,
    desk: &'a mut Desk,
    block: &'a mut Block,
    columns: [[u64; BLOCK]; 5],
    /// The value that a whole column has, where that is so.
    constant: [Option<u64>; 5],
    /// The points of the block, neighbours together.
    runs: Vec<Range<u64>>,
    count: usize,
    question: Option<Question>,
    part: Part,
}

impl<'a> Piece<'a> {
    pub(super) fn new(
        space: &'a Space,
        deployed: &'a Deployed,
        ask: &'a Ask,
        needed: Wanted,
        (desk, block): (&'a mut Desk, &'a mut Block),
    ) -> Piece<'a> {
        Piece {
            space,
            deployed,
            ask,
            needed,
            required: ask.required(),
            desk,
            block,
            columns: [[0; BLOCK]; 5],
            constant: [Some(0); 5],
            runs: Vec::new(),
            count: 0,
            question: None,
            part: Part::default(),
        }
    }

    /// Prices points `from..to`, run by run: within a run only one size changes.
    pub(super) fn price(mut self, from: u64, to: u64) -> Part {
        self.part = Part::room(self.needed, (to - from) as usize);
        let (setting, values, zero) = self.space.run();
        let length = values.len() as u64;
        let running = match setting {
            Setting::BatchSize => 0,
            Setting::OutputLen => 2,
            Setting::PrefixLen => 3,
            Setting::Chunk => 4,
            _ => 1,
        };
        // Every value of a size is as possible as its first one, except that some questions refuse 0.
        let each = if zero && setting != Setting::PrefixLen { 1 } else { length };
        for (from, to) in (Ranges { from, to, each }) {
            let first = self.space.point(from);
            let start = (from % length) as usize;
            let run = &values[start..start + (to - from) as usize];
            if let Err(error) = first.check(&self.deployed.analyst().deployment().model) {
                self.flush();
                let reason = format!("{} is not possible", error.field());
                self.part.leave_out(self.ask, from..to, &reason, || error.to_string());
                continue;
            }
            let unknown = self.deployed.unknown(first.question).both(self.required);
            if let Some(measure) = unknown.each().next() {
                let reason = format!("{} is not known", measure.name());
                let why = || self.deployed.why_unknown(measure, first.question);
                self.part.leave_out(self.ask, from..to, &reason, why);
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
                let sizes =
                    [first.batch_size, first.input_len, first.output_len, first.prefix_len, first.chunk];
                for (place, (column, size)) in self.columns.iter_mut().zip(sizes).enumerate() {
                    if place == running {
                        column[range.clone()].copy_from_slice(&run[done..done + more]);
                    } else if self.constant[place] != Some(size) {
                        column[range.start..].fill(size);
                        self.constant[place] = (range.start == 0).then_some(size);
                    }
                }
                let start = from + done as u64;
                self.runs.push(start..start + more as u64);
                self.count += more;
                done += more;
                if self.count == BLOCK {
                    self.flush();
                }
            }
        }
        self.flush();
        self.part
    }

    /// Prices the block and writes what is kept of it.
    fn flush(&mut self) {
        let count = std::mem::take(&mut self.count);
        let (Some(question), true) = (self.question, count > 0) else { return };
        let [batch_size, input_len, output_len, prefix_len, chunk] =
            self.columns.each_ref().map(|column| &column[..count]);
        let sizes = Sizes { batch_size, input_len, output_len, prefix_len, chunk };
        self.deployed.price(question, &sizes, self.needed, self.desk, self.block);
        for measure in self.deployed.unknown(question).both(self.needed).each() {
            self.block.lane_mut(measure)[..count].fill(f64::NAN);
        }
        let runs = std::mem::take(&mut self.runs);
        if self.ask.keep == Keep::All {
            self.part.because(u32::MAX, count);
        }
        if self.ask.keep == Keep::All || self.all_hold(&runs, count) {
            self.part.results.push(self.block, count);
            runs.iter().for_each(|run| self.part.points.push(run.clone()));
        } else {
            let fits = &self.block.lane(Measure::Fits)[..count];
            let unfit = fits.iter().filter(|fits| **fits == 0.0).count() as u64;
            let first = fits.iter().position(|fits| *fits == 0.0).unwrap_or(0);
            let [batch_size, input_len, ..] = &self.columns;
            self.part.dropped.add(DOES_NOT_FIT, unfit, || {
                format!("batch_size {} at input_len {}", batch_size[first], input_len[first])
            });
            let points = runs.iter().flat_map(Clone::clone).enumerate();
            let kept: Vec<(usize, u64)> = points.filter(|(at, point)| self.holds(*at, *point)).collect();
            let places: Vec<usize> = kept.iter().map(|(at, _)| *at).collect();
            self.part.results.push_some(self.block, &places);
            kept.iter().for_each(|(_, point)| self.part.points.push(*point..point + 1));
        }
        self.runs = runs;
        self.runs.clear();
    }

    /// Whether every point of the block may stay.
    fn all_hold(&self, runs: &[Range<u64>], count: usize) -> bool {
        let all =
            |measure: Measure, holds: &dyn Fn(&[f64]) -> bool| holds(&self.block.lane(measure)[..count]);
        let fit = all(Measure::Fits, &|lane| lane.iter().fold(true, |all, fits| all & (*fits == 1.0)));
        let limits = &self.ask.limits;
        let held = limits.measures.iter().all(|limit| {
            all(limit.measure, &|lane| match limit.most {
                true => lane.iter().fold(true, |all, value| all & (*value <= limit.value)),
                false => lane.iter().fold(true, |all, value| all & (*value >= limit.value)),
            })
        });
        let short = || runs.iter().flat_map(Clone::clone).all(|point| self.too_long(point).is_none());
        fit && held && (!limits.within_context || short())
    }

    /// The context of a point and the most its model was made for, where it is longer.
    fn too_long(&self, point: u64) -> Option<(u64, u64)> {
        let context = self.space.point(point).context();
        self.space.model(point).max_context.filter(|most| context > *most).map(|most| (context, most))
    }

    /// Whether a point of the block may stay; counts it if not, unless it does not fit.
    fn holds(&mut self, at: usize, point: u64) -> bool {
        let lane = |measure: Measure| self.block.lane(measure)[at];
        let dropped = &mut self.part.dropped;
        if lane(Measure::Fits).is_nan() {
            dropped.add("techniques are not possible", 1, String::new);
            return false;
        }
        if lane(Measure::Fits) != 1.0 {
            return false;
        }
        let too_long = self.ask.limits.within_context.then(|| self.too_long(point)).flatten();
        if let Some((context, most)) = too_long {
            let name = &self.space.model(point).name;
            let example = || format!("{context} tokens, made for {most}: `{name}`");
            self.part.dropped.add("context is longer than the model was made for", 1, example);
            return false;
        }
        for limit in &self.ask.limits.measures {
            let value = lane(limit.measure);
            let held = if limit.most { value <= limit.value } else { value >= limit.value };
            if !held {
                let side = if limit.most { "most" } else { "least" };
                let reason = format!("{} must be at {side} {}", limit.measure.name(), limit.value);
                self.part.dropped.add(&reason, 1, || format!("{reason}: {value}"));
                return false;
            }
        }
        true
    }
}
