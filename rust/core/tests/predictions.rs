//! Laws of predictions: never below the roofline, monotone in everything that is more work or a faster part.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use roofline_core::catalog;
use roofline_core::efficiency::{Efficiency, Estimate};
use roofline_core::format::{Format, Storage};
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::precision::{Precision, Request};
use roofline_core::roof::Roof;
use roofline_core::shape::{Phase, Sums};
use roofline_core::step::{Deployment, Pricer, Stack};

const DEVICES: [&str; 7] = ["h100-sxm", "b200-sxm", "a40", "mi300x", "rtx-4090", "tpu-v6e", "gb300"];
const MODELS: [(&str, u64); 6] = [
    ("llama-3.1-8b", 1),
    ("llama-3.1-70b", 4),
    ("mixtral-8x7b", 2),
    ("gemma-3-27b", 2),
    ("deepseek-v3", 8),
    ("qwen3-next-80b-a3b", 4),
];
const ENGINES: [&str; 3] = ["vllm", "sglang", "trtllm"];

fn deployment(model: &str, tp: u64, hardware: &str, engine: &str, quantization: &str) -> Deployment {
    let model = catalog::models::model(model).unwrap();
    let request = Request { quantization: Some(quantization.into()), ..Request::default() };
    Deployment {
        precision: Precision::resolve(&model, &request).unwrap(),
        model,
        hardware: catalog::hardware::hardware(hardware).unwrap().item,
        layout: Layout { tp, ..Layout::default() },
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::predicted(engine),
        techniques: Default::default(),
    }
}

fn any_deployment() -> impl Strategy<Value = Deployment> {
    (
        0..MODELS.len(),
        0..DEVICES.len(),
        0..ENGINES.len(),
        prop_oneof![Just("auto"), Just("bf16"), Just("fp8")],
    )
        .prop_map(|(model, device, engine, quantization)| {
            let (model, tp) = MODELS[model];
            deployment(model, tp, DEVICES[device], ENGINES[engine], quantization)
        })
}

/// Prompts (new tokens, context) and contexts of those who decode.
#[derive(Debug, Clone)]
struct Batch {
    prompts: Vec<(u64, u64)>,
    contexts: Vec<u64>,
}

impl Batch {
    fn sums(&self, pricer: &Pricer) -> Sums {
        let mut sums = Sums::default();
        for &(new, context) in &self.prompts {
            pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, new, context, 1);
        }
        for &context in &self.contexts {
            pricer.reaches().add_item(&mut sums, Phase::Decode, 1.0, 1, context, 1);
        }
        sums
    }
}

fn batches() -> impl Strategy<Value = Batch> {
    let prompts = prop::collection::vec((1u64..6000, 0u64..4000), 0..4);
    let contexts = prop::collection::vec(1u64..40_000, 1..60);
    (prompts, contexts).prop_map(|(prompts, contexts)| Batch { prompts, contexts })
}

fn at_most(less: f64, more: f64) -> Result<(), TestCaseError> {
    prop_assert!(less <= more * (1.0 + 1e-9), "{less} > {more}");
    Ok(())
}

fn step(pricer: &Pricer, batch: &Batch) -> f64 {
    pricer.seconds(&batch.sums(pricer)).step.seconds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_operator_and_no_step_is_predicted_below_its_roofline(deployment in any_deployment(), batch in batches()) {
        let pricer = deployment.compile().unwrap();
        let sums = batch.sums(&pricer);
        let ideal = Deployment { efficiency: Efficiency::Ideal, ..deployment }.compile().unwrap();
        let (predicted, bound) = (pricer.seconds(&sums), ideal.seconds(&sums));
        prop_assert!((predicted.ideal / bound.ideal - 1.0).abs() < 1e-12, "{} {}", predicted.ideal, bound.ideal);
        let Estimate { seconds, low, high } = predicted.step;
        let (low, high) = (low.unwrap(), high.unwrap());
        prop_assert!(predicted.ideal <= low && low <= seconds && seconds <= high, "{low} {seconds} {high}");
        pricer.each(&sums, |_, op, cost| assert!(cost.seconds >= cost.ideal, "{} {cost:?}", op.name));
    }

    #[test]
    fn more_tokens_and_longer_contexts_are_never_faster(
        deployment in any_deployment(), batch in batches(), new in 1u64..3000, more in 1u64..2000,
    ) {
        let pricer = deployment.compile().unwrap();
        let mut larger = batch.clone();
        larger.prompts.push((new, 0));
        at_most(step(&pricer, &batch), step(&pricer, &larger))?;
        let mut longer = larger.clone();
        longer.prompts.last_mut().unwrap().0 += more;
        at_most(step(&pricer, &larger), step(&pricer, &longer))?;
        let mut later = longer.clone();
        later.contexts[0] += more;
        at_most(step(&pricer, &longer), step(&pricer, &later))?;
        let mut joined = later.clone();
        joined.contexts.push(more);
        at_most(step(&pricer, &later), step(&pricer, &joined))?;
    }

    #[test]
    fn prompts_that_outgrow_their_window_are_never_faster(
        (model, window) in prop_oneof![Just(("gemma-3-27b", 1024u64)), Just(("gpt-oss-20b", 128))],
        device in 0..DEVICES.len(), engine in 0..ENGINES.len(), narrow in any::<bool>(),
        cached in 0u64..1500, below in 0u64..200, more in 1u64..400, contexts in prop::collection::vec(1u64..4000, 0..5),
    ) {
        let mut deployment = deployment(model, 1, DEVICES[device], ENGINES[engine], "auto");
        if narrow {
            deployment.precision.kv = Storage::plain(Format::Fp8);
        }
        let pricer = deployment.compile().unwrap();
        let cached = cached % window;
        let new = (window - cached).saturating_sub(below).max(1);
        let at = |new, cached| step(&pricer, &Batch { prompts: vec![(new, cached)], contexts: contexts.clone() });
        at_most(at(new, cached), at(new + more, cached))?;
        at_most(at(new, cached), at(new, cached + more))?;
    }

    #[test]
    fn a_faster_part_never_makes_a_predicted_step_slower(
        deployment in any_deployment(), batch in batches(), factor in 1.0f64..6.0,
    ) {
        let roof = Roof::of(&deployment.hardware).unwrap();
        let on = |roof: &Roof| {
            let pricer = deployment.compile_on(roof, Stack::Model).unwrap();
            step(&pricer, &batch)
        };
        let slow = on(&roof);
        for (compute, memory, link) in [(factor, 1.0, 1.0), (1.0, factor, 1.0), (1.0, 1.0, factor)] {
            at_most(on(&roof.faster(compute, memory, link)), slow)?;
        }
    }
}

#[test]
fn one_long_prompt_beside_seven_short_ones_is_not_eight_average_ones() {
    let pricer = deployment("llama-3.1-8b", 1, "h100-sxm", "vllm", "bf16").compile().unwrap();
    let of = |prompts: Vec<(u64, u64)>| step(&pricer, &Batch { prompts, contexts: vec![] });
    let mut mixed = vec![(1000, 0); 7];
    mixed.push((60_000, 0));
    let average = vec![(67_000 / 8, 0); 8];
    let (mixed, average) = (of(mixed), of(average));
    assert!(mixed > 1.5 * average, "{mixed} {average}");
    // Alone they take as long as together, less what weights and launches cost seven times more.
    let apart = of(vec![(60_000, 0)]) + 7.0 * of(vec![(1000, 0)]);
    assert!(mixed < apart && mixed > 0.9 * apart, "{mixed} {apart}");
}

#[test]
fn a_long_context_beside_short_ones_is_not_an_average_context() {
    let pricer = deployment("llama-3.1-8b", 1, "h100-sxm", "vllm", "bf16").compile().unwrap();
    let of = |contexts: Vec<u64>| step(&pricer, &Batch { prompts: vec![], contexts });
    let mut mixed = vec![100; 7];
    mixed.push(400_000);
    let mean = mixed.iter().sum::<u64>() / 8;
    assert!(of(mixed) > of(vec![mean; 8]));
}

#[test]
fn a_mixed_step_is_one_step_that_reads_its_weights_once() {
    for (model, tp) in MODELS {
        let pricer = deployment(model, tp, "h100-sxm", "vllm", "auto").compile().unwrap();
        // As many tokens as are recorded as a graph.
        let prompts = vec![(448, 1024)];
        let contexts = vec![2000; 64];
        let together = step(&pricer, &Batch { prompts: prompts.clone(), contexts: contexts.clone() });
        let prompt = step(&pricer, &Batch { prompts, contexts: vec![] });
        let answers = step(&pricer, &Batch { prompts: vec![], contexts });
        assert!(together < 0.85 * (prompt + answers), "{model}: {together} {prompt} {answers}");
        assert!(together > prompt.max(answers), "{model}: {together} {prompt} {answers}");
    }
}

#[test]
fn products_of_latent_heads_are_launched_once_in_and_once_out() {
    let absorbing = |engine| {
        let pricer = deployment("deepseek-v3", 8, "h100-sxm", engine, "fp8").compile().unwrap();
        let sums = Batch { prompts: vec![], contexts: vec![1000] }.sums(&pricer);
        let mut found = Vec::new();
        pricer.each(&sums, |_, op, cost| found.extend((op.name == "mla_absorb").then_some(cost.seconds)));
        found[0]
    };
    // One row over 16 heads: two launches of 3.5 to 7 microseconds, and little else.
    for engine in ENGINES {
        let seconds = absorbing(engine);
        assert!((6e-6..20e-6).contains(&seconds), "{engine}: {seconds}");
    }
}

/// Seconds of a prompt of so many tokens beside so many answers.
fn step_of(deployment: &Deployment, prompt: u64, answers: f64) -> f64 {
    let pricer = deployment.compile().unwrap();
    let mut sums = pricer.reaches().empty();
    pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, prompt, 0, 1);
    pricer.reaches().add_item(&mut sums, Phase::Decode, answers, 1, 500, 1);
    pricer.seconds(&sums).step.seconds
}

#[test]
fn a_step_with_a_prompt_takes_as_long_as_launching_its_kernels_however_quick_the_device() {
    let small = deployment("llama-3.1-8b", 8, "b200-sxm", "sglang", "fp8");
    let launched = small.compile().unwrap().launched();
    assert!(launched.seconds > 32.0 * 7.0 * 45e-6 && launched.seconds < 32.0 * 20.0 * 45e-6, "{launched:?}");
    let (short, long) = (step_of(&small, 64, 1.0), step_of(&small, 512, 1.0));
    assert!(short >= launched.seconds && long - short < 0.1 * short, "launching bounds both: {short} {long}");
    let at_once = Deployment { efficiency: small.efficiency.launched_at_once(), ..small.clone() };
    assert!(step_of(&at_once, 64, 1.0) < 0.6 * short);
    let busy = step_of(&small, 65_536, 1.0);
    assert!((busy / step_of(&at_once, 65_536, 1.0) - 1.0).abs() < 1e-12, "a long prompt hides its launches");
}

#[test]
fn vllm_replays_graphs_up_to_512_tokens_and_decodes_are_replayed_everywhere() {
    let of = |engine| deployment("llama-3.1-8b", 8, "b200-sxm", engine, "fp8");
    let (vllm, sglang) = (of("vllm"), of("sglang"));
    let (recorded, launched) = (step_of(&vllm, 511, 1.0), step_of(&vllm, 512, 1.0));
    assert!(launched >= vllm.compile().unwrap().launched().seconds && recorded < 0.7 * launched);
    for deployment in [vllm, sglang] {
        let decode = |deployment: &Deployment| {
            let pricer = deployment.compile().unwrap();
            let mut sums = pricer.reaches().empty();
            pricer.reaches().add_item(&mut sums, Phase::Decode, 64.0, 1, 500, 1);
            pricer.seconds(&sums).step.seconds
        };
        let at_once =
            Deployment { efficiency: deployment.efficiency.launched_at_once(), ..deployment.clone() };
        assert_eq!(decode(&deployment), decode(&at_once));
    }
}
