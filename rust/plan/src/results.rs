//! The columns of results: their names and units, and how a block of them becomes a table.

use rayon::prelude::*;
use roofline_core::batch::BLOCK;
use roofline_core::names;
use roofline_core::roof::Bound;
use roofline_core::table::{Column, Constant, Table};

use crate::error::Result;

/// One result of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Seconds of a step, or of the whole request for chat.
    Step,
    /// The same by the datasheet alone.
    Ideal,
    /// P10 of it.
    Low,
    /// P90 of it.
    High,
    /// Seconds to the first token.
    Ttft,
    /// Seconds per output token.
    Tpot,
    /// Seconds of a request.
    E2e,
    /// Tokens a second and device.
    TokensPerGpu,
    /// Tokens a second that one sequence sees.
    TokensPerUser,
    /// What bounds most of the time, as its [`Bound`].
    Bound,
    /// FLOP per byte of device memory.
    Intensity,
    /// Bytes of weights on the busiest device.
    Weights,
    /// Bytes of its KV cache.
    Kv,
    /// Bytes in use ideally.
    Memory,
    /// Bytes in use as the engine allocates them.
    EngineMemory,
    /// Whether the sequences fit in the engine.
    Fits,
    /// Sequences of that context that fit in the engine.
    MaxConcurrency,
    /// Energy per token, J.
    Energy,
    /// USD per million tokens.
    Usd,
}

/// How many there are.
pub const COUNT: usize = 19;

impl Measure {
    /// Every measure, in the order of columns.
    pub const ALL: [Measure; COUNT] = [
        Measure::Step,
        Measure::Ideal,
        Measure::Low,
        Measure::High,
        Measure::Ttft,
        Measure::Tpot,
        Measure::E2e,
        Measure::TokensPerGpu,
        Measure::TokensPerUser,
        Measure::Bound,
        Measure::Intensity,
        Measure::Weights,
        Measure::Kv,
        Measure::Memory,
        Measure::EngineMemory,
        Measure::Fits,
        Measure::MaxConcurrency,
        Measure::Energy,
        Measure::Usd,
    ];

    /// Its column.
    pub const fn name(self) -> &'static str {
        match self {
            Measure::Step => "step_s",
            Measure::Ideal => "ideal_s",
            Measure::Low => "low_s",
            Measure::High => "high_s",
            Measure::Ttft => "ttft_s",
            Measure::Tpot => "tpot_s",
            Measure::E2e => "e2e_s",
            Measure::TokensPerGpu => "tokens_per_gpu_s",
            Measure::TokensPerUser => "tokens_per_user_s",
            Measure::Bound => "bound",
            Measure::Intensity => "intensity",
            Measure::Weights => "weight_bytes",
            Measure::Kv => "kv_bytes",
            Measure::Memory => "memory_bytes",
            Measure::EngineMemory => "engine_memory_bytes",
            Measure::Fits => "fits",
            Measure::MaxConcurrency => "max_concurrency",
            Measure::Energy => "energy_j_per_token",
            Measure::Usd => "usd_per_mtok",
        }
    }

    /// The measure of that name.
    ///
    /// # Errors
    /// Another name, with the nearest.
    pub fn parse(name: &str) -> Result<Measure> {
        let known = Measure::ALL.into_iter().find(|measure| measure.name() == name);
        Ok(known.ok_or_else(|| names::unknown("column", name, Measure::ALL.map(Measure::name)))?)
    }

    /// Whether more of it is better; `None` where neither is.
    pub const fn more_is_better(self) -> Option<bool> {
        match self {
            Measure::TokensPerGpu | Measure::TokensPerUser | Measure::MaxConcurrency | Measure::Fits => {
                Some(true)
            }
            Measure::Bound | Measure::Intensity => None,
            _ => Some(false),
        }
    }
}

/// Which measures are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted(u32);

impl Wanted {
    /// Those named; all where none is.
    ///
    /// # Errors
    /// An unknown name, with the nearest.
    pub fn named(names: &[String]) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        for name in names {
            wanted = wanted.and(Measure::parse(name)?);
        }
        Ok(if names.is_empty() { Wanted::all() } else { wanted })
    }

    /// All of them.
    pub fn all() -> Wanted {
        Wanted((1 << COUNT) - 1)
    }

    /// These and one more.
    #[must_use]
    pub fn and(self, measure: Measure) -> Wanted {
        Wanted(self.0 | 1 << measure as u32)
    }

    /// These but for those.
    #[must_use]
    pub fn without(self, others: Wanted) -> Wanted {
        Wanted(self.0 & !others.0)
    }

    /// Whether it is among them.
    pub fn has(self, measure: Measure) -> bool {
        self.0 & (1 << measure as u32) != 0
    }

    /// Whether any of these is among them.
    pub fn any(self, measures: &[Measure]) -> bool {
        measures.iter().any(|measure| self.has(*measure))
    }

    /// Each of them, in the order of columns.
    pub fn each(self) -> impl Iterator<Item = Measure> {
        Measure::ALL.into_iter().filter(move |measure| self.has(*measure))
    }
}

/// Measures of the points of one block as numbers: NaN where unknown, bounds by their place in [`Bound`], 1 for yes.
#[derive(Debug, Clone)]
pub struct Block {
    lanes: Vec<[f64; BLOCK]>,
}

impl Default for Block {
    fn default() -> Block {
        Block { lanes: vec![[0.0; BLOCK]; COUNT] }
    }
}

impl Block {
    /// The numbers of one measure.
    pub fn lane(&self, measure: Measure) -> &[f64; BLOCK] {
        &self.lanes[measure as usize]
    }

    /// The same, to be written.
    pub fn lane_mut(&mut self, measure: Measure) -> &mut [f64; BLOCK] {
        &mut self.lanes[measure as usize]
    }
}

/// Measures of many points, column by column; those not wanted stay empty.
#[derive(Debug, Clone, Default)]
pub struct Results {
    rows: usize,
    lanes: [Vec<f64>; COUNT],
    /// Measures that are unknown in every row, whatever their lanes hold.
    unknown: Wanted,
}

impl Results {
    /// Room for `rows` rows, to be written by way of [`Results::rows_mut`].
    pub fn room(wanted: Wanted, rows: usize) -> Results {
        let mut results = Results { rows, ..Results::default() };
        let lanes = results.lanes.par_iter_mut().with_min_len(lanes_at_a_time(rows)).zip(Measure::ALL);
        lanes.filter(|(_, measure)| wanted.has(*measure)).for_each(|(lane, _)| *lane = vec![0.0; rows]);
        results
    }

    /// The numbers of one measure; none where it is unknown in every row (see [`Results::spelled_out`]).
    pub fn lane(&self, measure: Measure) -> &[f64] {
        &self.lanes[measure as usize]
    }

    /// Every row of the wanted measures, to be written.
    pub fn rows_mut(&mut self, wanted: Wanted) -> Rows<'_> {
        let lanes = Measure::ALL.into_iter().zip(&mut self.lanes);
        Rows {
            lanes: lanes.filter(|(measure, _)| wanted.has(*measure)).map(|(m, l)| (m, &mut l[..])).collect(),
        }
    }

    /// Puts together what parts wrote at the front of their shares: `parts` says how long each share is, how many of its
    /// rows were written, and which measures were left out because they are unknown in all of them.
    pub fn close_up(&mut self, wanted: Wanted, parts: &[(usize, usize, Wanted)]) {
        let written = || parts.iter().filter(|(_, rows, _)| *rows > 0);
        self.rows = written().map(|(_, rows, _)| rows).sum();
        let everywhere = |measure: &Measure| written().all(|(_, _, unknown)| unknown.has(*measure));
        let unknown = wanted.each().filter(|measure| self.rows > 0 && everywhere(measure));
        self.unknown = unknown.fold(self.unknown, Wanted::and);
        let unknown = self.unknown;
        let lanes = self.lanes.par_iter_mut().with_min_len(lanes_at_a_time(self.rows)).zip(Measure::ALL);
        lanes.filter(|(_, measure)| wanted.has(*measure)).for_each(|(lane, measure)| {
            if unknown.has(measure) {
                *lane = Vec::new();
                return;
            }
            let (mut from, mut to) = (0, 0);
            for (share, rows, unknown) in parts {
                if unknown.has(measure) {
                    lane[to..to + rows].fill(f64::NAN);
                } else if from != to {
                    lane.copy_within(from..from + rows, to);
                }
                from += share;
                to += rows;
            }
            lane.truncate(to);
        });
    }

    /// The same with a value in every lane: unknown ones say so row by row.
    #[must_use]
    pub fn spelled_out(mut self) -> Results {
        for measure in std::mem::take(&mut self.unknown).each() {
            self.lanes[measure as usize] = vec![f64::NAN; self.rows];
        }
        self
    }

    /// Appends other rows.
    pub fn append(&mut self, other: &Results) {
        self.rows += other.rows;
        for (mine, theirs) in self.lanes.iter_mut().zip(&other.lanes) {
            mine.extend_from_slice(theirs);
        }
    }

    /// Keeps these rows, in this order.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Results {
        let picked = |lane: &Vec<f64>| {
            if lane.is_empty() { Vec::new() } else { rows.iter().map(|row| lane[*row]).collect() }
        };
        Results { rows: rows.len(), lanes: self.lanes.each_ref().map(picked), unknown: self.unknown }
    }

    /// Appends the wanted measures to a table, in their order.
    pub fn into_table(self, wanted: Wanted, table: &mut Table) {
        let Results { rows, lanes, unknown } = self;
        let lanes: Vec<(Measure, Vec<f64>)> =
            Measure::ALL.into_iter().zip(lanes).filter(|(measure, _)| wanted.has(*measure)).collect();
        let columns: Vec<(Measure, Column)> = lanes
            .into_par_iter()
            .map(|(measure, lane)| {
                let column = if unknown.has(measure) {
                    constant(measure, f64::NAN, rows)
                } else {
                    column(measure, lane)
                };
                (measure, column)
            })
            .collect();
        columns.into_iter().for_each(|(measure, column)| table.push(measure.name(), column));
    }
}

/// How many lanes of so many rows a thread takes at once: for a few thousand rows another thread is not worth waking.
fn lanes_at_a_time(rows: usize) -> usize {
    const WORTH_WAKING: usize = 1 << 18;
    WORTH_WAKING / rows.max(1) + 1
}

/// Some rows of the wanted measures, to be written in place.
#[derive(Debug)]
pub struct Rows<'a> {
    lanes: Vec<(Measure, &'a mut [f64])>,
}

impl<'a> Rows<'a> {
    /// The first `rows` of them, and the others.
    pub fn split(self, rows: usize) -> (Rows<'a>, Rows<'a>) {
        let halves = self.lanes.into_iter().map(|(measure, lane)| {
            let (first, rest) = lane.split_at_mut(rows);
            ((measure, first), (measure, rest))
        });
        let (lanes, rest) = halves.unzip();
        (Rows { lanes }, Rows { lanes: rest })
    }

    /// Writes the first `count` points of a block, from `row` on; leaves out what is `unknown` in all of them.
    pub fn write(&mut self, row: usize, block: &Block, count: usize, unknown: Wanted) {
        for (measure, lane) in self.lanes.iter_mut().filter(|(measure, _)| !unknown.has(*measure)) {
            lane[row..row + count].copy_from_slice(&block.lane(*measure)[..count]);
        }
    }

    /// Writes some points of a block.
    pub fn write_some(&mut self, row: usize, block: &Block, points: &[usize], unknown: Wanted) {
        for (measure, lane) in self.lanes.iter_mut().filter(|(measure, _)| !unknown.has(*measure)) {
            let from = block.lane(*measure);
            lane[row..].iter_mut().zip(points).for_each(|(to, point)| *to = from[*point]);
        }
    }

    /// The numbers of each measure.
    pub fn lanes(&mut self) -> impl Iterator<Item = (Measure, &mut [f64])> {
        self.lanes.iter_mut().map(|(measure, lane)| (*measure, &mut **lane))
    }
}

fn column(measure: Measure, lane: Vec<f64>) -> Column {
    let same = |first: &&f64| lane.iter().all(|value| value.to_bits() == first.to_bits());
    if let Some(value) = lane.first().filter(same) {
        return constant(measure, *value, lane.len());
    }
    match measure {
        Measure::Bound => {
            let mut names = vec![String::new(); Bound::ALL.len()];
            Bound::ALL.into_iter().for_each(|bound| names[bound as usize] = bound.name().to_string());
            // Unknown is a place where no name is.
            let place = |value: f64| if value.is_nan() { u32::MAX } else { value as u32 };
            Column::Names(lane.into_iter().map(place).collect(), names)
        }
        Measure::Fits => Column::Bool(lane.into_iter().map(|value| value == 1.0).collect()),
        Measure::MaxConcurrency if lane.iter().any(|value| value.is_nan()) => {
            Column::OptU64(lane.into_iter().map(|value| (!value.is_nan()).then_some(value as u64)).collect())
        }
        Measure::MaxConcurrency => Column::U64(lane.into_iter().map(|value| value as u64).collect()),
        _ => Column::NanF64(lane),
    }
}

/// A measure that is the same in every row; NaN where it is unknown.
fn constant(measure: Measure, value: f64, rows: usize) -> Column {
    let known = Some(value).filter(|value| !value.is_nan());
    let value = match measure {
        Measure::Bound => {
            let bound = Bound::ALL.into_iter().find(|bound| known == Some(*bound as usize as f64));
            Constant::Str(bound.map(|bound| bound.name().to_string()))
        }
        Measure::Fits => Constant::Bool(value == 1.0),
        Measure::MaxConcurrency => Constant::U64(known.map(|value| value as u64)),
        _ => Constant::F64(known),
    };
    Column::Constant(value, rows)
}
