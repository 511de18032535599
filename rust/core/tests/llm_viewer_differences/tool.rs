//! The tool's side of every hand figure; a test's number is that of its line on the page.

use roofline_core::llm_viewer::{Inputs, OpRow, Version, ViewerAnalysis, analyze, analyze_generate_task};
use serde_json::Value;

use crate::case::{MAIN, llama, llama_2_7b, llama_2_70b, llama_3_8b, opt};

/// 2,048 tokens of one sequence, everything in 16 bits.
fn inputs() -> Inputs {
    Inputs { seqlen: 2048, ..Inputs::default() }
}

fn flash() -> Inputs {
    Inputs { use_flashattention: true, ..inputs() }
}

fn bits(w_bit: u32, a_bit: u32, kv_bit: u32) -> Inputs {
    Inputs { w_bit, a_bit, kv_bit, ..inputs() }
}

fn on_a100(config: &Value, inputs: Inputs) -> ViewerAnalysis {
    analyze(MAIN, config, "nvidia_A100_80G", &inputs).unwrap()
}

pub fn row(rows: &[OpRow], op: &str) -> OpRow {
    *rows.iter().find(|row| row.op == op).unwrap()
}

#[test]
fn line_01_prefill_multiplies_every_pair_of_tokens() {
    let prefill = on_a100(&llama_2_7b(), inputs()).prefill;
    let products = row(&prefill, "qk_matmul").OPs + row(&prefill, "sv_matmul").OPs;
    assert_eq!(products, 2.0 * 2.0 * 2048.0 * 2048.0 * 32.0 * 128.0);
}

#[test]
fn line_02_flash_attention_writes_a_column_for_every_token_twice() {
    let analysis = on_a100(&llama_2_7b(), flash());
    assert_eq!(row(&analysis.prefill, "fused_attention").store_act, 536_870_912.0);
    assert_eq!(row(&analysis.decode, "fused_attention").store_act, 262_144.0);
    let proposal = analyze(Version::Pr27Df2cba9, &llama_2_7b(), "a100-80gb", &flash()).unwrap();
    assert_eq!(row(&proposal.prefill, "fused_attention").store_act, 2.0 * 2048.0 * 4096.0 * 2.0);
}

#[test]
fn line_03_flash_attention_reads_the_cache_once_a_block_of_queries() {
    let prefill = on_a100(&llama_2_7b(), flash()).prefill;
    assert_eq!(row(&prefill, "fused_attention").load_kv_cache, 16.0 * 33_554_432.0);
}

#[test]
fn line_04_the_older_version_reads_the_cache_of_every_query_head() {
    let kv_read = |version| {
        let analysis = analyze(version, &llama_2_70b(), "nvidia_A100_80G", &flash()).unwrap();
        row(&analysis.decode, "fused_attention").load_kv_cache
    };
    assert_eq!(kv_read(Version::Main472f71f), 8.0 * kv_read(MAIN));
}

#[test]
fn lines_05_and_33_prefill_reads_the_queries_of_the_kv_heads_only() {
    let analysis = on_a100(&llama_3_8b(), inputs());
    assert_eq!(row(&analysis.prefill, "qk_matmul").load_act, 2048.0 * 128.0 * 8.0 * 2.0);
    let single = on_a100(&llama_3_8b(), Inputs::default());
    assert_eq!(row(&single.prefill, "qk_matmul").load_act, 128.0 * 8.0 * 2.0);
    assert_eq!(row(&single.decode, "qk_matmul").load_act, 128.0 * 32.0 * 2.0);
}

#[test]
fn line_06_the_head_size_is_hidden_over_heads_whatever_the_model_says() {
    let qwen3_32b = llama(5120, 64, 8, 64, 25600, 151_936);
    let decode = on_a100(&qwen3_32b, inputs()).decode;
    assert_eq!(row(&decode, "qk_matmul").load_kv_cache, 2048.0 * 80.0 * 8.0 * 2.0);
    assert_eq!(row(&decode, "k_proj").store_kv_cache, 80.0 * 8.0 * 2.0);
}

#[test]
fn line_07_a_decode_step_does_not_attend_to_its_own_token() {
    let decode = on_a100(&llama_2_7b(), Inputs::default()).decode;
    assert_eq!(row(&decode, "qk_matmul").OPs, 2.0 * 4096.0);
}

#[test]
fn line_08_unfused_scores_are_written_and_read_twice() {
    let prefill = on_a100(&llama_2_7b(), inputs()).prefill;
    let softmax = row(&prefill, "softmax").memory_access;
    let products = row(&prefill, "qk_matmul").store_act + row(&prefill, "sv_matmul").load_act;
    assert_eq!(softmax + products, 1_073_741_824.0);
}

#[test]
fn lines_09_to_11_tensor_parallelism_divides_linear_layers_only() {
    let decode = |tp_size| on_a100(&llama_2_7b(), Inputs { tp_size, ..inputs() }).decode;
    let (one, two) = (decode(1), decode(2));
    assert_eq!(row(&two, "up_proj").load_weight, row(&one, "up_proj").load_weight / 2.0);
    for op in ["qk_matmul", "sv_matmul", "softmax", "attn_norm", "lm_head"] {
        assert_eq!(row(&two, op), row(&one, op), "{op}");
    }
    assert_eq!(row(&two, "lm_head").load_weight, 262_144_000.0);
    let names = |rows: &[OpRow]| rows.iter().map(|row| row.op).collect::<Vec<_>>();
    assert_eq!(names(&two), names(&one), "nothing is communicated");
}

#[test]
fn line_12_tensor_parallelism_beyond_the_kv_heads_is_refused() {
    let inputs = Inputs { tp_size: 16, ..inputs() };
    let error = analyze(MAIN, &llama_2_70b(), "nvidia_A100_80G", &inputs).unwrap_err();
    assert!(error.to_string().contains("AssertionError: key_value_heads % tp_size == 0"), "{error}");
}

#[test]
fn line_13_the_cache_is_divided_but_not_its_reading() {
    let analysis = on_a100(&llama_2_70b(), Inputs { tp_size: 8, ..inputs() });
    assert_eq!(analysis.decode_totals.memory_consumption_kv_cache, 80.0 * 1_048_576.0);
    assert_eq!(analysis.decode_totals.load_kv_cache, 80.0 * 8_388_608.0);
}

#[test]
fn line_14_opt_has_a_gate_projection() {
    let analysis = on_a100(&opt(4096, 32, 32), inputs());
    assert_eq!(analysis.decode_totals.memory_consumption_weight, 32.0 * 268_435_456.0 * 2.0);
}

#[test]
fn lines_15_and_16_the_head_does_half_its_operations_on_one_sequence_of_activations() {
    let head = |batchsize| row(&on_a100(&llama_2_7b(), Inputs { batchsize, ..inputs() }).decode, "lm_head");
    assert_eq!(head(1).OPs, 131_072_000.0);
    assert_eq!(head(256).OPs, 256.0 * 131_072_000.0);
    assert_eq!(head(256).load_act + head(256).store_act, 72_192.0);
}

#[test]
fn lines_17_to_19_elementwise_operators_are_of_the_hidden_size() {
    let decode = on_a100(&llama_2_7b(), inputs()).decode;
    assert_eq!(row(&decode, "mlp_act").memory_access, 24_576.0);
    assert_eq!(row(&decode, "attn_add").memory_access, 16_384.0);
    assert_eq!(row(&decode, "attn_norm").OPs, 28_672.0);
}

#[test]
fn lines_20_and_21_every_elementwise_operator_moves_its_tensors_and_there_are_five() {
    let prefill = on_a100(&llama_2_7b(), inputs()).prefill;
    let elementwise: Vec<&OpRow> = prefill
        .iter()
        .filter(|row| ["attn_norm", "mlp_norm", "attn_add", "mlp_add", "mlp_act"].contains(&row.op))
        .collect();
    assert_eq!(elementwise.iter().map(|row| row.memory_access).sum::<f64>(), 184_549_376.0);
    assert_eq!(prefill.len(), 7 + 3 + elementwise.len() + 1, "linear, attention, elementwise, head");
}

#[test]
fn line_22_neither_embedding_nor_head_is_held() {
    let weights = on_a100(&llama_3_8b(), inputs()).decode_totals.memory_consumption_weight;
    let layer = 2.0 * 4096.0 * 4096.0 + 2.0 * 4096.0 * 1024.0 + 3.0 * 4096.0 * 14336.0;
    assert_eq!(weights, 32.0 * layer * 2.0);
    let left_out = 2.0 * 128_256.0 * 4096.0 * 2.0;
    assert_eq!((1000.0 * left_out / (weights + left_out)).round(), 131.0);
}

#[test]
fn line_23_activations_are_the_sum_of_all_that_a_layer_writes() {
    let totals = on_a100(&llama_2_7b(), inputs()).prefill_totals;
    assert_eq!(totals.memory_consumption_tmp_act, 778_043_392.0);
}

#[test]
fn line_24_four_bit_weights_have_no_scales() {
    let inputs = Inputs { batchsize: 16, seqlen: 1024, ..bits(4, 16, 16) };
    let decode = on_a100(&llama_2_7b(), inputs).decode;
    assert_eq!(row(&decode, "q_proj").load_weight, 4096.0 * 4096.0 / 2.0);
}

#[test]
fn lines_25_to_27_one_peak_serves_every_operator() {
    let peak = |inputs| row(&on_a100(&llama_2_7b(), inputs).prefill, "up_proj").performance;
    assert_eq!(peak(bits(8, 8, 16)), 312e12);
    assert_eq!(peak(bits(8, 8, 8)), 624e12);
    assert_eq!(peak(bits(4, 4, 4)), 624e12);
    let proposal = analyze(Version::Pr27Df2cba9, &llama_2_7b(), "a100-80gb", &bits(4, 4, 4)).unwrap();
    assert_eq!(row(&proposal.prefill, "up_proj").performance, 1248e12);
}

#[test]
fn line_28_an_h100_has_less_bandwidth_than_its_datasheet_says() {
    let decode = analyze(MAIN, &llama_2_7b(), "nvidia_H100_SXM", &inputs()).unwrap().decode;
    let q_proj = row(&decode, "q_proj");
    assert!((q_proj.memory_access / q_proj.inference_time / 3.072e12 - 1.0).abs() < 1e-12);
}

#[test]
fn line_29_hardware_without_a_narrow_peak_is_refused() {
    let ask = |version| analyze(version, &llama_2_7b(), "intel_13900k", &bits(8, 8, 8));
    assert!(ask(MAIN).unwrap_err().to_string().contains("KeyError: 'INT8'"));
    assert_eq!(row(&ask(Version::Pr27Df2cba9).unwrap().prefill, "up_proj").performance, 1.3824e12);
}

#[test]
fn line_30_a_v100_is_slower_with_fewer_bits() {
    let peak = |inputs| {
        let analysis = analyze(MAIN, &llama_2_7b(), "nvidia_V100", &inputs).unwrap();
        row(&analysis.prefill, "up_proj").performance
    };
    assert_eq!((peak(bits(16, 16, 16)), peak(bits(8, 8, 8))), (112e12, 62e12));
}

#[test]
fn line_32_a_generation_decodes_once_for_every_output_token() {
    let generate = |steps| {
        let inputs = Inputs { batchsize: 256, ..inputs() };
        analyze_generate_task(MAIN, &llama_2_7b(), "nvidia_A100_80G", &inputs, 128, steps).unwrap()
    };
    let one = generate(1);
    let decode = on_a100(&llama_2_7b(), Inputs { batchsize: 256, seqlen: 128, ..inputs() }).decode_totals;
    assert_eq!(generate(0).inference_time, one.prefill_time);
    assert_eq!(one.inference_time, one.prefill_time + decode.inference_time);
}

#[test]
fn line_31_the_head_has_the_bits_of_the_layers() {
    let decode = on_a100(&llama_2_7b(), bits(4, 16, 16)).decode;
    assert_eq!(row(&decode, "lm_head").load_weight, 4096.0 * 32000.0 / 2.0);
}
