//! Known measurements beside what is predicted for them: errors by family, device, engine and number format.

use std::collections::BTreeMap;

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

use crate::calibrate::check::{Group, groups};
use crate::calibrate::errors::{Errors, Outcome};
use crate::calibrate::family::Fitted;
use crate::calibrate::fit;
use crate::calibrate::read::Measurements;

/// Errors of one metric over one group of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What was predicted (`kernel:gemm`).
    pub metric: String,
    /// Which rows (`all`, `gpu=h100-sxm`).
    pub group: String,
    /// Rows that were not priced.
    pub refused: u64,
    /// Errors of the predictions; `None` where no row was priced.
    pub errors: Option<Errors>,
    /// Errors of the pure roofline on the same rows.
    pub ideal: Option<Errors>,
}

/// Errors by metric and group, and why rows were refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// One for each metric and group.
    pub lines: Vec<Line>,
    /// How many rows of which metric were refused for which reason.
    pub refused: BTreeMap<(String, String), u64>,
}

/// Rows of one group with their predictions.
struct Priced {
    metric: String,
    groups: [String; 4],
    predicted: Vec<Outcome>,
    ideal: Vec<Outcome>,
    refused: Vec<(String, u64)>,
}

/// Prices every sound kernel, with `sets` before the shipped fits.
pub fn kernels(found: &Measurements, sets: &[Set]) -> Report {
    let priced: Vec<Priced> = groups(found).into_par_iter().map(|group| price(found, &group, sets)).collect();
    let mut report = Report::default();
    let mut cells: BTreeMap<(String, usize, String), Cell> = BTreeMap::new();
    for one in &priced {
        let count: u64 = one.refused.iter().map(|(_, count)| count).sum();
        for (why, count) in &one.refused {
            *report.refused.entry((one.metric.clone(), why.clone())).or_default() += count;
        }
        let names = std::iter::once("all").chain(one.groups.iter().map(String::as_str));
        for (place, name) in names.enumerate() {
            let cell = cells.entry((one.metric.clone(), place, name.to_string())).or_default();
            cell.predicted.extend(&one.predicted);
            cell.ideal.extend(&one.ideal);
            cell.refused += count;
        }
    }
    for ((op, why), count) in &found.refused {
        let metric = metric_of(op);
        *report.refused.entry((metric.clone(), why.clone())).or_default() += count;
        cells.entry((metric, 0, "all".into())).or_default().refused += count;
    }
    report.lines = cells
        .into_par_iter()
        .map(|((metric, _, group), cell)| Line {
            metric,
            group,
            refused: cell.refused,
            errors: Errors::of(&cell.predicted),
            ideal: Errors::of(&cell.ideal),
        })
        .collect();
    report
}

#[derive(Default)]
struct Cell {
    predicted: Vec<Outcome>,
    ideal: Vec<Outcome>,
    refused: u64,
}

/// The metric under which rows of an operation that cannot be priced are counted.
fn metric_of(op: &str) -> String {
    use crate::calibrate::vocabulary::Op;
    let family = match Op::parse(op) {
        Ok(Op::Gemm) => "gemm",
        Ok(Op::Prefill | Op::PrefillAfterCached) => "prefill",
        Ok(Op::Decode) => "decode",
        Ok(Op::MlaPrefill) => "mla_prefill",
        Ok(Op::MlaDecode) => "mla_decode",
        Ok(Op::Moe) => "moe",
        Ok(Op::Nccl(_)) => "nccl",
        Ok(Op::CustomAllReduce) => "custom_all_reduce",
        Ok(Op::Pass(_)) => "elementwise",
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
    let prediction = Prediction { engine: engine.clone(), sets: sets.to_vec(), ..Prediction::default() };
    let chosen =
        Chooser::new(&prediction, &known.hardware).choose::<F>(&nearest_dtypes(group.dtype), Some(engine));
    let mut refused: Vec<(String, u64)> =
        group.dropped.iter().map(|(flaw, count)| (flaw.why().to_string(), *count)).collect();
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
                let band = seconds * chosen.spread.low..=seconds * chosen.spread.high;
                predicted.push(Outcome { ratio: seconds / measured, inside: Some(band.contains(&measured)) });
                ideal.push(Outcome { ratio: row.ideal_s / measured, inside: None });
            }
        }
    }
    let gpu = &known.hardware.name;
    Priced {
        metric: format!("kernel:{}", F::FAMILY),
        groups: [
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
        "bf16-window" => vec![dtype, "bf16"],
        "fp8-window" => vec![dtype, "bf16-window", "fp8", "bf16"],
        "bf16-fp8kv" => vec![dtype, "fp8", "bf16"],
        "bf16-fp8kv-window" => vec![dtype, "fp8-window", "bf16-window", "bf16-fp8kv", "bf16"],
        "nvfp4-min-latency" => vec![dtype, "nvfp4"],
        "fp8_block-min-latency" => vec![dtype, "fp8_block"],
        "bf16-eager" => vec![dtype, "bf16"],
        _ => vec![dtype],
    }
}
