//! Laws of the simulation, on random workloads through random engines.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

#[path = "common/moves.rs"]
mod moves;

use moves::conserved;
use proptest::prelude::*;
use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::metrics::records::Requests;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::{Segments, Workload};
use roofline_sim::run::{Simulation, simulate};
use roofline_sim::scheduler::config::{EngineConfig, Policy};
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::scheduler::sequence::Status;
use roofline_sim::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use roofline_sim::step_cost::LinearCost;
use roofline_sim::time::{F64Clock, FixedClock};
use roofline_sim::trace::{BlockHashes, Trace};

const COST: LinearCost = LinearCost { a: 0.005, b: 2e-5, c: 2e-8 };

/// A request as drawn: milliseconds since the one before, segments of its prompt, output, priority.
type Draw = (u64, Vec<(u32, u32)>, u32, i32);

fn workload() -> impl Strategy<Value = (Trace, Segments)> {
    let segment = (0u32..6, 1u32..30);
    let request = (0u64..40, prop::collection::vec(segment, 1..4), 0u32..25, 0i32..3);
    prop::collection::vec(request, 1..40).prop_map(|draws: Vec<Draw>| {
        let mut trace = Trace::default();
        let mut segments = Segments { offsets: vec![0], ..Segments::default() };
        let mut now = 0;
        for (row, (wait, pieces, output, priority)) in draws.into_iter().enumerate() {
            now += wait * 1_000_000;
            trace.arrival_ns.push(now);
            trace.prompt_tokens.push(pieces.iter().map(|piece| piece.1).sum());
            trace.output_tokens.push(output);
            trace.priority.push(priority);
            segments.ids.extend(pieces.iter().map(|piece| piece.0));
            segments.lengths.extend(pieces.iter().map(|piece| piece.1));
            segments.offsets.push(segments.ids.len() as u64);
            segments.output.push(row as u32 % 8);
        }
        (trace, segments)
    })
}

fn engine() -> impl Strategy<Value = EngineConfig> {
    let sizes = (1u32..12, 0u32..60, 1u32..9, 20u32..90, 0u32..30);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let knobs = (0.0..0.2f64, prop_oneof![Just(0u32), 1u32..30], 1u32..5, any::<bool>());
    let extra = prop_oneof![
        3 => Just((None, 1)),
        1 => (2u32..5).prop_map(|stages| (None, stages)),
        2 => (0usize..7, 1u32..4).prop_map(|(method, tokens)| (Some((method, tokens)), 1)),
    ];
    (sizes, switches, knobs, extra).prop_map(|(sizes, switches, knobs, extra)| {
        let (max_num_seqs, more_tokens, block_size, max_model_len, more_blocks) = sizes;
        let methods = [
            DraftMethod::Ngram,
            DraftMethod::DraftModel,
            DraftMethod::Medusa,
            DraftMethod::Eagle,
            DraftMethod::Mtp,
            DraftMethod::MtpModules,
            DraftMethod::Dflash,
        ];
        let speculation = extra.0.map(|(method, tokens)| Speculation {
            method: methods[method],
            tokens,
            acceptance: Acceptance::Chance { positions: vec![0.8, 0.5], seed: 7 },
        });
        let chunked = switches.3;
        let tokens = max_num_seqs.max(6) + more_tokens;
        EngineConfig {
            max_num_seqs,
            max_num_batched_tokens: if chunked { tokens } else { tokens.max(max_model_len + 1) },
            max_model_len: Some(max_model_len),
            block_size,
            num_gpu_blocks: max_model_len.div_ceil(block_size) + 1 + more_blocks,
            enable_chunked_prefill: chunked,
            enable_prefix_caching: switches.0,
            async_scheduling: switches.1,
            scheduling_policy: if switches.2 { Policy::Priority } else { Policy::Fcfs },
            watermark: knobs.0,
            long_prefill_token_threshold: knobs.1,
            long_prefill_token_threshold_adaptive: knobs.3,
            scheduler_reserve_full_isl: switches.4,
            prefill_schedule_interval: knobs.2,
            max_num_active_seqs: None,
            speculation,
            pipeline_parallel: extra.1,
            ..preset("vllm", DeviceClass::Standard).unwrap()
        }
    })
}

/// `None` where requests would preempt each other for ever, which is told as an error.
fn run_as(trace: &Trace, segments: Option<&Segments>, config: &EngineConfig) -> Option<Simulation> {
    let workload = Workload::new(trace, segments).unwrap();
    let monitor = Monitor::default();
    let simulation =
        simulate::<FixedClock, _>(workload, &Client::default(), config, &COST, Record::Decisions, &monitor);
    simulation.inspect_err(|error| assert!(error.to_string().contains("between preemptions"), "{error}")).ok()
}

fn run(trace: &Trace, segments: &Segments, config: &EngineConfig) -> Option<Simulation> {
    run_as(trace, Some(segments), config)
}

fn in_order(requests: &Requests, row: usize) -> bool {
    let instants = [
        Some(requests.arrival_s[row]),
        requests.first_scheduled_s[row].get(),
        requests.first_token_s[row].get(),
        requests.finish_s[row].get(),
    ];
    let known: Vec<f64> = instants.into_iter().flatten().collect();
    known.windows(2).all(|pair| pair[0] <= pair[1])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn blocks_and_requests_are_conserved_at_every_move((trace, segments) in workload(), config in engine()) {
        prop_assert_eq!(conserved(&trace, &segments, &config, &COST), Ok(()));
    }

    #[test]
    fn every_request_is_answered_or_rejected_and_its_instants_are_in_order(
        (trace, segments) in workload(), config in engine(),
    ) {
        let Some(simulation) = run(&trace, &segments, &config) else { return Ok(()) };
        let requests = &simulation.requests;
        for row in 0..trace.len() {
            let too_long = trace.prompt_tokens[row] >= config.model_len();
            prop_assert_eq!(requests.status[row], if too_long { Status::Rejected } else { Status::Finished });
            prop_assert!(in_order(requests, row));
            if !too_long {
                let room = config.model_len() - trace.prompt_tokens[row];
                prop_assert_eq!(requests.output_tokens[row], trace.output_tokens[row].min(room));
                prop_assert!(requests.cached_tokens[row] < trace.prompt_tokens[row]);
            }
        }
    }

    #[test]
    fn a_step_never_exceeds_its_token_budget_or_its_sequences(
        (trace, segments) in workload(), config in engine(),
    ) {
        let Some(Simulation { steps, .. }) = run(&trace, &segments, &config) else { return Ok(()) };
        let decisions = steps.decisions.as_ref().unwrap();
        for row in 0..steps.len() {
            prop_assert!(decisions.tokens.row(row).iter().sum::<u32>() <= config.max_num_batched_tokens);
            prop_assert!(decisions.request.row(row).len() <= config.max_num_seqs as usize);
            prop_assert!(steps.running[row] <= config.max_num_seqs);
        }
    }

    #[test]
    fn time_never_runs_backwards((trace, segments) in workload(), config in engine()) {
        let Some(Simulation { steps, .. }) = run(&trace, &segments, &config) else { return Ok(()) };
        for row in 0..steps.len() {
            prop_assert!(steps.scheduled_s[row] <= steps.start_s[row] && steps.start_s[row] <= steps.end_s[row]);
            if row > 0 {
                prop_assert!(steps.scheduled_s[row - 1] <= steps.scheduled_s[row]);
                prop_assert!(steps.call[row - 1] < steps.call[row]);
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_output((trace, segments) in workload(), config in engine()) {
        prop_assert_eq!(run(&trace, &segments, &config), run(&trace, &segments, &config));
    }

    #[test]
    fn without_prefix_caching_identity_does_not_matter((trace, segments) in workload(), config in engine()) {
        let config = EngineConfig { enable_prefix_caching: false, ..config };
        prop_assert_eq!(run(&trace, &segments, &config), run_as(&trace, None, &config));
    }

    #[test]
    fn tokens_nobody_shares_are_the_same_as_segments_nobody_shares((trace, _) in workload(), config in engine()) {
        let rows = trace.len() as u32;
        let alone = Segments {
            offsets: (0..=u64::from(rows)).collect(),
            ids: (0..rows).collect(),
            lengths: trace.prompt_tokens.clone(),
            output: (rows..2 * rows).collect(),
        };
        prop_assert_eq!(run_as(&trace, None, &config), run_as(&trace, Some(&alone), &config));
    }

    #[test]
    fn hashes_of_coarse_blocks_are_the_same_as_segments_of_their_size(
        (trace, _) in workload(), config in engine(), block_size in 1u32..20, kinds in 1u32..4,
    ) {
        let mut hashes = BlockHashes { block_size, offsets: vec![0], ids: Vec::new() };
        let mut segments = Segments { offsets: vec![0], ..Segments::default() };
        for (row, &prompt) in trace.prompt_tokens.iter().enumerate() {
            for block in 0..prompt.div_ceil(block_size) {
                let id = (block * 7 + row as u32 / 2) % kinds;
                hashes.ids.push(id);
                segments.ids.push(id);
                segments.lengths.push(block_size.min(prompt - block * block_size));
            }
            hashes.offsets.push(hashes.ids.len() as u64);
            segments.offsets.push(segments.ids.len() as u64);
        }
        let hashed = Trace { hashes: Some(hashes), ..trace.clone() };
        prop_assert_eq!(run_as(&hashed, None, &config), run_as(&trace, Some(&segments), &config));
    }

    #[test]
    fn both_clocks_tell_the_same_story_where_requests_come_alone(
        prompts in prop::collection::vec((1u32..100, 1u32..20), 1..10), config in engine(),
    ) {
        let trace = Trace {
            arrival_ns: (0..prompts.len() as u64).map(|row| row * 10_000_000_000).collect(),
            prompt_tokens: prompts.iter().map(|prompt| prompt.0).collect(),
            output_tokens: prompts.iter().map(|prompt| prompt.1).collect(),
            ..Trace::default()
        };
        let workload = Workload::new(&trace, None).unwrap();
        let monitor = Monitor::default();
        let fixed = simulate::<FixedClock, _>(workload, &Client::default(), &config, &COST, Record::Decisions, &monitor).unwrap();
        let float = simulate::<F64Clock, _>(workload, &Client::default(), &config, &COST, Record::Decisions, &monitor).unwrap();
        prop_assert_eq!(&fixed.steps.decisions, &float.steps.decisions);
        for (a, b) in fixed.steps.end_s.iter().zip(&float.steps.end_s) {
            prop_assert!((a - b).abs() < 1e-9);
        }
    }
}
