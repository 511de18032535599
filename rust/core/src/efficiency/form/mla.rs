//! Latent attention: absorbed over the cache while decoding; prompts take the prefill form with expanded heads.

use std::f64::consts::FRAC_1_SQRT_2;

use super::{Device, smooth_max};
use crate::straight::{Greatest, Straight};

/// One query (or a few drafts) a sequence over the cached latent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MlaDecodeKernel {
    /// Sequences.
    pub sequences: f64,
    /// Latents read by all together.
    pub keys: f64,
    /// (query, key) pairs.
    pub pairs: f64,
    /// Latents of the longest sequence.
    pub longest: f64,
    /// Heads on this device.
    pub heads: f64,
    /// Width of the cached vector (latent and rotary part).
    pub latent: f64,
    /// Width of the latent alone.
    pub lora: f64,
    /// Bytes of a cached element.
    pub kv_bytes: f64,
}

/// Lines that touch `√(a² + b²)` from below, as factors of `a` and `b`: at most 2 % less.
const TANGENTS: [(f64, f64); 5] = [
    (1.0, 0.0),
    (0.923_879_5, 0.382_683_4),
    (FRAC_1_SQRT_2, FRAC_1_SQRT_2),
    (0.382_683_4, 0.923_879_5),
    (0.0, 1.0),
];

/// Bytes of an element of 32 bits, out and in.
const BOTH_WAYS: f64 = 8.0;

form! {
    /// Numbers of absorbed latent attention.
    MlaDecode("mla_decode") of MlaDecodeKernel {
        /// Launch, first wave.
        t0_s: 0.0..1e-3,
        /// Parts of a cache that leave outputs of their own for every head, to be read again and joined.
        parts: 0.0..64.0,
        /// Share of the bandwidth.
        em: 0.02..1.0,
        /// Share of the 16-bit peak.
        ec: 0.005..1.5,
        /// How far heads are padded to blocks of 64: 0 not, 1 wholly.
        head_pad: 0.0..1.0,
        /// A token of the longest sequence: its cache is split finitely often.
        per_key_s: 0.0..1e-6,
        /// What joining the parts of split caches costs at most.
        split_s: 0.0..1e-4,
        /// Share of the bandwidth at which that cost builds up.
        split_eff: 0.005..4.0,
    }
    seconds = MlaDecode::time;
}

impl MlaDecode {
    /// `t0 + parts·8·N·h·lora/B + min(d, KV/(B·e₁)) + √((M⁴ + C⁴)^½ + (s·longest)²)`.
    ///
    /// Outputs of parts are written and read in 32 bits, however short the caches: with many heads more than the caches.
    /// Kernels that never split a cache walk along the longest one, and slow down gradually as others join it. The outer
    /// root is taken as the greatest of its [`TANGENTS`], so that the form stays straight over keys.
    #[inline]
    pub fn time(&self, device: &Device, kernel: &MlaDecodeKernel) -> f64 {
        let blocks = (kernel.heads / 64.0).ceil();
        let heads = kernel.heads + self.head_pad * (64.0 * blocks - kernel.heads);
        let cached = kernel.keys * kernel.latent * kernel.kv_bytes / device.bandwidth;
        let split = self.split_s.min(cached / self.split_eff);
        let chain = self.per_key_s * kernel.longest;
        let compute = 2.0 * heads * kernel.pairs * (kernel.latent + kernel.lora) / (device.peak16 * self.ec);
        let shared = smooth_max(cached / self.em, compute);
        let joined = TANGENTS.iter().fold(0.0, |most, (all, one)| f64::max(most, all * shared + one * chain));
        self.t0_s + self.parted(device, kernel) + split + joined
    }

    /// Seconds of writing what parts of caches leave, and reading it again.
    #[inline]
    fn parted(&self, device: &Device, kernel: &MlaDecodeKernel) -> f64 {
        self.parts * BOTH_WAYS * kernel.sequences * kernel.heads * kernel.lora / device.bandwidth
    }

    /// The same over keys, where each of `kernel.sequences` brings one query and sees all its keys.
    pub fn straight(&self, device: &Device, kernel: &MlaDecodeKernel) -> Greatest {
        let blocks = (kernel.heads / 64.0).ceil();
        let heads = kernel.heads + self.head_pad * (64.0 * blocks - kernel.heads);
        let cached = kernel.latent * kernel.kv_bytes / device.bandwidth;
        let compute = 2.0 * heads * (kernel.latent + kernel.lora) / (device.peak16 * self.ec);
        Greatest::of_sum(
            self.t0_s + self.parted(device, kernel),
            &[Straight::fixed(self.split_s), Straight::a_key(cached / self.split_eff)],
            &TANGENTS.map(|(all, one)| Straight {
                fixed: 0.0,
                key: all * smooth_max(cached / self.em, compute),
                longest: one * self.per_key_s,
            }),
        )
    }
}

form! {
    /// Numbers of expanded latent attention over prompts: the prefill form of its own measurements.
    MlaPrefill("mla_prefill") of super::prefill::PrefillKernel {
        /// Launch.
        t0_s: 0.0..1e-3,
        /// Share of the peak, with `x0`.
        ec: 0.01..4.0,
        /// Exponentials and pipeline of a score, in equivalent head width.
        x0: 0.0..2000.0,
        /// Weight of the longest item's last tile.
        w_item: 0.0..8.0,
        /// Passes over queries, keys, values and outputs.
        c_mem: 0.0..40.0,
        /// Half-masked tiles along the diagonal, in tiles of 64.
        tile_pad: 0.0..8.0,
    }
    seconds = MlaPrefill::time;
}

impl MlaPrefill {
    /// As [`Prefill`](super::prefill::Prefill).
    #[inline]
    pub fn time(&self, device: &Device, kernel: &super::prefill::PrefillKernel) -> f64 {
        let MlaPrefill { t0_s, ec, x0, w_item, c_mem, tile_pad } = *self;
        super::prefill::Prefill { t0_s, ec, x0, w_item, c_mem, c_kv: c_mem, tile_pad, write_s: 0.0 }
            .walked(device, kernel)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tangents_lie_at_most_two_percent_below_the_root() {
        for step in 0..=90 {
            let (one, all) = f64::from(step).to_radians().sin_cos();
            let root = TANGENTS.iter().fold(0.0, |most, (a, b)| f64::max(most, a * all + b * one));
            assert!((0.98..=1.0 + 1e-6).contains(&root), "{step}: {root}");
        }
    }

    proptest! {
        #[test]
        fn decoding_is_straight_over_keys(
            values in prop::collection::vec(0.01f64..0.99, 8),
            sequences in 1u32..600,
            context in 1u32..100_000,
            heads in 1u32..129,
        ) {
            let of = |(share, known): (&f64, &crate::efficiency::form::Parameter)| {
                known.least + share * (known.most - known.least)
            };
            let known = <MlaDecode as crate::efficiency::form::Form>::PARAMETERS;
            let numbers: Vec<f64> = values.iter().zip(known).map(of).collect();
            let form = <MlaDecode as crate::efficiency::form::Form>::of(&numbers);
            let device = Device {
                peak16: 1e15, bandwidth: 3e12, sm: 132.0, l2: 5e7, clocks: 2e11, exponential: 1.0,
            };
            let (sequences, context) = (f64::from(sequences), f64::from(context));
            let kernel = MlaDecodeKernel {
                sequences,
                keys: sequences * context,
                pairs: sequences * context,
                longest: context,
                heads: f64::from(heads),
                latent: 576.0,
                lora: 512.0,
                kv_bytes: 2.0,
            };
            let at = |line: &Straight| line.fixed + line.key * kernel.keys + line.longest * context;
            let lines = form.straight(&device, &kernel);
            let least = |lines: &Vec<Straight>| lines.iter().map(at).fold(f64::INFINITY, f64::min);
            let seconds = lines.0.iter().map(least).fold(0.0, f64::max);
            let expected = form.time(&device, &kernel);
            prop_assert!((seconds - expected).abs() <= 1e-12 * expected, "{seconds} {expected}");
            let longer = form.time(&device, &MlaDecodeKernel { longest: context + 1.0, ..kernel });
            prop_assert!(longer >= expected);
        }
    }
}
