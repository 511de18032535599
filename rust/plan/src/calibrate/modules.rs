//! Rows that measure a whole module of latent attention: projections, attention and products between them in one.

use roofline_core::catalog;
use roofline_core::hardware::Hardware;

use super::dimensions::{Columns, at, engine_name};
use super::frame::Frame;
use super::vocabulary;

/// One module's run.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// Its operation.
    pub op: String,
    /// The device.
    pub hardware: Hardware,
    /// The engine, as efficiency files call it.
    pub engine: String,
    /// The format of its projections, as `quantization` takes it; empty: as the checkpoint has them.
    pub quantization: &'static str,
    /// The format of its cache, as `kv_cache_dtype` takes it.
    pub kv: &'static str,
    /// Heads on this device.
    pub heads: u64,
    /// Sequences.
    pub sequences: f64,
    /// New tokens of each.
    pub new: u64,
    /// Tokens of each that are cached before.
    pub cached: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Operations that are modules, with whether sequences decode.
const MODULES: [(&str, bool); 2] = [("mla_context_module", false), ("mla_generation_module", true)];

/// Projections under the names of measurement files.
const PROJECTIONS: [(&str, &str); 3] = [("bfloat16", "bf16"), ("fp8_block", ""), ("nvfp4", "nvfp4")];

/// Whether sequences decode in a module of that name; `None` where it is no module.
pub fn decodes(op: &str) -> Option<bool> {
    MODULES.iter().find(|(known, _)| known.eq_ignore_ascii_case(op)).map(|(_, decodes)| *decodes)
}

/// What holds where no column says it: the device and the engine.
pub type Default<'a> = (Option<&'a Hardware>, &'a str);

/// The modules among the rows of a frame, each or why it cannot be priced.
pub fn modules(
    frame: &Frame,
    default: Default<'_>,
    seconds: &dyn Fn(usize) -> f64,
) -> Vec<(String, Result<Module, String>)> {
    let Some(ops) = frame.word(vocabulary::OP) else { return Vec::new() };
    if !ops.list.iter().any(|word| decodes(word).is_some()) {
        return Vec::new();
    }
    let columns = Columns::of(frame);
    (0..frame.rows())
        .filter_map(|row| {
            let op = ops.at(row);
            let decodes = decodes(op)?;
            Some((
                op.to_ascii_lowercase(),
                module(frame, &columns, default, row, (op, decodes), seconds(row)),
            ))
        })
        .collect()
}

fn module(
    frame: &Frame,
    columns: &Columns<'_>,
    (device, engine): Default<'_>,
    row: usize,
    (op, decodes): (&str, bool),
    seconds: f64,
) -> Result<Module, String> {
    let word = |names: &[&str]| frame.word(names).map_or("", |words| words.at(row));
    if !(seconds.is_finite() && seconds > 0.0) {
        return Err("time must be a positive number".into());
    }
    let count = |column: Option<&[f64]>, name: &str| {
        at(column, row)
            .filter(|value| *value >= 1.0)
            .ok_or_else(|| format!("`{name}` must be a positive number"))
    };
    let hardware = match (device, word(vocabulary::DEVICE)) {
        (Some(hardware), "") => hardware.clone(),
        (None, "") => return Err(vocabulary::NO_DEVICE.into()),
        (_, name) => catalog::hardware::hardware(name).map_err(|error| error.to_string())?.item,
    };
    let format = word(&["distribution"]);
    let quantization = PROJECTIONS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(format))
        .ok_or_else(|| format!("`distribution` must name the format of a module's projections: `{format}`"))?
        .1;
    let named = word(vocabulary::ENGINE);
    let keys = count(columns.kv_len, "kv_len")? as u64;
    let new = if decodes { 1 } else { count(columns.q_len, "q_len")? as u64 };
    Ok(Module {
        op: op.to_ascii_lowercase(),
        hardware,
        engine: engine_name(if named.is_empty() { engine } else { named }),
        quantization,
        kv: if vocabulary::is_fp8(word(&["kv_dtype", "kv_cache_dtype"])) { "fp8" } else { "bf16" },
        heads: count(columns.heads, "heads")? as u64,
        sequences: count(columns.batch, "batch")?,
        new,
        cached: keys.saturating_sub(new),
        seconds,
    })
}
