//! Which configuration keys never change what a step costs, whatever the family.

use serde_json::Value;

/// Keys that cost nothing in any family.
const HARMLESS: &[&str] = &[
    "activation_function",
    "architectures",
    "auto_map",
    "aux_loss_alpha",
    "bad_words_ids",
    "beta_fast",
    "beta_slow",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cross_attention_hidden_size",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "embedding_multiplier",
    "ep_size",
    "finetuning_task",
    "hidden_act",
    "hidden_activation",
    "id2label",
    "ignore_index",
    "is_decoder",
    "is_encoder_decoder",
    "keep_clip",
    "label2id",
    "language",
    "length_penalty",
    "logit_scale",
    "logits_scaling",
    "max_length",
    "min_length",
    "model_type",
    "mup_enabled",
    "n_group",
    "name_or_path",
    "no_repeat_ngram_size",
    "norm_topk_prob",
    "num_beam_groups",
    "num_beams",
    "num_logits_to_keep",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "partial_rotary_factor",
    "pretraining_tp",
    "problem_type",
    "qkv_clip",
    "query_pre_attn_scalar",
    "remove_invalid_values",
    "repetition_penalty",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "residual_multiplier",
    "return_dict",
    "return_dict_in_generate",
    "rotary",
    "rotary_base",
    "rotary_dim",
    "rotary_emb_base",
    "rotary_pct",
    "router_jitter_noise",
    "router_z_loss_coef",
    "routed_scaling_factor",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "scoring_func",
    "seq_aux",
    "seq_length",
    "swiglu_limit",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "topk_group",
    "topk_method",
    "torchscript",
    "transformers_version",
    "transformers.js_config",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_flash_attn",
    "use_cache_kernel",
    "use_cache_quantization",
    "use_logn_attn",
    "use_dynamic_ntk",
    "attention_multiplier",
    "attn_implementation",
    "attention_implementation",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "attention_softmax_in_fp32",
    "reorder_and_upcast_attn",
    "use_mamba_kernels",
    "use_kernel_forward",
    "use_kernel_backward",
    "use_kernel_forward_from_hub",
    "gradient_checkpointing",
    "layerdrop",
    "layer_dropout",
    "init_std",
    "init_device",
    "torch_dtype",
    "dtype",
    "bos_token",
    "eos_token",
    "pad_token",
    "padding_side",
];

/// Beginnings of keys that cost nothing.
const HARMLESS_BEGINNINGS: &[&str] = &[
    "_",
    "rope_",
    "initializer",
    "mrope",
    "use_mrope",
    "summary_",
    "time_step_",
    "gradient_",
    "forced_",
    "encoder_no_",
];

/// Endings of keys that cost nothing.
const HARMLESS_ENDINGS: &[&str] = &[
    "_token_id",
    "_token_ids",
    "_token_index",
    "dropout",
    "dropout_prob",
    "dropout_rate",
    "dropout_p",
    "_eps",
    "_epsilon",
    "_theta",
    "_aux_loss_coef",
    "_aux_loss",
    "_std",
    "_act",
    "_activation",
    "_range",
    "_interleave",
    "_interleaved",
    "_softcap",
    "_softcapping",
    "_pdrop",
    "_init",
    "_penalty",
    "suppress_tokens",
    "_loss_coef",
    "_logit_scale",
    "_placeholder",
    "_init_scale",
];

/// Parts of a key that say it may change what a step costs.
const COSTLY: &[&str] = &[
    "adapter",
    "attention",
    "attn",
    "audio",
    "bias",
    "block",
    "chunk",
    "compress",
    "conv",
    "d_model",
    "depth",
    "dim",
    "embed",
    "expand",
    "expert",
    "ffn",
    "freq",
    "gate",
    "group",
    "head",
    "hidden",
    "index",
    "inner",
    "intermediate",
    "interval",
    "kernel",
    "kv",
    "layer",
    "lora",
    "memory",
    "mlp",
    "moe",
    "mtp",
    "n_",
    "norm",
    "num_",
    "pattern",
    "quant",
    "rank",
    "share",
    "size",
    "sliding",
    "sparse",
    "ssm",
    "state",
    "tie_",
    "topk",
    "tower",
    "vision",
    "vocab",
    "width",
    "window",
];

/// Whether a value says that what its key names is not there.
pub fn is_switched_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Whether a key costs nothing in any family.
pub fn is_harmless(key: &str) -> bool {
    HARMLESS.contains(&key)
        || HARMLESS_BEGINNINGS.iter().any(|start| key.starts_with(start))
        || HARMLESS_ENDINGS.iter().any(|end| key.ends_with(end))
}

/// Whether a key that is not known may change what a step costs.
pub fn smells_of_cost(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    COSTLY.iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_training_and_generation_are_harmless() {
        for key in
            ["bos_token_id", "rope_scaling", "attention_dropout", "router_aux_loss_coef", "_name_or_path"]
        {
            assert!(is_harmless(key), "{key}");
        }
    }

    #[test]
    fn keys_of_shape_are_neither_harmless_nor_odourless() {
        for key in
            ["num_zebra_heads", "memory_layers", "v_lora_rank", "sliding_window_size", "n_hash_experts"]
        {
            assert!(!is_harmless(key) && smells_of_cost(key), "{key}");
        }
    }
}
