//! Exact parameter counts of published checkpoints, from configurations written by hand.

use super::*;

pub(super) fn check(cases: &[(&str, u64, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(name, published, json)| {
            let counted = load_as(name, json).parameters();
            let off = counted as i64 - *published as i64;
            (counted != *published)
                .then(|| format!("{name}: {counted} counted, {published} published ({off:+})"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn llama_and_its_relatives_have_their_published_counts() {
    check(&[
        (
            "Llama-2-7b",
            6_738_415_616,
            r#"{"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
            "num_key_value_heads": 32, "num_hidden_layers": 32, "intermediate_size": 11008, "vocab_size": 32000}"#,
        ),
        (
            "CodeLlama-34b",
            33_743_970_304,
            r#"{"model_type": "llama", "hidden_size": 8192, "num_attention_heads": 64,
            "num_key_value_heads": 8, "num_hidden_layers": 48, "intermediate_size": 22016, "vocab_size": 32000}"#,
        ),
        (
            "Llama-3.2-1B",
            1_235_814_400,
            r#"{"model_type": "llama", "hidden_size": 2048, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_hidden_layers": 16, "intermediate_size": 8192, "vocab_size": 128256,
            "head_dim": 64, "tie_word_embeddings": true}"#,
        ),
        (
            "Mistral-7B-v0.1",
            7_241_732_096,
            r#"{"model_type": "mistral", "hidden_size": 4096, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 32000,
            "sliding_window": 4096}"#,
        ),
        (
            "Qwen2.5-7B",
            7_615_616_512,
            r#"{"model_type": "qwen2", "hidden_size": 3584, "num_attention_heads": 28,
            "num_key_value_heads": 4, "num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064,
            "max_window_layers": 28, "sliding_window": 131072, "use_sliding_window": false}"#,
        ),
        (
            "Qwen2.5-0.5B",
            494_032_768,
            r#"{"model_type": "qwen2", "hidden_size": 896, "num_attention_heads": 14,
            "num_key_value_heads": 2, "num_hidden_layers": 24, "intermediate_size": 4864, "vocab_size": 151936,
            "tie_word_embeddings": true}"#,
        ),
        (
            "Qwen1.5-MoE-A2.7B",
            14_315_784_192,
            r#"{"model_type": "qwen2_moe", "hidden_size": 2048,
            "num_attention_heads": 16, "num_key_value_heads": 16, "num_hidden_layers": 24, "intermediate_size": 5632,
            "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
            "num_experts_per_tok": 4, "vocab_size": 151936, "decoder_sparse_step": 1}"#,
        ),
        (
            "Phi-3-mini-4k",
            3_821_079_552,
            r#"{"model_type": "phi3", "hidden_size": 3072, "num_attention_heads": 32,
            "num_key_value_heads": 32, "num_hidden_layers": 32, "intermediate_size": 8192, "vocab_size": 32064,
            "sliding_window": 2047, "original_max_position_embeddings": 4096}"#,
        ),
        (
            "phi-4",
            14_659_507_200,
            r#"{"model_type": "phi3", "hidden_size": 5120, "num_attention_heads": 40,
            "num_key_value_heads": 10, "num_hidden_layers": 40, "intermediate_size": 17920, "vocab_size": 100352}"#,
        ),
        (
            "internlm2-7b",
            7_737_708_544,
            r#"{"model_type": "internlm2", "hidden_size": 4096, "bias": false,
            "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32, "intermediate_size": 14336,
            "vocab_size": 92544}"#,
        ),
        (
            "Baichuan2-7B",
            7_505_973_248,
            r#"{"model_type": "baichuan", "hidden_size": 4096, "num_attention_heads": 32,
            "num_hidden_layers": 32, "intermediate_size": 11008, "vocab_size": 125696}"#,
        ),
        (
            "OLMo-2-7B",
            7_298_617_344,
            r#"{"model_type": "olmo2", "hidden_size": 4096, "num_attention_heads": 32,
            "num_hidden_layers": 32, "intermediate_size": 11008, "vocab_size": 100352}"#,
        ),
        (
            "SmolLM3-3B",
            3_075_098_624,
            r#"{"model_type": "smollm3", "hidden_size": 2048, "num_attention_heads": 16,
            "num_key_value_heads": 4, "num_hidden_layers": 36, "intermediate_size": 11008, "vocab_size": 128256}"#,
        ),
        (
            "Command-R",
            34_980_831_232,
            r#"{"model_type": "cohere", "hidden_size": 8192, "num_attention_heads": 64,
            "num_key_value_heads": 64, "num_hidden_layers": 40, "intermediate_size": 22528, "vocab_size": 256000,
            "logit_scale": 0.0625, "use_qk_norm": false}"#,
        ),
        (
            "Command-R7B",
            8_028_033_024,
            r#"{"model_type": "cohere2", "hidden_size": 4096, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 256000,
            "head_dim": 128, "sliding_window": 4096, "sliding_window_pattern": 4}"#,
        ),
        (
            "Seed-OSS-36B",
            36_151_104_512,
            r#"{"model_type": "seed_oss", "hidden_size": 5120, "num_attention_heads": 80,
            "num_key_value_heads": 8, "num_hidden_layers": 64, "intermediate_size": 27648, "vocab_size": 155136,
            "head_dim": 128, "attention_bias": true, "attention_out_bias": false}"#,
        ),
        (
            "chatglm3-6b",
            6_243_584_000,
            r#"{"model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32,
            "kv_channels": 128, "multi_query_attention": true, "multi_query_group_num": 2, "num_layers": 28,
            "ffn_hidden_size": 13696, "padded_vocab_size": 65024, "add_qkv_bias": true, "rmsnorm": true,
            "post_layer_norm": true, "seq_length": 8192, "add_bias_linear": false, "original_rope": true}"#,
        ),
        (
            "glm-4-9b",
            9_399_951_360,
            r#"{"model_type": "glm", "hidden_size": 4096, "num_attention_heads": 32,
            "num_key_value_heads": 2, "head_dim": 128, "num_hidden_layers": 40, "intermediate_size": 13696,
            "vocab_size": 151552, "attention_bias": true}"#,
        ),
        (
            "granite-3.1-8b",
            8_170_848_256,
            r#"{"model_type": "granite", "hidden_size": 4096, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_hidden_layers": 40, "intermediate_size": 12800, "vocab_size": 49155,
            "tie_word_embeddings": true, "embedding_multiplier": 12.0, "logits_scaling": 16.0}"#,
        ),
        (
            "ERNIE-4.5-0.3B",
            360_748_032,
            r#"{"model_type": "ernie4_5", "hidden_size": 1024, "num_hidden_layers": 18,
            "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 3072,
            "use_bias": false, "vocab_size": 103424, "tie_word_embeddings": true}"#,
        ),
        (
            "EXAONE-4.0-32B",
            32_003_216_384,
            r#"{"model_type": "exaone4", "hidden_size": 5120, "num_hidden_layers": 64,
            "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 27392,
            "vocab_size": 102400, "sliding_window": 4096, "sliding_window_pattern": "LLLG"}"#,
        ),
        (
            "Minitron-4B",
            4_190_509_056,
            r#"{"model_type": "nemotron", "hidden_size": 3072, "num_hidden_layers": 32,
            "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9216,
            "vocab_size": 256000}"#,
        ),
    ]);
}

#[test]
fn gemma_has_its_published_counts() {
    check(&[
        (
            "gemma-2b",
            2_506_172_416,
            r#"{"model_type": "gemma", "hidden_size": 2048, "num_attention_heads": 8,
            "num_key_value_heads": 1, "head_dim": 256, "num_hidden_layers": 18, "intermediate_size": 16384,
            "vocab_size": 256000}"#,
        ),
        (
            "gemma-7b",
            8_537_680_896,
            r#"{"model_type": "gemma", "hidden_size": 3072, "num_attention_heads": 16,
            "num_key_value_heads": 16, "head_dim": 256, "num_hidden_layers": 28, "intermediate_size": 24576,
            "vocab_size": 256000}"#,
        ),
        (
            "gemma-2-9b",
            9_241_705_984,
            r#"{"model_type": "gemma2", "hidden_size": 3584, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 256, "num_hidden_layers": 42, "intermediate_size": 14336,
            "vocab_size": 256000, "sliding_window": 4096, "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0, "cache_implementation": "hybrid"}"#,
        ),
        (
            "gemma-2-27b",
            27_227_128_320,
            r#"{"model_type": "gemma2", "hidden_size": 4608, "num_attention_heads": 32,
            "num_key_value_heads": 16, "head_dim": 128, "num_hidden_layers": 46, "intermediate_size": 36864,
            "vocab_size": 256000, "sliding_window": 4096}"#,
        ),
        (
            "gemma-3-1b",
            999_885_952,
            r#"{"model_type": "gemma3_text", "hidden_size": 1152, "num_attention_heads": 4,
            "num_key_value_heads": 1, "head_dim": 256, "num_hidden_layers": 26, "intermediate_size": 6912,
            "vocab_size": 262144, "sliding_window": 512, "sliding_window_pattern": 6}"#,
        ),
    ]);
    let nested = load(
        r#"{"model_type": "gemma3", "mm_tokens_per_image": 256, "boi_token_index": 255999,
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                "num_hidden_layers": 34, "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
            "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 896,
                "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
                "vision_use_head": false}}"#,
    );
    assert_eq!(nested.parameters() + nested.vision_parameters(), 4_300_079_472);
}
