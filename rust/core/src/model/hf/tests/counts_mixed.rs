//! Exact parameter counts of published checkpoints with experts or states, from configurations written by hand.

use super::counts::check;
use super::*;

#[test]
fn experts_have_their_published_counts() {
    check(&[
        (
            "deepseek-v2-lite",
            15_706_484_224,
            r#"{"model_type": "deepseek_v2", "hidden_size": 2048,
            "num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 10944, "vocab_size": 102400,
            "q_lora_rank": null, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
            "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "topk_method": "greedy",
            "scoring_func": "softmax"}"#,
        ),
        (
            "deepseek-v2",
            235_741_434_880,
            r#"{"model_type": "deepseek_v2", "hidden_size": 5120,
            "num_hidden_layers": 60, "num_attention_heads": 128, "intermediate_size": 12288, "vocab_size": 102400,
            "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "n_routed_experts": 160, "n_shared_experts": 2, "num_experts_per_tok": 6,
            "moe_intermediate_size": 1536, "first_k_dense_replace": 1, "topk_method": "group_limited_greedy"}"#,
        ),
        (
            "deepseek-moe-16b",
            16_375_728_128,
            r#"{"model_type": "deepseek", "hidden_size": 2048,
            "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 10944,
            "vocab_size": 102400, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
            "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "moe_layer_freq": 1}"#,
        ),
        (
            "Phi-3.5-MoE",
            41_873_153_344,
            r#"{"model_type": "phimoe", "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 6400, "vocab_size": 32064,
            "num_local_experts": 16, "num_experts_per_tok": 2, "attention_bias": true, "lm_head_bias": true,
            "sliding_window": 131072, "input_jitter_noise": 0.01, "original_max_position_embeddings": 4096}"#,
        ),
        (
            "dbrx",
            131_596_523_520,
            r#"{"model_type": "dbrx", "d_model": 6144, "n_layers": 40, "n_heads": 48,
            "max_seq_len": 32768, "vocab_size": 100352, "attn_config": {"kv_n_heads": 8, "clip_qkv": 8,
            "rope_theta": 500000}, "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4,
            "moe_jitter_eps": 0.01, "moe_loss_weight": 0.05, "ffn_act_fn": {"name": "silu"}}}"#,
        ),
        (
            "OLMoE-1B-7B",
            6_919_161_856,
            r#"{"model_type": "olmoe", "hidden_size": 2048, "num_hidden_layers": 16,
            "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 1024, "vocab_size": 50304,
            "num_experts": 64, "num_experts_per_tok": 8}"#,
        ),
        (
            "ERNIE-4.5-21B-A3B",
            21_825_437_888,
            r#"{"model_type": "ernie4_5_moe", "hidden_size": 2560, "num_hidden_layers": 28,
            "num_attention_heads": 20, "num_key_value_heads": 4, "intermediate_size": 12288,
            "moe_intermediate_size": 1536, "moe_num_experts": 64, "moe_k": 6, "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1, "moe_layer_end_index": 27, "moe_layer_interval": 1, "use_bias": false,
            "vocab_size": 103424, "tie_word_embeddings": true, "moe_capacity": [64, 64, 64], "moe_use_aux_free": true}"#,
        ),
        (
            "dots.llm1",
            142_774_381_696,
            r#"{"model_type": "dots1", "hidden_size": 4096, "num_hidden_layers": 62,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "intermediate_size": 10944,
            "moe_intermediate_size": 1408, "n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6,
            "first_k_dense_replace": 1, "moe_layer_freq": 1, "vocab_size": 152064}"#,
        ),
        (
            "granite-3.1-3b-a800m",
            3_298_793_472,
            r#"{"model_type": "granitemoe", "hidden_size": 1536, "num_hidden_layers": 32,
            "num_attention_heads": 24, "num_key_value_heads": 8, "intermediate_size": 512, "num_local_experts": 40,
            "num_experts_per_tok": 8, "vocab_size": 49155, "tie_word_embeddings": true}"#,
        ),
    ]);
}

#[test]
fn state_space_models_and_hybrids_have_their_published_counts() {
    check(&[
        (
            "falcon-mamba-7b",
            7_272_665_088,
            r#"{"model_type": "falcon_mamba", "hidden_size": 4096,
            "intermediate_size": 8192, "num_hidden_layers": 64, "state_size": 16, "conv_kernel": 4, "expand": 16,
            "time_step_rank": 256, "use_bias": false, "use_conv_bias": true, "vocab_size": 65024,
            "mixer_rms_eps": 1e-6, "residual_in_fp32": true, "tie_word_embeddings": false}"#,
        ),
        (
            "mamba-130m",
            129_135_360,
            r#"{"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24,
            "state_size": 16, "conv_kernel": 4, "expand": 2, "time_step_rank": 48, "use_bias": false,
            "use_conv_bias": true, "vocab_size": 50280, "d_inner": 1536, "intermediate_size": 1536}"#,
        ),
        (
            "Jamba-v0.1",
            51_570_323_328,
            r#"{"model_type": "jamba", "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 65536,
            "attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1,
            "num_experts": 16, "num_experts_per_tok": 2, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
            "mamba_dt_rank": 256, "mamba_conv_bias": true, "mamba_proj_bias": false, "use_mamba_kernels": true}"#,
        ),
        (
            "Qwen3-Next-80B-A3B",
            79_674_391_296,
            r#"{"model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48,
            "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120,
            "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "num_experts": 512,
            "num_experts_per_tok": 10, "decoder_sparse_step": 1, "mlp_only_layers": [], "full_attention_interval": 4,
            "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
            "linear_num_value_heads": 32, "linear_value_head_dim": 128, "vocab_size": 151936}"#,
        ),
        (
            "MiniMax-Text-01",
            456_089_655_296,
            r#"{"model_type": "minimax_text_01", "hidden_size": 6144, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9216,
            "num_local_experts": 32, "num_experts_per_tok": 2, "vocab_size": 200064, "postnorm": true,
            "shared_intermediate_size": 0, "shared_moe_mode": "sigmoid", "rotary_dim": 64,
            "layernorm_full_attention_alpha": 3.5, "layernorm_mlp_beta": 1, "attn_type_list": [
            0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,
            0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1]}"#,
        ),
        (
            "Kimi-Linear-48B-A3B",
            49_122_681_728,
            r#"{"model_type": "kimi_linear", "hidden_size": 2304, "num_hidden_layers": 27,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 72, "intermediate_size": 9216,
            "moe_intermediate_size": 1024, "num_experts": 256, "num_experts_per_token": 8, "num_shared_experts": 1,
            "first_k_dense_replace": 1, "moe_layer_freq": 1, "kv_lora_rank": 512, "q_lora_rank": null,
            "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "mla_use_nope": true,
            "vocab_size": 163840, "moe_renormalize": true, "moe_router_activation_func": "sigmoid",
            "num_expert_group": 1, "topk_group": 1, "use_grouped_topk": true, "linear_attn_config": {
            "full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128, "num_heads": 32,
            "kda_layers": [1,2,3,5,6,7,9,10,11,13,14,15,17,18,19,21,22,23,25,26], "short_conv_kernel_size": 4}}"#,
        ),
        (
            "granite-4.0-h-tiny",
            6_939_037_248,
            r#"{"model_type": "granitemoehybrid", "hidden_size": 1536, "num_hidden_layers": 40,
            "num_attention_heads": 12, "num_key_value_heads": 4, "intermediate_size": 512, "num_local_experts": 64,
            "num_experts_per_tok": 6, "shared_intermediate_size": 1024, "vocab_size": 100352,
            "tie_word_embeddings": true, "mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 128,
            "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 48, "mamba_conv_bias": true,
            "mamba_proj_bias": false, "mamba_chunk_size": 256, "position_embedding_type": "nope",
            "normalization_function": "rmsnorm", "layer_types": ["mamba","mamba","mamba","mamba","mamba","attention",
            "mamba","mamba","mamba","mamba","mamba","mamba","mamba","mamba","mamba","attention","mamba","mamba",
            "mamba","mamba","mamba","mamba","mamba","mamba","mamba","attention","mamba","mamba","mamba","mamba",
            "mamba","mamba","mamba","mamba","mamba","attention","mamba","mamba","mamba","mamba"]}"#,
        ),
        (
            "mamba2-2.7b",
            2_702_599_680,
            r#"{"model_type": "mamba2", "hidden_size": 2560, "num_hidden_layers": 64, "num_heads": 80,
            "head_dim": 64, "state_size": 128, "conv_kernel": 4, "expand": 2, "n_groups": 1, "vocab_size": 50288,
            "use_bias": false, "use_conv_bias": true, "tie_word_embeddings": true, "chunk_size": 256}"#,
        ),
    ]);
}

#[test]
fn experts_meet_what_their_cards_say_of_them() {
    let shown = |parameters: u64| format!("{:.1}", parameters as f64 / 1e9);
    for (name, total, active, json) in [
        // Cards: 355 B (with the layer that predicts a second token) and 32 B; 106 B and 12 B.
        (
            "GLM-4.5",
            "352.8",
            "33.6",
            r#"{"model_type": "glm4_moe", "hidden_size": 5120, "num_hidden_layers": 92,
            "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "attention_bias": true,
            "use_qk_norm": true, "intermediate_size": 12288, "moe_intermediate_size": 1536, "n_routed_experts": 160,
            "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "vocab_size": 151552,
            "num_nextn_predict_layers": 1}"#,
        ),
        (
            "GLM-4.5-Air",
            "106.9",
            "13.4",
            r#"{"model_type": "glm4_moe", "hidden_size": 4096, "num_hidden_layers": 46,
            "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "attention_bias": true,
            "use_qk_norm": false, "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 128,
            "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1, "vocab_size": 151552,
            "num_nextn_predict_layers": 1}"#,
        ),
        // 480 B: ten dense, 128 experts of 3.66.
        (
            "arctic",
            "478.6",
            "17.3",
            r#"{"model_type": "arctic", "hidden_size": 7168, "num_hidden_layers": 35,
            "num_attention_heads": 56, "num_key_value_heads": 8, "intermediate_size": 4864, "num_local_experts": 128,
            "num_experts_per_tok": 2, "moe_layer_frequency": 1, "parallel_attn_mlp_res": true, "use_residual": true,
            "vocab_size": 32000, "enc_index": [0]}"#,
        ),
        // 400 B and 17 B, the vision tower apart.
        (
            "Llama-4-Maverick",
            "400.7",
            "17.2",
            r#"{"model_type": "llama4_text", "hidden_size": 5120, "num_hidden_layers": 48,
            "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192,
            "intermediate_size_mlp": 16384, "num_local_experts": 128, "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2, "attention_chunk_size": 8192, "vocab_size": 202048}"#,
        ),
    ] {
        let model = load_as(name, json);
        assert_eq!(
            (shown(model.parameters()), shown(model.active_parameters())),
            (total.into(), active.into()),
            "{name}"
        );
    }
}
