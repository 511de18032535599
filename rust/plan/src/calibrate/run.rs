//! From a frame of measurements to efficiency files: every group checked, fitted and judged.

use rayon::prelude::*;
use roofline_core::efficiency::choose::Chooser;
use roofline_core::efficiency::form::collective::{CustomAllReduce, Nccl};
use roofline_core::efficiency::form::decode::Decode;
use roofline_core::efficiency::form::elementwise::Elementwise;
use roofline_core::efficiency::form::gemm::Gemm;
use roofline_core::efficiency::form::mla::{MlaDecode, MlaPrefill};
use roofline_core::efficiency::form::moe::Moe;
use roofline_core::efficiency::form::prefill::Prefill;
use roofline_core::efficiency::{Prediction, Source};

use super::check::{Flaw, Group, groups};
use super::family::Fitted;
use super::file::{self, Entry};
use super::fit::{self, Fitting};
use super::read::Measurements;

/// Rows a family needs to be fitted without a prior of its own.
pub const LEAST_ROWS: usize = 8;
/// Rows below which not even a prior of its own helps.
const LEAST_WITH_PRIOR: usize = 3;
/// Rows below which all are fitted, and errors are from leaving parts out in turn.
const FEW: usize = 400;
/// Measurements that a prior is worth: one of the same device and engine, and any other.
const OWN_PRIOR: f64 = 3.0;
const OTHER_PRIOR: f64 = 1.0;

/// How a calibration is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where the measurements come from, for the file.
    pub source: String,
    /// The day, for the file.
    pub date: String,
    /// Draws numbers to the nearest that is known.
    pub prior: bool,
    /// Fits without the largest quarter of the problems, and judges there.
    pub extrapolate: bool,
    /// What was chosen after seeing the rows, for the file.
    pub remark: String,
}

/// What became of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Fate {
    /// The group; its rows are gone.
    pub group: Group,
    /// Sound rows it had.
    pub rows: u64,
    /// Those whose loops read from the last-level cache, which the fit tells apart and serving never does.
    pub hot: u64,
    /// The fit with its prior's source, or what is missing.
    pub outcome: Result<(Entry, String), String>,
}

/// Fits every group; in the order of devices, engines, families and dtypes.
pub fn calibrate(found: &Measurements, options: &Options) -> Vec<Fate> {
    let mut fates: Vec<Fate> =
        groups(found).into_par_iter().map(|group| fate(found, group, options)).collect();
    fates.sort_by(|a, b| {
        let key = |fate: &Fate| (fate.group.device, fate.group.engine, fate.group.family, fate.group.dtype);
        key(a).cmp(&key(b))
    });
    fates
}

/// The files of the devices that were fitted, by name; `present` are those to change, by device.
pub fn files(found: &Measurements, fates: &[Fate], present: &[(String, String)]) -> Vec<(String, String)> {
    let texts = found.devices.list().iter().enumerate().map(|(place, known)| {
        let entries: Vec<Entry> = fates
            .iter()
            .filter(|fate| fate.group.device == place)
            .filter_map(|fate| fate.outcome.as_ref().ok().map(|(entry, _)| entry.clone()))
            .collect();
        let name = &known.hardware.name;
        let old = present.iter().find(|(device, _)| device == name).map(|(_, text)| text.as_str());
        (!entries.is_empty()).then(|| (name.clone(), file::text(known, &entries, old)))
    });
    texts.flatten().collect()
}

fn fate(found: &Measurements, mut group: Group, options: &Options) -> Fate {
    let outcome = match group.family {
        "gemm" => fitted::<Gemm>(found, &mut group, options),
        "decode" => fitted::<Decode>(found, &mut group, options),
        "prefill" => fitted::<Prefill>(found, &mut group, options),
        "mla_decode" => fitted::<MlaDecode>(found, &mut group, options),
        "mla_prefill" => fitted::<MlaPrefill>(found, &mut group, options),
        "moe" => fitted::<Moe>(found, &mut group, options),
        "nccl" => fitted::<Nccl>(found, &mut group, options),
        "custom_all_reduce" => fitted::<CustomAllReduce>(found, &mut group, options),
        _ => fitted::<Elementwise>(found, &mut group, options),
    };
    let rows = group.rows.len() as u64;
    let hot = group.rows.iter().filter(|row| row.hot).count() as u64;
    group.rows = Vec::new();
    Fate { group, rows, hot, outcome }
}

fn fitted<F: Fitted>(
    found: &Measurements,
    group: &mut Group,
    options: &Options,
) -> Result<(Entry, String), String> {
    let known = found.devices.get(group.device);
    let engine = &found.engines[group.engine];
    let prediction = Prediction { engine: engine.clone(), ..Prediction::default() };
    let prior = if options.prior {
        Chooser::new(&prediction, &known.hardware).choose::<F>(&[group.dtype], Some(engine))
    } else {
        None
    };
    let own = prior.as_ref().is_some_and(|prior| matches!(prior.source, Source::Fitted(_)));
    let least = if own { LEAST_WITH_PRIOR } else { LEAST_ROWS };
    enough(group, least, own)?;
    let settings = fit::Options {
        prior: prior.as_ref().map(|prior| prior.form.values()),
        prior_weight: if own { OWN_PRIOR } else { OTHER_PRIOR },
        extrapolate: options.extrapolate,
        known: prior.as_ref().map(|prior| prior.spread),
    };
    let fit = |group: &Group| {
        fit::fit::<F>(&known.device, &group.rows, FEW, &settings)
            .ok_or_else(|| "no numbers fit: are all rows alike?".to_string())
    };
    let mut fitting: Fitting = fit(group)?;
    let strays = fit::strays::<F>(&known.device, &fitting.numbers, &group.rows);
    if strays.contains(&true) {
        group.drop(Flaw::UnitSlip, &strays);
        enough(group, least, own)?;
        fitting = fit(group)?;
    }
    let drawn_to = prior.map_or_else(|| "nothing".to_string(), |prior| prior.source.to_string());
    let entry = Entry {
        engine: engine.clone(),
        version: version(found, group),
        family: F::FAMILY,
        dtype: group.dtype.to_string(),
        parameters: F::PARAMETERS,
        fitting,
        valid: ranges(group),
        source: options.source.clone(),
        date: options.date.clone(),
        remark: options.remark.clone(),
    };
    Ok((entry, drawn_to))
}

/// Whether there are rows enough to fit.
fn enough(group: &Group, least: usize, own: bool) -> Result<(), String> {
    if group.dropped.iter().any(|(flaw, _)| *flaw == Flaw::AmongFaster) {
        return Err(format!("{}: none of it is believed", Flaw::AmongFaster.why()));
    }
    let rows = group.rows.len();
    if rows >= least {
        return Ok(());
    }
    let why =
        if own { "beside the numbers there are" } else { "for numbers nothing of its kind is known for" };
    Err(format!("needs {least} sound rows {why}, has {rows}: measure {} more", least - rows))
}

fn version(found: &Measurements, group: &Group) -> String {
    let of = |(device, engine, version): &(usize, usize, String)| {
        (*device == group.device && *engine == group.engine && !version.is_empty()).then(|| version.clone())
    };
    found.versions.iter().filter_map(of).collect::<Vec<_>>().join(" + ")
}

fn ranges(group: &Group) -> Vec<(&'static str, [f64; 2])> {
    let mut ranges: Vec<(&'static str, [f64; 2])> = Vec::new();
    for row in &group.rows {
        for (name, value) in row.measured.kernel.dimensions() {
            match ranges.iter_mut().find(|(known, _)| *known == name) {
                Some((_, [least, most])) => (*least, *most) = (least.min(value), most.max(value)),
                None => ranges.push((name, [value, value])),
            }
        }
    }
    ranges
}
