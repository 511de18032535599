//! Weight and activation quantization: multiplications in a narrower format.

use std::sync::Arc;

use super::ops::Parts;
use super::weight_quant::layer_parts;
use super::{Effect, Kind, Parameter, Slot, Target};
use crate::error::Result;
use crate::format::Format;
use crate::model::{LayerGroup, Linear, Quant};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "activation-quant",
    aliases: &["activation-quantization", "aq", "smoothquant"],
    class: "weight and activation quantization; number formats",
    about: "multiplies in a narrower format; weights as wide as that, or narrower, come from weight-quant",
    parameters: &[
        Parameter {
            key: "format",
            default: "",
            about: "int8, int4, fp8, fp6, fp4 (nvfp4, mxfp4), or bf16 for none",
        },
        Parameter { key: "parts", default: "all", about: "all, attention, ffn or experts" },
    ],
    changes: "A, peak of each operator; + quantization of activations",
    formula: "the peak of the smallest supported format that holds both operands; T·m activations are quantized: 2 vector \
              operations each, one read and one write unless fused",
    source: "SmoothQuant (arXiv 2211.10438), QServe (arXiv 2405.04532); the survey",
    pays: "prefill and large batches: the tensor unit is twice as fast for half the bits",
    loses: "where the device does not multiply the format: it is converted up and gains nothing",
    slots: &[Slot::Activations],
    read: |settings| {
        let format = match settings.get("format") {
            Some("nvfp4" | "mxfp4" | "fp4") => Some(Format::Fp4),
            Some("bf16" | "fp16") => None,
            Some(name) => match Format::parse(name) {
                Ok(format @ (Format::Int8 | Format::Int4 | Format::Fp8 | Format::Fp6)) => Some(format),
                _ => {
                    return Err(settings.wrong(
                        "format",
                        "must be one of int8, int4, fp8, fp6, fp4, bf16",
                        "",
                    ));
                }
            },
            None => return Err(settings.wrong("format", "must be given", "for example fp8")),
        };
        Ok(Arc::new(ActivationQuant { format, parts: settings.choice("parts", &Parts::NAMES)? }))
    },
};

#[derive(Debug)]
struct ActivationQuant {
    format: Option<Format>,
    parts: Parts,
}

impl Effect for ActivationQuant {
    fn parts(&self) -> Option<Parts> {
        Some(self.parts)
    }

    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        let Some(format) = self.format else { return Ok(()) };
        let before = target.precision.clone();
        let quants: Vec<Quant> = target.model.layers.iter().map(|group| group.quant.clone()).collect();
        target.precision.replace(&mut target.model.layers, layer_parts(self.parts), |linear| {
            let wider = linear.weight.format.bits() > format.bits();
            Linear { activation: if wider { linear.weight.format } else { format }, ..linear }
        });
        // Weights that are wider decide what is multiplied.
        let same = |(group, old): (&LayerGroup, &Quant)| group.quant == *old;
        if *target.precision == before && target.model.layers.iter().zip(&quants).all(same) {
            return Ok(());
        }
        let weights = &target.precision.weights_name;
        if *weights != format.to_string() {
            target.precision.weights_name = match self.parts.name() {
                None => format!("{weights} x {format}"),
                Some(part) => format!("{weights} x {format} ({part})"),
            };
        }
        Ok(())
    }
}
