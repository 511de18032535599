//! The contexts beyond which the KV cache outweighs the weights.

use roofline_core::accumulate::Accumulated;
use roofline_core::analysis::Analyst;
use roofline_core::error::Result;
use roofline_core::point::Point;
use roofline_core::work::Op;

use super::halving::largest;
use super::{Answer, MOST};

/// Contexts up to which the cache is no larger than the weights: in what a step reads, in what memory holds, and, as the
/// survey counts, against the matrices of the layers alone.
pub(super) fn answers(with: &Analyst, point: &Point) -> Result<Vec<Answer>> {
    let plan = with.memory();
    if plan.kv().bytes(MOST) == plan.kv().bytes(1) {
        return Ok(Vec::new());
    }
    let outcome = with.outcome(point)?;
    let resident: f64 = with.pricer().ops().map(|op| op.stage_repeat * op.work.resident.bytes).sum();
    let vectors = outcome.memory.weights - resident;
    let weights = outcome.done.device().weight_bytes + vectors;
    let in_flight = point.batch_size * with.deployment().layout.pp;
    let held = |context: u64| plan.kv().bytes_of(in_flight, context);
    // What a step writes, and reads of its own tokens, is no cache yet.
    let own = moved(with, point, 0);
    let read = |context: u64| moved(with, point, context) - own;
    let sequences = if point.batch_size == 1 { "" } else { ", all sequences together" };
    let answer = |name, bytes: f64, cache: &dyn Fn(u64) -> f64, about: &str| -> Result<Answer> {
        let most = largest(MOST, |context| Ok(cache(context) <= bytes))?.unwrap_or(0);
        let value = (most < MOST).then_some(most as f64);
        Ok(Answer::new(name, value, "tokens", format!("{about}{sequences}")))
    };
    Ok(vec![
        answer(
            "kv_read_outweighs_beyond",
            weights,
            &read,
            "context beyond which a step reads more cache than weights",
        )?,
        answer(
            "kv_held_outweighs_beyond",
            outcome.memory.weights,
            &held,
            "context beyond which memory holds more cache than weights",
        )?,
        answer(
            "kv_outweighs_layers_beyond",
            layers(with),
            &held,
            "the same against the matrices of the layers alone, as the survey counts",
        )?,
    ])
}

/// Bytes of cache that a decode step moves on the busiest device where sequences hold so many tokens.
fn moved(with: &Analyst, point: &Point, context: u64) -> f64 {
    let pricer = with.pricer();
    let mut done = Accumulated::new(pricer);
    done.add(pricer, &point.verify_step(pricer.reaches(), with.generation().width, context), 1.0);
    done.device().kv_bytes
}

/// Bytes of the matrices of the model's own layers on the busiest device.
fn layers(with: &Analyst) -> f64 {
    let of_layers =
        |op: &&Op| !["embedding", "lm_head"].contains(&op.name.as_str()) && !op.name.starts_with("draft.");
    let matrices = with.pricer().ops().filter(of_layers);
    matrices.map(|op| op.stage_repeat * op.work.resident.bytes).sum()
}
