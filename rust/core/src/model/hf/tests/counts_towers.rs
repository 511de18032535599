//! Exact parameter counts of vision towers, encoders and diffusion transformers, from configurations written by hand.

use super::counts::check;
use super::*;

#[test]
fn vision_towers_of_qwen_have_their_published_counts() {
    let older = load(
        r#"{"model_type": "qwen2_vl", "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
            "num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064, "use_sliding_window": false,
            "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
                "hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}}"#,
    );
    assert_eq!(older.parameters() + older.vision_parameters(), 8_291_375_616);
    let newer = load(
        r#"{"model_type": "qwen2_5_vl", "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
            "num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064, "use_sliding_window": false,
            "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
                "in_chans": 3, "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2,
                "spatial_patch_size": 14, "temporal_patch_size": 2, "window_size": 112, "tokens_per_second": 2,
                "fullatt_block_indexes": [7, 15, 23, 31]}}"#,
    );
    assert_eq!(newer.parameters() + newer.vision_parameters(), 8_292_166_656);
}

#[test]
fn encoders_and_diffusion_transformers_have_their_published_counts() {
    check(&[
        (
            "bert-base-uncased",
            109_482_240,
            r#"{"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30522,
            "max_position_embeddings": 512, "type_vocab_size": 2, "position_embedding_type": "absolute"}"#,
        ),
        (
            "roberta-base",
            124_645_632,
            r#"{"model_type": "roberta", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 50265,
            "max_position_embeddings": 514, "type_vocab_size": 1}"#,
        ),
        (
            "distilbert-base-uncased",
            66_362_880,
            r#"{"model_type": "distilbert", "dim": 768, "n_layers": 6,
            "n_heads": 12, "hidden_dim": 3072, "vocab_size": 30522, "max_position_embeddings": 512,
            "sinusoidal_pos_embds": false, "seq_classif_dropout": 0.2}"#,
        ),
        (
            "deberta-v3-base",
            183_831_552,
            r#"{"model_type": "deberta-v2", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 128100, "type_vocab_size": 0,
            "max_position_embeddings": 512, "relative_attention": true, "position_buckets": 256,
            "norm_rel_ebd": "layer_norm", "share_att_key": true, "pos_att_type": "p2c|c2p",
            "max_relative_positions": -1, "position_biased_input": false}"#,
        ),
        (
            "ModernBERT-base",
            149_014_272,
            r#"{
            "model_type": "modernbert", "hidden_size": 768, "num_hidden_layers": 22, "num_attention_heads": 12,
            "intermediate_size": 1152, "vocab_size": 50368, "max_position_embeddings": 8192,
            "global_attn_every_n_layers": 3, "local_attention": 128, "decoder_bias": true}"#,
        ),
        (
            "DiT-XL/2",
            675_129_632,
            r#"{"depth": 28, "hidden_size": 1152, "patch_size": 2, "num_heads": 16,
            "mlp_ratio": 4.0}"#,
        ),
    ]);
}

#[test]
fn mistral_small_with_its_tower_has_its_published_count() {
    let small = load(
        r#"{"model_type": "mistral3", "multimodal_projector_bias": false, "spatial_merge_size": 2,
            "vision_feature_layer": -1, "text_config": {"model_type": "mistral", "hidden_size": 5120, "head_dim": 128,
            "intermediate_size": 32768, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
            "vocab_size": 131072, "tie_word_embeddings": false}, "vision_config": {"model_type": "pixtral",
            "hidden_size": 1024, "head_dim": 64, "image_size": 1540, "intermediate_size": 4096, "num_channels": 3,
            "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14}}"#,
    );
    assert_eq!(small.parameters() + small.vision_parameters(), 24_011_361_280);
}

#[test]
fn the_vision_tower_of_llama_4_has_its_published_count() {
    let scout = load(
        r#"{"model_type": "llama4", "text_config": {"model_type": "llama4_text", "hidden_size": 5120,
            "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
            "intermediate_size": 8192, "intermediate_size_mlp": 16384, "num_local_experts": 16,
            "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "attention_chunk_size": 8192,
            "vocab_size": 202048}, "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 1408,
            "image_size": 336, "intermediate_size": 5632, "num_attention_heads": 16, "num_hidden_layers": 34,
            "num_channels": 3, "patch_size": 14, "pixel_shuffle_ratio": 0.5, "projector_input_dim": 4096,
            "projector_output_dim": 4096, "vision_output_dim": 4096, "multi_modal_projector_bias": false,
            "vision_feature_layer": -1, "vision_feature_select_strategy": "default"}}"#,
    );
    assert_eq!(scout.parameters() + scout.vision_parameters(), 108_641_793_536);
}
