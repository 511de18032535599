//! Communication hidden behind computation.

use std::sync::Arc;

use super::{Effect, Kind, Parameter, Slot, Target};
use crate::error::{Error, Result};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "overlap",
    aliases: &["comm-overlap"],
    class: "compute–communication overlap",
    about: "hides collectives behind computation",
    parameters: &[Parameter { key: "share", default: "1", about: "share ρ of the computing time that hides communication" }],
    changes: "exposed link time",
    formula: "exposed = max(0, t_link − ρ·t_compute)",
    source: "survey §4.3; DeepSeek-V3's two-batch overlap (arXiv 2412.19437, §3)",
    pays: "tensor and expert parallelism over slow links, large batches",
    loses: "nowhere in a roofline; real kernels share the chip with the copy",
    slots: &[Slot::Overlap],
    read: |settings| Ok(Arc::new(Overlap { share: settings.share("share")? })),
};

#[derive(Debug)]
struct Overlap {
    share: f64,
}

impl Effect for Overlap {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        if *target.overlap != 0.0 && *target.overlap != self.share {
            let must = format!("must not be given beside overlap = {}", target.overlap);
            return Err(Error::spec("overlap:share", must, self.share, "give one of them"));
        }
        *target.overlap = self.share;
        Ok(())
    }
}
