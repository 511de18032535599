//! Random models, devices, layouts, points and techniques, for laws.

#![allow(dead_code, unused_imports, reason = "each test takes what it needs")]

mod techniques;

use proptest::prelude::*;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::error::Result;
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::model::Model;
use roofline_core::model::hf::model_from_json;
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::technique::Technique;

pub use techniques::{of_kind, sets};

pub const ENGINE: EngineMemory = EngineMemory { max_num_seqs: 256, ..EngineMemory::VLLM };

/// Devices whose every peak, link, power and price is known well enough for all laws.
pub const DEVICES: [&str; 8] =
    ["h100-sxm", "a100-80gb-sxm", "l40s", "b200", "mi300x", "rtx-4090", "t4", "h20"];

/// Models whose layers are not all alike: windows beside full attention, one KV head, states beside attention and experts.
const UNLIKE: [&str; 5] = ["gemma-2-2b", "falcon-7b", "jamba-v0.1", "gpt-oss-20b", "deepseek-v2-lite"];

/// A random dense, mixture-of-experts, latent-attention, windowed or state-space model.
pub fn models() -> impl Strategy<Value = Model> {
    (0u32..6, 1u64..6, 0u32..3, 1u64..12, 1u64..24).prop_map(|(kind, layers, kv, width, ffn)| {
        let (heads, kv_heads) = (8 << kv, 8u64);
        let hidden = 512 * width;
        let common = format!(
            r#""num_hidden_layers": {layers}, "hidden_size": {hidden}, "num_attention_heads": {heads},
            "intermediate_size": {}, "vocab_size": 32000, "max_position_embeddings": 1000000, "torch_dtype": "bfloat16""#,
            512 * ffn
        );
        let gqa = format!(r#"{common}, "num_key_value_heads": {kv_heads}, "head_dim": 128"#);
        let text = match kind {
            0 => format!(r#"{{"model_type": "llama", {gqa}}}"#),
            1 => format!(r#"{{"model_type": "mixtral", {gqa}, "num_local_experts": 16, "num_experts_per_tok": 2}}"#),
            2 => format!(
                r#"{{"model_type": "deepseek_v3", {common}, "num_key_value_heads": {heads}, "q_lora_rank": 384,
                "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
                "n_routed_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 512,
                "n_shared_experts": 1, "first_k_dense_replace": 1, "moe_layer_freq": 1}}"#
            ),
            3 => format!(r#"{{"model_type": "mistral", {gqa}, "sliding_window": 300}}"#),
            4 => format!(
                r#"{{"model_type": "falcon_mamba", "num_hidden_layers": {layers}, "hidden_size": {hidden},
                "intermediate_size": {}, "state_size": 16, "conv_kernel": 4, "time_step_rank": 32, "expand": 2,
                "vocab_size": 32000, "torch_dtype": "bfloat16", "tie_word_embeddings": false}}"#,
                2 * hidden
            ),
            _ => format!(r#"{{"model_type": "qwen3", {gqa}, "tie_word_embeddings": true}}"#),
        };
        model_from_json("random", &text).unwrap()
    })
}

pub fn layouts() -> impl Strategy<Value = Layout> {
    (0u32..4, 1u64..3, 0u32..2).prop_map(|(tp, pp, dp)| Layout { tp: 1 << tp, pp, dp: 1 << dp, ep: 1 })
}

pub fn points() -> impl Strategy<Value = Point> {
    let question = prop_oneof![
        Just(Question::Prefill),
        Just(Question::Decode),
        Just(Question::Mixed),
        Just(Question::Chat)
    ];
    (question, 1u64..300, 1u64..5000, 1u64..20, 0u64..3000, 1u64..3000).prop_map(
        |(question, batch_size, input_len, output_len, prefix_len, chunk)| Point {
            question,
            batch_size,
            input_len,
            output_len,
            prefix_len,
            chunk,
        },
    )
}

pub fn device(index: usize) -> Hardware {
    catalog::hardware::hardware(DEVICES[index]).unwrap().item
}

/// One machine: not every device has a known link beyond it.
pub fn possible(model: &Model, layout: Layout) -> bool {
    layout.gpus() <= 8 && layout.check(model).is_ok()
}

/// A model on a device, in the formats of its checkpoint, by its roofline alone.
pub fn plain(model: Model, hardware: Hardware, layout: Layout) -> Deployment {
    Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware,
        layout,
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
        techniques: Default::default(),
    }
}

/// A deployment that says of itself what a failing test needs to be told.
#[derive(Clone)]
pub struct Made(pub Deployment);

impl std::fmt::Debug for Made {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Deployment { model, hardware, layout, lowering, efficiency, .. } = &self.0;
        let first = model.layers.first().map(|group| (group.count, &group.mixer, &group.ffn));
        let mode = if *efficiency == Efficiency::Ideal { "ideal" } else { "predicted" };
        write!(
            out,
            "{} h={} {first:?} on {} {layout:?} {lowering:?} {mode}",
            model.name, model.hidden, hardware.name
        )
    }
}

impl std::ops::Deref for Made {
    type Target = Deployment;
    fn deref(&self) -> &Deployment {
        &self.0
    }
}

/// A random deployment without techniques: any kind of model, experts spread or not, any fusion and attention kernel, ideal
/// or predicted.
pub fn deployments() -> impl Strategy<Value = Made> {
    let unlike = proptest::sample::select(&UNLIKE[..]).prop_map(|name| catalog::models::model(name).unwrap());
    let model = prop_oneof![3 => models(), 1 => unlike];
    let fusion = prop_oneof![Just(Fusion::Full), Just(Fusion::Engine), Just(Fusion::None)];
    (model, 0..DEVICES.len(), layouts(), any::<bool>(), fusion, any::<bool>(), any::<bool>()).prop_map(
        |(model, place, layout, spread, fusion, flash_attention, predicted)| {
            let ep = if spread { layout.tp * layout.dp } else { 1 };
            let wanted = [Layout { ep, ..layout }, layout, Layout { pp: 1, ..layout }];
            let found = wanted.into_iter().find(|layout| possible(&model, *layout)).unwrap_or_default();
            let lowering = Lowering { fusion, flash_attention, ..Lowering::default() };
            let efficiency = if predicted { Efficiency::predicted("vllm") } else { Efficiency::Ideal };
            Made(Deployment { lowering, efficiency, ..plain(model, device(place), found) })
        },
    )
}

/// The answer with techniques as they are written.
pub fn ask(deployment: &Deployment, with: &str, point: &Point) -> Result<Analysis> {
    let techniques = Technique::parse_all(&[with])?;
    Analyst::new(deployment.clone().with(&techniques)?, &ENGINE)?.analyze(point)
}

/// Equal up to rounding.
pub fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}
