//! The cases of the page, asked of the tool and of this library.

use roofline_core::accumulate::OpTotal;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::llm_viewer::{Inputs, OpRow, Version, ViewerAnalysis, analyze};
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::work::Family;
use serde_json::{Value, json};

pub const MAIN: Version = Version::Main1893e4b;

pub fn llama(
    hidden: u32,
    heads: u32,
    kv_heads: u32,
    layers: u32,
    intermediate: u32,
    vocabulary: u32,
) -> Value {
    json!({
        "model_type": "llama", "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "num_hidden_layers": layers, "intermediate_size": intermediate,
        "vocab_size": vocabulary, "head_dim": 128,
    })
}

pub fn llama_2_7b() -> Value {
    llama(4096, 32, 32, 32, 11008, 32000)
}

pub fn llama_2_70b() -> Value {
    llama(8192, 64, 8, 80, 28672, 32000)
}

pub fn llama_3_8b() -> Value {
    llama(4096, 32, 8, 32, 14336, 128_256)
}

pub fn opt(hidden: u32, heads: u32, layers: u32) -> Value {
    json!({
        "model_type": "opt", "hidden_size": hidden, "num_attention_heads": heads, "num_hidden_layers": layers,
        "ffn_dim": 4 * hidden, "vocab_size": 50272,
    })
}

pub const ENGINE: EngineMemory = EngineMemory::VLLM;

/// A case of the page: what the tool and this library are both asked.
#[derive(Clone, Copy)]
pub struct Case {
    pub letter: char,
    pub model: &'static str,
    /// The device under the tool's name, and under ours.
    pub device: (&'static str, &'static str),
    pub batch: u32,
    pub tokens: u32,
    /// Bits of weights, activations, cache.
    pub bits: (u32, u32, u32),
    pub flash: bool,
    pub tp: u32,
    pub fusion: Fusion,
}

pub const A100: (&str, &str) = ("nvidia_A100_80G", "a100-80gb-sxm");
pub const SIXTEEN: (u32, u32, u32) = (16, 16, 16);
pub const A: Case = Case {
    letter: 'A',
    model: "llama-2-7b",
    device: A100,
    batch: 1,
    tokens: 2048,
    bits: SIXTEEN,
    flash: false,
    tp: 1,
    fusion: Fusion::Full,
};
pub const B: Case = Case { letter: 'B', flash: true, ..A };
pub const C: Case = Case { letter: 'C', model: "llama-2-70b", ..B };
pub const D: Case = Case { letter: 'D', tp: 2, ..A };
pub const E: Case = Case { letter: 'E', batch: 256, tokens: 128, ..A };
pub const F: Case = Case { letter: 'F', model: "opt-6.7b", ..A };
pub const G: Case = Case { letter: 'G', model: "llama-3-8b", ..A };
pub const H: Case = Case { letter: 'H', bits: (8, 8, 16), ..A };
pub const J: Case = Case { letter: 'J', device: ("nvidia_H100_SXM", "h100-sxm"), ..A };
pub const K: Case = Case { letter: 'K', model: "qwen3-32b", ..A };
pub const L: Case = Case { letter: 'L', batch: 16, tokens: 1024, bits: (4, 16, 16), ..A };
pub const M: Case = Case { letter: 'M', ..E };
pub const N: Case = Case { letter: 'N', model: "llama-2-70b", tp: 8, ..A };
/// Every case whose whole phases the page gives; M is a generation.
pub const CASES: [Case; 12] = [A, B, C, D, E, F, G, H, J, K, L, N];

impl Case {
    pub fn config(&self) -> Value {
        match self.model {
            "llama-2-7b" => llama_2_7b(),
            "llama-2-70b" => llama_2_70b(),
            "llama-3-8b" => llama_3_8b(),
            "qwen3-32b" => llama(5120, 64, 8, 64, 25600, 151_936),
            "opt-6.7b" => opt(4096, 32, 32),
            other => panic!("no configuration of {other}"),
        }
    }

    pub fn inputs(&self) -> Inputs {
        let (w_bit, a_bit, kv_bit) = self.bits;
        let (batchsize, seqlen) = (self.batch, self.tokens);
        Inputs { batchsize, seqlen, w_bit, a_bit, kv_bit, use_flashattention: self.flash, tp_size: self.tp }
    }

    pub fn tool(&self) -> ViewerAnalysis {
        analyze(MAIN, &self.config(), self.device.0, &self.inputs()).unwrap()
    }

    /// The tool's rows of a phase, each with its occurrences.
    pub fn tool_rows(&self, question: Question) -> Vec<(OpRow, f64)> {
        let analysis = self.tool();
        let rows = if question == Question::Decode { analysis.decode } else { analysis.prefill };
        let layers: u64 =
            catalog::models::model(self.model).unwrap().layers.iter().map(|group| group.count).sum();
        rows.into_iter().map(|row| (row, if row.op == "lm_head" { 1.0 } else { layers as f64 })).collect()
    }

    /// Sum over the tool's rows of these names, all layers.
    pub fn tool_sum(&self, question: Question, ops: &[&str], of: fn(&OpRow) -> f64) -> f64 {
        let rows = self.tool_rows(question);
        for op in ops {
            assert!(rows.iter().any(|(row, _)| row.op == *op), "the tool has no {op}");
        }
        rows.iter().filter(|(row, _)| ops.contains(&row.op)).map(|(row, times)| times * of(row)).sum()
    }

    pub fn request(&self) -> Request {
        let kv_cache_dtype = match self.bits.2 {
            16 => None,
            8 => Some("int8".to_string()),
            4 => Some("int4".to_string()),
            other => panic!("no cache of {other} bits"),
        };
        match self.bits {
            (16, 16, _) => Request { kv_cache_dtype, ..Request::default() },
            (4, 16, _) => {
                Request { quantization: Some("w4a16".to_string()), kv_cache_dtype, ..Request::default() }
            }
            (weight, activation, _) => Request {
                w_bits: Some(weight),
                a_bits: Some(activation),
                kv_cache_dtype,
                ..Request::default()
            },
        }
    }

    pub fn deployment(&self) -> Deployment {
        let model = catalog::models::model(self.model).unwrap();
        let precision = Precision::resolve(&model, &self.request()).unwrap();
        Deployment {
            model,
            hardware: catalog::hardware::hardware(self.device.1).unwrap().item,
            layout: Layout { tp: u64::from(self.tp), ..Layout::default() },
            precision,
            lowering: Lowering { fusion: self.fusion, ..Lowering::default() },
            overlap: 0.0,
            efficiency: Efficiency::Ideal,
            techniques: Default::default(),
        }
    }

    pub fn point(&self, question: Question) -> Point {
        Point {
            question,
            batch_size: u64::from(self.batch),
            input_len: u64::from(self.tokens),
            output_len: 1,
            prefix_len: 0,
            chunk: 0,
        }
    }

    pub fn ours(&self, question: Question) -> Analysis {
        Analyst::new(self.deployment(), &ENGINE).unwrap().analyze(&self.point(question)).unwrap()
    }

    /// Sum over our operators of these names, all occurrences.
    pub fn our_sum(&self, question: Question, ops: &[&str], of: fn(&OpTotal) -> f64) -> f64 {
        let analysis = self.ours(question);
        for op in ops {
            assert!(analysis.ops.iter().any(|row| row.name == *op), "we have no {op}");
        }
        analysis.ops.iter().filter(|row| ops.contains(&row.name.as_str())).map(of).sum()
    }

    /// Sum over the matrices of the layers, on both sides.
    pub fn linears(
        &self,
        question: Question,
        ours: fn(&OpTotal) -> f64,
        tool: fn(&OpRow) -> f64,
    ) -> (f64, f64) {
        let analysis = self.ours(question);
        let layers = analysis.ops.iter().filter(|op| op.family == Family::Gemm && op.name != "lm_head");
        let rows = self.tool_rows(question);
        let theirs = rows.iter().filter(|(row, _)| row.op.ends_with("_proj"));
        (layers.map(ours).sum(), theirs.map(|(row, times)| times * tool(row)).sum())
    }
}
