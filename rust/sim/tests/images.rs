//! Images of prompts: each passes the vision tower once, before the step that begins its prompt, whatever the engine.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

use std::cell::RefCell;

use proptest::prelude::*;
use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::images::Alike;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::Workload;
use roofline_sim::run::{Pace, Simulation, simulate_at};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::preset::{DeviceClass, ENGINES, preset};
use roofline_sim::step_cost::{LinearCost, StepCost, StepItem};
use roofline_sim::time::FixedClock;
use roofline_sim::trace::{BlockHashes, Trace};

/// A second a step, a 1,024th a token, and as much for a token of an image: sums of them are exact.
#[derive(Default)]
struct Seeing {
    seen: RefCell<Vec<Alike>>,
}

const LINEAR: LinearCost = LinearCost { a: 1.0, b: TOKEN, c: 0.0 };
const TOKEN: f64 = 1.0 / 1024.0;

impl StepCost for Seeing {
    type Sums = <LinearCost as StepCost>::Sums;

    fn add(&self, sums: &mut Self::Sums, item: StepItem) {
        LINEAR.add(sums, item);
    }

    fn seconds(&self, sums: &Self::Sums) -> f64 {
        LINEAR.seconds(sums)
    }

    fn encodes(&self) -> bool {
        true
    }

    fn encode(&self, images: &[Alike]) -> f64 {
        self.seen.borrow_mut().extend_from_slice(images);
        images.iter().map(|alike| f64::from(alike.count * alike.tokens) * TOKEN).sum()
    }
}

impl Clone for Seeing {
    fn clone(&self) -> Seeing {
        Seeing::default()
    }
}

impl Seeing {
    fn all(&self) -> u32 {
        self.seen.borrow().iter().map(|alike| alike.count * alike.tokens).sum()
    }
}

fn engine(name: &str) -> EngineConfig {
    EngineConfig {
        max_num_batched_tokens: 64,
        max_num_seqs: 8,
        num_gpu_blocks: 101,
        max_model_len: Some(512),
        ..preset(name, DeviceClass::Standard).unwrap()
    }
}

/// Requests as (arrival in ms, prompt, output, images, their tokens).
fn trace(requests: &[(u64, u32, u32, u32, u32)]) -> Trace {
    let mut trace = Trace::default();
    for &(arrival_ms, prompt, output, images, tokens) in requests {
        trace.arrival_ns.push(arrival_ms * 1_000_000);
        trace.prompt_tokens.push(prompt);
        trace.output_tokens.push(output);
        trace.carried.images.push(images);
        trace.carried.image_tokens.push(tokens);
    }
    trace
}

fn run_at(pace: Pace, trace: &Trace, config: &EngineConfig, cost: &Seeing) -> Result<Simulation, String> {
    let workload = Workload::new(trace, None).unwrap();
    let (client, monitor) = (Client::default(), Monitor::default());
    simulate_at::<FixedClock, _>(pace, workload, &client, config, cost, Record::Stretches, &monitor)
        .map_err(|error| error.to_string())
}

fn run(trace: &Trace, config: &EngineConfig, cost: &Seeing) -> Simulation {
    run_at(Pace::default(), trace, config, cost).unwrap()
}

#[test]
fn images_lengthen_the_step_that_begins_their_prompt_and_no_other() {
    // Two chunks of a prompt, then three tokens more.
    let (cost, rows) = (Seeing::default(), trace(&[(0, 100, 4, 2, 32)]));
    let requests = run(&rows, &engine("vllm-sync"), &cost).requests;
    let prompt = 2.0 + 100.0 * TOKEN + 32.0 * TOKEN;
    assert_eq!(requests.ttft_s(0), Some(prompt));
    assert_eq!(requests.e2e_s(0), Some(prompt + 3.0 * (1.0 + TOKEN)));
    assert_eq!(*cost.seen.borrow(), [Alike { count: 2, tokens: 16 }]);
}

#[test]
fn images_of_prompts_that_begin_together_pass_together() {
    let rows = trace(&[(0, 30, 1, 1, 8), (0, 30, 1, 0, 0), (0, 4, 1, 1, 4)]);
    let cost = Seeing::default();
    let requests = run(&rows, &engine("vllm"), &cost).requests;
    let step = 1.0 + (64.0 + 12.0) * TOKEN;
    assert_eq!([0, 1, 2].map(|row| requests.e2e_s(row)), [Some(step); 3]);
}

#[test]
fn an_image_found_in_the_prefix_cache_is_not_encoded_again() {
    let mut rows = trace(&[(0, 48, 1, 2, 32), (5000, 48, 1, 2, 32), (9000, 48, 1, 3, 42)]);
    let offsets = (0..4).map(|row| row * 3).collect();
    rows.hashes = Some(BlockHashes { block_size: 16, offsets, ids: vec![1, 2, 3, 1, 4, 5, 1, 6, 7] });
    let config = EngineConfig { enable_prefix_caching: true, ..engine("vllm") };
    let cost = Seeing::default();
    run(&rows, &config, &cost);
    let passes = [(2, 16), (1, 16), (2, 14)].map(|(count, tokens)| Alike { count, tokens });
    assert_eq!(*cost.seen.borrow(), passes);
}

#[test]
fn stages_of_a_pipeline_share_a_pass_out_among_them() {
    let config = EngineConfig { pipeline_parallel: 2, ..engine("vllm-sync") };
    let requests = run(&trace(&[(0, 64, 1, 1, 32)]), &config, &Seeing::default()).requests;
    assert_eq!(requests.e2e_s(0), Some(1.0 + 96.0 * TOKEN));
}

fn random() -> impl Strategy<Value = Trace> {
    let draw = (0u64..4000, 1u32..150, 0u32..60, 0u32..4, 0u32..150);
    prop::collection::vec(draw, 1..25).prop_map(|mut draws| {
        draws.sort_unstable();
        trace(&draws)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whoever_runs_has_each_of_its_images_encoded_once(
        rows in random(), name in 0..ENGINES.len(), blocks in 14u32..40, replicas in 1u32..3, together: bool,
    ) {
        let name = ENGINES[name];
        let config = EngineConfig {
            enable_prefix_caching: false,
            num_gpu_blocks: 1 + 512 / preset(name, DeviceClass::Standard).unwrap().block_size.min(512) + blocks,
            max_num_batched_tokens: 512,
            data_parallel: replicas,
            data_parallel_lockstep: together,
            ..engine(name)
        };
        let cost = Seeing::default();
        let outcome = run_at(Pace::default(), &rows, &config, &cost);
        // Replicas that run apart keep accounts of their own.
        if let (Ok(simulation), true) = (outcome, replicas == 1 || together) {
            let requests = &simulation.requests;
            let ran = (0..requests.len()).filter(|&row| requests.first_scheduled_s[row].is_some());
            let all: u32 =
                ran.map(|row| rows.carried.image_tokens[row].min(rows.prompt_tokens[row])).sum();
            prop_assert_eq!(cost.all(), all);
        }
    }

    #[test]
    fn skipping_equals_stepping_where_prompts_hold_images(
        rows in random(), shared in 0u32..5, blocks in 33u32..80, replicas in 1u32..3, overlapping: bool,
    ) {
        let mut rows = rows;
        let mut hashes = BlockHashes { block_size: 16, offsets: vec![0], ids: Vec::new() };
        for (row, prompt) in rows.prompt_tokens.iter().enumerate() {
            let id = |block: u32| if block < shared { block } else { 1000 * (row as u32 + 1) + block };
            hashes.ids.extend((0..prompt.div_ceil(16)).map(id));
            hashes.offsets.push(hashes.ids.len() as u64);
        }
        rows.hashes = Some(hashes);
        let config = EngineConfig {
            enable_prefix_caching: true,
            num_gpu_blocks: blocks,
            async_scheduling: overlapping,
            data_parallel: replicas,
            ..engine("vllm")
        };
        let [slow, stepped, skipped] = [Pace::Requests, Pace::Steps, Pace::Decisions].map(|pace| {
            let cost = Seeing::default();
            (run_at(pace, &rows, &config, &cost), cost.seen.into_inner())
        });
        prop_assert_eq!(&slow, &stepped);
        prop_assert_eq!(&slow, &skipped);
    }
}
