//! The tool's formulas for one layer and the head, in prefill or decode.

use super::hardware::ViewerHardware;
use super::model::{Family, Linear, Sizes};
use super::row::{OpRow, Totals, Traffic};
use super::{Inputs, Version};
use crate::error::{Error, Result};

/// Everything a phase is computed from, checked once.
pub(super) struct Case {
    pub version: Version,
    pub sizes: Sizes,
    pub hardware: ViewerHardware,
    pub inputs: Inputs,
    linears: Vec<Linear>,
    peak: f64,
}

/// The two phases the tool tells apart, by name: a prompt of one token is not priced like a decode step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// One new token a sequence.
    Decode,
    /// The whole prompt.
    Prefill,
}

/// The rows of one layer, with the head last where there is one, and their sum over all layers.
pub(super) struct Phase {
    pub rows: Vec<OpRow>,
    pub totals: Totals,
    /// Bytes the operators of one layer write, the head apart.
    pub tmp_act: f64,
    /// The sums before the head is added.
    pub layers: Totals,
}

impl Case {
    /// Checks in the tool's order: lengths, tensor parallelism, hardware.
    ///
    /// # Errors
    /// [`Error::Spec`] with the tool's assertion, [`Error::UnknownName`] for hardware.
    pub(super) fn new(version: Version, sizes: Sizes, hardware: &str, inputs: Inputs) -> Result<Case> {
        for (field, value) in [("seqlen", inputs.seqlen), ("batchsize", inputs.batchsize)] {
            if value == 0 {
                let must = format!("must be at least 1 (AssertionError: {field} > 0)");
                return Err(Error::spec(field, must, value, ""));
            }
        }
        let linears = sizes.linears(version, &inputs)?;
        let hardware = ViewerHardware::find(version, hardware)?;
        let peak = hardware.peak(version, inputs.w_bit.max(inputs.a_bit).max(inputs.kv_bit))?;
        Ok(Case { version, sizes, hardware, inputs, linears, peak })
    }

    /// One step on a cache of `seqlen` tokens, the new ones included in prefill.
    ///
    /// # Errors
    /// [`Error::Spec`] with the tool's `ZeroDivisionError` where an operator comes out empty.
    pub(super) fn phase(&self, stage: Stage, seqlen: f64) -> Result<Phase> {
        let queries = match stage {
            Stage::Decode => 1.0,
            Stage::Prefill => seqlen,
        };
        let mut rows = Vec::with_capacity(16);
        let row = |op, traffic| OpRow::new(op, traffic, &self.hardware, self.peak);
        for layer in &self.linears {
            rows.push(row(layer.name, self.linear(layer, queries))?);
        }
        if self.inputs.use_flashattention {
            rows.push(row("fused_attention", self.fused_attention(queries, seqlen)?)?);
        } else {
            for (op, traffic) in self.attention(stage, queries, seqlen) {
                rows.push(row(op, traffic)?);
            }
        }
        for (op, traffic) in self.elementwise(queries) {
            rows.push(row(op, traffic)?);
        }

        let mut layers = Totals::default();
        for row in &rows {
            layers.add(row, self.sizes.layers as f64);
        }
        let tmp_act = rows.iter().map(|row| row.store_act).sum();
        let mut totals = layers;
        if self.sizes.family != Family::Dit {
            let head = row("lm_head", self.head())?;
            totals.add(&head, 1.0);
            rows.push(head);
        }
        Ok(Phase { rows, totals, tmp_act, layers })
    }

    fn batch(&self) -> f64 {
        f64::from(self.inputs.batchsize)
    }

    fn w_byte(&self) -> f64 {
        f64::from(self.inputs.w_bit) / 8.0
    }

    fn a_byte(&self) -> f64 {
        f64::from(self.inputs.a_bit) / 8.0
    }

    fn kv_byte(&self) -> f64 {
        f64::from(self.inputs.kv_bit) / 8.0
    }

    /// A matrix product; the KV projections write to the cache instead of to activations.
    fn linear(&self, layer: &Linear, queries: f64) -> Traffic {
        let tokens = self.batch() * queries;
        let is_kv = matches!(layer.name, "k_proj" | "v_proj");
        let output = layer.outputs * tokens;
        Traffic {
            ops: layer.inputs * layer.outputs * tokens * 2.0,
            load_weight: layer.inputs * layer.outputs * self.w_byte(),
            load_act: layer.inputs * tokens * self.a_byte(),
            store_act: if is_kv { 0.0 } else { output * self.a_byte() },
            store_kv_cache: if is_kv { output * self.kv_byte() } else { 0.0 },
            ..Traffic::default()
        }
    }

    /// Query-key products; the value products cost the same, and neither knows a causal mask.
    fn matmul_ops(&self, queries: f64, seqlen: f64) -> f64 {
        queries * seqlen * self.sizes.head_size() as f64 * self.sizes.heads as f64 * self.batch() * 2.0
    }

    /// Maximum, difference, exponential, sum and quotient of every score.
    fn softmax_ops(&self, queries: f64, seqlen: f64) -> f64 {
        self.scores(queries, seqlen) * 5.0
    }

    fn scores(&self, queries: f64, seqlen: f64) -> f64 {
        self.batch() * self.sizes.heads as f64 * queries * seqlen
    }

    /// Elements of all query heads.
    fn query_elements(&self, queries: f64) -> f64 {
        queries * self.sizes.head_size() as f64 * self.batch() * self.sizes.heads as f64
    }

    /// Scores, their softmax and the sums over values as three operators.
    ///
    /// In prefill the tool reads the queries of as many heads as the *cache* has.
    fn attention(&self, stage: Stage, queries: f64, seqlen: f64) -> [(&'static str, Traffic); 3] {
        let scores = self.scores(queries, seqlen) * self.a_byte();
        let output = self.query_elements(queries) * self.a_byte();
        let query = match stage {
            Stage::Decode => output,
            Stage::Prefill => output / self.sizes.heads as f64 * self.sizes.kv_heads as f64,
        };
        let kv_elements = seqlen * self.sizes.head_size() as f64 * self.batch() * self.sizes.kv_heads as f64;
        let product = Traffic {
            ops: self.matmul_ops(queries, seqlen),
            load_kv_cache: kv_elements * self.kv_byte(),
            ..Traffic::default()
        };
        let softmax = Traffic {
            ops: self.softmax_ops(queries, seqlen),
            load_act: scores,
            store_act: scores,
            ..Traffic::default()
        };
        [
            ("qk_matmul", Traffic { load_act: query, store_act: scores, ..product }),
            ("sv_matmul", Traffic { load_act: scores, store_act: output, ..product }),
            ("softmax", softmax),
        ]
    }

    /// FlashAttention-2 as the tool has it: the output is written twice, and has one column for each *cached
    /// token* (the proposal corrects that to one for each element of a head).
    ///
    /// # Errors
    /// [`Error::Spec`] with the tool's `ZeroDivisionError` for KV of zero bits or heads of zero elements.
    fn fused_attention(&self, queries: f64, seqlen: f64) -> Result<Traffic> {
        let head_size = self.sizes.head_size() as f64;
        let kv_row = self.kv_byte() * head_size;
        if kv_row == 0.0 {
            return Err(Error::spec(
                "kv_bit",
                "must give a head's row of KV at least one byte (ZeroDivisionError: float division by zero)",
                self.inputs.kv_bit,
                "",
            ));
        }
        let block_rows = (self.hardware.onchip_buffer / kv_row).ceil().min(head_size);
        let blocks = (queries / block_rows).ceil();
        let output = match self.version {
            Version::Pr27Df2cba9 => self.query_elements(queries),
            _ => self.scores(queries, seqlen),
        };
        let kv_readers = match self.version {
            Version::Main472f71f => self.sizes.heads,
            _ => self.sizes.kv_heads,
        };
        Ok(Traffic {
            ops: 2.0 * self.matmul_ops(queries, seqlen) + self.softmax_ops(queries, seqlen),
            load_act: self.query_elements(queries) * self.a_byte(),
            store_act: output * self.a_byte() * 2.0,
            load_kv_cache: blocks
                * seqlen
                * head_size
                * self.batch()
                * kv_readers as f64
                * self.kv_byte()
                * 2.0,
            ..Traffic::default()
        })
    }

    /// Norms, residual additions and the activation, each over the hidden size.
    fn elementwise(&self, queries: f64) -> Vec<(&'static str, Traffic)> {
        let elements = self.batch() * self.sizes.hidden as f64 * queries;
        let bytes = elements * self.a_byte();
        let simple = |ops_per_element: f64| Traffic {
            ops: elements * ops_per_element,
            load_act: bytes,
            store_act: bytes,
            ..Traffic::default()
        };
        let mut traffic: Vec<_> = self.sizes.norms().iter().map(|&name| (name, simple(7.0))).collect();
        traffic.push(("attn_add", simple(1.0)));
        traffic.push(("mlp_add", simple(1.0)));
        traffic.push(("mlp_act", Traffic { load_act: bytes * 2.0, ..simple(2.0) }));
        traffic
    }

    /// The head, with one operation a multiply-add, and activations of one sequence whatever the batch.
    fn head(&self) -> Traffic {
        let (hidden, vocabulary) = (self.sizes.hidden as f64, self.sizes.vocabulary as f64);
        Traffic {
            ops: self.batch() * hidden * vocabulary,
            load_weight: hidden * vocabulary * self.w_byte(),
            load_act: hidden * self.a_byte(),
            store_act: vocabulary * self.a_byte(),
            ..Traffic::default()
        }
    }
}
