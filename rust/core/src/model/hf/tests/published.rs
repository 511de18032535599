//! The published configurations of `shared/data/models`, where they are at hand.

use std::path::PathBuf;

use super::*;

fn shared(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path)
}

/// Name and text of each file; `None` (and a line that says so) where the folder is absent.
#[allow(clippy::print_stdout)]
fn files() -> Option<Vec<(String, String)>> {
    let folder = shared("models");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not here", folder.display());
        return None;
    };
    let mut found: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_string();
            Some((name, std::fs::read_to_string(&path).ok()?))
        })
        .collect();
    found.sort();
    Some(found)
}

fn model(files: &[(String, String)], name: &str) -> Model {
    let (_, text) =
        files.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name} is there"));
    load_as(name, text)
}

/// `30B-A3B` in a name: billions in all, and billions a token meets.
fn billions(name: &str) -> (Option<f64>, Option<f64>) {
    let parts: Vec<&str> = name.split('-').collect();
    let number = |text: &str| text.strip_suffix('B').or(text.strip_suffix('b'))?.parse::<f64>().ok();
    let total = parts.iter().find_map(|part| number(part));
    let active = parts.iter().find_map(|part| number(part.strip_prefix('A')?));
    (total, active)
}

#[test]
fn every_published_configuration_loads_with_parameters_and_layers() {
    let Some(files) = files() else { return };
    assert!(files.len() >= 62, "{} files", files.len());
    for (name, text) in &files {
        let model = load_as(name, text);
        assert!(model.parameters() > 0 && model.active_parameters() > 0, "{name}");
        assert!(model.active_parameters() <= model.parameters(), "{name}");
        let layers: u64 = model.layers.iter().map(|group| group.count).sum();
        let config: Value = serde_json::from_str(&without_infinities(text)).unwrap();
        let inner = config.get("text_config").unwrap_or(&config);
        assert_eq!(Some(layers), inner["num_hidden_layers"].as_u64(), "{name}");
        assert!(model.layers.len() <= 3, "{name}: {} groups", model.layers.len());
        let explained = |note: &String| note.contains("no dtype") || note.contains("the name says");
        assert!(model.notes.iter().all(explained), "{name}: {:?}", model.notes);
    }
}

#[test]
fn a_name_that_says_how_large_a_model_is_says_the_truth() {
    let Some(files) = files() else { return };
    let mut checked = 0;
    for (name, text) in &files {
        let model = load_as(name, text);
        let (total, active) = billions(name);
        if let Some(total) = total {
            // `Mixtral-8x7B`, Scout's `17B` (active) and Qwen3-1.7B count otherwise: see the exact counts.
            let billions = (model.parameters() + model.vision_parameters()) as f64 / 1e9;
            if !name.contains("Scout") && !name.contains("-1.7B") && !name.contains("-VL-2B") {
                assert!((billions / total - 1.0).abs() < 0.11, "{name}: {billions}");
                checked += 1;
            }
        }
        if let Some(active) = active {
            let billions = model.active_parameters() as f64 / 1e9;
            assert!((billions / active - 1.0).abs() < 0.2, "{name}: {billions} active");
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn published_parameter_counts_are_met() {
    let Some(files) = files() else { return };
    let exact = [
        ("meta-llama--Meta-Llama-3.1-8B", 8_030_261_248),
        ("meta-llama--Meta-Llama-3.1-70B", 70_553_706_496),
        ("meta-llama--Meta-Llama-3.1-405B", 405_853_388_800),
        ("mistralai--Mixtral-8x7B-v0.1", 46_702_792_704),
        ("mistralai--Mixtral-8x22B-v0.1", 140_620_634_112),
        ("Qwen--Qwen3-0.6B", 596_049_920),
        ("Qwen--Qwen3-1.7B", 1_720_574_976),
        ("Qwen--Qwen3-8B", 8_190_735_360),
        ("Qwen--Qwen3-32B", 32_762_123_264),
        ("Qwen--Qwen3-30B-A3B", 30_532_122_624),
        ("Qwen--Qwen3-235B-A22B", 235_093_634_560),
        ("Qwen--Qwen3-Coder-480B-A35B-Instruct", 480_154_875_392),
        ("openai--gpt-oss-120b", 116_829_156_672),
        ("openai--gpt-oss-20b", 20_914_757_184),
        // 2,944 of them (128 corrections a router, 23 routers) stay in fp32 there.
        ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31_577_937_344 + 2_944),
    ];
    for (name, parameters) in exact {
        assert_eq!(model(&files, name).parameters(), parameters, "{name}");
    }
    let with_vision = [
        ("Qwen--Qwen3-VL-2B-Instruct", 2_127_532_032),
        ("Qwen--Qwen3-VL-4B-Instruct", 4_437_815_808),
        ("Qwen--Qwen3-VL-8B-Instruct", 8_767_123_696),
        ("Qwen--Qwen3-VL-30B-A3B-Instruct", 31_070_754_032),
    ];
    for (name, parameters) in with_vision {
        let model = model(&files, name);
        assert_eq!(model.parameters() + model.vision_parameters(), parameters, "{name}");
    }
}

#[test]
fn published_totals_and_active_counts_are_met_to_their_last_digit() {
    let Some(files) = files() else { return };
    let billions = [
        ("mistralai--Mixtral-8x7B-v0.1", "46.70", "12.88"),
        ("Qwen--Qwen3-30B-A3B", "30.53", "3.35"),
        ("Qwen--Qwen3-235B-A22B", "235.09", "22.19"),
        ("deepseek-ai--DeepSeek-V3", "671.03", "37.55"),
        ("openai--gpt-oss-120b", "116.83", "5.71"),
        ("openai--gpt-oss-20b", "20.91", "4.19"),
        ("google--gemma-4-26B-A4B", "25.23", "3.82"),
        ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "31.58", "3.58"),
        ("nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8", "120.67", "12.77"),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct", "107.77", "17.17"),
        ("moonshotai--Kimi-K2-Instruct", "1026.41", "32.86"),
        ("zai-org--GLM-5", "743.91", "41.78"),
    ];
    for (name, total, active) in billions {
        let model = model(&files, name);
        let shown = |parameters: u64| format!("{:.2}", parameters as f64 / 1e9);
        assert_eq!(
            (shown(model.parameters()), shown(model.active_parameters())),
            (total.into(), active.into()),
            "{name}"
        );
    }
}

#[test]
fn indexers_that_are_shared_have_no_weights_of_their_own() {
    let Some(files) = files() else { return };
    let model = model(&files, "nvidia--GLM-5.2-NVFP4");
    let owning: u64 = model
        .layers
        .iter()
        .filter(|group| matches!(&group.mixer, Some(crate::model::Mixer::Mla(mla)) if mla.indexer.as_ref().unwrap().own))
        .map(|group| group.count)
        .sum();
    assert_eq!(owning, 21);
}

#[test]
fn experts_of_kimi_k25_are_int4_and_everything_else_is_not() {
    use crate::model::Part;
    let Some(files) = files() else { return };
    let model = model(&files, "moonshotai--Kimi-K2.5");
    let sparse = model.layers.iter().find(|group| group.count == 60).unwrap();
    assert_eq!(sparse.quant.of(Part::Experts).weight.format, Format::Int4);
    assert_eq!(sparse.quant.of(Part::Experts).activation, Format::Bf16);
    for part in [Part::Attention, Part::Shared, Part::Router] {
        assert_eq!(sparse.quant.of(part).weight.format, Format::Bf16, "{part:?}");
    }
    let dense = model.layers.iter().find(|group| group.count == 1).unwrap();
    assert_eq!(dense.quant.of(Part::Dense).weight.format, Format::Bf16);
}

#[test]
fn excluded_modules_of_published_checkpoints_stay_as_they_were() {
    use crate::model::Part;
    let Some(files) = files() else { return };
    let formats = |name: &str, count: u64, part: Part| {
        let model = model(&files, name);
        model.layers.iter().find(|group| group.count == count).unwrap().quant.of(part).weight.format
    };
    let gemma = "nvidia--Gemma-4-26B-A4B-NVFP4";
    assert_eq!(formats(gemma, 25, Part::Experts), Format::Fp4);
    assert_eq!(formats(gemma, 25, Part::Dense), Format::Bf16);
    assert_eq!(formats(gemma, 25, Part::Attention), Format::Bf16);
    let qwen = "nvidia--Qwen3.5-397B-A17B-NVFP4";
    assert_eq!(formats(qwen, 45, Part::State), Format::Bf16);
    assert_eq!(formats(qwen, 45, Part::Shared), Format::Bf16);
    assert_eq!(formats(qwen, 45, Part::Experts), Format::Fp4);
    let glm = "nvidia--GLM-5.1-NVFP4";
    assert_eq!(formats(glm, 3, Part::Dense), Format::Bf16);
    assert_eq!(formats(glm, 75, Part::Experts), Format::Fp4);
    assert_eq!(formats(glm, 75, Part::Indexer), Format::Bf16);
    let minimax = "MiniMaxAI--MiniMax-M2.5";
    assert_eq!(formats(minimax, 62, Part::Experts), Format::Fp8);
    assert_eq!(formats(minimax, 62, Part::Router), Format::Bf16);
    assert_eq!(model(&files, glm).kv_format, Some(Format::Fp8));
    assert_eq!(model(&files, "Qwen--Qwen3-32B-FP8-Static-PerTensor").kv_format, Some(Format::Fp8));
    assert_eq!(model(&files, glm).quantization.as_deref(), Some("nvfp4"));
}

#[test]
fn a_quantization_that_only_the_name_tells_of_is_noted() {
    let Some(files) = files() else { return };
    let model = model(&files, "nvidia--DeepSeek-V3.1-NVFP4");
    assert_eq!(model.quantization, None);
    assert!(model.notes.iter().any(|note| note.contains("the name says nvfp4")), "{:?}", model.notes);
}

#[test]
fn checkpoints_take_the_bytes_they_take_on_disk() {
    let Some(files) = files() else { return };
    // Sizes of the safetensors files in GB, as listed beside them.
    for (name, gigabytes) in [
        ("openai--gpt-oss-120b", 65.25),
        ("openai--gpt-oss-20b", 13.76),
        ("meta-llama--Meta-Llama-3.1-8B", 16.06),
        ("Qwen--Qwen3-30B-A3B", 61.07),
        ("Qwen--Qwen3-30B-A3B-FP8", 31.2),
    ] {
        let counted = model(&files, name).weight_bytes() / 1e9;
        assert!((counted / gigabytes - 1.0).abs() < 0.005, "{name}: {counted}");
    }
}

#[test]
#[allow(clippy::print_stdout)]
fn the_models_of_llm_viewer_load_from_the_few_keys_it_reads() {
    let Ok(text) = std::fs::read_to_string(shared("llm_viewer/golden.json")) else {
        println!("skipped: the outputs of LLM-Viewer are not here");
        return;
    };
    let golden: Value = serde_json::from_str(&text).unwrap();
    let models = golden["models"].as_object().unwrap();
    assert!(models.len() >= 9);
    for (name, config) in models {
        let model = model_from_config(name, config).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.layers.len(), 1, "{name}");
        assert!(model.parameters() > 10_000_000, "{name}");
    }
}
