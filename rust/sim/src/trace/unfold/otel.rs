//! OpenTelemetry traces: the spans that call a generative model, in one document or one a line.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Place, Unfolding, layout};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

/// A document of spans, or one span.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    spans: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Span<'a> {
    #[serde(borrow)]
    trace_id: Option<&'a RawValue>,
    #[serde(borrow)]
    span_id: Option<&'a RawValue>,
    #[serde(borrow)]
    start_time: Option<&'a RawValue>,
    #[serde(borrow)]
    end_time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attributes: Attributes<'a>,
}

#[derive(Deserialize, Default)]
struct Attributes<'a> {
    #[serde(borrow, rename = "gen_ai.operation.name")]
    operation: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "gen_ai.request.model")]
    model: Option<&'a RawValue>,
    #[serde(borrow, rename = "gen_ai.usage.input_tokens")]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow, rename = "gen_ai.usage.prompt_tokens")]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow, rename = "gen_ai.usage.output_tokens")]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow, rename = "gen_ai.usage.completion_tokens")]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, rename = "gen_ai.usage.cache_read.input_tokens")]
    cached_tokens: Option<&'a RawValue>,
}

impl Attributes<'_> {
    /// Whether they are of a call to a model: it generates, or says what it used.
    fn call(&self) -> bool {
        let generates =
            |name: &Cow<str>| matches!(name.as_ref(), "chat" | "text_completion" | "generate_content");
        self.operation.as_ref().map_or(self.input_tokens.or(self.prompt_tokens).is_some(), generates)
    }
}

/// One row a span that calls a model; other spans (agents, tools) are passed over.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    const FORMAT: &str = "an OpenTelemetry GenAI trace";
    let mut place = Place::new(record);
    let document: Document = layout(record.text, FORMAT)?;
    let spans = match document.spans {
        Some(spans) => spans,
        None => vec![layout(record.text, FORMAT)?],
    };
    for text in spans {
        let span: Span = layout(text.get().as_bytes(), FORMAT)?;
        if !span.attributes.call() {
            unfolding.passed_over += 1;
            continue;
        }
        let Attributes { input_tokens, prompt_tokens, output_tokens, completion_tokens, .. } =
            span.attributes;
        let row = Fields::new(place.line(text))
            .with("start_time", span.start_time)
            .with("gen_ai.usage.input_tokens", input_tokens.or(prompt_tokens))
            .with("gen_ai.usage.output_tokens", output_tokens.or(completion_tokens))
            .with("span_id", span.span_id)
            .with("trace_id", span.trace_id)
            .with("gen_ai.request.model", span.attributes.model)
            .with("gen_ai.usage.cache_read.input_tokens", span.attributes.cached_tokens)
            .with("end_time", span.end_time);
        unfolding.rows.push(row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn spans_that_call_a_model_are_rows_by_old_names_and_new() {
        let text = "{\"spans\": [\n{\"span_id\": \"a\", \"attributes\": {\"gen_ai.operation.name\": \"chat\", \
                    \"gen_ai.usage.prompt_tokens\": 3, \"gen_ai.usage.completion_tokens\": 4}},\n\
                    {\"span_id\": \"t\", \"attributes\": {\"gen_ai.operation.name\": \"execute_tool\"}},\n\
                    {\"span_id\": \"b\", \"attributes\": {\"gen_ai.usage.input_tokens\": 5}}]}";
        let expected = [
            "2: gen_ai.usage.input_tokens=3 gen_ai.usage.output_tokens=4 span_id=\"a\"",
            "4: gen_ai.usage.input_tokens=5 span_id=\"b\"",
        ];
        assert_eq!(rows(unfold, text).unwrap(), expected);
    }
}
