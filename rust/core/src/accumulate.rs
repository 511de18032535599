//! The operators of one or many steps, added up.

use crate::cause::{Cause, Causes};
use crate::efficiency::{Estimate, Source};
use crate::format::Format;
use crate::roof::{BOUNDS, Bound, Cost};
use crate::shape::Sums;
use crate::site::{LANES_BESIDE, Lane};
use crate::step::{Exposed, Hidden, Pricer, sticks_out};
use crate::work::{Family, Op};

/// Work of one device, or of the whole deployment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Operations on the tensor unit.
    pub flops: f64,
    /// Operations on the vector unit.
    pub vector_flops: f64,
    /// Bytes of weights read.
    pub weight_bytes: f64,
    /// Bytes of activations read and written.
    pub activation_bytes: f64,
    /// Bytes of KV cache and state read and written.
    pub kv_bytes: f64,
    /// Bytes sent over links.
    pub link_bytes: f64,
}

/// All occurrences of one operator on the busiest device.
#[derive(Debug, Clone, PartialEq)]
pub struct OpTotal {
    /// Its name.
    pub name: String,
    /// Its family.
    pub family: Family,
    /// The format it multiplies in.
    pub format: Format,
    /// Occurrences in one step.
    pub repeat: f64,
    /// What they do together.
    pub work: Totals,
    /// Ideal seconds of all together.
    pub ideal: f64,
    /// Predicted seconds of all together.
    pub predicted: Estimate,
    /// Those seconds by what they are spent on.
    pub spent: Causes,
    /// What it runs beside.
    pub lane: Lane,
    /// What bounds most of that time; `None` where it runs inside its neighbours.
    pub bound: Option<Bound>,
    /// Where the prediction is from.
    pub source: Source,
}

/// What one or many steps do.
#[derive(Debug, Clone, PartialEq)]
pub struct Accumulated {
    ops: Vec<Slot>,
    hidden: Hidden,
    /// Seconds for which the busiest device waits for kernels to be launched, step by step.
    launching: f64,
    /// Work over all pipeline stages of one rank, and over the share of the devices that do it.
    pub rank: Totals,
}

/// One operator so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Slot {
    runs: bool,
    links: bool,
    work: Totals,
    ideal: f64,
    seconds: [f64; BOUNDS],
    spent: Causes,
    lane: Lane,
    busy: f64,
}

impl Totals {
    /// Bytes of device memory moved.
    pub fn bytes(&self) -> f64 {
        self.weight_bytes + self.activation_bytes + self.kv_bytes
    }

    /// FLOP per byte of device memory; `None` where none is moved.
    pub fn intensity(&self) -> Option<f64> {
        (self.bytes() > 0.0).then(|| self.flops / self.bytes())
    }

    /// Everything `times` as much.
    #[must_use]
    pub fn times(&self, times: f64) -> Totals {
        let mut product = Totals::default();
        product.add(self, times);
        product
    }

    fn add(&mut self, other: &Totals, times: f64) {
        self.flops += other.flops * times;
        self.vector_flops += other.vector_flops * times;
        self.weight_bytes += other.weight_bytes * times;
        self.activation_bytes += other.activation_bytes * times;
        self.kv_bytes += other.kv_bytes * times;
        self.link_bytes += other.link_bytes * times;
    }
}

impl From<&Cost> for Totals {
    fn from(cost: &Cost) -> Totals {
        Totals {
            flops: cost.flops,
            vector_flops: cost.vector_flops,
            weight_bytes: cost.weight_bytes,
            activation_bytes: cost.activation_bytes,
            kv_bytes: cost.kv_bytes,
            link_bytes: cost.link_bytes,
        }
    }
}

impl Accumulated {
    /// Nothing yet, for the operators of `pricer`.
    pub fn new(pricer: &Pricer) -> Accumulated {
        Accumulated {
            ops: pricer
                .ops()
                .map(|op| Slot { lane: op.site.lane, busy: op.site.busy(), ..Slot::default() })
                .collect(),
            hidden: *pricer.hidden(),
            launching: 0.0,
            rank: Totals::default(),
        }
    }

    /// Adds a step that stands for so many.
    pub fn add(&mut self, pricer: &Pricer, sums: &Sums, steps: f64) {
        let mut stage = Exposed::default();
        pricer.each(sums, |index, op, cost| {
            stage.add(op, cost.seconds * op.stage_repeat);
            let work = Totals::from(&cost);
            self.rank.add(&work, op.repeat * op.site.devices * steps);
            let slot = &mut self.ops[index];
            slot.runs = true;
            slot.links = op.family == Family::Link;
            let times = op.stage_repeat * steps;
            slot.work.add(&work, times);
            slot.ideal += cost.ideal * times;
            slot.seconds[cost.bound as usize] += cost.seconds * times;
            slot.spent.add_cost(&cost, cost.seconds * times);
        });
        let (lane, waits) = stage.waits(&self.hidden);
        self.launching += if lane == Lane::LAUNCHING { waits * steps } else { 0.0 };
    }

    /// Work of the busiest device.
    pub fn device(&self) -> Totals {
        self.ops.iter().fold(Totals::default(), |mut sum, slot| {
            sum.add(&slot.work, 1.0);
            sum
        })
    }

    /// Seconds of the busiest device by what bounds them, communication only as far as it shows; largest first.
    pub fn bounds(&self) -> Vec<(Bound, f64)> {
        let mut seconds = [0.0; BOUNDS];
        let mut beside = [[0.0; BOUNDS]; LANES_BESIDE];
        for slot in self.ops.iter().filter(|slot| slot.lane != Lane::Launching) {
            let sums = slot.lane.beside().map_or(&mut seconds, |lane| &mut beside[lane]);
            for (sum, more) in sums.iter_mut().zip(slot.seconds) {
                *sum += more;
            }
        }
        let computing: f64 =
            Bound::ALL.iter().filter(|b| **b != Bound::Link).map(|b| seconds[*b as usize]).sum();
        let link = &mut seconds[Bound::Link as usize];
        *link = (*link - self.hidden.links * computing).max(0.0);
        let lanes = beside.map(|lane| lane.iter().sum::<f64>());
        let (lane, more) = sticks_out(&lanes, seconds.iter().sum(), &self.hidden);
        if more > 0.0 {
            for (sum, part) in seconds.iter_mut().zip(beside[lane]) {
                *sum += part / lanes[lane] * more;
            }
        }
        seconds[Bound::Launch as usize] += self.launching;
        let mut by_bound: Vec<(Bound, f64)> =
            Bound::ALL.into_iter().map(|b| (b, seconds[b as usize])).filter(|(_, s)| *s > 0.0).collect();
        by_bound.sort_by(|a, b| b.1.total_cmp(&a.1));
        by_bound
    }

    /// What bounds most of the time.
    pub fn bound(&self) -> Bound {
        self.bounds().first().map_or(Bound::Memory, |(bound, _)| *bound)
    }

    /// Seconds in which a roof of the mean device would be wholly in use (its links apart).
    pub fn busy(&self) -> f64 {
        self.ops.iter().filter(|slot| !slot.links).map(|slot| slot.ideal * slot.busy).sum()
    }

    /// The operators that ran on the busiest device, in order.
    pub fn ops(&self, pricer: &Pricer) -> Vec<OpTotal> {
        let row = |(index, ((op, source), slot)): (usize, ((&Op, Source), &Slot))| {
            // Seconds of several bounds may round to less than those of none.
            let mut predicted = slot.seconds.iter().sum::<f64>().max(slot.ideal);
            let (mut runs, mut spent) = (slot.runs, slot.spent);
            if slot.lane == Lane::Launching {
                // Only what the device waits for it.
                (predicted, runs) = (self.launching, self.launching > 0.0);
                spent = Causes::default();
                spent.add(Cause::Launch, predicted);
            }
            let seconds = |bound: &Bound| slot.seconds[*bound as usize];
            let most = Bound::ALL.into_iter().max_by(|a, b| seconds(a).total_cmp(&seconds(b)));
            let bound = if op.work.fused && predicted == 0.0 { None } else { most };
            (runs && op.stage_repeat > 0.0).then(|| OpTotal {
                name: op.name.clone(),
                family: op.family,
                format: op.format,
                repeat: op.stage_repeat,
                work: slot.work,
                ideal: slot.ideal,
                predicted: pricer.estimate(index, predicted, slot.ideal),
                spent,
                lane: slot.lane,
                bound,
                source,
            })
        };
        pricer.ops().zip(pricer.sources()).zip(&self.ops).enumerate().filter_map(row).collect()
    }
}
