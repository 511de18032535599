//! How fits are asked for an operator: under which names, best first, in which bytes and against which peak.

use crate::efficiency::choose::Like;
use crate::efficiency::file::Fit;
use crate::efficiency::form::Form;
use crate::efficiency::form::gemm::Gemm;
use crate::format::{Format, Storage};
use crate::work::Collective;

/// What the peak of products of these inputs is multiplied by.
pub(super) fn float_peak(like: Like, input: Format) -> f64 {
    if matches!(input, Format::Int8 | Format::Int4 | Format::Int3 | Format::Int2 | Format::Int1) {
        1.0
    } else {
        like.peak
    }
}

/// Whether a fit is of an engine's own multiplications in a format.
pub(super) fn is_own(fit: &Fit, engine: &str, dtype: &str) -> bool {
    fit.family == Gemm::FAMILY && fit.engine == engine && fit.dtype == dtype
}

/// Bytes of an activation as it is multiplied, scales included, as fits count them.
pub(super) fn with_scales(input: Format) -> f64 {
    if input == Format::Fp4 { Storage::NVFP4.bits() / 8.0 } else { input.bytes() }
}

/// The names that a multiplication's fit is looked for under, best first.
pub(super) fn multiplied_as(weight: Storage, input: Format) -> &'static [&'static str] {
    match (weight.format, input) {
        (Format::Fp8, Format::Fp8) if weight.group > 0 => &["fp8_block", "fp8", "bf16"],
        (Format::Fp8, Format::Fp8) => &["fp8", "bf16"],
        (Format::Fp4, Format::Fp4) => &["nvfp4", "fp8", "bf16"],
        (Format::Int8, Format::Int8) => &["int8_sq", "fp8", "bf16"],
        (_, Format::Fp8 | Format::Int8) => &["fp8", "bf16"],
        (Format::Int8 | Format::Fp8 | Format::Fp6, _) => &["int8_wo", "bf16"],
        (Format::Int4 | Format::Int3 | Format::Int2 | Format::Int1 | Format::Fp4, _) => &["int4_wo", "bf16"],
        _ => &["bf16"],
    }
}

/// Those of experts; `flashinfer` where its kernels run.
pub(super) fn experts_as(weight: Storage, input: Format, flashinfer: bool) -> &'static [&'static str] {
    match (weight.format, input) {
        (Format::Fp4, Format::Fp4) => &["nvfp4", "mxfp4_mxfp8", "bf16"],
        (Format::Fp4, Format::Fp8) => &["mxfp4_mxfp8", "nvfp4", "bf16"],
        (Format::Fp4, _) => &["mxfp4", "mxfp4-marlin", "int4_wo", "bf16"],
        (Format::Fp8, Format::Fp8) if weight.group > 0 && flashinfer => {
            &["fp8_block-flashinfer", "fp8_block", "fp8", "bf16"]
        }
        (Format::Bf16, Format::Bf16) if flashinfer => &["bf16-flashinfer", "bf16"],
        _ => multiplied_as(weight, input),
    }
}

/// Those of prompts' attention; where the engine multiplies in FP8, queries are narrowed with a cache of 8 bits.
pub(super) fn prompts_as(windowed: bool, narrow: bool, multiplies_in_fp8: bool) -> &'static [&'static str] {
    match (windowed, narrow) {
        (true, true) if multiplies_in_fp8 => {
            &["fp8-window", "bf16-fp8kv-window", "bf16-window", "fp8", "bf16-fp8kv", "bf16"]
        }
        (true, true) => &["bf16-fp8kv-window", "fp8-window", "bf16-window", "bf16-fp8kv", "bf16"],
        (true, false) => &["bf16-window", "bf16"],
        (false, true) if multiplies_in_fp8 => &["fp8", "bf16-fp8kv", "bf16"],
        (false, true) => &["bf16-fp8kv", "fp8", "bf16"],
        (false, false) => &["bf16"],
    }
}

/// Those of answers' attention.
pub(super) fn answers_as(windowed: bool, narrow: bool) -> &'static [&'static str] {
    match (windowed, narrow) {
        (true, true) => &["fp8-window", "bf16-window", "fp8", "bf16"],
        (true, false) => &["bf16-window", "bf16"],
        (false, true) => &["fp8", "bf16"],
        (false, false) => &["bf16"],
    }
}

/// Those of exchanges by NCCL.
pub(super) fn exchanged_as(collective: Collective) -> &'static [&'static str] {
    match collective {
        Collective::AllReduce => &["all_reduce"],
        Collective::AllGather => &["all_gather"],
        Collective::ReduceScatter => &["reduce_scatter"],
        Collective::AllToAll => &["all_to_all"],
        Collective::PointToPoint => &["p2p", "all_gather"],
    }
}
