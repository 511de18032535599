//! Multi-head latent attention: expanded over prompts, absorbed over the cache.

use crate::model::{Indexer, Linear, Mla};
use crate::op::attention::SOFTMAX_OPS;
use crate::op::linear::gemm;
use crate::work::{Rate, Work};

/// Bytes of one token in the indexer's key cache: FP8 keys and an fp32 scale per 128 (DeepSeek-V3.2).
pub fn indexer_key_bytes(indexer: &Indexer) -> f64 {
    indexer.head_dim as f64 * (1.0 + 4.0 / 128.0)
}

/// Attention of a prompt with keys and values expanded for every head; `heads` are this device's.
///
/// Queries enter and outputs leave once a new token; expanded keys and values (`kv_b_proj`, an operator of its own) enter
/// once a key, those of earlier chunks included, whose latent is read from the cache.
pub fn expanded(mla: &Mla, heads: f64, activation_bytes: f64, kv_bytes: f64) -> Work {
    let (key, value) = ((mla.nope_dim + mla.rope_dim) as f64, mla.value_dim as f64);
    let latent = (mla.kv_lora + mla.rope_dim) as f64;
    Work {
        flops: Rate { pair: 2.0 * (key + value) * heads, ..Rate::ZERO },
        vector_flops: Rate { pair: SOFTMAX_OPS * heads, ..Rate::ZERO },
        activation_bytes: Rate {
            token: (key + value) * heads * activation_bytes,
            key: (key + value) * heads * activation_bytes,
            ..Rate::ZERO
        },
        kv_bytes: Rate { key: latent * kv_bytes, token: latent * kv_bytes, ..Rate::ZERO },
        ..Work::default()
    }
}

/// Attention of decoding sequences in the latent space: every head reads the same cached vector.
///
/// A pair costs `2·((kv_lora + rope) + kv_lora)` FLOPs a head; the cache is not divided by `tp`.
pub fn absorbed(mla: &Mla, heads: f64, activation_bytes: f64, kv_bytes: f64) -> Work {
    let (lora, latent) = (mla.kv_lora as f64, (mla.kv_lora + mla.rope_dim) as f64);
    Work {
        flops: Rate { pair: 2.0 * (latent + lora) * heads, ..Rate::ZERO },
        vector_flops: Rate { pair: SOFTMAX_OPS * heads, ..Rate::ZERO },
        activation_bytes: Rate::token((latent + lora) * heads * activation_bytes),
        kv_bytes: Rate { key: latent * kv_bytes, token: latent * kv_bytes, ..Rate::ZERO },
        ..Work::default()
    }
}

/// Keys and values of every head out of the latent, for each key a prompt attends to (cached ones included).
pub fn expansion(mla: &Mla, heads: f64, linear: Linear, activation_bytes: f64) -> Work {
    let outputs = (mla.nope_dim + mla.value_dim) as f64 * heads;
    let once = gemm(mla.kv_lora as f64, outputs, linear, activation_bytes);
    Work {
        flops: Rate { key: once.flops.token, ..Rate::ZERO },
        activation_bytes: Rate { key: once.activation_bytes.token, ..Rate::ZERO },
        ..once
    }
}

/// The products with W_UK (queries into the latent space) and W_UV (outputs out of it) that absorption needs.
pub fn absorption(mla: &Mla, heads: f64, linear: Linear, activation_bytes: f64) -> Work {
    let (nope, value, lora) = (mla.nope_dim as f64, mla.value_dim as f64, mla.kv_lora as f64);
    let per_head = gemm(lora, nope + value, linear, activation_bytes);
    Work {
        flops: per_head.flops.times(heads),
        vector_flops: per_head.vector_flops.times(heads),
        weight_bytes: per_head.weight_bytes.times(heads),
        activation_bytes: Rate::token(heads * (nope + value + 2.0 * lora) * activation_bytes),
        ..Work::default()
    }
}

/// The indexer's scores over all tokens: `2·heads·head_dim` FLOPs a pair, one small key a cached token.
pub fn index(indexer: &Indexer, activation_bytes: f64) -> Work {
    let (heads, dim) = (indexer.heads as f64, indexer.head_dim as f64);
    let key = indexer_key_bytes(indexer);
    Work {
        flops: Rate { pair: 2.0 * heads * dim, ..Rate::ZERO },
        vector_flops: Rate { pair: 2.0 * heads, ..Rate::ZERO },
        activation_bytes: Rate::token(heads * (dim + 1.0) * activation_bytes),
        kv_bytes: Rate { key, token: key, ..Rate::ZERO },
        ..Work::default()
    }
}
