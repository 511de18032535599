//! Operators taken apart and put together: what several techniques do to them alike.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::model::{Attention, Mixer, Model};
use crate::site::{DrawnBy, Lane, Limits, Matrix, Rates, Site};
use crate::work::{Family, Op, Over, Rate, Resident, Touched, Work};

/// Which matrices a technique is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    All,
    Attention,
    Ffn,
    Experts,
}

impl Parts {
    pub(super) const NAMES: [(&'static str, Parts); 4] = [
        ("all", Parts::All),
        ("attention", Parts::Attention),
        ("ffn", Parts::Ffn),
        ("experts", Parts::Experts),
    ];

    /// How they are called; `None` for all of them.
    pub(super) fn name(self) -> Option<&'static str> {
        let name = Parts::NAMES.iter().find(|(_, part)| *part == self).map(|(name, _)| *name);
        name.filter(|_| self != Parts::All)
    }

    /// Whether some matrix is one of both.
    pub(super) fn meets(self, other: Parts) -> bool {
        let is = |part| self == part || other == part;
        self == other || is(Parts::All) || !is(Parts::Attention)
    }

    /// Whether `op` multiplies by one of these matrices: of the layers, routers, indexers and what other techniques added
    /// apart.
    pub(super) fn has(self, op: &Op) -> bool {
        const OTHERS: [&str; 8] =
            ["router", "shared_gate", "indexer", "modulation", "draft.", "medusa", "kv_fill", "exit_head"];
        let of_experts = op.family == Family::MoeGemm && !op.name.starts_with("draft.");
        let others = OTHERS.iter().any(|name| op.name.starts_with(name)) || op.stem().contains('[');
        let dense = op.family == Family::Gemm && in_layers(op) && !others;
        let ffn = ["gate_up_proj", "up_proj", "down_proj"].iter().any(|name| op.stem().ends_with(name));
        let of_ffn = of_experts || (dense && ffn);
        let of_attention = dense && !ffn;
        match self {
            Parts::All => of_ffn || of_attention,
            Parts::Attention => of_attention,
            Parts::Ffn => of_ffn,
            Parts::Experts => of_experts,
        }
    }
}

/// Whether it runs once a layer and not once a model.
pub(super) fn in_layers(op: &Op) -> bool {
    !["embedding", "final_norm", "lm_head", "logits_all_gather", "send_recv"].contains(&op.name.as_str())
}

/// Whether it is softmax attention over the cache (scores, softmax and values apart included).
pub(super) fn is_attention(op: &Op) -> bool {
    op.family == Family::Mla || op.family == Family::Attention || op.name.starts_with("softmax")
}

/// Numbers of weights an occurrence has on this device.
pub(super) fn elements(op: &Op) -> f64 {
    op.work.resident.elements
}

/// Numbers of one expert of a grouped multiplication.
pub(super) fn elements_per_expert(op: &Op) -> f64 {
    op.work.touched.map_or(0.0, |touched| op.work.resident.elements / touched.local.max(1.0))
}

/// Bytes of weights, read and resident, times `bytes`; weights that are brought into another format times `numbers`.
pub(super) fn scale_weights(work: &mut Work, bytes: f64, numbers: f64) {
    work.weight_bytes = work.weight_bytes.times(bytes);
    work.vector_flops.fixed *= numbers;
    if let Some(touched) = &mut work.touched {
        touched.bytes_per_expert *= bytes;
        touched.conversions_per_expert *= numbers;
    }
    work.resident.bytes *= bytes;
}

/// Operations and traffic of tokens times `factor`; weights as they are, but for rows that tokens gather.
pub(super) fn scale_tokens(work: &mut Work, factor: f64) {
    let fixed = work.vector_flops.fixed;
    work.weight_bytes.token *= factor;
    work.flops = work.flops.times(factor);
    work.vector_flops = work.vector_flops.times(factor);
    work.vector_flops.fixed = fixed;
    work.activation_bytes = work.activation_bytes.times(factor);
    work.kv_bytes = work.kv_bytes.times(factor);
    if let Some(transfer) = &mut work.transfer {
        transfer.bytes = transfer.bytes.times(factor);
    }
}

/// Weights that were read once a step, read only if one of the tokens needs them: `needed` is the chance that one does.
pub(super) fn read_if_needed(work: &mut Work, needed: f64) {
    let bytes = std::mem::take(&mut work.weight_bytes.fixed);
    let conversions = std::mem::take(&mut work.vector_flops.fixed);
    match &mut work.touched {
        Some(touched) => touched.missed = 1.0 - (1.0 - touched.missed) * needed,
        None => {
            work.touched = Some(Touched {
                bytes_per_expert: bytes,
                conversions_per_expert: conversions,
                local: 1.0,
                missed: 1.0 - needed,
                ranks: 1.0,
                drawn_by: DrawnBy::Token,
                skew: None,
            });
        }
    }
}

/// The smaller side of the whole of which `matrix` is what lies on one device.
pub(super) fn smaller_side(op: &Op, matrix: Matrix, layout: Layout) -> f64 {
    let by_rows = ["o_proj", "down_proj", "out_proj"].iter().any(|name| op.stem().ends_with(name));
    let Matrix { inputs, outputs } = matrix;
    let tp = layout.tp as f64;
    if by_rows { outputs.min(inputs * tp) } else { inputs.min(outputs * tp) }
}

/// Share of a step's tokens that a device multiplies by `matrix`: ranks that share experts share out the tokens of what all
/// of them hold.
pub(super) fn share_of_tokens(op: &Op, matrix: Matrix) -> f64 {
    op.work.flops.token / (2.0 * matrix.inputs * matrix.outputs)
}

/// The attention whose queries, keys and values `matrix` makes on a device.
pub(super) fn projected_by(model: &Model, matrix: Matrix, layout: Layout) -> Option<&Attention> {
    let tp = layout.tp as f64;
    let columns = |attention: &Attention| {
        let values = if attention.value_is_key { 0.0 } else { attention.value_dim as f64 };
        let own = if attention.shares_kv { 0.0 } else { attention.head_dim as f64 + values };
        let gate = if attention.output_gate { attention.value_dim as f64 } else { 0.0 };
        let (query, kv) = (attention.heads as f64 / tp, (attention.kv_heads as f64 / tp).ceil());
        query * (attention.head_dim as f64 + gate) + kv * own
    };
    model.layers.iter().find_map(|group| match &group.mixer {
        Some(Mixer::Attention(attention)) if columns(attention) == matrix.outputs => Some(attention),
        _ => None,
    })
}

/// Replaces every operator that `wanted` picks by what `by` makes of it, in its place.
pub(super) fn replace(
    ops: &mut Vec<Op>,
    wanted: impl Fn(&Op) -> bool,
    mut by: impl FnMut(Op) -> Result<Vec<Op>>,
) -> Result<()> {
    let mut all = Vec::with_capacity(ops.len());
    for op in ops.drain(..) {
        if wanted(&op) { all.extend(by(op)?) } else { all.push(op) }
    }
    *ops = all;
    Ok(())
}

/// An operator in steps of decoding sequences alone, and in steps that carry a prompt. Weights lie in memory once.
pub(super) fn apart(op: Op) -> (Option<Op>, Option<Op>) {
    match op.over {
        Over::Prefill | Over::WithPrompts => (None, Some(op)),
        Over::Decode | Over::DecodeAlone => (Some(op), None),
        Over::All => {
            let (mut alone, mut prompts) = (op.clone(), op);
            (alone.over, prompts.over) = (Over::DecodeAlone, Over::WithPrompts);
            prompts.work.resident = Resident::default();
            (Some(alone), Some(prompts))
        }
    }
}

/// An operator over decoding sequences, and over prompts, whatever else a step carries. Only for operators that read no
/// weights.
pub(super) fn by_sequence(op: Op) -> (Option<Op>, Option<Op>) {
    let (mut decode, mut prompts) = apart(op);
    if let (Some(decode), Some(prompts)) = (&mut decode, &mut prompts) {
        (decode.over, prompts.over) = (Over::Decode, Over::Prefill);
    }
    (decode, prompts)
}

/// The same, prompts as they are and decoding sequences as `change` makes them.
pub(super) fn decode_beside_prompts(op: Op, change: impl FnOnce(&mut Op)) -> Vec<Op> {
    let (mut decode, prompts) = by_sequence(op);
    if let Some(op) = &mut decode {
        change(op);
    }
    decode.into_iter().chain(prompts).collect()
}

/// An operator beside `op` that does `work` as often.
pub(super) fn beside(op: &Op, name: String, family: Family, work: Work) -> Op {
    let mut new = Op::new(name, family, op.format, work);
    (new.repeat, new.stage_repeat, new.over, new.reach) = (op.repeat, op.stage_repeat, op.over, op.reach);
    new
}

/// The same in `lane`, where `rates` bound it.
pub(super) fn in_lane(mut op: Op, lane: Lane, rates: Rates) -> Op {
    op.site = Site { lane, limits: Limits::Other(rates), ..op.site };
    op
}

/// A link of so many bytes a second: nothing else bounds it.
pub(super) const fn link(bandwidth: f64) -> Rates {
    Rates { flops: f64::INFINITY, vector: f64::INFINITY, bandwidth }
}

/// Bytes a token that an operator of its own would move, where it is not fused into its neighbours.
pub(super) fn unless_fused(lowering: crate::lower::Lowering, bytes: f64) -> Rate {
    let moved = if lowering.fusion == crate::op::elementwise::Fusion::Full { 0.0 } else { bytes };
    Rate::token(moved)
}

/// A figure of a device that must be known.
pub(super) fn known(value: Option<f64>, field: &str, device: &str) -> Result<f64> {
    value.filter(|value| *value > 0.0).ok_or_else(|| {
        let hint = "give it in a hardware file of your own, or as a setting of the technique";
        Error::spec(format!("hardware.{field}"), format!("must be known of `{device}`"), "unknown", hint)
    })
}
