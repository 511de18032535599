//! Every engine: what each is known for, and laws on random workloads.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

#[path = "../common/moves.rs"]
mod moves;
#[path = "../common/streamed.rs"]
mod streamed;
mod known_for;
mod laws;

use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::{Segments, Workload};
use roofline_sim::run::{Simulation, simulate};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use roofline_sim::step_cost::LinearCost;
use roofline_sim::time::FixedClock;
use roofline_sim::trace::Trace;

/// A second a step, and a 1,024th a token: sums of them are exact.
const COST: LinearCost = LinearCost { a: 1.0, b: 1.0 / 1024.0, c: 0.0 };

fn engine(name: &str) -> EngineConfig {
    EngineConfig {
        max_num_batched_tokens: 64,
        max_num_seqs: 8,
        num_gpu_blocks: 101,
        max_model_len: Some(64),
        block_size: 16,
        async_scheduling: false,
        ..preset(name, DeviceClass::Standard).unwrap()
    }
}

/// Requests as (arrival in ms, prompt, output).
fn trace(requests: &[(u64, u32, u32)]) -> Trace {
    Trace {
        arrival_ns: requests.iter().map(|request| request.0 * 1_000_000).collect(),
        prompt_tokens: requests.iter().map(|request| request.1).collect(),
        output_tokens: requests.iter().map(|request| request.2).collect(),
        ..Trace::default()
    }
}

fn serve(trace: &Trace, segments: Option<&Segments>, config: &EngineConfig) -> Simulation {
    let workload = Workload::new(trace, segments).unwrap();
    let client = Client::default();
    simulate::<FixedClock, _>(workload, &client, config, &COST, Record::Decisions, &Monitor::default())
        .unwrap()
}

/// Who was in each step, with how many tokens.
fn schedule(simulation: &Simulation) -> Vec<Vec<(u32, u32)>> {
    let decisions = simulation.steps.decisions.as_ref().unwrap();
    let row = |row| decisions.request.row(row).iter().copied().zip(decisions.tokens.row(row).iter().copied());
    (0..simulation.steps.len()).map(|step| row(step).collect()).collect()
}

/// Requests whose prompts consist of these (segment, tokens), all there from the beginning.
fn shared(prompts: &[&[(u32, u32)]], output: u32) -> (Trace, Segments) {
    let mut segments = Segments { offsets: vec![0], ..Segments::default() };
    let mut requests = Vec::new();
    for prompt in prompts {
        segments.ids.extend(prompt.iter().map(|piece| piece.0));
        segments.lengths.extend(prompt.iter().map(|piece| piece.1));
        segments.offsets.push(segments.ids.len() as u64);
        requests.push((0, prompt.iter().map(|piece| piece.1).sum(), output));
    }
    (trace(&requests), segments)
}

fn drafts(tokens: u32) -> Speculation {
    let acceptance = Acceptance::Chance { positions: vec![0.8, 0.5], seed: 7 };
    Speculation { method: DraftMethod::Eagle, tokens, acceptance }
}
