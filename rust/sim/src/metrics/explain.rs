//! Why the slowest requests took so long: what they waited for, how long they were worked on, and what bound that.

use roofline_core::error::Result;
use roofline_core::names;
use roofline_core::table::{Column, Table};
use rustc_hash::FxHashMap;

use super::account::{Meter, Split, kind_names};
use super::journal::{Journal, Moments, Stretch};
use super::requests::Requests;
use super::times::{Setback, Times, setbacks};
use crate::pages::Pages;
use crate::scheduler::config::{EngineConfig, Limits};
use crate::scheduler::rules::Rules;
use crate::time::{Ticks, tick_seconds};

/// By which figure requests are slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slowness {
    /// Arrival to last token.
    #[default]
    E2e,
    /// Arrival to first token.
    Ttft,
    /// Time per output token after the first.
    Tpot,
}

impl Slowness {
    /// The figure of that name.
    ///
    /// # Errors
    /// An unknown name, with the known ones.
    pub fn parse(name: &str) -> Result<Slowness> {
        match names::normalise(name).as_str() {
            "e2e" | "e2el" => Ok(Slowness::E2e),
            "ttft" => Ok(Slowness::Ttft),
            "tpot" => Ok(Slowness::Tpot),
            _ => Err(names::unknown("latency metric", name, ["e2e", "ttft", "tpot"])),
        }
    }

    fn of(self, requests: &Requests, row: usize) -> Option<f64> {
        match self {
            Slowness::E2e => requests.e2e_s(row),
            Slowness::Ttft => requests.ttft_s(row),
            Slowness::Tpot => requests.tpot_s(row),
        }
    }
}

/// What a waiting request waited for; the parts add up to its waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waited {
    /// The end of steps that were decided before it came, or in which no prompt may begin.
    pub step: Ticks,
    /// A place among those who run.
    pub slots: Ticks,
    /// Room among the tokens of a step: taken by others, or less than it needs at once.
    pub tokens: Ticks,
    /// KV blocks.
    pub blocks: Ticks,
}

/// What may keep a request of an engine waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct Hindrances {
    limits: Limits,
    /// Tokens a step may process, prompts' and answers'.
    tokens: u64,
    /// Whether nobody joins a batch that runs.
    batches: bool,
    /// Whether steps pass in which no prompt may begin.
    intervals: bool,
    /// Free blocks that hold the longest request.
    enough_blocks: u32,
    usable_blocks: u32,
}

impl Hindrances {
    /// Those of an engine whose longest request has so many tokens.
    ///
    /// # Errors
    /// Settings no engine could start with.
    pub fn of(engine: &EngineConfig, longest: u32) -> Result<Hindrances> {
        let limits = engine.limits()?;
        let tokens = engine.max_num_scheduled_tokens.unwrap_or(u32::MAX).min(limits.tokens);
        let slots = longest.min(limits.model_len).saturating_add(limits.lookahead);
        Ok(Hindrances {
            tokens: u64::from(tokens),
            batches: engine.rules == Rules::Static,
            intervals: engine.prefill_schedule_interval > 1,
            enough_blocks: slots.div_ceil(engine.block_size.max(1)).saturating_add(limits.watermark_blocks),
            usable_blocks: engine.num_gpu_blocks.saturating_sub(1),
            limits,
        })
    }

    /// Why nobody more was admitted in these steps, and where that time is booked.
    fn reason<'a>(&self, stretch: Option<&Stretch>, waited: &'a mut Waited) -> &'a mut Ticks {
        let Some(note) = stretch.map(|stretch| &stretch.note).filter(|note| note.waiting > 0) else {
            return &mut waited.step;
        };
        let inputs = |each: u32| note.steps * u64::from(note.sequences) * u64::from(each);
        let full = |tokens: u64, most: u64| tokens >= note.steps * most;
        if note.preempted > 0 {
            &mut waited.blocks
        } else if note.running >= self.limits.running || self.batches {
            &mut waited.slots
        } else if full(note.scheduled_tokens, self.tokens)
            || full(
                note.scheduled_tokens + inputs(self.limits.draft_slots),
                u64::from(self.limits.step_tokens),
            )
        {
            &mut waited.tokens
        } else if self.usable_blocks.saturating_sub(note.used_last) < self.enough_blocks {
            &mut waited.blocks
        } else if self.intervals {
            &mut waited.step
        } else {
            &mut waited.tokens
        }
    }
}

/// One slow request.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// Its row of the trace.
    pub row: u32,
    /// The replica that served it.
    pub replica: u32,
    /// Its time by phase.
    pub times: Times,
    /// Requests that had come before it and still waited.
    pub ahead: u64,
    /// What it waited for.
    pub waited: Waited,
    /// What bound the engine while it waited.
    pub meanwhile: Split,
}

/// The `count` slowest requests that finished, slowest first. Needs journals with stretches.
pub fn slowest(
    requests: &Requests,
    journals: &[Journal],
    limits: &Hindrances,
    origin: Ticks,
    outside: Ticks,
    (count, by): (usize, Slowness),
) -> Vec<Explained> {
    let mut rows: Vec<(u32, f64)> = (0..requests.len())
        .filter(|&row| requests.finish_s[row].is_some())
        .filter_map(|row| by.of(requests, row).map(|seconds| (row as u32, seconds)))
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    rows.truncate(count);
    let chosen: FxHashMap<u32, usize> =
        rows.iter().enumerate().map(|(rank, &(row, _))| (row, rank)).collect();
    let mut found: Vec<(usize, Explained)> = Vec::new();
    for (replica, journal) in journals.iter().enumerate() {
        let meter = Meter::new(journal, origin);
        let setbacks = setbacks(journal, |row| journal.moments_of(row)?.finish);
        for (&row, moments) in journal.rows.iter().zip(&journal.moments) {
            let Some(&rank) = chosen.get(&row) else { continue };
            let of_one = setbacks.get(&row).map_or(&[][..], Vec::as_slice);
            let Some(times) = Times::of(moments, of_one, &meter) else { continue };
            let times = Times { outside, ..times };
            let (waited, meanwhile) = waiting(journal, &meter, limits, moments, of_one);
            let ahead = ahead(journal, moments);
            found.push((rank, Explained { row, replica: replica as u32, times, ahead, waited, meanwhile }));
        }
    }
    found.sort_by_key(|&(rank, _)| rank);
    found.into_iter().map(|(_, explained)| explained).collect()
}

/// Requests of the replica that had come before and were not scheduled yet.
fn ahead(journal: &Journal, own: &Moments) -> u64 {
    let earlier = journal.moments.iter().filter(|other| {
        let waits = other.scheduled.map_or(other.waits, |scheduled| scheduled > own.arrival);
        other.arrival < own.arrival && waits
    });
    earlier.count() as u64
}

fn waiting(
    journal: &Journal,
    meter: &Meter<'_>,
    limits: &Hindrances,
    moments: &Moments,
    setbacks: &[Setback],
) -> (Waited, Split) {
    let (mut waited, mut meanwhile) = (Waited::default(), Split::default());
    let queue = moments.scheduled.map(|scheduled| (moments.arrival, scheduled));
    for (from, to) in queue.into_iter().chain(setbacks.iter().map(|back| (back.from, back.runs))) {
        meanwhile.add(&meter.between(from, to));
        held(&journal.stretches, limits, from, to, &mut waited);
    }
    (waited, meanwhile)
}

/// What stood in the way from `from` to `to`: as each call of the scheduler found it, until the next one.
fn held(stretches: &Pages<Stretch>, limits: &Hindrances, from: Ticks, to: Ticks, waited: &mut Waited) {
    let mut place = stretches.partition_point(|stretch| stretch.note.start <= from);
    let mut now = from;
    if let Some(under_way) = place.checked_sub(1).map(|before| &stretches[before]) {
        let until = stretches.get(place).map_or(to, |next| next.note.start.min(to));
        let goes_on =
            under_way.note.start == from || (under_way.note.steps > 1 && under_way.note.waiting > 0);
        *limits.reason(goes_on.then_some(under_way), waited) += until - now;
        now = until;
    }
    while now < to {
        let next = stretches.get(place + 1).map_or(to, |next| next.note.start.min(to));
        let known = stretches.get(place).filter(|stretch| stretch.note.start <= now);
        // Before the first step nothing but its decision is missing.
        let until = if known.is_none() {
            stretches.get(place).map_or(to, |first| first.note.start.min(to))
        } else {
            next
        };
        *limits.reason(known, waited) += until - now;
        place += usize::from(known.is_some());
        now = until;
    }
}

/// One row a request: its time by phase, what it waited for, and what bound the engine then and while it ran.
pub fn to_table(requests: &Requests, slowest: &[Explained]) -> Table {
    let f64s = |of: &dyn Fn(&Explained) -> f64| Column::F64(slowest.iter().map(of).collect());
    let seconds = |of: &dyn Fn(&Explained) -> Ticks| f64s(&|one| tick_seconds(of(one)));
    let known = |of: &dyn Fn(usize) -> Option<f64>| {
        Column::OptF64(slowest.iter().map(|one| of(one.row as usize)).collect())
    };
    let counts = |column: &[u32]| Column::U32(slowest.iter().map(|one| column[one.row as usize]).collect());
    let names = kind_names();
    let bound = |of: &dyn Fn(&Explained) -> Split| {
        Column::OptStr(
            slowest.iter().map(|one| of(one).largest().map(|kind| names[kind].to_string())).collect(),
        )
    };
    let ids: Vec<String> = slowest.iter().map(|one| requests.id(one.row as usize)).collect();
    Table::new()
        .with("request_id", Column::Texts(ids.iter().collect()))
        .with("row", Column::U32(slowest.iter().map(|one| one.row).collect()))
        .with("replica", Column::U32(slowest.iter().map(|one| one.replica).collect()))
        .with("prompt_tokens", counts(&requests.prompt_tokens))
        .with("output_tokens", counts(&requests.output_tokens))
        .with("cached_tokens", counts(&requests.cached_tokens))
        .with("preemptions", counts(&requests.preemptions))
        .with("ttft_s", known(&|row| requests.ttft_s(row)))
        .with("tpot_s", known(&|row| requests.tpot_s(row)))
        .with("e2e_s", seconds(&|one| one.times.total()))
        .with("queue_s", seconds(&|one| one.times.queue))
        .with("prefill_s", seconds(&|one| one.times.prefill))
        .with("decode_s", seconds(&|one| one.times.decode))
        .with("preempted_s", seconds(&|one| one.times.preempted))
        .with("outside_s", seconds(&|one| one.times.outside))
        .with("ahead", Column::U64(slowest.iter().map(|one| one.ahead).collect()))
        .with("waited_for_step_s", seconds(&|one| one.waited.step))
        .with("waited_for_slots_s", seconds(&|one| one.waited.slots))
        .with("waited_for_tokens_s", seconds(&|one| one.waited.tokens))
        .with("waited_for_blocks_s", seconds(&|one| one.waited.blocks))
        .with("waiting_bound", bound(&|one| one.meanwhile))
        .with("running_bound", bound(&|one| one.times.running))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_figure_is_refused_with_the_known_ones() {
        let error = Slowness::parse("ttfb").unwrap_err();
        assert!(error.to_string().contains("no latency metric is called `ttfb`"), "{error}");
        assert!(error.hint().contains("ttft"), "{}", error.hint());
        let known = ["e2e", "E2EL", "ttft", "tpot"].map(|name| Slowness::parse(name).unwrap());
        assert_eq!(known, [Slowness::E2e, Slowness::E2e, Slowness::Ttft, Slowness::Tpot]);
    }
}
