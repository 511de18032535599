//! The experts of a layer: grouped multiplications over those that a step's tokens visit.

use super::Device;

/// Both grouped multiplications of a layer's experts on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MoeKernel {
    /// Tokens that meet at the experts of this device.
    pub tokens: f64,
    /// Visits to this device's experts (`tokens · top_k`, shared out over the devices).
    pub visits: f64,
    /// Visits of all tokens that meet, to experts anywhere (`tokens · top_k`).
    pub meeting: f64,
    /// Experts on this device.
    pub experts: f64,
    /// Experts of them that are visited.
    pub active: f64,
    /// Width the experts read and write.
    pub hidden: f64,
    /// Inner width of one expert on this device.
    pub inner: f64,
    /// Matrices of an expert: 3 with a gate, else 2.
    pub matrices: f64,
    /// Dense peak of the format they multiply in, FLOP/s.
    pub peak: f64,
    /// Bytes of a weight, its share of scales included.
    pub weight_bytes: f64,
    /// Bytes of an activation as it is multiplied.
    pub input_bytes: f64,
}

/// Rows of a tile; an expert's last one is half empty on average.
const TILE: f64 = 32.0;
/// Share of the shorter of work and traffic that the longer does not hide; fits of it lay between 0.1 and 0.7.
const EXPOSED: f64 = 0.35;
/// Rows an expert has beyond its first where its weights are read again the whole of `reread` times.
const CROWDED: f64 = 16.0;

form! {
    /// Numbers of grouped multiplication.
    Moe("moe") of MoeKernel {
        /// Launches of the several kernels.
        t0_s: 0.0..2e-3,
        /// Share of the peak.
        ec: 0.01..1.0,
        /// Share of the bandwidth.
        em: 0.02..1.0,
        /// Passes over the activations (permute, activation, combine).
        c_act: 0.0..40.0,
        /// What an expert's tiles begin and end with, in equivalent inner width: narrow experts reach less of either roof.
        i0: 0.0..1000.0,
        /// How often weights are read again where experts have several tiles of rows.
        reread: 0.0..3.0,
        /// An expert, visited or not.
        per_expert_s: 0.0..1e-6,
        /// Passes over the activations of every visit of the tokens that meet, to experts here or elsewhere: kernels that
        /// fill in zeros for the others' (sorting, activation, adding up).
        c_token: 0.0..40.0,
    }
    seconds = Moe::time;
}

impl Moe {
    /// `t0 + max(C, M) + 0.35·min(C, M) + 2·(c_act·visits + c_token·meeting)·(2H + 3I)/B + tE·E`: half a tile per active
    /// expert is padding in `C`, `M` reads the active experts `1 + reread·min((visits/active − 1)/16, 1)` times, and in
    /// both experts are `i0` wider than they are.
    #[inline]
    pub fn time(&self, device: &Device, kernel: &MoeKernel) -> f64 {
        let MoeKernel { visits, experts, active, hidden, inner, matrices, peak, weight_bytes, .. } = *kernel;
        let rows = visits + 0.5 * active * TILE;
        let elements = matrices * hidden * (inner + self.i0);
        let compute = 2.0 * rows * elements / (peak * self.ec);
        // Rows beyond the first of each expert, in units of CROWDED: `active` of them and all weights are read again.
        let again = ((visits - active).max(0.0) / CROWDED).min(active);
        let read = active + self.reread * again;
        let traffic = read * elements * weight_bytes / (device.bandwidth * self.em);
        let joined = compute.max(traffic) + EXPOSED * compute.min(traffic);
        let passes = (self.c_act * visits + self.c_token * kernel.meeting) * (2.0 * hidden + 3.0 * inner);
        self.t0_s + joined + 2.0 * passes / device.bandwidth + self.per_expert_s * experts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn experts_never_take_less_for_more_tokens(
            i0 in 0.0f64..1000.0,
            reread in 0.0f64..3.0,
            tokens in 1.0f64..10_000.0,
            more in 1.0f64..100.0,
        ) {
            let form = Moe {
                t0_s: 3e-5, ec: 0.6, em: 0.8, c_act: 2.0, i0, reread, per_expert_s: 2e-8, c_token: 0.5,
            };
            let device = Device {
                peak16: 1e15, bandwidth: 3e12, sm: 132.0, l2: 5e7, clocks: 2e11, exponential: 1.0,
            };
            let seconds = |tokens: f64| {
                let active = 128.0 * (1.0 - (1.0f64 - 8.0 / 128.0).powf(tokens));
                form.time(&device, &MoeKernel {
                    tokens,
                    visits: 8.0 * tokens,
                    meeting: 8.0 * tokens,
                    experts: 128.0,
                    active,
                    hidden: 4096.0,
                    inner: 1536.0,
                    matrices: 3.0,
                    peak: 1e15,
                    weight_bytes: 2.0,
                    input_bytes: 2.0,
                })
            };
            prop_assert!(seconds(tokens + more) >= seconds(tokens));
        }
    }
}
