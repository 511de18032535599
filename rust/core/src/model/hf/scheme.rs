//! What a quantization says: which modules are stored how, and how numbers of so many bits lie in memory.

use serde_json::Value;

use super::keys::Keys;
use super::pattern::Pattern;
use crate::error::Result;
use crate::format::{Format, Storage};
use crate::model::Linear;

/// Where a rule of a quantization applies.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Every linear layer.
    All,
    /// Routed experts only.
    Experts,
    /// Modules of these names.
    Modules(Vec<Pattern>),
}

/// A checkpoint's quantization.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    /// As users say it (`fp8`, `awq`).
    pub name: String,
    /// What is stored how; the first rule that applies counts.
    pub rules: Vec<(Target, Linear)>,
    /// Modules left as they were.
    pub excluded: Vec<Pattern>,
    /// KV cache format it asks for.
    pub kv_format: Option<Format>,
    /// Sentences about what was assumed.
    pub notes: Vec<String>,
}

/// The storage of a float or integer of `bits` bits with a scale per `group` (0: per tensor or row).
///
/// # Errors
/// No format has so many bits.
pub fn storage(keys: &Keys<'_>, kind: &str, bits: u64, group: u32, zero_point: bool) -> Result<Storage> {
    let format = match (kind, bits) {
        ("float", 8) => Format::Fp8,
        ("float", 4) => Format::Fp4,
        ("int", 8) => Format::Int8,
        ("int", 4) => Format::Int4,
        ("int", 3) => Format::Int3,
        ("int", 2) => Format::Int2,
        _ => {
            let must = "must be 2, 3, 4 or 8 (int) or 4 or 8 (float)";
            return Err(keys.error("num_bits", must, format!("{bits} ({kind})"), ""));
        }
    };
    Ok(match (format, group) {
        (Format::Fp4, 32) => Storage::MXFP4,
        (Format::Fp4, _) => Storage::NVFP4,
        (_, 0) => Storage::plain(format),
        (_, group) => {
            let zero = if zero_point { bits as f64 } else { 0.0 };
            Storage::grouped(format, 16.0 + zero, group)
        }
    })
}

/// Patterns under any of `keys`.
///
/// # Errors
/// A list that holds something else than texts, or an expression that cannot be read.
pub fn patterns(config: &Keys<'_>, keys: &[&str]) -> Result<Vec<Pattern>> {
    let mut found = Vec::new();
    for key in keys {
        for text in config.texts(key)?.unwrap_or_default() {
            found.push(Pattern::parse(text).map_err(|why| config.error(key, why, text, ""))?);
        }
    }
    Ok(found)
}

/// A KV cache format written as a name (`FP8`) or as an object with `num_bits` and `type`.
///
/// # Errors
/// Neither of the two, or a format that is not known.
pub fn kv_format(config: &Keys<'_>, key: &str) -> Result<Option<Format>> {
    match config.get(key) {
        None => Ok(None),
        Some(Value::String(name)) => Format::parse(name).map(Some),
        Some(value) => {
            let scheme = Keys::new(&config.field(key), value)?;
            let kind = scheme.text("type")?.unwrap_or("float");
            storage(&scheme, kind, scheme.size("num_bits")?, 0, false).map(|storage| Some(storage.format))
        }
    }
}
