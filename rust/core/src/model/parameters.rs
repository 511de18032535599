//! Counts every tensor of a model exactly, by part of a layer.

use super::{Attention, Ffn, LayerGroup, LinearAttention, Mamba, Mixer, Mla, Model, Moe, Part};
use crate::format::Format;

impl Model {
    /// Every parameter of the decoder: layers, embedding, head, norms; vision tower and MTP layers apart.
    pub fn parameters(&self) -> u64 {
        self.outside_layers()
            + self.layers.iter().map(|group| group.count * layer_total(group, self.hidden)).sum::<u64>()
    }

    /// The parameters a token meets: all but the routed experts it does not visit.
    pub fn active_parameters(&self) -> u64 {
        let idle: u64 =
            self.layers.iter().map(|group| group.count * idle_parameters(group, self.hidden)).sum();
        self.parameters() - idle
    }

    /// Every parameter of the vision tower; 0 where there is none.
    pub fn vision_parameters(&self) -> u64 {
        self.vision.as_ref().map_or(0, |tower| {
            let layers = tower.layers.iter().map(|group| group.count * layer_total(group, tower.hidden));
            layers.sum::<u64>() + tower.other_parameters
        })
    }

    /// Parameters of the embedding.
    pub fn embedding_parameters(&self) -> u64 {
        self.vocab * self.embedding_width
    }

    /// Parameters of a head that is stored (none where it is the embedding).
    pub fn head_parameters(&self) -> u64 {
        let matrix = if self.head && !self.tied_embeddings { self.vocab * self.embedding_width } else { 0 };
        matrix + if self.head && self.head_bias { self.vocab } else { 0 }
    }

    /// Bytes of every weight as the checkpoint stores it, scales included: the decoder, and the vision tower where
    /// there is one; embedding, head and norms in the model's own format.
    pub fn weight_bytes(&self) -> f64 {
        let layers = |groups: &[LayerGroup], hidden: u64| {
            groups
                .iter()
                .map(|group| group.count as f64 * layer_bytes(group, hidden, self.dtype))
                .sum::<f64>()
        };
        let tower = self.vision.as_ref().map_or(0.0, |tower| {
            layers(&tower.layers, tower.hidden) + tower.other_parameters as f64 * self.dtype.bytes()
        });
        layers(&self.layers, self.hidden) + self.outside_layers() as f64 * self.dtype.bytes() + tower
    }

    fn outside_layers(&self) -> u64 {
        self.embedding_parameters() + self.head_parameters() + self.other_parameters
    }
}

/// Parameters of one layer of the group, all parts and norms.
pub fn layer_total(group: &LayerGroup, hidden: u64) -> u64 {
    group.norm_parameters + Part::ALL.iter().map(|part| layer_parameters(group, hidden, *part)).sum::<u64>()
}

/// Bytes of one layer of the group as it is stored, scales included; norms in `dtype`.
pub fn layer_bytes(group: &LayerGroup, hidden: u64, dtype: Format) -> f64 {
    let part = |part: &Part| {
        let parameters = layer_parameters(group, hidden, *part) as f64;
        group.quant.of(*part).weight.bytes(parameters)
    };
    group.norm_parameters as f64 * dtype.bytes() + Part::ALL.iter().map(part).sum::<f64>()
}

/// Parameters of `part` in one layer of the group; 0 where it has no such part. Norms of the layer are in no part.
pub fn layer_parameters(group: &LayerGroup, hidden: u64, part: Part) -> u64 {
    match (part, &group.mixer, &group.ffn) {
        (Part::Attention, Some(Mixer::Attention(attention)), _) => attention_parameters(attention, hidden),
        (Part::Attention, Some(Mixer::Mla(mla)), _) => mla_parameters(mla, hidden),
        (Part::Indexer, Some(Mixer::Mla(mla)), _) => indexer_parameters(mla, hidden),
        (Part::State, Some(Mixer::Mamba(mamba)), _) => mamba_parameters(mamba, hidden),
        (Part::State, Some(Mixer::Linear(linear)), _) => linear_parameters(linear, hidden),
        (Part::Dense, _, Some(Ffn::Dense(dense))) => {
            network_parameters(hidden, dense.intermediate, dense.gated, dense.bias)
        }
        (Part::Dense, _, Some(Ffn::Moe(moe))) => {
            network_parameters(hidden, moe.dense_intermediate, moe.gated, false)
        }
        (Part::Experts, _, Some(Ffn::Moe(moe))) => moe.experts * expert_parameters(moe, hidden),
        (Part::Shared, _, Some(Ffn::Moe(moe))) => shared_parameters(moe, hidden),
        (Part::Router, _, Some(Ffn::Moe(moe))) => hidden * moe.experts + moe.router_other_parameters,
        _ => 0,
    }
}

impl Part {
    /// Every part, in the order a layer runs them.
    pub const ALL: [Part; 7] =
        [Part::Attention, Part::State, Part::Indexer, Part::Dense, Part::Router, Part::Experts, Part::Shared];
}

/// Parameters of one routed expert.
pub fn expert_parameters(moe: &Moe, hidden: u64) -> u64 {
    network_parameters(moe.latent.unwrap_or(hidden), moe.intermediate, moe.gated, moe.bias)
}

/// Parameters of the routed experts of one layer that a token does not visit.
fn idle_parameters(group: &LayerGroup, hidden: u64) -> u64 {
    match &group.ffn {
        Some(Ffn::Moe(moe)) => (moe.experts - moe.top_k.min(moe.experts)) * expert_parameters(moe, hidden),
        _ => 0,
    }
}

fn attention_parameters(attention: &Attention, hidden: u64) -> u64 {
    let Attention { heads, kv_heads, head_dim, value_dim, .. } = *attention;
    let queries = heads * head_dim + if attention.output_gate { heads * value_dim } else { 0 };
    let values = if attention.value_is_key { 0 } else { kv_heads * value_dim };
    let columns = queries + if attention.shares_kv { 0 } else { kv_heads * head_dim + values };
    let rows = hidden + u64::from(attention.qkv_bias);
    let output = (heads * value_dim + u64::from(attention.output_bias)) * hidden;
    columns * rows + output + attention.qk_norm_parameters + attention.other_parameters
}

fn mla_parameters(mla: &Mla, hidden: u64) -> u64 {
    let query_columns = mla.heads * (mla.nope_dim + mla.rope_dim);
    let bias = |width: u64| if mla.bias { width } else { 0 };
    let queries = match mla.q_lora {
        Some(rank) => hidden * rank + bias(rank) + rank + rank * query_columns,
        None => hidden * query_columns,
    };
    let latent = hidden * (mla.kv_lora + mla.rope_dim) + bias(mla.kv_lora + mla.rope_dim) + mla.kv_lora;
    let expansion = mla.kv_lora * mla.heads * (mla.nope_dim + mla.value_dim);
    queries + latent + expansion + mla.heads * mla.value_dim * hidden + bias(hidden)
}

/// Queries from the compressed query, one key of `head_dim` with a layer norm, and a weight a head.
fn indexer_parameters(mla: &Mla, hidden: u64) -> u64 {
    match &mla.indexer {
        Some(indexer) if indexer.own => {
            let queries = mla.q_lora.unwrap_or(hidden) * indexer.heads * indexer.head_dim;
            queries + hidden * indexer.head_dim + 2 * indexer.head_dim + hidden * indexer.heads
        }
        _ => 0,
    }
}

fn mamba_parameters(mamba: &Mamba, hidden: u64) -> u64 {
    let Mamba { inner, state, heads, groups, conv, dt_rank, .. } = *mamba;
    let bias = |width: u64| if mamba.proj_bias { width } else { 0 };
    let (input, convolved, time_step) = match mamba.version {
        1 => (
            2 * inner,
            inner,
            inner * (dt_rank + 2 * state) + dt_rank * inner + inner + inner * state + inner,
        ),
        _ => (2 * inner + 2 * groups * state + heads, inner + 2 * groups * state, 3 * heads),
    };
    let convolution = convolved * (conv + u64::from(mamba.conv_bias));
    hidden * input
        + bias(input)
        + convolution
        + time_step
        + mamba.norm_parameters
        + inner * hidden
        + bias(hidden)
}

fn linear_parameters(linear: &LinearAttention, hidden: u64) -> u64 {
    hidden * linear.input_columns + linear.other_parameters + linear.value_heads * linear.value_dim * hidden
}

fn network_parameters(width: u64, intermediate: u64, gated: bool, bias: bool) -> u64 {
    let up = if gated { 2 } else { 1 };
    let biases = if bias { up * intermediate + width } else { 0 };
    if intermediate == 0 { 0 } else { (up + 1) * width * intermediate + biases }
}

/// Shared experts with their gate, and the projections into and out of a latent width.
fn shared_parameters(moe: &Moe, hidden: u64) -> u64 {
    let gate = if moe.shared_gate { hidden } else { 0 };
    let latent = moe.latent.map_or(0, |latent| 2 * hidden * latent);
    network_parameters(hidden, moe.shared_intermediate, moe.gated, false) + gate + latent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hf::model_from_json;

    const SMALL: &str = r#""model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "num_local_experts": 4"#;

    fn small(extra: &str) -> Model {
        model_from_json("small", &format!("{{{SMALL}, {extra}}}")).unwrap()
    }

    #[test]
    fn a_small_model_counts_as_by_hand() {
        let model = small(r#""num_experts_per_tok": 1"#);
        let attention = 64 * 64 + 2 * 64 * 16 + 64 * 64;
        let expert = 3 * 64 * 96;
        let layer = attention + 4 * expert + 64 * 4 + 2 * 64;
        assert_eq!(model.parameters(), 3 * layer + 2 * 64_000 + 64);
        assert_eq!(model.active_parameters(), model.parameters() - 3 * 3 * expert);
    }

    #[test]
    fn the_parts_of_a_layer_and_its_norms_are_all_of_it() {
        let model = small(r#""num_experts_per_tok": 2"#);
        let group = &model.layers[0];
        let parts: u64 = Part::ALL.iter().map(|part| layer_parameters(group, model.hidden, *part)).sum();
        assert_eq!(parts + group.norm_parameters, layer_total(group, model.hidden));
        assert_eq!(layer_parameters(group, model.hidden, Part::State), 0);
    }

    #[test]
    fn a_token_that_visits_every_expert_meets_every_parameter() {
        let model = small(r#""num_experts_per_tok": 4"#);
        assert_eq!(model.active_parameters(), model.parameters());
    }

    #[test]
    fn a_tied_head_is_stored_once() {
        let apart = small(r#""num_experts_per_tok": 1"#);
        let tied = small(r#""num_experts_per_tok": 1, "tie_word_embeddings": true"#);
        assert_eq!(apart.parameters() - tied.parameters(), 64_000);
        assert_eq!((tied.head_parameters(), tied.embedding_parameters()), (0, 64_000));
    }

    #[test]
    fn unquantized_weights_take_two_bytes_a_parameter_and_quantized_ones_bits_and_scales() {
        let plain = small(r#""num_experts_per_tok": 1"#);
        assert_eq!(plain.weight_bytes(), 2.0 * plain.parameters() as f64);
        let awq = small(
            r#""num_experts_per_tok": 1, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}"#,
        );
        let routers_norms_and_ends = 3 * (64 * 4 + 2 * 64) + 2 * 64_000 + 64;
        let matrices = awq.parameters() - routers_norms_and_ends;
        let bytes = matrices as f64 * (4.0 + 20.0 / 64.0) / 8.0 + 2.0 * routers_norms_and_ends as f64;
        assert!((awq.weight_bytes() - bytes).abs() < 1e-6, "{} {bytes}", awq.weight_bytes());
    }
}
