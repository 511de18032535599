//! Where a step's seconds go: what bounds them, and for memory which bytes.

use crate::roof::{Bound, Cost};

/// What seconds are spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Reading weights.
    Weights,
    /// Reading and writing the KV cache, or a state.
    KvCache,
    /// Reading and writing activations.
    Activations,
    /// The tensor unit.
    Compute,
    /// The vector unit.
    Vector,
    /// Links between devices, where computing does not hide them.
    Link,
    /// Launching kernels; none under the ideal roofline.
    Launch,
}

impl Cause {
    /// Every cause, in the order of screens and columns.
    pub const ALL: [Cause; 7] = [
        Cause::Weights,
        Cause::KvCache,
        Cause::Activations,
        Cause::Compute,
        Cause::Vector,
        Cause::Link,
        Cause::Launch,
    ];

    /// Its name in columns and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Weights => "weights",
            Cause::KvCache => "kv",
            Cause::Activations => "activations",
            Cause::Compute => "compute",
            Cause::Vector => "vector",
            Cause::Link => "link",
            Cause::Launch => "launch",
        }
    }
}

/// Seconds by cause.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Causes([f64; Cause::ALL.len()]);

impl Causes {
    /// The seconds of that cause.
    pub fn of(&self, cause: Cause) -> f64 {
        self.0[cause as usize]
    }

    /// Causes and seconds, in the order of [`Cause::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Cause, f64)> {
        Cause::ALL.into_iter().zip(self.0)
    }

    /// Seconds of all causes together.
    pub fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Adds seconds to one cause.
    pub fn add(&mut self, cause: Cause, seconds: f64) {
        self.0[cause as usize] += seconds;
    }

    /// Adds `seconds` of an operator that costs `cost` an occurrence: to what bounds it, and where that is the
    /// memory's bandwidth to weights, KV cache and activations by their bytes.
    pub fn add_cost(&mut self, cost: &Cost, seconds: f64) {
        let bytes = cost.memory_bytes();
        match cost.bound {
            Bound::Compute => self.add(Cause::Compute, seconds),
            Bound::Vector => self.add(Cause::Vector, seconds),
            Bound::Link => self.add(Cause::Link, seconds),
            Bound::Launch if cost.buffer_bytes > 0.0 => self.add(Cause::Link, seconds),
            Bound::Launch => self.add(Cause::Launch, seconds),
            Bound::Memory if bytes > 0.0 => {
                let a_byte = seconds / bytes;
                self.add(Cause::Weights, a_byte * cost.weight_bytes);
                self.add(Cause::KvCache, a_byte * cost.kv_bytes);
                self.add(Cause::Activations, a_byte * cost.activation_bytes);
            }
            Bound::Memory => self.add(Cause::Activations, seconds),
        }
    }

    /// Adds those of another account.
    pub fn append(&mut self, other: &Causes) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// `factor` times as much of each.
    #[must_use]
    pub fn times(&self, factor: f64) -> Causes {
        Causes(self.0.map(|seconds| seconds * factor))
    }

    /// What came in addition to `before`.
    #[must_use]
    pub fn since(&self, before: &Causes) -> Causes {
        Causes(std::array::from_fn(|place| (self.0[place] - before.0[place]).max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(bound: Bound) -> Cost {
        Cost {
            flops: 1.0,
            vector_flops: 0.0,
            weight_bytes: 6.0,
            activation_bytes: 1.0,
            kv_bytes: 3.0,
            link_bytes: 0.0,
            buffer_bytes: 0.0,
            ideal: 1.0,
            seconds: 1.0,
            bound,
        }
    }

    #[test]
    fn memory_bound_seconds_are_divided_by_bytes_and_others_are_not() {
        let mut causes = Causes::default();
        causes.add_cost(&cost(Bound::Memory), 10.0);
        causes.add_cost(&cost(Bound::Compute), 2.0);
        let found: Vec<f64> =
            [Cause::Weights, Cause::KvCache, Cause::Activations, Cause::Compute].map(|c| causes.of(c)).into();
        assert_eq!(found, [6.0, 3.0, 1.0, 2.0]);
        assert_eq!(causes.total(), 12.0);
        assert_eq!(causes.since(&causes).total(), 0.0);
    }

    #[test]
    fn each_cause_has_its_own_name_and_place() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
            assert_eq!(Cause::ALL.iter().filter(|other| other.name() == cause.name()).count(), 1);
        }
    }
}
