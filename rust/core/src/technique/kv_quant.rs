//! KV quantization: a cache in few bits.

use std::sync::Arc;

use super::weight_quant::storage;
use super::{Effect, Kind, Parameter, Slot, Target};
use crate::error::Result;
use crate::format::Storage;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "kv-quant",
    aliases: &["kv-quantization", "kv-cache-quant"],
    class: "KV quantization",
    about: "stores keys and values in few bits",
    parameters: &[
        Parameter { key: "bits", default: "", about: "bits of an element: 16, or from 1 to 8" },
        Parameter {
            key: "format",
            default: "",
            about: "instead of bits: fp8, int8, int4, fp4, mxfp8, mxfp4, nvfp4 or bf16",
        },
        Parameter {
            key: "group",
            default: "0",
            about: "elements that share a scale; 0: a scale a head or tensor, which is negligible",
        },
        Parameter { key: "scale", default: "16", about: "bits of a group's scale" },
        Parameter { key: "zero", default: "0", about: "bits of a group's zero point" },
    ],
    changes: "KV bytes read and written, capacity",
    formula: "KV = 2·K·d·(bits + (scale + zero)/group)/8 bytes a token and layer; attention multiplies in the activations' \
              format",
    source: "KIVI (arXiv 2402.02750), KVQuant (arXiv 2401.18079); the survey, figure 11",
    pays: "long contexts and large batches: the cache outweighs the weights from a length on",
    loses: "short contexts: the cache is a small part of the step",
    slots: &[Slot::CacheFormat],
    read: |settings| Ok(Arc::new(KvQuant { storage: storage(settings)?.0 })),
};

#[derive(Debug)]
struct KvQuant {
    storage: Option<Storage>,
}

impl Effect for KvQuant {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        target.precision.kv = self.storage.unwrap_or(Storage::plain(target.precision.activation));
        Ok(())
    }
}
