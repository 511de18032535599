//! Configurations gone wrong: whatever stands under a key, the importer answers and does not panic.

use proptest::prelude::*;

use super::*;

/// One small configuration of each kind of reading.
const BASES: &[&str] = &[
    r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "head_dim": 8,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "attention_bias": true}"#,
    r#"{"model_type": "gemma4_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"], "global_head_dim": 32, "enable_moe_block": true,
        "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 16, "num_kv_shared_layers": 1}"#,
    r#"{"model_type": "deepseek_v32", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 8, "vocab_size": 1000, "first_k_dense_replace": 1, "q_lora_rank": 32,
        "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 8,
        "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 32, "moe_layer_freq": 1,
        "index_topk": 4, "index_n_heads": 2, "index_head_dim": 8, "index_topk_freq": 2}"#,
    r#"{"model_type": "nemotron_h", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 100,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128,
        "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "conv_kernel": 4, "n_groups": 2,
        "hybrid_override_pattern": "M-*E", "n_routed_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 48, "moe_latent_size": 24}"#,
    r#"{"model_type": "qwen3_5_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "full_attention_interval": 2,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_value_head_dim": 8}"#,
    r#"{"model_type": "jamba", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 8, "vocab_size": 100, "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2,
        "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 8}"#,
    r#"{"model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "num_kv_heads": 2,
        "vocab_size": 100, "new_decoder_architecture": true, "num_ln_in_parallel_attn": 2, "ffn_hidden_size": 32}"#,
    r#"{"depth": 2, "hidden_size": 64, "patch_size": 2, "num_heads": 4, "mlp_ratio": 4.0, "in_channels": 4}"#,
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..40).prop_map(Value::from),
        (0_u32..21).prop_map(|power| Value::from(1_u64 << power)),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[M*E-]{0,6}".prop_map(Value::from),
        prop::collection::vec((0_u64..9).prop_map(Value::from), 0..6).prop_map(Value::from),
        Just(serde_json::json!({"hidden_size": 3})),
    ]
}

proptest! {
    #[test]
    fn no_value_under_any_key_makes_the_importer_panic(
        base in 0..BASES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), value()), 1..4),
    ) {
        let mut config: Value = serde_json::from_str(BASES[base]).unwrap();
        let object = config.as_object_mut().unwrap();
        let keys: Vec<String> = object.keys().filter(|key| *key != "model_type").cloned().collect();
        for (at, value) in changes {
            object.insert(at.get(&keys).clone(), value);
        }
        if let Ok(model) = model_from_config("x", &config) {
            prop_assert!(model.active_parameters() <= model.parameters());
            prop_assert!(model.layers.iter().all(|group| group.count > 0));
        }
    }
}

#[test]
fn every_base_loads_before_it_is_changed() {
    for base in BASES {
        assert!(load(base).parameters() > 0, "{base}");
    }
}
