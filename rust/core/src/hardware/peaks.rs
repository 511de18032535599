//! How fast a device multiplies in a number format, and in which one it really does.

use super::{Fact, Hardware};
use crate::format::Format;

/// The formats that hold every number of `format`, itself first, then ever wider.
///
/// Integers of 8 bits and fewer are exact in the 8-bit significand of bf16; bf16 and fp16 stand in for one another,
/// as they do in engines where only one of them multiplies.
const fn wider(format: Format) -> &'static [Format] {
    use Format::*;
    match format {
        Fp64 => &[Fp64],
        Fp32 => &[Fp32, Fp64],
        Tf32 => &[Tf32, Fp32, Fp64],
        Bf16 => &[Bf16, Fp16, Tf32, Fp32, Fp64],
        Fp16 => &[Fp16, Bf16, Tf32, Fp32, Fp64],
        Fp8 => &[Fp8, Bf16, Fp16, Tf32, Fp32, Fp64],
        Fp6 => &[Fp6, Fp8, Bf16, Fp16, Tf32, Fp32, Fp64],
        Fp4 => &[Fp4, Fp6, Fp8, Bf16, Fp16, Tf32, Fp32, Fp64],
        Int8 => &[Int8, Bf16, Fp16, Tf32, Fp32, Fp64],
        Int4 => &[Int4, Int8, Bf16, Fp16, Tf32, Fp32, Fp64],
        Int3 => &[Int3, Int4, Int8, Bf16, Fp16, Tf32, Fp32, Fp64],
        Int2 => &[Int2, Int3, Int4, Int8, Bf16, Fp16, Tf32, Fp32, Fp64],
        Int1 => &[Int1, Int2, Int3, Int4, Int8, Bf16, Fp16, Tf32, Fp32, Fp64],
    }
}

fn known(peaks: &[(Format, Fact)], format: Format) -> Option<f64> {
    peaks.iter().find(|(listed, _)| *listed == format).and_then(|(_, fact)| fact.value)
}

impl Hardware {
    /// The format in which numbers of `format` are multiplied: itself where a unit of the device does so at a known
    /// rate, otherwise the smallest wider one that holds its numbers; `None` where there is none.
    pub fn multiply_format(&self, format: Format) -> Option<Format> {
        wider(format).iter().copied().find(|wider| self.dense_peak(*wider).is_some())
    }

    /// Peak of a matrix multiplication of numbers of `format`, FLOP/s, in the format it really multiplies in
    /// ([`multiply_format`](Self::multiply_format)): fp8 on an A100 runs at its bf16 peak.
    ///
    /// `sparse` asks for 2:4 structured sparsity; where the device gains nothing from it, the peak is the dense one.
    /// The vector unit multiplies what the tensor unit does not.
    pub fn tensor_peak(&self, format: Format, sparse: bool) -> Option<f64> {
        let format = self.multiply_format(format)?;
        let sparse_peak = if sparse { known(&self.tensor_sparse, format) } else { None };
        sparse_peak.or_else(|| self.dense_peak(format))
    }

    /// Peak of the vector unit in `format`, FLOP/s; a format it does not list is computed in fp32.
    ///
    /// Infinite where nobody published it: an unknown ceiling bounds nothing, so that a time computed from it is
    /// still a lower bound.
    pub fn vector_peak(&self, format: Format) -> f64 {
        known(&self.vector, format).or_else(|| known(&self.vector, Format::Fp32)).unwrap_or(f64::INFINITY)
    }

    /// Peak in exactly this format, on the tensor unit or, failing it, on the vector unit.
    fn dense_peak(&self, format: Format) -> Option<f64> {
        known(&self.tensor_dense, format).or_else(|| known(&self.vector, format))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hardware::hardware_from_toml;

    /// A device with these peaks in TFLOP/s: tensor dense, tensor sparse, vector.
    fn device(dense: &[(Format, f64)], sparse: &[(Format, f64)], vector: &[(Format, f64)]) -> Hardware {
        let text = r#"
            name = "test"
            vector = { fp32 = { value = 1, unit = "TFLOP/s" } }
            memory.device.capacity = { value = 1, unit = "GiB" }
            memory.device.bandwidth = { value = 1, unit = "TB/s" }
        "#;
        let facts = |peaks: &[(Format, f64)]| {
            let fact = |value: f64| Fact { value: Some(value * 1e12), source: "test".into() };
            peaks.iter().map(|(format, value)| (*format, fact(*value))).collect()
        };
        Hardware {
            tensor_dense: facts(dense),
            tensor_sparse: facts(sparse),
            vector: facts(vector),
            ..hardware_from_toml("test.toml", text).unwrap()
        }
    }

    use Format::*;

    #[test]
    fn fp8_runs_at_the_bf16_peak_where_only_bf16_multiplies() {
        let ampere =
            device(&[(Bf16, 312.0), (Fp16, 312.0), (Int8, 624.0), (Int4, 1248.0)], &[], &[(Fp32, 19.5)]);
        assert_eq!(ampere.multiply_format(Fp8), Some(Bf16));
        assert_eq!(ampere.tensor_peak(Fp8, false), Some(312e12));
        assert_eq!(ampere.multiply_format(Int4), Some(Int4));
        assert_eq!(ampere.multiply_format(Int2), Some(Int4));
    }

    #[test]
    fn fp4_runs_in_fp8_on_a_device_without_fp4() {
        let hopper = device(&[(Bf16, 989.0), (Fp8, 1979.0), (Int8, 1979.0)], &[], &[(Fp32, 67.0)]);
        assert_eq!(hopper.multiply_format(Fp4), Some(Fp8));
        assert_eq!(hopper.multiply_format(Fp6), Some(Fp8));
        assert_eq!(hopper.multiply_format(Int4), Some(Int8));
    }

    #[test]
    fn bf16_runs_in_fp16_on_a_device_without_bf16() {
        let volta = device(&[(Fp16, 125.0)], &[], &[(Fp32, 15.7)]);
        assert_eq!(volta.multiply_format(Bf16), Some(Fp16));
        assert_eq!(volta.multiply_format(Int8), Some(Fp16));
        assert_eq!(volta.multiply_format(Fp32), Some(Fp32));
    }

    #[test]
    fn everything_runs_on_the_vector_unit_where_there_is_no_other() {
        let plain = device(&[], &[], &[(Fp32, 2.0)]);
        for format in Format::ALL.into_iter().filter(|format| *format != Fp64) {
            assert_eq!(plain.tensor_peak(format, true), Some(2e12), "{format}");
        }
        assert_eq!(plain.tensor_peak(Fp64, false), None);
        assert_eq!(plain.vector_peak(Bf16), 2e12);
    }

    #[test]
    fn sparsity_gains_nothing_where_the_device_has_no_sparse_peak() {
        let some = device(&[(Bf16, 100.0), (Fp8, 200.0)], &[(Bf16, 200.0)], &[(Fp32, 5.0)]);
        assert_eq!(some.tensor_peak(Bf16, true), Some(200e12));
        assert_eq!(some.tensor_peak(Fp8, true), Some(200e12));
    }

    #[test]
    fn an_unknown_vector_peak_bounds_nothing() {
        let unknown = device(&[(Bf16, 100.0)], &[], &[]);
        assert_eq!(unknown.vector_peak(Fp32), f64::INFINITY);
    }

    #[test]
    fn a_listed_format_of_unknown_rate_converts_up() {
        let mut device = device(&[(Bf16, 100.0)], &[], &[]);
        device.tensor_dense.push((Fp8, Fact { value: None, source: "not published".into() }));
        assert_eq!(device.multiply_format(Fp8), Some(Bf16));
    }

    fn any_formats() -> impl Strategy<Value = Vec<(Format, f64)>> {
        let all = Format::ALL.to_vec();
        prop::collection::vec((prop::sample::select(all), 1.0..1e4), 0..8)
    }

    proptest! {
        #[test]
        fn converting_up_never_yields_a_narrower_format(
            dense in any_formats(), sparse in any_formats(), vector in any_formats(),
            format in prop::sample::select(Format::ALL.to_vec()), two_four: bool,
        ) {
            let device = device(&dense, &sparse, &vector);
            let multiplied = device.multiply_format(format);
            prop_assert_eq!(multiplied.is_some(), device.tensor_peak(format, two_four).is_some());
            if let Some(multiplied) = multiplied {
                prop_assert!(multiplied.bits() >= format.bits());
                prop_assert!(format.is_integer() || !multiplied.is_integer());
                prop_assert_eq!(device.multiply_format(multiplied), Some(multiplied));
                prop_assert_eq!(device.tensor_peak(multiplied, two_four), device.tensor_peak(format, two_four));
            }
        }
    }
}
