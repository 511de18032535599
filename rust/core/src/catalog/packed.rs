//! Checkpoints whose names say how they are stored: which architecture, in which format.

use serde_json::{Value, json};

use crate::model::{Ffn, Mixer, Model};

/// Words that name a format, and the scheme each stands for.
const FORMATS: &[(&str, Scheme)] = &[
    ("fp8", Scheme::Fp8),
    ("nvfp4", Scheme::Nvfp4),
    ("fp4", Scheme::Nvfp4),
    ("mxfp4", Scheme::Mxfp4),
    ("awq", Scheme::Awq),
    ("gptq", Scheme::Gptq { bits: 4 }),
    ("w8a8", Scheme::Int8),
    ("int8", Scheme::Int8),
    ("w8a16", Scheme::W8a16),
    ("w4a16", Scheme::W4a16),
    ("int4", Scheme::W4a16),
    ("bnb", Scheme::Bitsandbytes { bits: 4 }),
    ("bf16", Scheme::Plain),
];
/// Words beside one that say more of how it was made.
const BESIDE: &[&str] = &[
    "dynamic",
    "static",
    "pertensor",
    "tensor",
    "block",
    "channel",
    "quantized",
    "kv",
    "int4",
    "int8",
    "4bit",
    "8bit",
    "unsloth",
    "preview",
    "v2",
    "sym",
    "g128",
];
/// Words of training, which change no width.
const TRAINED: &[&str] = &["base", "thinking", "terminus", "reasoning"];
/// Owners who quantize other makers' models, with a scale a tensor or row.
const REPACKERS: &[&str] = &["nvidia", "redhatai", "neuralmagic", "amd", "unsloth"];

/// How weights are stored, as checkpoints of that name usually are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Fp8,
    Nvfp4,
    Mxfp4,
    Awq,
    Gptq { bits: u64 },
    Int8,
    W8a16,
    W4a16,
    Bitsandbytes { bits: u64 },
    Plain,
}

/// What the end of a name says.
#[derive(Debug, Clone, PartialEq)]
pub struct Suffix {
    words: Vec<String>,
    scheme: Option<Scheme>,
}

/// Every way to take words of formats and of training off the end of a name: those that take the fewest words of training
/// first (of Kimi-K2-Thinking there is a file), of these the shortest rest.
pub fn splits(plain: &str) -> Vec<(String, Suffix)> {
    let words: Vec<&str> = plain.split('-').collect();
    let is_known = |word: &&str| {
        FORMATS.iter().any(|(known, _)| known == word) || BESIDE.contains(word) || TRAINED.contains(word)
    };
    let taken = words.iter().rev().take_while(|word| is_known(word)).count().min(words.len() - 1);
    let mut splits: Vec<(String, Suffix)> = (words.len() - taken..words.len())
        .filter_map(|at| Some((words[..at].join("-"), Suffix::of(&words[at..])?)))
        .collect();
    splits.sort_by_key(|(_, suffix)| TRAINED.iter().filter(|word| suffix.says(word)).count());
    splits
}

impl Suffix {
    /// What these words say; nothing where some of them only mean something beside a format, and there is none.
    fn of(words: &[&str]) -> Option<Suffix> {
        let scheme = FORMATS.iter().find(|(known, _)| words.contains(known)).map(|(_, scheme)| *scheme);
        let says = |word: &str| words.contains(&word);
        let bits = if says("int8") || says("8bit") { 8 } else { 4 };
        let scheme = match scheme {
            Some(Scheme::Gptq { .. }) => Some(Scheme::Gptq { bits }),
            Some(Scheme::Bitsandbytes { .. }) => Some(Scheme::Bitsandbytes { bits }),
            other => other,
        };
        let complete = scheme.is_some() || words.iter().all(|word| TRAINED.contains(word));
        complete.then(|| Suffix { words: words.iter().map(|word| word.to_string()).collect(), scheme })
    }

    fn says(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// How a checkpoint of `base` is stored whose name ends so, by that owner; nothing where it is as the base itself.
    pub fn packing(&self, base: &Model, owner: &str) -> Option<Packing> {
        let scheme = self.scheme?;
        let own = base.quantization.as_deref().unwrap_or_default();
        let same = match scheme {
            Scheme::Fp8 => own == "fp8",
            Scheme::Nvfp4 => own == "nvfp4",
            Scheme::Mxfp4 => own == "mxfp4",
            Scheme::Plain => own.is_empty(),
            _ => false,
        };
        (!same).then(|| self.packed(scheme, base, owner))
    }

    fn packed(&self, scheme: Scheme, base: &Model, owner: &str) -> Packing {
        let head = json!(["lm_head"]);
        let narrow = json!(kept_wide(base));
        let ints = |bits: u64, activations: bool, ignore: &Value| {
            let group: i64 = if bits == 4 { 128 } else { -1 };
            let weights = json!({"num_bits": bits, "type": "int", "symmetric": true, "group_size": group});
            let mut only = json!({"targets": ["Linear"], "weights": weights});
            if activations {
                only["input_activations"] = json!({"num_bits": 8, "type": "int"});
            }
            json!({"quant_method": "compressed-tensors", "ignore": ignore, "config_groups": {"group_0": only}})
        };
        let (label, about, config) = match scheme {
            Scheme::Fp8 if self.in_blocks(base, owner) => (
                "fp8-block".into(),
                "FP8 in blocks of 128×128",
                json!({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
                       "modules_to_not_convert": head}),
            ),
            Scheme::Fp8 => (
                "fp8-tensor".into(),
                "FP8 with a scale a tensor or row",
                json!({"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": head}),
            ),
            Scheme::Nvfp4 => (
                "nvfp4".into(),
                "NVFP4 weights and activations",
                json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": narrow}),
            ),
            Scheme::Mxfp4 => (
                "mxfp4".into(),
                "MXFP4 weights",
                json!({"quant_method": "compressed-tensors", "ignore": narrow, "config_groups": {"group_0": {
                    "targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 32}}}}),
            ),
            Scheme::Awq => (
                "awq".into(),
                "INT4 weights in groups of 128 with zero points",
                json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true,
                       "modules_to_not_convert": narrow}),
            ),
            Scheme::Gptq { bits } => (
                format!("gptq-int{bits}"),
                if bits == 8 { "INT8 weights in groups of 128" } else { "INT4 weights in groups of 128" },
                json!({"quant_method": "gptq", "bits": bits, "group_size": 128, "modules_to_not_convert": narrow}),
            ),
            Scheme::Int8 => ("w8a8".into(), "INT8 weights and activations", ints(8, true, &head)),
            Scheme::W8a16 => ("w8a16".into(), "INT8 weights", ints(8, false, &head)),
            Scheme::W4a16 => ("w4a16".into(), "INT4 weights in groups of 128", ints(4, false, &narrow)),
            Scheme::Bitsandbytes { bits } => (
                format!("bnb-{bits}bit"),
                "weights of bitsandbytes",
                json!({"quant_method": "bitsandbytes", "load_in_4bit": bits == 4, "load_in_8bit": bits == 8,
                       "llm_int8_skip_modules": head}),
            ),
            Scheme::Plain => ("bf16".into(), "nothing quantized", Value::Null),
        };
        Packing { label, about, config }
    }

    /// Whether FP8 has a scale a block: as makers of experts, of Qwen 3 and of GLM publish it, unless the name or the owner
    /// says otherwise.
    fn in_blocks(&self, base: &Model, owner: &str) -> bool {
        let says_not =
            ["dynamic", "static", "pertensor", "tensor", "channel", "kv"].iter().any(|no| self.says(no));
        let by_makers =
            has_experts(base) || base.family.starts_with("qwen3") || base.family.starts_with("glm");
        self.says("block") || (by_makers && !says_not && !REPACKERS.contains(&owner))
    }
}

/// How a checkpoint is stored, as its name says.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// What stands for it at the end of a name.
    pub label: String,
    /// The same in words.
    pub about: &'static str,
    /// The `quantization_config` it would have; null for none.
    pub config: Value,
}

impl Packing {
    /// The configuration of an architecture, stored so.
    pub fn apply(&self, config: &mut Value) {
        let Some(top) = config.as_object_mut() else { return };
        for place in [None, Some("text_config"), Some("llm_config")] {
            let keys = match place {
                None => Some(&mut *top),
                Some(name) => top.get_mut(name).and_then(Value::as_object_mut),
            };
            if let Some(keys) = keys {
                keys.remove("quantization_config");
                keys.remove("compression_config");
            }
        }
        if !self.config.is_null() {
            top.insert("quantization_config".into(), self.config.clone());
        }
    }
}

fn has_experts(model: &Model) -> bool {
    model.layers.iter().any(|group| matches!(group.ffn, Some(Ffn::Moe(_))))
}

/// What 4-bit checkpoints leave as it is: the head, latent attention and states.
fn kept_wide(base: &Model) -> Vec<&'static str> {
    let any = |is: fn(&Mixer) -> bool| base.layers.iter().filter_map(|group| group.mixer.as_ref()).any(is);
    let mut kept = vec!["lm_head"];
    if any(|mixer| matches!(mixer, Mixer::Mla(_))) {
        kept.push("model.layers.*.self_attn*");
    }
    if any(|mixer| matches!(mixer, Mixer::Linear(_))) {
        kept.push("model.layers.*.linear_attn*");
    }
    if any(|mixer| matches!(mixer, Mixer::Mamba(_))) {
        kept.extend(["model.layers.*.mixer.in_proj", "model.layers.*.mixer.out_proj"]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use crate::catalog::models::model;
    use crate::format::Format;
    use crate::model::Part;

    fn weights(name: &str) -> (String, Format, u32) {
        let model = model(name).unwrap_or_else(|error| panic!("{error}"));
        let weight = model.layers[model.layers.len() - 1].quant.default.weight;
        (model.quantization.unwrap_or_default(), weight.format, weight.group)
    }

    #[test]
    fn a_format_at_the_end_of_a_name_is_that_of_the_weights() {
        for (name, format, group) in [
            ("Qwen/Qwen3-14B-FP8", Format::Fp8, 128 * 128),
            ("RedHatAI/Qwen3-14B-FP8-dynamic", Format::Fp8, 0),
            ("nvidia/Qwen3-32B-FP8-Static-PerTensor", Format::Fp8, 0),
            ("nvidia/Qwen3-14B-FP4", Format::Fp4, 16),
            ("Qwen/Qwen2.5-7B-Instruct-AWQ", Format::Int4, 128),
            ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", Format::Int4, 128),
            ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8", Format::Int8, 128),
            ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", Format::Int8, 0),
            ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16", Format::Int4, 128),
            ("unsloth/Llama-3.3-70B-Instruct-unsloth-bnb-4bit", Format::Int4, 64),
            ("amd/Llama-3.3-70B-Instruct-MXFP4-Preview", Format::Fp4, 32),
            ("neuralmagic/Mixtral-8x7B-Instruct-v0.1-FP8", Format::Fp8, 0),
            ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", Format::Fp8, 128 * 128),
            ("unsloth/gpt-oss-20b-BF16", Format::Bf16, 0),
        ] {
            let (_, found, size) = weights(name);
            assert_eq!((found, size), (format, group), "{name}");
        }
    }

    #[test]
    fn what_was_assumed_is_said_and_the_name_finds_the_same_model_again() {
        let first = model("RedHatAI/Qwen3-14B-FP8-dynamic").unwrap();
        assert_eq!(first.name, "qwen3-14b-fp8-tensor");
        assert!(first.notes[0].starts_with("`RedHatAI/Qwen3-14B-FP8-dynamic` taken as `qwen3-14b` with FP8"));
        let again = model(&first.name).unwrap();
        assert_eq!((again.name.as_str(), &again.layers), (first.name.as_str(), &first.layers));
    }

    #[test]
    fn latent_attention_of_four_bit_checkpoints_stays_in_sixteen() {
        let model = model("nvidia/DeepSeek-V3.2-NVFP4").unwrap();
        let last = &model.layers[model.layers.len() - 1];
        let of = |part| last.quant.of(part).weight.format;
        assert_eq!((of(Part::Attention), of(Part::Experts)), (Format::Bf16, Format::Fp4));
        assert_eq!(model.name, "deepseek-v3.2-nvfp4");
    }

    #[test]
    fn a_checkpoint_in_the_format_of_its_base_is_the_base() {
        assert_eq!(model("zai-org/DeepSeek-V3-FP8").unwrap().name, "deepseek-v3");
        assert_eq!(model("openai/gpt-oss-120b-mxfp4").unwrap().name, "gpt-oss-120b");
        assert_eq!(model("deepseek-ai/DeepSeek-V3.1-Base").unwrap().name, "deepseek-v3.1");
    }

    #[test]
    fn words_of_training_are_taken_off_where_no_file_has_them() {
        for (name, meant, context) in [
            ("nvidia/Kimi-K2-Thinking-NVFP4", "kimi-k2-thinking-nvfp4", 262_144),
            ("kimi-k2-thinking-bf16", "kimi-k2-thinking-bf16", 262_144),
            ("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", "qwen3-235b-a22b-2507-fp8-block", 262_144),
            ("Qwen/Qwen3-VL-8B-Thinking-FP8", "qwen3-vl-8b-fp8-block", 262_144),
            ("deepseek-ai/DeepSeek-V3.1-Base-AWQ", "deepseek-v3.1-awq", 163_840),
        ] {
            let model = model(name).unwrap();
            assert_eq!((model.name.as_str(), model.max_context), (meant, Some(context)), "{name}");
        }
    }

    #[test]
    fn what_means_nothing_without_a_format_is_not_taken_off() {
        for name in ["llama-3.1-8b-static", "qwen3-14b-v2", "fp8", "nobody/knows-FP8"] {
            let error = model(name).unwrap_err().to_string();
            assert_eq!(error, format!("no model is called `{name}`"));
        }
    }

    #[test]
    fn every_architecture_can_be_stored_in_every_format() {
        for name in crate::catalog::models::model_names() {
            for suffix in ["fp8", "nvfp4", "awq", "w8a8", "bf16"] {
                let asked = format!("{name}-{suffix}");
                if let Err(error) = model(&asked) {
                    panic!("{asked}: {error}");
                }
            }
        }
    }
}
