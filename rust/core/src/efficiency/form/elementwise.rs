//! Kernels that pass tensors through memory: norms, activations, rotary embedding, quantisation, sampling, states.

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
    }
    seconds = |form, device, kernel| form.t0_s + form.passes * kernel.bytes / device.bandwidth;
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
