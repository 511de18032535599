//! Mixture of experts: the router, and grouped multiplications over the experts a step's tokens visit.

use crate::model::{Linear, Moe};
use crate::op::linear::{conversions, input_bytes};
use crate::site::DrawnBy;
use crate::work::{Rate, Resident, Touched, Work};

/// How the experts of a layer lie over the devices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Devices that share the experts, whole experts each.
    pub ep: f64,
    /// Parts each expert is cut into.
    pub expert_tp: f64,
    /// Data-parallel ranks whose tokens meet at the experts.
    pub ranks: f64,
}

/// One of the expert matrices' multiplications: `matrices` of `inputs × outputs` each (gate and up together are 2).
///
/// A token visits `top_k` experts; under uniform routing a device sees its share of all visits. Weights are read of
/// the experts *touched*, E·(1 − (1 − k/E)^T), not of `top_k` experts and not of all of them.
pub fn experts(
    moe: &Moe,
    matrices: f64,
    inputs: f64,
    outputs: f64,
    linear: Linear,
    activation_bytes: f64,
    place: Placement,
) -> Work {
    let visits = moe.top_k as f64 * place.ranks / place.ep.max(1.0);
    let elements = matrices * inputs * outputs;
    let local = moe.experts as f64 / place.ep;
    Work {
        flops: Rate::token(2.0 * visits * elements),
        touched: Some(Touched {
            bytes_per_expert: linear.weight.bytes(elements),
            conversions_per_expert: conversions(linear) * elements,
            local,
            missed: 1.0 - moe.top_k as f64 / moe.experts as f64,
            ranks: place.ranks,
            drawn_by: DrawnBy::Token,
            skew: None,
        }),
        activation_bytes: Rate::token(
            visits * (inputs * input_bytes(linear, activation_bytes) + matrices * outputs * activation_bytes),
        ),
        resident: Resident { elements: local * elements, bytes: linear.weight.bytes(local * elements) },
        ..Work::default()
    }
}
