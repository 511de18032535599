//! What a simulation tells beside its summary: stretches, a timeline, where requests' time went, why some were slow.

use std::io::{self, Write};

use roofline_core::cause::Causes;
use roofline_core::error::{Error, Result};
use roofline_core::table::{Column, Table};

use crate::metrics::account::{IDLE, Meter, Split, bound_of, kind_names};
use crate::metrics::explain::{self, Explained, Hindrances, Slowness};
use crate::metrics::journal::{Journal, Note, Stretch};
use crate::metrics::perfetto;
use crate::metrics::timeline::Timeline;
use crate::metrics::times::{Divider, Times};
use crate::run::Simulation;
use crate::scheduler::config::EngineConfig;
use crate::time::{Ticks, tick_seconds, ticks_in};

impl Simulation {
    /// When the first request arrived, and when the last thing happened.
    fn extent(&self) -> (Ticks, Ticks) {
        let moments = || self.journals.iter().flat_map(|journal| &journal.moments);
        let origin = moments().map(|of| of.arrival).min().unwrap_or(0);
        let last = moments().map(|of| of.finish.unwrap_or(of.arrival)).max().unwrap_or(origin);
        let stretches = self.journals.iter().filter_map(|journal| journal.stretches.last());
        (origin, stretches.map(|stretch| stretch.note.end).fold(last, Ticks::max))
    }

    fn needs_stretches(&self) -> Result<()> {
        if self.journals.iter().all(Journal::writes) {
            return Ok(());
        }
        Err(Error::spec(
            "record",
            "must keep stretches or steps",
            "summary",
            "simulate with record `stretches`",
        ))
    }

    /// In intervals of so many seconds: who ran and waited, what was processed, what bound it.
    ///
    /// # Errors
    /// A simulation that kept no stretches; an interval that is not positive, or gives too many rows.
    pub fn timeline(&self, interval_s: f64) -> Result<Timeline> {
        self.needs_stretches()?;
        Timeline::of(&self.journals, self.extent(), interval_s)
    }

    /// Where each request's time went; `None` where it did not finish.
    ///
    /// # Errors
    /// A simulation that kept no stretches.
    pub fn times(&self) -> Result<Vec<Option<Times>>> {
        Ok(self.divider()?.of(0..self.requests.len()))
    }

    /// The same, as many requests at a time as one likes.
    ///
    /// # Errors
    /// A simulation that kept no stretches.
    pub fn divider(&self) -> Result<Divider<'_>> {
        self.needs_stretches()?;
        Ok(Divider::new(&self.journals, self.extent().0, ticks_in(self.client.outside_s)))
    }

    /// The `count` slowest requests, and why.
    ///
    /// # Errors
    /// A simulation that kept no stretches; settings no engine could start with.
    pub fn explain(&self, engine: &EngineConfig, count: usize, by: Slowness) -> Result<Vec<Explained>> {
        self.needs_stretches()?;
        let both = self.requests.prompt_tokens.iter().zip(&self.requests.output_tokens);
        let longest = both.map(|(prompt, output)| prompt.saturating_add(*output)).max().unwrap_or(0);
        let limits = &Hindrances::of(engine, longest)?;
        let (origin, outside) = (self.extent().0, ticks_in(self.client.outside_s));
        Ok(explain::slowest(&self.requests, &self.journals, limits, origin, outside, (count, by)))
    }

    /// Writes a Chrome trace for Perfetto.
    ///
    /// # Errors
    /// Those of the writer; a simulation that kept no stretches.
    pub fn write_perfetto(&self, out: &mut impl Write) -> io::Result<()> {
        self.needs_stretches().map_err(io::Error::other)?;
        perfetto::write(out, &self.requests, &self.journals, self.extent().1)
    }

    /// All replicas' time from the first arrival to the end, by kind; it adds up to their number times that.
    ///
    /// # Errors
    /// A simulation that kept no stretches.
    pub fn time(&self) -> Result<Split> {
        self.needs_stretches()?;
        let (origin, end) = self.extent();
        let mut time = Split::default();
        for journal in &self.journals {
            time.add(&Meter::new(journal, origin).at(end));
        }
        // Replicas that nothing was sent to.
        time.0[IDLE] += (end - origin) * Ticks::from(self.replicas - self.journals.len() as u32);
        Ok(time)
    }

    /// Seconds of all replicas by kind, by the account that the steps' prices kept: busy ones in proportion to `spent`,
    /// the others idle. They add up to the replicas' time from the first arrival to the last token; of what is measured,
    /// if not everything is, to the time that is measured.
    pub fn bounds(&self, spent: &Causes) -> Vec<(&'static str, f64)> {
        let spent = self.window.as_ref().map_or(spent, |window| &window.epoch.spent);
        let (busy, idle) = self.measured_time();
        let mut split = Split::by_causes(busy, spent);
        split.0[IDLE] = idle;
        kind_names().into_iter().zip(split.seconds()).collect()
    }

    /// The same seconds by operator, in proportion to those of `spent`; `unattributed` where steps were not priced by
    /// operators.
    pub fn operators(&self, spent: Vec<(String, f64)>) -> Vec<(String, f64)> {
        let (busy, idle) = self.measured_time();
        let busy = tick_seconds(busy);
        let all: f64 = spent.iter().map(|(_, seconds)| seconds).sum();
        let mut seconds = match all > 0.0 {
            true => spent.into_iter().map(|(name, seconds)| (name, seconds / all * busy)).collect(),
            false => vec![("unattributed".to_string(), busy)],
        };
        seconds.push(("idle".to_string(), tick_seconds(idle)));
        seconds
    }

    /// Time of all replicas in steps, and between them: of what is measured, if not everything is. A step that outlasts
    /// the last token counts up to there.
    fn measured_time(&self) -> (Ticks, Ticks) {
        let totals = self.window.as_ref().map_or(&self.totals, |window| &window.epoch.totals);
        let (from_s, to_s) = self.span_s();
        let all = ticks_in((to_s - from_s) * f64::from(self.replicas));
        let busy = (totals.prefill + totals.decode + totals.mixed).min(all);
        (busy, all - busy)
    }

    /// How many stretches all replicas kept.
    pub fn count_stretches(&self) -> usize {
        self.journals.iter().map(|journal| journal.stretches.len()).sum()
    }

    /// Steps in stretches: one row for those in a row that hold the same requests and decode only, and for any other.
    ///
    /// # Errors
    /// A simulation that kept no stretches.
    pub fn stretches(&self) -> Result<Table> {
        let (table, _) = self.stretches_from(Mark::default(), usize::MAX)?;
        Ok(table)
    }

    /// The same, of `count` stretches from there on; and where the next ones begin.
    ///
    /// # Errors
    /// A simulation that kept no stretches.
    pub fn stretches_from(&self, from: Mark, count: usize) -> Result<(Table, Mark)> {
        self.needs_stretches()?;
        let rows: Vec<(usize, &Stretch)> = (self.journals.iter().enumerate().skip(from.replica))
            .flat_map(|(replica, journal)| {
                let first = if replica == from.replica { from.place } else { 0 };
                journal.stretches.from(first).map(move |stretch| (replica, stretch))
            })
            .take(count)
            .collect();
        let mut mark = from;
        let (mut first, mut free) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for &(replica, stretch) in &rows {
            if replica != mark.replica {
                mark = Mark { replica, ..Mark::default() };
            }
            first.push(mark.step);
            free.push(self.journals[replica].usable_blocks - stretch.note.used_last);
            (mark.place, mark.step) = (mark.place + 1, mark.step + stretch.note.steps.max(1));
        }
        let u64s = |of: fn(&Note) -> u64| Column::U64(rows.iter().map(|(_, row)| of(&row.note)).collect());
        let u32s = |of: fn(&Note) -> u32| Column::U32(rows.iter().map(|(_, row)| of(&row.note)).collect());
        let f64s = |of: fn(&Note) -> Ticks| {
            Column::F64(rows.iter().map(|(_, row)| tick_seconds(of(&row.note))).collect())
        };
        let nothing = kind_names().len() as u32;
        let bound = |stretch: &Stretch| bound_of(stretch).map_or(nothing, |kind| kind as u32);
        let bounds = rows.iter().map(|(_, stretch)| bound(stretch)).collect();
        let mut table = Table::new()
            .with("step", Column::U64(first))
            .with("steps", u64s(|row| row.steps))
            .with("start_s", f64s(|row| row.start))
            .with("end_s", f64s(|row| row.end))
            .with("sequences", u32s(|row| row.sequences))
            .with("scheduled_tokens", u64s(|row| row.scheduled_tokens))
            .with("prefill_tokens", u64s(|row| row.prefill_tokens))
            .with("context_tokens", u64s(|row| row.context_tokens))
            .with("running", u32s(|row| row.running))
            .with("waiting", u32s(|row| row.waiting))
            .with("free_blocks", Column::U32(free))
            .with("preempted", u32s(|row| row.preempted))
            .with("bound", Column::Names(bounds, kind_names().map(str::to_string).to_vec()));
        if self.journals.len() > 1 {
            table.push("replica", Column::U32(rows.iter().map(|(replica, _)| *replica as u32).collect()));
        }
        Ok((table, mark))
    }
}

/// A place among the stretches of all replicas.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    replica: usize,
    /// Stretches of the replica before it, and their steps.
    place: usize,
    step: u64,
}
