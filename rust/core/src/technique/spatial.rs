//! Many chips that hold a model in their own fast memory and work as one machine (SRAM machines).

use std::sync::Arc;

use super::ops::link;
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot, Target};
use crate::error::Result;
use crate::hardware::Fact;
use crate::lower::stage_share;
use crate::site::{Limits, Site};
use crate::work::{Family, Op, Rate, Work};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "spatial",
    aliases: &["sram", "pool"],
    class: "spatial and SRAM machines",
    about: "spreads every layer over many chips, each of which reads its part at the same time",
    parameters: &[
        Parameter { key: "chips", default: "", about: "chips that work as one machine" },
        Parameter {
            key: "gb-s",
            default: "",
            about: "GB/s a chip and direction between them; the device's scale-up link unless said",
        },
    ],
    changes: "peak, bandwidth and capacity; link; devices",
    formula: "P = N·P_chip, B = Σ SRAM = N·B_chip, capacity N·C_chip; partial sums of T·h·a cross the links twice a layer, \
              2(N−1)/N·T·h·a/B_link each. Groups of chips one behind another are pipeline stages (--pp)",
    source: "Groq TSP (Abts et al., ISCA 2022); the survey",
    pays: "latency of small batches: 230 MB chips together read a model at N·80 TB/s",
    loses: "cost a token at large batches; a model takes hundreds of chips before it fits, and prompts wait for the links",
    slots: &[Slot::Machine],
    read: |settings| {
        Ok(Arc::new(Spatial {
            chips: settings.count("chips", 1, 1 << 20)?,
            bandwidth: settings.maybe("gb-s", 1e-9, f64::INFINITY)?.map(|gb| gb * 1e9),
            settings: settings.clone(),
        }))
    },
};

#[derive(Debug)]
struct Spatial {
    chips: u64,
    bandwidth: Option<f64>,
    settings: Settings,
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

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.chips == 1 {
            return Ok(());
        }
        let (model, hardware) = (context.model, context.hardware);
        let bandwidth = self.bandwidth.or(hardware.scale_up.bandwidth.value).ok_or_else(|| {
            let must = format!("must be given: no link between chips of `{}` is known", hardware.name);
            self.settings.wrong("gb-s", must, "for example gb-s=100; activations cross it twice a layer")
        })?;
        let chips = self.chips as f64;
        let crossing = 2.0 * (chips - 1.0) / chips * model.hidden as f64 * context.activation_bytes();
        let work = Work { activation_bytes: Rate::token(crossing), ..Work::default() };
        let mut op = Op::new("chip_exchange", Family::Link, context.precision.activation, work);
        let blocks = |group: &crate::model::LayerGroup| {
            group.count * (u64::from(group.mixer.is_some()) + u64::from(group.ffn.is_some()))
        };
        op.repeat = model.layers.iter().map(blocks).sum::<u64>() as f64;
        op.stage_repeat = op.repeat * stage_share(model, context.layout);
        op.site = Site { limits: Limits::Other(link(bandwidth)), ..Site::default() };
        program.ops.push(op);
        Ok(())
    }

    fn devices(&self) -> f64 {
        self.chips as f64
    }

    fn together(&self) -> f64 {
        self.chips as f64
    }

    fn notes(&self) -> Vec<String> {
        let note = "chips share every layer: what crosses their links is counted by bytes, not by latency";
        if self.chips > 1 { vec![note.to_string()] } else { Vec::new() }
    }
}
