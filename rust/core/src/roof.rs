//! A device's ceilings, and how long work takes under them.

use crate::collective::Group;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::hardware::Hardware;
use crate::network::Network;
use crate::per_step::{BLOCK, Part, Parts as BlockParts, PerStep};
use crate::shape::{Parts, PhaseSums};
use crate::site::{DrawnBy, Lane as Beside, Limits, Rates};
use crate::straight::Straight;
use crate::work::{Family, Op, Rate, Saved, Touched, Transfer};

/// What bounds an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bound {
    /// The tensor unit.
    Compute,
    /// The vector unit.
    Vector,
    /// The bandwidth of the device's memory.
    Memory,
    /// A link between devices.
    Link,
    /// Launching kernels, and the host.
    Launch,
}

/// How many bounds there are.
pub const BOUNDS: usize = 5;

impl Bound {
    /// Every bound, in the order of screens.
    pub const ALL: [Bound; BOUNDS] =
        [Bound::Memory, Bound::Compute, Bound::Vector, Bound::Link, Bound::Launch];

    /// Its name in columns and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Vector => "vector",
            Bound::Memory => "memory",
            Bound::Link => "link",
            Bound::Launch => "launch",
        }
    }
}

/// The ceilings of one device and its links.
#[derive(Debug, Clone, PartialEq)]
pub struct Roof {
    hardware: String,
    tensor: Vec<(Format, f64)>,
    vector: f64,
    bandwidth: f64,
    network: Network,
    /// Links that techniques use, those beside the device among them, are faster by this factor than they say.
    links: f64,
}

/// One occurrence of an operator: what it does and how long that takes at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Operations on the tensor unit.
    pub flops: f64,
    /// Operations on the vector unit.
    pub vector_flops: f64,
    /// Bytes of weights.
    pub weight_bytes: f64,
    /// Bytes of activations.
    pub activation_bytes: f64,
    /// Bytes of KV cache and state.
    pub kv_bytes: f64,
    /// Bytes sent over links.
    pub link_bytes: f64,
    /// Bytes of the full buffer that a collective exchanges.
    pub buffer_bytes: f64,
    /// Seconds by the datasheet: the longest of its ceilings.
    pub ideal: f64,
    /// Seconds charged: the same, or what is predicted.
    pub seconds: f64,
    /// What bounds it.
    pub bound: Bound,
}

impl Cost {
    /// Bytes of the device's memory.
    pub fn memory_bytes(&self) -> f64 {
        self.weight_bytes + self.activation_bytes + self.kv_bytes
    }
}

/// The same of each step of a block, as far as prices and totals read it.
#[derive(Debug, Clone)]
pub struct Costs {
    /// Operations on the tensor unit.
    pub flops: PerStep,
    /// Bytes of the device's memory.
    pub bytes: PerStep,
    /// Bytes of the full buffer that a collective exchanges.
    pub buffer_bytes: PerStep,
    /// Seconds by the datasheet.
    pub ideal: PerStep,
    /// Seconds charged.
    pub seconds: PerStep,
    /// What bounds it, as its place in [`Bound::ALL`]'s enumeration.
    pub bound: PerStep,
    /// Memory that pricing works in.
    pub(crate) other: PerStep,
}

impl Default for Costs {
    fn default() -> Costs {
        let lane = [0.0; BLOCK];
        Costs {
            flops: lane,
            bytes: lane,
            buffer_bytes: lane,
            ideal: lane,
            seconds: lane,
            bound: lane,
            other: lane,
        }
    }
}

/// An operator with its ceilings looked up, ready to be priced.
#[derive(Debug, Clone, PartialEq)]
pub struct Priced {
    op: Op,
    per_flop: f64,
    per_vector_flop: f64,
    per_byte: f64,
    /// Seconds a FLOP, a vector operation and a byte elsewhere, where that may be faster.
    elsewhere: Option<[f64; 3]>,
    group: Option<(Transfer, Group)>,
    /// Whether its work depends on a step's tokens alone.
    by_token: bool,
}

impl Roof {
    /// The ceilings of `hardware`.
    ///
    /// # Errors
    /// A device without a bandwidth.
    pub fn of(hardware: &Hardware) -> Result<Roof> {
        let bandwidth = hardware.memory.bandwidth.value.ok_or_else(|| {
            Error::spec(
                "hardware.memory.device.bandwidth",
                "must be known",
                "unknown",
                "give it in a hardware file",
            )
        })?;
        let tensor = Format::ALL
            .iter()
            .filter_map(|f| hardware.tensor_peak(*f, false).map(|peak| (*f, peak)))
            .collect();
        Ok(Roof {
            hardware: hardware.name.clone(),
            tensor,
            vector: hardware.vector_peak(Format::Fp32),
            bandwidth,
            network: Network::of(hardware),
            links: 1.0,
        })
    }

    /// The peak a multiplication in `format` runs at, FLOP/s.
    ///
    /// # Errors
    /// A format the device can only multiply at an unknown rate.
    pub fn peak(&self, format: Format) -> Result<f64> {
        self.tensor.iter().find(|(known, _)| *known == format).map(|(_, peak)| *peak).ok_or_else(|| {
            Error::spec(
                format!("hardware.tensor.dense.{format}"),
                format!("must be known to multiply in {format} on `{}`", self.hardware),
                "unknown",
                "choose another quantization, or give the peak in a hardware file",
            )
        })
    }

    /// Bytes/s of the device's memory.
    pub fn bandwidth(&self) -> f64 {
        self.bandwidth
    }

    /// The same device with compute, memory bandwidth and links faster by these factors.
    #[must_use]
    pub fn faster(&self, compute: f64, memory: f64, link: f64) -> Roof {
        Roof {
            hardware: self.hardware.clone(),
            tensor: self.tensor.iter().map(|(format, peak)| (*format, peak * compute)).collect(),
            vector: self.vector * compute,
            bandwidth: self.bandwidth * memory,
            network: self.network.faster(link),
            links: self.links * link,
        }
    }

    /// Looks up the ceilings of an operator.
    ///
    /// # Errors
    /// A format without a known peak, a transfer without a known link.
    pub fn price(&self, op: Op) -> Result<Priced> {
        let needs_tensor = op.work.flops != Rate::ZERO;
        let own = |faster: f64| -> Result<[f64; 3]> {
            let per_flop = if needs_tensor { 1.0 / (self.peak(op.format)? * faster) } else { 0.0 };
            Ok([per_flop, 1.0 / self.vector, 1.0 / self.bandwidth])
        };
        let links = if op.family == Family::Link { self.links } else { 1.0 };
        let other = |rates: Rates| [1.0 / rates.flops, 1.0 / rates.vector, 1.0 / (rates.bandwidth * links)];
        let (mine, elsewhere) = match op.site.limits {
            Limits::Device => (own(1.0)?, None),
            Limits::Faster(factor) => (own(factor)?, None),
            Limits::Other(rates) => (other(rates), None),
            Limits::Either(rates) => (own(1.0)?, Some(other(rates))),
        };
        let [per_flop, per_vector_flop, per_byte] = mine;
        let group = match op.work.transfer {
            Some(transfer) => Some((transfer, self.group(&transfer)?)),
            None => None,
        };
        let by_token = op.saved.is_none() && op.work.rates().iter().all(Rate::is_by_token);
        Ok(Priced { op, per_flop, per_vector_flop, per_byte, elsewhere, group, by_token })
    }

    /// How `transfer`'s devices lie over machines: neighbours fill a machine first.
    fn group(&self, transfer: &Transfer) -> Result<Group> {
        let reach = transfer.ranks * transfer.stride;
        let (inner, outer) = self.network.levels(reach, &self.hardware)?;
        let machines = reach.div_ceil(inner.domain).min(transfer.ranks).max(1);
        let inside = transfer.ranks.div_ceil(machines);
        Ok(Group { inside, machines, inner, outer, latency: false })
    }
}

/// Seconds that one unit of each kind of work takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ceilings {
    pub(crate) flop: f64,
    pub(crate) vector_flop: f64,
    pub(crate) byte: f64,
    /// A byte of a collective's buffer, where latencies do not count.
    pub(crate) link_byte: f64,
}

impl Priced {
    /// The peak of its multiplications, FLOP/s; infinite where it does none.
    pub fn peak(&self) -> f64 {
        1.0 / self.per_flop
    }

    /// How it is exchanged, and among whom.
    pub fn group(&self) -> Option<&(Transfer, Group)> {
        self.group.as_ref()
    }

    /// Bytes a second of the link that it passes over by itself, not as one of a group.
    pub(crate) fn own_link(&self) -> Option<f64> {
        (self.op.family == Family::Link && self.group.is_none()).then(|| 1.0 / self.per_byte)
    }

    /// The operator.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// Its ceilings.
    pub(crate) fn ceilings(&self) -> Ceilings {
        let link = |(transfer, group): (Transfer, Group)| group.cost(transfer.collective, 1.0).seconds;
        Ceilings {
            flop: self.per_flop,
            vector_flop: self.per_vector_flop,
            byte: self.per_byte,
            link_byte: self.group.map_or(0.0, link),
        }
    }

    /// Whether its seconds are the greatest of a few multiples of its work, spent on the device itself.
    pub(crate) fn is_linear(&self) -> bool {
        let plain = |touched: &Touched| touched.skew.is_none() && touched.drawn_by == DrawnBy::Token;
        self.group.is_none_or(|(_, group)| !group.latency)
            && self.op.saved.is_none()
            && self.elsewhere.is_none()
            && self.op.site.lane == Beside::Device
            && self.op.site.devices == 1.0
            && (self.op.family != Family::Link || self.group.is_some())
            && self.op.work.touched.as_ref().is_none_or(plain)
    }

    /// Its ceilings where so many sequences decode alone and read all their keys, the greatest of which counts; `None`
    /// where they are not straight lines.
    pub(crate) fn straight(&self, sequences: f64) -> Option<[Straight; 3]> {
        let work = &self.op.work;
        if !self.is_linear() || self.group.is_some() || work.touched.is_some() {
            return None;
        }
        if work.fused {
            return Some([Straight::default(); 3]);
        }
        let bytes = work.weight_bytes + work.activation_bytes + work.kv_bytes;
        let ceilings =
            [(bytes, self.per_byte), (work.flops, self.per_flop), (work.vector_flops, self.per_vector_flop)];
        Some(ceilings.map(|(rate, seconds)| rate.over_keys(sequences).times(seconds)))
    }

    /// What one occurrence costs in a step of these sums; `None` if it does not run in it.
    pub fn cost(&self, parts: &Parts<'_>) -> Option<Cost> {
        self.op.sums(parts).map(|part| self.cost_of(parts, part))
    }

    /// The same for the sums of those sequences that it runs over.
    pub(crate) fn cost_of(&self, parts: &Parts<'_>, part: &PhaseSums) -> Cost {
        let (work, saved, reach) = (&self.op.work, self.op.saved.as_deref(), self.op.reach);
        let at = |rate: &Rate, less: fn(&Saved) -> &Rate| match saved {
            None if self.by_token => rate.fixed + rate.token * part.tokens,
            None => rate.of(part, reach),
            Some(saved) => (rate.of(part, reach) - less(saved).of(parts.decode, reach)).max(0.0),
        };
        let idle = saved.map_or(0.0, |saved| saved.idle * parts.decode.tokens);
        let touched = work.touched.map(|touched| (touched, touched.experts(part, idle)));
        let (expert_bytes, conversions) = touched.map_or((0.0, 0.0), |(t, experts)| {
            (t.bytes_per_expert * experts, t.conversions_per_expert * experts)
        });
        let flops = at(&work.flops, |saved| &saved.flops);
        let vector_flops = at(&work.vector_flops, |saved| &saved.vector_flops) + conversions;
        let weights = &work.weight_bytes;
        let weights =
            if self.by_token { weights.fixed + weights.token * part.tokens } else { weights.of(part, reach) };
        let mut weight_bytes = weights + expert_bytes;
        let mut activation_bytes = at(&work.activation_bytes, |saved| &saved.activation_bytes);
        let mut kv_bytes = at(&work.kv_bytes, |saved| &saved.kv_bytes);
        let crossing = |(transfer, _): (Transfer, Group)| at(&transfer.bytes, |saved| &saved.transfer_bytes);
        let buffer_bytes = self.group.map_or(0.0, crossing);
        let link = self.group.map(|(transfer, group)| group.cost(transfer.collective, buffer_bytes));
        let (mut seconds, mut bound) =
            ((weight_bytes + activation_bytes + kv_bytes) * self.per_byte, Bound::Memory);
        for (candidate, kind) in [
            (flops * self.per_flop, Bound::Compute),
            (vector_flops * self.per_vector_flop, Bound::Vector),
            (link.map_or(0.0, |link| link.seconds), Bound::Link),
        ] {
            if candidate > seconds {
                (seconds, bound) = (candidate, kind);
            }
        }
        if link.is_some() {
            bound = Bound::Link;
        }
        if let Some([per_flop, per_vector_flop, per_byte]) = self.elsewhere {
            let bytes = (weight_bytes + activation_bytes + kv_bytes) * per_byte;
            let there = bytes.max(flops * per_flop).max(vector_flops * per_vector_flop);
            if there < seconds {
                let computes = there > bytes;
                (seconds, bound) = (there, if computes { Bound::Compute } else { Bound::Memory });
            }
        }
        if work.fused {
            seconds = 0.0;
        }
        let mut link_bytes = link.map_or(0.0, |link| link.bytes);
        if self.op.family == Family::Link && self.group.is_none() {
            link_bytes = weight_bytes + activation_bytes + kv_bytes;
            (weight_bytes, activation_bytes, kv_bytes, bound) = (0.0, 0.0, 0.0, Bound::Link);
        }
        Cost {
            flops,
            vector_flops,
            weight_bytes,
            activation_bytes,
            kv_bytes,
            link_bytes,
            buffer_bytes,
            ideal: seconds,
            seconds,
            bound,
        }
    }

    /// What one occurrence costs in each of the first `count` steps of a block, as [`Priced::cost_of`] says of one; what
    /// bounds it only where `bounds` asks for it.
    pub(crate) fn costs_of(
        &self,
        parts: &BlockParts<'_>,
        part: &Part,
        count: usize,
        bounds: bool,
        costs: &mut Costs,
    ) {
        let Costs { flops, bytes, buffer_bytes, ideal, seconds, bound, other } = costs;
        let (flops, bytes) = (&mut flops[..count], &mut bytes[..count]);
        let (ideal, other) = (&mut ideal[..count], &mut other[..count]);
        let (work, reach) = (&self.op.work, self.op.reach);
        let saved = self.op.saved.as_deref().zip(parts.decode);
        let at = |rate: &Rate, less: fn(&Saved) -> &Rate, out: &mut [f64]| {
            rate.of_each(part, reach, out);
            if let Some((saved, decode)) = saved {
                let mut lane = [0.0; BLOCK];
                less(saved).of_each(decode, reach, &mut lane[..count]);
                out.iter_mut().zip(&lane).for_each(|(out, less)| *out = (*out - less).max(0.0));
            }
        };
        at(&work.flops, |saved| &saved.flops, flops);
        // Experts are read, and their weights may have to be brought into another format.
        let vector = &mut seconds[..count];
        at(&work.vector_flops, |saved| &saved.vector_flops, vector);
        if saved.is_none() {
            let moved = work.weight_bytes + work.activation_bytes + work.kv_bytes;
            moved.of_each(part, reach, bytes);
        } else {
            work.weight_bytes.of_each(part, reach, bytes);
            at(&work.activation_bytes, |saved| &saved.activation_bytes, other);
            add(bytes, other, 1.0);
            at(&work.kv_bytes, |saved| &saved.kv_bytes, other);
            add(bytes, other, 1.0);
        }
        if let Some(touched) = &work.touched {
            let idle = saved.map(|(saved, decode)| (saved.idle, decode));
            touched.experts_of_each(part, idle, other);
            add(bytes, other, touched.bytes_per_expert);
            add(vector, other, touched.conversions_per_expert);
        }
        let alone = if self.group.is_some() { Bound::Link } else { Bound::Memory };
        times(ideal, bytes, self.per_byte);
        if bounds {
            bound[..count].fill(Bound::Memory as usize as f64);
        }
        let mut against = |ideal: &mut [f64], other: &[f64], kind: Bound| match bounds {
            true => greater_of(ideal, other, &mut bound[..count], kind),
            false => greater(ideal, other),
        };
        if work.flops != Rate::ZERO {
            times(other, flops, self.per_flop);
            against(ideal, other, Bound::Compute);
        }
        if work.vector_flops != Rate::ZERO || work.touched.is_some() {
            times(other, vector, self.per_vector_flop);
            against(ideal, other, Bound::Vector);
        }
        if let Some((transfer, group)) = &self.group {
            let buffer = &mut buffer_bytes[..count];
            at(&transfer.bytes, |saved| &saved.transfer_bytes, buffer);
            let each = buffer.iter().map(|bytes| group.cost(transfer.collective, *bytes).seconds);
            other.iter_mut().zip(each).for_each(|(other, seconds)| *other = seconds);
            against(ideal, other, Bound::Link);
        }
        if alone == Bound::Link && bounds {
            bound[..count].fill(Bound::Link as usize as f64);
        }
        if let Some([per_flop, per_vector_flop, per_byte]) = self.elsewhere {
            for at in 0..count {
                let read = bytes[at] * per_byte;
                let there = read.max(flops[at] * per_flop).max(vector[at] * per_vector_flop);
                if there < ideal[at] {
                    ideal[at] = there;
                    let kind = if there > read { Bound::Compute } else { Bound::Memory };
                    bound[at] = kind as usize as f64;
                }
            }
        }
        if work.fused {
            ideal.fill(0.0);
        }
        if self.op.family == Family::Link && self.group.is_none() {
            // What it moves crosses a link, and is no traffic of the memory.
            bytes.fill(0.0);
            bound[..count].fill(Bound::Link as usize as f64);
        }
        seconds[..count].copy_from_slice(ideal);
    }
}

fn times(out: &mut [f64], lane: &[f64], factor: f64) {
    out.iter_mut().zip(lane).for_each(|(out, value)| *out = value * factor);
}

fn add(sum: &mut [f64], lane: &[f64], factor: f64) {
    sum.iter_mut().zip(lane).for_each(|(sum, value)| *sum += value * factor);
}

fn greater(most: &mut [f64], lane: &[f64]) {
    most.iter_mut().zip(lane).for_each(|(most, value)| *most = if *value > *most { *value } else { *most });
}

/// The same, and which it was.
fn greater_of(most: &mut [f64], lane: &[f64], bound: &mut [f64], kind: Bound) {
    let kind = kind as usize as f64;
    for ((most, value), bound) in most.iter_mut().zip(lane).zip(bound) {
        let more = *value > *most;
        *bound = if more { kind } else { *bound };
        *most = if more { *value } else { *most };
    }
}
