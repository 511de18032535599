//! A waterfall adds up to the difference it explains.

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
use roofline_plan::compare::{By, compare};

const ENGINE: EngineMemory =
    EngineMemory { gpu_memory_utilization: 0.9, max_num_seqs: 256, ..EngineMemory::VLLM };

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
