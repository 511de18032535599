//! Attention of prompts: causal, on top of a cached prefix, or through a window.

use super::Device;

/// Prompts (or chunks of them) over their own and cached keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrefillKernel {
    /// Sequences.
    pub sequences: f64,
    /// New tokens of all sequences.
    pub tokens: f64,
    /// Visible (query, key) pairs of all sequences.
    pub pairs: f64,
    /// Keys read by all together.
    pub keys: f64,
    /// Keys of the longest sequence, at most its window and a tile.
    pub longest: f64,
    /// Query heads on this device.
    pub heads: f64,
    /// KV heads on this device.
    pub kv_heads: f64,
    /// Width of a query/key head.
    pub key_dim: f64,
    /// Width of a value head.
    pub value_dim: f64,
    /// Bytes of an activation (queries, outputs, new keys and values).
    pub activation_bytes: f64,
    /// Bytes of a cached element.
    pub kv_bytes: f64,
    /// Dense peak of the format it multiplies in, FLOP/s.
    pub peak: f64,
}

form! {
    /// Numbers of prefill attention.
    Prefill("prefill") of PrefillKernel {
        /// Launch.
        t0_s: 0.0..1e-3,
        /// Share of the peak, with `x0` (only `ec·d/(d + x0)` is an efficiency).
        ec: 0.01..4.0,
        /// Exponentials and pipeline of a score, in equivalent head width.
        x0: 0.0..2000.0,
        /// Weight of the longest item's last tile.
        w_item: 0.0..8.0,
        /// Passes over queries and outputs.
        c_mem: 0.0..40.0,
        /// Passes over keys and values, writing them into the cache included.
        c_kv: 0.0..80.0,
        /// Half-masked tiles along the diagonal, in tiles of 64.
        tile_pad: 0.0..8.0,
        /// Beginning a head of a sequence, on one multiprocessor.
        c_item_s: 0.0..1e-5,
    }
    seconds = Prefill::time;
}

impl Prefill {
    /// `t0 + C + w·item + c_item·N·h/SM + (c_mem·QO + c_kv·KV)/B`, `C = 2·(dq + dv + x0)·h·(pairs + 64·pad·tokens)/(P·ec)`.
    #[inline]
    pub fn time(&self, device: &Device, kernel: &PrefillKernel) -> f64 {
        let score = 2.0 * (kernel.key_dim + kernel.value_dim + self.x0 / device.exponential);
        let per_flop = 1.0 / (kernel.peak * self.ec);
        let pairs = kernel.pairs + 64.0 * self.tile_pad * kernel.tokens;
        let compute = score * kernel.heads * pairs * per_flop;
        let item = score * 128.0 * kernel.longest * device.sm * per_flop;
        let width = kernel.key_dim + kernel.value_dim;
        let own = kernel.tokens * kernel.heads * width * kernel.activation_bytes;
        let cached = kernel.keys * kernel.kv_heads * width * kernel.kv_bytes;
        let passes = self.c_mem * own + self.c_kv * cached;
        let begun = self.c_item_s * kernel.sequences * kernel.heads / device.sm;
        self.t0_s + compute + self.w_item * item + begun + passes / device.bandwidth
    }
}
