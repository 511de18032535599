//! Rows that cannot be what they claim: faster than their datasheet, of another unit, floors of the launch, marked noisy.

use super::devices::Devices;
use super::kernel::Kernel;
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

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Faster than the datasheet allows, read from memory or not.
    BeatsRoofline,
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
            Flaw::UnitSlip => "times are off by a factor of 1000: another unit?",
            Flaw::LaunchFloor => "measures an eager launch, not the kernel",
        }
    }
}

/// Share of the roofline below which a row is not believed; clocks and rounding explain less.
const BELIEVED: f64 = 0.97;
/// A launch floor is at least this long: graphs launch kernels in a few microseconds, attention in up to twenty.
const GEMM_FLOOR_S: f64 = 40e-6;
/// Kernels whose roofline is longer than this tell the unit of a group.
const LONG_S: f64 = 20e-6;

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
    let slipped = unit_slip(&sound);
    let launch = launch_floor(&sound);
    let mut kept = Vec::new();
    let mut dropped: Vec<(Flaw, u64)> = Vec::new();
    for row in sound {
        match flaw(&row, slipped, launch) {
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

fn flaw(row: &Sound, slipped: bool, launch: Option<f64>) -> Option<Flaw> {
    if slipped {
        Some(Flaw::UnitSlip)
    } else if row.measured.seconds < BELIEVED * row.floor_s {
        Some(Flaw::BeatsRoofline)
    } else if launch.is_some_and(|floor| row.measured.seconds < floor) {
        Some(Flaw::LaunchFloor)
    } else {
        None
    }
}

/// Whether long kernels are typically two hundred times slower, or thirty times faster, than their roofline.
fn unit_slip(rows: &[Sound]) -> bool {
    let mut ratios: Vec<f64> = rows
        .iter()
        .filter(|row| row.ideal_s > LONG_S)
        .map(|row| row.measured.seconds / row.ideal_s)
        .collect();
    if ratios.len() < 3 {
        return false;
    }
    let middle = median(&mut ratios);
    !(1.0 / 30.0..200.0).contains(&middle)
}

/// The time below which a group of multiplications measures its launch, if it does: thousands of kernels of very
/// different work that all take about as long, far longer than a graph needs to launch one.
fn launch_floor(rows: &[Sound]) -> Option<f64> {
    let mut short: Vec<f64> = rows
        .iter()
        .filter(|row| matches!(row.measured.kernel, Kernel::Gemm(_)) && row.ideal_s < 0.2 * GEMM_FLOOR_S)
        .map(|row| row.measured.seconds)
        .collect();
    if short.len() < 20 {
        return None;
    }
    let middle = median(&mut short);
    (middle > GEMM_FLOOR_S).then(|| {
        let high = short[short.len() * 9 / 10];
        f64::max(1.5 * middle, 1.25 * high)
    })
}

/// The middle of a list, which is sorted thereby.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
