//! Whole steps with what they consisted of, fitted: the host's share and a factor for each family of operators.

use std::collections::HashMap;

use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::efficiency::choose::Chooser;
use roofline_core::efficiency::form::host::Host;
use roofline_core::efficiency::switches::{as_run_by, kernels_of};
use roofline_core::efficiency::{Efficiency, Prediction};
use roofline_core::error::{Error, Result};
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::precision::{Precision, Request};
use roofline_core::shape::Phase;
use roofline_core::step::{Deployment, Pricer, StepTime};
use roofline_core::work::Family;

use super::devices::Known;
use super::dimensions::engine_name;
use super::errors::Errors;
use super::file::{self, Whole};
use super::frame::Frame;
use super::read::Defaults;
use super::vocabulary;
use super::whole::{self, Found, Sought};

/// Steps without which nothing is fitted.
pub const LEAST_STEPS: usize = 12;
/// Columns of times with what one is in seconds.
const TIMES: [(&str, f64); 4] = [("step_s", 1.0), ("step_ms", 1e-3), ("step_us", 1e-6), ("cycle_ms", 1e-3)];
/// Columns that say what a step consisted of, the first name the documented one.
const DECODES: &[&str] = &["decode_seqs", "batch.num_decode_reqs", "running"];
const DECODE_KEYS: &[&str] = &["decode_kv_tokens", "kv_tokens"];
const PROMPTS: &[&str] = &["prefill_seqs", "batch.num_prefill_reqs"];
const PROMPT_TOKENS: &[&str] = &["prefill_tokens", "batch.prefill_tokens"];
const PROMPT_KEYS: &[&str] = &["prefill_kv_tokens"];

/// What whole steps are fitted with beside the frame.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The device and engine, where no column names them.
    pub defaults: Defaults,
    /// The model, where no column names one.
    pub model: String,
    /// Efficiencies to begin with.
    pub prediction: Prediction,
    /// For the file.
    pub source: String,
    /// For the file.
    pub date: String,
    /// For the file.
    pub remark: String,
}

/// Why a row is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number, from 1.
    pub row: usize,
    /// The column.
    pub field: String,
    /// What must hold.
    pub must: String,
    /// What was.
    pub was: String,
}

/// What became of the steps of one device under one engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Fate {
    /// The device.
    pub known: Known,
    /// The engine.
    pub engine: String,
    /// Usable steps.
    pub rows: usize,
    /// What was looked for, what was found, and the file's text; or what is missing.
    pub outcome: Result<Fit, String>,
}

/// A fit of whole steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// What was looked for.
    pub sought: Vec<Sought>,
    /// What was found.
    pub found: Found,
    /// Errors of the pure roofline on the same steps.
    pub ideal: Option<Errors>,
    /// The text of the file.
    pub text: String,
}

/// One usable step: what it took, and what its families take as kernels say.
struct Step {
    group: usize,
    sequences: f64,
    seconds: f64,
    told: StepTime,
    families: [f64; Family::ALL.len()],
}

/// What every step of a frame is predicted to take, or why it cannot be used.
///
/// # Errors
/// As [`calibrate`].
pub fn price(frame: &Frame, settings: &Settings) -> Result<Vec<Result<StepTime, Refused>>> {
    let mut reader = Reader::new(frame, settings)?;
    Ok((0..frame.rows()).map(|row| reader.step(row).map(|step| step.told)).collect())
}

/// Fits the steps of every device and engine of a frame; `present` are files to change, by device.
///
/// # Errors
/// Columns that are missing or ambiguous, a frame without rows or without any usable one.
pub fn calibrate(
    frame: &Frame,
    settings: &Settings,
    present: &[(String, String)],
) -> Result<(Vec<Fate>, Vec<Refused>)> {
    let mut reader = Reader::new(frame, settings)?;
    let (mut steps, mut refused) = (Vec::new(), Vec::new());
    for row in 0..frame.rows() {
        match reader.step(row) {
            Ok(step) => steps.push(step),
            Err(why) => refused.push(why),
        }
    }
    let fates = reader.groups.iter().enumerate().map(|(place, (known, engine))| {
        let own: Vec<&Step> = steps.iter().filter(|step| step.group == place).collect();
        let old = present.iter().find(|(device, _)| *device == known.hardware.name);
        let outcome = fit(known, engine, &own, settings, old.map(|(_, text)| text.as_str()));
        Fate { known: known.clone(), engine: engine.clone(), rows: own.len(), outcome }
    });
    Ok((fates.collect(), refused))
}

/// The column of times, and what one of its units is in seconds.
fn time(frame: &Frame) -> Result<(&'static str, f64)> {
    let found: Vec<_> = TIMES.iter().filter(|(name, _)| frame.number(&[name]).is_some()).collect();
    match found[..] {
        [one] => Ok(*one),
        [] => {
            let names: Vec<&str> = TIMES.iter().map(|(name, _)| *name).collect();
            let must = format!("must have a column of times, one of {}", names.join(", "));
            let was = format!("columns {}", frame.names().join(", "));
            Err(Error::spec("measurements", must, was, "name the column with its unit"))
        }
        [(one, _), (other, _), ..] => {
            let was = format!("{one} and {other}");
            Err(Error::spec("measurements", "must have one column of times", was, "keep one of them"))
        }
    }
}

/// What a step and a sequence of it cost the host, as far as is known.
pub fn host_of(prediction: &Prediction, hardware: &Hardware) -> (f64, f64) {
    let host = Chooser::new(prediction, hardware).choose::<Host>(&["bf16"], None);
    host.map_or((0.0, 0.0), |chosen| (chosen.form.h0_s, chosen.form.h1_s))
}

fn fit(
    known: &Known,
    engine: &str,
    steps: &[&Step],
    settings: &Settings,
    present: Option<&str>,
) -> Result<Fit, String> {
    if steps.len() < LEAST_STEPS {
        let more = LEAST_STEPS - steps.len();
        return Err(format!("needs {LEAST_STEPS} usable steps, has {}: measure {more} more", steps.len()));
    }
    let sequences = steps.iter().map(|step| step.sequences);
    let (least, most) = sequences.fold((f64::INFINITY, 0.0_f64), |(a, b), n| (a.min(n), b.max(n)));
    if most < 1.5 * least {
        return Err(format!(
            "needs steps of different numbers of sequences to tell what each costs the host, all have about \
             {most}: measure some of half as many"
        ));
    }
    let prediction = Prediction { engine: engine.to_string(), ..settings.prediction.clone() };
    let host = host_of(&prediction, &known.hardware);
    let total: f64 = steps.iter().flat_map(|step| step.families).sum();
    let share = |family: Family| steps.iter().map(|step| step.families[family as usize]).sum::<f64>() / total;
    let shares: Vec<(Family, f64)> = Family::ALL.iter().map(|family| (*family, share(*family))).collect();
    let telling = whole::telling(&shares);
    let sought = Sought::usual(host, None, &telling);
    let predicted = |values: &[f64]| {
        let one = |step: &&Step| {
            let mut seconds = values[0] + values[1] * step.sequences;
            for family in Family::ALL {
                let place = telling.iter().position(|one| *one == family);
                seconds += step.families[family as usize] * place.map_or(1.0, |place| values[2 + place]);
            }
            seconds.max(step.told.ideal)
        };
        Ok::<_, String>(vec![steps.iter().map(one).collect()])
    };
    let measured = vec![steps.iter().map(|step| step.seconds).collect()];
    let found = whole::find(&sought, &measured, f64::INFINITY, predicted)?;
    if let Some(times) = whole::unit_slip(&found) {
        return Err(whole::slipped(times));
    }
    let ideal: Vec<_> = steps
        .iter()
        .map(|step| super::errors::Outcome { ratio: step.told.ideal / step.seconds, inside: None })
        .collect();
    let whole = Whole {
        engine,
        sought: &sought,
        found: &found,
        rows: steps.len(),
        shares: &shares,
        source: &settings.source,
        date: &settings.date,
        remark: &settings.remark,
    };
    let text = file::whole_text(known, &whole, present);
    Ok(Fit { sought, found, ideal: Errors::of(&ideal), text })
}

struct Reader<'a> {
    frame: &'a Frame,
    settings: &'a Settings,
    unit: (&'static str, f64),
    groups: Vec<(Known, String)>,
    priced: HashMap<String, Result<(usize, Pricer, Pricer), Refused>>,
}

impl<'a> Reader<'a> {
    fn new(frame: &'a Frame, settings: &'a Settings) -> Result<Reader<'a>> {
        if frame.rows() == 0 {
            return Err(Error::spec("measurements", "must have rows", "none", ""));
        }
        Ok(Reader { frame, settings, unit: time(frame)?, groups: Vec::new(), priced: HashMap::new() })
    }

    fn refused(row: usize, field: &str, must: impl Into<String>, was: impl ToString) -> Refused {
        Refused { row: row + 1, field: field.to_string(), must: must.into(), was: was.to_string() }
    }

    /// A count that may be left out, and is then none.
    fn count(&self, row: usize, names: &[&str]) -> Result<f64, Refused> {
        let value = self.frame.number(names).map_or(0.0, |column| column[row]);
        let value = if value.is_nan() { 0.0 } else { value };
        if value >= 0.0 && value.is_finite() {
            return Ok(value);
        }
        Err(Reader::refused(row, names[0], "must not be negative", value))
    }

    fn word(&self, row: usize, names: &[&str]) -> &str {
        self.frame.word(names).map_or("", |words| words.at(row))
    }

    fn size(&self, row: usize, name: &str) -> Result<u64, Refused> {
        let value = self.frame.number(&[name]).map_or(1.0, |column| column[row]);
        if value >= 1.0 && value.fract() == 0.0 && value < 1e6 {
            return Ok(value as u64);
        }
        Err(Reader::refused(row, name, "must be a whole number from 1", value))
    }

    fn step(&mut self, row: usize) -> Result<Step, Refused> {
        let (name, unit) = self.unit;
        let time = self.frame.number(&[name]).map_or(f64::NAN, |column| column[row]);
        if !(time.is_finite() && time > 0.0) {
            return Err(Reader::refused(row, name, "must be a positive time", time));
        }
        let (decodes, keys) = (self.count(row, DECODES)?, self.count(row, DECODE_KEYS)?);
        let (prompts, tokens) = (self.count(row, PROMPTS)?, self.count(row, PROMPT_TOKENS)?);
        let before = self.count(row, PROMPT_KEYS)?;
        let prompts = if tokens > 0.0 { prompts.max(1.0) } else { 0.0 };
        if decodes + prompts < 1.0 {
            let must = "must be at least one, or `prefill_tokens` positive: a step of nothing takes no time";
            return Err(Reader::refused(row, DECODES[0], must, decodes));
        }
        if decodes > 0.0 && keys < 1.0 {
            let must = "must be the tokens in the caches of decoding sequences, all together";
            return Err(Reader::refused(row, DECODE_KEYS[0], must, keys));
        }
        let (group, predicted, ideal) = self.pricers(row)?;
        let mut sums = predicted.reaches().empty();
        let mut add = |phase, count: f64, new: f64, context: f64| {
            if count > 0.0 {
                let each = |total: f64| (total / count).round() as u64;
                predicted.reaches().add_item(&mut sums, phase, count, each(new).max(1), each(context), 1);
            }
        };
        add(Phase::Decode, decodes, decodes, keys);
        add(Phase::Prefill, prompts, tokens, before);
        let mut families = [0.0; Family::ALL.len()];
        predicted.each(&sums, |_, op, cost| {
            if op.family != Family::Host {
                families[op.family as usize] += cost.seconds * op.repeat;
            }
        });
        let told = StepTime { ideal: ideal.seconds(&sums).step.seconds, ..predicted.seconds(&sums) };
        Ok(Step { group, sequences: decodes + prompts, seconds: time * unit, told, families })
    }

    /// The place of the row's device and engine, and what its operators cost, predicted and at least.
    fn pricers(&mut self, row: usize) -> Result<(usize, Pricer, Pricer), Refused> {
        let said = |names: &[&str], default: &str| {
            let word = self.word(row, names);
            if word.is_empty() { default.to_string() } else { word.to_string() }
        };
        let model = said(&["model", "model_path"], &self.settings.model);
        let engine = kernels_of(&engine_name(&said(vocabulary::ENGINE, &self.settings.defaults.engine)));
        let quantization = said(&["quantization", "precision"], "");
        let kv = said(&["kv_cache_dtype", "kv_dtype"], "");
        let hw = said(vocabulary::DEVICE, "");
        let (tp, pp) = (self.size(row, "tp")?, self.size(row, "pp")?);
        let (dp, ep) = (self.size(row, "dp")?, self.size(row, "ep")?);
        let key = format!("{model}|{hw}|{engine}|{quantization}|{kv}|{tp}|{pp}|{dp}|{ep}");
        if let Some(known) = self.priced.get(&key) {
            return known.clone();
        }
        let found =
            self.priced_anew(row, &model, &hw, engine, (&quantization, &kv), Layout { tp, pp, dp, ep });
        self.priced.insert(key, found.clone());
        found
    }

    fn priced_anew(
        &mut self,
        row: usize,
        model: &str,
        hw: &str,
        engine: &str,
        (quantization, kv): (&str, &str),
        layout: Layout,
    ) -> Result<(usize, Pricer, Pricer), Refused> {
        let hardware = match (&self.settings.defaults.device, hw) {
            (Some(device), "") => device.clone(),
            (None, "") => {
                return Err(Reader::refused(row, "hw", "must name a device, or `--hw` does", "nothing"));
            }
            (_, hw) => {
                catalog::hardware::hardware(hw)
                    .map_err(|error| Reader::refused(row, "hw", error.to_string(), hw))?
                    .item
            }
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        let request =
            Request { quantization: some(quantization), kv_cache_dtype: some(kv), ..Request::default() };
        let compiled = |efficiency: Efficiency| -> Result<Pricer> {
            let model = catalog::models::model(model)?;
            let precision = as_run_by(engine, Precision::resolve(&model, &request)?, &request);
            let deployment = Deployment {
                precision,
                model,
                hardware: hardware.clone(),
                layout,
                lowering: Lowering::default(),
                overlap: 0.0,
                efficiency,
                techniques: Default::default(),
            };
            Ok(Analyst::new(deployment, &memory())?.pricer().clone())
        };
        let prediction = Prediction { engine: engine.to_string(), ..self.settings.prediction.clone() };
        let refused = |error: Error| Reader::refused(row, "model", error.to_string(), model);
        let predicted = compiled(Efficiency::Predicted(std::sync::Arc::new(prediction))).map_err(refused)?;
        let ideal = compiled(Efficiency::Ideal).map_err(refused)?;
        Ok((self.group(row, hardware, engine)?, predicted, ideal))
    }

    fn group(&mut self, row: usize, hardware: Hardware, engine: &str) -> Result<usize, Refused> {
        let alike = |(known, one): &(Known, String)| known.hardware.name == hardware.name && one == engine;
        if let Some(place) = self.groups.iter().position(alike) {
            return Ok(place);
        }
        let name = hardware.name.clone();
        let must = "must have a known peak, bandwidth and number of cores";
        let known = Known::of(hardware).ok_or_else(|| Reader::refused(row, "hw", must, name))?;
        self.groups.push((known, engine.to_string()));
        Ok(self.groups.len() - 1)
    }
}

/// How an engine divides memory; what steps cost does not depend on it.
pub fn memory() -> EngineMemory {
    EngineMemory { gpu_memory_utilization: 0.9, max_num_seqs: 256, ..EngineMemory::VLLM }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "row {}: `{}` {}: {}", self.row, self.field, self.must, self.was)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::frame::Words;

    fn frame(rows: usize) -> Frame {
        let sequences: Vec<f64> = (0..rows).map(|row| 1.0 + 5.0 * row as f64).collect();
        let mut frame = Frame::new(rows);
        frame.push_numbers("decode_kv_tokens", sequences.iter().map(|n| 800.0 * n).collect()).unwrap();
        frame.push_numbers("decode_seqs", sequences).unwrap();
        frame
    }

    fn settings() -> Settings {
        let hardware = catalog::hardware::hardware("h100-sxm").unwrap().item;
        let defaults = Defaults { device: Some(hardware), engine: "vllm".into() };
        Settings { defaults, model: "llama-3.1-8b".into(), ..Settings::default() }
    }

    #[test]
    fn what_is_predicted_is_found_again_and_no_number_moves() {
        let mut frame = frame(20);
        frame.push_numbers("step_ms", vec![1.0; 20]).unwrap();
        let told = price(&frame, &settings()).unwrap();
        let seconds: Vec<f64> = told.iter().map(|step| step.as_ref().unwrap().step.seconds).collect();
        let mut known = self::frame(20);
        known.push_numbers("step_s", seconds).unwrap();
        let (fates, refused) = calibrate(&known, &settings(), &[]).unwrap();
        let fit = fates[0].outcome.as_ref().unwrap();
        assert!(refused.is_empty() && fit.found.errors[0].median_ape < 0.2, "{fit:?}");
        assert!((fit.found.values[0] - 0.66e-3).abs() < 2e-5, "{:?}", fit.found.values);
        assert!(fit.text.contains("[[factor]]") && fit.text.contains("family = \"host\""));
        roofline_core::efficiency::file::Set::parse("mine.toml", &fit.text).unwrap();
    }

    #[test]
    fn a_prompt_makes_a_step_longer_and_no_step_beats_its_roofline() {
        let mut plain = frame(6);
        plain.push_numbers("step_ms", vec![1.0; 6]).unwrap();
        let mut mixed = plain.clone();
        mixed.push_numbers("prefill_tokens", vec![700.0; 6]).unwrap();
        let seconds = |frame: &Frame| -> Vec<StepTime> {
            price(frame, &settings()).unwrap().into_iter().map(Result::unwrap).collect()
        };
        for (one, more) in seconds(&plain).iter().zip(seconds(&mixed)) {
            assert!(more.step.seconds > one.step.seconds && one.step.seconds >= one.ideal);
        }
    }

    #[test]
    fn a_row_that_cannot_be_used_says_where_and_why() {
        let mut frame = frame(2);
        frame.push_numbers("step_ms", vec![f64::NAN, 3.0]).unwrap();
        frame.push_words("model", Words::of(&["llama-3.1-8b", "nobody"])).unwrap();
        let told = price(&frame, &settings()).unwrap();
        let said = |row: usize| told[row].as_ref().unwrap_err().to_string();
        assert_eq!(said(0), "row 1: `step_ms` must be a positive time: NaN");
        assert!(said(1).starts_with("row 2: `model` no model is called `nobody`"), "{}", said(1));
        assert!(price(&Frame::new(0), &settings()).is_err());
    }
}
