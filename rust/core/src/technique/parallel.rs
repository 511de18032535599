//! Tensor, pipeline, data and expert parallelism, under the same grammar as the rest.

use std::sync::Arc;

use super::{Effect, Kind, Parameter, Settings, Slot, Target};
use crate::error::Result;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "parallel",
    aliases: &["parallelism"],
    class: "tensor, pipeline, data, expert parallelism",
    about: "spreads the model over devices: the flags --tp, --pp, --dp and --ep",
    parameters: &[
        Parameter { key: "tp", default: "", about: "devices that share every layer" },
        Parameter { key: "pp", default: "", about: "pipeline stages" },
        Parameter { key: "dp", default: "", about: "replicas of attention" },
        Parameter { key: "ep", default: "", about: "devices that share the experts" },
    ],
    changes: "F, W, A, KV and capacity of a device; link",
    formula: "the sharded side of a matrix over tp; ⌈K/tp⌉ KV heads; two all-reduces of T·h·a a layer, each \
              2(tp−1)/tp·M/B_link; T·h·a a stage boundary; dispatch and combine of T·k·h·a where ep > tp",
    source: "Megatron-LM (arXiv 1909.08053); GPipe (arXiv 1811.06965); survey §6",
    pays: "models that do not fit, small batches under tp (every device reads its part), throughput under dp and ep",
    loses: "where the all-reduce is longer than the time saved: slow links, large batches of small layers",
    slots: &[Slot::Layout],
    read: |settings| {
        let degree = |key: &str| settings.maybe_count(key, 1, 1 << 20);
        Ok(Arc::new(Parallel {
            degrees: [degree("tp")?, degree("pp")?, degree("dp")?, degree("ep")?],
            settings: settings.clone(),
        }))
    },
};

#[derive(Debug)]
struct Parallel {
    degrees: [Option<u64>; 4],
    settings: Settings,
}

impl Effect for Parallel {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        let layout = &mut *target.layout;
        let fields =
            [("tp", &mut layout.tp), ("pp", &mut layout.pp), ("dp", &mut layout.dp), ("ep", &mut layout.ep)];
        for ((key, field), degree) in fields.into_iter().zip(self.degrees) {
            if let Some(degree) = degree {
                if *field != 1 && *field != degree {
                    let must = format!("must not be given beside {key} = {field}");
                    return Err(self.settings.wrong(key, must, "give one of them"));
                }
                *field = degree;
            }
        }
        Ok(())
    }
}
