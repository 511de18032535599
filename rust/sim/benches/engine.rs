//! How fast a simulation runs: the cases and the bars of `benches/README.md`, each a whole simulation on one core.
//!
//! `cargo bench -p roofline-sim --bench engine -- [--json] [--once] [--small] [NAME…]` prints a row a case: the median of
//! several runs in seconds of processor time (where Linux tells it; what others do on the machine is not in it), and of
//! the wall. `--once --small` is for counting instructions: a run a case, of fewer requests. `--huge` runs 10 M and 44 M
//! generated requests instead, and tells the most memory the process had.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a bench tells what it measured

use std::time::Instant;

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
use roofline_sim::scheduler::config::{EngineConfig, Policy};
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::serve::ModelCost;
use roofline_sim::step_cost::{LinearCost, StepCost};
use roofline_sim::time::FixedClock;
use roofline_sim::trace::{ReadOptions, Trace, read_file};

/// About an 8B model on an H100.
const LINEAR: LinearCost = LinearCost { a: 0.005, b: 2e-5, c: 2e-8 };
/// Runs of a case, at most, and the seconds after which no other is begun.
const RUNS: usize = 7;
const PATIENCE_S: f64 = 4.0;
/// Shorter runs are repeated until they take so long: processor time is told in ticks of some milliseconds.
const SHORTEST_S: f64 = 0.1;
/// Share of what an engine can serve that a busy one is offered.
const BUSY: f64 = 0.8;

/// Draws from one seed, the same on every machine.
struct Draws(u64);

impl Draws {
    fn exponential(&mut self, mean: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -mean * uniform.ln()
    }
}

/// Independent arrivals at `rate` a second, in whole milliseconds as most traces have them; mean prompt and answer.
fn chat(requests: usize, rate: f64, prompt: f64, answer: f64) -> Trace {
    let mut draws = Draws(7);
    let mut trace = Trace::default();
    let mut now_s = 0.0;
    for _ in 0..requests {
        now_s += draws.exponential(1.0 / rate);
        trace.arrival_ns.push((now_s * 1e3) as u64 * 1_000_000);
        trace.prompt_tokens.push(1 + draws.exponential(prompt) as u32);
        trace.output_tokens.push(1 + draws.exponential(answer) as u32);
    }
    trace
}

/// Requests all at once or one a second, all alike.
fn alike(requests: usize, every_ms: u64, prompt: u32, answer: u32) -> Trace {
    Trace {
        arrival_ns: (0..requests as u64).map(|row| row * every_ms * 1_000_000).collect(),
        prompt_tokens: vec![prompt; requests],
        output_tokens: vec![answer; requests],
        ..Trace::default()
    }
}

/// A trace of the shared data sets; `None` where they are absent.
fn shared(file: &str) -> Option<Trace> {
    let path = format!("{}/../../../shared/data/traces/{file}", env!("CARGO_MANIFEST_DIR"));
    Some(read_file(path, &ReadOptions::default()).ok()?.0)
}

fn engine(enable_prefix_caching: bool, num_gpu_blocks: u32) -> Option<EngineConfig> {
    let engine = preset("vllm", DeviceClass::Standard).ok()?;
    let max_model_len = Some(131_072.min((num_gpu_blocks - 1) * 16));
    Some(EngineConfig { num_gpu_blocks, max_model_len, enable_prefix_caching, ..engine })
}

/// Llama-3.1-8B on an H100.
fn model_cost(efficiency: Efficiency) -> Option<ModelCost> {
    let model = catalog::models::model("llama-3.1-8b").ok()?;
    let deployment = Deployment {
        precision: Precision::resolve(&model, &Request::default()).ok()?,
        model,
        hardware: catalog::hardware::hardware("h100-sxm").ok()?.item,
        layout: Layout::default(),
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency,
        techniques: Default::default(),
    };
    Some(ModelCost::new(deployment.compile().ok()?))
}

/// What a case is held to.
#[derive(Clone, Copy)]
enum Bar {
    /// Requests a second, at least.
    Rate(f64),
    /// Seconds, at most.
    Seconds(f64),
    /// Not slower than the same followed step by step.
    Twin(Pace),
    /// Nothing.
    None,
}

/// Seconds this thread has run on a processor, where Linux tells.
fn processor_s() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<u64>().ok()? as f64 / 1e9)
}

/// Median seconds of a case.
#[derive(Clone, Copy)]
struct Took {
    processor: f64,
    wall: f64,
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Simulates; when the last step ended.
fn end_s<P: StepCost + Clone + Send>(
    trace: &Trace,
    engine: &EngineConfig,
    cost: &P,
    pace: Pace,
) -> Option<f64> {
    let (workload, monitor) = (Workload::new(trace, None).ok()?, Monitor::default());
    let (client, record) = (Client::default(), Record::Summary);
    let simulation =
        simulate_at::<FixedClock, P>(pace, workload, &client, engine, cost, record, &monitor).ok()?;
    Some(simulation.totals.end_s)
}

/// Requests of this chat that an engine serves in a second, when they are all there.
fn capacity<P: StepCost + Clone + Send>(engine: &EngineConfig, cost: &P) -> f64 {
    let requests = 20_000;
    let all = Trace { arrival_ns: vec![0; requests], ..chat(requests, 1.0, 250.0, 200.0) };
    end_s(&all, engine, cost, Pace::Decisions).map_or(1.0, |end_s| requests as f64 / end_s)
}

/// Prints what is measured.
struct Bench {
    json: bool,
    once: bool,
    wanted: Vec<String>,
}

impl Bench {
    fn took<P: StepCost + Clone + Send>(
        &self,
        trace: &Trace,
        engine: &EngineConfig,
        cost: &P,
        pace: Pace,
    ) -> Option<Took> {
        let (mut walls, mut processors, began) = (Vec::new(), Vec::new(), Instant::now());
        let most = if self.once { 1 } else { RUNS };
        while walls.len() < most && (walls.is_empty() || began.elapsed().as_secs_f64() < PATIENCE_S) {
            let (start, before, mut repeats) = (Instant::now(), processor_s(), 0.0);
            while repeats == 0.0 || !self.once && start.elapsed().as_secs_f64() < SHORTEST_S {
                std::hint::black_box(end_s(trace, engine, cost, pace)?);
                repeats += 1.0;
            }
            let wall = start.elapsed().as_secs_f64() / repeats;
            let used = processor_s().zip(before).map(|(after, before)| (after - before) / repeats);
            processors.push(used.unwrap_or(wall));
            walls.push(wall);
        }
        Some(Took { processor: median(processors)?, wall: median(walls)? })
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()))
    }

    fn case<P: StepCost + Clone + Send>(
        &self,
        name: &str,
        bar: Bar,
        trace: impl FnOnce() -> Option<Trace>,
        engine: &EngineConfig,
        cost: &P,
    ) {
        if !self.wants(name) {
            return;
        }
        let Some(trace) = &trace() else { return };
        let Some(took) = self.took(trace, engine, cost, Pace::Decisions) else { return };
        let (seconds, wall) = (took.processor, took.wall);
        let rate = trace.len() as f64 / seconds;
        let (target, holds) = match bar {
            Bar::Rate(least) => (format!(">= {:.2} M/s", least / 1e6), Some(rate >= least)),
            Bar::Seconds(most) => (format!("<= {most} s"), Some(seconds <= most)),
            Bar::Twin(pace) => {
                let Some(Took { processor: twin, .. }) = self.took(trace, engine, cost, pace) else { return };
                let allowed = if pace == Pace::Steps { 1.1 * twin } else { twin };
                (format!("<= {allowed:.4} s ({pace:?})"), Some(seconds <= allowed))
            }
            Bar::None => (String::new(), None),
        };
        let verdict = match holds {
            Some(true) => "holds",
            Some(false) => "missed",
            None => "",
        };
        if self.json {
            println!(
                "{{\"case\": \"{name}\", \"requests\": {}, \"processor_s\": {seconds:.6}, \"wall_s\": {wall:.6}, \"requests_per_s\": {rate:.0}, \
                 \"bar\": \"{target}\", \"verdict\": \"{verdict}\"}}",
                trace.len()
            );
        } else {
            let rate = rate / 1e6;
            println!("{name:46} {seconds:8.4} s (wall {wall:8.4}) {rate:8.3} M req/s  {target:25} {verdict}");
        }
    }
}

/// The cost model: as users have it by default, and the bare roofline.
struct Models {
    predicted: ModelCost,
    ideal: ModelCost,
}

fn chats(bench: &Bench, plain: &EngineConfig, caching: &EngineConfig, models: &Models, most: usize) {
    let of = |requests: usize, rate: f64| move || Some(chat(requests, rate, 250.0, 200.0));
    let Models { predicted: model, ideal } = models;
    let linear = || of(most, BUSY * capacity(plain, &LINEAR))();
    bench.case("chat at 80 %, linear, cache off", Bar::Rate(4e6), linear, plain, &LINEAR);
    bench.case("chat at 80 %, linear, cache on", Bar::Rate(3e6), linear, caching, &LINEAR);
    let busy = |model: &ModelCost| of(most, BUSY * capacity(plain, model))();
    bench.case("chat at 80 %, cost model, cache off", Bar::Rate(1.5e6), || busy(model), plain, model);
    bench.case("chat at 80 %, ideal, cache off", Bar::Rate(1.5e6), || busy(ideal), plain, ideal);
    for (load, rate) in [("light chat, 2/s", 2.0), ("chat, 40/s", 40.0), ("overloaded chat, 400/s", 400.0)] {
        bench.case(&format!("{load}, linear"), Bar::None, of(100_000, rate), plain, &LINEAR);
        bench.case(&format!("{load}, cost model"), Bar::None, of(100_000, rate), plain, model);
    }
    let long = || Some(chat(100_000, 30.0, 500.0, 280.0));
    bench.case("28 M output tokens, linear", Bar::Seconds(0.1), long, plain, &LINEAR);
    bench.case("28 M output tokens, cost model", Bar::Seconds(0.1), long, plain, model);
}

fn traces(bench: &Bench, caching: &EngineConfig, models: &Models) {
    let Models { predicted: model, ideal } = models;
    let azure = || shared("azure/AzureLLMInferenceTrace_conv.csv.gz");
    bench.case("Azure conversation 2023, cost model", Bar::Seconds(0.02), azure, caching, model);
    bench.case("Azure conversation 2023, ideal", Bar::Seconds(0.02), azure, caching, ideal);
    let mooncake = || shared("mooncake/conversation_trace.jsonl.zst");
    bench.case("Mooncake conversation, linear", Bar::Rate(1e6), mooncake, caching, &LINEAR);
    bench.case("Mooncake conversation, cost model", Bar::Rate(1e6), mooncake, caching, model);
    bench.case("Mooncake conversation, ideal", Bar::Rate(1e6), mooncake, caching, ideal);
}

/// The first requests of a trace that has nothing but arrivals and lengths.
fn first(trace: &Trace, most: usize) -> Trace {
    let most = trace.len().min(most);
    Trace {
        arrival_ns: trace.arrival_ns[..most].to_vec(),
        prompt_tokens: trace.prompt_tokens[..most].to_vec(),
        output_tokens: trace.output_tokens[..most].to_vec(),
        ..Trace::default()
    }
}

/// Shapes a jump could be bad at.
fn corners(bench: &Bench, plain: &EngineConfig, tiny: &EngineConfig) {
    let cases = [
        ("output length 1", alike(20_000, 20, 200, 1), plain),
        ("1 M-token decodes", alike(4, 1000, 10, 120_000), plain),
        ("a burst of 100 k", alike(100_000, 0, 200, 100), plain),
        ("tiny KV", chat(5_000, 40.0, 250.0, 200.0), tiny),
    ];
    for (name, trace, engine) in cases {
        let few = || Some(first(&trace, 3000));
        let twin = Bar::Twin(Pace::Requests);
        bench.case(&format!("{name}, against each request"), twin, few, engine, &LINEAR);
        let (all, twin) = (|| Some(trace.clone()), Bar::Twin(Pace::Steps));
        bench.case(&format!("{name}, against each step"), twin, all, engine, &LINEAR);
    }
}

/// Settings that decide more than first come, first served does: the same chat, at the same load.
fn settings(bench: &Bench, plain: &EngineConfig, requests: usize) {
    let by_rank = EngineConfig { scheduling_policy: Policy::Priority, ..plain.clone() };
    let cases = [
        ("priorities", by_rank.clone()),
        ("priorities, tiny KV", EngineConfig { num_gpu_blocks: 2000, max_model_len: Some(8192), ..by_rank }),
        ("prefill interval 4", EngineConfig { prefill_schedule_interval: 4, ..plain.clone() }),
        ("long-prefill threshold 256", EngineConfig { long_prefill_token_threshold: 256, ..plain.clone() }),
    ];
    for (name, engine) in cases {
        let ranked = |most: usize| {
            let trace = chat(most, BUSY * capacity(plain, &LINEAR), 250.0, 200.0);
            Some(Trace { priority: (0..most as i32).map(|row| row % 3).collect(), ..trace })
        };
        let twin = Bar::Twin(Pace::Requests);
        bench.case(&format!("{name}, against each request"), twin, || ranked(3000), &engine, &LINEAR);
        bench.case(&format!("{name}, linear"), Bar::None, || ranked(requests), &engine, &LINEAR);
    }
}

/// Millions of generated requests, and the most memory they took.
fn huge(bench: &Bench, plain: &EngineConfig) {
    let rate = BUSY * capacity(plain, &LINEAR);
    for (name, millions, most_s) in [("10 M generated", 10, 10.0), ("44 M generated", 44, 60.0)] {
        if !bench.wants(name) {
            continue;
        }
        let trace = || Some(chat(millions * 1_000_000, rate, 250.0, 200.0));
        bench.case(name, Bar::Seconds(most_s), trace, plain, &LINEAR);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        println!("{name}: {}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or(""));
    }
}

/// The first word after a colon on the line of a file that begins so.
fn told_by(file: &str, begins: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(begins)).unwrap_or_default();
    line.split_once(':').map_or(String::new(), |(_, rest)| rest.trim().replace('"', ""))
}

/// Where and of what the figures that follow are.
fn heading() -> String {
    let commit = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().into());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{{\"commit\": \"{commit}\", \"processor\": \"{}\", \"cores\": {}, \"load\": \"{}\"}}",
        told_by("/proc/cpuinfo", "model name"),
        std::thread::available_parallelism().map_or(0, usize::from),
        load.split(' ').next().unwrap_or_default(),
    )
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (flags, wanted): (Vec<String>, _) = arguments.into_iter().partition(|text| text.starts_with("--"));
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let bench = Bench { json: has("--json"), once: has("--once") || has("--huge"), wanted };
    let engines = (engine(false, 28_000), engine(true, 28_000), engine(false, 512));
    let models = (model_cost(Efficiency::predicted("vllm")), model_cost(Efficiency::Ideal));
    let ((Some(plain), Some(caching), Some(tiny)), (Some(predicted), Some(ideal))) = (engines, models) else {
        eprintln!("the catalogue must have llama-3.1-8b and h100-sxm");
        return;
    };
    let models = Models { predicted, ideal };
    if bench.json {
        println!("{}", heading());
    }
    if has("--huge") {
        return huge(&bench, &plain);
    }
    chats(&bench, &plain, &caching, &models, if has("--small") { 100_000 } else { 1_000_000 });
    traces(&bench, &caching, &models);
    settings(&bench, &plain, if has("--small") { 20_000 } else { 300_000 });
    if !bench.once {
        corners(&bench, &plain, &tiny);
    }
}
