//! How each engine divides memory, and cuts the cache of models whose layers differ.

use super::{deployment, server, techniques, trace};
use roofline_core::analysis::Analyst;
use roofline_core::groups::{Groups, Window, cut};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::technique::Technique;
use roofline_core::units::GIB;
use roofline_sim::knobs::Knobs;
use roofline_sim::kv::cache::KvCache;
use roofline_sim::request::{Rows, Workload};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::rules::Rules;
use roofline_sim::serve::Server;

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
