//! The dimensions of measured kernels: columns under every name, and what follows from them.

use super::frame::Frame;

/// Columns of numbers, looked up once.
#[derive(Debug, Default)]
pub struct Columns<'a> {
    /// Rows of a multiplication, or tokens.
    pub m: Option<&'a [f64]>,
    /// Outputs.
    pub n: Option<&'a [f64]>,
    /// Inputs.
    pub k: Option<&'a [f64]>,
    /// Sequences.
    pub batch: Option<&'a [f64]>,
    /// New tokens of a sequence.
    pub q_len: Option<&'a [f64]>,
    /// Keys of a sequence.
    pub kv_len: Option<&'a [f64]>,
    /// Query heads.
    pub heads: Option<&'a [f64]>,
    /// KV heads.
    pub kv_heads: Option<&'a [f64]>,
    /// Width of a head.
    pub head_dim: Option<&'a [f64]>,
    /// Keys a query sees at most.
    pub window: Option<&'a [f64]>,
    /// Width the experts read and write.
    pub hidden: Option<&'a [f64]>,
    /// Inner width of an expert.
    pub inner: Option<&'a [f64]>,
    /// Experts a token visits.
    pub top_k: Option<&'a [f64]>,
    /// Experts.
    pub experts: Option<&'a [f64]>,
    /// Devices an expert is cut over.
    pub moe_tp: Option<&'a [f64]>,
    /// Devices the experts are spread over.
    pub moe_ep: Option<&'a [f64]>,
    /// Devices that exchange.
    pub ranks: Option<&'a [f64]>,
    /// Bytes of the whole buffer.
    pub bytes: Option<&'a [f64]>,
    /// Copies of weights or caches that a benchmark's loop goes over.
    pub copies: Option<&'a [f64]>,
}

impl<'a> Columns<'a> {
    /// Looks every column up.
    pub fn of(frame: &'a Frame) -> Columns<'a> {
        let find = |names: &[&str]| frame.number(names);
        Columns {
            m: find(&["m", "M", "tokens", "num_tokens"]),
            n: find(&["n", "N"]),
            k: find(&["k", "K"]),
            batch: find(&["batch", "batch_size", "sequences"]),
            q_len: find(&["q_len", "chunk", "isl"]),
            kv_len: find(&["kv_len", "kv", "context"]),
            heads: find(&["heads", "q_heads", "num_heads"]),
            kv_heads: find(&["kv_heads", "num_kv_heads"]),
            head_dim: find(&["head_dim"]),
            window: find(&["window"]),
            hidden: find(&["hidden", "hidden_size"]),
            inner: find(&["inter", "inner", "intermediate_size"]),
            top_k: find(&["topk", "top_k"]),
            experts: find(&["experts", "num_experts"]),
            moe_tp: find(&["moe_tp"]),
            moe_ep: find(&["moe_ep"]),
            ranks: find(&["num_gpus", "world", "ranks"]),
            bytes: find(&["message_bytes", "bytes"]),
            copies: find(&["copies"]),
        }
    }
}

/// The number of a row, if it is one.
pub fn at(column: Option<&[f64]>, row: usize) -> Option<f64> {
    column.map(|column| column[row]).filter(|value| value.is_finite())
}

/// Visible (query, key) pairs of one sequence: `new` causal rows over `cached` keys, at most `window` keys a row.
pub fn pairs(new: f64, cached: f64, window: f64) -> f64 {
    if window.is_infinite() {
        return new * cached + new * (new + 1.0) / 2.0;
    }
    let short = (window - cached).clamp(0.0, new);
    short * cached + short * (short + 1.0) / 2.0 + (new - short) * window
}

/// The engine as efficiency files call it.
pub fn engine_name(word: &str) -> String {
    let word = word.trim().to_ascii_lowercase();
    match word.as_str() {
        "" => "vllm".into(),
        "tensorrt-llm" | "tensorrt_llm" | "trt-llm" => "trtllm".into(),
        _ => word,
    }
}
