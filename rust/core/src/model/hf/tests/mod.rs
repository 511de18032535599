//! What the importer makes of configurations: published ones, and some written from what is known of them.

mod published;
mod counts;
mod counts_mixed;
mod counts_older;
mod counts_towers;
mod layers;
mod quantization;
mod refusals;
mod robustness;

use super::json::without_infinities;
use super::*;

/// The model of a configuration that must load.
fn load(json: &str) -> Model {
    load_as("test", json)
}

fn load_as(name: &str, json: &str) -> Model {
    match model_from_json(name, json) {
        Ok(model) => model,
        Err(error) => panic!("{error}\nhint: {}", error.hint()),
    }
}

/// Why a configuration is refused.
fn refusal(json: &str) -> String {
    match model_from_json("test", json) {
        Ok(_) => panic!("it must be refused: {json}"),
        Err(error) => error.to_string(),
    }
}

/// A small Llama with `extra` keys (which replace those it has).
fn llama_with(extra: &str) -> String {
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(
        r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
            "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "dtype": "bfloat16"}"#,
    )
    .unwrap();
    config.extend(serde_json::from_str::<serde_json::Map<String, Value>>(extra).unwrap());
    Value::Object(config).to_string()
}
