//! Laws of techniques: neutral settings, far ends, order, sums, capacity beside bytes.

use proptest::prelude::*;
use roofline_core::analysis::Analysis;
use roofline_core::layout::Layout;
use roofline_core::precision::{Precision, Request, SCHEMES};
use roofline_core::step::Deployment;
use roofline_core::technique::{KINDS, Technique, expand};

use super::neutral::NEUTRAL;
use super::toy::*;

/// One example of each kind that does something.
pub const ACTIVE: [&str; 28] = [
    "distill:student=llama-3.2-1b",
    "prune:ffn=0.5",
    "attention:kind=window,window=200",
    "experts:alpha=1",
    "parallel:tp=2",
    "spatial:chips=2",
    "weight-quant:bits=4",
    "activation-quant:format=fp8",
    "kv-quant:bits=4",
    "fusion:level=engine",
    "flash:splits=2",
    "overlap:share=0.5",
    "low-rank:keep=0.5",
    "sparsity:zeros=0.7",
    "n-m:n=2,m=4",
    "kv-evict:ratio=0.5",
    "prefix-sharing:tokens=100",
    "paging:block=64",
    "context-parallel:ranks=2",
    "contextual-sparsity:active=0.3",
    "early-exit:at=0.5,share=0.3",
    "lora:rank=8,adapters=3",
    "spec:method=eagle,gamma=2,accept=0.6",
    "parallel-decoding:width=4,tokens=1.4",
    "afd:attention=1,ffn=1",
    "pim:ops=attention",
    "hybrid:processor=xeon-8592,share=0.5",
    "offload:what=weights,share=0.3",
];

#[test]
fn every_kind_has_an_example_of_what_it_does() {
    for kind in KINDS {
        let starts = |text: &&&str| text.split(':').next() == Some(kind.name);
        assert_eq!(ACTIVE.iter().filter(starts).count(), 1, "{}", kind.name);
        for text in [kind.about, kind.changes, kind.formula, kind.source, kind.pays, kind.loses, kind.class] {
            assert!(!text.is_empty(), "{}", kind.name);
        }
    }
}

fn points() -> impl Strategy<Value = roofline_core::point::Point> {
    prop_oneof![
        (1u64..200, 300u64..5000).prop_map(|(batch, keys)| decode(batch, keys)),
        (1u64..8, 300u64..3000).prop_map(|(batch, tokens)| prefill(batch, tokens)),
    ]
}

pub fn same(one: &Analysis, other: &Analysis) {
    assert_eq!(seconds(one), seconds(other));
    assert_eq!(one.outcome.memory.weights, other.outcome.memory.weights);
    assert_eq!(one.outcome.memory.kv, other.outcome.memory.kv);
    assert_eq!(one.outcome.tokens_per_gpu_s, other.outcome.tokens_per_gpu_s);
    assert_eq!(one.per_gpu.flops, other.per_gpu.flops);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn even_loads_are_no_skew(point in points()) {
        let even = run_moe("experts:loads=3/3/3/3/3/3/3/3", &point);
        let plain = run_moe("none", &point);
        prop_assert!((seconds(&even) / seconds(&plain) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn totals_are_the_sum_of_operators(point in points(), which in 1usize..28) {
        prop_assume!(ACTIVE[which] != "experts:alpha=1");
        let step = run(ACTIVE[which], &point);
        let sum = |of: fn(&roofline_core::accumulate::Totals) -> f64| step.ops.iter().map(|op| of(&op.work)).sum::<f64>();
        is(step.per_gpu.flops, sum(|work| work.flops));
        is(step.per_gpu.weight_bytes, sum(|work| work.weight_bytes));
        is(step.per_gpu.kv_bytes, sum(|work| work.kv_bytes));
        is(step.per_gpu.link_bytes, sum(|work| work.link_bytes));
        for op in &step.ops {
            let spent = op.spent.total();
            prop_assert!((spent - op.ideal).abs() <= 1e-12 * op.ideal, "{}: {spent} {}", op.name, op.ideal);
            prop_assert!(op.ideal >= 0.0 && op.work.weight_bytes >= 0.0 && op.work.kv_bytes >= 0.0, "{}", op.name);
        }
    }

    #[test]
    fn the_order_in_which_techniques_are_written_does_not_count(
        point in points(), chosen in proptest::sample::subsequence((1usize..28).collect::<Vec<_>>(), 2..5), turn in 0usize..4,
    ) {
        let texts: Vec<&str> = chosen.iter().map(|place| ACTIVE[*place]).filter(|text| *text != "experts:alpha=1").collect();
        let mut turned = texts.clone();
        let by = turn.min(turned.len());
        turned.rotate_left(by);
        turned.reverse();
        let one = ask(deployment(toy(), device()), &texts.join(" + "), &point);
        let other = ask(deployment(toy(), device()), &turned.join(" + "), &point);
        match (one, other) {
            (Ok(one), Ok(other)) => same(&one, &other),
            (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
            (one, other) => prop_assert!(false, "{:?} {:?}", one.is_ok(), other.is_ok()),
        }
    }

    #[test]
    fn techniques_of_different_quantities_commute_even_when_applied_in_turn(point in points()) {
        for [first, second] in [
            ["weight-quant:bits=4", "kv-quant:bits=4"],
            ["weight-quant:bits=4", "attention:kind=window,window=200"],
            ["kv-quant:bits=4", "overlap:share=0.5"],
            ["prune:ffn=0.5", "kv-quant:bits=4"],
            ["spatial:chips=2", "weight-quant:bits=4"],
        ] {
            let applied = |one: &str, two: &str| {
                let deployment = deployment(toy(), device()).with(&techniques(one)).unwrap();
                ask(deployment, two, &point).unwrap()
            };
            same(&applied(first, second), &applied(second, first));
        }
    }

    #[test]
    fn fewer_bits_are_never_slower_where_nothing_converts(point in points()) {
        for pair in ["16", "8", "4", "3", "2", "1"].windows(2) {
            let with = |bits: &str, kind: &str, more: &str| seconds(&run(&format!("{kind}:bits={bits}{more}"), &point));
            prop_assert!(with(pair[1], "weight-quant", ",dequant=off") <= with(pair[0], "weight-quant", ",dequant=off"));
            prop_assert!(with(pair[1], "kv-quant", "") <= with(pair[0], "kv-quant", ""));
        }
    }

    #[test]
    fn keeping_less_of_the_cache_is_never_slower(point in points(), less in 0.05f64..0.9) {
        let with = |ratio: f64| seconds(&run(&format!("kv-evict:ratio={ratio}"), &point));
        prop_assert!(with(less) <= with(less + 0.1));
    }

    #[test]
    fn a_mixed_step_computes_its_prompt_whole_and_the_others_as_they_are_alone(
        batch in 1u64..100, keys in 300u64..4000, chunk in 1u64..2000, share in 0.0f64..1.0, depth in 0.05f64..0.95,
    ) {
        for with in [
            format!("early-exit:at={depth},share={share}"),
            format!("early-exit:at={depth},share={share},kv=skip"),
            format!("contextual-sparsity:active={}", 1.0 - 0.99 * share),
            format!("contextual-sparsity:active={},parts=ffn,predictor=64", 1.0 - 0.99 * share),
        ] {
            let (plain, step) = (run("none", &mixed(batch, keys, chunk)), run(&with, &mixed(batch, keys, chunk)));
            let (alone, prompt) = (run(&with, &decode(batch, keys)), run("none", &prefill(1, chunk)));
            is(step.per_gpu.flops, alone.per_gpu.flops + prompt.per_gpu.flops);
            is(step.per_gpu.kv_bytes, alone.per_gpu.kv_bytes + prompt.per_gpu.kv_bytes);
            if !with.contains("predictor") {
                is(step.per_gpu.weight_bytes, plain.per_gpu.weight_bytes);
            }
            // Where attention is taken apart by who asks, each part has a ceiling of its own.
            if !with.contains("predictor") && !with.contains("active") {
                prop_assert!(seconds(&step) <= seconds(&plain) * (1.0 + 1e-12), "{with}");
            }
        }
    }

    #[test]
    fn a_predicted_step_counts_each_sequence_once(batch in 1u64..100, keys in 300u64..4000, chunk in 1u64..2000) {
        use roofline_core::efficiency::Efficiency;
        let hardware = roofline_core::catalog::hardware::hardware("h100-sxm").unwrap().item;
        let ask = |with: &str, point| {
            let deployment = Deployment { efficiency: Efficiency::predicted("vllm"), ..deployment(toy(), hardware.clone()) };
            let step = ask(deployment, with, &point).unwrap();
            step.ops.iter().filter(|op| op.name.starts_with("attention")).map(|op| op.predicted.seconds).sum::<f64>()
        };
        // A share of everything that is nearly one: prompts and decoding sequences apart cost what they cost together,
        // but for the one launch they share.
        let apart = ask("kv-evict:ratio=0.999999", mixed(batch, keys, chunk));
        let (together, launches) = (ask("none", mixed(batch, keys, chunk)), 4.0 * 20e-6);
        prop_assert!(apart >= together * (1.0 - 1e-3) && apart <= together * 1.001 + launches, "{apart} {together}");
    }

    #[test]
    fn a_low_rank_of_the_break_even_costs_the_dense_layer(point in points()) {
        let (dense, factored) = (run("none", &point), run("low-rank:keep=1", &point));
        for name in ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"] {
            let parts = [op(&factored, &format!("{name}[a]")), op(&factored, &format!("{name}[b]"))];
            let sum = |of: fn(&roofline_core::accumulate::Totals) -> f64| parts.iter().map(|part| of(&part.work)).sum::<f64>();
            is(sum(|work| work.flops), op(&dense, name).work.flops);
            is(sum(|work| work.weight_bytes), op(&dense, name).work.weight_bytes);
            is(sum(|work| work.activation_bytes), op(&dense, name).work.activation_bytes);
        }
        is(factored.outcome.memory.weights, dense.outcome.memory.weights);
    }

    #[test]
    fn a_sparse_format_without_zeros_costs_its_index(point in points(), index in 0.0f64..32.0) {
        let (dense, sparse) = (run("none", &point), run(&format!("sparsity:zeros=0,index={index}"), &point));
        let more = op(&sparse, "gate_up_proj").work.weight_bytes / op(&dense, "gate_up_proj").work.weight_bytes;
        is(more, 1.0 + index / 16.0);
        is(sparse.outcome.memory.weights - dense.outcome.memory.weights, 57.6e6 * index / 8.0);
    }

    #[test]
    fn a_certain_draft_brings_all_of_its_tokens(gamma in 1u64..12) {
        let step = run(&format!("spec:method=ngram,gamma={gamma},accept=1"), &decode(1, 1000));
        is(step.outcome.times.tokens, gamma as f64 + 1.0);
        let never = run(&format!("spec:method=ngram,gamma={gamma},accept=0"), &decode(1, 1000));
        is(never.outcome.times.tokens, 1.0);
    }

    #[test]
    fn everybody_leaving_leaves_the_layers_behind_unread(point in (1u64..50).prop_map(|batch| decode(batch, 1000))) {
        let step = run("early-exit:at=0.5,share=1,kv=skip", &point);
        is(op(&step, "gate_up_proj").work.weight_bytes, 32e6);
        is(op(&step, "gate_up_proj[0% of tokens]").work.weight_bytes, 0.0);
    }

    #[test]
    fn weights_in_memory_and_weights_read_move_together(bits in proptest::sample::select(vec!["8", "4", "3", "2", "1"])) {
        let (dense, fewer) = (run("none", &decode(1, 1000)), run(&format!("weight-quant:bits={bits}"), &decode(1, 1000)));
        is(dense.per_gpu.weight_bytes - fewer.per_gpu.weight_bytes, dense.outcome.memory.weights - fewer.outcome.memory.weights);
    }

    #[test]
    fn the_cache_in_memory_and_the_cache_read_move_together(
        with in proptest::sample::select(vec!["kv-quant:bits=4", "kv-evict:ratio=0.3", "context-parallel:ranks=4", "parallel:tp=2"]),
        batch in 1u64..50,
    ) {
        let (plain, less) = (run("none", &decode(batch, 1000)), run(with, &decode(batch, 1000)));
        // One token is written beside the 1000 that are read.
        let read = |step: &Analysis| op(step, "attention").work.kv_bytes;
        let factor = less.outcome.memory.kv / plain.outcome.memory.kv;
        prop_assert!((read(&less) / read(&plain) / factor - 1.0).abs() < 0.005, "{factor} {}", read(&less) / read(&plain));
    }
}

#[test]
fn a_shorthand_is_the_technique_it_stands_for() {
    for scheme in SCHEMES {
        let texts = expand(Some(scheme.name), None, None);
        let request = Request { quantization: Some(scheme.name.to_string()), ..Request::default() };
        let by_flag = Deployment {
            precision: Precision::resolve(&toy(), &request).unwrap(),
            ..deployment(toy(), device())
        };
        if ["bf16", "fp16", "fp32"].contains(&scheme.name) {
            assert!(texts.is_empty(), "{}", scheme.name);
            continue;
        }
        for point in [decode(7, 1000), prefill(2, 700)] {
            let flag = ask(by_flag.clone(), "none", &point).unwrap();
            let technique = run(&texts.join(" + "), &point);
            assert_eq!(seconds(&flag), seconds(&technique), "{}", scheme.name);
            assert_eq!(flag.outcome.memory.weights, technique.outcome.memory.weights, "{}", scheme.name);
        }
    }
    for (format, text) in
        [("fp8", "kv-quant:format=fp8"), ("int8", "kv-quant:format=int8"), ("int4", "kv-quant:format=int4")]
    {
        assert_eq!(expand(None, Some(format), None), [text]);
        let request = Request { kv_cache_dtype: Some(format.to_string()), ..Request::default() };
        let by_flag = Deployment {
            precision: Precision::resolve(&toy(), &request).unwrap(),
            ..deployment(toy(), device())
        };
        assert_eq!(
            seconds(&ask(by_flag, "none", &decode(9, 1000)).unwrap()),
            seconds(&run(text, &decode(9, 1000)))
        );
    }
    assert_eq!(
        expand(None, None, Some(("eagle", 3, "0.8,0.6"))),
        ["spec:method=eagle,gamma=3,accept=0.8/0.6"]
    );
}

#[test]
fn a_layout_is_a_technique_too() {
    let layout = Layout { tp: 2, ..Layout::default() };
    let by_flag =
        ask(Deployment { layout, ..deployment(toy(), device()) }, "none", &decode(3, 1000)).unwrap();
    same(&by_flag, &run("parallel:tp=2", &decode(3, 1000)));
}

#[test]
fn a_technique_is_written_as_it_is_read() {
    for text in ACTIVE.iter().chain(&NEUTRAL) {
        assert_eq!(Technique::parse(text).unwrap().to_string(), *text);
    }
    assert_eq!(Technique::parse(" KV_Quant : bits = 4 ").unwrap().to_string(), "kv-quant:bits=4");
    assert_eq!(Technique::parse("kv-compress:ratio=0.5").unwrap().to_string(), "kv-evict:ratio=0.5");
}

#[test]
fn no_prediction_with_a_technique_beats_its_roofline() {
    use roofline_core::efficiency::Efficiency;
    for with in ACTIVE {
        let (model, tp) = if with.starts_with("experts") { ("mixtral-8x7b", 2) } else { ("llama-3.1-8b", 1) };
        for point in [decode(1, 1000), decode(64, 2000), prefill(1, 1500)] {
            let model = roofline_core::catalog::models::model(model).unwrap();
            let hardware = roofline_core::catalog::hardware::hardware("h100-sxm").unwrap().item;
            let predicted = Deployment {
                layout: Layout { tp, ..Layout::default() },
                efficiency: Efficiency::predicted("vllm"),
                ..deployment(model, hardware)
            };
            let step = ask(predicted, with, &point).unwrap();
            let time = step.outcome.times.step;
            assert!(time.step.seconds >= time.ideal && time.ideal > 0.0, "{with}");
            for op in &step.ops {
                assert!(op.predicted.seconds >= op.ideal, "{with}: {}", op.name);
            }
        }
    }
}
