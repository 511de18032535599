//! What the operators of a step are added up to: times by where they are spent, and what was asked for besides.

use super::kernel::Want;
use crate::efficiency::band::{FAMILIES, Spread};
use crate::per_step::{BLOCK, PerStep};
use crate::roof::{BOUNDS, Cost, Costs};
use crate::site::{LANES_BESIDE, Lane as Beside};
use crate::step::{Exposed, Hidden, Line};
use crate::work::Family;

/// Computing, communicating, the host, and what runs beside the device.
const PLACES: usize = 3 + LANES_BESIDE;
const WHOLE: usize = 0;
const STAGE: usize = WHOLE + PLACES;
const IDEAL: usize = STAGE + PLACES;
/// The busiest stage by the datasheet, links and what runs beside apart.
pub(super) const BUSY: usize = IDEAL + PLACES;
/// Operations on the tensor unit.
pub(super) const FLOPS: usize = BUSY + 1;
/// Bytes of the device's memory.
pub(super) const BYTES: usize = FLOPS + 1;
/// The busiest stage by what bounds it: on the device, then in each lane beside it.
const BY_BOUND: usize = BYTES + 1;
const LOW: usize = BY_BOUND + BOUNDS * (1 + LANES_BESIDE);
const HIGH: usize = LOW + FAMILIES;
/// Sums in all.
pub(super) const SUMS: usize = HIGH + FAMILIES;

/// The sums of one step.
pub(super) type Sums = [f64; SUMS];

/// Where the seconds of an operator are added up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spot {
    place: usize,
    repeat: f64,
    stage_repeat: f64,
    family: usize,
    is_link: bool,
    busy: f64,
    bounds: usize,
    spread: Spread,
}

/// Which sums operators need, and which of them a stage or an ideal has of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Used {
    places: Vec<usize>,
    families: Vec<usize>,
    beside: Vec<usize>,
}

impl Spot {
    pub(super) fn of(line: &Line) -> Spot {
        let op = line.op();
        let beside = op.site.lane.beside();
        let place = match (beside, op.family) {
            (Some(lane), _) => 3 + lane,
            (None, Family::Link) => 1,
            (None, Family::Host) => 2,
            _ => 0,
        };
        Spot {
            place,
            repeat: op.repeat,
            stage_repeat: op.stage_repeat,
            family: op.family as usize,
            is_link: op.family == Family::Link,
            busy: op.site.busy(),
            bounds: BY_BOUND + BOUNDS * beside.map_or(0, |lane| lane + 1),
            spread: line.spread(),
        }
    }

    /// Adds one operator of one step.
    pub(super) fn add(&self, cost: &Cost, want: Want, sums: &mut Sums) {
        let seconds = cost.seconds * self.repeat;
        sums[WHOLE + self.place] += seconds;
        sums[STAGE + self.place] += cost.seconds * self.stage_repeat;
        sums[IDEAL + self.place] += cost.ideal * self.repeat;
        if want.bounds {
            sums[self.bounds + cost.bound as usize] += cost.seconds * self.stage_repeat;
            if !self.is_link {
                sums[BUSY] += cost.ideal * self.stage_repeat * self.busy;
            }
        }
        if want.work {
            sums[FLOPS] += cost.flops * self.stage_repeat;
            sums[BYTES] += cost.memory_bytes() * self.stage_repeat;
        }
        if want.band {
            sums[LOW + self.family] += seconds * (1.0 - self.spread.low);
            sums[HIGH + self.family] += seconds * (self.spread.high - 1.0);
        }
    }

    /// Adds one operator of each of the first `count` steps.
    pub(super) fn add_each(
        &self,
        costs: &Costs,
        count: usize,
        one_stage: bool,
        want: Want,
        lanes: &mut [PerStep],
    ) {
        let mut add = |sum: usize, from: &PerStep, factor: f64| {
            let sum = &mut lanes[sum][..count];
            sum.iter_mut().zip(from).for_each(|(sum, value)| *sum += value * factor);
        };
        add(WHOLE + self.place, &costs.seconds, self.repeat);
        if !one_stage {
            add(STAGE + self.place, &costs.seconds, self.stage_repeat);
        }
        add(IDEAL + self.place, &costs.ideal, self.repeat);
        if want.bounds && !self.is_link && self.busy > 0.0 {
            add(BUSY, &costs.ideal, self.stage_repeat * self.busy);
        }
        if want.work {
            add(FLOPS, &costs.flops, self.stage_repeat);
            add(BYTES, &costs.bytes, self.stage_repeat);
        }
        if want.band {
            add(LOW + self.family, &costs.seconds, self.repeat * (1.0 - self.spread.low));
            add(HIGH + self.family, &costs.seconds, self.repeat * (self.spread.high - 1.0));
        }
        if want.bounds {
            for (at, (bound, seconds)) in costs.bound[..count].iter().zip(&costs.seconds).enumerate() {
                let bound = (*bound as usize).min(BOUNDS - 1);
                lanes[self.bounds + bound][at] += seconds * self.stage_repeat;
            }
        }
    }
}

impl Used {
    /// What these operators need.
    pub(super) fn by(spots: &[Spot]) -> Used {
        let mut used = Used::default();
        let note = |list: &mut Vec<usize>, value: usize| {
            if !list.contains(&value) {
                list.push(value);
            }
        };
        for spot in spots {
            note(&mut used.places, spot.place);
            note(&mut used.families, spot.family);
            note(&mut used.beside, spot.bounds);
        }
        used
    }

    /// The sums that are told, in order.
    pub(super) fn sums(&self, one_stage: bool, want: Want) -> Vec<usize> {
        let mut sums = Vec::new();
        for base in [WHOLE, STAGE, IDEAL] {
            if base != STAGE || !one_stage {
                sums.extend(self.places.iter().map(|place| base + place));
            }
        }
        if want.bounds {
            sums.push(BUSY);
            sums.extend(self.beside.iter().flat_map(|from| *from..from + BOUNDS));
        }
        if want.work {
            sums.extend([FLOPS, BYTES]);
        }
        if want.band {
            sums.extend([LOW, HIGH].iter().flat_map(|base| self.families.iter().map(move |at| base + at)));
        }
        sums
    }

    /// Writes each step's time of one kind: of all stages, of the busiest one, or ideal.
    fn times(&self, base: usize, lanes: &[PerStep], hidden: &Hidden, out: &mut [f64]) {
        if !self.places.iter().any(|place| *place > 2) {
            let (compute, link, host) = (&lanes[base], &lanes[base + 1], &lanes[base + 2]);
            for (out, ((compute, link), host)) in out.iter_mut().zip(compute.iter().zip(link).zip(host)) {
                let shown = link - hidden.links * compute;
                // As `Exposed::exposed` adds them up, nothing beside.
                *out = compute + if shown > 0.0 { shown } else { 0.0 } + host;
            }
            return;
        }
        let mut busy = [0.0; BLOCK];
        self.sticks_out(base, |_| true, lanes, hidden, &mut busy, out);
        for (out, (busy, host)) in out.iter_mut().zip(busy.iter().zip(&lanes[base + 2])) {
            *out = busy + *out + host;
        }
    }

    /// Writes how busy the device is in each step, and how far those of the `wanted` lanes beside it stick out.
    fn sticks_out(
        &self,
        base: usize,
        wanted: impl Fn(usize) -> bool,
        lanes: &[PerStep],
        hidden: &Hidden,
        busy: &mut PerStep,
        out: &mut [f64],
    ) {
        for (busy, (compute, link)) in busy.iter_mut().zip(lanes[base].iter().zip(&lanes[base + 1])) {
            let shown = link - hidden.links * compute;
            *busy = compute + if shown > 0.0 { shown } else { 0.0 };
        }
        out.fill(0.0);
        for place in self.places.iter().filter(|place| **place > 2 && wanted(**place - 3)) {
            let share = hidden.beside[place - 3];
            for (out, (beside, busy)) in out.iter_mut().zip(lanes[base + place].iter().zip(&*busy)) {
                let more = beside - share * busy;
                *out = if more > *out { more } else { *out };
            }
        }
    }

    /// Whether kernels are launched beside the device.
    pub(super) fn launches(&self) -> bool {
        self.places.contains(&(3 + Beside::LAUNCHING))
    }

    /// Writes how long the busiest stage of each step waits for launching: nothing where it waits longer for another lane.
    pub(super) fn waits(&self, lanes: &[PerStep], one_stage: bool, hidden: &Hidden, out: &mut [f64]) {
        let base = if one_stage { WHOLE } else { STAGE };
        let (mut busy, mut others) = ([0.0; BLOCK], [0.0; BLOCK]);
        let others = &mut others[..out.len()];
        self.sticks_out(base, |lane| lane != Beside::LAUNCHING, lanes, hidden, &mut busy, others);
        self.sticks_out(base, |lane| lane == Beside::LAUNCHING, lanes, hidden, &mut busy, out);
        out.iter_mut().zip(others).for_each(|(out, other)| *out = if *out > *other { *out } else { 0.0 });
    }

    /// Time of all stages, of the busiest one, and ideal, of each of the first `count` steps.
    pub(super) fn all_times(
        &self,
        lanes: &[PerStep],
        one_stage: bool,
        count: usize,
        hidden: &Hidden,
        out: &mut [PerStep; 3],
    ) {
        let [whole, stage, ideal] = out;
        self.times(WHOLE, lanes, hidden, &mut whole[..count]);
        self.times(IDEAL, lanes, hidden, &mut ideal[..count]);
        match one_stage {
            true => stage[..count].copy_from_slice(&whole[..count]),
            false => self.times(STAGE, lanes, hidden, &mut stage[..count]),
        }
    }

    /// How far below and above each of the first `count` steps may take.
    pub(super) fn widths(&self, lanes: &[PerStep], count: usize, low: &mut PerStep, high: &mut PerStep) {
        for (base, out) in [(LOW, low), (HIGH, high)] {
            let out = &mut out[..count];
            out.fill(0.0);
            for family in &self.families {
                out.iter_mut().zip(&lanes[base + family]).for_each(|(out, width)| *out += width * width);
            }
            out.iter_mut().for_each(|out| *out = out.sqrt());
        }
    }

    /// Seconds by bound: on the device, and in each lane beside it that is used, by its place; launching apart, which
    /// counts step by step.
    pub(super) fn beside(&self) -> impl Iterator<Item = (Option<usize>, usize)> {
        let each = self.beside.iter().map(|from| {
            let lane = (from - BY_BOUND) / BOUNDS;
            (lane.checked_sub(1), *from)
        });
        each.filter(|(lane, _)| *lane != Some(Beside::LAUNCHING))
    }

    /// The squares of how far below and above a step may take that lies at `x` of the way from one to another, as
    /// coefficients of 1, x and x²: every family's share is a straight line between them.
    pub(super) fn squares(&self, from: &Sums, to: &Sums) -> [[f64; 3]; 2] {
        [LOW, HIGH].map(|base| {
            self.families.iter().fold([0.0; 3], |[one, x, square], family| {
                let start = from[base + family];
                let slope = to[base + family] - start;
                [one + start * start, x + 2.0 * start * slope, square + slope * slope]
            })
        })
    }
}

/// The time of one step: of all stages, of the busiest one, and ideal.
pub(super) fn times_of(sums: &Sums, one_stage: bool, hidden: &Hidden) -> [f64; 3] {
    let stage = if one_stage { WHOLE } else { STAGE };
    [WHOLE, stage, IDEAL].map(|base| exposed(base, |sum| sums[sum]).exposed(hidden))
}

/// How far below and above one step may take.
pub(super) fn widths_of(sums: &Sums) -> (f64, f64) {
    let root =
        |base: usize| sums[base..base + FAMILIES].iter().map(|width| width * width).sum::<f64>().sqrt();
    (root(LOW), root(HIGH))
}

fn exposed(base: usize, sum: impl Fn(usize) -> f64) -> Exposed {
    Exposed {
        compute: sum(base),
        link: sum(base + 1),
        host: sum(base + 2),
        beside: std::array::from_fn(|lane| sum(base + 3 + lane)),
    }
}

/// Every sum of every step, 0.
pub(super) fn nothing() -> Vec<PerStep> {
    vec![[0.0; BLOCK]; SUMS]
}
