//! AIPerf's `profile_export.jsonl`: a record a request, with what was measured of it, each value beside its unit.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Unfolding, layout};
use crate::trace::mistakes::{Mistake, shortened};
use crate::trace::records::Record;

#[derive(Deserialize)]
struct Export<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    metrics: Metrics<'a>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    request_start_ns: Option<&'a RawValue>,
    #[serde(borrow)]
    x_request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    x_correlation_id: Option<&'a RawValue>,
    #[serde(borrow)]
    turn_index: Option<&'a RawValue>,
    #[serde(borrow)]
    benchmark_phase: Option<Cow<'a, str>>,
    was_cancelled: Option<bool>,
}

#[derive(Deserialize)]
struct Metrics<'a> {
    #[serde(borrow)]
    input_sequence_length: Option<Metric<'a>>,
    #[serde(borrow)]
    output_sequence_length: Option<Metric<'a>>,
    #[serde(borrow)]
    time_to_first_token: Option<Metric<'a>>,
    #[serde(borrow)]
    request_latency: Option<Metric<'a>>,
    #[serde(borrow)]
    inter_token_latency: Option<Metric<'a>>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
}

impl<'a> Metric<'a> {
    /// Its value, which must be told in this unit.
    fn of(metric: Option<Metric<'a>>, name: &str, unit: &str) -> Result<Option<&'a RawValue>, Mistake> {
        match metric {
            Some(Metric { unit: Some(other), .. }) if other != unit => {
                Err(Mistake::new(name, format!("must be in {unit}"), shortened(&other)))
            }
            metric => Ok(metric.and_then(|metric| metric.value)),
        }
    }
}

/// One row; requests of the warm-up, and those that failed or were cancelled, are passed over.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let Export { metadata, metrics, error } = layout(record.text, "an export of AIPerf")?;
    let failed = error.is_some_and(|error| error.get() != "null") || metadata.was_cancelled == Some(true);
    if failed || metadata.benchmark_phase.is_some_and(|phase| phase == "warmup") {
        unfolding.passed_over += 1;
        return Ok(());
    }
    let (prompt, output) = ("metrics.input_sequence_length", "metrics.output_sequence_length");
    let (first, whole) = ("metrics.time_to_first_token", "metrics.request_latency");
    let gap = "metrics.inter_token_latency";
    let row = Fields::new(record.line)
        .with("metadata.request_start_ns", metadata.request_start_ns)
        .with(prompt, Metric::of(metrics.input_sequence_length, prompt, "tokens")?)
        .with(output, Metric::of(metrics.output_sequence_length, output, "tokens")?)
        .with("metadata.x_request_id", metadata.x_request_id)
        .with("metadata.x_correlation_id", metadata.x_correlation_id)
        .with("metadata.turn_index", metadata.turn_index)
        .with(first, Metric::of(metrics.time_to_first_token, first, "ms")?)
        .with(whole, Metric::of(metrics.request_latency, whole, "ms")?)
        .with(gap, Metric::of(metrics.inter_token_latency, gap, "ms")?);
    unfolding.rows.push(row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    const RECORD: &str = "{\"metadata\": {\"request_start_ns\": 5, \"benchmark_phase\": \"profiling\"}, \"metrics\": \
                          {\"input_sequence_length\": {\"value\": 9, \"unit\": \"tokens\"}, \"output_sequence_length\": \
                          {\"value\": 2, \"unit\": \"tokens\"}, \"time_to_first_token\": {\"value\": 1.5, \"unit\": \
                          \"ms\"}}, \"error\": null}";

    #[test]
    fn a_record_is_a_request_and_a_failed_one_is_none() {
        let expected = "1: metadata.request_start_ns=5 metrics.input_sequence_length=9 \
                        metrics.output_sequence_length=2 metrics.time_to_first_token=1.5";
        assert_eq!(rows(unfold, RECORD).unwrap(), [expected]);
        for passed in [RECORD.replace("null", "{\"code\": 500}"), RECORD.replace("profiling", "warmup")] {
            assert!(rows(unfold, &passed).unwrap().is_empty());
        }
    }

    #[test]
    fn a_time_must_be_in_the_unit_it_is_read_in() {
        let mistake = rows(unfold, &RECORD.replace("\"ms\"", "\"s\"")).unwrap_err();
        assert_eq!(
            (mistake.field.as_str(), mistake.must.as_str(), mistake.value.as_str()),
            ("metrics.time_to_first_token", "must be in ms", "s")
        );
    }
}
