//! The text of every file of `data/models/`, embedded under its name.

/// Embeds each named file; in the order given, which is the order of `catalog models`.
macro_rules! embed {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../data/models/", $name, ".toml")))),*]
    };
}

/// Catalogue name and text of each model.
#[rustfmt::skip]
pub(super) const FILES: &[(&str, &str)] = embed! {
    "llama-7b" "llama-13b" "llama-30b" "llama-65b" "llama-2-7b" "llama-2-13b" "llama-2-70b"
    "codellama-7b" "codellama-13b" "codellama-34b" "llama-3-8b" "llama-3-70b"
    "llama-3.1-8b" "llama-3.1-8b-fp8" "llama-3.1-8b-nvfp4" "llama-3.1-8b-awq-int4"
    "llama-3.1-70b" "llama-3.1-70b-fp8" "llama-3.1-70b-awq-int4" "llama-3.1-405b" "llama-3.1-405b-fp8"
    "llama-3.1-405b-nvfp4"
    "llama-3.2-1b" "llama-3.2-3b" "llama-3.3-70b" "llama-3.3-70b-fp8" "llama-3.3-70b-nvfp4"
    "llama-4-scout-17b-16e" "llama-4-maverick-17b-128e"
    "tinyllama-1.1b" "smollm2-135m" "smollm2-360m" "smollm2-1.7b" "smollm3-3b"
    "yi-6b" "yi-34b" "deepseek-coder-33b" "deepseek-llm-67b"
    "mistral-7b-v0.1" "mistral-7b-v0.2" "mistral-7b-v0.3" "mistral-nemo-2407" "mistral-small-24b-2501" "mistral-large-2407"
    "codestral-22b-v0.1" "mixtral-8x7b" "mixtral-8x22b"
    "qwen1.5-moe-a2.7b" "qwen2-0.5b" "qwen2-1.5b" "qwen2-7b" "qwen2-57b-a14b" "qwen2-72b"
    "qwen2.5-0.5b" "qwen2.5-1.5b" "qwen2.5-3b" "qwen2.5-7b" "qwen2.5-14b" "qwen2.5-32b" "qwen2.5-72b"
    "qwen2.5-72b-awq" "qwen2.5-vl-7b"
    "qwen3-0.6b" "qwen3-1.7b" "qwen3-4b" "qwen3-4b-2507" "qwen3-8b" "qwen3-8b-fp8" "qwen3-14b"
    "qwen3-32b" "qwen3-32b-fp8" "qwen3-32b-nvfp4" "qwen3-32b-awq" "qwen3-30b-a3b" "qwen3-30b-a3b-fp8"
    "qwen3-30b-a3b-nvfp4" "qwen3-30b-a3b-2507"
    "qwen3-235b-a22b" "qwen3-235b-a22b-fp8" "qwen3-235b-a22b-nvfp4" "qwen3-235b-a22b-2507"
    "qwen3-coder-480b-a35b"
    "qwen3-next-80b-a3b" "qwen3-vl-2b" "qwen3-vl-4b" "qwen3-vl-8b" "qwen3-vl-32b" "qwen3-vl-30b-a3b"
    "qwen3-vl-235b-a22b" "qwen3.5-27b" "qwen3.5-35b-a3b" "qwen3.5-122b-a10b"
    "qwen3.5-122b-a10b-nvfp4" "qwen3.5-397b-a17b"
    "qwen3.5-397b-a17b-nvfp4" "mimo-7b-base"
    "gemma-2b" "gemma-7b" "gemma-2-2b" "gemma-2-9b" "gemma-2-27b" "gemma-3-270m" "gemma-3-1b" "gemma-3-4b"
    "gemma-3-12b" "gemma-3-27b" "gemma-4-26b-a4b" "gemma-4-26b-a4b-nvfp4"
    "phi-2" "phi-3-mini-4k" "phi-3-mini-128k" "phi-3-medium-4k" "phi-3-medium-128k" "phi-3.5-moe"
    "phi-4" "phi-4-mini"
    "opt-125m" "opt-350m" "opt-1.3b" "opt-2.7b" "opt-6.7b" "opt-13b" "opt-30b" "opt-66b"
    "gpt2" "gpt2-medium" "gpt2-large" "gpt2-xl" "gpt-j-6b" "gpt-neox-20b"
    "pythia-70m" "pythia-160m" "pythia-410m" "pythia-1b" "pythia-1.4b" "pythia-2.8b" "pythia-6.9b"
    "pythia-12b"
    "falcon-7b" "falcon-40b" "falcon-180b" "bloom-560m" "bloom-7b1" "bloom"
    "chatglm3-6b" "glm-4-9b" "glm-4.5" "glm-4.5-air" "glm-4.6" "glm-5" "glm-5-fp8" "glm-5.1-nvfp4" "glm-5.2-nvfp4"
    "deepseek-v2-lite" "deepseek-v2" "deepseek-v3" "deepseek-v3.1" "deepseek-r1" "deepseek-r1-nvfp4"
    "deepseek-v3.2"
    "kimi-k2" "kimi-k2-0905" "kimi-k2-thinking" "kimi-k2.5" "kimi-k2.5-nvfp4" "kimi-k2.6-nvfp4" "gpt-oss-20b" "gpt-oss-120b"
    "minimax-m2" "minimax-m2.5" "minimax-m2.5-nvfp4" "minimax-m2.7" "minimax-m2.7-nvfp4"
    "nemotron-h-8b-base-8k" "nemotron-h-56b-base-8k" "nemotron-nano-9b-v2" "nemotron-3-nano-30b-a3b"
    "nemotron-3-super-120b-a12b"
    "jamba-v0.1" "jamba-1.5-large" "falcon-mamba-7b" "mamba-2.8b"
    "internlm2-7b" "internlm2-20b" "granite-3.0-2b" "granite-3.0-8b" "granite-3.3-8b"
    "starcoder" "starcoder2-3b" "starcoder2-7b" "starcoder2-15b"
    "c4ai-command-r-v01" "c4ai-command-r-plus" "c4ai-command-r7b-12-2024"
    "c4ai-command-a-03-2025"
    "olmo-2-1124-7b" "olmo-2-1124-13b" "olmo-2-0325-32b" "olmoe-1b-7b-0924" "dbrx" "seed-oss-36b"
    "bert-base-uncased" "bert-large-uncased" "roberta-base" "roberta-large" "dit-xl-2"
};
