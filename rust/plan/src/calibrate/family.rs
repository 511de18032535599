//! What the fitter has to know of each form: how a measurement is one of its kernels, and where to begin.

use roofline_core::efficiency::form::collective::{CollectiveKernel, CustomAllReduce, Nccl};
use roofline_core::efficiency::form::decode::Decode;
use roofline_core::efficiency::form::elementwise::Elementwise;
use roofline_core::efficiency::form::gemm::Gemm;
use roofline_core::efficiency::form::mla::{MlaDecode, MlaPrefill};
use roofline_core::efficiency::form::moe::Moe;
use roofline_core::efficiency::form::prefill::{Prefill, PrefillKernel};
use roofline_core::efficiency::form::{Device, Form};

use super::kernel::Kernel;

/// Bytes/s that a core draws from the last-level cache where attention streams from it.
const CACHE_PER_CORE: f64 = 25e9;

/// A form that can be fitted.
pub trait Fitted: Form {
    /// Where to begin: typical numbers, and some far from them.
    const STARTS: &'static [&'static [f64]];

    /// What a row of an odd shape counts beside a usual one.
    const ODD: f64;

    /// How much faster loops that stay in the last-level cache read; `None`: fitted beside the numbers.
    fn l2_hot(device: &Device) -> Option<f64>;

    /// The kernel of a measurement, if it is of this family.
    fn of_kernel(kernel: &Kernel) -> Option<Self::Kernel>;

    /// What is known of its numbers before any is measured, for a table of such kernels.
    fn anchors(kernel: &Self::Kernel) -> Vec<Anchor>;
}

/// Where a number is known to lie: rows that tell it well overrule this, rows that two numbers explain alike do not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anchor {
    /// The number's place in [`Form::PARAMETERS`].
    pub place: usize,
    /// Where it lies.
    pub centre: f64,
    /// What that is worth, as a share of the rows: rows of other sizes are no proof, however many they are.
    pub share: f64,
}

/// Bytes/s from which a link is one between devices alone, switched, and no bus of the host's.
const SWITCHED: f64 = 150e9;

/// What is known of exchanges over switched links; of others nothing is.
fn switched(kernel: &CollectiveKernel, anchors: &[Anchor]) -> Vec<Anchor> {
    if kernel.link >= SWITCHED { anchors.to_vec() } else { Vec::new() }
}

/// Whether a window hides some of their own tokens from prompts.
fn hides_own(kernel: &PrefillKernel) -> bool {
    kernel.pairs < 0.5 * kernel.tokens * (kernel.tokens / kernel.sequences + 1.0)
}

macro_rules! fitted {
    ($form:ident from $variant:ident, odd $odd:literal, hot $hot:expr, $($start:expr),+ $(,)?) => {
        fitted!($form from $variant, odd $odd, hot $hot, anchors = |_| Vec::new(); $($start),+);
    };
    (
        $form:ident from $variant:ident, odd $odd:literal, hot $hot:expr,
        anchors = $anchors:expr; $($start:expr),+ $(,)?
    ) => {
        impl Fitted for $form {
            const STARTS: &'static [&'static [f64]] = &[$(&$start),+];
            const ODD: f64 = $odd;

            fn of_kernel(kernel: &Kernel) -> Option<Self::Kernel> {
                match kernel {
                    Kernel::$variant(kernel) => Some(*kernel),
                    _ => None,
                }
            }

            fn l2_hot(device: &Device) -> Option<f64> {
                let hot: fn(&Device) -> Option<f64> = $hot;
                hot(device)
            }

            fn anchors(kernel: &Self::Kernel) -> Vec<Anchor> {
                let anchors: fn(&Self::Kernel) -> Vec<Anchor> = $anchors;
                anchors(kernel)
            }
        }
    };
}

fitted!(
    Gemm from Gemm, odd 0.1, hot |_| None,
    // Rows that end before a device is busy explain their slowness by a low peak or by deep tiles alike; what long
    // multiplications sustain of the peak differs little between devices and engines.
    anchors = |kernel| {
        let four_bits = kernel.weight_bytes < 1.0 && kernel.input_bytes < 1.0;
        vec![
            Anchor { place: 1, centre: if four_bits { 0.62 } else { 0.78 }, share: if four_bits { 0.5 } else { 0.3 } },
            Anchor { place: 3, centre: 150.0, share: 0.03 },
        ]
    };
    [5e-6, 0.75, 0.8, 100.0, 0.3, 0.01],
    [1e-5, 0.6, 0.7, 200.0, 1.0, 5.0],
);
// Caches that were read a moment ago come from the last-level cache, about four times as fast as from memory.
fitted!(
    Decode from Decode, odd 0.05, hot |_| Some(4.0),
    [11e-6, 0.4e-6, 0.88, 0.2, 0.3e-9, 1e-9, 3e-6, 0.3],
    [15e-6, 2e-6, 0.7, 0.05, 0.1e-9, 1e-9, 2e-6, 0.05],
    [10e-6, 0.3e-6, 0.9, 0.02, 0.2e-9, 1e-9, 8e-6, 0.3],
    [8e-6, 1e-6, 0.9, 0.1, 1e-9, 1e-9, 10e-6, 0.1],
);
// What was just written is read from the last-level cache, which beats memory where that is narrow for its cores.
fitted!(
    Prefill from Prefill, odd 0.05,
    hot |device| Some((CACHE_PER_CORE * device.sm / device.bandwidth).max(1.0)),
    // Through narrow windows what a token costs hides what a pair costs, which is all that counts through wide ones.
    anchors = |kernel| {
        let pairs = [Anchor { place: 1, centre: 0.7, share: 0.03 }, Anchor { place: 2, centre: 50.0, share: 0.03 }];
        if hides_own(kernel) { pairs.to_vec() } else { Vec::new() }
    };
    [12e-6, 0.7, 50.0, 0.5, 1.5, 1.5, 1.0, 1e-7],
    [15e-6, 1.0, 300.0, 1.0, 1.0, 1.0, 0.5, 1e-7],
    [30e-6, 0.5, 20.0, 0.2, 4.0, 4.0, 3.0, 1e-7],
);
fitted!(
    MlaDecode from MlaDecode, odd 0.1, hot |_| Some(1.0),
    [15e-6, 1.0, 0.8, 0.3, 0.5, 0.1e-9, 2e-6, 0.5],
    [50e-6, 0.1, 0.4, 0.1, 0.9, 1e-9, 8e-6, 0.1],
    [10e-6, 4.0, 0.9, 0.5, 0.1, 0.02e-9, 5e-6, 1.0],
    // Kernels that never split a cache.
    [15e-6, 0.1, 0.9, 0.28, 0.98, 1.2e-7, 1e-7, 0.5],
);
fitted!(
    MlaPrefill from MlaPrefill, odd 0.1, hot |_| Some(1.0),
    [13e-6, 0.7, 50.0, 0.5, 1.0, 1.0],
    [50e-6, 1.0, 200.0, 1.0, 3.0, 3.0],
);
fitted!(
    Moe from Moe, odd 0.1, hot |_| Some(1.0),
    [30e-6, 0.6, 0.85, 2.0, 50.0, 0.2, 20e-9, 0.5],
    [60e-6, 0.3, 0.6, 1.0, 5.0, 1.0, 100e-9, 2.0],
    [20e-6, 0.8, 0.95, 5.0, 200.0, 0.5, 1e-9, 0.1],
);
fitted!(
    Elementwise from Elementwise, odd 0.3, hot |_| None,
    // One device cannot tell slow instructions from slow memory; a tensor passes through memory once.
    anchors = |_| vec![Anchor { place: 1, centre: 1.05, share: 10.0 }];
    [2e-6, 1.05, 0.02], [1e-5, 1.05, 0.1],
);
fitted!(
    Nccl from Nccl, odd 0.3, hot |_| Some(1.0),
    // Short messages tell the ramp and not what long ones reach, which differs little where links are switched.
    anchors = |kernel| {
        let shares = [Anchor { place: 2, centre: 0.77, share: 0.3 }, Anchor { place: 4, centre: 0.0, share: 1.0 }];
        switched(kernel, &shares)
    };
    [8e-6, 1e-6, 0.75, 8e-6, 1e-3],
    [2e-5, 3e-6, 0.5, 2e-5, 0.1],
    [5e-6, 3e-6, 0.9, 5e-6, 1.5],
    [2e-5, 1e-5, 0.2, 1e-4, 0.5],
);
fitted!(
    CustomAllReduce from CustomAllReduce, odd 0.3, hot |_| Some(1.0),
    anchors = |kernel| {
        let shares = [
            Anchor { place: 2, centre: 0.6, share: 0.15 },
            Anchor { place: 4, centre: 0.66, share: 0.3 },
            Anchor { place: 5, centre: 0.0, share: 1.0 },
        ];
        switched(kernel, &shares)
    };
    [4e-6, 0.1e-6, 0.6, 6e-6, 0.7, 1e-3, 1e-6],
    [15e-6, 1e-6, 0.3, 3e-5, 0.5, 0.1, 3e-5],
    [5e-6, 3e-6, 0.6, 1e-5, 0.8, 1.5, 2e-6],
);
