//! How fast a simulation runs: requests a second through one replica on one core, skipping and request by request.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::Workload;
use roofline_sim::run::{Pace, simulate_at};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::serve::ModelCost;
use roofline_sim::step_cost::{LinearCost, StepCost};
use roofline_sim::time::FixedClock;
use roofline_sim::trace::{ReadOptions, Trace, read};

/// About an 8B model on an H100.
const COST: LinearCost = LinearCost { a: 0.005, b: 2e-5, c: 2e-8 };
/// Followed from decision to decision, and request by request (the twin, on a part of the trace: it is slow).
const PACES: [(&str, Pace, usize); 2] =
    [("skipping", Pace::Decisions, 100_000), ("stepping", Pace::Requests, 5_000)];

/// A chat: independent arrivals at `rate` a second, prompts of 250 tokens and answers of 200 on average.
fn chat(requests: usize, rate: f64) -> Trace {
    let mut state = 7u64;
    let mut exponential = |mean: f64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -mean * uniform.ln()
    };
    let mut trace = Trace::default();
    let mut now_s = 0.0;
    for _ in 0..requests {
        now_s += exponential(1.0 / rate);
        // Arrivals in whole milliseconds, as most traces have them.
        trace.arrival_ns.push((now_s * 1e3) as u64 * 1_000_000);
        trace.prompt_tokens.push(1 + exponential(250.0) as u32);
        trace.output_tokens.push(1 + exponential(200.0) as u32);
    }
    trace
}

fn engine(enable_prefix_caching: bool) -> Option<EngineConfig> {
    let engine = preset("vllm", DeviceClass::Standard).ok()?;
    Some(EngineConfig {
        num_gpu_blocks: 28_000,
        max_model_len: Some(131_072),
        enable_prefix_caching,
        ..engine
    })
}

fn model_cost() -> Option<ModelCost> {
    let model = catalog::models::model("llama-3.1-8b").ok()?;
    let deployment = Deployment {
        precision: Precision::resolve(&model, &Request::default()).ok()?,
        model,
        hardware: catalog::hardware::hardware("h100-sxm").ok()?.item,
        layout: Layout::default(),
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
    };
    Some(ModelCost::new(deployment.compile().ok()?))
}

/// The first requests of a trace.
fn first(trace: &Trace, most: usize) -> Trace {
    let mut trace = trace.clone();
    trace.arrival_ns.truncate(most);
    trace.prompt_tokens.truncate(most);
    trace.output_tokens.truncate(most);
    trace.ids.truncate(most);
    trace.priority.truncate(most);
    if let Some(hashes) = &mut trace.hashes {
        hashes.offsets.truncate(most + 1);
    }
    trace
}

fn measure<P: StepCost>(
    criterion: &mut Criterion,
    name: &str,
    trace: &Trace,
    engine: &EngineConfig,
    cost: &P,
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (label, pace, most) in PACES {
        let trace = first(trace, most);
        let Ok(workload) = Workload::new(&trace, None) else { return };
        group.throughput(Throughput::Elements(trace.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter(|| {
                let monitor = Monitor::default();
                simulate_at::<FixedClock, P>(
                    pace,
                    workload,
                    &Client::default(),
                    engine,
                    cost,
                    Record::Summary,
                    &monitor,
                )
                .map(|simulation| simulation.totals)
            });
        });
    }
    group.finish();
}

fn requests_a_second(criterion: &mut Criterion) {
    let (Some(plain), Some(caching)) = (engine(false), engine(true)) else { return };
    let cost = model_cost();
    for (load, rate) in [("light chat", 2.0), ("chat", 40.0), ("saturated chat", 400.0)] {
        let trace = chat(100_000, rate);
        measure(criterion, &format!("{load}, linear cost"), &trace, &plain, &COST);
        if let Some(cost) = &cost {
            measure(criterion, &format!("{load}, cost model"), &trace, &plain, cost);
        }
    }
    measure(criterion, "chat, linear cost, prefix caching", &chat(100_000, 40.0), &caching, &COST);
    let conversation = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/traces/mooncake/conversation_trace.jsonl.zst"
    );
    let Ok(bytes) = std::fs::read(conversation) else { return };
    let Ok((trace, _)) = read("bench", &bytes, &ReadOptions::default()) else { return };
    measure(criterion, "Mooncake conversation, linear cost", &trace, &caching, &COST);
    if let Some(cost) = &cost {
        measure(criterion, "Mooncake conversation, cost model", &trace, &caching, cost);
    }
}

criterion_group!(benches, requests_a_second);
criterion_main!(benches);
