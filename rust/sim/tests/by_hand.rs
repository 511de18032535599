//! The simulation against calculations by hand.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

use std::sync::atomic::{AtomicBool, AtomicU64};

use roofline_core::table::Column;
use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::error::{Error, Result};
use roofline_sim::metrics::slo::Slo;
use roofline_sim::metrics::steps::Record;
use roofline_sim::metrics::summary::{PERCENTILES, Summary, Value};
use roofline_sim::request::{Segments, Workload};
use roofline_sim::run::{Simulation, simulate};
use roofline_sim::scheduler::config::{EngineConfig, Policy};
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::scheduler::sequence::Status;
use roofline_sim::step_cost::{LinearCost, StepCost, StepItem};
use roofline_sim::time::FixedClock;
use roofline_sim::trace::{BlockHashes, NOT_OBSERVED, Trace};

/// A second a step, and a 1,024th a token: sums of them are exact.
const COST: LinearCost = LinearCost { a: 1.0, b: 1.0 / 1024.0, c: 0.0 };
const TOKEN: f64 = 1.0 / 1024.0;

fn engine(name: &str) -> EngineConfig {
    EngineConfig {
        max_num_batched_tokens: 64,
        max_num_seqs: 8,
        num_gpu_blocks: 101,
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

fn try_run(trace: &Trace, config: &EngineConfig) -> Result<Simulation> {
    let workload = Workload::new(trace, None)?;
    simulate::<FixedClock, _>(
        workload,
        &Client::default(),
        config,
        &COST,
        Record::Decisions,
        &Monitor::default(),
    )
}

fn run(trace: &Trace, config: &EngineConfig) -> Simulation {
    try_run(trace, config).unwrap()
}

fn count(summary: &Summary, name: &str) -> u64 {
    match summary.get(name) {
        Some(Value::Count(count)) => count,
        other => panic!("{name} must be a count: {other:?}"),
    }
}

fn number(summary: &Summary, name: &str) -> f64 {
    match summary.get(name) {
        Some(Value::Number(number)) => number,
        other => panic!("{name} must be a number: {other:?}"),
    }
}

#[test]
fn a_request_alone_pays_its_prompt_in_chunks_and_then_a_step_a_token() {
    for name in ["vllm", "vllm-sync"] {
        let requests = run(&trace(&[(500, 100, 5)]), &engine(name)).requests;
        let prefill = (1.0 + 64.0 * TOKEN) + (1.0 + 36.0 * TOKEN);
        let decode = 1.0 + TOKEN;
        assert_eq!(requests.first_scheduled_s[0], Some(0.5));
        assert_eq!(requests.ttft_s(0), Some(prefill));
        assert_eq!(requests.tpot_s(0), Some(decode));
        assert_eq!(requests.e2e_s(0), Some(prefill + 4.0 * decode));
        assert_eq!(requests.finish_s[0], Some(0.5 + prefill + 4.0 * decode));
    }
}

#[test]
fn asynchronous_scheduling_costs_a_newcomer_one_step() {
    let trace = trace(&[(0, 1, 40), (2500, 1, 2)]);
    let waited = |name: &str| run(&trace, &engine(name)).requests.ttft_s(1).unwrap();
    // It arrives during the third step, which ends at 3 steps; alone in the fourth, or the fifth, there are two rows.
    let (step, both) = (1.0 + TOKEN, 1.0 + 2.0 * TOKEN);
    assert_eq!(waited("vllm-sync"), 3.0 * step + both - 2.5);
    assert_eq!(waited("vllm"), 4.0 * step + both - 2.5);
}

#[test]
fn the_last_block_of_a_cached_prompt_is_computed_again() {
    let hashes = BlockHashes { block_size: 128, offsets: vec![0, 1, 2], ids: vec![4, 4] };
    let trace = Trace { hashes: Some(hashes), ..trace(&[(0, 128, 1), (60_000, 128, 1)]) };
    let simulation = run(&trace, &engine("vllm"));
    assert_eq!(simulation.requests.cached_tokens, [0, 112]);
    assert_eq!(simulation.requests.ttft_s(1), Some(1.0 + 16.0 * TOKEN));
    let plain = EngineConfig { enable_prefix_caching: false, ..engine("vllm") };
    assert_eq!(run(&trace, &plain).requests.cached_tokens, [0, 0]);
}

#[test]
fn a_prompt_that_leaves_no_room_for_an_answer_is_rejected_and_an_answer_is_cut_at_the_models_length() {
    let config = EngineConfig { max_model_len: Some(50), ..engine("vllm") };
    let monitor = Monitor::default();
    let trace = trace(&[(0, 50, 5), (0, 49, 5), (0, 10, 90)]);
    let workload = Workload::new(&trace, None).unwrap();
    let simulation =
        simulate::<FixedClock, _>(workload, &Client::default(), &config, &COST, Record::Summary, &monitor)
            .unwrap();
    assert_eq!(simulation.requests.status, [Status::Rejected, Status::Finished, Status::Finished]);
    assert_eq!(simulation.requests.output_tokens, [0, 1, 40]);
    assert_eq!(monitor.done.into_inner(), 3);
    let summary = simulation.summary(None, &PERCENTILES);
    let counts =
        ["injected", "completed", "running", "waiting", "rejected"].map(|name| count(&summary, name));
    assert_eq!(counts, [3, 2, 0, 0, 1]);
}

#[test]
fn a_request_for_no_output_ends_with_its_prompt() {
    let requests = run(&trace(&[(0, 10, 0)]), &engine("vllm")).requests;
    assert_eq!((requests.output_tokens[0], requests.e2e_s(0)), (0, Some(1.0 + 10.0 * TOKEN)));
    assert_eq!((requests.status[0], requests.tpot_s(0)), (Status::Finished, None));
}

#[test]
fn replicas_share_requests_in_turn() {
    let pairs = trace(&[(0, 30, 4), (0, 30, 4), (100, 20, 9), (100, 20, 9)]);
    let config = EngineConfig { data_parallel: 2, ..engine("vllm") };
    let both = run(&pairs, &config);
    let single = run(&trace(&[(0, 30, 4), (100, 20, 9)]), &engine("vllm"));
    assert_eq!(both.requests.replica, [0, 1, 0, 1]);
    for (row, twin) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        assert_eq!(both.requests.e2e_s(row), single.requests.e2e_s(twin));
    }
    assert_eq!(both.steps.len(), 2 * single.steps.len());
    assert!(both.steps.to_table().column("replica").is_some());
    let idle = |simulation: &Simulation| number(&simulation.summary(None, &[]), "idle_time_share");
    assert_eq!(idle(&both), idle(&single));
}

#[test]
fn pipeline_stages_work_on_different_steps_at_once() {
    let config = EngineConfig { pipeline_parallel: 2, ..engine("vllm-sync") };
    // Two prompts that fill a step each: the second follows half a step behind the first.
    let requests = run(&trace(&[(0, 64, 1), (0, 64, 1)]), &config).requests;
    let step = 1.0 + 64.0 * TOKEN;
    assert_eq!([requests.e2e_s(0), requests.e2e_s(1)], [Some(step), Some(1.5 * step)]);
}

#[test]
fn a_summary_counts_every_gap_and_every_second() {
    // Two requests decode together: three shared gaps, then two of the longer answer alone.
    let simulation = run(&trace(&[(0, 10, 4), (0, 10, 6)]), &engine("vllm-sync"));
    let summary = simulation.summary(Some(&Slo::parse("ttft:2000 e2e:5500").unwrap()), &[99.0, 50.0]);
    let (prefill, both, alone) = (1.0 + 20.0 * TOKEN, 1.0 + 2.0 * TOKEN, 1.0 + TOKEN);
    let duration = prefill + 3.0 * both + 2.0 * alone;
    assert_eq!(number(&summary, "duration"), duration);
    assert_eq!(simulation.gaps.count(), 8);
    assert_eq!(number(&summary, "mean_itl_ms"), 1e3 * (6.0 * both + 2.0 * alone) / 8.0);
    assert_eq!(number(&summary, "p50_itl_ms"), 1e3 * both);
    assert_eq!(number(&summary, "mean_ttft_ms"), 1e3 * prefill);
    assert_eq!(number(&summary, "median_e2el_ms"), 1e3 * (prefill + 3.0 * both + alone));
    assert_eq!(number(&summary, "max_tpot_ms"), 1e3 * both);
    assert_eq!(number(&summary, "mean_tpot_ms"), 1e3 * (both + (3.0 * both + 2.0 * alone) / 5.0) / 2.0);
    assert_eq!(count(&summary, "total_input_tokens"), 20);
    assert_eq!(count(&summary, "max_concurrent_requests"), 2);
    assert_eq!(number(&summary, "output_throughput"), 10.0 / duration);
    assert_eq!(number(&summary, "total_token_throughput"), 30.0 / duration);
    assert_eq!(number(&summary, "request_goodput"), 1.0 / duration);
    assert_eq!(number(&summary, "slo_attainment"), 0.5);
    assert_eq!(number(&summary, "prefill_time_share"), prefill / duration);
    assert_eq!(number(&summary, "idle_time_share"), 0.0);
    assert_eq!(summary.get("mixed_time_share"), Some(Value::Number(0.0)));
    assert_eq!(summary.get("offered_rate"), Some(Value::Unknown));
    let missed = simulation.summary(Some(&Slo::parse("itl@p99:1").unwrap()), &[]);
    assert_eq!(missed.get("slo_percentiles_met"), Some(Value::Truth(false)));
}

#[test]
fn an_answer_after_its_own_deadline_is_missed_and_not_good() {
    let rows = [(0, 10, 4), (0, 10, 6), (0, 10, 6)];
    let mut trace = trace(&rows);
    // A step takes a second and a little: the answers take four and six of them.
    trace.carried.deadline_ns = vec![4_500_000_000, 5_000_000_000, NOT_OBSERVED];
    let simulation = run(&trace, &engine("vllm-sync"));
    let table = simulation.requests.to_table();
    let Some(Column::Names(words, names)) = table.column("deadline") else { panic!("no deadlines") };
    assert_eq!(
        (words.as_slice(), names.as_slice()),
        (&[0, 1, 2][..], &["met".to_string(), "missed".into()][..])
    );
    let summary = simulation.summary(None, &[]);
    assert_eq!((count(&summary, "deadlines"), count(&summary, "deadlines_missed")), (2, 1));
    assert_eq!(number(&summary, "deadline_attainment"), 0.5);
    let duration = number(&summary, "duration");
    assert_eq!(number(&summary, "request_goodput"), 2.0 / duration);
    assert_eq!(number(&summary, "slo_attainment"), 2.0 / 3.0);
    let strict = simulation.summary(Some(&Slo::parse("e2e:5000").unwrap()), &[]);
    assert_eq!(number(&strict, "request_goodput"), 1.0 / duration);
    assert_eq!(strict.get("deadlines_missed"), Some(Value::Count(1)));
    let silent = run(&self::trace(&rows), &engine("vllm-sync"));
    assert_eq!(silent.summary(None, &[]).get("deadlines"), None);
    assert!(silent.requests.to_table().column("deadline").is_none());
}

#[test]
fn a_request_that_is_refused_misses_its_deadline() {
    let mut trace = trace(&[(0, 10, 4), (0, 4000, 4)]);
    trace.carried.deadline_ns = vec![60_000_000_000; 2];
    let config = EngineConfig { max_model_len: Some(1000), ..engine("vllm-sync") };
    let summary = run(&trace, &config).summary(None, &[]);
    assert_eq!((count(&summary, "rejected"), count(&summary, "deadlines_missed")), (1, 1));
}

#[test]
fn a_queue_that_grows_is_called_overload_and_one_that_does_not_is_not() {
    let every = |ms: u64| trace(&(0..400).map(|row| (row * ms, 32, 1)).collect::<Vec<_>>());
    // A step takes about a second and two prompts: 1.9 requests a second.
    let verdict = |ms: u64| run(&every(ms), &engine("vllm-sync")).summary(None, &[]);
    let (slow, fast) = (verdict(1100), verdict(300));
    assert_eq!(slow.get("overloaded"), Some(Value::Truth(false)));
    assert_eq!(fast.get("overloaded"), Some(Value::Truth(true)));
    let growth = number(&fast, "queue_growth_per_s");
    let expected = 1.0 / 0.3 - 2.0 / (1.0 + 64.0 * TOKEN);
    assert!((growth - expected).abs() < 0.05, "{growth} {expected}");
}

#[test]
fn nothing_can_be_said_of_no_requests() {
    let simulation = run(&trace(&[]), &engine("vllm"));
    assert!(simulation.requests.is_empty() && simulation.steps.is_empty());
    let summary = simulation.summary(Some(&Slo::parse("ttft:5").unwrap()), &PERCENTILES);
    for name in ["request_throughput", "mean_ttft_ms", "p99_itl_ms", "request_goodput", "overloaded"] {
        assert_eq!(summary.get(name), Some(Value::Unknown), "{name}");
    }
}

#[test]
fn a_simulation_stops_when_asked() {
    let trace = trace(&[(0, 10, 1000)]);
    let workload = Workload::new(&trace, None).unwrap();
    let monitor = Monitor { done: AtomicU64::new(0), cancel: AtomicBool::new(true) };
    let stopped = simulate::<FixedClock, _>(
        workload,
        &Client::default(),
        &engine("vllm"),
        &COST,
        Record::Summary,
        &monitor,
    );
    assert_eq!(stopped, Err(Error::Interrupted));
}

#[test]
fn a_step_cost_that_is_no_time_is_refused() {
    #[derive(Clone)]
    struct Broken;
    impl StepCost for Broken {
        type Sums = ();
        fn add(&self, (): &mut (), _: StepItem) {}
        fn seconds(&self, (): &()) -> f64 {
            f64::NAN
        }
    }
    let trace = trace(&[(0, 10, 1)]);
    let workload = Workload::new(&trace, None).unwrap();
    let monitor = Monitor::default();
    let broken = simulate::<FixedClock, _>(
        workload,
        &Client::default(),
        &engine("vllm"),
        &Broken,
        Record::Summary,
        &monitor,
    );
    let message = broken.unwrap_err().to_string();
    assert_eq!(message, "step_cost must be finite and not negative, in seconds: NaN");
}

#[test]
fn requests_that_preempt_each_other_for_ever_are_told_from_a_long_simulation() {
    // Equals by priority: whoever was admitted first gives way, whoever comes back takes its place.
    let config = EngineConfig {
        max_num_seqs: 2,
        max_num_batched_tokens: 55,
        max_model_len: Some(55),
        block_size: 1,
        num_gpu_blocks: 57,
        enable_prefix_caching: false,
        scheduling_policy: Policy::Priority,
        long_prefill_token_threshold: 1,
        scheduler_reserve_full_isl: false,
        ..engine("vllm-sync")
    };
    let trace = trace(&[(0, 37, 17), (0, 43, 15), (1, 17, 0), (2, 1, 5), (28, 1, 3)]);
    let error = try_run(&trace, &config).unwrap_err();
    assert!(error.to_string().contains("must let some request reach its next token"), "{error}");
    assert!(error.hint().contains("scheduler_reserve_full_isl"), "{}", error.hint());
}

#[test]
fn answers_are_found_again_by_the_next_turn_all_but_their_last_token() {
    // The last token of an answer is sampled but never computed: a second block needs 17 tokens of answer.
    for (output, found) in [(16, 16), (17, 32)] {
        let segments = Segments {
            offsets: vec![0, 1, 4],
            ids: vec![0, 0, 1, 2],
            lengths: vec![16, 16, 16, 8],
            output: vec![1, 3],
        };
        let trace = trace(&[(0, 16, output), (60_000, 40, 1)]);
        let workload = Workload::new(&trace, Some(&segments)).unwrap();
        let monitor = Monitor::default();
        let simulation = simulate::<FixedClock, _>(
            workload,
            &Client::default(),
            &engine("vllm"),
            &COST,
            Record::Summary,
            &monitor,
        )
        .unwrap();
        assert_eq!(simulation.requests.cached_tokens, [0, found]);
    }
}
