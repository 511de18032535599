//! Attention of decoding sequences: piecewise affine in sequences, keys and the longest context.

use super::Device;
use crate::straight::{Greatest, Straight};

/// One query (or a few drafts) a sequence over its cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeKernel {
    /// Sequences.
    pub sequences: f64,
    /// Keys read by all together (each at most its window).
    pub keys: f64,
    /// (query, key) pairs; `keys` where each sequence brings one query.
    pub pairs: f64,
    /// Keys of the longest (at most its window).
    pub longest: f64,
    /// Query heads on this device.
    pub heads: f64,
    /// KV heads on this device.
    pub kv_heads: f64,
    /// Width of a query/key head.
    pub key_dim: f64,
    /// Width of a value head.
    pub value_dim: f64,
    /// Bytes of a cached element.
    pub kv_bytes: f64,
}

form! {
    /// Numbers of decode attention.
    Decode("decode") of DecodeKernel {
        /// Launch, first wave.
        t0_s: 0.0..1e-3,
        /// A further wave of sequences × KV heads over the multiprocessors.
        c_wave_s: 0.0..1e-3,
        /// Share of the bandwidth.
        em: 0.02..1.0,
        /// Share of the 16-bit peak.
        ec: 0.005..1.5,
        /// A token of the longest sequence: its cache is split finitely often.
        per_key_s: 0.0..1e-6,
        /// A token of the longest sequence until its cache is split.
        split_key_s: 0.0..1e-6,
        /// What joining the parts of split caches costs at most.
        split_s: 0.0..1e-4,
        /// Share of the bandwidth at which that cost builds up.
        split_eff: 0.005..4.0,
    }
    seconds = Decode::time;
}

impl Decode {
    /// `t0 + c·max(N·hkv/SM − 1, 0) + min(d, s₁·longest + KV/(B·e₁)) + s·longest + max(KV/(B·em), FLOP/(P16·ec))`.
    ///
    /// The `min` is what kernels pay until there is enough cache to share one sequence out over several processors.
    #[inline]
    pub fn time(&self, device: &Device, kernel: &DecodeKernel) -> f64 {
        let width = kernel.key_dim + kernel.value_dim;
        let waves = (kernel.sequences * kernel.kv_heads / device.sm - 1.0).max(0.0);
        let cached = kernel.keys * kernel.kv_heads * width * kernel.kv_bytes / device.bandwidth;
        let compute = 2.0 * width * kernel.heads * kernel.pairs / (device.peak16 * self.ec);
        let split = self.split_s.min(self.split_key_s * kernel.longest + cached / self.split_eff);
        let chain = self.per_key_s * kernel.longest;
        self.t0_s + self.c_wave_s * waves + split + chain + (cached / self.em).max(compute)
    }

    /// The same over keys, where each of `kernel.sequences` brings one query and sees all its keys.
    pub fn straight(&self, device: &Device, kernel: &DecodeKernel) -> Greatest {
        let width = kernel.key_dim + kernel.value_dim;
        let waves = (kernel.sequences * kernel.kv_heads / device.sm - 1.0).max(0.0);
        let cached = kernel.kv_heads * width * kernel.kv_bytes / device.bandwidth;
        let compute = 2.0 * width * kernel.heads / (device.peak16 * self.ec);
        let chain = |seconds| Straight { fixed: 0.0, key: seconds, longest: self.per_key_s };
        let split = Straight { fixed: 0.0, key: cached / self.split_eff, longest: self.split_key_s };
        Greatest::of_sum(
            self.t0_s + self.c_wave_s * waves,
            &[Straight::fixed(self.split_s), split],
            &[chain(cached / self.em), chain(compute)],
        )
    }
}

/// Whether heads are as serving meets them.
pub fn usual_heads(heads: f64, kv_heads: f64, width: f64) -> bool {
    (width == 64.0 || width == 128.0) && heads <= 16.0 * kv_heads
}
