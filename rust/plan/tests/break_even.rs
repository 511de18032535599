//! Break-even answers are where both sides are equal: found again by trying.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use proptest::prelude::*;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::table::Column;
use roofline_core::technique::Technique;
use roofline_plan::break_even::{Answer, Made, answers, bound_map, table};

const ENGINE: EngineMemory =
    EngineMemory { gpu_memory_utilization: 0.9, max_num_seqs: 256, ..EngineMemory::VLLM };

/// A model of the catalogue on a device of it, without techniques.
fn plain(model: &str, hardware: &str) -> Deployment {
    let model = catalog::models::model(model).unwrap();
    Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware: catalog::hardware::hardware(hardware).unwrap().item,
        layout: Layout::default(),
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
        techniques: Default::default(),
    }
}

fn techniques(text: &str) -> Vec<Technique> {
    Technique::parse_all(&[if text.is_empty() { "none" } else { text }]).unwrap()
}

fn analyst(base: &Deployment, with: &str) -> Analyst {
    Analyst::new(base.clone().with(&techniques(with)).unwrap(), &ENGINE).unwrap()
}

fn decode(batch_size: u64, input_len: u64) -> Point {
    Point { question: Question::Decode, batch_size, input_len, output_len: 1, prefix_len: 0, chunk: 0 }
}

fn tpot(analyst: &Analyst, point: &Point) -> f64 {
    analyst.times(point).unwrap().tpot.unwrap()
}

fn found(base: &Deployment, with: &str, point: &Point) -> Vec<Answer> {
    let techniques = techniques(with);
    answers(&Made { base, stem: base, techniques: &techniques }, point, &ENGINE).unwrap()
}

fn one<'a>(found: &'a [Answer], name: &str, technique: &str) -> &'a Answer {
    let mut fitting = found.iter().filter(|answer| answer.name == name && answer.technique == technique);
    let first = fitting.next().unwrap_or_else(|| panic!("{name} of {technique}: {found:?}"));
    assert!(fitting.next().is_none(), "{name} of {technique} twice: {found:?}");
    first
}

/// The answer about `with`, one technique alone.
fn value(with: &str, model: &str, hardware: &str, point: &Point, name: &str) -> Option<f64> {
    let found = found(&plain(model, hardware), with, point);
    let technique = techniques(with).first().map(ToString::to_string).unwrap_or_default();
    let general = name.starts_with("kv_") || name.starts_with("compute");
    one(&found, name, if general { "" } else { &technique }).value
}

const MODELS: [&str; 7] = [
    "llama-2-13b",
    "llama-3.1-8b",
    "mixtral-8x7b",
    "gemma-2-9b",
    "deepseek-v2-lite",
    "qwen3-30b-a3b",
    "gpt-oss-20b",
];
const DEVICES: [&str; 6] = ["a6000", "h100-sxm", "a100-80gb-sxm", "l40s", "mi300x", "rtx-4090"];
const TECHNIQUES: [&str; 16] = [
    "weight-quant:bits=4",
    "weight-quant:bits=8,dequant=serial,ops=6",
    "weight-quant:bits=4,group=128,scale=16,zero=4,dequant=serial",
    "kv-quant:bits=4,group=64,scale=16",
    "kv-evict:ratio=0.3",
    "kv-evict:window=500,sinks=4",
    "sparsity:zeros=0.7,index=16",
    "contextual-sparsity:active=0.3",
    "early-exit:at=0.5,share=0.4",
    "lora:rank=16",
    "offload:what=weights,share=0.2",
    "prefix-sharing:tokens=200",
    "pim:device=hbm-pim,stacks=5",
    "spec:method=ngram,gamma=3,accept=0.6",
    "spec:method=eagle,gamma=2,accept=0.8/0.5",
    "parallel-decoding:width=4,tokens=1.5",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn gains_begin_and_end_where_trying_every_batch_says(
        model in proptest::sample::select(&MODELS[..]), hardware in proptest::sample::select(&DEVICES[..]),
        chosen in proptest::sample::subsequence(TECHNIQUES.to_vec(), 1..3), context in 201u64..6000,
    ) {
        const TRIED: u64 = 600;
        let base = plain(model, hardware);
        let together = techniques(&chosen.join(" + "));
        prop_assume!(base.clone().with(&together).is_ok_and(|made| Analyst::new(made, &ENGINE).is_ok()));
        let with = analyst(&base, &chosen.join(" + "));
        let all = found(&base, &chosen.join(" + "), &decode(1, context));
        for (place, left_out) in chosen.iter().enumerate() {
            let mut others = chosen.clone();
            others.remove(place);
            let without = analyst(&base, &others.join(" + "));
            let gains = |batch: u64| {
                let point = decode(batch, context);
                tpot(&with, &point) < tpot(&without, &point) * (1.0 - 1e-9)
            };
            let named = |name: &str| all.iter().find(|answer| answer.name == name && answer.technique == *left_out);
            let Some(gone) = named("gain_gone_beyond") else {
                // Nothing is said of what changes nothing.
                prop_assert!((1..TRIED).all(|batch| !gains(batch)), "{left_out} of {chosen:?} {model} {hardware}");
                continue;
            };
            let from = named("gain_from").map_or(1.0, |from| from.value.unwrap()) as u64;
            let tried: Vec<u64> = (1..=TRIED).filter(|batch| gains(*batch)).collect();
            let said = (from, gone.value.map(|last| last as u64));
            let context = format!("{left_out} of {chosen:?} {model} {hardware} @ {context}: {said:?}");
            match said {
                (_, Some(0)) => prop_assert!(tried.is_empty(), "{context} {tried:?}"),
                (first, last) => {
                    prop_assert!(first > TRIED || tried.first() == Some(&first), "{context} {:?}", tried.first());
                    prop_assert!(gains(first) && (first == 1 || !gains(first - 1)), "{context}");
                    if let Some(last) = last {
                        prop_assert!(last > TRIED || tried.last() == Some(&last), "{context} {:?}", tried.last());
                        prop_assert!(gains(last) && !gains(last + 1), "{context}");
                    } else {
                        prop_assert!(gains(1 << 20), "{context}");
                    }
                }
            }
        }
    }

    #[test]
    fn acceptance_pays_from_where_trying_says(
        model in proptest::sample::select(&MODELS[..]), hardware in proptest::sample::select(&DEVICES[..]),
        method in proptest::sample::select(vec!["ngram", "eagle", "medusa"]), gamma in 1u64..7, tree: bool,
        batch in 1u64..200, context in 1u64..8000, others in proptest::sample::select(vec!["", "kv-quant:bits=4 + "]),
    ) {
        let base = plain(model, hardware);
        let branches = if tree { format!(",tree={}", vec!["2"; gamma as usize].join("/")) } else { String::new() };
        let drafts = |chance: f64| format!("spec:method={method},gamma={gamma},accept={chance}{branches}");
        let point = decode(batch, context);
        let all = found(&base, &format!("{others}{}", drafts(0.5)), &point);
        let pays = one(&all, "speculation_pays_from", &drafts(0.5)).value;
        let without = tpot(&analyst(&base, others.trim_end_matches(" + ")), &point);
        for step in 0..=50 {
            let chance = f64::from(step) / 50.0;
            let with = tpot(&analyst(&base, &format!("{others}{}", drafts(chance))), &point);
            let worth = with <= without * (1.0 + 1e-12);
            prop_assert_eq!(worth, pays.is_some_and(|least| chance >= least - 1e-12), "{} {:?}", chance, pays);
        }
        let needed = one(&all, "pays_from_tokens", &drafts(0.5)).value.unwrap();
        let with = analyst(&base, &format!("{others}{}", drafts(0.5)));
        let step = with.times(&point).unwrap().step.step.seconds;
        prop_assert!((step / needed / without - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_cache_outweighs_where_trying_says(
        model in proptest::sample::select(&MODELS[..]), hardware in proptest::sample::select(&DEVICES[..]),
        with in proptest::sample::select(vec![
            "none", "kv-quant:bits=4", "weight-quant:bits=4", "kv-evict:ratio=0.5", "paging:block=64",
            "prefix-sharing:tokens=2000", "spec:method=eagle,gamma=2,accept=0.5", "parallel:tp=2",
        ]),
        batch in 1u64..40, contexts in prop::collection::vec(2u64..400_000, 12),
    ) {
        let base = plain(model, hardware);
        let asked = analyst(&base, with);
        let all = found(&base, with, &decode(batch, 3000));
        let limit = |name: &str| one(&all, name, "").value.map_or(u64::MAX, |most| most as u64);
        let (read, held, layers) =
            (limit("kv_read_outweighs_beyond"), limit("kv_held_outweighs_beyond"), limit("kv_outweighs_layers_beyond"));
        let of = |context: u64| asked.outcome(&decode(batch, context)).unwrap();
        let moved = |context: u64| of(context).done.device().kv_bytes;
        // What a step writes and reads of its own tokens is what is left at no context at all.
        let own = || 2.0 * moved(1) - moved(2);
        let vectors = asked.memory().with(1, 1, 0.0).weights
            - asked.pricer().ops().map(|op| op.stage_repeat * op.work.resident.bytes).sum::<f64>();
        let weights = of(3000).done.device().weight_bytes + vectors;
        let near = [read, held, layers].into_iter().filter(|most| *most < u64::MAX).flat_map(|most| [most.max(2), most + 1]);
        for context in contexts.into_iter().chain(near.collect::<Vec<_>>()) {
            if context < 2 || (with.starts_with("prefix") && context < 2001) {
                continue;
            }
            if !with.starts_with("prefix") {
                prop_assert_eq!(moved(context) - own() > weights * (1.0 + 1e-12), context > read, "read {} {}", context, read);
            }
            // A decode step at a context of c leaves c + 1 tokens in the cache, and drafts beside them.
            let memory = asked.memory().with(batch, context, 0.0);
            prop_assert_eq!(memory.kv > memory.weights * (1.0 + 1e-12), context > held, "held {} {}", context, held);

        }
    }

    #[test]
    fn a_map_says_of_each_pair_what_most_of_its_time_goes_to(
        model in proptest::sample::select(&MODELS[..]), hardware in proptest::sample::select(&DEVICES[..]),
        with in proptest::sample::select(vec!["none", "weight-quant:bits=4", "spec:method=eagle,gamma=3,accept=0.5"]),
        batches in prop::collection::vec(1u64..3000, 3), contexts in prop::collection::vec(1u64..100_000, 3),
    ) {
        let asked = analyst(&plain(model, hardware), with);
        let map = bound_map(&asked, &batches, &contexts).unwrap();
        let (Some(Column::Str(bounds)), Some(Column::F64(steps)), Some(Column::F64(shares))) =
            (map.column("bound"), map.column("step_s"), map.column("kv_share")) else { panic!("columns") };
        prop_assert_eq!(bounds.len(), 9);
        for (row, (batch, context)) in batches.iter().flat_map(|b| contexts.iter().map(move |c| (*b, *c))).enumerate() {
            let answer: Analysis = asked.analyze(&decode(batch, context)).unwrap();
            let time = |bound: &str| -> f64 {
                let ops = answer.ops.iter().filter(|op| op.bound.is_some_and(|one| one.name() == bound));
                ops.map(|op| op.ideal).sum()
            };
            prop_assert!(["compute", "vector", "memory", "link"].iter().all(|other| time(other) <= time(&bounds[row])));
            prop_assert_eq!(steps[row], answer.outcome.times.step.step.seconds);
            let bytes: f64 = answer.ops.iter().map(|op| op.work.bytes()).sum();
            let cache: f64 = answer.ops.iter().map(|op| op.work.kv_bytes).sum();
            prop_assert!((shares[row] / (cache / bytes) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn linear_layers_turn_compute_bound_at_the_rule_of_thumb(
        hardware in proptest::sample::select(&DEVICES[..]), bits in proptest::sample::select(vec![16u32, 8, 4, 3, 2, 1]),
        more in proptest::sample::select(vec!["", " + spec:method=eagle,gamma=3,accept=0.5", " + kv-quant:bits=4"]),
    ) {
        let base = plain("llama-2-13b", hardware);
        let all = found(&base, &format!("weight-quant:bits={bits}{more}"), &decode(1, 1000));
        let roof = roofline_core::roof::Roof::of(&base.hardware).unwrap();
        let (peak, bandwidth) = (roof.peak(base.precision.activation).unwrap(), roof.bandwidth());
        let rule = peak * f64::from(bits) / (16.0 * bandwidth);
        let tokens = one(&all, "compute_bound_from", "").value.unwrap();
        prop_assert!((tokens / rule - 1.0).abs() < 1e-9, "{tokens} {rule}");
        let without = all.iter().find(|answer| answer.name == "compute_bound_from_without");
        prop_assert_eq!(without.is_some(), bits < 16);
        if let Some(without) = without {
            prop_assert!((without.value.unwrap() * f64::from(bits) / 16.0 / rule - 1.0).abs() < 1e-9);
        }
        // Each sequence brings γ + 1 tokens.
        let sequences = all.iter().find(|answer| answer.name == "compute_bound_from_batch");
        prop_assert_eq!(sequences.map(|answer| answer.value.unwrap()), more.contains("spec").then_some(tokens / 4.0));
        // Below it every matrix is read longer than it is multiplied, above it no one is.
        for tokens in [(rule * 0.99) as u64, (rule * 1.01) as u64 + 1].into_iter().filter(|tokens| *tokens > 0) {
            let answer = analyst(&base, &format!("weight-quant:bits={bits}")).analyze(&decode(tokens, 1000)).unwrap();
            for op in answer.ops.iter().filter(|op| op.name.ends_with("_proj")) {
                let compute = op.work.flops / peak > op.work.weight_bytes / bandwidth;
                prop_assert_eq!(compute, tokens as f64 > rule, "{}", op.name);
            }
        }
    }
}

#[test]
fn experts_turn_compute_bound_when_each_has_as_many_tokens_as_a_matrix_needs() {
    let from = |with: &str, model: &str, hardware: &str| {
        let all = found(&plain(model, hardware), with, &decode(1, 1000));
        one(&all, "experts_compute_bound_from", "").value.unwrap()
    };
    // 128 experts, of which a token visits 8: 16 · 989.5/3.35; of Mixtral's 8 it visits 2, in 4 bits a quarter of it
    let ridge = 989.5 / 3.35;
    assert!((from("none", "qwen3-30b-a3b", "h100-sxm") / (16.0 * ridge) - 1.0).abs() < 1e-9);
    let quantized = from("weight-quant:bits=4,parts=experts", "mixtral-8x7b", "h100-sxm");
    assert!((quantized / (4.0 * ridge / 4.0) - 1.0).abs() < 1e-9);
    // Spread over devices, each has as many tokens of its own and a part of each expert
    let base =
        Deployment { layout: Layout { tp: 2, ..Layout::default() }, ..plain("mixtral-8x7b", "h100-sxm") };
    let spread =
        one(&found(&base, "none", &decode(1, 1000)), "experts_compute_bound_from", "").value.unwrap();
    assert!((spread / (4.0 * ridge) - 1.0).abs() < 1e-9);
    let dense = found(&plain("llama-2-13b", "h100-sxm"), "none", &decode(1, 1000));
    assert!(dense.iter().all(|answer| answer.name != "experts_compute_bound_from"));
}

#[test]
fn what_leaves_operations_out_but_reads_all_weights_turns_compute_bound_later() {
    let from = |with: &str| {
        let found = value(with, "llama-3.1-8b", "h100-sxm", &decode(1, 1000), "compute_bound_from");
        found.unwrap()
    };
    let ridge = 989.5e12 / 3.35e12;
    // Half of the tokens compute half of the layers; so many tokens read all of them: F·(1/2 + 1/4) for W
    assert!((from("early-exit:at=0.5,share=0.5,kv=skip") / (ridge / 0.75) - 1.0).abs() < 1e-9);
    // q, k, v and o are 4096·(6144 + 4096) weights a layer, the FFN is 3·4096·14,336, of which each token uses a quarter
    let (attention, ffn) = (4096.0 * (6144.0 + 4096.0), 3.0 * 4096.0 * 14_336.0);
    let sparse = ridge * (attention + ffn) / (attention + ffn / 4.0);
    assert!((from("contextual-sparsity:active=0.25,parts=ffn") / sparse - 1.0).abs() < 1e-9);
    // Each of several devices reads all weights for the tokens of every sequence
    assert!((from("context-parallel:ranks=4") / ridge - 1.0).abs() < 1e-9);
}

#[test]
fn fewer_bits_turn_compute_bound_at_the_rule_of_thumb() {
    // A6000: 154.8 TFLOP/s and 768 GB/s: 201.6, 100.8, 50.4, 25.2, 12.6 tokens
    for (bits, expected) in [(8, 100.78), (4, 50.39), (2, 25.2), (1, 12.6)] {
        let with = format!("weight-quant:bits={bits}");
        let found = value(&with, "llama-2-13b", "a6000", &decode(1, 1000), "compute_bound_from").unwrap();
        assert!((found - expected).abs() < 0.01, "{bits} bits: {found}");
        let without =
            value(&with, "llama-2-13b", "a6000", &decode(1, 1000), "compute_bound_from_without").unwrap();
        assert!((without - 201.56).abs() < 0.01, "{without}");
    }
}

#[test]
fn the_gain_of_four_bits_is_gone_earlier_with_a_serial_dequantization() {
    let gone = |with: &str| value(with, "llama-2-13b", "a6000", &decode(1, 1), "gain_gone_beyond").unwrap();
    let (off, serial) = (gone("weight-quant:bits=4,dequant=off"), gone("weight-quant:bits=4,dequant=serial"));
    // P/B = 201.6 tokens, later by the activations that are moved too: T·F/P = (W + T·A)/B of the last layer to turn
    assert!((202.0..225.0).contains(&off), "{off}");
    // A weight: 2b/P + 1/38.7e12 = 2/768e9, so b = 199.6, a little earlier
    assert!(serial < off && serial > 190.0, "{serial}");
    let heavy = gone("weight-quant:bits=4,dequant=serial,ops=20");
    // b = P·(1/B − 20/(2·38.7e12)) = 161.6
    assert!((160.0..175.0).contains(&heavy), "{heavy}");
}

#[test]
fn at_its_break_even_speculation_takes_as_long_as_none() {
    let with = |accept: f64| format!("spec:method=draft-model,draft=llama-3.2-1b,gamma=4,accept={accept}");
    let point = decode(8, 2000);
    let pays = value(&with(0.5), "llama-3.1-8b", "h100-sxm", &point, "speculation_pays_from").unwrap();
    assert!(pays > 0.0 && pays < 1.0);
    let base = plain("llama-3.1-8b", "h100-sxm");
    assert!(
        (tpot(&analyst(&base, &with(pays)), &point) / tpot(&analyst(&base, "none"), &point) - 1.0).abs()
            < 1e-9
    );
    let crowd = decode(1024, 10);
    assert!(value(&with(0.5), "llama-3.1-8b", "h100-sxm", &crowd, "speculation_pays_from").is_none());
}

#[test]
fn beside_other_techniques_drafts_are_compared_with_those_alone() {
    let (base, point) = (plain("llama-3.1-8b", "h100-sxm"), decode(64, 2048));
    let seconds = |with: &str| analyst(&base, with).times(&point).unwrap().step.step.seconds;
    let drafts = "spec:method=ngram,gamma=1,accept=0.1";
    for others in ["kv-quant:bits=4", "weight-quant:bits=4", "kv-quant:bits=4 + weight-quant:bits=4"] {
        let both = format!("{others} + {drafts}");
        let pays = one(&found(&base, &both, &point), "speculation_pays_from", drafts).value.unwrap();
        // One draft: a step brings 1 + α tokens, so α = T_with/T_without − 1
        let slower = seconds(&both) / seconds(others) - 1.0;
        assert!(slower > 0.0 && (pays - slower).abs() < 1e-9, "{others}: {pays} {slower}");
        // Against a step without any of them it would pay from nothing
        assert!(seconds(&both) < seconds("none"), "{others}");
    }
}

#[test]
fn each_of_several_techniques_is_compared_with_the_others_alone() {
    let base = plain("llama-2-13b", "a6000");
    let gone = |with: &str, technique: &str| {
        one(&found(&base, with, &decode(1, 1)), "gain_gone_beyond", technique).value
    };
    let quantized = "weight-quant:bits=4,dequant=serial";
    let alone = gone(quantized, quantized).unwrap();
    // Half the cache is read with or without them: the batch is the same
    let both = format!("{quantized} + kv-quant:bits=8");
    assert_eq!(gone(&both, quantized), Some(alone));
    // What shrinks the cache gains at every batch, and so do both together
    assert_eq!((gone(&both, "kv-quant:bits=8"), gone(&both, "all together")), (None, None));
    // A step of four tokens a sequence reaches the same tokens at a quarter of the batch
    let drafted = gone(&format!("{quantized} + spec:method=ngram,gamma=3,accept=0.5"), quantized).unwrap();
    assert!((drafted - alone / 4.0).abs() <= 1.0, "{drafted} {alone}");
    // Without quantized weights or drafts, too: neither is compared with the plain model
    let evicted = "kv-evict:ratio=0.5";
    let several = format!("kv-quant:bits=8 + {evicted}");
    assert_eq!((gone(&several, "kv-quant:bits=8"), gone(&several, evicted)), (None, None));
}

#[test]
fn stages_hold_the_caches_of_all_batches_in_flight() {
    let base =
        Deployment { layout: Layout { pp: 2, ..Layout::default() }, ..plain("llama-2-13b", "a100-80gb-sxm") };
    let all = found(&base, "none", &decode(1, 1000));
    // Half of the layers, and of each cache, but two sequences under way: 30,976 / 2 tokens
    assert_eq!(one(&all, "kv_outweighs_layers_beyond", "").value, Some(15_488.0));
}

#[test]
fn what_drafts_is_none_of_the_models_layers() {
    let base = plain("llama-2-13b", "a100-80gb-sxm");
    let all = found(&base, "spec:method=eagle,gamma=1,accept=0.5", &decode(1, 1000));
    // Its cache is a 41st layer's: 30,976 · 40/41 = 30,220.5
    assert_eq!(one(&all, "kv_outweighs_layers_beyond", "").value, Some(30_220.0));
    assert_eq!(
        one(&all, "compute_bound_from_batch", "").value,
        one(&all, "compute_bound_from", "").value.map(|b| b / 2.0)
    );
}

#[test]
fn what_gains_from_one_sequence_on_needs_no_beginning_and_no_tokens() {
    let all = found(&plain("llama-2-13b", "a6000"), "weight-quant:bits=4", &decode(1, 1000));
    let names: Vec<&str> = all.iter().map(|answer| answer.name).collect();
    assert!(names.contains(&"gain_gone_beyond"), "{names:?}");
    assert!(!names.contains(&"gain_from") && !names.contains(&"pays_from_tokens"), "{names:?}");
}

#[test]
fn behind_a_slow_link_drafts_cost_nothing() {
    let drafts = "spec:method=ngram,gamma=3,accept=0.5";
    let all =
        found(&plain("llama-2-13b", "a6000"), &format!("offload:what=weights + {drafts}"), &decode(1, 100));
    // The step waits for the link, with drafts or without
    assert_eq!(one(&all, "pays_from_tokens", drafts).value, Some(1.0));
    assert_eq!(one(&all, "speculation_pays_from", drafts).value, Some(0.0));
}

#[test]
fn the_devices_own_layers_turn_compute_bound() {
    // RTX A6000: 154.8 TFLOP/s dense, 309.7 sparse, 768 GB/s; P/B = 201.56
    let of =
        |with: &str| value(with, "llama-2-13b", "a6000", &decode(1, 1000), "compute_bound_from").unwrap();
    let quarter = 201.5625 / 4.0;
    for with in [
        "weight-quant:bits=4 + spec:method=draft-model,draft=llama-3.2-1b,gamma=2,accept=0.5",
        "weight-quant:bits=4 + hybrid:processor=xeon-8592,ops=ffn,share=0.5",
    ] {
        assert!((of(with) / quarter - 1.0).abs() < 1e-9, "{with}: {}", of(with));
    }
    // 9 bits of 16, multiplied twice as fast
    let pruned = of("n-m:n=2,m=4") / (201.5625 * 2.0 * 9.0 / 16.0);
    assert!((pruned - 1.0).abs() < 1e-3, "{pruned}");
}

#[test]
fn one_format_of_weights_and_activations_is_one_thing() {
    let base = plain("llama-3.1-8b", "h100-sxm");
    let fp8 = "weight-quant:format=fp8 + activation-quant:format=fp8";
    let all = found(&base, fp8, &decode(1, 1000));
    // Twice the peak: quicker at every batch
    assert_eq!(one(&all, "gain_gone_beyond", fp8).value, None);
    assert!(all.iter().all(|answer| answer.technique.is_empty() || answer.technique == fp8), "{all:?}");
}

#[test]
fn what_never_gains_and_what_gains_from_some_batch_on_is_said_so() {
    let base = plain("llama-3.1-8b", "h100-sxm");
    let of = |with: &str, name: &str| {
        let all = found(&base, with, &decode(4, 1000));
        all.iter().find(|answer| answer.name == name && answer.technique == with).map(|answer| answer.value)
    };
    assert_eq!(of("lora:rank=16", "gain_gone_beyond"), Some(Some(0.0)));
    assert_eq!(of("lora:rank=16", "gain_from"), None);
    // One sequence shares nothing
    assert_eq!(of("prefix-sharing:tokens=500", "gain_from"), Some(Some(2.0)));
    assert_eq!(of("prefix-sharing:tokens=500", "gain_gone_beyond"), Some(None));
    // Of what changes no step nothing is said
    assert_eq!(of("fusion:level=full", "gain_gone_beyond"), None);
}

#[test]
fn drafts_cease_to_pay_at_a_batch() {
    let base = plain("llama-3.1-8b", "h100-sxm");
    let drafts = "spec:method=ngram,gamma=3,accept=0.5";
    let all = found(&base, drafts, &decode(1, 100));
    let gone = one(&all, "gain_gone_beyond", drafts).value.unwrap() as u64;
    let faster = |batch: u64| {
        let point = decode(batch, 100);
        tpot(&analyst(&base, drafts), &point) < tpot(&analyst(&base, "none"), &point)
    };
    assert!(gone > 50 && faster(gone) && !faster(gone + 1), "{gone}");
}

#[test]
fn other_tokens_of_a_step_must_be_enough() {
    let with = "parallel-decoding:width=4,tokens=1.5";
    let point = decode(512, 1000);
    let base = plain("llama-3.1-8b", "h100-sxm");
    let all = found(&base, with, &point);
    let needed = one(&all, "pays_from_tokens", with).value.unwrap();
    let step = |with: &str| analyst(&base, with).times(&point).unwrap().step.step.seconds;
    assert!((needed - step(with) / step("none")).abs() < 1e-12 && needed > 1.5, "{needed}");
    assert!(all.iter().all(|answer| answer.name != "speculation_pays_from"));
}

#[test]
fn a_scheme_beside_drafts_is_answered_for_as_the_technique_is() {
    let drafts = techniques("spec:method=ngram,gamma=3,accept=0.5");
    let base = plain("llama-2-13b", "a6000");
    let request = Request {
        quantization: Some("w4a16".to_string()),
        kv_cache_dtype: Some("fp8".to_string()),
        ..Request::default()
    };
    let precision = Precision::resolve(&base.model, &request).unwrap();
    let stem = Deployment { precision, ..base.clone() };
    let flags =
        answers(&Made { base: &base, stem: &stem, techniques: &drafts }, &decode(1, 1), &ENGINE).unwrap();
    let quantized = "weight-quant:bits=4,group=128,scale=16,zero=4,dequant=off";
    let said = format!("{quantized} + kv-quant:format=fp8 + spec:method=ngram,gamma=3,accept=0.5");
    let texts = found(&base, &said, &decode(1, 1));
    for (name, flag, text) in [
        ("gain_gone_beyond", "w4a16 weights", quantized),
        ("gain_gone_beyond", "fp8 KV cache", "kv-quant:format=fp8"),
        ("gain_gone_beyond", "all together", "all together"),
        (
            "speculation_pays_from",
            "spec:method=ngram,gamma=3,accept=0.5",
            "spec:method=ngram,gamma=3,accept=0.5",
        ),
        ("compute_bound_from", "", ""),
        ("compute_bound_from_batch", "", ""),
        ("kv_held_outweighs_beyond", "", ""),
    ] {
        assert_eq!(one(&flags, name, flag).value, one(&texts, name, text).value, "{name} {flag}");
    }
}

#[test]
fn what_cannot_be_left_out_is_said_so() {
    let student = "distill:student=mixtral-8x7b";
    let all =
        found(&plain("llama-3.1-8b", "h100-sxm"), &format!("{student} + experts:alpha=1"), &decode(1, 1000));
    let answer = one(&all, "gain_gone_beyond", student);
    assert!(
        answer.value.is_none() && answer.about.starts_with("not to be compared with the same without it: ")
    );
    assert!(answer.about.contains("experts"), "{}", answer.about);
}

#[test]
fn the_cache_of_llama_2_13b_outweighs_its_weights() {
    let of = |name: &str| value("none", "llama-2-13b", "a100-80gb-sxm", &decode(1, 1000), name).unwrap();
    assert_eq!(of("kv_read_outweighs_beyond"), 31_377.0);
    assert_eq!(of("kv_held_outweighs_beyond"), 31_777.0);
    assert_eq!(of("kv_outweighs_layers_beyond"), 30_976.0);
}

#[test]
fn what_is_reserved_outweighs_from_the_first_token() {
    let with = "paging:contiguous=131072";
    let held = value(with, "llama-3.1-8b", "h100-sxm", &decode(64, 1000), "kv_held_outweighs_beyond");
    assert_eq!(held, Some(0.0));
    let kept = value(
        "kv-evict:window=500",
        "llama-3.1-8b",
        "h100-sxm",
        &decode(1, 1000),
        "kv_read_outweighs_beyond",
    );
    assert_eq!(kept, None);
}

#[test]
fn a_model_without_a_growing_cache_is_asked_nothing_of_it() {
    let all = found(&plain("falcon-mamba-7b", "h100-sxm"), "none", &decode(1, 1000));
    assert!(all.iter().all(|answer| !answer.name.starts_with("kv_")), "{all:?}");
}

#[test]
fn a_map_shows_where_steps_turn_from_memory_to_compute() {
    let asked = analyst(&plain("llama-3.1-8b", "h100-sxm"), "none");
    let map = bound_map(&asked, &[1, 1024], &[1, 100_000]).unwrap();
    let Some(Column::Str(bounds)) = map.column("bound") else { panic!("no bounds") };
    assert_eq!(bounds, &["memory", "memory", "compute", "memory"]);
    assert_eq!(table(&[]).len(), 0);
}
