//! A waterfall adds up to the difference it explains, and break-even answers are where both sides are equal.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use proptest::prelude::*;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::{BlockSize, EngineMemory, MemoryShare, Pages};
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::table::Column;
use roofline_core::technique::Technique;
use roofline_plan::break_even::{answers, bound_map, table};
use roofline_plan::compare::{By, compare};

const ENGINE: EngineMemory = EngineMemory {
    gpu_memory_utilization: 0.9,
    share: MemoryShare::Device,
    block_size: BlockSize::VLLM,
    pages: Pages::Groups { caching: true, drafts: 0 },
    max_num_batched_tokens: 8192,
    max_num_seqs: 256,
    cuda_graphs: true,
};

fn deployment(model: &str, hardware: &str, efficiency: Efficiency, with: &str) -> Deployment {
    let model = catalog::models::model(model).unwrap();
    let plain = Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware: catalog::hardware::hardware(hardware).unwrap().item,
        layout: Layout::default(),
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency,
        techniques: Default::default(),
    };
    plain.with(&Technique::parse_all(&[with]).unwrap()).unwrap()
}

fn decode(batch_size: u64, input_len: u64) -> Point {
    Point { question: Question::Decode, batch_size, input_len, output_len: 1, prefix_len: 0, chunk: 0 }
}

fn analysis(deployment: Deployment, point: &Point) -> Analysis {
    Analyst::new(deployment, &ENGINE).unwrap().analyze(point).unwrap()
}

const SIDES: [&str; 9] = [
    "none",
    "weight-quant:bits=4",
    "weight-quant:bits=4,dequant=serial",
    "kv-quant:bits=4 + kv-evict:ratio=0.5",
    "parallel:tp=4",
    "parallel:tp=4,pp=2 + overlap:share=0.7",
    "spec:method=eagle,gamma=3,accept=0.7",
    "offload:what=weights,share=0.5",
    "afd:attention=1,ffn=1",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_waterfall_adds_up_to_the_difference(
        first in 0usize..9, second in 0usize..9, batch in 1u64..300, len in 1u64..9000, predicted: bool, kind in 0usize..3,
    ) {
        let mode = if predicted { Efficiency::predicted("vllm") } else { Efficiency::Ideal };
        let question = [Question::Decode, Question::Prefill, Question::Chat][kind];
        let point = Point { question, output_len: 5, batch_size: batch.min(40), ..decode(batch, len) };
        let side = |place: usize| analysis(deployment("llama-3.1-8b", "h100-sxm", mode.clone(), SIDES[place]), &point);
        let (a, b) = (side(first), side(second));
        let found = compare(&a, &b, question);
        let sum: f64 = found.pieces.iter().map(|piece| piece.delta()).sum();
        prop_assert!((sum - found.delta()).abs() <= 1e-10 * found.a.max(found.b), "{sum} {}", found.delta());
        let expected = |analysis: &Analysis| match question {
            Question::Decode => analysis.outcome.times.tpot.unwrap(),
            _ => analysis.outcome.times.step.step.seconds,
        };
        prop_assert!((found.a / expected(&a) - 1.0).abs() < 1e-12 && (found.b / expected(&b) - 1.0).abs() < 1e-12);
        for by in [By::Piece, By::Op, By::Resource] {
            let Some(Column::F64(deltas)) = found.table(by).column("delta_s").cloned() else { panic!("no deltas") };
            prop_assert!((deltas.iter().sum::<f64>() - found.delta()).abs() <= 1e-10 * found.a.max(found.b));
        }
    }
}

#[test]
fn a_configuration_differs_in_nothing_from_itself() {
    let one = analysis(deployment("llama-3.1-8b", "h100-sxm", Efficiency::Ideal, "none"), &decode(8, 1000));
    let found = compare(&one, &one, Question::Decode);
    assert_eq!(found.delta(), 0.0);
    assert!(found.pieces.iter().all(|piece| piece.delta() == 0.0));
}

#[test]
fn quantized_weights_gain_in_reading_weights_and_pay_for_dequantization() {
    let side =
        |with: &str| analysis(deployment("llama-2-13b", "a6000", Efficiency::Ideal, with), &decode(1, 1000));
    let found = compare(&side("none"), &side("weight-quant:bits=4,dequant=serial"), Question::Decode);
    let of = |op: &str, resource: &str| {
        found
            .pieces
            .iter()
            .find(|piece| piece.op == op && piece.resource == resource)
            .map_or(0.0, |piece| piece.delta())
    };
    // 40 layers · 5120 · 27,648 weights: 1.5 bytes fewer each at 768 GB/s; one operation each at 38.7 T/s
    let weights = 40.0 * 5120.0 * 27_648.0;
    assert!((of("gate_up_proj", "weights") / (-1.5 * weights / 768e9) - 1.0).abs() < 1e-9);
    assert!((of("dequantize[gate_up_proj]", "vector") / (weights / 38.7e12) - 1.0).abs() < 1e-9);
    assert_eq!(of("lm_head", "weights"), 0.0);
}

fn value(with: &str, model: &str, hardware: &str, point: &Point, name: &str) -> Option<f64> {
    let (changed, base) = (
        deployment(model, hardware, Efficiency::Ideal, with),
        deployment(model, hardware, Efficiency::Ideal, "none"),
    );
    let found = answers(&changed, &base, point, &ENGINE).unwrap();
    found.iter().find(|answer| answer.name == name).unwrap_or_else(|| panic!("{name}: {found:?}")).value
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
    let tpot = |with: &str| {
        analysis(deployment("llama-3.1-8b", "h100-sxm", Efficiency::Ideal, with), &point)
            .outcome
            .times
            .tpot
            .unwrap()
    };
    assert!((tpot(&with(pays)) / tpot("none") - 1.0).abs() < 1e-9);
    assert!(
        value(&with(0.5), "llama-3.1-8b", "h100-sxm", &decode(1024, 10), "speculation_pays_from").is_none()
    );
}

#[test]
fn beside_other_techniques_drafts_are_compared_with_those_alone() {
    let point = decode(64, 2048);
    let seconds = |with: &str| {
        analysis(deployment("llama-3.1-8b", "h100-sxm", Efficiency::Ideal, with), &point)
            .outcome
            .times
            .step
            .step
            .seconds
    };
    let drafts = "spec:method=ngram,gamma=1,accept=0.1";
    for others in ["kv-quant:bits=4", "weight-quant:bits=4", "kv-quant:bits=4 + weight-quant:bits=4"] {
        let both = format!("{others} + {drafts}");
        let pays = value(&both, "llama-3.1-8b", "h100-sxm", &point, "speculation_pays_from").unwrap();
        // One draft: a step brings 1 + α tokens, so α = T_with/T_without − 1
        let slower = seconds(&both) / seconds(others) - 1.0;
        assert!(slower > 0.0 && (pays - slower).abs() < 1e-9, "{others}: {pays} {slower}");
        // Against a step without any of them it would pay from nothing
        assert!(seconds(&both) < seconds("none"), "{others}");
    }
}

#[test]
fn beside_other_techniques_quantized_weights_are_compared_with_those_alone() {
    let gone = |with: &str| value(with, "llama-2-13b", "a6000", &decode(1, 1), "gain_gone_beyond").unwrap();
    let alone = gone("weight-quant:bits=4,dequant=serial");
    // Half the cache is read with or without them: the batch is the same
    assert_eq!(gone("weight-quant:bits=4,dequant=serial + kv-quant:bits=8"), alone);
    // A step of four tokens a sequence reaches the same tokens at a quarter of the batch
    let drafted = gone("weight-quant:bits=4,dequant=serial + spec:method=ngram,gamma=3,accept=0.5");
    assert!((drafted - alone / 4.0).abs() <= 1.0, "{drafted} {alone}");
}

#[test]
fn a_scheme_beside_drafts_is_answered_for_as_the_technique_is() {
    let drafts = "spec:method=ngram,gamma=3,accept=0.5";
    let base = deployment("llama-2-13b", "a6000", Efficiency::Ideal, "none");
    let request = Request { quantization: Some("w4a16".to_string()), ..Request::default() };
    let precision = Precision::resolve(&base.model, &request).unwrap();
    let scheme = Deployment { precision, ..base.clone() }.with(&Technique::parse_all(&[drafts]).unwrap());
    let found = answers(&scheme.unwrap(), &base, &decode(1, 1), &ENGINE).unwrap();
    let of = |name: &str| found.iter().find(|answer| answer.name == name).unwrap().value;
    let with = format!("weight-quant:bits=4,group=128,scale=16,zero=4,dequant=off + {drafts}");
    for name in ["gain_gone_beyond", "speculation_pays_from", "compute_bound_from"] {
        assert_eq!(of(name), value(&with, "llama-2-13b", "a6000", &decode(1, 1), name), "{name}");
    }
}

#[test]
fn the_cache_of_llama_2_13b_outweighs_its_weights() {
    let of = |name: &str| value("none", "llama-2-13b", "a100-80gb-sxm", &decode(1, 1000), name).unwrap();
    assert_eq!(of("kv_read_outweighs_beyond"), 31_377.0);
    assert_eq!(of("kv_held_outweighs_beyond"), 31_777.0);
    assert_eq!(of("kv_outweighs_layers_beyond"), 30_976.0);
}

#[test]
fn a_map_shows_where_steps_turn_from_memory_to_compute() {
    let analyst =
        Analyst::new(deployment("llama-3.1-8b", "h100-sxm", Efficiency::Ideal, "none"), &ENGINE).unwrap();
    let map = bound_map(&analyst, &[1, 1024], &[1, 100_000]).unwrap();
    let Some(Column::Str(bounds)) = map.column("bound") else { panic!("no bounds") };
    assert_eq!(bounds, &["memory", "memory", "compute", "memory"]);
    assert_eq!(table(&[]).len(), 0);
}
