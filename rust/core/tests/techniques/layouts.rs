//! Techniques over several devices, together with others, and on models of other shapes than the toy's.

use roofline_core::layout::Layout;
use roofline_core::model::Model;
use roofline_core::step::Deployment;

use super::toy::*;

#[test]
fn attention_beside_its_ffn_is_reduced_once() {
    // Falcon-7B's attention and FFN are added up together: one reduction a layer, and the embedding's, none of an FFN alone
    let with = "afd:micro-batches=1,gb-s=100";
    let falcon = roofline_core::catalog::models::model("gpt-j-6b").unwrap();
    let layers: u64 = falcon.layers.iter().map(|group| group.count).sum();
    let spread = Deployment { layout: Layout { tp: 2, ..Layout::default() }, ..deployment(falcon, device()) };
    let step = ask(spread, with, &decode(4, 1000)).unwrap();
    let reductions: Vec<f64> =
        step.ops.iter().filter(|op| op.name == "all_reduce").map(|op| op.repeat).collect();
    assert_eq!(reductions, [layers as f64 + 1.0]);
}

#[test]
fn each_micro_batch_dequantizes_the_weights_it_reads() {
    let step = run("weight-quant:bits=4 + afd:micro-batches=2", &decode(10, 1000));
    // 32 M weights twice, on the FFN device and in attention alike
    is(op(&step, "gate_up_proj").work.vector_flops, 2.0 * 32e6);
    is(op(&step, "qkv_proj").work.vector_flops, 2.0 * 4.0 * 1.4e6);
}

#[test]
fn the_tokens_of_several_attention_groups_meet_at_the_experts() {
    // Two groups of two tokens: 8·(1 − (6/8)⁴) experts
    let step = run_moe("afd:attention=2,ffn=1,micro-batches=1", &decode(2, 1000));
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 8.0 * (1.0 - 0.75f64.powi(4)) * 16e6);
}

#[test]
fn no_device_is_sent_a_token_twice() {
    let sent = |with: &str| {
        let step = run_moe(&format!("{with} + afd:micro-batches=1,gb-s=100"), &decode(8, 1000));
        op(&step, "afd_exchange").ideal / (4.0 * 8.0 * 2.0 * 2000.0 / 100e9)
    };
    // Four experts of a token lie on two devices; of a group of two, each sends half of the tokens
    is(sent("experts:top-k=4 + parallel:dp=2,ep=2"), 2.0);
    is(sent("parallel:dp=2,tp=2,ep=4"), 1.0);
}

#[test]
fn weights_are_fetched_as_they_lie_and_converted_where_they_are_used() {
    let step = run_moe("weight-quant:bits=4 + pim:ops=gemm,memory=added", &prefill(1, 100));
    is(op(&step, "fetch[experts_gate_up]").work.vector_flops, 0.0);
    assert!(op(&step, "experts_gate_up").work.vector_flops > 0.0);
}

#[test]
fn what_passes_between_the_pair_of_an_adapter_is_moved_unless_it_is_fused() {
    let step = run("fusion:level=none + lora:rank=10", &decode(10, 1000));
    // 10 tokens: 1000 read, three times 10 written and read again, 1400 read and written; 4 layers, 2 bytes
    is(op(&step, "lora[qkv_proj]").work.activation_bytes, 10.0 * (1000.0 + 60.0 + 2800.0) * 8.0);
}

#[test]
fn projections_are_counted_as_models_have_them() {
    // Gemma 4's global layers make keys and values by one matrix: q, k and o, where the others have q, k, v and o
    let model = roofline_core::catalog::models::model("gemma-4-26b-a4b").unwrap();
    let numbers = |key_is_value: bool| {
        use roofline_core::model::Mixer;
        let own = |group: &roofline_core::model::LayerGroup| match &group.mixer {
            Some(Mixer::Attention(own)) if own.value_is_key == key_is_value => {
                let (query, key) = ((own.heads * own.head_dim) as f64, (own.kv_heads * own.head_dim) as f64);
                let hidden = model.hidden as f64;
                let keys = if key_is_value { 1.0 } else { 2.0 };
                group.count as f64 * (2.0 * (hidden + query) + keys * (hidden + key))
            }
            _ => 0.0,
        };
        model.layers.iter().map(own).sum::<f64>()
    };
    assert!(numbers(true) > 0.0 && numbers(false) > 0.0);
    let weights =
        |with: &str| known("gemma-4-26b-a4b", "h100-sxm", with, &decode(1, 1000)).outcome.memory.weights;
    is(
        weights("lora:rank=8,parts=attention") - weights("none"),
        2.0 * 8.0 * (numbers(true) + numbers(false)),
    );
    // Qwen3-Next gates the output of each head: its queries are twice as wide, and sparse like them
    let ask = |with: &str| {
        known("qwen3-next-80b-a3b", "h200-sxm", &format!("parallel:tp=2{with}"), &decode(1, 1000))
    };
    let (dense, sparse) = (ask(""), ask(" + contextual-sparsity:active=0.25,parts=attention"));
    assert!(op(&sparse, "qkv_proj").work.weight_bytes < 0.5 * op(&dense, "qkv_proj").work.weight_bytes);
}

#[test]
fn an_indexer_looks_at_everything_whatever_heads_are_asked() {
    let ask =
        |with: &str| known("deepseek-v3.2", "h200-sxm", &format!("parallel:tp=8{with}"), &decode(2, 5000));
    let (dense, step) = (ask(""), ask(" + contextual-sparsity:active=0.25,parts=attention"));
    is(op(&step, "indexer").work.kv_bytes, op(&dense, "indexer").work.kv_bytes);
    is(op(&step, "indexer").work.flops, op(&dense, "indexer").work.flops);
}

#[test]
fn numbers_and_bytes_of_weights_move_together() {
    for with in [
        "contextual-sparsity:active=0.2,parts=ffn,hot=0.4,hits=0.8,processor=xeon-8592",
        "hybrid:processor=xeon-8592,ops=ffn,share=0.25",
        "offload:share=0.5",
        "low-rank:rank=100",
        "lora:rank=8,adapters=4",
        "pim:ops=all,memory=added",
        "afd",
    ] {
        let deployed = deployment(toy(), device()).with(&techniques(with)).unwrap();
        for op in deployed.compile().unwrap().ops() {
            for lying in [op.work.resident, op.work.elsewhere] {
                is(lying.bytes, 2.0 * lying.elements);
            }
        }
    }
    let skewed = "parallel:tp=2,ep=2 + experts:alpha=1,replicas=2";
    let deployed = deployment(toy_moe(), device()).with(&techniques(skewed)).unwrap();
    deployed
        .compile()
        .unwrap()
        .ops()
        .for_each(|op| is(op.work.resident.bytes, 2.0 * op.work.resident.elements));
}

#[test]
fn who_has_left_asks_no_head() {
    let step = run("early-exit:at=0.25/0.5,share=0.25/0.25,head=lm", &decode(4, 1000));
    // 10 M weights: four tokens at the first exit, three at the second
    is(op(&step, "exit_head[0.25]").work.flops, 4.0 * 2e7);
    is(op(&step, "exit_head[0.5]").work.flops, 3.0 * 2e7);
}

#[test]
fn partial_results_of_cut_contexts_are_summed() {
    let step = run("context-parallel:ranks=4", &decode(3, 1000));
    // 3 outputs of 1000 numbers in each of 4 layers: 2 · 3/4 of 6 kB at 100 GB/s
    is(op(&step, "exchange[attention]").ideal, 4.0 * 1.5 * 6e3 / 100e9);
    // Ranks of a sequence stand a tensor-parallel group apart: eight of them by two leave the machine of eight
    let far =
        deployment(toy(), device()).with(&techniques("parallel:tp=2 + context-parallel:ranks=8")).unwrap();
    let error = far.compile().unwrap_err().to_string();
    assert!(error.contains("scale_out"), "{error}");
}

#[test]
fn scores_of_evicted_keys_are_not_written() {
    let step = run("flash:attention=off + kv-evict:ratio=0.2", &decode(10, 1000));
    // A fifth of 10 heads · 1000 scores · 2 bytes, written and read by 10 sequences in 4 layers
    is(op(&step, "softmax").work.activation_bytes, 0.2 * 10.0 * 2.0 * 4.0 * 20_000.0);
}

#[test]
fn scores_of_cut_contexts_are_a_share_of_them() {
    let with = |with: &str| op(&run(&format!("flash:attention=off{with}"), &decode(8, 1000)), "softmax").work;
    let (whole, cut) = (with(""), with(" + context-parallel:ranks=4"));
    is(cut.activation_bytes, 0.25 * whole.activation_bytes);
    is(cut.vector_flops, 0.25 * whole.vector_flops);
    let step = run("flash:attention=off + context-parallel:ranks=4", &decode(8, 1000));
    assert!(step.ops.iter().all(|op| op.name != "exchange[softmax]"));
}

#[test]
fn each_device_splits_the_keys_of_its_heads() {
    let more = |layout: &str| {
        let (plain, step) =
            (run(layout, &decode(1, 1000)), run(&format!("{layout} + flash:splits=4"), &decode(1, 1000)));
        op(&step, "attention").work.activation_bytes - op(&plain, "attention").work.activation_bytes
    };
    is(more("parallel:tp=2"), 0.5 * more("none"));
}

#[test]
fn storage_is_no_faster_than_the_link_it_hangs_on() {
    let (fast, host) = (
        run("offload:share=0.5,to=ssd,gb-s=500", &decode(1, 1000)),
        run("offload:share=0.5", &decode(1, 1000)),
    );
    is(seconds(&fast), seconds(&host));
}

#[test]
fn a_stage_keeps_buffers_for_two_of_its_own_layers() {
    // Two of four layers: both are buffers
    let (plain, step) =
        (run("parallel:pp=2", &decode(1, 1000)), run("parallel:pp=2 + offload:share=0.5", &decode(1, 1000)));
    is(step.outcome.memory.weights, plain.outcome.memory.weights);
}

#[test]
fn a_stage_keeps_what_its_own_layers_add() {
    // Half of the layers, twice the sequences in flight
    for with in ["paging:block=64", "attention:kind=sparse,top-k=128", "attention:kind=nsa"] {
        let kv = |layout: &str| run(&format!("{layout} + {with}"), &decode(1, 1024)).outcome.memory.kv;
        is(kv("parallel:pp=2"), kv("none"));
    }
}

#[test]
fn drafted_candidates_draw_experts_together() {
    // A tree of 3 and then 6: passes over 1 and 3 tokens, two in the mean. Two of 8 experts each: 8·(1 − (3/4)²) in either
    let model = Model { mtp_layers: 1, ..toy_moe() };
    let with = "spec:method=mtp,gamma=2,tree=3/2,accept=0.5";
    let step = ask(deployment(model, device()), with, &decode(1, 1001)).unwrap();
    is(op(&step, "draft.experts_gate_up").work.weight_bytes, 2.0 * 3.5 * 16e6);
}

#[test]
fn a_dense_model_drafts_for_experts() {
    let with = "parallel:tp=2,ep=2 + spec:method=draft-model,draft=llama-3.2-1b,gamma=1,accept=0.5";
    is(op(&run_moe(with, &decode(1, 1001)), "draft.gate_up_proj").repeat, 16.0);
}

#[test]
fn every_kind_of_layer_is_pruned() {
    let halves = |model: &str, names: &[&str]| {
        let ask = |with: &str| known(model, "h200-sxm", &format!("parallel:tp=8{with}"), &decode(2, 1000));
        let (whole, step) = (ask(""), ask(" + prune:ffn=0.5,heads=0.5"));
        for name in names {
            is(op(&step, name).work.weight_bytes, 0.5 * op(&whole, name).work.weight_bytes);
        }
    };
    halves("deepseek-v3", &["shared_gate_up_proj", "gate_up_proj", "experts_down", "q_b_proj", "o_proj"]);
    // Gemma 4 has a dense network beside its experts
    let ask = |with: &str| known("gemma-4-26b-a4b", "h200-sxm", with, &decode(2, 1000));
    is(
        op(&ask("prune:ffn=0.5"), "down_proj").work.weight_bytes,
        0.5 * op(&ask("none"), "down_proj").work.weight_bytes,
    );
}

#[test]
fn sums_cross_between_chips_as_often_as_there_are_blocks() {
    // Mamba-2.8B: 64 blocks, none of them with an FFN
    let mamba = known("mamba-2.8b", "h100-sxm", "spatial:chips=2,gb-s=10", &decode(1, 1000));
    is(op(&mamba, "chip_exchange").repeat, 64.0);
    let staged = run("parallel:pp=2 + spatial:chips=2,gb-s=10", &decode(1, 1000));
    is(op(&staged, "chip_exchange").repeat, 4.0);
}

#[test]
fn outliers_lie_beside_the_scales_of_their_groups() {
    let step = run("weight-quant:bits=4,group=128,scale=16,zero=4,outliers=0.01", &decode(1, 1000));
    // (4 + 20/128 + 0.01·32)/8 bytes
    is(op(&step, "gate_up_proj").work.weight_bytes, 32e6 * (4.0 + 20.0 / 128.0 + 0.32) / 8.0);
}

#[test]
fn an_eagle_head_has_a_dense_ffn_where_the_model_has_experts() {
    // As wide as the two experts of 4000 that a token visits: 1000 × 16,000, read once a draft
    for layout in ["none", "parallel:tp=2,ep=2"] {
        let step = run_moe(&format!("{layout} + spec:method=eagle,gamma=3,accept=0.5"), &decode(8, 1001));
        let devices = if layout == "none" { 1.0 } else { 2.0 };
        is(op(&step, "draft.gate_up_proj").work.weight_bytes, 3.0 * 32e6 / devices);
        assert!(step.ops.iter().all(|op| !op.name.starts_with("draft.experts")));
    }
    // Eight experts of 2048 and a shared one are the width of DeepSeek-V3's dense layers
    let step = known(
        "deepseek-v3",
        "h200-sxm",
        "parallel:tp=8 + spec:method=eagle,gamma=1,accept=0.5",
        &decode(4, 1001),
    );
    let dense = op(&step, "gate_up_proj");
    is(op(&step, "draft.gate_up_proj").work.weight_bytes, dense.work.weight_bytes / dense.repeat);
}

#[test]
fn a_prompt_over_ranks_gathers_its_share_of_the_embedding() {
    let step = run("context-parallel:ranks=4", &prefill(1, 1000));
    is(op(&step, "embedding").work.weight_bytes, 250.0 * 2000.0);
}
