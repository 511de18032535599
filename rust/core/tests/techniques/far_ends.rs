//! At the far end of its settings a technique's formula holds: it costs another thing that is known.

use proptest::prelude::*;
use roofline_core::accumulate::Totals;
use roofline_core::analysis::Analysis;
use roofline_core::efficiency::Efficiency;
use roofline_core::hardware::Hardware;
use roofline_core::model::hf::model_from_json;
use roofline_core::model::{Mixer, Model};
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::Question;
use roofline_core::step::Deployment;
use roofline_core::work::Family;

use super::random::{self, close};
use super::toy::*;

/// The toy's kin of other shapes; a window where one is given.
fn kin(layers: u64, heads: u64, kv_heads: u64, intermediate: u64, window: Option<u64>) -> Model {
    let (kind, window) = match window {
        Some(window) => ("mistral", format!(r#""sliding_window": {window},"#)),
        None => ("llama", String::new()),
    };
    let text = format!(
        r#"{{"model_type": "{kind}", "hidden_size": 1000, "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads},
        "head_dim": 100, "intermediate_size": {intermediate}, "vocab_size": 10000, "num_hidden_layers": {layers}, {window}
        "torch_dtype": "bfloat16", "tie_word_embeddings": false, "max_position_embeddings": 1000000}}"#
    );
    model_from_json("kin", &text).unwrap()
}

fn points() -> impl Strategy<Value = roofline_core::point::Point> {
    prop_oneof![
        (1u64..200, 300u64..5000).prop_map(|(batch, keys)| decode(batch, keys)),
        (1u64..8, 300u64..3000).prop_map(|(batch, tokens)| prefill(batch, tokens)),
        (1u64..100, 300u64..3000, 1u64..2000).prop_map(|(batch, keys, chunk)| mixed(batch, keys, chunk)),
    ]
}

/// Times, work and memory are the same up to rounding, whatever the operators are called.
#[track_caller]
fn costs_the_same(one: &Analysis, other: &Analysis) {
    assert!(close(seconds(one), seconds(other)), "{} {}", seconds(one), seconds(other));
    works_the_same(one, other);
    let memories = [one, other].map(|analysis| (analysis.outcome.memory.weights, analysis.outcome.memory.kv));
    assert!(close(memories[0].0, memories[1].0) && close(memories[0].1, memories[1].1), "{memories:?}");
}

#[track_caller]
fn works_the_same(one: &Analysis, other: &Analysis) {
    let figures =
        |Totals { flops, vector_flops, weight_bytes, activation_bytes, kv_bytes, link_bytes }: Totals| {
            [flops, vector_flops, weight_bytes, activation_bytes, kv_bytes, link_bytes]
        };
    let (mine, theirs) = (figures(one.per_gpu), figures(other.per_gpu));
    assert!(mine.iter().zip(theirs).all(|(mine, theirs)| close(*mine, theirs)), "{mine:?} {theirs:?}");
}

/// Operators of which names begin like that, together.
fn sum(analysis: &Analysis, begins: &str, of: fn(&Totals) -> f64) -> f64 {
    analysis.ops.iter().filter(|op| op.name.starts_with(begins)).map(|op| of(&op.work)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_pruned_to_the_shapes_of_a_model_costs_that_model(point in points(), layers in 1u64..4, ffn in 1u64..40) {
        let (depth, width) = (layers as f64 / 4.0, ffn as f64 / 40.0);
        let pruned = run(&format!("prune:layers={depth},ffn={width},heads=0.5"), &point);
        let small = ask(deployment(kin(layers, 5, 1, 100 * ffn, None), device()), "none", &point).unwrap();
        costs_the_same(&pruned, &small);
    }

    #[test]
    fn a_window_on_every_layer_costs_the_model_that_was_trained_with_it(point in points(), window in 1u64..6000) {
        let trained = ask(deployment(kin(4, 10, 2, 4000, Some(window)), device()), "none", &point).unwrap();
        for with in [
            format!("attention:kind=window,window={window}"),
            format!("kv-evict:window={window},sinks=0"),
        ] {
            costs_the_same(&run(&with, &point), &trained);
        }
        let with_sinks = format!("attention:kind=window,window={},sinks=1", window.max(2) - 1);
        costs_the_same(&run(&with_sinks, &point), &run(&format!("attention:kind=window,window={}", window.max(2)), &point));
    }

    #[test]
    fn what_keeps_or_chooses_at_least_the_context_costs_full_attention(
        base in random::deployments(), point in random::points(), more in 0u64..1000,
    ) {
        let base = Deployment { efficiency: Efficiency::Ideal, ..base.0 };
        let context = point.context().max(point.prefix_len + point.chunk) + more;
        let Ok(plain) = random::ask(&base, "none", &point) else { return Ok(()) };
        for with in [
            format!("attention:kind=window,window={context}"),
            format!("attention:kind=sparse,top-k={context},index-heads=0"),
            format!("kv-evict:window={context}"),
        ] {
            // Latents that are chosen are attended to as they are, by prompts too.
            let latent = base.model.layers.iter().any(|group| matches!(group.mixer, Some(Mixer::Mla(_))));
            if latent && with.contains("sparse") && point.question != Question::Decode {
                continue;
            }
            if let Ok(step) = random::ask(&base, &with, &point) {
                prop_assert!(close(seconds(&step), seconds(&plain)), "{with}: {} {}", seconds(&step), seconds(&plain));
                works_the_same(&step, &plain);
                prop_assert!(close(step.outcome.memory.kv, plain.outcome.memory.kv), "{with}");
            }
        }
        let kept = random::ask(&base, &format!("kv-evict:budget={context}"), &point).unwrap();
        works_the_same(&kept, &plain);
        prop_assert!(close(kept.outcome.memory.kv, plain.outcome.memory.kv));
    }

    #[test]
    fn a_low_rank_of_the_break_even_costs_the_dense_matrices(base in random::deployments(), point in random::points()) {
        let (dense, factored) = (random::ask(&base, "none", &point).unwrap(), random::ask(&base, "low-rank:keep=1", &point).unwrap());
        for of in [|work: &Totals| work.flops, |work: &Totals| work.weight_bytes, |work: &Totals| work.kv_bytes] {
            prop_assert!(close(of(&dense.per_gpu), of(&factored.per_gpu)));
        }
        prop_assert!(close(dense.outcome.memory.weights, factored.outcome.memory.weights));
        // What lies between the factors is moved where nothing is fused, twice.
        let moved = factored.per_gpu.activation_bytes - dense.per_gpu.activation_bytes;
        let between = dense.ops.iter().any(|op| factored.ops.iter().any(|other| other.name == format!("{}[a]", op.name)));
        if base.lowering.fusion == Fusion::Full || !between {
            prop_assert!(moved.abs() <= 1e-9 * dense.per_gpu.activation_bytes, "{moved}");
        } else {
            prop_assert!(moved > 0.0);
        }
    }

    #[test]
    fn a_sparse_format_costs_its_index_without_zeros_and_nothing_else_without_weights(
        base in random::deployments(), point in random::points(), index in 0u32..32,
    ) {
        let of = |with: &str| random::ask(&base, with, &point).unwrap();
        let (dense, all_kept, none_kept, bitmap) = (
            of("none"),
            of(&format!("sparsity:zeros=0,index={index}")),
            of("sparsity:zeros=1"),
            of("sparsity:zeros=1,format=bitmap"),
        );
        let weights = |analysis: &Analysis, name: &str| op(analysis, name).work.weight_bytes;
        for plain in &dense.ops {
            let (before, name) = (plain.work.weight_bytes, plain.name.as_str());
            if weights(&none_kept, name) == before {
                // Not one of the layers' matrices.
                prop_assert_eq!(weights(&all_kept, name), before);
                continue;
            }
            prop_assert_eq!(weights(&none_kept, name), 0.0, "{}", name);
            // gpt-oss keeps its experts in 4.25 bits
            let bits = if base.model.name.starts_with("gpt-oss") && plain.family == Family::MoeGemm { 4.25 } else { 16.0 };
            prop_assert!(close(weights(&all_kept, name), before * (bits + f64::from(index)) / bits), "{}", name);
            prop_assert!(close(weights(&bitmap, name), before / bits), "{}", name);
        }
        prop_assert!(close(all_kept.per_gpu.flops, dense.per_gpu.flops) && close(none_kept.per_gpu.flops, dense.per_gpu.flops));
    }

    #[test]
    fn outliers_alone_are_sixteen_bits_with_their_index(point in points(), bits in proptest::sample::select(vec![8u32, 4, 2])) {
        let (plain, all) = (run("none", &point), run(&format!("weight-quant:bits={bits},outliers=1"), &point));
        for name in ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"] {
            let factor = (f64::from(bits) + 32.0) / 16.0;
            is(op(&all, name).work.weight_bytes, op(&plain, name).work.weight_bytes * factor);
        }
    }

    #[test]
    fn a_common_prefix_of_everything_is_one_sequence_and_one_each_is_none(batch in 1u64..60, keys in 2u64..4000) {
        let (one, plain) = (run("none", &decode(1, keys)), run("none", &decode(batch, keys)));
        // All that was there before the step is shared: one copy, and each sequence's own new token.
        let shared = run(&format!("prefix-sharing:tokens={}", keys - 1), &decode(batch, keys));
        let token = 3200.0;
        is(shared.outcome.memory.kv, one.outcome.memory.kv + (batch - 1) as f64 * token);
        // Read once; each sequence reads and writes its new token, which is what is left at no context at all.
        let moved = |keys: u64| op(&run("none", &decode(batch, keys)), "attention").work.kv_bytes;
        let own = 2.0 * moved(2) - moved(3);
        is(op(&shared, "attention").work.kv_bytes, own + token * (keys - 1) as f64);
        let apart = run(&format!("prefix-sharing:tokens={},groups={batch}", keys - 1), &decode(batch, keys));
        is(apart.outcome.memory.kv, plain.outcome.memory.kv);
        is(op(&apart, "attention").work.kv_bytes, op(&plain, "attention").work.kv_bytes);
    }

    #[test]
    fn devices_that_share_a_context_move_together_what_one_would(
        batch in 1u64..50, keys in 300u64..4000, ranks in 2u64..9, style in proptest::sample::select(vec!["ring", "ulysses"]),
    ) {
        let with = format!("context-parallel:ranks={ranks},style={style}");
        for (point, decodes) in [(decode(batch, keys), true), (prefill(2, keys), false)] {
            let (whole, share) = (run("none", &point), run(&with, &point));
            let cut = |of: fn(&Totals) -> f64| sum(&share, "attention", of) * ranks as f64;
            is(cut(|work| work.flops), sum(&whole, "attention", |work| work.flops));
            is(share.outcome.memory.kv * ranks as f64, whole.outcome.memory.kv);
            if decodes {
                // Every device runs all tokens through all weights.
                is(op(&share, "down_proj").work.flops, op(&whole, "down_proj").work.flops);
            } else {
                is(op(&share, "down_proj").work.flops * ranks as f64, op(&whole, "down_proj").work.flops);
            }
            is(op(&share, "down_proj").work.weight_bytes, op(&whole, "down_proj").work.weight_bytes);
        }
    }

    #[test]
    fn a_crowd_needs_every_neuron_and_one_token_its_own(keys in 300u64..4000, active in 1u32..100) {
        let share = f64::from(active) / 100.0;
        let with = format!("contextual-sparsity:active={share},parts=ffn");
        let (one, crowd) = (run(&with, &decode(1, keys)), run(&with, &decode(20_000, keys)));
        is(op(&one, "down_proj").work.weight_bytes, share * 32e6);
        is(op(&crowd, "down_proj").work.weight_bytes, 32e6);
        is(op(&crowd, "down_proj").work.flops, share * op(&run("none", &decode(20_000, keys)), "down_proj").work.flops);
    }

    #[test]
    fn everybody_leaving_costs_the_layers_before_alone(batch in 1u64..200, keys in 300u64..4000, layers in 1u64..4) {
        let depth = layers as f64 / 4.0;
        let left = run(&format!("early-exit:at={depth},share=1,kv=skip"), &decode(batch, keys));
        let shallow = run(&format!("prune:layers={depth}"), &decode(batch, keys));
        assert!(close(seconds(&left), seconds(&shallow)), "{} {}", seconds(&left), seconds(&shallow));
        works_the_same(&left, &shallow);
    }

    #[test]
    fn a_tree_of_one_candidate_is_a_chain(point in points(), gamma in 1usize..6, method in proptest::sample::select(vec!["ngram", "eagle", "medusa"])) {
        let chain = format!("spec:method={method},gamma={gamma},accept=0.6");
        let tree = format!("{chain},tree={}", vec!["1"; gamma].join("/"));
        let (chain, tree) = (run(&chain, &point), run(&tree, &point));
        prop_assert!(chain.outcome == tree.outcome && chain.ops == tree.ops);
        // A trace in which half of the verifications accept everything, and half nothing: (γ + 2)/2 tokens a step
        let recorded = run(&format!("spec:method={method},gamma={gamma},recorded=0x4/{gamma}x4"), &decode(3, 1000));
        is(recorded.outcome.times.tokens / 3.0, (gamma as f64 + 2.0) / 2.0);
    }

    #[test]
    fn certain_guesses_are_parallel_decoding_of_which_all_holds(point in points(), gamma in 1u64..8) {
        let drafted = run(&format!("spec:method=ngram,gamma={gamma},accept=1"), &point);
        let (width, held) = (gamma + 1, gamma + 1);
        let jacobi = run(&format!("parallel-decoding:width={width},tokens={held}"), &point);
        costs_the_same(&drafted, &jacobi);
        prop_assert_eq!(drafted.outcome.times.tokens, jacobi.outcome.times.tokens);
        // Points that need no skeleton before them are all written at once.
        let points = run(&format!("parallel-decoding:method=skeleton,width={width},serial=0"), &point);
        costs_the_same(&points, &jacobi);
        is(points.outcome.times.tokens, jacobi.outcome.times.tokens);
        let serial = run(&format!("parallel-decoding:method=skeleton,width={width},serial=1"), &decode(2, 1000));
        is(serial.outcome.times.tokens, 2.0);
    }

    #[test]
    fn chips_behind_endless_links_are_one_faster_device(point in points(), chips in 2u64..64) {
        let pooled = run(&format!("spatial:chips={chips},gb-s=1e15"), &point);
        let plain = run("none", &point);
        let ratio = seconds(&plain) / seconds(&pooled) / chips as f64;
        prop_assert!((ratio - 1.0).abs() < 1e-6, "{ratio}");
        is(pooled.outcome.memory.capacity, plain.outcome.memory.capacity * chips as f64);
    }

    #[test]
    fn stacks_that_always_compute_share_the_work_evenly(batch in 1u64..50, keys in 300u64..4000, stacks in 1u64..20) {
        let with = |stacks: u64| run(&format!("pim:device=hbm-pim,stacks={stacks},route=always"), &decode(batch, keys));
        let of = |analysis: &Analysis| op(analysis, "attention").ideal;
        is(of(&with(stacks)), of(&with(2 * stacks)) * 2.0);
        // Where each operator may choose, it is never slower than on the device.
        let routed = run(&format!("pim:device=hbm-pim,stacks={stacks},ops=all"), &decode(batch, keys));
        prop_assert!(seconds(&routed) <= seconds(&run("none", &decode(batch, keys))) * (1.0 + 1e-12));
    }

    #[test]
    fn what_is_offloaded_whole_leaves_the_device(batch in 1u64..50, keys in 300u64..4000) {
        let point = decode(batch, keys);
        let (plain, kv) = (run("none", &point), run("offload:what=kv", &point));
        prop_assert_eq!(kv.outcome.memory.kv, 0.0);
        let fetched = |analysis: &Analysis| sum(analysis, "fetch", |work| work.link_bytes + work.bytes());
        is(fetched(&kv), op(&plain, "attention").work.kv_bytes);
        let weights = run("offload:what=weights", &point);
        // Four layers of 28.8 MB cross the link, two stay as buffers.
        is(fetched(&weights), 4.0 * 28.8e6);
        is(plain.outcome.memory.weights - weights.outcome.memory.weights, 2.0 * 28.8e6);
        let hosted = run("hybrid:processor=xeon-8592,ops=attention", &point);
        prop_assert_eq!(hosted.outcome.memory.kv, 0.0);
    }

    #[test]
    fn communication_hidden_whole_takes_no_longer_than_computing(tp in 1u32..4, batch in 1u64..300) {
        let model = roofline_core::catalog::models::model("llama-3.1-8b").unwrap();
        let hardware = |faster: f64| -> Hardware {
            let mut hardware = random::device(2);
            let link = &mut hardware.scale_up.bandwidth.value;
            *link = link.map(|bandwidth| bandwidth * faster);
            hardware
        };
        let layout = roofline_core::layout::Layout { tp: 1 << tp, ..Default::default() };
        let ask = |with: &str, faster: f64| {
            random::ask(&random::plain(model.clone(), hardware(faster), layout), with, &decode(batch, 1000)).unwrap()
        };
        let links = sum_seconds(&ask("none", 1.0), Family::Link);
        let computing = seconds(&ask("none", 1.0)) - links;
        for share in [0.0, 0.4, 1.0] {
            let hidden = seconds(&ask(&format!("overlap:share={share}"), 1.0));
            prop_assert!(close(hidden, computing + (links - share * computing).max(0.0)), "{share} {hidden}");
        }
    }

    #[test]
    fn adapters_beyond_number_are_one_for_each_sequence(batch in 1u64..200, rank in 1u64..64) {
        let with = |adapters: u64| run(&format!("lora:rank={rank},adapters={adapters},parts=ffn"), &decode(batch, 1000));
        let read = |adapters: u64| sum(&with(adapters), "lora[down_proj]", |work| work.weight_bytes);
        // r·(m + n) numbers of 2 bytes in each of 4 layers
        let one = rank as f64 * 5000.0 * 2.0 * 4.0;
        is(read(1), one);
        let distinct = read(1 << 32);
        prop_assert!((distinct / (batch as f64 * one) - 1.0).abs() < 1e-6, "{distinct}");
    }

    #[test]
    fn one_weight_of_many_costs_its_place(power in 1u32..17, n in 1u64..3) {
        let m = 1u64 << power;
        let n = n.min(m - 1);
        let (dense, kept) = (run("none", &decode(1, 1000)), run(&format!("n-m:n={n},m={m}"), &decode(1, 1000)));
        let factor = n as f64 / m as f64 * (16.0 + f64::from(power)) / 16.0;
        is(op(&kept, "gate_up_proj").work.weight_bytes, op(&dense, "gate_up_proj").work.weight_bytes * factor);
    }
}

fn sum_seconds(analysis: &Analysis, family: Family) -> f64 {
    analysis.ops.iter().filter(|op| op.family == family).map(|op| op.ideal).sum()
}

#[test]
fn every_expert_for_every_token_reads_them_all_and_the_steepest_law_the_same_few() {
    let all = run_moe("experts:top-k=8", &decode(1, 1000));
    let crowd = run_moe("none", &decode(5000, 1000));
    for name in ["experts_gate_up", "experts_down"] {
        is(op(&all, name).work.weight_bytes, op(&crowd, name).work.weight_bytes);
        // Two of eight, however many tokens
        let steep = run_moe("experts:alpha=100", &decode(5000, 1000));
        is(op(&steep, name).work.weight_bytes, op(&crowd, name).work.weight_bytes / 4.0);
    }
}

#[test]
fn both_devices_one_after_another_take_the_sum_of_both() {
    // One micro-batch: attention and FFN wait for each other; the exchange of 8 tokens, 2·1000·2 bytes there and back
    let (plain, waiting) = (run("none", &decode(8, 1000)), run("afd:micro-batches=1", &decode(8, 1000)));
    let exchange = 4.0 * 8.0 * 2.0 * 2000.0 / 100e9;
    is(seconds(&waiting), seconds(&plain) + exchange);
    is(waiting.deployment.weight_bytes, plain.deployment.weight_bytes);
}
