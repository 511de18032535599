//! What mixes tokens: attention, latent attention, state spaces, linear attention.

use super::Builder;
use crate::model::{Attention, LayerGroup, LinearAttention, Mamba, Mixer, Mla, Part, Span};
use crate::op::attention::{self, Heads};
use crate::op::{elementwise, mla, state};
use crate::shape::Reach;
use crate::work::{Family, Op, Over, Work};

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
        let fusion = self.how.fusion;
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
        if attention.qk_norm_parameters > 0 {
            self.elementwise("qk_norm", elementwise::norm(query * key_dim + own_keys, self.bytes, fusion));
        }
        if attention.rope {
            self.elementwise("rope", elementwise::rope(query * key_dim + own_keys, self.bytes, fusion));
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
            self.attend(
                format!("attention{suffix}"),
                Family::Attention,
                attention::fused(heads),
                reach,
                Over::All,
            );
        } else {
            for (name, family, work) in [
                ("qk_matmul", Family::Attention, attention::scores(heads)),
                ("softmax", Family::Elementwise, attention::softmax(heads)),
                ("sv_matmul", Family::Attention, attention::values(heads)),
            ] {
                self.attend(format!("{name}{suffix}"), family, work, reach, Over::All);
            }
        }
        if gate > 0.0 {
            self.elementwise("output_gate", elementwise::activation(gate, true, self.bytes, fusion));
        }
        self.gemm("o_proj", linear, query * value_dim, self.hidden);
    }

    fn attend(&mut self, name: String, family: Family, work: Work, reach: usize, over: Over) {
        let mut op = Op::new(name, family, self.activation, work);
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
        self.elementwise("rope", elementwise::rope(rotated, self.bytes, self.how.fusion));
        let kv_bytes = self.precision.kv.bytes(1.0);
        let expansion = mla::expansion(latent, heads, linear, self.bytes);
        match &latent.indexer {
            None => {
                let absorption = mla::absorption(latent, heads, linear, self.bytes);
                let (expanded, absorbed) = (
                    mla::expanded(latent, heads, self.bytes, kv_bytes),
                    mla::absorbed(latent, heads, self.bytes, kv_bytes),
                );
                self.over("kv_b_proj", Family::Gemm, linear.activation, expansion, Over::Prefill);
                self.attend("mla_prefill".into(), Family::Mla, expanded, 0, Over::Prefill);
                self.over("mla_absorb", Family::Gemm, linear.activation, absorption, Over::Decode);
                self.attend("mla_decode".into(), Family::Mla, absorbed, 0, Over::Decode);
            }
            Some(indexer) => {
                if indexer.own {
                    let projections = self.linear(group, Part::Indexer);
                    let (count, dim) = (indexer.heads as f64, indexer.head_dim as f64);
                    let from = latent.q_lora.map_or(self.hidden, |rank| rank as f64);
                    self.gemm("indexer_q_proj", projections, from, count * dim);
                    self.gemm("indexer_k_proj", projections, self.hidden, dim + count);
                    self.attend("indexer".into(), Family::Mla, mla::index(indexer, self.bytes), 0, Over::All);
                }
                let mut absorption = mla::absorption(latent, heads, linear, self.bytes);
                absorption.resident = expansion.resident;
                self.over("mla_absorb", Family::Gemm, linear.activation, absorption, Over::All);
                let reach = self.reaches.index(Reach { span: Span::TopK(indexer.top_k), causal: true });
                let work = mla::absorbed(latent, heads, self.bytes, kv_bytes);
                self.attend(
                    format!("mla_sparse[top {}]", indexer.top_k),
                    Family::Mla,
                    work,
                    reach,
                    Over::All,
                );
            }
        }
        self.gemm("o_proj", linear, heads * latent.value_dim as f64, self.hidden);
    }

    fn over(&mut self, name: &str, family: Family, format: crate::format::Format, work: Work, over: Over) {
        let mut op = Op::new(name, family, format, work);
        op.over = over;
        self.push(op);
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
        self.push(Op::new("selective_scan", Family::State, self.activation, work));
        self.elementwise("gated_norm", elementwise::activation(inner, true, self.bytes, self.how.fusion));
        self.gemm("out_proj", linear, inner, self.hidden);
    }

    fn linear_attention(&mut self, group: &LayerGroup, attention: &LinearAttention) {
        let linear = self.linear(group, Part::State);
        let output = (attention.value_heads * attention.value_dim) as f64 / self.tp;
        self.gemm("in_proj", linear, self.hidden, attention.input_columns as f64 / self.tp);
        let work = state::linear(attention, self.bytes, self.tp);
        self.push(Op::new("linear_attention", Family::State, self.activation, work));
        self.elementwise("gated_norm", elementwise::activation(output, true, self.bytes, self.how.fusion));
        self.gemm("out_proj", linear, output, self.hidden);
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
