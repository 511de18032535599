//! Dense matrix multiplication with a resident weight.

use crate::model::Linear;
use crate::work::{Rate, Resident, Work};

/// Multiplies `tokens × inputs` activations by a resident `inputs × outputs` weight.
///
/// Each token costs `2·inputs·outputs` FLOPs, reads `inputs` activations in the format they are multiplied in and
/// writes `outputs` of `activation_bytes` each;
/// the weight is read once a step, which is why small batches are memory-bound. A weight stored narrower than it is
/// multiplied is converted on the vector unit: one operation an element.
pub fn gemm(inputs: f64, outputs: f64, linear: Linear, activation_bytes: f64) -> Work {
    let elements = inputs * outputs;
    Work {
        flops: Rate::token(2.0 * elements),
        vector_flops: Rate::fixed(conversions(linear) * elements),
        weight_bytes: Rate::fixed(linear.weight.bytes(elements)),
        activation_bytes: Rate::token(
            inputs * input_bytes(linear, activation_bytes) + outputs * activation_bytes,
        ),
        resident: Resident { elements, bytes: linear.weight.bytes(elements) },
        ..Work::default()
    }
}

/// Bytes of an activation as it enters: quantized ones are read in the format they are multiplied in.
pub fn input_bytes(linear: Linear, activation_bytes: f64) -> f64 {
    linear.activation.bytes().min(activation_bytes)
}

/// Vector operations to bring one stored weight into the format it is multiplied in.
pub fn conversions(linear: Linear) -> f64 {
    if linear.weight.format == linear.activation || linear.weight.format.bits() >= linear.activation.bits() {
        0.0
    } else {
        1.0
    }
}
