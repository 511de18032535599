//! What bounds a decode step over batch and context.

use roofline_core::analysis::{Analyst, Outcome};
use roofline_core::error::Result;
use roofline_core::point::{Point, Question};
use roofline_core::table::{Column, Table};

/// What bounds a decode step, for every batch and context: `batch_size, context, bound, step_s, kv_share` of the bytes.
///
/// # Errors
/// Sizes that are not possible.
pub fn bound_map(analyst: &Analyst, batches: &[u64], contexts: &[u64]) -> Result<Table> {
    let mut rows = Vec::new();
    for &batch_size in batches {
        for &input_len in contexts {
            let point = Point {
                question: Question::Decode,
                batch_size,
                input_len,
                output_len: 1,
                prefix_len: 0,
                chunk: 0,
            };
            rows.push((point, analyst.outcome(&point)?));
        }
    }
    let share = |outcome: &Outcome| {
        let device = outcome.done.device();
        device.kv_bytes / device.bytes()
    };
    Ok(Table::new()
        .with("batch_size", Column::U64(rows.iter().map(|(point, _)| point.batch_size).collect()))
        .with("context", Column::U64(rows.iter().map(|(point, _)| point.input_len).collect()))
        .with(
            "bound",
            Column::Str(rows.iter().map(|(_, outcome)| outcome.done.bound().name().to_string()).collect()),
        )
        .with(
            "step_s",
            Column::F64(rows.iter().map(|(_, outcome)| outcome.times.step.step.seconds).collect()),
        )
        .with("kv_share", Column::F64(rows.iter().map(|(_, outcome)| share(outcome)).collect())))
}
