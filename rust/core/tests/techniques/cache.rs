//! KV eviction, prefix sharing, paging, attention variants, fused attention: worked out by hand on the toy.

use super::toy::*;

// A token of one layer keeps 800 bytes; four layers.

#[test]
fn a_share_of_the_cache_is_read_and_kept() {
    let step = run("kv-evict:ratio=0.2", &decode(10, 1000));
    // Read 10 · 200, written 10 tokens
    is(op(&step, "attention").work.kv_bytes, 4.0 * 800.0 * 2010.0);
    // 4·H·d = 4000 FLOPs a pair
    is(op(&step, "attention").work.flops, 4.0 * 4000.0 * 2000.0);
    is(step.outcome.memory.kv, 10.0 * 1000.0 * 3200.0 * 0.2);
}

#[test]
fn prompts_see_everything_before_eviction() {
    let step = run("kv-evict:ratio=0.2", &prefill(1, 100));
    // 100·101/2 pairs
    is(op(&step, "attention").work.flops, 4.0 * 4000.0 * 5050.0);
}

#[test]
fn layers_with_a_window_keep_it_whatever_is_evicted_elsewhere() {
    let ask = |with: &str| known("gemma-3-27b", "h100-sxm", with, &decode(1, 8000));
    let plain = ask("none");
    // Layers that keep everything: 16 KV heads of 128, keys and values of two bytes; the others keep 1,024 tokens
    let full = op(&plain, "attention").repeat * 16.0 * 128.0 * 2.0 * 2.0;
    assert!(plain.ops.iter().any(|op| op.name == "attention[window 1024]"));
    for (with, kept) in [("kv-evict:ratio=0.25", 2000.0), ("kv-evict:budget=512", 512.0)] {
        let step = ask(with);
        is(plain.outcome.memory.kv - step.outcome.memory.kv, full * (8000.0 - kept));
        let window = |step| op(step, "attention[window 1024]").work.kv_bytes;
        is(window(&step), window(&plain));
    }
}

#[test]
fn a_budget_caps_what_is_read_and_kept() {
    let step = run("kv-evict:budget=256", &decode(10, 1000));
    is(op(&step, "attention[256 kept]").work.kv_bytes, 4.0 * 800.0 * (2560.0 + 10.0));
    is(step.outcome.memory.kv, 10.0 * 256.0 * 3200.0);
}

#[test]
fn layers_may_have_budgets_of_their_own() {
    let step = run("kv-evict:budget=400/100", &decode(1, 1000));
    // Two layers each
    is(op(&step, "attention[400 kept]").work.kv_bytes, 2.0 * 800.0 * 401.0);
    is(op(&step, "attention[100 kept]").work.kv_bytes, 2.0 * 800.0 * 101.0);
    is(step.outcome.memory.kv, 1600.0 * 500.0);
}

#[test]
fn a_window_with_sinks_bounds_prompts_too() {
    let step = run("kv-evict:window=96,sinks=4", &prefill(1, 1000));
    // The first 100 tokens see 1 … 100, the other 900 see 100 each
    is(op(&step, "attention[window 100]").work.flops, 4.0 * 4000.0 * (5050.0 + 90_000.0));
    is(step.outcome.memory.kv, 100.0 * 3200.0);
}

#[test]
fn summing_scores_costs_traffic() {
    let step = run("kv-evict:ratio=0.5,score=yes", &decode(1, 1000));
    let plain = run("kv-evict:ratio=0.5", &decode(1, 1000));
    let more = op(&step, "attention").work.activation_bytes - op(&plain, "attention").work.activation_bytes;
    // 8 bytes for each of 1000 keys and 2 KV heads, 4 layers
    is(more, 4.0 * 8.0 * 1000.0 * 2.0);
    // Half of the keys are kept with the sums of 2 heads in 4 layers; of a budget as many as of its keys
    is(step.outcome.memory.kv - plain.outcome.memory.kv, 500.0 * 4.0 * 2.0 * 4.0);
    let budget =
        |with: &str| run(&format!("kv-evict:budget=300/100{with}"), &decode(1, 1000)).outcome.memory.kv;
    is(budget(",score=yes") - budget(""), 400.0 * 4.0 * 2.0 * 2.0);
}

#[test]
fn a_shared_prefix_is_stored_once() {
    let step = run("prefix-sharing:tokens=800,cascade=no", &decode(10, 1000));
    // 800 once and 200 for each of ten
    is(step.outcome.memory.kv, 2800.0 * 3200.0);
    is(op(&step, "attention").work.kv_bytes, 4.0 * 800.0 * 10_010.0);
}

#[test]
fn a_cascade_reads_it_once() {
    let step = run("prefix-sharing:tokens=800", &decode(10, 1000));
    is(op(&step, "attention").work.kv_bytes, 4.0 * 800.0 * (2800.0 + 10.0));
    // Every query still meets every key
    is(op(&step, "attention").work.flops, 4.0 * 4000.0 * 10_000.0);
}

#[test]
fn an_engine_holds_as_many_more_sequences_as_it_gives_blocks_back() {
    let memory = |with: &str| run(with, &decode(10, 1000)).outcome.memory;
    let plain = memory("none");
    // Of 1000 tokens the last 256 lie in blocks 46 … 62 of 16: 17 of 63
    for with in ["kv-evict:budget=256", "kv-evict:window=252", "attention:kind=window,window=256"] {
        let less = memory(with);
        assert_eq!(less.num_gpu_blocks, plain.num_gpu_blocks, "{with}");
        assert_eq!(less.engine_sequences, (plain.num_gpu_blocks - 1) / 17, "{with}");
    }
}

#[test]
fn a_prefix_stored_once_leaves_room_for_more_sequences() {
    let memory = |with: &str| run(with, &decode(10, 1000)).outcome.memory;
    let (plain, step) = (memory("none"), memory("prefix-sharing:tokens=800"));
    // 800 tokens of 3,200 bytes once, and 200 for each
    let left = 10.0 * GIB - plain.weights - plain.activations;
    assert_eq!(plain.ideal_sequences, (left / 3.2e6) as u64);
    assert_eq!(step.ideal_sequences, ((left - 2.56e6) / 0.64e6) as u64);
    // In blocks of 16 tokens: 50 once, and 13 of 63 for each; the engine keeps block 0
    let blocks = plain.num_gpu_blocks - 1;
    assert_eq!(plain.engine_sequences, blocks / 63);
    assert_eq!(step.engine_sequences, (blocks - 50) / 13);
    assert_eq!((plain.blocks_needed, step.blocks_needed), (630, 50 + 10 * 13));
    // Three prefixes
    let three = memory("prefix-sharing:tokens=800,groups=3");
    assert_eq!(three.engine_sequences, (blocks - 150) / 13);
    assert_eq!(three.blocks_needed, 3 * 63 + 7 * 13);
    assert_eq!(three.ideal_sequences, ((left - 3.0 * 2.56e6) / 0.64e6) as u64);
    // With tables of 4 bytes a block of 64 and layer, a quarter of a byte a token: 12 blocks once, 4 for each
    let paged = memory("prefix-sharing:tokens=800 + paging:block=64");
    let each = 256.0 * 3200.0 + 1024.0 * 0.25;
    assert_eq!(paged.ideal_sequences, ((left - 768.0 * 3200.0) / each) as u64);
    // What fits for the others fits with it: 4,000 sequences of 3.2 MB do not
    let many = |with: &str| run(with, &decode(4000, 1000)).outcome.memory.fits();
    assert!(!many("none") && many("prefix-sharing:tokens=800"));
}

#[test]
fn several_prefixes_are_stored_and_read_each() {
    let step = run("prefix-sharing:tokens=800,groups=2", &decode(10, 1000));
    is(step.outcome.memory.kv, 3600.0 * 3200.0);
    is(op(&step, "attention").work.kv_bytes, 4.0 * 800.0 * (3600.0 + 10.0));
}

#[test]
fn blocks_are_allocated_whole() {
    let step = run("paging:block=64", &decode(10, 1000));
    // ⌈1000/64⌉ = 16 blocks of 64; 4 bytes a block and layer beside
    is(step.outcome.memory.kv, 10.0 * 1024.0 * (3200.0 + 4.0 * 4.0 / 64.0));
    is(op(&step, "attention").work.kv_bytes, 4.0 * (800.0 * 10_010.0 + 10_000.0 * 4.0 / 64.0));
}

#[test]
fn sequences_share_whole_blocks() {
    let step = run("paging:block=64 + prefix-sharing:tokens=800", &decode(10, 1000));
    // ⌊800/64⌋ = 12 blocks once, and 16 − 12 = 4 for each of ten; a table of 16 entries for each of ten
    is(step.outcome.memory.kv, (768.0 + 10.0 * 256.0) * 3200.0 + 10.0 * 1024.0 * 4.0 * 4.0 / 64.0);
    // A cascade reads 768 keys and their entries once, and 232 of each
    is(op(&step, "attention").work.kv_bytes, 4.0 * (800.0 * (3088.0 + 10.0) + 3088.0 * 4.0 / 64.0));
    let without = run("paging:block=64 + prefix-sharing:tokens=800,cascade=no", &decode(10, 1000));
    is(without.outcome.memory.kv, step.outcome.memory.kv);
    is(op(&without, "attention").work.kv_bytes, 4.0 * (800.0 * 10_010.0 + 10_000.0 * 4.0 / 64.0));
    // Less than a block is shared by nobody
    let (short, alone) = (
        run("paging:block=64 + prefix-sharing:tokens=63", &decode(10, 1000)),
        run("paging:block=64", &decode(10, 1000)),
    );
    is(short.outcome.memory.kv, alone.outcome.memory.kv);
    is(op(&short, "attention").work.kv_bytes, op(&alone, "attention").work.kv_bytes);
}

#[test]
fn contiguous_caches_reserve_the_longest() {
    let step = run("paging:contiguous=4096", &decode(10, 1000));
    is(step.outcome.memory.kv, 10.0 * 4096.0 * 3200.0);
}

#[test]
fn a_window_on_half_of_the_layers() {
    let step = run("attention:kind=window,window=100,layers=0.5", &decode(1, 1000));
    is(op(&step, "attention[window 100]").work.kv_bytes, 2.0 * 800.0 * 101.0);
    is(op(&step, "attention").work.kv_bytes, 2.0 * 800.0 * 1001.0);
    is(step.outcome.memory.kv, 1600.0 * 1100.0);
    // Of four layers 0.6 are 2.4: two
    let step = run("attention:kind=window,window=100,layers=0.6", &decode(1, 1000));
    is(op(&step, "attention[window 100]").repeat, 2.0);
}

#[test]
fn sparse_attention_reads_its_choice_and_an_index_of_everything() {
    let with = "attention:kind=sparse,top-k=128,index-heads=4,index-dim=64";
    let step = run(with, &decode(1, 1000));
    is(op(&step, "attention[top 128]").work.kv_bytes, 4.0 * 800.0 * 129.0);
    // 2 · 4 · 64 FLOPs a pair, 64·(1 + 4/128) = 66 bytes a key
    is(op(&step, "indexer").work.flops, 4.0 * 512.0 * 1000.0);
    is(op(&step, "indexer").work.kv_bytes, 4.0 * 66.0 * 1001.0);
    // The whole cache is kept, and the index with it
    is(step.outcome.memory.kv, 1000.0 * (3200.0 + 4.0 * 66.0));
}

#[test]
fn native_sparse_attention_reads_blocks_a_window_and_compressed_keys() {
    let step = run("attention:kind=nsa,blocks=4,stride=20,window=44", &decode(1, 1000));
    // 4 blocks of 64 and a window of 44: 300 keys; 1000/20 = 50 compressed ones
    is(op(&step, "attention[top 300]").work.kv_bytes, 4.0 * 800.0 * 301.0);
    is(op(&step, "attention[compressed]").work.kv_bytes, 4.0 * 800.0 * 50.0);
    // They are kept beside the whole cache: 3200/20 bytes a token
    is(step.outcome.memory.kv, 1000.0 * 3360.0);
}

#[test]
fn linear_attention_moves_a_state_whatever_the_context() {
    let short = run("attention:kind=linear", &decode(1, 100));
    let long = run("attention:kind=linear", &decode(1, 100_000));
    // 10 heads of 100 × 100 in fp32, read and written, 4 layers
    is(op(&long, "linear_attention").work.kv_bytes, 4.0 * 2.0 * 400_000.0);
    is(seconds(&short), seconds(&long));
    is(long.outcome.memory.kv, 4.0 * 400_000.0);
}

#[test]
fn unfused_attention_writes_and_reads_its_scores() {
    let step = run("flash:attention=off", &decode(1, 1000));
    // 10 heads · 1000 scores · 2 bytes, 4 layers: written, read and written, read
    is(op(&step, "softmax").work.activation_bytes, 2.0 * 4.0 * 20_000.0);
    let fused = run("none", &decode(1, 1000));
    let bytes = |step: &roofline_core::analysis::Analysis| step.per_gpu.bytes();
    is(bytes(&step) - bytes(&fused), 4.0 * 4.0 * 20_000.0);
}

#[test]
fn split_keys_leave_partial_results() {
    let step = run("flash:splits=4", &decode(1, 1000));
    let plain = run("none", &decode(1, 1000));
    // 2 · 4 parts · 10 heads · 102 numbers of 4 bytes, 4 layers
    let more = op(&step, "attention").work.activation_bytes - op(&plain, "attention").work.activation_bytes;
    is(more, 4.0 * 2.0 * 4.0 * 10.0 * 102.0 * 4.0);
}

#[test]
fn a_tile_must_fit_on_the_chip() {
    // (128·100 + 2·128·100)·2 + 128·(100 + 128)·4 bytes = 193,536 of 262,144
    assert!(seconds(&run("flash:block-q=128,block-k=128", &prefill(1, 1000))) > 0.0);
    let error = refused("flash:block-q=256,block-k=256");
    assert_eq!(
        error.to_string(),
        "flash:block-k must be small enough for a tile of 506 KiB to fit in the 256 KiB of a core: 256"
    );
}

#[test]
fn unfused_elementwise_operators_move_their_tensors() {
    let step = run("fusion:level=none", &prefill(1, 1000));
    // Residual add and norm: 5 passes of 1000 · 1000 · 2 bytes; 8 of them
    is(op(&step, "add_norm").work.activation_bytes, 8.0 * 10e6);
    let step = run("fusion:level=engine", &prefill(1, 1000));
    is(op(&step, "add_norm").work.activation_bytes, 8.0 * 8e6);
}

#[test]
fn each_part_of_the_layers_has_a_budget_of_its_own() {
    // PyramidKV in seven steps over four layers: each budget is four sevenths of a layer's
    let budgets = [900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0];
    let step = run("kv-evict:budget=900/800/700/600/500/400/300", &decode(10, 2000));
    let mean = budgets.iter().sum::<f64>() / 7.0;
    let read: f64 =
        budgets.iter().map(|kept| op(&step, &format!("attention[{kept} kept]")).work.kv_bytes).sum();
    is(read, 4.0 * 800.0 * 10.0 * (mean + 1.0));
    is(step.outcome.memory.kv, 10.0 * 3200.0 * mean);
    // A model with windows and a vision tower has room for five
    let gemma =
        known("gemma-3-27b", "h100-sxm", "kv-evict:budget=5000/4000/3000/2000/1500", &decode(2, 8000));
    // 10 of 62 layers see everything; 16 heads of 128, keys and values of two bytes
    let read: f64 =
        gemma.ops.iter().filter(|op| op.name.ends_with(" kept]")).map(|op| op.work.kv_bytes).sum();
    is(read, 10.0 * 2.0 * 16.0 * 128.0 * 2.0 * 2.0 * (15_500.0 / 5.0 + 1.0));
}

#[test]
fn a_draft_models_states_lie_beside_its_keys() {
    let with = "spec:method=draft-model,draft=mamba-2.8b,gamma=2,accept=0.5";
    let kv = |with: &str| known("llama-3.1-8b", "h100-sxm", with, &decode(3, 1000)).outcome.memory.kv;
    let states = known("mamba-2.8b", "h100-sxm", "none", &decode(3, 1000)).outcome.memory.kv;
    // Llama keeps two more tokens, which may be thrown away
    is(kv(with), kv("none") * 1002.0 / 1000.0 + states);
}

#[test]
fn evicting_from_layers_that_all_keep_windows_is_said_to_change_nothing() {
    for (model, before) in
        [("mistral-7b-v0.1", ""), ("deepseek-v2-lite", "attention:kind=window,window=900 + ")]
    {
        for evict in ["kv-evict:ratio=0.5", "kv-evict:budget=100/200", "kv-evict:ratio=0.5,score=yes"] {
            let found = known(model, "h100-sxm", &format!("{before}{evict}"), &decode(2, 5000));
            let said = format!("`{evict}` changes nothing here");
            assert!(found.notes.contains(&said), "{model} {evict}: {:?}", found.notes);
        }
    }
    let kept = |with: &str| {
        let found =
            known("llama-3.1-8b", "h100-sxm", &format!("attention:kind=sparse + {with}"), &decode(2, 5000));
        assert!(found.notes.iter().all(|note| !note.contains("changes nothing")), "{:?}", found.notes);
        found.outcome.memory.kv
    };
    // Scores of 4 bytes for each of 8 heads in 32 layers lie beside the keys that stay
    let scores = 0.5 * 2.0 * 5000.0 * 4.0 * 8.0 * 32.0;
    is(kept("kv-evict:ratio=0.5,score=yes"), kept("kv-evict:ratio=0.5") + scores);
}
