//! One operator under the tool's roofline, and sums of operators.

use super::hardware::ViewerHardware;
use crate::error::{Error, Result};

/// What an operator does and moves: operations (a multiply-add is two) and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Traffic {
    pub ops: f64,
    pub load_weight: f64,
    pub load_act: f64,
    pub store_act: f64,
    pub load_kv_cache: f64,
    pub store_kv_cache: f64,
}

/// One operator of one layer, with the tool's fields.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(non_snake_case, reason = "`OPs` is the tool's name")]
pub struct OpRow {
    /// The tool's name (`q_proj`).
    pub op: &'static str,
    /// Operations; a multiply-add is two.
    pub OPs: f64,
    /// All bytes moved.
    pub memory_access: f64,
    /// Operations a byte.
    pub arithmetic_intensity: f64,
    /// OP/s under the roof.
    pub performance: f64,
    /// `memory` or `compute`; on the ridge itself it is `compute`.
    pub bound: &'static str,
    /// Bytes of weights read.
    pub load_weight: f64,
    /// Bytes of activations read.
    pub load_act: f64,
    /// Bytes of activations written.
    pub store_act: f64,
    /// Bytes of KV cache read.
    pub load_kv_cache: f64,
    /// Bytes of KV cache written.
    pub store_kv_cache: f64,
    /// Seconds.
    pub inference_time: f64,
}

impl OpRow {
    /// Sets the operator against bandwidth and `peak`.
    ///
    /// # Errors
    /// [`Error::Spec`] with the tool's `ZeroDivisionError` where an operator moves nothing or does nothing.
    pub(super) fn new(
        op: &'static str,
        traffic: Traffic,
        hardware: &ViewerHardware,
        peak: f64,
    ) -> Result<OpRow> {
        let Traffic { ops, load_weight, load_act, store_act, load_kv_cache, store_kv_cache } = traffic;
        let memory_access = load_weight + load_act + store_act + load_kv_cache + store_kv_cache;
        if memory_access == 0.0 || ops == 0.0 {
            let what = if ops == 0.0 { "0 operations" } else { "0 bytes" };
            return Err(Error::spec(
                op,
                "must do operations and move bytes (ZeroDivisionError: float division by zero)",
                what,
                "give every width at least 1 bit and every head at least one element",
            ));
        }
        let arithmetic_intensity = ops / memory_access;
        let memory_bound = arithmetic_intensity < peak / hardware.bandwidth;
        let performance = if memory_bound { arithmetic_intensity * hardware.bandwidth } else { peak };
        Ok(OpRow {
            op,
            OPs: ops,
            memory_access,
            arithmetic_intensity,
            performance,
            bound: if memory_bound { "memory" } else { "compute" },
            load_weight,
            load_act,
            store_act,
            load_kv_cache,
            store_kv_cache,
            inference_time: ops / performance,
        })
    }
}

/// What the tool reports for a whole phase: all layers and the head.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[allow(non_snake_case, reason = "`OPs` is the tool's name")]
pub struct Totals {
    /// Operations.
    pub OPs: f64,
    /// All bytes moved.
    pub memory_access: f64,
    /// Bytes of weights read, the head's included.
    pub load_weight: f64,
    /// Bytes of activations read.
    pub load_act: f64,
    /// Bytes of activations written.
    pub store_act: f64,
    /// Bytes of KV cache read.
    pub load_kv_cache: f64,
    /// Bytes of KV cache written.
    pub store_kv_cache: f64,
    /// Seconds.
    pub inference_time: f64,
    /// Bytes held: weights of the layers (neither embedding nor head), KV cache, activations of one layer.
    pub memory_consumption: f64,
    /// Bytes every operator of one layer writes, as if all were held at once.
    pub memory_consumption_tmp_act: f64,
    /// Bytes of the layers' weights.
    pub memory_consumption_weight: f64,
    /// Bytes of KV cache for the whole sequence.
    pub memory_consumption_kv_cache: f64,
}

impl Totals {
    /// Adds a row `times` over.
    pub(super) fn add(&mut self, row: &OpRow, times: f64) {
        self.OPs += row.OPs * times;
        self.memory_access += row.memory_access * times;
        self.load_weight += row.load_weight * times;
        self.load_act += row.load_act * times;
        self.store_act += row.store_act * times;
        self.load_kv_cache += row.load_kv_cache * times;
        self.store_kv_cache += row.store_kv_cache * times;
        self.inference_time += row.inference_time * times;
    }

    /// Fills in what is held in memory.
    pub(super) fn set_memory(&mut self, weight: f64, kv_cache: f64, tmp_act: f64) {
        self.memory_consumption = tmp_act + weight + kv_cache;
        self.memory_consumption_tmp_act = tmp_act;
        self.memory_consumption_weight = weight;
        self.memory_consumption_kv_cache = kv_cache;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm_viewer::Version;

    fn a100() -> ViewerHardware {
        ViewerHardware::find(Version::Main1893e4b, "nvidia_A100").unwrap()
    }

    #[test]
    fn an_operator_on_the_ridge_is_compute_bound() {
        let hardware = ViewerHardware { bandwidth: 1e12, ..a100() };
        let traffic = |ops| Traffic { ops, load_act: 1.0, ..Traffic::default() };
        let bound = |ops| OpRow::new("q_proj", traffic(ops), &hardware, 64e12).unwrap().bound;
        assert_eq!((bound(63.0), bound(64.0)), ("memory", "compute"));
    }

    #[test]
    fn an_operator_without_bytes_or_operations_is_the_tools_zero_division() {
        let refusal = |traffic| OpRow::new("softmax", traffic, &a100(), 1e12).unwrap_err().to_string();
        assert_eq!(
            refusal(Traffic { ops: 1.0, ..Traffic::default() }),
            "softmax must do operations and move bytes (ZeroDivisionError: float division by zero): 0 bytes"
        );
        let idle = refusal(Traffic { load_act: 1.0, ..Traffic::default() });
        assert!(idle.ends_with("(ZeroDivisionError: float division by zero): 0 operations"), "{idle}");
    }
}
