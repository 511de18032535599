//! Collectives among the devices of a group: the library's rings, and an engine's own all-reduce.

use super::Device;

/// One exchange.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CollectiveKernel {
    /// Bytes of the full buffer (what every rank holds before an all-reduce and after an all-gather).
    pub bytes: f64,
    /// Ranks.
    pub ranks: f64,
    /// Share of the buffer that crosses a rank's link: 2(n−1)/n for an all-reduce, (n−1)/n for the others, 1 for
    /// point to point.
    pub crossing: f64,
    /// Bytes/s of the link, per direction and device.
    pub link: f64,
}

/// How many times as long bytes are on their way because others' are.
#[inline]
fn crowd(shared: f64, kernel: &CollectiveKernel) -> f64 {
    1.0 + shared * (kernel.ranks - 2.0).max(0.0)
}

form! {
    /// Numbers of a collective of the library (NCCL), one set a kind.
    Nccl("nccl") of CollectiveKernel {
        /// Launch.
        a0_s: 0.0..1e-2,
        /// A further rank.
        a1_s: 0.0..1e-3,
        /// Share of the link.
        eff: 0.01..1.5,
        /// Ramp between the small- and the large-message protocol, seconds at 1 MB.
        ramp_s: 0.0..1e-2,
        /// What every rank beyond two takes of the link, where ranks share a host's bus; 0 where links are switched.
        shared: 0.0..20.0,
    }
    seconds = Nccl::time;
}

impl Nccl {
    /// `a0 + a1·(n − 1) + ramp·√(S/1 MB) + f(n)·S·(1 + shared·(n − 2))/(bw·eff)`.
    #[inline]
    pub fn time(&self, _: &Device, kernel: &CollectiveKernel) -> f64 {
        let latency = self.a0_s + self.a1_s * (kernel.ranks - 1.0);
        let ramp = self.ramp_s * (kernel.bytes * 1e-6).sqrt();
        latency
            + ramp
            + kernel.crossing * kernel.bytes * crowd(self.shared, kernel) / (kernel.link * self.eff)
    }
}

form! {
    /// Numbers of an engine's own all-reduce: one shot for small buffers, two for large ones.
    CustomAllReduce("custom_all_reduce") of CollectiveKernel {
        /// Launch.
        a0_s: 0.0..1e-2,
        /// A further rank.
        a1_s: 0.0..1e-3,
        /// Share of the link in one shot.
        eff_one_shot: 0.01..1.5,
        /// What the second shot costs.
        d_s: 0.0..1e-2,
        /// Share of the link in two shots.
        eff_two_shot: 0.01..1.5,
        /// What every rank beyond two takes of the link in two shots, where ranks share a host's bus.
        shared: 0.0..20.0,
        /// The host's launch, behind which the exchange before it hides; 0 in a graph.
        host_s: 0.0..1e-2,
    }
    seconds = CustomAllReduce::time;
}

impl CustomAllReduce {
    /// `max(host, a0 + a1·(n − 1) + min(S·(n − 1)/(bw·e1), d + 2(n − 1)/n·S·(1 + shared·(n − 2))/(bw·e2)))`.
    #[inline]
    pub fn time(&self, _: &Device, kernel: &CollectiveKernel) -> f64 {
        let peers = kernel.ranks - 1.0;
        let one = kernel.bytes * peers / (kernel.link * self.eff_one_shot);
        let crossing = 2.0 * peers / kernel.ranks * kernel.bytes * crowd(self.shared, kernel);
        let two = self.d_s + crossing / (kernel.link * self.eff_two_shot);
        (self.a0_s + self.a1_s * peers + one.min(two)).max(self.host_s)
    }
}
