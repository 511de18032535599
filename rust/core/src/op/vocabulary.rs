//! The ends of the model: gathering embeddings, and logits of the rows that are sampled.

use crate::model::Linear;
use crate::work::{Rate, Resident, Work};

/// Gathers one row of `width` a token out of a table of `rows` and writes it.
pub fn embedding(width: f64, rows: f64, table: Linear, activation_bytes: f64) -> Work {
    Work {
        weight_bytes: Rate::token(table.weight.bytes(width)),
        activation_bytes: Rate::token(width * activation_bytes),
        resident: Resident { elements: width * rows, bytes: table.weight.bytes(width * rows) },
        ..Work::default()
    }
}

/// Logits of the sampled rows only: an unfinished prompt chunk needs none.
pub fn head(width: f64, vocabulary: f64, linear: Linear, activation_bytes: f64) -> Work {
    Work {
        flops: Rate::logit(2.0 * width * vocabulary),
        weight_bytes: Rate::fixed(linear.weight.bytes(width * vocabulary)),
        activation_bytes: Rate::logit((width + vocabulary) * activation_bytes),
        resident: Resident { elements: width * vocabulary, bytes: linear.weight.bytes(width * vocabulary) },
        ..Work::default()
    }
}
