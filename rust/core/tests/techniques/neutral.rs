//! A technique switched to its neutral setting changes nothing.

use proptest::prelude::*;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::memory::Memory;
use roofline_core::model::Ffn;
use roofline_core::op::elementwise::Fusion;
use roofline_core::step::Deployment;
use roofline_core::technique::KINDS;

use super::random;
use super::toy::*;

/// Each kind with the settings that change nothing.
pub const NEUTRAL: [&str; 30] = [
    "prune:ffn=1,heads=1,layers=1",
    "attention:kind=full",
    "attention:kind=window,layers=0",
    "parallel:tp=1,pp=1,dp=1,ep=1",
    "spatial:chips=1",
    "weight-quant:bits=16",
    "activation-quant:format=bf16",
    "kv-quant:bits=16",
    "fusion:level=full",
    "flash:attention=on",
    "overlap:share=0",
    "parallel-decoding:method=skeleton,width=1",
    "low-rank",
    "low-rank:parts=ffn",
    "sparsity:format=dense",
    "n-m:n=4,m=4",
    "kv-evict",
    "kv-evict:ratio=1",
    "prefix-sharing:tokens=0",
    "paging:block=1",
    "paging:contiguous=1",
    "context-parallel:ranks=1",
    "contextual-sparsity:active=1",
    "early-exit:share=0",
    "early-exit:at=1,share=0.7",
    "lora:rank=0",
    "spec:gamma=0",
    "parallel-decoding:width=1",
    "offload:share=0",
    "hybrid:processor=xeon-8592,share=0",
];

/// Kinds without such a setting, and why.
const NEVER_NEUTRAL: [(&str, &str); 4] = [
    ("distill", "another model is served"),
    ("experts", "its neutral settings are those of a mixture, below"),
    ("afd", "layers are always spread over two groups of devices"),
    ("pim", "operators it names always run beside memory"),
];

/// Those of a model with experts.
const NEUTRAL_FOR_EXPERTS: [&str; 3] = ["experts", "experts:alpha=0", "experts:replicas=0"];

#[test]
fn every_kind_has_a_neutral_setting_or_a_reason() {
    for kind in KINDS {
        let neutral = NEUTRAL.iter().any(|text| text.split(':').next() == Some(kind.name));
        let excused = NEVER_NEUTRAL.iter().any(|(name, _)| *name == kind.name);
        assert!(neutral != excused, "{}", kind.name);
    }
}

/// Each neutral setting, as it must be written for a deployment that has a layout, fusion and kernel of its own.
fn neutral_for(deployment: &Deployment) -> Vec<String> {
    let layout = deployment.layout;
    let level = match deployment.lowering.fusion {
        Fusion::Full => "full",
        Fusion::Engine => "engine",
        Fusion::None => "none",
    };
    let flash = if deployment.lowering.flash_attention { "on" } else { "off" };
    let written = |text: &str| match text.split(':').next() {
        Some("parallel") => {
            format!("parallel:tp={},pp={},dp={},ep={}", layout.tp, layout.pp, layout.dp, layout.ep)
        }
        Some("fusion") => format!("fusion:level={level}"),
        Some("flash") => format!("flash:attention={flash}"),
        _ => text.to_string(),
    };
    let moe = |group: &roofline_core::model::LayerGroup| matches!(group.ffn, Some(Ffn::Moe(_)));
    let experts = NEUTRAL_FOR_EXPERTS.iter().filter(|_| deployment.model.layers.iter().any(moe));
    // Weights that a checkpoint stores in few bits are more in sixteen.
    let stored = |text: &&&str| deployment.model.quantization.is_none() || !text.starts_with("weight-quant");
    NEUTRAL.iter().filter(stored).chain(experts).map(|text| written(text)).collect()
}

/// What paging says of the engine's blocks: they are of one token then, whatever changes nothing else.
fn but_for_blocks(memory: Memory) -> Memory {
    let (engine_sequences, blocks_needed) = (0, 0);
    Memory { block_size: 0, block_bytes: 0.0, num_gpu_blocks: 0, engine_sequences, blocks_needed, ..memory }
}

/// Everything but sentences is the same: totals, each operator, memory.
fn unchanged(one: &Analysis, other: &Analysis, with: &str) -> Result<(), TestCaseError> {
    let (mut one, mut other) = (one.clone(), other.clone());
    if with.contains("paging") {
        for memory in [&mut one.outcome.memory, &mut other.outcome.memory] {
            *memory = but_for_blocks(*memory);
        }
    }
    prop_assert!(one.ops == other.ops, "{with}");
    prop_assert!(one.outcome == other.outcome, "{with}: {:?} {:?}", one.outcome.memory, other.outcome.memory);
    prop_assert_eq!((one.per_gpu, one.deployment), (other.per_gpu, other.deployment), "{}", with);
    prop_assert_eq!(one.sensitivity, other.sensitivity, "{}", with);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_neutral_setting_changes_nothing(base in random::deployments(), point in random::points()) {
        let asked = Analyst::new(base.0.clone(), &random::ENGINE).unwrap();
        let plain = asked.analyze(&point).unwrap();
        for with in neutral_for(&base) {
            let made = base.0.clone().with(&techniques(&with)).unwrap();
            let neutral = Analyst::new(made, &random::ENGINE).unwrap();
            prop_assert!(neutral.pricer() == asked.pricer(), "{with}");
            prop_assert_eq!(neutral.generation(), asked.generation(), "{}", with);
            unchanged(&neutral.analyze(&point).unwrap(), &plain, &with)?;
        }
    }

    #[test]
    fn several_neutral_settings_change_nothing_together(
        base in random::deployments(), point in random::points(), turn in 0usize..30,
    ) {
        let mut all = neutral_for(&base);
        all.rotate_left(turn % 30);
        let mut chosen: Vec<String> = Vec::new();
        for with in all {
            let joined = chosen.iter().chain([&with]).cloned().collect::<Vec<_>>().join(" + ");
            if base.0.clone().with(&techniques(&joined)).is_ok() {
                chosen.push(with);
            }
        }
        prop_assert!(chosen.len() > 15, "{chosen:?}");
        let plain = random::ask(&base, "none", &point).unwrap();
        let joined = chosen.join(" + ");
        unchanged(&random::ask(&base, &joined, &point).unwrap(), &plain, &joined)?;
    }

    #[test]
    fn what_changes_nothing_is_said_to(base in random::deployments(), point in random::points()) {
        for with in neutral_for(&base).into_iter().filter(|with| !with.starts_with("paging")) {
            let notes = random::ask(&base, &with, &point).unwrap().notes;
            prop_assert!(notes.iter().any(|note| note.contains("changes nothing")), "{} {:?}", with, notes);
        }
    }
}

#[test]
fn a_student_that_is_the_model_itself_changes_nothing() {
    for name in ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "falcon-mamba-7b", "gemma-2-2b"] {
        for point in [decode(3, 1000), prefill(1, 700)] {
            let plain = known(name, "h100-sxm", "none", &point);
            let own = known(name, "h100-sxm", &format!("distill:student={name}"), &point);
            assert_eq!((plain.ops, plain.outcome), (own.ops, own.outcome), "{name}");
        }
    }
}
