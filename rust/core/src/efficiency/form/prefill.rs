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

/// Seconds of beginning a head of a sequence on one multiprocessor; fits of it lay between 0 and 2 µs.
const BEGUN_S: f64 = 0.5e-6;
/// Elements of a token's keys that one block of threads writes into the cache at once.
const BLOCK: f64 = 512.0;

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
        /// Passes over keys and values.
        c_kv: 0.0..80.0,
        /// Half-masked tiles along the diagonal, in tiles of 64.
        tile_pad: 0.0..8.0,
        /// Writing a new token's keys and values into the cache by a block of threads, on one multiprocessor.
        write_s: 0.0..1e-5,
    }
    seconds = Prefill::time;
}

impl Prefill {
    /// `t0 + C + w·item + 0.5 µs·N·h/SM + write·tokens·min(hkv·d/512, 1)/SM + (c_mem·QO + c_kv·KV)/B`,
    /// `C = 2·(dq + dv + x0)·h·(pairs + 64·pad·tokens)/(P·ec)`.
    ///
    /// Kernels that write caches give each token a block of at most 512 threads. How many of those run at once follows from
    /// their size, so that few KV heads take as long for each element as many, and more than four of 128 hardly longer.
    #[inline]
    pub fn time(&self, device: &Device, kernel: &PrefillKernel) -> f64 {
        let written = kernel.tokens * (kernel.kv_heads * kernel.key_dim / BLOCK).min(1.0);
        let begun = BEGUN_S * kernel.sequences * kernel.heads;
        self.walked(device, kernel) + (begun + self.write_s * written) / device.sm
    }

    /// Seconds without what is done once a head and once a token.
    #[inline]
    pub(super) fn walked(&self, device: &Device, kernel: &PrefillKernel) -> f64 {
        let score = 2.0 * (kernel.key_dim + kernel.value_dim + self.x0 / device.exponential);
        let per_flop = 1.0 / (kernel.peak * self.ec);
        let pairs = kernel.pairs + 64.0 * self.tile_pad * kernel.tokens;
        let compute = score * kernel.heads * pairs * per_flop;
        let item = score * 128.0 * kernel.longest * device.sm * per_flop;
        let width = kernel.key_dim + kernel.value_dim;
        let own = kernel.tokens * kernel.heads * width * kernel.activation_bytes;
        let cached = kernel.keys * kernel.kv_heads * width * kernel.kv_bytes;
        let passes = self.c_mem * own + self.c_kv * cached;
        self.t0_s + compute + self.w_item * item + passes / device.bandwidth
    }
}
