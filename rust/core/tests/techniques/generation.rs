//! Speculative and parallel decoding: worked out by hand on the toy.

use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::point::Question;
use roofline_core::step::Deployment;
use roofline_core::technique::expected_tokens;

use super::toy::*;

#[test]
fn expected_tokens_are_a_geometric_sum() {
    // (1 − 0.7⁴)/(1 − 0.7) = 0.7599/0.3
    is(expected_tokens(&[0.7; 3]), 2.533);
    // 1 + 0.8 + 0.8·0.5
    is(expected_tokens(&[0.8, 0.5]), 2.2);
    is(expected_tokens(&[]), 1.0);
}

#[test]
fn drafts_are_verified_together() {
    let step = run("spec:method=ngram,gamma=3,accept=0.7", &decode(2, 1001));
    // 2 sequences of 4 tokens: 8 rows; weights once
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 8.0 * 8e6);
    is(op(&step, "gate_up_proj").work.weight_bytes, 64e6);
    // 4 logits each
    is(op(&step, "lm_head").work.flops, 2.0 * 8.0 * 1e7);
    // 1000 + 4 keys a sequence, once
    is(op(&step, "attention").work.kv_bytes, 4.0 * 800.0 * (2.0 * 1004.0 + 8.0));
    // 4·1000 + 4·5/2 pairs a sequence
    is(op(&step, "attention").work.flops, 4.0 * 4000.0 * 2.0 * 4010.0);
    is(tpot(&step), seconds(&step) / 2.533);
}

#[test]
fn tokens_leave_as_often_as_they_are_expected() {
    let step = run("spec:method=ngram,gamma=1,accept=0.5", &decode(10, 1001));
    is(step.outcome.times.tokens, 15.0);
}

#[test]
fn the_last_stage_of_a_pipeline_drafts() {
    let two = Deployment { layout: Layout { pp: 2, ..Layout::default() }, ..deployment(toy(), device()) };
    let piped = ask(two, "spec:method=eagle,gamma=2,accept=0.5", &decode(2, 1001)).unwrap();
    let plain = run("spec:method=eagle,gamma=2,accept=0.5", &decode(2, 1001));
    // A layer of 8 M gate and up weights, twice for each of 2 sequences, wherever the others are
    for step in [piped, plain] {
        is(op(&step, "draft.gate_up_proj").work.flops, 2.0 * 2.0 * 2.0 * 8e6);
    }
}

#[test]
fn acceptance_may_fall_from_position_to_position() {
    let step = run("spec:method=ngram,gamma=2,accept=0.8/0.5", &decode(1, 1001));
    is(step.outcome.times.tokens, 2.2);
}

#[test]
fn acceptance_may_be_recorded() {
    // Means 0, 1, 2 and 3 accepted drafts: 1 + 1.5
    let step = run("spec:method=ngram,gamma=3,recorded=0/1/2/3", &decode(1, 1001));
    is(step.outcome.times.tokens, 2.5);
}

#[test]
fn a_tree_verifies_all_of_its_candidates() {
    let step = run("spec:method=ngram,gamma=2,tree=3/2,accept=0.5", &decode(1, 1001));
    // 1 + 3 + 6 tokens
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 10.0 * 8e6);
    // 1 − 0.5³ = 0.875, 1 − 0.5² = 0.75: 1 + 0.875 + 0.875·0.75
    is(step.outcome.times.tokens, 2.531_25);
}

#[test]
fn a_draft_model_runs_once_a_draft() {
    let plain = run("none", &decode(2, 1001));
    let step = run("spec:method=draft-model,draft=llama-3.2-1b,gamma=3,accept=0.7", &decode(2, 1001));
    // Llama-3.2-1B: 16 layers of gate and up 2048 × 16384, three passes
    let gate_up = op(&step, "draft.gate_up_proj");
    is(gate_up.work.weight_bytes, 3.0 * 16.0 * 2048.0 * 16_384.0 * 2.0);
    is(gate_up.work.flops, 3.0 * 16.0 * 2.0 * 2.0 * 2048.0 * 16_384.0);
    // 8 KV heads of 64: 2048 bytes a token and layer; its passes read 1001, 1002 and 1003 keys and write one
    is(op(&step, "draft.attention").work.kv_bytes, 16.0 * 2048.0 * 2.0 * (1001.0 + 1002.0 + 1003.0 + 3.0));
    // Its weights and its cache lie beside: 1.2358 G parameters, 16 layers · 2048 bytes a token
    let more = step.outcome.memory.weights - plain.outcome.memory.weights;
    assert!((more / 2.0 / 1.235_8e9 - 1.0).abs() < 1e-3, "{more}");
    // Room for the three drafts too
    is(step.outcome.memory.kv, 2.0 * 1004.0 * (3200.0 + 32_768.0));
}

#[test]
fn a_draft_is_predicted_as_a_step_of_its_own_model() {
    for (name, tp) in [("llama-3.1-8b", 2), ("qwen3-30b-a3b", 2), ("deepseek-v3", 8)] {
        let served = || {
            let hardware = catalog::hardware::hardware("h200").unwrap().item;
            Deployment {
                layout: Layout { tp, ..Layout::default() },
                efficiency: Efficiency::predicted("vllm"),
                ..deployment(catalog::models::model(name).unwrap(), hardware)
            }
        };
        let plain = ask(served(), "none", &decode(16, 4001)).unwrap();
        let with = format!("spec:method=draft-model,draft={name},gamma=2,accept=0.5");
        let drafted = ask(served(), &with, &decode(16, 4001)).unwrap();
        for own in plain.ops.iter().filter(|op| op.name != "host" && op.name != "sampling") {
            let draft = op(&drafted, &format!("draft.{}", own.name));
            let off = draft.predicted.seconds / (2.0 * own.predicted.seconds) - 1.0;
            assert!(own.predicted.seconds == 0.0 || off.abs() < 1e-3, "{name} {}: {off}", own.name);
        }
    }
}

#[test]
fn a_draft_reads_the_prompt_too() {
    let step = run("spec:method=draft-model,draft=llama-3.2-1b,gamma=3,accept=0.7", &prefill(1, 100));
    is(op(&step, "draft.gate_up_proj").work.flops, 100.0 * 16.0 * 2.0 * 2048.0 * 16_384.0);
}

#[test]
fn an_eagle_head_is_one_layer_and_a_projection() {
    let step = run("spec:method=eagle,gamma=3,accept=0.7", &decode(1, 1001));
    // One layer, three passes of 8 M weights; the head is read three times more
    is(op(&step, "draft.gate_up_proj").work.weight_bytes, 3.0 * 16e6);
    is(op(&step, "draft.fuse_proj").work.weight_bytes, 3.0 * 2000.0 * 1000.0 * 2.0);
    is(op(&step, "draft.lm_head").work.weight_bytes, 3.0 * 20e6);
    is(op(&step, "draft.lm_head").work.flops, 3.0 * 2.0 * 1e7);
    // A step takes all of its operators' time, each draft's included
    let all: f64 = step.ops.iter().map(|op| op.ideal).sum();
    is(seconds(&step), all);
    // Its own weights: a layer of 14.4 M and 2 M
    let plain = run("none", &decode(1, 1001));
    is(step.outcome.memory.weights - plain.outcome.memory.weights, 16.4e6 * 2.0);
}

#[test]
fn a_draft_head_attends_to_everything_whatever_the_model_does() {
    // Gemma 3's last layer has a window of 1024; its draft head reads all 8001 … 8003 keys: 16 heads of 128, twice
    let step = known("gemma-3-27b", "h100-sxm", "spec:method=eagle,gamma=3,accept=0.7", &decode(1, 8001));
    is(
        op(&step, "draft.attention").work.kv_bytes,
        2.0 * 16.0 * 128.0 * 2.0 * (8001.0 + 8002.0 + 8003.0 + 3.0),
    );
}

#[test]
fn a_draft_head_has_keys_of_its_own_whatever_the_model_shares() {
    use roofline_core::model::Mixer;
    let mut model = toy();
    for group in &mut model.layers {
        if let Some(Mixer::Attention(attention)) = &mut group.mixer {
            attention.shares_kv = true;
        }
    }
    let step =
        ask(deployment(model, device()), "spec:method=eagle,gamma=2,accept=0.5", &decode(1, 1001)).unwrap();
    // Queries of 1000 columns in the model; 400 more of keys and values in the draft, twice
    is(op(&step, "qkv_proj").work.weight_bytes, 4.0 * 2e6);
    is(op(&step, "draft.qkv_proj").work.weight_bytes, 2.0 * 2.8e6);
}

#[test]
fn the_stage_that_drafts_keeps_the_drafts_cache() {
    let spec = "spec:method=eagle,gamma=3,accept=0.7";
    let (two, plain) =
        (run(&format!("{spec} + parallel:pp=2"), &decode(1, 1001)), run("parallel:pp=2", &decode(1, 1001)));
    // Keys of two of the four layers, and of the draft's; room for three drafts beside 1001 tokens
    is(two.outcome.memory.kv / plain.outcome.memory.kv, 1.5 * 1004.0 / 1001.0);
}

#[test]
fn a_draft_model_keeps_its_windows() {
    let with = "spec:method=draft-model,draft=gemma-3-1b,gamma=3,accept=0.7";
    let step = known("gemma-3-27b", "h100-sxm", with, &decode(1, 8001));
    let windowed = step.ops.iter().find(|op| op.name.starts_with("draft.attention[")).unwrap();
    // One KV head of 256 in 22 layers with a window of 512, three passes: as many keys read, one written
    is(windowed.work.kv_bytes, 22.0 * 3.0 * 2.0 * 256.0 * 2.0 * (512.0 + 1.0));
}

#[test]
fn flags_and_technique_draft_alike() {
    use roofline_core::technique::Technique;
    let written = "spec:method=eagle,gamma=3,accept=0.7/0.5/0.5";
    let flags = Technique::drafts("eagle", 3, &[0.7, 0.5, 0.5], None).unwrap();
    assert_eq!(flags.to_string(), written);
    let by_flags = deployment(toy(), device()).with(&[flags]).unwrap();
    let by_flags = ask(by_flags, "none", &decode(4, 1000)).unwrap();
    let step = run(written, &decode(4, 1000));
    assert_eq!((seconds(&by_flags), tpot(&by_flags)), (seconds(&step), tpot(&step)));
    // A draft model need not be one of the catalogue
    let own = Technique::drafts("draft-model", 2, &[0.5, 0.5], Some(&toy())).unwrap();
    let own = ask(deployment(toy(), device()).with(&[own]).unwrap(), "none", &decode(1, 1000)).unwrap();
    is(op(&own, "draft.gate_up_proj").work.weight_bytes, 2.0 * 64e6);
}

#[test]
fn what_an_engine_verifies_brings_as_many_tokens() {
    for (with, drafts) in [
        ("spec:method=ngram,gamma=3,accept=0.8/0.6/0.5", 3),
        ("spec:method=ngram,gamma=2,tree=3/2,accept=0.5", 9),
        ("spec:method=medusa,gamma=2,recorded=2/1/0/2", 2),
        ("parallel-decoding:method=jacobi,width=8,tokens=2.25", 7),
        ("parallel-decoding:method=skeleton,width=5", 4),
        ("spec:method=lookahead,gamma=3,accept=0.6,window=5,guesses=3", 23),
    ] {
        let techniques = deployment(toy(), device()).with(&techniques(with)).unwrap().techniques;
        let verified = techniques.drafting().unwrap();
        assert_eq!(verified.tokens, drafts, "{with}");
        assert_eq!(u64::from(verified.tokens) + 1, techniques.generation().width, "{with}");
        is(roofline_core::technique::expected_tokens(&verified.acceptance), techniques.generation().tokens);
    }
}

#[test]
fn medusa_heads_run_once_a_step() {
    let step = run("spec:method=medusa,gamma=2,accept=0.6", &decode(3, 1001));
    // Two heads of 1000 × 10,000 and 1000 × 1000; three sequences
    is(op(&step, "medusa_head").work.weight_bytes, 2.0 * 20e6);
    is(op(&step, "medusa_head").work.flops, 2.0 * 3.0 * 2.0 * 1e7);
    is(op(&step, "medusa_block").work.weight_bytes, 2.0 * 2e6);
}

#[test]
fn a_shipped_prediction_layer_drafts() {
    let step = known(
        "deepseek-v3",
        "h200-sxm",
        "parallel:tp=8 + spec:method=mtp,gamma=1,accept=0.85",
        &decode(1, 1001),
    );
    is(step.outcome.times.tokens, 1.85);
    assert!(step.ops.iter().any(|op| op.name == "draft.mla_decode"));
}

#[test]
fn jacobi_iterates_a_window() {
    let step = run("parallel-decoding:method=jacobi,width=8,tokens=1.5", &decode(1, 1001));
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 8.0 * 8e6);
    is(tpot(&step), seconds(&step) / 1.5);
}

#[test]
fn lookahead_verifies_ngrams_beside_its_window() {
    let step = run("parallel-decoding:method=lookahead,width=15,ngram=5,tokens=2", &decode(1, 1001));
    // (15 + 15)·(5 − 1) = 120 tokens
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 120.0 * 8e6);
}

#[test]
fn a_skeleton_writes_its_points_at_once() {
    let tokens = |with: &str| {
        run(&format!("parallel-decoding:method=skeleton,{with}"), &decode(1, 1001)).outcome.times.tokens
    };
    is(tokens("width=5,serial=0"), 5.0);
    // Of 100 tokens a tenth one by one, the others in 90/5 steps: 100/28
    is(tokens("width=5"), 100.0 / 28.0);
    // A quarter before: 100/(25 + 75/5)
    is(tokens("width=5,serial=0.25"), 2.5);
    is(tokens("width=5,tokens=3"), 3.0);
    let notes = run("parallel-decoding:method=skeleton,width=5", &decode(1, 1001)).notes;
    assert!(
        notes.iter().any(|note| note.starts_with("10% of an answer are taken to be its skeleton")),
        "{notes:?}"
    );
}

#[test]
fn lookahead_is_speculation_with_guesses_of_its_own() {
    let step = run("spec:method=lookahead,gamma=4,accept=0.5,window=15,guesses=10", &decode(1, 1001));
    // (15 + 10)·4 tokens
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 100.0 * 8e6);
    // γ + 1 − Σ (1 − 0.5^i)^10 for i = 1 … 4: 5 − (0.5^10 + 0.75^10 + 0.875^10 + 0.9375^10)
    let brings = 5.0 - (0.5f64.powi(10) + 0.75f64.powi(10) + 0.875f64.powi(10) + 0.9375f64.powi(10));
    is(step.outcome.times.tokens, brings);
    // One guess is a draft; a list gives each position its own chance: 0.8, 0.8·0.5
    let one = run("spec:method=lookahead,gamma=2,accept=0.8/0.5,window=1,guesses=1", &decode(1, 1001));
    is(one.outcome.times.tokens, 2.2);
    let two = run("spec:method=lookahead,gamma=2,accept=0.8/0.5,window=1,guesses=2", &decode(1, 1001));
    // Of two guesses: 1 − 0.2² = 0.96, 1 − 0.6² = 0.64
    is(two.outcome.times.tokens, 1.0 + 0.96 + 0.64);
    // As `parallel-decoding` computes: n-grams of N = γ + 1
    let same =
        run("parallel-decoding:method=lookahead,width=15,guesses=10,ngram=5,tokens=2", &decode(1, 1001));
    is(op(&same, "gate_up_proj").work.flops, op(&step, "gate_up_proj").work.flops);
    // Measured beforehand: what was accepted is what comes
    let recorded = run("spec:method=lookahead,gamma=2,recorded=0/2,window=4", &decode(1, 1001));
    is(recorded.outcome.times.tokens, 2.0);
}

#[test]
fn a_request_takes_fewer_steps() {
    use roofline_core::point::Point;
    let chat = Point {
        question: Question::Chat,
        batch_size: 1,
        input_len: 100,
        output_len: 21,
        prefix_len: 0,
        chunk: 0,
    };
    let plain = run("none", &chat);
    let fast = run("spec:method=ngram,gamma=1,accept=1", &chat);
    // 20 tokens in 10 steps of two
    let steps =
        |analysis: &roofline_core::analysis::Analysis| op(analysis, "gate_up_proj").work.weight_bytes / 64e6;
    is(steps(&plain), 21.0);
    is(steps(&fast), 11.0);
}

#[test]
fn whole_steps_bring_whole_tokens() {
    let generation = roofline_core::technique::Generation { width: 4, tokens: 2.5 };
    // 8 tokens take 3.2 steps; 3 steps bring 7.5 tokens
    assert_eq!((generation.steps(8), generation.tokens_after(3)), (4, 7));
}
