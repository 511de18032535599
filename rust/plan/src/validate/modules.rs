//! Whole modules of latent attention beside what a step of such a layer is predicted to take: nothing is fitted to them,
//! so they judge how kernels are put together.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::efficiency::file::Set;
use roofline_core::efficiency::switches::Switches;
use roofline_core::efficiency::{Efficiency, Prediction};
use roofline_core::error::Result;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::precision::{Precision, Request};
use roofline_core::shape::{Phase, Sums};
use roofline_core::step::{Deployment, Pricer};
use roofline_core::work::Family;

use crate::calibrate::check::{Flaw, Timed, flaws, waiting};
use crate::calibrate::errors::Outcome;
use crate::calibrate::modules::Module;
use crate::calibrate::read::Measurements;
use crate::calibrate::steps::memory;

use super::report::Tally;

/// The model whose layers the modules are, and its heads.
const MODEL: (&str, u64) = ("deepseek-v3", 128);
/// How long a module takes at least where it waits for the host: it consists of some ten kernels.
const HOST_FLOOR_S: f64 = 70e-6;
/// How much wider bands of chains are than their kernels', of prompts and of answers: copies between kernels and how they are
/// chosen are in no table (chosen so that they hold four modules of five).
const WIDER: [f64; 2] = [2.0, 1.4];

/// A layer compiled: as predicted, and at least.
struct Layer {
    predicted: Pricer,
    ideal: Pricer,
    layers: f64,
}

/// A module with its prices, in seconds.
struct Priced<'a> {
    module: &'a Module,
    predicted: f64,
    band: (f64, f64),
    ideal: f64,
}

/// Counts the errors of every module of some frames, with `sets` before the shipped fits.
pub fn add(tally: &mut Tally, frames: &[&Measurements], sets: &[Set]) {
    let mut groups: HashMap<String, Vec<&Module>> = HashMap::new();
    for (op, module) in frames.iter().flat_map(|found| &found.modules) {
        match module {
            Ok(module) => groups.entry(key(module)).or_default().push(module),
            Err(why) => refuse(tally, op, &[], why, 1),
        }
    }
    let mut groups: Vec<(String, Vec<&Module>)> = groups.into_iter().collect();
    groups.sort_by(|(one, _), (other, _)| one.cmp(other));
    let priced: Vec<_> = groups.par_iter().map(|(_, modules)| price(modules, sets)).collect();
    let mut tables: HashMap<String, Vec<Priced<'_>>> = HashMap::new();
    for ((_, modules), priced) in groups.iter().zip(priced) {
        match priced {
            Ok(priced) => tables.entry(table(modules[0])).or_default().extend(priced),
            Err(error) => {
                refuse(tally, &modules[0].op, &names(modules[0]), &error.to_string(), modules.len() as u64);
            }
        }
    }
    let mut tables: Vec<_> = tables.into_iter().collect();
    tables.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (_, rows) in &tables {
        count(tally, rows);
    }
}

/// Counts the rows of one table, without those that waited for their launch.
fn count(tally: &mut Tally, rows: &[Priced<'_>]) {
    let short =
        rows.iter().filter(|row| row.ideal < 0.2 * HOST_FLOOR_S).map(|row| row.module.seconds).collect();
    let floor = waiting(short, HOST_FLOOR_S, false);
    let timed = |row: &Priced<'_>| {
        // Attention over a cache of 8 bits may multiply in 8 bits, at twice the rate of its roofline.
        let share = if row.module.kv == "fp8" { 0.5 } else { 1.0 };
        Timed { seconds: row.module.seconds, floor_s: share * row.ideal, ideal_s: row.ideal }
    };
    let flaws = flaws(&rows.iter().map(timed).collect::<Vec<_>>(), None);
    for (row, flaw) in rows.iter().zip(flaws) {
        let (module, groups) = (row.module, names(row.module));
        if floor.is_some_and(|floor| module.seconds < floor) {
            refuse(tally, &module.op, &groups, Flaw::LaunchFloor.why(), 1);
            continue;
        }
        if let Some(flaw) = flaw {
            refuse(tally, &module.op, &groups, flaw.why(), 1);
            continue;
        }
        let inside = Some((row.band.0..=row.band.1).contains(&module.seconds));
        let told = Outcome { ratio: row.predicted / module.seconds, inside };
        let ideal = Outcome { ratio: row.ideal / module.seconds, inside: None };
        tally.add(&metric(&module.op), &groups, &[told], &[ideal], 0);
    }
}

fn refuse(tally: &mut Tally, op: &str, groups: &[String], why: &str, rows: u64) {
    tally.refuse(&metric(op), &[], why, rows);
    tally.add(&metric(op), groups, &[], &[], rows);
}

fn metric(op: &str) -> String {
    format!("kernel:{op}")
}

/// Modules that one compiled layer prices.
fn key(module: &Module) -> String {
    format!("{}|{}|{}", table(module), module.kv, module.heads)
}

/// Modules that wait for the host alike.
fn table(module: &Module) -> String {
    format!("{}|{}|{}|{}", module.hardware.name, module.engine, module.op, module.quantization)
}

fn names(module: &Module) -> Vec<String> {
    let format = if module.quantization.is_empty() { "fp8_block" } else { module.quantization };
    let (gpu, engine) = (&module.hardware.name, &module.engine);
    vec![
        format!("gpu={gpu}"),
        format!("engine={engine}"),
        format!("dtype={format}"),
        format!("gpu={gpu},engine={engine},dtype={format}"),
    ]
}

fn price<'a>(modules: &[&'a Module], sets: &[Set]) -> Result<Vec<Priced<'a>>> {
    let layer = layer(modules[0], sets)?;
    Ok(modules.iter().map(|module| layer.price(module)).collect())
}

fn layer(module: &Module, sets: &[Set]) -> Result<Layer> {
    let (name, heads) = MODEL;
    let model = catalog::models::model(name)?;
    let layers: u64 = model.layers.iter().map(|group| group.count).sum();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let request = Request {
        quantization: some(module.quantization),
        kv_cache_dtype: some(module.kv),
        ..Request::default()
    };
    let tp = (heads / module.heads).max(1);
    // Heads were left out to stand for a group of devices; what crosses between those is not in a module.
    let mut hardware = module.hardware.clone();
    hardware.scale_up.domain = hardware.scale_up.domain.max(u32::try_from(tp).unwrap_or(u32::MAX));
    let compiled = |efficiency: Efficiency| -> Result<Pricer> {
        let deployment = Deployment {
            precision: Precision::resolve(&model, &request)?,
            model: model.clone(),
            hardware: hardware.clone(),
            layout: Layout { tp, ..Layout::default() },
            lowering: Lowering::default(),
            overlap: 0.0,
            efficiency,
            techniques: Default::default(),
        };
        Ok(Analyst::new(deployment, &memory())?.pricer().clone())
    };
    // Modules are timed in the loops that kernels are timed in.
    let switches = Switches { under_load: Some(1.0), ..Switches::default() };
    let prediction = Prediction { engine: module.engine.clone(), sets: sets.to_vec(), switches };
    Ok(Layer {
        predicted: compiled(Efficiency::Predicted(Arc::new(prediction)))?,
        ideal: compiled(Efficiency::Ideal)?,
        layers: layers as f64,
    })
}

impl Layer {
    fn price<'a>(&self, module: &'a Module) -> Priced<'a> {
        let phase = if module.op.contains("generation") { Phase::Decode } else { Phase::Prefill };
        let sums = |pricer: &Pricer| {
            let mut sums = pricer.reaches().empty();
            pricer.reaches().add_item(&mut sums, phase, module.sequences, module.new, module.cached, 1);
            sums
        };
        let ideal = self.total(&self.ideal, &sums(&self.ideal)).0;
        let (predicted, low, high) = self.total(&self.predicted, &sums(&self.predicted));
        let wider = WIDER[usize::from(phase == Phase::Decode)];
        let end = |end: f64| predicted * (end / predicted).powf(wider);
        Priced { module, predicted, band: (end(low).max(ideal), end(high)), ideal }
    }

    /// Seconds of what every layer does once, its band's ends added up: attention with its projections. Norms and exchanges
    /// come twice a layer, experts not in all.
    fn total(&self, pricer: &Pricer, sums: &Sums) -> (f64, f64, f64) {
        let mut total = (0.0, 0.0, 0.0);
        pricer.each(sums, |place, op, cost| {
            if op.repeat == self.layers && op.family != Family::Link {
                let told = pricer.estimate(place, cost.seconds, 0.0);
                total.0 += cost.seconds;
                total.1 += told.low.unwrap_or(cost.seconds);
                total.2 += told.high.unwrap_or(cost.seconds);
            }
        });
        total
    }
}
