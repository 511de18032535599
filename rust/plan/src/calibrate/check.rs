//! Rows that cannot be what they claim: faster than their datasheet, of another unit, floors of the launch, marked noisy.

use super::devices::Devices;
use super::errors::quantile;
use super::read::{Measurement, Measurements};

/// A group of rows fitted together: one device, engine, family and dtype.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Place of its device.
    pub device: usize,
    /// Place of its engine.
    pub engine: usize,
    /// The family.
    pub family: &'static str,
    /// Which kernels of it.
    pub dtype: &'static str,
    /// Its sound rows.
    pub rows: Vec<Sound>,
    /// Its other rows, by what is wrong with them.
    pub dropped: Vec<(Flaw, u64)>,
}

impl Group {
    /// Leaves out the rows that are marked.
    pub fn drop(&mut self, flaw: Flaw, marked: &[bool]) {
        let count = marked.iter().filter(|marked| **marked).count() as u64;
        let mut marked = marked.iter();
        self.rows.retain(|_| !marked.next().copied().unwrap_or(false));
        match self.dropped.iter_mut().find(|(known, _)| *known == flaw) {
            Some((_, known)) => *known += count,
            None => self.dropped.push((flaw, count)),
        }
        self.dropped.sort();
    }
}

/// A row that passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sound {
    /// The measurement.
    pub measured: Measurement,
    /// Whether its loop reads from the last-level cache.
    pub hot: bool,
    /// Seconds its datasheet allows at least, memory left out where `hot`.
    pub floor_s: f64,
    /// Seconds of its whole roofline.
    pub ideal_s: f64,
}

/// What a row took, beside what it is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timed {
    /// Seconds measured.
    pub seconds: f64,
    /// Seconds the datasheet allows at least, memory left out where the loop reads from a cache.
    pub floor_s: f64,
    /// Seconds of the whole roofline.
    pub ideal_s: f64,
}

impl From<&Sound> for Timed {
    fn from(row: &Sound) -> Timed {
        Timed { seconds: row.measured.seconds, floor_s: row.floor_s, ideal_s: row.ideal_s }
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Faster than the datasheet allows, read from memory or not.
    BeatsRoofline,
    /// It may do, but so much of its table is faster than the datasheet allows that none of it is believed.
    AmongFaster,
    /// Most of its group is off by a factor a unit explains.
    UnitSlip,
    /// It measures the launch: the time is a floor that does not depend on the work.
    LaunchFloor,
}

impl Flaw {
    /// What it means, in words.
    pub fn why(self) -> &'static str {
        match self {
            Flaw::BeatsRoofline => "faster than the datasheet roofline",
            Flaw::AmongFaster => "two fifths of its table and more are faster than the datasheet roofline",
            Flaw::UnitSlip => "times are off by a factor of 1000: another unit?",
            Flaw::LaunchFloor => "measures an eager launch, not the kernel",
        }
    }
}

/// Share of the roofline below which a row is not believed; clocks and rounding explain less.
const BELIEVED: f64 = 0.97;
/// Share of a table's rows that beat the roofline from which none of it is believed, and by how much they typically do:
/// another device or shape than it says. Sound tables have a few in a hundred, in loops that stay in a cache; a datasheet a
/// little too low takes off less, and rows of another unit, the others sound, more.
const FASTER: f64 = 0.4;
const MUCH_FASTER: std::ops::Range<f64> = 1.0 / 30.0..0.8;
/// How long the shortest kernels of a family take at least where they wait for the host: graphs launch multiplications in
/// a few microseconds, attention in up to twenty, what consists of several kernels in up to sixty.
const HOST_FLOORS_S: [(&str, f64); 9] = [
    ("gemm", 30e-6),
    ("elementwise", 40e-6),
    ("decode", 45e-6),
    ("prefill", 60e-6),
    ("nccl", 60e-6),
    ("custom_all_reduce", 60e-6),
    ("mla_decode", 80e-6),
    ("mla_prefill", 80e-6),
    ("moe", 150e-6),
];
/// Makers whose devices replay kernels from graphs; elsewhere every kernel waits for the host, in serving as well.
const GRAPHS: [&str; 2] = ["nvidia", "amd"];
/// Short kernels whose times spread by less, from P10 to P90, all wait for the same.
const FLAT: f64 = 1.6;
/// How many short kernels tell a floor, and how many do where not one of them is quicker.
const LEAST_SHORT: usize = 12;
const FEW_SHORT: usize = 4;
/// Where kernels wait for their launch, one of which the roofline takes less than this share was launched too,
/// however long it took.
const LAUNCHED: f64 = 0.15;
/// Kernels whose roofline is longer than this tell the unit of a group.
const LONG_S: f64 = 20e-6;
/// No kernel is shorter: launching one in a graph takes longer.
const QUICKEST_S: f64 = 0.3e-6;
/// The short kernels of a group are never this slow, launched by a host or not.
const SLOWEST_S: f64 = 2e-3;
/// Rows of one unit follow each other, in times beside what they are due, by less than this; two units leave a gap.
const GAP: f64 = 20.0;

/// Sorts the rows of a frame into groups and checks each.
pub fn groups(found: &Measurements) -> Vec<Group> {
    let mut rows: Vec<&Measurement> = found.rows.iter().collect();
    let key = |one: &Measurement| (one.device, one.engine, one.kernel.family(), one.dtype);
    rows.sort_by_key(|one| (key(one), one.row));
    rows.chunk_by(|a, b| key(a) == key(b)).map(|rows| group(&found.devices, rows)).collect()
}

/// Whether a benchmark's loop over `copies` of the kernel's data stays in the last-level cache.
fn is_hot(resident: f64, copies: f64, cache: f64) -> bool {
    resident > 0.0 && resident * copies < cache
}

fn group(devices: &Devices, rows: &[&Measurement]) -> Group {
    let first = rows[0];
    let device = devices.get(first.device).device;
    let sound: Vec<Sound> = rows
        .iter()
        .map(|one| {
            let floor = one.kernel.floor(&device);
            let hot = is_hot(floor.resident, one.copies, device.l2);
            Sound { measured: **one, hot, floor_s: floor.seconds(hot), ideal_s: floor.seconds(false) }
        })
        .collect();
    let has_graphs = GRAPHS.contains(&devices.get(first.device).hardware.vendor.as_str());
    let launch = if has_graphs { launch_floor(&sound) } else { None };
    let timed: Vec<Timed> = sound.iter().map(Timed::from).collect();
    let mut kept = Vec::new();
    let mut dropped: Vec<(Flaw, u64)> = Vec::new();
    for (row, flaw) in sound.into_iter().zip(flaws(&timed, launch)) {
        match flaw {
            None => kept.push(row),
            Some(flaw) => match dropped.iter_mut().find(|(known, _)| *known == flaw) {
                Some((_, count)) => *count += 1,
                None => dropped.push((flaw, 1)),
            },
        }
    }
    dropped.sort();
    Group {
        device: first.device,
        engine: first.engine,
        family: first.kernel.family(),
        dtype: first.dtype,
        rows: kept,
        dropped,
    }
}

/// What is wrong with each row of a table that measures its launch below `launch`.
pub fn flaws(rows: &[Timed], launch: Option<f64>) -> Vec<Option<Flaw>> {
    let slipped = unit_slip(rows);
    let slow = other_unit(rows);
    let mut flaws: Vec<Option<Flaw>> = rows.iter().map(|row| flaw(row, slipped, slow, launch)).collect();
    let beats = rows.iter().zip(&flaws).filter(|(_, flaw)| **flaw == Some(Flaw::BeatsRoofline));
    let mut faster: Vec<f64> = beats.map(|(row, _)| row.seconds / row.floor_s).collect();
    let believable = flaws.iter().filter(|flaw| flaw.is_none()).count();
    let share = faster.len() as f64 / (faster.len() + believable).max(1) as f64;
    if faster.len() >= FEW_SHORT && share > FASTER && MUCH_FASTER.contains(&median(&mut faster)) {
        flaws.iter_mut().for_each(|flaw| *flaw = flaw.or(Some(Flaw::AmongFaster)));
    }
    flaws
}

fn flaw(row: &Timed, slipped: bool, slow: Slow, launch: Option<f64>) -> Option<Flaw> {
    let seconds = row.seconds;
    if slipped || slow.holds(row) {
        Some(Flaw::UnitSlip)
    } else if seconds < BELIEVED * row.floor_s {
        Some(Flaw::BeatsRoofline)
    } else if seconds < QUICKEST_S {
        Some(Flaw::UnitSlip)
    } else if launch.is_some_and(|floor| seconds < floor || row.ideal_s < LAUNCHED * floor) {
        Some(Flaw::LaunchFloor)
    } else {
        None
    }
}

/// Whether most rows are of another unit: long kernels typically two hundred times slower, or thirty times faster, than
/// their roofline, or, where there is none, short ones slower than any host launches them.
fn unit_slip(rows: &[Timed]) -> bool {
    let ratio = |row: &Timed| row.seconds / row.ideal_s;
    let mut ratios: Vec<f64> = rows.iter().filter(|row| row.ideal_s > LONG_S).map(ratio).collect();
    if !ratios.is_empty() {
        return !(1.0 / 30.0..200.0).contains(&median(&mut ratios));
    }
    let mut short: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    median(&mut short) > SLOWEST_S || short.iter().all(|seconds| *seconds < QUICKEST_S)
}

/// Above which time, beside what it is due, a row of a group is of another unit.
#[derive(Debug, Clone, Copy)]
struct Slow {
    launch_s: f64,
    limit: f64,
}

impl Slow {
    fn share(&self, row: &Timed) -> f64 {
        row.seconds / (self.launch_s + row.ideal_s)
    }

    fn holds(&self, row: &Timed) -> bool {
        self.share(row) > self.limit
    }
}

/// Where the rows of another unit begin, if some are: beyond a gap that kernels of no family leave.
fn other_unit(rows: &[Timed]) -> Slow {
    let mut times: Vec<f64> =
        rows.iter().map(|row| row.seconds).filter(|seconds| *seconds >= QUICKEST_S).collect();
    median(&mut times);
    let all = Slow { launch_s: quantile(&times, 0.1), limit: f64::INFINITY };
    let mut shares: Vec<f64> = rows.iter().map(|row| all.share(row)).collect();
    let middle = median(&mut shares);
    let above = shares.windows(2).find(|pair| pair[1] > middle.max(2.0) && pair[1] > GAP * pair[0]);
    Slow { limit: above.map_or(f64::INFINITY, |pair| pair[0]), ..all }
}

/// The time below which a group measures its launch, if it does: kernels of very different work that all take about as
/// long, far longer than a graph needs to launch one.
fn launch_floor(rows: &[Sound]) -> Option<f64> {
    let family = rows.first()?.measured.kernel.family();
    let floor = HOST_FLOORS_S.iter().find(|(known, _)| *known == family)?.1;
    let short: Vec<&Sound> = rows.iter().filter(|row| row.ideal_s < 0.2 * floor).collect();
    // Multiplications that wait for a host do so long and short; others are told by waiting alike.
    let uneven = family == "gemm";
    if uneven && !are_varied(&short) {
        return None;
    }
    waiting(short.iter().map(|row| row.measured.seconds).collect(), floor, uneven)
}

/// Whether rows differ in every side: one matrix, or one number of tokens, may have reasons of its own to be slow (51,200
/// inputs of 512 outputs, an odd number of tokens).
fn are_varied(rows: &[&Sound]) -> bool {
    let Some((first, others)) = rows.split_first() else { return false };
    let known = first.measured.kernel.sides();
    (0..known.len()).all(|side| others.iter().any(|row| row.measured.kernel.sides()[side].1 != known[side].1))
}

/// The time below which kernels wait for their launch, told from those of `short` work: typically longer than `floor`, few of
/// them all so, and all about as long unless they need not be.
pub fn waiting(mut short: Vec<f64>, floor: f64, uneven: bool) -> Option<f64> {
    let middle = median(&mut short);
    let quickest = short.first().copied().unwrap_or(0.0);
    if short.len() < FEW_SHORT || (short.len() < LEAST_SHORT && quickest < floor) {
        return None;
    }
    let [low, high] = [0.1, 0.9].map(|share| quantile(&short, share));
    let waits = middle > floor && (uneven || high < FLAT * low);
    waits.then(|| f64::max(1.5 * middle, 1.25 * high))
}

/// The middle of a list, which is sorted thereby.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
