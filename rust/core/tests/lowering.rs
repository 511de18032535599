//! What a layer consists of, operator by operator, worked out by hand on models of the catalogue.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use roofline_core::catalog;
use roofline_core::layout::Layout;
use roofline_core::lower::{Lowering, lower, tower_ops};
use roofline_core::model::Model;
use roofline_core::precision::{Precision, Request};
use roofline_core::shape::Reaches;
use roofline_core::work::Op;

fn model(name: &str) -> Model {
    catalog::models::model(name).unwrap()
}

fn ops(name: &str, layout: Layout) -> Vec<Op> {
    let model = model(name);
    let precision = Precision::resolve(&model, &Request::default()).unwrap();
    lower(&model, layout, &precision, Lowering::default(), &Reaches::of(&model).unwrap())
}

fn op<'a>(ops: &'a [Op], name: &str) -> &'a Op {
    ops.iter().find(|op| op.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn layout(tp: u64, pp: u64, dp: u64, ep: u64) -> Layout {
    Layout { tp, pp, dp, ep }
}

#[test]
fn tensor_parallel_ranks_share_out_what_they_dispatch() {
    // Mixtral: a token goes to 2 experts, 4096 numbers of 2 bytes each; of two ranks that hold it each sends half
    let spread = ops("mixtral-8x7b", layout(2, 1, 2, 4));
    for name in ["dispatch", "combine"] {
        let transfer = op(&spread, name).work.transfer.unwrap();
        assert_eq!((transfer.bytes.token, transfer.ranks), (2.0 * 4096.0 * 2.0 / 2.0, 4), "{name}");
    }
    assert!(ops("mixtral-8x7b", layout(4, 1, 1, 4)).iter().all(|op| op.name != "dispatch"));
}

#[test]
fn a_rank_activates_what_reaches_its_experts() {
    // 5 operations a number of 14,336; of a token's 2 visits one in four is this rank's, tokens of four ranks meet there
    let within = ops("mixtral-8x7b", layout(4, 1, 1, 4));
    assert_eq!(op(&within, "experts_act_mul").work.vector_flops.token, 5.0 * 14_336.0 * 2.0 / 4.0);
    let beyond = ops("mixtral-8x7b", layout(1, 1, 4, 4));
    assert_eq!(op(&beyond, "experts_act_mul").work.vector_flops.token, 5.0 * 14_336.0 * 2.0 * 4.0 / 4.0);
}

#[test]
fn a_shared_expert_may_have_a_gate() {
    let ops = ops("qwen1.5-moe-a2.7b", Layout::default());
    let gate = op(&ops, "shared_gate");
    assert_eq!((gate.work.resident.elements, gate.repeat), (2048.0, 24.0));
    assert_eq!(gate.work.flops.token, 2.0 * 2048.0);
}

#[test]
fn sparse_latent_attention_keeps_the_matrices_it_absorbs() {
    // 61 layers: W_UK and W_UV of 128 heads, 512 × (128 + 128), once
    for name in ["deepseek-v3", "deepseek-v3.2"] {
        let ops = ops(name, Layout::default());
        let held: f64 = ["kv_b_proj", "mla_absorb"]
            .iter()
            .flat_map(|name| ops.iter().filter(move |op| op.name == *name))
            .map(|op| op.repeat * op.work.resident.elements)
            .sum();
        assert_eq!(held, 61.0 * 128.0 * 512.0 * 256.0, "{name}");
    }
}

#[test]
fn one_rotated_key_serves_all_latent_heads() {
    // 3 operations for each of 64 numbers of 128 queries and one key
    let ops = ops("deepseek-v3", Layout::default());
    assert_eq!(op(&ops, "rope").work.vector_flops.token, 3.0 * 129.0 * 64.0);
}

#[test]
fn stages_of_a_pipeline_stand_far_apart() {
    // Neighbouring stages of 2 · 4 devices: as far as half of them, a machine's border among them or not
    let ops = ops("llama-3.1-8b", layout(2, 4, 1, 1));
    let transfer = op(&ops, "send_recv").work.transfer.unwrap();
    assert_eq!((transfer.stride, transfer.ranks, transfer.bytes.token), (4, 2, 4096.0 * 2.0));
    assert_eq!(op(&ops, "send_recv").repeat, 3.0);
}

#[test]
fn attention_beside_its_ffn_is_added_with_it() {
    let count = |name: &str, norm: &str| -> f64 {
        ops(name, Layout::default()).iter().filter(|op| op.name == norm).map(|op| op.repeat).sum()
    };
    // GPT-J adds attention and FFN to the state at once, in each of 28 layers; Llama adds twice in each of 32
    assert_eq!((count("gpt-j-6b", "add_norm"), count("gpt-j-6b", "norm")), (28.0, 0.0));
    assert_eq!((count("llama-3.1-8b", "add_norm"), count("llama-3.1-8b", "norm")), (64.0, 0.0));
    // Pythia has a norm for each of them, of which one follows the addition
    assert_eq!((count("pythia-1b", "add_norm"), count("pythia-1b", "norm")), (16.0, 16.0));
}

#[test]
fn a_tied_table_is_kept_by_the_first_and_the_last_stage() {
    // Llama-3.2-1B: 128,256 × 2048
    let held =
        |pp: u64, name: &str| op(&ops("llama-3.2-1b", layout(1, pp, 1, 1)), name).work.resident.elements;
    let table = 128_256.0 * 2048.0;
    assert_eq!((held(1, "embedding"), held(1, "lm_head")), (0.0, table));
    assert_eq!((held(2, "embedding"), held(2, "lm_head")), (table, table));
}

#[test]
fn ranks_share_out_the_rows_of_the_table() {
    // Llama-3.1-8B: 128,256 rows of 4096; every rank gathers, and logits of all ranks are gathered
    let ops = ops("llama-3.1-8b", layout(4, 1, 1, 1));
    for name in ["embedding", "lm_head"] {
        assert_eq!(op(&ops, name).work.resident.elements, 128_256.0 * 4096.0 / 4.0, "{name}");
    }
    assert_eq!(op(&ops, "logits_all_gather").work.transfer.unwrap().bytes.logit, 128_256.0 * 2.0);
}

#[test]
fn ranks_that_split_tokens_gather_them_behind_the_experts() {
    let count = |layout: Layout, name: &str| -> f64 {
        ops("mixtral-8x7b", layout).iter().filter(|op| op.name == name).map(|op| op.repeat).sum()
    };
    // Behind attention and the embedding a sum; behind the experts of 32 layers a gathering, or a sum within the group
    let (beyond, within) = (layout(2, 1, 2, 4), layout(2, 1, 1, 2));
    assert_eq!((count(beyond, "all_reduce"), count(beyond, "all_gather")), (33.0, 32.0));
    assert_eq!((count(within, "all_reduce"), count(within, "all_gather")), (65.0, 0.0));
}

#[test]
fn layers_that_share_a_cache_project_queries_alone_and_write_nothing() {
    let mut model = model("llama-3.1-8b");
    for group in &mut model.layers {
        if let Some(roofline_core::model::Mixer::Attention(attention)) = &mut group.mixer {
            attention.shares_kv = true;
        }
    }
    let precision = Precision::resolve(&model, &Request::default()).unwrap();
    let reaches = Reaches::of(&model).unwrap();
    let ops = lower(&model, Layout::default(), &precision, Lowering::default(), &reaches);
    // 32 heads of 128 from 4096; 3 operations a number rotated; keys and values of 8 heads read, none written
    assert_eq!(op(&ops, "qkv_proj").work.resident.elements, 4096.0 * 4096.0);
    assert_eq!(op(&ops, "rope").work.vector_flops.token, 3.0 * 4096.0);
    let cached = op(&ops, "attention").work.kv_bytes;
    assert_eq!((cached.token, cached.key), (0.0, 4096.0));
}

#[test]
fn a_modulation_passes_once_an_image() {
    // DiT-XL/2: 1152 numbers become six times as many, of 2 bytes
    let ops = ops("dit-xl-2", Layout::default());
    let work = op(&ops, "modulation").work;
    assert_eq!(work.activation_bytes.sequence, (1152.0 + 6.0 * 1152.0) * 2.0);
    assert_eq!((work.activation_bytes.token, work.flops.token), (0.0, 0.0));
    assert_eq!(work.flops.sequence, 2.0 * 1152.0 * 6.0 * 1152.0);
}

#[test]
fn the_busiest_stage_holds_what_does_not_divide() {
    // 32 layers in three stages: 11, 11 and 10
    let ops = ops("llama-3.1-8b", layout(1, 3, 1, 1));
    assert_eq!((op(&ops, "o_proj").repeat, op(&ops, "o_proj").stage_repeat), (32.0, 11.0));
}

#[test]
fn a_projector_runs_once_a_token_that_it_makes() {
    let model = model("qwen2.5-vl-7b");
    let tower = model.vision.as_ref().unwrap();
    let precision = Precision::resolve(&model, &Request::default()).unwrap();
    let ops = tower_ops(tower, &precision, Lowering::default(), &Reaches::of(&model).unwrap());
    // Four patches become a token: two FLOPs a parameter and token are half a FLOP a patch
    assert_eq!(tower.patches_per_token, 4);
    let projector = op(&ops, "projector").work;
    assert!((projector.flops.token / (tower.projector_parameters as f64 * 0.5) - 1.0).abs() < 1e-12);
    assert_eq!(projector.resident.elements, tower.projector_parameters as f64);
}

#[test]
fn a_checkpoint_asked_for_by_its_own_method_is_run_as_it_is() {
    let asked = |model: &Model, scheme: &str| {
        let request = Request { quantization: Some(scheme.to_string()), ..Request::default() };
        Precision::resolve(model, &request).unwrap()
    };
    // DeepSeek-V3 is stored in blocks of FP8, gpt-oss in MXFP4 but for its attention.
    for (name, own, other) in
        [("deepseek-v3", "fp8", "fp8-block"), ("deepseek-v3", "FP8", "int8"), ("gpt-oss-20b", "mxfp4", "fp8")]
    {
        let model = model(name);
        let checkpoint = Precision::resolve(&model, &Request::default()).unwrap();
        assert_eq!(asked(&model, own), checkpoint, "{name} {own}");
        assert!(!asked(&model, other).is_the_checkpoints(), "{name} {other}");
    }
    // Where there is no such method it is a scheme over all matrices.
    assert!(!asked(&model("llama-3.1-8b"), "fp8").is_the_checkpoints());
}
