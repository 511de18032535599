//! Flags that engines know, in the grammar of techniques: `-q`, `--kv-cache-dtype`, `--num-speculative-tokens`.

use super::Technique;
use crate::error::{Error, Result};
use crate::names;

/// What was said by flags that techniques say too.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    /// A scheme by name, or bits.
    pub quantization: Option<String>,
    /// A format of the cache.
    pub kv_cache_dtype: Option<String>,
    /// A level of fusion.
    pub fusion: Option<String>,
    /// Whether attention is one kernel.
    pub flash_attention: Option<bool>,
    /// Share of hidden communication.
    pub overlap: Option<f64>,
    /// Where drafts come from.
    pub spec_method: Option<String>,
}

impl Said {
    /// Whether `techniques` say nothing that a flag says as well.
    ///
    /// # Errors
    /// The first thing that is said twice.
    pub fn once(&self, techniques: &[Technique]) -> Result<()> {
        let named = |text: &Option<String>| text.clone().filter(|text| text != "auto" && text != "none");
        let twice = [
            ("quantization", named(&self.quantization), &["weight-quant", "activation-quant"][..]),
            ("kv_cache_dtype", named(&self.kv_cache_dtype), &["kv-quant"]),
            ("fusion", self.fusion.clone().filter(|level| level != "full"), &["fusion"]),
            ("flash_attention", self.flash_attention.filter(|on| !on).map(|on| on.to_string()), &["flash"]),
            ("overlap", self.overlap.filter(|share| *share != 0.0).map(|share| share.to_string()), &["overlap"]),
            ("spec_method", named(&self.spec_method), &["spec", "parallel-decoding"]),
        ];
        for (field, value, kinds) in twice {
            let also = techniques.iter().find(|technique| kinds.contains(&technique.kind().name));
            if let (Some(value), Some(technique)) = (value, also) {
                let must = format!("must not be given beside `{technique}`, which says the same thing");
                return Err(Error::spec(field, must, value, "give one of them"));
            }
        }
        Ok(())
    }
}

/// What a scheme's name stands for (`w4a16`); `None` for one that is no technique (`bf16`, `fp16`, `fp32`, `auto`).
fn scheme(name: &str) -> Option<&'static str> {
    Some(match names::normalise(name).as_str() {
        "fp8" => "weight-quant:format=fp8 + activation-quant:format=fp8",
        "fp8-block" => "weight-quant:format=fp8-block + activation-quant:format=fp8",
        "int8" | "w8a8" | "smoothquant" => "weight-quant:bits=8 + activation-quant:format=int8",
        "w8a16" => "weight-quant:bits=8",
        "w4a16" | "int4" | "awq" | "gptq" => "weight-quant:bits=4,group=128,scale=16,zero=4",
        "w3a16" => "weight-quant:bits=3,group=128,scale=16,zero=4",
        "w2a16" => "weight-quant:bits=2,group=64,scale=16,zero=4",
        "w4a8" => "weight-quant:bits=4,group=128,scale=16,zero=4 + activation-quant:format=int8",
        "w4afp8" => "weight-quant:bits=4,group=128,scale=16,zero=4 + activation-quant:format=fp8",
        "nvfp4" => "weight-quant:format=nvfp4 + activation-quant:format=nvfp4",
        "mxfp4" => "weight-quant:format=mxfp4",
        _ => return None,
    })
}

/// The techniques that flags stand for, as one writes them: what `-q`, `--kv-cache-dtype` and speculative flags expand to.
///
/// ```
/// use roofline_core::technique::expand;
/// assert_eq!(expand(Some("w8a16"), Some("fp8"), None), ["weight-quant:bits=8", "kv-quant:format=fp8"]);
/// assert!(expand(Some("bf16"), Some("auto"), None).is_empty());
/// ```
pub fn expand(
    quantization: Option<&str>,
    kv_cache_dtype: Option<&str>,
    speculation: Option<(&str, u64, &str)>,
) -> Vec<String> {
    let scheme = quantization.and_then(scheme).into_iter().flat_map(|text| text.split(" + ").map(str::to_string));
    let cache = kv_cache_dtype.filter(|name| *name != "auto").map(|name| format!("kv-quant:format={name}"));
    let drafts = speculation.map(|(method, tokens, accept)| {
        format!("spec:method={method},gamma={tokens},accept={}", accept.replace(',', "/"))
    });
    scheme.chain(cache).chain(drafts).collect()
}
