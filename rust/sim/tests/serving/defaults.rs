//! What each engine starts with, and which settings are its own.

use super::{deployment, server, trace};
use roofline_core::units::GIB;
use roofline_sim::knobs::Knobs;
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::preset::ENGINES;
use roofline_sim::serve::Server;

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
