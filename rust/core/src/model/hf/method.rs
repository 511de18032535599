//! The quantization methods one by one: what each writes into its configuration, and how numbers lie in memory then.

use super::keys::Keys;
use super::pattern::Pattern;
use super::scheme::{Quantization, Target, kv_format, patterns, storage};
use crate::error::Result;
use crate::format::{Format, Storage};
use crate::model::Linear;
use crate::names;

/// Keys under which methods list the modules they leave alone.
const EXCLUDED: &[&str] =
    &["modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules"];

fn everywhere(config: &Keys<'_>, name: &str, linear: Linear) -> Result<Quantization> {
    Ok(Quantization {
        name: name.to_string(),
        rules: vec![(Target::All, linear)],
        excluded: patterns(config, EXCLUDED)?,
        kv_format: None,
        notes: Vec::new(),
    })
}

/// DeepSeek's FP8: blocks of weights share an fp32 scale, or whole tensors do.
pub fn fp8(config: &Keys<'_>) -> Result<Quantization> {
    let weight = match config.counts("weight_block_size")? {
        None => Storage::plain(Format::Fp8),
        Some(block) => match block.as_slice() {
            [rows, columns] if *rows > 0 && *columns > 0 && rows.saturating_mul(*columns) <= 1 << 31 => {
                Storage::grouped(Format::Fp8, 32.0, (rows * columns) as u32)
            }
            other => {
                let must = "must be two positive numbers, rows and columns";
                return Err(config.error("weight_block_size", must, format!("{other:?}"), ""));
            }
        },
    };
    let mut quantization = everywhere(config, "fp8", Linear { weight, activation: Format::Fp8 })?;
    quantization.kv_format = kv_format(config, "kv_cache_scheme")?;
    Ok(quantization)
}

/// Meta's FP8: a scale a row.
pub fn fbgemm(config: &Keys<'_>) -> Result<Quantization> {
    everywhere(config, "fp8", Linear::plain(Format::Fp8))
}

/// gpt-oss: experts alone in MXFP4, multiplied in the model's own format.
pub fn mxfp4(config: &Keys<'_>, dtype: Format) -> Result<Quantization> {
    let linear = Linear { weight: Storage::MXFP4, activation: dtype };
    let rules = vec![(Target::Experts, linear)];
    Ok(Quantization { rules, ..everywhere(config, "mxfp4", linear)? })
}

/// GPTQ: integers of `bits` bits, an fp16 scale and a zero point a group (kept even where they are symmetric).
pub fn gptq(config: &Keys<'_>, dtype: Format) -> Result<Quantization> {
    let weight = integers(config, true)?;
    everywhere(config, "gptq", Linear { weight, activation: dtype })
}

/// AWQ: 4-bit integers, an fp16 scale a group, and a zero point unless `zero_point` is false.
pub fn awq(config: &Keys<'_>, dtype: Format) -> Result<Quantization> {
    let weight = integers(config, config.flag("zero_point", true)?)?;
    everywhere(config, "awq", Linear { weight, activation: dtype })
}

/// Weights of `bits` (or `w_bit`) bits in groups of `group_size` (or `q_group_size`; -1: a group a row).
fn integers(config: &Keys<'_>, zero_point: bool) -> Result<Storage> {
    let bits = config.size_of(&["bits", "w_bit"])?;
    let group = match group_size(config, "group_size")? {
        None => group_size(config, "q_group_size")?.unwrap_or(0),
        Some(group) => group,
    };
    storage(config, "int", bits, group, zero_point)
}

fn group_size(config: &Keys<'_>, key: &str) -> Result<Option<u32>> {
    match config.get(key) {
        None => Ok(None),
        Some(value) if value.as_i64() == Some(-1) => Ok(Some(0)),
        Some(value) => match value.as_u64().and_then(|group| u32::try_from(group).ok()) {
            Some(group) => Ok(Some(group)),
            None => Err(config.error(key, "must be a whole number, or -1 for a group a row", value, "")),
        },
    }
}

/// bitsandbytes: 8-bit integers a row, or 4-bit codes with an fp32 scale per 64 (itself in 8 bits if doubled).
pub fn bitsandbytes(config: &Keys<'_>, dtype: Format) -> Result<Quantization> {
    if config.flag("load_in_4bit", false)? {
        let double = config.flag("bnb_4bit_use_double_quant", false)?;
        let scale_bits = if double { 8.0 + 32.0 / 256.0 } else { 32.0 };
        let weight = Storage::grouped(Format::Int4, scale_bits, 64);
        let mut read = everywhere(config, "bnb-4bit", Linear { weight, activation: dtype })?;
        read.notes.push("bitsandbytes' 4-bit codes (nf4, fp4) are priced as int4".into());
        return Ok(read);
    }
    if config.flag("load_in_8bit", false)? {
        return everywhere(config, "bnb-int8", Linear::plain(Format::Int8));
    }
    Err(config.error("load_in_4bit", "must be true, or load_in_8bit", "neither", ""))
}

/// compressed-tensors: groups of modules, each with its scheme of weights and activations.
pub fn compressed_tensors(config: &Keys<'_>, dtype: Format) -> Result<Quantization> {
    let rules = groups(config, dtype)?.ok_or_else(|| config.missing("config_groups"))?;
    let name = rules.first().map_or_else(String::new, |(_, linear)| common_name(linear));
    let kv_format = kv_format(config, "kv_cache_scheme")?;
    Ok(Quantization { name, rules, excluded: patterns(config, EXCLUDED)?, kv_format, notes: Vec::new() })
}

fn groups(config: &Keys<'_>, dtype: Format) -> Result<Option<Vec<(Target, Linear)>>> {
    let Some(groups) = config.child("config_groups")? else { return Ok(None) };
    let mut rules = Vec::new();
    for name in groups.names() {
        let Some(group) = groups.child(name)? else { continue };
        let Some(weights) = group.child("weights")? else { continue };
        let weight = tensor(&weights)?;
        let activation = match group.child("input_activations")? {
            None => dtype,
            Some(activations) => tensor(&activations)?.format,
        };
        rules.push((target(&group)?, Linear { weight, activation }));
    }
    // A rule for named modules goes before one for all.
    rules.sort_by_key(|(target, _)| *target == Target::All);
    Ok(Some(rules))
}

fn target(group: &Keys<'_>) -> Result<Target> {
    let Some(targets) = group.texts("targets")? else { return Ok(Target::All) };
    if targets.contains(&"Linear") {
        return Ok(Target::All);
    }
    patterns(group, &["targets"]).map(Target::Modules)
}

fn tensor(scheme: &Keys<'_>) -> Result<Storage> {
    let kind = scheme.text("type")?.unwrap_or("int");
    let bits = scheme.size("num_bits")?;
    let zero_point = !scheme.flag("symmetric", true)?;
    let group = match scheme.text("strategy")? {
        Some("block") => {
            let block = scheme.counts("block_structure")?.unwrap_or_else(|| vec![128, 128]);
            let elements = block.iter().fold(1u64, |product, side| product.saturating_mul(*side));
            let group = u32::try_from(elements).unwrap_or(u32::MAX);
            return storage(scheme, kind, bits, 0, false)
                .map(|plain| Storage::grouped(plain.format, 32.0, group.max(1)));
        }
        _ => group_size(scheme, "group_size")?.unwrap_or(0),
    };
    storage(scheme, kind, bits, group, zero_point)
}

fn common_name(linear: &Linear) -> String {
    let weight_only = linear.activation.bits() > 8.0;
    match (linear.weight.format, linear.weight.group) {
        (Format::Fp8, _) if !weight_only => "fp8".into(),
        (Format::Fp4, 32) => "mxfp4".into(),
        (Format::Fp4, _) => "nvfp4".into(),
        (format, _) => format!("w{}a{}", format.bits(), linear.activation.bits()),
    }
}

/// Algorithms of NVIDIA's ModelOpt that are understood.
const ALGORITHMS: &[&str] =
    &["FP8", "NVFP4", "W4A16_AWQ", "FP8_PB_WO", "MXFP4", "INT8_SQ", "W4A8_AWQ", "W4A16_NVFP4"];

/// NVIDIA ModelOpt: one algorithm for all modules, or one a module (`MIXED_PRECISION`).
pub fn modelopt(config: &Keys<'_>, dtype: Format) -> Result<Quantization> {
    let inner = config.child("quantization")?;
    let config = inner.as_ref().unwrap_or(config);
    let algorithm = config.text("quant_algo")?.ok_or_else(|| config.missing("quant_algo"))?;
    let mixed = algorithm.eq_ignore_ascii_case("MIXED_PRECISION");
    let rules = match (mixed, groups(config, dtype)?) {
        (true, _) => mixed_rules(config, dtype)?,
        (false, Some(rules)) if !rules.is_empty() => rules,
        (false, _) => vec![(Target::All, named(algorithm, group_size(config, "group_size")?, dtype)?)],
    };
    let kv = match kv_format(config, "kv_cache_scheme")? {
        None => kv_format(config, "kv_cache_quant_algo")?,
        found => found,
    };
    Ok(Quantization {
        name: if mixed { "mixed".into() } else { algorithm.to_ascii_lowercase() },
        rules,
        excluded: patterns(config, EXCLUDED)?,
        kv_format: kv,
        notes: Vec::new(),
    })
}

fn mixed_rules(config: &Keys<'_>, dtype: Format) -> Result<Vec<(Target, Linear)>> {
    let layers = config.child("quantized_layers")?.ok_or_else(|| config.missing("quantized_layers"))?;
    let mut rules: Vec<(Target, Linear)> = Vec::new();
    for name in layers.names() {
        let Some(scheme) = layers.child(name)? else { continue };
        let algorithm = scheme.text("quant_algo")?.ok_or_else(|| scheme.missing("quant_algo"))?;
        let linear = named(algorithm, group_size(&scheme, "group_size")?, dtype)?;
        let pattern = Pattern::parse(name).map_err(|why| layers.error(name, why, name, ""))?;
        match rules.iter_mut().find(|(_, known)| *known == linear) {
            Some((Target::Modules(patterns), _)) => patterns.push(pattern),
            _ => rules.push((Target::Modules(vec![pattern]), linear)),
        }
    }
    Ok(rules)
}

fn named(algorithm: &str, group: Option<u32>, dtype: Format) -> Result<Linear> {
    let group = group.unwrap_or(128);
    let int4 = Storage::grouped(Format::Int4, 16.0, group);
    Ok(match algorithm.to_ascii_uppercase().as_str() {
        "FP8" | "FP8_PER_CHANNEL_PER_TOKEN" => Linear::plain(Format::Fp8),
        "NVFP4" | "NVFP4_AWQ" => Linear { weight: Storage::NVFP4, activation: Format::Fp4 },
        "W4A16_NVFP4" => Linear { weight: Storage::NVFP4, activation: dtype },
        "MXFP4" => Linear { weight: Storage::MXFP4, activation: Format::Fp4 },
        "W4A16_AWQ" => Linear { weight: int4, activation: dtype },
        "W4A8_AWQ" => Linear { weight: int4, activation: Format::Fp8 },
        "FP8_PB_WO" => Linear { weight: Storage::FP8_BLOCK, activation: dtype },
        "INT8_SQ" => Linear::plain(Format::Int8),
        _ => return Err(names::unknown("quantization algorithm", algorithm, ALGORITHMS.iter().copied())),
    })
}
