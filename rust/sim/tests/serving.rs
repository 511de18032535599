//! Deployments made ready to serve: how each engine divides memory and cuts its cache, and what drafting costs.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::groups::{Groups, Window, cut};
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::technique::Technique;
use roofline_core::units::GIB;
use roofline_sim::assemble::Assembled;
use roofline_sim::knobs::Knobs;
use roofline_sim::kv::cache::KvCache;
use roofline_sim::request::{Rows, Segments, Workload};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::preset::ENGINES;
use roofline_sim::scheduler::rules::Rules;
use roofline_sim::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use roofline_sim::serve::Server;
use roofline_sim::step_cost::{Phase, StepCost, StepItem};
use roofline_sim::techniques::prefixed;
use roofline_sim::trace::Trace;

fn deployment(model: &str, tp: u64) -> Deployment {
    let model = catalog::models::model(model).unwrap();
    Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware: catalog::hardware::hardware("h100-sxm").unwrap().item,
        layout: Layout { tp, ..Layout::default() },
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
        techniques: Default::default(),
    }
}

fn trace(prompt: u32) -> Trace {
    Trace { arrival_ns: vec![0], prompt_tokens: vec![prompt], output_tokens: vec![10], ..Trace::default() }
}

fn server(model: &str, engine: &str, knobs: &Knobs) -> Server {
    Server::new(deployment(model, 1), engine, knobs, &trace(1000)).unwrap()
}

#[test]
fn every_engine_serves_a_plain_model_under_its_own_defaults() {
    for name in ENGINES {
        let engine = server("llama-3.1-8b", name, &Knobs::default()).engine;
        assert!(engine.limits().is_ok(), "{name}");
        let tokens = f64::from(engine.num_gpu_blocks) * f64::from(engine.block_size);
        // 16 of 80 GB are weights; a token takes 128 KiB.
        let kv_gib = tokens * 131_072.0 / GIB;
        assert!((35.0..60.0).contains(&kv_gib), "{name}: {kv_gib} GiB");
    }
}

#[test]
fn engines_mean_different_things_by_a_share_of_memory() {
    let knobs = Knobs { gpu_memory_utilization: Some(0.8), ..Knobs::default() };
    let bytes = |name: &str| {
        let engine = server("llama-3.1-8b", name, &knobs).engine;
        f64::from(engine.num_gpu_blocks) * f64::from(engine.block_size) * 131_072.0
    };
    let [vllm, sglang, trtllm] = ["vllm", "sglang", "trtllm"].map(bytes);
    // SGLang's activations lie outside its share; TensorRT-LLM's share is of what is left.
    assert!(vllm < sglang && vllm < trtllm, "{vllm} {sglang} {trtllm}");
}

#[test]
fn sglang_has_pages_of_one_token_and_trtllm_blocks_of_32() {
    let size = |name| server("llama-3.1-8b", name, &Knobs::default()).engine.block_size;
    assert_eq!((size("vllm"), size("sglang"), size("trtllm")), (16, 1, 32));
    assert_eq!(server("deepseek-v2-lite", "vllm", &Knobs::default()).engine.block_size, 64);
}

#[test]
fn engines_that_take_prompts_whole_stop_at_32k_unless_told_otherwise() {
    let plain = server("llama-3.1-8b", "orca", &Knobs::default());
    assert_eq!((plain.engine.max_model_len, plain.engine.max_num_batched_tokens), (Some(32_768), 32_768));
    assert!(plain.notes.iter().any(|note| note.contains("computes prompts whole")), "{:?}", plain.notes);
    let long = Knobs { max_model_len: Some(65_536), ..Knobs::default() };
    assert_eq!(server("llama-3.1-8b", "orca", &long).engine.max_num_batched_tokens, 65_536);
}

#[test]
fn a_setting_of_another_engine_is_refused_with_those_there_are() {
    let knobs = Knobs { watermark: Some(0.1), enable_mixed_chunk: Some(true), ..Knobs::default() };
    let error =
        Server::new(deployment("llama-3.1-8b", 1), "orca", &knobs, &trace(10)).unwrap_err().to_string();
    assert!(error.contains("watermark must be a setting that the engine `orca` has: given"), "{error}");
    assert!(error.contains("enable_mixed_chunk must be a setting that the engine `orca` has"), "{error}");
    let knobs = Knobs { watermark: Some(0.1), ..Knobs::default() };
    let error = Server::new(deployment("llama-3.1-8b", 1), "sglang", &knobs, &trace(10)).unwrap_err();
    assert!(error.hint().contains("schedule_conservativeness"), "{}", error.hint());
    let knobs = Knobs { capacity_scheduler_policy: Some("most".into()), ..Knobs::default() };
    let error = Server::new(deployment("llama-3.1-8b", 1), "trtllm", &knobs, &trace(10)).unwrap_err();
    assert!(error.to_string().contains("capacity scheduler policy"), "{error}");
}

#[test]
fn trtllm_says_which_prompts_it_refuses() {
    let served =
        Server::new(deployment("llama-3.1-8b", 1), "trtllm", &Knobs::default(), &trace(9000)).unwrap();
    let expected = "1 prompts are longer than the 8192 tokens of a step: refused without chunked prefill";
    assert!(served.notes.iter().any(|note| note == expected), "{:?}", served.notes);
}

#[test]
fn a_question_about_memory_is_answered_with_the_blocks_that_an_engine_serves_with() {
    let vllm = Knobs::default();
    let sized = Knobs { block_size: Some(128), ..Knobs::default() };
    let uncached = Knobs { enable_prefix_caching: Some(false), ..Knobs::default() };
    let cases = [
        ("llama-3.1-8b", 1, "auto", "", &vllm),
        ("llama-3.1-8b", 1, "nvfp4", "", &vllm),
        ("llama-3.1-8b", 1, "auto", "paging:block=32", &vllm),
        ("llama-3.1-8b", 1, "auto", "paging:contiguous=8192", &vllm),
        ("llama-3.1-8b", 1, "auto", "", &sized),
        ("deepseek-v2-lite", 1, "auto", "", &vllm),
        ("deepseek-v2-lite", 1, "fp8", "", &vllm),
        ("deepseek-v2-lite", 1, "auto", "", &sized),
        ("gpt-oss-20b", 1, "auto", "", &vllm),
        ("gemma-3-27b", 1, "auto", "", &vllm),
        ("llama-3.1-8b", 1, "auto", "kv-evict:budget=512/2048", &vllm),
        ("llama-3.1-8b", 1, "auto", "kv-evict:budget=512", &vllm),
        ("qwen3-next-80b-a3b", 4, "auto", "", &vllm),
        ("qwen3-next-80b-a3b", 4, "auto", "", &uncached),
        ("qwen3-next-80b-a3b", 4, "auto", "spec:method=eagle,gamma=2,accept=0.5", &vllm),
        ("mamba-2.8b", 1, "auto", "", &vllm),
    ];
    for (model, tp, kv, with, knobs) in cases {
        let plain = deployment(model, tp);
        let request = Request { kv_cache_dtype: Some(kv.to_string()), ..Request::default() };
        let precision = Precision::resolve(&plain.model, &request).unwrap();
        let techniques = Technique::parse_all(&with.split_whitespace().collect::<Vec<_>>()).unwrap();
        let asked = Deployment { precision, ..plain }.with(&techniques).unwrap();
        let served = Server::new(asked.clone(), "vllm", knobs, &trace(1000)).unwrap().engine;
        let engine = knobs.on("vllm", &asked.hardware).unwrap();
        let memory = Analyst::new(asked, &knobs.memory(&engine).unwrap()).unwrap();
        let trace = trace(1000);
        for context in [1, 100, 3000, 8192] {
            let answer = memory.memory().with(1, context, 0.0);
            let told = format!("{model} {kv} {with} {context}");
            assert_eq!(answer.num_gpu_blocks, u64::from(served.num_gpu_blocks), "{told}");
            let size = if answer.block_size == context { context } else { u64::from(served.block_size) };
            assert_eq!(answer.block_size, size, "{told}");
            let workload = Workload::new(&trace, None).unwrap();
            let mut cache = KvCache::new(workload, Rows::ALL, served.cache_shape());
            cache.enter(0, 0);
            cache.grow(0, context as u32 - 1);
            cache.grow(0, context as u32);
            assert_eq!(answer.blocks_needed, u64::from(cache.held(0)), "{told}");
        }
    }
}

#[test]
fn layers_that_alternate_share_one_pool_of_blocks() {
    // 12 layers keep every token, 12 a window of 128: one group each, 8 heads of 64 in bf16.
    let cut = cut(&deployment("gpt-oss-20b", 1), 16).unwrap().unwrap();
    assert_eq!((cut.block_size, cut.block_bytes), (16, 12.0 * 16.0 * 2.0 * 8.0 * 64.0 * 2.0));
    let window = Window { groups: 1, tokens: 128, block_size: 16 };
    let expected = Groups { windows: [window, Window::default(), Window::default()], ..Groups::default() };
    assert_eq!(cut.groups, expected);
    // 10,000 tokens: 625 blocks, and for a step of 2048 tokens those of 127 + 2048.
    assert_eq!(cut.groups.blocks_for(10_000, 16, 2048), 625 + 137);
}

#[test]
fn a_rarer_kind_of_layer_sets_the_size_of_groups() {
    // Gemma 3 27B: 62 layers, every sixth keeps every token (10), the others a window of 1024 (52: six groups of 10).
    let cut = cut(&deployment("gemma-3-27b", 1), 16).unwrap().unwrap();
    assert_eq!((cut.groups.full, cut.groups.windows[0].groups, cut.groups.windows[0].tokens), (0, 6, 1024));
}

#[test]
fn blocks_of_a_model_with_states_are_as_large_as_a_state() {
    // Qwen3-Next: 12 layers of attention, 36 with a state.
    let cut = cut(&deployment("qwen3-next-80b-a3b", 1), 16).unwrap().unwrap();
    assert_eq!((cut.groups.states, cut.groups.full), (3, 0));
    assert!(cut.block_size > 500 && cut.block_size.is_multiple_of(16), "{}", cut.block_size);
    let plain = cut_of("llama-3.1-8b");
    assert!(plain.is_plain() && cut_of("mamba-2.8b").is_state());
}

/// The groups of a model on one device.
fn cut_of(model: &str) -> CutKind {
    let cut = cut(&deployment(model, 1), 16).unwrap().unwrap();
    CutKind { plain: cut.groups.are_plain(), block_size: cut.block_size }
}

struct CutKind {
    plain: bool,
    block_size: u32,
}

impl CutKind {
    fn is_plain(&self) -> bool {
        self.plain && self.block_size == 16
    }

    fn is_state(&self) -> bool {
        self.plain && self.block_size == u32::MAX
    }
}

#[test]
fn vllm_serves_models_whose_layers_cache_differently() {
    for name in ["gpt-oss-20b", "gemma-3-4b", "mistral-7b-v0.1", "mamba-2.8b", "nemotron-h-8b-base-8k"] {
        let plain = server(name, "vllm", &Knobs::default()).engine;
        assert_eq!(plain.rules, Rules::Vllm);
        assert!(plain.limits().is_ok(), "{name}");
    }
    let states = server("mamba-2.8b", "vllm", &Knobs::default());
    assert_eq!((states.engine.max_model_len, states.engine.block_size), (Some(1 << 20), 1 << 20));
    assert_eq!(states.engine.blocks_for(1 << 20), 1);
}

fn drafting(method: DraftMethod, tokens: u32) -> Speculation {
    Speculation { method, tokens, acceptance: Acceptance::Chance { positions: vec![0.7], seed: 0 } }
}

fn seconds<P: StepCost>(cost: &P, rows: u32) -> f64 {
    let mut sums = P::Sums::default();
    for _ in 0..rows {
        cost.add(&mut sums, StepItem { new_tokens: 4, context: 1000, phase: Phase::Decode, sampled_rows: 4 });
    }
    cost.seconds(&sums)
}

fn techniques(model: &str, with: &str) -> Deployment {
    deployment(model, 1).with(&Technique::parse_all(&[with]).unwrap()).unwrap()
}

fn with(model: &str, with: &str) -> Server {
    Server::new(techniques(model, with), "vllm", &Knobs::default(), &trace(1000)).unwrap()
}

fn refused(with: &str, knobs: &Knobs) -> String {
    Server::new(techniques("llama-3.1-8b", with), "vllm", knobs, &trace(1000)).unwrap_err().to_string()
}

#[test]
fn drafts_take_a_pass_each_of_what_makes_them() {
    let plain = seconds(&server("llama-3.1-8b", "vllm", &Knobs::default()).cost, 8);
    let extra = |method, tokens, model: Option<&str>| {
        let spec_model = model.map(|name| catalog::models::model(name).unwrap());
        let knobs = Knobs { speculation: Some(drafting(method, tokens)), spec_model, ..Knobs::default() };
        seconds(&server("llama-3.1-8b", "vllm", &knobs).cost, 8) - plain
    };
    assert_eq!(extra(DraftMethod::Ngram, 3, None), 0.0);
    assert_eq!(extra(DraftMethod::DraftModel, 3, None), 0.0);
    let (one, three) = (extra(DraftMethod::Eagle, 1, None), extra(DraftMethod::Eagle, 3, None));
    // A layer of 32, the head and a projection: 0.22 + 0.53 + 0.03 billion weights of 8.03 billion.
    assert!((0.08..0.12).contains(&(one / plain)), "{}", one / plain);
    assert!((2.9..3.1).contains(&(three / one)), "{}", three / one);
    let small = extra(DraftMethod::DraftModel, 1, Some("llama-3.2-1b"));
    assert!(small > one && small < 0.3 * plain, "{small} {plain}");
}

#[test]
fn a_block_of_drafts_takes_one_pass_of_five_layers() {
    let plain = seconds(&server("llama-3.1-8b", "vllm", &Knobs::default()).cost, 8);
    let extra = |method, tokens| {
        let knobs = Knobs { speculation: Some(drafting(method, tokens)), ..Knobs::default() };
        seconds(&server("llama-3.1-8b", "vllm", &knobs).cost, 8) - plain
    };
    let (eight, sixteen) = (extra(DraftMethod::Dflash, 8), extra(DraftMethod::Dflash, 16));
    // Five layers of 32, the head and a projection of five states: 1.09 + 0.53 + 0.08 of 8.03 billion weights.
    assert!((0.17..0.26).contains(&(eight / plain)), "{}", eight / plain);
    assert!(sixteen < 1.1 * eight, "{sixteen} {eight}");
}

#[test]
fn prompts_hash_as_far_ahead_as_a_model_has_modules_to_draft() {
    let ahead = |model: &str| {
        let knobs = Knobs { speculation: Some(drafting(DraftMethod::Mtp, 3)), ..Knobs::default() };
        let server = Server::new(deployment(model, 8), "vllm", &knobs, &trace(1000)).unwrap();
        server.engine.speculation.unwrap().hash_lookahead()
    };
    assert_eq!((ahead("glm-4.5-air"), ahead("minimax-m2")), (1, 3));
}

#[test]
fn memory_is_sized_for_the_step_that_the_engine_will_run() {
    let blocks = |knobs: Knobs| {
        let engine = server("llama-3.1-8b", "vllm", &knobs).engine;
        (engine.max_num_batched_tokens, engine.num_gpu_blocks)
    };
    let whole = Knobs { enable_chunked_prefill: Some(false), ..Knobs::default() };
    let (tokens, held) = blocks(whole.clone());
    assert_eq!(tokens, 131_072);
    assert_eq!(blocks(Knobs { max_num_batched_tokens: Some(tokens), ..whole }).1, held);
    let few = Knobs { max_num_seqs: Some(4), max_model_len: Some(100), ..Knobs::default() };
    let (tokens, held) = blocks(few.clone());
    assert_eq!(tokens, 400);
    assert_eq!(blocks(Knobs { max_num_batched_tokens: Some(tokens), ..few }).1, held);
}

#[test]
fn flags_and_technique_cost_and_hold_alike() {
    for (method, drafts, name) in [
        (DraftMethod::Eagle, 3, "eagle"),
        (DraftMethod::Ngram, 2, "ngram"),
        (DraftMethod::DraftModel, 2, "draft-model"),
        (DraftMethod::Dflash, 7, "dflash"),
    ] {
        let draft = (method == DraftMethod::DraftModel).then_some("llama-3.2-1b");
        let spec_model = draft.map(|name| catalog::models::model(name).unwrap());
        let knobs = Knobs { speculation: Some(drafting(method, drafts)), spec_model, ..Knobs::default() };
        let flags = server("llama-3.1-8b", "vllm", &knobs);
        let draft = draft.map_or(String::new(), |name| format!(",draft={name}"));
        let technique = with("llama-3.1-8b", &format!("spec:method={name},gamma={drafts},accept=0.7{draft}"));
        assert_eq!(seconds(&flags.cost, 8), seconds(&technique.cost, 8), "{name}");
        assert_eq!(flags.engine.num_gpu_blocks, technique.engine.num_gpu_blocks, "{name}");
        let tokens = |server: &Server| server.engine.speculation.as_ref().map(|drafts| drafts.tokens);
        assert_eq!(tokens(&flags), tokens(&technique));
    }
    let error = refused(
        "spec:gamma=2,accept=0.5",
        &Knobs { speculation: Some(drafting(DraftMethod::Eagle, 2)), ..Knobs::default() },
    );
    assert_eq!(error, "spec_method must not be given beside a technique that drafts: ngram");
}

#[test]
fn a_tree_is_verified_whole_and_accepted_by_depth() {
    let speculation = with("llama-3.1-8b", "spec:gamma=2,tree=3/2,accept=0.5").engine.speculation.unwrap();
    assert_eq!(speculation.tokens, 9);
    let most = (0..500).map(|count| speculation.accepted(0, count, 9)).max();
    assert_eq!(most, Some(2));
    let mean = f64::from((0..4000).map(|count| speculation.accepted(0, count, 9)).sum::<u32>()) / 4000.0;
    // 0.875 at the first depth, 0.75 of those at the second
    assert!((mean - 1.531_25).abs() < 0.03, "{mean}");
}

#[test]
fn points_of_a_skeleton_are_all_kept_once_it_is_written() {
    let speculation = |with_serial: &str| {
        let text = format!("parallel-decoding:method=skeleton,width=5{with_serial}");
        with("llama-3.1-8b", &text).engine.speculation.unwrap()
    };
    let points = speculation(",serial=0");
    assert_eq!((points.tokens, points.accepted(3, 7, 4)), (4, 4));
    // A tenth of the answer before, token by token: 1/(0.1 + 0.9/5) = 3.57 tokens a step, so 2 and now and then 3 of 4
    let whole = speculation("");
    let brought: u32 = (0..1000).map(|verification| whole.accepted(3, verification, 4)).sum();
    assert!((f64::from(brought) / 1000.0 - 2.571).abs() < 0.05, "{brought}");
}

#[test]
fn pages_are_an_engines_blocks() {
    let paged = with("llama-3.1-8b", "paging:block=64").engine;
    let plain = server("llama-3.1-8b", "vllm", &Knobs::default()).engine;
    assert_eq!(paged.block_size, 64);
    let ratio = f64::from(plain.num_gpu_blocks) / f64::from(paged.num_gpu_blocks);
    assert!((ratio / 4.0 - 1.0).abs() < 0.001, "{ratio}");
    let knobs = Knobs { block_size: Some(32), ..Knobs::default() };
    assert_eq!(
        refused("paging:block=64", &knobs),
        "block_size must not be given beside `paging`, which has blocks of 64 tokens: 32"
    );
    let same = Knobs { block_size: Some(64), ..Knobs::default() };
    assert!(Server::new(techniques("llama-3.1-8b", "paging:block=64"), "vllm", &same, &trace(10)).is_ok());
}

#[test]
fn contiguous_caches_hold_a_longest_sequence_each() {
    let engine = with("llama-3.1-8b", "paging:contiguous=8192").engine;
    assert_eq!(
        (engine.block_size, engine.max_model_len, engine.enable_prefix_caching),
        (8192, Some(8192), false)
    );
    assert_eq!(engine.blocks_for(1), 1);
    assert_eq!(engine.blocks_for(8192), 1);
    let knobs = Knobs { max_model_len: Some(9000), ..Knobs::default() };
    assert_eq!(
        refused("paging:contiguous=8192", &knobs),
        "max_model_len must be at most the 8192 tokens reserved for a sequence: 9000"
    );
}

#[test]
fn requests_share_the_prefix_that_a_technique_says() {
    let server = with("llama-3.1-8b", "prefix-sharing:tokens=800,groups=2,cascade=no");
    let several = |prompts: &[u32]| {
        let count = prompts.len();
        Assembled::from(Trace {
            arrival_ns: vec![0; count],
            prompt_tokens: prompts.to_vec(),
            output_tokens: vec![10; count],
            ..Trace::default()
        })
    };
    let shared = prefixed(server.held, &server.engine, &several(&[900, 1000, 1100])).unwrap().unwrap();
    let hashes = shared.trace.hashes.clone().unwrap();
    assert_eq!((hashes.block_size, hashes.path(0).len()), (16, 50));
    assert_eq!(hashes.path(0), hashes.path(2));
    assert!(hashes.path(0).iter().all(|id| !hashes.path(1).contains(id)));
    // What requests tell themselves is taken at their word.
    assert_eq!(prefixed(server.held, &server.engine, &shared).unwrap(), None);
    let message = |with_technique: &str, requests: &Assembled| {
        let server = with("llama-3.1-8b", with_technique);
        prefixed(server.held, &server.engine, requests).unwrap_err().to_string()
    };
    assert_eq!(
        message("prefix-sharing:tokens=800", &shared),
        "prefix-sharing:tokens must be a prefix of which the requests have at most 1, as their hashes tell: 800"
    );
    assert_eq!(
        message("prefix-sharing:tokens=800", &several(&[900, 700])),
        "prefix-sharing:tokens must be at most the shortest prompt's 700 tokens: 800"
    );
    let knobs = Knobs { enable_prefix_caching: Some(false), ..Knobs::default() };
    let off = Server::new(techniques("llama-3.1-8b", "prefix-sharing:tokens=8"), "vllm", &knobs, &trace(10))
        .unwrap();
    assert_eq!(
        prefixed(off.held, &off.engine, &several(&[900])).unwrap_err().to_string(),
        "prefix-sharing:tokens must be used with an engine that keeps prefixes: 8"
    );
    let segments = Assembled { segments: Some(Segments::default()), ..several(&[900]) };
    assert_eq!(
        message("prefix-sharing:tokens=800", &segments),
        "prefix-sharing:tokens must be left out where prompts are told by segments: 800"
    );
}

#[test]
fn techniques_keep_the_groups_of_layers_that_differ() {
    let plain = server("gpt-oss-20b", "vllm", &Knobs::default()).engine;
    for with_technique in
        ["kv-quant:bits=8", "weight-quant:bits=8", "offload:what=kv,share=0.5", "kv-evict:ratio=0.5"]
    {
        let engine = with("gpt-oss-20b", with_technique).engine;
        if with_technique != "kv-evict:ratio=0.5" {
            assert_eq!(engine.groups, plain.groups, "{with_technique}");
        }
        let more = f64::from(engine.num_gpu_blocks) / f64::from(plain.num_gpu_blocks);
        // Half of the layers keep a window, of which nothing is evicted: a block is as long as theirs, and holds twice the
        // tokens of the others.
        let holds = match with_technique {
            "weight-quant:bits=8" => more < 1.01,
            "kv-evict:ratio=0.5" => (more - 1.0).abs() < 0.001 && engine.block_size == 2 * plain.block_size,
            _ => (more / 2.0 - 1.0).abs() < 0.001,
        };
        assert!(holds, "{with_technique}: {more}");
    }
    // An EAGLE layer joins those that keep everything: 13 of them and 12 with a window are alike enough for one size.
    let drafted =
        cut(&techniques("gpt-oss-20b", "spec:method=eagle,gamma=1,accept=0.5"), 16).unwrap().unwrap();
    assert_eq!(drafted.groups, plain.groups);
    let one = cut(&deployment("gpt-oss-20b", 1), 16).unwrap().unwrap();
    assert!((drafted.block_bytes / one.block_bytes - 13.0 / 12.0).abs() < 1e-9);
}

#[test]
fn budgets_of_layers_are_windows_of_blocks() {
    let cut = cut(&techniques("llama-3.1-8b", "kv-evict:budget=512/2048"), 16).unwrap().unwrap();
    let windows: Vec<(u32, u32)> =
        cut.groups.windows.iter().filter(|w| w.groups > 0).map(|w| (w.groups, w.tokens)).collect();
    // 16 layers keep 512 tokens (the main group), 16 keep 2048
    assert_eq!((cut.groups.main_window, windows), (512, vec![(1, 2048)]));
    assert_eq!(cut.block_bytes, 16.0 * 16.0 * 4096.0);
}

#[test]
fn narrower_layers_of_a_draft_have_longer_blocks() {
    // Gemma 3 27B has 16 KV heads of 128, its draft one of 256: an eighth of the bytes a token
    let with_draft = "spec:method=draft-model,draft=gemma-3-1b,gamma=2,accept=0.5";
    let cut = cut(&techniques("gemma-3-27b", with_draft), 16).unwrap().unwrap();
    let windows: Vec<(u32, u32)> =
        cut.groups.windows.iter().filter(|w| w.groups > 0).map(|w| (w.tokens, w.block_size)).collect();
    assert_eq!(windows, [(1024, 16), (512, 128), (u32::MAX, 128)]);
}

#[test]
fn layers_that_keep_everything_need_no_groups_however_wide_they_are() {
    let both =
        cut(&techniques("llama-3.1-8b", "spec:method=draft-model,draft=llama-3.2-1b,gamma=2,accept=0.5"), 16);
    let cut = both.unwrap().unwrap();
    assert!(cut.groups.are_plain());
    // 32 layers of 4096 bytes a token and 16 of 2048
    assert_eq!(cut.block_bytes, 16.0 * (32.0 * 4096.0 + 16.0 * 2048.0));
}

#[test]
fn a_cache_that_lies_elsewhere_limits_nothing() {
    let engine = with("llama-3.1-8b", "offload:what=kv,share=1").engine;
    // Every sequence may be as long as the model allows
    assert_eq!(engine.num_gpu_blocks, 1 + 131_072 / 16 * engine.max_num_seqs);
}

#[test]
fn a_draft_model_goes_with_its_method_only() {
    let model = catalog::models::model("llama-3.2-1b").unwrap();
    let knobs = Knobs {
        speculation: Some(drafting(DraftMethod::Eagle, 2)),
        spec_model: Some(model),
        ..Knobs::default()
    };
    let error = Server::new(deployment("llama-3.1-8b", 1), "vllm", &knobs, &trace(10)).unwrap_err();
    assert_eq!(error.to_string(), "spec_model must be given with spec_method draft-model only: given");
}

#[test]
fn sglang_keeps_windows_of_gpt_oss_apart_and_those_of_gemma_among_the_others() {
    let engine = |model: &str, ratio| {
        let knobs = Knobs { swa_full_tokens_ratio: ratio, ..Knobs::default() };
        server(model, "sglang", &knobs).engine
    };
    let apart = engine("gpt-oss-20b", None);
    let pool = apart.groups.apart[0];
    assert_eq!((pool.window.tokens, pool.keeps_steps), (128, true));
    let ratio =
        |engine: &EngineConfig| f64::from(engine.groups.apart[0].blocks) / f64::from(engine.num_gpu_blocks);
    assert!((ratio(&apart) - 0.8).abs() < 1e-4, "{}", ratio(&apart));
    let half = engine("gpt-oss-20b", Some(0.5));
    assert!((ratio(&half) - 0.5).abs() < 1e-4, "{}", ratio(&half));
    // 12 layers of each kind: the same memory, divided otherwise.
    let all = |engine: &EngineConfig| f64::from(engine.num_gpu_blocks) * (1.0 + ratio(engine));
    assert!((all(&half) / all(&apart) - 1.0).abs() < 1e-3);
    let gemma = server("gemma-3-4b", "sglang", &Knobs::default());
    assert!(gemma.engine.groups.are_plain());
    assert!(gemma.notes.iter().any(|note| note.contains("keep every token")), "{:?}", gemma.notes);
    let knobs = Knobs { swa_full_tokens_ratio: Some(0.0), ..Knobs::default() };
    let error = Server::new(deployment("gpt-oss-20b", 1), "sglang", &knobs, &trace(10)).unwrap_err();
    assert_eq!(error.to_string(), "swa_full_tokens_ratio must be above 0 and at most 1: 0");
}

#[test]
fn sglang_keeps_three_states_for_each_request_that_runs() {
    let engine = |knobs: &Knobs| server("nemotron-h-8b-base-8k", "sglang", knobs);
    let served = engine(&Knobs::default());
    assert!(served.engine.groups.states_apart && served.engine.keeps_states());
    let states = served
        .notes
        .iter()
        .find_map(|note| note.strip_prefix("states of ")?.split(' ').next()?.parse::<u32>().ok());
    assert_eq!(served.engine.max_num_seqs, states.unwrap() / 3);
    let little = engine(&Knobs { mamba_full_memory_ratio: Some(0.1), ..Knobs::default() });
    assert!(little.engine.max_num_seqs < served.engine.max_num_seqs / 4);
    assert!(little.engine.num_gpu_blocks > served.engine.num_gpu_blocks);
    let odd = Knobs { mamba_full_memory_ratio: Some(f64::NAN), ..Knobs::default() };
    let error = Server::new(deployment("gpt-oss-20b", 1), "sglang", &odd, &trace(10)).unwrap_err();
    assert_eq!(error.to_string(), "mamba_full_memory_ratio must be above 0 and finite: NaN");
    let idle =
        Knobs { mamba_full_memory_ratio: Some(0.5), swa_full_tokens_ratio: Some(0.5), ..Knobs::default() };
    let notes = server("llama-3.1-8b", "sglang", &idle).notes;
    assert_eq!(notes.iter().filter(|note| note.contains("changes nothing")).count(), 2, "{notes:?}");
    let plain =
        engine(&Knobs { enable_prefix_caching: Some(false), max_num_seqs: Some(64), ..Knobs::default() });
    assert!(!plain.engine.groups.states_apart && plain.engine.max_num_seqs == 64);
}

#[test]
fn trtllm_divides_memory_by_windows_and_their_bytes() {
    let knobs = Knobs { max_model_len: Some(8192), ..Knobs::default() };
    let engine = server("gpt-oss-20b", "trtllm", &knobs).engine;
    let (pool, full) = (engine.groups.apart[0], f64::from(engine.num_gpu_blocks));
    assert_eq!((pool.window.tokens, pool.keeps_steps), (128, false));
    // As many sequences of 8,192 tokens as windows of 128: the layers are as many.
    assert!((f64::from(pool.blocks) / full / (128.0 / 8192.0) - 1.0).abs() < 0.01);
    let states = Knobs { max_num_seqs: Some(64), ..Knobs::default() };
    let served = server("nemotron-h-8b-base-8k", "trtllm", &states);
    assert!(!served.engine.enable_prefix_caching);
    assert!(served.notes.iter().any(|note| note.starts_with("states of 64 sequences take")));
}

#[test]
fn older_engines_keep_every_token_of_a_window() {
    let token = |name: &str| {
        let engine = server("gemma-3-4b", name, &Knobs::default()).engine;
        f64::from(engine.num_gpu_blocks) * f64::from(engine.block_size)
    };
    // 34 layers of 4 heads of 256 in bf16.
    let bytes = 34.0 * 2.0 * 4.0 * 256.0 * 2.0;
    for name in ["vllm-v0", "sarathi", "orca", "static"] {
        let gib = token(name) * bytes / GIB;
        assert!((50.0..66.0).contains(&gib), "{name}: {gib}");
    }
}

#[test]
fn vllm_v0_swaps_over_the_link_to_the_host() {
    let knobs = Knobs { preemption_mode: Some("swap".into()), ..Knobs::default() };
    let swap = server("llama-3.1-8b", "vllm-v0", &knobs).engine.swap.unwrap();
    // 4 GiB of blocks of 2 MiB, at 64 GB/s.
    assert_eq!(swap.blocks, 2048);
    assert!((swap.block_s / (2_097_152.0 / 64e9) - 1.0).abs() < 1e-9);
    let twice = Knobs { swap_space: Some(8.0), ..knobs.clone() };
    assert_eq!(server("llama-3.1-8b", "vllm-v0", &twice).engine.swap.unwrap().blocks, 4096);
    let refused = |knobs: Knobs| {
        Server::new(deployment("llama-3.1-8b", 1), "vllm-v0", &knobs, &trace(10)).unwrap_err().to_string()
    };
    let without = Knobs { swap_space: Some(8.0), ..Knobs::default() };
    assert_eq!(refused(without), "swap_space must be left out without preemption_mode swap: 8");
    let negative = Knobs { swap_space: Some(-1.0), ..knobs };
    assert_eq!(refused(negative), "swap_space must be GiB of the host for each device, not negative: -1");
    let odd = Knobs { preemption_mode: Some("swop".into()), ..Knobs::default() };
    assert!(refused(odd).contains("preemption mode"));
    let mut unknown = deployment("llama-3.1-8b", 1);
    unknown.hardware.host_link.bandwidth.value = None;
    let knobs = Knobs { preemption_mode: Some("swap".into()), ..Knobs::default() };
    let error = Server::new(unknown, "vllm-v0", &knobs, &trace(10)).unwrap_err();
    assert_eq!(error.to_string(), "link.host.bandwidth must be known to swap over: unknown");
}

#[test]
fn vllm_starts_as_it_is_asked_to() {
    let engine = |knobs: Knobs| server("llama-3.1-8b", "vllm", &knobs).engine;
    let sizes = |engine: EngineConfig| (engine.max_num_batched_tokens, engine.max_num_seqs);
    assert_eq!(sizes(engine(Knobs::default())), (8192, 1024));
    let llm = Knobs { usage_context: Some("llm".into()), ..Knobs::default() };
    assert_eq!(sizes(engine(llm)), (16384, 1024));
    let fast = Knobs { performance_mode: Some("throughput".into()), ..Knobs::default() };
    assert_eq!(sizes(engine(fast)), (16384, 2048));
    let bytes = Knobs { kv_cache_memory_bytes: Some(2_097_152.0 * 9000.5), ..Knobs::default() };
    assert_eq!(engine(bytes).num_gpu_blocks, 9000);
    let refused = |knobs: Knobs| {
        Server::new(deployment("llama-3.1-8b", 1), "vllm", &knobs, &trace(10)).unwrap_err().to_string()
    };
    assert!(refused(Knobs { usage_context: Some("l".into()), ..Knobs::default() }).contains("usage context"));
    let odd = Knobs { performance_mode: Some("fast".into()), ..Knobs::default() };
    assert!(refused(odd).contains("performance mode"));
    let none = Knobs { kv_cache_memory_bytes: Some(0.0), ..Knobs::default() };
    assert_eq!(refused(none), "kv_cache_memory_bytes must be above 0: 0");
}
