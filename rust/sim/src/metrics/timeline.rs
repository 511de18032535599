//! A simulation over time: in each interval who runs and waits, what is processed, and what bounds it.

use roofline_core::error::{Error, Result};
use roofline_core::table::{Column, Table};

use super::account::{IDLE, KINDS, Split, kind_names};
use super::journal::{Journal, Stretch};
use super::times::setbacks;
use crate::time::{Ticks, tick_seconds, ticks_in};

/// Most rows of a timeline.
pub const MOST_ROWS: i128 = 10_000_000;

/// What happened in one interval, all replicas together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Requests that arrived.
    pub arrived: u64,
    /// Requests that got their last token.
    pub finished: u64,
    /// Tokens of prompts processed, recomputed ones included, counted when their step is done.
    pub prefill_tokens: u64,
    /// Tokens of answers processed, counted when their step is done.
    pub decode_tokens: u64,
    /// Time by kind.
    pub spent: Split,
    /// Blocks in use times time.
    used: f64,
}

/// A simulation in intervals of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    interval: Ticks,
    first: Ticks,
    end: Ticks,
    rows: Vec<Row>,
    /// Running and waiting requests times time, for each row.
    running: Level,
    waiting: Level,
    /// Blocks that can be used, of all replicas.
    usable: f64,
}

impl Timeline {
    /// In intervals of `interval_s` seconds, from the one in which `origin` lies to the one in which `end` does. Needs
    /// journals with stretches.
    ///
    /// # Errors
    /// An interval that is not positive, or so short that there were more than [`MOST_ROWS`].
    pub fn of(journals: &[Journal], (origin, end): (Ticks, Ticks), interval_s: f64) -> Result<Timeline> {
        let wrong = |must: String| {
            Err(Error::spec("timeline_interval", must, interval_s, "seconds; for example 1, or 0.1"))
        };
        if !(interval_s.is_finite() && interval_s > 0.0) {
            return wrong("must be above 0 s".to_string());
        }
        let interval = ticks_in(interval_s).max(1);
        let first = origin.div_euclid(interval) * interval;
        let count = ((end - first + interval - 1) / interval).max(1);
        if count > MOST_ROWS {
            return wrong(format!(
                "must divide {} s into at most {MOST_ROWS} rows",
                tick_seconds(end - first)
            ));
        }
        let count = count as usize;
        let mut timeline = Timeline {
            interval,
            first,
            end,
            rows: vec![Row::default(); count],
            running: Level::new(count),
            waiting: Level::new(count),
            usable: 0.0,
        };
        for journal in journals {
            timeline.usable += f64::from(journal.usable_blocks);
            timeline.add_steps(journal, origin);
            timeline.add_requests(journal);
        }
        Ok(timeline)
    }

    /// The interval that a moment lies in, its end included.
    fn row_ending(&self, moment: Ticks) -> usize {
        let place = (moment - self.first - 1).div_euclid(self.interval).max(0) as usize;
        place.min(self.rows.len() - 1)
    }

    /// Hands `see` each row that a span touches, with the part of the span in it.
    fn spread(&mut self, from: Ticks, to: Ticks, mut see: impl FnMut(&mut Row, Ticks, Ticks)) {
        let mut now = from;
        while now < to {
            let place = (now - self.first).div_euclid(self.interval);
            let until = to.min(self.first + (place + 1) * self.interval);
            let place = (place.max(0) as usize).min(self.rows.len() - 1);
            see(&mut self.rows[place], now, until);
            now = until;
        }
    }

    fn add_steps(&mut self, journal: &Journal, origin: Ticks) {
        let mut now = origin;
        for stretch in &journal.stretches {
            self.idle(now, stretch.note.start);
            now = stretch.note.end;
            self.add_stretch(stretch);
        }
        self.idle(now, self.end);
    }

    fn idle(&mut self, from: Ticks, to: Ticks) {
        self.spread(from, to, |row, from, to| row.spent.0[IDLE] += to - from);
    }

    fn add_stretch(&mut self, stretch: &Stretch) {
        let (start, length) = (stretch.note.start, stretch.note.end - stretch.note.start);
        let steps = stretch.note.steps.max(1);
        let (prefill, decode) = (stretch.note.prefill_tokens / steps, stretch.note.decode_tokens() / steps);
        let end = self.row_ending(stretch.note.end);
        let own = Split::of(stretch);
        let (mut done, mut spent) = (0, Split::default());
        let used = |at: Ticks| {
            let (first, last) = (f64::from(stretch.note.used_first), f64::from(stretch.note.used_last));
            first + (last - first) * ((at - start) as f64 / length as f64)
        };
        self.spread(start, stretch.note.end, |row, from, to| {
            let by_now = if to == stretch.note.end { own } else { own.part(to - start, length) };
            row.spent.add(&by_now.since(&spent));
            spent = by_now;
            let steps_done = (steps as f64 * ((to - start) as f64 / length as f64)) as u64;
            let ended = if to == stretch.note.end { steps } else { steps_done.min(steps - 1) };
            row.prefill_tokens += (ended - done) * prefill;
            row.decode_tokens += (ended - done) * decode;
            done = ended;
            row.used += (used(from) + used(to)) / 2.0 * (to - from) as f64;
        });
        // A step that takes no time.
        self.rows[end].prefill_tokens += (steps - done) * prefill;
        self.rows[end].decode_tokens += (steps - done) * decode;
    }

    fn add_requests(&mut self, journal: &Journal) {
        let end = self.end;
        let setbacks = setbacks(journal, |row| journal.moments_of(row).map(|of| of.finish.unwrap_or(end)));
        for (row, moments) in journal.rows.iter().zip(&journal.moments) {
            let arrived = ((moments.arrival - self.first) / self.interval) as usize;
            let last = self.rows.len() - 1;
            self.rows[arrived.min(last)].arrived += 1;
            if let Some(finish) = moments.finish {
                let place = self.row_ending(finish);
                self.rows[place].finished += 1;
            }
            // One that was refused never waits.
            let Some(scheduled) = moments.scheduled else {
                if moments.waits {
                    self.add_level(false, moments.arrival, end);
                }
                continue;
            };
            self.add_level(false, moments.arrival, scheduled);
            let mut runs = scheduled;
            for setback in setbacks.get(row).map_or(&[][..], Vec::as_slice) {
                self.add_level(true, runs, setback.from);
                self.add_level(false, setback.from, setback.runs);
                runs = setback.runs;
            }
            self.add_level(true, runs, moments.finish.unwrap_or(end));
        }
    }

    fn add_level(&mut self, runs: bool, from: Ticks, to: Ticks) {
        let (from, to) = (from - self.first, to - self.first);
        let level = if runs { &mut self.running } else { &mut self.waiting };
        level.add(from, to, self.interval);
    }

    /// What happened in each interval.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Request-seconds spent running and waiting.
    pub fn request_seconds(&self) -> (f64, f64) {
        let sum = |level: &Level| level.sums(self.interval).iter().map(|&ticks| tick_seconds(ticks)).sum();
        (sum(&self.running), sum(&self.waiting))
    }

    /// The columns: means over each interval, counts in it, and shares of the replicas' time.
    pub fn to_table(&self) -> Table {
        let count = self.rows.len();
        let starts: Vec<Ticks> = (0..count).map(|row| self.first + row as Ticks * self.interval).collect();
        let ends: Vec<Ticks> =
            starts.iter().map(|start| (start + self.interval).min(self.end.max(*start))).collect();
        let widths: Vec<f64> = starts.iter().zip(&ends).map(|(start, end)| (end - start) as f64).collect();
        let per = |values: &dyn Fn(usize) -> f64| {
            let mean = |row: usize| if widths[row] > 0.0 { values(row) / widths[row] } else { 0.0 };
            Column::F64((0..count).map(mean).collect())
        };
        let counts = |value: &dyn Fn(&Row) -> u64| Column::U64(self.rows.iter().map(value).collect());
        let second = ticks_in(1.0) as f64;
        let (running, waiting) = (self.running.sums(self.interval), self.waiting.sums(self.interval));
        let replicas = |row: &Row| (row.spent.total() as f64).max(1.0);
        let mut table = Table::new()
            .with("start_s", Column::F64(starts.iter().map(|&at| tick_seconds(at)).collect()))
            .with("end_s", Column::F64(ends.iter().map(|&at| tick_seconds(at)).collect()))
            .with("arrived", counts(&|row| row.arrived))
            .with("finished", counts(&|row| row.finished))
            .with("running", per(&|row| running[row] as f64))
            .with("waiting", per(&|row| waiting[row] as f64))
            .with("kv_usage", per(&|row| self.rows[row].used / self.usable.max(1.0)))
            .with("prefill_tokens", counts(&|row| row.prefill_tokens))
            .with("decode_tokens", counts(&|row| row.decode_tokens))
            .with("prefill_tokens_per_s", per(&|row| self.rows[row].prefill_tokens as f64 * second))
            .with("decode_tokens_per_s", per(&|row| self.rows[row].decode_tokens as f64 * second));
        let names = kind_names();
        let bound = |row: &Row| row.spent.largest().map(|kind| names[kind].to_string());
        table.push("bound", Column::OptStr(self.rows.iter().map(bound).collect()));
        for (kind, name) in names.into_iter().enumerate().take(KINDS) {
            let share = |row: &Row| row.spent.0[kind] as f64 / replicas(row);
            table.push(name, Column::F64(self.rows.iter().map(share).collect()));
        }
        table
    }
}

/// A number that rises and falls over time, integrated over intervals.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level {
    /// What is added in a row alone.
    part: Vec<Ticks>,
    /// By how much the number that covers whole rows changes at the start of each.
    change: Vec<i64>,
}

impl Level {
    pub(super) fn new(rows: usize) -> Level {
        Level { part: vec![0; rows], change: vec![0; rows + 1] }
    }

    /// Adds one from `from` to `to`, both counted from the start of the first row.
    pub(super) fn add(&mut self, from: Ticks, to: Ticks, interval: Ticks) {
        if to <= from {
            return;
        }
        let last_row = self.part.len() as Ticks - 1;
        let (first, last) = ((from / interval).min(last_row), ((to - 1) / interval).min(last_row));
        if first == last {
            self.part[first as usize] += to - from;
            return;
        }
        self.part[first as usize] += (first + 1) * interval - from;
        self.part[last as usize] += to - last * interval;
        self.change[first as usize + 1] += 1;
        self.change[last as usize] -= 1;
    }

    /// The integral over each row.
    pub(super) fn sums(&self, interval: Ticks) -> Vec<Ticks> {
        let mut whole = 0;
        let rows = self.part.iter().zip(&self.change);
        rows.map(|(part, change)| {
            whole += Ticks::from(*change);
            part + whole * interval
        })
        .collect()
    }

    /// The same in intervals twice as long.
    pub(super) fn coarsened(&self, interval: Ticks) -> Level {
        let mut coarser = Level::new(self.part.len());
        for (place, sum) in self.sums(interval).into_iter().enumerate() {
            coarser.part[place / 2] += sum;
        }
        coarser
    }

    /// Adds another one of the same intervals.
    pub(super) fn append(&mut self, other: &Level) {
        self.part.iter_mut().zip(&other.part).for_each(|(mine, theirs)| *mine += theirs);
        self.change.iter_mut().zip(&other.change).for_each(|(mine, theirs)| *mine += theirs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_interval_must_be_positive_and_give_rows_that_fit() {
        let text = |end_s: f64, interval_s: f64| {
            Timeline::of(&[], (0, ticks_in(end_s)), interval_s).unwrap_err().to_string()
        };
        assert_eq!(text(1.0, 0.0), "timeline_interval must be above 0 s: 0");
        assert_eq!(text(1.0, f64::NAN), "timeline_interval must be above 0 s: NaN");
        let many = "timeline_interval must divide 1000 s into at most 10000000 rows: 0.000001";
        assert_eq!(text(1e3, 1e-6), many);
        assert_eq!(Timeline::of(&[], (0, 0), 1.0).unwrap().rows().len(), 1);
    }

    proptest! {
        #[test]
        fn a_level_integrates_to_what_was_added(
            spans in prop::collection::vec((0i128..1000, 0i128..1000), 0..30), interval in 1i128..300,
        ) {
            let mut level = Level::new(2000 / interval as usize + 1);
            let mut expected = 0;
            for &(from, length) in &spans {
                level.add(from, from + length, interval);
                expected += length;
            }
            prop_assert_eq!(level.sums(interval).iter().sum::<Ticks>(), expected);
            let of_one = |row: Ticks| -> Ticks {
                let (start, end) = (row * interval, (row + 1) * interval);
                spans.iter().map(|&(from, length)| ((from + length).min(end) - from.max(start)).max(0)).sum()
            };
            for (row, &sum) in level.sums(interval).iter().enumerate() {
                prop_assert_eq!(sum, of_one(row as Ticks));
            }
        }
    }
}
