//! Figures that the cost model must reproduce, each computed by hand or by an independent tool.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may stop, and shows what it compared")]

use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::model::Model;
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;

const ENGINE: EngineMemory = EngineMemory::VLLM;

fn model(name: &str) -> Model {
    catalog::models::model(name).unwrap()
}

fn hardware(name: &str) -> Hardware {
    catalog::hardware::hardware(name).unwrap().item
}

fn deployment(model: Model, hardware: Hardware, tp: u64) -> Deployment {
    let precision = Precision::resolve(&model, &Request::default()).unwrap();
    Deployment {
        model,
        hardware,
        layout: Layout { tp, ..Layout::default() },
        precision,
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
        techniques: Default::default(),
    }
}

fn point(question: Question, batch_size: u64, input_len: u64) -> Point {
    Point { question, batch_size, input_len, output_len: 1, prefix_len: 0, chunk: 0 }
}

fn milliseconds(deployment: &Deployment, point: Point) -> f64 {
    Analyst::new(deployment.clone(), &ENGINE).unwrap().times(&point).unwrap().step.ideal * 1e3
}

fn close(value: f64, expected: f64, tolerance: f64) {
    assert!((value / expected - 1.0).abs() < tolerance, "{value} should be {expected} within {tolerance}");
}

/// The independent reference's devices: 989 TFLOP/s and 3.35 TB/s, 312 and 2.039.
fn with_roof(mut hardware: Hardware, peak: f64, bandwidth: f64) -> Hardware {
    for (_, fact) in &mut hardware.tensor_dense {
        fact.value = Some(peak);
    }
    hardware.memory.bandwidth.value = Some(bandwidth);
    hardware
}

#[test]
fn the_independent_reference_is_reproduced_within_one_percent() {
    use Question::{Decode, Prefill};
    let h100 = || with_roof(hardware("h100-sxm"), 989e12, 3.35e12);
    let a100 = || with_roof(hardware("a100-80gb-sxm"), 312e12, 2.039e12);
    for (name, device, tp, question, batch, len, expected) in [
        ("llama-3.1-8b", h100(), 1, Prefill, 1, 2048, 30.331),
        ("llama-3.1-8b", h100(), 1, Decode, 32, 2048, 7.092),
        ("llama-2-7b", a100(), 1, Prefill, 1, 2048, 88.673),
        ("llama-2-7b", a100(), 1, Decode, 16, 2048, 14.943),
        ("qwen3-8b", h100(), 1, Prefill, 1, 4096, 62.908),
        ("qwen3-8b", h100(), 1, Decode, 64, 5120, 19.040),
        ("llama-3.1-70b", h100(), 8, Prefill, 1, 4096, 115.489),
        ("llama-3.1-70b", h100(), 8, Decode, 64, 4096, 9.191),
        ("mixtral-8x7b", h100(), 4, Decode, 64, 2048, 8.407),
    ] {
        let priced = milliseconds(&deployment(model(name), device, tp), point(question, batch, len));
        println!("{name} tp{tp} {question:?} b{batch} s{len}: {priced:.3} ms, reference {expected}");
        close(priced, expected, 0.01);
    }
}

#[test]
fn less_fusion_costs_more_by_the_known_amounts() {
    let priced = |fusion| {
        let mut d = deployment(model("llama-3.1-8b"), hardware("h100-sxm"), 1);
        d.lowering.fusion = fusion;
        milliseconds(&d, point(Question::Prefill, 1, 2048))
    };
    close(priced(Fusion::Full), 30.3, 0.005);
    close(priced(Fusion::Engine), 33.7, 0.005);
    close(priced(Fusion::None), 34.0, 0.005);
}

#[test]
fn vllm_blocks_on_an_rtx_4090_are_predicted_within_five_percent() {
    let d = deployment(model("llama-3.1-8b"), hardware("rtx-4090"), 1);
    let engine = EngineMemory {
        gpu_memory_utilization: 0.9,
        max_num_batched_tokens: 2048,
        max_num_seqs: 256,
        cuda_graphs: false,
        ..ENGINE
    };
    let memory = Analyst::new(d, &engine).unwrap().outcome(&point(Question::Decode, 1, 2047)).unwrap().memory;
    println!("{memory:?}");
    close(memory.num_gpu_blocks as f64, 2588.0, 0.05);
}

#[test]
fn weights_on_one_device_are_all_parameters() {
    for name in catalog::models::model_names() {
        let model = model(name);
        let bytes = model.dtype.bytes();
        let (parameters, quantized) = (model.parameters() as f64, model.quantization.is_some());
        let vision = model.vision_parameters() as f64;
        let d = deployment(model, hardware("h100-sxm"), 1);
        let weights = roofline_core::memory::weight_bytes(&d).unwrap();
        if !quantized && bytes == 2.0 {
            close(weights, (parameters + vision) * bytes, 1e-9);
        }
        assert!(weights > 0.1 * parameters, "{name}");
    }
}

#[test]
fn the_matrices_are_nearly_all_of_a_model() {
    use roofline_core::lower::lower;
    use roofline_core::shape::Reaches;
    for name in catalog::models::model_names() {
        let model = model(name);
        let precision = Precision::resolve(&model, &Request::default()).unwrap();
        let reaches = Reaches::of(&model).unwrap();
        let ops = lower(&model, Layout::default(), &precision, Lowering::default(), &reaches);
        let matrices: f64 = ops.iter().map(|op| op.repeat * op.work.resident.elements).sum();
        let share = matrices / model.parameters() as f64;
        println!("{name}: {share:.5}");
        assert!((0.985..=1.0000001).contains(&share), "{name}: {share}");
    }
}

#[test]
fn windows_of_a_vision_tower_cost_their_own_pairs() {
    let d = deployment(model("qwen2.5-vl-7b"), hardware("h100-sxm"), 1);
    let analysis = Analyst::new(d, &ENGINE).unwrap().analyze(&point(Question::Encode, 1, 1024)).unwrap();
    let flops = |name: &str| analysis.ops.iter().find(|op| op.name == name).unwrap().work.flops;
    assert_eq!(flops("attention"), 4.0 * 4.0 * 1280.0 * 1024.0 * 1024.0);
    assert_eq!(flops("attention[chunk 64]"), 28.0 * 4.0 * 1280.0 * 1024.0 * 64.0);
}

#[test]
fn a_prompt_behind_a_cached_prefix_reads_the_expanded_keys_of_all_of_it() {
    let d = deployment(model("deepseek-v3"), hardware("h100-sxm"), 8);
    let behind = Point { prefix_len: 3072, ..point(Question::Prefill, 1, 1024) };
    let analysis = Analyst::new(d, &ENGINE).unwrap().analyze(&behind).unwrap();
    let attention = analysis.ops.iter().find(|op| op.name == "mla_prefill").unwrap();
    let (heads, layers, width) = (16.0, 61.0, (192.0 + 128.0) * 2.0);
    assert_eq!(attention.work.activation_bytes, layers * heads * width * (1024.0 + 4096.0));
}

#[test]
fn a_mamba_1_layer_sums_its_selection_over_tensor_parallel_ranks() {
    let d = deployment(model("jamba-v0.1"), hardware("h100-sxm"), 2);
    let analysis = Analyst::new(d, &ENGINE).unwrap().analyze(&point(Question::Decode, 8, 512)).unwrap();
    let sum = analysis.ops.iter().find(|op| op.name == "x_all_reduce").unwrap();
    assert_eq!((sum.repeat, sum.work.link_bytes), (28.0, 28.0 * 8.0 * (256.0 + 2.0 * 16.0) * 2.0));
}

#[test]
fn operands_of_two_widths_are_multiplied_in_the_wider() {
    let format = |w_bits, a_bits| {
        let mut d = deployment(model("llama-3.1-8b"), hardware("a100-80gb-sxm"), 1);
        let request = Request { w_bits: Some(w_bits), a_bits: Some(a_bits), ..Request::default() };
        d.precision = Precision::resolve(&d.model, &request).unwrap();
        let analysis = Analyst::new(d, &ENGINE).unwrap().analyze(&point(Question::Prefill, 1, 512)).unwrap();
        analysis.ops.iter().find(|op| op.name == "o_proj").unwrap().format.name()
    };
    assert_eq!((format(16, 8), format(8, 4), format(4, 8), format(8, 16)), ("bf16", "int8", "int8", "bf16"));
}

#[test]
fn a_mamba_2_group_is_replicated_where_there_are_fewer_groups_than_devices() {
    let columns = |tp: u64| {
        let d = deployment(model("nemotron-h-8b-base-8k"), hardware("h100-sxm"), tp);
        let analysis = Analyst::new(d, &ENGINE).unwrap().analyze(&point(Question::Decode, 1, 512)).unwrap();
        let projection = analysis.ops.iter().find(|op| op.name == "in_proj").unwrap();
        projection.work.weight_bytes / (24.0 * 4096.0 * 2.0)
    };
    assert_eq!(columns(8), (2.0 * 8192.0 + 2.0 * 8.0 * 128.0 + 128.0) / 8.0);
    assert_eq!(columns(16), (2.0 * 8192.0 + 128.0) / 16.0 + 2.0 * 128.0);
}

#[test]
fn a_shared_expert_beyond_the_tensor_parallel_group_is_whole_on_every_device() {
    use roofline_core::lower::lower;
    use roofline_core::shape::Reaches;
    let model = model("deepseek-v3");
    let precision = Precision::resolve(&model, &Request::default()).unwrap();
    let reaches = Reaches::of(&model).unwrap();
    let shared = |layout| {
        let ops = lower(&model, layout, &precision, Lowering::default(), &reaches);
        let op = ops.into_iter().find(|op| op.name == "shared_down_proj").unwrap();
        (op.work.resident.elements, op.work.flops.token)
    };
    let (whole, all) = shared(Layout::default());
    let (sharded, part) = shared(Layout { tp: 4, ..Layout::default() });
    let (replicated, own) = shared(Layout { tp: 4, dp: 2, ep: 8, pp: 1 });
    assert_eq!((sharded * 4.0, part * 4.0), (whole, all));
    assert_eq!((replicated, own * 4.0), (whole, all));
}

#[test]
fn a_pipeline_holds_the_cache_of_every_batch_in_flight() {
    let mut d = deployment(model("llama-3.1-70b"), hardware("h100-sxm"), 4);
    d.layout.pp = 2;
    let memory = |d: &Deployment| {
        let analyst = Analyst::new(d.clone(), &ENGINE).unwrap();
        analyst.outcome(&point(Question::Decode, 8, 1023)).unwrap().memory
    };
    let two = memory(&d);
    d.layout.pp = 1;
    close(two.kv, memory(&d).kv, 1e-12);
}
