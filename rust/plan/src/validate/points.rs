//! Points of real servers, each a model on a machine under so many users: time to first token and per token, predicted.

use std::collections::HashMap;

use rayon::prelude::*;
use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::efficiency::switches::as_run_by;
use roofline_core::error::{Error, Result};
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::{BlockSize, EngineMemory, MemoryShare, Pages};
use roofline_core::model::Ffn;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;

use super::report::{Report, Tally};
use super::serving::{Costs, Load, Served, closed_loop};
use crate::calibrate::errors::Outcome;
use crate::calibrate::frame::Frame;

/// Tokens a step takes at most, as engines start on data-centre devices.
const BUDGET: u64 = 8192;
/// Sequences an engine runs at most.
const MOST: u64 = 1024;
/// Requests for each user: what these benchmarks send.
const REQUESTS_A_USER: u64 = 10;
/// Share of the longest that the shortest prompt and answer have in benchmarks with random lengths.
const SHORTEST: f64 = 0.8;
/// Seconds a request spends outside the engine before its first token.
const API_S: f64 = 4.5e-3;
/// Seconds there for each token of its prompt: text sent, parsed and cut into tokens. Chosen, with the next, on the
/// MiniMax-M2.5 rows of the shared servers.
const TOKEN_S: f64 = 8e-6;
/// Steps a request waits beside its own: until it is looked at, behind those already on their way, and until its token is
/// back with the client.
const STEPS_BEFORE: f64 = 4.0;
/// How much wider than a step's band those of served times are, as factors of its log half-widths: batches and lengths
/// are not known exactly. Chosen on the same rows.
const WIDER_TPOT: f64 = 1.7;
const WIDER_TTFT: f64 = 3.5;

/// What a row asks for.
#[derive(Debug, Clone, PartialEq)]
struct Server {
    model: String,
    hw: String,
    engine: String,
    quantization: &'static str,
    layout: Layout,
    users: u64,
    lengths: (u64, u64),
    exact: bool,
}

/// What a row is predicted at.
#[derive(Debug, Clone, Copy)]
struct Answer {
    served: Served,
    ideal: Served,
    /// P10 and P90 of a decode step, as shares of it.
    band: (f64, f64),
}

/// Prices every row.
///
/// # Errors
/// Columns that are missing.
pub fn points(frame: &Frame) -> Result<Report> {
    let ttft = needed(frame, "silicon_ttft_ms")?;
    let tpot = needed(frame, "silicon_tpot_ms")?;
    let servers: Vec<Result<Server, String>> = (0..frame.rows()).map(|row| server(frame, row)).collect();
    let answers: Vec<Result<Answer, String>> = servers
        .par_iter()
        .map(|server| {
            server.as_ref().map_err(Clone::clone).and_then(|server| answer(server).map_err(|e| e.to_string()))
        })
        .collect();
    let mut tally = Tally::default();
    for (row, answer) in answers.iter().enumerate() {
        let groups = groups(frame, row);
        for (metric, measured) in [("ttft_ms", ttft[row]), ("tpot_ms", tpot[row])] {
            let usable = measured.is_finite() && measured > 0.0;
            match answer {
                Ok(answer) if usable => {
                    let of = |served: &Served| {
                        1e3 * if metric == "ttft_ms" { served.ttft_s } else { served.tpot_s }
                    };
                    let ratio = of(&answer.served) / measured;
                    let wider = if metric == "ttft_ms" { WIDER_TTFT } else { WIDER_TPOT };
                    let band = answer.band.0.powf(wider)..=answer.band.1.powf(wider);
                    let inside = Some(band.contains(&(1.0 / ratio)));
                    let ideal = Outcome { ratio: of(&answer.ideal) / measured, inside: None };
                    tally.add(metric, &groups, &[Outcome { ratio, inside }], &[ideal], 0);
                }
                _ => {
                    let why = answer
                        .as_ref()
                        .err()
                        .map_or("the measured time must be a positive number", String::as_str);
                    tally.refuse(metric, &groups, why, 1);
                }
            }
        }
    }
    Ok(tally.report())
}

fn needed<'a>(frame: &'a Frame, name: &str) -> Result<&'a [f64]> {
    frame.number(&[name]).ok_or_else(|| {
        let was = format!("columns {}", frame.names().join(", "));
        Error::spec("points", format!("must have a column of numbers `{name}`"), was, "")
    })
}

fn word<'a>(frame: &'a Frame, name: &str, row: usize) -> &'a str {
    frame.word(&[name]).map_or("", |words| words.at(row))
}

fn groups(frame: &Frame, row: usize) -> Vec<String> {
    let gpu = catalog::hardware::hardware(word(frame, "system", row)).map(|found| found.item.name);
    let model = word(frame, "model_path", row);
    let kind = if is_dense(model) { "dense" } else { "moe" };
    vec![
        format!("gpu={}", gpu.unwrap_or_else(|_| word(frame, "system", row).to_string())),
        format!("engine={}", word(frame, "backend", row)),
        format!("model={model}"),
        format!("mode={}", word(frame, "mode", row)),
        format!("kind={kind}"),
    ]
}

fn is_dense(model: &str) -> bool {
    catalog::models::model(model)
        .is_ok_and(|model| model.layers.iter().all(|group| !matches!(group.ffn, Some(Ffn::Moe(_)))))
}

fn server(frame: &Frame, row: usize) -> Result<Server, String> {
    if word(frame, "mode", row) == "disagg" {
        return Err("prompts and answers on different devices are not priced".into());
    }
    let number = |name: &str| {
        frame.number(&[name]).map(|column| column[row]).filter(|value| value.is_finite() && *value >= 1.0)
    };
    let count = |name: &str| number(name).map(|value| value as u64);
    let must = |name: &str| count(name).ok_or_else(|| format!("`{name}` must be a positive number"));
    let (tp, dp) = (must("tp_size")?, count("attention_dp_size").unwrap_or(1));
    let (moe_tp, ep) = (count("moe_tp_size").unwrap_or(1), count("moe_ep_size").unwrap_or(1));
    let (tp, dp, ep) = once((tp, dp), (moe_tp, ep));
    let model = word(frame, "model_path", row).to_string();
    let quantization = match word(frame, "precision", row) {
        "fp4" => "nvfp4",
        "fp8" if is_dense(&model) => "fp8",
        _ => "auto",
    };
    Ok(Server {
        hw: word(frame, "system", row).to_string(),
        engine: word(frame, "backend", row).to_string(),
        quantization,
        layout: Layout { tp, pp: count("pp_size").unwrap_or(1), dp, ep },
        users: must("concurrency")?,
        lengths: (must("isl")?, must("osl")?),
        exact: word(frame, "source_kind", row) == "nvidia_internal",
        model,
    })
}

/// TP, DP and EP of the devices there are. Where experts are spread, tables of these servers multiply a group of devices
/// by itself: 8 devices under `moe_tp = ep = 8` stand there as TP 64, 4 ranks of data parallelism as TP 4 × DP 4 with EP 16,
/// on machines of 8 devices, and with the times of such machines.
fn once((tp, dp): (u64, u64), (moe_tp, ep): (u64, u64)) -> (u64, u64, u64) {
    let squared = ep > 1 && tp * dp == moe_tp * ep;
    if squared && moe_tp == ep && (tp == 1 || dp == 1) {
        return if dp > 1 { (1, ep, ep) } else { (ep, 1, ep) };
    }
    if squared && moe_tp == 1 && tp == dp && tp > 1 {
        return (1, dp, dp);
    }
    (tp, dp, ep)
}

fn analyst(server: &Server, efficiency: Efficiency) -> Result<Analyst> {
    let model = catalog::models::model(&server.model)?;
    let request = Request { quantization: Some(server.quantization.into()), ..Request::default() };
    let precision = as_run_by(&server.engine, Precision::resolve(&model, &request)?, &request);
    let deployment = Deployment {
        precision,
        model,
        hardware: catalog::hardware::hardware(&server.hw)?.item,
        layout: server.layout,
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency,
        techniques: Default::default(),
    };
    let engine = EngineMemory {
        gpu_memory_utilization: 0.9,
        share: MemoryShare::Device,
        block_size: BlockSize::VLLM,
        pages: Pages::Groups { caching: true, drafts: 0 },
        max_num_batched_tokens: BUDGET,
        max_num_seqs: MOST,
        cuda_graphs: true,
    };
    Analyst::new(deployment, &engine)
}

fn answer(server: &Server) -> Result<Answer> {
    let predicted = analyst(server, Efficiency::predicted(&server.engine))?;
    let ideal = analyst(server, Efficiency::Ideal)?;
    let users = server.users.div_ceil(server.layout.dp).max(1);
    let shortest = if server.exact { 1.0 } else { SHORTEST };
    let mean = (1.0 + shortest) / 2.0;
    let prompt = ((server.lengths.0 as f64 * mean) as u64).max(1);
    let context = prompt + ((server.lengths.1 as f64 * mean / 2.0) as u64).max(1);
    let held = predicted.outcome(&decode(users, context))?.memory.engine_sequences.max(1);
    let load = Load {
        users,
        requests: users * REQUESTS_A_USER,
        lengths: server.lengths,
        shortest,
        budget: BUDGET,
        most: held.min(MOST),
    };
    let running = users.min(load.most);
    let step = predicted.times(&decode(running, context))?.step.step;
    let share = |bound: Option<f64>| bound.map_or(1.0, |bound| bound / step.seconds);
    let (costs, bare) =
        (costs(&predicted, running, prompt, context)?, costs(&ideal, running, prompt, context)?);
    let mut served = closed_loop(&costs, &load);
    served.ttft_s += API_S + TOKEN_S * prompt as f64 + STEPS_BEFORE * served.tpot_s;
    Ok(Answer { served, ideal: closed_loop(&bare, &load), band: (share(step.low), share(step.high)) })
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

fn costs(analyst: &Analyst, running: u64, prompt: u64, context: u64) -> Result<Costs> {
    let price = |point: &Point| -> Result<f64> { Ok(analyst.times(point)?.step.step.seconds) };
    let mut known: HashMap<u64, f64> = HashMap::new();
    for sequences in [1, running / 4, running / 2, running] {
        let sequences = sequences.max(1);
        known.insert(sequences, price(&decode(sequences, context))?);
    }
    let mut at: Vec<u64> = known.keys().copied().collect();
    at.sort_unstable();
    let whole = prompt.min(BUDGET);
    let mut chunks = vec![(whole / 8).max(1), (whole / 2).max(1), whole];
    chunks.dedup();
    let mut prompts = Vec::new();
    for chunk in chunks {
        let beside = |sequences: u64| -> Result<f64> {
            let point = Point { question: Question::Mixed, chunk, ..decode(sequences, context) };
            Ok((price(&point)? - known[&sequences]).max(0.0))
        };
        prompts.push((chunk as f64, beside(1)?, beside(running)?));
    }
    let several = (BUDGET / whole).max(2);
    let prefill = |count: u64| price(&Point { question: Question::Prefill, ..decode(count, whole) });
    let further = (prefill(several)? - prefill(1)?).max(0.0) / ((several - 1) * whole) as f64;
    Ok(Costs {
        decode: at.into_iter().map(|sequences| (sequences as f64, known[&sequences])).collect(),
        prompt: prompts,
        beside: (1.0, running as f64),
        further,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_a_table_multiplied_by_itself_is_taken_once() {
        assert_eq!(once((64, 1), (8, 8)), (8, 1, 8));
        assert_eq!(once((1, 64), (8, 8)), (1, 8, 8));
        assert_eq!(once((4, 4), (1, 16)), (1, 4, 4));
    }

    #[test]
    fn other_layouts_stay_as_they_are() {
        for layout @ ((tp, dp), (_, ep)) in
            [((8, 1), (8, 1)), ((4, 1), (1, 4)), ((2, 1), (1, 2)), ((1, 1), (1, 1)), ((8, 8), (4, 16))]
        {
            assert_eq!(once(layout.0, layout.1), (tp, dp, ep));
        }
    }
}
