//! Kernels that pass tensors through memory: norms, activations, rotary embedding, quantisation, sampling, states.

use super::Device;

/// One pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ElementwiseKernel {
    /// Bytes read and written, each tensor once.
    pub bytes: f64,
}

form! {
    /// Numbers of elementwise kernels as engines fuse them.
    Elementwise("elementwise") of ElementwiseKernel {
        /// Launch.
        t0_s: 0.0..1e-3,
        /// Passes over the bytes.
        passes: 0.0..40.0,
        /// Clocks of a multiprocessor that a byte takes beside its way through memory: kernels that are not fused issue
        /// more instructions than their bytes need, which bandwidth does not hasten.
        clocks: 0.0..10.0,
    }
    seconds = Elementwise::time;
}

impl Elementwise {
    /// `t0 + bytes·(passes/B + clocks/(SM·f))`.
    pub fn time(&self, device: &Device, kernel: &ElementwiseKernel) -> f64 {
        self.t0_s + kernel.bytes * (self.passes / device.bandwidth + self.clocks / device.clocks)
    }
}

form! {
    /// Numbers of a kernel that finds the scales of activations.
    ComputeScale("compute_scale") of ElementwiseKernel {
        /// Launch.
        t0_s: 0.0..1e-3,
        /// Passes over the bytes.
        passes: 0.0..40.0,
    }
    seconds = |form, device, kernel| form.t0_s + form.passes * kernel.bytes / device.bandwidth;
}

form! {
    /// Numbers of a kernel that brings activations into a narrower format.
    ScaleMatrix("scale_matrix") of ElementwiseKernel {
        /// Launch.
        t0_s: 0.0..1e-3,
        /// Passes over the bytes.
        passes: 0.0..40.0,
    }
    seconds = |form, device, kernel| form.t0_s + form.passes * kernel.bytes / device.bandwidth;
}

form! {
    /// Numbers of state-space and linear-attention kernels.
    State("state") of ElementwiseKernel {
        /// Launch.
        t0_s: 0.0..1e-3,
        /// Passes over the bytes.
        passes: 0.0..40.0,
    }
    seconds = |form, device, kernel| form.t0_s + form.passes * kernel.bytes / device.bandwidth;
}
