//! Devices by name: the files of `data/hardware/`, embedded, and how a name finds one.

use std::sync::LazyLock;

use super::Found;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::hardware::{Fact, Hardware, hardware_from_toml};
use crate::names;
use crate::table::{Column, Table};
use crate::units::{GB, GIB, TFLOPS};

/// Names and texts of the files `data/hardware/NAME.toml`.
macro_rules! embedded {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("../../data/hardware/", $name, ".toml")))),*]
    };
}

const FILES: &[(&str, &str)] = embedded![
    "a10",
    "a100-40gb-pcie",
    "a100-40gb-sxm",
    "a100-80gb-pcie",
    "a100-80gb-sxm",
    "a10g",
    "a30",
    "a40",
    "a800-80gb-sxm",
    "arc-pro-b60",
    "b200-sxm",
    "b300-sxm",
    "core-i9-13900k",
    "epyc-9654",
    "epyc-9755",
    "gaudi2",
    "gaudi3",
    "gb200",
    "gb300",
    "gddr6-aim",
    "gh200",
    "grace",
    "graviton4",
    "groq-lpu",
    "h100-nvl",
    "h100-pcie",
    "h100-sxm",
    "h20",
    "h200-nvl",
    "h200-sxm",
    "h800-sxm",
    "hbm-pim",
    "inferentia2",
    "jetson-agx-orin",
    "jetson-thor",
    "l20",
    "l4",
    "l40",
    "l40s",
    "m2-ultra",
    "m4-max",
    "mi210",
    "mi250x",
    "mi250x-gcd",
    "mi300x",
    "mi325x",
    "mi350x",
    "mi355x",
    "rtx-3090",
    "rtx-4090",
    "rtx-5090",
    "rtx-6000-ada",
    "rtx-a6000",
    "rtx-pro-6000-server",
    "rtx-pro-6000-workstation",
    "t4",
    "tpu-v4",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
    "tpu-v7",
    "trainium1",
    "trainium2",
    "v100-pcie",
    "v100-sxm",
    "v100-sxm-16gb",
    "xeon-6980p",
    "xeon-8592",
];

/// Names of families, and the member usually meant by them.
const FAMILIES: [(&str, &str); 32] = [
    ("v100", "v100-sxm"),
    ("v100-32gb", "v100-sxm"),
    ("a100", "a100-80gb-sxm"),
    ("a100-40gb", "a100-40gb-sxm"),
    ("a100-80gb", "a100-80gb-sxm"),
    ("a800", "a800-80gb-sxm"),
    ("a800-80gb", "a800-80gb-sxm"),
    ("h100", "h100-sxm"),
    ("h100-80gb", "h100-sxm"),
    ("h800", "h800-sxm"),
    ("rtx-pro-6000", "rtx-pro-6000-server"),
    ("rtx-pro-6000-blackwell", "rtx-pro-6000-server"),
    ("jetson-orin", "jetson-agx-orin"),
    ("orin", "jetson-agx-orin"),
    ("mi300", "mi300x"),
    ("mi325", "mi325x"),
    ("mi355", "mi355x"),
    ("gaudi", "gaudi3"),
    ("tpu", "tpu-v5e"),
    ("tpu-v5", "tpu-v5p"),
    ("tpu-v6", "tpu-v6e"),
    ("trainium", "trainium2"),
    ("trn", "trainium2"),
    ("inferentia", "inferentia2"),
    ("m2", "m2-ultra"),
    ("m4", "m4-max"),
    ("xeon", "xeon-6980p"),
    ("epyc", "epyc-9755"),
    ("graviton", "graviton4"),
    ("blackwell", "b200-sxm"),
    ("hopper", "h100-sxm"),
    ("pim", "hbm-pim"),
];

/// Words of a name that say who made or sold the device, not which it is.
const MAKERS: [&str; 15] = [
    "nvidia", "tesla", "geforce", "quadro", "amd", "instinct", "intel", "habana", "google", "cloud", "aws",
    "amazon", "apple", "samsung", "gpu",
];

static CATALOG: LazyLock<Result<Vec<Hardware>>> = LazyLock::new(|| {
    FILES.iter().map(|(name, text)| hardware_from_toml(&format!("{name}.toml"), text)).collect()
});

fn catalog() -> Result<&'static [Hardware]> {
    CATALOG.as_deref().map_err(Clone::clone)
}

/// The device called `name`.
///
/// Case, punctuation and the maker's name do not matter (`NVIDIA H100 80GB HBM3`, as nvidia-smi prints it, is
/// `h100-sxm`). The name of a family stands for its usual member, and the note says so.
///
/// ```
/// let found = roofline_core::catalog::hardware::hardware("H100")?;
/// assert_eq!(found.item.name, "h100-sxm");
/// assert_eq!(found.note.as_deref(), Some("`H100` taken as `h100-sxm`"));
/// # Ok::<(), roofline_core::error::Error>(())
/// ```
///
/// # Errors
/// A name that nothing is known under, with the nearest three.
pub fn hardware(name: &str) -> Result<Found<Hardware>> {
    let catalog = catalog()?;
    let wanted = words(name).concat();
    let called = |device: &&Hardware| spellings(device).any(|spelling| words(spelling).concat() == wanted);
    if let Some(device) = catalog.iter().find(called) {
        return Ok(Found { item: device.clone(), note: None });
    }
    let family = FAMILIES.iter().find(|(family, _)| words(family).concat() == wanted);
    let member = family.and_then(|(_, member)| catalog.iter().find(|device| device.name == *member));
    match member {
        Some(device) => {
            let note = format!("`{}` taken as `{}`", name.trim(), device.name);
            Ok(Found { item: device.clone(), note: Some(note) })
        }
        None => {
            let nearest = names::nearest(&words(name).join("-"), hardware_names(), 3);
            Err(Error::UnknownName { kind: "hardware", name: name.to_string(), nearest })
        }
    }
}

/// The device of exactly that name, not copied.
pub fn known(name: &str) -> Option<&'static Hardware> {
    catalog().ok()?.iter().find(|device| device.name == name)
}

/// The names of all devices, in alphabetical order.
pub fn hardware_names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// All devices, one row each; null where a figure is unknown, or where the device does not multiply in the format.
///
/// # Errors
/// None, unless a shipped file is broken.
pub fn hardware_table() -> Result<Table> {
    let catalog = catalog()?;
    let text = |of: fn(&Hardware) -> &str| {
        Column::Str(catalog.iter().map(|device| of(device).to_string()).collect())
    };
    let fact = |unit: f64, of: fn(&Hardware) -> &Fact| {
        Column::OptF64(catalog.iter().map(|device| of(device).value.map(|value| value / unit)).collect())
    };
    let peak = |format: Format| {
        let native = |device: &Hardware| {
            device.multiply_format(format).filter(|multiplied| *multiplied == format)?;
            device.tensor_peak(format, false).map(|peak| peak / TFLOPS)
        };
        Column::OptF64(catalog.iter().map(native).collect())
    };
    Ok(Table::new()
        .with("name", text(|device| &device.name))
        .with("title", text(|device| &device.title))
        .with("vendor", text(|device| &device.vendor))
        .with("architecture", text(|device| &device.architecture))
        .with("memory_gib", fact(GIB, |device| &device.memory.capacity))
        .with("bandwidth_gb_s", fact(GB, |device| &device.memory.bandwidth))
        .with("bf16_tflops", peak(Format::Bf16))
        .with("fp8_tflops", peak(Format::Fp8))
        .with("fp4_tflops", peak(Format::Fp4))
        .with("scale_up_gb_s", fact(GB, |device| &device.scale_up.bandwidth))
        .with("tdp_w", fact(1.0, |device| &device.tdp))
        .with("usd_per_hour", fact(1.0, |device| &device.price)))
}

/// Every name a device answers to.
fn spellings(device: &Hardware) -> impl Iterator<Item = &str> {
    [device.name.as_str(), device.title.as_str()].into_iter().chain(device.aliases.iter().map(String::as_str))
}

/// The words of a name that tell devices apart, in one spelling: `NVIDIA A100_80G` → `a100`, `80gb`.
fn words(name: &str) -> Vec<String> {
    let lower = name.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.filter(|word| !MAKERS.contains(word)).map(gigabytes).collect()
}

/// `80g` as `80gb`, any other word as it is.
fn gigabytes(word: &str) -> String {
    match word.strip_suffix('g') {
        Some(number) if number.parse::<u32>().is_ok() => format!("{number}gb"),
        _ => word.to_string(),
    }
}

#[cfg(test)]
mod tests;
