//! Many chips that hold a model in their own fast memory and work as one machine (SRAM machines).

use std::sync::Arc;

use super::{Effect, Kind, Parameter, Target};
use crate::error::Result;
use crate::hardware::Fact;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "spatial",
    aliases: &["sram", "pool"],
    class: "spatial and SRAM machines",
    about: "spreads the weights over many chips, every one of which reads its part at the same time",
    parameters: &[Parameter { key: "chips", default: "", about: "chips that work as one machine" }],
    changes: "peak, bandwidth and capacity; devices",
    formula: "P = N·P_chip, B = Σ SRAM = N·B_chip, capacity N·C_chip",
    source: "Groq TSP (Abts et al., ISCA 2022); survey §6.3",
    pays: "latency of small batches: 230 MB chips together read a model at N·80 TB/s",
    loses: "cost a token at large batches; a model takes hundreds of chips before it fits",
    slots: &[],
    read: |settings| Ok(Arc::new(Spatial { chips: settings.count("chips", 1, 1 << 20)? })),
};

#[derive(Debug)]
struct Spatial {
    chips: u64,
}

impl Effect for Spatial {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        let chips = self.chips as f64;
        let more = |fact: &mut Fact| fact.value = fact.value.map(|value| value * chips);
        let hardware = &mut *target.hardware;
        let peaks = [&mut hardware.tensor_dense, &mut hardware.tensor_sparse, &mut hardware.vector];
        peaks.into_iter().flatten().for_each(|(_, fact)| more(fact));
        more(&mut hardware.memory.capacity);
        more(&mut hardware.memory.bandwidth);
        Ok(())
    }

    fn devices(&self) -> f64 {
        self.chips as f64
    }

    fn notes(&self) -> Vec<String> {
        vec!["chips are taken to work as one: what passes between them costs no time".to_string()]
    }
}
