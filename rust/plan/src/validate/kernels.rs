//! Kernels beside what is predicted for them, by family, device, engine and number format.

use rayon::prelude::*;
use roofline_core::efficiency::Prediction;
use roofline_core::efficiency::choose::Chooser;
use roofline_core::efficiency::file::Set;
use roofline_core::efficiency::form::collective::{CustomAllReduce, Nccl};
use roofline_core::efficiency::form::decode::Decode;
use roofline_core::efficiency::form::elementwise::Elementwise;
use roofline_core::efficiency::form::gemm::Gemm;
use roofline_core::efficiency::form::mla::{MlaDecode, MlaPrefill};
use roofline_core::efficiency::form::moe::Moe;
use roofline_core::efficiency::form::prefill::Prefill;
use roofline_core::efficiency::switches::{Launch, Switches};

use crate::calibrate::check::{Flaw, Group, groups};
use crate::calibrate::errors::Outcome;
use crate::calibrate::family::Fitted;
use crate::calibrate::fit;
use crate::calibrate::modules::decodes;
use crate::calibrate::read::Measurements;

use super::modules;
use super::report::{Report, Tally};

/// Predicted over measured beyond which a time was written in another unit: the odd kernels of some engines take a hundred
/// times what their forms say.
const SAME_UNIT: std::ops::Range<f64> = 1.0 / 300.0..300.0;

/// Rows of one group with their predictions.
struct Priced {
    metric: String,
    groups: Vec<String>,
    predicted: Vec<Outcome>,
    ideal: Vec<Outcome>,
    refused: Vec<(String, u64)>,
}

/// Prices every sound kernel of some frames, with `sets` before the shipped fits.
pub fn kernels(frames: &[&Measurements], sets: &[Set]) -> Report {
    let mut tally = Tally::default();
    for found in frames {
        let priced: Vec<Priced> =
            groups(found).into_par_iter().map(|group| price(found, &group, sets)).collect();
        for one in priced {
            let count: u64 = one.refused.iter().map(|(_, count)| count).sum();
            for (why, count) in &one.refused {
                tally.refuse(&one.metric, &[], why, *count);
            }
            tally.add(&one.metric, &one.groups, &one.predicted, &one.ideal, count);
        }
        for ((op, why), count) in found.refused.iter().filter(|((op, _), _)| decodes(op).is_none()) {
            tally.refuse(&metric_of(op), &[], why, *count);
        }
        for ([op, gpu, engine], count) in
            found.refused_of.iter().filter(|([op, ..], _)| decodes(op).is_none())
        {
            let named = [("gpu", gpu), ("engine", engine)].into_iter().filter(|(_, name)| !name.is_empty());
            let groups: Vec<String> = named.map(|(kind, name)| format!("{kind}={name}")).collect();
            tally.add(&metric_of(op), &groups, &[], &[], *count);
        }
    }
    modules::add(&mut tally, frames, sets);
    tally.report()
}

/// The metric under which rows of an operation that cannot be priced are counted.
fn metric_of(op: &str) -> String {
    use crate::calibrate::vocabulary::Op;
    let family = match Op::parse(op) {
        Ok(Op::Gemm | Op::MlaAbsorb | Op::MlaRelease) => "gemm",
        Ok(Op::Prefill | Op::PrefillAfterCached) => "prefill",
        Ok(Op::Decode) => "decode",
        Ok(Op::MlaPrefill) => "mla_prefill",
        Ok(Op::MlaDecode) => "mla_decode",
        Ok(Op::Moe) => "moe",
        Ok(Op::Nccl(_)) => "nccl",
        Ok(Op::CustomAllReduce) => "custom_all_reduce",
        Ok(Op::Pass(_)) => "elementwise",
        Err(_) if op.is_empty() => "unnamed",
        Err(_) => op,
    };
    format!("kernel:{family}")
}

fn price(found: &Measurements, group: &Group, sets: &[Set]) -> Priced {
    match group.family {
        "gemm" => priced::<Gemm>(found, group, sets),
        "decode" => priced::<Decode>(found, group, sets),
        "prefill" => priced::<Prefill>(found, group, sets),
        "mla_decode" => priced::<MlaDecode>(found, group, sets),
        "mla_prefill" => priced::<MlaPrefill>(found, group, sets),
        "moe" => priced::<Moe>(found, group, sets),
        "nccl" => priced::<Nccl>(found, group, sets),
        "custom_all_reduce" => priced::<CustomAllReduce>(found, group, sets),
        _ => priced::<Elementwise>(found, group, sets),
    }
}

fn priced<F: Fitted>(found: &Measurements, group: &Group, sets: &[Set]) -> Priced {
    let known = found.devices.get(group.device);
    let engine = &found.engines[group.engine];
    // A fit of kernels that were launched one by one is the right one for rows measured so.
    let switches = Switches { launch: Launch::Eager, ..Switches::default() };
    let prediction = Prediction { engine: engine.clone(), sets: sets.to_vec(), switches };
    let chosen =
        Chooser::new(&prediction, &known.hardware).choose::<F>(&nearest_dtypes(group.dtype), Some(engine));
    let mut refused: Vec<(String, u64)> =
        group.dropped.iter().map(|(flaw, count)| (flaw.why().to_string(), *count)).collect();
    let mut strays = 0;
    let mut predicted = Vec::with_capacity(group.rows.len());
    let mut ideal = Vec::with_capacity(group.rows.len());
    match chosen {
        None => refused.push((format!("no fit of {}, {}", F::FAMILY, group.dtype), group.rows.len() as u64)),
        Some(chosen) => {
            for row in &group.rows {
                let Some(seconds) = fit::seconds(&chosen.form, chosen.l2_hot, &known.device, row) else {
                    continue;
                };
                let measured = row.measured.seconds;
                if !SAME_UNIT.contains(&(seconds / measured)) {
                    strays += 1;
                    continue;
                }
                let spread = chosen.spread_of(row.measured.usual, &row.measured.kernel.dimensions());
                let band = seconds * spread.low..=seconds * spread.high;
                predicted.push(Outcome { ratio: seconds / measured, inside: Some(band.contains(&measured)) });
                ideal.push(Outcome { ratio: row.ideal_s / measured, inside: None });
            }
        }
    }
    if strays > 0 {
        refused.push((Flaw::UnitSlip.why().to_string(), strays));
    }
    let gpu = &known.hardware.name;
    Priced {
        metric: format!("kernel:{}", F::FAMILY),
        groups: vec![
            format!("gpu={gpu}"),
            format!("engine={engine}"),
            format!("dtype={}", group.dtype),
            format!("gpu={gpu},engine={engine},dtype={}", group.dtype),
        ],
        predicted,
        ideal,
        refused,
    }
}

/// The dtype itself, and what stands in for it where nothing was fitted.
fn nearest_dtypes(dtype: &'static str) -> Vec<&'static str> {
    match dtype {
        "bf16-heads" => vec![dtype, "bf16"],
        "fp8-heads" => vec![dtype, "fp8", "bf16"],
        "bf16-window" => vec![dtype, "bf16"],
        "fp8-window" => vec![dtype, "bf16-window", "fp8", "bf16"],
        "bf16-fp8kv" => vec![dtype, "fp8", "bf16"],
        "bf16-fp8kv-window" => vec![dtype, "fp8-window", "bf16-window", "bf16-fp8kv", "bf16"],
        "nvfp4-min-latency" => vec![dtype, "nvfp4"],
        "fp8_block-min-latency" => vec![dtype, "fp8_block"],
        "bf16-flashinfer" => vec![dtype, "bf16"],
        "fp8_block-flashinfer" => vec![dtype, "fp8_block"],
        "mxfp4-marlin" => vec![dtype, "mxfp4"],
        "bf16-eager" => vec![dtype, "bf16"],
        _ => vec![dtype],
    }
}
