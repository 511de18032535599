//! Every way in which a configuration is refused, and that each says what must hold and what was.

use super::*;

#[test]
fn a_key_that_smells_of_cost_and_is_not_understood_is_refused_by_name() {
    let error = refusal(&llama_with(r#"{"num_zebra_heads": 3}"#));
    let must = "must be understood, since it may change what a step costs: 3";
    assert_eq!(error, format!("config.json: num_zebra_heads {must}"));
}

#[test]
fn a_key_of_a_nested_object_is_refused_with_its_path() {
    let error = refusal(
        r#"{"model_type": "qwen3_vl", "text_config": {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 100,
            "num_hidden_layers": 2, "num_attention_heads": 4, "memory_layers": [1]}}"#,
    );
    assert!(error.starts_with("config.json: text_config.memory_layers must be understood"), "{error}");
}

#[test]
fn every_key_that_is_not_understood_is_named_at_once() {
    let error = refusal(&llama_with(r#"{"zebra_layers": 3, "expert_zebras": 4}"#));
    assert!(error.contains("zebra_layers") && error.contains("expert_zebras"), "{error}");
}

#[test]
fn keys_that_are_switched_off_or_known_to_be_harmless_pass() {
    let model = load(&llama_with(
        r#"{"zebra_layers": null, "use_zebra_attention": false, "zebra_window": [], "boa_token_id": 3,
            "rope_scaling": {"factor": 8.0}, "attention_dropout": 0.1, "_name_or_path": "x", "torch_dtype": "bfloat16"}"#,
    ));
    assert!(model.notes.is_empty(), "{:?}", model.notes);
}

#[test]
fn other_unknown_keys_are_noted() {
    let model = load(&llama_with(r#"{"zebra": 3}"#));
    assert_eq!(model.notes, ["not understood, taken not to matter: config.json: zebra"]);
}

#[test]
fn a_missing_key_is_named() {
    let error = refusal(r#"{"model_type": "llama", "hidden_size": 64}"#);
    assert_eq!(error, "config.json: num_attention_heads must be given: absent");
    let gptj = refusal(r#"{"model_type": "gptj", "n_embd": 64, "n_head": 4, "vocab_size": 10}"#);
    assert_eq!(gptj, "config.json: n_layer must be given: absent");
}

#[test]
fn sizes_must_be_positive_and_whole() {
    for (given, must) in [
        (r#"{"hidden_size": 0}"#, "config.json: hidden_size must be at least 1: 0"),
        (r#"{"hidden_size": -64}"#, "config.json: hidden_size must be a whole number, not negative: -64"),
        (r#"{"hidden_size": 64.5}"#, "config.json: hidden_size must be a whole number, not negative: 64.5"),
        (r#"{"hidden_size": "64"}"#, "config.json: hidden_size must be a whole number, not negative: \"64\""),
        (r#"{"hidden_size": 1e9}"#, "config.json: hidden_size must be at most 1048576: 1000000000"),
        (r#"{"attention_bias": 1}"#, "config.json: attention_bias must be true or false: 1"),
        (r#"{"dtype": 16}"#, "config.json: dtype must be a text: a number"),
        (r#"{"dtype": "fp9"}"#, "no format is called `fp9`"),
    ] {
        assert_eq!(refusal(&llama_with(given)), must);
    }
    assert_eq!(load(&llama_with(r#"{"hidden_size": 64.0}"#)).hidden, 64);
}

#[test]
fn heads_must_share_out() {
    assert_eq!(
        refusal(&llama_with(r#"{"num_key_value_heads": 3}"#)),
        "config.json: num_attention_heads must be divisible by the 3 key/value heads: 8"
    );
    assert_eq!(
        refusal(&llama_with(r#"{"hidden_size": 60}"#)),
        "config.json: num_attention_heads must divide the hidden width 60 where no `head_dim` is given: 8"
    );
}

#[test]
fn a_token_visits_at_most_all_experts() {
    let error = refusal(&llama_with(
        r#"{"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 9}"#,
    ));
    assert_eq!(error, "config.json: num_experts_per_tok must be at most the 8 experts: 9");
}

#[test]
fn lists_have_one_entry_a_layer_that_is_understood() {
    let short = r#"{"model_type": "mistral", "layer_types": ["full_attention"]}"#;
    assert_eq!(
        refusal(&llama_with(short)),
        "config.json: layer_types must have one entry for each of the 4 layers: 1 entries"
    );
    let unknown =
        r#"{"model_type": "mistral", "layer_types": ["full_attention", "zebra", "zebra", "zebra"]}"#;
    assert!(refusal(&llama_with(unknown)).ends_with("chunked_attention here: zebra"));
    let windowless =
        r#"{"model_type": "mistral", "num_hidden_layers": 1, "layer_types": ["sliding_attention"]}"#;
    assert_eq!(refusal(&llama_with(windowless)), "config.json: sliding_window must be given: absent");
    let no_text = r#"{"model_type": "mistral", "layer_types": [1, 2, 3, 4]}"#;
    assert_eq!(refusal(&llama_with(no_text)), "config.json: layer_types must hold texts only: a number");
    let no_list = r#"{"model_type": "mistral", "layer_types": "full_attention"}"#;
    assert_eq!(refusal(&llama_with(no_list)), "config.json: layer_types must be a list: a text");
}

#[test]
fn a_hybrid_pattern_fits_its_layers() {
    let nemotron = |pattern: &str| {
        refusal(&llama_with(&format!(
            r#"{{"model_type": "nemotron_h", "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16,
                "conv_kernel": 4, "n_groups": 2, "hybrid_override_pattern": "{pattern}"}}"#
        )))
    };
    assert!(nemotron("M-M").ends_with("must have one letter for each of the 4 layers: 3 letters"));
    assert!(nemotron("M-MZ").ends_with("must consist of M, *, - and E: Z"));
}

#[test]
fn an_unknown_family_gets_the_nearest_ones() {
    let error = model_from_json("x", r#"{"model_type": "qwen33"}"#).unwrap_err();
    assert_eq!(error.to_string(), "no model family is called `qwen33`");
    assert!(error.hint().contains("qwen3"), "{}", error.hint());
    assert_eq!(refusal("{}"), "config.json: model_type must be given: absent");
}

#[test]
fn an_architecture_stands_in_for_a_family() {
    let model = load(&llama_with(r#"{"model_type": "my_llama", "architectures": ["LlamaForCausalLM"]}"#));
    assert_eq!(model.family, "llama");
}

#[test]
fn families_that_are_not_modelled_say_why() {
    let error = model_from_json("x", r#"{"model_type": "t5"}"#).unwrap_err();
    assert_eq!(error.to_string(), "config.json: model_type must be a family that is modelled: t5");
    assert!(error.hint().contains("encoder with a decoder"), "{}", error.hint());
}

#[test]
fn values_that_are_not_modelled_are_refused() {
    let gemma = r#"{"model_type": "gemma4_text", "hidden_size_per_layer_input": 256}"#;
    assert_eq!(refusal(&llama_with(gemma)), "config.json: hidden_size_per_layer_input must be 0: 256");
    let phi = r#"{"model_type": "phi", "qk_layernorm": true}"#;
    assert_eq!(
        refusal(&llama_with(phi)),
        "config.json: qk_layernorm must be false, the only value that is understood: true"
    );
}

#[test]
fn text_must_be_json_and_an_object() {
    assert!(refusal("{").starts_with("test must be JSON: "));
    assert_eq!(refusal("[1]"), "config.json must be an object: a list");
    assert_eq!(
        refusal(r#"{"model_type": "llama", "text_config": 3}"#),
        "config.json: text_config must be an object: a number"
    );
}

#[test]
fn infinities_of_python_are_read_as_absent() {
    let clean = without_infinities(r#"{"a": [0.0, Infinity, -Infinity, NaN, -1], "b": "Infinity \" NaN"}"#);
    assert_eq!(clean, r#"{"a": [0.0, null, null, null, -1], "b": "Infinity \" NaN"}"#);
}

#[test]
fn a_model_too_large_to_count_is_refused() {
    let error = refusal(&llama_with(
        r#"{"hidden_size": 1048576, "intermediate_size": 1048576, "num_hidden_layers": 4096}"#,
    ));
    assert!(error.starts_with("config.json must describe at most 2^53 parameters: "), "{error}");
}
