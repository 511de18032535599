//! The operators of one or many steps, added up.

use crate::efficiency::Estimate;
use crate::format::Format;
use crate::roof::{Bound, Cost};
use crate::shape::Sums;
use crate::site::{LANES_BESIDE, Lane};
use crate::step::{Hidden, Pricer, sticks_out};
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

/// Seconds by what they are spent on: of an operator, the ceiling that bounds it; memory by what is moved.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Moving weights.
    pub weights: f64,
    /// Moving activations.
    pub activations: f64,
    /// Moving KV cache and state.
    pub kv: f64,
    /// Multiplying.
    pub compute: f64,
    /// Other operations.
    pub vector: f64,
    /// Waiting for links.
    pub link: f64,
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
    /// Those seconds by what they are spent on.
    pub spent: Spent,
    /// What it runs beside.
    pub lane: Lane,
    /// Predicted seconds of all together.
    pub predicted: Estimate,
    /// What bounds most of that time; `None` where it runs inside its neighbours.
    pub bound: Option<Bound>,
}

/// What one or many steps do.
#[derive(Debug, Clone, PartialEq)]
pub struct Accumulated {
    ops: Vec<Slot>,
    hidden: Hidden,
    /// Work over all pipeline stages of one rank.
    pub rank: Totals,
}

/// One operator so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Slot {
    runs: bool,
    work: Totals,
    seconds: [f64; 4],
    spent: Spent,
    lane: Lane,
}

impl Spent {
    /// Every kind by name, in the order of screens.
    pub fn by_name(&self) -> [(&'static str, f64); 6] {
        [
            ("weights", self.weights),
            ("kv", self.kv),
            ("activations", self.activations),
            ("compute", self.compute),
            ("vector", self.vector),
            ("link", self.link),
        ]
    }

    /// Adds `times` the seconds of one occurrence.
    fn add(&mut self, cost: &Cost, times: f64) {
        let seconds = cost.seconds * times;
        match cost.bound {
            Bound::Compute => self.compute += seconds,
            Bound::Vector => self.vector += seconds,
            Bound::Link => self.link += seconds,
            Bound::Memory if cost.memory_bytes() > 0.0 => {
                let share = seconds / cost.memory_bytes();
                self.weights += cost.weight_bytes * share;
                self.activations += cost.activation_bytes * share;
                self.kv += cost.kv_bytes * share;
            }
            Bound::Memory => {}
        }
    }
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
            ops: pricer.ops().map(|op| Slot { lane: op.site.lane, ..Slot::default() }).collect(),
            hidden: *pricer.hidden(),
            rank: Totals::default(),
        }
    }

    /// Adds a step.
    pub fn add(&mut self, pricer: &Pricer, sums: &Sums) {
        pricer.each(sums, |index, op, cost| {
            let work = Totals::from(&cost);
            self.rank.add(&work, op.repeat);
            let slot = &mut self.ops[index];
            slot.runs = true;
            slot.work.add(&work, op.stage_repeat);
            slot.seconds[cost.bound as usize] += cost.seconds * op.stage_repeat;
            slot.spent.add(&cost, op.stage_repeat);
        });
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
        let mut seconds = [0.0; 4];
        let mut beside = [[0.0; 4]; LANES_BESIDE];
        for slot in &self.ops {
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
        let (lane, more) = sticks_out(lanes, seconds.iter().sum(), &self.hidden);
        if more > 0.0 {
            for (sum, part) in seconds.iter_mut().zip(beside[lane]) {
                *sum += part / lanes[lane] * more;
            }
        }
        let mut by_bound: Vec<(Bound, f64)> =
            Bound::ALL.into_iter().map(|b| (b, seconds[b as usize])).filter(|(_, s)| *s > 0.0).collect();
        by_bound.sort_by(|a, b| b.1.total_cmp(&a.1));
        by_bound
    }

    /// What bounds most of the time.
    pub fn bound(&self) -> Bound {
        self.bounds().first().map_or(Bound::Memory, |(bound, _)| *bound)
    }

    /// Seconds in which the device itself is busy (not waiting for links).
    pub fn busy(&self) -> f64 {
        self.bounds().iter().filter(|(bound, _)| *bound != Bound::Link).map(|(_, seconds)| seconds).sum()
    }

    /// The operators that ran on the busiest device, in order.
    pub fn ops(&self, pricer: &Pricer) -> Vec<OpTotal> {
        let row = |(op, slot): (&Op, &Slot)| {
            let ideal: f64 = slot.seconds.iter().sum();
            let seconds = |bound: &Bound| slot.seconds[*bound as usize];
            let most = Bound::ALL.into_iter().max_by(|a, b| seconds(a).total_cmp(&seconds(b)));
            let bound = if op.work.fused { None } else { most };
            (slot.runs && op.stage_repeat > 0.0).then(|| OpTotal {
                name: op.name.clone(),
                family: op.family,
                format: op.format,
                repeat: op.stage_repeat,
                work: slot.work,
                ideal,
                spent: slot.spent,
                lane: slot.lane,
                predicted: pricer.predict(ideal),
                bound,
            })
        };
        pricer.ops().zip(&self.ops).filter_map(row).collect()
    }
}
