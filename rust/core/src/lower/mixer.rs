//! What mixes tokens: attention, latent attention, state spaces, linear attention.

use super::{Builder, multiplied};
use crate::model::{Attention, LayerGroup, Linear, LinearAttention, Mamba, Mixer, Mla, Part, Span};
use crate::op::attention::{self, Heads};
use crate::op::elementwise::Fusion;
use crate::op::{elementwise, mla, state};
use crate::shape::Reach;
use crate::work::kernel::{self, Kernel};
use crate::work::{Family, Op, Over, Rate, Work};

impl Builder<'_> {
    pub(super) fn mixer(&mut self, group: &LayerGroup, mixer: &Mixer) {
        match mixer {
            Mixer::Attention(attention) => self.attention(group, attention),
            Mixer::Mla(mla) => self.latent(group, mla),
            Mixer::Mamba(mamba) => self.mamba(group, mamba),
            Mixer::Linear(linear) => self.linear_attention(group, linear),
        }
    }

    fn attention(&mut self, group: &LayerGroup, attention: &Attention) {
        let linear = self.linear(group, Part::Attention);
        let query = attention.heads as f64 / self.tp;
        let kv = (attention.kv_heads as f64 / self.tp).ceil();
        let (key_dim, value_dim) = (attention.head_dim as f64, attention.value_dim as f64);
        let gate = if attention.output_gate { query * value_dim } else { 0.0 };
        let own_kv = match (attention.shares_kv, attention.value_is_key) {
            (true, _) => 0.0,
            (false, true) => kv * key_dim,
            (false, false) => kv * (key_dim + value_dim),
        };
        self.gemm("qkv_proj", linear, self.hidden, query * key_dim + gate + own_kv);
        let own_keys = if attention.shares_kv { 0.0 } else { kv * key_dim };
        let (width, bytes) = (query * key_dim + own_keys, self.bytes);
        if attention.qk_norm_parameters > 0 {
            let of = |fusion| elementwise::norm(width, bytes, fusion);
            if attention.rope && self.how.kernels != Fusion::None {
                // Compiled into the kernel of the rotary embedding.
                let op = Op::new("qk_norm", Family::Elementwise, self.activation, of(self.how.fusion));
                self.push(op.run_as(Kernel::Inside));
            } else {
                self.elementwise("qk_norm", of);
            }
        }
        if attention.rope {
            self.elementwise("rope", |fusion| elementwise::rope(width, bytes, fusion));
        }
        let heads = Heads {
            query,
            kv,
            key_dim,
            value_dim,
            activation_bytes: self.bytes,
            kv_bytes: if attention.causal { self.precision.kv.bytes(1.0) } else { self.bytes },
            writes: attention.causal && !attention.shares_kv,
        };
        let suffix = span_suffix(attention.span);
        let reach = self.reaches.index(Reach { span: attention.span, causal: attention.causal });
        if self.how.flash_attention {
            let kernel = Kernel::Attention(kernel::Attention {
                heads: query,
                kv_heads: kv,
                key_dim,
                value_dim,
                activation_bytes: self.bytes,
                kv: if attention.causal { self.precision.kv.format } else { self.activation },
                window: window(attention.span),
                latent: false,
                at_once: 1.0,
            });
            let work = attention::fused(heads);
            self.attend(format!("attention{suffix}"), Family::Attention, work, reach, Over::All, kernel);
        } else {
            for (name, family, work) in [
                ("qk_matmul", Family::Attention, attention::scores(heads)),
                ("softmax", Family::Elementwise, attention::softmax(heads)),
                ("sv_matmul", Family::Attention, attention::values(heads)),
            ] {
                self.attend(format!("{name}{suffix}"), family, work, reach, Over::All, Kernel::Other);
            }
        }
        if gate > 0.0 {
            self.elementwise("output_gate", |fusion| elementwise::activation(gate, true, bytes, fusion));
        }
        self.gemm("o_proj", linear, query * value_dim, self.hidden);
    }

    fn attend(&mut self, name: String, family: Family, work: Work, reach: usize, over: Over, kernel: Kernel) {
        let mut op = Op::new(name, family, self.activation, work).run_as(kernel);
        op.reach = reach;
        op.over = over;
        self.push(op);
    }

    fn latent(&mut self, group: &LayerGroup, latent: &Mla) {
        let linear = self.linear(group, Part::Attention);
        let heads = latent.heads as f64 / self.tp;
        let query = heads * (latent.nope_dim + latent.rope_dim) as f64;
        let compressed = (latent.kv_lora + latent.rope_dim) as f64;
        match latent.q_lora {
            Some(rank) => {
                self.gemm("qkv_a_proj", linear, self.hidden, rank as f64 + compressed);
                self.gemm("q_b_proj", linear, rank as f64, query);
            }
            None => {
                self.gemm("q_proj", linear, self.hidden, query);
                self.gemm("kv_a_proj", linear, self.hidden, compressed);
            }
        }
        let rotated = (heads + 1.0) * latent.rope_dim as f64;
        let bytes = self.bytes;
        self.elementwise("rope", |fusion| elementwise::rope(rotated, bytes, fusion));
        let kv_bytes = self.precision.kv.bytes(1.0);
        let over_latents = Kernel::Absorbed(kernel::Absorbed {
            heads,
            latent: compressed,
            lora: latent.kv_lora as f64,
            window: latent.indexer.as_ref().map_or(window(latent.span), |indexer| indexer.top_k as f64),
            kv: self.precision.kv.format,
            at_once: 1.0,
        });
        let expansion = mla::expansion(latent, heads, linear, self.bytes);
        match &latent.indexer {
            None => {
                let absorption = mla::absorption(latent, heads, linear, self.bytes);
                let (expanded, absorbed) = (
                    mla::expanded(latent, heads, self.bytes, kv_bytes),
                    mla::absorbed(latent, heads, self.bytes, kv_bytes),
                );
                let outputs = (latent.nope_dim + latent.value_dim) as f64 * heads;
                let keys = Rate { key: 1.0, ..Rate::ZERO };
                let expand = multiplied(keys, latent.kv_lora as f64, outputs, linear);
                let expanded_heads = Kernel::Attention(kernel::Attention {
                    heads,
                    kv_heads: heads,
                    key_dim: (latent.nope_dim + latent.rope_dim) as f64,
                    value_dim: latent.value_dim as f64,
                    activation_bytes: self.bytes,
                    kv: self.activation,
                    window: window(latent.span),
                    latent: true,
                    at_once: 1.0,
                });
                let reach = self.reaches.index(Reach { span: latent.span, causal: true });
                let suffix = span_suffix(latent.span);
                let mut op = Op::new("kv_b_proj", Family::Gemm, linear.activation, expansion).run_as(expand);
                (op.over, op.reach) = (Over::Prefill, reach);
                self.push(op);
                let name = format!("mla_prefill{suffix}");
                self.attend(name, Family::Mla, expanded, reach, Over::Prefill, expanded_heads);
                let absorb = self.absorbing(latent, heads, linear);
                self.over("mla_absorb", linear, absorption, Over::Decode, absorb);
                let name = format!("mla_decode{suffix}");
                self.attend(name, Family::Mla, absorbed, reach, Over::Decode, over_latents);
            }
            Some(indexer) => {
                if indexer.own {
                    let projections = self.linear(group, Part::Indexer);
                    let (count, dim) = (indexer.heads as f64, indexer.head_dim as f64);
                    let from = latent.q_lora.map_or(self.hidden, |rank| rank as f64);
                    self.gemm("indexer_q_proj", projections, from, count * dim);
                    self.gemm("indexer_k_proj", projections, self.hidden, dim + count);
                    let work = mla::index(indexer, self.bytes);
                    self.attend("indexer".into(), Family::Mla, work, 0, Over::All, Kernel::Other);
                }
                let mut absorption = mla::absorption(latent, heads, linear, self.bytes);
                absorption.resident = expansion.resident;
                let absorb = self.absorbing(latent, heads, linear);
                self.over("mla_absorb", linear, absorption, Over::All, absorb);
                let reach = self.reaches.index(Reach { span: Span::TopK(indexer.top_k), causal: true });
                let work = mla::absorbed(latent, heads, self.bytes, kv_bytes);
                let name = format!("mla_sparse[top {}]", indexer.top_k);
                self.attend(name, Family::Mla, work, reach, Over::All, over_latents);
            }
        }
        self.gemm("o_proj", linear, heads * latent.value_dim as f64, self.hidden);
    }

    fn over(&mut self, name: &str, linear: Linear, work: Work, over: Over, kernel: Kernel) {
        let mut op = Op::new(name, Family::Gemm, linear.activation, work).run_as(kernel);
        op.over = over;
        self.push(op);
    }

    /// The products of every head with its parts of W_UK and W_UV.
    fn absorbing(&self, latent: &Mla, heads: f64, linear: Linear) -> Kernel {
        Kernel::Gemm(kernel::Gemm {
            rows: Rate::token(1.0),
            inputs: latent.kv_lora as f64,
            outputs: heads * (latent.nope_dim + latent.value_dim) as f64,
            heads,
            weight: linear.weight,
            input: linear.activation,
        })
    }

    fn mamba(&mut self, group: &LayerGroup, mamba: &Mamba) {
        let linear = self.linear(group, Part::State);
        let inner = mamba.inner as f64 / self.tp;
        let state = mamba.state as f64;
        if mamba.version == 1 {
            self.gemm("in_proj", linear, self.hidden, 2.0 * inner);
            let selection = mamba.dt_rank as f64 + 2.0 * state;
            self.gemm("x_proj", linear, inner, selection);
            self.reduce("x_all_reduce", selection);
            self.gemm("dt_proj", linear, mamba.dt_rank as f64, inner);
        } else {
            let shared = state::shared_channels(mamba, self.tp) + mamba.heads as f64 / self.tp;
            self.gemm("in_proj", linear, self.hidden, 2.0 * inner + shared);
        }
        let work = state::mamba(mamba, self.bytes, self.tp);
        self.push(Op::new("selective_scan", Family::State, self.activation, work).run_as(Kernel::State));
        let bytes = self.bytes;
        self.elementwise("gated_norm", |fusion| elementwise::activation(inner, true, bytes, fusion));
        self.gemm("out_proj", linear, inner, self.hidden);
    }

    fn linear_attention(&mut self, group: &LayerGroup, attention: &LinearAttention) {
        let linear = self.linear(group, Part::State);
        let output = (attention.value_heads * attention.value_dim) as f64 / self.tp;
        self.gemm("in_proj", linear, self.hidden, attention.input_columns as f64 / self.tp);
        let work = state::linear(attention, self.bytes, self.tp);
        self.push(Op::new("linear_attention", Family::State, self.activation, work).run_as(Kernel::State));
        let bytes = self.bytes;
        self.elementwise("gated_norm", |fusion| elementwise::activation(output, true, bytes, fusion));
        self.gemm("out_proj", linear, output, self.hidden);
    }
}

/// Most keys a query of that span sees.
fn window(span: Span) -> f64 {
    match span {
        Span::Full => f64::INFINITY,
        Span::Window(keys) | Span::Chunk(keys) | Span::TopK(keys) => keys as f64,
    }
}

fn span_suffix(span: Span) -> String {
    match span {
        Span::Full => String::new(),
        Span::Window(w) => format!("[window {w}]"),
        Span::Chunk(c) => format!("[chunk {c}]"),
        Span::TopK(k) => format!("[top {k}]"),
    }
}
