//! The fitted forms: seconds of one kernel as a pure function of a few parameters, its geometry and datasheet facts.
//!
//! One family a file. A form knows nothing of models or steps: whoever prices or fits fills a geometry, whose fields are
//! `f64` so that they may be sums over the sequences of a step. The same function is fitted and paid.

use crate::hardware::{EXPONENTIALS, Hardware};

/// What a datasheet says about the device a kernel runs on; the peak of the multiplied format stands with the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Device {
    /// Dense peak of 16-bit multiplications, FLOP/s.
    pub peak16: f64,
    /// Bandwidth of its memory, bytes/s.
    pub bandwidth: f64,
    /// Streaming multiprocessors (cores that run one tile each).
    pub sm: f64,
    /// Last-level cache, bytes; 0 where unknown.
    pub l2: f64,
    /// Clocks of all multiprocessors together, 1/s: how fast instructions are issued.
    pub clocks: f64,
    /// Rate of exponentials per multiprocessor and clock relative to Hopper (Blackwell Ultra: 2).
    pub exponential: f64,
}

/// Cores and clock assumed of a device where nobody published them.
const CORES_UNKNOWN: f64 = 128.0;
const CLOCK_UNKNOWN: f64 = 1.5e9;

impl Device {
    /// The facts of a datasheet beside these ceilings.
    pub fn of(hardware: &Hardware, peak16: f64, bandwidth: f64) -> Device {
        let sm = hardware.cores.value.unwrap_or(CORES_UNKNOWN);
        Device {
            peak16,
            bandwidth,
            sm,
            l2: hardware.l2.capacity.value.unwrap_or(0.0),
            clocks: sm * hardware.clock.value.unwrap_or(CLOCK_UNKNOWN),
            exponential: hardware.exponentials.value.unwrap_or(EXPONENTIALS) / EXPONENTIALS,
        }
    }
}

/// One fitted number: its name in files and the range that means something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its name; a suffix says the unit (`_s`: seconds).
    pub name: &'static str,
    /// Least value that means something.
    pub least: f64,
    /// Greatest value that means something.
    pub most: f64,
}

/// A family of kernels: a few numbers that turn geometry into seconds.
pub trait Form: Copy {
    /// What is run.
    type Kernel: Copy;
    /// The family's name in files.
    const FAMILY: &'static str;
    /// Its numbers, in the order of [`Form::of`].
    const PARAMETERS: &'static [Parameter];

    /// The form of these numbers, one for each of [`Form::PARAMETERS`].
    fn of(values: &[f64]) -> Self;

    /// Its numbers, in the order of [`Form::PARAMETERS`].
    fn values(&self) -> Vec<f64>;

    /// Seconds of one kernel; not yet held above the datasheet roofline.
    fn seconds(&self, device: &Device, kernel: &Self::Kernel) -> f64;
}

/// Defines the numbers of a form: the struct, and what [`Form`] says about it.
macro_rules! form {
    (
        $(#[$about:meta])*
        $name:ident($family:literal) of $kernel:ty {
            $($(#[$doc:meta])* $field:ident: $least:literal..$most:literal,)+
        }
        seconds = $seconds:expr;
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: f64,)+
        }

        impl $crate::efficiency::form::Form for $name {
            type Kernel = $kernel;
            const FAMILY: &'static str = $family;
            const PARAMETERS: &'static [$crate::efficiency::form::Parameter] = &[
                $($crate::efficiency::form::Parameter { name: stringify!($field), least: $least, most: $most },)+
            ];

            fn of(values: &[f64]) -> Self {
                let mut values = values.iter().copied();
                $(let $field = values.next().unwrap_or(f64::NAN);)+
                $name { $($field),+ }
            }

            fn values(&self) -> Vec<f64> {
                vec![$(self.$field),+]
            }

            #[inline]
            fn seconds(&self, device: &$crate::efficiency::form::Device, kernel: &$kernel) -> f64 {
                let seconds: fn(&$name, &$crate::efficiency::form::Device, &$kernel) -> f64 = $seconds;
                seconds(self, device, kernel)
            }
        }
    };
}

pub mod gemm;
pub mod decode;
pub mod prefill;
pub mod mla;
pub mod moe;
pub mod elementwise;
pub mod collective;
pub mod host;

/// A smooth maximum of two times: `(a⁴ + b⁴)^¼`, by two square roots.
#[inline]
pub fn smooth_max(a: f64, b: f64) -> f64 {
    let (a, b) = (a * a, b * b);
    (a * a + b * b).sqrt().sqrt()
}
