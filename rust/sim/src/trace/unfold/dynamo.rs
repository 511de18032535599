//! Dynamo's request traces (`dynamo.request.trace.v1`): events, of which those that end a request are read.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Unfolding, layout};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

#[derive(Deserialize)]
struct Wrapper<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    agent_context: Option<Agent<'a>>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
struct Agent<'a> {
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    request_received_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    ttft_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    total_time_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    avg_itl_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    replay: Option<Replay<'a>>,
}

#[derive(Deserialize, Default)]
struct Replay<'a> {
    #[serde(borrow)]
    trace_block_size: Option<&'a RawValue>,
    #[serde(borrow)]
    input_length: Option<&'a RawValue>,
    #[serde(borrow)]
    input_sequence_hashes: Option<&'a RawValue>,
}

/// One row for an event that ends a request, bare or wrapped as `{timestamp, event}`; none for others.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    const FORMAT: &str = "dynamo.request.trace.v1";
    let wrapper: Wrapper = layout(record.text, FORMAT)?;
    let event: Event = layout(wrapper.event.map_or(record.text, |event| event.get().as_bytes()), FORMAT)?;
    let ends = event.event_type.is_none_or(|kind| kind == "request_end");
    let (true, Some(request)) = (ends, event.request) else {
        unfolding.passed_over += 1;
        return Ok(());
    };
    let replay = request.replay.unwrap_or_default();
    let row = Fields::new(record.line)
        .with("request.request_received_ms", request.request_received_ms)
        .with("request.input_tokens", request.input_tokens.or(replay.input_length))
        .with("request.output_tokens", request.output_tokens)
        .with("request.request_id", request.request_id)
        .with("agent_context.session_id", event.agent_context.and_then(|agent| agent.session_id))
        .with("request.model", request.model)
        .with("request.cached_tokens", request.cached_tokens)
        .with("request.replay.trace_block_size", replay.trace_block_size)
        .with("request.replay.input_sequence_hashes", replay.input_sequence_hashes)
        .with("request.ttft_ms", request.ttft_ms)
        .with("request.total_time_ms", request.total_time_ms)
        .with("request.avg_itl_ms", request.avg_itl_ms);
    unfolding.rows.push(row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn only_events_that_end_a_request_are_rows_bare_or_wrapped() {
        let request = "{\"event_type\": \"request_end\", \"request\": {\"request_received_ms\": 5, \"ttft_ms\": 1.5, \
                       \"replay\": {\"input_length\": 7}}}";
        let expected = ["1: request.request_received_ms=5 request.input_tokens=7 request.ttft_ms=1.5"];
        assert_eq!(rows(unfold, request).unwrap(), expected);
        let wrapped = format!("{{\"timestamp\": 1, \"event\": {request}}}");
        assert_eq!(rows(unfold, &wrapped).unwrap(), expected);
        let tool = "{\"event_type\": \"tool_end\", \"tool\": {}}";
        assert!(rows(unfold, tool).unwrap().is_empty());
    }
}
