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
use roofline_core::work::stem;
use roofline_plan::compare::{By, Comparison, compare, resources};

#[path = "../../core/tests/random/mod.rs"]
mod random;

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

/// Two random answers to one question: any models, devices, layouts, modes and techniques that suit them.
fn pairs() -> impl Strategy<Value = ([(random::Made, String); 2], Point)> {
    let side = || (random::deployments(), random::sets(3));
    ([side(), side()], random::points())
}

fn answered(side: &(random::Made, String), point: &Point) -> Option<Analysis> {
    random::ask(&side.0, &side.1, point).ok()
}

/// Tokens that a step of one sequence brings.
fn brought(analysis: &Analysis, question: Question) -> f64 {
    match question {
        Question::Decode | Question::Mixed => {
            analysis.outcome.times.step.step.seconds / analysis.outcome.times.tpot.unwrap()
        }
        _ => 1.0,
    }
}

fn near(one: f64, other: f64, whole: f64) -> bool {
    (one - other).abs() <= 1e-10 * whole
}

/// Columns of a table of a comparison, row by row: operator, resource, a, b, difference, share.
fn rows(found: &Comparison, by: By) -> Vec<(String, String, [f64; 4])> {
    let table = found.table(by);
    let text = |name: &str| match table.column(name) {
        Some(Column::Str(column)) => column.clone(),
        _ => panic!("no {name}"),
    };
    let number = |name: &str| match table.column(name) {
        Some(Column::F64(column)) => column.clone(),
        _ => panic!("no {name}"),
    };
    let numbers = ["a_s", "b_s", "delta_s", "share"].map(number);
    let row = |(place, (op, resource)): (usize, (String, String))| {
        (op, resource, std::array::from_fn(|which| numbers[which][place]))
    };
    text("op").into_iter().zip(text("resource")).enumerate().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn any_two_answers_to_a_question_are_explained_whole((sides, point) in pairs()) {
        let [Some(a), Some(b)] = sides.each_ref().map(|side| answered(side, &point)) else { return Ok(()) };
        let found = compare(&a, &b, point.question);
        let whole = found.a.max(found.b);
        // What is explained is what `analyze` says.
        let said = |analysis: &Analysis| match point.question {
            Question::Decode | Question::Mixed => analysis.outcome.times.tpot.unwrap(),
            _ => analysis.outcome.times.step.step.seconds,
        };
        prop_assert!(near(found.a, said(&a), whole) && near(found.b, said(&b), whole));
        for by in [By::Piece, By::Op, By::Resource] {
            let rows = rows(&found, by);
            let sum = |which: usize| rows.iter().map(|(.., numbers)| numbers[which]).sum::<f64>();
            prop_assert!(near(sum(0), found.a, whole) && near(sum(1), found.b, whole), "{} {} {found:?}", sum(0), sum(1));
            prop_assert!(near(sum(2), found.delta(), whole) && near(found.delta(), found.b - found.a, whole));
            prop_assert!(found.delta().abs() <= 1e-9 * whole || (sum(3) - 1.0).abs() < 1e-6 * whole / found.delta().abs());
            for (op, resource, [a, b, delta, share]) in &rows {
                prop_assert_eq!((op == "all", resource == "all"), (by == By::Resource, by == By::Op));
                prop_assert!(near(*delta, b - a, whole) && near(share * found.delta(), *delta, whole), "{op} {resource}");
                // Each row is the pieces it names.
                let fits = |piece: &&roofline_plan::compare::Piece| {
                    (op == "all" || piece.op == *op) && (resource == "all" || piece.resource == resource)
                };
                let of_pieces: f64 = found.pieces.iter().filter(fits).map(|piece| piece.delta()).sum();
                prop_assert!(near(*delta, of_pieces, whole), "{op} {resource}");
            }
            let deltas: Vec<f64> = rows.iter().map(|(.., numbers)| numbers[2].abs()).collect();
            prop_assert!(deltas.windows(2).all(|pair| pair[0] >= pair[1]), "largest first");
            let mut names: Vec<_> = rows.iter().map(|(op, resource, _)| (op, resource)).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), rows.len(), "each once");
        }
    }

    #[test]
    fn each_operator_and_resource_is_charged_what_both_sides_spend_on_it((sides, point) in pairs()) {
        let [Some(a), Some(b)] = sides.each_ref().map(|side| answered(side, &point)) else { return Ok(()) };
        let found = compare(&a, &b, point.question);
        let (whole, tokens) = (found.a.max(found.b), brought(&a, point.question));
        let spent = |analysis: &Analysis, op: &str, resource: &str| -> f64 {
            let of = |total: &roofline_core::accumulate::OpTotal| {
                total.spent.iter().filter(|(cause, _)| cause.name() == resource).map(|(_, seconds)| seconds).sum::<f64>()
            };
            analysis.ops.iter().filter(|total| stem(&total.name) == op).map(of).sum::<f64>() / tokens
        };
        for piece in &found.pieces {
            prop_assert!(resources().contains(&piece.resource), "{}", piece.resource);
            let (op, resource) = (piece.op.as_str(), piece.resource);
            match resource {
                // Of several stages, what one waits for the others.
                "pipeline" => prop_assert!(
                    [&sides[0], &sides[1]].iter().any(|side| side.0.layout.pp > 1 || side.1.contains("pp=2")), "{piece:?}"
                ),
                // What something hides is less than nothing.
                "overlap" => prop_assert!(piece.a <= 1e-9 * whole && piece.b <= 1e-9 * whole, "{piece:?}"),
                "tokens" => prop_assert!(brought(&a, point.question) != brought(&b, point.question), "{piece:?}"),
                _ => {
                    prop_assert!(near(piece.a, spent(&a, op, resource), whole), "{piece:?}");
                    prop_assert!(near(piece.b, spent(&b, op, resource), whole), "{piece:?}");
                    prop_assert!(piece.a != 0.0 || piece.b != 0.0, "{piece:?}");
                }
            }
        }
        // And nothing that a side spends is left out.
        for (analysis, mine) in [(&a, true), (&b, false)] {
            for total in &analysis.ops {
                for (cause, seconds) in total.spent.iter().filter(|(_, seconds)| *seconds > 1e-9 * whole * tokens) {
                    let held = found.pieces.iter().any(|piece| {
                        piece.op == stem(&total.name) && piece.resource == cause.name() && (if mine { piece.a } else { piece.b }) > 0.0
                    });
                    prop_assert!(held, "{} {} {seconds}", total.name, cause.name());
                }
            }
        }
    }

    #[test]
    fn the_other_way_round_everything_is_reversed((sides, point) in pairs()) {
        let [Some(a), Some(b)] = sides.each_ref().map(|side| answered(side, &point)) else { return Ok(()) };
        let (there, back) = (compare(&a, &b, point.question), compare(&b, &a, point.question));
        prop_assert_eq!((there.a, there.b), (back.b, back.a));
        prop_assert_eq!(there.delta(), -back.delta());
        // Operators are counted at the first one's tokens a step: 1/t of a, or of b.
        let (ta, tb) = (brought(&a, point.question), brought(&b, point.question));
        let whole = there.a.max(there.b) * ta.max(tb);
        for piece in there.pieces.iter().filter(|piece| piece.resource != "tokens") {
            let same = |other: &&roofline_plan::compare::Piece| other.op == piece.op && other.resource == piece.resource;
            let other = back.pieces.iter().find(same).map_or(0.0, |other| other.delta());
            prop_assert!(near(piece.delta() * ta, -other * tb, whole), "{piece:?} {other}");
        }
    }

    #[test]
    fn a_configuration_differs_in_nothing_from_itself((sides, point) in pairs()) {
        let Some(one) = answered(&sides[0], &point) else { return Ok(()) };
        let found = compare(&one, &one, point.question);
        prop_assert_eq!(found.delta(), 0.0);
        prop_assert!(found.pieces.iter().all(|piece| piece.delta() == 0.0));
        for by in [By::Piece, By::Op, By::Resource] {
            for (op, resource, [_, _, delta, share]) in rows(&found, by) {
                prop_assert_eq!((delta, share), (0.0, 0.0), "{} {}", op, resource);
            }
        }
    }
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
