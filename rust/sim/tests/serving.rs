//! Deployments made ready to serve: how each engine divides memory and cuts its cache, and what drafting costs.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::units::GIB;
use roofline_sim::drafting::DraftedCost;
use roofline_sim::knobs::Knobs;
use roofline_sim::kv::groups::{Groups, Window, cut};
use roofline_sim::scheduler::preset::ENGINES;
use roofline_sim::scheduler::rules::Rules;
use roofline_sim::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use roofline_sim::serve::Server;
use roofline_sim::step_cost::{Phase, StepCost, StepItem};
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
fn layers_that_alternate_share_one_pool_of_blocks() {
    // 12 layers keep every token, 12 a window of 128: one group each, 8 heads of 64 in bf16.
    let cut = cut(&deployment("gpt-oss-20b", 1), 16).unwrap();
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
    let cut = cut(&deployment("gemma-3-27b", 1), 16).unwrap();
    assert_eq!((cut.groups.full, cut.groups.windows[0].groups, cut.groups.windows[0].tokens), (0, 6, 1024));
}

#[test]
fn blocks_of_a_model_with_states_are_as_large_as_a_state() {
    // Qwen3-Next: 12 layers of attention, 36 with a state.
    let cut = cut(&deployment("qwen3-next-80b-a3b", 1), 16).unwrap();
    assert_eq!((cut.groups.states, cut.groups.full), (3, 0));
    assert!(cut.block_size > 500 && cut.block_size.is_multiple_of(16), "{}", cut.block_size);
    let plain = cut_of("llama-3.1-8b");
    assert!(plain.is_plain() && cut_of("mamba-2.8b").is_state());
}

/// The groups of a model on one device.
fn cut_of(model: &str) -> CutKind {
    let cut = cut(&deployment(model, 1), 16).unwrap();
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

#[test]
fn drafts_take_a_pass_each_of_what_makes_them() {
    let served = server("llama-3.1-8b", "vllm", &Knobs::default());
    let deployment = deployment("llama-3.1-8b", 1);
    let plain = seconds(&served.cost, 8);
    let drafted = |method, tokens, model: Option<&str>| {
        let model = model.map(|name| catalog::models::model(name).unwrap());
        DraftedCost::new(&served.cost, &deployment, &drafting(method, tokens), model.as_ref()).unwrap()
    };
    assert!(drafted(DraftMethod::Ngram, 3, None).is_none());
    assert!(drafted(DraftMethod::DraftModel, 3, None).is_none());
    let extra = |tokens| seconds(&drafted(DraftMethod::Eagle, tokens, None).unwrap(), 8) - plain;
    let (one, three) = (extra(1), extra(3));
    // A layer of 32 and the head: 0.22 + 0.53 billion weights of 8.03 billion.
    assert!((0.08..0.12).contains(&(one / plain)), "{}", one / plain);
    assert!((2.9..3.1).contains(&(three / one)), "{}", three / one);
    let small = drafted(DraftMethod::DraftModel, 1, Some("llama-3.2-1b")).unwrap();
    let cost = seconds(&small, 8);
    assert!(cost > plain + one && cost < 1.3 * plain, "{cost} {plain}");
    // All of it is accounted for, the model's own steps above included.
    let spent = small.spent().total() - served.cost.spent().total();
    assert!(spent > 0.0 && ((cost - plain) / spent - 1.0).abs() < 1e-9, "{spent} {cost} {plain}");
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
