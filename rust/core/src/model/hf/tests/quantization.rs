//! Quantization configurations of every method, on a small model.

use super::*;
use crate::format::Storage;
use crate::model::Part;

fn quantized(config: &str) -> Model {
    load(&llama_with(&format!(r#"{{"quantization_config": {config}}}"#)))
}

fn attention(model: &Model) -> Linear {
    model.layers[0].quant.of(Part::Attention)
}

#[test]
fn fp8_has_a_scale_a_block_or_a_tensor() {
    let blocks = quantized(
        r#"{"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}"#,
    );
    assert_eq!(attention(&blocks), Linear { weight: Storage::FP8_BLOCK, activation: Format::Fp8 });
    assert_eq!(blocks.quantization.as_deref(), Some("fp8"));
    let tensors = quantized(r#"{"quant_method": "fp8", "activation_scheme": "static"}"#);
    assert_eq!(attention(&tensors), Linear::plain(Format::Fp8));
    let rows = quantized(r#"{"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}"#);
    assert_eq!(attention(&rows), Linear::plain(Format::Fp8));
}

#[test]
fn gptq_and_awq_multiply_in_the_models_own_format() {
    let gptq =
        quantized(r#"{"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true, "sym": true}"#);
    let int4 = Storage::grouped(Format::Int4, 20.0, 128);
    assert_eq!(attention(&gptq), Linear { weight: int4, activation: Format::Bf16 });
    let awq = quantized(r#"{"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true}"#);
    assert_eq!(attention(&awq).weight.bits(), 4.0 + 20.0 / 128.0);
    let whole_rows = quantized(r#"{"quant_method": "gptq", "bits": 8, "group_size": -1}"#);
    assert_eq!(attention(&whole_rows).weight, Storage::plain(Format::Int8));
}

#[test]
fn bitsandbytes_counts_its_scales() {
    let four = quantized(
        r#"{"load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": false}"#,
    );
    assert_eq!(attention(&four).weight.bits(), 4.5);
    let eight = quantized(r#"{"quant_method": "bitsandbytes", "load_in_8bit": true}"#);
    assert_eq!(attention(&eight), Linear::plain(Format::Int8));
}

#[test]
fn compressed_tensors_schemes_become_storage_and_activation() {
    let scheme = |weights: &str, activations: &str| {
        quantized(&format!(
            r#"{{"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {{"group_0": {{
                "targets": ["Linear"], "weights": {weights}, "input_activations": {activations}}}}}}}"#
        ))
    };
    let dynamic = r#"{"num_bits": 8, "type": "float", "strategy": "token", "dynamic": true}"#;
    let fp8 = scheme(r#"{"num_bits": 8, "type": "float", "strategy": "channel"}"#, dynamic);
    assert_eq!((attention(&fp8), fp8.quantization.as_deref()), (Linear::plain(Format::Fp8), Some("fp8")));
    let w4 = scheme(r#"{"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}"#, "null");
    let int4 = Storage::grouped(Format::Int4, 16.0, 128);
    assert_eq!(attention(&w4), Linear { weight: int4, activation: Format::Bf16 });
    assert_eq!(w4.quantization.as_deref(), Some("w4a16"));
    let block = scheme(
        r#"{"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}"#,
        dynamic,
    );
    assert_eq!(attention(&block).weight, Storage::FP8_BLOCK);
    let four = r#"{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}"#;
    assert_eq!(attention(&scheme(four, four)), Linear { weight: Storage::NVFP4, activation: Format::Fp4 });
}

#[test]
fn layers_that_are_stored_otherwise_are_another_group() {
    let model = quantized(
        r#"{"quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*", "model.layers.3.mlp"],
            "kv_cache_scheme": {"num_bits": 8, "type": "float"}, "config_groups": {"group_0": {"targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8, "type": "int"}}}}"#,
    );
    assert_eq!(model.layers.iter().map(|group| group.count).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(attention(&model), Linear::plain(Format::Bf16));
    assert_eq!(model.layers[0].quant.of(Part::Dense), Linear::plain(Format::Int8));
    assert_eq!(model.layers[1].quant.of(Part::Dense), Linear::plain(Format::Bf16));
    assert_eq!(model.kv_format, Some(Format::Fp8));
}

#[test]
fn modelopt_may_store_modules_differently() {
    let model = quantized(
        r#"{"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8",
            "quantized_layers": {"model.layers.*.mlp": {"quant_algo": "NVFP4", "group_size": 16},
                "model.layers.*.self_attn": {"quant_algo": "FP8"}}}"#,
    );
    assert_eq!(attention(&model), Linear::plain(Format::Fp8));
    assert_eq!(model.layers[0].quant.of(Part::Dense).weight, Storage::NVFP4);
    assert_eq!(model.kv_format, Some(Format::Fp8));
}

#[test]
fn matrices_of_one_part_stored_differently_are_noted() {
    let model = quantized(
        r#"{"quant_method": "awq", "bits": 4, "group_size": 64, "modules_to_not_convert": ["k_proj"]}"#,
    );
    assert!(model.notes.iter().any(|note| note.contains("some matrices of attention")), "{:?}", model.notes);
}

#[test]
fn excluded_modules_that_are_not_known_are_noted() {
    let model = quantized(
        r#"{"quant_method": "fp8", "modules_to_not_convert": ["model.layers.1.zebra", "lm_head", "model.layers.1.mlp",
            "model.layers.4.eh_proj", "model.layers.2.mlp.gate"]}"#,
    );
    assert_eq!(model.notes, ["excluded modules that are not known here: layers.1.zebra and 0 more"]);
}

#[test]
fn an_unknown_method_or_algorithm_is_refused_by_name() {
    let refused = |config: &str| refusal(&llama_with(&format!(r#"{{"quantization_config": {config}}}"#)));
    assert_eq!(refused(r#"{"quant_method": "quark"}"#), "no quantization method is called `quark`");
    let algorithm = refused(r#"{"quant_method": "modelopt", "quant_algo": "W3A7"}"#);
    assert_eq!(algorithm, "no quantization algorithm is called `W3A7`");
    let bits = refused(r#"{"quant_method": "gptq", "bits": 5}"#);
    assert!(bits.contains("must be 2, 3, 4 or 8"), "{bits}");
    let missing = refused(r#"{"quant_method": "gptq"}"#);
    assert_eq!(missing, "config.json: quantization_config.bits must be given: absent");
    let method = refused(r#"{"bits": 4}"#);
    assert_eq!(method, "config.json: quantization_config.quant_method must be given: absent");
    let block = refused(r#"{"quant_method": "fp8", "weight_block_size": [128]}"#);
    assert!(block.contains("must be two positive numbers"), "{block}");
    let group = refused(r#"{"quant_method": "awq", "bits": 4, "group_size": -7}"#);
    assert!(group.contains("must be a whole number, or -1"), "{group}");
    let expression = refused(r#"{"quant_method": "fp8", "ignored_layers": ["re:("]}"#);
    assert!(expression.contains("must hold expressions that can be read"), "{expression}");
    let overrides = refused(r#"{"quant_method": "gptq", "bits": 4, "dynamic": {"-:.*gate.*": {}}}"#);
    assert!(overrides.contains("quantization_config.dynamic must not be given"), "{overrides}");
    let sparse = r#"{"quant_method": "fp8", "sparsity_config": {"format": "sparse-24-bitmask"}}"#;
    assert!(refused(sparse).contains("sparsity_config.format must be"), "{}", refused(sparse));
    let unknown = refused(r#"{"quant_method": "fp8", "zebra_group": 3}"#);
    assert!(
        unknown.starts_with("config.json: quantization_config.zebra_group must be understood"),
        "{unknown}"
    );
    let neither = refused(r#"{"quant_method": "bitsandbytes"}"#);
    assert!(neither.contains("must be true, or load_in_8bit"), "{neither}");
}
