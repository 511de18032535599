//! Layers whose memory does not grow: selective state spaces and linear attention.

use crate::model::{LinearAttention, LinearKind, Mamba};
use crate::work::{Rate, Work};

/// Bytes of one sequence's state in one Mamba layer on one of `tp` devices: the SSM state and the convolution's tail.
pub fn mamba_state_bytes(mamba: &Mamba, activation_bytes: f64, tp: f64) -> f64 {
    let ssm = (mamba.inner * mamba.state) as f64 / tp * mamba.state_format.bytes();
    ssm + mamba_conv_channels(mamba, tp) * (mamba.conv.saturating_sub(1)) as f64 * activation_bytes
}

/// Channels of one of `tp` devices that the convolution runs over: x alone in Mamba-1; x, B and C in Mamba-2.
pub fn mamba_conv_channels(mamba: &Mamba, tp: f64) -> f64 {
    let inner = mamba.inner as f64 / tp;
    if mamba.version == 1 { inner } else { inner + shared_channels(mamba, tp) }
}

/// Channels of B and C on one of `tp` devices: a group is replicated where there are fewer groups than devices.
pub fn shared_channels(mamba: &Mamba, tp: f64) -> f64 {
    2.0 * (mamba.groups as f64 / tp).ceil() * mamba.state as f64
}

/// Convolution and selective scan of new tokens: state read and written once a sequence, not once a token.
///
/// A token updates `inner × state` numbers: decay, add x·B, multiply by C (6 operations each: exponential, two
/// multiply-adds, one product; Mamba §3.3), on the vector unit in Mamba-1 and on the tensor unit in Mamba-2's block form.
pub fn mamba(mamba: &Mamba, activation_bytes: f64, tp: f64) -> Work {
    let updates = 6.0 * (mamba.inner * mamba.state) as f64 / tp;
    let conv = 2.0 * mamba_conv_channels(mamba, tp) * mamba.conv as f64;
    let (flops, vector) = if mamba.version == 1 { (0.0, updates + conv) } else { (updates, conv) };
    let moved = 2.0 * mamba.inner as f64 / tp + mamba_conv_channels(mamba, tp);
    Work {
        flops: Rate::token(flops),
        vector_flops: Rate::token(vector),
        activation_bytes: Rate::token(moved * activation_bytes),
        kv_bytes: Rate { sequence: 2.0 * mamba_state_bytes(mamba, activation_bytes, tp), ..Rate::ZERO },
        ..Work::default()
    }
}

/// Bytes of one sequence's state in one linear-attention layer on one of `tp` devices.
pub fn linear_state_bytes(linear: &LinearAttention, activation_bytes: f64, tp: f64) -> f64 {
    let matrices =
        (linear.value_heads * linear.key_dim * linear.value_dim) as f64 * linear.state_format.bytes();
    let tail = linear_conv_channels(linear) * linear.conv.saturating_sub(1) as f64 * activation_bytes;
    (matrices + tail) / tp
}

/// Channels the convolution runs over: q, k and v.
pub fn linear_conv_channels(linear: &LinearAttention) -> f64 {
    if linear.conv == 0 {
        0.0
    } else {
        (2 * linear.key_heads * linear.key_dim + linear.value_heads * linear.value_dim) as f64
    }
}

/// Recurrent update and read-out of a matrix state per value head.
///
/// Per token and state element: decay 1, rank-one update 2, read-out 2, and for delta rules the prediction S·k 2 more
/// (gated delta networks, eq. 10); the state is read and written once a sequence.
pub fn linear(linear: &LinearAttention, activation_bytes: f64, tp: f64) -> Work {
    let per_element = match linear.kind {
        LinearKind::Lightning => 5.0,
        LinearKind::GatedDelta | LinearKind::Kda => 7.0,
    };
    let elements = (linear.value_heads * linear.key_dim * linear.value_dim) as f64 / tp;
    let qkv = (2 * linear.key_heads * linear.key_dim + linear.value_heads * linear.value_dim) as f64;
    let output = (linear.value_heads * linear.value_dim) as f64;
    Work {
        flops: Rate::token(per_element * elements),
        vector_flops: Rate::token(2.0 * linear_conv_channels(linear) * linear.conv as f64 / tp),
        activation_bytes: Rate::token((qkv + output) / tp * activation_bytes),
        kv_bytes: Rate { sequence: 2.0 * linear_state_bytes(linear, activation_bytes, tp), ..Rate::ZERO },
        ..Work::default()
    }
}
