//! Softmax attention over a KV cache, fused (FlashAttention) or not.

use crate::work::{Rate, Work};

/// Vector operations a score costs in the softmax: subtract, exponentiate, add, compare, scale.
pub const SOFTMAX_OPS: f64 = 5.0;

/// Heads of one device and the bytes of their elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads on this device.
    pub query: f64,
    /// KV heads on this device (replicated where there are fewer than devices).
    pub kv: f64,
    /// Width of a query/key head.
    pub key_dim: f64,
    /// Width of a value head.
    pub value_dim: f64,
    /// Bytes of an activation.
    pub activation_bytes: f64,
    /// Bytes of a cached element.
    pub kv_bytes: f64,
    /// Whether this layer writes its own cache (false where it reuses an earlier layer's, or keeps none).
    pub writes: bool,
}

/// Scores, softmax and weighted values in one kernel: scores never leave the chip.
///
/// A pair costs `2·(key_dim + value_dim)` FLOPs a head; each cached byte is read once a step; q enters and the
/// output leaves once; the new tokens' keys and values are written.
pub fn fused(heads: Heads) -> Work {
    let kv_element = heads.kv * (heads.key_dim + heads.value_dim) * heads.kv_bytes;
    Work {
        flops: Rate { pair: 2.0 * (heads.key_dim + heads.value_dim) * heads.query, ..Rate::ZERO },
        vector_flops: Rate { pair: SOFTMAX_OPS * heads.query, ..Rate::ZERO },
        activation_bytes: Rate::token(
            (heads.key_dim + heads.value_dim) * heads.query * heads.activation_bytes,
        ),
        kv_bytes: Rate { key: kv_element, token: if heads.writes { kv_element } else { 0.0 }, ..Rate::ZERO },
        ..Work::default()
    }
}

/// q·kᵀ as its own kernel: reads q and keys, writes the whole rectangle of scores a head, masked ones included.
pub fn scores(heads: Heads) -> Work {
    let key = heads.kv * heads.key_dim * heads.kv_bytes;
    Work {
        flops: Rate { pair: 2.0 * heads.key_dim * heads.query, ..Rate::ZERO },
        activation_bytes: Rate {
            token: heads.key_dim * heads.query * heads.activation_bytes,
            area: heads.query * heads.activation_bytes,
            ..Rate::ZERO
        },
        kv_bytes: Rate { key, token: if heads.writes { key } else { 0.0 }, ..Rate::ZERO },
        ..Work::default()
    }
}

/// Softmax as its own kernel: reads and writes every score.
pub fn softmax(heads: Heads) -> Work {
    Work {
        vector_flops: Rate { pair: SOFTMAX_OPS * heads.query, ..Rate::ZERO },
        activation_bytes: Rate { area: 2.0 * heads.query * heads.activation_bytes, ..Rate::ZERO },
        ..Work::default()
    }
}

/// Scores·values as its own kernel: reads scores and values, writes the output.
pub fn values(heads: Heads) -> Work {
    let value = heads.kv * heads.value_dim * heads.kv_bytes;
    Work {
        flops: Rate { pair: 2.0 * heads.value_dim * heads.query, ..Rate::ZERO },
        activation_bytes: Rate {
            token: heads.value_dim * heads.query * heads.activation_bytes,
            area: heads.query * heads.activation_bytes,
            ..Rate::ZERO
        },
        kv_bytes: Rate { key: value, token: if heads.writes { value } else { 0.0 }, ..Rate::ZERO },
        ..Work::default()
    }
}
