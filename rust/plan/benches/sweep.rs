//! How many points a second: step times and totals of whole models, full rows, and the one-point way beside them.
//!
//! One core: run with `RAYON_NUM_THREADS=1` for the rows of `sweep`; the kernel's own rows use one thread anyway.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roofline_core::analysis::Analyst;
use roofline_core::batch::{Answers, BLOCK, Kernel, Scratch, Sizes, Want};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_plan::results::{Measure, Wanted};
use roofline_plan::sweep::{Ask, Axis, Keep, Limits, Setting, Space, Values, read};
use roofline_sim::engine::Monitor;

const ENGINE: EngineMemory = EngineMemory::VLLM;
const MODELS: [(&str, u64); 4] =
    [("llama-3.1-8b", 1), ("llama-3.1-70b", 4), ("qwen3-30b-a3b", 1), ("deepseek-v3", 8)];

fn analyst(model: &str, tp: u64, efficiency: Efficiency) -> Option<Analyst> {
    let model = catalog::models::model(model).ok()?;
    let deployment = Deployment {
        precision: Precision::resolve(&model, &Request::default()).ok()?,
        model,
        hardware: catalog::hardware::hardware("h200").ok()?.item,
        layout: Layout { tp, ..Layout::default() },
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency,
        techniques: Default::default(),
    };
    Analyst::new(deployment, &ENGINE).ok()
}

/// Points of a grid of batches and lengths, or of as many different batches as there are points.
struct Grid {
    batch: Vec<u64>,
    input: Vec<u64>,
    output: Vec<u64>,
    zero: Vec<u64>,
}

impl Grid {
    fn of(points: usize, shared: bool) -> Grid {
        let lengths = if shared { 512 } else { 1 };
        let batch = |at: usize| 1 + (at / lengths) as u64 % 8192;
        let input = |at: usize| 64 + 61 * (at % 509) as u64;
        Grid {
            batch: (0..points).map(batch).collect(),
            input: (0..points).map(input).collect(),
            output: vec![256; points],
            zero: vec![0; points],
        }
    }
}

fn kernel(criterion: &mut Criterion) {
    const POINTS: usize = 1024 * BLOCK;
    let want = Want { work: true, ..Want::default() };
    let mut group = criterion.benchmark_group("kernel");
    group.throughput(Throughput::Elements(POINTS as u64)).sample_size(10);
    for (model, tp) in MODELS {
        for (question, name, efficiency) in [
            (Question::Decode, "ideal_decode", Efficiency::Ideal),
            (Question::Prefill, "ideal_prefill", Efficiency::Ideal),
            (Question::Chat, "ideal_chat", Efficiency::Ideal),
            (Question::Decode, "predicted_decode", Efficiency::predicted("vllm")),
            (Question::Prefill, "predicted_prefill", Efficiency::predicted("vllm")),
        ] {
            let Some(analyst) = analyst(model, tp, efficiency) else { continue };
            let kernel = Kernel::of(&analyst, question);
            for (shared, grid) in [(true, "grid"), (false, "scattered")] {
                let points = Grid::of(POINTS, shared);
                let (mut scratch, mut answers) = (Scratch::default(), Answers::default());
                let id = BenchmarkId::new(format!("{name}_{grid}"), model);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        let mut sum = 0.0;
                        for at in (0..POINTS).step_by(BLOCK) {
                            let block = at..at + BLOCK;
                            let sizes = Sizes {
                                batch_size: &points.batch[block.clone()],
                                input_len: &points.input[block.clone()],
                                output_len: &points.output[block.clone()],
                                prefix_len: &points.zero[block.clone()],
                                chunk: &points.zero[block],
                            };
                            kernel.price(&sizes, want, &mut scratch, &mut answers);
                            sum += answers.step[0] + answers.bytes[BLOCK - 1];
                        }
                        sum
                    });
                });
            }
        }
    }
    group.finish();
}

fn one_point(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one_point");
    for (model, tp) in MODELS {
        let Some(analyst) = analyst(model, tp, Efficiency::Ideal) else { continue };
        let point = Point {
            question: Question::Decode,
            batch_size: 64,
            input_len: 4096,
            output_len: 0,
            prefix_len: 0,
            chunk: 0,
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("times", model), |bencher| {
            bencher.iter(|| analyst.times(&point))
        });
        group.bench_function(BenchmarkId::new("row", model), |bencher| {
            bencher.iter(|| analyst.outcome(&point))
        });
    }
    group.finish();
}

fn space(model: &str, phase: &str, efficiency: Efficiency) -> Option<Space> {
    let names = |name: &str| Values::Names(vec![name.to_string()]);
    let axes = vec![
        Axis { setting: Setting::Model, values: names(model) },
        Axis { setting: Setting::Hw, values: names("h200-sxm") },
        Axis { setting: Setting::Tp, values: Values::Counts(vec![1, 2, 4, 8]) },
        Axis { setting: Setting::Phase, values: names(phase) },
        Axis { setting: Setting::BatchSize, values: Values::Counts((1..=256).collect()) },
        Axis { setting: Setting::OutputLen, values: Values::Counts(vec![128]) },
        Axis { setting: Setting::InputLen, values: Values::Counts((1..=1024).map(|n| n * 16).collect()) },
    ];
    let model = catalog::models::model(model).ok()?;
    let device = catalog::hardware::hardware("h200").ok()?.item;
    Space::new(vec![model], vec![device], vec![ENGINE], vec![efficiency], axes).ok()
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows");
    group.sample_size(10);
    let monitor = Monitor::default();
    for (model, phase, mode) in [
        ("llama-3.1-8b", "decode", "ideal"),
        ("llama-3.1-8b", "decode", "predicted"),
        ("llama-3.1-8b", "chat", "ideal"),
        ("deepseek-v3", "decode", "ideal"),
        ("deepseek-v3", "decode", "predicted"),
        ("deepseek-v3", "chat", "ideal"),
    ] {
        let efficiency = if mode == "ideal" { Efficiency::Ideal } else { Efficiency::predicted("vllm") };
        let Some(space) = space(model, phase, efficiency) else { continue };
        group.throughput(Throughput::Elements(space.points()));
        for (name, wanted) in [("step_s", Wanted::default().and(Measure::Step)), ("all", Wanted::all())] {
            let ask = Ask { wanted, keep: Keep::All, limits: Limits::default() };
            group.bench_function(BenchmarkId::new(format!("{mode}_{phase}_{name}"), model), |bencher| {
                bencher.iter(|| {
                    let swept = read(&space, 0, space.points(), &ask, &monitor);
                    swept.and_then(|swept| swept.tables(&space, None, &ask)).map(|tables| tables.len())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, kernel, one_point, rows);
criterion_main!(benches);
