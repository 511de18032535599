//! One measured kernel: its geometry in any of the fitted forms, and the least time its datasheet allows.

use roofline_core::efficiency::choose::SIZE;
use roofline_core::efficiency::form::Device;
use roofline_core::efficiency::form::collective::CollectiveKernel;
use roofline_core::efficiency::form::decode::DecodeKernel;
use roofline_core::efficiency::form::elementwise::ElementwiseKernel;
use roofline_core::efficiency::form::gemm::GemmKernel;
use roofline_core::efficiency::form::mla::MlaDecodeKernel;
use roofline_core::efficiency::form::moe::MoeKernel;
use roofline_core::efficiency::form::prefill::PrefillKernel;

/// The geometry of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    /// A dense multiplication.
    Gemm(GemmKernel),
    /// Attention of decoding sequences.
    Decode(DecodeKernel),
    /// Attention of prompts.
    Prefill(PrefillKernel),
    /// Absorbed latent attention.
    MlaDecode(MlaDecodeKernel),
    /// Expanded latent attention.
    MlaPrefill(PrefillKernel),
    /// The experts of a layer.
    Moe(MoeKernel),
    /// A pass over tensors.
    Elementwise(ElementwiseKernel),
    /// A collective of the library.
    Nccl(CollectiveKernel),
    /// An engine's own all-reduce.
    CustomAllReduce(CollectiveKernel),
}

/// What a datasheet says a kernel takes at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// Seconds of its multiplications.
    pub compute_s: f64,
    /// Seconds of its bytes, from memory.
    pub memory_s: f64,
    /// Seconds of its bytes, over links.
    pub link_s: f64,
    /// Bytes that a benchmark loop reads again and again: weights or cache.
    pub resident: f64,
}

impl Floor {
    /// The roofline, its memory part left out where a loop reads from the last-level cache.
    pub fn seconds(&self, hot: bool) -> f64 {
        let memory = if hot { 0.0 } else { self.memory_s };
        self.compute_s.max(memory).max(self.link_s)
    }
}

impl Kernel {
    /// Its family, as efficiency files call it.
    pub fn family(&self) -> &'static str {
        match self {
            Kernel::Gemm(_) => "gemm",
            Kernel::Decode(_) => "decode",
            Kernel::Prefill(_) => "prefill",
            Kernel::MlaDecode(_) => "mla_decode",
            Kernel::MlaPrefill(_) => "mla_prefill",
            Kernel::Moe(_) => "moe",
            Kernel::Elementwise(_) => "elementwise",
            Kernel::Nccl(_) => "nccl",
            Kernel::CustomAllReduce(_) => "custom_all_reduce",
        }
    }

    /// The least time on a device.
    pub fn floor(&self, device: &Device) -> Floor {
        let (flops, peak, bytes, resident) = match self {
            Kernel::Gemm(k) => {
                let weights = k.batch * k.weight_bytes * k.n * k.k;
                let bytes = weights + k.batch * (k.input_bytes * k.m * k.k + 2.0 * k.m * k.n);
                (2.0 * k.batch * k.m * k.n * k.k, k.peak, bytes, weights)
            }
            Kernel::Decode(k) => {
                let width = k.key_dim + k.value_dim;
                let cache = k.keys * k.kv_heads * width * k.kv_bytes;
                (2.0 * width * k.heads * k.pairs, device.peak16, cache, cache)
            }
            Kernel::Prefill(k) | Kernel::MlaPrefill(k) => {
                let width = k.key_dim + k.value_dim;
                let cache = k.keys * k.kv_heads * width * k.kv_bytes;
                let bytes = cache + k.tokens * k.heads * width * k.activation_bytes;
                (2.0 * width * k.heads * k.pairs, k.peak, bytes, bytes)
            }
            Kernel::MlaDecode(k) => {
                let cache = k.keys * k.latent * k.kv_bytes;
                (2.0 * k.heads * k.pairs * (k.latent + k.lora), device.peak16, cache, cache)
            }
            Kernel::Moe(k) => {
                let elements = k.matrices * k.hidden * k.inner;
                let weights = k.active * elements * k.weight_bytes;
                (2.0 * k.visits * elements, k.peak, weights, weights)
            }
            Kernel::Elementwise(k) => (0.0, f64::INFINITY, k.bytes, k.bytes),
            Kernel::Nccl(k) | Kernel::CustomAllReduce(k) => {
                let link_s = k.crossing * k.bytes / k.link;
                return Floor { compute_s: 0.0, memory_s: 0.0, link_s, resident: 0.0 };
            }
        };
        Floor { compute_s: flops / peak, memory_s: bytes / device.bandwidth, link_s: 0.0, resident }
    }

    /// Its dimensions by name, as ranges of validity list them, and its size.
    pub fn dimensions(&self) -> Vec<(&'static str, f64)> {
        let mut dimensions = self.sides();
        dimensions.push((SIZE, self.size()));
        dimensions
    }

    /// Its dimensions without its size.
    pub fn sides(&self) -> Vec<(&'static str, f64)> {
        match self {
            Kernel::Gemm(k) => vec![("m", k.m), ("n", k.n), ("k", k.k)],
            Kernel::Decode(k) => {
                vec![
                    ("sequences", k.sequences),
                    ("context", k.longest),
                    ("heads", k.heads),
                    ("kv_heads", k.kv_heads),
                ]
            }
            Kernel::Prefill(k) | Kernel::MlaPrefill(k) => {
                vec![
                    ("tokens", k.tokens),
                    ("context", k.longest),
                    ("heads", k.heads),
                    ("kv_heads", k.kv_heads),
                ]
            }
            Kernel::MlaDecode(k) => {
                vec![("sequences", k.sequences), ("context", k.longest), ("heads", k.heads)]
            }
            Kernel::Moe(k) => {
                vec![("tokens", k.tokens), ("experts", k.experts), ("hidden", k.hidden), ("inner", k.inner)]
            }
            Kernel::Elementwise(k) => vec![("bytes", k.bytes)],
            Kernel::Nccl(k) | Kernel::CustomAllReduce(k) => vec![("bytes", k.bytes), ("ranks", k.ranks)],
        }
    }

    /// How large the problem is: what a split into known and larger problems goes by.
    pub fn size(&self) -> f64 {
        match self {
            Kernel::Gemm(k) => k.batch * k.m * k.n * k.k,
            Kernel::Decode(k) => k.keys,
            Kernel::Prefill(k) | Kernel::MlaPrefill(k) => k.tokens * k.longest,
            Kernel::MlaDecode(k) => k.keys,
            Kernel::Moe(k) => k.tokens * k.hidden * k.inner,
            Kernel::Elementwise(k) => k.bytes,
            Kernel::Nccl(k) | Kernel::CustomAllReduce(k) => k.bytes,
        }
    }
}
