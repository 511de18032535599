//! Mistakes that tools of this kind are known to make, one test each.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use roofline_core::accumulate::OpTotal;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;

const ENGINE: EngineMemory = EngineMemory::VLLM;

/// A model on H100s under tensor parallelism.
fn analyst(model: &str, tp: u64) -> Analyst {
    let model = catalog::models::model(model).unwrap();
    let precision = Precision::resolve(&model, &Request::default()).unwrap();
    let deployment = Deployment {
        model,
        hardware: catalog::hardware::hardware("h100-sxm").unwrap().item,
        layout: Layout { tp, ..Layout::default() },
        precision,
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
        techniques: Default::default(),
    };
    Analyst::new(deployment, &ENGINE).unwrap()
}

fn ask(model: &str, tp: u64, question: Question, batch_size: u64, input_len: u64) -> Analysis {
    let point = Point { question, batch_size, input_len, output_len: 1, prefix_len: 0, chunk: 0 };
    analyst(model, tp).analyze(&point).unwrap()
}

fn op<'a>(analysis: &'a Analysis, name: &str) -> &'a OpTotal {
    analysis.ops.iter().find(|op| op.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_gb_is_1e9_bytes_and_a_gib_is_not() {
    let hardware = catalog::hardware::hardware("h100-sxm").unwrap().item;
    assert_eq!(hardware.memory.bandwidth.value, Some(3.35e12));
    assert_eq!(hardware.memory.capacity.value, Some(81_559.0 * 1024.0 * 1024.0));
    let decode = ask("llama-3.1-8b", 1, Question::Decode, 1, 2048);
    let head = op(&decode, "lm_head");
    assert!((head.ideal / (head.work.bytes() / 3.35e12) - 1.0).abs() < 1e-12);
}

#[test]
fn causal_attention_multiplies_half_the_square() {
    let (layers, heads, width) = (32.0, 32.0, 128.0);
    let flops = |tokens| op(&ask("llama-3.1-8b", 1, Question::Prefill, 1, tokens), "attention").work.flops;
    assert_eq!(flops(2048), 4.0 * width * heads * layers * (2048.0 * 2049.0 / 2.0));
    assert_eq!(flops(1), 4.0 * width * heads * layers);
}

#[test]
fn the_head_multiplies_sampled_rows_only() {
    let row = 2.0 * 4096.0 * 128_256.0;
    let prefill = ask("llama-3.1-8b", 1, Question::Prefill, 3, 2048);
    assert_eq!(op(&prefill, "lm_head").work.flops, 3.0 * row);
    let point = Point {
        question: Question::Prefill,
        batch_size: 3,
        input_len: 2048,
        output_len: 1,
        prefix_len: 0,
        chunk: 512,
    };
    let chunked = analyst("llama-3.1-8b", 1).analyze(&point).unwrap();
    let head = op(&chunked, "lm_head").work;
    assert_eq!(head.flops, 3.0 * row, "an unfinished chunk samples nothing");
    assert_eq!(head.weight_bytes, 4096.0 * 128_256.0 * 2.0, "and does not read the head");
}

#[test]
fn a_batch_reads_every_expert_it_touches() {
    let expert = 3.0 * 4096.0 * 14_336.0 * 2.0 * 32.0;
    for batch in [1, 4, 64] {
        let decode = ask("mixtral-8x7b", 1, Question::Decode, batch, 2048);
        let read =
            op(&decode, "experts_gate_up").work.weight_bytes + op(&decode, "experts_down").work.weight_bytes;
        let touched = 8.0 * (1.0 - 0.75f64.powi(batch as i32));
        assert!((read / (touched * expert) - 1.0).abs() < 1e-12, "batch {batch}");
    }
}

#[test]
fn the_cache_is_counted_once() {
    let token = 2.0 * 8.0 * 128.0 * 2.0 * 32.0;
    let decode = ask("llama-3.1-8b", 1, Question::Decode, 16, 2048);
    let read_and_written = 16.0 * (2049.0 + 1.0) * token;
    assert_eq!(op(&decode, "attention").work.kv_bytes, read_and_written);
    assert_eq!(decode.per_gpu.kv_bytes, read_and_written);
    assert_eq!(decode.outcome.memory.kv, 16.0 * 2049.0 * token);
}

#[test]
fn the_head_size_is_read_and_not_derived() {
    let prefill = ask("qwen3-32b", 1, Question::Prefill, 1, 2048);
    assert_eq!(prefill.outcome.memory.kv, 2048.0 * 2.0 * 8.0 * 128.0 * 2.0 * 64.0);
    let columns = (64.0 + 2.0 * 8.0) * 128.0;
    assert_eq!(op(&prefill, "qkv_proj").work.weight_bytes, 5120.0 * columns * 2.0 * 64.0);
}

#[test]
fn a_gated_network_has_three_matrices() {
    let decode = ask("llama-3.1-8b", 1, Question::Decode, 1, 2048);
    let read = op(&decode, "gate_up_proj").work.weight_bytes + op(&decode, "down_proj").work.weight_bytes;
    assert_eq!(read, 3.0 * 4096.0 * 14_336.0 * 2.0 * 32.0);
}

#[test]
fn opt_has_no_gate() {
    let decode = ask("opt-6.7b", 1, Question::Decode, 1, 1024);
    let read = op(&decode, "up_proj").work.weight_bytes + op(&decode, "down_proj").work.weight_bytes;
    assert_eq!(read, 2.0 * 4096.0 * 16_384.0 * 2.0 * 32.0);
    assert!(decode.ops.iter().all(|op| !op.name.contains("gate")));
}

#[test]
fn tensor_parallelism_divides_attention() {
    let of = |tp| op(&ask("llama-3.1-8b", tp, Question::Decode, 16, 2048), "attention").work;
    let alone = of(1);
    for tp in [2, 4, 8] {
        assert_eq!(of(tp).flops, alone.flops / tp as f64, "tp {tp}");
        assert_eq!(of(tp).kv_bytes, alone.kv_bytes / tp as f64, "tp {tp}");
    }
    assert_eq!(of(16).flops, alone.flops / 16.0);
    assert_eq!(of(16).kv_bytes, alone.kv_bytes / 8.0, "eight KV heads are held twice by sixteen devices");
}

#[test]
fn embedding_and_head_are_in_memory_and_once_where_they_are_tied() {
    let outside = |name: &str| {
        let analysis = ask(name, 1, Question::Prefill, 1, 16);
        let layers: f64 =
            analysis.ops.iter().filter(|op| op.name.ends_with("_proj")).map(|op| op.work.weight_bytes).sum();
        analysis.outcome.memory.weights - layers
    };
    let norms = |layers: f64, hidden: f64| (2.0 * layers + 1.0) * hidden * 2.0;
    assert_eq!(outside("llama-3-8b"), 2.0 * 128_256.0 * 4096.0 * 2.0 + norms(32.0, 4096.0));
    assert_eq!(outside("llama-3.2-1b"), 128_256.0 * 2048.0 * 2.0 + norms(16.0, 2048.0));
}
