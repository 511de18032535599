//! What the tool takes from a model's configuration, by its own module for each family.

use serde_json::Value;

use super::{Inputs, Version};
use crate::error::{Error, Result};

/// The tool's configuration modules (`configs/*.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `configs/Llama.py`.
    Llama,
    /// `configs/opt.py`: Llama's layers under OPT's names, a gate projection included.
    Opt,
    /// `configs/chatglm3.py`.
    ChatGlm3,
    /// `configs/gpt-j-6B.py`: no gate, one norm.
    GptJ,
    /// `configs/DiT.py`: no gate, no head.
    Dit,
}

/// The sizes the tool's formulas need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sizes {
    pub family: Family,
    pub hidden: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub layers: u64,
    pub intermediate: u64,
    /// Zero for a family without a head.
    pub vocabulary: u64,
}

/// One weight matrix of a layer, as the tool names and sizes it.
pub(super) struct Linear {
    pub name: &'static str,
    pub inputs: f64,
    pub outputs: f64,
}

impl Family {
    /// The module for a configuration: by `model_type`, or without one by the keys that only one family has.
    ///
    /// # Errors
    /// [`Error::Spec`] with the tool's assertion where it has no module.
    pub fn of(config: &Value) -> Result<Family> {
        let has = |key: &str| config.get(key).is_some();
        match config.get("model_type").and_then(Value::as_str) {
            Some("llama") => Ok(Family::Llama),
            Some("opt") => Ok(Family::Opt),
            Some("chatglm") => Ok(Family::ChatGlm3),
            Some("gptj") => Ok(Family::GptJ),
            None if has("depth") && has("num_heads") => Ok(Family::Dit),
            None if has("multi_query_group_num") => Ok(Family::ChatGlm3),
            None if has("ffn_dim") => Ok(Family::Opt),
            None if has("n_embd") => Ok(Family::GptJ),
            None if has("intermediate_size") => Ok(Family::Llama),
            other => Err(Error::spec(
                "config: model_type",
                "must be one the tool has a module for (AssertionError: config file is not \
                 found, please specify it manually.)",
                other.unwrap_or("none"),
                "known: llama, opt, chatglm, gptj, and DiT (which has no model_type, but `depth` and \
                 `num_heads`); where you named configs/Llama.py by hand, set model_type to `llama`",
            )),
        }
    }
}

impl Sizes {
    /// # Errors
    /// [`Error::Spec`] naming the key that is missing or not a positive integer.
    pub(super) fn read(config: &Value) -> Result<Sizes> {
        let family = Family::of(config)?;
        let int = |keys: &[&str]| integer(config, keys);
        let sizes = |hidden, heads, kv_heads, layers, intermediate, vocabulary| Sizes {
            family,
            hidden,
            heads,
            kv_heads,
            layers,
            intermediate,
            vocabulary,
        };
        let sizes = match family {
            Family::Llama => {
                let heads = int(&["num_attention_heads"])?;
                let kv_heads = match config.get("num_key_value_heads") {
                    None | Some(Value::Null) => heads,
                    Some(_) => int(&["num_key_value_heads"])?,
                };
                sizes(
                    int(&["hidden_size"])?,
                    heads,
                    kv_heads,
                    int(&["num_hidden_layers"])?,
                    int(&["intermediate_size"])?,
                    int(&["vocab_size"])?,
                )
            }
            Family::Opt => {
                let heads = int(&["num_attention_heads"])?;
                sizes(
                    int(&["hidden_size"])?,
                    heads,
                    heads,
                    int(&["num_hidden_layers"])?,
                    int(&["ffn_dim"])?,
                    int(&["vocab_size"])?,
                )
            }
            Family::ChatGlm3 => sizes(
                int(&["hidden_size"])?,
                int(&["num_attention_heads"])?,
                int(&["multi_query_group_num"])?,
                int(&["num_layers"])?,
                int(&["ffn_hidden_size"])?,
                int(&["padded_vocab_size"])?,
            ),
            Family::GptJ => {
                let hidden = int(&["n_embd", "hidden_size"])?;
                let heads = int(&["n_head", "num_attention_heads"])?;
                let layers = int(&["n_layer", "num_hidden_layers"])?;
                sizes(hidden, heads, heads, layers, 4 * hidden, int(&["vocab_size"])?)
            }
            Family::Dit => {
                let hidden = int(&["hidden_size"])?;
                let heads = int(&["num_heads"])?;
                sizes(hidden, heads, heads, int(&["depth"])?, dit_intermediate(config, hidden)?, 0)
            }
        };
        Ok(sizes)
    }

    /// Hidden size over heads, whatever `head_dim` the model says it has.
    pub(super) fn head_size(&self) -> u64 {
        self.hidden / self.heads
    }

    /// The norms of a layer under the tool's names.
    pub(super) fn norms(&self) -> &'static [&'static str] {
        match self.family {
            Family::GptJ => &["attn_norm"],
            _ => &["attn_norm", "mlp_norm"],
        }
    }

    /// The weight matrices of a layer on one of `tp_size` devices.
    ///
    /// # Errors
    /// [`Error::Spec`] with the tool's own assertion or exception where `tp_size` cannot be used.
    pub(super) fn linears(&self, version: Version, inputs: &Inputs) -> Result<Vec<Linear>> {
        let tp = self.checked_tp(version, inputs.tp_size)?;
        let (hidden, intermediate) = (self.hidden, self.intermediate);
        let kv_width = match version {
            Version::Main472f71f => (hidden * self.kv_heads) as f64 / self.heads as f64,
            _ => (hidden * self.kv_heads / self.heads / tp) as f64,
        };
        let mut linears = vec![
            linear("q_proj", hidden, hidden / tp),
            Linear { name: "k_proj", inputs: hidden as f64, outputs: kv_width },
            Linear { name: "v_proj", inputs: hidden as f64, outputs: kv_width },
            linear("out_proj", hidden / tp, hidden),
        ];
        if !matches!(self.family, Family::GptJ | Family::Dit) {
            linears.push(linear("gate_proj", hidden, intermediate / tp));
        }
        linears.push(linear("up_proj", hidden, intermediate / tp));
        linears.push(linear("down_proj", intermediate / tp, hidden));
        Ok(linears)
    }

    fn checked_tp(&self, version: Version, tp_size: u32) -> Result<u64> {
        let tp = u64::from(tp_size);
        if tp == 1 {
            return Ok(tp);
        }
        if version == Version::Main472f71f {
            return Err(Error::spec(
                "tp_size",
                "must be 1 in a version without tensor parallelism (TypeError: analyze() got an unexpected \
                 keyword argument 'tp_size')",
                tp,
                "use llm-viewer@1893e4b",
            ));
        }
        if tp == 0 {
            return Err(Error::spec(
                "tp_size",
                "must be at least 1 (ZeroDivisionError: integer division or modulo by zero)",
                tp,
                "",
            ));
        }
        let divided = [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("key_value_heads", self.kv_heads),
        ];
        for (name, size) in divided {
            if size % tp != 0 {
                return Err(Error::spec(
                    "tp_size",
                    format!("must divide {name} = {size} (AssertionError: {name} % tp_size == 0)"),
                    tp,
                    "",
                ));
            }
        }
        Ok(tp)
    }
}

fn linear(name: &'static str, inputs: u64, outputs: u64) -> Linear {
    Linear { name, inputs: inputs as f64, outputs: outputs as f64 }
}

/// The first of `keys` the configuration has; below 2^32, so that products of two stay exact.
fn integer(config: &Value, keys: &[&str]) -> Result<u64> {
    let must = "must be an integer between 1 and 4294967295";
    let found = keys.iter().find_map(|key| config.get(key).map(|value| (key, value)));
    let Some((key, value)) = found else {
        return Err(Error::spec(format!("config: {}", keys[0]), must, "missing", ""));
    };
    match value.as_u64() {
        Some(size) if (1..=u64::from(u32::MAX)).contains(&size) => Ok(size),
        _ => Err(Error::spec(format!("config: {key}"), must, value, "")),
    }
}

/// Width of a DiT block's MLP: `mlp_ratio` times the hidden size, the ratio being 4 where none is given.
fn dit_intermediate(config: &Value, hidden: u64) -> Result<u64> {
    let ratio = match config.get("mlp_ratio") {
        None => 4.0,
        Some(value) => {
            value.as_f64().filter(|ratio| (f64::MIN_POSITIVE..=1024.0).contains(ratio)).ok_or_else(|| {
                Error::spec("config: mlp_ratio", "must be a number above 0 and at most 1024", value, "")
            })?
        }
    };
    Ok((ratio * hidden as f64) as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs(tp_size: u32) -> Inputs {
        Inputs { tp_size, ..Inputs::default() }
    }

    #[test]
    fn each_family_reads_its_own_keys() {
        let chatglm = json!({
            "model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 28,
            "multi_query_group_num": 2, "ffn_hidden_size": 13696, "padded_vocab_size": 65024,
        });
        let sizes = Sizes::read(&chatglm).unwrap();
        assert_eq!(
            (sizes.kv_heads, sizes.layers, sizes.intermediate, sizes.vocabulary),
            (2, 28, 13696, 65024)
        );
        let dit = json!({"depth": 12, "hidden_size": 384, "patch_size": 8, "num_heads": 6, "mlp_ratio": 4.0});
        let sizes = Sizes::read(&dit).unwrap();
        assert_eq!((sizes.family, sizes.layers, sizes.intermediate), (Family::Dit, 12, 1536));
    }

    #[test]
    fn an_old_llama_without_kv_heads_has_one_for_each_head() {
        let mut config = json!({
            "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
            "intermediate_size": 11008, "vocab_size": 32000,
        });
        assert_eq!(Sizes::read(&config).unwrap().kv_heads, 32);
        config["num_key_value_heads"] = Value::Null;
        assert_eq!(Sizes::read(&config).unwrap().kv_heads, 32);
    }

    #[test]
    fn a_family_without_a_module_is_the_tools_assertion() {
        let error = Sizes::read(&json!({"model_type": "mistral"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config: model_type must be one the tool has a module for (AssertionError: config file is not \
             found, please specify it manually.): mistral"
        );
        assert!(error.hint().contains("set model_type to `llama`"));
    }

    #[test]
    fn without_a_model_type_the_keys_tell_the_family() {
        let family = |key: &str| Family::of(&json!({key: 1}));
        assert_eq!(family("multi_query_group_num"), Ok(Family::ChatGlm3));
        assert_eq!(family("ffn_dim"), Ok(Family::Opt));
        assert_eq!(family("n_embd"), Ok(Family::GptJ));
        assert_eq!(family("intermediate_size"), Ok(Family::Llama));
        assert!(family("hidden_size").unwrap_err().to_string().ends_with("manually.): none"));
    }

    #[test]
    fn a_missing_or_senseless_size_is_named() {
        let error = Sizes::read(&json!({"model_type": "opt", "num_attention_heads": 0})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config: num_attention_heads must be an integer between 1 and 4294967295: 0"
        );
        let error = Sizes::read(&json!({"model_type": "gptj"})).unwrap_err();
        assert_eq!(error.to_string(), "config: n_embd must be an integer between 1 and 4294967295: missing");
        let dit = json!({"depth": 1, "num_heads": 1, "hidden_size": 8, "mlp_ratio": "4"});
        let error = Sizes::read(&dit).unwrap_err();
        assert_eq!(error.to_string(), "config: mlp_ratio must be a number above 0 and at most 1024: \"4\"");
    }

    #[test]
    fn tensor_parallelism_that_does_not_divide_is_the_tools_assertion() {
        let config = json!({
            "model_type": "opt", "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12,
            "ffn_dim": 3072, "vocab_size": 50272,
        });
        let sizes = Sizes::read(&config).unwrap();
        let refusal = |version, tp| sizes.linears(version, &inputs(tp)).err().unwrap().to_string();
        assert_eq!(
            refusal(Version::Main1893e4b, 8),
            "tp_size must divide key_value_heads = 12 (AssertionError: key_value_heads % tp_size == 0): 8"
        );
        assert_eq!(
            refusal(Version::Pr27Df2cba9, 7),
            "tp_size must divide hidden_size = 768 (AssertionError: hidden_size % tp_size == 0): 7"
        );
        assert_eq!(
            refusal(Version::Main1893e4b, 0),
            "tp_size must be at least 1 (ZeroDivisionError: integer division or modulo by zero): 0"
        );
        assert_eq!(
            refusal(Version::Main472f71f, 2),
            "tp_size must be 1 in a version without tensor parallelism (TypeError: analyze() got an \
             unexpected keyword argument 'tp_size'): 2"
        );
    }
}
