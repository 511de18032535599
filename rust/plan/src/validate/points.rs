//! Points of real servers, each a model on a machine under so many users: time to first token and per token, predicted.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use roofline_core::analysis::Analyst;
use roofline_core::efficiency::file::Set;
use roofline_core::efficiency::switches::{as_run_by, kernels_of};
use roofline_core::efficiency::{Efficiency, Prediction};
use roofline_core::error::{Error, Result};
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;

use super::driven::{Driven, MEMORY};
use super::report::{Report, Tally};
use super::servers::{self, Server};
use super::serving::{Costs, Served, closed_loop};
use crate::calibrate::errors::Outcome;
use crate::calibrate::frame::Frame;
use crate::calibrate::read::Defaults;

/// Half-widths of the bands of times for a token beside a step's own, as log ratios low and high: batches, lengths and
/// settings are not known exactly. Chosen on the MiniMax-M2.5 and Llama-3.1-8B rows of the shared servers.
const TPOT_WIDTH: (f64, f64) = (0.05, 0.05);
/// The same where a version replaced the kernels that steps consist of: TensorRT-LLM's experts in blocks of FP8 on
/// Blackwell, where two versions of one kernel table are 41 to 52 % apart.
const REPLACED: (f64, f64) = (0.40, 0.40);
/// The same of times to the first token, P10 and P90 of rows of one part, by engine: vLLM's of MiniMax-M2.5, TensorRT-LLM's
/// of Llama-3.1-8B, SGLang's of DeepSeek-V3 in FP8. The first wave of some servers stalls, and means hold it.
const TTFT_WIDTHS: [(&str, (f64, f64)); 3] =
    [("vllm", (0.15, 0.42)), ("trtllm", (0.37, 0.93)), ("sglang", (0.15, 1.28))];

/// Predicted over measured beyond which the time was written in another unit; a first wave that stalls while kernels are
/// compiled takes 40 times as long as predicted.
const SAME_UNIT: std::ops::Range<f64> = 1.0 / 300.0..100.0;

/// Steps that one server is driven at most; a thousand times as many as any of the shared ones takes would take minutes.
const MOST_STEPS: u64 = 20_000_000;
const MUST_BE_DRIVEN: &str = "must ask for at most 20 million steps of as many sequences as fit the cache";

/// Sequences an engine runs at most.
const MOST: u64 = 1024;

/// What a row is predicted at.
#[derive(Debug, Clone, Copy)]
struct Answer {
    served: Served,
    ideal: Served,
    /// P10 and P90 of a decode step, as shares of it.
    band: (f64, f64),
    /// Half-widths beside it, of the first token and of a further one.
    widths: [(f64, f64); 2],
}

/// Prices every row, the fits of `sets` before the shipped ones; `defaults` hold where no column says.
///
/// # Errors
/// Columns that are missing.
pub fn points(frame: &Frame, defaults: &Defaults, sets: &[Set]) -> Result<Report> {
    let columns = [("ttft_ms", "silicon_ttft_ms"), ("tpot_ms", "silicon_tpot_ms")];
    let times: Vec<(&str, &[f64])> =
        columns.into_iter().filter_map(|(metric, name)| Some((metric, frame.number(&[name])?))).collect();
    let counts = ["concurrency", "isl", "osl", "tp_size"];
    for name in counts.into_iter().chain(times.is_empty().then_some("silicon_tpot_ms")) {
        servers::needed(frame, name)?;
    }
    let servers: Vec<Result<Server, String>> =
        (0..frame.rows()).map(|row| Server::of(frame, row, defaults)).collect();
    let answers: Vec<Result<Answer, String>> = servers
        .par_iter()
        .map(|server| {
            server
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|server| answer(server, sets).map_err(|e| e.to_string()))
        })
        .collect();
    let mut tally = Tally::default();
    for (row, answer) in answers.iter().enumerate() {
        let groups = groups(frame, row, defaults);
        for (metric, measured) in times.iter().map(|(metric, times)| (*metric, times[row])) {
            match answer.as_ref().map_err(String::as_str).and_then(|answer| answer.held(metric, measured)) {
                Ok((predicted, ideal)) => tally.add(metric, &groups, &[predicted], &[ideal], 0),
                Err(why) => tally.refuse(metric, &groups, why, 1),
            }
        }
    }
    Ok(tally.report())
}

impl Answer {
    /// How far a measured time is from what was predicted, and from the roofline.
    ///
    /// # Errors
    /// Why it is no time of this server.
    fn held(&self, metric: &str, measured: f64) -> Result<(Outcome, Outcome), &'static str> {
        if !(measured.is_finite() && measured > 0.0) {
            return Err("the measured time must be a positive number");
        }
        let of = |served: &Served| 1e3 * if metric == "ttft_ms" { served.ttft_s } else { served.tpot_s };
        let ratio = of(&self.served) / measured;
        if !SAME_UNIT.contains(&ratio) {
            return Err("times are off by a factor of 1000: another unit?");
        }
        let width = self.widths[usize::from(metric != "ttft_ms")];
        let inside = Some(band(self.band, width).contains(&(1.0 / ratio)));
        Ok((Outcome { ratio, inside }, Outcome { ratio: of(&self.ideal) / measured, inside: None }))
    }
}

/// Measured over predicted, P10 to P90: a step's own band and what is not known of the server, independent of each other.
fn band(step: (f64, f64), width: (f64, f64)) -> std::ops::RangeInclusive<f64> {
    let both = |share: f64, width: f64| share.ln().hypot(width);
    (-both(step.0, width.0)).exp()..=both(step.1, width.1).exp()
}

fn groups(frame: &Frame, row: usize, defaults: &Defaults) -> Vec<String> {
    let said = servers::word(frame, "system", row);
    let gpu = servers::hardware(said, defaults).map_or_else(|_| said.to_string(), |hardware| hardware.name);
    let model = servers::word(frame, "model_path", row);
    let kind =
        if servers::named(model).is_ok_and(|model| servers::is_dense(&model)) { "dense" } else { "moe" };
    let engine = match servers::word(frame, "backend", row) {
        "" => kernels_of(&defaults.engine),
        said => said,
    };
    vec![
        format!("gpu={gpu}"),
        format!("engine={engine}"),
        format!("model={model}"),
        format!("mode={}", servers::word(frame, "mode", row)),
        format!("kind={kind}"),
    ]
}

impl Server {
    /// Half-widths beside a step's own band, of the first token and of a further one.
    fn widths(&self) -> [(f64, f64); 2] {
        let first = TTFT_WIDTHS.iter().find(|(engine, _)| *engine == self.engine).map(|(_, width)| *width);
        let replaced = self.engine == "trtllm"
            && self.hardware.architecture.starts_with("blackwell")
            && self.precision.contains("fp8")
            && !servers::is_dense(&self.model);
        [first.unwrap_or(TTFT_WIDTHS[0].1), if replaced { REPLACED } else { TPOT_WIDTH }]
    }

    fn driven(&self) -> Driven<'_> {
        Driven {
            engine: self.engine,
            hardware: &self.hardware,
            users: (self.users.div_ceil(self.layout.dp).max(1), self.users),
            lengths: self.lengths,
            exact: self.exact,
        }
    }

    fn analyst(&self, efficiency: Efficiency) -> Result<Analyst> {
        let model = self.model.clone();
        let driven = self.driven();
        let narrow = self.narrow && driven.narrow_cache();
        let request = Request {
            quantization: Some(self.quantization().into()),
            kv_cache_dtype: narrow.then(|| "fp8".to_string()),
            ..Request::default()
        };
        let precision = as_run_by(self.engine, Precision::resolve(&model, &request)?, &request);
        let deployment = Deployment {
            precision,
            model,
            hardware: self.hardware.clone(),
            layout: self.layout,
            lowering: Lowering::default(),
            overlap: 0.0,
            efficiency,
            techniques: Default::default(),
        };
        let engine = EngineMemory {
            gpu_memory_utilization: MEMORY,
            max_num_batched_tokens: driven.budget(),
            max_num_seqs: MOST,
            ..EngineMemory::VLLM
        };
        Analyst::new(deployment, &engine)
    }
}

fn answer(server: &Server, sets: &[Set]) -> Result<Answer> {
    let driven = server.driven();
    let prediction =
        Prediction { engine: server.engine.into(), sets: sets.to_vec(), ..Prediction::default() };
    let efficiency = Efficiency::Predicted(Arc::new(prediction));
    let predicted = server.analyst(efficiency.clone())?;
    let ideal = server.analyst(Efficiency::Ideal)?;
    let (prompt, answer) = driven.mean();
    let context = prompt + (answer / 2).max(1);
    let held = predicted.outcome(&decode(driven.users.0, context))?.memory.engine_sequences.max(1);
    let load = driven.load(held);
    let running = load.users.min(load.most);
    let (least, steps) = (load.requests / running, driven.lengths.1 + driven.lengths.0 / driven.budget());
    if least.saturating_mul(steps) > MOST_STEPS {
        let was = format!("{least} times {steps}");
        return Err(Error::spec("`concurrency`, `isl` and `osl`", MUST_BE_DRIVEN, was, ""));
    }
    let step = predicted.times(&decode(running, context))?.step.step;
    let share = |bound: Option<f64>| bound.map_or(1.0, |bound| bound / step.seconds);
    let budget = driven.budget();
    let priced = |analyst: &Analyst| costs(analyst, running, prompt, context, budget);
    // Between batches the device's time is interpolated, and what launching takes at least holds for each step of the loop.
    let device = server.analyst(efficiency.launched_at_once())?;
    let priced_apart = Costs { launched: predicted.pricer().launched(), ..priced(&device)? };
    let served = closed_loop(&priced_apart, &load);
    Ok(Answer {
        served: driven.seen(served),
        ideal: closed_loop(&priced(&ideal)?, &load),
        band: (share(step.low), share(step.high)),
        widths: server.widths(),
    })
}

fn decode(sequences: u64, context: u64) -> Point {
    Point {
        question: Question::Decode,
        batch_size: sequences,
        input_len: context,
        output_len: 1,
        prefix_len: 0,
        chunk: 0,
    }
}

fn costs(analyst: &Analyst, running: u64, prompt: u64, context: u64, budget: u64) -> Result<Costs> {
    let price = |point: &Point| -> Result<f64> { Ok(analyst.times(point)?.step.step.seconds) };
    let mut known: HashMap<u64, f64> = HashMap::new();
    for sequences in [1, running / 4, running / 2, running] {
        let sequences = sequences.max(1);
        known.insert(sequences, price(&decode(sequences, context))?);
    }
    let mut at: Vec<u64> = known.keys().copied().collect();
    at.sort_unstable();
    let whole = prompt.min(budget);
    // Chunks of a longer prompt attend to those before them: half of the rest on average.
    let before = (prompt - whole) / 2;
    let mut chunks = vec![(whole / 8).max(1), (whole / 2).max(1), whole];
    chunks.dedup();
    let mut prompts = Vec::new();
    for chunk in chunks {
        let beside = |sequences: u64| -> Result<f64> {
            let alone = decode(sequences, context);
            let point = Point { question: Question::Mixed, chunk, prefix_len: before, ..alone };
            Ok((price(&point)? - known[&sequences]).max(0.0))
        };
        prompts.push((chunk as f64, beside(1)?, beside(running)?));
    }
    let several = (budget / whole).max(2);
    let prefill = |count: u64| price(&Point { question: Question::Prefill, ..decode(count, whole) });
    let further = (prefill(several)? - prefill(1)?).max(0.0) / ((several - 1) * whole) as f64;
    Ok(Costs {
        decode: at.into_iter().map(|sequences| (sequences as f64, known[&sequences])).collect(),
        prompt: prompts,
        beside: (1.0, running as f64),
        further,
        launched: analyst.pricer().launched(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_long_prompt_attend_to_those_before_them() {
        let mut frame = Frame::new(1);
        for (name, value) in [("tp_size", 1.0), ("concurrency", 4.0), ("isl", 4096.0), ("osl", 64.0)] {
            frame.push_numbers(name, vec![value]).unwrap();
        }
        for (name, word) in [("model_path", "llama-3.1-8b"), ("system", "h100_sxm"), ("backend", "vllm")] {
            frame.push_words(name, crate::calibrate::frame::Words::of(&[word])).unwrap();
        }
        let server = Server::of(&frame, 0, &Defaults::default()).unwrap();
        let analyst = server.analyst(Efficiency::Ideal).unwrap();
        let chunk =
            |prompt: u64| costs(&analyst, 4, prompt, 2048, 8192).unwrap().prompt.last().copied().unwrap();
        let (fits, longer) = (chunk(8192), chunk(65536));
        assert_eq!((fits.0, longer.0), (8192.0, 8192.0));
        assert!(longer.1 > 1.5 * fits.1 && longer.2 > 1.5 * fits.2, "{fits:?} {longer:?}");
    }
}
