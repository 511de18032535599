//! Exact parameter counts of published decoders from before Llama, from configurations written by hand.

use super::counts::check;

#[test]
fn older_decoders_have_their_published_counts() {
    check(&[
        (
            "opt-6.7b",
            6_658_473_984,
            r#"{"model_type": "opt", "hidden_size": 4096, "num_attention_heads": 32,
            "num_hidden_layers": 32, "ffn_dim": 16384, "vocab_size": 50272, "word_embed_proj_dim": 4096,
            "max_position_embeddings": 2048, "do_layer_norm_before": true}"#,
        ),
        (
            "opt-125m",
            125_239_296,
            r#"{"model_type": "opt", "hidden_size": 768, "num_attention_heads": 12,
            "num_hidden_layers": 12, "ffn_dim": 3072, "vocab_size": 50272, "word_embed_proj_dim": 768,
            "max_position_embeddings": 2048}"#,
        ),
        (
            "opt-350m",
            331_196_416,
            r#"{"model_type": "opt", "hidden_size": 1024, "num_attention_heads": 16,
            "num_hidden_layers": 24, "ffn_dim": 4096, "vocab_size": 50272, "word_embed_proj_dim": 512,
            "max_position_embeddings": 2048, "do_layer_norm_before": false}"#,
        ),
        (
            "gpt2",
            124_439_808,
            r#"{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_ctx": 1024,
            "n_positions": 1024, "vocab_size": 50257, "activation_function": "gelu_new", "resid_pdrop": 0.1}"#,
        ),
        (
            "gpt-j-6b",
            6_050_882_784,
            r#"{"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16,
            "n_inner": null, "n_positions": 2048, "rotary_dim": 64, "vocab_size": 50400, "rotary": true}"#,
        ),
        (
            "gpt-neox-20b",
            20_554_567_680,
            r#"{"model_type": "gpt_neox", "hidden_size": 6144, "num_hidden_layers": 44,
            "num_attention_heads": 64, "intermediate_size": 24576, "vocab_size": 50432, "rotary_pct": 0.25}"#,
        ),
        (
            "pythia-6.9b",
            6_857_302_016,
            r#"{"model_type": "gpt_neox", "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "intermediate_size": 16384, "vocab_size": 50432}"#,
        ),
        (
            "starcoder",
            15_517_456_384,
            r#"{"model_type": "gpt_bigcode", "n_embd": 6144, "n_layer": 40, "n_head": 48,
            "n_inner": 24576, "n_positions": 8192, "vocab_size": 49152, "multi_query": true}"#,
        ),
        (
            "starcoder2-3b",
            3_030_371_328,
            r#"{"model_type": "starcoder2", "hidden_size": 3072, "num_hidden_layers": 30,
            "num_attention_heads": 24, "num_key_value_heads": 2, "intermediate_size": 12288, "vocab_size": 49152,
            "use_bias": true, "sliding_window": 4096, "norm_type": "layer_norm", "mlp_type": "default"}"#,
        ),
        (
            "bloom-7b1",
            7_069_016_064,
            r#"{"model_type": "bloom", "n_embed": 4096, "n_layer": 30,
            "num_attention_heads": 32, "vocab_size": 250880, "offset_alibi": 100, "skip_bias_add": true}"#,
        ),
        (
            "falcon-7b",
            6_921_720_704,
            r#"{"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32,
            "num_attention_heads": 71, "vocab_size": 65024, "multi_query": true, "parallel_attn": true,
            "new_decoder_architecture": false, "bias": false, "alibi": false}"#,
        ),
        (
            "falcon-40b",
            41_303_293_952,
            r#"{"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60,
            "num_attention_heads": 128, "num_kv_heads": 8, "vocab_size": 65024, "new_decoder_architecture": true,
            "bias": false, "parallel_attn": true, "alibi": false}"#,
        ),
        (
            "phi-2",
            2_779_683_840,
            r#"{"model_type": "phi", "hidden_size": 2560, "num_hidden_layers": 32,
            "num_attention_heads": 32, "intermediate_size": 10240, "vocab_size": 51200, "qk_layernorm": false}"#,
        ),
    ]);
}
