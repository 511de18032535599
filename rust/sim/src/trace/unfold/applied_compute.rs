//! Applied Compute's agents: a record is a session whose context grows with each answer and each result of a tool.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Unfolding, layout, quoted};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

#[derive(Deserialize)]
struct Session<'a> {
    num_turns: u32,
    input_prompt_length: u32,
    assistant_response_length: Vec<u32>,
    tool_call_output_length: Vec<u32>,
    #[serde(borrow)]
    tool_call_latency: Vec<&'a RawValue>,
    final_assistant_response_length: u32,
}

/// A row for each turn and one for the final answer. There are no arrivals: the first starts when the load says so.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let session: Session = layout(record.text, "an Applied Compute agentic trace")?;
    let turns = session.num_turns as usize;
    for (name, length) in [
        ("assistant_response_length", session.assistant_response_length.len()),
        ("tool_call_output_length", session.tool_call_output_length.len()),
        ("tool_call_latency", session.tool_call_latency.len()),
    ] {
        if length != turns {
            return Err(Mistake::new(
                name,
                format!("must have num_turns ({turns}) values"),
                length.to_string(),
            ));
        }
    }
    let name = quoted(&format!("line {}", record.line));
    let mut prompt = u64::from(session.input_prompt_length);
    for turn in 0..=turns {
        let output = session
            .assistant_response_length
            .get(turn)
            .copied()
            .unwrap_or(session.final_assistant_response_length);
        let delay = turn.checked_sub(1).and_then(|before| session.tool_call_latency.get(before).copied());
        let row = Fields::new(record.line)
            .made("input_prompt_length", prompt.to_string())
            .made("assistant_response_length", output.to_string())
            .made("session", name.clone())
            .with("tool_call_latency", delay);
        unfolding.rows.push(row);
        let result = session.tool_call_output_length.get(turn).copied().unwrap_or(0);
        prompt += u64::from(output) + u64::from(result);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    const SESSION: &str = "{\"num_turns\": 1, \"input_prompt_length\": 64, \"assistant_response_length\": [2], \
                           \"tool_call_output_length\": [3], \"tool_call_latency\": [0.5], \
                           \"final_assistant_response_length\": 9}";

    #[test]
    fn the_context_grows_with_answers_and_results() {
        let expected = [
            "1: input_prompt_length=64 assistant_response_length=2 session=\"line 1\"",
            "1: input_prompt_length=69 assistant_response_length=9 session=\"line 1\" tool_call_latency=0.5",
        ];
        assert_eq!(rows(unfold, SESSION).unwrap(), expected);
    }

    #[test]
    fn every_turn_must_have_its_lengths() {
        let mistake = rows(unfold, &SESSION.replace("[3]", "[3, 4]")).unwrap_err();
        assert_eq!(
            (mistake.field.as_str(), mistake.must.as_str(), mistake.value.as_str()),
            ("tool_call_output_length", "must have num_turns (1) values", "2")
        );
    }
}
