//! Frames and spaces against the one-point evaluation.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use proptest::prelude::*;
use roofline_core::analysis::{Analyst, Outcome};
use roofline_core::batch::Sizes;
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
use roofline_plan::deployed::{Deployed, Desk};
use roofline_plan::results::{Block, Measure, Wanted};
use roofline_plan::sweep::{
    Ask, Axis, Keep, Limit, Limits, Objective, Runs, Setting, Space, Swept, Values, next_possible, read,
};
use roofline_sim::engine::Monitor;

const ENGINE: EngineMemory = EngineMemory::VLLM;
/// Dense, experts, latent attention, windows, chunks, states, linear attention, pictures, encoders.
const MODELS: [&str; 13] = [
    "llama-3.1-8b",
    "opt-6.7b",
    "mixtral-8x7b",
    "deepseek-v3",
    "deepseek-v3.2",
    "gemma-3-27b",
    "gpt-oss-20b",
    "llama-4-scout-17b-16e",
    "falcon-mamba-7b",
    "jamba-v0.1",
    "qwen3-next-80b-a3b",
    "qwen2.5-vl-7b",
    "bert-base-uncased",
];

const TECHNIQUES: [&str; 14] = [
    "kv-evict:ratio=0.5",
    "prefix-sharing:tokens=700",
    "paging:block=64",
    "spec:method=eagle,gamma=3,accept=0.6",
    "offload:what=weights,share=0.3",
    "weight-quant:bits=4",
    "attention:kind=window,window=200",
    "early-exit:at=0.5,share=0.3",
    "contextual-sparsity:active=0.3",
    "n-m:n=2,m=4",
    "lora:rank=8,adapters=3",
    "parallel-decoding:width=4,tokens=1.4",
    "pim:ops=attention",
    "context-parallel:ranks=2",
];

/// What is deployed: formats, how it is lowered, who predicts, and with which techniques.
#[derive(Debug, Clone)]
struct How {
    model: &'static str,
    hardware: &'static str,
    layout: Layout,
    formats: (&'static str, &'static str),
    lowering: (bool, f64),
    predicted: Option<&'static str>,
    techniques: &'static str,
}

fn how() -> impl Strategy<Value = How> {
    let some = prop::sample::select::<&'static str>;
    let counts = |counts: &[u64]| prop::sample::select(counts.to_vec());
    (
        some(MODELS.to_vec()),
        some(vec!["h100-sxm", "b200-sxm", "mi300x", "l40s", "tpu-v5e"]),
        (counts(&[1, 2, 8]), counts(&[1, 2]), counts(&[1, 2]), any::<bool>()),
        (some(vec!["auto", "bf16", "fp8", "w4a16"]), some(vec!["auto", "fp8"])),
        (any::<bool>(), prop::sample::select(vec![0.0, 0.5])),
        prop::sample::select(vec![None, None, Some("vllm"), Some("sglang"), Some("trtllm")]),
        prop_oneof![2 => Just("none"), 1 => some(TECHNIQUES.to_vec())],
    )
        .prop_map(|(model, hardware, (tp, pp, dp, spread), formats, lowering, predicted, techniques)| {
            How {
                model,
                hardware,
                layout: Layout { tp, pp, dp, ep: if spread { tp * dp } else { 1 } },
                formats,
                lowering,
                predicted,
                techniques,
            }
        })
}

fn deployed(how: &How) -> Option<Deployed> {
    let model = catalog::models::model(how.model).unwrap();
    let request = Request {
        quantization: Some(how.formats.0.to_string()),
        kv_cache_dtype: Some(how.formats.1.to_string()),
        ..Request::default()
    };
    let deployment = Deployment {
        precision: Precision::resolve(&model, &request).ok()?,
        model,
        hardware: catalog::hardware::hardware(how.hardware).unwrap().item,
        layout: how.layout,
        lowering: Lowering { flash_attention: how.lowering.0, ..Lowering::default() },
        overlap: how.lowering.1,
        efficiency: how.predicted.map_or(Efficiency::Ideal, Efficiency::predicted),
        techniques: Default::default(),
    };
    let deployment = deployment.with(&Technique::parse_all(&[how.techniques]).unwrap()).ok()?;
    Some(Deployed::new(Analyst::new(deployment, &ENGINE).ok()?))
}

fn same(name: &str, seen: f64, expected: f64) -> Result<(), TestCaseError> {
    let close = (seen - expected).abs() <= 1e-12 * expected.abs();
    prop_assert!(close || (seen.is_nan() && expected.is_nan()), "{name}: {seen} is not {expected}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_measure_of_a_block_is_that_of_each_point(
        how in how(),
        question in prop::sample::select(Question::ALL.map(|(_, question)| question).to_vec()),
        sizes in prop::collection::vec((1u64..3000, 1u64..9000, 1u64..40, 0u64..2000, 0u64..3000), 1..12),
    ) {
        let deployed = deployed(&how);
        prop_assume!(deployed.is_some());
        let deployed = deployed.unwrap();
        let points: Vec<Point> = sizes.iter().map(|&(batch_size, input_len, output_len, prefix_len, chunk)| {
            let chunk = if question == Question::Mixed { chunk + 1 } else { chunk };
            Point { question, batch_size, input_len, output_len, prefix_len, chunk }
        }).collect();
        prop_assume!(points.iter().all(|point| point.check(&deployed.analyst().deployment().model).is_ok()));
        let column = |of: fn(&Point) -> u64| points.iter().map(of).collect::<Vec<u64>>();
        let columns = [
            column(|p| p.batch_size), column(|p| p.input_len), column(|p| p.output_len),
            column(|p| p.prefix_len), column(|p| p.chunk),
        ];
        let [batch_size, input_len, output_len, prefix_len, chunk] = columns.each_ref().map(Vec::as_slice);
        let sizes = Sizes { batch_size, input_len, output_len, prefix_len, chunk };
        let (mut desk, mut block) = (Desk::default(), Block::default());
        deployed.price(question, &sizes, Wanted::all(), &mut desk, &mut block);
        for (at, point) in points.iter().enumerate() {
            let Ok(outcome) = deployed.analyst().outcome(point) else {
                prop_assert!(Measure::ALL.iter().all(|measure| block.lane(*measure)[at].is_nan()));
                continue;
            };
            let unknown = deployed.unknown(question);
            for measure in Measure::ALL {
                if unknown.has(measure) {
                    prop_assert_eq!(of_outcome(&deployed, &outcome, measure), None);
                    continue;
                }
                let expected = of_outcome(&deployed, &outcome, measure).unwrap_or(f64::NAN);
                same(measure.name(), block.lane(measure)[at], expected)?;
            }
        }
    }
}

#[test]
fn a_short_answer_to_a_long_prompt_is_more_than_rounding() {
    let how = How {
        model: "llama-4-scout-17b-16e",
        hardware: "b200-sxm",
        layout: Layout { pp: 2, ..Layout::default() },
        formats: ("w4a16", "fp8"),
        lowering: (true, 0.0),
        predicted: Some("vllm"),
        techniques: "none",
    };
    let deployed = deployed(&how).unwrap();
    let point = |question, input_len, chunk| Point {
        question,
        batch_size: 1601,
        input_len,
        output_len: 3,
        prefix_len: 1358,
        chunk,
    };
    let chat = point(Question::Chat, 6576, 3);
    let decode = |context| deployed.analyst().outcome(&point(Question::Decode, context, 0)).unwrap();
    let expected =
        [6576, 6577].map(|context| decode(context).times.step.step.seconds).iter().sum::<f64>() / 2.0;
    let sizes =
        Sizes { batch_size: &[1601], input_len: &[6576], output_len: &[3], prefix_len: &[1358], chunk: &[3] };
    let (mut desk, mut block) = (Desk::default(), Block::default());
    deployed.price(Question::Chat, &sizes, Wanted::all(), &mut desk, &mut block);
    let alone = deployed.analyst().outcome(&chat).unwrap().times.tpot.unwrap();
    for tpot in [block.lane(Measure::Tpot)[0], alone] {
        assert!((tpot - expected).abs() <= 1e-13 * expected, "{tpot} is not {expected}");
    }
}

/// One measure of an outcome: what every lane of a block must be.
fn of_outcome(deployed: &Deployed, outcome: &Outcome, measure: Measure) -> Option<f64> {
    let (times, memory) = (&outcome.times, &outcome.memory);
    let tokens = times.tokens * deployed.analyst().deployment().layout.dp as f64;
    match measure {
        Measure::Step => Some(times.step.step.seconds),
        Measure::Ideal => Some(times.step.ideal),
        Measure::Low => times.step.step.low,
        Measure::High => times.step.step.high,
        Measure::Ttft => times.ttft,
        Measure::Tpot => times.tpot,
        Measure::E2e => times.e2e,
        Measure::TokensPerGpu => Some(outcome.tokens_per_gpu_s),
        Measure::TokensPerUser => outcome.tokens_per_user_s,
        Measure::Bound => Some(outcome.done.bound() as usize as f64),
        Measure::Intensity => outcome.done.device().intensity(),
        Measure::Weights => Some(memory.weights),
        Measure::Kv => Some(memory.kv),
        Measure::Memory => Some(memory.ideal_bytes()),
        Measure::EngineMemory => Some(memory.engine_bytes()),
        Measure::Fits => Some(f64::from(u8::from(memory.fits()))),
        Measure::MaxConcurrency => memory.concurrency(),
        Measure::Energy => outcome.energy_j.map(|joule| joule / tokens),
        Measure::Usd => outcome.usd.map(|usd| usd / tokens * 1e6),
    }
}

fn counts(setting: Setting, values: &[u64]) -> Axis {
    Axis { setting, values: Values::Counts(values.to_vec()) }
}

fn names(setting: Setting, values: &[&str]) -> Axis {
    Axis { setting, values: Values::Names(values.iter().map(|name| (*name).to_string()).collect()) }
}

fn space() -> Space {
    let models = ["llama-3.1-8b", "qwen3-30b-a3b"];
    let devices = ["h100-sxm", "l40s"];
    Space::new(
        models.iter().map(|name| catalog::models::model(name).unwrap()).collect(),
        devices.iter().map(|name| catalog::hardware::hardware(name).unwrap().item).collect(),
        vec![ENGINE; 2],
        vec![Efficiency::predicted("vllm")],
        vec![
            names(Setting::Model, &models),
            names(Setting::Hw, &devices),
            names(Setting::Quantization, &["auto", "fp8", "mxfp4"]),
            counts(Setting::Tp, &[1, 2, 3, 8]),
            names(Setting::Phase, &["decode", "chat", "mixed"]),
            counts(Setting::Chunk, &[0, 512]),
            counts(Setting::BatchSize, &[1, 7, 64, 700]),
            counts(Setting::OutputLen, &[1, 100]),
            counts(Setting::InputLen, &[10, 1000, 30_000]),
        ],
    )
    .unwrap()
}

fn ask(keep: Keep) -> Ask {
    Ask { wanted: Wanted::all(), keep, limits: Limits::default() }
}

fn swept(space: &Space, from: u64, to: u64, ask: &Ask) -> Swept {
    read(space, from, to, ask, &Monitor::default()).unwrap()
}

/// The points of a sweep.
fn points(swept: &Swept) -> Runs {
    swept.parts.iter().flat_map(|part| part.points.points()).collect()
}

/// One measure of each of them.
fn lane(swept: &Swept, measure: Measure) -> Vec<f64> {
    swept.parts.iter().flat_map(|part| part.results.lane(measure)).collect()
}

#[test]
fn a_space_prices_each_point_as_if_it_were_alone() {
    let space = space();
    let all = swept(&space, 0, space.points(), &ask(Keep::All));
    assert_eq!(points(&all), (0..space.points()).collect());
    let reasons = all.parts.iter().flat_map(|part| &part.reason);
    let reasons: Vec<u32> = reasons.flat_map(|(reason, rows)| std::iter::repeat_n(*reason, *rows)).collect();
    let steps = lane(&all, Measure::Step);
    let mut priced = 0;
    for (row, point) in points(&all).points().enumerate() {
        let step = steps[row];
        let alone =
            space.deployed(point).and_then(|deployed| deployed.analyst().outcome(&space.point(point)));
        match alone {
            Ok(outcome) => {
                let expected = outcome.times.step.step.seconds;
                assert!((step - expected).abs() <= 1e-12 * expected, "{point}");
                assert_eq!(reasons[row], u32::MAX);
                priced += 1;
            }
            Err(_) => assert!(step.is_nan() && reasons[row] != u32::MAX, "{point}"),
        }
    }
    assert!(priced > 500 && priced < all.len(), "{priced}");
    assert_eq!(all.dropped.points() as usize, all.len() - priced);
}

#[test]
fn ranges_put_together_are_the_whole() {
    let space = space();
    for keep in [Keep::All, Keep::Feasible] {
        let ask = ask(keep);
        let whole = swept(&space, 0, space.points(), &ask);
        let (mut kept, mut steps, mut dropped) = (Runs::default(), Vec::new(), 0);
        let mut from = 0;
        for size in [1, 5, 100, 333].into_iter().cycle() {
            let to = (from + size).min(space.points());
            let part = swept(&space, from, to, &ask);
            steps.extend(lane(&part, Measure::Step));
            dropped += part.dropped.points();
            kept.append(points(&part));
            from = to;
            if from == space.points() {
                break;
            }
        }
        assert_eq!(kept, points(&whole));
        let bits = |lane: &[f64]| lane.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
        // To the bit: what a range holds never depends on how the space was cut.
        assert_eq!(bits(&steps), bits(&lane(&whole, Measure::Step)));
        assert_eq!(dropped, whole.dropped.points());
    }
}

#[test]
fn what_is_dropped_is_counted_by_reason() {
    let space = space();
    let limits = Limits {
        max_gpus: Some(2),
        within_context: true,
        measures: vec![Limit { measure: Measure::Step, most: true, value: 0.5 }],
        ..Limits::default()
    };
    let all = swept(&space, 0, space.points(), &Ask { limits, ..ask(Keep::Feasible) });
    assert_eq!(all.dropped.points() + all.len() as u64, space.points());
    let reasons: Vec<&str> = all.dropped.iter().map(|(reason, ..)| reason).collect();
    for reason in [
        "chunk is not possible",
        "does not fit in memory",
        "gpus must be at most 2",
        "step_s must be at most 0.5",
    ] {
        assert!(reasons.contains(&reason), "{reason}: {reasons:?}");
    }
    assert!(lane(&all, Measure::Step).iter().all(|step| *step <= 0.5));
    assert!(lane(&all, Measure::Fits).iter().all(|fits| *fits == 1.0));
}

#[test]
fn points_without_what_a_limit_or_an_objective_asks_for_are_counted_as_not_known() {
    let space = space();
    let feasible = swept(&space, 0, space.points(), &ask(Keep::Feasible));
    let limits = Limits {
        measures: vec![Limit { measure: Measure::Ttft, most: true, value: f64::INFINITY }],
        ..Limits::default()
    };
    let limited = swept(&space, 0, space.points(), &Ask { limits, ..ask(Keep::Feasible) });
    assert_eq!(limited.dropped.points() + limited.len() as u64, space.points());
    assert!(!limited.is_empty() && limited.len() < feasible.len());
    assert!(lane(&limited, Measure::Ttft).iter().all(|ttft| ttft.is_finite()));
    let ranked = ask(Keep::TopK(Objective::parse("ttft_s").unwrap(), 3));
    for swept in [limited, swept(&space, 0, space.points(), &ranked)] {
        let (_, points, example) =
            swept.dropped.iter().find(|(reason, ..)| *reason == "ttft_s is not known").unwrap();
        assert!(points > 0);
        assert!(example.ends_with("has none; prefill and chat have one"), "{example}");
    }
}

#[test]
fn a_front_found_in_parts_is_that_of_all_feasible_points() {
    let space = space();
    let objectives = ["tokens_per_gpu_s", "tokens_per_user_s"].map(|name| Objective::parse(name).unwrap());
    let front = swept(&space, 0, space.points(), &ask(Keep::Pareto(objectives.to_vec())));
    let feasible = swept(&space, 0, space.points(), &ask(Keep::Feasible));
    let mut results = feasible.parts[0].results.clone();
    feasible.parts[1..].iter().for_each(|part| results.append(&part.results));
    let rows = Keep::Pareto(objectives.to_vec()).pick(&results);
    let all: Vec<u64> = points(&feasible).points().collect();
    let expected: Runs = rows.iter().map(|row| all[*row]).collect();
    assert_eq!(points(&front), expected);
    assert!(!front.is_empty() && front.len() < feasible.len() / 4);
    let best = swept(&space, 0, space.points(), &ask(Keep::TopK(objectives[0], 3)));
    let most = |swept: &Swept| lane(swept, Measure::TokensPerGpu).into_iter().fold(0.0, f64::max);
    assert_eq!((best.len(), most(&best)), (3, most(&feasible)));
}

#[test]
fn a_narrowed_space_has_the_rows_of_those_values() {
    let space = space();
    let narrow = space.narrowed(Setting::Hw, &[1]).unwrap().narrowed(Setting::BatchSize, &[0, 2]).unwrap();
    assert_eq!(narrow.points() * 4, space.points());
    let ask = ask(Keep::Feasible);
    let (all, some) = (swept(&space, 0, space.points(), &ask), swept(&narrow, 0, narrow.points(), &ask));
    let steps = lane(&some, Measure::Step);
    let rows = |space: &Space, swept: Swept| swept.tables(space, None, &ask).unwrap().remove(0);
    let (all, some) = (rows(&space, all), rows(&narrow, some));
    let (Some(Column::NameRuns(hw, devices)), Some(Column::U32(batch)), Some(Column::F64(step))) =
        (all.column("hw"), all.column("batch_size"), all.column("step_s"))
    else {
        panic!("{all:?}")
    };
    let hw: Vec<u32> = hw.iter().flat_map(|(place, rows)| std::iter::repeat_n(*place, *rows)).collect();
    let kept = |row: &usize| devices[hw[*row] as usize] == "l40s" && [1, 64].contains(&batch[*row]);
    let expected: Vec<f64> = (0..step.len()).filter(kept).map(|row| step[row]).collect();
    assert_eq!(steps, expected);
    assert_eq!(some.len(), expected.len());
    let error = space.narrowed(Setting::Tp, &[9]).unwrap_err().to_string();
    assert_eq!(error, "tp must be narrowed to some of its 4 values: 1");
}

#[test]
fn the_next_possible_point_begins_a_deployment_that_can_be() {
    let space = space();
    let ask = ask(Keep::Feasible);
    for start in (0..space.points()).step_by(97) {
        let next = next_possible(&space, start, &ask);
        assert!(next >= start);
        assert!(next == space.points() || space.deployed(next).is_ok());
    }
}

#[test]
fn impossible_axes_are_refused_all_at_once() {
    let model = catalog::models::model("llama-3.1-8b").unwrap();
    let device = catalog::hardware::hardware("h100").unwrap().item;
    let of = |axes: Vec<Axis>| {
        let mut all = vec![names(Setting::Model, &["llama-3.1-8b"]), names(Setting::Hw, &["h100-sxm"])];
        all.extend(axes);
        Space::new(vec![model.clone()], vec![device.clone()], vec![ENGINE], vec![Efficiency::Ideal], all)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(of(vec![counts(Setting::Tp, &[])]), "tp must have values: none");
    assert_eq!(of(vec![counts(Setting::Tp, &[1, 2, 1])]), "tp must have each value once: 1");
    assert_eq!(of(vec![counts(Setting::Tp, &[0])]), "tp must be at least 1: 0");
    assert_eq!(
        of(vec![counts(Setting::Tp, &[1]), counts(Setting::Tp, &[2])]),
        "tp must be given once: twice"
    );
    assert_eq!(of(vec![counts(Setting::BatchSize, &[1 << 32])]), "batch_size must be below 2^32: 4294967296");
    assert_eq!(of(vec![names(Setting::Tp, &["a"])]), "tp must be whole numbers, none negative: names");
    let numbers =
        |values: &[f64]| Axis { setting: Setting::Overlap, values: Values::Numbers(values.to_vec()) };
    assert_eq!(of(vec![numbers(&[1.5])]), "overlap must be from 0 to 1: 1.5");
    let scale = Axis { setting: Setting::LinkScale, values: Values::Numbers(vec![0.0]) };
    assert_eq!(of(vec![scale]), "link_scale must be above 0 and finite: 0");
    assert_eq!(of(vec![names(Setting::Quantization, &["fp9"])]), "no quantization is called `fp9`");
    let several = of(vec![names(Setting::Phase, &["sing"]), counts(Setting::Tp, &[0])]);
    assert!(several.starts_with("the space has 2 mistakes:\n  no phase is called `sing`"), "{several}");
    let long: Vec<u64> = (1..=1 << 21).collect();
    let axes =
        [Setting::BatchSize, Setting::InputLen, Setting::OutputLen].map(|setting| counts(setting, &long));
    assert_eq!(of(axes.to_vec()), "the space must have fewer than 2^63 points: more");
}
