//! TraceLab's rounds of coding agents: a round arrives with the last of the inputs that it begins with.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Unfolding, layout};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

#[derive(Deserialize)]
struct Round<'a> {
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    round_index: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens_total: Option<&'a RawValue>,
    #[serde(borrow)]
    prefix_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timing_events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

/// One row.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let round: Round = layout(record.text, "a TraceLab round")?;
    let input = |event: &&Event| matches!(event.event_type.as_ref(), "user_message" | "tool_result");
    let inputs = round.timing_events.iter().take_while(input).count();
    let arrival = round.timing_events.get(inputs.saturating_sub(1)).and_then(|event| event.timestamp);
    let row = Fields::new(record.line)
        .with("timing_events", arrival)
        .with("input_tokens_total", round.input_tokens_total)
        .with("output_tokens", round.output_tokens)
        .with("session_id", round.session_id)
        .with("round_index", round.round_index)
        .with("prefix_tokens", round.prefix_tokens)
        .with("model", round.model);
    unfolding.rows.push(row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn a_round_arrives_with_the_last_of_its_first_inputs() {
        let text = "{\"input_tokens_total\": 9, \"timing_events\": [{\"event_type\": \"tool_result\", \"timestamp\": 1}, \
                    {\"event_type\": \"user_message\", \"timestamp\": 2}, {\"event_type\": \"text\", \"timestamp\": 3}, \
                    {\"event_type\": \"tool_result\", \"timestamp\": 4}]}";
        assert_eq!(rows(unfold, text).unwrap(), ["1: timing_events=2 input_tokens_total=9"]);
    }
}
