//! What a simulation tells adds up: a request's time, a replica's time, a timeline, a trace for Perfetto.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

use proptest::prelude::*;
use roofline_core::cause::{Cause, Causes};
use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::metrics::account::{IDLE, UNATTRIBUTED};
use roofline_sim::metrics::explain::Slowness;
use roofline_sim::metrics::journal::Journal;
use roofline_sim::metrics::steps::Record;
use roofline_sim::metrics::summary::Value;
use roofline_sim::request::Workload;
use roofline_sim::run::{Pace, Simulation, simulate_at};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::scheduler::sequence::Status;
use roofline_sim::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use roofline_sim::step_cost::{Decodes, LinearCost, StepCost, StepItem};
use roofline_sim::time::{FixedClock, Ticks, tick_seconds};
use roofline_sim::trace::Trace;
use std::cell::Cell;

/// A linear price that says what it is for.
#[derive(Clone)]
struct Sink {
    cost: LinearCost,
    spent: Cell<Causes>,
}

impl StepCost for Sink {
    type Sums = (u64, u64);

    fn add(&self, sums: &mut (u64, u64), item: StepItem) {
        sums.0 += u64::from(item.new_tokens);
        sums.1 += u64::from(item.context) + u64::from(item.new_tokens);
    }

    fn add_decodes(&self, sums: &mut (u64, u64), decodes: &Decodes<'_>) {
        sums.0 += decodes.count;
        sums.1 += decodes.context + decodes.count;
    }

    fn needs_each_context(&self) -> bool {
        false
    }

    fn seconds(&self, sums: &(u64, u64)) -> f64 {
        let parts = [self.cost.a, self.cost.b * sums.0 as f64, self.cost.c * sums.1 as f64];
        let mut spent = self.spent.get();
        for (cause, seconds) in [Cause::Weights, Cause::Compute, Cause::KvCache].into_iter().zip(parts) {
            spent.add(cause, seconds);
        }
        self.spent.set(spent);
        parts.iter().sum()
    }

    fn spent(&self) -> Causes {
        self.spent.get()
    }

    fn fork(&self) -> Sink {
        Sink { cost: self.cost, spent: Cell::default() }
    }
}

fn workload() -> impl Strategy<Value = Trace> {
    let draw = (0u64..200, 1u32..80, 0u32..60);
    prop::collection::vec(draw, 1..40).prop_map(|draws| {
        let mut trace = Trace::default();
        let mut now = 500_000_000;
        for (wait, prompt, output) in draws {
            now += wait * 1_000_000;
            trace.arrival_ns.push(now);
            trace.prompt_tokens.push(prompt);
            trace.output_tokens.push(output);
        }
        trace
    })
}

fn engine() -> impl Strategy<Value = EngineConfig> {
    let sizes = (1u32..10, 1u32..60, 20u32..140, 0u32..20, 1u32..3);
    (sizes, any::<bool>(), any::<bool>(), 1u32..3).prop_map(|(sizes, chunked, overlapping, stages)| {
        let (max_num_seqs, more_tokens, max_model_len, more_blocks, data_parallel) = sizes;
        let tokens = max_num_seqs + more_tokens;
        EngineConfig {
            max_num_seqs,
            max_num_batched_tokens: if chunked { tokens } else { tokens.max(max_model_len) },
            max_model_len: Some(max_model_len),
            block_size: 4,
            num_gpu_blocks: max_model_len.div_ceil(4) + 1 + more_blocks,
            enable_chunked_prefill: chunked,
            async_scheduling: overlapping,
            data_parallel,
            pipeline_parallel: stages,
            ..preset("vllm", DeviceClass::Standard).unwrap()
        }
    })
}

fn run(pace: Pace, trace: &Trace, config: &EngineConfig, record: Record) -> Option<Simulation> {
    let workload = Workload::new(trace, None).unwrap();
    let cost = Sink { cost: LinearCost { a: 0.005, b: 1e-4, c: 1e-6 }, spent: Cell::default() };
    simulate_at::<FixedClock, _>(
        pace,
        workload,
        &Client::default(),
        config,
        &cost,
        record,
        &Monitor::default(),
    )
    .ok()
}

fn end(simulation: &Simulation) -> Ticks {
    let moments = simulation.journals.iter().flat_map(|journal| &journal.moments);
    let steps = simulation.journals.iter().filter_map(|journal| journal.stretches.last());
    let last = moments.map(|of| of.finish.unwrap_or(of.arrival)).max().unwrap();
    steps.map(|stretch| stretch.note.end).fold(last, Ticks::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_request_s_time_adds_up_to_its_e2e_both_ways(trace in workload(), config in engine()) {
        let Some(simulation) = run(Pace::Requests, &trace, &config, Record::Stretches) else { return Ok(()) };
        let times = simulation.times().unwrap();
        for journal in &simulation.journals {
            for (&row, moments) in journal.rows.iter().zip(&journal.moments) {
                let Some(finish) = moments.finish else {
                    prop_assert!(times[row as usize].is_none());
                    continue;
                };
                let of = times[row as usize].unwrap();
                prop_assert_eq!(of.total(), finish - moments.arrival);
                prop_assert_eq!(of.waiting + of.running.total(), finish - moments.arrival);
                prop_assert!(of.queue >= 0 && of.prefill >= 0 && of.decode >= 0 && of.preempted >= 0, "{of:?}");
                prop_assert!(of.running.0.iter().all(|&part| part >= -1_000_000), "{of:?}");
                prop_assert!(of.waiting >= of.queue);
                prop_assert_eq!(of.running.0[UNATTRIBUTED], 0);
            }
        }
    }

    #[test]
    fn all_replicas_time_adds_up_to_the_makespan_times_their_number(trace in workload(), config in engine()) {
        let Some(simulation) = run(Pace::Requests, &trace, &config, Record::Stretches) else { return Ok(()) };
        let origin = simulation.journals.iter().flat_map(|j| &j.moments).map(|of| of.arrival).min().unwrap();
        let whole = (end(&simulation) - origin) * Ticks::from(simulation.replicas);
        let time = simulation.time().unwrap();
        prop_assert_eq!(time.total(), whole);
        let busy: Ticks = simulation.journals.iter().flat_map(|j| &j.stretches).map(|s| s.note.end - s.note.start).sum();
        prop_assert_eq!(whole - time.0[IDLE], busy);
    }

    #[test]
    fn a_timeline_integrates_to_the_totals(
        trace in workload(), config in engine(), interval_s in prop_oneof![Just(0.01), Just(0.1), Just(1.0), Just(60.0)],
    ) {
        let Some(simulation) = run(Pace::Requests, &trace, &config, Record::Stretches) else { return Ok(()) };
        let timeline = simulation.timeline(interval_s).unwrap();
        let sum = |of: &dyn Fn(&roofline_sim::metrics::timeline::Row) -> u64| -> u64 { timeline.rows().iter().map(of).sum() };
        prop_assert_eq!(sum(&|row| row.arrived), simulation.requests.len() as u64);
        prop_assert_eq!(sum(&|row| row.finished), simulation.requests.count(Status::Finished) as u64);
        let tokens = sum(&|row| row.prefill_tokens) + sum(&|row| row.decode_tokens);
        prop_assert_eq!(tokens, simulation.totals.scheduled_tokens);
        let spent: Ticks = timeline.rows().iter().map(|row| row.spent.total()).sum();
        prop_assert_eq!(spent, simulation.time().unwrap().total());
        let unfinished = simulation.requests.len() - simulation.requests.count(Status::Finished);
        if unfinished == simulation.requests.count(Status::Rejected) {
            let times = simulation.times().unwrap();
            let of = |part: &dyn Fn(&roofline_sim::metrics::times::Times) -> Ticks| -> f64 {
                tick_seconds(times.iter().flatten().map(part).sum())
            };
            let (running, waiting) = timeline.request_seconds();
            prop_assert!((running - of(&|times| times.running.total())).abs() < 1e-9);
            prop_assert!((waiting - of(&|times| times.waiting)).abs() < 1e-9);
        }
        prop_assert!(timeline.to_table().len() == timeline.rows().len());
    }

    #[test]
    fn stepping_and_skipping_tell_the_same(trace in workload(), config in engine()) {
        let told = |pace: Pace| {
            let simulation = run(pace, &trace, &config, Record::Stretches)?;
            let mut perfetto = Vec::new();
            simulation.write_perfetto(&mut perfetto).unwrap();
            let slowest = simulation.explain(&config, 5, Slowness::E2e).unwrap();
            let timeline = simulation.timeline(0.1).unwrap();
            Some((simulation.times().unwrap(), timeline, slowest, perfetto, simulation.stretches().unwrap()))
        };
        prop_assert_eq!(told(Pace::Requests), told(Pace::Decisions));
    }

    #[test]
    fn mean_phases_add_up_to_the_mean_e2e_recorded_or_not(trace in workload(), config in engine()) {
        let Some(simulation) = run(Pace::Requests, &trace, &config, Record::Summary) else { return Ok(()) };
        let summary = simulation.summary(None, &[50.0]);
        let number = |name: &str| match summary.get(name) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        };
        let parts: Option<Vec<f64>> =
            ["queue", "prefill", "decode", "preempted", "outside"].iter().map(|part| number(&format!("mean_{part}_ms"))).collect();
        prop_assert_eq!(parts.is_some(), number("mean_e2el_ms").is_some());
        if let Some(parts) = parts {
            let e2e = number("mean_e2el_ms").unwrap();
            prop_assert!((parts.iter().sum::<f64>() - e2e).abs() <= 1e-9 * e2e);
            let recorded = run(Pace::Requests, &trace, &config, Record::Stretches).unwrap();
            let times: Vec<_> = recorded.times().unwrap().into_iter().flatten().collect();
            let preempted = tick_seconds(times.iter().map(|of| of.preempted).sum()) / times.len() as f64;
            prop_assert!((preempted * 1e3 - parts[3]).abs() < 1e-6, "{preempted} {parts:?}");
        }
    }

    #[test]
    fn what_was_waited_for_adds_up_to_the_waiting(trace in workload(), config in engine()) {
        let Some(simulation) = run(Pace::Requests, &trace, &config, Record::Stretches) else { return Ok(()) };
        for by in [Slowness::E2e, Slowness::Ttft, Slowness::Tpot] {
            let slowest = simulation.explain(&config, 8, by).unwrap();
            prop_assert!(slowest.len() <= 8);
            for one in &slowest {
                let waited = one.waited.step + one.waited.slots + one.waited.tokens + one.waited.blocks;
                prop_assert_eq!(waited, one.times.waiting);
                prop_assert_eq!(one.meanwhile.total(), one.times.waiting);
            }
            if by == Slowness::E2e {
                prop_assert!(slowest.windows(2).all(|pair| pair[0].times.total() >= pair[1].times.total()));
            }
        }
    }

    #[test]
    fn a_trace_for_perfetto_is_json_whose_spans_nest(trace in workload(), config in engine()) {
        let Some(simulation) = run(Pace::Requests, &trace, &config, Record::Stretches) else { return Ok(()) };
        let mut text = Vec::new();
        simulation.write_perfetto(&mut text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let mut tracks: std::collections::BTreeMap<(u64, u64), Vec<(i64, i64)>> = Default::default();
        for event in value["traceEvents"].as_array().unwrap() {
            let phase = event["ph"].as_str().unwrap();
            prop_assert!(["M", "X", "C"].contains(&phase));
            prop_assert!(event["name"].is_string() && event["pid"].is_u64() && event["args"].is_object());
            let nanos = |field: &str| (event[field].as_f64().unwrap() * 1e3).round() as i64;
            if phase == "C" {
                prop_assert!(event["args"].as_object().unwrap().values().all(serde_json::Value::is_number));
                prop_assert!(nanos("ts") >= 0);
            } else if phase == "X" {
                let (start, length) = (nanos("ts"), nanos("dur"));
                prop_assert!(length >= 0);
                let track = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
                tracks.entry(track).or_default().push((start, start + length));
            }
        }
        for spans in tracks.values_mut() {
            spans.sort_by_key(|&(start, end)| (start, -end));
            let mut open: Vec<(i64, i64)> = Vec::new();
            for &(start, end) in spans.iter() {
                open.retain(|&(_, until)| until > start);
                prop_assert!(open.iter().all(|&(_, until)| end <= until), "{start} {end} in {open:?}");
                open.push((start, end));
            }
        }
        prop_assert!(tracks.keys().any(|&(pid, _)| pid == 1) || simulation.requests.count(Status::Finished) == 0);
        let steps = simulation.journals.iter().flat_map(|journal: &Journal| &journal.stretches);
        let until = steps.map(|stretch| tick_seconds(stretch.note.end)).fold(0.0, f64::max);
        let last = tracks.values().flatten().map(|&(_, end)| end).max().unwrap_or(0);
        prop_assert!((last as f64 * 1e-9 - until).abs() < 2e-9, "{last} {until}");
    }
}

#[test]
fn a_simulation_that_kept_no_stretches_says_so() {
    let trace =
        Trace { arrival_ns: vec![0], prompt_tokens: vec![10], output_tokens: vec![2], ..Trace::default() };
    let config = EngineConfig { num_gpu_blocks: 100, ..preset("vllm", DeviceClass::Standard).unwrap() };
    let simulation = run(Pace::Decisions, &trace, &config, Record::Summary).unwrap();
    let error = simulation.timeline(1.0).unwrap_err();
    assert_eq!(error.to_string(), "record must keep stretches or steps: summary");
    assert_eq!(error.hint(), "simulate with record `stretches`");
    let mut nowhere = Vec::new();
    assert!(simulation.write_perfetto(&mut nowhere).is_err());
    assert!(simulation.times().is_err() && simulation.stretches().is_err() && simulation.time().is_err());
    assert!(simulation.explain(&config, 1, Slowness::Ttft).is_err());
    assert!(simulation.journals.iter().all(|journal: &Journal| journal.stretches.is_empty()));
}

#[test]
fn the_slowest_request_of_a_full_engine_waited_for_a_place() {
    let count = 12;
    let trace = Trace {
        arrival_ns: (0..count).map(|row| row * 1_000_000).collect(),
        prompt_tokens: vec![16; count as usize],
        output_tokens: vec![40; count as usize],
        ..Trace::default()
    };
    let roomy = EngineConfig {
        num_gpu_blocks: 1000,
        max_num_seqs: 1,
        max_model_len: Some(128),
        ..preset("vllm", DeviceClass::Standard).unwrap()
    };
    let slowest = |config: &EngineConfig| {
        let simulation = run(Pace::Decisions, &trace, config, Record::Stretches).unwrap();
        simulation.explain(config, 1, Slowness::E2e).unwrap().remove(0)
    };
    let one = slowest(&roomy);
    assert_eq!((one.row, one.ahead), (11, 10));
    assert!(one.waited.slots * 10 > one.times.waiting * 9, "{one:?}");
    let cramped = EngineConfig { num_gpu_blocks: 10, max_num_seqs: 64, block_size: 16, ..roomy.clone() };
    let one = slowest(&cramped);
    assert!(one.waited.blocks * 10 > one.times.waiting * 9, "{one:?}");
    let many = EngineConfig { max_num_seqs: 64, ..roomy };
    let few_tokens = EngineConfig { max_num_scheduled_tokens: Some(4), ..many.clone() };
    let drafts = Speculation {
        method: DraftMethod::DraftModel,
        tokens: 3,
        acceptance: Acceptance::Chance { positions: vec![0.5], seed: 1 },
    };
    let drafting = EngineConfig {
        max_num_batched_tokens: 16,
        max_num_seqs: 16,
        speculation: Some(drafts),
        ..many.clone()
    };
    for config in [few_tokens, drafting] {
        let one = slowest(&config);
        assert!(one.waited.tokens * 10 > one.times.waiting * 8, "{one:?}");
    }
    let seldom = EngineConfig { prefill_schedule_interval: 30, ..many };
    let one = slowest(&seldom);
    assert_eq!(one.waited.blocks + one.waited.tokens + one.waited.slots, 0, "{one:?}");
    let batches = EngineConfig {
        num_gpu_blocks: 1000,
        max_num_seqs: 64,
        max_model_len: Some(128),
        ..preset("static", DeviceClass::Standard).unwrap()
    };
    let one = slowest(&batches);
    assert!(one.waited.slots * 10 > one.times.waiting * 9, "{one:?}");
}
