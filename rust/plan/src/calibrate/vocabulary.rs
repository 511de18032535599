//! The words of measurement files: columns, operations and number formats under every name they are known by.

use roofline_core::error::{Error, Result};
use roofline_core::format::Format;

use super::frame::Frame;

/// What is measured in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// A dense multiplication.
    Gemm,
    /// The product of every head's queries with its part of the matrix that brings them into the latent space.
    MlaAbsorb,
    /// The product of every head's outputs with its part of the matrix that brings them out of it.
    MlaRelease,
    /// Attention of prompts; `kv_len` counts the new tokens too.
    Prefill,
    /// Attention of prompts; `kv` counts the cached tokens alone.
    PrefillAfterCached,
    /// Attention of decoding sequences.
    Decode,
    /// Expanded latent attention.
    MlaPrefill,
    /// Absorbed latent attention.
    MlaDecode,
    /// The experts of a layer.
    Moe,
    /// A collective of the library.
    Nccl(Kind),
    /// An engine's own all-reduce.
    CustomAllReduce,
    /// A pass over this many tensors of `tokens × width` 16-bit elements.
    Pass(u8),
}

/// Which collective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everyone gets the sum.
    AllReduce,
    /// Everyone gets all parts.
    AllGather,
    /// Everyone gets a part of the sum.
    ReduceScatter,
    /// Everyone sends everyone a part.
    AllToAll,
}

const OPS: [(&str, Op); 42] = [
    ("gemm", Op::Gemm),
    ("matmul", Op::Gemm),
    ("linear", Op::Gemm),
    ("attn_pre_proj", Op::Gemm),
    ("attn_post_proj", Op::Gemm),
    ("mlp_up_proj", Op::Gemm),
    ("mlp_down_proj", Op::Gemm),
    ("mla_gen_pre", Op::MlaAbsorb),
    ("mla_gen_post", Op::MlaRelease),
    ("context_attention", Op::Prefill),
    ("prefill_attention", Op::Prefill),
    ("prefill", Op::Prefill),
    ("attn_prefill", Op::PrefillAfterCached),
    ("generation_attention", Op::Decode),
    ("decode_attention", Op::Decode),
    ("decode", Op::Decode),
    ("attn_decode", Op::Decode),
    ("context_mla", Op::MlaPrefill),
    ("mla_prefill", Op::MlaPrefill),
    ("generation_mla", Op::MlaDecode),
    ("mla_decode", Op::MlaDecode),
    ("moe", Op::Moe),
    ("fused_moe", Op::Moe),
    ("nccl_all_reduce", Op::Nccl(Kind::AllReduce)),
    ("nccl_all_gather", Op::Nccl(Kind::AllGather)),
    ("nccl_reduce_scatter", Op::Nccl(Kind::ReduceScatter)),
    ("nccl_alltoall", Op::Nccl(Kind::AllToAll)),
    ("nccl_all_to_all", Op::Nccl(Kind::AllToAll)),
    ("all_reduce", Op::Nccl(Kind::AllReduce)),
    ("all_gather", Op::Nccl(Kind::AllGather)),
    ("reduce_scatter", Op::Nccl(Kind::ReduceScatter)),
    ("all_to_all", Op::Nccl(Kind::AllToAll)),
    ("custom_allreduce", Op::CustomAllReduce),
    ("custom_all_reduce", Op::CustomAllReduce),
    ("add", Op::Pass(3)),
    ("mlp_act", Op::Pass(3)),
    ("silu_mul", Op::Pass(3)),
    ("attn_rope", Op::Pass(2)),
    ("rope", Op::Pass(2)),
    ("input_layernorm", Op::Pass(2)),
    ("post_attention_layernorm", Op::Pass(2)),
    ("rmsnorm", Op::Pass(2)),
];

/// Operations that are known and not priced, with the reason.
const NOT_PRICED: [(&str, &str); 4] = [
    ("mla_context_module", "a chain of kernels, each fitted apart; `validate` prices it"),
    ("mla_generation_module", "a chain of kernels, each fitted apart; `validate` prices it"),
    ("send_recv", "point to point between unknown places: no form"),
    ("emb", "a gather: no form"),
];

impl Op {
    /// The operation of that name.
    ///
    /// # Errors
    /// Why there is none.
    pub fn parse(name: &str) -> Result<Op, String> {
        let is = |known: &str| known.eq_ignore_ascii_case(name.trim());
        if let Some((_, op)) = OPS.iter().find(|(known, _)| is(known)) {
            return Ok(*op);
        }
        if let Some((_, why)) = NOT_PRICED.iter().find(|(known, _)| is(known)) {
            return Err(format!("{name}: {why}"));
        }
        if name.starts_with("cpu_") {
            return Err(format!("{name}: time of the host, not of a kernel"));
        }
        Err(format!("op must be one of {}: `{name}`", Op::names().join(", ")))
    }

    /// Names of the operations, one each.
    pub fn names() -> Vec<&'static str> {
        let mut seen: Vec<Op> = Vec::new();
        let mut names = Vec::new();
        for (name, op) in OPS {
            if !seen.contains(&op) {
                seen.push(op);
                names.push(name);
            }
        }
        names
    }
}

impl Kind {
    /// Its name in efficiency files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::AllReduce => "all_reduce",
            Kind::AllGather => "all_gather",
            Kind::ReduceScatter => "reduce_scatter",
            Kind::AllToAll => "all_to_all",
        }
    }

    /// Share of the buffer that crosses a rank's link.
    pub fn crossing(self, ranks: f64) -> f64 {
        let share = (ranks - 1.0) / ranks;
        if self == Kind::AllReduce { 2.0 * share } else { share }
    }
}

/// How weights and activations of a multiplication are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// The name in efficiency files.
    pub name: &'static str,
    /// Bytes of a weight, scales included.
    pub weight_bytes: f64,
    /// Bytes of an activation as it is multiplied.
    pub input_bytes: f64,
    /// The format it multiplies in.
    pub format: Format,
    /// Copies of the weights that aiconfigurator's benchmark loops over.
    pub copies: f64,
}

const fn numbers(
    name: &'static str,
    weight_bytes: f64,
    input_bytes: f64,
    format: Format,
    copies: f64,
) -> Numbers {
    Numbers { name, weight_bytes, input_bytes, format, copies }
}

/// Formats under the names of measurement files, 16 bits where a row names none; scales of blocks count as bytes of
/// weights.
const NUMBERS: [(&[&str], Numbers); 9] = [
    (
        &["", "bfloat16", "bf16", "float16", "fp16", "half", "torch.bfloat16"],
        numbers("bf16", 2.0, 2.0, Format::Bf16, 6.0),
    ),
    (
        &["fp8", "float8", "fp8_e4m3", "fp8_static", "float8_e4m3fn"],
        numbers("fp8", 1.0, 1.0, Format::Fp8, 6.0),
    ),
    (&["fp8_block", "fp8-block"], numbers("fp8_block", 1.0, 1.0, Format::Fp8, 1.0)),
    (&["nvfp4", "fp4"], numbers("nvfp4", 0.5625, 0.5625, Format::Fp4, 1.0)),
    (&["int8_wo", "w8a16"], numbers("int8_wo", 1.0, 2.0, Format::Bf16, 1.0)),
    (&["int4_wo", "w4a16", "awq", "gptq"], numbers("int4_wo", 0.53, 2.0, Format::Bf16, 1.0)),
    (&["sq", "int8_sq", "int8", "w8a8"], numbers("int8_sq", 1.0, 1.0, Format::Int8, 1.0)),
    (&["w4a16_mxfp4", "mxfp4"], numbers("mxfp4", 0.53125, 2.0, Format::Bf16, 1.0)),
    (&["w4a8_mxfp4_mxfp8", "mxfp4_mxfp8"], numbers("mxfp4_mxfp8", 0.53125, 1.0, Format::Fp8, 1.0)),
];

impl Numbers {
    /// The format of that name, if it is one.
    pub fn parse(name: &str) -> Option<Numbers> {
        let is = |known: &&str| known.eq_ignore_ascii_case(name);
        NUMBERS.iter().find(|(names, _)| names.iter().any(is)).map(|(_, numbers)| *numbers)
    }

    /// Names of the formats, one each.
    pub fn names() -> Vec<&'static str> {
        NUMBERS.iter().map(|(_, numbers)| numbers.name).collect()
    }
}

/// Whether a word names a format of 8 bits with a floating point.
pub fn is_fp8(word: &str) -> bool {
    ["fp8", "float8"]
        .iter()
        .any(|begin| word.get(..begin.len()).is_some_and(|head| head.eq_ignore_ascii_case(begin)))
}

/// Which kernels of a format's experts a row measured: engines choose by model among several, so unlike that they are
/// fitted apart.
pub fn experts(format: &'static str, kernel: &str, engine: &str) -> &'static str {
    let has = |word: &str| kernel.contains(word);
    match format {
        "nvfp4" if has("min_latency") => "nvfp4-min-latency",
        "fp8_block" if has("min_latency") => "fp8_block-min-latency",
        "bf16" if engine == "sglang" && has("flashinfer") => "bf16-flashinfer",
        "fp8_block" if engine == "sglang" && has("flashinfer") => "fp8_block-flashinfer",
        "mxfp4" if has("marlin") => "mxfp4-marlin",
        _ => format,
    }
}

/// Columns of words, under every name.
pub const OP: &[&str] = &["op", "operation", "op_name"];
/// The device measured.
pub const DEVICE: &[&str] = &["system", "device", "gpu", "hw", "hardware"];
/// What is said of a row that names none, where no other place does.
pub const NO_DEVICE: &str = "`system` must name a device: there is none";
/// The engine whose kernel it is.
pub const ENGINE: &[&str] = &["backend", "engine", "framework"];
/// Its version.
pub const VERSION: &[&str] = &["version", "backend_version", "engine_version"];
/// The number format.
pub const DTYPE: &[&str] = &["dtype", "quantization", "precision"];

/// Columns of time with what one is in seconds, the ones meant most directly first.
const TIMES: [(&str, f64); 13] = [
    ("latency_s", 1.0),
    ("latency_ms", 1e-3),
    ("latency_us", 1e-6),
    ("time_s", 1.0),
    ("time_ms", 1e-3),
    ("time_us", 1e-6),
    ("duration_s", 1.0),
    ("duration_ms", 1e-3),
    ("duration_us", 1e-6),
    ("median_s", 1.0),
    ("median_ms", 1e-3),
    ("median_us", 1e-6),
    ("latency", 1e-3),
];

/// What is wrong with a column of times that holds texts: the first of them.
fn text(frame: &Frame) -> Option<Error> {
    let (name, words) = TIMES.iter().find_map(|(name, _)| Some((*name, frame.word(&[name])?)))?;
    let first = (0..frame.rows()).find(|row| words.at(*row).trim().parse::<f64>().is_err()).unwrap_or(0);
    let was = format!("`{}` in row {}", words.at(first), first + 1);
    Some(Error::spec(name, "must hold numbers, its name says the unit", was, "leave units out of the cells"))
}

/// The column of times, and what one of its units is in seconds.
///
/// # Errors
/// No such column, one of texts, or two in different units.
pub fn times(frame: &Frame) -> Result<(&[f64], f64)> {
    let found: Vec<(&str, f64)> =
        TIMES.iter().filter(|(name, _)| frame.number(&[name]).is_some()).copied().collect();
    let known: Vec<&str> = TIMES[..TIMES.len() - 1].iter().map(|(name, _)| *name).collect();
    if let ([], Some(text)) = (&found[..], text(frame)) {
        return Err(text);
    }
    match found[..] {
        [] => Err(Error::spec(
            "measurements",
            format!("must have a column of times, one of {} (or `latency`, in ms)", known.join(", ")),
            format!("columns {}", frame.names().join(", ")),
            "name the column with its unit",
        )),
        [(_, first), ..] if found.iter().any(|(_, unit)| *unit != first) => {
            let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
            let hint = "keep one of them";
            Err(Error::spec("measurements", "must have one column of times", names.join(" and "), hint))
        }
        [(name, unit), ..] => Ok((frame.number(&[name]).unwrap_or_default(), unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Words;
    use super::*;

    #[test]
    fn operations_are_known_under_every_name_or_refused_with_the_reason() {
        assert_eq!((Op::parse("gemm"), Op::parse("mlp_up_proj")), (Ok(Op::Gemm), Ok(Op::Gemm)));
        let unknown = Op::parse("warp_drive").unwrap_err();
        assert!(
            unknown.starts_with("op must be one of gemm, ") && unknown.ends_with(": `warp_drive`"),
            "{unknown}"
        );
        assert_eq!(Op::parse("cpu_schedule").unwrap_err(), "cpu_schedule: time of the host, not of a kernel");
        assert!(Op::parse("emb").unwrap_err().contains("no form"));
        assert!(Op::parse("mla_context_module").unwrap_err().contains("a chain of kernels"));
        assert!(Op::names().contains(&"moe") && !Op::names().contains(&"linear"));
    }

    #[test]
    fn a_column_of_times_says_its_unit() {
        let mut frame = Frame::new(1);
        assert!(
            times(&frame).unwrap_err().to_string().contains("must have a column of times, one of latency_s")
        );
        let mut texts = Frame::new(2);
        texts.push_words("latency_ms", Words::of(&["3", "12 ms"])).unwrap();
        let error = times(&texts).unwrap_err().to_string();
        assert_eq!(error, "latency_ms must hold numbers, its name says the unit: `12 ms` in row 2");
        frame.push_numbers("latency_us", vec![3.0]).unwrap();
        assert_eq!(times(&frame).unwrap(), (&[3.0][..], 1e-6));
        frame.push_numbers("median_ms", vec![3.0]).unwrap();
        let error = times(&frame).unwrap_err().to_string();
        assert_eq!(error, "measurements must have one column of times: latency_us and median_ms");
    }

    #[test]
    fn formats_are_known_under_every_name() {
        assert_eq!(["half", ""].map(|name| Numbers::parse(name).unwrap().name), ["bf16", "bf16"]);
        assert_eq!((Numbers::parse("bf17"), Numbers::names().len()), (None, 9));
    }
}
