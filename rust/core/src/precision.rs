//! In which formats a model is run: as its checkpoint is stored, or as the user asks.

use crate::error::{Error, Result};
use crate::format::{Format, Storage};
use crate::model::{LayerGroup, Linear, Model, Part};
use crate::names;

/// A quantization scheme by its usual name: how weights are stored and what they are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scheme {
    /// Its name (`w4a16`).
    pub name: &'static str,
    /// How weights are stored; `None` keeps the activations' format.
    weight: Option<Storage>,
    /// The format activations enter in; `None` keeps the model's.
    activation: Option<Format>,
    /// What it is, in words.
    pub about: &'static str,
}

const INT4_GROUP: Storage = Storage::grouped(Format::Int4, 16.0 + 4.0, 128);

/// Every scheme with a name.
pub const SCHEMES: [Scheme; 16] = [
    scheme(
        "bf16",
        Some(Storage::plain(Format::Bf16)),
        Some(Format::Bf16),
        "bfloat16 weights and activations",
    ),
    scheme(
        "fp16",
        Some(Storage::plain(Format::Fp16)),
        Some(Format::Fp16),
        "half-precision weights and activations",
    ),
    scheme("fp32", Some(Storage::plain(Format::Fp32)), Some(Format::Fp32), "single precision"),
    scheme(
        "fp8",
        Some(Storage::plain(Format::Fp8)),
        Some(Format::Fp8),
        "FP8 weights and activations, a scale a tensor or row",
    ),
    scheme(
        "fp8-block",
        Some(Storage::FP8_BLOCK),
        Some(Format::Fp8),
        "FP8 with a scale per 128×128 block (DeepSeek)",
    ),
    scheme(
        "int8",
        Some(Storage::plain(Format::Int8)),
        Some(Format::Int8),
        "INT8 weights and activations (SmoothQuant)",
    ),
    scheme("w8a16", Some(Storage::plain(Format::Int8)), None, "INT8 weights, 16-bit multiplication"),
    scheme(
        "w4a16",
        Some(INT4_GROUP),
        None,
        "INT4 weights in groups of 128 with scale and zero point, 16-bit multiplication",
    ),
    scheme("awq", Some(INT4_GROUP), None, "as w4a16"),
    scheme("gptq", Some(INT4_GROUP), None, "as w4a16"),
    scheme(
        "w3a16",
        Some(Storage::grouped(Format::Int3, 20.0, 128)),
        None,
        "INT3 weights, 16-bit multiplication",
    ),
    scheme(
        "w2a16",
        Some(Storage::grouped(Format::Int2, 20.0, 64)),
        None,
        "INT2 weights in groups of 64, 16-bit multiplication",
    ),
    scheme("w4a8", Some(INT4_GROUP), Some(Format::Int8), "INT4 weights, INT8 activations (QServe)"),
    scheme("w4afp8", Some(INT4_GROUP), Some(Format::Fp8), "INT4 weights, FP8 activations"),
    scheme("nvfp4", Some(Storage::NVFP4), Some(Format::Fp4), "NVFP4 weights and activations"),
    scheme("mxfp4", Some(Storage::MXFP4), None, "MXFP4 weights, 16-bit multiplication"),
];

const fn scheme(
    name: &'static str,
    weight: Option<Storage>,
    activation: Option<Format>,
    about: &'static str,
) -> Scheme {
    Scheme { name, weight, activation, about }
}

/// In which formats a model is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Precision {
    /// What replaces the checkpoint's own choice in the matrices of the layers; `None` keeps it.
    matrices: Option<Linear>,
    /// What replaces it in single parts.
    parts: Vec<(Part, Linear)>,
    /// The residual stream, norms, and whatever is not quantized.
    pub activation: Format,
    /// How the KV cache is stored.
    pub kv: Storage,
    /// How it is called on screens (`fp8 weights, bf16 KV`).
    pub weights_name: String,
}

/// What a user asks for; empty fields keep what the checkpoint has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// A scheme by name, or `auto`.
    pub quantization: Option<String>,
    /// A KV cache format by name, or `auto`.
    pub kv_cache_dtype: Option<String>,
    /// Bits of a weight (16, 8, 4, 3, 2 or 1), instead of a scheme.
    pub w_bits: Option<u32>,
    /// Bits of an activation (16, 8 or 4), instead of a scheme.
    pub a_bits: Option<u32>,
}

impl Precision {
    /// What `request` means for `model`. A checkpoint stored in fp32 runs in bf16 unless fp32 is asked for, as
    /// engines do by default; asked for by the name of its own method a quantized checkpoint is run as it is, blocks
    /// and parts left wide included (vLLM: `--quantization` has to be what the checkpoint says).
    ///
    /// # Errors
    /// An unknown scheme or format (with the nearest), bit widths no format has, a scheme and bits both given.
    pub fn resolve(model: &Model, request: &Request) -> Result<Precision> {
        let named = request.quantization.as_deref().filter(|name| *name != "auto");
        if named.is_some() && (request.w_bits.is_some() || request.a_bits.is_some()) {
            return Err(Error::spec(
                "quantization",
                "must not be given together with w_bits or a_bits",
                named.unwrap_or_default(),
                "give one of them",
            ));
        }
        let own = |name: &&str| {
            model.quantization.as_deref().is_some_and(|own| scheme_name(own) == scheme_name(name))
        };
        let named = named.filter(|name| !own(name));
        let (matrices, activation, weights_name) = match (named, request.w_bits, request.a_bits) {
            (Some(name), _, _) => by_name(model, name)?,
            (None, None, None) if model.dtype == Format::Fp32 && model.quantization.is_none() => {
                by_name(model, "bf16")?
            }
            (None, None, None) => {
                let name = model.quantization.clone().unwrap_or_else(|| model.dtype.to_string());
                (None, model.dtype, name)
            }
            (None, weight, activation) => by_bits(model, weight.unwrap_or(16), activation.unwrap_or(16))?,
        };
        let kv = match request.kv_cache_dtype.as_deref() {
            None | Some("auto") => model.kv_format.unwrap_or(activation),
            Some(name) => kv_format(name)?,
        };
        Ok(Precision { matrices, parts: Vec::new(), activation, kv: Storage::plain(kv), weights_name })
    }

    /// How `part` of a layer is stored and multiplied. Routers stay in the activations' format, as engines keep them.
    pub fn of(&self, group: &LayerGroup, part: Part) -> Linear {
        if let Some((_, linear)) = self.parts.iter().find(|(known, _)| *known == part) {
            return *linear;
        }
        match (self.matrices, part) {
            (None, _) => group.quant.of(part),
            (Some(_), Part::Router) => Linear::plain(self.activation),
            (Some(linear), _) => linear,
        }
    }

    /// Whether nothing replaces the checkpoint's own choice.
    pub fn is_the_checkpoints(&self) -> bool {
        self.matrices.is_none() && self.parts.is_empty()
    }

    /// How the matrices of `parts` of `layers` are stored and multiplied from now on, as `change` makes of what they are;
    /// of all but their routers where `parts` is empty.
    pub fn replace(&mut self, layers: &mut [LayerGroup], parts: &[Part], change: impl Fn(Linear) -> Linear) {
        let Some(plain) = self.matrices else {
            layers.iter_mut().for_each(|group| group.quant.change(parts, &change));
            return;
        };
        if parts.is_empty() {
            self.matrices = Some(change(plain));
            for (_, linear) in &mut self.parts {
                *linear = change(*linear);
            }
        }
        for part in parts {
            match self.parts.iter_mut().find(|(known, _)| known == part) {
                Some((_, linear)) => *linear = change(*linear),
                None => self.parts.push((*part, change(plain))),
            }
        }
    }

    /// How embedding and head are stored: never quantized by a scheme.
    pub fn vocabulary(&self) -> Linear {
        Linear::plain(self.activation)
    }
}

type Choice = (Option<Linear>, Format, String);

/// The scheme that a name means, should there be one of that name.
fn scheme_name(name: &str) -> String {
    let wanted = names::normalise(name);
    match wanted.as_str() {
        "bfloat16" => "bf16",
        "float16" | "half" => "fp16",
        "float32" | "float" => "fp32",
        "w8a8" | "smoothquant" => "int8",
        "int4" => "w4a16",
        _ => return wanted,
    }
    .to_string()
}

fn by_name(model: &Model, name: &str) -> Result<Choice> {
    let wanted = scheme_name(name);
    let scheme = SCHEMES
        .iter()
        .find(|scheme| scheme.name == wanted)
        .ok_or_else(|| names::unknown("quantization", name, SCHEMES.iter().map(|scheme| scheme.name)))?;
    let sixteen = match scheme.name {
        "bf16" | "fp16" | "fp32" => scheme.activation.unwrap_or(model.dtype),
        _ => sixteen_bit(model.dtype),
    };
    let activation = scheme.activation.unwrap_or(sixteen);
    let weight = scheme.weight.unwrap_or(Storage::plain(activation));
    Ok((Some(Linear { weight, activation }), sixteen, scheme.name.to_string()))
}

/// Weights and activations of so many bits, multiplied in the wider of both formats.
fn by_bits(model: &Model, weight: u32, activation: u32) -> Result<Choice> {
    let sixteen = sixteen_bit(model.dtype);
    let format = |field: &str, bits: u32, allowed: &[u32]| -> Result<Format> {
        match bits {
            16 => Ok(sixteen),
            8 if allowed.contains(&8) => Ok(Format::Int8),
            4 if allowed.contains(&4) => Ok(Format::Int4),
            3 if allowed.contains(&3) => Ok(Format::Int3),
            2 if allowed.contains(&2) => Ok(Format::Int2),
            1 if allowed.contains(&1) => Ok(Format::Int1),
            _ => Err(Error::spec(field, format!("must be one of {allowed:?}"), bits, "")),
        }
    };
    let weight_format = format("w_bits", weight, &[16, 8, 4, 3, 2, 1])?;
    let activation_format = format("a_bits", activation, &[16, 8, 4])?;
    let multiplied =
        if weight_format.bits() > activation_format.bits() { weight_format } else { activation_format };
    let linear = Linear { weight: Storage::plain(weight_format), activation: multiplied };
    Ok((Some(linear), sixteen, format!("w{weight}a{activation}")))
}

/// The 16-bit format a quantized model keeps its residual stream in.
fn sixteen_bit(dtype: Format) -> Format {
    if dtype == Format::Fp16 { Format::Fp16 } else { Format::Bf16 }
}

fn kv_format(name: &str) -> Result<Format> {
    const KNOWN: [&str; 6] = ["auto", "bf16", "fp16", "fp8", "int8", "int4"];
    let format = Format::parse(name).map_err(|_| names::unknown("kv_cache_dtype", name, KNOWN))?;
    match format {
        Format::Bf16
        | Format::Fp16
        | Format::Fp32
        | Format::Fp8
        | Format::Int8
        | Format::Int4
        | Format::Fp4 => Ok(format),
        _ => Err(names::unknown("kv_cache_dtype", name, KNOWN)),
    }
}
