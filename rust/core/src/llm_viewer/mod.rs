//! LLM-Viewer's figures, its mistakes included: what its users move over from.
//!
//! LLM-Viewer (hahnyuan/LLM-Viewer, MIT; arXiv 2402.16363) is reproduced per [`Version`], under its own
//! names and with its own hardware table. `docs/llm-viewer.md` lists, mistake by mistake, where the cost
//! model of this library differs and why.

mod version;
mod hardware;
mod model;
mod row;
mod phase;
mod tables;

use serde_json::Value;

pub use hardware::{ViewerHardware, table};
pub use model::Family;
pub use row::{OpRow, Totals};
pub use version::Version;

use crate::error::Result;
use model::Sizes;
use phase::{Case, Stage};

/// The arguments of the tool's `analyze`, under its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// Sequences in the batch.
    pub batchsize: u32,
    /// Tokens of the prompt in prefill, tokens in the KV cache in decode.
    pub seqlen: u32,
    /// Bits of a weight.
    pub w_bit: u32,
    /// Bits of an activation.
    pub a_bit: u32,
    /// Bits of a KV cache element.
    pub kv_bit: u32,
    /// One fused attention operator instead of three.
    pub use_flashattention: bool,
    /// Devices the linear layers are divided over.
    pub tp_size: u32,
}

impl Default for Inputs {
    /// The tool's defaults, for one sequence of one token.
    fn default() -> Inputs {
        Inputs {
            batchsize: 1,
            seqlen: 1,
            w_bit: 16,
            a_bit: 16,
            kv_bit: 16,
            use_flashattention: false,
            tp_size: 1,
        }
    }
}

/// What the tool's `analyze` returns.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewerAnalysis {
    /// The operators of one layer in decode, the head last.
    pub decode: Vec<OpRow>,
    /// The operators of one layer in prefill, the head last.
    pub prefill: Vec<OpRow>,
    /// All layers and the head in decode.
    pub decode_totals: Totals,
    /// All layers and the head in prefill.
    pub prefill_totals: Totals,
}

/// What the tool's `analyze_generate_task` returns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewerGeneration {
    /// Seconds from prompt to last token.
    pub inference_time: f64,
    /// Seconds of the prefill in it.
    pub prefill_time: f64,
}

/// Prefill and decode of one step, as `version` of LLM-Viewer computes them.
///
/// `config` is a Hugging Face `config.json` (or the tool's own parameters of a DiT), `hardware` an entry of
/// the tool's table. Units: operations (a multiply-add is two), bytes, OP/s, seconds.
///
/// ```
/// use roofline_core::llm_viewer::{Inputs, Version, analyze};
/// let config = serde_json::json!({
///     "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
///     "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256,
/// });
/// let inputs = Inputs { seqlen: 2048, ..Inputs::default() };
/// let analysis = analyze(Version::Main1893e4b, &config, "h100", &inputs)?;
/// assert_eq!(analysis.decode[0].op, "q_proj");
/// assert_eq!(analysis.decode[0].OPs, 2.0 * 4096.0 * 4096.0);
/// # Ok::<(), roofline_core::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Spec`](crate::error::Error::Spec) carrying the tool's own exception where it would have raised
/// one (a `tp_size` that does not divide, hardware without an INT8 peak, a family without a module), or
/// naming a key the configuration lacks; [`Error::UnknownName`](crate::error::Error::UnknownName) for
/// hardware that is not in that version's table.
pub fn analyze(version: Version, config: &Value, hardware: &str, inputs: &Inputs) -> Result<ViewerAnalysis> {
    let case = Case::new(version, Sizes::read(config)?, hardware, *inputs)?;
    let seqlen = f64::from(inputs.seqlen);
    let mut decode = case.phase(Stage::Decode, seqlen)?;
    let mut prefill = case.phase(Stage::Prefill, seqlen)?;
    let (weight, kv_cache) = (prefill.layers.load_weight, prefill.layers.store_kv_cache);
    for phase in [&mut decode, &mut prefill] {
        phase.totals.set_memory(weight, kv_cache, phase.tmp_act);
    }
    Ok(ViewerAnalysis {
        decode: decode.rows,
        prefill: prefill.rows,
        decode_totals: decode.totals,
        prefill_totals: prefill.totals,
    })
}

/// A whole generation as `version` computes it: the prefill of `prompt_len` tokens, then a decode step for
/// every cache length from `prompt_len` up to `prompt_len + gen_len`, the last excluded.
///
/// `inputs.seqlen` is not read. Runs in time proportional to `gen_len`.
///
/// # Errors
/// Those of [`analyze`].
pub fn analyze_generate_task(
    version: Version,
    config: &Value,
    hardware: &str,
    inputs: &Inputs,
    prompt_len: u32,
    gen_len: u32,
) -> Result<ViewerGeneration> {
    let inputs = Inputs { seqlen: prompt_len, ..*inputs };
    let case = Case::new(version, Sizes::read(config)?, hardware, inputs)?;
    let prompt = f64::from(prompt_len);
    let prefill_time = case.phase(Stage::Prefill, prompt)?.totals.inference_time;
    let mut inference_time = prefill_time;
    for step in 0..gen_len {
        inference_time += case.phase(Stage::Decode, prompt + f64::from(step))?.totals.inference_time;
    }
    Ok(ViewerGeneration { inference_time, prefill_time })
}

#[cfg(test)]
mod tests;
