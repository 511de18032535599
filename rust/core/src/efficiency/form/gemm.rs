//! Dense matrix multiplication: a smooth maximum of work and traffic, with a list-scheduling tail.

use super::{Device, smooth_max};

/// Outputs or inputs below which the shape of a multiplication is odd.
pub const NARROW: f64 = 512.0;

/// `m × k` activations times a resident `k × n` weight, or `batch` such products side by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GemmKernel {
    /// Products side by side, each with activations and a weight of its own: 1 but where heads have their own.
    pub batch: f64,
    /// Rows: the step's tokens.
    pub m: f64,
    /// Outputs on this device.
    pub n: f64,
    /// Inputs on this device.
    pub k: f64,
    /// Dense peak of the format it multiplies in, FLOP/s.
    pub peak: f64,
    /// Bytes of a weight, its share of scales included.
    pub weight_bytes: f64,
    /// Bytes of an activation as it is multiplied.
    pub input_bytes: f64,
}

form! {
    /// Numbers of a multiplication.
    Gemm("gemm") of GemmKernel {
        /// Launch and drain.
        t0_s: 0.0..1e-3,
        /// Share of the peak that a long multiplication reaches.
        ec: 0.02..1.5,
        /// Share of the bandwidth that a thin one reaches.
        em: 0.02..1.0,
        /// Prologue and epilogue of a tile, in equivalent `k`.
        k0: 0.0..4000.0,
        /// Weight of the last tile's time.
        w_tile: 0.0..8.0,
        /// Passes of a quantise kernel of its own over the activations; 0 where it is fused or not needed.
        c_quant: 0.0..40.0,
    }
    seconds = Gemm::time;
}

impl Gemm {
    /// `t0 + (C⁴ + M⁴)^¼ + c_quant·(2 + ab)·m·k/B`; `C` counts whole work and `w_tile` of one 128 × 128 tile a multiprocessor.
    #[inline]
    pub fn time(&self, device: &Device, kernel: &GemmKernel) -> f64 {
        let GemmKernel { batch, m, n, k, peak, weight_bytes, input_bytes } = *kernel;
        let depth = k + self.k0;
        let tile = self.w_tile * (2.0 * 128.0 * 128.0) * depth * device.sm;
        let compute = (2.0 * batch * m.max(16.0) * n * depth + tile) / (peak * self.ec);
        let traffic =
            batch * (weight_bytes * n * k + input_bytes * m * k + 2.0 * m * n) / (device.bandwidth * self.em);
        let quantise = self.c_quant * batch * (2.0 + input_bytes) * m * k / device.bandwidth;
        self.t0_s + smooth_max(compute, traffic) + quantise
    }
}
