//! A model and a device of round numbers, so that every expected figure can be worked out on paper.
//!
//! The model: h = 1000, 10 heads and 2 KV heads of 100, I = 4000, V = 10,000, 4 layers, bf16. A layer multiplies by
//! qkv 1000 × 1400, o 1000 × 1000, gate and up 1000 × 8000, down 4000 × 1000: 14.4 M weights, 28.8 MB; the head has
//! 10 M, 20 MB. A token keeps 2·2·100 numbers a layer: 800 bytes, 3,200 over all layers.
//!
//! The device: 100 TFLOP/s in bf16 (200 sparse, 200 in fp8 and int8), 10 TFLOP/s beside, 1 TB/s, 10 GiB, 50 GB/s to the
//! host, 100 GB/s to its neighbours. Its ridge is 100 FLOP/B.

use roofline_core::accumulate::OpTotal;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::error::{Error, Result};
use roofline_core::hardware::{Hardware, hardware_from_toml};
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::model::Model;
use roofline_core::model::hf::model_from_json;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::technique::Technique;

pub const ENGINE: EngineMemory = EngineMemory {
    gpu_memory_utilization: 0.9,
    max_num_batched_tokens: 2048,
    max_num_seqs: 64,
    cuda_graphs: false,
    ..EngineMemory::VLLM
};

pub const GIB: f64 = 1_073_741_824.0;

pub fn toy() -> Model {
    let text = r#"{"model_type": "llama", "hidden_size": 1000, "num_attention_heads": 10, "num_key_value_heads": 2,
        "head_dim": 100, "intermediate_size": 4000, "vocab_size": 10000, "num_hidden_layers": 4,
        "torch_dtype": "bfloat16", "tie_word_embeddings": false, "max_position_embeddings": 1000000}"#;
    model_from_json("toy", text).unwrap()
}

/// The same with 8 experts of I = 4000, of which a token visits 2.
pub fn toy_moe() -> Model {
    let text = r#"{"model_type": "mixtral", "hidden_size": 1000, "num_attention_heads": 10, "num_key_value_heads": 2,
        "head_dim": 100, "intermediate_size": 4000, "vocab_size": 10000, "num_hidden_layers": 4, "num_local_experts": 8,
        "num_experts_per_tok": 2, "torch_dtype": "bfloat16", "tie_word_embeddings": false,
        "max_position_embeddings": 1000000}"#;
    model_from_json("toy-moe", text).unwrap()
}

pub fn device() -> Hardware {
    let text = r#"
        name = "round"
        title = "Round"
        [tensor.dense]
        bf16 = { value = 100, unit = "TFLOP/s" }
        fp16 = { value = 100, unit = "TFLOP/s" }
        fp8 = { value = 200, unit = "TFLOP/s" }
        int8 = { value = 200, unit = "TOP/s" }
        [tensor.sparse]
        bf16 = { value = 200, unit = "TFLOP/s" }
        [vector]
        fp32 = { value = 10, unit = "TFLOP/s" }
        [memory.device]
        capacity = { value = 10, unit = "GiB" }
        bandwidth = { value = 1, unit = "TB/s" }
        [memory.on_chip]
        capacity = { value = 256, unit = "KiB" }
        [link.host]
        name = "PCIe"
        bandwidth = { value = 50, unit = "GB/s" }
        topology = "pcie"
        [link.scale_up]
        name = "Wire"
        bandwidth = { value = 100, unit = "GB/s" }
        domain = 8
    "#;
    hardware_from_toml("round.toml", text).unwrap()
}

pub fn deployment(model: Model, hardware: Hardware) -> Deployment {
    Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware,
        layout: Layout::default(),
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
        techniques: Default::default(),
    }
}

pub fn techniques(text: &str) -> Vec<Technique> {
    Technique::parse_all(&[text]).unwrap()
}

pub fn point(question: Question, batch_size: u64, input_len: u64) -> Point {
    Point { question, batch_size, input_len, output_len: 1, prefix_len: 0, chunk: 0 }
}

/// A step of `batch` sequences that hold `keys` tokens after it, beside a prompt of `chunk` tokens.
pub fn mixed(batch: u64, keys: u64, chunk: u64) -> Point {
    Point { chunk, ..point(Question::Mixed, batch, keys - 1) }
}

/// A step of `batch` sequences that hold `keys` tokens after it.
pub fn decode(batch: u64, keys: u64) -> Point {
    point(Question::Decode, batch, keys - 1)
}

pub fn prefill(batch: u64, tokens: u64) -> Point {
    point(Question::Prefill, batch, tokens)
}

pub fn ask(deployment: Deployment, with: &str, point: &Point) -> Result<Analysis> {
    let techniques = Technique::parse_all(&[with])?;
    Analyst::new(deployment.with(&techniques)?, &ENGINE)?.analyze(point)
}

/// The toy with techniques.
pub fn run(with: &str, point: &Point) -> Analysis {
    ask(deployment(toy(), device()), with, point).unwrap()
}

/// The toy with experts.
pub fn run_moe(with: &str, point: &Point) -> Analysis {
    ask(deployment(toy_moe(), device()), with, point).unwrap()
}

/// A model of the catalogue on a device of it.
pub fn known(model: &str, hardware: &str, with: &str, point: &Point) -> Analysis {
    let model = catalog::models::model(model).unwrap();
    let hardware = catalog::hardware::hardware(hardware).unwrap().item;
    ask(deployment(model, hardware), with, point).unwrap()
}

pub fn refused(with: &str) -> Error {
    ask(deployment(toy(), device()), with, &decode(1, 1000)).unwrap_err()
}

pub fn op<'a>(analysis: &'a Analysis, name: &str) -> &'a OpTotal {
    let names: Vec<&str> = analysis.ops.iter().map(|op| op.name.as_str()).collect();
    analysis.ops.iter().find(|op| op.name == name).unwrap_or_else(|| panic!("{name} is not among {names:?}"))
}

pub fn seconds(analysis: &Analysis) -> f64 {
    analysis.outcome.times.step.step.seconds
}

/// What a sequence's next token takes.
pub fn tpot(analysis: &Analysis) -> f64 {
    analysis.outcome.times.tpot.unwrap()
}

#[track_caller]
pub fn is(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-30), "{got} should be {expected}");
}
