//! Collectives: bytes a device sends, and the time the best algorithm of the library takes.

use crate::network::Level;
use crate::work::Collective;

/// A group of devices: `inside` of each machine, `machines` of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Devices of the group within one machine.
    pub inside: u64,
    /// Machines it spans.
    pub machines: u64,
    /// The link within a machine.
    pub inner: Level,
    /// The link between machines; unused where there is one.
    pub outer: Level,
    /// Whether latencies count (they belong to the prediction, not to the ideal roofline).
    pub latency: bool,
}

/// What a transfer costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Bytes one device sends.
    pub bytes: f64,
    /// Seconds.
    pub seconds: f64,
}

impl Group {
    /// The cost of `collective` over a full buffer of `bytes`.
    pub fn cost(&self, collective: Collective, bytes: f64) -> Cost {
        if self.inside * self.machines <= 1 {
            return Cost::default();
        }
        match collective {
            Collective::AllReduce => self.hierarchical(bytes, 2.0),
            Collective::AllGather | Collective::ReduceScatter => self.hierarchical(bytes, 1.0),
            Collective::AllToAll => self.all_to_all(bytes),
            Collective::PointToPoint => self.point_to_point(bytes),
        }
    }

    /// All-reduce (`passes` 2) or all-gather / reduce-scatter (1): inside the machine on the whole buffer, across
    /// machines on a machine's share of it.
    fn hierarchical(&self, bytes: f64, passes: f64) -> Cost {
        let inside = self.ring(self.inner, self.inside, bytes, passes);
        let across = self.ring(self.outer, self.machines, bytes / self.inside as f64, passes);
        Cost { bytes: inside.bytes + across.bytes, seconds: inside.seconds + across.seconds }
    }

    /// The best of ring, tree and one-shot among `ranks` neighbours. With latencies off the ring always wins.
    fn ring(&self, level: Level, ranks: u64, bytes: f64, passes: f64) -> Cost {
        if ranks <= 1 {
            return Cost::default();
        }
        let g = ranks as f64;
        let beta = 1.0 / level.usable(ranks);
        let sent = passes * (g - 1.0) / g * bytes;
        let alpha = if self.latency { level.latency } else { 0.0 };
        let ring = passes * (g - 1.0) * alpha + sent * beta;
        if passes < 2.0 {
            return Cost { bytes: sent, seconds: ring };
        }
        let tree = 2.0 * g.log2().ceil() * alpha + 2.0 * bytes * beta;
        let one_shot = alpha + (g - 1.0) * bytes * beta;
        Cost { bytes: sent, seconds: ring.min(tree).min(one_shot) }
    }

    /// Every device keeps its own share; what stays in the machine and what leaves it go over different links at
    /// the same time.
    fn all_to_all(&self, bytes: f64) -> Cost {
        let g = (self.inside * self.machines) as f64;
        let near = (self.inside - 1) as f64 / g * bytes;
        let far = (self.machines - 1) as f64 * self.inside as f64 / g * bytes;
        let alpha = |level: Level, peers: f64| if self.latency { peers * level.latency } else { 0.0 };
        let inside =
            near / self.inner.usable(self.inside.max(2)) + alpha(self.inner, (self.inside - 1) as f64);
        let across = if self.machines > 1 {
            far / self.outer.usable(self.machines) + alpha(self.outer, (self.machines - 1) as f64)
        } else {
            0.0
        };
        Cost { bytes: near + far, seconds: inside.max(across) }
    }

    fn point_to_point(&self, bytes: f64) -> Cost {
        let level = if self.machines > 1 { self.outer } else { self.inner };
        let alpha = if self.latency { level.latency } else { 0.0 };
        Cost { bytes, seconds: alpha + bytes / level.usable(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Topology;

    fn nvlink(inside: u64, machines: u64) -> Group {
        let inner = Level { bandwidth: 450e9, latency: 1e-6, domain: 8, topology: Topology::Switch };
        let outer = Level { bandwidth: 50e9, latency: 5e-6, domain: u64::MAX, topology: Topology::Switch };
        Group { inside, machines, inner, outer, latency: false }
    }

    #[test]
    fn an_ideal_all_reduce_moves_twice_the_buffer_less_a_share() {
        let cost = nvlink(8, 1).cost(Collective::AllReduce, 1e6);
        assert!((cost.seconds - 2.0 * 7.0 / 8.0 * 1e6 / 450e9).abs() < 1e-15);
        assert!((cost.bytes - 1.75e6).abs() < 1e-6);
    }

    #[test]
    fn across_machines_only_a_machines_share_crosses_the_slow_link() {
        let cost = nvlink(8, 2).cost(Collective::AllReduce, 8e6);
        let expected = 2.0 * 7.0 / 8.0 * 8e6 / 450e9 + 2.0 * 0.5 * 1e6 / 50e9;
        assert!((cost.seconds - expected).abs() < 1e-12);
    }

    #[test]
    fn one_shot_wins_small_messages_once_latency_counts() {
        let group = Group { latency: true, ..nvlink(8, 1) };
        let cost = group.cost(Collective::AllReduce, 1024.0);
        assert!((cost.seconds - (1e-6 + 7.0 * 1024.0 / 450e9)).abs() < 1e-15);
    }

    #[test]
    fn two_devices_of_a_mesh_share_one_link_of_seven() {
        let inner = Level { bandwidth: 448e9, latency: 0.0, domain: 8, topology: Topology::Mesh };
        assert!((inner.usable(2) - 64e9).abs() < 1.0);
        assert!((inner.usable(8) - 448e9).abs() < 1.0);
    }

    #[test]
    fn one_device_exchanges_nothing() {
        for kind in [Collective::AllReduce, Collective::AllGather, Collective::AllToAll] {
            assert_eq!(nvlink(1, 1).cost(kind, 1e9), Cost::default());
        }
    }

    #[test]
    fn an_all_to_all_keeps_its_own_share_and_overlaps_both_links() {
        let cost = nvlink(8, 1).cost(Collective::AllToAll, 8e6);
        assert!((cost.bytes - 7e6).abs() < 1e-6);
        let wide = nvlink(8, 2).cost(Collective::AllToAll, 16e6);
        assert!((wide.seconds - 8e6 / 50e9).abs() < 1e-12);
    }
}
