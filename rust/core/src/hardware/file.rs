//! A device from its TOML file: one file a device, every value with its unit and its source.

use toml::Table;

use super::document::{Reader, Section};
use super::quantity::Quantity;
use super::{Fact, Hardware, Kind, Link, Memory, Topology};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::names;

/// A device from the text of its file; `origin` is the file's name, with which every mistake begins.
///
/// A file needs `name`, the device memory's capacity and bandwidth, and one peak (`bf16` or `fp16` under
/// `[tensor.dense]`, or `fp32` under `[vector]`). Everything else may be left out and is then unknown:
///
/// | table | keys |
/// |---|---|
/// | the file itself | `name`, `title`, `vendor`, `kind` (`gpu`, `accelerator`, `soc`, `cpu`, `pim`), `architecture`, `aliases` |
/// | `tensor.dense`, `tensor.sparse`, `vector` | a peak per number format |
/// | `compute` | `cores`, `clock`, `exponentials` (a core and clock), `accumulation` (share of the full rate with 32-bit sums) |
/// | `memory.device`, `.l2`, `.on_chip` (of one core), `.host` | `capacity`, `bandwidth`; `device` also `ecc` (share that correction in line takes) |
/// | `link.host`, `.scale_up`, `.scale_out` | `name`, `bandwidth` (a direction, a device), `latency` (a hop), `topology` (`switch`, `mesh`, `ring`, `torus`, `pcie`), `in_network`; `scale_up` also `domain`, `through_host` |
/// | `power`, `price` | `tdp`, `idle`; `rent` |
///
/// ```
/// let device = roofline_core::hardware::hardware_from_toml(
///     "my-gpu.toml",
///     r#"
///     name = "my-gpu"
///     [tensor.dense]
///     bf16 = { value = 500.0, unit = "TFLOP/s", source = "its datasheet" }
///     [memory.device]
///     capacity = { value = 48, unit = "GiB" }
///     bandwidth = { value = 1.2, unit = "TB/s" }
///     "#,
/// )?;
/// assert_eq!(device.memory.bandwidth.value, Some(1.2e12));
/// assert_eq!(device.memory.bandwidth.source, "my-gpu.toml");
/// # Ok::<(), roofline_core::error::Error>(())
/// ```
///
/// # Errors
/// Every mistake of the file, with its path: text that is not TOML, unknown keys, missing keys, values that are not
/// positive, units that do not measure the quantity, a sparse peak below the dense one.
pub fn hardware_from_toml(origin: &str, text: &str) -> Result<Hardware> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| not_toml(origin, text, &error))?;
    let mut reader = Reader::new(origin);
    let hardware = read(&mut reader, &Section::root(&table));
    reader.finish()?;
    Ok(hardware)
}

const KEYS: [&str; 13] = [
    "name",
    "title",
    "vendor",
    "kind",
    "architecture",
    "aliases",
    "tensor",
    "vector",
    "compute",
    "memory",
    "link",
    "power",
    "price",
];
const KINDS: [(&str, Kind); 5] = [
    ("gpu", Kind::Gpu),
    ("accelerator", Kind::Accelerator),
    ("soc", Kind::Soc),
    ("cpu", Kind::Cpu),
    ("pim", Kind::Pim),
];
const TOPOLOGIES: [(&str, Topology); 5] = [
    ("switch", Topology::Switch),
    ("mesh", Topology::Mesh),
    ("ring", Topology::Ring),
    ("torus", Topology::Torus),
    ("pcie", Topology::Pcie),
];

fn not_toml(origin: &str, text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
    Error::spec(format!("{origin}: line {line}"), "must be TOML", error.message(), "")
}

fn read(reader: &mut Reader<'_>, root: &Section<'_>) -> Hardware {
    reader.only(root, &KEYS);
    reader.required(root, "name");
    let name = names::normalise(&reader.text(root, "name").unwrap_or_default());
    let tensor = reader.section(root, "tensor");
    reader.only(&tensor, &["dense", "sparse"]);
    let before_peaks = reader.mistakes();
    let dense = reader.section(&tensor, "dense");
    let sparse = reader.section(&tensor, "sparse");
    let vector = reader.section(root, "vector");
    let compute = reader.section(root, "compute");
    reader.only(&compute, &["cores", "clock", "exponentials", "accumulation"]);
    let power = reader.section(root, "power");
    reader.only(&power, &["tdp", "idle"]);
    let price = reader.section(root, "price");
    reader.only(&price, &["rent"]);
    let tensor_dense = reader.peaks(&dense);
    let tensor_sparse = reader.peaks(&sparse);
    let vector = reader.peaks(&vector);
    if reader.mistakes() == before_peaks {
        check_peaks(reader, &tensor_dense, &tensor_sparse, &vector);
    }
    let memories = reader.section(root, "memory");
    reader.only(&memories, &["device", "l2", "on_chip", "host"]);
    let links = reader.section(root, "link");
    reader.only(&links, &["host", "scale_up", "scale_out"]);
    Hardware {
        title: reader.text(root, "title").unwrap_or_else(|| name.clone()),
        vendor: reader.text(root, "vendor").unwrap_or_else(|| "unknown".into()),
        kind: reader.choice(root, "kind", &KINDS).unwrap_or(Kind::Gpu),
        architecture: reader.text(root, "architecture").unwrap_or_else(|| "unknown".into()),
        aliases: reader.texts(root, "aliases"),
        tensor_dense,
        tensor_sparse,
        vector,
        cores: reader.fact(&compute, "cores", Quantity::Count),
        clock: reader.fact(&compute, "clock", Quantity::Frequency),
        exponentials: reader.fact(&compute, "exponentials", Quantity::Count),
        accumulation: reader.fact(&compute, "accumulation", Quantity::Share),
        ecc: {
            let device = reader.section(&memories, "device");
            reader.fact(&device, "ecc", Quantity::Share)
        },
        memory: device_memory(reader, &memories),
        l2: memory(reader, &memories, "l2"),
        on_chip: memory(reader, &memories, "on_chip"),
        host: memory(reader, &memories, "host"),
        host_link: link(reader, &links, "host", DomainRule::One),
        scale_up: link(reader, &links, "scale_up", DomainRule::Given),
        scale_out: link(reader, &links, "scale_out", DomainRule::Unbounded),
        tdp: reader.fact(&power, "tdp", Quantity::Power),
        idle: reader.fact(&power, "idle", Quantity::Power),
        price: reader.fact(&price, "rent", Quantity::Price),
        name,
    }
}

/// Refuses a device without a peak to build a roof on, or with a sparse peak below its dense one.
fn check_peaks(
    reader: &mut Reader<'_>,
    dense: &[(Format, Fact)],
    sparse: &[(Format, Fact)],
    vector: &[(Format, Fact)],
) {
    let of = |peaks: &[(Format, Fact)], format: Format| {
        peaks.iter().find(|(known, _)| *known == format).and_then(|(_, fact)| fact.value)
    };
    let known = [of(dense, Format::Bf16), of(dense, Format::Fp16), of(vector, Format::Fp32)];
    if known.iter().all(Option::is_none) {
        let must = "must have a known bf16 or fp16 peak, or [vector] a known fp32 peak";
        let hint = r#"add `bf16 = { value = ..., unit = "TFLOP/s", source = "..." }` under [tensor.dense]"#;
        reader.fail("tensor.dense", must, "neither", hint);
    }
    for (format, fact) in sparse {
        if let (Some(sparse), Some(dense)) = (fact.value, of(dense, *format))
            && sparse < dense
        {
            let must = format!("must be at least the dense peak, {} TFLOP/s", Quantity::Rate.shown(dense).0);
            let was = format!("{} TFLOP/s", Quantity::Rate.shown(sparse).0);
            let hint = "datasheets often print the sparse figure: are the two swapped?";
            reader.fail(&format!("tensor.sparse.{format}.value"), &must, was, hint);
        }
    }
}

fn memory(reader: &mut Reader<'_>, memories: &Section<'_>, key: &str) -> Memory {
    let memory = reader.section(memories, key);
    let known: &[&str] =
        if key == "device" { &["capacity", "bandwidth", "ecc"] } else { &["capacity", "bandwidth"] };
    reader.only(&memory, known);
    Memory {
        capacity: reader.fact(&memory, "capacity", Quantity::Capacity),
        bandwidth: reader.fact(&memory, "bandwidth", Quantity::Bandwidth),
    }
}

/// The device's own memory, without which there is no roof.
fn device_memory(reader: &mut Reader<'_>, memories: &Section<'_>) -> Memory {
    let before = reader.mistakes();
    let memory = memory(reader, memories, "device");
    if reader.mistakes() == before {
        for (key, fact) in [("capacity", &memory.capacity), ("bandwidth", &memory.bandwidth)] {
            if fact.value.is_none() {
                let was = if fact.source.is_empty() { "missing" } else { "unknown" };
                reader.fail(&format!("memory.device.{key}"), "must be given, a roofline needs it", was, "");
            }
        }
    }
    memory
}

/// How many devices a link reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DomainRule {
    /// The link to the host reaches no other device.
    One,
    /// The file says it.
    Given,
    /// As many as there are.
    Unbounded,
}

fn link(reader: &mut Reader<'_>, links: &Section<'_>, key: &str, rule: DomainRule) -> Link {
    let section = reader.section(links, key);
    if !section.is_present() {
        return Link { domain: 1, ..Link::default() };
    }
    let domain = match rule {
        DomainRule::Given => {
            let known = ["name", "bandwidth", "latency", "domain", "topology", "in_network", "through_host"];
            reader.only(&section, &known);
            reader.required(&section, "domain");
            reader.whole(&section, "domain").unwrap_or(1)
        }
        DomainRule::One | DomainRule::Unbounded => {
            reader.only(&section, &["name", "bandwidth", "latency", "topology", "in_network"]);
            if rule == DomainRule::One { 1 } else { u32::MAX }
        }
    };
    reader.required(&section, "bandwidth");
    Link {
        name: reader.text(&section, "name").unwrap_or_default(),
        bandwidth: reader.fact(&section, "bandwidth", Quantity::Bandwidth),
        latency: reader.fact(&section, "latency", Quantity::Time),
        domain,
        topology: reader.choice(&section, "topology", &TOPOLOGIES).unwrap_or_default(),
        in_network: reader.truth(&section, "in_network"),
        through_host: reader.truth(&section, "through_host"),
    }
}

impl Kind {
    /// Its name, as files write it.
    pub fn name(self) -> &'static str {
        name_of(&KINDS, &self)
    }
}

impl Topology {
    /// Its name, as files write it.
    pub fn name(self) -> &'static str {
        name_of(&TOPOLOGIES, &self)
    }
}

fn name_of<T: PartialEq>(choices: &[(&'static str, T)], choice: &T) -> &'static str {
    choices.iter().find(|(_, known)| known == choice).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests;
