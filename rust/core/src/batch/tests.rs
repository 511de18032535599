//! The kernel against the one-point evaluation, on random models, devices, layouts and sizes.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use proptest::prelude::*;

use super::*;
use crate::analysis::{Analyst, Outcome};
use crate::catalog;
use crate::efficiency::Efficiency;
use crate::layout::Layout;
use crate::lower::Lowering;
use crate::memory::EngineMemory;
use crate::op::elementwise::Fusion;
use crate::point::{Point, Question};
use crate::precision::{Precision, Request};
use crate::roof::Bound;
use crate::step::{Deployment, Hidden};
use crate::technique::Technique;

const MODELS: [&str; 16] = [
    "llama-3.1-8b",
    "llama-3.1-70b",
    "mixtral-8x7b",
    "deepseek-v3",
    "deepseek-v3.2",
    "gemma-3-27b",
    "gemma-4-26b-a4b",
    "llama-4-scout-17b-16e",
    "gpt-oss-20b",
    "falcon-mamba-7b",
    "jamba-v0.1",
    "qwen3-next-80b-a3b",
    "nemotron-3-nano-30b-a3b",
    "qwen2.5-vl-7b",
    "opt-6.7b",
    "bert-base-uncased",
];
const DEVICES: [&str; 7] =
    ["h100-sxm", "h200-sxm", "b200-sxm", "mi300x", "l40s", "a100-sxm-80gb", "rtx-4090"];
const ENGINE: EngineMemory = EngineMemory::VLLM;

const EVERYTHING: Want = Want { work: true, bounds: true, band: true };

/// vLLM's kernels, each of which takes 1.3 times as long.
const SCALED: &str = "scaled";

/// Techniques that act in every place there is: operators, what runs beside, the cache, tokens a step.
const TECHNIQUES: [&str; 22] = [
    "none",
    "weight-quant:bits=4,dequant=serial",
    "attention:kind=window,window=200",
    "experts:alpha=1",
    "spatial:chips=2",
    "flash:splits=2",
    "overlap:share=0.5",
    "low-rank:keep=0.5",
    "n-m:n=2,m=4",
    "kv-evict:ratio=0.5",
    "prefix-sharing:tokens=100",
    "context-parallel:ranks=2",
    "contextual-sparsity:active=0.3",
    "sparsity:zeros=0.7",
    "early-exit:at=0.5,share=0.3",
    "lora:rank=8,adapters=3",
    "spec:method=eagle,gamma=2,accept=0.6",
    "parallel-decoding:width=4,tokens=1.4",
    "afd:attention=1,ffn=1",
    "pim:ops=attention",
    "hybrid:processor=xeon-8592,share=0.5",
    "offload:what=weights,share=0.3",
];

#[derive(Debug, Clone)]
struct Deployed {
    techniques: &'static str,
    predicted: Option<&'static str>,
    model: &'static str,
    hardware: &'static str,
    layout: (u64, u64, u64, bool),
    quantization: &'static str,
    kv: &'static str,
    lowering: (Fusion, bool),
    overlap: f64,
}

fn deployed() -> impl Strategy<Value = Deployed> {
    let some = prop::sample::select::<&'static str>;
    let layout = (some_of(&[1, 2, 4, 8]), some_of(&[1, 2, 4]), some_of(&[1, 2]), any::<bool>());
    let fusion = prop::sample::select(vec![Fusion::Full, Fusion::Engine, Fusion::None]);
    (
        some(MODELS.to_vec()),
        some(DEVICES.to_vec()),
        layout,
        some(vec!["auto", "bf16", "fp8", "w4a16", "int8"]),
        some(vec!["auto", "fp8"]),
        (fusion, prop::bool::weighted(0.8)),
        prop::sample::select(vec![0.0, 0.0, 0.4]),
        prop::sample::select(vec![None, None, Some("vllm"), Some("trtllm"), Some(SCALED)]),
        prop_oneof![2 => Just("none"), 1 => some(TECHNIQUES.to_vec())],
    )
        .prop_map(
            |(model, hardware, layout, quantization, kv, lowering, overlap, predicted, techniques)| {
                Deployed {
                    techniques,
                    predicted,
                    model,
                    hardware,
                    layout,
                    quantization,
                    kv,
                    lowering,
                    overlap,
                }
            },
        )
}

fn some_of(values: &[u64]) -> impl Strategy<Value = u64> + use<> {
    prop::sample::select(values.to_vec())
}

fn analyst(deployed: &Deployed) -> Option<Analyst> {
    static MODELS_READ: LazyLock<Mutex<HashMap<&str, crate::model::Model>>> = LazyLock::new(Mutex::default);
    let mut read = MODELS_READ.lock().unwrap();
    let model =
        read.entry(deployed.model).or_insert_with(|| catalog::models::model(deployed.model).unwrap()).clone();
    let request = Request {
        quantization: Some(deployed.quantization.to_string()),
        kv_cache_dtype: Some(deployed.kv.to_string()),
        ..Request::default()
    };
    let (tp, pp, dp, spread) = deployed.layout;
    let deployment = Deployment {
        precision: Precision::resolve(&model, &request).ok()?,
        model,
        hardware: catalog::hardware::hardware(deployed.hardware).unwrap().item,
        layout: Layout { tp, pp, dp, ep: if spread { tp * dp } else { 1 } },
        lowering: Lowering {
            fusion: deployed.lowering.0,
            flash_attention: deployed.lowering.1,
            ..Lowering::default()
        },
        overlap: deployed.overlap,
        efficiency: efficiency(deployed),
        techniques: Default::default(),
    };
    let techniques = Technique::parse_all(&[deployed.techniques]).unwrap();
    Analyst::new(deployment.with(&techniques).ok()?, &ENGINE).ok()
}

fn efficiency(deployed: &Deployed) -> Efficiency {
    let Some(name) = deployed.predicted else { return Efficiency::Ideal };
    let predicted = Efficiency::predicted(if name == SCALED { "vllm" } else { name });
    match &predicted {
        Efficiency::Predicted(prediction) if name == SCALED => {
            let hardware = catalog::hardware::hardware(deployed.hardware).unwrap().item;
            let mut scaled = (**prediction).clone();
            scaled.sets.insert(0, prediction.scaled(&hardware, 1.3));
            Efficiency::Predicted(Arc::new(scaled))
        }
        _ => predicted,
    }
}

fn point(question: Question) -> impl Strategy<Value = Point> {
    // Batches from few values, so that some points of a block share their counts and some do not.
    let batch_size = prop_oneof![1u64..6, 1u64..2000];
    let chunk = prop_oneof![Just(0u64), 100u64..3000];
    (batch_size, 1u64..20_000, 1u64..300, prop_oneof![Just(0u64), 0u64..9000], chunk).prop_map(
        move |(batch_size, input_len, output_len, prefix_len, chunk)| Point {
            question,
            batch_size,
            input_len,
            output_len,
            prefix_len,
            chunk: if question == Question::Mixed { chunk + 1 } else { chunk },
        },
    )
}

fn questions() -> impl Strategy<Value = Question> {
    prop::sample::select(Question::ALL.map(|(_, question)| question).to_vec())
}

fn same(name: &str, seen: f64, expected: f64) -> Result<(), TestCaseError> {
    prop_assert!((seen - expected).abs() <= 1e-12 * expected.abs(), "{name}: {seen} is not {expected}");
    Ok(())
}

fn compare(answers: &Answers, at: usize, outcome: &Outcome, hidden: &Hidden) -> Result<(), TestCaseError> {
    same("step", answers.step[at], outcome.times.step.step.seconds)?;
    same("stage", answers.stage[at], outcome.times.step.stage)?;
    let step = outcome.times.step;
    same("ideal", answers.ideal[at], step.ideal)?;
    for (seen, expected) in [(answers.low[at], step.step.low), (answers.high[at], step.step.high)] {
        match expected {
            Some(expected) => same("band", seen, expected)?,
            None => prop_assert!(seen.is_nan()),
        }
    }
    same("busy", answers.busy[at], outcome.done.busy())?;
    if let Some(ttft) = outcome.times.ttft {
        same("ttft", answers.ttft[at], ttft)?;
    }
    let device = outcome.done.device();
    same("flops", answers.flops[at], device.flops)?;
    same("bytes", answers.bytes[at], device.bytes())?;
    let total: f64 = outcome.done.bounds().iter().map(|(_, seconds)| seconds).sum();
    let exposed = answers.exposed(at, hidden);
    for bound in Bound::ALL {
        let expected = outcome.done.bounds().iter().find(|(known, _)| *known == bound).map_or(0.0, |b| b.1);
        let seen = exposed[bound as usize];
        // Where two ceilings meet either may be named: what is told apart is small against the whole.
        prop_assert!((seen - expected).abs() <= 1e-9 * total, "{bound:?}: {seen} is not {expected}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_block_is_priced_as_each_of_its_points(
        deployed in deployed(),
        (question, points) in questions()
            .prop_flat_map(|question| (Just(question), prop::collection::vec(point(question), 1..24))),
    ) {
        let analyst = analyst(&deployed);
        prop_assume!(analyst.is_some());
        let analyst = analyst.unwrap();
        let model = &analyst.deployment().model;
        prop_assume!(points.iter().all(|point| point.check(model).is_ok()));
        let kernel = Kernel::of(&analyst, question);
        let column = |of: fn(&Point) -> u64| points.iter().map(of).collect::<Vec<u64>>();
        let (batch_size, input_len) = (column(|p| p.batch_size), column(|p| p.input_len));
        let (output_len, prefix_len) = (column(|p| p.output_len), column(|p| p.prefix_len));
        let chunk = column(|p| p.chunk);
        let sizes = Sizes {
            batch_size: &batch_size,
            input_len: &input_len,
            output_len: &output_len,
            prefix_len: &prefix_len,
            chunk: &chunk,
        };
        let (mut scratch, mut answers) = (Scratch::default(), Answers::default());
        // A second time in the same memory: nothing of the first may be left.
        kernel.price(&sizes, EVERYTHING, &mut scratch, &mut answers);
        kernel.price(&sizes, EVERYTHING, &mut scratch, &mut answers);
        let mut times = Answers::default();
        kernel.price(&sizes, Want::default(), &mut scratch, &mut times);
        for (at, point) in points.iter().enumerate() {
            // A prefix may be longer than a point's context.
            let Ok(outcome) = analyst.outcome(point) else { continue };
            compare(&answers, at, &outcome, kernel.hidden())?;
            same("step alone", times.step[at], outcome.times.step.step.seconds)?;
            same("stage alone", times.stage[at], outcome.times.step.stage)?;
        }
    }
}
