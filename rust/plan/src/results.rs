//! The columns of results: their names and units, and how a block of them becomes a table.

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

    /// Those that are also among others.
    #[must_use]
    pub fn both(self, others: Wanted) -> Wanted {
        Wanted(self.0 & others.0)
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

/// Numbers of one measure, row by row: most measures of some neighbours do not differ, and are then kept once.
#[derive(Debug, Clone)]
enum Lane {
    Same(f64),
    Each(Vec<f64>),
}

impl Lane {
    /// Appends numbers to `rows` others, and lays out `room` rows where they begin to differ. Whether any of them is
    /// unknown is returned where they do.
    fn push(&mut self, rows: usize, room: usize, numbers: impl Iterator<Item = f64> + Clone) -> bool {
        if let Lane::Same(value) = self {
            let first = numbers.clone().next().unwrap_or(*value);
            let all = if rows == 0 { first } else { *value };
            *value = all;
            // No early end: such a loop is vectorised, and neighbours that differ are asked once.
            if numbers.clone().fold(0, |apart, number| apart | (number.to_bits() ^ all.to_bits())) == 0 {
                return false;
            }
            let mut lane = Vec::with_capacity(room.max(rows));
            lane.resize(rows, all);
            *self = Lane::Each(lane);
        }
        let Lane::Each(lane) = self else { return false };
        // No early end: such a loop is vectorised.
        let unknown = numbers
            .clone()
            .fold(lane.first().is_some_and(|first| first.is_nan()), |any, number| any | number.is_nan());
        lane.extend(numbers);
        unknown
    }

    fn at(&self, row: usize) -> f64 {
        match self {
            Lane::Same(value) => *value,
            Lane::Each(lane) => lane[row],
        }
    }
}

/// Measures of points that follow one another.
#[derive(Debug, Clone)]
pub struct Results {
    rows: usize,
    room: usize,
    wanted: Wanted,
    /// Measures that are unknown in some rows, and known in others.
    unknown: Wanted,
    lanes: [Lane; COUNT],
}

impl Default for Results {
    fn default() -> Results {
        Results::room(Wanted::default(), 0)
    }
}

impl Results {
    /// No rows yet, but room for so many.
    pub fn room(wanted: Wanted, rows: usize) -> Results {
        let lanes = [const { Lane::Same(f64::NAN) }; COUNT];
        Results { rows: 0, room: rows, wanted, unknown: Wanted::default(), lanes }
    }

    /// Columns of equal length, one a wanted measure.
    pub fn of(wanted: Wanted, lanes: Vec<(Measure, Vec<f64>)>) -> Results {
        let rows = lanes.first().map_or(0, |(_, lane)| lane.len());
        let mut results = Results { rows, ..Results::room(wanted, rows) };
        for (measure, lane) in lanes {
            let first = lane.first().copied().unwrap_or(f64::NAN);
            results.lanes[measure as usize] = if lane.iter().all(|value| value.to_bits() == first.to_bits()) {
                Lane::Same(first)
            } else {
                if lane.iter().any(|value| value.is_nan()) {
                    results.unknown = results.unknown.and(measure);
                }
                Lane::Each(lane)
            };
        }
        results
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The numbers of one measure, NaN where unknown.
    pub fn lane(&self, measure: Measure) -> impl Iterator<Item = f64> + '_ {
        let lane = &self.lanes[measure as usize];
        (0..self.rows).map(|row| lane.at(row))
    }

    /// Appends the first `count` points of a block.
    pub fn push(&mut self, block: &Block, count: usize) {
        self.push_each(count, |measure| block.lane(measure)[..count].iter().copied());
    }

    /// Appends some points of a block.
    pub fn push_some(&mut self, block: &Block, points: &[usize]) {
        self.push_each(points.len(), |measure| points.iter().map(move |point| block.lane(measure)[*point]));
    }

    /// Appends rows of which nothing is known.
    pub fn push_unknown(&mut self, rows: usize) {
        self.push_each(rows, |_| std::iter::repeat_n(f64::NAN, rows));
    }

    /// Appends other rows of the same measures.
    pub fn append(&mut self, other: &Results) {
        self.wanted = if self.is_empty() { other.wanted } else { self.wanted };
        self.push_each(other.rows, |measure| other.lane(measure).collect::<Vec<f64>>().into_iter());
    }

    fn push_each<I: Iterator<Item = f64> + Clone>(&mut self, rows: usize, of: impl Fn(Measure) -> I) {
        if rows == 0 {
            return;
        }
        for measure in self.wanted.each() {
            if self.lanes[measure as usize].push(self.rows, self.room, of(measure)) {
                self.unknown = self.unknown.and(measure);
            }
        }
        self.rows += rows;
    }

    /// These rows, in this order.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Results {
        let mut taken = Results::room(self.wanted, rows.len());
        let lane = |measure: Measure| rows.iter().map(move |row| self.lanes[measure as usize].at(*row));
        taken.push_each(rows.len(), lane);
        taken
    }

    /// Appends the wanted measures to a table, in their order.
    pub fn into_table(mut self, wanted: Wanted, table: &mut Table) {
        for measure in wanted.each() {
            let lane = std::mem::replace(&mut self.lanes[measure as usize], Lane::Same(f64::NAN));
            let column = match lane {
                Lane::Same(value) => constant(measure, value, self.rows),
                Lane::Each(lane) => column(measure, lane, self.unknown.has(measure)),
            };
            table.push(measure.name(), column);
        }
    }
}

fn column(measure: Measure, lane: Vec<f64>, unknown: bool) -> Column {
    match measure {
        Measure::Bound => {
            let mut names = vec![String::new(); Bound::ALL.len()];
            Bound::ALL.into_iter().for_each(|bound| names[bound as usize] = bound.name().to_string());
            // Unknown is a place where no name is.
            let place = |value: f64| if value.is_nan() { u32::MAX } else { value as u32 };
            Column::Names(lane.into_iter().map(place).collect(), names)
        }
        Measure::Fits => Column::Bool(lane.into_iter().map(|value| value == 1.0).collect()),
        Measure::MaxConcurrency if unknown => {
            Column::OptU64(lane.into_iter().map(|value| (!value.is_nan()).then_some(value as u64)).collect())
        }
        Measure::MaxConcurrency => Column::U64(lane.into_iter().map(|value| value as u64).collect()),
        _ if unknown => Column::NanF64(lane),
        _ => Column::F64(lane),
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
