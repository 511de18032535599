//! What a step costs outside kernels: scheduling, launching, sampling's return to the host.

use super::Device;

/// One step, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostKernel {
    /// Sequences.
    pub sequences: f64,
}

form! {
    /// Numbers of the host's share that no kernel hides.
    Host("host") of HostKernel {
        /// A step.
        h0_s: 0.0..0.1,
        /// A sequence of it.
        h1_s: 0.0..1e-3,
    }
    seconds = |form, _: &Device, kernel| form.h0_s + form.h1_s * kernel.sequences;
}
