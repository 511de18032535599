//! Weight-only quantization: weights in few bits, multiplied in the activations' format.

use std::sync::Arc;

use super::ops::{Parts, beside, elements, elements_per_expert, replace};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot, Target};
use crate::error::Result;
use crate::format::{Format, Storage};
use crate::model::{Linear, Part};
use crate::work::{Family, Op, Rate, Resident, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "weight-quant",
    aliases: &["weight-quantization", "wq", "gptq", "awq"],
    class: "weight-only quantization; number formats",
    about: "stores weights in few bits and multiplies them in the activations' format",
    parameters: &[
        Parameter {
            key: "bits",
            default: "",
            about: "bits of a weight: 16, or from 1 to 8; the mean where they differ (4.85)",
        },
        Parameter {
            key: "format",
            default: "",
            about: "instead of bits: int8 … int1, fp8, fp6, fp4, fp8-block, mxfp8, mxfp6, mxfp4 or nvfp4",
        },
        Parameter {
            key: "group",
            default: "0",
            about: "weights that share a scale; 0: a scale a row, which is negligible",
        },
        Parameter { key: "scale", default: "16", about: "bits of a group's scale" },
        Parameter { key: "zero", default: "0", about: "bits of a group's zero point" },
        Parameter {
            key: "outliers",
            default: "0",
            about: "share of the weights kept in 16 bits, each with an index of 16 bits",
        },
        Parameter {
            key: "dequant",
            default: "fused",
            about: "fused (in the multiplication, hidden behind its slowest ceiling), \
            serial (before it, on the vector unit), kernel (a pass through memory of its own) or off",
        },
        Parameter { key: "ops", default: "1", about: "vector operations a weight to dequantize" },
        Parameter { key: "parts", default: "all", about: "all, attention, ffn or experts" },
    ],
    changes: "W, capacity; + vector operations. The peak stays that of the activations' format",
    formula: "W = n·(bits + (scale + zero)/group + 32·outliers)/8; a linear layer turns compute-bound at \
              b* = P·bits/(16·B) tokens; dequantization n·ops vector operations a step",
    source: "GPTQ (arXiv 2210.17323), AWQ (arXiv 2306.00978), SpQR (arXiv 2306.03078); the survey, figures 5–9",
    pays: "small batches: reading weights is most of a decode step",
    loses: "from P/B tokens on nothing is left of it (prefill), earlier where dequantization is not hidden",
    slots: &[Slot::Weights],
    read: |settings| Ok(Arc::new(WeightQuant::read(settings)?)),
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Dequant {
    Fused,
    Serial,
    Kernel,
    Off,
}

#[derive(Debug)]
struct WeightQuant {
    /// `None` keeps 16 bits.
    storage: Option<Storage>,
    name: String,
    dequant: Dequant,
    ops: f64,
    parts: Parts,
}

/// How weights or a cache of so many bits, or of a format, lie in memory; `None` for 16 plain bits. And its name.
pub(super) fn storage(settings: &Settings) -> Result<(Option<Storage>, String)> {
    let group = settings.count("group", 0, 1 << 32)?;
    settings.only_where(group > 0, "a group", &["scale", "zero"])?;
    let extra = settings.number("scale", 0.0, 64.0)? + settings.number("zero", 0.0, 64.0)?;
    let format = match (settings.get("bits"), settings.get("format")) {
        (Some(_), Some(_)) => {
            return Err(settings.wrong("format", "must not be given beside bits", "give one of them"));
        }
        (None, None) => {
            return Err(settings.wrong("bits", "must be given", "for example 4, or format=nvfp4"));
        }
        (Some(bits), None) => match bits.parse().ok().and_then(of_bits) {
            Some(storage) => storage,
            None => return Err(settings.wrong("bits", "must be a number from 1 to 8, or 16", "")),
        },
        (None, Some(name)) => match name {
            "nvfp4" => Some(Storage::NVFP4),
            "mxfp4" => Some(Storage::MXFP4),
            "mxfp6" => Some(Storage::grouped(Format::Fp6, 8.0, 32)),
            "mxfp8" => Some(Storage::grouped(Format::Fp8, 8.0, 32)),
            "fp8-block" => Some(Storage::FP8_BLOCK),
            "bf16" | "fp16" => None,
            _ => match Format::parse(name) {
                Ok(format) if format.bits() <= 8.0 => Some(Storage::plain(format)),
                _ => {
                    let must = "must be a format of at most 8 bits, bf16 or fp16";
                    let hint = "int8, int4, int3, int2, int1, fp8, fp6, fp4, fp8-block, mxfp8, mxfp6, mxfp4 or nvfp4";
                    return Err(settings.wrong("format", must, hint));
                }
            },
        },
    };
    let Some(mut storage) = format else { return Ok((None, "16-bit".to_string())) };
    let mut name = match (settings.get("bits"), settings.get("format")) {
        (_, Some(name)) => name.to_string(),
        (Some(bits), None) if storage.group == 1 => format!("{bits}-bit"),
        _ => storage.format.to_string(),
    };
    if group > 0 {
        if storage.group > 1 {
            let must = format!("must be left out with format={name}, which has groups of {}", storage.group);
            return Err(settings.wrong("group", must, ""));
        }
        let group = u32::try_from(group).unwrap_or(u32::MAX);
        let more = storage.bits() - storage.format.bits();
        storage = Storage::grouped(storage.format, extra + more * f64::from(group), group);
        name = format!("{name} (groups of {group})");
    }
    Ok((Some(storage), name))
}

/// Numbers of so many bits, 16 being none of a technique's business: of a format, or of the next narrower one and what they
/// have beyond it.
#[allow(clippy::option_option, reason = "no such number, and none that is stored otherwise")]
fn of_bits(bits: f64) -> Option<Option<Storage>> {
    const WHOLE: [Format; 6] =
        [Format::Int8, Format::Fp6, Format::Int4, Format::Int3, Format::Int2, Format::Int1];
    if bits == 16.0 {
        return Some(None);
    }
    let format = WHOLE.into_iter().find(|format| format.bits() <= bits).filter(|_| bits <= 8.0)?;
    let more = bits - format.bits();
    Some(Some(if more == 0.0 { Storage::plain(format) } else { Storage::grouped(format, more, 1) }))
}

impl WeightQuant {
    fn read(settings: &Settings) -> Result<WeightQuant> {
        let (mut storage, mut name) = storage(settings)?;
        let outliers = settings.share("outliers")?;
        if outliers > 0.0 {
            let plain =
                storage.ok_or_else(|| settings.wrong("outliers", "must be 0 for 16-bit weights", ""))?;
            let group = plain.group.max(1);
            let shared = plain.scale_bits + 32.0 * outliers * f64::from(group);
            storage = Some(Storage::grouped(plain.format, shared, group));
            name = format!("{name}, {}% outliers", 100.0 * outliers);
        }
        let dequant = settings.choice(
            "dequant",
            &[
                ("fused", Dequant::Fused),
                ("serial", Dequant::Serial),
                ("kernel", Dequant::Kernel),
                ("off", Dequant::Off),
            ],
        )?;
        settings.only_where(dequant != Dequant::Off, "dequantization", &["ops"])?;
        let parts = settings.choice("parts", &Parts::NAMES)?;
        Ok(WeightQuant { storage, name, dequant, ops: settings.number("ops", 0.0, 1e6)?, parts })
    }
}

/// Between the name of what most weights are stored as and those of parts that differ.
const PARTLY: &str = " with ";

/// The parts of a layer that a choice of matrices means; none where it means all.
pub(super) fn layer_parts(parts: Parts) -> &'static [Part] {
    match parts {
        Parts::All => &[],
        Parts::Attention => &[Part::Attention, Part::State],
        Parts::Ffn => &[Part::Dense, Part::Shared, Part::Experts],
        Parts::Experts => &[Part::Experts],
    }
}

impl Effect for WeightQuant {
    fn parts(&self) -> Option<Parts> {
        Some(self.parts)
    }

    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        let sixteen = target.precision.activation;
        let weight = self.storage.unwrap_or(Storage::plain(sixteen));
        let name = if self.storage.is_some() { self.name.clone() } else { sixteen.to_string() };
        let others = &target.precision.weights_name;
        target.precision.weights_name = match self.parts.name() {
            None => name,
            Some(part) if others.contains(PARTLY) => format!("{others}, {name} {part}"),
            Some(part) => format!("{others}{PARTLY}{name} {part}"),
        };
        let layers = &mut target.model.layers;
        target.precision.replace(layers, layer_parts(self.parts), |_| Linear { weight, activation: sixteen });
        Ok(())
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        let converts = |op: &Op| {
            let touched = op.work.touched.map_or(0.0, |touched| touched.conversions_per_expert);
            self.parts.has(op) && op.work.vector_flops.fixed + touched > 0.0
        };
        let plain = context.activation_bytes();
        replace(&mut program.ops, converts, |mut op| {
            op.work.vector_flops.fixed *= self.ops;
            if let Some(touched) = &mut op.work.touched {
                touched.conversions_per_expert *= self.ops;
            }
            if self.dequant == Dequant::Fused {
                return Ok(vec![op]);
            }
            let mut work = Work { vector_flops: Rate::fixed(op.work.vector_flops.fixed), ..Work::default() };
            op.work.vector_flops.fixed = 0.0;
            let each = elements_per_expert(&op);
            if let Some(touched) = &mut op.work.touched {
                let mut own = *touched;
                own.bytes_per_expert = 0.0;
                if self.dequant == Dequant::Kernel {
                    let written = each * plain;
                    own.bytes_per_expert = touched.bytes_per_expert + written;
                    touched.bytes_per_expert = written;
                }
                touched.conversions_per_expert = 0.0;
                work.touched = Some(own);
            } else if self.dequant == Dequant::Kernel {
                let written = elements(&op) * plain;
                work.weight_bytes = op.work.weight_bytes;
                work.activation_bytes = Rate::fixed(written);
                op.work.weight_bytes = Rate::fixed(written);
            }
            work.resident = Resident::default();
            let before = beside(&op, format!("dequantize[{}]", op.name), Family::Elementwise, work);
            Ok(if self.dequant == Dequant::Off { vec![op] } else { vec![before, op] })
        })
    }
}
