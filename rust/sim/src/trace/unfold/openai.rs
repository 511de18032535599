//! Responses of OpenAI's interfaces (chat completions, responses) as a log holds them, and the usage in any answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Unfolding, layout};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    created_at: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<Usage<'a>>,
}

/// What an answer says it used, by either interface's names.
#[derive(Deserialize, Default)]
pub(super) struct Usage<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<Details<'a>>,
    #[serde(borrow)]
    input_tokens_details: Option<Details<'a>>,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
}

impl<'a> Usage<'a> {
    /// Adds lengths and the recorded hit to a row.
    pub(super) fn added(self, row: Fields<'a>) -> Fields<'a> {
        let details = self.prompt_tokens_details.or(self.input_tokens_details);
        row.with("usage.prompt_tokens", self.prompt_tokens.or(self.input_tokens))
            .with("usage.completion_tokens", self.completion_tokens.or(self.output_tokens))
            .with(
                "usage.prompt_tokens_details.cached_tokens",
                details.and_then(|details| details.cached_tokens),
            )
    }
}

/// One row.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let response: Response = layout(record.text, "an OpenAI response")?;
    let row = Fields::new(record.line)
        .with("created", response.created.or(response.created_at))
        .with("id", response.id)
        .with("previous_response_id", response.previous_response_id)
        .with("model", response.model);
    unfolding.rows.push(response.usage.unwrap_or_default().added(row));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn both_interfaces_tell_the_same() {
        let expected = ["1: created=5 usage.prompt_tokens=9 usage.completion_tokens=2 \
                         usage.prompt_tokens_details.cached_tokens=4"];
        let chat = "{\"created\": 5, \"usage\": {\"prompt_tokens\": 9, \"completion_tokens\": 2, \
                    \"prompt_tokens_details\": {\"cached_tokens\": 4}}}";
        assert_eq!(rows(unfold, chat).unwrap(), expected);
        let responses = "{\"created_at\": 5, \"usage\": {\"input_tokens\": 9, \"output_tokens\": 2, \
                         \"input_tokens_details\": {\"cached_tokens\": 4}}}";
        assert_eq!(rows(unfold, responses).unwrap(), expected);
    }
}
