//! A row of a table of published servers, read: which model on which devices, in which formats, under how many users.

use roofline_core::catalog;
use roofline_core::error::{Error, Result};
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::model::{Ffn, Model};

use crate::calibrate::frame::Frame;
use crate::calibrate::read::Defaults;

/// Formats that a table's word may stand for; none: as the checkpoint is stored.
const PRECISIONS: [&str; 18] = [
    "",
    "bf16",
    "fp16",
    "bfloat16",
    "float16",
    "fp8",
    "fp8_block",
    "fp4",
    "nvfp4",
    "mxfp4",
    "int8",
    "w8a8",
    "w8a16",
    "int4",
    "w4a16",
    "awq",
    "gptq",
    "w4afp8",
];
/// What kernel tables and engines call them.
const ALSO_CALLED: [(&str, &str); 10] = [
    ("fp8_static", "fp8"),
    ("fp8_dynamic", "fp8"),
    ("fp8_ootb", "fp8"),
    ("sq", "w8a8"),
    ("int8_sq", "w8a8"),
    ("int8_wo", "w8a16"),
    ("int4_wo", "w4a16"),
    ("w4a16_mxfp4", "mxfp4"),
    ("w4a8_mxfp4_fp8", "mxfp4"),
    ("w4a8_mxfp4_mxfp8", "mxfp4"),
];
/// More than any server has at once: users, and tokens of a prompt or an answer.
const MOST_USERS: u64 = 65_536;
const LONGEST: u64 = 4_194_304;

/// What a row asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// The model.
    pub model: Model,
    /// The device.
    pub hardware: Hardware,
    /// `vllm`, `sglang` or `trtllm`.
    pub engine: &'static str,
    /// As the table says it (`fp8`); empty where it says nothing.
    pub precision: String,
    /// How the model is spread.
    pub layout: Layout,
    /// Users, each with one request at a time.
    pub users: u64,
    /// Longest prompt and answer, tokens.
    pub lengths: (u64, u64),
    /// Whether all requests have those lengths.
    pub exact: bool,
    /// Whether weights are stored in 8 bits or fewer.
    pub narrow: bool,
}

impl Server {
    /// The server of a row; `defaults` hold where no column says.
    ///
    /// # Errors
    /// What is missing, unknown, or not priced, in words.
    pub fn of(frame: &Frame, row: usize, defaults: &Defaults) -> Result<Server, String> {
        if word(frame, "mode", row) == "disagg" {
            return Err("prompts and answers on different devices are not priced".into());
        }
        let number = |name: &str| {
            frame.number(&[name]).map(|column| column[row]).filter(|value| value.is_finite() && *value >= 1.0)
        };
        let count = |name: &str| number(name).map(|value| value as u64);
        let must = |name: &str| count(name).ok_or_else(|| format!("`{name}` must be a positive number"));
        let model = named(word(frame, "model_path", row)).map_err(|why| why.to_string())?;
        let (tp, dp) = (must("tp_size")?, count("attention_dp_size").unwrap_or(1));
        let (moe_tp, ep) = (count("moe_tp_size").unwrap_or(1), count("moe_ep_size").unwrap_or(1));
        let (tp, dp, ep) = if is_dense(&model) { (tp, dp, 1) } else { once((tp, dp), (moe_tp, ep)) };
        let precision = precision(word(frame, "precision", row))?;
        let (users, lengths) = (must("concurrency")?, (must("isl")?, must("osl")?));
        if users > MOST_USERS || lengths.0.max(lengths.1) > LONGEST {
            return Err(format!(
                "`concurrency` must be at most {MOST_USERS}, `isl` and `osl` at most {LONGEST}"
            ));
        }
        Ok(Server {
            hardware: hardware(word(frame, "system", row), defaults).map_err(|why| why.to_string())?,
            engine: engine(match word(frame, "backend", row) {
                "" => &defaults.engine,
                said => said,
            })?,
            layout: Layout { tp, pp: count("pp_size").unwrap_or(1), dp, ep },
            users,
            lengths,
            exact: word(frame, "source_kind", row) == "nvidia_internal",
            narrow: ["fp4", "fp8", "int4", "int8", "w4", "w8", "awq", "gptq"]
                .iter()
                .any(|narrow| precision.contains(narrow)),
            precision,
            model,
        })
    }

    /// The quantization that a table's word stands for: the checkpoint's own where it is as narrow.
    pub fn quantization(&self) -> &'static str {
        let own = self.model.quantization.as_deref().unwrap_or_default();
        let in_four = own.contains("fp4")
            || own.contains("int4")
            || own.starts_with("w4")
            || ["awq", "gptq"].contains(&own);
        match self.precision.as_str() {
            "fp4" | "nvfp4" | "mxfp4" | "int4" | "w4a16" | "awq" | "gptq" if in_four => "auto",
            "fp4" | "nvfp4" => "nvfp4",
            "mxfp4" => "mxfp4",
            "int4" | "w4a16" | "awq" | "gptq" => "awq",
            "w4afp8" => "w4afp8",
            "int8" | "w8a8" if own == "w8a8" => "auto",
            "int8" | "w8a8" => "int8",
            "w8a16" if own == "w8a16" => "auto",
            "w8a16" => "w8a16",
            "fp8" if own.is_empty() && is_dense(&self.model) => "fp8",
            // Makers of models with experts publish them in blocks.
            "fp8" | "fp8_block" if own.is_empty() => "fp8-block",
            "bf16" | "bfloat16" | "fp16" | "float16" if !own.is_empty() => "bf16",
            _ => "auto",
        }
    }
}

/// The format that a table's word stands for.
fn precision(said: &str) -> Result<String, String> {
    let plain = said.trim().to_lowercase().replace('-', "_");
    let known =
        ALSO_CALLED.iter().find(|(other, _)| *other == plain).map_or(plain.as_str(), |(_, known)| known);
    match PRECISIONS.contains(&known) {
        true => Ok(known.to_string()),
        false => Err(format!("`precision` must be one of {}: `{said}`", PRECISIONS[1..].join(", "))),
    }
}

/// The device that a table's word stands for; the default where it says nothing.
///
/// # Errors
/// A name that no device has.
pub fn hardware(said: &str, defaults: &Defaults) -> Result<Hardware> {
    match (&defaults.device, said) {
        (Some(device), "") => Ok(device.clone()),
        (None, "") => Err(Error::spec("`system`", "must name a device", "there is none", "")),
        _ => Ok(catalog::hardware::hardware(said)?.item),
    }
}

/// The engine that a table's word stands for (`dynamo-trtllm`); vLLM where it says nothing.
fn engine(backend: &str) -> Result<&'static str, String> {
    let lower = backend.to_lowercase();
    match () {
        () if lower.contains("sglang") => Ok("sglang"),
        () if lower.contains("trt") || lower.contains("tensorrt") => Ok("trtllm"),
        () if lower.is_empty() || lower.contains("vllm") => Ok("vllm"),
        () => Err(format!("`backend` must name vllm, sglang or trtllm: `{backend}`")),
    }
}

/// The model of that name.
///
/// # Errors
/// No name, or one under which nothing is known.
pub fn named(path: &str) -> Result<Model> {
    if path.is_empty() {
        return Err(Error::spec("`model_path`", "must name a model", "there is none", ""));
    }
    catalog::models::model(path)
}

/// Whether it has no experts.
pub fn is_dense(model: &Model) -> bool {
    model.layers.iter().all(|group| !matches!(group.ffn, Some(Ffn::Moe(_))))
}

/// A column of numbers that there must be.
///
/// # Errors
/// A frame without it.
pub fn needed<'a>(frame: &'a Frame, name: &str) -> Result<&'a [f64]> {
    frame.number(&[name]).ok_or_else(|| {
        let was = format!("columns {}", frame.names().join(", "));
        Error::spec("points", format!("must have a column of numbers `{name}`"), was, "")
    })
}

/// The word of a row; empty where there is none.
pub fn word<'a>(frame: &'a Frame, name: &str, row: usize) -> &'a str {
    frame.word(&[name]).map_or("", |words| words.at(row))
}

/// TP, DP and EP of the devices there are. Where experts are spread, tables of these servers multiply a group of devices
/// by itself: 8 devices under `moe_tp = ep = 8` stand there as TP 64, 4 ranks of data parallelism as TP 4 × DP 4 with EP 16,
/// on machines of 8 devices, and with the times of such machines.
fn once((tp, dp): (u64, u64), (moe_tp, ep): (u64, u64)) -> (u64, u64, u64) {
    let squared = ep > 1 && tp * dp == moe_tp * ep;
    if squared && moe_tp == ep && (tp == 1 || dp == 1) {
        return if dp > 1 { (1, ep, ep) } else { (ep, 1, ep) };
    }
    if squared && moe_tp == 1 && tp == dp && tp > 1 {
        return (1, dp, dp);
    }
    (tp, dp, ep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_a_table_multiplied_by_itself_is_taken_once() {
        assert_eq!(once((64, 1), (8, 8)), (8, 1, 8));
        assert_eq!(once((1, 64), (8, 8)), (1, 8, 8));
        assert_eq!(once((4, 4), (1, 16)), (1, 4, 4));
    }

    #[test]
    fn a_checkpoint_is_found_under_the_name_of_its_architecture() {
        let same = |one: &str, other: &str| assert_eq!(named(one).unwrap().name, named(other).unwrap().name);
        same("Qwen/Qwen3.5-397B-A17B-FP8", "qwen3.5-397b-a17b-fp8-block");
        same("moonshotai/Kimi-K2-Base-Thinking", "kimi-k2");
        let error = named("nobody/knows-Instruct-FP8").unwrap_err().to_string();
        assert_eq!(error, "no model is called `nobody/knows-Instruct-FP8`");
    }

    #[test]
    fn a_format_has_the_names_that_kernel_tables_give_it() {
        for (said, meant) in [("FP8-Block", "fp8_block"), ("int4_wo", "w4a16"), ("w4a8_mxfp4_mxfp8", "mxfp4")]
        {
            assert_eq!(precision(said).as_deref(), Ok(meant));
        }
        assert!(ALSO_CALLED.iter().all(|(_, known)| PRECISIONS.contains(known)));
        assert!(precision("fp7").unwrap_err().ends_with(", w4afp8: `fp7`"));
    }

    #[test]
    fn a_checkpoint_keeps_its_own_format_where_that_is_as_narrow() {
        let of = |model: &str, precision: &str| {
            let server = Server {
                model: named(model).unwrap(),
                hardware: catalog::hardware::hardware("h100_sxm").unwrap().item,
                engine: "vllm",
                precision: precision.into(),
                layout: Layout { tp: 1, pp: 1, dp: 1, ep: 1 },
                users: 1,
                lengths: (1, 1),
                exact: false,
                narrow: true,
            };
            server.quantization()
        };
        assert_eq!(
            (of("openai/gpt-oss-120b", "fp4"), of("deepseek-ai/DeepSeek-V3", "fp4")),
            ("auto", "nvfp4")
        );
        assert_eq!((of("deepseek-v3", "fp8"), of("qwen3-235b-a22b", "fp8")), ("auto", "fp8-block"));
        assert_eq!((of("llama-3.1-70b", "bf16"), of("llama-3.1-70b", "")), ("auto", "auto"));
        assert_eq!((of("llama-3.1-70b", "int8"), of("llama-3.1-70b", "int4")), ("int8", "awq"));
        assert_eq!(of("deepseek-v3", "bf16"), "bf16");
    }

    #[test]
    fn engines_are_known_by_their_names_in_tables() {
        assert_eq!(
            ["dynamo-trt", "TensorRT-LLM", "SGLang", "vllm", ""].map(|name| engine(name).unwrap()),
            ["trtllm", "trtllm", "sglang", "vllm", "vllm"]
        );
        assert_eq!(engine("zzz").unwrap_err(), "`backend` must name vllm, sglang or trtllm: `zzz`");
    }

    #[test]
    fn other_layouts_stay_as_they_are() {
        for layout @ ((tp, dp), (_, ep)) in
            [((8, 1), (8, 1)), ((4, 1), (1, 4)), ((2, 1), (1, 2)), ((1, 1), (1, 1)), ((8, 8), (4, 16))]
        {
            assert_eq!(once(layout.0, layout.1), (tp, dp, ep));
        }
    }
}
