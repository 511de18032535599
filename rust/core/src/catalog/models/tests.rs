//! The catalogue against the directory, against what others publish, and against how people write names.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::model::hf::model_from_json;

/// What others say a model has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    parameters: Option<Figure>,
    active: Option<Figure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    value: f64,
    /// Whether it is a count and not a rounded figure.
    #[serde(default)]
    exact: bool,
    /// How far a rounded figure may lie from the count it was made from.
    #[serde(default)]
    rounding: f64,
    /// What its publisher does not count (`embedding`, `head`).
    #[serde(default)]
    excludes: Vec<String>,
    source: String,
}

/// A whole file: nothing else may stand in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    title: String,
    aliases: Vec<String>,
    source: String,
    published: Option<Published>,
    #[serde(rename = "config")]
    _config: Value,
}

fn files() -> impl Iterator<Item = (&'static str, File)> {
    FILES.iter().map(|(name, text)| {
        (*name, toml::from_str(text).unwrap_or_else(|why| panic!("data/models/{name}.toml: {why}")))
    })
}

/// What is wrong with `count` in the light of a published figure; `None` if they agree.
fn disagreement(model: &Model, figure: &Figure, count: u64) -> Option<String> {
    let left_out: u64 = figure
        .excludes
        .iter()
        .map(|part| match part.as_str() {
            "embedding" => model.embedding_parameters(),
            "head" => model.head_parameters(),
            other => panic!("{}: excludes holds {other}", model.name),
        })
        .sum();
    let count = (count - left_out) as f64;
    let tolerance = if figure.exact { 0.0 } else { figure.rounding.max(0.005 * figure.value) };
    let off = count - figure.value;
    (off.abs() > tolerance)
        .then(|| format!("{}: {count} counted, {} published ({off:+})", model.name, figure.value))
}

#[test]
fn every_file_of_the_directory_is_embedded_under_its_name() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models");
    let mut there: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    let mut embedded: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.toml")).collect();
    embedded.sort();
    assert_eq!(there, embedded);
    assert!(there.len() >= 75, "{}", there.len());
}

#[test]
fn every_file_is_named_as_it_says_and_tells_its_source() {
    for (name, file) in files() {
        assert_eq!(file.name, name);
        assert!(!file.title.is_empty() && !file.source.is_empty(), "{name}");
        for figure in file.published.iter().flat_map(|it| it.parameters.iter().chain(&it.active)) {
            assert!(!figure.source.is_empty(), "{name}");
        }
    }
}

#[test]
fn every_model_loads_under_its_name_and_title() {
    let mut refused = Vec::new();
    for (name, file) in files() {
        match model(name) {
            Ok(model) => {
                assert_eq!((model.name.as_str(), &model.title), (name, &file.title));
                assert!(model.parameters() >= model.active_parameters(), "{name}");
            }
            Err(why) => refused.push(format!("{name}: {why}")),
        }
    }
    assert!(refused.is_empty(), "{} refused:\n{}", refused.len(), refused.join("\n"));
}

#[test]
fn no_two_models_answer_to_one_name() {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (name, file) in files() {
        assert_eq!(key(name), name, "a catalogue name must be its own shortest form");
        for alias in file.aliases.iter().map(String::as_str).chain([name]) {
            let owner = *owners.entry(key(alias)).or_insert(name);
            assert_eq!(owner, name, "{alias}");
        }
    }
}

#[test]
fn parameters_are_as_many_as_others_count() {
    let mut wrong = Vec::new();
    for (name, file) in files() {
        let (Some(published), Ok(model)) = (file.published, model(name)) else { continue };
        if let Some(figure) = &published.parameters {
            wrong.extend(disagreement(&model, figure, model.parameters() + model.vision_parameters()));
        }
        if let Some(figure) = &published.active {
            wrong.extend(
                disagreement(&model, figure, model.active_parameters()).map(|why| format!("active: {why}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{} disagree:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_name_is_found_however_people_write_it() {
    let spellings = [
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("LLAMA_3.1_8B", "llama-3.1-8b"),
        ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b"),
        ("qwen3-30b-a3b-fp8", "qwen3-30b-a3b-fp8"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("gpt-2", "gpt2"),
        ("DiT-XL/2", "dit-xl-2"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "llama-3.1-8b"),
        ("LLAMA3.1_70B", "llama-3.1-70b"),
        ("llama3.1:8b", "llama-3.1-8b"),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "nemotron-nano-9b-v2"),
        ("zai-org/GLM-4.7", "glm-4.6"),
    ];
    for (written, meant) in spellings {
        assert_eq!(model(written).unwrap().name, meant, "{written}");
    }
}

#[test]
fn every_alias_finds_its_own_model() {
    for (name, file) in files() {
        for alias in &file.aliases {
            assert_eq!(find(alias).unwrap().name, name, "{alias}");
        }
    }
}

#[test]
fn an_unknown_model_names_the_nearest_three() {
    let error = model("meta-llama/Llama-3.1-9B").unwrap_err();
    assert_eq!(error.to_string(), "no model is called `meta-llama/Llama-3.1-9B`");
    assert!(error.hint().contains("llama-3.1-8b"), "{}", error.hint());
    assert_eq!(error.hint().matches(',').count(), 2, "{}", error.hint());
    assert_eq!(model_source("llama-9").unwrap_err().to_string(), "no model is called `llama-9`");
}

#[test]
fn a_source_names_where_the_facts_stand() {
    assert!(model_source("gpt-oss-20b").unwrap().contains("openai/gpt-oss-20b"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = load("broken", "title = 1").unwrap_err();
    assert!(error.to_string().starts_with("data/models/broken.toml must be a model file: "), "{error}");
}

#[test]
fn the_table_has_a_row_a_model() {
    let table = model_table().unwrap();
    assert_eq!(table.len(), model_names().len());
    let Some(Column::Str(names)) = table.column("name") else { panic!("no names") };
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), model_names());
    let Some(Column::OptStr(quantizations)) = table.column("quantization") else {
        panic!("no quantizations")
    };
    let row = names.iter().position(|name| name == "gpt-oss-20b").unwrap();
    assert_eq!(quantizations[row].as_deref(), Some("mxfp4"));
}

#[test]
#[allow(clippy::print_stdout)]
fn a_catalogue_model_is_the_one_its_published_configuration_describes() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models");
    if !shared.is_dir() {
        return println!("skipped: {} is not there", shared.display());
    }
    let (mut compared, mut different) = (0, Vec::new());
    for (name, file) in files() {
        for alias in &file.aliases {
            let Ok(text) = std::fs::read_to_string(shared.join(alias.replace('/', "--") + ".json")) else {
                continue;
            };
            let (ours, theirs) = (model(name).unwrap(), model_from_json(name, &text).unwrap());
            // The copy of Llama 4's configuration there leaves the vision tower out.
            let vision = theirs.vision.clone().or(ours.vision.clone());
            let theirs = Model { title: ours.title.clone(), notes: ours.notes.clone(), vision, ..theirs };
            // Older ModelOpt checkpoints say how they are quantized beside the configuration, not in it.
            if theirs.quantization.is_none() && ours.quantization.is_some() {
                continue;
            }
            compared += 1;
            if ours != theirs {
                different.push(format!("{alias}\n  ours   {ours:?}\n  theirs {theirs:?}"));
            }
        }
    }
    assert!(compared >= 40, "{compared}");
    assert!(different.is_empty(), "{} of {compared} differ:\n{}", different.len(), different.join("\n"));
}
