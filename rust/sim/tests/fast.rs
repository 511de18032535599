//! The fast path against its twin: skipping equals stepping, bit for bit, in everything that is recorded.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

mod common;
#[path = "common/streamed.rs"]
mod streamed;

use proptest::prelude::*;
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::precision::{Precision, Request};
use roofline_core::roof::Roof;
use roofline_core::step::{Deployment, Stack};
use roofline_core::straight::{Decoding, Greatest, Keys, Straight};
use roofline_sim::client::{Client, Extent, SessionMode};
use roofline_sim::engine::Monitor;
use roofline_sim::fast::covers;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::Workload;
use roofline_sim::run::{Pace, Simulation, simulate_at};
use roofline_sim::scheduler::config::{EngineConfig, Policy};
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::serve::ModelCost;
use roofline_sim::step_cost::{Decodes, LinearCost, Phase, Run, StepCost, StepItem};
use roofline_sim::time::{Clock, F64Clock, FixedClock, Period, ticks_in};
use roofline_sim::trace::{BlockHashes, NOT_OBSERVED, ReadOptions, Sessions, Trace, read_file};
use streamed::streamed_is_whole;

/// Cases a law is tried on; `FAST_CASES` in the environment asks for more.
fn cases() -> u32 {
    std::env::var("FAST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// What a workload looks like: between two arrivals, prompts, answers.
#[derive(Debug, Clone, Copy)]
struct Shape {
    requests: usize,
    grid_ms: u64,
    most_waits: u64,
    prompt: u32,
    output: u32,
}

fn shape() -> impl Strategy<Value = Shape> {
    let arrivals = (1usize..60, prop_oneof![Just(1u64), Just(5), Just(100)], prop_oneof![0u64..4, 0u64..40]);
    let lengths = (
        prop_oneof![1 => Just(8u32), 3 => Just(60), 1 => Just(300)],
        prop_oneof![1 => Just(1u32), 1 => Just(10), 3 => Just(80)],
    );
    (arrivals, lengths).prop_map(|((requests, grid_ms, most_waits), (prompt, output))| Shape {
        requests,
        grid_ms,
        most_waits,
        prompt,
        output,
    })
}

/// A request as drawn: grid steps since the one before, prompt, output, prefix family, blocks shared within it.
type Draw = (u64, u32, u32, u32, u32, i32);

fn workload() -> impl Strategy<Value = Trace> {
    let sizes = prop_oneof![1 => Just(0u32), 3 => Just(16), 2 => Just(64), 1 => Just(512)];
    (shape(), sizes, 1u32..6).prop_flat_map(|(shape, hashed, families)| {
        let draw =
            (0..=shape.most_waits, 1..=shape.prompt, 0..=shape.output, 0..families, 0..12u32, -1..3i32);
        prop::collection::vec(draw, 1..=shape.requests).prop_map(move |draws| trace(shape, hashed, &draws))
    })
}

fn trace(shape: Shape, hashed: u32, draws: &[Draw]) -> Trace {
    let mut trace = Trace::default();
    let mut hashes = BlockHashes { block_size: hashed.max(1), offsets: vec![0], ids: Vec::new() };
    let mut now = 0;
    for (row, &(wait, prompt, output, family, shared, priority)) in draws.iter().enumerate() {
        // A burst now and then.
        now += if wait % 3 == 0 { 0 } else { wait * shape.grid_ms * 1_000_000 };
        // Prompts that fill their blocks, and equal ones, are met often.
        let prompt = if wait % 4 == 1 { prompt.next_multiple_of(16) } else { prompt };
        let prompt = if hashed == 512 { prompt * 8 } else { prompt };
        // All but nothing to compute: admitted between the intervals of prompts.
        let prompt = if shared == 7 { 1 } else { prompt };
        trace.arrival_ns.push(now);
        trace.prompt_tokens.push(prompt);
        trace.output_tokens.push(output);
        trace.priority.push(priority);
        let deadline_ns = u64::from(output) * 9_000_000;
        trace.carried.deadline_ns.push(if wait % 2 == 0 { deadline_ns } else { NOT_OBSERVED });
        trace.carried.images.push(family % 3);
        trace.carried.image_tokens.push(if shared % 3 == 0 { prompt / 2 } else { 0 });
        let named = if shared == 11 { prompt / hashed.max(1) } else { prompt.div_ceil(hashed.max(1)) };
        for block in 0..named {
            let common = block < shared || shared % 5 == 4;
            hashes.ids.push(if common { family * 1000 + block } else { 100_000 + row as u32 * 1000 + block });
        }
        hashes.offsets.push(hashes.ids.len() as u64);
    }
    trace.hashes = (hashed > 0).then_some(hashes);
    trace
}

/// Tokens of a step beyond its sequences, most that may wait, and a bool that is almost always true.
type Rare = (Option<u32>, Option<u32>, bool);

/// Prefill interval, long-prefill threshold and whether it adapts, priority, and what is rarely set.
fn limits() -> impl Strategy<Value = (u32, u32, bool, bool, Rare)> {
    let most = (prop::option::weighted(0.1, 0u32..40), prop::option::weighted(0.1, 1u32..20));
    let rare = (most, prop::bool::weighted(0.8))
        .prop_map(|((scheduled, queued), rarely)| (scheduled, queued, rarely));
    (
        prop_oneof![2 => Just(1u32), 1 => 2u32..6],
        prop_oneof![3 => Just(0u32), 2 => 1u32..40],
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.5),
        rare,
    )
}

fn engine() -> impl Strategy<Value = EngineConfig> {
    let sizes = (1u32..14, 0u32..80, prop_oneof![Just(1u32), Just(2), Just(4), Just(8), Just(16), Just(7)]);
    let memory = (
        prop_oneof![1 => 20u32..90, 5 => 90u32..180, 1 => 180u32..500, 1 => 500u32..5000],
        prop_oneof![3 => 0u32..5, 1 => 0u32..30, 1 => 0u32..300],
    );
    let switches = (prop::bool::weighted(0.8), any::<bool>(), prop::bool::weighted(0.8), any::<bool>());
    let knobs = (prop_oneof![Just(0.0), 0.0..0.3f64], prop::option::of(1u32..8), 1u32..3);
    (sizes, memory, switches, knobs, limits()).prop_map(|(sizes, memory, switches, knobs, limits)| {
        let (interval, threshold, adaptive, by_priority, (scheduled, queued, rarely)) = limits;
        let (max_num_seqs, more_tokens, block_size) = sizes;
        let (max_model_len, more_blocks) = memory;
        let chunked = switches.2;
        let tokens = max_num_seqs + more_tokens;
        // Runs of blocks do not tell all that these do: seldom together.
        let alike = interval == 1 && threshold == 0 && (!by_priority || switches.1);
        EngineConfig {
            max_num_seqs,
            max_num_batched_tokens: if chunked { tokens } else { tokens.max(max_model_len) },
            max_model_len: Some(max_model_len),
            block_size,
            num_gpu_blocks: max_model_len.div_ceil(block_size) + 1 + more_blocks,
            enable_chunked_prefill: chunked,
            enable_prefix_caching: switches.0 && (alike || !rarely),
            async_scheduling: switches.1,
            watermark: knobs.0,
            scheduler_reserve_full_isl: switches.3,
            max_num_active_seqs: knobs.1,
            data_parallel: knobs.2,
            prefill_schedule_interval: interval,
            long_prefill_token_threshold: threshold,
            long_prefill_token_threshold_adaptive: adaptive,
            scheduling_policy: if by_priority { Policy::Priority } else { Policy::Fcfs },
            max_num_scheduled_tokens: scheduled.filter(|_| chunked).map(|more| max_num_seqs + more),
            max_num_queued_reqs: queued,
            ..preset("vllm", DeviceClass::Standard).unwrap()
        }
    })
}

fn cost() -> impl Strategy<Value = LinearCost> {
    let a = prop_oneof![Just(0.0), Just(0.005), 0.0..0.02f64];
    let b = prop_oneof![Just(0.0), Just(0.001), 0.0..1e-3f64];
    let c = prop_oneof![Just(0.0), 0.0..1e-5f64];
    (a, b, c).prop_map(|(a, b, c)| LinearCost { a, b, c })
}

/// Sessions drawn onto a trace: `links` say how far back a request's predecessors are, and the ms in between.
fn with_sessions(mut trace: Trace, links: &[(usize, u64, usize)]) -> Trace {
    let mut sessions = Sessions { session: vec![Sessions::NONE; trace.len()], ..Sessions::default() };
    sessions.offsets.push(0);
    for row in 0..trace.len() {
        let (back, delay_ms, second) = links[row % links.len()];
        for distance in [back, second] {
            if (1..=row).contains(&distance) {
                sessions.after.push((row - distance) as u32);
                sessions.delay_ns.push(delay_ms * 1_000_000);
            }
        }
        sessions.offsets.push(sessions.after.len() as u64);
    }
    trace.sessions = Some(sessions);
    trace
}

fn extent() -> impl Strategy<Value = Option<Extent>> {
    prop_oneof![
        2 => Just(None),
        1 => (1u64..30).prop_map(|count| Some(Extent::Requests(count))),
        1 => (1u64..300).prop_map(|ms| Some(Extent::Nanos(ms * 1_000_000))),
    ]
}

/// A client that holds back, waits for answers, and measures a part.
fn client() -> impl Strategy<Value = Client> {
    let users = prop_oneof![2 => Just(None), 1 => (1u32..9).prop_map(Some)];
    let cap = prop_oneof![2 => Just(None), 1 => (1u32..9).prop_map(Some)];
    let think = prop_oneof![Just(0u64), Just(5), 0u64..200];
    (any::<bool>(), users, cap, think, extent(), extent()).prop_map(
        |(open, concurrency, max_concurrency, think_ms, warmup, measure)| Client {
            sessions: if open { SessionMode::Open } else { SessionMode::Closed },
            concurrency,
            max_concurrency,
            think_ns: if concurrency.is_some() { think_ms * 1_000_000 } else { 0 },
            answer_ns: think_ms % 3 * 1_000_000,
            warmup,
            measure: match (warmup, measure) {
                (Some(Extent::Requests(_)), Some(Extent::Nanos(_)))
                | (Some(Extent::Nanos(_)), Some(Extent::Requests(_))) => None,
                _ => measure,
            },
        },
    )
}

/// A workload with sessions in it, and its client.
fn traffic() -> impl Strategy<Value = (Trace, Client)> {
    let far = prop_oneof![Just(0usize), 0usize..4, 0usize..20];
    let link = (far.clone(), prop_oneof![Just(0u64), 0u64..100], prop_oneof![4 => Just(0usize), 1 => far]);
    let links = prop::collection::vec(link, 1..30);
    (workload(), links, client()).prop_map(|(trace, links, client)| (with_sessions(trace, &links), client))
}

/// What came of it, or the error in words; stretches are kept, so that they are compared too.
fn run<C: Clock, P: StepCost + Clone + Send>(
    pace: Pace,
    trace: &Trace,
    config: &EngineConfig,
    cost: &P,
) -> Result<Simulation, String> {
    recorded::<C, P>(Record::Stretches, pace, trace, &Client::default(), config, cost)
}

fn recorded<C: Clock, P: StepCost + Clone + Send>(
    record: Record,
    pace: Pace,
    trace: &Trace,
    client: &Client,
    config: &EngineConfig,
    cost: &P,
) -> Result<Simulation, String> {
    let workload = Workload::new(trace, None).unwrap();
    let monitor = Monitor::default();
    let simulation = simulate_at::<C, P>(pace, workload, client, config, cost, record, &monitor);
    let done = monitor.done.into_inner();
    if simulation.is_ok() {
        assert_eq!(done, trace.len() as u64);
    }
    simulation.map_err(|error| error.to_string())
}

fn is_covered(trace: &Trace, config: &EngineConfig) -> bool {
    covers(config, Workload::new(trace, None).unwrap(), Record::Summary)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn skipping_equals_stepping(trace in workload(), config in engine(), cost in cost()) {
        let slow = run::<FixedClock, _>(Pace::Requests, &trace, &config, &cost);
        let stepped = run::<FixedClock, _>(Pace::Steps, &trace, &config, &cost);
        prop_assert_eq!(&slow, &stepped);
        let skipped = run::<FixedClock, _>(Pace::Decisions, &trace, &config, &cost);
        prop_assert_eq!(&slow, &skipped);
    }

    #[test]
    fn skipping_equals_stepping_where_arrivals_depend_on_answers(
        (trace, client) in traffic(), config in engine(), cost in cost(),
    ) {
        let told = |pace: Pace| {
            recorded::<FixedClock, _>(Record::Stretches, pace, &trace, &client, &config, &cost)
        };
        let slow = told(Pace::Requests);
        prop_assert_eq!(&slow, &told(Pace::Steps));
        prop_assert_eq!(&slow, &told(Pace::Decisions));
    }

    #[test]
    fn skipping_equals_stepping_where_a_recorded_cache_counts(
        trace in workload(), cached in prop::collection::vec(0u32..200, 1..20), config in engine(), cost in cost(),
    ) {
        let mut trace = trace;
        trace.carried.cached_tokens = (trace.prompt_tokens.iter().enumerate())
            .map(|(row, &prompt)| cached[row % cached.len()].min(prompt))
            .collect();
        let told = |pace: Pace| {
            let workload = Workload::new(&trace, None).unwrap().with_recorded_cache(true);
            let (client, monitor) = (Client::default(), Monitor::default());
            simulate_at::<FixedClock, _>(pace, workload, &client, &config, &cost, Record::Stretches, &monitor)
                .map_err(|error| error.to_string())
        };
        let slow = told(Pace::Requests);
        prop_assert_eq!(&slow, &told(Pace::Steps));
        prop_assert_eq!(&slow, &told(Pace::Decisions));
    }

    #[test]
    fn requests_that_come_part_by_part_are_served_as_they_are_all_at_once(
        trace in workload(), client in client(), config in engine(), cost in cost(), part in 1usize..12,
        steps: bool,
    ) {
        let pace = if steps { Pace::Steps } else { Pace::Decisions };
        streamed_is_whole::<FixedClock, _>(pace, (&trace, part), &client, &config, &cost, 3)?;
    }

    #[test]
    fn keeping_stretches_changes_nothing(trace in workload(), config in engine(), cost in cost()) {
        let told = |record: Record| {
            recorded::<FixedClock, _>(record, Pace::Decisions, &trace, &Client::default(), &config, &cost).map(|run| {
                let interruptions: Vec<_> = run.journals.iter().map(|j| j.interruptions.clone()).collect();
                (run.requests, run.totals, run.gaps, interruptions)
            })
        };
        prop_assert_eq!(told(Record::Summary), told(Record::Stretches));
    }

    #[test]
    fn skipping_equals_stepping_in_float_time_too(trace in workload(), config in engine(), cost in cost()) {
        let slow = run::<F64Clock, _>(Pace::Requests, &trace, &config, &cost);
        prop_assert_eq!(&slow, &run::<F64Clock, _>(Pace::Decisions, &trace, &config, &cost));
    }
}

fn model_cost(model: &str, hardware: &str, efficiency: Efficiency) -> ModelCost {
    let model = catalog::models::model(model).unwrap();
    let deployment = Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware: catalog::hardware::hardware(hardware).unwrap().item,
        layout: Layout::default(),
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency,
        techniques: Default::default(),
    };
    let cost = ModelCost::new(deployment.compile().unwrap());
    match &deployment.model.vision {
        None => cost,
        Some(tower) => {
            let roof = Roof::of(&deployment.hardware).unwrap();
            cost.seeing(deployment.compile_on(&roof, Stack::Tower).unwrap(), tower.patches_per_token)
        }
    }
}

/// Full attention; windows of 512 tokens beside it; windows of 128 tokens and experts; latent attention and experts; a
/// vision tower.
const MODELS: [&str; 5] =
    ["llama-3.1-8b", "gemma-3-270m", "gpt-oss-20b", "deepseek-v2-lite", "qwen3-vl-30b-a3b"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases() / 4))]

    #[test]
    fn skipping_equals_stepping_under_the_cost_model(
        trace in workload(), config in engine(), model in 0..MODELS.len(), predicted: bool,
    ) {
        let mode = if predicted { Efficiency::predicted("vllm") } else { Efficiency::Ideal };
        let fresh = model_cost(MODELS[model], "h100-sxm", mode);
        let outcome = |pace: Pace| {
            let cost = fresh.clone();
            (run::<FixedClock, _>(pace, &trace, &config, &cost), cost.spent())
        };
        let slow = outcome(Pace::Requests);
        prop_assert_eq!(&slow, &outcome(Pace::Steps));
        prop_assert_eq!(&slow, &outcome(Pace::Decisions));
    }
}

/// Prices made of straight lines that cross while sequences decode, all on a grid that arrivals are on, too: steps end
/// at the very instants at which requests arrive.
#[derive(Debug, Clone)]
struct Bent(Vec<Greatest>);

/// What [`Bent`] sums.
#[derive(Debug, Clone, Copy, Default)]
struct BentSums {
    prompt: u64,
    sequences: u64,
    keys: Keys,
}

impl Bent {
    fn decoding(&self, sequences: u64) -> Decoding {
        Decoding::new(sequences, sequences as f64 * GRID_S / 8.0, self.0.clone()).unwrap()
    }
}

impl StepCost for Bent {
    type Sums = BentSums;

    fn add(&self, sums: &mut BentSums, item: StepItem) {
        let keys = u64::from(item.context) + u64::from(item.new_tokens);
        match item.phase {
            Phase::Prefill => sums.prompt += u64::from(item.new_tokens),
            Phase::Decode => {
                sums.sequences += 1;
                sums.keys = Keys { all: sums.keys.all + keys, longest: sums.keys.longest.max(keys) };
            }
        }
    }

    fn needs_each_context(&self) -> bool {
        false
    }

    fn add_decodes(&self, sums: &mut BentSums, decodes: &Decodes<'_>) {
        sums.sequences += decodes.count;
        let longest = sums.keys.longest.max(decodes.longest + 1);
        sums.keys = Keys { all: sums.keys.all + decodes.context + decodes.count, longest };
    }

    fn seconds(&self, sums: &BentSums) -> f64 {
        self.price(sums).seconds
    }

    fn price(&self, sums: &BentSums) -> Period {
        let decoding = match sums.sequences {
            0 => 0,
            sequences => self.decoding(sequences).run(sums.keys, 1).ticks,
        };
        Period::of_ticks(decoding + ticks_in(sums.prompt as f64 * GRID_S / 64.0))
    }

    fn run(&self, decodes: &Decodes<'_>, most: u64) -> Option<Run> {
        let keys = Keys { all: decodes.context + decodes.count, longest: decodes.longest + 1 };
        Some(self.decoding(decodes.count).run(keys, most))
    }
}

/// A span that binary fractions and whole nanoseconds both are: 2⁻⁹ s.
const GRID_S: f64 = 1.0 / 512.0;
const GRID_NS: u64 = 1_953_125;

fn bent() -> impl Strategy<Value = Bent> {
    let part = |most: u32| prop_oneof![1 => Just(0u32), 2 => 0..most];
    let line = (part(5), part(9), part(9)).prop_map(|(fixed, key, longest)| Straight {
        fixed: f64::from(fixed) * GRID_S,
        key: f64::from(key) * GRID_S / 256.0,
        longest: f64::from(longest) * GRID_S / 128.0,
    });
    let least = prop::collection::vec(line, 1..3);
    let greatest = prop::collection::vec(least, 1..4).prop_map(Greatest);
    prop::collection::vec(greatest, 1..3).prop_map(Bent)
}

/// The same requests, arriving on the grid.
fn on_the_grid(mut trace: Trace) -> Trace {
    trace.arrival_ns.iter_mut().for_each(|nanos| *nanos = *nanos / 1_000_000 * GRID_NS);
    trace
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn skipping_equals_stepping_over_lines_that_cross(trace in workload(), config in engine(), cost in bent()) {
        let trace = on_the_grid(trace);
        let slow = run::<FixedClock, _>(Pace::Requests, &trace, &config, &cost);
        prop_assert_eq!(&slow, &run::<FixedClock, _>(Pace::Steps, &trace, &config, &cost));
        prop_assert_eq!(&slow, &run::<FixedClock, _>(Pace::Decisions, &trace, &config, &cost));
    }

    #[test]
    fn skipping_equals_stepping_over_lines_that_cross_where_arrivals_depend_on_answers(
        (trace, client) in traffic(), config in engine(), cost in bent(),
    ) {
        let trace = on_the_grid(trace);
        let told = |pace: Pace| {
            recorded::<FixedClock, _>(Record::Stretches, pace, &trace, &client, &config, &cost)
        };
        prop_assert_eq!(told(Pace::Requests), told(Pace::Decisions));
    }
}

#[test]
fn the_random_lines_cross_while_sequences_decode() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let crossing = (0..200).filter(|_| {
        let cost = bent().new_tree(&mut runner).unwrap().current();
        cost.decoding(3).run(Keys { all: 30, longest: 20 }, 80).steps < 80
    });
    let count = crossing.count();
    assert!(count > 60, "{count} of 200");
}

#[test]
fn a_price_that_knows_only_single_sequences_is_asked_for_each() {
    #[derive(Clone)]
    struct Cubes;
    impl StepCost for Cubes {
        type Sums = f64;
        fn add(&self, sums: &mut f64, item: StepItem) {
            *sums += f64::from(item.context).powi(3) + f64::from(item.new_tokens);
        }
        fn seconds(&self, sums: &f64) -> f64 {
            1e-3 + 1e-9 * sums
        }
    }
    let trace = Trace {
        arrival_ns: (0..50).map(|row| row * 2_000_000).collect(),
        prompt_tokens: (0..50).map(|row| 1 + row * 7 % 60).collect(),
        output_tokens: (0..50).map(|row| 1 + row * 13 % 40).collect(),
        ..Trace::default()
    };
    let config = EngineConfig {
        num_gpu_blocks: 15,
        max_model_len: Some(128),
        ..preset("vllm", DeviceClass::Standard).unwrap()
    };
    assert!(is_covered(&trace, &config));
    let outcome = |pace: Pace| run::<FixedClock, _>(pace, &trace, &config, &Cubes).unwrap();
    let slow = outcome(Pace::Requests);
    assert!(slow.totals.preemptions > 0);
    assert_eq!(slow, outcome(Pace::Steps));
    assert_eq!(slow, outcome(Pace::Decisions));
}

#[test]
fn real_traffic_with_shared_prefixes_and_scarce_blocks_is_skipped_through_exactly() {
    let Some(folder) = common::traces("mooncake") else { return };
    let file = folder.join("conversation_trace.jsonl.zst");
    let (mut trace, _) = read_file(&file, &ReadOptions::default()).unwrap();
    let rows = 1000;
    trace.arrival_ns.truncate(rows);
    trace.prompt_tokens.truncate(rows);
    trace.output_tokens.truncate(rows);
    trace.ids.truncate(rows);
    trace.priority.truncate(rows);
    trace.hashes.as_mut().unwrap().offsets.truncate(rows + 1);
    let cost = LinearCost { a: 0.005, b: 2e-5, c: 2e-8 };
    for (name, blocks) in [("vllm", 12_000), ("vllm-sync", 9_000)] {
        let config = EngineConfig {
            num_gpu_blocks: blocks,
            max_model_len: Some(131_072),
            ..preset(name, DeviceClass::Standard).unwrap()
        };
        assert!(is_covered(&trace, &config));
        let outcome = |pace: Pace| run::<FixedClock, _>(pace, &trace, &config, &cost).unwrap();
        let skipped = outcome(Pace::Decisions);
        assert!(skipped.requests.cached_tokens.iter().any(|&tokens| tokens > 0));
        assert!(skipped.totals.preemptions > 0);
        assert_eq!(skipped, outcome(Pace::Requests));
    }
}

#[test]
fn what_is_not_covered_goes_to_the_step_by_step_engine() {
    let hashes = BlockHashes { block_size: 24, offsets: vec![0, 1], ids: vec![1] };
    let trace = Trace {
        arrival_ns: vec![0],
        prompt_tokens: vec![20],
        output_tokens: vec![3],
        hashes: Some(hashes),
        ..Trace::default()
    };
    let engine = EngineConfig { num_gpu_blocks: 100, ..preset("vllm", DeviceClass::Standard).unwrap() };
    let plain = EngineConfig { enable_prefix_caching: false, ..engine.clone() };
    assert!(is_covered(&trace, &plain));
    assert!(!covers(&plain, Workload::new(&trace, None).unwrap(), Record::Steps));
    let others = [
        engine,
        EngineConfig { pipeline_parallel: 2, ..plain.clone() },
        EngineConfig { max_num_scheduled_tokens: Some(9), ..plain.clone() },
        EngineConfig { block_size: 1 << 17, ..plain },
    ];
    for config in others {
        assert!(!is_covered(&trace, &config), "{config:?}");
        let cost = LinearCost { a: 0.005, b: 2e-5, c: 2e-8 };
        let outcome = |pace: Pace| run::<FixedClock, _>(pace, &trace, &config, &cost).unwrap();
        assert_eq!(outcome(Pace::Decisions), outcome(Pace::Requests));
    }
}

#[test]
fn the_random_engines_are_mostly_covered() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let drawn = (workload(), engine());
    let covered = (0..500)
        .filter(|_| {
            let (trace, config) = drawn.new_tree(&mut runner).unwrap().current();
            is_covered(&trace, &config)
        })
        .count();
    assert!(covered > 400, "{covered} of 500");
}

#[test]
fn the_random_cases_preempt_find_prefixes_reject_and_wait() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let drawn = (workload(), engine(), cost());
    let [mut preempting, mut hitting, mut rejecting, mut resuming, mut waiting] = [0; 5];
    let [mut ranked, mut cut, mut deferred] = [0; 3];
    for _ in 0..1000 {
        let (trace, config, cost) = drawn.new_tree(&mut runner).unwrap().current();
        if !is_covered(&trace, &config) {
            continue;
        }
        let Ok(simulation) = run::<FixedClock, _>(Pace::Requests, &trace, &config, &cost) else { continue };
        let requests = &simulation.requests;
        let any = |test: &dyn Fn(usize) -> bool| u32::from((0..requests.len()).any(test));
        preempting += any(&|row| requests.preemptions[row] > 0);
        hitting += any(&|row| requests.cached_tokens[row] > 0);
        resuming += any(&|row| requests.preemptions[row] > 0 && requests.cached_tokens[row] > 0);
        rejecting += any(&|row| !requests.finish_s[row].is_some());
        waiting += u32::from(simulation.totals.max_waiting > 3);
        let preempts = simulation.totals.preemptions > 0;
        ranked += u32::from(preempts && config.scheduling_policy == Policy::Priority);
        cut += u32::from(preempts && config.long_prefill_token_threshold > 0);
        deferred += u32::from(preempts && config.prefill_schedule_interval > 1);
    }
    let all = [preempting, hitting, rejecting, resuming, waiting, ranked, cut, deferred];
    assert!(all.iter().all(|&count| count > 15), "{all:?}");
}
