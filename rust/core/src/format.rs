//! Number formats, and how numbers of a format are stored with their scales.

use crate::error::Result;
use crate::names;

/// A number format that hardware multiplies in or memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// IEEE double precision.
    Fp64,
    /// IEEE single precision.
    Fp32,
    /// NVIDIA's 19-bit format, stored as 32 bits.
    Tf32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    Fp16,
    /// 8-bit float (E4M3 or E5M2).
    Fp8,
    /// 6-bit float (E2M3 or E3M2).
    Fp6,
    /// 4-bit float (E2M1), as in NVFP4 and MXFP4.
    Fp4,
    /// 8-bit integer.
    Int8,
    /// 4-bit integer.
    Int4,
    /// 3-bit integer (weights only).
    Int3,
    /// 2-bit integer (weights only).
    Int2,
    /// 1-bit (binary) weights.
    Int1,
}

impl Format {
    /// Every format, widest first.
    pub const ALL: [Format; 13] = [
        Format::Fp64,
        Format::Fp32,
        Format::Tf32,
        Format::Bf16,
        Format::Fp16,
        Format::Fp8,
        Format::Fp6,
        Format::Fp4,
        Format::Int8,
        Format::Int4,
        Format::Int3,
        Format::Int2,
        Format::Int1,
    ];

    /// Bits an element takes in memory, scales apart.
    pub const fn bits(self) -> f64 {
        match self {
            Format::Fp64 => 64.0,
            Format::Fp32 | Format::Tf32 => 32.0,
            Format::Bf16 | Format::Fp16 => 16.0,
            Format::Fp8 | Format::Int8 => 8.0,
            Format::Fp6 => 6.0,
            Format::Fp4 | Format::Int4 => 4.0,
            Format::Int3 => 3.0,
            Format::Int2 => 2.0,
            Format::Int1 => 1.0,
        }
    }

    /// Bytes an element takes in memory, scales apart.
    pub const fn bytes(self) -> f64 {
        self.bits() / 8.0
    }

    /// Whether it is an integer format.
    pub const fn is_integer(self) -> bool {
        matches!(self, Format::Int8 | Format::Int4 | Format::Int3 | Format::Int2 | Format::Int1)
    }

    /// Its name as written in files and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Fp64 => "fp64",
            Format::Fp32 => "fp32",
            Format::Tf32 => "tf32",
            Format::Bf16 => "bf16",
            Format::Fp16 => "fp16",
            Format::Fp8 => "fp8",
            Format::Fp6 => "fp6",
            Format::Fp4 => "fp4",
            Format::Int8 => "int8",
            Format::Int4 => "int4",
            Format::Int3 => "int3",
            Format::Int2 => "int2",
            Format::Int1 => "int1",
        }
    }

    /// The format of that name; PyTorch's spellings (`bfloat16`, `torch.float8_e4m3fn`, `half`) are understood.
    ///
    /// # Errors
    /// An unknown name, with the nearest known ones.
    pub fn parse(name: &str) -> Result<Format> {
        let plain = names::normalise(name);
        let plain = plain.strip_prefix("torch.").unwrap_or(&plain);
        let found = match plain {
            "float64" | "double" | "f64" => Some(Format::Fp64),
            "float32" | "float" | "f32" => Some(Format::Fp32),
            "bfloat16" => Some(Format::Bf16),
            "float16" | "half" | "f16" => Some(Format::Fp16),
            "float8-e4m3fn" | "float8-e4m3" | "float8-e5m2" | "e4m3" | "e5m2" | "fp8-e4m3" | "fp8-e5m2" => {
                Some(Format::Fp8)
            }
            "nvfp4" | "mxfp4" | "e2m1" => Some(Format::Fp4),
            _ => Format::ALL.into_iter().find(|format| format.name() == plain),
        };
        found.ok_or_else(|| names::unknown("format", name, Format::ALL.iter().map(|format| format.name())))
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// How a tensor's numbers lie in memory: elements of a format, and a scale (with or without a zero point) a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Storage {
    /// The format of the elements.
    pub format: Format,
    /// Bits of scale and zero point that one group of elements shares; 0 for a scale a tensor or a row (negligible).
    pub scale_bits: f64,
    /// Elements that share them; 0 where `scale_bits` is 0.
    pub group: u32,
}

impl Storage {
    /// Plain numbers of a format, scales negligible.
    pub const fn plain(format: Format) -> Storage {
        Storage { format, scale_bits: 0.0, group: 0 }
    }

    /// Numbers of a format with `scale_bits` shared by `group` elements.
    pub const fn grouped(format: Format, scale_bits: f64, group: u32) -> Storage {
        Storage { format, scale_bits, group }
    }

    /// NVFP4: 4-bit floats, an FP8 scale per 16 elements.
    pub const NVFP4: Storage = Storage::grouped(Format::Fp4, 8.0, 16);
    /// MXFP4: 4-bit floats, an 8-bit exponent per 32 elements (OCP Microscaling v1.0).
    pub const MXFP4: Storage = Storage::grouped(Format::Fp4, 8.0, 32);
    /// FP8 with an fp32 scale per 128×128 block (DeepSeek-V3).
    pub const FP8_BLOCK: Storage = Storage::grouped(Format::Fp8, 32.0, 128 * 128);

    /// Bits an element takes, its share of the scales included.
    pub fn bits(self) -> f64 {
        let shared = if self.group == 0 { 0.0 } else { self.scale_bits / f64::from(self.group) };
        self.format.bits() + shared
    }

    /// Bytes of `elements` numbers, scales included.
    pub fn bytes(self, elements: f64) -> f64 {
        elements * self.bits() / 8.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_under_its_own_name() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.name()).unwrap(), format);
        }
        assert_eq!(Format::parse("torch.bfloat16").unwrap(), Format::Bf16);
    }

    #[test]
    fn scales_are_part_of_a_tensor() {
        assert_eq!(Storage::NVFP4.bits(), 4.5);
        assert_eq!(Storage::MXFP4.bits(), 4.25);
        assert_eq!(Storage::plain(Format::Bf16).bytes(10.0), 20.0);
    }

    #[test]
    fn an_unknown_format_names_the_nearest() {
        let error = Format::parse("fp9").unwrap_err();
        assert!(error.to_string().contains("no format is called `fp9`"), "{error}");
        assert!(error.hint().contains("fp8"), "{}", error.hint());
    }
}
