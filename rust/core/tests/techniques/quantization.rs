//! Quantization and number formats, worked out by hand on the toy.

use super::toy::*;

// A layer's gate and up: 8,000,000 weights; four layers.
const GATE_UP: f64 = 4.0 * 8e6;

#[test]
fn four_bits_read_a_quarter_of_sixteen() {
    let step = run("weight-quant:bits=4", &decode(1, 1000));
    // 4 · 8,000,000 · 4/8 bytes
    is(op(&step, "gate_up_proj").work.weight_bytes, 16e6);
    // 4 · 1,400,000 · 4/8
    is(op(&step, "qkv_proj").work.weight_bytes, 2.8e6);
    // The head stays in 16 bits: 10,000,000 · 2
    is(op(&step, "lm_head").work.weight_bytes, 20e6);
}

#[test]
fn a_group_adds_its_scale_and_zero_point() {
    let step = run("weight-quant:bits=4,group=128,scale=16,zero=4", &decode(1, 1000));
    // (4 + 20/128)/8 = 0.51953125 bytes a weight
    is(op(&step, "gate_up_proj").work.weight_bytes, GATE_UP * 0.519_531_25);
}

#[test]
fn outliers_keep_sixteen_bits_and_an_index() {
    let step = run("weight-quant:bits=3,outliers=0.01", &decode(1, 1000));
    // (3 + 0.01·32)/8 = 0.415 bytes a weight
    is(op(&step, "gate_up_proj").work.weight_bytes, GATE_UP * 0.415);
}

#[test]
fn shared_scales_of_number_formats_are_stored() {
    for (format, bits) in [
        ("nvfp4", 4.5),  // 4 + 8/16
        ("mxfp4", 4.25), // 4 + 8/32
        ("mxfp6", 6.25), // 6 + 8/32
        ("mxfp8", 8.25), // 8 + 8/32
        ("fp8", 8.0),
        ("fp6", 6.0),
        ("fp8-block", 8.0 + 32.0 / 16_384.0),
        ("int8", 8.0),
        ("int2", 2.0),
        ("int1", 1.0),
    ] {
        let step = run(&format!("weight-quant:format={format}"), &decode(1, 1000));
        is(op(&step, "gate_up_proj").work.weight_bytes, GATE_UP * bits / 8.0);
    }
}

#[test]
fn a_fused_dequantization_hides_behind_reading() {
    let step = run("weight-quant:bits=4", &decode(1, 1000));
    let gate_up = op(&step, "gate_up_proj");
    // One vector operation a weight: 32 M, at 10 T/s 3.2 us; reading 16 MB and 4·(1000 + 8000)·2 bytes takes 16.072 us.
    is(gate_up.work.vector_flops, 32e6);
    is(gate_up.ideal, 16.072e-6);
}

#[test]
fn a_serial_dequantization_is_an_operator_of_its_own() {
    let step = run("weight-quant:bits=4,dequant=serial,ops=2", &decode(1, 1000));
    // 2 · 32 M operations at 10 T/s
    is(op(&step, "dequantize[gate_up_proj]").ideal, 6.4e-6);
    is(op(&step, "gate_up_proj").ideal, 16.072e-6);
    is(op(&step, "gate_up_proj").work.vector_flops, 0.0);
}

#[test]
fn only_weights_that_are_left_are_dequantized() {
    // Down is 4000 × 100 and 100 × 1000: 4 · 500,000 operations at 10 T/s, not 4 · 4,000,000
    let step = run("weight-quant:bits=4,dequant=serial + low-rank:rank=100", &decode(1, 1000));
    let names = ["dequantize[down_proj[a]]", "dequantize[down_proj[b]]"];
    is(names.iter().map(|name| op(&step, name).ideal).sum(), 0.2e-6);
    // Of two of four, half
    let step = run("weight-quant:bits=4,dequant=serial + n-m", &decode(1, 1000));
    is(op(&step, "dequantize[gate_up_proj]").ideal, 1.6e-6);
}

#[test]
fn a_dequantization_kernel_passes_weights_through_memory() {
    let step = run("weight-quant:bits=4,dequant=kernel", &decode(1, 1000));
    // Reads 16 MB, writes 64 MB; the multiplication then reads 64 MB.
    is(op(&step, "dequantize[gate_up_proj]").ideal, 80e-6);
    is(op(&step, "gate_up_proj").work.weight_bytes, 64e6);
}

#[test]
fn only_experts_that_are_visited_are_dequantized() {
    // One token, 2 of 8 experts of 8 M gate and up weights in each of 4 layers: 64 M
    let step = run_moe("weight-quant:bits=4,dequant=kernel", &decode(1, 1000));
    let (before, experts) = (op(&step, "dequantize[experts_gate_up]"), op(&step, "experts_gate_up"));
    // Half a byte read and two written, then two read; one operation each, once
    is(before.work.weight_bytes, 64e6 * 2.5);
    is(experts.work.weight_bytes, 64e6 * 2.0);
    is(before.work.vector_flops, 64e6);
    is(experts.work.vector_flops, 0.0);
    let step = run_moe("weight-quant:bits=4,dequant=serial", &decode(1, 1000));
    is(op(&step, "dequantize[experts_gate_up]").work.weight_bytes, 0.0);
    is(op(&step, "experts_gate_up").work.weight_bytes, 64e6 * 0.5);
}

#[test]
fn dequantization_can_be_left_out() {
    let step = run("weight-quant:bits=4,dequant=off", &decode(1, 1000));
    is(op(&step, "gate_up_proj").work.vector_flops, 0.0);
}

#[test]
fn only_the_parts_that_were_named_are_quantized() {
    let step = run("weight-quant:bits=4,parts=ffn", &decode(1, 1000));
    is(op(&step, "gate_up_proj").work.weight_bytes, 16e6);
    // 4 · 1,400,000 · 2
    is(op(&step, "qkv_proj").work.weight_bytes, 11.2e6);
    let step = run_moe("weight-quant:bits=4,parts=experts", &decode(1, 1000));
    // Two of eight experts, gate and up of 8 M weights each: 4 · 2 · 8e6 · 0.5
    is(op(&step, "experts_gate_up").work.weight_bytes, 32e6);
}

#[test]
fn parts_may_have_formats_of_their_own() {
    let with = "weight-quant:bits=4,part=ffn + weight-quant:bits=8,part=attention";
    let step = run(with, &decode(1, 1000));
    // 32 M weights of 4 bits, and 4 · 1.4 M and 4 · 1 M of 8
    is(op(&step, "gate_up_proj").work.weight_bytes, 16e6);
    is(op(&step, "qkv_proj").work.weight_bytes, 5.6e6);
    is(op(&step, "o_proj").work.weight_bytes, 4e6);
    // 4 layers: 12 M · 1.5 bytes and 2.4 M · 1 byte fewer
    let plain = run("none", &decode(1, 1000));
    is(plain.outcome.memory.weights - step.outcome.memory.weights, 4.0 * (18e6 + 2.4e6));
    let turned = run("weight-quant:bits=8,parts=attention + weight-quant:bits=4,parts=ffn", &decode(1, 1000));
    is(seconds(&turned), seconds(&step));
    // FFNs multiplied in fp8, attention in 16 bits: 640 us for gate and up, 4 · 2 · 2000 · 1.4e6 FLOPs at 100 T/s
    let with = "weight-quant:format=fp8,parts=ffn + activation-quant:format=fp8,parts=ffn + weight-quant:bits=8,parts=attention";
    let step = run(with, &prefill(1, 2000));
    is(op(&step, "gate_up_proj").ideal, 640e-6);
    is(op(&step, "qkv_proj").ideal, 224e-6);
}

#[test]
fn projections_of_states_are_quantized_with_those_of_attention() {
    let ask = |with: &str| known("mamba-2.8b", "h100-sxm", with, &decode(1, 1000));
    let (plain, step) = (ask("none"), ask("weight-quant:bits=4,parts=attention"));
    is(op(&step, "in_proj").work.weight_bytes, 0.25 * op(&plain, "in_proj").work.weight_bytes);
}

#[test]
fn a_checkpoints_own_formats_stay_where_activations_alone_are_narrowed() {
    // gpt-oss-20b ships its experts in MXFP4: fp8 activations leave them there
    let ask = |with: &str| known("gpt-oss-20b", "h100-sxm", with, &decode(4, 1000));
    let (plain, step) = (ask("none"), ask("activation-quant:format=fp8"));
    is(step.outcome.memory.weights, plain.outcome.memory.weights);
    is(op(&step, "experts_gate_up").work.weight_bytes, op(&plain, "experts_gate_up").work.weight_bytes);
    // DeepSeek-V3 ships fp8: a part in 4 bits leaves the others as they were
    let ask =
        |with: &str| known("deepseek-v3", "h200-sxm", &format!("parallel:tp=8{with}"), &decode(4, 1000));
    let (plain, step) = (ask(""), ask(" + weight-quant:bits=4,parts=experts"));
    is(op(&step, "o_proj").work.weight_bytes, op(&plain, "o_proj").work.weight_bytes);
    // fp8 in blocks of 128 × 128 with a scale of 32 bits each: 8 + 32/16,384 bits
    let ratio = 4.0 / (8.0 + 32.0 / 16_384.0);
    is(op(&step, "experts_down").work.weight_bytes, ratio * op(&plain, "experts_down").work.weight_bytes);
}

#[test]
fn weights_in_memory_shrink_with_what_is_read() {
    let memory = |with: &str| run(with, &decode(1, 1000)).outcome.memory.weights;
    // 57.6 M weights in the layers: 1.5 bytes fewer each.
    is(memory("none") - memory("weight-quant:bits=4"), 57.6e6 * 1.5);
}

#[test]
fn weight_only_quantization_multiplies_at_the_sixteen_bit_peak() {
    let step = run("weight-quant:bits=4,dequant=off", &prefill(1, 2000));
    // 4 · 2 · 2000 · 8e6 FLOPs at 100 T/s
    is(op(&step, "gate_up_proj").ideal, 1280e-6);
}

#[test]
fn activations_of_eight_bits_double_the_peak() {
    let step = run("weight-quant:format=fp8 + activation-quant:format=fp8", &prefill(1, 2000));
    // The same FLOPs at 200 T/s
    is(op(&step, "gate_up_proj").ideal, 640e-6);
    // Inputs of 1 byte, outputs of 2: 4 · 2000 · (1000 + 8000·2)
    is(op(&step, "gate_up_proj").work.activation_bytes, 136e6);
}

#[test]
fn activations_are_narrowed_before_they_are_multiplied() {
    let with = "weight-quant:format=fp8 + activation-quant:format=fp8";
    let step = run(&format!("fusion:level=none + {with}"), &prefill(1, 2000));
    // 4 layers, 2000 tokens of 1000 numbers: two operations each, two bytes read and one written
    let narrowed = op(&step, "quantize[qkv_proj]");
    is(narrowed.work.vector_flops, 2.0 * 8e6);
    is(narrowed.work.activation_bytes, 3.0 * 8e6);
    is(op(&step, "quantize[down_proj]").work.activation_bytes, 3.0 * 4.0 * 2000.0 * 4000.0);
    is(op(&run(with, &prefill(1, 2000)), "quantize[qkv_proj]").ideal, 0.0);
    assert!(
        run("weight-quant:format=fp8", &prefill(1, 10))
            .ops
            .iter()
            .all(|op| !op.name.starts_with("quantize["))
    );
}

#[test]
fn a_format_the_device_lacks_is_converted_up() {
    let step = run("weight-quant:format=nvfp4 + activation-quant:format=nvfp4", &prefill(1, 2000));
    // FP4 runs as FP8 here.
    is(op(&step, "gate_up_proj").ideal, 640e-6);
}

#[test]
fn activations_narrower_than_weights_gain_nothing() {
    let step = run("activation-quant:format=fp8", &prefill(1, 2000));
    is(op(&step, "gate_up_proj").ideal, 1280e-6);
}

#[test]
fn a_cache_of_four_bits_is_a_quarter() {
    let step = run("kv-quant:bits=4", &decode(10, 1000));
    // Read 10 · 1000 and written 10 tokens, 4 layers · 400 numbers · 0.5 bytes
    is(op(&step, "attention").work.kv_bytes, 10_010.0 * 800.0);
    // 10 sequences of 1000 tokens
    is(step.outcome.memory.kv, 10_000.0 * 800.0);
}

#[test]
fn a_quantized_cache_keeps_its_scales() {
    let step = run("kv-quant:bits=2,group=32,scale=16,zero=16", &decode(10, 1000));
    // (2 + 32/32)/8 = 0.375 bytes a number, 1600 numbers a token
    is(step.outcome.memory.kv, 10_000.0 * 600.0);
}

#[test]
fn a_cache_format_goes_by_name_too() {
    let step = run("kv-quant:format=fp8", &decode(10, 1000));
    is(step.outcome.memory.kv, 10_000.0 * 1600.0);
}

#[test]
fn formats_of_a_quantized_checkpoint_are_told_with_those_that_are_asked_for() {
    let name = |model: &str, with: &str| {
        let made = deployment(roofline_core::catalog::models::model(model).unwrap(), device());
        made.with(&techniques(with)).unwrap().precision.weights_name
    };
    assert_eq!(name("llama-3.1-8b-awq-int4", "activation-quant:format=int8"), "awq x int8");
    assert_eq!(name("llama-3.1-8b", "activation-quant:format=int8"), "bf16");
}

#[test]
fn weights_of_any_mean_number_of_bits_take_as_many() {
    // 8 M weights of gate and up a layer; a llama.cpp file of 4.85 bits, and 5 bits beside a scale of 16 for 64
    let bytes = |with: &str| op(&run(with, &decode(1, 1000)), "gate_up_proj").work.weight_bytes;
    is(bytes("weight-quant:bits=4.85"), 32e6 * 4.85 / 8.0);
    is(bytes("weight-quant:bits=5,group=64"), 32e6 * (5.0 + 16.0 / 64.0) / 8.0);
    is(bytes("weight-quant:bits=7,outliers=0.01"), 32e6 * (7.0 + 0.32) / 8.0);
    is(bytes("weight-quant:bits=4.0"), bytes("weight-quant:bits=4"));
    // A cache of 2.5 bits, the new token's with it
    let kv = op(&run("kv-quant:bits=2.5", &decode(1, 1000)), "attention").work.kv_bytes;
    is(kv, 4.0 * 800.0 * 1001.0 * 2.5 / 16.0);
    let name = |with: &str| {
        let made = deployment(toy(), device()).with(&techniques(with)).unwrap();
        made.precision.weights_name
    };
    assert_eq!(name("weight-quant:bits=4.85"), "4.85-bit");
    assert_eq!(name("weight-quant:bits=5,group=64"), "5-bit (groups of 64)");
    assert_eq!(name("weight-quant:bits=4"), "int4");
    for bits in ["0", "0.9", "8.5", "17", "nan", "four"] {
        assert!(
            refused(&format!("weight-quant:bits={bits}"))
                .to_string()
                .starts_with("weight-quant:bits must be"),
            "{bits}"
        );
    }
}
