//! What single layers see and hold, where it differs from layer to layer.

use super::*;
use crate::model::{Attention, Ffn, LinearKind, Mixer, Moe, Span, Task};

/// `(count, attention)` of every group that has plain attention.
fn attentions(model: &Model) -> Vec<(u64, Attention)> {
    let attention = |group: &LayerGroup| match &group.mixer {
        Some(Mixer::Attention(attention)) => Some((group.count, attention.clone())),
        _ => None,
    };
    model.layers.iter().filter_map(attention).collect()
}

fn spans(model: &Model) -> Vec<(u64, Span)> {
    attentions(model).into_iter().map(|(count, attention)| (count, attention.span)).collect()
}

fn moe(model: &Model, group: usize) -> &Moe {
    match &model.layers[group].ffn {
        Some(Ffn::Moe(moe)) => moe,
        other => panic!("{other:?}"),
    }
}

const QWEN3: &str = r#""hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 151936, "#;

#[test]
fn equal_layers_are_one_group() {
    let model = load(&llama_with("{}"));
    assert_eq!(model.layers.len(), 1);
    assert_eq!(model.layers[0].count, 4);
}

#[test]
fn a_given_head_width_is_read_and_not_derived() {
    let model = load(&llama_with(r#"{"head_dim": 32}"#));
    assert_eq!(attentions(&model)[0].1.head_dim, 32);
    assert_eq!(attentions(&load(&llama_with("{}")))[0].1.head_dim, 8);
}

#[test]
fn mistral_sees_a_window_in_every_layer() {
    let model = load(&llama_with(r#"{"model_type": "mistral", "sliding_window": 4096}"#));
    assert_eq!(spans(&model), [(4, Span::Window(4096))]);
    let without = load(&llama_with(r#"{"model_type": "mistral", "sliding_window": null}"#));
    assert_eq!(spans(&without), [(4, Span::Full)]);
}

#[test]
fn qwen_windows_begin_after_the_first_layers_and_only_if_switched_on() {
    let on = r#"{"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 512, "max_window_layers": 3}"#;
    assert_eq!(spans(&load(&llama_with(on))), [(3, Span::Full), (1, Span::Window(512))]);
    let off = r#"{"model_type": "qwen2", "use_sliding_window": false, "sliding_window": 512, "max_window_layers": 3}"#;
    assert_eq!(spans(&load(&llama_with(off))), [(4, Span::Full)]);
}

#[test]
fn gemma_alternates_windows_with_full_layers() {
    let gemma2 = load(&llama_with(r#"{"model_type": "gemma2", "sliding_window": 64}"#));
    assert_eq!(spans(&gemma2), [(2, Span::Window(64)), (2, Span::Full)]);
    assert_eq!(gemma2.layers[0].norms, 4);
    assert!(gemma2.tied_embeddings);
    let gemma3 =
        load(&llama_with(r#"{"model_type": "gemma3_text", "num_hidden_layers": 7, "sliding_window": 64}"#));
    assert_eq!(spans(&gemma3), [(6, Span::Window(64)), (1, Span::Full)]);
}

#[test]
fn llama_4_cuts_rotary_layers_into_chunks_and_leaves_every_fourth_whole() {
    let model = load(&llama_with(
        r#"{"model_type": "llama4_text", "num_hidden_layers": 8, "attention_chunk_size": 8192, "num_local_experts": 16,
            "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 256}"#,
    ));
    let seen: Vec<_> = attentions(&model).into_iter().map(|(count, a)| (count, a.span, a.rope)).collect();
    let chunk = Span::Chunk(8192);
    assert_eq!(seen, [(4, chunk, true), (2, chunk, true), (2, Span::Full, false)]);
    assert!(matches!(&model.layers[0].ffn, Some(Ffn::Dense(dense)) if dense.intermediate == 256));
    assert_eq!((moe(&model, 1).intermediate, moe(&model, 1).shared_intermediate), (128, 128));
}

#[test]
fn layers_without_rotary_positions_may_be_listed() {
    let model = load(&llama_with(r#"{"model_type": "smollm3", "no_rope_layers": [1, 0, 1, 0]}"#));
    let rope: Vec<_> = attentions(&model).into_iter().map(|(count, a)| (count, a.rope)).collect();
    assert_eq!(rope, [(2, true), (2, false)]);
}

#[test]
fn qwen_experts_skip_listed_layers_and_follow_the_step() {
    let json = format!(
        r#"{{"model_type": "qwen3_moe", {QWEN3} "num_hidden_layers": 8, "num_experts": 128, "num_experts_per_tok": 8,
            "moe_intermediate_size": 768, "decoder_sparse_step": 2, "mlp_only_layers": [1]}}"#
    );
    let model = load(&json);
    let sparse: u64 =
        model.layers.iter().filter(|g| matches!(g.ffn, Some(Ffn::Moe(_)))).map(|g| g.count).sum();
    assert_eq!(sparse, 3);
}

#[test]
fn deepseek_experts_follow_dense_layers() {
    let json = r#"{"model_type": "deepseek_v3", "num_hidden_layers": 5, "first_k_dense_replace": 2, "q_lora_rank": 32,
        "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 8,
        "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 32, "moe_layer_freq": 1,
        "num_nextn_predict_layers": 1, "topk_method": "noaux_tc"}"#;
    let model = load(&llama_with(json));
    assert_eq!(model.layers.iter().map(|group| group.count).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(moe(&model, 1).router_other_parameters, 8);
    assert_eq!(model.mtp_layers, 1);
    assert!(
        matches!(&model.layers[0].mixer, Some(Mixer::Mla(mla)) if mla.q_lora == Some(32) && mla.indexer.is_none())
    );
    let listed =
        load(&llama_with(&json.replace(r#""moe_layer_freq": 1"#, r#""moe_layer_freq": [0, 1, 1, 1, 0]"#)));
    assert_eq!(listed.layers.iter().map(|group| group.count).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn nemotron_h_layers_are_one_thing_each() {
    let model = load(
        r#"{"model_type": "nemotron_h", "hidden_size": 64, "num_hidden_layers": 6, "vocab_size": 100,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128,
            "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "conv_kernel": 4, "n_groups": 2,
            "hybrid_override_pattern": "M-M*ME", "n_routed_experts": 8, "num_experts_per_tok": 2,
            "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 48, "n_shared_experts": 1,
            "moe_latent_size": 24, "mamba_ssm_cache_dtype": "float32", "time_step_limit": [0.0, Infinity]}"#,
    );
    assert_eq!(model.layers.iter().map(|group| group.count).collect::<Vec<_>>(), [3, 1, 1, 1]);
    let Some(Mixer::Mamba(mamba)) = &model.layers[0].mixer else { panic!("Mamba comes first") };
    assert_eq!((mamba.inner, mamba.state_format), (128, Format::Fp32));
    assert!(matches!(&model.layers[1].ffn, Some(Ffn::Dense(dense)) if !dense.gated));
    assert!(!attentions(&model)[0].1.rope);
    let experts = moe(&model, 3);
    assert_eq!((experts.latent, experts.gated, experts.shared_intermediate), (Some(24), false, 48));
}

#[test]
fn linear_attention_is_read_with_its_state() {
    let json = format!(
        r#"{{"model_type": "qwen3_5_text", {QWEN3} "num_hidden_layers": 8, "head_dim": 256,
            "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
            "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
            "mamba_ssm_dtype": "float32", "attn_output_gate": true, "mtp_num_hidden_layers": 1}}"#
    );
    let model = load(&json);
    let Some(Mixer::Linear(linear)) = &model.layers[0].mixer else { panic!("linear attention comes first") };
    assert_eq!((linear.kind, linear.state_format), (LinearKind::GatedDelta, Format::Fp32));
    assert_eq!(linear.input_columns, 2 * 2048 + 2 * 4096 + 64);
    assert!(attentions(&model)[0].1.output_gate);
    assert_eq!(attentions(&model)[0].0, 2);
    assert_eq!(model.mtp_layers, 1);
}

#[test]
fn searched_layers_differ_and_may_lack_a_part() {
    let model = load(
        r#"{"model_type": "nemotron-nas", "hidden_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
            "num_attention_heads": 8, "num_key_value_heads": null, "intermediate_size": null, "block_configs": [
            {"attention": {"n_heads_in_group": 4, "no_op": false}, "ffn": {"ffn_mult": 5.25, "no_op": false}},
            {"attention": {"n_heads_in_group": null, "no_op": true}, "ffn": {"ffn_mult": 0.5, "no_op": false}}]}"#,
    );
    assert_eq!(attentions(&model)[0].1.kv_heads, 2);
    assert!(model.layers[1].mixer.is_none());
    assert_eq!(model.layers[1].norms, 1);
    assert!(matches!(&model.layers[0].ffn, Some(Ffn::Dense(dense)) if dense.intermediate == 512));
    assert!(matches!(&model.layers[1].ffn, Some(Ffn::Dense(dense)) if dense.intermediate == 256));
}

#[test]
fn families_tie_their_embeddings_by_their_own_default() {
    for (kind, tied) in
        [("llama", false), ("qwen2", false), ("gemma", true), ("cohere", true), ("mistral", false)]
    {
        assert_eq!(
            load(&llama_with(&format!(r#"{{"model_type": "{kind}"}}"#))).tied_embeddings,
            tied,
            "{kind}"
        );
    }
    let outside = r#"{"model_type": "qwen3_vl", "tie_word_embeddings": true, "text_config": {"hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}}"#;
    assert!(load(outside).tied_embeddings);
}

#[test]
fn parallel_layers_are_known_as_such() {
    let cohere = load(&llama_with(r#"{"model_type": "cohere"}"#));
    assert!(cohere.layers[0].parallel);
    assert!(!load(&llama_with("{}")).layers[0].parallel);
}

#[test]
fn encoders_and_diffusion_transformers_neither_cache_nor_speak() {
    let bert = load(
        r#"{"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 512}"#,
    );
    assert_eq!((bert.task, bert.head), (Task::Encoder, false));
    assert!(!attentions(&bert)[0].1.causal);
    let dit = load(r#"{"depth": 12, "hidden_size": 384, "patch_size": 8, "num_heads": 6, "mlp_ratio": 4.0}"#);
    assert_eq!((dit.task, dit.vocab, dit.head, dit.max_context), (Task::Diffusion, 0, false, Some(16)));
}

#[test]
fn a_file_name_becomes_a_title() {
    assert_eq!(load_as("models/meta-llama--Llama-3.1-8B.json", &llama_with("{}")).title, "Llama-3.1-8B");
    assert_eq!(load_as("Qwen/Qwen3-8B", &llama_with("{}")).title, "Qwen3-8B");
}
