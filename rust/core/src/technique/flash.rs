//! FlashAttention and FlashDecoding: scores stay on the chip, if their tile fits there.

use std::sync::Arc;

use super::ops::{decode_beside_prompts, is_attention, replace};
use super::{Context, Effect, Kind, Parameter, Program, Settings, Slot, Target};
use crate::error::{Error, Result};
use crate::model::Mixer;
use crate::work::Rate;

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "flash",
    aliases: &["flash-attention", "flash-decoding", "flashattention"],
    class: "FlashAttention, FlashDecoding",
    about: "computes scores, softmax and values in one kernel, tile by tile; or as three kernels",
    parameters: &[
        Parameter { key: "attention", default: "on", about: "on: one kernel; off: scores are written and read" },
        Parameter { key: "block-q", default: "", about: "queries of a tile; with block-k the tile is checked against the chip" },
        Parameter { key: "block-k", default: "", about: "keys of a tile" },
        Parameter { key: "splits", default: "1", about: "parts a sequence's keys are cut into in decode (FlashDecoding)" },
    ],
    changes: "A",
    formula: "off: + 4·H·a a score (written, read and written by the softmax, read); a tile holds block-q·d + 2·block-k·d \
              elements and block-q·(d + block-k) in fp32; splits > 1: 2·splits·H·(d + 2)·4 bytes a sequence of partial \
              results",
    source: "FlashAttention (arXiv 2205.14135), FlashDecoding (2023); survey §4.3, figure 16 corrected",
    pays: "prefill: scores grow with the square of the length",
    loses: "decode gains 0.05–1.2 % only; splits pay in occupancy, which a roofline does not show",
    slots: &[Slot::AttentionKernel],
    read: |settings| {
        let tile = match (settings.maybe_count("block-q", 1, 1 << 20)?, settings.maybe_count("block-k", 1, 1 << 20)?) {
            (Some(queries), Some(keys)) => Some((queries as f64, keys as f64)),
            (None, None) => None,
            _ => return Err(settings.wrong("block-k", "must be given together with block-q", "for example both 128")),
        };
        let (on, splits) = (settings.switch("attention")?, settings.count("splits", 1, 1 << 16)?);
        if !on && (tile.is_some() || splits > 1) {
            return Err(settings.wrong("attention", "must be on for tiles and splits", ""));
        }
        Ok(Arc::new(Flash { on, tile, splits: splits as f64, settings: settings.clone() }))
    },
};

#[derive(Debug)]
struct Flash {
    on: bool,
    tile: Option<(f64, f64)>,
    splits: f64,
    settings: Settings,
}

/// Bytes of a tile on the chip: queries, keys and values as they come, output and scores in fp32.
fn tile_bytes(queries: f64, keys: f64, width: f64, element: f64) -> f64 {
    (queries * width + 2.0 * keys * width) * element + queries * (width + keys) * 4.0
}

impl Effect for Flash {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        target.lowering.flash_attention = self.on;
        let Some((queries, keys)) = self.tile else { return Ok(()) };
        let capacity = target.hardware.on_chip.capacity.value.ok_or_else(|| {
            let must = format!("must be known of `{}` to check a tile", target.hardware.name);
            Error::spec("hardware.memory.on_chip.capacity", must, "unknown", "leave block-q and block-k out")
        })?;
        for group in &target.model.layers {
            if let Some(Mixer::Attention(attention)) = &group.mixer {
                let width = attention.head_dim.max(attention.value_dim) as f64;
                let bytes = tile_bytes(queries, keys, width, target.precision.activation.bytes());
                if bytes > capacity {
                    let must = format!(
                        "must be small enough for a tile of {:.0} KiB to fit in the {:.0} KiB of a core",
                        bytes / 1024.0,
                        capacity / 1024.0
                    );
                    return Err(self.settings.wrong("block-k", must, "use smaller blocks"));
                }
            }
        }
        Ok(())
    }

    fn operators(&self, program: &mut Program, context: &Context<'_>) -> Result<()> {
        if self.splits <= 1.0 {
            return Ok(());
        }
        let tp = context.layout.tp as f64;
        let rows = context.model.layers.iter().find_map(|group| match &group.mixer {
            Some(Mixer::Attention(attention)) => Some(attention.heads as f64 / tp * (attention.value_dim as f64 + 2.0)),
            _ => None,
        });
        let Some(row) = rows else { return Ok(()) };
        let bytes = 2.0 * self.splits * row * 4.0;
        replace(&mut program.ops, is_attention, |op| {
            Ok(decode_beside_prompts(op, |op| {
                op.work.activation_bytes = op.work.activation_bytes + Rate::token(bytes);
            }))
        })
    }
}
