//! What Amazon SageMaker captures of an endpoint: the answer, as text or base64, holds the usage.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::openai::Usage;
use super::{Fields, Unfolding, layout};
use crate::trace::mistakes::{Mistake, shortened};
use crate::trace::records::Record;

const FORMAT: &str = "a SageMaker data capture";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capture<'a> {
    #[serde(borrow)]
    capture_data: Data<'a>,
    #[serde(borrow)]
    event_metadata: Metadata<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    endpoint_output: Option<Output<'a>>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    encoding: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    inference_time: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    usage: Option<Usage<'a>>,
}

/// One row.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let Capture { capture_data, event_metadata } = layout(record.text, FORMAT)?;
    let mut row = Fields::new(record.line)
        .with("eventMetadata.inferenceTime", event_metadata.inference_time)
        .with("eventMetadata.eventId", event_metadata.event_id);
    if let Some(output) = capture_data.endpoint_output {
        let text = decoded(&output)?;
        let used = usage(&text).map(|usage| usage.added(Fields::new(0))).unwrap_or(Fields::new(0));
        for (name, value) in used.values {
            row = row.made(name, value);
        }
    }
    unfolding.rows.push(row);
    Ok(())
}

/// The answer's text.
fn decoded(output: &Output) -> Result<String, Mistake> {
    if !output.encoding.as_ref().is_some_and(|encoding| encoding.eq_ignore_ascii_case("base64")) {
        return Ok(output.data.to_string());
    }
    let bytes = STANDARD.decode(output.data.trim()).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        Mistake::new("captureData.endpointOutput.data", "must be base64 of a text", shortened(&output.data))
    })
}

/// The usage in an answer: one JSON object, or the last of a stream of `data:` lines that has one.
fn usage(text: &str) -> Option<Usage<'_>> {
    let of = |text| serde_json::from_str::<Answer>(text).ok().and_then(|answer| answer.usage);
    of(text).or_else(|| text.lines().rev().find_map(|line| of(line.trim().strip_prefix("data:")?)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    fn capture(data: &str, encoding: &str) -> String {
        let data = super::super::quoted(data);
        format!(
            "{{\"captureData\": {{\"endpointOutput\": {{\"data\": {data}, \"encoding\": \"{encoding}\"}}}}, \
             \"eventMetadata\": {{\"eventId\": \"e\"}}}}"
        )
    }

    #[test]
    fn the_usage_is_found_in_text_in_base64_and_in_a_stream() {
        let answer = "{\"usage\": {\"prompt_tokens\": 12, \"completion_tokens\": 8}}";
        let expected = ["1: eventMetadata.eventId=\"e\" usage.prompt_tokens=12 usage.completion_tokens=8"];
        assert_eq!(rows(unfold, &capture(answer, "JSON")).unwrap(), expected);
        assert_eq!(rows(unfold, &capture(&STANDARD.encode(answer), "BASE64")).unwrap(), expected);
        let stream = format!("data: {{\"choices\": []}}\n\ndata: {answer}\n\ndata: [DONE]\n");
        assert_eq!(rows(unfold, &capture(&stream, "JSON")).unwrap(), expected);
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        let mistake = rows(unfold, &capture("%%", "BASE64")).unwrap_err();
        assert_eq!(mistake.must, "must be base64 of a text");
    }
}
